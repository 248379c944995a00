//! A TOML table with its place in the file, read key by key; gathers every problem with line, column
//! and remedy.
//!
//! Knows TOML and places, not what a key means. A key that nobody asked for is reported when the
//! section is dropped, so a reader cannot forget to refuse unknown keys.

mod file;
mod problem;
mod secret;
mod settled;
mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::str::FromStr;
use std::time::Duration;

use toml::de::DeTable;

pub use self::file::open_file;
pub use self::problem::{Problem, Problems};
pub use self::secret::SecretSource;
pub use self::settled::Settled;
use self::value::{Node, Source, Value, entries, parse_size};
pub use self::value::{closest, parse_duration};

/// A value together with its place: for checks that come later.
#[derive(Clone, Debug)]
pub struct Placed<T> {
    /// The value.
    pub value: T,
    at: usize,
}

/// One table. Every accessor marks its key as known; on drop, keys that nobody asked for are reported.
#[derive(Debug)]
pub struct Section {
    source: Rc<Source>,
    problems: Problems,
    path: String,
    at: usize,
    present: bool,
    entries: BTreeMap<String, (usize, Node)>,
    known: Vec<&'static str>,
    open: bool,
}

impl Section {
    /// Parses `text`. Syntax errors go to `problems`; what could be read is still returned, so that
    /// one run reports as much as possible.
    pub fn parse(file: &Path, text: String, problems: &Problems) -> Self {
        let source = Rc::new(Source { file: file.to_owned(), text });
        let (table, errors) = DeTable::parse_recoverable(&source.text);
        let broken = !errors.is_empty();
        for error in errors {
            let (line, column) = source.place(error.span().map_or(0, |span| span.start));
            problems.push(Problem {
                file: source.file.clone(),
                line,
                column,
                what: format!("not valid TOML: {}", error.message().lines().next().unwrap_or("")),
                remedy: "see https://toml.io for the syntax".to_owned(),
            });
        }
        let entries = entries(table.get_ref());
        Self {
            source,
            problems: problems.clone(),
            path: String::new(),
            at: 0,
            present: true,
            entries,
            known: Vec::new(),
            // After a syntax error the keys may be half read: "unknown key" would mislead.
            open: broken,
        }
    }

    fn child(
        &self,
        path: String,
        at: usize,
        entries: Option<BTreeMap<String, (usize, Node)>>,
    ) -> Self {
        Self {
            source: Rc::clone(&self.source),
            problems: self.problems.clone(),
            path,
            at,
            present: entries.is_some(),
            entries: entries.unwrap_or_default(),
            known: Vec::new(),
            open: self.open,
        }
    }

    /// Whether the file has this table at all.
    pub fn is_present(&self) -> bool {
        self.present
    }

    /// The directory of the file: relative paths in it are meant from there.
    pub fn base(&self) -> &Path {
        self.source.file.parent().unwrap_or(Path::new(""))
    }

    /// Reports a problem at the place of `key`, or of the table when the key is absent.
    pub fn problem(&self, key: &str, what: impl Into<String>, remedy: impl Into<String>) {
        let at = self.entries.get(key).map_or(self.at, |(at, _)| *at);
        self.report(at, what, remedy);
    }

    /// Reports a problem at the place of `placed`.
    pub fn problem_at<T>(
        &self,
        placed: &Placed<T>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.report(placed.at, what, remedy);
    }

    fn report(&self, at: usize, what: impl Into<String>, remedy: impl Into<String>) {
        let (line, column) = self.source.place(at);
        self.problems.push(Problem {
            file: self.source.file.clone(),
            line,
            column,
            what: what.into(),
            remedy: remedy.into(),
        });
    }

    fn full(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn take(&mut self, key: &'static str) -> Option<Node> {
        self.known.push(key);
        self.entries.get(key).map(|(_, node)| node.clone())
    }

    fn wrong_kind(&self, key: &str, node: &Node, wanted: &str) {
        let found = node.value.kind();
        self.report(
            node.at,
            format!("`{}` must be {wanted}, found {found}", self.full(key)),
            format!("write {wanted}"),
        );
    }

    /// A string, when given.
    pub fn text(&mut self, key: &'static str) -> Option<Placed<String>> {
        let node = self.take(key)?;
        match node.value {
            Value::Text(value) => Some(Placed { value, at: node.at }),
            _ => {
                self.wrong_kind(key, &node, "a string");
                None
            }
        }
    }

    /// A string that must be there; reports and returns an empty one otherwise.
    pub fn required(&mut self, key: &'static str, example: &str) -> Placed<String> {
        if !self.entries.contains_key(key) {
            self.known.push(key);
            let what = format!("`{}` is missing", self.full(key));
            self.report(self.at, what, format!("add `{key} = \"{example}\"`"));
            return Placed { value: String::new(), at: self.at };
        }
        self.text(key).unwrap_or(Placed { value: String::new(), at: self.at })
    }

    /// A boolean with its default.
    pub fn flag(&mut self, key: &'static str, default: bool) -> bool {
        let Some(node) = self.take(key) else {
            return default;
        };
        match node.value {
            Value::Flag(flag) => flag,
            _ => {
                self.wrong_kind(key, &node, "true or false");
                default
            }
        }
    }

    /// A whole number within `range`.
    pub fn count(
        &mut self,
        key: &'static str,
        default: u64,
        range: std::ops::RangeInclusive<u64>,
    ) -> u64 {
        let Some(node) = self.take(key) else {
            return default;
        };
        let Value::Integer(number) = node.value else {
            self.wrong_kind(key, &node, "a number");
            return default;
        };
        match number.and_then(|number| u64::try_from(number).ok()) {
            Some(number) if range.contains(&number) => number,
            _ => {
                let (low, high) = (range.start(), range.end());
                let what = format!("`{}` is out of range", self.full(key));
                self.report(node.at, what, format!("use a number from {low} to {high}"));
                default
            }
        }
    }

    /// A duration such as `"90s"`, `"12h"`, `"1h30m"`, `"250ms"`, `"7d"`; must lie within `range`.
    pub fn duration(
        &mut self,
        key: &'static str,
        default: Duration,
        range: std::ops::RangeInclusive<Duration>,
    ) -> Duration {
        let Some(text) = self.text(key) else {
            return default;
        };
        match parse_duration(&text.value) {
            Some(value) if range.contains(&value) => value,
            Some(_) => {
                let what = format!("`{}` is out of range", self.full(key));
                let (low, high) = (range.start(), range.end());
                self.report(text.at, what, format!("use a duration from {low:?} to {high:?}"));
                default
            }
            None => {
                let what = format!("`{}` is not a duration: \"{}\"", self.full(key), text.value);
                self.report(
                    text.at,
                    what,
                    "write a number and a unit: \"250ms\", \"90s\", \"15m\", \"12h\", \"7d\"",
                );
                default
            }
        }
    }

    /// A size in bytes such as `"32KiB"`, `"1MiB"` or a plain number; must lie within `range`.
    pub fn size(
        &mut self,
        key: &'static str,
        default: u64,
        range: std::ops::RangeInclusive<u64>,
    ) -> u64 {
        if matches!(self.entries.get(key), Some((_, Node { value: Value::Integer(_), .. }))) {
            return self.count(key, default, range);
        }
        let Some(text) = self.text(key) else {
            return default;
        };
        match parse_size(&text.value) {
            Some(value) if range.contains(&value) => value,
            _ => {
                let what = format!("`{}` is not a usable size: \"{}\"", self.full(key), text.value);
                let (low, high) = (range.start(), range.end());
                self.report(
                    text.at,
                    what,
                    format!("write bytes or \"32KiB\", \"1MiB\"; from {low} to {high} bytes"),
                );
                default
            }
        }
    }

    /// A value that parses from a string; `example` shows the form.
    pub fn parsed<T: FromStr>(&mut self, key: &'static str, example: &str) -> Option<Placed<T>>
    where
        T::Err: fmt::Display,
    {
        let text = self.text(key)?;
        self.parse_placed(key, &text, example)
    }

    fn parse_placed<T: FromStr>(
        &self,
        key: &str,
        text: &Placed<String>,
        example: &str,
    ) -> Option<Placed<T>>
    where
        T::Err: fmt::Display,
    {
        match text.value.parse() {
            Ok(value) => Some(Placed { value, at: text.at }),
            Err(error) => {
                let what =
                    format!("`{}`: \"{}\" is not valid: {error}", self.full(key), text.value);
                self.report(text.at, what, format!("write it like \"{example}\""));
                None
            }
        }
    }

    /// A list of strings; empty when absent.
    pub fn texts(&mut self, key: &'static str) -> Vec<Placed<String>> {
        let Some(node) = self.take(key) else {
            return Vec::new();
        };
        let Value::List(items) = node.value else {
            self.wrong_kind(key, &node, "a list of strings");
            return Vec::new();
        };
        let mut texts = Vec::with_capacity(items.len());
        for item in items {
            match item.value {
                Value::Text(value) => texts.push(Placed { value, at: item.at }),
                _ => self.wrong_kind(key, &item, "a list of strings"),
            }
        }
        texts
    }

    /// A list whose items parse from strings.
    pub fn parsed_list<T: FromStr>(&mut self, key: &'static str, example: &str) -> Vec<Placed<T>>
    where
        T::Err: fmt::Display,
    {
        let texts = self.texts(key);
        texts.iter().filter_map(|text| self.parse_placed(key, text, example)).collect()
    }

    /// Whether `key` is given at all, without marking it as known.
    pub fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// Reports `key`, when it is given, as one that this version refuses.
    pub fn refuse(&mut self, key: &'static str, what: &str, remedy: &str) {
        if self.has(key) {
            self.known.push(key);
            self.problem(key, what, remedy);
        }
    }

    /// Whether `key` holds a string (and not, say, a table): for keys with two forms.
    pub fn is_text(&self, key: &str) -> bool {
        matches!(self.entries.get(key), Some((_, Node { value: Value::Text(_), .. })))
    }

    /// A file path, meant from the directory of this file.
    pub fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        let text = self.text(key)?;
        Some(self.base().join(text.value))
    }

    /// A table; an empty one when absent (see [`Section::is_present`]).
    pub fn table(&mut self, key: &'static str) -> Self {
        let path = self.full(key);
        match self.take(key) {
            Some(Node { at, value: Value::Table(entries) }) => {
                let at = self.entries.get(key).map_or(at, |(key_at, _)| *key_at);
                self.child(path, at, Some(entries))
            }
            Some(node) => {
                self.wrong_kind(key, &node, "a table");
                self.child(path, node.at, None)
            }
            None => self.child(path, self.at, None),
        }
    }

    /// A list of tables (`[[key]]`, or inline); empty when absent.
    pub fn tables(&mut self, key: &'static str) -> Vec<Self> {
        let Some(node) = self.take(key) else {
            return Vec::new();
        };
        let Value::List(items) = node.value else {
            self.wrong_kind(key, &node, "a list of tables");
            return Vec::new();
        };
        let mut sections = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            match item.value {
                Value::Table(entries) => {
                    let path = format!("{}[{index}]", self.full(key));
                    sections.push(self.child(path, item.at, Some(entries)));
                }
                _ => self.wrong_kind(key, &item, "a list of tables"),
            }
        }
        sections
    }

    /// The remaining keys with string values: for tables whose keys are free names.
    pub fn pairs(&mut self) -> Vec<(Placed<String>, String)> {
        self.open = true;
        let mut pairs = Vec::new();
        for (key, (at, node)) in &self.entries {
            match &node.value {
                Value::Text(value) => {
                    pairs.push((Placed { value: key.clone(), at: *at }, value.clone()));
                }
                _ => self.wrong_kind(key, node, "a string"),
            }
        }
        pairs
    }
}

impl Drop for Section {
    fn drop(&mut self) {
        if self.open {
            return;
        }
        for (key, (at, _)) in &self.entries {
            if self.known.iter().any(|known| known == key) {
                continue;
            }
            let remedy = match closest(key, &self.known) {
                Some(near) => format!("did you mean `{near}`?"),
                None if self.known.is_empty() => "remove it".to_owned(),
                None => format!("remove it; known here: {}", self.known.join(", ")),
            };
            self.report(*at, format!("unknown key `{}`", self.full(key)), remedy);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, with: impl FnOnce(&mut Section)) -> Vec<String> {
        let problems = Problems::default();
        let mut section = Section::parse(Path::new("c.toml"), text.to_owned(), &problems);
        with(&mut section);
        drop(section);
        problems.list().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn all_problems_are_reported_with_place_and_remedy() {
        let found = read("[a]\nlifetme = \"1h\"\nidle = 5\nn = 70000\n", |root| {
            let mut a = root.table("a");
            a.duration("lifetime", Duration::ZERO, Duration::ZERO..=Duration::MAX);
            a.duration("idle", Duration::ZERO, Duration::ZERO..=Duration::MAX);
            a.count("n", 1, 0..=100);
        });
        assert_eq!(found.len(), 3, "{found:#?}");
        assert!(found[0].starts_with("c.toml:2:1: unknown key `a.lifetme`"), "{}", found[0]);
        assert!(found[0].contains("did you mean `lifetime`?"));
        assert!(found[1].starts_with("c.toml:3:8: `a.idle` must be a string"), "{}", found[1]);
        assert!(found[2].starts_with("c.toml:4:5: `a.n` is out of range"), "{}", found[2]);
    }

    #[test]
    fn durations_and_sizes() {
        assert_eq!(parse_duration("1h30m"), Some(Duration::from_secs(5400)));
        assert_eq!(parse_duration("250ms"), Some(Duration::from_millis(250)));
        for bad in ["", "h", "5", "5 weeks", "-1s", "99999999999999999999s", "é"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
        assert_eq!(parse_size("32KiB"), Some(32 << 10));
        assert_eq!(parse_size("99999999999GiB"), None);
    }

    #[test]
    fn secrets_come_from_text_file_or_environment() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("s"), "from-file\n").unwrap();
        let problems = Problems::default();
        let text =
            "a = \"plain\"\nb = { file = \"s\" }\nc = { env = \"SURELY_NOT_SET_42\" }\nd = { }\n";
        let mut root = Section::parse(&dir.path().join("c.toml"), text.to_owned(), &problems);
        assert_eq!(root.secret("a").unwrap().expose(), "plain");
        assert_eq!(root.secret("b").unwrap().expose(), "from-file");
        assert!(root.secret("c").is_none());
        assert!(root.secret("d").is_none());
        drop(root);
        assert_eq!(problems.list().len(), 2);
    }

    #[test]
    fn syntax_errors_name_the_place() {
        let found = read("a = \n[b\n", |_| {});
        assert!(found[0].starts_with("c.toml:1:"), "{found:?}");
    }
}

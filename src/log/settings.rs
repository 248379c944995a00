//! The `[log]` table of the configuration.
//!
//! Reads and checks; opens nothing.

use std::path::PathBuf;

use tracing::level_filters::LevelFilter;

use crate::section::{Section, closest};

const LEVELS: [(&str, LevelFilter); 5] = [
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
];

const FORMATS: [(&str, Format); 2] = [("text", Format::Text), ("json", Format::Json)];

const PLACES: [(&str, Destination); 3] =
    [("off", Destination::Off), ("stdout", Destination::Stdout), ("stderr", Destination::Stderr)];

/// What is written where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How much the gateway says about itself on standard error.
    pub level: LevelFilter,
    /// In which form it says it.
    pub format: Format,
    /// Where the access log goes.
    pub access: Destination,
    /// Where the audit log goes.
    pub audit: Destination,
}

/// The form of diagnostic lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Where a log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Nowhere.
    Off,
    /// Standard output.
    Stdout,
    /// Standard error, between the diagnostic lines.
    Stderr,
    /// Appended to this file.
    File(PathBuf),
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            level: LevelFilter::INFO,
            format: Format::Text,
            access: Destination::Stdout,
            audit: Destination::Stdout,
        }
    }
}

impl Settings {
    /// Reads `level`, `format`, `access` and `audit`; reports what is wrong in the section.
    pub fn read(section: &mut Section) -> Self {
        let defaults = Self::default();
        Self {
            level: choice(section, "level", &LEVELS).unwrap_or(defaults.level),
            format: choice(section, "format", &FORMATS).unwrap_or(defaults.format),
            access: destination(section, "access").unwrap_or(defaults.access),
            audit: destination(section, "audit").unwrap_or(defaults.audit),
        }
    }
}

fn choice<T: Clone>(section: &mut Section, key: &'static str, all: &[(&str, T)]) -> Option<T> {
    let text = section.text(key)?;
    if let Some((_, value)) = all.iter().find(|(name, _)| *name == text.value) {
        return Some(value.clone());
    }
    let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
    let remedy = match closest(&text.value, &names) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("use one of \"{}\"", names.join("\", \"")),
    };
    section.problem_at(&text, format!("`{key}`: \"{}\" is not known", text.value), remedy);
    None
}

fn destination(section: &mut Section, key: &'static str) -> Option<Destination> {
    let text = section.text(key)?;
    // A file has a directory or an ending: a bare word is one of ours, or was meant to be.
    if !text.value.contains(['/', '.']) {
        let names: Vec<&str> = PLACES.iter().map(|(name, _)| *name).collect();
        if let Some((_, place)) = PLACES.into_iter().find(|(name, _)| *name == text.value) {
            return Some(place);
        }
        let what = format!("`{key}`: \"{}\" is neither a place nor a file", text.value);
        let remedy = match closest(&text.value, &names) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => {
                format!("use \"stdout\", \"stderr\", \"off\" or a file such as \"logs/{key}.log\"")
            }
        };
        section.problem_at(&text, what, remedy);
        return None;
    }
    Some(Destination::File(section.base().join(&text.value)))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::section::Problems;

    fn read(text: &str) -> (Settings, Vec<String>) {
        let problems = Problems::default();
        let file = Path::new("/etc/portcullis/config.toml");
        let mut root = Section::parse(file, text.to_owned(), &problems);
        let settings = Settings::read(&mut root.table("log"));
        drop(root);
        (settings, problems.list().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn an_absent_table_gives_the_defaults() {
        assert_eq!(read(""), (Settings::default(), Vec::new()));
    }

    #[test]
    fn every_key_is_read() {
        let text = "[log]\nlevel = \"debug\"\nformat = \"json\"\naccess = \"access.log\"\n\
                    audit = \"/var/log/audit.log\"\n";
        let (settings, problems) = read(text);
        assert_eq!(problems, Vec::<String>::new());
        let expected = Settings {
            level: LevelFilter::DEBUG,
            format: Format::Json,
            access: Destination::File("/etc/portcullis/access.log".into()),
            audit: Destination::File("/var/log/audit.log".into()),
        };
        assert_eq!(settings, expected);
        let (settings, _) = read("[log]\naccess = \"stderr\"\naudit = \"off\"\n");
        assert_eq!((settings.access, settings.audit), (Destination::Stderr, Destination::Off));
    }

    #[test]
    fn every_mistake_has_its_place_and_remedy() {
        let text = "[log]\nlevel = \"infos\"\nformat = \"xml\"\naccess = \"std-out\"\n\
                    audit = \"\"\nacess = 1\n";
        let (settings, problems) = read(text);
        assert_eq!(settings, Settings::default());
        assert_eq!(problems.len(), 5, "{problems:#?}");
        for (problem, (place, remedy)) in problems.iter().zip([
            (":2:9:", "did you mean \"info\"?"),
            (":3:10:", "use one of \"text\", \"json\""),
            (":4:10:", "did you mean \"stdout\"?"),
            (":5:9:", "or a file such as \"logs/audit.log\""),
            (":6:1:", "did you mean `access`?"),
        ]) {
            assert!(problem.contains(place) && problem.contains(remedy), "{problem}");
        }
    }
}

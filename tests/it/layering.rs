//! Reads the sources and fails on any import that the architecture does not allow. It reads text,
//! not types: what it cannot see (a re-export of a foreign module) it refuses outright.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::support::source::{code, lines_with_depth, test_lines, without_tests};

/// Longest file, tests not counted.
const MAX_LINES: usize = 450;

/// Who may use whom by a `crate::` path, in the order of a request's way back. A module that is
/// not named here does not belong to the program.
const MAY_USE: &[(&str, &[&str])] = &[
    ("clock", &[]),
    ("secret", &[]),
    ("section", &["secret"]),
    ("panics", &[]),
    ("threads", &[]),
    ("timer", &["clock"]),
    ("metrics", &["clock"]),
    ("log", &["section", "clock", "threads"]),
    ("admin", &["metrics", "clock"]),
    ("audit", &["clock"]),
    ("ks", &["secret"]),
    ("session", &["clock", "audit", "metrics", "secret", "ks", "threads"]),
    ("tls", &["section", "secret", "clock"]),
    ("store", &["session", "section", "secret", "clock", "metrics", "tls", "threads", "panics"]),
    ("directory", &["session", "section", "secret"]),
    ("login", &["session", "section", "secret", "clock", "threads"]),
    ("policy", &["session", "section", "clock"]),
    ("headers", &["session", "policy", "section"]),
    ("upstream", &["headers", "section", "secret", "metrics", "clock", "timer"]),
    ("pages", &["session"]),
    ("api", &["session", "pages", "section", "secret", "clock", "ks"]),
    ("route", &["api", "section"]),
    (
        "serve",
        &[
            "clock", "timer", "metrics", "log", "secret", "section", "audit", "session", "policy",
            "headers", "upstream", "pages", "api", "route", "panics",
        ],
    ),
    ("listener", &["tls", "serve", "section", "metrics", "clock", "timer"]),
];

/// The files that see everything, and that nobody else may use.
const TOP: &[&str] = &["config", "app", "main", "lib"];

#[test]
fn every_module_uses_only_what_it_may() {
    let files = sources();
    let problems: Vec<String> = files.iter().flat_map(|(path, text)| imports(path, text)).collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn the_table_has_no_cycle() {
    let mut done: Vec<&str> = Vec::new();
    for (module, uses) in MAY_USE {
        for used in *uses {
            assert!(done.contains(used), "`{module}` uses `{used}`, which must stand above it");
        }
        done.push(module);
    }
}

#[test]
fn files_are_short_and_say_what_they_are_for() {
    let mut problems = Vec::new();
    for (path, text) in sources() {
        if is_test(&path) {
            continue;
        }
        if !text.starts_with("//!") {
            problems.push(format!("{path}: does not begin with what it is for (`//!`)"));
        }
        let lines = code(&text).lines().count() - test_lines(&text);
        if lines > MAX_LINES {
            problems.push(format!("{path}: {lines} lines, at most {MAX_LINES} are allowed"));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn every_file_is_compiled() {
    let files = sources();
    for path in files.keys() {
        let Some((parents, name)) = declared_by(path) else {
            continue;
        };
        let line = format!("mod {name};");
        let found = parents.iter().any(|parent| {
            files.get(parent).is_some_and(|text| {
                code(text)
                    .lines()
                    .any(|l| l.trim_start().trim_start_matches("pub ").ends_with(&line))
            })
        });
        assert!(found, "{path}: none of {parents:?} says `{line}`");
    }
}

#[test]
fn the_rules_refuse_what_they_should() {
    let refused = |path: &str, text: &str| !imports(path, text).is_empty();
    assert!(refused("src/api/versal.rs", "use crate::store::Store;"));
    assert!(refused("src/api/versal.rs", "fn f() { crate::store::open() }"));
    assert!(refused("src/api/versal.rs", "use crate::{session::{Session, Token}, store};"));
    assert!(refused("src/api/versal.rs", "use crate::*;"));
    assert!(refused("src/api/versal.rs", "use super::super::store::Store;"));
    assert!(refused("src/api/mod.rs", "use super::store::Store;"));
    assert!(refused("src/policy/mod.rs", "use crate::app::Gateway;"));
    assert!(refused("src/surprise.rs", ""));
    assert!(refused("src/api/mod.rs", "pub use crate::session::Session;"));
    assert!(refused("src/api/mod.rs", "macro_rules! m { () => { $crate::store::open() } }"));

    let allowed = |path: &str, text: &str| {
        let problems = imports(path, text);
        assert!(problems.is_empty(), "{problems:?}");
    };
    allowed("src/api/versal.rs", "use crate::session::{Command, Outcome};\nuse super::Dialect;");
    allowed("src/api/versal.rs", "use crate::api::Dialect;");
    allowed(
        "src/api/versal.rs",
        "// crate::store\n/* crate::login */ const A: &str = \"crate::store\";",
    );
    allowed(
        "src/api/mod.rs",
        "#[cfg(test)]\nmod tests { use crate::store::Store; use super::super::x; }",
    );
    allowed("src/api/mod.rs", "mod inner { use super::Dialect; }");
    allowed("src/app.rs", "use crate::{store, login};");
    allowed("src/lib.rs", "pub mod store;");
}

/// Every file of `src` by its path.
fn sources() -> BTreeMap<String, String> {
    fn walk(folder: &Path, root: &Path, into: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, root, into);
            } else if path.extension().is_some_and(|kind| kind == "rs") {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                into.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = BTreeMap::new();
    walk(&root.join("src"), root, &mut files);
    assert!(files.len() > 1, "no sources under {}", root.display());
    files
}

/// A file of tests beside the code, `#[cfg(test)] mod tests;`.
fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

/// The top-level module that a file belongs to.
fn module(path: &str) -> &str {
    let inside = path.trim_start_matches("src/");
    inside.split('/').next().unwrap().trim_end_matches(".rs")
}

/// The files of which one must declare this one, and the name under which it does.
fn declared_by(path: &str) -> Option<(Vec<String>, String)> {
    if matches!(path, "src/lib.rs" | "src/main.rs") {
        return None;
    }
    let path = path.strip_suffix("/mod.rs").unwrap_or(path.trim_end_matches(".rs"));
    let (folder, name) = path.rsplit_once('/').unwrap();
    let parents = if folder == "src" {
        vec!["src/lib.rs".to_owned(), "src/main.rs".to_owned()]
    } else {
        vec![format!("{folder}/mod.rs"), format!("{folder}.rs")]
    };
    Some((parents, name.to_owned()))
}

/// Everything that is wrong with the imports of one file.
fn imports(path: &str, text: &str) -> Vec<String> {
    let own = module(path);
    if TOP.contains(&own) || is_test(path) {
        return Vec::new();
    }
    let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == own) else {
        return vec![format!("{path}: module `{own}` has no row in tests/it/layering.rs")];
    };
    let code = without_tests(&code(text));
    let mut problems = Vec::new();
    let mut at = 0;
    while let Some(next) = code[at..].find("crate::") {
        let start = at + next;
        at = start + "crate::".len();
        let line = code[..start].lines().count().max(1);
        let before = code[..start].lines().next_back().unwrap_or_default();
        let reexport = before.trim_start().starts_with("pub") && before.contains("use ");
        for used in targets(&code[at..]) {
            if used != own && !allowed.contains(&used) {
                problems.push(format!("{path}:{line}: `{own}` may not use `{used}`"));
            } else if used != own && reexport {
                problems.push(format!("{path}:{line}: `{own}` may not hand on `{used}`"));
            }
        }
    }
    let is_root = path.trim_start_matches("src/").matches('/').count() == 0
        || path == format!("src/{own}/mod.rs");
    for (number, line, depth) in lines_with_depth(&code) {
        let up =
            line.contains("super::super") || (is_root && depth == 0 && line.contains("super::"));
        if up {
            problems.push(format!("{path}:{number}: climbs with `super`, use a `crate::` path"));
        }
    }
    problems
}

/// The modules that follow `crate::`: one name, or all names of a brace group.
fn targets(rest: &str) -> Vec<&str> {
    let name = |text: &str| {
        let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
        end.unwrap_or(text.len())
    };
    let Some(group) = rest.strip_prefix('{') else {
        let end = name(rest);
        return vec![if end == 0 { &rest[..1] } else { &rest[..end] }];
    };
    let mut depth = 0;
    let mut found = Vec::new();
    let mut expect = true;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => expect = true,
            c if expect && !c.is_whitespace() => {
                found.push(&group[at..at + name(&group[at..]).max(1)]);
                expect = false;
            }
            _ => {}
        }
    }
    found
}

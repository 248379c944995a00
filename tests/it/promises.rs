//! Documents name tests as proof of what they promise: each of these must be there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Where tests are named.
const DOCUMENTS: [&str; 2] = ["SECURITY.md", "docs/security.md"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below `folder`.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

/// `module` and `module::...::test` of all files of this binary.
fn known() -> BTreeSet<String> {
    let folder = root().join("tests/it");
    let mut found = Vec::new();
    files(&folder, &mut found);
    let mut names = BTreeSet::new();
    for path in found {
        let inside = path.strip_prefix(&folder).unwrap().with_extension("");
        let module = inside.to_str().unwrap().replace('/', "::");
        for line in fs::read_to_string(&path).unwrap().lines() {
            let after = line.trim_start().trim_start_matches("async ").strip_prefix("fn ");
            if let Some(name) = after.and_then(|rest| rest.split('(').next()) {
                names.insert(format!("{module}::{name}"));
            }
        }
        names.insert(module);
    }
    names
}

/// Words in backticks that look like a path of modules. A pattern is one too, and no test's name.
fn named(text: &str) -> BTreeSet<&str> {
    let words = text.split('`').skip(1).step_by(2);
    let plain = |word: &&str| {
        word.contains("::")
            && word
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_:*".contains(c))
    };
    words.filter(plain).collect()
}

#[test]
fn every_test_that_a_document_names_is_there() {
    let known = known();
    let mut missing = Vec::new();
    for document in DOCUMENTS {
        let Ok(text) = fs::read_to_string(root().join(document)) else { continue };
        let names = named(&text);
        let unknown = names.into_iter().filter(|name| !known.contains(*name));
        missing.extend(unknown.map(|name| format!("{document}: {name}")));
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn every_fuzz_target_that_security_md_names_is_there() {
    let text = fs::read_to_string(root().join("SECURITY.md")).unwrap();
    let lines = text.lines().filter_map(|line| line.split("fuzz `").nth(1));
    let names: Vec<_> = lines
        .flat_map(|rest| rest.split('`').step_by(2))
        .filter(|name| !name.contains('|'))
        .collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        let name = name.trim();
        let path = root().join("fuzz/fuzz_targets").join(format!("{name}.rs"));
        assert!(path.exists(), "there is no fuzz target {name:?}");
    }
}

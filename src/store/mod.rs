//! Session stores: which kinds there are, how each reads its settings, how one is opened.
//!
//! Holds no session rules, and knows no HTTP. A new kind is one new file and one line in [`KINDS`].

#[cfg(test)]
pub(crate) mod counter_suite;
mod embedded;
mod redis;
#[cfg(test)]
pub(crate) mod suite;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::clock::Clock;
use crate::section::{Problem, Section, closest};
use crate::session::Store;

/// A kind of store: its name in `kind = "..."` and the reader of its settings.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Name in the configuration.
    pub name: &'static str,
    /// Reads the settings; problems go to the section. Touches nothing but the section.
    read: fn(&mut Section) -> Arc<dyn Open>,
}

/// All kinds.
pub const KINDS: &[Kind] = &[EMBEDDED, REDIS];

/// The default: needs no other service.
const EMBEDDED: Kind = Kind { name: "embedded", read: embedded::read };

/// For many nodes: they share one Redis or Valkey.
const REDIS: Kind = Kind { name: "redis", read: redis::read };

/// Opens a store with settings that were read before.
trait Open: fmt::Debug + Send + Sync {
    fn open(&self, clock: Clock) -> Result<Arc<dyn Store>, OpenError>;

    /// What `open` would have to make first.
    fn missing(&self) -> Option<PathBuf> {
        None
    }

    /// What of the files that the settings name cannot be used. Opens no store.
    fn check(&self) -> Result<(), Problem> {
        Ok(())
    }
}

/// Why a store was not opened, with what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error(
        "another Portcullis{} uses {}\n    fix: stop it first, or give this one a `store.path` of its own",
        .process.map(|id| format!(" (process {id})")).unwrap_or_default(),
        .path.display()
    )]
    InUse {
        /// What both want.
        path: PathBuf,
        /// The other process, when it is known.
        process: Option<u32>,
    },
    /// Anything else.
    #[error("{what}\n    fix: {remedy}")]
    Failed {
        /// What happened, with the place.
        what: String,
        /// What to do.
        remedy: String,
    },
}

/// The settings of the `[store]` table.
#[derive(Clone, Debug)]
pub struct Settings {
    kind: &'static str,
    opener: Arc<dyn Open>,
}

impl Settings {
    /// Reads the table; problems go to the section. Opens nothing.
    pub fn read(section: &mut Section) -> Self {
        let mut kind = &EMBEDDED;
        if let Some(wanted) = section.text("kind") {
            match KINDS.iter().find(|kind| kind.name == wanted.value) {
                Some(found) => kind = found,
                None => {
                    let names: Vec<_> = KINDS.iter().map(|kind| kind.name).collect();
                    let remedy = match closest(&wanted.value, &names) {
                        Some(near) => format!("did you mean \"{near}\"?"),
                        None => format!("use one of: {}", names.join(", ")),
                    };
                    let what = format!("unknown kind of store \"{}\"", wanted.value);
                    section.problem_at(&wanted, what, remedy);
                }
            }
        }
        Self { kind: kind.name, opener: (kind.read)(section) }
    }

    /// Whether other machines may use the same store.
    pub fn is_shared(&self) -> bool {
        self.kind != EMBEDDED.name
    }

    /// The kind, such as `embedded`.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// The file of the store, when [`Settings::open`] would make it.
    pub fn missing(&self) -> Option<PathBuf> {
        self.opener.missing()
    }

    /// Whether the files that the settings name can be used. Opens no store.
    ///
    /// # Errors
    /// The one that cannot.
    pub fn check(&self) -> Result<(), Problem> {
        self.opener.check()
    }

    /// Opens the store. Blocks while the embedded store reads its file; call it before the workers start.
    ///
    /// # Errors
    /// Words for a person: what could not be opened, and what to do.
    pub fn open(&self, clock: Clock) -> Result<Arc<dyn Store>, OpenError> {
        self.opener.open(clock)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::section::Problems;

    fn read(text: &str) -> (Settings, Vec<String>) {
        let problems = Problems::default();
        let file = Path::new("/etc/portcullis/c.toml");
        let mut root = Section::parse(file, text.to_owned(), &problems);
        let mut table = root.table("store");
        let settings = Settings::read(&mut table);
        drop((table, root));
        (settings, problems.list().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_missing_table_means_the_embedded_store_beside_the_file() {
        let (settings, problems) = read("");
        assert_eq!(settings.kind(), "embedded");
        assert!(problems.is_empty(), "{problems:?}");
        assert!(format!("{settings:?}").contains("/etc/portcullis/data"), "{settings:?}");
    }

    #[test]
    fn unknown_kinds_and_keys_are_reported_with_what_was_meant() {
        let (_, problems) = read("[store]\nkind = \"embeded\"\npth = \"x\"\n");
        assert_eq!(problems.len(), 2, "{problems:#?}");
        assert!(problems[0].contains(":2:8: unknown kind of store \"embeded\""), "{problems:#?}");
        assert!(problems[0].contains("did you mean \"embedded\"?"), "{problems:#?}");
        assert!(problems[1].contains("did you mean `path`?"), "{problems:#?}");
        let (_, problems) = read("[store]\nkind = \"postgres\"\nmax_sessions = 0\n");
        assert!(problems[0].contains("use one of: embedded"), "{problems:#?}");
        assert!(problems[1].contains("out of range"), "{problems:#?}");
    }
}

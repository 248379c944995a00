//! Login methods, one file each, and their registration.
//!
//! A method says who somebody is; it never opens a session, and sees people only through the
//! `session::Directory` port.

mod api_key;
mod choice;
mod password;
mod pool;

use std::io;
use std::sync::Arc;

pub use self::api_key::ApiKey;
pub use self::choice::check_new_password;
pub use self::password::Password;

use crate::clock::Clock;
use crate::secret::Costs;
use crate::section::Section;
use crate::session::{Directory, Method};

/// A kind of login method.
#[derive(Debug)]
pub struct Kind {
    /// Name in configuration (`[login.<name>]`).
    pub name: &'static str,
    /// Reads the method's table; `None` when the method is off.
    pub read: fn(&mut Section) -> Option<Arc<dyn Plan>>,
}

/// All kinds, in the order in which they are tried and shown.
pub static KINDS: &[&Kind] = &[&password::KIND, &api_key::KIND];

/// What methods work with.
#[derive(Clone, Debug)]
pub struct Context {
    /// People and groups.
    pub directory: Arc<dyn Directory>,
    /// Time.
    pub clock: Clock,
}

/// The settings of one method: what makes it.
pub trait Plan: Send + Sync + std::fmt::Debug {
    /// Starts the method.
    ///
    /// # Errors
    /// When the machine lacks something that the method needs, such as threads.
    fn start(&self, context: &Context) -> io::Result<Box<dyn Method>>;

    /// What a new password hash costs, if the method keeps any.
    fn costs(&self) -> Option<Costs> {
        None
    }
}

/// The `[login]` table.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The methods that are on, in order.
    pub methods: Vec<Arc<dyn Plan>>,
}

impl Settings {
    /// Reads the `[login]` table, which may be absent.
    pub fn read(section: &mut Section) -> Self {
        let tables = KINDS.iter().map(|kind| (kind.read)(&mut section.table(kind.name)));
        let methods: Vec<_> = tables.flatten().collect();
        if methods.is_empty() {
            section.problem("password", "no login method is on", "set `enabled = true` in one");
        }
        Self { methods }
    }

    /// What a new password hash costs: for the commands that make one.
    pub fn costs(&self) -> Costs {
        self.methods.iter().find_map(|method| method.costs()).unwrap_or_default()
    }

    /// Starts all methods.
    ///
    /// # Errors
    /// See [`Plan::start`].
    pub fn start(&self, context: &Context) -> io::Result<Vec<Box<dyn Method>>> {
        self.methods.iter().map(|method| method.start(context)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::path::Path;

    use super::*;
    use crate::section::Problems;

    fn read(text: &str) -> (Settings, Vec<String>) {
        let problems = Problems::default();
        let mut root = Section::parse(Path::new("c.toml"), text.to_owned(), &problems);
        let settings = Settings::read(&mut root.table("login"));
        drop(root);
        (settings, problems.list().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn kinds_have_names_of_their_own() {
        let names: HashSet<_> = KINDS.iter().map(|kind| kind.name).collect();
        assert_eq!(names.len(), KINDS.len());
    }

    #[test]
    fn passwords_are_on_by_default() {
        let (settings, problems) = read("");
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(settings.methods.len(), 2, "with API keys");
        assert_eq!(settings.costs(), Costs::default());
    }

    #[test]
    fn no_method_at_all_is_a_problem() {
        let (settings, problems) =
            read("[login.password]\nenabled = false\n[login.api_key]\nenabled = false\n");
        assert!(settings.methods.is_empty());
        assert!(problems[0].starts_with("c.toml:1:8: no login method is on"), "{problems:?}");
    }

    #[test]
    fn costs_are_read_and_weak_ones_refused() {
        let (settings, problems) = read("[login.password]\nm_cost = 47104\nt_cost = 1\n");
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(settings.costs(), Costs { memory_kib: 47_104, passes: 1, lanes: 1 });
        for weak in ["m_cost = 19455", "t_cost = 1", "m_cost = 7168\nt_cost = 4"] {
            let (_, problems) = read(&format!("[login.password]\n{weak}\n"));
            assert!(problems[0].contains("too weak"), "{weak}: {problems:?}");
        }
        let (_, problems) = read("[login.password]\nm_costs = 1\nparallel = 0\nqueue = -1\n");
        assert_eq!(problems.len(), 3, "{problems:#?}");
    }
}

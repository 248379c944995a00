//! A directory of three people for unit tests of the core.

use std::sync::{Arc, Mutex};

use super::ports::{Account, Directory, Group};
use crate::secret::Secret;

/// `u1` is in `staff`; `ops` is below `staff`, `night` below `ops`, and `staff` below `night`: a loop.
#[derive(Debug)]
pub(crate) struct People(Mutex<Account>);

impl People {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Account {
            id: "u1".to_owned(),
            identifier: "alice".to_owned(),
            groups: vec!["staff".to_owned()],
            ..Account::default()
        }))
    }

    pub(crate) fn change(&self, with: impl FnOnce(&mut Account)) {
        with(&mut self.0.lock().unwrap());
    }
}

impl Directory for People {
    fn epoch(&self) -> u64 {
        0
    }

    fn by_login(&self, identifier: &str) -> Option<Arc<Account>> {
        (identifier == "alice").then(|| self.by_id("u1")).flatten()
    }

    fn by_id(&self, id: &str) -> Option<Arc<Account>> {
        (id == "u1").then(|| Arc::new(self.0.lock().unwrap().clone()))
    }

    fn group(&self, name: &str) -> Option<Arc<Group>> {
        let parent = match name {
            "staff" => "night",
            "ops" => "staff",
            "night" => "ops",
            "board" => return Some(Arc::new(Group { name: name.into(), ..Group::default() })),
            _ => return None,
        };
        let parents = vec![parent.to_owned()];
        Some(Arc::new(Group { name: name.to_owned(), parents, ..Group::default() }))
    }

    fn below(&self, name: &str) -> Vec<String> {
        let below: &[&str] = match name {
            "staff" => &["night", "ops"],
            "ops" => &["night", "staff"],
            "night" => &["ops", "staff"],
            _ => &[],
        };
        below.iter().map(ToString::to_string).collect()
    }

    fn members(&self, _group: &str) -> Vec<Arc<Account>> {
        self.by_id("u1").into_iter().collect()
    }

    fn rehash(&self, _id: &str, _old: &Secret, _new: &Secret) -> Result<(), String> {
        Ok(())
    }
}

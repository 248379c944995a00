//! Conditions on who somebody is: user, group, active claim.

use super::{Condition, Facts, either};
use crate::section::Section;
use crate::session::{GROUP, Identity, USER};

/// `users`: login names or stable ids.
pub(super) fn users(table: &mut Section) -> Option<Box<dyn Condition>> {
    some(texts(table, "users"), |list| Box::new(Users(list)))
}

/// `groups`: membership, whatever the active claim is.
pub(super) fn groups(table: &mut Section) -> Option<Box<dyn Condition>> {
    some(texts(table, "groups"), |list| Box::new(Groups(list)))
}

/// `claims`: the active claim.
pub(super) fn claims(table: &mut Section) -> Option<Box<dyn Condition>> {
    let claims = table.texts("claims");
    for claim in &claims {
        let name = claim.value.strip_prefix(USER).or_else(|| claim.value.strip_prefix(GROUP));
        if name.is_none_or(str::is_empty) {
            table.problem_at(
                claim,
                format!("\"{}\" is not a claim", claim.value),
                "write \"user/<id>\" or \"group/<name>\"",
            );
        }
    }
    let list: Vec<_> = claims.into_iter().map(|claim| claim.value).collect();
    some(list, |list| Box::new(Claims(list)))
}

fn texts(table: &mut Section, key: &'static str) -> Vec<String> {
    table.texts(key).into_iter().map(|text| text.value).collect()
}

fn some(
    list: Vec<String>,
    make: impl FnOnce(Vec<String>) -> Box<dyn Condition>,
) -> Option<Box<dyn Condition>> {
    (!list.is_empty()).then(|| make(list))
}

#[derive(Debug)]
struct Users(Vec<String>);

impl Condition for Users {
    fn holds(&self, identity: &Identity, _: &Facts<'_>) -> bool {
        // What is no person (a group, a partner, its guest) has a name that somebody else gave it.
        let is_person = !identity.user.contains('/');
        let named = |user: &String| *user == identity.identifier && is_person;
        self.0.iter().any(|user| *user == identity.user || named(user))
    }

    fn wants(&self) -> String {
        format!("be {}", either(&self.0))
    }

    fn named(&self) -> Vec<String> {
        self.0.iter().map(|user| format!("{USER}{user}")).collect()
    }
}

#[derive(Debug)]
struct Groups(Vec<String>);

impl Condition for Groups {
    fn holds(&self, identity: &Identity, _: &Facts<'_>) -> bool {
        self.0.iter().any(|group| identity.groups.contains(group))
    }

    fn wants(&self) -> String {
        format!("be in the group {}", either(&self.0))
    }

    fn named(&self) -> Vec<String> {
        self.0.iter().map(|group| format!("{GROUP}{group}")).collect()
    }
}

#[derive(Debug)]
struct Claims(Vec<String>);

impl Condition for Claims {
    fn holds(&self, identity: &Identity, _: &Facts<'_>) -> bool {
        self.0.contains(&identity.claim)
    }

    fn wants(&self) -> String {
        format!("act as {}", either(&self.0))
    }

    fn named(&self) -> Vec<String> {
        self.0.clone()
    }
}

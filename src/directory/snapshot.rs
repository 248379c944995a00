//! People and groups at one moment, indexed for every question that the core asks.
//!
//! Immutable. Expects content that `read` has checked.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::session::{Account, Group};

/// Longest identifier that is looked up, in bytes.
const IDENTIFIER_LENGTH: usize = 512;

/// Dialect to alias, of one user.
pub(super) type Aliases = BTreeMap<String, String>;

#[derive(Debug, Default)]
pub(super) struct Snapshot {
    by_id: HashMap<String, Arc<Account>>,
    by_name: HashMap<String, Arc<Account>>,
    /// `None` where several accounts have the address.
    by_email: HashMap<String, Option<Arc<Account>>>,
    groups: BTreeMap<String, Arc<Group>>,
    below: HashMap<String, Vec<String>>,
    members: HashMap<String, Vec<Arc<Account>>>,
    aliases: BTreeMap<String, Aliases>,
    /// Dialect, alias, account.
    by_alias: HashMap<String, HashMap<String, Arc<Account>>>,
}

/// The form in which login names and e-mail addresses are compared: trimmed, ASCII in lower case.
///
/// Other letters count as they are: no Unicode folding, so no two names become one by surprise.
pub(super) fn fold(name: &str) -> String {
    name.trim().to_ascii_lowercase()
}

impl Snapshot {
    pub(super) fn new(
        people: Vec<(Account, Aliases)>,
        groups: BTreeMap<String, Arc<Group>>,
    ) -> Self {
        let mut new = Self { below: below(&groups), groups, ..Self::default() };
        for (account, aliases) in people {
            let account = Arc::new(account);
            for (dialect, alias) in &aliases {
                let of_dialect = new.by_alias.entry(dialect.clone()).or_default();
                of_dialect.insert(alias.clone(), Arc::clone(&account));
            }
            if !aliases.is_empty() {
                new.aliases.insert(account.id.clone(), aliases);
            }
            for group in &account.groups {
                new.members.entry(group.clone()).or_default().push(Arc::clone(&account));
            }
            if !account.email.is_empty() {
                new.by_email
                    .entry(fold(&account.email))
                    .and_modify(|owner| *owner = None)
                    .or_insert_with(|| Some(Arc::clone(&account)));
            }
            new.by_name.insert(fold(&account.identifier), Arc::clone(&account));
            new.by_id.insert(account.id.clone(), account);
        }
        new
    }

    /// The account with this login name; otherwise the one that has this e-mail address alone.
    pub(super) fn by_login(&self, identifier: &str) -> Option<&Arc<Account>> {
        if identifier.len() > IDENTIFIER_LENGTH {
            return None;
        }
        let typed = fold(identifier);
        self.by_name.get(&typed).or_else(|| self.by_email.get(&typed)?.as_ref())
    }

    pub(super) fn by_name(&self, name: &str) -> Option<&Arc<Account>> {
        self.by_name.get(&fold(name))
    }

    pub(super) fn by_id(&self, id: &str) -> Option<&Arc<Account>> {
        self.by_id.get(id)
    }

    pub(super) fn by_alias(&self, dialect: &str, alias: &str) -> Option<&Arc<Account>> {
        self.by_alias.get(dialect)?.get(alias)
    }

    pub(super) fn alias(&self, id: &str, dialect: &str) -> Option<&str> {
        self.aliases.get(id)?.get(dialect).map(String::as_str)
    }

    pub(super) fn group(&self, name: &str) -> Option<&Arc<Group>> {
        self.groups.get(name)
    }

    pub(super) fn below(&self, name: &str) -> &[String] {
        self.below.get(name).map_or(&[], Vec::as_slice)
    }

    pub(super) fn members(&self, group: &str) -> &[Arc<Account>] {
        self.members.get(group).map_or(&[], Vec::as_slice)
    }

    /// All login names as `fold` leaves them.
    pub(super) fn names(&self) -> Vec<&str> {
        self.by_name.keys().map(String::as_str).collect()
    }

    pub(super) fn group_names(&self) -> Vec<&str> {
        self.groups.keys().map(String::as_str).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Whether sessions look the same under both: everything but the password hashes is equal.
    pub(super) fn looks_like(&self, other: &Self) -> bool {
        let same_people = self.by_id.len() == other.by_id.len()
            && self
                .by_id
                .values()
                .all(|own| other.by_id(&own.id).is_some_and(|theirs| shown(own) == shown(theirs)));
        let same_groups = self.groups.len() == other.groups.len()
            && self.groups.values().zip(other.groups.values()).all(|(own, theirs)| {
                (&own.name, &own.description, &own.parents)
                    == (&theirs.name, &theirs.description, &theirs.parents)
            });
        same_people && same_groups && self.aliases == other.aliases
    }
}

fn shown(account: &Account) -> impl PartialEq + use<'_> {
    let Account { id, identifier, name, email, groups, aliases, disabled, password: _ } = account;
    (id, identifier, name, email, groups, aliases, disabled)
}

/// For each group the names of all groups below it, sorted.
fn below(groups: &BTreeMap<String, Arc<Group>>) -> HashMap<String, Vec<String>> {
    let mut children: HashMap<&str, Vec<&str>> = HashMap::new();
    for group in groups.values() {
        for parent in &group.parents {
            children.entry(parent).or_default().push(&group.name);
        }
    }
    let mut all = HashMap::new();
    for name in children.keys() {
        let mut found = BTreeSet::new();
        let mut open = vec![*name];
        while let Some(next) = open.pop() {
            for child in children.get(next).into_iter().flatten() {
                if found.insert(*child) {
                    open.push(child);
                }
            }
        }
        all.insert((*name).to_owned(), found.into_iter().map(str::to_owned).collect());
    }
    all
}

/// Each way in which a group is above itself, as the names along it, from a group up to itself.
pub(super) fn cycles(groups: &BTreeMap<String, Arc<Group>>) -> Vec<Vec<&str>> {
    let mut found = Vec::new();
    let mut done = HashSet::new();
    for (start, group) in groups {
        if done.contains(start.as_str()) {
            continue;
        }
        // A path up from `start`; a stack of its own, because chains may be long.
        let mut path = vec![(start.as_str(), group.parents.iter())];
        let mut on_path = HashSet::from([start.as_str()]);
        while let Some((name, parents)) = path.last_mut() {
            let name = *name;
            let Some(parent) = parents.next() else {
                done.insert(name);
                on_path.remove(name);
                path.pop();
                continue;
            };
            if on_path.contains(parent.as_str()) {
                let names = path.iter().map(|(name, _)| *name);
                let mut cycle: Vec<_> = names.skip_while(|name| name != parent).collect();
                cycle.push(parent);
                found.push(cycle);
            } else if let Some(above) = groups.get(parent)
                && !done.contains(parent.as_str())
            {
                on_path.insert(parent);
                path.push((parent, above.parents.iter()));
            }
        }
    }
    found
}

//! People, groups, partners and keys at one moment, indexed for every question that the core asks.
//!
//! Immutable. Expects content that `read` has checked.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::section::SecretSource;
use crate::session::{Account, Group, Key, Partner, Principal, SecretHash, canonical};

/// Longest identifier that is looked up, in bytes.
const IDENTIFIER_LENGTH: usize = 512;

#[derive(Debug, Default)]
pub(super) struct Snapshot {
    by_id: HashMap<String, Arc<Account>>,
    by_name: HashMap<String, Arc<Account>>,
    /// `None` where several accounts have the address.
    by_email: HashMap<String, Option<Arc<Account>>>,
    /// Stable ids and aliases, as names are compared.
    folded: HashSet<String>,
    groups: BTreeMap<String, Arc<Group>>,
    below: HashMap<String, Vec<String>>,
    members: HashMap<String, Vec<Arc<Account>>>,
    /// Dialect, alias, account.
    by_alias: HashMap<String, HashMap<String, Arc<Account>>>,
    partners: BTreeMap<String, Arc<Partner>>,
    /// Stable id of a user, partners in the order of their ids.
    partners_of: HashMap<String, Vec<Arc<Partner>>>,
    /// By what partners call their members, as names are compared.
    called: HashMap<String, HashSet<String>>,
    keys: BTreeMap<String, Arc<Key>>,
    key_by_hash: HashMap<SecretHash, Arc<Key>>,
    /// Oldest first.
    keys_of: HashMap<Principal, Vec<Arc<Key>>>,
    /// Secrets that were read from files of their own.
    watched: Vec<SecretSource>,
}

impl Snapshot {
    pub(super) fn new(
        people: Vec<Account>,
        groups: BTreeMap<String, Arc<Group>>,
        partners: BTreeMap<String, Partner>,
        keys: Vec<Key>,
    ) -> Self {
        let mut new = Self { below: below(&groups), groups, ..Self::default() };
        for account in people {
            let account = Arc::new(account);
            for (dialect, alias) in &account.aliases {
                let of_dialect = new.by_alias.entry(dialect.clone()).or_default();
                of_dialect.insert(alias.clone(), Arc::clone(&account));
                new.folded.insert(canonical(alias).into_owned());
            }
            new.folded.insert(canonical(&account.id).into_owned());
            for group in &account.groups {
                new.members.entry(group.clone()).or_default().push(Arc::clone(&account));
            }
            if !account.email.is_empty() {
                new.by_email
                    .entry(canonical(&account.email).into_owned())
                    .and_modify(|owner| *owner = None)
                    .or_insert_with(|| Some(Arc::clone(&account)));
            }
            let name = canonical(&account.identifier).into_owned();
            new.by_name.insert(name, Arc::clone(&account));
            new.by_id.insert(account.id.clone(), account);
        }
        for (id, partner) in partners {
            let partner = Arc::new(partner);
            let called = new.called.entry(id.clone()).or_default();
            for (user, member) in &partner.members {
                new.partners_of.entry(user.clone()).or_default().push(Arc::clone(&partner));
                let account = new.by_id.get(user);
                called.extend(account.map(|account| canonical(member.puser(account)).into_owned()));
            }
            new.partners.insert(id, partner);
        }
        new.add_keys(keys);
        new
    }

    /// The same, with secrets whose files are looked at again.
    pub(super) fn watching(self, watched: Vec<SecretSource>) -> Self {
        Self { watched, ..self }
    }

    /// Whether every secret file holds what was read from it. Reads the files.
    pub(super) fn is_current(&self) -> bool {
        self.watched.iter().all(SecretSource::is_current)
    }

    fn add_keys(&mut self, mut keys: Vec<Key>) {
        keys.sort_by_key(|key| key.created);
        for key in keys {
            let key = Arc::new(key);
            self.key_by_hash.insert(key.hash, Arc::clone(&key));
            self.keys_of.entry(key.owner.clone()).or_default().push(Arc::clone(&key));
            self.keys.insert(key.id.clone(), key);
        }
    }

    /// The account with this login name; otherwise the one that has this e-mail address alone.
    pub(super) fn by_login(&self, identifier: &str) -> Option<&Arc<Account>> {
        if identifier.len() > IDENTIFIER_LENGTH {
            return None;
        }
        let typed = canonical(identifier);
        self.by_name.get(&*typed).or_else(|| self.by_email.get(&*typed)?.as_ref())
    }

    /// E-mail addresses that do not name their owners, since others have them as login names: address, owner, the other.
    pub(super) fn shadowed(&self) -> Vec<(&str, &str, &str)> {
        let everybody = self.by_id.values();
        let mut found: Vec<_> = everybody
            .filter_map(|owner| {
                let other = self.by_name.get(&*canonical(&owner.email))?;
                let names = (&*owner.email, &*owner.identifier, &*other.identifier);
                (other.id != owner.id).then_some(names)
            })
            .collect();
        found.sort_unstable();
        found
    }

    pub(super) fn by_name(&self, name: &str) -> Option<&Arc<Account>> {
        self.by_name.get(&*canonical(name))
    }

    pub(super) fn by_id(&self, id: &str) -> Option<&Arc<Account>> {
        self.by_id.get(id)
    }

    pub(super) fn by_alias(&self, dialect: &str, alias: &str) -> Option<&Arc<Account>> {
        self.by_alias.get(dialect)?.get(alias)
    }

    /// As [`crate::session::Directory::is_taken`].
    pub(super) fn is_taken(&self, name: &str) -> bool {
        let name = &*canonical(name);
        self.by_name.contains_key(name)
            || self.by_email.contains_key(name)
            || self.folded.contains(name)
    }

    /// As [`crate::session::Directory::is_members`].
    pub(super) fn is_members(&self, partner: &str, name: &str) -> bool {
        self.called.get(partner).is_some_and(|called| called.contains(&*canonical(name)))
    }

    pub(super) fn partner(&self, id: &str) -> Option<&Arc<Partner>> {
        self.partners.get(id)
    }

    pub(super) fn partner_ids(&self) -> Vec<&str> {
        self.partners.keys().map(String::as_str).collect()
    }

    pub(super) fn partners_of(&self, user: &str) -> &[Arc<Partner>] {
        self.partners_of.get(user).map_or(&[], Vec::as_slice)
    }

    pub(super) fn key(&self, id: &str) -> Option<&Arc<Key>> {
        self.keys.get(id)
    }

    pub(super) fn key_by_hash(&self, hash: &SecretHash) -> Option<&Arc<Key>> {
        self.key_by_hash.get(hash)
    }

    pub(super) fn keys_of(&self, owner: &Principal) -> &[Arc<Key>] {
        self.keys_of.get(owner).map_or(&[], Vec::as_slice)
    }

    /// All keys, oldest first.
    pub(super) fn all_keys(&self) -> Vec<Arc<Key>> {
        let mut keys: Vec<_> = self.keys.values().cloned().collect();
        keys.sort_by_key(|key| key.created);
        keys
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

    /// All login names as they are compared.
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
        same_people && same_groups && self.partners == other.partners && self.keys == other.keys
    }
}

impl Snapshot {
    /// Whether all that sessions may have been made with or by under `older` is still what it was: keys, partners,
    /// and who acts for others.
    pub(super) fn has_makers_of(&self, older: &Self) -> bool {
        let active = |account: &&Arc<Account>| !account.disabled;
        older
            .by_id
            .values()
            .filter(active)
            .all(|theirs| self.by_id(&theirs.id).filter(active).is_some())
            && older.groups.keys().all(|name| self.groups.contains_key(name))
            && older.partners.iter().all(|(id, theirs)| self.partners.get(id) == Some(theirs))
            && older.keys.iter().all(|(id, theirs)| self.keys.get(id) == Some(theirs))
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

//! `[[key]]` of `users.toml`: API keys and partner keys.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::partners::People;
use super::read::line;
use crate::section::{Placed, Section, closest};
use crate::session::{Group, Key, Partner, Principal, SecretHash};

/// What keys may belong to.
pub(super) struct Owners<'a> {
    pub(super) people: &'a People<'a>,
    pub(super) groups: &'a BTreeMap<String, Arc<Group>>,
    pub(super) partners: &'a BTreeMap<String, Partner>,
}

pub(super) fn read_keys(root: &mut Section, owners: &Owners<'_>) -> Vec<Key> {
    let (mut keys, mut ids, mut hashes) = (Vec::new(), HashSet::new(), HashSet::new());
    for mut section in root.tables("key") {
        let id = id(&mut section);
        let name = line(&mut section, "name");
        let owner = owner(&mut section, owners);
        let hash = hash(&mut section);
        let created = section.parsed("created", "2026-01-31T00:00:00Z").map(|at| at.value);
        let expires = section.parsed("expires", "2030-01-31T00:00:00Z").map(|at| at.value);
        if let Some(id) = &id
            && !ids.insert(id.value.clone())
        {
            let what = format!("the key `{}` is there twice", id.value);
            section.problem_at(id, what, "remove one of the two `[[key]]` tables");
        }
        if hash.is_some_and(|hash| !hashes.insert(hash)) {
            section.problem("hash", "two keys have one secret", "revoke one and make another");
        }
        if let (Some(id), Some(owner), Some(hash)) = (id, owner, hash) {
            let created = created.unwrap_or_default();
            keys.push(Key { id: id.value, name, owner, hash, created, expires });
        }
    }
    keys
}

fn id(section: &mut Section) -> Option<Placed<String>> {
    let id = section.required("id", "00000000-0000-4000-8000-000000000000");
    if !section.is_text("id") {
        return None;
    }
    let canonical = uuid::Uuid::try_parse(&id.value).is_ok_and(|uuid| uuid.to_string() == id.value);
    if !canonical {
        let remedy = "write a UUID in lower case, or make the key with `portcullis key create`";
        section.problem_at(&id, "`id` is no UUID", remedy);
        return None;
    }
    Some(id)
}

fn hash(section: &mut Section) -> Option<SecretHash> {
    let text = section.required("hash", "...");
    let hash = SecretHash::parse(&text.value);
    // Perhaps the secret itself: the value is not shown.
    if hash.is_none() && section.is_text("hash") {
        let remedy = "make the key with `portcullis key create`";
        section.problem_at(&text, "`hash` is no base64url SHA-256", remedy);
    }
    hash
}

fn owner(section: &mut Section, owners: &Owners<'_>) -> Option<Principal> {
    let text = section.required("owner", "user/<id>");
    if !section.is_text("owner") {
        return None;
    }
    let (what, names, name) = match text.value.parse() {
        Ok(Principal::User(id)) => ("user with the id", owners.people.ids(), id),
        Ok(Principal::Group(name)) => {
            ("group", owners.groups.keys().map(String::as_str).collect(), name)
        }
        Ok(Principal::Partner(id)) => {
            ("partner", owners.partners.keys().map(String::as_str).collect(), id)
        }
        Ok(Principal::Guest { .. }) | Err(_) => {
            let what = format!("`owner` cannot be {:?}", text.value);
            section.problem_at(&text, what, "write user/<id>, group/<name> or partner/<id>");
            return None;
        }
    };
    if names.contains(&name.as_str()) {
        return text.value.parse().ok();
    }
    let remedy = match closest(&name, &names) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "correct it, or remove the key".to_owned(),
    };
    section.problem_at(&text, format!("there is no {what} `{name}`"), remedy);
    None
}

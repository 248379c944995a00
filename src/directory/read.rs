//! `users.toml` into a snapshot: checks everything and reports every problem with its place.
//!
//! Opens no file.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use super::keys::{Owners, read_keys};
use super::partners::{People, read_partners};
use super::snapshot::{Snapshot, cycles};
use crate::secret::{PasswordHash, Secret, random};
use crate::section::{Placed, Problem, Problems, Section, closest};
use crate::session::{Account, CREDENTIAL, GROUP, Group, PARTNER, USER, canonical};

/// Entries that all lists of sub-groups may have together: bounds memory.
const BELOW: usize = 1_000_000;

/// What a text must be like.
type Rule = fn(&str) -> Result<(), &'static str>;

/// The APIs that call people by ids of their own, and what such an id is like.
const DIALECTS: [(&str, Rule); 3] =
    [("kaltura", login_rule), ("nuvla", name_rule), ("versal", number_rule)];

struct User {
    id: Option<Placed<String>>,
    name: Option<Placed<String>>,
    email: String,
    display_name: String,
    password: Option<Secret>,
    groups: Vec<Placed<String>>,
    disabled: bool,
    aliases: Vec<(Placed<String>, String)>,
}

struct Declared {
    name: Placed<String>,
    description: String,
    parents: Vec<Placed<String>>,
}

/// Reads `text` as the content of `file`.
pub(super) fn read(file: &Path, text: String) -> Result<Snapshot, Vec<Problem>> {
    let problems = Problems::default();
    let mut root = Section::parse(file, text, &problems);
    let declared: Vec<_> = root.tables("group").into_iter().filter_map(read_group).collect();
    let users: Vec<_> = root.tables("user").into_iter().map(read_user).collect();
    let groups = check_groups(&root, declared);
    let people = check_users(&root, users, &groups);
    let named = People::new(&people);
    let mut watched = Vec::new();
    let partners = read_partners(&mut root, &named, &mut watched);
    let owners = Owners { people: &named, groups: &groups, partners: &partners };
    let keys = read_keys(&mut root, &owners);
    drop(root);
    let found = problems.list();
    if found.is_empty() {
        Ok(Snapshot::new(people, groups, partners, keys).watching(watched))
    } else {
        Err(found)
    }
}

fn read_group(mut section: Section) -> Option<Declared> {
    let name = checked(&mut section, "name", "staff", name_rule);
    let description = line(&mut section, "description");
    let parents = section.texts("parents");
    Some(Declared { name: name?, description, parents })
}

fn read_user(mut section: Section) -> User {
    let id = if section.has("id") { String::new() } else { fresh_id() };
    User {
        id: checked(&mut section, "id", &id, name_rule),
        name: checked(&mut section, "name", "alice", login_rule),
        email: line(&mut section, "email"),
        display_name: line(&mut section, "display_name"),
        password: password(&mut section),
        groups: section.texts("groups"),
        disabled: section.flag("disabled", false),
        aliases: aliases(&mut section),
    }
}

/// What other APIs call somebody, by dialect.
fn aliases(section: &mut Section) -> Vec<(Placed<String>, String)> {
    let mut table = section.table("aliases");
    let aliases = table.pairs();
    for (dialect, alias) in &aliases {
        let Some((_, rule)) = DIALECTS.iter().find(|(name, _)| *name == dialect.value) else {
            let names = DIALECTS.map(|(name, _)| name);
            let remedy = match closest(&dialect.value, &names) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("use {}", names.join(", ")),
            };
            table.problem_at(dialect, format!("there is no API `{}`", dialect.value), remedy);
            continue;
        };
        if let Err(remedy) = rule(alias) {
            let what = format!("the alias `{}` cannot be {alias:?}", dialect.value);
            table.problem_at(dialect, what, remedy);
        }
    }
    aliases
}

/// A random id (UUID version 4), empty when the operating system gives no randomness.
pub(super) fn fresh_id() -> String {
    random().map_or_else(
        |_| String::new(),
        |bytes| uuid::Builder::from_random_bytes(bytes).into_uuid().to_string(),
    )
}

/// A required string that keeps `rule`; `None` when that is reported.
pub(super) fn checked(
    section: &mut Section,
    key: &'static str,
    example: &str,
    rule: Rule,
) -> Option<Placed<String>> {
    let usable = section.is_text(key);
    let text = section.required(key, example);
    if !usable {
        return None;
    }
    match rule(&text.value) {
        Ok(()) => Some(text),
        Err(remedy) => {
            let what = format!("`{key}` cannot be {:?}", text.value);
            section.problem_at(&text, what, remedy);
            None
        }
    }
}

/// Ids and names of groups: they become part of claims and comma-separated headers.
pub(super) fn name_rule(name: &str) -> Result<(), &'static str> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if (1..=128).contains(&name.len()) && name.bytes().all(allowed) {
        Ok(())
    } else {
        Err("use 1 to 128 of A-Z a-z 0-9 . _ -")
    }
}

/// Login names: any letters.
pub(super) fn login_rule(name: &str) -> Result<(), &'static str> {
    if name.len() > 256 || name.trim() != name || name.contains(char::is_control) {
        return Err(
            "use 1 to 256 bytes without control characters and without a space at either end",
        );
    }
    let plain = canonical(name);
    if plain.is_empty() {
        return Err("use a name that is seen");
    }
    match [USER, GROUP, PARTNER, CREDENTIAL].iter().any(|form| plain.starts_with(form)) {
        true => Err(
            "use one without `user/`, `group/`, `partner/` or `credential/` in front: apps would take it for a claim",
        ),
        false => Ok(()),
    }
}

/// Signed 64-bit integers, written in one way only.
pub(super) fn number_rule(text: &str) -> Result<(), &'static str> {
    match text.parse::<i64>() {
        Ok(number) if number.to_string() == text => Ok(()),
        _ => Err("use a whole number of 64 bits, such as \"1234\" or \"-5\""),
    }
}

/// Text for people: one line.
pub(super) fn line_rule(text: &str) -> Result<(), &'static str> {
    if text.len() <= 512 && !text.contains(char::is_control) {
        Ok(())
    } else {
        Err("use at most 512 bytes without control characters")
    }
}

pub(super) fn line(section: &mut Section, key: &'static str) -> String {
    let Some(text) = section.text(key) else { return String::new() };
    if let Err(remedy) = line_rule(&text.value) {
        section.problem_at(&text, format!("`{key}` cannot be {:?}", text.value), remedy);
    }
    text.value
}

fn password(section: &mut Section) -> Option<Secret> {
    let text = section.text("password")?;
    if let Err(reason) = PasswordHash::parse(&text.value) {
        section.problem_at(
            &text,
            format!("`password` {reason}"),
            "put the output of `portcullis hash-password` here, or an argon2, bcrypt or scrypt hash",
        );
    }
    Some(Secret::new(text.value))
}

fn check_groups(root: &Section, declared: Vec<Declared>) -> BTreeMap<String, Arc<Group>> {
    let mut places: BTreeMap<String, Declared> = BTreeMap::new();
    let mut folded: HashMap<String, String> = HashMap::new();
    for group in declared {
        let name = &group.name.value;
        let first = folded.entry(canonical(name).into_owned()).or_insert_with(|| name.clone());
        if first != name {
            let what =
                format!("the group `{name}` differs from `{first}` in upper and lower case only");
            root.problem_at(&group.name, what, "choose another name");
        }
        if places.contains_key(&group.name.value) {
            let what = format!("the group `{}` is declared twice", group.name.value);
            root.problem_at(&group.name, what, "keep one of the two `[[group]]` tables");
            continue;
        }
        places.insert(group.name.value.clone(), group);
    }
    let names: Vec<&str> = places.keys().map(String::as_str).collect();
    for parent in places.values().flat_map(|group| &group.parents) {
        if !places.contains_key(&parent.value) {
            undeclared(root, parent, &names);
        }
    }
    let groups: BTreeMap<_, _> = places
        .iter()
        .map(|(name, group)| {
            let (description, parents) = (group.description.clone(), names_of(&group.parents));
            (name.clone(), Arc::new(Group { name: name.clone(), description, parents }))
        })
        .collect();
    for cycle in cycles(&groups) {
        let place = cycle.first().and_then(|name| places.get(*name));
        if let Some(place) = place {
            let what = format!("groups are their own parents: {}", cycle.join(" < "));
            root.problem_at(&place.name, what, "remove one of these parents");
        }
    }
    check_size(root, &groups);
    groups
}

/// A chain or lattice of very many groups has a list of sub-groups that outgrows memory.
fn check_size(root: &Section, groups: &BTreeMap<String, Arc<Group>>) {
    let mut entries = 0;
    for group in groups.values() {
        let mut above: std::collections::HashSet<&str> = std::collections::HashSet::new();
        let mut open = vec![group];
        while let Some(next) = open.pop() {
            for parent in &next.parents {
                if above.insert(parent) {
                    open.extend(groups.get(parent));
                }
            }
        }
        entries += above.len();
        if entries > BELOW {
            let what = "the groups are nested too deeply for their number";
            root.problem("group", what, format!("keep to {BELOW} pairs of group and group above"));
            return;
        }
    }
}

fn undeclared(root: &Section, group: &Placed<String>, names: &[&str]) {
    let remedy = match closest(&group.value, names) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("add a `[[group]]` table with `name = \"{}\"`", group.value),
    };
    root.problem_at(group, format!("the group `{}` is not declared", group.value), remedy);
}

fn names_of(groups: &[Placed<String>]) -> Vec<String> {
    let mut names: Vec<_> = groups.iter().map(|group| group.value.clone()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Names of one person that stand for another: an app, or a rule, would take one for the other.
fn check_meanings(root: &Section, users: &[User]) {
    let (mut ids, mut logins) = (HashMap::new(), HashMap::new());
    for (number, user) in users.iter().enumerate() {
        ids.extend(user.id.as_ref().map(|id| (canonical(&id.value), number)));
        logins.extend(user.name.as_ref().map(|name| (canonical(&name.value), number)));
    }
    for (number, user) in users.iter().enumerate() {
        let another = |found: Option<&usize>| found.is_some_and(|found| *found != number);
        if let Some(id) = user.id.as_ref().filter(|id| another(logins.get(&canonical(&id.value)))) {
            let what = format!("the id `{}` is the login name of another user", id.value);
            root.problem_at(
                id,
                what,
                format!("give this user another, such as \"{}\"", fresh_id()),
            );
        }
        for (dialect, alias) in &user.aliases {
            let is_login = dialect.value == "kaltura" && another(logins.get(&canonical(alias)));
            if is_login || another(ids.get(&canonical(alias))) {
                let whose = if is_login { "login name" } else { "id" };
                let what = format!("the alias `{alias}` is the {whose} of another user");
                root.problem_at(dialect, what, "choose another");
            }
        }
        if let Some(name) = user.name.as_ref().filter(|_| another(ids.get(&canonical(&user.email))))
        {
            let what = format!("the e-mail address `{}` is the id of another user", user.email);
            root.problem_at(name, what, "choose another");
        }
    }
}

fn check_users(
    root: &Section,
    users: Vec<User>,
    groups: &BTreeMap<String, Arc<Group>>,
) -> Vec<Account> {
    check_meanings(root, &users);
    let names: Vec<&str> = groups.keys().map(String::as_str).collect();
    let (mut ids, mut logins, mut taken) = (HashMap::new(), HashMap::new(), HashMap::new());
    let mut people = Vec::with_capacity(users.len());
    for user in users {
        user.groups.iter().filter(|group| !groups.contains_key(&group.value)).for_each(|group| {
            undeclared(root, group, &names);
        });
        let Some(name) = &user.name else { continue };
        if let Some(first) = logins.insert(canonical(&name.value).into_owned(), name.value.clone())
        {
            let what = format!("the login name `{}` is taken by `{first}`", name.value);
            let remedy = "choose another (upper and lower case, and all ways to write a letter, are the same)";
            root.problem_at(name, what, remedy);
        }
        for (dialect, alias) in &user.aliases {
            let key = (dialect.value.clone(), canonical(alias).into_owned());
            if let Some(first) = taken.insert(key, name.value.clone()) {
                let what = format!("the alias `{alias}` is taken by `{first}`");
                root.problem_at(
                    dialect,
                    what,
                    "choose another (upper and lower case are the same)",
                );
            }
        }
        let Some(id) = &user.id else { continue };
        // Apps keep ids where upper and lower case may be the same.
        if let Some(first) = ids.insert(canonical(&id.value).into_owned(), name.value.clone()) {
            let what = format!("the id `{}` is taken by `{first}`", id.value);
            let remedy = format!(
                "give this user another, such as \"{}\" (upper and lower case are the same)",
                fresh_id()
            );
            root.problem_at(id, what, remedy);
        }
        let aliases = user.aliases.into_iter().map(|(dialect, alias)| (dialect.value, alias));
        let account = Account {
            id: id.value.clone(),
            identifier: name.value.clone(),
            name: user.display_name,
            email: user.email,
            groups: names_of(&user.groups),
            aliases: aliases.collect(),
            disabled: user.disabled,
            password: user.password,
        };
        people.push(account);
    }
    people
}

//! Changes to `users.toml` on request of an operator: keeps comments and order, writes atomically.
//!
//! The result is read back by the same reader before it is written: a broken file is never left.

use std::io;
use std::path::{Path, PathBuf};

use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, TableLike, Value};

mod keys;

pub use self::keys::{NewPartner, add_key, add_partner, find_owner, remove_key};
use super::file;
use super::read::{fresh_id, line_rule, login_rule, name_rule, read};
use super::snapshot::Snapshot;
use crate::secret::{PasswordHash, Secret, same};
use crate::section::{Problem, closest};
use crate::session::canonical;

/// Why the file was not changed.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// The file is not there.
    #[error("{} does not exist: start portcullis once, it makes the file", .0.display())]
    Missing(PathBuf),
    /// The file cannot be read or replaced.
    #[error("cannot change the file: {0}")]
    Io(#[from] io::Error),
    /// The file has problems, or would have them after the change.
    #[error("the file is left as it is:{}", listed(.0))]
    Refused(Vec<Problem>),
    /// Nobody has this login name.
    #[error("there is no user `{name}`{}", meant(.near))]
    UnknownUser {
        /// As asked for.
        name: String,
        /// A name that was perhaps meant.
        near: Option<String>,
    },
    /// No group has this name.
    #[error("there is no group `{name}`{}; add it with `portcullis group add {name}`", meant(.near))]
    UnknownGroup {
        /// As asked for.
        name: String,
        /// A name that was perhaps meant.
        near: Option<String>,
    },
    /// No partner has this id.
    #[error("there is no partner `{id}`{}; add it with `portcullis partner add {id}`", meant(.near))]
    UnknownPartner {
        /// As asked for.
        id: String,
        /// An id that was perhaps meant.
        near: Option<String>,
    },
    /// The name is in use.
    #[error("`{0}` exists already: choose another name")]
    Taken(String),
    /// Somebody has the login name in another spelling.
    #[error(
        "`{name}` exists already, as `{first}` (upper and lower case, and all ways to write a letter, are the same): choose another name"
    )]
    Spelled {
        /// As asked for.
        name: String,
        /// As it is in the file.
        first: String,
    },
    /// A value that cannot be.
    #[error("the {field} cannot be {value:?}: {remedy}")]
    Value {
        /// Which one.
        field: &'static str,
        /// As given.
        value: String,
        /// What to do.
        remedy: String,
    },
    /// The password hash is none that can be checked.
    #[error("the password hash {0}")]
    Hash(String),
    /// The file writes a list in another way than as `[[user]]` tables and the like.
    #[error("write `{0} = [...]` as `[[{0}]]` tables first")]
    Layout(&'static str),
    /// The operating system gives no randomness for an id.
    #[error("the operating system gives no randomness: try again")]
    Randomness,
}

fn listed(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("\n{problem}")).collect()
}

fn meant(near: &Option<String>) -> String {
    near.as_ref().map_or_else(String::new, |near| format!(" (did you mean `{near}`?)"))
}

/// A user to add.
#[derive(Clone, Debug, Default)]
pub struct NewUser {
    /// Login name.
    pub name: String,
    /// E-mail address.
    pub email: Option<String>,
    /// Name for people.
    pub display_name: Option<String>,
    /// Names of groups, all declared.
    pub groups: Vec<String>,
    /// Password hash as `crate::secret::PasswordHash` reads it; none: no login by password.
    pub password: Option<Secret>,
    /// What other APIs call this user: dialect and id.
    pub aliases: Vec<(String, String)>,
}

/// A group to add.
#[derive(Clone, Debug, Default)]
pub struct NewGroup {
    /// Name, without the `group/` prefix.
    pub name: String,
    /// Name for people.
    pub description: Option<String>,
    /// Names of the groups that it is a sub-group of, all declared.
    pub parents: Vec<String>,
}

/// Adds a user with a fresh id, which is returned.
///
/// # Errors
/// See [`EditError`]; the file is unchanged then.
pub fn add_user(file: &Path, user: &NewUser) -> Result<String, EditError> {
    keeps("login name", &user.name, login_rule)?;
    keeps("e-mail address", user.email.as_deref().unwrap_or(""), line_rule)?;
    keeps("display name", user.display_name.as_deref().unwrap_or(""), line_rule)?;
    user.password.as_ref().map_or(Ok(()), usable)?;
    let id = fresh_id();
    if id.is_empty() {
        return Err(EditError::Randomness);
    }
    edit(file, |document, now| {
        match now.by_name(&user.name) {
            Some(first) if first.identifier != user.name => {
                let (name, first) = (user.name.clone(), first.identifier.clone());
                return Err(EditError::Spelled { name, first });
            }
            Some(_) => return Err(EditError::Taken(user.name.clone())),
            None => {}
        }
        user.groups.iter().try_for_each(|name| declared(now, name))?;
        let mut table = Table::new();
        table.insert("id", text(&id));
        table.insert("name", text(&user.name));
        let optional = [("email", &user.email), ("display_name", &user.display_name)];
        for (key, value) in optional {
            if let Some(value) = value {
                table.insert(key, text(value));
            }
        }
        if let Some(hash) = &user.password {
            table.insert("password", text(hash.expose()));
        }
        table.insert("groups", list(&user.groups));
        if !user.aliases.is_empty() {
            let pairs = user.aliases.iter().map(|(dialect, id)| (dialect.as_str(), id.as_str()));
            let aliases: InlineTable = pairs.collect();
            table.insert("aliases", Item::Value(Value::InlineTable(aliases)));
        }
        append(document, "user", table)?;
        Ok(true)
    })?;
    Ok(id)
}

/// Sets the password hash of the user with this login name.
///
/// # Errors
/// See [`EditError`]; the file is unchanged then.
pub fn set_password(file: &Path, name: &str, hash: &Secret) -> Result<(), EditError> {
    usable(hash)?;
    edit(file, |document, now| {
        set(user_table(document, now, name)?, "password", hash.expose().into());
        Ok(true)
    })
}

/// Disables or enables the user with this login name.
///
/// # Errors
/// See [`EditError`]; the file is unchanged then.
pub fn set_disabled(file: &Path, name: &str, disabled: bool) -> Result<(), EditError> {
    edit(file, |document, now| {
        set(user_table(document, now, name)?, "disabled", disabled.into());
        Ok(true)
    })
}

/// Adds a group.
///
/// # Errors
/// See [`EditError`]; the file is unchanged then.
pub fn add_group(file: &Path, group: &NewGroup) -> Result<(), EditError> {
    keeps("group name", &group.name, name_rule)?;
    keeps("description", group.description.as_deref().unwrap_or(""), line_rule)?;
    edit(file, |document, now| {
        if now.group(&group.name).is_some() {
            return Err(EditError::Taken(group.name.clone()));
        }
        group.parents.iter().try_for_each(|name| declared(now, name))?;
        let mut table = Table::new();
        table.insert("name", text(&group.name));
        if let Some(description) = &group.description {
            table.insert("description", text(description));
        }
        if !group.parents.is_empty() {
            table.insert("parents", list(&group.parents));
        }
        append(document, "group", table)?;
        Ok(true)
    })
}

/// Replaces the password hash of the user with this id if it still is `old`; whether it was.
pub(super) fn replace_password(
    file: &Path,
    id: &str,
    old: &Secret,
    new: &Secret,
) -> Result<bool, EditError> {
    usable(new)?;
    let mut replaced = false;
    edit(file, |document, _| {
        let user = tables(document, "user").into_iter().find(|user| holds(*user, "id", id));
        if let Some(user) = user
            && let Some(stored) = user.get("password").and_then(Item::as_str)
            && same(stored.as_bytes(), old.expose().as_bytes())
        {
            set(user, "password", new.expose().into());
            replaced = true;
        }
        Ok(replaced)
    })?;
    Ok(replaced)
}

/// Runs `change`, which says whether there is anything to write.
fn edit(
    file: &Path,
    mut change: impl FnMut(&mut DocumentMut, &Snapshot) -> Result<bool, EditError>,
) -> Result<(), EditError> {
    let changed = file::update(file, |before| {
        let now = read(file, before.clone()).map_err(EditError::Refused)?;
        let mut document: DocumentMut = before.parse().map_err(|error| {
            // The reader has just understood the text, so this is a matter of its dialect.
            EditError::Io(io::Error::new(io::ErrorKind::InvalidData, error))
        })?;
        if !change(&mut document, &now)? {
            return Ok(None);
        }
        let after = document.to_string();
        read(file, after.clone()).map_err(EditError::Refused)?;
        Ok(Some(after))
    });
    match changed {
        Err(EditError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
            Err(EditError::Missing(file.to_owned()))
        }
        other => other,
    }
}

fn keeps(
    field: &'static str,
    value: &str,
    rule: fn(&str) -> Result<(), &'static str>,
) -> Result<(), EditError> {
    rule(value).map_err(|remedy| {
        let (value, remedy) = (value.to_owned(), remedy.to_owned());
        EditError::Value { field, value, remedy }
    })
}

fn usable(hash: &Secret) -> Result<(), EditError> {
    PasswordHash::parse(hash.expose()).map(drop).map_err(EditError::Hash)
}

fn declared(now: &Snapshot, name: &str) -> Result<(), EditError> {
    if now.group(name).is_some() {
        return Ok(());
    }
    let near = closest(name, &now.group_names()).map(str::to_owned);
    Err(EditError::UnknownGroup { name: name.to_owned(), near })
}

fn text(value: &str) -> Item {
    Item::Value(value.into())
}

fn list(values: &[String]) -> Item {
    Item::Value(Value::Array(values.iter().map(String::as_str).collect::<Array>()))
}

/// The tables under `key`, be they `[[key]]` or inline.
fn tables<'a>(document: &'a mut DocumentMut, key: &str) -> Vec<&'a mut dyn TableLike> {
    match document.get_mut(key) {
        Some(Item::ArrayOfTables(tables)) => {
            tables.iter_mut().map(|table| table as &mut dyn TableLike).collect()
        }
        Some(Item::Value(Value::Array(values))) => values
            .iter_mut()
            .filter_map(Value::as_inline_table_mut)
            .map(|table| table as &mut dyn TableLike)
            .collect(),
        _ => Vec::new(),
    }
}

fn holds(table: &dyn TableLike, key: &str, value: &str) -> bool {
    table.get(key).and_then(Item::as_str) == Some(value)
}

fn user_table<'a>(
    document: &'a mut DocumentMut,
    now: &Snapshot,
    name: &str,
) -> Result<&'a mut dyn TableLike, EditError> {
    let found = now.by_name(name).and_then(|account| {
        tables(document, "user").into_iter().find(|user| holds(*user, "id", &account.id))
    });
    found.ok_or_else(|| unknown_user(now, name))
}

fn unknown_user(now: &Snapshot, name: &str) -> EditError {
    let near = closest(&canonical(name), &now.names()).map(str::to_owned);
    EditError::UnknownUser { name: name.to_owned(), near }
}

/// Sets a value in place: what stands around it, such as a comment behind it, stays.
fn set(table: &mut dyn TableLike, key: &str, mut value: Value) {
    if let Some(former) = table.get_mut(key).and_then(Item::as_value_mut) {
        *value.decor_mut() = former.decor().clone();
        *former = value;
    } else {
        table.insert(key, Item::Value(value));
    }
}

fn append(
    document: &mut DocumentMut,
    key: &'static str,
    mut table: Table,
) -> Result<(), EditError> {
    if !document.is_empty() {
        table.decor_mut().set_prefix("\n");
    }
    let all = document.entry(key).or_insert(Item::ArrayOfTables(ArrayOfTables::new()));
    all.as_array_of_tables_mut().ok_or(EditError::Layout(key))?.push(table);
    Ok(())
}

#[cfg(test)]
mod tests;

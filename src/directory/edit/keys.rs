//! Keys and partners: added and removed in place.

use std::path::Path;

use toml_edit::{DocumentMut, Item, Table, Value};

use super::{EditError, append, declared, edit, holds, keeps, list, text, unknown_user};
use crate::directory::read::{line_rule, name_rule, read};
use crate::directory::snapshot::Snapshot;
use crate::secret::Secret;
use crate::section::closest;
use crate::session::{Key, Principal};

/// A partner to add.
#[derive(Clone, Debug)]
pub struct NewPartner {
    /// Id; for the Kaltura dialect a positive decimal number.
    pub id: String,
    /// Name for people.
    pub name: Option<String>,
    /// E-mail address of its administrator.
    pub email: Option<String>,
    /// Its first admin secret.
    pub secret: Secret,
}

/// Adds a partner.
///
/// # Errors
/// See [`EditError`]; the file is unchanged then.
pub fn add_partner(file: &Path, partner: &NewPartner) -> Result<(), EditError> {
    keeps("partner id", &partner.id, name_rule)?;
    keeps("name", partner.name.as_deref().unwrap_or(""), line_rule)?;
    keeps("e-mail address", partner.email.as_deref().unwrap_or(""), line_rule)?;
    edit(file, |document, now| {
        if now.partner(&partner.id).is_some() {
            return Err(EditError::Taken(partner.id.clone()));
        }
        let mut table = Table::new();
        table.insert("id", text(&partner.id));
        for (key, value) in [("name", &partner.name), ("email", &partner.email)] {
            if let Some(value) = value {
                table.insert(key, text(value));
            }
        }
        table.insert("admin_secrets", list(&[partner.secret.expose().to_owned()]));
        append(document, "partner", table)?;
        Ok(true)
    })
}

/// Adds a key, whose owner must be there.
///
/// # Errors
/// See [`EditError`]; the file is unchanged then.
pub fn add_key(file: &Path, key: &Key) -> Result<(), EditError> {
    keeps("name", &key.name, line_rule)?;
    edit(file, |document, now| {
        if now.key(&key.id).is_some() {
            return Err(EditError::Taken(key.id.clone()));
        }
        check_owner(now, &key.owner)?;
        let mut table = Table::new();
        table.insert("id", text(&key.id));
        if !key.name.is_empty() {
            table.insert("name", text(&key.name));
        }
        table.insert("owner", text(&key.owner.to_string()));
        table.insert("hash", text(&key.hash.encode()));
        table.insert("created", text(&key.created.rfc3339()));
        if let Some(expires) = key.expires {
            table.insert("expires", text(&expires.rfc3339()));
        }
        append(document, "key", table)?;
        Ok(true)
    })
}

/// Removes the key with this id; whether there was one. A comment right above its table goes with it.
///
/// # Errors
/// See [`EditError`]; the file is unchanged then.
pub fn remove_key(file: &Path, id: &str) -> Result<bool, EditError> {
    let mut removed = false;
    edit(file, |document, _| {
        removed = remove(document, id);
        Ok(removed)
    })?;
    Ok(removed)
}

fn remove(document: &mut DocumentMut, id: &str) -> bool {
    let Some(keys) = document.get_mut("key") else { return false };
    match keys {
        Item::ArrayOfTables(tables) => {
            let place = tables.iter().position(|table| holds(table, "id", id));
            place.inspect(|place| drop(tables.remove(*place))).is_some()
        }
        Item::Value(Value::Array(values)) => {
            let named =
                |value: &Value| value.as_inline_table().is_some_and(|table| holds(table, "id", id));
            let place = values.iter().position(named);
            place.inspect(|place| drop(values.remove(*place))).is_some()
        }
        _ => false,
    }
}

/// Whom `owner` names, where a user is given by login name: for commands of operators.
///
/// # Errors
/// See [`EditError`].
pub fn find_owner(file: &Path, owner: &Principal) -> Result<Principal, EditError> {
    let text = super::file::text_of(file)?;
    let text = text.ok_or_else(|| EditError::Missing(file.to_owned()))?;
    let now = read(file, text).map_err(EditError::Refused)?;
    if let Principal::User(name) = owner {
        let found = now.by_name(name).or_else(|| now.by_id(name));
        let found = found.ok_or_else(|| unknown_user(&now, name))?;
        return Ok(Principal::User(found.id.clone()));
    }
    check_owner(&now, owner)?;
    Ok(owner.clone())
}

fn check_owner(now: &Snapshot, owner: &Principal) -> Result<(), EditError> {
    match owner {
        Principal::User(id) if now.by_id(id).is_none() => Err(unknown_user(now, id)),
        Principal::Group(name) => declared(now, name),
        Principal::Partner(id) if now.partner(id).is_none() => {
            let near = closest(id, &now.partner_ids()).map(str::to_owned);
            Err(EditError::UnknownPartner { id: id.clone(), near })
        }
        Principal::User(_) | Principal::Partner(_) => Ok(()),
        Principal::Guest { .. } => Err(EditError::Value {
            field: "owner",
            value: owner.to_string(),
            remedy: "keys belong to users, groups and partners".to_owned(),
        }),
    }
}

//! `partner` and `key`: make, list and revoke what programs prove themselves with.

use std::path::Path;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::Error;
use super::ask::ask;
use super::out::{say, show_once};
use crate::app::orders::{Answer, Order};
use crate::clock::Clock;
use crate::config::Config;
use crate::directory::Users;
use crate::directory::edit::{self, NewPartner};
use crate::secret::{Secret, random};
use crate::section::parse_duration;
use crate::session::{CREDENTIAL, Key, KeySecret, Principal, SessionId};

/// Partners.
#[derive(Debug, Subcommand)]
pub(super) enum PartnerCommand {
    /// Add a partner with a random admin secret, which is printed once.
    Add {
        /// Id; for the Kaltura API a positive decimal number.
        id: String,
        /// Name for people.
        #[arg(long)]
        name: Option<String>,
        /// E-mail address of its administrator.
        #[arg(long)]
        email: Option<String>,
    },
}

/// API keys and partner keys.
#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    /// Make a key; its secret is printed once.
    Create {
        #[command(flatten)]
        owner: Owner,
        /// What it is for.
        #[arg(long, default_value = "")]
        name: String,
        /// How long it lives, such as 90d; otherwise until it is revoked.
        #[arg(long, value_parser = lifetime)]
        expires: Option<Duration>,
    },
    /// List keys, oldest first.
    List {
        #[command(flatten)]
        owner: MaybeOwner,
        /// As JSON, one object a line.
        #[arg(long)]
        json: bool,
    },
    /// Revoke a key: sessions that were made with it end.
    Revoke {
        /// Id, with or without `credential/`.
        id: String,
    },
}

/// Whom a key belongs to.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(super) struct Owner {
    /// A user, by login name or stable id.
    #[arg(long)]
    user: Option<String>,
    /// A group.
    #[arg(long)]
    group: Option<String>,
    /// A partner, by id.
    #[arg(long)]
    partner: Option<String>,
}

/// Whose keys are meant.
#[derive(Args, Debug)]
#[group(multiple = false)]
pub(super) struct MaybeOwner {
    /// Of a user only, by login name or stable id.
    #[arg(long)]
    user: Option<String>,
    /// Of a group only.
    #[arg(long)]
    group: Option<String>,
    /// Of a partner only, by id.
    #[arg(long)]
    partner: Option<String>,
}

fn lifetime(text: &str) -> Result<Duration, String> {
    let parsed = parse_duration(text).filter(|lifetime| *lifetime >= Duration::from_secs(1));
    parsed.ok_or_else(|| "write it like 90d, 12h or 30m".to_owned())
}

/// The one that is given.
fn owner(
    user: Option<String>,
    group: Option<String>,
    partner: Option<String>,
) -> Option<Principal> {
    let group = group.map(|name| {
        let name = name.strip_prefix("group/").map(str::to_owned).unwrap_or(name);
        Principal::Group(name)
    });
    user.map(Principal::User).or(group).or(partner.map(Principal::Partner))
}

pub(super) fn partner(file: &Path, command: PartnerCommand) -> Result<(), Error> {
    let config = Config::load(file)?;
    let PartnerCommand::Add { id, name, email } = command;
    let bytes: [u8; 16] = random().map_err(Error::new)?;
    let secret = Secret::new(format!("{:032x}", u128::from_be_bytes(bytes)));
    let partner = NewPartner { id: id.clone(), name, email, secret: secret.clone() };
    edit::add_partner(&config.directory.file, &partner).map_err(Error::new)?;
    let text = format!("added the partner {id}\nadmin secret: {}", secret.expose());
    show_once(
        text,
        format!(
            "take the partner {id} out of {} and add it again",
            config.directory.file.display()
        ),
    )
}

pub(super) fn key(file: &Path, command: KeyCommand) -> Result<(), Error> {
    let config = Config::load(file)?;
    match command {
        KeyCommand::Create { owner: Owner { user, group, partner }, name, expires } => {
            let owner = owner(user, group, partner).ok_or_else(|| Error::usage("whose key?"))?;
            create(&config, &owner, name, expires)
        }
        KeyCommand::List { owner: MaybeOwner { user, group, partner }, json } => {
            list(&config, owner(user, group, partner).as_ref(), json)
        }
        KeyCommand::Revoke { id } => {
            let id = id.strip_prefix(CREDENTIAL).unwrap_or(&id).to_owned();
            match ask(&config, &Order::RevokeKey { id: id.clone() })? {
                Answer::Revoked { .. } => {}
                answer => return Err(Error::new(format!("not an answer to this: {answer:?}"))),
            }
            say(format!("revoked {CREDENTIAL}{id}"))
        }
    }
}

fn create(
    config: &Config,
    owner: &Principal,
    name: String,
    expires: Option<Duration>,
) -> Result<(), Error> {
    let users = &config.directory.file;
    let owner = edit::find_owner(users, owner).map_err(Error::new)?;
    let secret = KeySecret::issue().map_err(Error::new)?;
    let id = SessionId::issue().map_err(Error::new)?.to_string();
    let created = Clock::system().now();
    let expires = expires.map(|lifetime| created.plus(lifetime));
    let key = Key { id, name, owner, hash: secret.hash(), created, expires };
    edit::add_key(users, &key).map_err(Error::new)?;
    let text = format!("id: {CREDENTIAL}{}\nsecret: {}", key.id, secret.written().expose());
    show_once(text, format!("portcullis key revoke {}, and make another one", key.id))
}

/// What `key list` shows of a key.
#[derive(Serialize)]
struct Row {
    id: String,
    owner: String,
    name: String,
    created: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
}

fn list(config: &Config, owner: Option<&Principal>, json: bool) -> Result<(), Error> {
    let owner = owner.map(|owner| edit::find_owner(&config.directory.file, owner)).transpose();
    let owner = owner.map_err(Error::new)?;
    if !config.directory.file.exists() {
        return Ok(());
    }
    let opened = Users::open(&config.directory, &config.login.costs());
    let (users, _) = opened.map_err(Error::new)?;
    for key in users.keys() {
        if owner.as_ref().is_some_and(|owner| *owner != key.owner) {
            continue;
        }
        let row = Row {
            id: format!("{CREDENTIAL}{}", key.id),
            owner: key.owner.to_string(),
            name: key.name.clone(),
            created: key.created.rfc3339(),
            expires: key.expires.map(|at| at.rfc3339()),
        };
        say(if json { super::json(&row)? } else { line(&row) })?;
    }
    Ok(())
}

fn line(row: &Row) -> String {
    let ends = row.expires.as_deref().unwrap_or("never");
    format!("{}  {:<24}  created {}  expires {ends}  {}", row.id, row.owner, row.created, row.name)
}

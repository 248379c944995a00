//! `user` and `group`: edit the users file without losing its comments.

use std::path::Path;

use clap::Subcommand;

use super::ask::ask;
use super::out::{say, show_once};
use super::{Error, generated_password, new_password, shadowed_names};
use crate::app::orders::{Answer, Order};
use crate::config::Config;
use crate::directory::Users;
use crate::directory::edit::{self, NewGroup, NewUser};
use crate::secret::{Secret, hash_password};

/// People.
#[derive(Debug, Subcommand)]
pub(super) enum UserCommand {
    /// Add somebody; the password is read from standard input unless --generate is given.
    Add {
        /// Login name.
        name: String,
        /// E-mail address.
        #[arg(long)]
        email: Option<String>,
        /// Name for people.
        #[arg(long)]
        display_name: Option<String>,
        /// A group (repeatable).
        #[arg(long = "group")]
        groups: Vec<String>,
        /// What another API calls them, such as kaltura=ada (repeatable).
        #[arg(long = "alias", value_name = "API=ID", value_parser = alias)]
        aliases: Vec<(String, String)>,
        /// Make a random password and print it once.
        #[arg(long)]
        generate: bool,
    },
    /// Give somebody a new password, read from standard input unless --generate is given. Their open
    /// sessions stay: end them with `session revoke --user NAME`.
    Passwd {
        /// Login name.
        name: String,
        /// Make a random password and print it once.
        #[arg(long)]
        generate: bool,
    },
    /// Disable somebody: all their sessions end at once.
    Disable {
        /// Login name.
        name: String,
    },
    /// Take a `disable` back.
    Enable {
        /// Login name.
        name: String,
    },
}

/// Groups.
#[derive(Debug, Subcommand)]
pub(super) enum GroupCommand {
    /// Add a group.
    Add {
        /// Name.
        name: String,
        /// Name for people.
        #[arg(long)]
        description: Option<String>,
        /// A group that it is a sub-group of (repeatable).
        #[arg(long = "parent")]
        parents: Vec<String>,
    },
}

pub(super) fn user(file: &Path, command: UserCommand) -> Result<(), Error> {
    let config = Config::load(file)?;
    let users = &config.directory.file;
    match command {
        UserCommand::Add { name, email, display_name, groups, aliases, generate } => {
            let password = if generate { generated_password()? } else { new_password()? };
            let hash = hash_password(&password, &config.login.costs()).map_err(Error::new)?;
            let user = NewUser {
                name: name.clone(),
                email,
                display_name,
                groups,
                password: Some(hash),
                aliases,
            };
            let id = edit::add_user(users, &user).map_err(Error::new)?;
            let added = format!("added {name} with the id {id}");
            told(added, generate.then_some(&password), &name)?;
            // Only to warn: it is added.
            if let Ok((users, _)) = Users::open(&config.directory, &config.login.costs()) {
                shadowed_names(&users)?;
            }
        }
        UserCommand::Passwd { name, generate } => {
            let password = if generate { generated_password()? } else { new_password()? };
            let hash = hash_password(&password, &config.login.costs()).map_err(Error::new)?;
            edit::set_password(users, &name, &hash).map_err(Error::new)?;
            let changed = format!(
                "{name} has a new password; sessions that are open stay: portcullis session revoke --user {name}"
            );
            told(changed, generate.then_some(&password), &name)?;
        }
        UserCommand::Disable { name } => {
            edit::set_disabled(users, &name, true).map_err(Error::new)?;
            let ended = ask(&config, &Order::Disabled { user: name.clone() });
            let ended = ended.map_err(|Error { text, .. }| {
                let what = format!("{name} is disabled, but may have sessions: {text}");
                Error::new(format!("{what}\n    fix: portcullis session revoke --user {name}"))
            })?;
            match ended {
                Answer::Revoked { count } => {
                    say(format!("{name} is disabled, {count} session(s) ended"))?;
                }
                answer => return Err(Error::new(format!("not an answer to this: {answer:?}"))),
            }
        }
        UserCommand::Enable { name } => {
            edit::set_disabled(users, &name, false).map_err(Error::new)?;
            say(format!("{name} is enabled"))?;
        }
    }
    Ok(())
}

pub(super) fn group(file: &Path, command: GroupCommand) -> Result<(), Error> {
    let config = Config::load(file)?;
    let GroupCommand::Add { name, description, parents } = command;
    let group = NewGroup { name: name.clone(), description, parents };
    edit::add_group(&config.directory.file, &group).map_err(Error::new)?;
    say(format!("added the group {name}"))
}

/// Says what was done, with a password that was made for it.
fn told(done: String, made: Option<&Secret>, name: &str) -> Result<(), Error> {
    match made {
        None => say(done),
        Some(password) => show_once(
            format!("{done}\npassword: {}", password.expose()),
            format!("portcullis user passwd {name} --generate"),
        ),
    }
}

fn alias(text: &str) -> Result<(String, String), String> {
    let halves = text.split_once('=').filter(|(api, id)| !api.is_empty() && !id.is_empty());
    let (api, id) = halves.ok_or("write it as API=ID, such as kaltura=ada")?;
    Ok((api.to_owned(), id.to_owned()))
}

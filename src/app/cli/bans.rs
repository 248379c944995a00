//! `ban`: lists who must wait after failed logins, and lets them try again.

use std::path::Path;

use clap::Subcommand;

use super::Error;
use super::ask::ask;
use super::out::say;
use crate::app::bans::BanRow;
use crate::app::orders::{Answer, Order};
use crate::config::Config;

/// Delays after failed logins.
#[derive(Debug, Subcommand)]
pub(super) enum BanCommand {
    /// Let somebody try to log in again at once.
    Lift {
        /// Whom: login name, stable id, or what `list` shows.
        #[arg(long, required_unless_present_any = ["network", "all"], conflicts_with = "all")]
        user: Option<String>,
        /// From where: an address, or a network as `list` shows it.
        #[arg(long, conflicts_with = "all")]
        network: Option<String>,
        /// Everybody from everywhere.
        #[arg(long)]
        all: bool,
    },
    /// List who must wait, the longest wait first.
    List {
        /// As JSON, one object a line.
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn ban(file: &Path, command: &BanCommand) -> Result<(), Error> {
    let config = Config::load(file)?;
    let order = match command {
        BanCommand::Lift { user, network, .. } => {
            Order::LiftBans { user: user.clone(), network: network.clone() }
        }
        BanCommand::List { .. } => Order::Bans,
    };
    match ask(&config, &order)? {
        Answer::Bans { bans } => {
            let json = matches!(command, BanCommand::List { json: true });
            for ban in bans {
                say(if json { super::json(&ban)? } else { line(&ban) })?;
            }
        }
        Answer::Lifted { count } => say(format!("forgot {count} count(s) of failed logins"))?,
        answer => return Err(Error::new(format!("not an answer to this: {answer:?}"))),
    }
    Ok(())
}

fn line(ban: &BanRow) -> String {
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    format!(
        "wait {:>4} s  {:<9}  {:<24}  {:<20}  {} failure(s), last {}",
        ban.wait_seconds,
        ban.kind,
        text(&ban.person),
        text(&ban.network),
        ban.failures,
        ban.last
    )
}

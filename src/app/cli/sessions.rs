//! `session`: lists, shows and ends sessions.

use std::path::Path;

use clap::Subcommand;

use super::Error;
use super::ask::ask;
use super::out::{plain, say, warn};
use crate::app::orders::{Answer, Details, Order, Row};
use crate::config::Config;

/// Sessions.
#[derive(Debug, Subcommand)]
pub(super) enum SessionCommand {
    /// List sessions, newest first.
    List {
        /// Of one user only, by login name or stable id.
        #[arg(long)]
        user: Option<String>,
        /// As JSON, one object a line.
        #[arg(long)]
        json: bool,
    },
    /// End sessions at once.
    Revoke {
        /// Public id of a session.
        #[arg(required_unless_present_any = ["user", "all"], conflicts_with_all = ["user", "all"])]
        id: Option<String>,
        /// All sessions of a user, by login name or stable id.
        #[arg(long, conflicts_with = "all")]
        user: Option<String>,
        /// All sessions of everybody.
        #[arg(long)]
        all: bool,
    },
    /// Show all that is known of a session, but its secrets.
    Show {
        /// Public id of a session.
        id: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn session(file: &Path, command: &SessionCommand) -> Result<(), Error> {
    let config = Config::load(file)?;
    let order = match command {
        SessionCommand::List { user, .. } => Order::List { user: user.clone() },
        SessionCommand::Revoke { id: Some(id), .. } => Order::RevokeOne { id: id.clone() },
        SessionCommand::Revoke { user: Some(user), .. } => Order::RevokeUser { user: user.clone() },
        SessionCommand::Revoke { .. } => Order::RevokeAll,
        SessionCommand::Show { id, .. } => Order::Show { id: id.clone() },
    };
    let json = matches!(
        command,
        SessionCommand::List { json: true, .. } | SessionCommand::Show { json: true, .. }
    );
    match ask(&config, &order)? {
        Answer::Revoked { count } => say(format!("ended {count} session(s)"))?,
        Answer::Session { session } if json => say(super::json(&session)?)?,
        Answer::Session { session } => say(page(&session).trim_end())?,
        Answer::Sessions { sessions, more } => {
            for session in &sessions {
                say(if json { super::json(session)? } else { line(session) })?;
            }
            if more {
                warn(format!(
                    "only {} are listed; --user NAME lists all of somebody",
                    sessions.len()
                ));
            }
        }
        answer => return Err(Error::new(format!("not an answer to this: {answer:?}"))),
    }
    Ok(())
}

fn line(session: &Row) -> String {
    let text = format!(
        "{}  {:<20}  {:<24}  seen {}  ends {}  {}  {}",
        session.id,
        session.identifier,
        session.claim,
        session.seen,
        session.ends,
        session.ip,
        session.device
    );
    plain(&text)
}

fn ends(session: &Details) -> String {
    let ends = &session.row.ends;
    match session.idle_seconds {
        Some(limit) => format!("{ends}, unless used within {limit} s"),
        None => ends.clone(),
    }
}

/// One line for each field that has a value.
fn page(session: &Details) -> String {
    let row = &session.row;
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let fields = [
        ("id", row.id.clone()),
        ("user", row.user.clone()),
        ("identifier", row.identifier.clone()),
        ("kind", super::word(&session.kind)),
        ("claim", row.claim.clone()),
        ("extended", if session.extended { "yes".to_owned() } else { String::new() }),
        ("method", format!("{}, level {}", row.method, session.level)),
        ("authenticated", session.authenticated.clone()),
        ("actor", text(&session.actor)),
        ("key", text(&session.key)),
        ("tenant", text(&session.tenant)),
        ("privileges", session.privileges.join(", ")),
        ("parent", text(&session.parent)),
        ("address", row.ip.clone()),
        ("device", row.device.clone()),
        ("user agent", session.agent.clone()),
        ("created", row.created.clone()),
        ("last seen", row.seen.clone()),
        ("ends", ends(session)),
        ("expires", session.expires.clone()),
        ("generation", format!("{}, version {}", session.generation, session.version)),
    ];
    let shown = fields.iter().filter(|(_, value)| !value.is_empty());
    shown.map(|(name, value)| format!("{name:<14} {}\n", plain(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixMs;
    use crate::store::suite;

    #[test]
    fn a_session_without_an_idle_limit_names_none() {
        let mut record = suite::session("u1", UnixMs(1_800_000_000_000));
        let shown = Details::from(&record);
        assert!(page(&shown).contains("unless used within 600 s"), "{}", page(&shown));
        record.idle_ms = u64::MAX;
        let shown = Details::from(&record);
        assert!(!page(&shown).contains("unless used"), "{}", page(&shown));
        let json = super::super::json(&shown).unwrap();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["idle_seconds"], serde_json::Value::Null);
    }

    #[test]
    fn what_a_client_wrote_does_not_speak_to_the_terminal() {
        let mut record = suite::session("u1", UnixMs(1_800_000_000_000));
        record.agent = "a\u{9b}31m\u{1b}\u{7f}".to_owned();
        record.identifier = "b\u{202e}\u{2028}\u{e0041}\n".to_owned();
        let shown = Details::from(&record);
        let row = line(&shown.row);
        assert!(row.contains("b\u{fffd}\u{fffd}\u{fffd}\u{fffd} "), "{row:?}");
        let text = page(&shown);
        assert!(text.contains(" a\u{fffd}31m\u{fffd}\u{fffd}\n"), "{text:?}");
        assert!(text.contains(" b\u{fffd}\u{fffd}\u{fffd}\u{fffd}\n"), "{text:?}");
        let json = super::super::json(&shown).unwrap();
        assert!(json.contains(r"a\u009b31m\u001b\u007f"), "{json}");
        assert!(json.contains(r"b\u202e\u2028\udb40\udc41\n"), "{json}");
        let read: Details = serde_json::from_str(&json).unwrap();
        assert_eq!((read.agent, read.row.identifier), (record.agent, record.identifier));
    }
}

//! `session`: lists and ends sessions, through the running gateway's socket or in its store.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::Subcommand;

use super::Error;
use crate::app::operator::{Answer, Order, carry_out};
use crate::audit::Audit;
use crate::clock::Clock;
use crate::config::Config;

/// How long the running gateway may take to hear the order. For the answer there is no limit: it comes,
/// or the connection ends with the gateway.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sessions.
#[derive(Debug, Subcommand)]
pub(super) enum SessionCommand {
    /// List sessions, newest first.
    List {
        /// Of one user only, by login name.
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
        /// All sessions of a user, by login name.
        #[arg(long, conflicts_with = "all")]
        user: Option<String>,
        /// All sessions of everybody.
        #[arg(long)]
        all: bool,
    },
}

pub(super) fn session(file: &Path, command: &SessionCommand) -> Result<(), Error> {
    let config = Config::load(file)?;
    let order = match command {
        SessionCommand::List { user, .. } => Order::List { user: user.clone() },
        SessionCommand::Revoke { id: Some(id), .. } => Order::RevokeOne { id: id.clone() },
        SessionCommand::Revoke { user: Some(user), .. } => Order::RevokeUser { user: user.clone() },
        SessionCommand::Revoke { .. } => Order::RevokeAll,
    };
    let answer = match ask_running(&config, &order)? {
        Some(answer) => answer,
        None => ask_store(&config, &order)?,
    };
    match answer {
        Answer::Failed { text } => Err(Error::new(text)),
        Answer::Revoked { count } => {
            println!("ended {count} session(s)");
            Ok(())
        }
        Answer::Sessions { sessions } => {
            let json = matches!(command, SessionCommand::List { json: true, .. });
            for session in sessions {
                if json {
                    println!("{}", serde_json::to_string(&session).map_err(Error::new)?);
                } else {
                    println!(
                        "{}  {:<20}  {:<24}  seen {}  ends {}  {}  {}",
                        session.id,
                        session.identifier,
                        session.claim,
                        session.seen,
                        session.ends,
                        session.ip,
                        session.device
                    );
                }
            }
            Ok(())
        }
    }
}

/// Asks the running gateway; `None` when none runs.
fn ask_running(config: &Config, order: &Order) -> Result<Option<Answer>, Error> {
    let mut stream = match UnixStream::connect(&config.server.control) {
        Ok(stream) => stream,
        Err(error)
            if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) =>
        {
            return Ok(None);
        }
        Err(error) => {
            let socket = config.server.control.display();
            let remedy = "run this as the gateway's user";
            return Err(Error::new(format!("cannot reach {socket}: {error}\n    fix: {remedy}")));
        }
    };
    stream.set_write_timeout(Some(PATIENCE)).map_err(Error::new)?;
    let mut line = serde_json::to_string(order).map_err(Error::new)?;
    line.push('\n');
    stream.write_all(line.as_bytes()).map_err(Error::new)?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).map_err(Error::new)?;
    if answer.is_empty() {
        let text = "the gateway stopped before it answered: what it had not done yet is not done";
        return Err(Error::new(format!("{text}\n    fix: run this again")));
    }
    serde_json::from_str(&answer).map(Some).map_err(Error::new)
}

fn ask_store(config: &Config, order: &Order) -> Result<Answer, Error> {
    if !config.directory.file.exists() {
        return Err(Error::new("the gateway has never run here: there are no sessions"));
    }
    let clock = Clock::system();
    let audit = Arc::new(Audit::silent(clock.clone()));
    let (authority, users, _) = crate::app::open_core(config, &clock, audit).map_err(Error::new)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(Error::new)?;
    Ok(runtime.block_on(carry_out(order, &authority, &*users, &clock)))
}

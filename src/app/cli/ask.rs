//! Has an order of an operator carried out: by the running gateway, or right at the store.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use super::Error;
use crate::app::build::open_store;
use crate::app::no_loop;
use crate::app::orders::{Answer, Order, carry_out};
use crate::clock::Clock;
use crate::config::Config;
use crate::directory::Users;
use crate::secret::Secret;
use crate::session::{Account, Directory, Group};

/// How long the running gateway may take to hear the order. For the answer there is no limit: it comes,
/// or the connection ends with the gateway.
const PATIENCE: Duration = Duration::from_secs(10);

/// The answer to an order.
pub(super) fn ask(config: &Config, order: &Order) -> Result<Answer, Error> {
    let answer = match ask_running(config, order)? {
        Some(answer) => answer,
        // One that was about to start has the store now, and answers.
        None => match ask_store(config, order) {
            Err(error) => ask_running(config, order)?.ok_or(error)?,
            Ok(answer) => answer,
        },
    };
    match answer {
        Answer::Failed { text } => Err(Error::new(text)),
        answer => Ok(answer),
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
    let answer = listen(stream, config)?;
    if answer.is_empty() {
        let text = "the gateway stopped before it answered: what it had not done yet is not done";
        return Err(Error::new(format!("{text}\n    fix: run this again")));
    }
    serde_json::from_str(&answer).map(Some).map_err(Error::new)
}

/// The line that the gateway answers. Says that it waits, when that takes long.
fn listen(stream: UnixStream, config: &Config) -> Result<String, Error> {
    stream.set_read_timeout(Some(PATIENCE)).map_err(Error::new)?;
    let (mut answer, mut reader) = (String::new(), BufReader::new(stream));
    loop {
        match reader.read_line(&mut answer) {
            Ok(_) => return Ok(answer),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                let socket = config.server.control.display();
                eprintln!(
                    "waiting for the running gateway, which has not answered yet at {socket}"
                );
            }
            Err(error) => return Err(Error::new(error)),
        }
    }
}

/// A store that others share is asked wherever it can be reached, also where there are no users.
fn ask_store(config: &Config, order: &Order) -> Result<Answer, Error> {
    let directory: Arc<dyn Directory> = if config.directory.file.exists() {
        let opened = Users::open(&config.directory, &config.login.costs());
        Arc::new(opened.map_err(|refused| Error::from(refused.problems))?.0)
    } else if config.store.is_shared() {
        Arc::new(Nobody)
    } else {
        return Err(Error::new("the gateway has never run here: there are no sessions"));
    };
    if let Some(missing) = config.store.missing() {
        if matches!(order, Order::Disabled { .. }) {
            return Ok(Answer::Revoked { count: 0 });
        }
        // Not made: as another user it would be in the gateway's way.
        let what = format!("there is no store at {}", missing.display());
        return Err(Error::new(format!(
            "{what}: no gateway has run here\n    fix: see [store] path"
        )));
    }
    let clock = Clock::system();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Error::new(no_loop(error)))?;
    let authority = open_store(config, Arc::clone(&directory), &clock).map_err(Error::new)?;
    Ok(runtime.block_on(carry_out(order, &authority, &*directory, &clock)))
}

/// No directory at all.
#[derive(Debug)]
struct Nobody;

impl Directory for Nobody {
    fn epoch(&self) -> u64 {
        0
    }

    fn by_login(&self, _identifier: &str) -> Option<Arc<Account>> {
        None
    }

    fn by_id(&self, _id: &str) -> Option<Arc<Account>> {
        None
    }

    fn group(&self, _name: &str) -> Option<Arc<Group>> {
        None
    }

    fn below(&self, _name: &str) -> Vec<String> {
        Vec::new()
    }

    fn members(&self, _group: &str) -> Vec<Arc<Account>> {
        Vec::new()
    }

    fn rehash(&self, _id: &str, _old: &Secret, _new: &Secret) -> Result<(), String> {
        Err("there is no directory".to_owned())
    }
}

//! The operator's socket: orders of `portcullis session ...` to the running gateway.
//!
//! A unix socket that only the gateway's own user can open; one JSON line each way.

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::UnixListener;
use tokio::time::timeout;

use crate::audit::Origin;
use crate::clock::Clock;
use crate::directory::Users;
use crate::pages::device_name;
use crate::session::{Authority, Directory, Record, Refusal};

/// Bytes of an order.
const ORDER: u64 = 4096;
/// How long a caller may take to say it, and to take the answer. Carrying it out has no limit: all
/// sessions of a large gateway do not end within seconds.
const PATIENCE: Duration = Duration::from_secs(5);
/// Sessions that one answer lists.
const LISTED: usize = 10_000;
/// Sessions that are looked at together when all are to end.
const PAGE: usize = 4096;

/// What an operator asks for.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", tag = "order")]
pub(super) enum Order {
    /// Sessions, of one user or of all.
    List {
        /// Login name.
        user: Option<String>,
    },
    /// End all sessions.
    RevokeAll,
    /// End one session.
    RevokeOne {
        /// Public id.
        id: String,
    },
    /// End all sessions of a user.
    RevokeUser {
        /// Login name.
        user: String,
    },
}

/// What came of it.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", tag = "answer")]
pub(super) enum Answer {
    /// Nothing, for this reason.
    Failed {
        /// What happened and what to do.
        text: String,
    },
    /// Sessions were ended.
    Revoked {
        /// How many.
        count: usize,
    },
    /// Sessions, newest first.
    Sessions {
        /// At most 10,000.
        sessions: Vec<Row>,
    },
}

/// A session as operators see it.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Row {
    pub(super) id: String,
    pub(super) user: String,
    pub(super) identifier: String,
    pub(super) claim: String,
    pub(super) method: String,
    pub(super) created: String,
    pub(super) seen: String,
    pub(super) ends: String,
    pub(super) ip: String,
    pub(super) device: String,
}

impl From<&Record> for Row {
    fn from(record: &Record) -> Self {
        Self {
            id: record.id.to_string(),
            user: record.user.clone(),
            identifier: record.identifier.clone(),
            claim: record.claim.clone(),
            method: record.method.clone(),
            created: record.created.rfc3339(),
            seen: record.seen.rfc3339(),
            ends: record.ends().rfc3339(),
            ip: record.ip.map(|ip| ip.to_string()).unwrap_or_default(),
            device: device_name(&record.agent),
        }
    }
}

/// Carries out an order.
pub(super) async fn carry_out(
    order: &Order,
    authority: &Arc<Authority>,
    users: &dyn Directory,
    clock: &Clock,
) -> Answer {
    match obey(order, authority, users, clock).await {
        Ok(answer) => answer,
        Err(text) => Answer::Failed { text },
    }
}

async fn obey(
    order: &Order,
    authority: &Arc<Authority>,
    users: &dyn Directory,
    clock: &Clock,
) -> Result<Answer, String> {
    let words = |refusal: Refusal| refusal.to_string();
    let id_of = |name: &str| match users.by_login(name) {
        Some(account) => Ok(account.id.clone()),
        None => Err(format!("there is no user \"{name}\"")),
    };
    let origin = Origin::default();
    match order {
        Order::List { user } => {
            let store = authority.store();
            let found = match user {
                Some(name) => store.of_user(&id_of(name)?).await,
                None => store.list(LISTED).await,
            };
            let mut records = found.map_err(|error| error.to_string())?;
            records.retain(|record| record.ends() > clock.now());
            records.sort_by_key(|record| std::cmp::Reverse(record.created));
            Ok(Answer::Sessions { sessions: records.iter().map(Row::from).collect() })
        }
        Order::RevokeOne { id } => {
            let id = id.strip_prefix("session/").unwrap_or(id);
            let id = id.parse().map_err(|_| format!("\"{id}\" is not the id of a session"))?;
            match authority.end(id, "ended-by-operator", &origin).await.map_err(words)? {
                true => Ok(Answer::Revoked { count: 1 }),
                false => Err("there is no such session".to_owned()),
            }
        }
        Order::RevokeUser { user } => {
            let id = id_of(user)?;
            let count = authority.end_all(&id, "ended-by-operator", &origin).await;
            Ok(Answer::Revoked { count: count.map_err(words)? })
        }
        Order::RevokeAll => {
            let mut count = 0;
            loop {
                let page = authority.store().list(PAGE).await.map_err(|error| error.to_string())?;
                let ids: Vec<_> = page.iter().map(|record| record.id).collect();
                let ended = authority.end_these(&ids, "ended-by-operator", &origin).await;
                match ended.map_err(words)? {
                    0 => return Ok(Answer::Revoked { count }),
                    ended => count += ended,
                }
            }
        }
    }
}

/// Opens the socket, in place of one that a dead gateway left.
pub(super) fn open(path: &Path) -> io::Result<UnixListener> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another gateway listens there"));
    }
    close(path)?;
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Removes the socket at `path`, if there is one.
///
/// # Errors
/// When it cannot be removed, or something else has that name: a misspelt `control` must not cost
/// anybody a file.
pub(super) fn close(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path),
        Ok(_) => Err(io::Error::new(io::ErrorKind::AlreadyExists, "it is not a socket")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Takes orders, one at a time, until the future is dropped.
pub(super) async fn listen(
    listener: UnixListener,
    authority: Arc<Authority>,
    users: Arc<Users>,
    clock: Clock,
) {
    loop {
        let accepted = listener.accept().await;
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        if let Err(error) = talk(stream, &authority, &*users, &clock).await {
            tracing::debug!(%error, "an operator's order was not understood or not taken");
        }
    }
}

async fn talk(
    stream: impl AsyncRead + AsyncWrite,
    authority: &Arc<Authority>,
    users: &dyn Directory,
    clock: &Clock,
) -> io::Result<()> {
    let (read, mut write) = tokio::io::split(stream);
    let (mut line, mut read) = (String::new(), BufReader::new(read.take(ORDER)));
    timeout(PATIENCE, read.read_line(&mut line)).await??;
    let answer = match serde_json::from_str::<Order>(&line) {
        Ok(order) => carry_out(&order, authority, users, clock).await,
        Err(error) => Answer::Failed { text: format!("not an order: {error}") },
    };
    let mut text = serde_json::to_string(&answer)?;
    text.push('\n');
    timeout(PATIENCE, write.write_all(text.as_bytes())).await?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;
    use crate::session::testing::World;
    use crate::session::{Caller, Command, Credentials, Outcome};

    async fn login(world: &World) {
        let (identifier, word) = ("alice".to_owned(), "alice".to_owned());
        let alice = Credentials::Password { identifier, password: Secret::new(word) };
        let caller = Caller::default();
        let outcome = world.authority.execute(Command::Login(alice), &caller).await.unwrap();
        assert!(matches!(outcome, Outcome::Opened(..)));
    }

    async fn until(what: &str, mut holds: impl FnMut() -> bool) {
        for _ in 0..10_000 {
            if holds() {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("never happened: {what}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_revocation_that_takes_long_is_carried_out_whole() {
        for order in [
            &b"{\"order\": \"revoke-all\"}\n"[..],
            b"{\"order\": \"revoke-user\", \"user\": \"alice\"}\n",
        ] {
            let world = World::allowing(600);
            for _ in 0..600 {
                login(&world).await;
            }
            world.store.hold();
            let (mut operator, stream) = tokio::io::duplex(4096);
            let (authority, people) = (Arc::clone(&world.authority), Arc::clone(&world.people));
            let clock = world.clock.clone();
            let talk =
                tokio::spawn(async move { talk(stream, &authority, &*people, &clock).await });
            operator.write_all(order).await.unwrap();
            for together in [256, 256, 88] {
                until("many ends at once", || world.store.waiting() == together).await;
                tokio::time::advance(PATIENCE).await;
                world.store.step();
            }
            let mut answer = String::new();
            operator.read_to_string(&mut answer).await.unwrap();
            assert_eq!(answer, "{\"answer\":\"revoked\",\"count\":600}\n");
            assert_eq!(world.store.len(), 0);
            talk.await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn only_a_socket_is_removed_to_make_room() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control");
        std::fs::write(&path, "somebody's work").unwrap();
        let refused = open(&path).unwrap_err();
        assert_eq!(refused.to_string(), "it is not a socket");
        assert!(close(&path).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "somebody's work");
        std::fs::remove_file(&path).unwrap();
        // What a dead gateway leaves.
        drop(open(&path).unwrap());
        assert!(path.exists());
        let _listener = open(&path).unwrap();
        assert_eq!(open(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        close(&path).unwrap();
        assert!(!path.exists());
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_who_says_nothing_is_left() {
        let world = World::new();
        let (_operator, stream) = tokio::io::duplex(64);
        let talk = talk(stream, &world.authority, &*world.people, &world.clock);
        assert_eq!(talk.await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}

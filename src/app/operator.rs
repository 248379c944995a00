//! The operator's socket: orders of `portcullis session ...` and `ban ...` to the running gateway.
//!
//! A unix socket that only the gateway's own user can open; one JSON line each way.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::UnixListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use super::Gateway;
use super::orders::{Answer, Order, carry_out};
use crate::clock::Clock;
use crate::directory::Users;
use crate::session::{Authority, Directory};
use crate::threads::aside;

/// Bytes of an order.
const ORDER: u64 = 4096;
/// How long a caller may take to say it, and to take the answer. Carrying it out has no limit: all
/// sessions of a large gateway do not end within seconds.
const PATIENCE: Duration = Duration::from_secs(5);
/// Callers at a time.
const CALLERS: usize = 16;

/// The socket of a running gateway. Dropping it removes the socket.
#[derive(Debug)]
pub(super) struct Desk {
    path: PathBuf,
    /// Which one it is: another gateway may have put its own there.
    mark: Mark,
    /// Until somebody serves it.
    listener: Option<UnixListener>,
    task: Option<JoinHandle<()>>,
}

impl Desk {
    /// Opens the socket at `path`, in place of one that a dead gateway left.
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        let listener = UnixListener::from_std(bind(&path)?)?;
        let mark = Mark::of(&path);
        Ok(Self { path, mark, listener: Some(listener), task: None })
    }

    /// Takes orders.
    pub(super) fn serve(&mut self, gateway: &Gateway) {
        let Some(listener) = self.listener.take() else { return };
        let (authority, users) = (Arc::clone(&gateway.authority), Arc::clone(&gateway.users));
        let listening = listen(listener, authority, users, gateway.clock.clone());
        if let Some(former) = self.task.replace(tokio::spawn(listening)) {
            former.abort();
        }
    }

    /// Makes the socket anew when it is gone: somebody tidied up, or put other data in its place.
    pub(super) async fn look(&mut self, gateway: &Gateway) {
        let path = self.path.clone();
        let made = aside("look-at-control", move || match path.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Some(bind(&path)),
            _ => None,
        });
        let Ok(Some(made)) = made.await else { return };
        let path = self.path.display();
        match made.and_then(UnixListener::from_std) {
            Ok(listener) => {
                tracing::warn!(%path, "the socket for operators' commands was gone: made anew");
                self.mark = Mark::of(&self.path);
                self.listener = Some(listener);
                self.serve(gateway);
            }
            Err(error) => tracing::debug!(%path, %error, "no socket for operators' commands"),
        }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
        if self.mark == Mark::of(&self.path) {
            // Nobody is there to be told; the next gateway removes what is left.
            let _ = close(&self.path);
        }
    }
}

/// Which file lies at a path, if any.
#[derive(Debug, PartialEq, Eq)]
struct Mark(Option<(u64, u64)>);

impl Mark {
    fn of(path: &Path) -> Self {
        Self(path.symlink_metadata().ok().map(|found| (found.dev(), found.ino())))
    }
}

fn bind(path: &Path) -> io::Result<StdListener> {
    if let Some(directory) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another gateway listens there"));
    }
    close(path)?;
    let listener = StdListener::bind(path)?;
    listener.set_nonblocking(true)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Removes the socket at `path`, if there is one.
///
/// # Errors
/// When it cannot be removed, or something else has that name: a misspelt `control` must not cost
/// anybody a file.
fn close(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path),
        Ok(_) => Err(io::Error::new(io::ErrorKind::AlreadyExists, "it is not a socket")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Takes orders until the future is dropped. One caller who says nothing must not hold up another's.
async fn listen(
    listener: UnixListener,
    authority: Arc<Authority>,
    users: Arc<Users>,
    clock: Clock,
) {
    let mut talks = JoinSet::new();
    loop {
        while talks.try_join_next().is_some() {}
        if talks.len() >= CALLERS {
            talks.join_next().await;
        }
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (authority, users, clock) = (Arc::clone(&authority), Arc::clone(&users), clock.clone());
        talks.spawn(async move {
            if let Err(error) = talk(stream, &authority, &*users, &clock).await {
                tracing::debug!(%error, "an operator's order was not understood or not taken");
            }
        });
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
        let outcome = world.authority.execute(Command::login(alice), &caller).await.unwrap();
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

    #[tokio::test(start_paused = true)]
    async fn callers_who_say_nothing_hold_up_nobody() {
        let world = World::new();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control");
        let listener = UnixListener::from_std(bind(&path).unwrap()).unwrap();
        let users = directory.path().join("users.toml");
        let settings = crate::directory::Settings { file: users };
        let costs = crate::secret::Costs { memory_kib: 8, passes: 1, lanes: 1 };
        let users = Arc::new(Users::open(&settings, &costs).unwrap().0);
        let (authority, clock) = (Arc::clone(&world.authority), world.clock.clone());
        let listening = tokio::spawn(listen(listener, authority, users, clock));
        let mut silent = Vec::new();
        for _ in 1..CALLERS {
            silent.push(tokio::net::UnixStream::connect(&path).await.unwrap());
        }
        let mut operator = tokio::net::UnixStream::connect(&path).await.unwrap();
        operator.write_all(b"{\"order\": \"bans\"}\n").await.unwrap();
        let mut answer = String::new();
        operator.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "{\"answer\":\"bans\",\"bans\":[]}\n");
        drop(silent);
        listening.abort();
    }

    #[tokio::test]
    async fn only_a_socket_is_removed_to_make_room() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control");
        std::fs::write(&path, "somebody's work").unwrap();
        let refused = bind(&path).unwrap_err();
        assert_eq!(refused.to_string(), "it is not a socket");
        assert!(close(&path).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "somebody's work");
        std::fs::remove_file(&path).unwrap();
        // What a dead gateway leaves.
        drop(bind(&path).unwrap());
        assert!(path.exists());
        let _listener = bind(&path).unwrap();
        assert_eq!(bind(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
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

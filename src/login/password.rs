//! Login by password: one hash per attempt, on threads of its own, whoever was named.
//!
//! Somebody unknown, disabled or without a password costs the same work as a wrong password: a hash
//! with the configured costs. An account whose stored hash has other costs, or is of another kind,
//! takes that hash's time until its first login, which replaces the hash.

use std::fmt;
use std::io;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use super::pool::Pool;
use super::{Context, Kind, Plan};
use crate::clock::{Clock, UnixMs};
use crate::secret::{Costs, PasswordHash, Secret, hash_password};
use crate::section::Section;
use crate::session::{Account, BoxFuture, Credentials, Directory, LoginError, Method, Proven};

/// The registration.
pub(super) static KIND: Kind = Kind { name: NAME, read };

const NAME: &str = "password";

/// Longest password, in bytes. A longer one is refused without any work, whoever is named: the answer
/// depends on what the caller sent alone, so its speed tells nothing.
pub(super) const LENGTH: usize = 1024;

/// Memory in KiB, passes: each pair is a minimum of the OWASP Password Storage Cheat Sheet.
const MINIMA: [(u32, u32); 5] = [(47_104, 1), (19_456, 2), (12_288, 3), (9_216, 4), (7_168, 5)];

/// After a hash could not be replaced, none is tried for this long.
const REHASH_PAUSE: Duration = Duration::from_secs(10 * 60);

/// The `[login.password]` table.
#[derive(Clone, Copy, Debug)]
struct Settings {
    costs: Costs,
    parallel: usize,
    queue: usize,
}

fn read(section: &mut Section) -> Option<Arc<dyn Plan>> {
    let enabled = section.flag("enabled", true);
    let costs = read_costs(section);
    // The other half is left to requests: a thread may wait for a core that hashes for as long as the
    // scheduler lets that go on, which is longer than most requests take.
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let parallel = number(section, "parallel", (cores / 2).clamp(1, 256), 256);
    let queue = number(section, "queue", 64, 65_536);
    enabled.then(|| Arc::new(Settings { costs, parallel, queue }) as Arc<dyn Plan>)
}

fn number(section: &mut Section, key: &'static str, default: usize, most: u64) -> usize {
    let number = section.count(key, default as u64, 1..=most);
    usize::try_from(number).unwrap_or(default)
}

fn read_costs(section: &mut Section) -> Costs {
    let default = Costs::default();
    let mut cost = |key, default: u32, least, most| {
        let number = section.count(key, default.into(), least..=most);
        u32::try_from(number).unwrap_or(default)
    };
    let costs = Costs {
        memory_kib: cost("m_cost", default.memory_kib, 7_168, 1 << 20),
        passes: cost("t_cost", default.passes, 1, 16),
        lanes: cost("p_cost", default.lanes, 1, 16),
    };
    let strong = |(memory, passes)| costs.memory_kib >= memory && costs.passes >= passes;
    if !MINIMA.into_iter().any(strong) {
        let pairs = MINIMA.map(|(memory, passes)| format!("{memory}/{passes}")).join(", ");
        let what = "these costs make hashes that are too weak";
        section.problem("m_cost", what, format!("use at least one of m_cost/t_cost = {pairs}"));
    }
    costs
}

impl Plan for Settings {
    fn start(&self, context: &Context) -> io::Result<Box<dyn Method>> {
        let (directory, clock) = (Arc::clone(&context.directory), context.clock.clone());
        Ok(Box::new(Password::start(self.costs, self.parallel, self.queue, directory, clock)?))
    }

    fn costs(&self) -> Option<Costs> {
        Some(self.costs)
    }
}

/// The method.
pub struct Password {
    pool: Pool,
    checker: Arc<Checker>,
}

/// What the threads share.
struct Checker {
    directory: Arc<dyn Directory>,
    clock: Clock,
    costs: Costs,
    /// Of a password that nobody has.
    dummy: PasswordHash,
    /// Checks done since the start.
    checks: AtomicU64,
    /// No hash is replaced before this time.
    rehash_from: AtomicU64,
}

impl Password {
    /// Starts `parallel` threads with a queue of `queue` attempts in front; each thread takes the
    /// memory of one hash while it works.
    ///
    /// # Errors
    /// When there are no threads, no randomness, or the costs are outside what argon2 allows.
    pub fn start(
        costs: Costs,
        parallel: usize,
        queue: usize,
        directory: Arc<dyn Directory>,
        clock: Clock,
    ) -> io::Result<Self> {
        let dummy = PasswordHash::of_nobody(&costs).map_err(io::Error::other)?;
        let (checks, rehash_from) = (AtomicU64::new(0), AtomicU64::new(0));
        let checker = Checker { directory, clock, costs, dummy, checks, rehash_from };
        Ok(Self { pool: Pool::start(parallel, queue)?, checker: Arc::new(checker) })
    }

    /// Hashes that were computed to check passwords, since the start.
    pub fn checks(&self) -> u64 {
        self.checker.checks.load(Ordering::Relaxed)
    }

    async fn check(&self, name: &str, password: &Secret) -> Result<Arc<Account>, LoginError> {
        if !(1..=LENGTH).contains(&password.expose().len()) {
            return Err(LoginError::Invalid);
        }
        let account = self.checker.directory.by_login(name);
        let (reply, answer) = oneshot::channel();
        let attempt = Attempt { account: account.clone(), password: password.clone(), reply };
        let checker = Arc::clone(&self.checker);
        self.pool.submit(move || checker.run(attempt)).map_err(|_| LoginError::Busy)?;
        // No answer: the thread panicked, which it has logged.
        let right = answer.await.ok().flatten().ok_or(LoginError::Busy)?;
        account.filter(|_| right).ok_or(LoginError::Invalid)
    }
}

impl Method for Password {
    fn name(&self) -> &'static str {
        NAME
    }

    fn verify<'a>(
        &'a self,
        credentials: &'a Credentials,
    ) -> BoxFuture<'a, Result<Proven, LoginError>> {
        Box::pin(async move {
            match credentials {
                Credentials::Password { identifier, password } => {
                    self.check(identifier, password).await.map(Proven::Account)
                }
                Credentials::ApiKey { .. } => Err(LoginError::Unsupported),
            }
        })
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Password").field("costs", &self.checker.costs).finish_non_exhaustive()
    }
}

struct Attempt {
    account: Option<Arc<Account>>,
    password: Secret,
    /// `None`: nothing was found out.
    reply: oneshot::Sender<Option<bool>>,
}

impl Checker {
    fn run(&self, attempt: Attempt) {
        let Attempt { account, password, reply } = attempt;
        if reply.is_closed() {
            // The caller has gone while this waited in the queue.
            return;
        }
        let account = account.as_deref().filter(|account| !account.disabled);
        let stored = account.and_then(|account| Some((account, account.password.as_ref()?)));
        let stored = stored.and_then(|(account, text)| {
            let hash = PasswordHash::parse(text.expose()).ok()?;
            Some((account, text, hash))
        });
        self.checks.fetch_add(1, Ordering::Relaxed);
        let Some((account, text, hash)) = stored else {
            let checked = std::hint::black_box(self.dummy.verify(&password));
            // A caller that has gone does not matter here.
            let _ = reply.send(checked.map(|_| false).ok());
            return;
        };
        // For want of memory, a right password must not pass for a wrong one.
        let checked = hash.verify(&password).inspect_err(|error| {
            tracing::error!(%error, "a password cannot be checked: give the gateway more memory");
        });
        // Answered first: nobody waits for the new hash.
        let _ = reply.send(checked.ok());
        if checked == Ok(true) && !hash.is_current(&self.costs) && !hash.cuts(&password) {
            self.renew(account, text, &password);
        }
    }

    /// Replaces a hash of another kind or of other costs, lower or higher: with equal costs for
    /// everybody, the time of an answer tells nothing.
    fn renew(&self, account: &Account, old: &Secret, password: &Secret) {
        let now = self.clock.now();
        if now < UnixMs(self.rehash_from.load(Ordering::Relaxed)) {
            return;
        }
        let renewed = hash_password(password, &self.costs)
            .map_err(|error| error.to_string())
            .and_then(|new| self.directory.rehash(&account.id, old, &new));
        if let Err(error) = renewed {
            self.rehash_from.store(now.plus(REHASH_PAUSE).0, Ordering::Relaxed);
            tracing::warn!(user = account.id, error, "a password hash could not be renewed");
        }
    }
}

#[cfg(test)]
mod tests;

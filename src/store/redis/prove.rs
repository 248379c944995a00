//! Proofs: an answer on the connection that tells of changes, and how soon such word comes.
//!
//! Renews the lease and opens the breaker; connects nothing.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, ServerErrorKind, Value, cmd, from_redis_value};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::error::Failure;
use super::link::{Link, Role, Up};

/// How long what was read is trusted after a proof was asked for. Less than the second that is
/// promised: workers look at their open streams ten times a second.
const LEASE: Duration = Duration::from_millis(850);
/// How often proof is asked for.
const PROBE: Duration = Duration::from_millis(200);
/// At which of the probes the lag of invalidations is measured.
const LAG_EVERY: u64 = 5;
/// How soon again when the probe was sent to the wrong node.
const AGAIN: Duration = Duration::from_millis(60);
/// A server that has not answered for so long is not asked by requests any more.
const DOUBT: Duration = Duration::from_millis(250);
/// A server that has not answered for so long is given up.
const HUNG: Duration = Duration::from_secs(1);

impl Link {
    /// Asks for proof after proof, until there is none; tells why.
    pub(super) async fn keep_proving(&self, up: &Up) -> String {
        let mut ticks = interval(PROBE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut round = 0_u64;
        loop {
            ticks.tick().await;
            if round.is_multiple_of(LAG_EVERY) {
                tokio::spawn(self.canary(up));
            }
            round = round.wrapping_add(1);
            let probe = self.prove(up);
            tokio::pin!(probe);
            let outcome = match timeout(DOUBT, &mut probe).await {
                Ok(outcome) => outcome,
                Err(_) => {
                    up.suspect.store(true, Ordering::Relaxed);
                    match timeout(HUNG.saturating_sub(DOUBT), probe).await {
                        Ok(outcome) => outcome,
                        Err(_) => return format!("it has not answered for {HUNG:?}"),
                    }
                }
            };
            match outcome {
                Ok(proven) => {
                    up.suspect.store(false, Ordering::Relaxed);
                    if !proven {
                        ticks.reset_after(AGAIN);
                    }
                }
                Err(failure) => {
                    self.common.metrics.failed(failure.kind());
                    return failure.to_string();
                }
            }
        }
    }

    /// Changes a key of this node's own, to see how long it takes until that is told.
    fn canary(&self, up: &Up) -> impl Future<Output = ()> + Send + use<> {
        let common = Arc::clone(&self.common);
        let mut write = up.write.clone();
        let key = common.keys.canary(&self.probe.load());
        let mut change = cmd("SET");
        change.arg(&key).arg("").arg("PX").arg(10_000);
        async move {
            common.canary_sent(key.into_bytes());
            let changed = timeout(HUNG, change.query_async::<()>(&mut write)).await;
            if !matches!(changed, Ok(Ok(()))) {
                tracing::debug!("the lag of invalidations is not known for now");
            }
        }
    }

    /// Asks for an answer, and renews the lease from when it was asked for. False when the probe's slot
    /// has moved: that proves nothing.
    pub(super) async fn prove(&self, up: &Up) -> Result<bool, Failure> {
        let asked = self.common.clock.now();
        let mut read = up.read.clone();
        match self.role {
            Role::Any | Role::Node => {
                // Not PING, which is refused with all writes when the disk is full.
                let mut probe = cmd("EXISTS");
                probe.arg(self.probe.load().as_str());
                match probe.query_async::<u32>(&mut read).await {
                    Ok(_) => {}
                    // On its way to another node: only who still serves the slot says that.
                    Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::Ask) => {}
                    // The slot has moved: without a proof the lease ends, until another slot is known.
                    Err(error) if error.redirect_node().is_some() => {
                        self.common.astray.notify_one();
                        return Ok(false);
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            Role::Master => {
                let role: Vec<Value> = match cmd("ROLE").query_async(&mut read).await {
                    Ok(role) => role,
                    // Not allowed to know: writes will tell.
                    Err(error) if Failure::from(error.clone()).is_denied() => Vec::new(),
                    Err(error) => return Err(error.into()),
                };
                let role = role.into_iter().next().map(from_redis_value::<String>).transpose();
                if role.is_ok_and(|role| role.is_some_and(|role| role != "master")) {
                    return Err(Failure::Down("it is not the master any more"));
                }
            }
        }
        let lapsed = !up.lease.holds(self.common.clock.now());
        up.lease.renew(asked.plus(LEASE).plus(self.common.stale));
        if lapsed && let Some(watcher) = self.common.watcher.get() {
            watcher.reconnected();
        }
        self.proven.store(asked.0, Ordering::Relaxed);
        Ok(true)
    }

    /// By how much the server's clock is ahead of ours. Fixed for the life of a connection, so that
    /// what is read is what was written.
    pub(super) async fn measure(&self, read: &mut MultiplexedConnection) -> Result<i64, Failure> {
        let asked = self.common.clock.now();
        let (seconds, micros): (u64, u64) = cmd("TIME").query_async(read).await?;
        let answered = self.common.clock.now();
        let ours = asked.0 / 2 + answered.0 / 2;
        let theirs = seconds.saturating_mul(1000).saturating_add(micros / 1000);
        i64::try_from(i128::from(theirs) - i128::from(ours)).map_err(|_| Failure::Nonsense)
    }
}

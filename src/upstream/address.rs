//! One address of an app: how it does, by what requests see and by health checks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::Upstream;
use super::connect::is_lack;
use super::settings::{Health, Protocol, Target};
use crate::clock::UnixMs;

/// An address with its state, shared by all workers.
#[derive(Debug)]
pub struct Address {
    /// Where it is.
    pub target: Target,
    failures: AtomicU32,
    /// Until when it is left out, in ms since the epoch.
    ejected: AtomicU64,
    /// What the last health checks said.
    unwell: AtomicBool,
}

impl Address {
    pub(super) fn new(target: Target) -> Self {
        Self {
            target,
            failures: AtomicU32::new(0),
            ejected: AtomicU64::new(0),
            unwell: AtomicBool::new(false),
        }
    }

    /// Whether requests may go there.
    pub fn is_available(&self, now: UnixMs) -> bool {
        !self.unwell.load(Ordering::Relaxed) && now.0 >= self.ejected.load(Ordering::Relaxed)
    }

    /// Whether nothing is known against it: no ejection that still has to be proven over.
    pub(super) fn is_sound(&self) -> bool {
        !self.unwell.load(Ordering::Relaxed) && self.ejected.load(Ordering::Relaxed) == 0
    }

    /// After an ejection only one request tries; the others wait for what it finds.
    pub(super) fn claim(&self, now: UnixMs, eject_for: Duration) -> bool {
        let until = self.ejected.load(Ordering::Relaxed);
        if until == 0 {
            return true;
        }
        let next = now.plus(eject_for).0;
        let order = Ordering::Relaxed;
        now.0 >= until && self.ejected.compare_exchange(until, next, order, order).is_ok()
    }

    pub(super) fn worked(&self) {
        // Read first: the usual case writes nothing to shared memory.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
        if self.ejected.load(Ordering::Relaxed) != 0 {
            self.ejected.store(0, Ordering::Relaxed);
        }
    }

    pub(super) fn failed(&self, now: UnixMs, max_failures: u32, eject_for: Duration) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if failures >= max_failures {
            self.ejected.store(now.plus(eject_for).0, Ordering::Relaxed);
        }
    }
}

/// Checks the addresses of `upstream` in turn until the future is dropped. Runs on the control runtime.
pub async fn check_health(upstream: Arc<Upstream>, health: Health) {
    let mut ticks = tokio::time::interval(health.interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for address in &upstream.addresses {
            let probe = probe(&upstream, address, &health.path);
            let probed = timeout(health.timeout, probe).await;
            if matches!(&probed, Ok(Err(error)) if is_lack(error)) {
                continue;
            }
            let well = matches!(probed, Ok(Ok(true)));
            let was_unwell = address.unwell.swap(!well, Ordering::Relaxed);
            if was_unwell == well {
                let (host, port) = (&address.target.host, address.target.port);
                tracing::warn!(upstream = upstream.settings.name, host, port, well, "health");
            }
            if well && was_unwell {
                address.worked();
            }
        }
    }
}

/// One check on a connection of its own. An app that speaks HTTP/2 only is asked for a connection.
async fn probe(upstream: &Upstream, address: &Address, path: &str) -> std::io::Result<bool> {
    let mut stream = super::connect::open(upstream, &address.target).await?;
    if upstream.settings.protocol == Protocol::Http2 {
        return Ok(true);
    }
    let host = &address.target.host;
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: portcullis-health\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    let mut start = [0; 12];
    stream.read_exact(&mut start).await?;
    Ok(start.starts_with(b"HTTP/1.") && matches!(start.get(9), Some(b'2' | b'3')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ejected_address_is_tried_by_one_request() {
        let target = Target { host: "h".to_owned(), port: 1, tls: false };
        let address = Address::new(target);
        let pause = Duration::from_secs(10);
        for _ in 0..3 {
            assert!(address.claim(UnixMs(1_000), pause));
            address.failed(UnixMs(1_000), 3, pause);
        }
        assert!(!address.is_available(UnixMs(10_999)));
        assert!(address.is_available(UnixMs(11_000)));
        assert!(address.claim(UnixMs(11_000), pause));
        assert!(!address.claim(UnixMs(11_000), pause), "a second one must not follow at once");
        address.worked();
        assert!(address.claim(UnixMs(11_001), pause) && address.claim(UnixMs(11_001), pause));
    }
}

//! The accept loop of one listener on one worker.
//!
//! Lives through everything that `accept` can fail with; knows nothing of what is spoken.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::gate::{ConnectionGate, ConnectionPermit};
use super::proxy::{ProxyRules, canonical};

/// The pause after a failed accept, and after the second and later ones in a row.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(100)];
/// Failures are logged at most this often.
const LOG_INTERVAL: Duration = Duration::from_secs(1);
/// How many waiting connections are still taken at shutdown: the length of the kernel's queue.
const MAX_LAST: usize = 4096;

/// The other end of a connection. IPv4 addresses are always in their own form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The client: as told by a trusted PROXY header, otherwise the socket's peer.
    pub client: SocketAddr,
    /// The socket's peer.
    pub socket: SocketAddr,
    /// Whether `client` was told by a PROXY header.
    pub proxied: bool,
}

/// Accepts until `shutdown`, and hands each connection to `on`, which must not block: it spawns.
/// The permit goes with the connection; the slot is free when it is dropped. Connections that the
/// kernel had completed before the shutdown are still handed on.
///
/// With `proxy`, a connection begins with a PROXY header, read apart from the loop; one that is late,
/// bad or not from a trusted peer is closed. Must run inside a [`tokio::runtime::LocalRuntime`] or a
/// [`tokio::task::LocalSet`].
pub async fn accept_loop<F>(
    listener: TcpListener,
    gate: ConnectionGate,
    proxy: Option<Arc<ProxyRules>>,
    shutdown: CancellationToken,
    on: F,
) where
    F: Fn(TcpStream, Peer, ConnectionPermit) + 'static,
{
    let entry = Entry { proxy, gate: gate.clone(), on: Rc::new(on) };
    // Registered once: the token is shared by all workers and has a lock.
    let cancelled = shutdown.cancelled();
    tokio::pin!(cancelled);
    let mut failures = Failures::default();
    loop {
        let step = async {
            match listener.accept().await {
                Ok((stream, address)) => {
                    failures.in_a_row = 0;
                    entry.admit(stream, address, gate.enter().await);
                }
                Err(error) => {
                    gate.count_accept_error();
                    failures.survive(&error).await;
                }
            }
        };
        tokio::select! {
            biased;
            () = &mut cancelled => break,
            () = step => {}
        }
    }
    match listener.into_std() {
        Ok(listener) => take_last(&listener, &entry),
        Err(error) => tracing::warn!(%error, "connections that waited to be accepted are lost"),
    }
}

/// Closing the socket would reset connections that clients believe to be open.
fn take_last<F>(listener: &std::net::TcpListener, entry: &Entry<F>)
where
    F: Fn(TcpStream, Peer, ConnectionPermit) + 'static,
{
    for _ in 0..MAX_LAST {
        let Some(permit) = entry.gate.try_enter() else {
            return;
        };
        let Ok((stream, address)) = listener.accept() else {
            return;
        };
        let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
        if let Ok(stream) = stream {
            entry.admit(stream, address, permit);
        }
    }
}

/// The way in for accepted connections.
struct Entry<F> {
    proxy: Option<Arc<ProxyRules>>,
    gate: ConnectionGate,
    on: Rc<F>,
}

impl<F> Entry<F>
where
    F: Fn(TcpStream, Peer, ConnectionPermit) + 'static,
{
    fn admit(&self, mut stream: TcpStream, address: SocketAddr, permit: ConnectionPermit) {
        let socket = canonical(address);
        let Some(rules) = self.proxy.clone() else {
            (self.on)(stream, Peer { client: socket, socket, proxied: false }, permit);
            return;
        };
        let (on, gate) = (Rc::clone(&self.on), self.gate.clone());
        tokio::task::spawn_local(async move {
            match rules.read(&mut stream, socket).await {
                Ok(told) => {
                    let client = told.unwrap_or(socket);
                    on(stream, Peer { client, socket, proxied: told.is_some() }, permit);
                }
                Err(error) => {
                    gate.count_proxy_refused();
                    tracing::debug!(peer = %socket, %error, "connection closed");
                }
            }
        });
    }
}

/// Failed accepts: how often in a row, and when they were last logged.
#[derive(Debug, Default)]
struct Failures {
    in_a_row: usize,
    unlogged: u64,
    logged: Option<Instant>,
}

impl Failures {
    /// Logs `error`, not too often, and waits where going on at once would spin.
    async fn survive(&mut self, error: &io::Error) {
        // The client gave up while it waited: nothing is wrong with us (accept(2)).
        let gone = [Errno::CONNABORTED, Errno::CONNRESET, Errno::PROTO, Errno::INTR];
        if Errno::from_io_error(error).is_some_and(|errno| gone.contains(&errno)) {
            return;
        }
        self.unlogged += 1;
        if self.logged.is_none_or(|logged| logged.elapsed() >= LOG_INTERVAL) {
            let times = self.unlogged;
            tracing::error!(%error, times, "cannot accept connections; trying again");
            (self.unlogged, self.logged) = (0, Some(Instant::now()));
        }
        let [first, later] = PAUSES;
        let pause = if self.in_a_row == 0 { first } else { later };
        self.in_a_row += 1;
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests;

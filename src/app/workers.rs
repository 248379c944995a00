//! Worker threads: each with its own runtime, listeners and connections.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::TcpStream;
use tokio::runtime::LocalOptions;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Failure, Gateway, Stage, no_loop, start as failure};
use crate::listener::{
    ConnectionGate, ConnectionPermit, Kind, Listen, Peer, accept_loop, bind_all,
};
use crate::metrics::HandshakeFailure;
use crate::serve::{Arrival, Parts, Site, Worker, redirect, serve};
use crate::threads;
use crate::timer::{TICK, Ticks};
use crate::tls::{HandshakeError, Tls, handshake};

/// One address, bound once for each worker.
pub(super) struct Bound {
    pub(super) address: SocketAddr,
    pub(super) listen: Listen,
    sockets: Vec<TcpListener>,
}

/// Binds every address.
pub(super) fn bind(gateway: &Gateway) -> Result<Vec<Bound>, Failure> {
    let config = gateway.config.load();
    let mut bound = Vec::new();
    for listen in &config.listeners.listeners {
        let sockets = bind_all(listen.address, config.server.workers).map_err(|error| {
            let remedy = "fix: stop what listens there, or change `listen` in [server]";
            failure(format!("cannot listen on {}: {error}\n    {remedy}", listen.address))
        })?;
        let address = sockets.first().and_then(|socket| socket.local_addr().ok());
        let address = address.unwrap_or(listen.address);
        bound.push(Bound { address, listen: listen.clone(), sockets });
    }
    Ok(bound)
}

/// The running threads.
pub(super) struct Threads {
    handles: Vec<JoinHandle<()>>,
}

impl Threads {
    /// Whether all have ended.
    pub(super) fn ended(&self) -> bool {
        self.handles.iter().all(JoinHandle::is_finished)
    }

    pub(super) fn join(self) {
        for handle in self.handles {
            if handle.join().is_err() {
                tracing::error!("a worker thread panicked");
            }
        }
    }
}

/// Starts the threads; returns when all of them take connections.
pub(super) fn start(
    gateway: &Gateway,
    bound: &mut [Bound],
    stages: &watch::Receiver<Stage>,
) -> Result<Threads, Failure> {
    let config = gateway.config.load();
    let gate = ConnectionGate::new(affordable(config.listeners.max_connections));
    let mut handles = Vec::new();
    let mut starting = Vec::new();
    for index in 0..config.server.workers {
        let mut listeners = Vec::new();
        for one in bound.iter_mut() {
            // Given away: the port must close when its worker stops accepting.
            let Some(socket) = one.sockets.pop() else { continue };
            listeners.push((socket, one.listen.clone()));
        }
        let parts = Parts {
            site: Arc::clone(&gateway.site),
            authority: Arc::clone(&gateway.authority),
            clock: gateway.clock.clone(),
            access: gateway.logs.access(),
            metrics: gateway.metrics.worker(),
        };
        let door = Door {
            tls: Arc::clone(&gateway.tls),
            handshake: config.tls.handshake_timeout,
            gate: gate.clone(),
            site: Arc::clone(&gateway.site),
        };
        let stages = stages.clone();
        let (begun, start) = mpsc::channel();
        starting.push(start);
        let handle = threads::start(format!("worker-{index}"), move || {
            if let Err(error) = work(parts, listeners, door, stages, begun.clone()) {
                tracing::error!(%error, "a worker could not start");
                let _ = begun.send(Err(error));
            }
        });
        handles.push(handle.map_err(|error| failure(io::Error::from(error)))?);
    }
    // Not before: who is told that the gateway serves may come at once, and one worker less than there should be
    // would be noticed by nobody.
    for start in starting {
        start.recv().map_err(failure)??;
    }
    Ok(Threads { handles })
}

/// Descriptors for what is no client connection: listeners, store, logs, files that are read again,
/// admin pages, the operator's socket.
const OWN_FILES: u64 = 64;

/// As many of `wanted` connections as there are descriptors for, each with one towards an app: what
/// waits in the kernel's queue harms nobody, a lack of descriptors harms everybody.
fn affordable(wanted: usize) -> usize {
    let Some(files) = crate::listener::raise_nofile() else { return wanted };
    let most = usize::try_from(files.saturating_sub(OWN_FILES) / 2).unwrap_or(usize::MAX).max(1);
    if most < wanted {
        tracing::warn!(
            "only {most} connections at a time are let in, not {wanted}: the limit of open files is \
             {files} (fix: raise it with `ulimit -n` or LimitNOFILE, or lower `max_connections`)"
        );
    }
    wanted.min(most)
}

/// What accepted connections pass through.
#[derive(Clone)]
struct Door {
    tls: Arc<Tls>,
    handshake: Duration,
    gate: ConnectionGate,
    site: Arc<ArcSwap<Site>>,
}

fn work(
    parts: Parts,
    listeners: Vec<(TcpListener, Listen)>,
    door: Door,
    mut stages: watch::Receiver<Stage>,
    begun: mpsc::Sender<Result<(), Failure>>,
) -> Result<(), Failure> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build_local(LocalOptions::default()).map_err(no_loop)?;
    let worker = Worker::new(parts).map_err(failure)?;
    runtime.block_on(async move {
        let shutdown = CancellationToken::new();
        let ticks = Ticks::start().map_err(failure)?;
        let clockwork = clockwork(Rc::clone(&worker), door.gate.clone(), ticks);
        let clockwork = tokio::task::spawn_local(clockwork);
        for (socket, listen) in listeners {
            let socket = tokio::net::TcpListener::from_std(socket).map_err(failure)?;
            let (door, worker) = (door.clone(), Rc::clone(&worker));
            let proxy = listen.proxy.clone();
            let (gate, kind) = (door.gate.clone(), listen.kind);
            let on = move |stream, peer, permit: ConnectionPermit| {
                let (worker, door) = (Rc::clone(&worker), door.clone());
                // Not inside another future: it would keep room for this one twice.
                tokio::task::spawn_local(welcome(worker, door, kind, stream, peer, permit));
            };
            let accepting = accept_loop(socket, gate, proxy, shutdown.clone(), on);
            tokio::task::spawn_local(accepting);
        }
        let _ = begun.send(Ok(()));
        let _ = stages.wait_for(|stage| *stage != Stage::Run).await;
        shutdown.cancel();
        worker.stop();
        let idle = async {
            while worker.open() > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            () = idle => {}
            _ = stages.wait_for(|stage| *stage == Stage::Halt) => {}
        }
        clockwork.abort();
        worker.halt();
        worker.flush();
        Ok(())
    })
}

/// How many idle connections a worker closes at a time while others wait to be let in: few enough that clients
/// which connect again do not come all at once.
const RELIEF: usize = 32;

/// What a worker does at each tick. Whoever holds many idle connections keeps nobody out.
async fn clockwork(worker: Rc<Worker>, gate: ConnectionGate, mut ticks: Ticks) {
    let mut relief = 1;
    loop {
        if let Err(error) = ticks.next().await {
            tracing::error!(%error, "a worker's clock");
            // Late rather than never, and not as fast as the machine can.
            tokio::time::sleep(TICK).await;
        }
        worker.tick();
        // How many more the kernel keeps waiting nobody knows: twice as many each time that it was not enough.
        if gate.waiting() > 0 {
            worker.make_room(relief);
            relief = (2 * relief).min(RELIEF);
        } else {
            relief = 1;
        }
    }
}

/// One accepted connection, until it ends.
async fn welcome(
    worker: Rc<Worker>,
    door: Door,
    kind: Kind,
    stream: TcpStream,
    peer: Peer,
    permit: ConnectionPermit,
) {
    let site = door.site.load_full();
    // Counts from here: a drain waits for those whose handshake is under way.
    let _member = worker.enter();
    let mut arriving = worker.enter();
    if kind == Kind::Redirect {
        let redirect = redirect(stream, &site.public_url, |host| site.table.router.knows(host));
        arriving.wait(worker.now(), Box::pin(redirect)).await;
        return;
    }
    let config = door.tls.server_config();
    // Boxed: a connection must not keep room for what it has behind it.
    let shaking = Box::pin(handshake(stream, config, door.handshake, &site.public_url));
    let shaken = arriving.wait(worker.now(), shaking).await.unwrap_or(Err(HandshakeError::Timeout));
    drop(arriving);
    let stream = match shaken {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(%error, peer = %peer.client, "no handshake");
            worker.handshake_failed(match error {
                HandshakeError::Closed => HandshakeFailure::Closed,
                HandshakeError::Timeout => HandshakeFailure::Timeout,
                HandshakeError::PlainHttp | HandshakeError::Failed(_) => HandshakeFailure::Tls,
            });
            return;
        }
    };
    drop(site);
    let (sni, h2, tls) = (stream.sni(), stream.is_h2(), Some(stream.version()));
    let place = Box::new(permit);
    let arrival = Arrival { peer: peer.client.ip(), sni, h2, tls, place };
    serve(worker, stream, arrival).await;
}

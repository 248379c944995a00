//! The control runtime: signals, admin listener, upkeep, watching of files, drain.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal as Signum;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::operator::Desk;
use super::reload::{QUIET, Reloader};
use super::workers::{Bound, Threads};
use super::{Failure, Gateway, Stage, start};
use crate::listener::Kind;

/// How often files are looked at.
const WATCH: Duration = Duration::from_secs(2);

/// What is listened on beside the workers' addresses. Opened before those: a gateway that cannot have them must not
/// have taken connections that it then cuts.
pub(super) struct Doors {
    signals: Signals,
    admin: Option<TcpListener>,
    orders: Desk,
}

/// Opens the doors.
pub(super) async fn open(gateway: &Gateway) -> Result<Doors, Failure> {
    let config = gateway.config.load_full();
    let signals = Signals::new().map_err(start)?;
    let admin = match config.server.admin {
        None => None,
        Some(address) => Some(TcpListener::bind(address).await.map_err(|error| {
            let remedy = "fix: stop what listens there, or change `admin` in [server]";
            start(format!("cannot listen on {address} for the admin pages: {error}\n    {remedy}"))
        })?),
    };
    // Kept: a reload may name another one, which is bound only after a restart.
    let path = config.server.control.clone();
    let orders = Desk::open(path.clone()).map_err(|error| {
        let remedy = "fix: give this gateway its own `control` in [server]";
        start(format!("cannot listen on {}: {error}\n    {remedy}", path.display()))
    })?;
    Ok(Doors { signals, admin, orders })
}

/// Runs until the workers have ended.
pub(super) async fn control(
    gateway: &Gateway,
    bound: &[Bound],
    doors: Doors,
    stage: &watch::Sender<Stage>,
    threads: &Threads,
) -> Result<(), Failure> {
    let Doors { mut signals, admin, mut orders } = doors;
    let shutdown = CancellationToken::new();
    let admin = match admin {
        None => None,
        Some(listener) => {
            let address = listener.local_addr().map_err(start)?;
            tokio::spawn(crate::admin::serve(listener, gateway.admin(), shutdown.clone()));
            Some(address.to_string())
        }
    };
    orders.serve(gateway);
    announce(gateway, bound, admin.as_deref());
    let mut reloader = Reloader::new(gateway);
    let tending = tokio::spawn(Arc::clone(&gateway.authority).tend());
    let mut look = tokio::time::interval(WATCH);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let asked = tokio::select! {
            stop = signals.next() => {
                if stop {
                    break;
                }
                gateway.logs.reopen();
                true
            }
            _ = look.tick() => false,
        };
        // A file system that does not answer must not keep the gateway from ending.
        tokio::select! {
            looked = async {
                orders.look(gateway).await;
                reloader.look(gateway, asked).await
            } => if !looked {
                look.reset_after(QUIET);
            },
            () = signals.stop() => break,
        }
    }
    // Who is disabled now must not have to wait for the end of the others' requests.
    let watch = async {
        loop {
            look.tick().await;
            reloader.look_at_directory(gateway).await;
        }
    };
    tokio::select! {
        () = drain(gateway, stage, threads, &mut signals) => {}
        () = watch => {}
    }
    shutdown.cancel();
    tending.abort();
    Ok(())
}

/// Lets requests in flight finish; ends at once at a second signal or when the time is over.
async fn drain(
    gateway: &Gateway,
    stage: &watch::Sender<Stage>,
    threads: &Threads,
    signals: &mut Signals,
) {
    let limit = gateway.config.load().server.drain;
    tracing::info!(?limit, "draining: a second signal ends it at once");
    gateway.readiness.drain();
    let _ = stage.send(Stage::Drain);
    let ended = async {
        while !threads.ended() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = ended => tracing::info!("all requests have finished"),
        () = signals.stop() => tracing::warn!("a second signal: requests in flight are cut"),
        () = tokio::time::sleep(limit) => {
            tracing::warn!("the time to drain is over: requests in flight are cut");
        }
    }
    let _ = stage.send(Stage::Halt);
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    /// What would end the process although it asks for nothing of the kind here: signals that mean "open the log anew"
    /// to other servers, and a file that has reached its limit of size, which its writer is told.
    _harmless: [Signal; 3],
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            _harmless: [
                signal(SignalKind::user_defined1())?,
                signal(SignalKind::user_defined2())?,
                signal(SignalKind::from_raw(Signum::XFSZ.as_raw()))?,
            ],
        })
    }

    /// Waits for a signal; whether it is one to stop (and not one to reload).
    async fn next(&mut self) -> bool {
        tokio::select! {
            _ = self.terminate.recv() => true,
            _ = self.interrupt.recv() => true,
            _ = self.hangup.recv() => false,
        }
    }

    /// Waits for a signal to stop; others wait for [`Signals::next`].
    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Says where to go: to people on standard output, to programs in the file that
/// `PORTCULLIS_READY_FILE` names.
fn announce(gateway: &Gateway, bound: &[Bound], admin: Option<&str>) {
    let of = |kind: Kind| -> Vec<String> {
        let fit = bound.iter().filter(|one| one.listen.kind == kind);
        fit.map(|one| one.address.to_string()).collect()
    };
    let (https, http) = (of(Kind::Https), of(Kind::Redirect));
    let public_url = &gateway.config.load().server.public_url;
    let mut text = format!("Portcullis serves {public_url} on {}\n", https.join(", "));
    if let Some(admin) = admin {
        text += &format!("Health and metrics: http://{admin}/readyz, /livez, /metrics\n");
    }
    if let Err(error) = std::io::stdout().write_all(text.as_bytes()) {
        // `println!` would panic: nobody reading is no reason not to serve.
        tracing::warn!(%error, "cannot write to standard output");
    }
    let Some(file) = std::env::var_os("PORTCULLIS_READY_FILE").map(PathBuf::from) else { return };
    let ready = json!({
        "listen": https, "http": http, "admin": admin.unwrap_or(""), "pid": std::process::id(),
    });
    let draft = file.with_extension("draft");
    let written =
        std::fs::write(&draft, ready.to_string()).and_then(|()| std::fs::rename(&draft, &file));
    if let Err(error) = written {
        tracing::warn!(%error, file = %file.display(), "cannot write the ready file");
    }
}

/// Runs the health checks of the apps in use; ends those of apps that are not any more.
#[derive(Default)]
pub(super) struct HealthChecks {
    running: Vec<(Arc<crate::upstream::Upstream>, tokio::task::JoinHandle<()>)>,
}

impl HealthChecks {
    pub(super) fn adjust(&mut self, gateway: &Gateway) {
        let site = gateway.site.load();
        self.running.retain(|(upstream, task)| {
            let used = site.upstreams.iter().any(|used| Arc::ptr_eq(used, upstream));
            if !used {
                task.abort();
            }
            used
        });
        for upstream in &site.upstreams {
            let Some(health) = upstream.settings.health.clone() else { continue };
            if self.running.iter().any(|(known, _)| Arc::ptr_eq(known, upstream)) {
                continue;
            }
            let check = crate::upstream::check_health(Arc::clone(upstream), health);
            self.running.push((Arc::clone(upstream), tokio::spawn(check)));
        }
    }
}

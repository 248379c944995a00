//! Builds all parts from the configuration, owns them, runs until told to stop, drains.

mod attack;
mod bans;
mod build;
pub mod cli;
mod control;
mod operator;
mod orders;
mod reload;
mod workers;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;

use crate::admin::{Admin, Readiness};
use crate::clock::Clock;
use crate::config::Config;
use crate::section::Problem;

/// Why the gateway did not start, or stopped.
#[derive(Debug)]
pub enum Failure {
    /// The configuration, the users or the certificates are not sound.
    Config(Vec<Problem>),
    /// Something that the gateway needs is not to be had.
    Start(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(problems) => {
                for problem in problems {
                    writeln!(f, "{problem}")?;
                }
                write!(f, "{} problem(s): the gateway was not started", problems.len())
            }
            Self::Start(what) => f.write_str(what),
        }
    }
}

impl From<Vec<Problem>> for Failure {
    fn from(problems: Vec<Problem>) -> Self {
        Self::Config(problems)
    }
}

fn start(what: impl fmt::Display) -> Failure {
    Failure::Start(what.to_string())
}

/// A thread cannot wait for what comes.
fn no_loop(error: std::io::Error) -> Failure {
    let remedy = "fix: raise the limit of open files (`ulimit -n`, LimitNOFILE=) or of memory";
    start(format!("an event loop cannot be started: {error}\n    {remedy}"))
}

/// What the workers are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Serve.
    Run,
    /// Finish what is in flight, take nothing new.
    Drain,
    /// Stop now.
    Halt,
}

/// Runs the gateway with the configuration in `file` until it is told to stop.
///
/// # Errors
/// When it cannot start; see [`Failure`].
pub fn run(file: &Path) -> Result<(), Failure> {
    register_barriers();
    let clock = Clock::system();
    let config = Config::load(file)?;
    let gateway = build::build(config, &clock)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(no_loop)?;
    let doors = runtime.block_on(control::open(&gateway))?;
    // Clients come from here on.
    let mut bound = workers::bind(&gateway)?;
    let (stage, stages) = watch::channel(Stage::Run);
    let threads = workers::start(&gateway, &mut bound, &stages)?;
    let outcome = runtime.block_on(control::control(&gateway, &bound, doors, &stage, &threads));
    let _ = stage.send(Stage::Halt);
    threads.join();
    // What was noted last must survive: then the store is closed by its drop.
    runtime.block_on(gateway.authority.upkeep());
    gateway.logs.drain(std::time::Duration::from_secs(2), &clock);
    // What still reads a file that does not answer is not waited for.
    runtime.shutdown_background();
    outcome
}

/// Has the session cache's map ask the kernel for its memory barriers, which it does once a process.
/// As long as there is one thread that takes no time; later the kernel waits for all processors, some
/// 10 ms (`membarrier(2)`, `MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED`).
fn register_barriers() {
    drop(papaya::HashMap::<u8, u8>::new());
}

/// Everything that lives as long as the process.
struct Gateway {
    config: arc_swap::ArcSwap<Config>,
    site: Arc<arc_swap::ArcSwap<crate::serve::Site>>,
    authority: Arc<crate::session::Authority>,
    users: Arc<crate::directory::Users>,
    /// There was no file of users.
    made_users: bool,
    tls: Arc<crate::tls::Tls>,
    metrics: crate::metrics::Metrics,
    readiness: Arc<Readiness>,
    logs: crate::log::Logs,
    clock: Clock,
}

impl Gateway {
    fn admin(&self) -> Arc<Admin> {
        let names = self.config.load().server.hosts.clone();
        Arc::new(Admin::new(self.metrics.clone(), Arc::clone(&self.readiness), names))
    }
}

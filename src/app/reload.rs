//! Taking up changed files: configuration, users, certificates. A bad new state is refused and reported;
//! the old one stays in use.

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use super::Gateway;
use super::build::{site, upstreams_of};
use super::control::HealthChecks;
use crate::clock::{UnixMs, millis};
use crate::config::Config;
use crate::directory;
use crate::metrics::Reload;
use crate::secret::sha256;
use crate::section::{Problem, Settled, open_file};
use crate::session::Directory as _;
use crate::threads::aside;
use crate::tls;

/// How long a file must have been left alone to be looked at unasked: half of one that is being written may be sound by
/// itself, and say something else.
pub(super) const QUIET: Duration = Duration::from_millis(500);
/// So often in a row that is waited for: some ten seconds.
const WAITS: u8 = 20;

/// What was seen last.
pub(super) struct Reloader {
    config: Option<[u8; 32]>,
    settled: Settled,
    /// How often in a row a file that is being written was waited for.
    waited: u8,
    /// The problems of the certificates that were reported last.
    certificates: Vec<Problem>,
    /// The epoch of the directory with which sessions were compared last, and of what they are made with; none where
    /// both may have changed while no gateway ran. The gateway itself writes keys and hashes, and may take up other
    /// changes with them.
    reconciled: Option<(u64, u64)>,
    /// With which the gateway started: some of it is in use until it ends.
    started: Arc<Config>,
    /// Whether what workers rendered while they took up a new configuration is still to be dropped.
    renderings: bool,
    checks: HealthChecks,
    /// Whether it was told that the users cannot be looked at.
    starved: bool,
}

impl Reloader {
    pub(super) fn new(gateway: &Gateway) -> Self {
        let mut checks = HealthChecks::default();
        checks.adjust(gateway);
        for what in [Reload::Config, Reload::Directory, Reload::Certificates] {
            gateway.metrics.reload_accepted(what);
        }
        let config = digest(gateway);
        let settled = Settled::default();
        // A node that joins others may know fewer users than they do, and one whose users are missing knows one who
        // was just made: neither ends everybody's sessions by being started.
        let knows_less = gateway.made_users || gateway.authority.is_shared();
        let reconciled = knows_less.then(|| (gateway.users.epoch(), gateway.users.makers()));
        Self {
            config,
            settled,
            waited: 0,
            certificates: Vec::new(),
            reconciled,
            started: gateway.config.load_full(),
            renderings: false,
            checks,
            starved: false,
        }
    }

    /// Looks at every file; whether it did. It waits for one that is being written, unless it was `asked` to look.
    pub(super) async fn look(&mut self, gateway: &Gateway, asked: bool) -> bool {
        if !asked && self.waited < WAITS && is_being_written(gateway) {
            self.waited += 1;
            return false;
        }
        self.waited = 0;
        if std::mem::take(&mut self.renderings) {
            gateway.authority.forget_renderings();
        }
        self.look_at_config(gateway);
        self.look_at_certificates(gateway);
        self.look_at_directory(gateway).await;
        true
    }

    fn look_at_config(&mut self, gateway: &Gateway) {
        if self.settled.is_unchanged(&gateway.config.load().file) {
            return;
        }
        let now = digest(gateway);
        let Some(read) = now else {
            // Not read: its stamp says nothing.
            self.settled = Settled::default();
            // Told once: what is in use stays, but no other start will find it.
            if self.config.take().is_some() {
                let file = &gateway.config.load().file;
                tracing::error!(file = %file.display(), "the configuration cannot be read: put it back");
                gateway.metrics.reload_refused(Reload::Config);
            }
            return;
        };
        if self.config.replace(read) == Some(read) {
            return;
        }
        let current = gateway.config.load_full();
        let known = gateway.site.load_full();
        let next = Config::load(&current.file).and_then(|config| {
            let upstreams = upstreams_of(&config, &known.upstreams)?;
            Ok((config, upstreams))
        });
        let (config, upstreams) = match next {
            Ok(next) => next,
            Err(problems) => return refuse(gateway, Reload::Config, &problems),
        };
        let made = match site(upstreams, &config, Some(&known), &gateway.clock) {
            Ok(made) => made,
            Err(error) => {
                tracing::error!(%error, "the new configuration is refused, the old one stays");
                return gateway.metrics.reload_refused(Reload::Config);
            }
        };
        for what in needs_restart(&self.started, &config) {
            tracing::warn!("{what} differs from what is in use: this takes effect after a restart");
        }
        gateway.site.store(Arc::new(made));
        gateway.config.store(Arc::new(config));
        self.renderings = true;
        self.checks.adjust(gateway);
        gateway.metrics.reload_accepted(Reload::Config);
        tracing::info!("the configuration was read again");
    }

    fn look_at_certificates(&mut self, gateway: &Gateway) {
        let config = gateway.config.load();
        let hosts = &config.server.hosts;
        match gateway.tls.reload(&config.tls, hosts, gateway.clock.now()) {
            Ok(tls::Reload::Unchanged) => self.certificates.clear(),
            Ok(tls::Reload::Replaced(warnings)) => {
                self.certificates.clear();
                warnings.iter().for_each(|warning| tracing::warn!("{warning:#}"));
                gateway.metrics.reload_accepted(Reload::Certificates);
                tracing::info!("the certificates were read again");
            }
            Err(problems) if problems == self.certificates => {}
            Err(problems) => {
                refuse(gateway, Reload::Certificates, &problems);
                self.certificates = problems;
            }
        }
    }

    pub(super) async fn look_at_directory(&mut self, gateway: &Gateway) {
        let users = Arc::clone(&gateway.users);
        // Reading and parsing a large file must not hold up signals and the admin pages.
        let reloaded = aside("read-users", move || users.reload()).await;
        self.starved &= reloaded.is_err();
        match reloaded {
            Ok(Ok(directory::Reload::Unchanged)) => {}
            Ok(Ok(directory::Reload::Changed)) => {
                gateway.metrics.reload_accepted(Reload::Directory);
                tracing::info!("the users were read again");
            }
            Ok(Err(refused)) if refused.repeated => {}
            Ok(Err(refused)) => refuse(gateway, Reload::Directory, &refused.problems),
            Err(error) if !self.starved => {
                self.starved = true;
                tracing::error!(%error, "the users cannot be read again, those in use stay");
            }
            Err(_) => {}
        }
        let (epoch, makers) = (gateway.users.epoch(), gateway.users.makers());
        if self.reconciled.is_none_or(|(reconciled, _)| epoch != reconciled) {
            let thorough = self.reconciled.is_none_or(|(_, reconciled)| makers != reconciled);
            match gateway.authority.reconcile(thorough).await {
                Ok(ended) => {
                    self.reconciled = Some((epoch, makers));
                    if ended > 0 {
                        tracing::info!(ended, "sessions of disabled or removed users have ended");
                    }
                }
                // Those sessions are refused at use; their ends are written at the next look.
                Err(error) => tracing::warn!(%error, "sessions cannot be compared yet"),
            }
        }
    }
}

/// Whether configuration or users were changed just now.
fn is_being_written(gateway: &Gateway) -> bool {
    let (config, now) = (gateway.config.load(), gateway.clock.now());
    is_fresh(&config.file, now) || is_fresh(&config.directory.file, now)
}

fn is_fresh(file: &Path, now: UnixMs) -> bool {
    let changed = fs::metadata(file).and_then(|found| found.modified()).ok();
    let changed = changed.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    // A time to come says nothing.
    changed.is_some_and(|at| now.0.checked_sub(millis(at)).is_some_and(|age| age < millis(QUIET)))
}

fn digest(gateway: &Gateway) -> Option<[u8; 32]> {
    let mut bytes = Vec::new();
    open_file(&gateway.config.load().file)
        .and_then(|mut file| file.read_to_end(&mut bytes))
        .ok()?;
    Some(sha256(&bytes))
}

fn refuse(gateway: &Gateway, what: Reload, problems: &[Problem]) {
    for problem in problems {
        tracing::error!("{problem:#}");
    }
    let (kind, others) = match what {
        Reload::Config => ("configuration", "users and certificates"),
        Reload::Directory => ("users", "configuration and certificates"),
        Reload::Certificates => ("certificates", "configuration and users"),
    };
    tracing::error!(
        problems = problems.len(),
        "what is new in the {kind} is refused, what is in use stays; {others} are taken up by themselves"
    );
    gateway.metrics.reload_refused(what);
}

/// Settings that were compiled into threads, sockets or open files.
fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let mut changed = Vec::new();
    let mut note = |differs: bool, what| {
        if differs {
            changed.push(what);
        }
    };
    let listeners = |config: &Config| format!("{:?}", config.listeners.listeners);
    note(listeners(old) != listeners(new), "[server] listen or [[listener]]");
    note(old.server.control != new.server.control, "[server] control");
    note(old.tls.handshake_timeout != new.tls.handshake_timeout, "[tls] handshake_timeout");
    note(
        old.listeners.max_connections != new.listeners.max_connections,
        "[server] max_connections",
    );
    note(old.server.workers != new.server.workers, "[server] workers");
    note(old.server.admin != new.server.admin, "[server] admin");
    note(old.log != new.log, "[log]");
    note(old.directory != new.directory, "[directory]");
    note(format!("{:?}", old.store) != format!("{:?}", new.store), "[store]");
    note(format!("{:?}", old.session) != format!("{:?}", new.session), "[session]");
    note(format!("{:?}", old.login) != format!("{:?}", new.login), "[login]");
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_left_alone_while_it_is_being_written() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.toml");
        let (now, quiet) = (UnixMs(1_800_000_000_000), millis(QUIET));
        assert!(!is_fresh(&file, now), "there is none");
        fs::write(&file, "half").unwrap();
        let at = UNIX_EPOCH + Duration::from_millis(now.0);
        fs::File::options().write(true).open(&file).unwrap().set_modified(at).unwrap();
        assert!(is_fresh(&file, now) && is_fresh(&file, UnixMs(now.0 + quiet - 1)));
        assert!(!is_fresh(&file, UnixMs(now.0 + quiet)));
        assert!(!is_fresh(&file, UnixMs(now.0 - 1)), "its machine's clock is ahead");
    }
}

//! From a configuration to running parts.

use std::io::Write;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::{Failure, Gateway, start};
use crate::admin::Readiness;
use crate::api::browser::{Browser, BrowserSettings};
use crate::audit::Audit;
use crate::clock::Clock;
use crate::config::Config;
use crate::directory::{FirstUser, Users};
use crate::log::Logs;
use crate::login;
use crate::metrics::{Metrics, Watch};
use crate::panics;
use crate::section::Problem;
use crate::serve::Site;
use crate::session::{Authority, Directory};
use crate::tls::{Tls, client_config};
use crate::upstream::{Protocol, Settings, Upstream};

/// Puts everything together; opens files, binds nothing yet.
pub(super) fn build(config: Config, clock: &Clock) -> Result<Gateway, Failure> {
    let logs = Logs::open(&config.log, clock).map_err(start)?;
    logs.subscribe().map_err(start)?;
    let metrics = Metrics::new(clock.clone(), env!("CARGO_PKG_VERSION"));
    count_panics(&metrics);
    let tls = Arc::new(Tls::load(&config.tls, &config.server.hosts, clock)?);
    for warning in tls.warnings(&config.server.hosts, clock.now()) {
        tracing::warn!("{warning:#}");
    }
    let audit = Arc::new(Audit::new(clock.clone(), logs.audit()));
    let (authority, users, first) = open_core(&config, clock, audit)?;
    if let Some(first) = &first {
        announce(first, &config);
    }
    let site =
        Arc::new(ArcSwap::from_pointee(site(upstreams_of(&config, &[])?, &config, None, clock)?));
    let readiness = Arc::new(readiness(&authority));
    watch(&metrics, &authority, &tls, &logs, &site, clock);
    Ok(Gateway {
        config: ArcSwap::from_pointee(config),
        site,
        authority,
        users,
        made_users: first.is_some(),
        tls,
        metrics,
        readiness,
        logs,
        clock: clock.clone(),
    })
}

/// What [`open_core`] opens.
type Opened = (Arc<Authority>, Arc<Users>, Option<FirstUser>);

/// Opens store, directory and login methods: the session core.
fn open_core(config: &Config, clock: &Clock, audit: Arc<Audit>) -> Result<Opened, Failure> {
    let opened = Users::open(&config.directory, &config.login.costs());
    let (users, first) = opened.map_err(|refused| Failure::Config(refused.problems))?;
    let users = Arc::new(users);
    let directory: Arc<dyn Directory> = Arc::<Users>::clone(&users);
    let store = config.store.open(clock.clone()).map_err(start)?;
    let context = login::Context { directory: Arc::clone(&directory), clock: clock.clone() };
    let methods = config.login.start(&context).map_err(start)?;
    let settings = config.session.clone();
    let authority = Authority::new(settings, store, directory, methods, audit, clock.clone());
    Ok((Arc::new(authority), users, first))
}

/// Opens the store with rules over it, for commands of operators where no gateway runs: nobody can log
/// in, and nothing is made.
///
/// # Errors
/// Why the store cannot be opened.
pub(super) fn open_store(
    config: &Config,
    directory: Arc<dyn Directory>,
    clock: &Clock,
) -> Result<Arc<Authority>, Failure> {
    let store = config.store.open(clock.clone()).map_err(start)?;
    let (settings, audit) = (config.session.clone(), Arc::new(Audit::silent(clock.clone())));
    let authority = Authority::new(settings, store, directory, Vec::new(), audit, clock.clone());
    Ok(Arc::new(authority))
}

/// Printed, not logged: the one place where the password is shown.
fn announce(first: &FirstUser, config: &Config) {
    let text = format!(
        "Made {} with one user:\n    user name  {name}\n    password   {}\n    \
         This is shown once. Change it with: portcullis user passwd {name}\n",
        config.directory.file.display(),
        first.password.expose(),
        name = first.name,
    );
    if let Err(error) = std::io::stdout().write_all(text.as_bytes()) {
        let remedy = "give a new one with: portcullis user passwd";
        tracing::error!(%error, user = first.name, "the first password cannot be shown: {remedy}");
    }
}

/// The apps of a configuration. Those of `known` with the same settings are kept, with their
/// connections and what is known of their health.
pub(super) fn upstreams_of(
    config: &Config,
    known: &[Arc<Upstream>],
) -> Result<Vec<Arc<Upstream>>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut upstreams = Vec::new();
    for settings in &config.upstreams {
        if let Some(same) = known.iter().find(|upstream| upstream.settings == *settings) {
            upstreams.push(Arc::clone(same));
            continue;
        }
        match upstream(settings) {
            Ok(upstream) => upstreams.push(upstream),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(upstreams) } else { Err(problems) }
}

fn upstream(settings: &Settings) -> Result<Arc<Upstream>, Problem> {
    let tls = if settings.uses_tls() {
        let alpn: &[&[u8]] = match settings.protocol {
            Protocol::Http1 => &[b"http/1.1"],
            Protocol::Http2 => &[b"h2"],
        };
        Some(client_config(settings.ca.as_deref(), alpn)?)
    } else {
        None
    };
    Ok(Arc::new(Upstream::new(settings.clone(), tls)))
}

/// One configuration, ready for use; `upstreams` are in its order.
pub(super) fn site(
    upstreams: Vec<Arc<Upstream>>,
    config: &Config,
    former: Option<&Site>,
    clock: &Clock,
) -> Result<Site, Failure> {
    let settings =
        BrowserSettings { mount: config.browser.mount.clone(), name: config.browser.brand.clone() };
    // Sign-ins that are under way go on over a reload.
    let browser = match former {
        Some(former) => former.browser.renewed(settings),
        None => Browser::new(settings, clock.clone()),
    };
    let browser = browser.map_err(start)?;
    Ok(Site {
        hsts: config.hsts(),
        trust: config.trust(),
        cookie: config.cookie.clone(),
        limits: config.limits,
        lifetime: config.session.lifetime,
        mount: config.browser.mount.clone(),
        mounts: config.mounts.clone(),
        public_url: config.server.public_url.clone(),
        table: Arc::clone(&config.table),
        upstreams,
        browser: Arc::new(browser),
    })
}

fn readiness(authority: &Arc<Authority>) -> Readiness {
    let authority = Arc::clone(authority);
    Readiness::default().with_check("session store", move || {
        let authority = Arc::clone(&authority);
        Box::pin(async move {
            let ready = authority.store().ready().await;
            ready.map_err(|error| error.to_string())
        })
    })
}

fn watch(
    metrics: &Metrics,
    authority: &Arc<Authority>,
    tls: &Arc<Tls>,
    logs: &Logs,
    site: &Arc<ArcSwap<Site>>,
    clock: &Clock,
) {
    let core = Arc::clone(authority);
    metrics.watch_value(Watch::CachedSessions, move || core.cached_sessions() as u64);
    if let Some(counted) = authority.store().metrics() {
        metrics.store(counted);
        let core = Arc::clone(authority);
        metrics.watch(Watch::StoreReady, move || {
            let links = core.store().links();
            links.into_iter().map(|link| (link.server, u64::from(link.ready))).collect()
        });
        let core = Arc::clone(authority);
        metrics.watch(Watch::StoreLeaseAge, move || {
            let links = core.store().links().into_iter();
            links.filter_map(|link| Some((link.server, link.lease_age?))).collect()
        });
    }
    metrics.watch(Watch::LogLinesDropped, logs.dropped());
    let tls = Arc::clone(tls);
    metrics.watch(Watch::CertificateExpiry, move || {
        let certificates = tls.certificates();
        let name = |file: &std::path::Path| file.display().to_string();
        certificates.iter().map(|info| (name(&info.file), info.not_after)).collect()
    });
    let (site, clock) = (Arc::clone(site), clock.clone());
    metrics.watch(Watch::UpstreamHealthy, move || {
        let now = clock.now();
        let site = site.load();
        let count = |upstream: &Arc<Upstream>| {
            let addresses = upstream.addresses.iter();
            let well = addresses.filter(|address| address.is_available(now)).count();
            (upstream.settings.name.clone(), well as u64)
        };
        site.upstreams.iter().map(count).collect()
    });
}

/// A panic ends one request, or at worst one connection; it must be seen and counted.
fn count_panics(metrics: &Metrics) {
    let worker = metrics.worker();
    std::panic::set_hook(Box::new(move |info| {
        worker.panicked();
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        // The payload may quote a request: the place is enough to find the fault.
        if !panics::note(&place) {
            tracing::error!(place, "panic: one connection is lost");
        }
    }));
}

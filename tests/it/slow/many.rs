//! Thousands of connections that do nothing: each costs little, others do not notice, and nothing is left.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::load::Load;
use crate::support::open::cookie;
use crate::support::process::{PATIENCE, fitting, is_thorough};
use crate::support::raw::Door;
use crate::support::rest::{Probe, leaves_nothing, memory_is_back};
use crate::support::{Gateway, Raw, Reply, Upstream};

const PROBE: &str = "/public/probe";
fn started() -> (Upstream, Gateway) {
    let upstream = Upstream::answering(|request| match request.header("upgrade") {
        Some(_) => Reply::websocket(request),
        None => Reply::ok("hello"),
    });
    let gateway = Gateway::builder()
        // What a hash takes must not hide what connections take.
        .set("login.password", "m_cost", "7168")
        .set("login.password", "t_cost", "5")
        .upstream("app", upstream.addr())
        .public("/public/", "app")
        .private("/", "app")
        .start();
    (upstream, gateway)
}

/// Opens `count` connections by `open`.
async fn opened<F>(count: usize, open: impl Fn() -> F) -> Vec<Raw>
where
    F: Future<Output = Raw> + Send + 'static,
{
    let mut opening = JoinSet::new();
    for _ in 0..count {
        opening.spawn(open());
    }
    opening.join_all().await
}

/// The whole number takes a minute; without [`is_thorough`] there are fewer.
fn count(whole: usize, each: usize) -> usize {
    fitting(if is_thorough() { whole } else { whole / 5 }, each)
}

/// KiB of each of `count` connections, when there was so much memory in use before them.
fn each(gateway: &Gateway, before: u64, count: usize) -> f64 {
    gateway.resident().saturating_sub(before) as f64 / count as f64
}

/// With all open, the second round takes what the first has taken, `held`: nothing of that was lost.
async fn is_the_same(what: &str, gateway: &Gateway, held: &mut Option<u64>) {
    let before = *held.get_or_insert_with(|| gateway.resident());
    memory_is_back(what, gateway, PROBE, before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections() {
    let count = count(5_000, 1);
    let (upstream, gateway) = started();
    let door = Door::of(&gateway);
    let mut held = None;
    leaves_nothing("idle connections", &gateway, &upstream, PROBE, async |round| {
        let before = gateway.resident();
        let mut idle = opened(count, || {
            let door = door.clone();
            async move {
                let mut raw = door.raw().await;
                raw.get("/public/x", &door.host, "").await.expect(200);
                raw
            }
        })
        .await;
        is_the_same("idle connections, all open", &gateway, &mut held).await;
        let open = gateway.metric("portcullis_connections_open").await;
        assert!(open >= count as f64, "{open} of {count} are open");
        gateway.metric_is("portcullis_worker_tasks", |tasks| tasks >= count as f64).await;
        if round == 0 {
            let each = each(&gateway, before, count);
            let waits = Probe::run(&gateway, PROBE).await;
            println!("{count} idle connections: {each:.1} KiB each; beside them {waits}");
            assert!(each < 200.0, "{each} KiB per idle connection");
        }
        // They are of use still.
        for raw in idle.iter_mut().step_by(100) {
            raw.get("/public/x", &door.host, "").await.expect(200);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn websockets() {
    let count = count(2_000, 2);
    let (upstream, gateway) = started();
    let client = gateway.signed_in("alice").await;
    let (door, cookie) = (Door::of(&gateway), cookie(&client));
    drop(client);
    let mut held = None;
    leaves_nothing("WebSockets", &gateway, &upstream, PROBE, async |round| {
        let before = gateway.resident();
        let mut sockets = opened(count, || {
            let (door, cookie) = (door.clone(), cookie.clone());
            async move { door.websocket("/ws", &cookie).await }
        })
        .await;
        is_the_same("WebSockets, all open", &gateway, &mut held).await;
        gateway.metric_is("portcullis_tunnels_open", |open| open == count as f64).await;
        if round == 0 {
            let each = each(&gateway, before, count);
            let waits = Probe::run(&gateway, PROBE).await;
            println!("{count} WebSockets: {each:.1} KiB each; beside them {waits}");
            assert!(each < 200.0, "{each} KiB per WebSocket");
        }
        for socket in sockets.iter_mut().step_by(50) {
            socket.echo("hello").await;
        }
    })
    .await;
}

/// Those that had never asked for anything counted as at work until the limit on heads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_is_let_in_for_who_never_asked() {
    const ALL: usize = 20;
    let upstream = Upstream::start();
    let gateway = Gateway::builder()
        .set("server", "max_connections", &ALL.to_string())
        .set("limits", "head_timeout", "\"10m\"")
        .upstream("app", upstream.addr())
        .public("/public/", "app")
        .start();
    let door = Door::of(&gateway);
    for said in ["", "GET / HT"] {
        let silent = opened(ALL, || {
            let door = door.clone();
            async move {
                let mut raw = door.raw().await;
                raw.send(said).await;
                raw
            }
        })
        .await;
        let let_in = timeout(PATIENCE, gateway.client().get("/public/x")).await;
        let_in.unwrap_or_else(|_| panic!("kept out by {said:?}")).expect(200);
        drop(silent);
    }
    assert!(gateway.metric("portcullis_connections_over_cap_total").await >= 2.0);
}

/// Those that had not even shaken hands did not give way, and then one in 100 ms did, however many more waited in the
/// kernel.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_is_let_in_for_who_shakes_no_hands() {
    const ALL: usize = 60;
    let upstream = Upstream::start();
    let gateway = Gateway::builder()
        .set("server", "workers", "1")
        .set("server", "max_connections", &ALL.to_string())
        .set("tls", "handshake_timeout", "\"60s\"")
        .upstream("app", upstream.addr())
        .public("/public/", "app")
        .start();
    let mut mute = Vec::new();
    // At one in 100 ms it would take longer than is waited.
    for _ in 0..8 * ALL {
        mute.push(TcpStream::connect(gateway.addr()).await.unwrap());
    }
    let let_in = timeout(PATIENCE, gateway.client().get("/public/x")).await;
    let_in.expect("kept out").expect(200);
    drop(mute);
}

/// Whoever holds all connections that may be open keeps nobody out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_is_let_in_for_who_is_idle() {
    const ALL: usize = 60;
    let upstream = Upstream::answering(|request| match request.header("upgrade") {
        Some(_) => Reply::websocket(request),
        None => Reply::ok("hello"),
    });
    let gateway = Gateway::builder()
        .set("server", "max_connections", &ALL.to_string())
        .upstream("app", upstream.addr())
        .public("/public/", "app")
        .private("/", "app")
        .start();
    let client = gateway.signed_in("alice").await;
    let mut socket = Raw::websocket(&gateway, &client, "/ws").await;
    drop(client);
    let door = Door::of(&gateway);
    let busy = Load::paced(&gateway.client(), "/public/busy", 1, Duration::from_millis(50));
    busy.further(1).await;
    let open = "portcullis_connections_open";
    let free = ALL - gateway.metric(open).await as usize;
    let idle = opened(free, || {
        let door = door.clone();
        async move {
            let mut raw = door.raw().await;
            raw.get("/public/x", &door.host, "").await.expect(200);
            raw
        }
    })
    .await;
    // Sooner than idle connections end by themselves.
    let waits = Probe::run(&gateway, PROBE).await;
    println!("all {ALL} connections were taken: {waits}");
    let closed = gateway.metric("portcullis_connections_over_cap_total").await;
    assert!(closed >= 1.0, "{closed} were closed");
    assert!(gateway.metric(open).await <= (ALL + 2) as f64);
    // Who is at work notices nothing.
    socket.echo("still here").await;
    let answers = busy.end().await;
    assert_eq!(answers.with(200), answers.len(), "{}", answers.tally());
    drop(idle);
}

//! The suite over every kind of server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::redis::wire::Value;
use super::redis::{Cluster, PASSWORD, Sentinel, Server, USER};
use super::{open, prefix};
use crate::clock::Clock;
use crate::store::{counter_suite, suite};

/// What the user needs whom the gateway signs in as, as the documentation says.
const RIGHTS: &str = "resetchannels -@all +hello +ping +select +client|tracking +time +exists +get \
                      +getdel +set +eval +zadd +zrem +zrevrange +pttl +pexpire +scan +wait +role \
                      +info";

async fn passes(settings: String) {
    suite::run(|clock| async { open(&(settings.clone() + &prefix()), clock) }).await;
    let settings = settings + &prefix();
    let process = || open(&settings, Clock::system());
    let (one, two) = (process(), process());
    counter_suite::run(one.counters(), two.counters()).await;
}

#[tokio::test]
async fn one_server() {
    let server = Server::start();
    passes(format!("url = \"{}\"\n", server.url(3))).await;
    assert!(server.keys(0, "*").is_empty() && !server.keys(3, "*").is_empty());
}

#[tokio::test]
async fn a_unix_socket() {
    let server = Server::start();
    passes(format!("url = \"unix://{}?db=2\"\n", server.socket().display())).await;
    assert!(!server.keys(2, "*").is_empty());
}

#[tokio::test]
async fn tls_with_a_client_certificate_and_a_user_with_few_rights() {
    let rights = format!("~t* {RIGHTS}");
    let server = Server::builder().tls().user(&rights).start();
    let made = server.certificates();
    passes(format!(
        "url = \"rediss://localhost:{}/1\"\nuser = \"{USER}\"\npassword = \"{PASSWORD}\"\n\
         ca = {:?}\nclient_cert = {:?}\nclient_key = {:?}\n",
        server.port(),
        made.ca,
        made.client,
        made.client_key
    ))
    .await;
}

#[tokio::test]
async fn tls_believes_only_the_right_name_and_authority() {
    let server = Server::builder().tls().start();
    let other = Server::builder().tls().start();
    let settings = |url: &str, ca: &Server, more: &str| {
        let (ca, own) = (&ca.certificates().ca, server.certificates());
        let (cert, key) = (&own.client, &own.client_key);
        format!(
            "url = \"{url}\"\nca = {ca:?}\nclient_cert = {cert:?}\nclient_key = {key:?}\n{more}"
        )
    };
    let clock = Clock::system;
    let url = format!("rediss://127.0.0.1:{}", server.port());
    let wrong_name = settings(&url, &server, "server_name = \"elsewhere\"\n");
    for (what, settings) in [
        ("name", wrong_name),
        ("authority", settings(&url, &other, "")),
        ("no TLS", format!("url = \"redis://127.0.0.1:{}\"\n", server.port())),
    ] {
        let store = open(&settings, clock());
        assert!(store.ready().await.is_err(), "{what}");
    }
    open(&settings(&url, &server, ""), clock()).ready().await.unwrap();
}

#[tokio::test]
async fn a_wrong_password_is_refused() {
    let server = Server::builder().user("~* +@all").start();
    for (user, password, good) in [(USER, PASSWORD, true), (USER, "guess", false)] {
        let settings =
            format!("url = \"{}\"\nuser = \"{user}\"\npassword = \"{password}\"\n", server.url(0));
        let store = open(&settings, Clock::system());
        assert_eq!(store.ready().await.is_ok(), good, "{password}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_master_that_sentinels_name() {
    let set = Sentinel::start();
    let urls: Vec<_> = set.addrs().iter().map(|addr| format!("\"redis://{addr}\"")).collect();
    passes(format!("sentinels = [{}]\nmaster = \"sessions\"\ndatabase = 4\n", urls.join(", ")))
        .await;
    assert!(!set.master().keys(4, "*").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_whose_slots_move() {
    let cluster = Arc::new(Cluster::start());
    let urls: Vec<_> = cluster.addrs().iter().map(|addr| format!("\"redis://{addr}\"")).collect();
    let settings = format!("cluster = [{}]\n", urls.join(", "));
    let stop = Arc::new(AtomicBool::new(false));
    let mover = {
        let (cluster, stop) = (Arc::clone(&cluster), Arc::clone(&stop));
        std::thread::spawn(move || {
            let mut moved = 0;
            while !stop.load(Ordering::Relaxed) {
                let keys = cluster.keys("*");
                for key in keys.iter().take(8) {
                    let slot = cluster.slot(key);
                    let owner = cluster.owner(slot);
                    // A list may miss what moves while it is made.
                    let of_listed = key.contains(":s:") && {
                        let value = cluster.servers()[owner].try_command(&["GET", key]).unwrap();
                        matches!(value, Value::Text(text) if text.contains("\"user\":\"listed"))
                    };
                    if of_listed || key.contains("id:listed") {
                        continue;
                    }
                    let to = (owner + 1) % 3;
                    cluster.begin_move(slot, to);
                    std::thread::sleep(Duration::from_millis(5));
                    cluster.move_keys(slot, to);
                    cluster.end_move(slot, to);
                    moved += 1;
                }
            }
            moved
        })
    };
    passes(settings.clone()).await;
    passes(settings).await;
    stop.store(true, Ordering::Relaxed);
    let moved = mover.join().unwrap();
    println!("{moved} slots moved");
    assert!(moved > 0);
}

//! The Redis servers and the proxy: a fault that does not happen would make its test lie.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use crate::support::Proxy;
use crate::support::process::wait_for;
use crate::support::redis::wire::{Connection, Value};
use crate::support::redis::{Cluster, Sentinel, Server, USER};

const SHORT: Duration = Duration::from_millis(200);

fn refusal(server: &Server) -> String {
    match server.try_command(&["SET", "k", "v"]).unwrap() {
        Value::Error(refused) => refused.split(' ').next().unwrap().to_owned(),
        other => format!("{other:?}"),
    }
}

#[test]
fn a_server_keeps_what_it_should_and_loses_what_it_should() {
    let mut server = Server::builder().durable().start();
    server.command(&["SET", "k", "v"]);
    server.kill();
    assert!(server.connect().is_err());
    server.restart();
    assert_eq!(server.command(&["GET", "k"]), Value::Text("v".to_owned()));
    server.restart_empty();
    assert_eq!(server.command(&["GET", "k"]), Value::Nil);
    server.command(&["SET", "k", "v"]);
    assert_eq!(server.keys(0, "*"), ["k"]);
    assert!(server.keys(1, "*").is_empty());
    server.flush();
    assert!(server.keys(0, "*").is_empty());
    let pid = server.pid();
    drop(server);
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn a_server_refuses_writes_as_told_and_takes_them_again() {
    let server = Server::start();
    server.fill();
    assert_eq!(refusal(&server), "OOM");
    server.make_room();
    server.make_read_only();
    assert_eq!(refusal(&server), "READONLY");
    server.make_master();
    server.distrust_disk();
    assert_eq!(refusal(&server), "MISCONF");
    server.trust_disk();
    server.command(&["SET", "k", "v"]);
}

#[test]
fn a_server_stops_pauses_and_drops_clients() {
    let server = Server::start();
    let mut client = Connection::tcp(server.addr(), SHORT).unwrap();
    client.ask(&["PING"]).unwrap();
    server.stop();
    assert_eq!(client.ask(&["PING"]).unwrap_err().kind(), ErrorKind::WouldBlock);
    server.cont();
    let mut client = Connection::tcp(server.addr(), Duration::from_secs(5)).unwrap();
    let begun = Instant::now();
    server.pause(SHORT);
    client.ask(&["PING"]).unwrap();
    assert!(begun.elapsed() >= SHORT);
    assert!(server.kill_clients() >= 1);
    assert!(client.ask(&["PING"]).is_err());
    server.forget_calls();
    server.command(&["SET", "k", "v"]);
    assert!(server.calls().contains(&("set".to_owned(), 1)), "{:?}", server.calls());
}

#[test]
fn tls_and_rights_keep_others_out() {
    let server = Server::builder().tls().user("~p:* &p:* +@all -@admin").start();
    assert!(server.certificates().client_key.exists());
    // Plain text gets nowhere.
    let mut plain = Connection::tcp(server.addr(), SHORT).unwrap();
    assert!(!matches!(plain.ask(&["PING"]), Ok(Value::Text(_))));
    let mut nobody = Connection::unix(&server.socket(), SHORT).unwrap();
    assert!(matches!(nobody.ask(&["GET", "k"]).unwrap(), Value::Error(e) if e.contains("NOAUTH")));
    assert!(server.command(&["ACL", "LIST"]).texts().iter().any(|user| user.contains(USER)));
}

#[test]
fn the_proxy_holds_and_cuts() {
    let server = Server::start();
    let proxy = Proxy::to(server.addr());
    let mut client = Connection::tcp(proxy.addr(), SHORT).unwrap();
    assert_eq!(client.ask(&["PING"]).unwrap(), Value::Text("PONG".to_owned()));
    server.forget_calls();
    proxy.blackhole();
    assert_eq!(client.ask(&["SET", "k", "v"]).unwrap_err().kind(), ErrorKind::WouldBlock);
    let mut second = Connection::tcp(proxy.addr(), SHORT).unwrap();
    assert_eq!(second.ask(&["PING"]).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert!(!server.calls().iter().any(|(name, _)| name == "set"), "{:?}", server.calls());
    proxy.forward();
    // What was on the way arrives.
    assert_eq!(client.read().unwrap(), Value::Text("OK".to_owned()));
    assert_eq!(second.read().unwrap(), Value::Text("PONG".to_owned()));
    proxy.cut();
    wait_for("the connection to be cut", || client.ask(&["PING"]).is_err().then_some(()));
    let refused = Connection::tcp(proxy.addr(), SHORT).and_then(|mut c| c.ask(&["PING"]));
    assert_ne!(refused.unwrap_err().kind(), ErrorKind::WouldBlock);
    proxy.forward();
    let mut client = Connection::tcp(proxy.addr(), SHORT).unwrap();
    client.ask(&["PING"]).unwrap();
    assert_eq!(proxy.connections(), 4);
}

#[test]
fn sentinels_fail_over() {
    let begun = Instant::now();
    let mut set = Sentinel::start();
    println!("1 + 2 + 3 servers after {:?}", begun.elapsed());
    let master = set.master();
    master.command(&["SET", "k", "v"]);
    master.command(&["WAIT", "2", "5000"]);
    let old = set.kill_master();
    let begun = Instant::now();
    set.wait_failover(old);
    println!("a new master after {:?}", begun.elapsed());
    assert_eq!(set.master().command(&["GET", "k"]), Value::Text("v".to_owned()));
    set.revive(old);
    wait_for("the old master to follow", || {
        (set.server(old).info("role") == "slave").then_some(())
    });
    set.server(old).wait_in_sync();
    assert_eq!(set.server(old).command(&["GET", "k"]), Value::Text("v".to_owned()));
}

#[test]
fn a_cluster_moves_slots() {
    let begun = Instant::now();
    let cluster = Cluster::start();
    println!("three masters after {:?}", begun.elapsed());
    let slot = cluster.slot("k");
    let from = cluster.owner(slot);
    let to = (from + 1) % 3;
    let at = |node: usize, words: &[&str]| cluster.servers()[node].try_command(words).unwrap();
    at(from, &["SET", "k", "v"]);
    let redirected = |value: Value, kind: &str| {
        assert!(matches!(&value, Value::Error(error) if error.starts_with(kind)), "{value:?}");
    };
    redirected(at(to, &["GET", "k"]), "MOVED");
    cluster.begin_move(slot, to);
    assert_eq!(at(from, &["GET", "k"]), Value::Text("v".to_owned()));
    cluster.move_keys(slot, to);
    redirected(at(from, &["GET", "k"]), "ASK");
    cluster.end_move(slot, to);
    redirected(at(from, &["GET", "k"]), "MOVED");
    assert_eq!(at(to, &["GET", "k"]), Value::Text("v".to_owned()));
    assert_eq!(cluster.owner(slot), to);
    assert_eq!(cluster.keys("*"), ["k"]);
}

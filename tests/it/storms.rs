//! Many logins, many guesses, many people at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use argon2::password_hash::PasswordHasher;
use argon2::{Algorithm, Argon2, Params, Version};
use bytes::Bytes;
use http::Method;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::support::gateway::{cheap_hash, password};
use crate::support::{Client, Gateway, Response, Upstream};

/// A hash that takes a while, so that a queue of logins forms.
fn dear_hash(password: &str) -> String {
    let params = Params::new(65_536, 3, 1, None).unwrap();
    let hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash: argon2::password_hash::phc::PasswordHash =
        hasher.hash_password_with_salt(password.as_bytes(), b"salt of the tests").unwrap();
    hash.to_string()
}

fn user(id: &str, hash: &str, groups: &str) -> String {
    format!(
        "[[user]]\nid = \"u-{id}\"\nname = \"{id}\"\npassword = \"{hash}\"\ngroups = [{groups}]\n\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_storm_is_turned_away_in_order() {
    let upstream = Upstream::start();
    // Of many people: the attempts of one wait for each other.
    let hash = dear_hash(&password("dear"));
    let dear: String = (0..60).map(|n| user(&format!("dear{n}"), &hash, "")).collect();
    let cheap = user("cheap", &cheap_hash(&password("cheap")), "");
    let gateway = Gateway::builder()
        .users(&format!("{dear}{cheap}"))
        .set("login.password", "m_cost", "65536")
        .set("login.password", "t_cost", "3")
        .set("login.password", "parallel", "1")
        .set("login.password", "queue", "8")
        .upstream("app", upstream.addr())
        .private("/", "app")
        .start();
    let mut live = gateway.signed_in("cheap").await;
    let mut storm = JoinSet::new();
    for n in 0..60 {
        let mut client = gateway.client();
        // The connection first, so that the logins come at once.
        client.get("/auth/session").await.expect(401);
        let name = format!("dear{n}");
        storm.spawn(async move { client.try_sign_in(&name, &password("dear")).await });
    }
    let (mut signed_in, mut turned_away, mut slowest) = (0, 0, Duration::ZERO);
    while !storm.is_empty() {
        let asked = Instant::now();
        live.get("/x").await.expect(200);
        slowest = slowest.max(asked.elapsed());
        while let Some(answer) = storm.try_join_next() {
            let answer = answer.unwrap();
            match answer.status {
                201 => signed_in += 1,
                503 => {
                    turned_away += 1;
                    let after = answer.header("retry-after").expect("no Retry-After");
                    assert!(after.parse::<u64>().unwrap() >= 1, "{after}");
                    assert!(answer.all("set-cookie").is_empty());
                }
                _ => panic!("{} {}", answer.status, answer.text()),
            }
        }
    }
    assert_eq!(signed_in + turned_away, 60);
    assert!(signed_in >= 8, "{signed_in} signed in");
    assert!(turned_away >= 20, "{turned_away} turned away");
    assert!(slowest < Duration::from_secs(1), "a live session waited {slowest:?}");
    // Who was turned away is not locked out.
    gateway.client().try_sign_in("dear0", &password("dear")).await.expect(201);
}

/// Wrong passwords for `user`, all at once on warm connections.
async fn guess(gateway: &Gateway, user: &'static str, count: usize) -> Vec<Response> {
    let mut guesses = JoinSet::new();
    for number in 0..count {
        let mut client = gateway.client();
        client.get("/auth/session").await.expect(401);
        guesses.spawn(async move { client.try_sign_in(user, &format!("wrong {number}")).await });
    }
    guesses.join_all().await
}

fn retry_after(answer: &Response) -> u64 {
    answer.header("retry-after").expect("no Retry-After").parse().unwrap()
}

#[tokio::test]
async fn guessing_is_slowed_down_for_the_guesser_only() {
    let gateway = Gateway::whoami();
    let mut live = gateway.signed_in("alice").await;
    for answer in guess(&gateway, "alice", 12).await {
        assert!(matches!(answer.status, 401 | 429), "{} {}", answer.status, answer.text());
    }
    let right = password("alice");
    let answer = gateway.client().try_sign_in("alice", &right).await.expect(429);
    assert!(retry_after(&answer) >= 1);
    let said = answer.json();
    assert_eq!(said["code"], "login-throttled", "{said}");
    let wait = format!("wait {} s", retry_after(&answer));
    assert!(said["detail"].as_str().unwrap().contains(&wait), "no {wait:?} in {said}");
    assert!(answer.all("set-cookie").is_empty());
    // However it is written, and wherever it claims to come from.
    for name in ["ALICE", "Alice"] {
        let answer = gateway.client().try_sign_in(name, &right).await;
        assert!(matches!(answer.status, 401 | 429), "{name}: {}", answer.status);
    }
    let body = json!({ "username": "alice", "password": right });
    for header in ["x-forwarded-for", "forwarded", "x-real-ip", "true-client-ip", "x-client-ip"] {
        let value = if header == "forwarded" { "for=203.0.113.9" } else { "203.0.113.9" };
        let mut client = gateway.client();
        let answer = client.post_json_with("/auth/session", &body, &[(header, value)]).await;
        assert_eq!(answer.status, 429, "{header}");
    }
    // The form says it too.
    let fields = [("username", "alice"), ("password", right.as_str())];
    let page = gateway.client().post_form("/auth/login", &fields).await.expect(429);
    assert!(page.is_html() && retry_after(&page) >= 1);
    // Somebody else at the same place, and who is signed in already, notice nothing.
    gateway.client().sign_in("bob").await;
    live.get("/x").await.expect(200);
}

#[tokio::test]
async fn one_place_cannot_guess_at_everybody() {
    let gateway = Gateway::whoami();
    // A new name each time, so that only the place is the same.
    let mut status = 401;
    for number in 0..60 {
        let name = format!("nobody-{number}");
        status = gateway.client().try_sign_in(&name, "x").await.status;
        if status != 401 {
            break;
        }
    }
    assert_eq!(status, 429);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_people_are_never_mixed_up() {
    const PEOPLE: usize = 100;
    const ROUNDS: usize = 5;
    let names: Vec<String> = (0..PEOPLE).map(|number| format!("p{number}")).collect();
    let users: String =
        names.iter().map(|name| user(name, &cheap_hash(&password(name)), "")).collect();
    let gateway = Gateway::builder()
        .users(&users)
        // The hashes keep their costs too: nobody's file is written again.
        .set("login.password", "m_cost", "7168")
        .set("login.password", "t_cost", "5")
        .set("login.password", "queue", "1000")
        // Hashing steps behind everything else on the machine, which is other tests here.
        .set("login.password", "parallel", "8")
        .upstream_with("app", "builtin:whoami", "")
        .private("/", "app")
        .start();
    // Nobody waits for the hashes of all others: on a busy machine that is longer than a client's patience.
    let turns = Arc::new(Semaphore::new(PEOPLE / 4));
    let mut people = JoinSet::new();
    for (number, name) in names.into_iter().enumerate() {
        let (h2, turns) = (number % 2 == 0, Arc::clone(&turns));
        let mut client = if h2 { Client::h2(&gateway) } else { gateway.client() };
        people.spawn(async move {
            for _ in 0..ROUNDS {
                let turn = turns.acquire().await.unwrap();
                client.sign_in(&name).await;
                drop(turn);
                let (id, tail) = (format!("\"u-{name}\""), password(&name));
                for path in ["/a", "/b"] {
                    let seen = client.get_with(path, &[("accept", "application/json")]).await;
                    let text = seen.expect(200).text();
                    assert!(text.contains(&id) && !text.contains(&tail), "{name}: {text}");
                    assert_eq!(text.matches("\"u-p").count(), text.matches(&id).count(), "{text}");
                }
                let session = client.get("/auth/session").await.expect(200).text();
                assert!(session.contains(&id), "{name}: {session}");
            }
            client.token().unwrap().to_owned()
        });
    }
    let mut tokens = people.join_all().await;
    tokens.sort();
    tokens.dedup();
    assert_eq!(tokens.len(), PEOPLE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_let_in_after_a_logout() {
    let upstream = Upstream::start();
    let gateway = Gateway::in_front_of(upstream.addr());
    for round in 0..3 {
        upstream.forget();
        let mut client = gateway.signed_in("alice").await;
        let mut tabs = JoinSet::new();
        for number in 0..30 {
            let mut tab = client.tab();
            tabs.spawn(async move {
                let mut statuses = Vec::new();
                for request in 0..10 {
                    // When it was asked, and what came.
                    let asked = Instant::now();
                    let path = format!("/{round}/{number}/{request}");
                    let answer = tab.try_request(Method::GET, &path, &[], Bytes::new()).await;
                    // An answer that is on its way when its session ends is cut.
                    statuses.push((asked, answer.map_or(0, |answer| answer.status)));
                }
                statuses
            });
        }
        upstream.received(50).await;
        client.delete("/auth/session").await.expect(204);
        let ended = Instant::now();
        let (mut refused, mut served) = (0, 0);
        for (asked, status) in tabs.join_all().await.into_iter().flatten() {
            assert!(matches!(status, 0 | 200 | 401), "{status}");
            refused += usize::from(status == 401);
            served += usize::from(status == 200);
            // On one machine at once, not only within a second.
            assert!(status == 401 || asked <= ended, "let in {:?} after", asked - ended);
        }
        let admitted = upstream.requests().len();
        let said = format!("{admitted} reached the app, {served} served, {refused} refused");
        // Each tab may have had one request at the app when the session ended, whose answer is lost.
        assert!(served <= admitted && admitted - served <= 30, "{said}");
        assert!(refused > 0, "all was over before the logout");
    }
}

#[tokio::test]
async fn an_identity_that_is_too_large_goes_nowhere() {
    let groups: Vec<String> = (0..300)
        .map(|number| format!("a-group-with-a-name-of-nearly-sixty-characters-{number:012}"))
        .collect();
    let quoted: Vec<String> = groups.iter().map(|name| format!("{name:?}")).collect();
    let mut users = user("many", &cheap_hash(&password("many")), &quoted.join(", "));
    for name in &groups {
        users.push_str(&format!("[[group]]\nname = \"{name}\"\n\n"));
    }
    let upstream = Upstream::start();
    let gateway = Gateway::builder()
        .users(&users)
        .upstream("app", upstream.addr())
        .public("/public/", "app")
        .private("/", "app")
        .start();
    let mut client = gateway.signed_in("many").await;
    let answer = client.get("/x").await.expect(502);
    assert_eq!(answer.json()["code"], "identity-too-large", "{}", answer.text());
    let body = Bytes::from_static(b"hello");
    client.request(Method::POST, "/x", &[], body).await.expect(502);
    assert!(upstream.requests().is_empty(), "{:?}", upstream.requests());
    // Own pages and open routes are not concerned.
    client.get("/public/x").await.expect(200);
    client.get("/auth/session").await.expect(200);
}

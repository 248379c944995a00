//! Guesses at tokens: cookies, bearer tokens, keys, SIDs and KSs share one limit per network.

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use super::builder;
use crate::support::client::{COOKIE, NAVIGATION};
use crate::support::gateway::password;
use crate::support::world::{SHOP, telling};
use crate::support::{Client, Gateway, Response};

const BAD: &str = "198.51.100.7";
const GOOD: &str = "203.0.113.9";
const LIMIT: usize = 40;

/// How a token is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Cookie,
    /// The right id of a session, and another secret.
    KnownId,
    Bearer,
    Key,
    Sid,
    Ks,
}

const ALL: [By; 6] = [By::Cookie, By::KnownId, By::Bearer, By::Key, By::Sid, By::Ks];

/// Text of `length` characters that are in no way like those of another number.
fn noise(number: usize, length: usize) -> String {
    let letters = b"23456789abcdefghijkmnpqrstuvwxyz";
    let mut state = number as u64 + 1;
    let letter = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        char::from(letters[(state >> 59) as usize])
    };
    (0..length).map(letter).collect()
}

impl By {
    /// The `number`th token that nobody was given. `real` is one that somebody has.
    async fn guess(self, client: &mut Client, ip: &str, real: &str, number: usize) -> Response {
        let (id, secret) = real.split_once('.').unwrap();
        let secret = format!("{}{}", noise(number, 20), &secret[20..]);
        let other = format!("{}{}.{secret}", noise(number, 4), &id[4..]);
        let from = ("x-forwarded-for", ip);
        let (mut path, name, value) = match self {
            Self::Cookie => ("/x".to_owned(), "cookie", format!("{COOKIE}={other}")),
            Self::KnownId => ("/x".to_owned(), "cookie", format!("{COOKIE}={id}.{secret}")),
            Self::Bearer => ("/x".to_owned(), "authorization", format!("Bearer {other}")),
            Self::Key => {
                let groups: Vec<_> = (0..5).map(|group| noise(number * 5 + group, 6)).collect();
                ("/x".to_owned(), "authorization", format!("Bearer {}", groups.join(".")))
            }
            Self::Sid => {
                let sid = uuid::Uuid::from_u128(0x4000_8000_0000_0000_0000 + number as u128);
                ("/x".to_owned(), "sid", sid.to_string())
            }
            Self::Ks => {
                let text = format!("v2|102|{}", noise(number, 48));
                let text = base64_url(text.as_bytes());
                (format!("/x?ks={text}"), "accept", "application/json".to_owned())
            }
        };
        if self != Self::Ks {
            path.push_str("?a=b");
        }
        client.get_with(&path, &[from, (name, &value)]).await
    }
}

fn base64_url(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE.encode(bytes)
}

fn bans(gateway: &Gateway) -> Vec<Value> {
    let text = gateway.cli(&["ban", "list", "--json"]).success();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn started() -> (crate::support::Upstream, Gateway) {
    let app = telling();
    let limit = LIMIT.to_string();
    let gateway = builder(&app).set("session", "unknown_per_minute", &limit).start();
    (app, gateway)
}

/// Guesses in `by`'s way until it is enough.
async fn exhaust(gateway: &Gateway, by: By, real: &str, from: usize) -> usize {
    let mut client = gateway.client();
    for tried in 0..2 * LIMIT {
        let answer = by.guess(&mut client, BAD, real, from + tried).await;
        if answer.status == 429 {
            return tried;
        }
        assert_eq!(answer.status, 401, "{by:?}: {}", answer.text());
    }
    panic!("{by:?}: {} guesses", 2 * LIMIT)
}

#[tokio::test]
async fn guesses_at_tokens_of_all_forms_share_one_limit() {
    let (app, gateway) = started();
    let mut live = gateway.signed_in("alice").await;
    let real = live.token().unwrap().to_owned();
    for (round, by) in ALL.into_iter().enumerate() {
        let begun = std::time::Instant::now();
        let tried = exhaust(&gateway, by, &real, round * 1000).await;
        assert_eq!(tried, LIMIT, "{by:?}");
        for (place, other) in ALL.into_iter().enumerate() {
            let number = 100_000 + round * 1000 + place;
            let mut client = gateway.client();
            let answer = other.guess(&mut client, BAD, &real, number).await.expect(429);
            let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
            assert!((1..=60).contains(&wait), "{wait}");
            assert!(answer.all("set-cookie").is_empty(), "the cookie stays: {:?}", answer.headers);
            // A neighbour is not concerned.
            let answer = other.guess(&mut client, GOOD, &real, number).await;
            assert_eq!(answer.status, 401, "{other:?}: {}", answer.text());
        }
        // Nor is who is signed in, from the same network.
        for carrier in [("cookie", format!("{COOKIE}={real}")), ("sid", real.clone())] {
            let headers = [("x-forwarded-for", BAD), (carrier.0, carrier.1.as_str())];
            gateway.client().get_with("/x", &headers).await.expect(200);
        }
        live.get("/x").await.expect(200);
        let found = bans(&gateway);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0]["kind"], "tokens");
        assert_eq!(found[0]["network"], "198.51.100.0/24");
        assert_eq!(found[0]["failures"], LIMIT);
        let text = gateway.cli(&["ban", "list"]).success();
        assert!(text.contains("tokens") && text.contains("198.51.100.0/24"), "{text}");
        assert!(begun.elapsed().as_secs() < 60, "too slow a machine for this test");
        let said = gateway.cli(&["ban", "lift", "--network", BAD]).success();
        assert!(said.contains("forgot 1"), "{said}");
        assert!(bans(&gateway).is_empty());
    }
    let log = gateway.log();
    let told: Vec<_> = log.iter().filter(|line| line["event"] == "guessing").collect();
    assert_eq!(told.len(), ALL.len(), "one line each time: {told:?}");
    assert!(
        told.iter().all(|line| line["network"] == "198.51.100.0/24" && line["tokens"] == LIMIT)
    );
    drop(app);
}

#[tokio::test]
async fn who_is_in_a_network_that_guesses_can_still_sign_in() {
    let (_app, gateway) = started();
    let mut live = gateway.signed_in("alice").await;
    let real = live.token().unwrap().to_owned();
    exhaust(&gateway, By::Cookie, &real, 0).await;
    // A browser with a cookie that has ended long ago.
    let dead = format!("{COOKIE}={}.{}", &real[..real.find('.').unwrap()], noise(7, 43));
    let from = [("x-forwarded-for", BAD), ("cookie", dead.as_str())];
    let navigation = [&from[..], NAVIGATION].concat();
    let mut client = gateway.client();
    // It goes where a new one is to be had; a program is told off.
    let page = client.get_with("/x", &navigation).await.expect(303);
    let to = page.header("location").unwrap();
    assert!(to.starts_with("/auth/login"), "{to}");
    client.get_with("/x", &from).await.expect(429);
    client.get_with("/public/x", &from).await.expect(200);
    let page = client.get_with("/auth/login", &navigation).await.expect(200);
    assert!(page.text().contains("name=\"password\""), "{}", page.text());
    let body = json!({ "username": "bob", "password": password("bob") });
    client.post_json_with("/auth/session", &body, &from).await.expect(201);
    client.get_with("/x", &[from[0]]).await.expect(200);
    // By the form, too.
    let origin = client.origin().to_owned();
    let form = format!("username=bob&password={}", password("bob"));
    let headers = [
        from[0],
        from[1],
        ("origin", origin.as_str()),
        ("content-type", "application/x-www-form-urlencoded"),
    ];
    let answer = client.request(Method::POST, "/auth/login", &headers, Bytes::from(form)).await;
    assert!(answer.is_redirect(), "{} {}", answer.status, answer.text());
    live.get("/x").await.expect(200);
}

#[tokio::test]
async fn right_passwords_open_sessions_beside_any_token_by_every_api() {
    let (_app, gateway) = started();
    let real = gateway.signed_in("alice").await.token().unwrap().to_owned();
    exhaust(&gateway, By::Cookie, &real, 0).await;
    let sid = uuid::Uuid::from_u128(0x4000_8000_0000_0000_7777).to_string();
    let ks = base64_url(format!("v2|{SHOP}|{}", noise(7, 48)).as_bytes());
    let dead = format!("{COOKIE}={}.{}", &real[..real.find('.').unwrap()], noise(7, 43));
    let word = password("bob");
    let nuvla = json!({ "template": { "href": "session-template/password", "username": "bob",
        "password": word } });
    let by_id = json!({ "format": 1, "ks": ks, "userId": "bob", "password": word,
        "partnerId": SHOP });
    let by_login = json!({ "format": 1, "ks": ks, "loginId": "bob", "password": word,
        "partnerId": SHOP });
    for (path, body, status) in [
        ("/api/session", nuvla, 201),
        ("/api2/signin", json!({ "email": "bob@example.org", "password": word }), 201),
        ("/api2/signin/1002", json!({ "password": word }), 201),
        ("/api_v3/service/user/action/login", by_id, 200),
        ("/api_v3/service/user/action/loginByLoginId", by_login, 200),
    ] {
        for stale in [("cookie", dead.as_str()), ("sid", sid.as_str())] {
            let from = [("x-forwarded-for", BAD), stale];
            let answer = gateway.client().post_json_with(path, &body, &from).await;
            let text = answer.text();
            assert!((200..=201).contains(&answer.status), "{path}: {} {text}", answer.status);
            assert!(status == 201 || answer.json().is_string(), "{path}: {text}");
        }
    }
    // What rests on the token alone is refused.
    let from = [("x-forwarded-for", BAD), ("sid", sid.as_str())];
    let mut client = gateway.client();
    client.post_json_with("/api2/signin/1002", &json!({}), &from).await.expect(429);
    client.get_with("/api2/session", &from).await.expect(429);
}

#[tokio::test]
async fn a_token_that_has_ended_may_come_again_and_again() {
    let (_app, gateway) = started();
    let mut client = gateway.signed_in("alice").await;
    let token = client.token().unwrap().to_owned();
    client.delete("/auth/session").await.expect(204);
    let cookie = format!("{COOKIE}={token}");
    let headers = [("x-forwarded-for", BAD), ("cookie", cookie.as_str())];
    for _ in 0..3 * LIMIT {
        client.get_with("/x", &headers).await.expect(401);
    }
    assert!(bans(&gateway).is_empty());
}

#[tokio::test]
async fn kaltura_counts_each_guess_of_a_multirequest() {
    let (_app, gateway) = started();
    let mut client = gateway.client();
    let from = [("x-forwarded-for", BAD)];
    let mut tried = 0;
    let code = loop {
        let mut body = json!({ "format": 1 });
        for place in 1..=10 {
            let text = base64_url(format!("v2|102|{}", noise(tried, 48)).as_bytes());
            tried += 1;
            body[place.to_string()] = json!({ "service": "session", "action": "get", "ks": text });
        }
        let path = "/api_v3/service/multirequest";
        let answer = client.post_json_with(path, &body, &from).await.expect(200).json();
        let last = answer[9]["code"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
        if last != "INVALID_KS" || tried >= 3 * LIMIT {
            break last;
        }
    };
    assert_eq!(code, "INTERNAL_SERVERL_ERROR", "after {tried}");
    assert!(tried <= LIMIT + 10, "{tried}");
}

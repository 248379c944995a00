//! One session seen by every carrier on every node is the same one, and over for all at once.

use std::time::Instant;

use bytes::Bytes;
use http::Method;
use serde_json::json;

use super::{By, kaltura, over_both, seen};
use crate::support::open::SOON;
use crate::support::world::{Held, Kept, World, telling};
use crate::support::{Gateway, Raw};

over_both!(
    every_carrier_shows_the_same_session,
    what_ends_in_one_api_is_over_in_all,
    a_switch_is_seen_in_all,
);

/// The ways to end one.
#[derive(Clone, Copy, Debug)]
enum End {
    Browser,
    Nuvla,
    Versal,
    Kaltura,
    Operator,
}

impl End {
    const ALL: [Self; 5] =
        [Self::Browser, Self::Nuvla, Self::Versal, Self::Kaltura, Self::Operator];

    async fn end(self, gateway: &Gateway, held: &Held, id: &str) {
        let mut client = gateway.client();
        let header = [held.header()];
        let none = Bytes::new();
        match self {
            Self::Browser => {
                client.request(Method::DELETE, "/auth/session", &header, none).await.expect(204);
            }
            Self::Nuvla => {
                let path = format!("/api/session/{id}");
                client.request(Method::DELETE, &path, &header, none).await.expect(200);
            }
            Self::Versal => {
                client.request(Method::POST, "/api2/signout", &header, none).await.expect(204);
            }
            Self::Kaltura => {
                let ended =
                    kaltura(&mut client, "session", "end", &json!({ "ks": held.text() })).await;
                assert!(ended.0.is_null(), "{ended:?}");
            }
            Self::Operator => {
                gateway.cli(&["session", "revoke", id]).success();
            }
        }
    }
}

/// The session's public id as the app at this node is told it, by every carrier.
async fn ids(gateway: &Gateway, held: &Held) -> Vec<(&'static str, String)> {
    let mut client = gateway.client();
    let mut ids = Vec::new();
    for (name, tail, header) in held.carriers() {
        let header = header.as_ref().map(|(name, value)| (*name, value.as_str()));
        let answer = seen(&mut client, &format!("/who{tail}"), header).await;
        assert_eq!(answer.status, 200, "{held:?} by {name}: {}", answer.text());
        ids.push((name, answer.json()["x-auth-session"].as_str().unwrap().to_owned()));
    }
    ids
}

/// The id, once it is known to be the same everywhere.
async fn same_everywhere(world: &World, held: &Held) -> String {
    let mut all = Vec::new();
    for node in world.nodes() {
        all.extend(ids(node, held).await);
    }
    let first = all[0].1.clone();
    assert!(all.iter().all(|(_, id)| *id == first), "{all:?}");
    first
}

async fn every_carrier_shows_the_same_session(kept: Kept) {
    let app = telling();
    let world = World::in_front_of(kept, app.addr());
    for by in By::ALL {
        let held = by.opened(&world.a).await;
        let id = same_everywhere(&world, &held).await;
        let mut client = world.other().client();
        let header = [held.header()];
        // Each API knows it by its own words.
        let own = client.get_with("/auth/session", &header).await.expect(200).json();
        assert_eq!(own["id"], id.as_str(), "{by:?}");
        let nuvla = client.get_with("/api/session", &header).await.expect(200).json();
        assert_eq!(nuvla["resources"][0]["id"], format!("session/{id}"), "{by:?}");
        let versal = client.get_with("/api2/session", &header).await.expect(200).json();
        assert_eq!(versal["userId"], "1001", "{by:?}: {versal}");
        let user = kaltura(&mut client, "user", "get", &json!({ "ks": held.text() })).await;
        assert_eq!(user.0["objectType"], "KalturaUser", "{by:?}: {user:?}");
        // Nothing that opens it is told to an app.
        let told = held.get(&mut client, "/who").await.expect(200).text();
        assert!(!told.contains(held.text()), "{told}");
    }
}

/// An event stream under the session.
async fn stream(gateway: &Gateway, held: &Held) -> Raw {
    let mut events = gateway.raw().await;
    let (host, (name, value)) = (gateway.authority(), held.header());
    events.send(format!("GET /events HTTP/1.1\r\nHost: {host}\r\n{name}: {value}\r\n\r\n")).await;
    events.until("data: first\n\n").await;
    events
}

async fn what_ends_in_one_api_is_over_in_all(kept: Kept) {
    let app = telling();
    let world = World::in_front_of(kept, app.addr());
    for by in By::ALL {
        for end in End::ALL {
            let held = by.opened(&world.a).await;
            let id = same_everywhere(&world, &held).await;
            let mut events = stream(world.other(), &held).await;
            end.end(&world.a, &held, &id).await;
            let ended = Instant::now();
            let cut = tokio::time::timeout(SOON, events.reader.rest()).await;
            let cut = cut.unwrap_or_else(|_| panic!("{by:?}, {end:?}: events still flow"));
            assert!(!cut.ends_with(b"0\r\n\r\n"), "a cut stream must not look complete");
            tokio::time::sleep_until((ended + SOON).into()).await;
            for node in world.nodes() {
                over(node, &held, &format!("{by:?}, ended by {end:?}")).await;
            }
        }
    }
}

/// By whatever carrier, in whatever API, it opens nothing any more.
async fn over(node: &Gateway, held: &Held, what: &str) {
    let mut client = node.client();
    for (name, tail, header) in held.carriers() {
        let header = header.as_ref().map(|(name, value)| (*name, value.as_str()));
        let answer = seen(&mut client, &format!("/who{tail}"), header).await;
        assert_eq!(answer.status, 401, "{what}, by {name}: {}", answer.text());
    }
    let header = [held.header()];
    client.get_with("/auth/session", &header).await.expect(401);
    client.get_with("/api2/session", &header).await.expect(401);
    let nuvla = client.get_with("/api/session", &header).await.expect(200).json();
    assert_eq!(nuvla["count"], 0, "{what}");
    let user = kaltura(&mut client, "user", "get", &json!({ "ks": held.text() })).await;
    assert_eq!(user.code(), "INVALID_KS", "{what}");
}

async fn a_switch_is_seen_in_all(kept: Kept) {
    let app = telling();
    let world = World::in_front_of(kept, app.addr());
    let mut client = world.a.client();
    let answer = client.post_json("/api/session", &super::nuvla_login("alice")).await.expect(201);
    let id = answer.header("location").unwrap();
    let before = Held::Cookie(client.token().unwrap().to_owned());
    let path = format!("/api/{id}/switch-group");
    let session =
        client.post_json(&path, &json!({ "claim": "group/eng" })).await.expect(200).json();
    assert_eq!((&session["active-claim"], &session["id"]), (&json!("group/eng"), &json!(id)));
    let after = Held::Cookie(client.token().unwrap().to_owned());
    assert_ne!(before.text(), after.text(), "the token must be another one");
    let same = same_everywhere(&world, &after).await;
    assert_eq!(id, format!("session/{same}"));
    for node in world.nodes() {
        let mut client = node.client();
        let told = after.get(&mut client, "/who").await.expect(200).json();
        assert_eq!(told["x-auth-active-claim"], "group/eng", "{told}");
        let own = client.get_with("/auth/session", &[after.header()]).await.expect(200).json();
        assert!(own.to_string().contains("group/eng"), "{own}");
    }
}

//! An app that believes only the headers sees the right user, claim and actor, and nothing that a
//! client wrote. The sessions are opened by the real clients.

use serde_json::{Value, json};

use super::{By, cookie_header, nuvla_login, over_both, partner_session};
use crate::support::clients::{KalturaClient, NuvlaClient};
use crate::support::gateway::password;
use crate::support::tools::App;
use crate::support::world::{
    ADMIN_SECRET, ALICE_KEY, BANK, BANK_SECRET, Held, Kept, SHOP, USER_SECRET, World,
};
use crate::support::{Client, Gateway};

over_both!(an_app_sees_who_it_is, nothing_from_outside_gets_through);

/// What the app must see: user, active claim, actor, and the first two words for Nuvla's apps.
struct Expected {
    user: &'static str,
    claim: &'static str,
    actor: Option<&'static str>,
    nuvla: &'static str,
}

const ALICE: Expected =
    Expected { user: "u-alice", claim: "user/u-alice", actor: None, nuvla: "user/f3a1 user/f3a1 " };
const BOB_OF_SHOP: Expected = Expected {
    user: "u-bob",
    claim: "user/u-bob",
    actor: Some("partner/102"),
    nuvla: "user/u-bob user/u-bob ",
};
const ALICE_OF_SHOP: Expected = Expected { actor: Some("partner/102"), ..ALICE };

/// Compares what a WSGI app saw.
#[track_caller]
fn check(what: &str, seen: &Value, expected: &Expected) {
    let header = |name: &str| seen[format!("HTTP_{name}")].as_str().filter(|text| !text.is_empty());
    assert_eq!(header("X_AUTH_USER"), Some(expected.user), "{what}: {seen}");
    assert_eq!(header("X_AUTH_ACTIVE_CLAIM"), Some(expected.claim), "{what}: {seen}");
    assert_eq!(header("X_AUTH_ACTOR"), expected.actor, "{what}: {seen}");
    let nuvla = header("NUVLA_AUTHN_INFO").unwrap_or_default();
    assert!(nuvla.starts_with(expected.nuvla), "{what}: {seen}");
    let session = header("X_AUTH_SESSION").unwrap_or_default();
    assert!(nuvla.ends_with(&format!(" session/{session}")), "{what}: {seen}");
    assert!(header("SID").is_none() && header("COOKIE").is_none(), "{what}: {seen}");
}

/// What clients send that want to be somebody else.
const FORGED: &[(&str, &str)] = &[
    ("X-Auth-User", "evil"),
    ("x_auth_user", "evil"),
    ("X-Auth-Active-Claim", "evil"),
    ("X_Auth_Active_Claim", "evil"),
    ("X-Auth-Actor", "evil"),
    ("x.auth.roles", "evil"),
    ("nuvla-authn-info", "evil evil group/nuvla-admin"),
    ("Nuvla_Authn_Info", "evil"),
];

async fn app_sees(gateway: &Gateway, held: &Held) -> Value {
    let headers = [&[held.header()], FORGED].concat();
    let seen = gateway.client().get_with("/who", &headers).await.expect(200).json();
    assert!(!seen.to_string().contains("evil"), "{seen}");
    seen
}

async fn an_app_sees_who_it_is(kept: Kept) {
    let app = App::wsgi("wsgi_echo");
    let world = World::in_front_of(kept, app.addr());
    let (here, there) = (&world.a, world.other());
    check("browser", &app_sees(there, &By::Browser.opened(here).await).await, &ALICE);

    // Nuvla's own client.
    let mut nuvla = NuvlaClient::of(here);
    let answer = nuvla.login_password("alice", &password("alice"));
    assert_eq!(answer["status"], 201, "{answer}");
    check("nuvla password", &nuvla.request("GET", "/who")["body"], &ALICE);
    let id = nuvla.current_session().unwrap();
    nuvla.operation(&id, "switch-group", &json!({ "claim": "group/eng" })).unwrap();
    let switched = Expected { claim: "group/eng", nuvla: "user/f3a1 group/eng ", ..ALICE };
    check("after the switch", &nuvla.request("GET", "/who")["body"], &switched);
    let mut by_key = NuvlaClient::of(here);
    let answer = by_key.login_apikey(&format!("credential/{}", ALICE_KEY.0), ALICE_KEY.1);
    assert_eq!(answer["status"], 201, "{answer}");
    check("nuvla api-key", &by_key.request("GET", "/who")["body"], &ALICE);
    check("bearer key", &app_sees(there, &Held::Sid(ALICE_KEY.1.to_owned())).await, &ALICE);

    let sid = partner_session(&mut here.client(), "1002").await;
    check("versal", &app_sees(there, &Held::Sid(sid)).await, &BOB_OF_SHOP);

    // Kaltura's own clients.
    for mut client in [KalturaClient::python(here), KalturaClient::node(here)] {
        let user = [json!(USER_SECRET), json!("bob"), json!(0), json!(SHOP)];
        let ks = client.text("session", "start", &user);
        check("user KS", &app_sees(there, &Held::Ks(ks)).await, &BOB_OF_SHOP);
        let admin = [json!(ADMIN_SECRET), json!("alice-p"), json!(2), json!(SHOP)];
        let ks = client.text("session", "start", &admin);
        check("admin KS", &app_sees(there, &Held::Ks(ks)).await, &ALICE_OF_SHOP);
    }
    let mut python = KalturaClient::python(here);
    let shop = (SHOP, ADMIN_SECRET);
    let ks = python.sealed(shop, ("bob", 0), 600, "list:*");
    check("offline KS", &app_sees(there, &Held::Ks(ks)).await, &BOB_OF_SHOP);
    let ks = python.sealed(shop, ("alice-p", 2), 600, "*");
    check("offline admin KS", &app_sees(there, &Held::Ks(ks)).await, &ALICE_OF_SHOP);
}

async fn refused(client: &mut Client, headers: &[(&str, &str)], path: &str, what: &str) {
    let answer = client.get_with(path, headers).await;
    assert_eq!(answer.status, 401, "{what}: {}", answer.text());
}

async fn nothing_from_outside_gets_through(kept: Kept) {
    let app = App::wsgi("wsgi_echo");
    let world = World::in_front_of(kept, app.addr());
    let mut client = world.a.client();
    // Without a session nothing is believed, and where nobody is needed nothing is told.
    refused(&mut client, FORGED, "/who", "headers").await;
    let seen = client.get_with("/public/x", FORGED).await.expect(200).json();
    assert!(!seen.to_string().contains("evil"), "{seen}");

    let random = "3f0e6a52-53a9-4b8c-9d3c-0a5b0d1c2e4f";
    refused(&mut client, &[("sid", random)], "/who", "a SID of nobody").await;
    let known_id = {
        let mut alice = world.a.client();
        alice.post_json("/api/session", &nuvla_login("alice")).await.expect(201);
        let cookie = cookie_header(&alice);
        let seen = client.get_with("/who", &[("cookie", &cookie)]).await.expect(200).json();
        seen["HTTP_X_AUTH_SESSION"].as_str().unwrap().to_owned()
    };
    for path in ["/who".to_owned(), format!("/who?ks={known_id}")] {
        refused(&mut client, &[("sid", &known_id)], &path, "a public id").await;
    }
    let mut python = KalturaClient::python(&world.a);
    let wrong = "another secret, of nobody at all";
    let bad = [
        python.sealed((SHOP, wrong), ("bob", 2), 600, "*"),
        python.sealed((SHOP, USER_SECRET), ("bob", 0), 600, "*"),
        python.sealed((999, ADMIN_SECRET), ("bob", 2), 600, "*"),
        python.sealed((SHOP, ADMIN_SECRET), ("carol", 2), 600, "*"),
        python.sealed((SHOP, ADMIN_SECRET), ("bob", 2), -1, "*"),
        // A partner that may not seal by itself.
        python.sealed((BANK, BANK_SECRET), ("bob", 2), 600, "*"),
    ];
    for (place, ks) in bad.iter().enumerate() {
        let coded: String = url::form_urlencoded::byte_serialize(ks.as_bytes()).collect();
        refused(&mut client, &[], &format!("/who?ks={coded}"), &format!("KS {place}")).await;
        refused(&mut client, &[("sid", ks)], "/who", &format!("KS {place} as SID")).await;
    }
}

//! Kaltura's session API over real sockets: its own actions, its place among apps, its own clients.

mod apps;
mod clients;
mod contract;
mod spelling;

use serde_json::{Value, json};

use crate::support::gateway::{Builder, cheap_hash, password};
use crate::support::{Client, Gateway, Response, Upstream};

const ADMIN: &str = "admin-secret-of-102";
const USER: &str = "user-secret-of-102";
const OTHER: &str = "admin-secret-of-103";
const APP: &str = "token-of-an-app-of-102";

/// Alice administrates 102, bob is `b0b` there and administrates 103, dave is in neither.
fn users() -> String {
    let user = |id: &str, more: &str| {
        let hash = cheap_hash(&password(id));
        format!(
            "[[user]]\nid = \"u-{id}\"\nname = \"{id}\"\nemail = \"{id}@example.org\"\n\
             password = \"{hash}\"\n{more}\n"
        )
    };
    let partners = format!(
        "[[partner]]\nid = \"102\"\nname = \"Rich & Co\"\nadmin_secrets = [\"{ADMIN}\"]\n\
         user_secrets = [\"{USER}\"]\nroles = [\"PLAYBACK_BASE_ROLE\"]\nreach = \"guests\"\n\
         lifetime = \"7d\"\noffline = true\nwidgets = true\n\
         [[partner.member]]\nuser = \"alice\"\nadmin = true\n\
         [[partner.member]]\nuser = \"bob\"\nalias = \"b0b\"\n\
         [[partner.app_token]]\nid = \"1_app\"\ntoken = \"{APP}\"\n\
         [[partner]]\nid = \"103\"\nadmin_secrets = [\"{OTHER}\"]\n\
         [[partner.member]]\nuser = \"bob\"\nadmin = true\n"
    );
    let alias = "[user.aliases]\nkaltura = \"alice.k\"\n";
    [user("alice", alias), user("bob", ""), user("dave", ""), partners].concat()
}

/// The API at `/api_v3`, and an app that has everything else.
fn builder(upstream: &Upstream) -> Builder {
    Gateway::builder()
        .users(&users())
        .block("[api.kaltura]")
        .upstream("app", upstream.addr())
        .private("/", "app")
        .public("/public/", "app")
}

/// Calls an action as a client that speaks JSON.
async fn call(client: &mut Client, name: &str, mut params: Value) -> Value {
    let (service, action) = name.split_once('.').unwrap();
    params["format"] = json!(1);
    let path = format!("/api_v3/service/{service}/action/{action}");
    let answer = client.post_json(&path, &params).await;
    answered(&answer)
}

/// The JSON of an answer of the API.
#[track_caller]
fn answered(answer: &Response) -> Value {
    assert_eq!(answer.status, 200, "{:?}\n{}", answer.headers, answer.text());
    assert_eq!(answer.header("content-type").as_deref(), Some("application/json"));
    assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"));
    assert_eq!(answer.header("access-control-allow-origin").as_deref(), Some("*"));
    assert!(answer.header("location").is_none() && answer.header("set-cookie").is_none());
    answer.json()
}

/// A KS of partner 102 by its admin secret.
async fn start(client: &mut Client, user: &str, kind: u8, privileges: &str) -> String {
    let params = json!({"partnerId": 102, "secret": ADMIN, "userId": user, "type": kind,
        "privileges": privileges});
    let ks = call(client, "session.start", params).await;
    ks.as_str().unwrap_or_else(|| panic!("no KS: {ks}")).to_owned()
}

#[track_caller]
fn invalid_ks(answer: &Value, reason: &str) {
    assert_eq!((&answer["code"], &answer["args"]["KSID"]), (&json!("INVALID_KS"), &json!(reason)));
}

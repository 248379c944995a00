//! Nuvla's session API over real sockets: its contract, its place among apps, its own client.

mod apps;
mod client;
mod contract;
mod keys;
mod sessions;

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use crate::support::gateway::{Builder, cheap_hash, password};
use crate::support::{Client, Gateway, Response, Upstream};

/// Alice has an id in Nuvla and is in `staff` and `eng` (which has a sub-group), bob is in `staff`.
fn users() -> String {
    let user = |id: &str, groups: &str, more: &str| {
        let hash = cheap_hash(&password(id));
        format!(
            "[[user]]\nid = \"u-{id}\"\nname = \"{id}\"\nemail = \"{id}@example.org\"\n\
             password = \"{hash}\"\ngroups = [{groups}]\n{more}\n"
        )
    };
    let alias = "[user.aliases]\nnuvla = \"f3a1\"\n";
    let group = |name: &str, more: &str| format!("[[group]]\nname = \"{name}\"\n{more}\n");
    [
        user("alice", "\"staff\", \"eng\"", alias),
        user("bob", "\"staff\"", ""),
        user("carol", "", "disabled = true\n"),
        group("staff", "description = \"All of us\""),
        group("eng", ""),
        group("eng-core", "parents = [\"eng\"]"),
        group("board", ""),
    ]
    .concat()
}

/// The API at `/api`, and an app that has everything else.
fn builder(upstream: &Upstream) -> Builder {
    Gateway::builder()
        .users(&users())
        .block("[api.nuvla]")
        .upstream_with("app", &format!("http://{}", upstream.addr()), "nuvla_authn_info = true")
        .upstream("plain", upstream.addr())
        .private("/", "app")
        .private("/plain/", "plain")
        .public("/public/", "app")
}

fn login(user: &str) -> Value {
    let href = "session-template/password";
    json!({ "template": { "href": href, "username": user, "password": password(user) } })
}

/// A request with a JSON body, or none.
async fn send(client: &mut Client, method: &str, path: &str, body: Option<&Value>) -> Response {
    let method: Method = method.parse().unwrap();
    match body {
        Some(body) => {
            let headers = [("content-type", "application/json"), ("accept", "application/json")];
            client.request(method, path, &headers, Bytes::from(body.to_string())).await
        }
        None => client.request(method, path, &[], Bytes::new()).await,
    }
}

/// Signs in as a client of Nuvla; the client, and its session's id with `session/`.
async fn signed_in(gateway: &Gateway, user: &str) -> (Client, String) {
    let mut client = gateway.client();
    let answer = client.post_json("/api/session", &login(user)).await.expect(201);
    let id = answer.header("location").unwrap();
    (client, id)
}

/// Checks a failure in Nuvla's words and gives its message.
#[track_caller]
fn failure(answer: &Response, status: u16) -> String {
    assert_eq!(answer.status, status, "{:?}\n{}", answer.headers, answer.text());
    assert_eq!(answer.header("content-type").as_deref(), Some("application/json"));
    assert!(answer.header("location").is_none());
    let document = answer.json();
    assert_eq!(document["status"], status, "{document}");
    document["message"].as_str().unwrap().to_owned()
}

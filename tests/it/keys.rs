//! API keys and partners: made at the command line and on the account page, and what ends with them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::client::COOKIE;
use crate::support::process::{PATIENCE, wait_for};
use crate::support::{Client, Gateway};

fn listed(gateway: &Gateway, more: &[&str]) -> Vec<Value> {
    let text = gateway.cli(&[&["key", "list", "--json"], more].concat()).success();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The id and secret that `key create` prints.
fn created(said: &str) -> (String, String) {
    let part = |start: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix(start));
        line.unwrap_or_else(|| panic!("no {start} in {said}")).to_owned()
    };
    (part("id: "), part("secret: "))
}

async fn mine(client: &mut Client) -> Vec<Value> {
    let body = client.get("/auth/keys").await.expect(200).json();
    body["keys"].as_array().unwrap().clone()
}

/// Asks until `count` keys are listed.
async fn until(client: &mut Client, count: usize) {
    let end = Instant::now() + PATIENCE;
    while mine(client).await.len() != count {
        assert!(Instant::now() < end, "never {count} keys");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The status of a request with this bearer token.
async fn bearer(gateway: &Gateway, token: &str) -> u16 {
    let authorization = format!("Bearer {token}");
    gateway.client().get_with("/x", &[("authorization", &authorization)]).await.status
}

#[tokio::test]
async fn an_operator_makes_lists_and_revokes_keys() {
    let gateway = Gateway::whoami();
    gateway.write_users(&format!("# A comment that stays.\n{}", gateway.users()));
    let said = gateway.cli(&["partner", "add", "102", "--name", "Acme"]).success();
    let secret = said.lines().find_map(|line| line.strip_prefix("admin secret: ")).unwrap();
    assert!(secret.len() == 32 && secret.bytes().all(|byte| byte.is_ascii_hexdigit()), "{said}");
    let make = |args: &[&str]| {
        let args = [&["key", "create"], args].concat();
        created(&gateway.cli(&args).success())
    };
    let (of_user, word) = make(&["--user", "Alice", "--name", "nightly", "--expires", "90d"]);
    assert_eq!(word.split('.').map(str::len).collect::<Vec<_>>(), [6; 5]);
    let (of_group, _) = make(&["--group", "eng"]);
    let (of_partner, _) = make(&["--partner", "102"]);
    let users = gateway.users();
    assert!(users.starts_with("# A comment that stays.") && !users.contains(&word), "{users}");
    let rows = listed(&gateway, &[]);
    let ids: Vec<_> = rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [&of_user, &of_group, &of_partner]);
    assert_eq!((&rows[0]["owner"], &rows[0]["name"]), (&json!("user/u-alice"), &json!("nightly")));
    assert!(rows[0]["expires"].is_string() && rows[1].get("expires").is_none(), "{rows:?}");
    assert_eq!(listed(&gateway, &["--group", "eng"]).len(), 1);
    let text = gateway.cli(&["key", "list", "--user", "alice"]).success();
    assert!(text.contains(&of_user) && text.contains("nightly") && !text.contains(&word), "{text}");

    gateway.reload();
    let cheap = |users: &str| users.matches("$m=8,").count();
    let mut alice = gateway.signed_in("alice").await;
    // Her sign-in replaces her hash: from then on nothing but commands writes the file.
    wait_for("a costlier hash", || (cheap(&gateway.users()) < cheap(&users)).then_some(()));
    until(&mut alice, 1).await;
    gateway.cli(&["key", "revoke", &of_user]).success();
    assert!(mine(&mut alice).await.is_empty(), "the running gateway revokes it itself");
    gateway.cli(&["key", "revoke", of_group.strip_prefix("credential/").unwrap()]).success();
    assert_eq!(listed(&gateway, &[]).len(), 1);
    let log = gateway.log();
    let revoked: Vec<_> = log.iter().filter(|line| line["event"] == "key-revoked").collect();
    assert_eq!(revoked.len(), 2, "{revoked:?}");

    let before = gateway.users();
    for (args, code) in [
        (&["key", "revoke", of_user.as_str()][..], 1),
        (&["key", "create", "--user", "nobody"], 1),
        (&["key", "create", "--group", "nobody"], 1),
        (&["key", "create", "--partner", "7"], 1),
        (&["key", "create"], 64),
        (&["key", "create", "--user", "alice", "--group", "eng"], 64),
        (&["key", "create", "--user", "alice", "--expires", "soon"], 64),
        (&["partner", "add", "102"], 1),
        (&["partner", "add", "a/b"], 1),
        (&["user", "add", "zoe", "--generate", "--alias", "versal=x"], 1),
        (&["user", "add", "zoe", "--generate", "--alias", "versal"], 64),
    ] {
        let done = gateway.cli(args);
        assert_eq!(done.code(), code, "{args:?}: {}", done.text());
        assert!(!done.stderr.trim().is_empty(), "{args:?} says nothing");
    }
    assert_eq!(gateway.users(), before, "a refused change has changed the file");
    gateway.cli(&["user", "add", "zoe", "--generate", "--alias", "versal=-12"]).success();
    assert!(gateway.users().contains("aliases = { versal = \"-12\" }"), "{}", gateway.users());
}

#[tokio::test]
async fn a_person_makes_and_revokes_a_key_by_json() {
    let gateway = Gateway::whoami();
    let mut alice = gateway.signed_in("alice").await;
    let body = json!({ "name": "script", "expires": "1h" });
    let answer = alice.post_json("/auth/keys", &body).await.expect(201);
    assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"));
    let key = answer.json();
    let (id, secret) = (key["id"].as_str().unwrap(), key["secret"].as_str().unwrap().to_owned());
    assert_eq!(key["owner"], "user/u-alice");
    assert_eq!(mine(&mut alice).await.len(), 1);
    assert_eq!(listed(&gateway, &["--user", "alice"])[0]["id"], id);
    assert!(!gateway.users().contains(&secret));
    // The key itself is a bearer token, as it was shown: anything else may be the app's.
    assert_eq!(bearer(&gateway, &secret).await, 200);
    assert_eq!(bearer(&gateway, &secret.replace('.', "")).await, 401);
    let mut bob = gateway.signed_in("bob").await;
    assert!(mine(&mut bob).await.is_empty());
    let path = format!("/auth/keys/{}", id.strip_prefix("credential/").unwrap());
    bob.delete(&path).await.expect(404);
    assert_eq!(bearer(&gateway, &secret).await, 200);
    alice.delete(&path).await.expect(204);
    assert_eq!(bearer(&gateway, &secret).await, 401);
    assert!(mine(&mut alice).await.is_empty());
    alice.delete(&path).await.expect(404);
    gateway.client().get("/auth/keys").await.expect(401);
    let output = gateway.output();
    assert!(!output.contains(&secret) && !output.contains(&secret.replace('.', "")));
}

#[tokio::test]
async fn a_key_of_a_group_is_the_group_until_the_file_says_otherwise() {
    let gateway = Gateway::whoami();
    let (_, secret) = created(&gateway.cli(&["key", "create", "--group", "eng"]).success());
    gateway.reload();
    let end = Instant::now() + PATIENCE;
    while bearer(&gateway, &secret).await != 200 {
        assert!(Instant::now() < end, "the key is not known");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let authorization = format!("Bearer {secret}");
    let headers = [("authorization", authorization.as_str()), ("accept", "application/json")];
    let seen = gateway.client().get_with("/x", &headers).await.expect(200).text();
    assert!(seen.contains("group/eng"), "{seen}");
    // Taken out of the file by hand: refused within a second of the reload.
    let users = gateway.users();
    gateway.write_users(users.split("\n[[key]]").next().unwrap());
    gateway.reload();
    let end = Instant::now() + Duration::from_secs(1);
    while bearer(&gateway, &secret).await != 401 {
        assert!(Instant::now() < end, "the key works on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Regression: who had signed out could end the request that they had begun before: a key was made that outlived them.
#[tokio::test]
async fn a_request_that_was_begun_before_the_logout_makes_no_key() {
    let gateway = Gateway::whoami();
    for (method, path) in [("POST", "/auth/keys"), ("DELETE", "/auth/sessions")] {
        let mut alice = gateway.signed_in("alice").await;
        let mut other = gateway.signed_in("alice").await;
        let mut raw = gateway.raw().await;
        let (host, cookie) = (gateway.authority(), alice.token().unwrap().to_owned());
        let body = "{\"name\": \"mine\"}";
        raw.send(format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nOrigin: {}\r\nCookie: {COOKIE}={cookie}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{{",
            gateway.origin(),
            body.len()
        ))
        .await;
        gateway.metric_is("portcullis_requests_in_flight", |count| count >= 1.0).await;
        alice.delete("/auth/session").await.expect(204);
        raw.send(&body[1..]).await;
        let answer = raw.response().await;
        assert_eq!(answer.status, 401, "{path}: {answer:?}");
        assert!(listed(&gateway, &[]).is_empty(), "{path}");
        other.get("/auth/session").await.expect(200);
    }
}

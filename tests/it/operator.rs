//! What an operator does at the command line while the gateway runs, and when it does not.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::gateway::password;
use crate::support::process::PATIENCE;
use crate::support::{Client, Gateway};

/// `session list --json` as values.
fn listed(gateway: &Gateway, more: &[&str]) -> Vec<Value> {
    let args = [&["session", "list", "--json"], more].concat();
    let text = gateway.cli(&args).success();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn ids(rows: &[Value]) -> Vec<&str> {
    rows.iter().map(|row| row["id"].as_str().unwrap()).collect()
}

/// Asks until the status is `status`.
async fn until(client: &mut Client, status: u16) {
    let end = Instant::now() + PATIENCE;
    while client.get("/x").await.status != status {
        assert!(Instant::now() < end, "never {status}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn id_of(client: &mut Client) -> String {
    client.get("/auth/session").await.expect(200).json()["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn sessions_are_listed_and_revoked_while_it_runs() {
    let gateway = Gateway::whoami();
    let mut one = gateway.signed_in("alice").await;
    let mut two = gateway.signed_in("alice").await;
    let mut bob = gateway.signed_in("bob").await;
    let (first, second) = (id_of(&mut one).await, id_of(&mut two).await);
    let rows = listed(&gateway, &[]);
    assert_eq!(rows.len(), 3, "{rows:?}");
    let rows = listed(&gateway, &["--user", "alice"]);
    let of_alice = ids(&rows);
    assert_eq!(of_alice.len(), 2);
    assert!(of_alice.contains(&first.as_str()) && of_alice.contains(&second.as_str()));
    assert_eq!(rows[0]["identifier"], "alice");
    assert_eq!(rows[0]["user"], "u-alice");
    let text = gateway.cli(&["session", "list"]).success();
    assert!(text.contains(&first) && text.contains("bob"), "{text}");
    let secret = one.token().unwrap().split('.').nth(1).unwrap();
    assert!(!format!("{rows:?}{text}").contains(secret));

    gateway.cli(&["session", "revoke", &first]).success();
    one.get("/x").await.expect(401);
    two.get("/x").await.expect(200);
    gateway.cli(&["session", "revoke", "--user", "alice"]).success();
    two.get("/x").await.expect(401);
    bob.get("/x").await.expect(200);
    gateway.cli(&["session", "revoke", "--all"]).success();
    bob.get("/x").await.expect(401);
    assert!(listed(&gateway, &[]).is_empty());

    // What cannot be done is said and has a code.
    for (args, code) in [
        (&["session", "revoke", "--user", "nobody"][..], 1),
        (&["session", "revoke", &first], 1),
        (&["session", "revoke", "nonsense"], 1),
        (&["session", "revoke"], 64),
        (&["session", "revoke", "--user", "alice", "--all"], 64),
    ] {
        let done = gateway.cli(args);
        assert_eq!(done.code(), code, "{args:?}: {}", done.text());
        assert!(!done.stderr.trim().is_empty(), "{args:?} says nothing");
    }
}

#[tokio::test]
async fn sessions_are_listed_and_revoked_while_it_does_not() {
    let mut gateway = Gateway::whoami();
    let mut alice = gateway.signed_in("alice").await;
    let mut bob = gateway.signed_in("bob").await;
    assert!(gateway.terminate(PATIENCE).success());
    assert_eq!(listed(&gateway, &[]).len(), 2);
    gateway.cli(&["session", "revoke", "--user", "alice"]).success();
    let rows = listed(&gateway, &[]);
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(rows[0]["identifier"], "bob");
    let gateway = gateway.restart();
    alice.reconnect();
    bob.reconnect();
    alice.get("/x").await.expect(401);
    bob.get("/x").await.expect(200);
    drop(gateway);
}

#[tokio::test]
async fn people_and_groups_are_edited_while_it_runs() {
    let gateway = Gateway::whoami();
    gateway.write_users(&format!("# A comment that stays.\n{}", gateway.users()));
    gateway
        .cli(&["group", "add", "ops", "--description", "On call", "--parent", "staff"])
        .success();
    let word = "erin has a long password";
    let add = ["user", "add", "erin", "--email", "erin@example.org", "--group", "ops"];
    let said = gateway.cli_fed(&add, &format!("{word}\n")).success();
    assert!(!said.contains(word), "{said}");
    let users = gateway.users();
    assert!(users.contains("# A comment that stays.") && !users.contains(word), "{users}");
    gateway.reload();
    let mut erin = gateway.client();
    let end = Instant::now() + PATIENCE;
    while erin.try_sign_in("erin", word).await.status != 201 {
        assert!(Instant::now() < end, "erin is not known");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let seen = erin.get_with("/x", &[("accept", "application/json")]).await.expect(200).text();
    assert!(seen.contains("ops") && seen.contains("erin@example.org"), "{seen}");

    let new = "another long password";
    gateway.cli_fed(&["user", "passwd", "erin"], &format!("{new}\n")).success();
    gateway.reload();
    let end = Instant::now() + PATIENCE;
    while gateway.client().try_sign_in("erin", new).await.status != 201 {
        assert!(Instant::now() < end, "the new password is not known");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    gateway.client().try_sign_in("erin", word).await.expect(401);
    erin.get("/x").await.expect(200);

    gateway.cli(&["user", "disable", "erin"]).success();
    gateway.reload();
    until(&mut erin, 401).await;
    gateway.client().try_sign_in("erin", new).await.expect(401);
    gateway.cli(&["user", "enable", "erin"]).success();
    gateway.reload();
    let end = Instant::now() + PATIENCE;
    while gateway.client().try_sign_in("erin", new).await.status != 201 {
        assert!(Instant::now() < end, "erin stays disabled");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    // The session from before does not rise again.
    erin.get("/x").await.expect(401);

    let before = gateway.users();
    for args in [
        &["user", "add", "erin", "--generate"][..],
        &["user", "add", "frank", "--generate", "--group", "nowhere"],
        &["user", "disable", "nobody"],
        &["user", "passwd", "nobody", "--generate"],
        &["group", "add", "ops"],
        &["group", "add", "x", "--parent", "nowhere"],
    ] {
        let done = gateway.cli(args);
        assert_eq!(done.code(), 1, "{args:?}: {}", done.text());
    }
    let short = gateway.cli_fed(&["user", "passwd", "erin"], "short\n");
    assert_eq!(short.code(), 1, "{}", short.text());
    assert_eq!(gateway.users(), before, "a refused change has changed the file");
}

#[tokio::test]
async fn a_generated_password_and_a_hash_are_good_for_login() {
    let gateway = Gateway::whoami();
    let said = gateway.cli(&["user", "add", "gina", "--generate"]).success();
    let generated = said.lines().find_map(|line| line.strip_prefix("password: ")).unwrap();
    let word = "a password for hashing";
    let hash = gateway.cli_fed(&["hash-password"], &format!("{word}\n")).success();
    let hash = hash.trim();
    assert!(hash.starts_with("$argon2id$") && !hash.contains(word), "{hash}");
    let users = gateway.users();
    gateway.write_users(&format!(
        "{users}\n[[user]]\nid = \"u-hank\"\nname = \"hank\"\npassword = \"{hash}\"\n"
    ));
    gateway.reload();
    let end = Instant::now() + PATIENCE;
    while gateway.client().try_sign_in("hank", word).await.status != 201 {
        assert!(Instant::now() < end, "hank is not known");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    gateway.client().try_sign_in("gina", generated).await.expect(201);
    gateway.client().try_sign_in("hank", &password("hank")).await.expect(401);
}

#[test]
fn explain_agrees_with_the_gateway() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let gateway = Gateway::builder()
        .upstream_with("app", "builtin:whoami", "")
        .public("/public/", "app")
        .route("/eng/", "app", "{ groups = [\"eng\"], methods = [\"GET\"] }", "")
        .route("/optional/", "app", "\"optional\"", "")
        .private("/in/", "app")
        .start();
    let origin = gateway.origin().to_owned();
    for (user, path, verdict, status) in [
        (None, "/public/x", "pass", 200),
        (Some("alice"), "/public/x", "pass", 200),
        (None, "/eng/x", "401", 401),
        (Some("alice"), "/eng/x", "pass", 200),
        (Some("bob"), "/eng/x", "403", 403),
        (None, "/optional/x", "pass", 200),
        (Some("bob"), "/optional/x", "pass", 200),
        (None, "/in/x", "401", 401),
        (Some("bob"), "/in/x", "pass", 200),
        (Some("bob"), "/nowhere", "404", 404),
        (Some("bob"), "/eng/../in/x", "400", 400),
        (Some("bob"), "/in/a%2fb", "400", 400),
    ] {
        let url = format!("{origin}{path}");
        let mut args = vec!["explain", url.as_str()];
        args.extend(user.into_iter().flat_map(|name| ["--user", name]));
        let said = gateway.cli(&args).success();
        let line = said.lines().find_map(|line| line.strip_prefix("verdict   ")).unwrap();
        assert!(line.starts_with(verdict), "{user:?} {path}: {said}");
        let answered = runtime.block_on(async {
            let mut client = gateway.client();
            if let Some(name) = user {
                client.sign_in(name).await;
            }
            client.get(path).await.status
        });
        assert_eq!(answered, status, "{user:?} {path}");
    }
}

//! What an operator does at the command line while the gateway runs, and when it does not.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::gateway::password;
use crate::support::process::{PATIENCE, eventually};
use crate::support::redis::Server;
use crate::support::site::{App, routes};
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

/// Regression: until the file was looked at, the old password opened sessions that stayed.
#[tokio::test]
async fn an_old_password_opens_nothing_once_the_sessions_are_revoked() {
    let gateway = Gateway::whoami();
    let mut bob = gateway.signed_in("bob").await;
    gateway.cli_fed(&["user", "passwd", "bob"], "another long password\n").success();
    gateway.cli(&["session", "revoke", "--user", "bob"]).success();
    gateway.client().try_sign_in("bob", &password("bob")).await.expect(401);
    bob.get("/x").await.expect(401);
    let mut bob = gateway.client();
    bob.try_sign_in("bob", "another long password").await.expect(201);
    // Sessions end whatever has become of the file.
    gateway.write_users("[[user]");
    gateway.cli(&["session", "revoke", "--user", "bob"]).success();
    bob.get("/x").await.expect(401);
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
async fn a_session_is_shown_with_all_but_its_secrets() {
    let mut gateway = Gateway::whoami();
    let mut alice = gateway.client();
    let body = serde_json::json!({ "username": "alice", "password": password("alice") });
    let agent = [("user-agent", "Probe/1.0 (of a test)")];
    alice.post_json_with("/auth/session", &body, &agent).await.expect(201);
    alice.post_json("/auth/switch", &serde_json::json!({ "claim": "group/eng" })).await.expect(200);
    let id = id_of(&mut alice).await;
    let secret = alice.token().unwrap().split('.').nth(1).unwrap().to_owned();
    for running in [true, false] {
        let text = gateway.cli(&["session", "show", &id]).success();
        for part in [
            &id,
            "u-alice",
            "group/eng",
            "password, level 1",
            "Probe/1.0 (of a test)",
            "127.0.0.1",
            "generation     1",
        ] {
            assert!(text.contains(part), "no {part:?} in\n{text}");
        }
        let json = gateway.cli(&["session", "show", "--json", &format!("session/{id}")]).success();
        let row: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(row["id"], id.as_str());
        assert_eq!(row["agent"], "Probe/1.0 (of a test)");
        assert_eq!(row["idle_seconds"], 3600);
        assert!(row["expires"].as_str().unwrap() > row["created"].as_str().unwrap(), "{row}");
        for text in [text, json] {
            assert!(!text.contains(&secret) && !text.contains("hash"), "{text}");
            assert!(!text.contains("secret") && !text.contains("previous"), "{text}");
        }
        let other = "00000000-0000-4000-8000-000000000000";
        for (args, code) in [
            (&["session", "show", other][..], 1),
            (&["session", "show", "nonsense"], 1),
            (&["session", "show"], 64),
        ] {
            assert_eq!(gateway.cli(args).code(), code, "{args:?}");
        }
        if running {
            assert!(gateway.terminate(PATIENCE).success());
        }
    }
}

#[tokio::test]
async fn delays_after_failed_logins_are_listed_and_lifted() {
    let mut gateway = Gateway::whoami();
    let bans = |gateway: &Gateway| -> Vec<Value> {
        let text = gateway.cli(&["ban", "list", "--json"]).success();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    assert!(bans(&gateway).is_empty());
    let end = Instant::now() + PATIENCE;
    // Eight failures: a delay of eight seconds.
    let mut failures = 0;
    while failures < 8 {
        let status = gateway.client().try_sign_in("alice", "wrong").await.status;
        failures += usize::from(status == 401);
        assert!(Instant::now() < end, "{failures} failures, {status}");
        if status == 429 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    let found = bans(&gateway);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0]["kind"], "pair");
    assert_eq!(found[0]["person"], "alice");
    assert_eq!(found[0]["network"], "127.0.0.0/24");
    assert_eq!(found[0]["failures"], 8);
    assert!((1..=8).contains(&found[0]["wait_seconds"].as_u64().unwrap()), "{found:?}");
    let text = gateway.cli(&["ban", "list"]).success();
    assert!(text.contains("alice") && text.contains("127.0.0.0/24"), "{text}");

    // What cannot be done is said; others are not touched.
    for (args, code) in [
        (&["ban", "lift"][..], 64),
        (&["ban", "lift", "--user", "x", "--all"], 64),
        (&["ban", "lift", "--network", "nonsense"], 1),
        (&["ban", "lift", "--network", "10.0.0.0/8"], 1),
    ] {
        assert_eq!(gateway.cli(args).code(), code, "{args:?}");
    }
    let said = gateway.cli(&["ban", "lift", "--user", "bob"]).success();
    assert!(said.contains("forgot 0"), "{said}");
    gateway.cli(&["ban", "lift", "--user", "alice", "--network", "192.0.2.1"]).success();
    assert_eq!(bans(&gateway).len(), 1);
    gateway.cli(&["ban", "lift", "--user", "ALICE"]).success();
    assert!(bans(&gateway).is_empty());
    let log = gateway.log();
    let lifted = log.iter().rfind(|line| line["event"] == "delays-lifted");
    assert_eq!(lifted.unwrap()["person"], "ALICE");
    gateway.client().sign_in("alice").await;

    // While it is stopped, too: names that nobody has, and then a whole network.
    for number in 0..9 {
        let name = format!("nobody-{}", number / 5);
        gateway.client().try_sign_in(&name, "wrong").await;
    }
    assert!(gateway.terminate(PATIENCE).success());
    let said = gateway.cli(&["ban", "lift", "--user", "Nobody-0"]).success();
    assert!(said.contains("forgot 3"), "{said}");
    let said = gateway.cli(&["ban", "lift", "--network", "127.0.0.9"]).success();
    assert!(said.contains("forgot 2"), "{said}");
    let said = gateway.cli(&["ban", "lift", "--all"]).success();
    assert!(said.contains("forgot 2"), "{said}");
}

/// Commands panicked where nothing could be written; a secret that is shown once was lost without a word.
#[tokio::test]
async fn what_cannot_be_said_is_told_without_a_panic() {
    let gateway = Gateway::whoami();
    let _alice = gateway.signed_in("alice").await;
    for args in [
        &["check"][..],
        &["explain", "/x"],
        &["session", "list"],
        &["session", "list", "--json"],
        &["ban", "lift", "--all"],
        &["attack", "--json"],
    ] {
        let done = gateway.cli_unheard(args);
        let wanted = if args[0] == "attack" { 2 } else { 1 };
        assert_eq!(done.code(), wanted, "{args:?}: {}", done.text());
        assert!(done.text().contains("cannot write to standard output"), "{}", done.text());
    }
    for args in [
        &["key", "create", "--user", "alice"][..],
        &["user", "add", "zed", "--generate"],
        &["user", "passwd", "bob", "--generate"],
        &["partner", "add", "900"],
    ] {
        let done = gateway.cli_unheard(args);
        assert_eq!(done.code(), 1, "{args:?}: {}", done.text());
        assert!(done.text().contains("nobody will see it again"), "{args:?}: {}", done.text());
    }
}

/// A listing made a store where there was none: as root's, the gateway could not open it any more.
#[tokio::test]
async fn nobody_but_the_gateway_makes_a_store() {
    let mut gateway = Gateway::whoami();
    assert!(gateway.terminate(PATIENCE).success());
    let store = gateway.dir().join("data");
    std::fs::remove_dir_all(&store).unwrap();
    for args in [&["session", "list"][..], &["session", "revoke", "--all"], &["ban", "list"]] {
        let done = gateway.cli(args);
        assert_eq!(done.code(), 1, "{args:?}: {}", done.text());
        assert!(done.text().contains("there is no store at"), "{args:?}: {}", done.text());
        assert!(!store.exists(), "{args:?}");
    }
    gateway.cli(&["user", "disable", "bob"]).success();
    assert!(!store.exists());
}

/// Commands failed until the next start: the socket lay where somebody tidied up.
#[tokio::test]
async fn a_socket_that_is_gone_is_made_anew() {
    let gateway = Gateway::whoami();
    let _alice = gateway.signed_in("alice").await;
    assert_eq!(listed(&gateway, &[]).len(), 1);
    let socket = gateway.dir().join("data/control.sock");
    std::fs::remove_file(&socket).unwrap();
    eventually("a new socket", || socket.exists().then_some(())).await;
    assert_eq!(listed(&gateway, &[]).len(), 1);
}

/// Whether another program than this one has the file open. A child that is only about to be one has what we have.
fn has_open(path: &std::path::Path) -> bool {
    let own = std::env::current_exe().unwrap();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let others = processes.filter(|process| {
        std::fs::read_link(process.path().join("exe")).is_ok_and(|program| program != own)
    });
    others.into_iter().any(|process| {
        let Ok(files) = std::fs::read_dir(process.path().join("fd")) else { return false };
        files.flatten().any(|file| std::fs::read_link(file.path()).is_ok_and(|it| it == path))
    })
}

/// A look at the sessions in the moment of a start kept the gateway from starting.
#[tokio::test]
async fn a_start_waits_for_a_command_that_has_the_store() {
    let mut gateway = Gateway::whoami();
    assert!(gateway.terminate(PATIENCE).success());
    let path = gateway.dir().join("data/sessions.lock").canonicalize().unwrap();
    let lock = std::fs::File::open(&path).unwrap();
    lock.lock().unwrap();
    let release = tokio::spawn(async move {
        eventually("a start that has come to the lock", || has_open(&path).then_some(())).await;
        drop(lock);
    });
    let gateway = tokio::task::spawn_blocking(move || gateway.restart()).await.unwrap();
    gateway.client().get("/auth/login").await.expect(200);
    release.await.unwrap();
}

/// It was for the gateway to see, which was too late when they were enabled again at once, or while none ran.
#[tokio::test]
async fn disabling_somebody_ends_their_sessions_before_it_returns() {
    let mut gateway = Gateway::whoami();
    let mut bob = gateway.signed_in("bob").await;
    let mut alice = gateway.signed_in("alice").await;
    let said = gateway.cli(&["user", "disable", "bob"]).success();
    assert!(said.contains("1 session(s) ended"), "{said}");
    bob.get("/x").await.expect(401);
    gateway.client().try_sign_in("bob", &password("bob")).await.expect(401);
    gateway.cli(&["user", "enable", "bob"]).success();
    bob.get("/x").await.expect(401);
    alice.get("/x").await.expect(200);

    assert!(gateway.terminate(PATIENCE).success());
    gateway.cli(&["user", "disable", "alice"]).success();
    gateway.cli(&["user", "enable", "alice"]).success();
    assert!(listed(&gateway, &[]).is_empty());
    let gateway = gateway.restart();
    alice.reconnect();
    alice.get("/x").await.expect(401);
    drop(gateway);
}

/// What a file says that was changed while no gateway ran was compared with sessions at its next change only.
#[tokio::test]
async fn sessions_are_compared_with_the_users_at_the_start() {
    let mut gateway = Gateway::whoami();
    let _bob = gateway.signed_in("bob").await;
    assert!(gateway.terminate(PATIENCE).success());
    let users = gateway.users();
    gateway.write_users(&users.replace("name = \"bob\"\n", "name = \"bob\"\ndisabled = true\n"));
    let gateway = gateway.restart();
    eventually("no session", || listed(&gateway, &[]).is_empty().then_some(())).await;
}

/// A look at all files has come to its end when what was written before it is in force.
async fn looked(gateway: &Gateway, path: &str) {
    let route = format!("[[route]]\npath = \"{path}\"\nupstream = \"app\"\nallow = \"anyone\"\n");
    gateway.write_config(&format!("{}\n{route}", gateway.config()));
    gateway.reload();
    let mut client = gateway.client();
    crate::support::site::until(&mut client, path, 200).await;
}

/// A node that joins with fewer users than the others have ended the sessions of all who are missing, and one whose file
/// was not there for one start those of everybody.
#[tokio::test]
async fn who_starts_with_fewer_users_ends_nobodys_sessions() {
    let redis = Server::start();
    let app = App::start();
    let node = || routes(Gateway::builder().redis(&redis.url(0)), &app);
    let first = node().start();
    let mut alice = first.signed_in("alice").await;
    let joins = node().users(&first.users().replace("u-alice", "u-alix")).start();
    // Of the second look it is certain that the first one is over.
    looked(&joins, "/one").await;
    looked(&joins, "/two").await;
    assert_eq!(listed(&first, &[]).len(), 1);
    alice.get("/x").await.expect(200);

    let mut alone = Gateway::whoami();
    let mut bob = alone.signed_in("bob").await;
    assert!(alone.terminate(PATIENCE).success());
    let (users, file) = (alone.users(), alone.dir().join("users.toml"));
    std::fs::remove_file(&file).unwrap();
    let alone = alone.restart();
    looked(&alone, "/one").await;
    looked(&alone, "/two").await;
    assert_eq!(listed(&alone, &[]).len(), 1);
    alone.write_users(&users);
    alone.reload();
    // Asked before he is known again, it would end.
    let end = Instant::now() + PATIENCE;
    while alone.client().try_sign_in("bob", &password("bob")).await.status != 201 {
        assert!(Instant::now() < end, "bob is not known");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bob.reconnect();
    bob.get("/x").await.expect(200);
}

/// Regression: a FIFO in the place of the users was waited for without end. No file was looked at any more, commands hung,
/// and SIGTERM did nothing.
#[tokio::test]
async fn what_is_no_file_holds_nothing_up() {
    let mut gateway = Gateway::whoami();
    let mut bob = gateway.signed_in("bob").await;
    let users = gateway.users();
    let fifo = |name: &str| {
        let path = gateway.dir().join(name);
        std::fs::remove_file(&path).unwrap();
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        path
    };
    let said = |what: &'static str| {
        let gateway = &gateway;
        eventually(what, move || gateway.output().contains(what).then_some(()))
    };
    let path = fifo("users.toml");
    said("not a regular file").await;
    std::fs::remove_file(path).unwrap();
    gateway.write_users(&users.replace("name = \"bob\"\n", "name = \"bob\"\ndisabled = true\n"));
    until(&mut bob, 401).await;
    fifo("config.toml");
    said("the configuration cannot be read").await;
    assert!(gateway.terminate(PATIENCE).success());
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

#[test]
fn short_and_common_passwords_are_refused_by_every_command() {
    let gateway =
        Gateway::builder().upstream_with("app", "builtin:whoami", "").private("/", "app").written();
    let before = gateway.users();
    for (word, why) in [
        ("seven77", "too short"),
        ("password1", "common"),
        ("Password1", "common"),
        ("qwertyuiop", "common"),
        ("11111111111111111111", "repeated"),
    ] {
        for command in
            [&["user", "add", "erin"][..], &["user", "passwd", "alice"], &["hash-password"]]
        {
            let done = gateway.cli_fed(command, &format!("{word}\n"));
            assert_eq!(done.code(), 1, "{command:?} takes {word}: {}", done.text());
            assert!(done.stderr.contains(why), "{command:?} {word}: {}", done.stderr);
            assert!(!done.text().contains(word), "{command:?} repeats the password");
        }
    }
    assert_eq!(gateway.users(), before);
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

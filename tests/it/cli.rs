//! The command line: the first start, and what is said about a configuration that is wrong.

use serde_json::json;

use crate::support::Gateway;
use crate::support::gateway::Builder;
use crate::support::world::mounted;

fn plain() -> Builder {
    Gateway::builder()
        .upstream_with("app", "builtin:whoami", "")
        .public("/public/", "app")
        .route("/eng/", "app", "{ groups = [\"eng\"] }", "")
        .private("/", "app")
}

#[tokio::test]
async fn the_first_start_makes_what_is_missing() {
    let gateway = plain().without_users().start();
    assert!(gateway.certificate().exists());
    assert!(gateway.dir().join("certs/localhost.key").exists());
    assert!(gateway.users().contains("$argon2id$"), "{}", gateway.users());
    // The password of `admin` is shown once and stands nowhere else.
    let shown = gateway.output();
    let is_candidate = |word: &&str| {
        word.len() >= 12 && !word.contains("://") && !word.contains('/') && !word.contains('@')
    };
    let lines = shown.lines().filter(|line| line.to_lowercase().contains("password"));
    let words = lines.flat_map(|line| line.split(|c: char| c.is_whitespace() || c == '"'));
    let mut found = None;
    // More wrong tries than these would be slowed down.
    for word in words.filter(is_candidate).take(5) {
        let body = json!({ "username": "admin", "password": word });
        if gateway.client().post_json("/auth/session", &body).await.status == 201 {
            found = Some(word.to_owned());
            break;
        }
    }
    let password = found.unwrap_or_else(|| panic!("no password for admin in:\n{shown}"));
    assert!(!gateway.users().contains(&password));
    // The next start shows nothing and knows it still.
    let before = gateway.output().matches(&password).count();
    assert_eq!(before, 1, "shown more than once");
    let gateway = gateway.restart();
    assert_eq!(gateway.output().matches(&password).count(), 1, "shown again");
    let body = json!({ "username": "admin", "password": password });
    gateway.client().post_json("/auth/session", &body).await.expect(201);
}

#[test]
fn a_key_file_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let gateway = plain().without_users().start();
    for name in ["certs/localhost.key", "users.toml"] {
        let mode = gateway.dir().join(name).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name}: {mode:o}");
    }
}

#[test]
fn a_good_configuration_passes_the_check() {
    let written = plain().written();
    let checked = written.cli(&["check", "--config", "config.toml"]);
    assert_eq!(checked.code(), 0, "{}", checked.text());
}

/// A group that is spelt wrong lets nobody pass, and nothing said so.
#[tokio::test]
async fn names_that_nobody_has_are_told() {
    let gateway = Gateway::whoami();
    let rule = "allow = { groups = [\"staff\", \"stuff\"], users = [\"bob\", \"bo\"] }";
    let config = gateway.config().replacen("allow = \"authenticated\"", rule, 1);
    assert!(config.contains(rule), "{config}");
    gateway.write_config(&config);
    let said = gateway.cli(&["check"]).success();
    for name in ["group/stuff", "user/bo,"] {
        assert!(said.contains(name), "{name}: {said}");
    }
    assert_eq!(said.matches("warning: ").count(), 2, "{said}");
    // Nor that an address means somebody else than its owner.
    let added = gateway.cli(&["user", "add", "ALICE@example.org", "--generate"]).success();
    assert!(added.contains("of alice is the login name of ALICE@example.org"), "{added}");
    assert_eq!(gateway.cli(&["check"]).success().matches("warning: ").count(), 3);
}

#[test]
fn all_problems_are_reported_at_once_with_their_places() {
    let written = plain()
        .set("session", "lifetme", "\"12h\"")
        .set("session", "idle", "\"soon\"")
        .block("[[route]]\npath = \"/x/\"\nupstream = \"nowhere\"\nallow = \"anyone\"\n")
        .written();
    let checked = written.cli(&["check", "--config", "config.toml"]);
    assert_eq!(checked.code(), 1, "{}", checked.text());
    let text = checked.text();
    let config = written.config();
    let place = |needle: &str| {
        let line = config.lines().position(|line| line.contains(needle)).unwrap() + 1;
        format!("config.toml:{line}:")
    };
    for needle in ["lifetme", "\"soon\"", "\"nowhere\""] {
        assert!(text.contains(&place(needle)), "no {} in:\n{text}", place(needle));
    }
    assert!(text.contains("`lifetime`"), "no suggestion in:\n{text}");
    // Nor does it start, and a wrong configuration has a code of its own.
    let run = written.cli(&["run", "--config", "config.toml"]);
    assert_eq!(run.code(), 64, "{}", run.text());
}

/// The gateway did not start with what had passed the check.
#[test]
fn the_check_looks_at_the_certificates_of_the_store() {
    let written = plain()
        .set("store", "kind", "\"redis\"")
        .set("store", "url", "\"rediss://localhost\"")
        .set("store", "ca", "\"missing.pem\"")
        .written();
    let checked = written.cli(&["check", "--config", "config.toml"]);
    assert_eq!(checked.code(), 1, "{}", checked.text());
    assert!(checked.text().contains("missing.pem"), "{}", checked.text());
}

#[test]
fn usage_errors_have_their_own_code() {
    let written = plain().written();
    for args in [&["--nonsense"][..], &["nonsense"], &["run", "--config"]] {
        assert_eq!(written.cli(args).code(), 64, "{args:?}");
    }
    assert_eq!(written.cli(&["run", "--config", "missing.toml"]).code(), 64);
    assert_eq!(written.cli(&["--version"]).code(), 0);
    assert_eq!(written.cli(&["--help"]).code(), 0);
}

#[test]
fn explain_says_which_rule_decides() {
    let written = plain().written();
    let origin = written.origin().to_owned();
    let explain = |user: &str, path: &str| {
        let url = format!("{origin}{path}");
        let said = written.cli(&["explain", "--config", "config.toml", "--user", user, &url]);
        said.text()
    };
    let allowed = explain("alice", "/eng/x");
    assert!(allowed.contains("/eng/") && allowed.contains("eng"), "{allowed}");
    let refused = explain("bob", "/eng/x");
    assert!(refused.contains("/eng/"), "{refused}");
    assert_ne!(allowed, refused);
}

/// Regression: what the gateway answers itself was said to go to an app.
#[test]
fn explain_knows_the_apis_of_the_gateway() {
    let written = mounted(plain()).written();
    for (method, path, wanted) in [
        ("GET", "/api/session", "own: the gateway answers it: API nuvla at /api"),
        ("POST", "/api2/sessions", "own: the gateway answers it: API versal at /api2"),
        ("GET", "/api_v3/service/session/action/start", "own: the gateway answers it: API kaltura"),
        (
            "POST",
            "/api_v3/service/media/action/get",
            "api       kaltura at /api_v3, where the body asks",
        ),
        ("GET", "/api/media/x", "pass: to app, as user/u-alice"),
    ] {
        let asked = ["explain", "--config", "config.toml", "--user", "alice", "--method", method];
        let said = written.cli(&[&asked[..], &[path]].concat());
        assert!(said.text().contains(wanted), "{path}: {}", said.text());
    }
}

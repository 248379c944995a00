//! `portcullis attack`: what it finds in an operator's rules, and what it says when there is nothing.

use rustix::process::Signal;
use serde_json::Value;

use crate::support::gateway::Builder;
use crate::support::process::{Finished, eventually};
use crate::support::{Gateway, Reply, Upstream};

fn plain() -> Builder {
    // Nobody listens there: only the rules are attacked.
    Gateway::builder().upstream_with("app", "http://127.0.0.1:9", "")
}

fn attack(written: &Gateway, more: &[&str]) -> Finished {
    written.cli(&[&["attack", "--config", "config.toml"], more].concat())
}

fn findings(written: &Gateway, more: &[&str]) -> Vec<(String, String)> {
    let said = attack(written, &[&["--json"], more].concat());
    assert_eq!(said.code(), 1, "{}", said.text());
    let line = said.text().lines().find(|line| line.starts_with('{')).unwrap().to_owned();
    let report: Value = serde_json::from_str(&line).unwrap();
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
    let findings = report["findings"].as_array().unwrap().iter();
    findings.map(|finding| (text(finding, "code"), text(finding, "what"))).collect()
}

#[test]
fn nothing_is_found_in_the_usual_rules() {
    for builder in [
        plain().public("/public/", "app").private("/", "app"),
        plain().public("/", "app").private("/admin/", "app"),
        plain().public("/only/", "app"),
        // An app that lets a header name the method does not get the header.
        plain().route("/", "app", "\"anyone\"", "methods = [\"GET\"]").private("/admin/", "app"),
        plain().route("/", "app", "\"authenticated\"", "allow_encoded_slash = true"),
    ] {
        let written = builder.written();
        let said = attack(&written, &[]);
        assert_eq!(said.code(), 0, "{}", said.text());
        assert!(said.text().contains("nothing found"), "{}", said.text());
        // Nothing of the operator's was touched.
        for file in ["data", "certs"] {
            assert!(!written.dir().join(file).exists(), "{file} was made");
        }
    }
}

#[test]
fn an_app_behind_two_hosts_may_not_tell_them_apart() {
    let written = plain()
        .set("server", "hosts", "[\"www.example.com\"]")
        .public("/", "app")
        .block(
            "[[route]]\nhost = \"admin.example.com\"\npath = \"/panel/\"\nupstream = \"app\"\n\
             allow = \"authenticated\"\n",
        )
        .written();
    let found = findings(&written, &[]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].0, "host-confusion");
    assert!(
        found[0].1.contains("/panel/") && found[0].1.contains("admin.example.com"),
        "{found:?}"
    );
}

#[test]
fn an_app_that_can_be_reached_beside_the_gateway_is_told() {
    let upstream = Upstream::answering(|request| match request.header("x-auth-user") {
        Some(user) => Reply::ok(&format!("hello {user}")),
        None => Reply::status("401 Unauthorized", "", "who are you?"),
    });
    let written = Gateway::builder().upstream("app", upstream.addr()).private("/", "app").written();
    let found = findings(&written, &["--upstream", "app", "--user", "alice"]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].0, "skips-the-gateway");
    assert!(found[0].1.contains("401 before, 200 with"), "{found:?}");
    let seen = upstream.requests();
    assert!(seen.len() < 50 && seen.iter().all(|seen| seen.method == "GET"), "{}", seen.len());
    // Nothing goes there unless it is named.
    upstream.forget();
    assert_eq!(attack(&written, &[]).code(), 0);
    assert!(upstream.requests().is_empty());
}

#[test]
fn how_an_app_reads_paths_is_told() {
    let upstream = Upstream::answering(|request| {
        match request.target.to_ascii_lowercase().trim_end_matches('/') {
            "/files" | "/%66iles" => Reply::ok("the files"),
            _ => Reply::status("404 Not Found", "", "nothing"),
        }
    });
    let written =
        Gateway::builder().upstream("app", upstream.addr()).public("/files/", "app").written();
    let said = attack(&written, &["--upstream", "app"]);
    assert_eq!(said.code(), 0, "{}", said.text());
    let text = said.text();
    for what in ["ignores the case of letters", "decodes letters:"] {
        assert!(text.contains(what), "no {what:?} in\n{text}");
    }
    assert!(!text.contains("merges slashes"), "{text}");
}

#[test]
fn what_cannot_be_attacked_has_a_code_of_its_own() {
    let written = plain().private("/", "app").written();
    assert_eq!(attack(&written, &["--upstream", "other"]).code(), 2);
    assert_eq!(attack(&written, &["--user", "a b"]).code(), 2);
    assert_eq!(written.cli(&["attack", "--config", "missing.toml"]).code(), 2);
    let broken = plain().block("[[route]]\npath = \"x\"\n").written();
    assert_eq!(attack(&broken, &[]).code(), 2);
}

#[tokio::test]
async fn killed_it_leaves_no_gateway_behind() {
    let written = plain().public("/public/", "app").private("/", "app").written();
    let output = tempfile::tempdir().unwrap();
    let attack = written.cli_started(&["attack", "--config", "config.toml"], output.path());
    let children = format!("/proc/{0}/task/{0}/children", attack.id());
    let child: u32 = eventually("the second gateway", || {
        let text = std::fs::read_to_string(&children).ok()?;
        text.split_whitespace().next()?.parse().ok()
    })
    .await;
    attack.signal(Signal::KILL);
    // Nobody may have taken note of its end: then it is there still, as a zombie.
    eventually("the second gateway to be gone", || {
        let stat = std::fs::read_to_string(format!("/proc/{child}/stat"));
        stat.map_or(true, |stat| stat.contains(") Z ")).then_some(())
    })
    .await;
}

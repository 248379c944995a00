//! A real browser, driven as a person would use it.

use std::time::Duration;

use crate::support::Gateway;
use crate::support::gateway::password;
use crate::support::tools::run_browser;

#[tokio::test]
async fn a_person_signs_in_switches_and_leaves() {
    let gateway = Gateway::whoami();
    let args = [gateway.origin(), "alice", &password("alice"), "group/eng"];
    let output = run_browser("flow.mjs", &args, Duration::from_secs(180)).success();
    // Every step says so; a script that ends early must not look like a success.
    for step in [
        "login page",
        "wrong password",
        "landed",
        "second tab",
        "claim switched",
        "logged out",
        "back button",
    ] {
        assert!(output.contains(&format!("ok {step}")), "no `{step}` in:\n{output}");
    }
}

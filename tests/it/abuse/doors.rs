//! One count for one person, by whatever door and under whatever name; others are not concerned.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Door, Said, Secret, builder};
use crate::support::Gateway;
use crate::support::gateway::password;
use crate::support::world::{SHOP, telling};

const BAD: &str = "198.51.100.7";
const BESIDE_BAD: &str = "198.51.100.200";
const GOOD: &str = "203.0.113.9";

fn bans(gateway: &Gateway) -> Vec<Value> {
    let text = gateway.cli(&["ban", "list", "--json"]).success();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// After five wrong passwords by `guessing`, the right one by `door` must wait. The delay is a second:
/// where a busy machine has let it pass, all is done again.
async fn shut(gateway: &Gateway, guessing: Door, door: Door, right: &str) {
    for _ in 0..20 {
        gateway.cli(&["ban", "lift", "--all"]).success();
        let mut begun = Instant::now();
        for number in 0..5 {
            begun = Instant::now();
            let said = guessing.bob(gateway, BAD, &format!("wrong {number}")).await;
            assert_eq!(said, Said::Wrong, "{guessing:?}, guess {number}");
        }
        if door.bob(gateway, BESIDE_BAD, right).await == Said::Wait {
            return;
        }
        let passed = begun.elapsed() >= Duration::from_secs(1);
        assert!(passed, "{guessing:?} guessed, {door:?} is open");
    }
    panic!("too slow a machine for this test");
}

#[tokio::test]
async fn guesses_by_one_door_count_at_all_and_hurt_nobody_elsewhere() {
    let app = telling();
    let gateway = builder(&app).start();
    let right = password("bob");
    let mut live = gateway.signed_in("bob").await;
    for guessing in Door::ALL {
        for door in Door::ALL {
            shut(&gateway, guessing, door, &right).await;
        }
        // The person elsewhere, others in the same place, and who is signed in.
        for door in Door::ALL {
            let said = door.bob(&gateway, GOOD, &right).await;
            assert_eq!(said, Said::Welcome, "{guessing:?} guessed, {door:?} is shut elsewhere");
        }
        let said = Door::Json.attempt(&gateway, BAD, "carol", &password("carol")).await;
        assert_eq!(said, Said::Welcome, "{guessing:?}: somebody else");
        live.get("/x").await.expect(200);
        gateway.cli(&["ban", "lift", "--all"]).success();
        assert!(bans(&gateway).is_empty(), "{:?}", bans(&gateway));
    }
    // Each is in the audit log, with who was meant and from where, and no password is.
    let log = gateway.log();
    let failures: Vec<_> = log.iter().filter(|line| line["event"] == "login-failure").collect();
    let reasons: BTreeSet<_> = failures.iter().filter_map(|line| line["reason"].as_str()).collect();
    assert_eq!(reasons, BTreeSet::from(["invalid", "throttled"]));
    assert!(failures.iter().all(|line| line["ip"].as_str().unwrap().starts_with("198.51.100.")));
    let wrong = failures.iter().filter(|line| line["reason"] == "invalid").count();
    assert!(wrong >= 5 * Door::ALL.len(), "{wrong} lines");
    assert!(!gateway.output().contains("wrong 3"));
    // A password in the field for names is nobody's name.
    let said = Door::Json.attempt(&gateway, BAD, "my secret pass", "x").await;
    assert_ne!(said, Said::Welcome);
    assert!(!gateway.output().contains("my secret pass"));
    let of_nobody =
        |line: &Value| line["identifier"].as_str().unwrap_or_default().starts_with("typed:");
    assert!(gateway.log().iter().any(of_nobody));
}

#[tokio::test]
async fn a_network_that_tries_all_names_by_all_doors_waits_at_all() {
    let app = telling();
    let gateway = builder(&app).start();
    let mut doors = Door::ALL.into_iter().cycle();
    let mut tried = 0;
    // A door that has no such name costs as much.
    while tried < 60 {
        let door = doors.next().unwrap();
        let said = door.attempt(&gateway, BAD, &format!("nobody{tried}"), "x").await;
        tried += 1;
        if said == Said::Wait {
            break;
        }
        assert_eq!(said, Said::Wrong, "{door:?}");
    }
    assert!((30..60).contains(&tried), "{tried} names");
    let said = Door::Json.bob(&gateway, GOOD, &password("bob")).await;
    assert_eq!(said, Said::Welcome, "another network");
    let found = bans(&gateway);
    assert!(found.iter().all(|ban| ban["network"] == "198.51.100.0/24"), "{found:?}");
}

#[tokio::test]
async fn an_ipv6_network_is_one_guesser() {
    let app = telling();
    let gateway = builder(&app).start();
    for number in 0..12 {
        // Another address each time.
        let ip = format!("2001:db8:1:2:{number:x}::{number:x}");
        let said = Door::Json.bob(&gateway, &ip, "wrong").await;
        assert_ne!(said, Said::Welcome);
    }
    let found = bans(&gateway);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0]["network"], "2001:db8:1:2::/64");
    let right = password("bob");
    assert_eq!(Door::Json.bob(&gateway, "2001:db8:1:3::1", &right).await, Said::Welcome);
    gateway.cli(&["ban", "lift", "--network", "2001:db8:1:2::77"]).success();
    assert_eq!(Door::Json.bob(&gateway, "2001:db8:1:2::5", &right).await, Said::Welcome);
}

#[tokio::test]
async fn whoever_guesses_at_keys_and_secrets_waits() {
    let app = telling();
    let gateway = builder(&app).start();
    let widget = json!({ "format": 1, "widgetId": format!("_{SHOP}") });
    let path = "/api_v3/service/session/action/startWidgetSession";
    let answer = gateway.client().post_json(path, &widget).await.expect(200).json();
    let ks = answer["ks"].as_str().unwrap_or_else(|| panic!("{answer}"));
    for secret in Secret::ALL {
        let ip = format!("198.51.{}.1", 100 + secret as u8);
        let mut tried = 0;
        while tried < 60 {
            tried += 1;
            let said = secret.guess(&gateway, &ip, ks, tried).await;
            if said == Said::Wait {
                break;
            }
            assert_eq!(said, Said::Wrong, "{secret:?}");
        }
        // Of one thing five, of ever another one as many as a network may fail.
        let free = if secret == Secret::AppTokenId { 30 } else { 5 };
        assert!((free..60).contains(&tried), "{secret:?}: {tried} guesses");
    }
    // The holder of the right ones elsewhere goes on.
    let start = json!({ "format": 1, "partnerId": SHOP, "type": 2, "userId": "alice-p",
        "secret": crate::support::world::ADMIN_SECRET });
    let path = "/api_v3/service/session/action/start";
    let answer = gateway.client().post_json_with(path, &start, &[("x-forwarded-for", GOOD)]).await;
    assert!(answer.json().is_string(), "{}", answer.text());
    // An id that nobody has may be a secret in the wrong field.
    assert!(!gateway.output().contains("1_none"), "{}", gateway.output());
    let names: BTreeSet<_> = gateway
        .log()
        .iter()
        .filter(|line| line["event"] == "login-failure")
        .map(|line| line["identifier"].as_str().unwrap().split('/').next().unwrap().to_owned())
        .collect();
    let wanted = ["apptoken", "credential", "partner"].map(str::to_owned);
    assert_eq!(names, BTreeSet::from(wanted));
}

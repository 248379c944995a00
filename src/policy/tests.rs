use std::path::Path;

use super::*;
use crate::section::Problems;
use crate::session::testing::{World, sample};
use crate::session::{CHOOSE_TENANT, Record};

fn rule(text: &str) -> (Rule, Vec<String>) {
    let problems = Problems::default();
    let mut section = Section::parse(Path::new("c.toml"), text.to_owned(), &problems);
    let rule = Rule::read(&mut section);
    drop(section);
    (rule, problems.list().iter().map(ToString::to_string).collect())
}

fn identity() -> Identity {
    Identity {
        user: "u1".to_owned(),
        identifier: "alice".to_owned(),
        groups: vec!["ops".to_owned()],
        claim: "group/ops".to_owned(),
        ..Identity::default()
    }
}

fn missing(text: &str) -> Option<String> {
    let (rule, problems) = rule(text);
    assert_eq!(problems, [""; 0]);
    rule.missing(&identity(), "GET", "::ffff:10.1.2.3".parse().unwrap())
}

#[test]
fn each_condition_must_deny() {
    for (met, unmet, wants) in [
        (r#"users = ["u1"]"#, r#"users = ["u2", "bob"]"#, "be u2 or bob"),
        (r#"users = ["alice"]"#, r#"users = ["Alice"]"#, "be Alice"),
        (r#"groups = ["x", "ops"]"#, r#"groups = ["op"]"#, "be in the group op"),
        (r#"claims = ["group/ops"]"#, r#"claims = ["user/u1"]"#, "act as user/u1"),
        (r#"methods = ["GET"]"#, r#"methods = ["POST"]"#, "use POST"),
        (
            r#"networks = ["10.0.0.0/8"]"#,
            r#"networks = ["192.168.0.0/16"]"#,
            "come from the network 192.168.0.0/16",
        ),
    ] {
        assert_eq!(missing(&format!("allow = {{ {met} }}")), None, "{met}");
        assert_eq!(missing(&format!("allow = {{ {unmet} }}")).as_deref(), Some(wants), "{unmet}");
        let both = missing(
            &format!("allow = {{ {unmet}, groups = [\"ops\"] }}")
                .replace("groups = [\"op\"], groups = [\"ops\"]", "groups = [\"op\"]"),
        );
        assert_eq!(both.as_deref(), Some(wants), "all conditions must hold: {unmet}");
    }
}

/// It was refused where GET was allowed, though a route for GET takes it.
#[test]
fn head_is_get_without_the_body() {
    let asked = |method: &str, list: &str| {
        let (rule, _) = rule(&format!("allow = {{ methods = {list} }}"));
        rule.missing(&identity(), method, "10.1.2.3".parse().unwrap()).is_none()
    };
    assert!(asked("HEAD", r#"["GET"]"#) && asked("HEAD", r#"["HEAD"]"#));
    assert!(!asked("GET", r#"["HEAD"]"#) && !asked("HEAD", r#"["POST"]"#));
}

#[test]
fn a_rule_knows_whether_it_tells_methods_apart() {
    for (text, tells) in [
        ("allow = \"anyone\"", false),
        ("allow = \"authenticated\"", false),
        ("allow = { groups = [\"ops\"] }", false),
        ("allow = { groups = [\"ops\"], methods = [\"GET\"] }", true),
    ] {
        assert_eq!(rule(text).0.looks_at_method(), tells, "{text}");
    }
}

#[test]
fn without_a_session_only_anyone_passes() {
    let facts = Facts { session: None, method: "GET", ip: "10.0.0.1".parse().unwrap() };
    let decide = |text: &str| rule(text).0.decide(&facts);
    assert!(matches!(decide("allow = \"anyone\""), Decision::Permit(_)));
    assert!(matches!(decide("allow = \"authenticated\""), Decision::SignIn));
    let networks = "allow = { networks = [\"10.0.0.0/8\"] }";
    assert!(matches!(decide(networks), Decision::SignIn), "a network is not a login");
}

#[test]
fn a_rule_that_says_nothing_is_a_problem_and_denies() {
    for text in ["", "allow = \"everyone\"", "allow = {}", "allow = { groups = [] }", "allow = 3"] {
        let (rule, problems) = rule(text);
        assert!(!problems.is_empty(), "{text}");
        assert_eq!(rule.describe(), "nobody", "{text}");
    }
    let (_, problems) = rule("allow = { group = [\"ops\"], users = [\"u1\"] }");
    assert!(problems.concat().contains("did you mean `groups`?"), "{problems:?}");
    let (_, problems) = rule("allow = { claims = [\"ops\"] }");
    assert!(problems.concat().contains("is not a claim"), "{problems:?}");
}

/// The live session of a record that `with` makes of a usual one.
async fn live(with: impl FnOnce(&mut Record)) -> Arc<Live> {
    let world = World::new();
    let (mut record, token) = sample("u1", world.clock.now());
    with(&mut record);
    world.authority.store().create(record).await.unwrap();
    world.authority.load(&token).await.unwrap().unwrap()
}

#[tokio::test]
async fn who_is_nobody_passes_only_where_everybody_does() {
    let optional = rule("allow = \"optional\"").0;
    let closed = ["allow = \"authenticated\"", "allow = { networks = [\"10.0.0.0/8\"] }"]
        .map(|text| rule(text).0);
    let choosing = live(|record| record.scope = Some(CHOOSE_TENANT.to_owned())).await;
    let newer = live(|record| record.scope = Some("of-a-newer-version".to_owned())).await;
    let user = live(|_| ()).await;
    for (live, signed_in) in [(&choosing, false), (&newer, false), (&user, true)] {
        let ip = "10.0.0.1".parse().unwrap();
        let facts = Facts { session: Some(live), method: "GET", ip };
        for rule in &closed {
            match rule.decide(&facts) {
                Decision::Permit(_) => assert!(signed_in),
                Decision::SignIn => assert!(!signed_in),
                Decision::Refuse(why) => panic!("{why}"),
            }
        }
        let Decision::Permit(permit) = optional.decide(&facts) else { panic!() };
        assert_eq!(permit.session().is_some(), signed_in);
    }
}

//! The rules of sealed sessions, bearer keys, parents and limits, over a store in memory.

use std::net::IpAddr;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::ks::{Fields, KsKind};
use crate::secret::Secret;
use crate::session::command::{Command, Terms, Whom, Worthless};
use crate::session::key::KeySecret;
use crate::session::live::Live;
use crate::session::lookup::{Cached, Found};
use crate::session::ports::Credentials;
use crate::session::principal::{AppToken, HashKind, Key, Member, Principal, Reach};
use crate::session::record::{CHOOSE_TENANT, Kind};
use crate::session::testing::World;

const ADMIN: &str = "0123456789abcdef0123456789abcdef";
const SECOND: &str = "the admin secret that is to replace it";
const USER: &str = "fedcba9876543210fedcba9876543210";
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A world with partner 102, of which alice is a member whom it calls `al`.
fn world() -> World {
    with_partner(World::new())
}

fn with_partner(world: World) -> World {
    world.people.partner("102", |partner| {
        partner.admin_secrets = [ADMIN, SECOND].map(|text| Secret::new(text.to_owned())).into();
        partner.user_secrets = vec![Secret::new(USER.to_owned())];
        partner.lifetime = DAY;
        partner.offline = true;
        partner.widgets = true;
        partner.roles = vec!["EDITOR".to_owned()];
        let member = Member { alias: "al".to_owned(), role: "OWN".to_owned(), ..Member::default() };
        partner.members.insert("u1".to_owned(), member);
    });
    world
}

fn home() -> Caller {
    Caller { ip: "192.0.2.7".parse().ok(), ..Caller::default() }
}

fn with(live: &Arc<Live>) -> Caller {
    Caller { session: Some(Arc::clone(live)), ..home() }
}

fn by_secret(secret: &str, user: &str, admin: bool) -> Seal {
    let (tenant, secret) = ("102".to_owned(), Secret::new(secret.to_owned()));
    Seal::Secret { tenant, secret, user: user.to_owned(), admin }
}

fn asking(privileges: &str) -> KsTerms {
    KsTerms { lifetime: None, privileges: privileges.to_owned() }
}

async fn start(
    world: &World,
    seal: Seal,
    terms: KsTerms,
    caller: &Caller,
) -> Result<(Arc<Live>, Token), Refusal> {
    match world.authority.execute(Command::StartSealed(seal, terms), caller).await? {
        Outcome::Opened(live, token) => Ok((live, token)),
        other => panic!("{other:?}"),
    }
}

/// A KS of alice by an admin secret.
async fn alice(world: &World, privileges: &str) -> (Arc<Live>, Token) {
    start(world, by_secret(ADMIN, "al", false), asking(privileges), &home()).await.unwrap()
}

/// A KS that the partner seals without asking.
fn offline(world: &World, user: &str, privileges: &str, life: Duration) -> Token {
    let fields = Fields {
        expires: world.clock.now().plus(life).seconds(),
        user: user.to_owned(),
        privileges: privileges.to_owned(),
        ..Fields::default()
    };
    token(&fields)
}

fn token(fields: &Fields) -> Token {
    let random = crate::secret::random().unwrap();
    read(&seal("102", fields, &Secret::new(SECOND.to_owned()), random))
}

fn read(text: &str) -> Token {
    let ks = Ks::parse(text).unwrap();
    Token::of_text(Form::Ks, ks.identity(), text.to_owned())
}

async fn used(authority: &Arc<Authority>, token: &Token) -> Found {
    authority.used(token, "192.0.2.7".parse().ok(), "/").await.unwrap()
}

async fn refused(world: &World, token: &Token) -> Worthless {
    used(&world.authority, token).await.unwrap_err()
}

fn cached(world: &World, token: &Token) -> bool {
    matches!(world.authority.cached(token, world.clock.now()), Cached::Live(_))
}

#[tokio::test]
async fn a_secret_opens_sessions_for_the_users_of_its_partner() {
    let world = world();
    let (live, token) = alice(&world, "list:*,setrole:EDITOR,widget:1").await;
    let record = live.record();
    assert_eq!((record.user.as_str(), record.kind, record.form), ("u1", Kind::User, Form::Ks));
    assert_eq!((record.identifier.as_str(), record.admin), ("al", false));
    assert_eq!(record.tenant.as_deref(), Some("102"));
    assert_eq!(record.actor.as_deref(), Some("partner/102"));
    assert_eq!(record.privileges, ["list:*", "setrole:EDITOR"]);
    assert_eq!(record.role.as_deref(), Some("EDITOR"));
    assert!(live.identity().roles.contains(&"role/EDITOR".to_owned()));
    assert_eq!(live.identity().aliases.get("kaltura").map(String::as_str), Some("al"));
    let fields = Ks::parse(&token.encode()).unwrap();
    let fields = fields.open(&Secret::new(ADMIN.to_owned())).unwrap();
    assert_eq!(fields.expires * 1000, record.expires.0);
    assert_eq!((fields.user.as_str(), fields.kind), ("al", KsKind::User));
    assert_eq!(fields.privileges, "list:*,setrole:EDITOR");
    assert!(cached(&world, &token) && used(&world.authority, &token).await.is_ok());
    assert_eq!(world.audit.of("login", "actor"), ["partner/102"]);
    // The partner's usual sessions need no more than a user secret.
    for (secret, admin, right) in [
        (USER, false, true),
        (USER, true, false),
        (SECOND, true, true),
        ("wrong", false, false),
        ("", false, false),
    ] {
        let opened = start(&world, by_secret(secret, "al", admin), asking(""), &home()).await;
        assert_eq!(opened.as_ref().is_ok(), right, "{secret} {admin}");
        match opened {
            Ok((live, _)) => assert_eq!(live.record().admin, admin),
            Err(refusal) => assert_eq!(refusal, Refusal::InvalidCredentials),
        }
    }
}

#[tokio::test]
async fn whatever_is_wrong_with_a_start_is_answered_alike() {
    let world = world();
    for (seal, terms) in [
        (by_secret(ADMIN, "alice", false), asking("")),
        (by_secret(ADMIN, "nobody", false), asking("")),
        (by_secret(ADMIN, "al", false), asking("setrole:BOSS")),
        (by_secret(ADMIN, "al", false), asking("actionslimit:0")),
        (by_secret(ADMIN, "al", false), asking(&format!("sview:{}", "x".repeat(5000)))),
        (
            by_secret(ADMIN, "al", false),
            KsTerms { lifetime: Some(Duration::ZERO), ..KsTerms::default() },
        ),
    ] {
        let refusal = start(&world, seal.clone(), terms, &home()).await.unwrap_err();
        assert_eq!(refusal, Refusal::InvalidCredentials, "{seal:?}");
    }
    world.people.partner("102", |partner| partner.disabled = true);
    let refusal = start(&world, by_secret(ADMIN, "al", true), asking(""), &home()).await;
    assert_eq!(refusal.unwrap_err(), Refusal::InvalidCredentials);
    assert_eq!(world.store.len(), 0);
}

#[tokio::test]
async fn who_guesses_secrets_is_slowed_down() {
    let world = world();
    let mut last = None;
    for _ in 0..50 {
        last = start(&world, by_secret("guess", "al", false), asking(""), &home()).await.err();
    }
    assert!(matches!(last, Some(Refusal::Throttled { .. })), "{last:?}");
}

#[tokio::test]
async fn reach_says_for_whom() {
    let world = world();
    let opened = async |user: &str| {
        start(&world, by_secret(ADMIN, user, false), asking(""), &home()).await.is_ok()
    };
    world.people.partner("102", |partner| partner.members.clear());
    assert!(!opened("alice").await, "not a member");
    world.people.partner("102", |partner| partner.reach = Reach::Everybody);
    assert!(opened("alice").await && !opened("nobody").await);
    world.people.partner("102", |partner| partner.reach = Reach::Guests);
    assert!(!opened("alice").await, "somebody else whom the directory knows");
    assert!(!opened("a\nb").await && !opened(&"x".repeat(101)).await);
}

#[tokio::test]
async fn lives_are_capped_by_the_partner() {
    let world = world();
    let life = |live: &Arc<Live>| live.record().expires.since(world.clock.now());
    assert_eq!(life(&alice(&world, "").await.0), DAY);
    let terms = KsTerms { lifetime: Some(DAY * 30), ..KsTerms::default() };
    let seal = by_secret(ADMIN, "al", false);
    assert_eq!(life(&start(&world, seal.clone(), terms, &home()).await.unwrap().0), DAY);
    let terms = KsTerms { lifetime: Some(Duration::from_secs(60)), ..KsTerms::default() };
    let (live, token) = start(&world, seal, terms, &home()).await.unwrap();
    assert_eq!(life(&live), Duration::from_secs(60));
    world.clock.advance(Duration::from_secs(60));
    assert_eq!(refused(&world, &token).await, Worthless::Expired);
    world.store.forget();
    assert_eq!(refused(&world, &token).await, Worthless::Expired, "the KS tells");
}

#[tokio::test]
async fn sessions_that_a_partner_makes_are_apart_from_a_users_own() {
    let world = with_partner(World::allowing(1));
    let identifier = "alice".to_owned();
    let password = Secret::new(identifier.clone());
    let login = Command::login(Credentials::Password { identifier, password });
    let Outcome::Opened(own, _) = world.authority.execute(login, &home()).await.unwrap() else {
        panic!()
    };
    let mut tokens = Vec::new();
    for _ in 0..5 {
        tokens.push(alice(&world, "").await.1);
    }
    assert!(!own.pulse().is_over(world.clock.now()));
    for token in &tokens {
        assert!(used(&world.authority, token).await.is_ok());
    }
}

#[tokio::test]
async fn a_ks_that_was_never_seen_is_taken_from_partners_that_may() {
    let world = world();
    let token = offline(&world, "al", "list:*,apptoken:9", DAY);
    let live = used(&world.authority, &token).await.unwrap();
    assert_eq!((live.record().user.as_str(), live.record().privileges.len()), ("u1", 1));
    assert_eq!(live.record().actor.as_deref(), Some("partner/102"));
    assert!(cached(&world, &token));
    for (bad, why) in [
        (offline(&world, "nobody", "", DAY), Worthless::Invalid),
        (offline(&world, "al", "setrole:BOSS", DAY), Worthless::Invalid),
        (offline(&world, "al", "iprestrict:x", DAY), Worthless::Invalid),
        (offline(&world, "al", "", Duration::ZERO), Worthless::Expired),
        (
            read(&seal("103", &Fields::default(), &Secret::new(ADMIN.into()), [7; 16])),
            Worthless::Invalid,
        ),
        (
            read(&seal("102", &Fields::default(), &Secret::new(USER.into()), [7; 16])),
            Worthless::Invalid,
        ),
    ] {
        assert_eq!(refused(&world, &bad).await, why);
    }
    assert_eq!(world.store.len(), 1);
    let token = offline(&world, "al", "", DAY);
    world.people.partner("102", |partner| partner.offline = false);
    assert_eq!(refused(&world, &token).await, Worthless::Invalid);
    world.people.partner("102", |partner| partner.offline = true);
    assert!(used(&world.authority, &token).await.is_ok());
    world.people.partner("102", |partner| partner.disabled = true);
    assert_eq!(refused(&world, &token).await, Worthless::Invalid);
}

/// Regression: a KS that the partner had sealed itself to last until 2100 was a session until 2100.
#[tokio::test]
async fn a_ks_that_would_outlast_the_partners_sessions_is_refused_on_every_node() {
    let world = with_partner(World::shared());
    let other = world.beside();
    let (whole, past) = (Duration::from_secs(60), Duration::from_secs(61));
    let token = offline(&world, "al", "", DAY + past);
    for node in [&world.authority, &other] {
        assert_eq!(used(node, &token).await.unwrap_err(), Worthless::Invalid);
        let endless = Fields { expires: u64::MAX, user: "al".to_owned(), ..Fields::default() };
        assert_eq!(used(node, &self::token(&endless)).await.unwrap_err(), Worthless::Invalid);
    }
    assert_eq!(world.store.len(), 0);
    let ahead = offline(&world, "al", "", DAY + whole);
    let live = used(&other, &ahead).await.unwrap();
    assert_eq!(live.record().expires.since(world.clock.now()), DAY + whole, "clocks differ a bit");
    world.clock.advance(DAY + whole);
    world.store.forget();
    for node in [&world.authority, &other] {
        assert_eq!(used(node, &ahead).await.unwrap_err(), Worthless::Expired, "nor is it renewed");
    }
}

#[tokio::test]
async fn a_ks_that_was_taken_is_refused_once_lives_are_shorter_but_none_of_our_own() {
    let world = world();
    let sealed = offline(&world, "al", "", DAY);
    let (_, given) = alice(&world, "").await;
    assert!(used(&world.authority, &sealed).await.is_ok());
    world.people.partner("102", |partner| partner.lifetime = DAY / 2);
    assert_eq!(refused(&world, &sealed).await, Worthless::Invalid);
    assert!(used(&world.authority, &given).await.is_ok(), "its end is the one that was promised");
}

/// Of the seed's test vectors: version 1, which expires in 2100.
const V1: &str = "M2I0YmU5MWI4ZDY1ZWUwOGRjNjA4ZTZjOWRiZWZlNTQyOWRiNTc3MXwxMDI7MTAyOzQxMDI0NDQ4MDA7MjsxMjM0NTthbGljZTtsaXN0Oiosc2V0cm9sZTpQTEFZQkFDS19CQVNFX1JPTEU7Ow==";

#[tokio::test]
async fn version_1_must_be_allowed() {
    let world = world();
    world.people.partner("102", |partner| {
        partner.roles = vec!["PLAYBACK_BASE_ROLE".to_owned()];
        partner.members.entry("u1".to_owned()).or_default().alias = "alice".to_owned();
    });
    assert_eq!(refused(&world, &read(V1)).await, Worthless::Invalid);
    world.people.partner("102", |partner| partner.ks_v1 = true);
    assert_eq!(refused(&world, &read(V1)).await, Worthless::Invalid, "it lasts for too long");
    world.people.partner("102", |partner| partner.lifetime = DAY * 50_000);
    let live = used(&world.authority, &read(V1)).await.unwrap();
    assert!(live.record().admin && live.record().actor.is_some());
}

#[tokio::test]
async fn an_ended_ks_does_not_come_back() {
    let world = world();
    for sealed_by_the_partner in [false, true] {
        let token = match sealed_by_the_partner {
            true => offline(&world, "al", "", DAY),
            false => alice(&world, "").await.1,
        };
        let live = used(&world.authority, &token).await.unwrap();
        let ended = world.authority.execute(Command::Logout, &with(&live)).await.unwrap();
        assert!(matches!(ended, Outcome::Ended(1)));
        assert!(live.pulse().is_over(world.clock.now()));
        world.clock.advance(DAY / 2);
        assert_eq!(refused(&world, &token).await, Worthless::Ended);
        let again = world.authority.execute(Command::Logout, &with(&live)).await.unwrap();
        assert!(matches!(again, Outcome::Ended(0)));
        world.clock.advance(DAY / 2);
        world.store.forget();
        assert_eq!(refused(&world, &token).await, Worthless::Expired);
    }
    assert_eq!(world.audit.of("session-end", "reason"), ["logout", "logout"]);
}

#[tokio::test]
async fn an_end_on_one_node_is_one_on_all() {
    let world = with_partner(World::shared());
    let other = world.beside();
    let (live, token) = alice(&world, "sessionid:s1").await;
    let there = used(&other, &token).await.unwrap();
    world.authority.execute(Command::Logout, &with(&live)).await.unwrap();
    assert!(matches!(other.cached(&token, world.clock.now()), Cached::Unknown));
    assert_eq!(used(&other, &token).await.unwrap_err(), Worthless::Ended);
    assert!(there.pulse().is_over(world.clock.now()), "its streams are cut");
    let never_seen = offline(&world, "al", "sessionid:s1", DAY);
    assert_eq!(used(&other, &never_seen).await.unwrap_err(), Worthless::Ended);
}

#[tokio::test]
async fn children_die_with_their_parent() {
    let world = world();
    world.people.partner("102", |partner| partner.lifetime = DAY * 3);
    let (one, first) = alice(&world, "sessionid:s1").await;
    let second = offline(&world, "al", "sessionid:s1", DAY * 3);
    let two = used(&world.authority, &second).await.unwrap();
    let (_, apart) = alice(&world, "sessionid:s2").await;
    assert_eq!(one.record().parent, two.record().parent);
    let never_seen = offline(&world, "al", "sessionid:s1", DAY * 3);
    // The parent lives as long as the child that lives longest.
    world.clock.advance(DAY / 2);
    assert!(cached(&world, &second));
    let ended = world.authority.execute(Command::Logout, &with(&one)).await.unwrap();
    assert!(matches!(ended, Outcome::Ended(2)));
    for live in [&one, &two] {
        assert!(live.pulse().is_over(world.clock.now()) && live.pulse().is_cut(world.clock.now()));
    }
    for token in [&first, &second, &never_seen] {
        assert!(!cached(&world, token));
        assert_eq!(refused(&world, token).await, Worthless::Ended);
    }
    let again = start(&world, by_secret(ADMIN, "al", false), asking("sessionid:s1"), &home()).await;
    assert_eq!(again.unwrap_err(), Refusal::Forbidden);
    assert!(used(&world.authority, &apart).await.is_ok(), "of another group");
    world.clock.advance(DAY * 2);
    assert_eq!(refused(&world, &never_seen).await, Worthless::Ended, "as long as a child lived");
}

#[tokio::test]
async fn a_parent_is_never_listed() {
    let world = world();
    alice(&world, "sessionid:s1").await;
    assert_eq!(world.authority.store().list(9).await.unwrap().len(), 1);
    assert!(world.authority.store().of_user("partner/102").await.unwrap().is_empty());
}

#[tokio::test]
async fn uses_are_counted_over_all_nodes() {
    let world = with_partner(World::shared());
    let nodes = [Arc::clone(&world.authority), world.beside(), world.beside()];
    let (_, token) = alice(&world, "actionslimit:20").await;
    assert!(!cached(&world, &token), "each use is judged");
    let uses: Vec<_> = (0..60)
        .map(|number| {
            let (node, token) = (Arc::clone(&nodes[number % nodes.len()]), token.clone());
            tokio::spawn(async move { node.used(&token, None, "/").await.unwrap() })
        })
        .collect();
    let mut good = 0;
    for one in uses {
        match one.await.unwrap() {
            Ok(_) => good += 1,
            Err(worthless) => assert_eq!(worthless, Worthless::ActionsExceeded),
        }
    }
    assert_eq!(good, 20);
}

#[tokio::test]
async fn addresses_and_paths_are_judged_at_every_use() {
    let world = world();
    let (_, token) = alice(&world, "iprestrict:192.0.2.7,urirestrict:/a*|/b").await;
    assert!(!cached(&world, &token));
    let used = async |ip: &str, target: &str| {
        let ip = ip.parse::<IpAddr>().ok();
        world.authority.used(&token, ip, target).await.unwrap().err()
    };
    assert_eq!(used("192.0.2.7", "/a/c?d=1").await, None);
    assert_eq!(used("::ffff:192.0.2.7", "/b").await, None);
    assert_eq!(used("192.0.2.8", "/b").await, Some(Worthless::WrongAddress));
    assert_eq!(used("", "/b").await, Some(Worthless::WrongAddress));
    assert_eq!(used("192.0.2.7", "/b?").await, Some(Worthless::WrongUri));
}

fn password(identifier: &str, word: &str, tenant: Option<&str>, by_alias: bool) -> Seal {
    let (identifier, password) = (identifier.to_owned(), Secret::new(word.to_owned()));
    let credentials = Credentials::Password { identifier, password };
    Seal::Password { credentials, tenant: tenant.map(str::to_owned), by_alias }
}

#[tokio::test]
async fn a_password_opens_a_session_of_the_partner_that_lists_the_user() {
    let world = world();
    let (live, _) =
        start(&world, password("alice", "alice", None, false), asking(""), &home()).await.unwrap();
    let record = live.record();
    assert_eq!((record.tenant.as_deref(), record.actor.as_deref()), (Some("102"), None));
    assert_eq!((record.privileges.join(","), record.admin), ("all:*".to_owned(), false));
    assert!(live.is_signed_in());
    world.people.partner("102", |partner| {
        let member = partner.members.entry("u1".to_owned()).or_default();
        (member.admin, member.privileges) = (true, Some("download".to_owned()));
    });
    for (seal, right) in [
        (password("alice", "alice", Some("102"), false), true),
        (password("al", "alice", Some("102"), true), true),
        (password("al", "al", Some("102"), true), false),
        (password("alice", "alice", Some("103"), false), false),
        (password("alice", "alice", Some("102"), true), false),
        (password("alice", "wrong", Some("102"), false), false),
        (password("nobody", "nobody", None, false), false),
    ] {
        let opened = start(&world, seal.clone(), asking("list:*"), &home()).await;
        match opened {
            Ok((live, _)) => {
                assert!(right, "{seal:?}");
                assert_eq!(
                    (live.record().admin, live.record().privileges.join(",")),
                    (true, "download".to_owned())
                );
            }
            Err(refusal) => {
                assert!(!right, "{seal:?}");
                assert_eq!(refusal, Refusal::InvalidCredentials);
            }
        }
    }
}

#[tokio::test]
async fn with_several_partners_and_none_chosen_one_may_only_choose() {
    let world = world();
    world.people.partner("205", |partner| {
        partner.admin_secrets = vec![Secret::new(ADMIN.to_owned())];
        partner.lifetime = DAY;
        partner.members.insert("u1".to_owned(), Member { admin: true, ..Member::default() });
    });
    let any = password("alice", "alice", None, false);
    let (live, token) = start(&world, any, asking("list:*"), &home()).await.unwrap();
    assert_eq!(live.record().tenant.as_deref(), Some("102"));
    assert_eq!(live.record().scope.as_deref(), Some(CHOOSE_TENANT));
    assert!(live.may_only_choose() && !live.is_signed_in());
    let execute = |command| world.authority.execute(command, Box::leak(Box::new(with(&live))));
    let Outcome::Scopes(scopes) = execute(Command::Scopes).await.unwrap() else { panic!() };
    assert_eq!(scopes.iter().map(|partner| partner.id.as_str()).collect::<Vec<_>>(), ["205"]);
    assert!(execute(Command::Inspect).await.is_ok());
    for command in [Command::ListSessions, Command::EndOthers, Command::Groups, Command::Peers] {
        assert_eq!(execute(command).await.unwrap_err(), Refusal::Forbidden);
    }
    let chosen = password("alice", "alice", Some("205"), false);
    let (chosen, _) = start(&world, chosen, asking(""), &with(&live)).await.unwrap();
    assert!(chosen.record().admin && !chosen.may_only_choose());
    assert!(used(&world.authority, &token).await.is_ok(), "the first one goes on");
    // Whatever becomes of the record, the KS says what it is.
    world.store.forget();
    let again = world.beside();
    assert!(used(&again, &token).await.unwrap().may_only_choose());
}

#[tokio::test]
async fn a_widget_is_nobody() {
    let world = world();
    let seal = Seal::Widget { tenant: "102".to_owned() };
    let (live, token) = start(&world, seal.clone(), asking("list:*"), &home()).await.unwrap();
    assert_eq!((live.record().kind, live.identity().user.as_str()), (Kind::Widget, ""));
    assert_eq!(live.record().privileges, ["view:*", "widget:1"]);
    assert!(!live.is_signed_in() && used(&world.authority, &token).await.is_ok());
    let refusal = world.authority.execute(Command::EndOthers, &with(&live)).await.unwrap_err();
    assert_eq!(refusal, Refusal::Forbidden);
    let sealed = offline(&world, "0", "view:*,widget:1", DAY);
    assert_eq!(used(&world.authority, &sealed).await.unwrap().record().kind, Kind::Widget);
    let expires = world.clock.now().plus(DAY).seconds();
    let fields = Fields { kind: KsKind::Widget, expires, ..Fields::default() };
    assert_eq!(
        used(&world.authority, &self::token(&fields)).await.unwrap().record().kind,
        Kind::Widget
    );
    world.people.partner("102", |partner| partner.widgets = false);
    let refusal = start(&world, seal, asking(""), &home()).await.unwrap_err();
    assert_eq!(refusal, Refusal::Missing("widget"));
    assert_eq!(refused(&world, &token).await, Worthless::Ended);
}

fn app_token(with: impl FnOnce(&mut AppToken)) -> AppToken {
    let mut token = AppToken {
        id: "t1".to_owned(),
        token: Secret::new("the token".to_owned()),
        hash: HashKind::Sha256,
        user: "u1".to_owned(),
        admin: false,
        privileges: String::new(),
        lifetime: Duration::from_secs(3600),
        expires: None,
        disabled: false,
    };
    with(&mut token);
    token
}

#[tokio::test]
async fn an_app_proves_its_token_by_a_hash_over_its_ks() {
    let world = world();
    let give = |token: AppToken| {
        world
            .people
            .partner("102", |partner| drop(partner.app_tokens.insert(token.id.clone(), token)));
    };
    let widget = Seal::Widget { tenant: "102".to_owned() };
    let (live, ks) = start(&world, widget, asking(""), &home()).await.unwrap();
    let ask = async |id: &str, hash: &str, ks: &str, privileges: &str| {
        let (id, hash, user) = (id.to_owned(), hash.to_owned(), String::new());
        let seal = Seal::AppToken { id, hash, user, admin: Some(true), ks: Secret::new(ks.into()) };
        start(&world, seal, asking(privileges), &with(&live)).await
    };
    let text = ks.encode();
    let right = crate::secret::sha256(format!("{}the token", *text).as_bytes());
    let right: String = right.iter().map(|byte| format!("{byte:02X}")).collect();
    assert_eq!(ask("t1", &right, &text, "").await.unwrap_err(), Refusal::Missing("app token"));
    give(app_token(|_| ()));
    let (opened, _) = ask("t1", &right, &text, "list:*,sessionid:mine").await.unwrap();
    let record = opened.record();
    assert_eq!(record.privileges, ["list:*", "sessionid:t1", "apptoken:t1"]);
    assert_eq!(
        (record.user.as_str(), record.admin, record.identifier.as_str()),
        ("u1", false, "al")
    );
    assert_eq!(record.expires.since(world.clock.now()), Duration::from_secs(3600));
    assert!(record.parent.is_some());
    assert_eq!(ask("t1", &"0".repeat(64), &text, "").await.unwrap_err(), Refusal::AppTokenHash);
    let foreign = alice(&world, "").await.1.encode();
    assert_eq!(ask("t1", &right, &foreign, "").await.unwrap_err(), Refusal::AppTokenHash);
    give(app_token(|token| {
        token.privileges = "download".to_owned();
        token.expires = Some(world.clock.now().plus(Duration::from_secs(60)));
    }));
    let (opened, _) = ask("t1", &right, &text, "list:*").await.unwrap();
    assert_eq!(opened.record().privileges, ["download", "sessionid:t1", "apptoken:t1"]);
    assert_eq!(opened.record().expires.since(world.clock.now()), Duration::from_secs(60));
    world.clock.advance(Duration::from_secs(60));
    assert_eq!(ask("t1", &right, &text, "").await.unwrap_err(), Refusal::AppTokenExpired);
    give(app_token(|token| token.disabled = true));
    assert_eq!(ask("t1", &right, &text, "").await.unwrap_err(), Refusal::AppTokenDisabled);
    // What it has opened is worth what it is worth now.
    give(app_token(|token| token.admin = true));
    let (opened, ks) = ask("t1", &right, &text, "").await.unwrap();
    let shown = async || used(&world.authority, &ks).await.map(|live| live.identity().admin);
    assert!(opened.identity().admin);
    assert_eq!(shown().await, Ok(true));
    give(app_token(|token| token.admin = false));
    assert_eq!(shown().await, Ok(false));
    give(app_token(|token| token.disabled = true));
    assert_eq!(shown().await, Err(Worthless::Ended));
}

/// Sessions by their own password stayed administrators' when they were none any more.
#[tokio::test]
async fn who_administrates_no_more_does_not_by_an_older_session() {
    let world = world();
    let administrates = |admin: bool| {
        world.people.partner("102", |partner| {
            partner.members.entry("u1".to_owned()).or_default().admin = admin;
        });
    };
    administrates(true);
    let own = password("alice", "alice", Some("102"), false);
    let (_, own) = start(&world, own, asking(""), &home()).await.unwrap();
    let (_, by_secret) =
        start(&world, by_secret(ADMIN, "al", true), asking(""), &home()).await.unwrap();
    let shown = async |ks: &Token| used(&world.authority, ks).await.unwrap().identity().admin;
    assert_eq!((shown(&own).await, shown(&by_secret).await), (true, true));
    administrates(false);
    // Whoever has the partner's secret may do so still.
    assert_eq!((shown(&own).await, shown(&by_secret).await), (false, true));
}

/// An app of one partner was told of the others, and of people whom that one does not reach.
#[tokio::test]
async fn a_session_that_a_partner_made_tells_of_no_other() {
    let world = world();
    for id in ["102", "205"] {
        world.people.partner(id, |partner| {
            let member = Member { alias: "al".to_owned(), admin: true, ..Member::default() };
            partner.members.insert("u1".to_owned(), member);
        });
    }
    let scopes = async |live: &Arc<Live>| {
        let found = world.authority.execute(Command::Scopes, &with(live)).await.unwrap();
        let Outcome::Scopes(scopes) = found else { panic!("{found:?}") };
        scopes.iter().map(|partner| partner.id.clone()).collect::<Vec<_>>()
    };
    let own = password("alice", "alice", Some("102"), false);
    let (own, _) = start(&world, own, asking(""), &home()).await.unwrap();
    assert_eq!(scopes(&own).await, ["102", "205"]);
    let (made, _) = alice(&world, "").await;
    assert_eq!(scopes(&made).await, ["102"]);
    let peers = async |live: &Arc<Live>| {
        let found = world.authority.execute(Command::Peers, &with(live)).await.unwrap();
        let Outcome::Peers(peers) = found else { panic!("{found:?}") };
        peers.into_iter().map(|peer| peer.user).collect::<Vec<_>>()
    };
    let (all, shown) = (peers(&own).await, peers(&made).await);
    assert!(shown.iter().all(|user| user == "u1") && all.len() >= shown.len(), "{all:?} {shown:?}");
}

fn key(world: &World, owner: Principal) -> Token {
    let secret = KeySecret::issue().unwrap();
    world.people.put_key(Key {
        id: secret.hash().encode(),
        name: String::new(),
        owner,
        hash: secret.hash(),
        created: world.clock.now(),
        expires: Some(world.clock.now().plus(DAY)),
    });
    secret.token()
}

#[tokio::test]
async fn a_key_is_a_session_for_as_long_as_the_directory_has_it() {
    let world = world();
    let token = key(&world, Principal::User("u1".to_owned()));
    let live = used(&world.authority, &token).await.unwrap();
    assert_eq!((live.record().kind, live.record().user.as_str()), (Kind::ApiKey, "u1"));
    assert!(cached(&world, &token) && world.store.len() == 0);
    let ended = world.authority.execute(Command::Logout, &with(&live)).await.unwrap();
    assert!(matches!(ended, Outcome::Ended(0)) && cached(&world, &token));
    // Another directory, the same key: its streams go on.
    world.people.partner("102", |partner| partner.name = "new".to_owned());
    assert!(!cached(&world, &token));
    assert_eq!(world.authority.reconcile(false).await.unwrap(), 0);
    let again = used(&world.authority, &token).await.unwrap();
    assert!(Arc::ptr_eq(again.pulse(), live.pulse()));
    world.people.revoke_keys();
    assert_eq!(world.authority.reconcile(false).await.unwrap(), 1);
    assert!(live.pulse().is_cut(world.clock.now()));
    assert_eq!(refused(&world, &token).await, Worthless::Invalid);
    let token = key(&world, Principal::User("u1".to_owned()));
    assert!(used(&world.authority, &token).await.is_ok());
    world.clock.advance(DAY);
    assert_eq!(refused(&world, &token).await, Worthless::Expired);
    let token = key(&world, Principal::User("nobody".to_owned()));
    assert_eq!(refused(&world, &token).await, Worthless::Invalid);
}

#[tokio::test]
async fn a_key_survives_an_outage_of_a_shared_store() {
    let world = with_partner(World::shared());
    let token = key(&world, Principal::User("u1".to_owned()));
    let live = used(&world.authority, &token).await.unwrap();
    world.store.flush();
    assert!(!cached(&world, &token));
    // What the follower does.
    assert!(world.authority.read(token.id()).await.unwrap().is_ok());
    world.clock.advance(Duration::from_secs(60));
    assert!(cached(&world, &token) && !live.pulse().is_cut(world.clock.now()));
}

#[tokio::test]
async fn somebody_may_act_for_themselves_with_a_key() {
    let world = world();
    world.people.change(|account| {
        account.email = "alice@example.com".to_owned();
        account.aliases.insert("versal".to_owned(), "7".to_owned());
    });
    let token = key(&world, Principal::User("u1".to_owned()));
    let live = used(&world.authority, &token).await.unwrap();
    let whom = |id: &str| Whom::Alias { dialect: "versal", id: id.to_owned() };
    let terms = Terms { form: Form::Sid, ..Terms::default() };
    let act = Command::ActFor(whom("7"), terms);
    let Outcome::Opened(made, sid) = world.authority.execute(act, &with(&live)).await.unwrap()
    else {
        panic!()
    };
    assert_eq!(sid.form(), Form::Sid);
    assert_eq!(made.record().actor.as_deref(), Some("user/u1"));
    assert!(used(&world.authority, &sid).await.is_ok() && cached(&world, &token));
    let other = Command::ActFor(whom("8"), terms);
    let refusal = world.authority.execute(other, &with(&live)).await.unwrap_err();
    assert_eq!(refusal, Refusal::Forbidden);
    let ks = alice(&world, "").await.0;
    let refusal = world.authority.execute(Command::ActFor(whom("7"), terms), &with(&ks)).await;
    assert_eq!(refusal.unwrap_err(), Refusal::Forbidden, "a KS is for what its privileges say");
}

#[tokio::test]
async fn what_a_partner_may_not_give_any_more_ends() {
    let world = world();
    let (_, token) = alice(&world, "setrole:EDITOR").await;
    world.people.partner("102", |partner| partner.roles.clear());
    assert_eq!(refused(&world, &token).await, Worthless::Ended);
    let (_, token) = alice(&world, "").await;
    world.people.partner("102", |partner| partner.members.clear());
    assert_eq!(refused(&world, &token).await, Worthless::Ended);
}

#[tokio::test]
async fn a_ks_cannot_be_given_another_secret() {
    let world = world();
    let (live, token) = alice(&world, "").await;
    let claim = "group/staff".to_owned();
    let switch = Command::SwitchClaim { claim, extended: false, renew: false };
    let refusal = world.authority.execute(switch, &with(&live)).await.unwrap_err();
    assert_eq!(refusal, Refusal::Forbidden);
    assert!(used(&world.authority, &token).await.is_ok());
}

#[tokio::test]
async fn an_outage_is_not_the_end_of_a_ks() {
    let world = world();
    let token = offline(&world, "al", "sessionid:s1", DAY);
    world.store.fail(true);
    let refusal = world.authority.used(&token, None, "/").await.unwrap_err();
    assert_eq!(refusal, Refusal::Unavailable);
    world.store.fail(false);
    assert!(used(&world.authority, &token).await.is_ok());
}

proptest! {
    #[test]
    fn no_text_makes_a_use_fail(text in "\\PC{0,200}", inner in prop::collection::vec(any::<u8>(), 0..120), form in 0..5_usize) {
        use base64::Engine as _;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let world = world();
            let form = [Form::Own, Form::Sid, Form::Ks, Form::Key, Form::Group][form];
            let sealed = [b"v2|102|", &inner[..]].concat();
            let sealed = base64::engine::general_purpose::URL_SAFE.encode(sealed);
            for text in [text, sealed] {
                let identity = Ks::parse(&text).map(|ks| ks.identity().to_vec());
                let identity = identity.unwrap_or_else(|_| text.as_bytes().to_vec());
                let token = Token::of_text(form, &identity, text);
                assert_eq!(refused(&world, &token).await, Worthless::Invalid);
            }
            assert_eq!(world.store.len(), 0);
        });
    }
}

#[tokio::test]
async fn a_partner_is_somebody_and_acts_for_its_users() {
    let world = world();
    world.people.change(|account| {
        account.email = "alice@example.com".to_owned();
        account.aliases.insert("versal".to_owned(), "7".to_owned());
    });
    let bearer = key(&world, Principal::Partner("102".to_owned()));
    let by_key = used(&world.authority, &bearer).await.unwrap();
    let of = async |admin| {
        start(&world, by_secret(ADMIN, "", admin), asking(""), &home()).await.unwrap().0
    };
    let (by_admin, by_user) = (of(true).await, of(false).await);
    for live in [&by_key, &by_admin, &by_user] {
        assert_eq!((live.record().kind, live.record().actor.as_deref()), (Kind::Partner, None));
        assert_eq!(live.identity().user, "partner/102");
        assert_eq!(live.identity().tenant.as_deref(), Some("102"));
    }
    let email = |text: &str| Whom::Email(text.to_owned());
    let alias = Whom::Alias { dialect: "versal", id: "7".to_owned() };
    for (caller, whom) in [(&by_key, alias), (&by_key, email("alice"))] {
        let act = Command::ActFor(whom, Terms::default());
        match world.authority.execute(act, &with(caller)).await {
            Ok(Outcome::Opened(live, token)) => {
                assert_eq!(live.record().actor.as_deref(), Some("partner/102"));
                assert_eq!(live.record().tenant.as_deref(), Some("102"));
                assert_eq!((live.record().kind, live.identity().user.as_str()), (Kind::User, "u1"));
                assert!(used(&world.authority, &token).await.is_ok());
                assert!(!caller.pulse().is_over(world.clock.now()));
                let alice = with(&live);
                let terms = Terms::default();
                let whom = Whom::Alias { dialect: "versal", id: "7".to_owned() };
                let again = world.authority.execute(Command::ActFor(whom, terms), &alice).await;
                assert_eq!(again.unwrap_err(), Refusal::Forbidden, "it makes no others");
            }
            Ok(other) => panic!("{other:?}"),
            Err(refusal) => assert_eq!(refusal, Refusal::Missing("user"), "a name is no address"),
        }
    }
    let alias = Whom::Alias { dialect: "versal", id: "7".to_owned() };
    let act = Command::ActFor(alias.clone(), Terms::default());
    // A KS is confined by what it says: what it made would not be.
    for ks in [&by_user, &by_admin] {
        for act in [act.clone(), Command::IssuePartnerKey(alias.clone())] {
            let refusal = world.authority.execute(act, &with(ks)).await.unwrap_err();
            assert_eq!(refusal, Refusal::Forbidden);
        }
    }
    world.people.partner("102", |partner| partner.members.clear());
    let by_key = used(&world.authority, &bearer).await.unwrap();
    let refusal = world.authority.execute(act, &with(&by_key)).await.unwrap_err();
    assert_eq!(refusal, Refusal::Missing("user"), "out of reach");
}

#[tokio::test]
async fn guests_are_known_to_their_partner_only() {
    let world = world();
    world.people.partner("102", |partner| partner.reach = Reach::Guests);
    let guest = by_secret(ADMIN, "carol/1", false);
    let (live, token) = start(&world, guest, asking("list:*"), &home()).await.unwrap();
    assert_eq!(live.identity().user, "partner/102/carol/1");
    assert_eq!(live.identity().claim, "partner/102/carol/1");
    assert_eq!(live.identity().tenant.as_deref(), Some("102"));
    assert_eq!(live.record().actor.as_deref(), Some("partner/102"));
    assert!(used(&world.authority, &token).await.is_ok());
    // Somebody has the name now: apps that tell the partner's users apart by it would take one for the other.
    world.people.partner("102", |partner| {
        let member = Member { alias: "carol/1".to_owned(), ..Member::default() };
        partner.members.insert("u1".to_owned(), member);
    });
    assert_eq!(refused(&world, &token).await, Worthless::Ended);
    let (_, token) =
        start(&world, by_secret(ADMIN, "carol/2", false), asking(""), &home()).await.unwrap();
    assert!(used(&world.authority, &token).await.is_ok());
    world.people.partner("102", |partner| partner.reach = Reach::Members);
    assert_eq!(refused(&world, &token).await, Worthless::Ended);
}

#[tokio::test]
async fn a_secret_that_is_taken_back_takes_its_sessions_along() {
    let world = world();
    let (issued, issued_token) = alice(&world, "").await;
    let made = offline(&world, "al", "", DAY);
    let kept = used(&world.authority, &made).await.unwrap();
    // The one that sealed `issued`; `made` was sealed with the other.
    world.people.partner("102", |partner| drop(partner.admin_secrets.remove(0)));
    // Also somebody who only asks whether it is there must not bring it back.
    let _ = world.authority.is_going_on(issued.id()).await;
    for _ in 0..3 {
        assert_eq!(refused(&world, &issued_token).await, Worthless::Invalid);
    }
    world.authority.reconcile(false).await.unwrap();
    assert!(issued.pulse().is_over(world.clock.now()), "what ran under it is cut");
    assert!(used(&world.authority, &made).await.is_ok());
    assert!(!kept.pulse().is_over(world.clock.now()));
    world.people.partner("102", |partner| partner.offline = false);
    assert!(used(&world.authority, &made).await.is_err(), "made without asking");
}

/// Only what was in memory ended: the others came back with the partner.
#[tokio::test]
async fn sessions_that_nobody_uses_end_with_what_they_were_made_with() {
    let world = world();
    world.people.partner("102", |partner| partner.offline = false);
    let (_, token) = alice(&world, "").await;
    let idle = world.beside();
    assert_eq!(idle.reconcile(true).await.unwrap(), 0);
    world.people.partner("102", |partner| partner.disabled = true);
    assert_eq!(idle.cached_sessions(), 0);
    assert_eq!(idle.reconcile(true).await.unwrap(), 1);
    world.people.partner("102", |partner| partner.disabled = false);
    assert!(used(&idle, &token).await.is_err());
}

#[tokio::test]
async fn a_member_chooses_no_role_and_ends_no_others() {
    let world = world();
    let own =
        |privileges: &str| (password("alice", "alice", Some("102"), false), asking(privileges));
    let login = async |privileges: &str| {
        let (seal, terms) = own(privileges);
        start(&world, seal, terms, &home()).await
    };
    assert_eq!(login("setrole:OWN").await.unwrap().0.record().role.as_deref(), Some("OWN"));
    assert!(login("setrole:EDITOR").await.is_err(), "the partner's to give");
    let (_, others) = alice(&world, "sessionid:shared").await;
    let (live, _) = login("*,sessionid:shared").await.unwrap();
    world.authority.execute(Command::Logout, &with(&live)).await.unwrap();
    assert!(used(&world.authority, &others).await.is_ok());
}

/// With a KS that a partner had made for a user, the user's sessions could be listed and ended.
#[tokio::test]
async fn whoever_acts_for_a_user_neither_sees_nor_ends_their_sessions() {
    let world = world();
    let identifier = "alice".to_owned();
    let login = Command::login(Credentials::Password {
        password: Secret::new(identifier.clone()),
        identifier,
    });
    let Outcome::Opened(own, _) = world.authority.execute(login, &home()).await.unwrap() else {
        panic!()
    };
    let (acting, _) = alice(&world, "").await;
    let (tenant, _) =
        start(&world, password("alice", "alice", Some("102"), false), asking(""), &home())
            .await
            .unwrap();
    for live in [&acting, &tenant] {
        let execute = async |command| world.authority.execute(command, &with(live)).await;
        let Outcome::Sessions(seen) = execute(Command::ListSessions).await.unwrap() else {
            panic!()
        };
        assert!(seen.iter().all(|record| record.id == live.id()), "{seen:?}");
        assert_eq!(execute(Command::EndOthers).await.unwrap_err(), Refusal::Forbidden);
        assert_eq!(execute(Command::ListKeys).await.unwrap_err(), Refusal::Forbidden);
        let refusal = execute(Command::EndSession(own.id())).await.unwrap_err();
        assert_eq!(refusal, Refusal::NotFound);
    }
    assert!(!own.pulse().is_over(world.clock.now()));
    let ended = world.authority.execute(Command::EndSession(acting.id()), &with(&own)).await;
    assert!(matches!(ended, Ok(Outcome::Ended(1))), "{ended:?}");
}

#[tokio::test]
async fn nobody_becomes_a_guest_under_somebodys_name() {
    let world = world();
    world.people.partner("102", |partner| {
        partner.reach = Reach::Guests;
        partner.members.clear();
    });
    let refused = async |name: &str| {
        let guest = by_secret(ADMIN, name, false);
        start(&world, guest, asking(""), &home()).await.is_err()
    };
    for name in ["u1", "alice", "\u{200b}"] {
        assert!(refused(name).await, "{name:?}");
    }
    assert!(!refused("Ada-7").await);
    let member = Member { alias: "ada-7".to_owned(), ..Member::default() };
    world.people.partner("102", |partner| {
        partner.members.insert("u1".to_owned(), member);
    });
    for name in ["Ada-7", "ADA-7", " ada-7"] {
        assert!(refused(name).await, "{name}");
    }
}

#[tokio::test]
async fn a_key_of_ones_own_does_not_fill_the_store() {
    let world = with_partner(World::allowing(2));
    world.people.change(|account| {
        account.aliases.insert("versal".to_owned(), "7".to_owned());
    });
    let token = key(&world, Principal::User("u1".to_owned()));
    for _ in 0..5 {
        let by_key = used(&world.authority, &token).await.unwrap();
        let whom = Whom::Alias { dialect: "versal", id: "7".to_owned() };
        let act = Command::ActFor(whom, Terms::default());
        world.authority.execute(act, &with(&by_key)).await.unwrap();
    }
    assert_eq!(world.store.len(), 2);
}

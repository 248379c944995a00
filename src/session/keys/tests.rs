//! Keys over a real directory: who makes them, what they open, and how that ends.

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::audit::Audit;
use crate::clock::Clock;
use crate::directory::{self, Users};
use crate::login::{ApiKey, Password};
use crate::secret::{Costs, Secret, hash_password};
use crate::session::testing::{Lines, Shelf};
use crate::session::{
    Cached, Command, Directory, Identity, Method, SecretHash, Settings, Store, Terms, Token, Whom,
};

const CHEAP: Costs = Costs { memory_kib: 16, passes: 1, lanes: 1 };
const START: UnixMs = UnixMs(1_800_000_000_000);
const DAY: Duration = Duration::from_secs(86_400);

struct World {
    _folder: tempfile::TempDir,
    file: PathBuf,
    users: Arc<Users>,
    store: Arc<Shelf>,
    core: Arc<Authority>,
    clock: Clock,
    audit: Lines,
}

fn file() -> String {
    let hash = hash_password(&Secret::new("password of alice".to_owned()), &CHEAP).unwrap();
    format!(
        r#"[[group]]
name = "staff"
description = "Everybody here"
[[group]]
name = "ops"
parents = ["staff"]
[[group]]
name = "board"
[[user]]
id = "u1"
name = "alice"
groups = ["staff"]
password = "{}"
[[user]]
id = "u2"
name = "bob"
email = "bob@example.org"
[[partner]]
id = "100"
name = "Acme"
reach = "everybody"
"#,
        hash.expose()
    )
}

impl World {
    fn new(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.toml");
        fs::write(&path, file() + more).unwrap();
        let settings = directory::Settings { file: path.clone() };
        let users = Arc::new(Users::open(&settings, &CHEAP).unwrap().0);
        let known: Arc<dyn Directory> = Arc::<Users>::clone(&users);
        let clock = Clock::manual(START);
        let (store, audit) = (Arc::new(Shelf::new(&clock)), Lines::default());
        let shared = || (Arc::clone(&known), clock.clone());
        let password = Password::start(CHEAP, 1, 4, shared().0, shared().1).unwrap();
        let api_key = ApiKey::new(shared().0, shared().1).unwrap();
        let methods: Vec<Box<dyn Method>> = vec![Box::new(password), Box::new(api_key)];
        let (lifetime, idle) = (7 * DAY, 7 * DAY);
        let settings = Settings { lifetime, idle, per_user: 2, cached: 1000, unknown: 300 };
        let log = Arc::new(Audit::new(clock.clone(), Box::new(audit.clone())));
        let shelf = Arc::clone(&store) as Arc<dyn Store>;
        let core = Authority::new(settings, shelf, known, methods, log, clock.clone());
        Self { _folder: folder, file: path, users, store, core: Arc::new(core), clock, audit }
    }

    async fn does(
        &self,
        command: Command,
        session: Option<&Arc<Live>>,
    ) -> Result<Outcome, Refusal> {
        let caller =
            Caller { session: session.cloned(), ip: "192.0.2.7".parse().ok(), ..Caller::default() };
        self.core.execute(command, &caller).await
    }

    async fn alice(&self) -> Arc<Live> {
        let (identifier, password) = ("alice".to_owned(), "password of alice".to_owned());
        let credentials = Credentials::Password { identifier, password: Secret::new(password) };
        opened(self.does(Command::login(credentials), None).await).0
    }

    async fn switched(&self, live: &Arc<Live>, claim: &str) -> Result<Arc<Live>, Refusal> {
        let command =
            Command::SwitchClaim { claim: claim.to_owned(), extended: false, renew: true };
        match self.does(command, Some(live)).await? {
            Outcome::Switched(live, _) => Ok(live),
            other => panic!("{other:?}"),
        }
    }

    async fn issue(
        &self,
        live: &Arc<Live>,
        lifetime: Option<Duration>,
    ) -> Result<(Arc<Key>, Secret), Refusal> {
        let command = Command::IssueKey { name: " nightly\njob ".to_owned(), lifetime };
        match self.does(command, Some(live)).await? {
            Outcome::KeyIssued(key, secret) => Ok((key, secret)),
            other => panic!("{other:?}"),
        }
    }

    async fn login(&self, id: &str, secret: &Secret) -> Result<Outcome, Refusal> {
        let credentials = Credentials::ApiKey { id: id.to_owned(), secret: secret.clone() };
        self.does(Command::login(credentials), None).await
    }

    fn is_live(&self, token: &Token) -> bool {
        matches!(self.core.cached(token, self.clock.now()), Cached::Live(_))
    }

    /// A key that an operator made.
    fn made(&self, owner: &str, expires: Option<UnixMs>) -> (String, Secret) {
        let secret = KeySecret::issue().unwrap();
        let (id, owner) = (SessionId::issue().unwrap().to_string(), owner.parse().unwrap());
        let (name, hash, created) = (String::new(), secret.hash(), START);
        let key = Key { id: id.clone(), name, owner, hash, created, expires };
        self.users.add_key(&key).unwrap();
        (id, secret.written())
    }

    fn edit(&self, from: &str, to: &str) {
        let text = fs::read_to_string(&self.file).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(&self.file, text.replace(from, to)).unwrap();
        assert_eq!(self.users.reload().unwrap(), directory::Reload::Changed);
    }
}

fn opened(outcome: Result<Outcome, Refusal>) -> (Arc<Live>, Token) {
    match outcome.unwrap() {
        Outcome::Opened(live, token) => (live, token),
        other => panic!("{other:?}"),
    }
}

fn keys(outcome: Result<Outcome, Refusal>) -> Vec<Arc<Key>> {
    match outcome.unwrap() {
        Outcome::Keys(keys) => keys,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_person_makes_uses_and_revokes_a_key() {
    let world = World::new("");
    let alice = world.alice().await;
    let (key, secret) = world.issue(&alice, Some(DAY)).await.unwrap();
    assert_eq!((key.name.as_str(), key.owner.to_string()), ("nightlyjob", "user/u1".to_owned()));
    assert_eq!(key.expires, Some(START.plus(DAY)));
    let text = fs::read_to_string(&world.file).unwrap();
    assert!(text.contains(&key.id) && !text.contains(&secret.expose().replace('.', "")));
    assert!(!text.contains(secret.expose()));
    for id in [key.id.clone(), format!("{CREDENTIAL}{}", key.id)] {
        let (live, token) = opened(world.login(&id, &secret).await);
        let identity = live.identity();
        assert_eq!((identity.user.as_str(), identity.claim.as_str()), ("u1", "user/u1"));
        assert_eq!((identity.method.as_str(), identity.kind), ("api-key", Kind::ApiKey));
        assert_eq!(live.record().expires, START.plus(DAY), "not longer than the key");
        let staff = world.switched(&live, "group/staff").await.unwrap();
        assert_eq!(staff.record().expires, START.plus(DAY), "nor when it is renewed");
        // A key that made keys would live on.
        assert_eq!(world.issue(&live, None).await.unwrap_err(), Refusal::Forbidden);
        assert!(world.is_live(&token));
    }
    let mine = keys(world.does(Command::ListKeys, Some(&alice)).await);
    assert_eq!(mine.iter().map(|key| &key.id).collect::<Vec<_>>(), [&key.id]);
    let (_, token) = opened(world.login(&key.id, &secret).await);
    let revoke = || Command::RevokeKey(format!("{CREDENTIAL}{}", key.id));
    assert!(matches!(world.does(revoke(), Some(&alice)).await, Ok(Outcome::Ended(1))));
    assert!(!world.is_live(&token));
    assert_eq!(world.store.len(), 1, "her own session goes on");
    let again = world.does(revoke(), Some(&alice)).await.unwrap_err();
    assert_eq!(again, Refusal::Missing("key"));
    let refused = world.login(&key.id, &secret).await.unwrap_err();
    assert_eq!(refused, Refusal::InvalidCredentials);
    assert_eq!(world.audit.of("key-issued", "key"), [key.id.as_str()]);
    assert_eq!(world.audit.of("key-revoked", "owner"), ["user/u1"]);
    let typed = format!("{CREDENTIAL}{}", key.id);
    assert_eq!(world.audit.of("login-failure", "identifier"), [typed]);
    assert!(world.audit.of("session-end", "reason").contains(&"key-revoked".to_owned()));
}

#[tokio::test]
async fn keys_belong_to_the_active_claim_and_to_nobody_elses() {
    let world = World::new("");
    let alice = world.alice().await;
    let staff = world.switched(&alice, "group/staff").await.unwrap();
    let (key, secret) = world.issue(&staff, None).await.unwrap();
    assert_eq!(key.owner.to_string(), "group/staff");
    let (live, _) = opened(world.login(&key.id, &secret).await);
    let identity = live.identity();
    assert_eq!((identity.user.as_str(), identity.claim.as_str()), ("group/staff", "group/staff"));
    assert_eq!((identity.identifier.as_str(), identity.kind), ("group/staff", Kind::ApiKey));
    assert_eq!(
        (identity.name.as_str(), &identity.groups[..]),
        ("Everybody here", &["staff".to_owned()][..])
    );
    assert_eq!(world.core.claims(identity), ["group/staff", "group/ops"]);
    let ops = world.switched(&live, "group/ops").await.unwrap();
    assert_eq!(ops.identity().claim, "group/ops");
    for foreign in ["group/board", "user/u1", "user/group/staff", "partner/100"] {
        let refused = world.switched(&ops, foreign).await.unwrap_err();
        assert_eq!(refused, Refusal::ClaimNotAllowed(foreign.to_owned()));
    }
    let (foreign, _) = world.made("user/u2", None);
    let revoked = world.does(Command::RevokeKey(foreign), Some(&staff)).await;
    assert_eq!(revoked.unwrap_err(), Refusal::Missing("key"));
    assert!(matches!(
        world.does(Command::RevokeKey(key.id.clone()), Some(&staff)).await,
        Ok(Outcome::Ended(1))
    ));
    assert_eq!(world.does(Command::ListKeys, None).await.unwrap_err(), Refusal::NotSignedIn);
}

/// Regression: a session was looked up by the head of a request only. With the body held back, one that had ended since
/// made keys, and ended others; so did one whose user had left the group.
#[tokio::test]
async fn who_has_signed_out_since_the_head_of_a_request_is_nobody() {
    let world = World::new("");
    let (gone, other) = (world.alice().await, world.alice().await);
    assert!(world.does(Command::Logout, Some(&gone)).await.is_ok());
    assert_eq!(world.issue(&gone, None).await.unwrap_err(), Refusal::NotSignedIn);
    for command in [Command::EndOthers, Command::EndSession(other.id()), Command::ListSessions] {
        let refused = world.does(command, Some(&gone)).await.unwrap_err();
        assert_eq!(refused, Refusal::NotSignedIn);
    }
    assert!(matches!(world.does(Command::Logout, Some(&gone)).await, Ok(Outcome::Ended(0))));
    assert!(!other.pulse().is_over(START));
    let staff = world.switched(&other, "group/staff").await.unwrap();
    let mine = world.switched(&staff, "user/u1").await.unwrap();
    let (key, _) = world.issue(&staff, None).await.unwrap();
    assert_eq!(key.owner.to_string(), "user/u1", "what it acts as now");
    let staff = world.switched(&mine, "group/staff").await.unwrap();
    world.edit("groups = [\"staff\"]", "");
    match world.issue(&staff, None).await {
        Ok((key, _)) => assert_eq!(key.owner.to_string(), "user/u1"),
        Err(refusal) => assert_eq!(refusal, Refusal::NotSignedIn),
    }
    assert!(world.users.keys_of(&"group/staff".parse().unwrap()).is_empty());
    let (id, secret) = world.made("partner/100", None);
    let (acme, _) = opened(world.login(&id, &secret).await);
    assert!(world.core.revoke(&id).await.unwrap());
    let whom = Whom::Email("bob@example.org".to_owned());
    let refused = world.does(Command::IssuePartnerKey(whom), Some(&acme)).await.unwrap_err();
    assert_eq!(refused, Refusal::NotSignedIn);
}

/// Regression: a login with the old password that was under way opened a session behind the change of the password and
/// the end of all sessions.
#[tokio::test]
async fn a_password_that_is_changed_meanwhile_opens_nothing() {
    let hash = |word: &str| {
        let hash = hash_password(&Secret::new(word.to_owned()), &CHEAP).unwrap();
        format!("password = \"{}\"", hash.expose())
    };
    for (word, opens) in [("another password", false), ("password of alice", true)] {
        let world = World::new("");
        let core = Arc::clone(&world.core);
        world.store.hold();
        let login = tokio::spawn(async move {
            let password = Secret::new("password of alice".to_owned());
            let credentials = Credentials::Password { identifier: "alice".to_owned(), password };
            core.execute(Command::login(credentials), &Caller::default()).await
        });
        while world.store.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        let text = fs::read_to_string(&world.file).unwrap();
        let old = text.lines().find(|line| line.starts_with("password")).unwrap();
        world.edit(old, &hash(word));
        world.store.release();
        let done = login.await.unwrap();
        assert_eq!(done.is_ok(), opens, "{word}: {done:?}");
        assert_eq!(world.store.len(), usize::from(opens), "{word}");
        if let Err(refusal) = done {
            assert_eq!(refusal, Refusal::InvalidCredentials);
        }
    }
}

#[tokio::test]
async fn a_partners_key_is_the_partner_and_nobody_else() {
    let world = World::new("");
    let (id, secret) = world.made("partner/100", None);
    let (live, token) = opened(world.login(&id, &secret).await);
    let identity = live.identity();
    assert_eq!((identity.user.as_str(), identity.claim.as_str()), ("partner/100", "partner/100"));
    assert_eq!((identity.kind, identity.tenant.as_deref()), (Kind::Partner, Some("100")));
    assert_eq!((identity.identifier.as_str(), identity.name.as_str()), ("partner/100", "Acme"));
    assert_eq!(world.core.claims(identity), ["partner/100"]);
    assert!(world.switched(&live, "group/staff").await.is_err());
    assert_eq!(world.issue(&live, None).await.unwrap_err(), Refusal::Forbidden);
    // What it makes for somebody ends with the key, too.
    let whom = Whom::Email("bob@example.org".to_owned());
    let made = world.does(Command::ActFor(whom, Terms::default()), Some(&live)).await;
    let (bob, for_bob) = opened(made);
    assert_eq!(bob.identity().actor.as_deref(), Some("partner/100"));
    assert!(world.is_live(&token));
    world.users.remove_key(&id).unwrap();
    assert!(!world.is_live(&token) && !world.is_live(&for_bob), "its epoch is over");
    assert_eq!(world.core.reconcile(false).await.unwrap(), 2);
    assert!(world.core.load(&for_bob).await.unwrap().is_none());
    assert_eq!(world.store.len(), 0);
}

#[tokio::test]
async fn whoever_is_disabled_or_gone_takes_the_sessions_of_their_keys_along() {
    for (owner, from, to) in [
        ("user/u2", "name = \"bob\"", "name = \"bob\"\ndisabled = true"),
        ("partner/100", "name = \"Acme\"", "name = \"Acme\"\ndisabled = true"),
    ] {
        let world = World::new("");
        let (id, secret) = world.made(owner, None);
        let (_, token) = opened(world.login(&id, &secret).await);
        world.edit(from, to);
        assert_eq!(world.core.reconcile(false).await.unwrap(), 1, "{owner}");
        assert!(world.core.load(&token).await.unwrap().is_none());
        let refused = world.login(&id, &secret).await.unwrap_err();
        assert_eq!(refused, Refusal::InvalidCredentials, "{owner}");
    }
}

#[tokio::test]
async fn a_key_ends_at_its_time_and_a_wrong_one_is_nobodys() {
    let world = World::new("");
    let (id, secret) = world.made("user/u2", Some(START.plus(DAY)));
    let (_, token) = opened(world.login(&id, &secret).await);
    let other = KeySecret::issue().unwrap().written();
    let nobody = SessionId::issue().unwrap().to_string();
    let short = Secret::new("short".to_owned());
    for (id, secret) in [(&id, &other), (&nobody, &secret), (&id, &short)] {
        let refused = world.login(id, secret).await.unwrap_err();
        assert_eq!(refused, Refusal::InvalidCredentials);
    }
    world.clock.advance(DAY);
    assert!(!world.is_live(&token));
    assert!(world.core.load(&token).await.unwrap().is_none());
    assert_eq!(world.login(&id, &secret).await.unwrap_err(), Refusal::InvalidCredentials);
    // A key whose end was moved nearer takes its sessions along.
    let (id, secret) = world.made("user/u2", Some(UnixMs(1_900_000_000_000)));
    let (_, token) = opened(world.login(&id, &secret).await);
    world.edit("expires = \"2030-03-17T17:46:40.000Z\"", "expires = \"2027-01-17T00:00:00Z\"");
    assert_eq!(world.core.reconcile(false).await.unwrap(), 1);
    assert!(world.core.load(&token).await.unwrap().is_none());
}

#[tokio::test]
async fn guessing_is_slowed_down() {
    let world = World::new("");
    let (id, _) = world.made("user/u2", None);
    let wrong = KeySecret::issue().unwrap().written();
    let mut refusals = Vec::new();
    for _ in 0..30 {
        refusals.push(world.login(&id, &wrong).await.unwrap_err());
    }
    let waits = |refusal: &&Refusal| matches!(refusal, Refusal::Throttled { .. });
    assert!(refusals.iter().filter(waits).count() > 5, "{refusals:?}");
}

#[tokio::test]
async fn programs_do_not_push_people_out() {
    let world = World::new("");
    let alice = world.alice().await;
    let (key, secret) = world.issue(&alice, None).await.unwrap();
    let mut tokens = Vec::new();
    for _ in 0..3 {
        tokens.push(opened(world.login(&key.id, &secret).await).1);
    }
    let usable: Vec<_> = tokens.iter().map(|token| world.is_live(token)).collect();
    assert_eq!(usable, [false, true, true], "two sessions by keys");
    assert!(world.does(Command::ListKeys, Some(&alice)).await.is_ok());
    assert_eq!(world.store.len(), 3);
}

#[tokio::test]
async fn there_are_not_more_keys_than_allowed() {
    let many: String = (0..KEYS)
        .map(|number| {
            let (id, hash) = (uuid::Uuid::from_u128(number as u128 + 1), number.to_string());
            let hash = SecretHash::of(hash.as_bytes()).encode();
            format!("[[key]]\nid = \"{id}\"\nowner = \"user/u1\"\nhash = \"{hash}\"\n")
        })
        .collect();
    let world = World::new(&many);
    let alice = world.alice().await;
    assert_eq!(world.issue(&alice, None).await.unwrap_err(), Refusal::TooMany("keys"));
    let staff = world.switched(&alice, "group/staff").await.unwrap();
    world.issue(&staff, None).await.unwrap();
}

#[test]
fn guests_live_as_long_as_their_partner_lets_them_in() {
    let world = World::new("");
    let (mut record, _) = crate::session::testing::sample("partner/100/eve@x", START);
    record.tenant = Some("100".to_owned());
    let derive = || Identity::derive(&record, &*world.users);
    assert!(derive().is_none(), "the partner has no guests");
    world.edit("reach = \"everybody\"", "reach = \"guests\"");
    let eve = derive().unwrap();
    assert_eq!(
        (eve.claim.as_str(), eve.identifier.as_str()),
        ("partner/100/eve@x", "partner/100/eve@x")
    );
    assert_eq!((eve.tenant.as_deref(), eve.groups.len()), (Some("100"), 0));
    world.edit("name = \"Acme\"", "name = \"Acme\"\ndisabled = true");
    assert!(derive().is_none());
}

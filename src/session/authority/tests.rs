//! The core under races, slow and failing stores, and callers who leave.

use super::*;
use crate::secret::Secret;
use crate::session::switch::GRACE;
use crate::session::testing::World;
use crate::session::{Cached, Token};

/// Waits for a condition that other tasks bring about.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..10_000 {
        if holds() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("never happened: {what}");
}

fn login(password: &str) -> Command {
    let identifier = "alice".to_owned();
    Command::login(Credentials::Password { identifier, password: Secret::new(password.to_owned()) })
}

fn home() -> Caller {
    Caller { ip: "192.0.2.7".parse().ok(), ..Caller::default() }
}

/// Signs alice in.
async fn alice(world: &World) -> (Arc<Live>, Token) {
    match world.authority.execute(login("alice"), &home()).await.unwrap() {
        Outcome::Opened(live, token) => (live, token),
        other => panic!("{other:?}"),
    }
}

fn cached(world: &World, token: &Token) -> bool {
    matches!(world.authority.cached(token, world.clock.now()), Cached::Live(_))
}

#[tokio::test]
async fn of_parallel_logins_no_more_than_allowed_are_usable() {
    let world = World::allowing(1);
    world.store.hold();
    let logins: Vec<_> = (0..24)
        .map(|_| {
            let authority = Arc::clone(&world.authority);
            tokio::spawn(async move { authority.execute(login("alice"), &home()).await })
        })
        .collect();
    until("all wait for the disk", || world.store.waiting() == 24).await;
    world.store.release();
    let mut usable = 0;
    for login in logins {
        match login.await.unwrap() {
            Ok(Outcome::Opened(_, token)) => usable += usize::from(cached(&world, &token)),
            Err(Refusal::Conflict) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((usable, world.store.len()), (1, 1));
}

/// Starts what `command` asks for; once the store has it, the client leaves.
async fn leave(world: &World, command: Command, caller: Caller) {
    let authority = Arc::clone(&world.authority);
    let request = tokio::spawn(async move { authority.execute(command, &caller).await });
    until("it waits for the disk", || world.store.waiting() > 0).await;
    request.abort();
    assert!(request.await.unwrap_err().is_cancelled());
}

fn with(live: &Arc<Live>) -> Caller {
    Caller { session: Some(Arc::clone(live)), ..home() }
}

#[tokio::test]
async fn a_logout_whose_client_has_left_ends_the_session_here_too() {
    let world = World::new();
    let (live, token) = alice(&world).await;
    world.store.hold();
    leave(&world, Command::Logout, with(&live)).await;
    // Read while the end is under way: that must not stay.
    assert!(world.authority.load(&token).await.unwrap().is_some());
    world.store.release();
    until("the end", || live.pulse().is_over(world.clock.now())).await;
    assert!(!cached(&world, &token));
    assert!(world.authority.load(&token).await.unwrap().is_none());
    until("a line", || world.audit.of("session-end", "reason") == ["logout"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_logout_that_takes_too_long_ends_the_session_here_too() {
    let world = World::new();
    let (live, token) = alice(&world).await;
    world.store.hold();
    let answer = world.authority.execute(Command::Logout, &with(&live)).await;
    assert_eq!(answer.unwrap_err(), Refusal::Unavailable);
    world.store.release();
    until("the end", || live.pulse().is_over(world.clock.now())).await;
    assert!(!cached(&world, &token));
    until("a line", || world.audit.of("session-end", "reason") == ["logout"]).await;
}

#[tokio::test]
async fn a_logout_that_the_store_refuses_leaves_the_session_and_its_streams() {
    let world = World::new();
    let (live, token) = alice(&world).await;
    world.store.fail(true);
    let answer = world.authority.execute(Command::Logout, &with(&live)).await;
    assert_eq!(answer.unwrap_err(), Refusal::Unavailable);
    assert!(!cached(&world, &token), "the store is asked again");
    assert_eq!(world.authority.load(&token).await.unwrap_err(), Refusal::Unavailable);
    world.store.fail(false);
    let again = world.authority.load(&token).await.unwrap().unwrap();
    assert!(Arc::ptr_eq(again.pulse(), live.pulse()) && !live.pulse().is_over(world.clock.now()));
    assert!(world.audit.of("session-end", "reason").is_empty());
}

#[tokio::test]
async fn a_login_whose_client_has_left_leaves_no_session() {
    let world = World::new();
    let (former, token) = alice(&world).await;
    world.store.hold();
    leave(&world, login("alice"), home()).await;
    world.store.release();
    until("the end", || world.audit.of("session-end", "reason") == ["abandoned"]).await;
    assert_eq!(world.store.len(), 1);
    assert!(cached(&world, &token) && !former.pulse().is_over(world.clock.now()));
}

#[tokio::test]
async fn a_login_that_cannot_end_the_former_session_leaves_no_other() {
    let world = World::new();
    let (former, token) = alice(&world).await;
    world.store.hold();
    let (authority, caller) = (Arc::clone(&world.authority), with(&former));
    let request = tokio::spawn(async move { authority.execute(login("alice"), &caller).await });
    until("the creation", || world.store.waiting() == 1).await;
    world.store.step();
    until("the end of the former one", || world.store.waiting() == 1).await;
    world.store.fail(true);
    world.store.step();
    world.store.fail(false);
    until("the end of the new one", || world.store.waiting() == 1).await;
    world.store.release();
    assert_eq!(request.await.unwrap().unwrap_err(), Refusal::Unavailable);
    assert_eq!(world.store.len(), 1);
    assert!(world.authority.load(&token).await.unwrap().is_some());
}

#[tokio::test]
async fn a_switch_whose_client_has_left_is_taken_back() {
    let world = World::new();
    let (live, token) = alice(&world).await;
    world.store.hold();
    let switch =
        Command::SwitchClaim { claim: "group/staff".to_owned(), extended: false, renew: false };
    leave(&world, switch, with(&live)).await;
    world.store.step();
    until("the way back", || world.store.waiting() == 1).await;
    let between = world.authority.load(&token).await.unwrap().unwrap();
    assert_eq!(between.record().claim, "group/staff", "it was switched");
    world.store.release();
    until("the former claim", || !cached(&world, &token)).await;
    let now = world.authority.load(&token).await.unwrap().unwrap();
    assert_eq!(now.record().claim, "user/u1");
    world.clock.advance(GRACE * 2);
    assert!(cached(&world, &token), "its holder knows no other secret");
}

#[tokio::test(start_paused = true)]
async fn a_switch_that_takes_too_long_is_taken_back() {
    let world = World::new();
    let (live, token) = alice(&world).await;
    world.store.hold();
    let switch =
        Command::SwitchClaim { claim: "group/staff".to_owned(), extended: false, renew: false };
    let answer = world.authority.execute(switch, &with(&live)).await;
    assert_eq!(answer.unwrap_err(), Refusal::Unavailable);
    world.store.step();
    until("the way back", || world.store.waiting() == 1).await;
    world.store.release();
    until("the former claim", || !cached(&world, &token)).await;
    world.clock.advance(GRACE * 2);
    let now = world.authority.load(&token).await.unwrap().unwrap();
    assert_eq!((now.record().claim.as_str(), now.record().generation), ("user/u1", 2));
}

#[tokio::test]
async fn a_login_never_ends_itself_for_one_of_the_same_moment() {
    let world = World::allowing(1);
    for _ in 0..20 {
        let (_, token) = alice(&world).await;
        assert!(cached(&world, &token));
        assert_eq!(world.store.len(), 1);
    }
}

#[tokio::test]
async fn the_sessions_of_a_disabled_user_end_with_a_reload() {
    let world = World::new();
    let (live, token) = alice(&world).await;
    assert_eq!(world.authority.reconcile(false).await.unwrap(), 0);
    assert!(cached(&world, &token));
    world.people.change(|account| account.disabled = true);
    assert_eq!(world.authority.reconcile(false).await.unwrap(), 1);
    assert!(live.pulse().is_over(world.clock.now()) && world.store.len() == 0);
    assert_eq!(world.audit.of("session-end", "reason"), ["user-disabled"]);
}

#[tokio::test]
async fn a_session_opens_whatever_others_in_its_network_guess() {
    let world = World::shared();
    let (_, token) = alice(&world).await;
    let (other, ip) = (world.beside(), "192.0.2.9".parse().ok());
    let mut guesses = 0;
    let wait = loop {
        let guess = Token::issue(SessionId::issue().unwrap()).unwrap();
        match other.used(&guess, ip, "/").await {
            Ok(found) => assert!(found.is_err()),
            Err(Refusal::Guessing { retry_after }) => break retry_after,
            Err(refusal) => panic!("{refusal:?}"),
        }
        guesses += 1;
        assert!(guesses <= 300);
    };
    assert_eq!((guesses, wait), (300, Duration::from_secs(60)));
    // This node has never seen it.
    let found = other.used(&token, ip, "/").await.unwrap();
    assert!(found.is_ok(), "{found:?}");
}

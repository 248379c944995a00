//! The core under races, slow and failing stores, and callers who leave.

use super::*;
use crate::secret::Secret;
use crate::session::Cached;
use crate::session::testing::World;

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
    Command::Login(Credentials::Password { identifier, password: Secret::new(password.to_owned()) })
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

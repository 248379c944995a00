//! What befalls Redis, and what the gateway does meanwhile and after. Each test prints its figures and
//! asserts the promise: nobody is admitted without proof, nobody is signed out by a fault, public
//! routes go on, and the gateway heals by itself.

mod down;
mod failover;
mod loss;
mod storms;
mod writes;

use std::time::{Duration, Instant};

use crate::support::Client;
use crate::support::load::{Answers, Load};
use crate::support::open::SOON;
use crate::support::site::Node;

/// Signed-in and public traffic during a fault.
struct Traffic {
    signed_in: Load,
    public: Load,
}

impl Traffic {
    /// Runs a moment, so that there is a before.
    async fn of(node: &Node, client: &Client) -> Self {
        let pause = Duration::from_millis(1);
        let signed_in = Load::paced(client, "/loop", 4, pause);
        let public = Load::paced(&node.gateway.client(), "/public/x", 2, pause);
        signed_in.further(200).await;
        public.further(200).await;
        Self { signed_in, public }
    }

    /// Ends the traffic, prints what it saw, and gives the signed-in answers. No public request may
    /// have failed.
    async fn report(self, name: &str, fault: Instant) -> Answers {
        let (answers, public) = (self.signed_in.end().await, self.public.end().await);
        assert_eq!(public.with(200), public.len(), "public: {}", public.tally());
        let (before, during): (Vec<_>, Vec<_>) =
            public.0.iter().partition(|answer| answer.at < fault);
        let (before, during) = (Answers(before).quantile(0.99), Answers(during).quantile(0.99));
        println!(
            "{name}: signed in {}; p99 of public {during:?}, before {before:?} ({:.1}x)",
            answers.tally(),
            during.as_secs_f64() / before.as_secs_f64().max(1e-6),
        );
        answers
    }
}

/// Fails the test when the application was asked for `/loop` between a second after `fault` and
/// `healed`; gives the last time before it.
fn none_unproved(node: &Node, fault: Instant, healed: Instant) -> Duration {
    let end = healed.duration_since(fault);
    let during: Vec<_> =
        node.app.asked_after("/loop", fault).into_iter().filter(|at| *at < end).collect();
    let wrong = during.iter().filter(|at| **at > SOON).count();
    let last = during.iter().max().copied().unwrap_or_default();
    assert_eq!(wrong, 0, "admitted without proof, the last after {last:?}");
    last
}

//! Asks a silent client whether it is still there (PING, RFC 9113 section 6.7).

use std::task::{Context, Poll};
use std::time::Duration;

use h2::{Ping, PingPong};

use crate::clock::UnixMs;
use crate::timer::{Deadline, Timer};

/// Silence after which a client is asked.
const SILENCE: Duration = Duration::from_secs(30);
/// How long it may take to answer.
const ANSWER: Duration = Duration::from_secs(20);

/// Keeps the time of a client's silence.
#[derive(Debug)]
pub(super) struct KeepAlive {
    pings: PingPong,
    timer: Timer,
    deadline: Deadline,
    /// Whether an answer is due.
    asked: bool,
}

impl KeepAlive {
    pub(super) fn new(pings: PingPong, timer: Timer) -> Self {
        Self { pings, deadline: timer.deadline(SILENCE), timer, asked: false }
    }

    /// Ready when the client did not answer in time. `alive` is when it last gave a sign of life: the question may wait
    /// behind all that is on its way to a slow client.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, alive: UnixMs) -> Poll<()> {
        loop {
            // An error says that the connection is at its end: that is found elsewhere.
            if self.asked && self.pings.poll_pong(cx).is_ready() {
                self.asked = false;
                self.deadline.reset(SILENCE);
            }
            if self.deadline.poll(cx).is_pending() {
                return Poll::Pending;
            }
            let silence = self.timer.now().since(alive);
            if self.asked {
                match ANSWER.checked_sub(silence).filter(|left| !left.is_zero()) {
                    Some(left) => self.deadline.reset(left),
                    None => return Poll::Ready(()),
                }
                continue;
            }
            match SILENCE.checked_sub(silence).filter(|left| !left.is_zero()) {
                Some(left) => self.deadline.reset(left),
                None if self.pings.send_ping(Ping::opaque()).is_ok() => {
                    self.asked = true;
                    self.deadline.reset(ANSWER);
                }
                None => self.deadline.reset(SILENCE),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Waker;

    use super::*;
    use crate::clock::Clock;

    #[tokio::test]
    async fn a_silent_client_is_asked_and_given_up() {
        let clock = Clock::manual(UnixMs(0));
        let timer = Timer::new(clock.clone());
        let pass = |seconds| {
            clock.advance(Duration::from_secs(seconds));
            timer.tick();
        };
        let (near, far) = tokio::io::duplex(4096);
        let (server, client) =
            tokio::join!(h2::server::handshake(near), h2::client::handshake(far));
        let (mut server, (send, mut client)) = (server.unwrap(), client.unwrap());
        let mut keep_alive = KeepAlive::new(server.ping_pong().unwrap(), timer.clone());
        let mut poll = |last_read| {
            let polled = keep_alive.poll(&mut Context::from_waker(Waker::noop()), last_read);
            (polled.is_ready(), keep_alive.asked)
        };
        pass(29);
        assert_eq!(poll(UnixMs(0)), (false, false));
        pass(2);
        assert_eq!(poll(UnixMs(5000)), (false, false), "it was heard of 26 seconds ago");
        pass(4);
        assert_eq!(poll(UnixMs(5000)), (false, true));
        pass(19);
        assert_eq!(poll(UnixMs(5000)), (false, true));
        for _ in 0..4 {
            poll_fn(|cx| {
                let _ = (server.poll_accept(cx), std::pin::Pin::new(&mut client).poll(cx));
                Poll::Ready(())
            })
            .await;
        }
        assert_eq!(poll(timer.now()), (false, false), "it has answered");
        pass(30);
        assert_eq!(poll(UnixMs(54_000)), (false, true));
        pass(20);
        assert_eq!(poll(UnixMs(90_000)), (false, true), "it has taken something since");
        pass(5);
        assert_eq!(poll(UnixMs(90_000)), (false, true));
        pass(1);
        assert_eq!(poll(UnixMs(90_000)), (true, true));
        drop(send);
    }
}

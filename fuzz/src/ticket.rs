//! TLS session tickets: only what was issued is opened, and gives back what was sealed.

use std::sync::LazyLock;

use portcullis::clock::{Clock, UnixMs};
use portcullis::secret::Secret;
use portcullis::tls::SharedTickets;
use rustls::server::ProducesTickets;

/// Words of tickets.
pub const WORDS: &[&str] = &["\0", "AAAAAAAAAAAAAAAA", "AAAAAAAAAAAA", "\u{7f}"];

static TICKETS: LazyLock<SharedTickets> = LazyLock::new(|| {
    let secret = Secret::new("0123456789abcdef0123456789abcdef".to_owned());
    SharedTickets::new(&secret, Clock::manual(UnixMs(1_800_000_000_000))).unwrap()
});

/// Reads `data` as a ticket, as a ticket under a known key, as a change to a ticket, and as a state.
pub fn run(data: &[u8]) {
    assert_eq!(TICKETS.decrypt(data), None, "a ticket that nobody issued");
    let issued = TICKETS.encrypt(b"state").unwrap();
    let (name, sealed) = issued.split_at(16);
    let forged = [name, data].concat();
    let opened = TICKETS.decrypt(&forged);
    assert!(opened.is_none() || data == sealed, "a forged ticket is opened");

    let mut changed = issued.clone();
    for (byte, change) in changed.iter_mut().zip(data) {
        *byte ^= change;
    }
    let opened = TICKETS.decrypt(&changed);
    assert_eq!(opened.is_some(), changed == issued, "a changed ticket is opened");

    match TICKETS.encrypt(data) {
        Some(ticket) => {
            assert!(data.len() <= 1024, "a state without bound");
            assert_eq!(ticket.len(), data.len() + 44);
            assert_eq!(TICKETS.decrypt(&ticket).as_deref(), Some(data));
        }
        None => assert!(data.len() > 1024, "a small state gets no ticket"),
    }
}

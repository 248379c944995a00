//! TLS session tickets that every gateway with the same secret can open.
//!
//! Keys follow from the secret and the number of the epoch, so gateways agree without talking to each
//! other. Keeps no state per client. A ticket that is not ours, too old or changed is no ticket: the
//! client makes a full handshake and sees no error.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use rustls::server::ProducesTickets;
use zeroize::Zeroizing;

use super::pair::{about, read_file};
use crate::clock::Clock;
use crate::secret::{Secret, same, sha256};
use crate::section::{Problem, Section};

/// Seconds for which one key issues tickets. It opens them in the epoch before (by clocks that are
/// slow) and the one after, too.
const EPOCH: u64 = 6 * 3600;
/// Seconds after which clients should forget a ticket: the end of the next epoch, at the latest.
const LIFETIME: u32 = 12 * 3600;
/// Bytes of a session's state. TLS keeps a secret of 48 bytes, the host name (up to 255) and the
/// protocol there.
const MAX_STATE: usize = 1024;
/// Bytes of a key's name, which comes first in a ticket.
const NAME: usize = 16;
const TAG: usize = 16;
/// Fewer bytes are no secret but a password.
const MIN_SECRET: usize = 32;
/// Says whose keys these are, and how their tickets look.
const SALT: &[u8] = b"portcullis tls tickets 1";

/// What `tls.ticket_secret` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TicketSecret {
    secret: Secret,
    /// Where it is read anew at reload.
    file: Option<PathBuf>,
}

impl TicketSecret {
    /// Reads the key from `[tls]`; problems go to the section.
    pub(super) fn read(section: &mut Section) -> Option<Self> {
        const KEY: &str = "ticket_secret";
        let found = section.secret_source(KEY)?;
        if let Some(what) = too_short(&found.secret) {
            section.problem(KEY, what, REMEDY);
        }
        Some(Self { secret: found.secret, file: found.file })
    }

    /// The secret as it is now in its file.
    ///
    /// # Errors
    /// When the file cannot be read, or what it holds is no secret.
    pub(super) fn current(&self) -> Result<Secret, Problem> {
        let Some(file) = &self.file else { return Ok(self.secret.clone()) };
        let read = read_file(file);
        let (bytes, _) =
            read.map_err(|problem| Problem { remedy: REMEDY.to_owned(), ..problem })?;
        let text = std::str::from_utf8(&bytes).map_err(|_| about(file, "not a text", REMEDY))?;
        let secret = Secret::new(text.trim_end_matches(['\r', '\n']).to_owned());
        match too_short(&secret) {
            None => Ok(secret),
            Some(what) => Err(about(file, what, REMEDY)),
        }
    }

    /// What is worth a warning.
    pub(super) fn warning(&self) -> Option<Problem> {
        let file = self.file.as_deref()?;
        is_public(file).then(|| {
            let remedy = format!("run: chmod 600 {}", file.display());
            about(file, "every user of the machine can read the ticket secret", remedy)
        })
    }
}

const REMEDY: &str =
    "make one with: openssl rand -base64 32; all gateways that serve the same names share it";

fn too_short(secret: &Secret) -> Option<String> {
    let length = secret.expose().len();
    (length < MIN_SECRET).then(|| {
        format!("`tls.ticket_secret` has {length} bytes, at least {MIN_SECRET} are needed")
    })
}

fn is_public(file: &Path) -> bool {
    read_file(file).is_ok_and(|(_, mode)| mode & 0o004 != 0)
}

/// Makes and opens tickets.
///
/// A ticket is the key's name, a random nonce, and the sealed state with its tag. The name follows
/// from secret and epoch: it tells a ticket of ours from any other without trying keys.
pub struct SharedTickets {
    clock: Clock,
    root: Prk,
    /// Tells whether the secret has changed.
    digest: [u8; 32],
    keys: ArcSwap<Keys>,
}

/// The keys of one epoch and of its neighbours.
struct Keys {
    epoch: u64,
    current: Key,
    /// Of the epoch before, and of the one after: for gateways whose clocks are ahead.
    others: [Key; 2],
}

struct Key {
    name: [u8; NAME],
    /// Resists a repeated nonce: gateways draw theirs without knowing of each other.
    aead: RandomizedNonceKey,
}

impl SharedTickets {
    /// Tickets under `secret`.
    ///
    /// # Errors
    /// When the cryptographic library fails.
    pub fn new(secret: &Secret, clock: Clock) -> Result<Self, rustls::Error> {
        let failed = |_: Unspecified| rustls::Error::General("no keys for tickets".to_owned());
        let bytes = secret.expose().as_bytes();
        let root = Salt::new(HKDF_SHA256, SALT).extract(bytes);
        let keys = Keys::derive(&root, epoch(&clock)).map_err(failed)?;
        Ok(Self { clock, root, digest: sha256(bytes), keys: ArcSwap::from_pointee(keys) })
    }

    /// Whether these are tickets under `secret`.
    pub(super) fn is_under(&self, secret: &Secret) -> bool {
        same(&self.digest, &sha256(secret.expose().as_bytes()))
    }

    /// The keys for now.
    fn keys(&self) -> Option<Arc<Keys>> {
        let (now, kept) = (epoch(&self.clock), self.keys.load_full());
        if kept.epoch == now {
            return Some(kept);
        }
        // Whoever comes at the same time derives the same.
        let fresh = Arc::new(Keys::derive(&self.root, now).ok()?);
        self.keys.store(Arc::clone(&fresh));
        Some(fresh)
    }
}

fn epoch(clock: &Clock) -> u64 {
    clock.now().seconds() / EPOCH
}

impl Keys {
    fn derive(root: &Prk, epoch: u64) -> Result<Self, Unspecified> {
        Ok(Self {
            epoch,
            current: Key::derive(root, epoch)?,
            others: [
                Key::derive(root, epoch.wrapping_sub(1))?,
                Key::derive(root, epoch.wrapping_add(1))?,
            ],
        })
    }

    /// Names are no secret: they stand in every ticket.
    fn named(&self, name: &[u8; NAME]) -> Option<&Key> {
        std::iter::once(&self.current).chain(&self.others).find(|key| key.name == *name)
    }
}

/// A length for HKDF.
#[derive(Clone, Copy)]
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

impl Key {
    fn derive(root: &Prk, epoch: u64) -> Result<Self, Unspecified> {
        let epoch = epoch.to_be_bytes();
        let mut name = [0; NAME];
        root.expand(&[b"name", &epoch], Length(NAME))?.fill(&mut name)?;
        let mut key = Zeroizing::new([0; 32]);
        root.expand(&[b"key", &epoch], Length(32))?.fill(&mut *key)?;
        Ok(Self { name, aead: RandomizedNonceKey::new(&AES_256_GCM_SIV, &*key)? })
    }
}

impl ProducesTickets for SharedTickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFETIME
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        if plain.len() > MAX_STATE {
            return None;
        }
        let keys = self.keys()?;
        let key = &keys.current;
        let mut sealed = plain.to_vec();
        let nonce = key.aead.seal_in_place_append_tag(Aad::from(key.name), &mut sealed).ok()?;
        Some([&key.name[..], nonce.as_ref(), &sealed].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        if ticket.len() > NAME + NONCE_LEN + MAX_STATE + TAG {
            return None;
        }
        let (name, rest) = ticket.split_first_chunk::<NAME>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let keys = self.keys()?;
        let key = keys.named(name)?;
        let mut plain = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = key.aead.open_in_place(nonce, Aad::from(*name), &mut plain).ok()?.len();
        plain.truncate(length);
        Some(plain)
    }
}

impl fmt::Debug for SharedTickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedTickets").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::UnixMs;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn at(seconds: u64, secret: &str) -> (SharedTickets, Clock) {
        let clock = Clock::manual(UnixMs(seconds * 1000));
        (SharedTickets::new(&Secret::new(secret.to_owned()), clock.clone()).unwrap(), clock)
    }

    #[test]
    fn a_ticket_is_good_on_every_node_from_its_epoch_to_the_end_of_the_next() {
        const START: u64 = EPOCH * 80_000;
        let (here, _) = at(START, SECRET);
        let ticket = here.encrypt(b"state").unwrap();
        for (seconds, good) in [
            (START, true),
            (START - 1, true), // a slow clock
            (START + EPOCH, true),
            (START + 2 * EPOCH - 1, true),
            (START + 2 * EPOCH, false),
            (START - EPOCH - 1, false),
        ] {
            let (there, _) = at(seconds, SECRET);
            assert_eq!(
                there.decrypt(&ticket).as_deref(),
                good.then_some(&b"state"[..]),
                "{seconds}"
            );
        }
        let (there, clock) = at(START, SECRET);
        for (passed, good) in [(0, true), (EPOCH, true), (EPOCH, false), (EPOCH, false)] {
            clock.advance(Duration::from_secs(passed));
            assert_eq!(there.decrypt(&ticket).is_some(), good);
            let own = there.encrypt(b"own").unwrap();
            assert_eq!(there.decrypt(&own).as_deref(), Some(&b"own"[..]));
        }
    }

    #[test]
    fn other_secrets_and_changed_tickets_are_refused() {
        let (here, _) = at(EPOCH, SECRET);
        let (other, _) = at(EPOCH, "0123456789abcdef0123456789abcdeF");
        let ticket = here.encrypt(b"state").unwrap();
        assert_eq!(other.decrypt(&ticket), None);
        // Not even tried: the names differ.
        assert_ne!(ticket[..NAME], other.encrypt(b"state").unwrap()[..NAME]);
        for at in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[at] ^= 1;
            assert_eq!(here.decrypt(&changed), None, "{at}");
            assert_eq!(here.decrypt(&ticket[..at]), None, "{at}");
        }
        let longer = [&ticket[..], b"x"].concat();
        assert_eq!(here.decrypt(&longer), None);
    }

    #[test]
    fn two_tickets_of_one_state_differ() {
        let (here, _) = at(EPOCH, SECRET);
        assert_ne!(here.encrypt(b"state"), here.encrypt(b"state"));
    }

    #[test]
    fn sizes_are_bounded() {
        let (here, _) = at(EPOCH, SECRET);
        let largest = here.encrypt(&[7; MAX_STATE]).unwrap();
        assert_eq!(here.decrypt(&largest).unwrap(), [7; MAX_STATE]);
        assert_eq!(here.encrypt(&[7; MAX_STATE + 1]), None);
        let empty = here.encrypt(b"").unwrap();
        assert_eq!(here.decrypt(&empty).unwrap(), b"");
    }

    #[test]
    fn nothing_of_it_is_printed() {
        let (here, _) = at(EPOCH, SECRET);
        let secret = Secret::new(SECRET.to_owned());
        let settings = TicketSecret { secret, file: None };
        assert!(!format!("{here:?}{settings:?}").contains("0123456789"));
    }
}

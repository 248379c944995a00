//! The session core: tokens, records, lifetimes, rotation, claims, and the rules over them.
//!
//! Knows no HTTP, no TOML and no store client: it defines the ports that `store`, `login` and
//! `directory` implement.

mod act;
mod authority;
mod bearer;
mod cache;
mod change;
mod claims;
mod command;
mod counters;
mod describe;
mod follow;
mod guesses;
mod identity;
mod key;
mod keys;
mod limits;
mod live;
mod lookup;
mod name;
mod open;
mod partner_keys;
mod ports;
mod principal;
mod reach;
mod record;
mod sealed;
mod streams;
mod switch;
mod table;
#[cfg(test)]
pub(crate) mod testing;
mod throttle;
mod token;

pub use self::authority::{Authority, Settings, shorten};
pub use self::claims::{NUVLA, NuvlaClaims, user_claim_in};
pub use self::command::{
    Caller, Command, KsTerms, Opening, Outcome, Peer, Refusal, Seal, Terms, Whom, Worthless,
};
pub use self::counters::{
    Count, Counted, CounterKey, Counters, Network, NotAName, Person, Settled, Step,
};
pub use self::guesses::{Guesses, Guessing};
pub use self::identity::{
    GROUP, GroupNode, Identity, USER, account_of, claimable, group_claim, may_claim, own_claim,
    user_claim,
};
pub use self::key::{KeySecret, NEW_SECRET_LENGTH};
pub use self::keys::{CREDENTIAL, KEYS};
pub use self::live::{Live, Pulse};
pub use self::lookup::Cached;
pub use self::name::canonical;
pub use self::ports::{
    Account, BoxFuture, Credentials, Directory, Group, Lease, Leased, LoginError, Method, Proven,
    Replaced, Store, StoreError, StoreLink, Watcher,
};
pub use self::principal::{
    AppToken, HashKind, Key, Member, NoPrincipal, PARTNER, Partner, Principal, Reach,
};
pub use self::reach::ROLE;
pub use self::record::{CHOOSE_TENANT, Kind, Limits, Previous, RECORD_VERSION, Record};
pub use self::streams::{Entry, Streams};
pub use self::table::{CounterTable, Stepped};
pub use self::throttle::{Attempt, Denied, Throttle};
pub use self::token::{Form, SecretHash, SessionId, TOKEN_LENGTH, Token};

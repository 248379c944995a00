//! Who is slowed down after failed logins or unknown tokens, for operators: a list, and an end of it.
//!
//! The rules are the session core's; this reads its counters and forgets some. Those of tokens are in the
//! memory of the gateway that is asked.

use std::cmp::Reverse;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::audit::{Event, Origin};
use crate::clock::Clock;
use crate::session::{Authority, Count, CounterKey, Directory, Network, Person};

/// Counters that are looked at.
const COUNTERS: usize = 100_000;
/// Rows that one answer lists.
const LISTED: usize = 10_000;

/// A counter that makes somebody wait.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct BanRow {
    /// `network`, `pair` (one person from one network), `person` (from networks that guess at them),
    /// `newcomers` (from all others) or `tokens` (a network that showed too many unknown ones).
    pub(super) kind: String,
    /// Login name, where it is known; `typed:` and a hash where a name is nobody's.
    pub(super) person: Option<String>,
    pub(super) network: Option<String>,
    pub(super) failures: u32,
    pub(super) last: String,
    /// How long nothing may be tried, rounded up.
    pub(super) wait_seconds: u64,
}

/// Everybody who must wait, the longest wait first.
pub(super) async fn list(
    authority: &Authority,
    users: &dyn Directory,
    clock: &Clock,
) -> Result<Vec<BanRow>, String> {
    let found = authority.throttle().counters().list(COUNTERS).await;
    let (counts, now) = found.map_err(|error| error.to_string())?;
    let mut rows: Vec<_> = counts
        .iter()
        .filter_map(|(key, count): &(CounterKey, Count)| {
            let wait = count.wait(key, now);
            (!wait.is_zero()).then(|| {
                let (person, network) = parts(key);
                BanRow {
                    kind: kind(key).to_owned(),
                    person: person.map(|person| name(person, users)),
                    network: network.map(|network| network.to_string()),
                    failures: count.failures(key, now),
                    last: count.last().rfc3339(),
                    wait_seconds: whole_seconds(wait),
                }
            })
        })
        .collect();
    rows.extend(authority.guesses().list(clock.now()).iter().map(|guessing| BanRow {
        kind: "tokens".to_owned(),
        person: None,
        network: Some(guessing.network.to_string()),
        failures: guessing.tokens.try_into().unwrap_or(u32::MAX),
        last: guessing.since.rfc3339(),
        wait_seconds: whole_seconds(guessing.wait),
    }));
    rows.sort_by_key(|row| Reverse(row.wait_seconds));
    rows.truncate(LISTED);
    Ok(rows)
}

/// Rounded up.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX)
}

/// Forgets the failures of `user`, of `network`, of the one from the other, or all; how many counters.
pub(super) async fn lift(
    authority: &Authority,
    users: &dyn Directory,
    clock: &Clock,
    (user, network): (Option<&str>, Option<&str>),
) -> Result<usize, String> {
    let wanted = network.map(|text| text.parse::<Network>()).transpose();
    let wanted = wanted.map_err(|_| {
        let text = network.unwrap_or_default();
        format!("\"{text}\" is no network: write an address, or a network as `ban list` shows it")
    })?;
    let people = user.map(|name| people(name, users));
    let counters = authority.throttle().counters();
    let (counts, _) = counters.list(COUNTERS).await.map_err(|error| error.to_string())?;
    let mut lifted = 0;
    for (key, _) in counts {
        let (of_person, of_network) = parts(&key);
        let same_network = wanted.is_none_or(|wanted| of_network == Some(wanted));
        let same_person =
            people.as_ref().is_none_or(|people| of_person.is_some_and(|one| people.contains(one)));
        if same_network && same_person {
            let forgotten = counters.forget(&key).await.map_err(|error| error.to_string())?;
            lifted += usize::from(forgotten);
        }
    }
    // A token is nobody's until it opens something.
    if user.is_none() {
        lifted += authority.guesses().forget(wanted, clock.now());
    }
    let event = Event::DelaysLifted {
        person: user.unwrap_or_default(),
        network: network.unwrap_or_default(),
        counters: lifted,
    };
    authority.audit().record(&Origin::default(), &event);
    Ok(lifted)
}

fn kind(key: &CounterKey) -> &'static str {
    match key {
        CounterKey::Network(_) => "network",
        CounterKey::Newcomers(_) => "newcomers",
        CounterKey::Pair(..) => "pair",
        CounterKey::Person(_) => "person",
    }
}

fn parts(key: &CounterKey) -> (Option<&Person>, Option<Network>) {
    match key {
        CounterKey::Network(network) => (None, Some(*network)),
        CounterKey::Newcomers(person) | CounterKey::Person(person) => (Some(person), None),
        CounterKey::Pair(network, person) => (Some(person), Some(*network)),
    }
}

/// As people call them; what cannot be named is shown as it is kept.
fn name(person: &Person, users: &dyn Directory) -> String {
    let account = person.id().and_then(|id| users.by_id(id));
    account.map_or_else(|| person.to_string(), |account| account.identifier.clone())
}

/// Whom `name` may mean.
fn people(name: &str, users: &dyn Directory) -> Vec<Person> {
    match users.by_login(name).or_else(|| users.by_id(name)) {
        Some(account) => vec![Person::known(&account.id)],
        None => vec![Person::typed(name), Person::known(name), Person::kept(name)],
    }
}

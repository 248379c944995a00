//! Anonymous widget sessions: anybody may open one, so there is a bound on how many.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::draft::{Draft, end};
use super::grants::Grants;
use crate::clock::UnixMs;
use crate::session::authority::Authority;
use crate::session::command::{Caller, KsTerms, Refusal};
use crate::session::counters::Network;

/// How many may be opened at once, and how long it takes until one more may be.
#[derive(Clone, Copy, Debug)]
struct Pace {
    burst: u64,
    each: u64,
}

impl Pace {
    /// How long to wait, if there are too many.
    fn judge(self, drained: UnixMs, now: UnixMs) -> Result<(), Duration> {
        let wait = drained.since(now.plus(Duration::from_millis(self.each * (self.burst - 1))));
        if wait.is_zero() { Ok(()) } else { Err(wait) }
    }
}

/// Of one partner: 5 a second, 432,000 a day, which leaves room in the store for those who sign in.
const PARTNER: Pace = Pace { burst: 600, each: 200 };
/// From one network, of IPv6 one site, so that nobody takes all of them: 2 a second.
const NETWORK: Pace = Pace { burst: 200, each: 500 };
/// Networks that are told apart, about 100 bytes each.
const NETWORKS: usize = 65_536;

/// When what was lent has been used up: one leaky bucket for each partner, and for each of its visitors' networks.
#[derive(Debug, Default)]
pub(in crate::session) struct Widgets(Mutex<Buckets>);

/// A partner's, or that of one network at it.
type Bucket = (String, Option<Network>);
type Buckets = HashMap<Bucket, UnixMs>;

impl Widgets {
    /// Counts one more; how long to wait when there are too many.
    fn open(&self, partner: &str, network: Network, now: UnixMs) -> Result<(), Duration> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let whole = Self::drained(&all, &(partner.to_owned(), None), now);
        PARTNER.judge(whole, now)?;
        if all.len() >= NETWORKS {
            all.retain(|_, drained| *drained > now);
        }
        // Full of those who are asking: from here on only the partner's counts.
        if all.len() < NETWORKS {
            let own = (partner.to_owned(), Some(site(network)));
            let one = Self::drained(&all, &own, now);
            NETWORK.judge(one, now)?;
            all.insert(own, one.plus(Duration::from_millis(NETWORK.each)));
        }
        all.insert((partner.to_owned(), None), whole.plus(Duration::from_millis(PARTNER.each)));
        Ok(())
    }

    fn drained(all: &Buckets, of: &Bucket, now: UnixMs) -> UnixMs {
        all.get(of).copied().unwrap_or_default().max(now)
    }
}

/// One site of IPv6 has 65,536 networks (RFC 6177).
fn site(network: Network) -> Network {
    match network {
        Network::V6([a, b, c, _]) => Network::V6([a, b, c, 0]),
        Network::V4(_) | Network::Unknown => network,
    }
}

impl Authority {
    /// A widget of a partner that has them.
    pub(super) fn by_widget(
        &self,
        tenant: &str,
        terms: &KsTerms,
        caller: &Caller,
    ) -> Result<Draft, Refusal> {
        let partner = self.partner(tenant).filter(|partner| partner.widgets);
        let partner = partner.ok_or(Refusal::Missing("widget"))?;
        let now = self.clock.now();
        let expires =
            end(terms.lifetime, &[partner.lifetime], now).ok_or(Refusal::InvalidCredentials)?;
        let opened = self.widgets.open(&partner.id, Network::from(caller.ip), now);
        opened.map_err(|retry_after| Refusal::Throttled { retry_after })?;
        Ok(Draft {
            partner,
            subject: None,
            name: String::new(),
            admin: false,
            grants: Grants::of_widget(),
            method: "widget",
            acts: false,
            expires,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widgets_are_lent_a_burst_and_then_a_few_a_second() {
        let (widgets, now) = (Widgets::default(), UnixMs(1_000_000));
        let at = |network: u8| Network::V4([192, 0, network]);
        for number in 0..NETWORK.burst {
            assert_eq!(widgets.open("1", at(0), now), Ok(()), "{number}");
        }
        assert_eq!(widgets.open("1", at(0), now), Err(Duration::from_millis(NETWORK.each)));
        for number in NETWORK.burst..PARTNER.burst {
            let others = at(1 + (number % 100) as u8);
            assert_eq!(widgets.open("1", others, now), Ok(()), "nobody elsewhere has to wait");
        }
        assert_eq!(widgets.open("1", at(200), now), Err(Duration::from_millis(PARTNER.each)));
        assert_eq!(widgets.open("2", at(0), now), Ok(()), "another partner's");
        let later = now.plus(Duration::from_millis(PARTNER.each));
        assert!(widgets.open("1", at(0), later).is_err());
        assert_eq!(widgets.open("1", at(200), later), Ok(()));
        assert!(widgets.open("1", at(201), later).is_err());
    }

    #[test]
    fn all_networks_of_a_site_share() {
        let (widgets, now) = (Widgets::default(), UnixMs(1_000_000));
        let at = |site: u16, number: u64| Network::V6([0x2001, 0xdb8, site, number as u16]);
        for number in 0..NETWORK.burst {
            assert_eq!(widgets.open("1", at(1, number), now), Ok(()));
        }
        assert!(widgets.open("1", at(1, NETWORK.burst), now).is_err());
        assert_eq!(widgets.open("1", at(2, 0), now), Ok(()));
    }

    #[test]
    fn networks_are_bounded() {
        let (widgets, mut now) = (Widgets::default(), UnixMs(1_000_000));
        for number in 0..70_000_u32 {
            now = now.plus(Duration::from_millis(PARTNER.each));
            let [_, a, b, c] = number.to_be_bytes();
            assert_eq!(widgets.open("1", Network::V4([a, b, c]), now), Ok(()));
        }
        assert!(widgets.0.lock().unwrap().len() <= NETWORKS);
    }
}

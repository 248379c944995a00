//! Anonymous widget sessions: anybody may open one, so there is a bound on how many.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::draft::{Draft, end};
use super::grants::Grants;
use crate::clock::UnixMs;
use crate::session::authority::Authority;
use crate::session::command::{KsTerms, Refusal};

/// Widget sessions of one partner that may be opened at once.
const BURST: u64 = 600;
/// How long it takes until one more may be: 5 a second, 432,000 a day, which leaves room in the store for
/// those who sign in.
const EACH: u64 = 200;

/// When the widgets of each partner will have used up what they were lent: one leaky bucket each.
#[derive(Debug, Default)]
pub(in crate::session) struct Widgets(Mutex<HashMap<String, UnixMs>>);

impl Widgets {
    /// Counts one more; how long to wait when there are too many. There are as many counts as partners.
    fn open(&self, partner: &str, now: UnixMs) -> Result<(), Duration> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let drained = all.get(partner).copied().unwrap_or_default().max(now);
        let wait = drained.since(now.plus(Duration::from_millis(EACH * (BURST - 1))));
        if !wait.is_zero() {
            return Err(wait);
        }
        all.insert(partner.to_owned(), drained.plus(Duration::from_millis(EACH)));
        Ok(())
    }
}

impl Authority {
    /// A widget of a partner that has them.
    pub(super) fn by_widget(&self, tenant: &str, terms: &KsTerms) -> Result<Draft, Refusal> {
        let partner = self.partner(tenant).filter(|partner| partner.widgets);
        let partner = partner.ok_or(Refusal::Missing("widget"))?;
        let now = self.clock.now();
        let expires =
            end(terms.lifetime, &[partner.lifetime], now).ok_or(Refusal::InvalidCredentials)?;
        let opened = self.widgets.open(&partner.id, now);
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
        for number in 0..BURST {
            assert_eq!(widgets.open("1", now), Ok(()), "{number}");
        }
        assert_eq!(widgets.open("1", now), Err(Duration::from_millis(EACH)));
        assert_eq!(widgets.open("2", now), Ok(()), "another partner's");
        let later = now.plus(Duration::from_millis(EACH));
        assert_eq!(widgets.open("1", later), Ok(()));
        assert!(widgets.open("1", later).is_err());
    }
}

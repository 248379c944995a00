//! Time as a value that is handed in; the only file that reads a clock.
//!
//! Wall-clock time is anchored once and then follows the boot-time clock, so a step of the
//! machine's wall clock neither extends nor cuts a session, while a suspended machine still ages them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct UnixMs(pub u64);

impl UnixMs {
    /// A time that never comes.
    pub const NEVER: Self = Self(u64::MAX);

    /// This time plus `by`, saturating.
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(millis(by)))
    }

    /// How long after `earlier` this time is; zero when it is before.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// Whole seconds since the epoch.
    pub fn seconds(self) -> u64 {
        self.0 / 1000
    }

    /// RFC 3339 in UTC with milliseconds, such as `2026-01-02T03:04:05.678Z`.
    pub fn rfc3339(self) -> String {
        let nanos = i128::from(self.0).saturating_mul(1_000_000);
        let Ok(at) = time::OffsetDateTime::from_unix_timestamp_nanos(nanos) else {
            return "9999-12-31T23:59:59.999Z".to_owned();
        };
        format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            at.year(),
            u8::from(at.month()),
            at.day(),
            at.hour(),
            at.minute(),
            at.second(),
            at.millisecond()
        )
    }
}

/// The text is no time that this program knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a time of RFC 3339 since 1970")]
pub struct NoTime;

impl FromStr for UnixMs {
    type Err = NoTime;

    /// Reads RFC 3339; what is finer than a millisecond is cut.
    fn from_str(text: &str) -> Result<Self, NoTime> {
        let format = &time::format_description::well_known::Rfc3339;
        let at = time::OffsetDateTime::parse(text, format).map_err(|_| NoTime)?;
        let ms = at.unix_timestamp_nanos() / 1_000_000;
        u64::try_from(ms).map(Self).map_err(|_| NoTime)
    }
}

/// `by` in whole milliseconds, saturating.
pub fn millis(by: Duration) -> u64 {
    u64::try_from(by.as_millis()).unwrap_or(u64::MAX)
}

/// A source of the current time; cheap to clone.
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    System { wall_ms: u64, boot_ms: u64 },
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// The machine's clock, anchored at this call.
    pub fn system() -> Self {
        #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(Source::System { wall_ms: millis(wall), boot_ms: boot_ms() })
    }

    /// A clock that stands at `start` until it is advanced: for tests.
    pub fn manual(start: UnixMs) -> Self {
        Self(Source::Manual(Arc::new(AtomicU64::new(start.0))))
    }

    /// Moves a manual clock forward; no effect on the system's clock.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(now) = &self.0 {
            now.fetch_add(millis(by), Ordering::Relaxed);
        }
    }

    /// The current time.
    pub fn now(&self) -> UnixMs {
        self.moment().unix
    }

    /// The current time and a finer one, by one reading of the clock.
    pub fn moment(&self) -> Moment {
        match &self.0 {
            Source::System { wall_ms, boot_ms } => {
                let micros = boot_nanos() / 1000;
                let passed = (micros / 1000).saturating_sub(*boot_ms);
                Moment { unix: UnixMs(wall_ms.saturating_add(passed)), micros }
            }
            Source::Manual(now) => {
                let now = now.load(Ordering::Relaxed);
                Moment { unix: UnixMs(now), micros: now.saturating_mul(1000) }
            }
        }
    }
}

/// A point in time, for knowing when and for measuring how long.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moment {
    /// The time.
    pub unix: UnixMs,
    /// Microseconds since some point in the past.
    pub micros: u64,
}

impl Moment {
    /// Microseconds since `earlier`; zero when it is later.
    pub fn micros_since(self, earlier: Self) -> u64 {
        self.micros.saturating_sub(earlier.micros)
    }
}

fn boot_nanos() -> u64 {
    let at = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(at.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(at.tv_nsec).unwrap_or(0))
}

fn boot_ms() -> u64 {
    boot_nanos() / 1_000_000
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.now()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manual_clock_moves_only_when_told() {
        let clock = Clock::manual(UnixMs(1_000));
        let copy = clock.clone();
        assert_eq!(copy.now(), UnixMs(1_000));
        clock.advance(Duration::from_secs(2));
        assert_eq!(copy.now(), UnixMs(3_000));
    }

    #[test]
    fn times_are_written_in_utc_with_milliseconds() {
        assert_eq!(UnixMs(951_782_400_007).rfc3339(), "2000-02-29T00:00:00.007Z");
        assert_eq!(UnixMs::NEVER.rfc3339(), "9999-12-31T23:59:59.999Z");
    }
}

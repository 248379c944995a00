//! Atomic cells: a counter per label, a histogram of durations, a bounded table of codes.
//!
//! All orderings are relaxed: a scrape may see one request's counter without its duration.

use std::marker::PhantomData;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::label::Label;

/// One counter for each variant of `L`; `N` is their number.
#[derive(Debug)]
pub(super) struct Table<L, const N: usize> {
    cells: [AtomicU64; N],
    labels: PhantomData<L>,
}

impl<L, const N: usize> Default for Table<L, N> {
    fn default() -> Self {
        Self { cells: [const { AtomicU64::new(0) }; N], labels: PhantomData }
    }
}

impl<L: Label, const N: usize> Table<L, N> {
    pub(super) fn add(&self, label: L) {
        if let Some(cell) = self.cells.get(label.index()) {
            cell.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn subtract(&self, label: L) {
        if let Some(cell) = self.cells.get(label.index()) {
            cell.fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub(super) fn set(&self, label: L, count: u64) {
        if let Some(cell) = self.cells.get(label.index()) {
            cell.store(count, Ordering::Relaxed);
        }
    }

    pub(super) fn read(&self, label: L) -> u64 {
        self.cells.get(label.index()).map_or(0, |cell| cell.load(Ordering::Relaxed))
    }
}

/// Upper bounds of the buckets, in microseconds, inclusive; a last bucket takes the rest.
pub(super) const BOUNDS_US: [u64; 15] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 10_000_000, 30_000_000,
];

const BUCKETS: usize = BOUNDS_US.len() + 1;

/// Durations in fixed buckets.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum_us: AtomicU64,
}

impl Histogram {
    pub(super) fn observe(&self, micros: u64) {
        let bucket = BOUNDS_US.iter().position(|bound| micros <= *bound).unwrap_or(BUCKETS - 1);
        if let Some(cell) = self.buckets.get(bucket) {
            cell.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_us.fetch_add(micros, Ordering::Relaxed);
    }
}

/// Several histograms added up.
#[derive(Debug, Default)]
pub(super) struct Durations {
    buckets: [u64; BUCKETS],
    sum_us: u64,
}

impl Durations {
    pub(super) fn add(&mut self, histogram: &Histogram) {
        for (total, cell) in self.buckets.iter_mut().zip(&histogram.buckets) {
            *total = total.wrapping_add(cell.load(Ordering::Relaxed));
        }
        self.sum_us = self.sum_us.wrapping_add(histogram.sum_us.load(Ordering::Relaxed));
    }

    /// From the same reads as the buckets, so that the count always equals the last bucket.
    pub(super) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    pub(super) fn sum_seconds(&self) -> f64 {
        self.sum_us as f64 / 1e6
    }

    /// Each bucket's upper bound in seconds with its own count, not cumulative.
    pub(super) fn buckets(&self) -> Vec<(f64, u64)> {
        let bounds = BOUNDS_US.iter().map(|bound| *bound as f64 / 1e6);
        bounds.chain([f64::INFINITY]).zip(self.buckets).collect()
    }
}

const CODES: usize = 48;

/// A counter for each of the first [`CODES`] codes that come up; the rest share one cell.
///
/// Codes are text of the program, so an overflow means that the program has grown, not an attack.
#[derive(Debug)]
pub(super) struct Codes {
    cells: [(OnceLock<&'static str>, AtomicU64); CODES],
    rest: AtomicU64,
}

impl Default for Codes {
    fn default() -> Self {
        Self {
            cells: [const { (OnceLock::new(), AtomicU64::new(0)) }; CODES],
            rest: AtomicU64::new(0),
        }
    }
}

impl Codes {
    pub(super) fn add(&self, code: &'static str) {
        for (name, count) in &self.cells {
            if *name.get_or_init(|| code) == code {
                count.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
        self.rest.fetch_add(1, Ordering::Relaxed);
    }

    /// The codes that came up, with their counts.
    pub(super) fn read(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let named = self.cells.iter().map_while(|(name, count)| {
            name.get().map(|name| (*name, count.load(Ordering::Relaxed)))
        });
        let rest = self.rest.load(Ordering::Relaxed);
        named.chain((rest > 0).then_some(("other", rest)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_bucket_whose_bound_it_does_not_pass() {
        let histogram = Histogram::default();
        for micros in [0, 250, 251, 30_000_000, 30_000_001] {
            histogram.observe(micros);
        }
        let mut total = Durations::default();
        total.add(&histogram);
        total.add(&histogram);
        let buckets = total.buckets();
        assert_eq!(buckets.first(), Some(&(0.00025, 4)));
        assert_eq!(buckets.get(1), Some(&(0.0005, 2)));
        assert_eq!(buckets.get(14), Some(&(30.0, 2)));
        assert_eq!(buckets.last(), Some(&(f64::INFINITY, 2)));
        assert_eq!(total.count(), 10);
        assert!((total.sum_seconds() - 120.001_004).abs() < 1e-9, "{}", total.sum_seconds());
    }

    #[test]
    fn bounds_rise() {
        assert!(BOUNDS_US.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn codes_beyond_the_table_are_counted_together() {
        let codes = Codes::default();
        let names: Vec<&'static str> =
            (0..CODES + 2).map(|n| &*Box::leak(format!("code-{n}").into_boxed_str())).collect();
        for name in &names {
            codes.add(name);
        }
        codes.add(names[0]);
        let read: Vec<_> = codes.read().collect();
        assert_eq!(read.len(), CODES + 1);
        assert_eq!(read[0], ("code-0", 2));
        assert_eq!(read[CODES], ("other", 2));
    }
}

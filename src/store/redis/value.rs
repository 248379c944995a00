//! What is kept of a session: a line with what scripts need, and the record as JSON.
//!
//! Times are those of the server's clock, so that nodes whose clocks differ mean the same. What Redis
//! gives back is not trusted to be well-formed.

use std::io::Write;

use crate::clock::UnixMs;
use crate::session::{Record, SessionId};

/// A record is about 1 KiB; far more is none of ours.
const MAX: usize = 64 << 10;
/// Times after this one never come, and are not moved.
const FAR: u64 = 1 << 52;

/// Why a value is no record.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("its first line is not one of version 1")]
    Header,
    #[error("its record is not readable (line {0}, column {1})")]
    Record(usize, usize),
    #[error("it is the record of another session")]
    Foreign,
    #[error("it is larger than {MAX} bytes")]
    Large,
}

/// The value of a record. `ahead` is by how much the server's clock is ahead of ours, in ms.
pub(super) fn write(record: &Record, ahead: i64) -> Option<Vec<u8>> {
    let mut record = record.clone();
    shift(&mut record, ahead);
    let (seen, expires) = (record.seen.0.min(FAR), record.expires.0.min(FAR));
    let (idle, generation) = (record.idle_ms.min(FAR), record.generation);
    let mut value = Vec::with_capacity(1024);
    writeln!(value, "1 {seen} {expires} {idle} {generation}").ok()?;
    serde_json::to_writer(&mut value, &record).ok()?;
    (value.len() <= MAX).then_some(value)
}

/// The record in a value.
pub(super) fn read(id: SessionId, value: &[u8], ahead: i64) -> Result<Record, Unreadable> {
    if value.len() > MAX {
        return Err(Unreadable::Large);
    }
    let line = value.iter().position(|byte| *byte == b'\n').ok_or(Unreadable::Header)?;
    let (header, json) = value.split_at_checked(line).ok_or(Unreadable::Header)?;
    let seen = std::str::from_utf8(header).ok().and_then(seen).ok_or(Unreadable::Header)?;
    let mut record: Record = serde_json::from_slice(json.trim_ascii_start())
        .map_err(|error| Unreadable::Record(error.line(), error.column()))?;
    if record.id != id {
        return Err(Unreadable::Foreign);
    }
    record.seen = UnixMs(seen);
    shift(&mut record, ahead.saturating_neg());
    Ok(record)
}

fn seen(header: &str) -> Option<u64> {
    let mut words = header.split(' ');
    if words.next() != Some("1") {
        return None;
    }
    let seen = words.next()?.parse().ok()?;
    for _ in 0..3 {
        words.next()?.parse::<u64>().ok()?;
    }
    words.next().is_none().then_some(seen)
}

/// `at` on a clock that is ahead by this many ms.
pub(super) fn moved(at: UnixMs, by: i64) -> UnixMs {
    if at.0 >= FAR { at } else { UnixMs(at.0.saturating_add_signed(by)) }
}

fn shift(record: &mut Record, by: i64) {
    for at in
        [&mut record.authenticated, &mut record.created, &mut record.seen, &mut record.expires]
    {
        *at = moved(*at, by);
    }
    if let Some(previous) = &mut record.previous {
        previous.until = moved(previous.until, by);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::suite::{START, document, session};

    #[test]
    fn nodes_with_different_clocks_read_the_same_moments() {
        let record = session("u1", START);
        let value = write(&record, -300_000).unwrap();
        assert_eq!(document(&read(record.id, &value, -300_000).unwrap()), document(&record));
        let other = read(record.id, &value, 60_000).unwrap();
        assert_eq!(other.expires.0, record.expires.0 - 360_000);
        assert_eq!(other.seen.0, record.seen.0 - 360_000);
        let mut endless = record.clone();
        endless.expires = UnixMs::NEVER;
        let value = write(&endless, 12_345).unwrap();
        assert_eq!(read(record.id, &value, 0).unwrap().expires, UnixMs::NEVER);
    }

    #[test]
    fn what_is_no_record_is_refused() {
        let record = session("u1", START);
        let value = write(&record, 0).unwrap();
        let other = SessionId::issue().unwrap();
        assert_eq!(read(other, &value, 0).unwrap_err(), Unreadable::Foreign);
        for (value, expected) in [
            (&b""[..], Unreadable::Header),
            (b"1 2 3 4", Unreadable::Header),
            (b"2 1 2 3 4\n{}", Unreadable::Header),
            (b"1 -1 2 3 4\n{}", Unreadable::Header),
            (b"1 1 2 3\n{}", Unreadable::Header),
            (b"1 1 2 3 4 5\n{}", Unreadable::Header),
            (b"\xff\n{}", Unreadable::Header),
        ] {
            assert_eq!(read(record.id, value, 0).unwrap_err(), expected, "{value:?}");
        }
        let broken = read(record.id, b"1 1 2 3 4\n[1", 0).unwrap_err();
        assert!(matches!(broken, Unreadable::Record(..)), "{broken:?}");
        let mut large = value;
        large.resize(MAX + 1, b' ');
        assert_eq!(read(record.id, &large, 0).unwrap_err(), Unreadable::Large);
    }

    proptest! {
        #[test]
        fn arbitrary_values_are_survived(value: Vec<u8>, head in "[0-9 ]{0,40}\n?", ahead: i64) {
            let id = SessionId::from_bytes([7; 16]);
            prop_assert!(read(id, &value, ahead).is_err());
            let value = [head.as_bytes(), &value].concat();
            prop_assert!(read(id, &value, ahead).is_err());
        }

        #[test]
        fn a_record_survives_any_distance_of_clocks(ahead in -4_000_000_000_000_i64..4_000_000_000_000) {
            let record = session("u1", START);
            let value = write(&record, ahead).unwrap();
            let back = read(record.id, &value, ahead);
            // Before 1970 there is nothing to move to.
            if ahead > -1_700_000_000_000 {
                prop_assert_eq!(document(&back.unwrap()), document(&record));
            }
        }
    }
}

//! The time span in which a certificate is valid, read from its DER form.
//!
//! Reads exactly the path to `validity` (RFC 5280 section 4.1); judges nothing and trusts nothing.

use time::{Date, Month, PrimitiveDateTime, Time};

/// `notBefore` and `notAfter` in seconds since the Unix epoch; both ends are included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) not_before: u64,
    pub(super) not_after: u64,
}

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;

/// The validity of the certificate in `der`; `None` when it is not a certificate.
pub(super) fn validity(der: &[u8]) -> Option<Validity> {
    let mut certificate = Reader(Reader(der).expect(SEQUENCE)?);
    let mut tbs = Reader(certificate.expect(SEQUENCE)?);
    if tbs.0.first() == Some(&VERSION) {
        tbs.expect(VERSION)?;
    }
    tbs.expect(INTEGER)?; // serialNumber
    tbs.expect(SEQUENCE)?; // signature
    tbs.expect(SEQUENCE)?; // issuer
    let mut span = Reader(tbs.expect(SEQUENCE)?);
    Some(Validity { not_before: moment(span.next()?)?, not_after: moment(span.next()?)? })
}

/// A DER value list; each step takes one value off its front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, first], rest) = self.0.split_first_chunk()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81 => rest.split_first().map(|(byte, rest)| (usize::from(*byte), rest))?,
            0x82 => rest
                .split_first_chunk()
                .map(|(bytes, rest)| (usize::from(u16::from_be_bytes(*bytes)), rest))?,
            // 64 KiB and more: no part of a certificate that we step over is that long.
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, value))
    }

    fn expect(&mut self, wanted: u8) -> Option<&'a [u8]> {
        self.next().filter(|(tag, _)| *tag == wanted).map(|(_, value)| value)
    }
}

/// A point in time (RFC 5280 section 4.1.2.5): always UTC, with seconds, without fractions.
fn moment((tag, text): (u8, &[u8])) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = text.split_at_checked(2)?;
            let year: i32 = year.parse().ok()?;
            (if year >= 50 { 1900 + year } else { 2000 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = text.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    let mut rest = rest;
    let mut pair = || {
        let (digits, tail) = rest.split_at_checked(2)?;
        rest = tail;
        digits.parse::<u8>().ok()
    };
    let date = Date::from_calendar_date(year, Month::try_from(pair()?).ok()?, pair()?).ok()?;
    let clock = Time::from_hms(pair()?, pair()?, pair()?).ok()?;
    if !rest.is_empty() {
        return None;
    }
    let seconds = PrimitiveDateTime::new(date, clock).assume_utc().unix_timestamp();
    // Before 1970 is as invalid as 1970.
    Some(u64::try_from(seconds).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_time_forms_are_read() {
        assert_eq!(moment((UTC_TIME, b"700101000001Z")), Some(1));
        assert_eq!(moment((UTC_TIME, b"491231235959Z")), Some(2_524_607_999));
        assert_eq!(moment((UTC_TIME, b"500101000000Z")), Some(0));
        assert_eq!(moment((GENERALIZED_TIME, b"20500101000000Z")), Some(2_524_608_000));
        for bad in ["", "Z", "700101000001", "701301000001Z", "7001010000Z", "70010100000100Z"] {
            assert_eq!(moment((UTC_TIME, bad.as_bytes())), None, "{bad}");
        }
        assert_eq!(moment((INTEGER, b"700101000001Z")), None);
    }

    #[test]
    fn a_made_certificate_gives_back_its_dates() {
        let mut params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        params.not_before = time::OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap();
        params.not_after = time::OffsetDateTime::from_unix_timestamp(4_000_000_000).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let wanted = Validity { not_before: 1_700_000_000, not_after: 4_000_000_000 };
        assert_eq!(validity(certificate.der()), Some(wanted));
        for cut in 0..120 {
            assert_eq!(validity(&certificate.der()[..cut]), None, "{cut}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = validity(&bytes);
            let _ = moment((UTC_TIME, &bytes));
        }
    }
}

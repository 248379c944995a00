//! How values become page text: escaping, safe links, times and durations.
//!
//! It must not decide what a page says.

use minijinja::{Environment, Error, Output, State, Value, escape_formatter};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use time::OffsetDateTime;

use super::device::device_name;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Makes the filters known to the templates.
pub(super) fn register(environment: &mut Environment<'static>) {
    environment.add_filter("href", |url: &str| href(url));
    environment.add_filter("query", |text: &str| query(text));
    environment.add_filter("decoded", |text: &str| decoded(text));
    environment.add_filter("device", |user_agent: &str| device_name(user_agent));
    environment.add_filter("duration", duration);
    environment.add_filter("ago", ago);
    environment.add_filter("until", until);
    environment.add_filter("iso", iso);
    environment.add_filter("stamp", stamp);
}

/// Writes one value: first what could disguise text is made visible, then HTML is escaped.
///
/// Escaping alone would let `U+202E` turn the rest of a line around, so that a hostile name or
/// header value reads as something else.
pub(super) fn format(
    out: &mut Output<'_>,
    state: &mut State<'_, '_>,
    value: &Value,
) -> Result<(), Error> {
    match value.as_str() {
        Some(text) if !value.is_safe() && text.contains(disguises) => {
            let clean: String = text.replace(disguises, "\u{fffd}");
            escape_formatter(out, state, &Value::from(clean))
        }
        _ => escape_formatter(out, state, value),
    }
}

/// Control characters, and the Unicode controls that reorder text (UAX 9, 2.1 to 2.4).
fn disguises(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A link target that can only navigate: `http(s)://` or a path of this host. Else `/`.
///
/// The caller has judged where the link may lead; this one stops `javascript:` and its likes,
/// and everything that browsers silently repair (controls, spaces, backslashes, `//`).
fn href(url: &str) -> String {
    let scheme_is = |scheme: &str| {
        url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    };
    let known = scheme_is("https://")
        || scheme_is("http://")
        || (url.starts_with('/') && !url.starts_with("//"));
    let repaired = |c: char| c == ' ' || c == '\\' || disguises(c);
    if known && !url.contains(repaired) { url.to_owned() } else { "/".to_owned() }
}

/// One value of a query string.
fn query(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// What a percent-coded header value means; `None` when it means itself.
fn decoded(text: &str) -> Option<String> {
    let plain = percent_decode_str(text).decode_utf8().ok()?;
    (plain != text).then(|| plain.into_owned())
}

/// `"1 minute"`, `"3 hours"`: whole units, rounded up, so that nobody comes back too early.
fn duration(seconds: u64) -> String {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX).max(1);
    // A larger unit is used where it is exact, or where rounding up hardly shows.
    let fits = |unit: i64| seconds >= unit && (seconds % unit == 0 || seconds > 2 * unit);
    let unit = [DAY, HOUR, MINUTE].into_iter().find(|unit| fits(*unit)).unwrap_or(1);
    units(seconds / unit + i64::from(seconds % unit != 0), unit)
}

/// `"5 minutes ago"`; a date when it is longer ago than a month.
fn ago(then: i64, now: i64) -> String {
    match now.saturating_sub(then) {
        ..MINUTE => "just now".to_owned(),
        past if past < 31 * DAY => format!("{} ago", whole_units(past)),
        _ => stamp(then),
    }
}

/// `"in 11 hours"`; a moment that has passed is `"now"`.
fn until(then: i64, now: i64) -> String {
    match then.saturating_sub(now) {
        ..=0 => "now".to_owned(),
        1..MINUTE => "in less than a minute".to_owned(),
        left => format!("in {}", whole_units(left)),
    }
}

/// The largest unit that fits, rounded down. At least a minute.
fn whole_units(seconds: i64) -> String {
    let unit = match seconds {
        ..HOUR => MINUTE,
        HOUR..DAY => HOUR,
        _ => DAY,
    };
    units(seconds / unit, unit)
}

fn units(count: i64, unit: i64) -> String {
    let name = match unit {
        MINUTE => "minute",
        HOUR => "hour",
        DAY => "day",
        _ => "second",
    };
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {name}{plural}")
}

/// RFC 3339 in UTC, for `<time datetime>`. Empty when no calendar has that moment.
fn iso(moment: i64) -> String {
    OffsetDateTime::from_unix_timestamp(moment).map_or_else(
        |_| String::new(),
        |t| {
            let (date, month) = (t.date(), u8::from(t.month()));
            let (hour, minute, second) = t.to_hms();
            let (year, day) = (date.year(), date.day());
            format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
        },
    )
}

/// `"12 Mar 2026, 14:03 UTC"`.
fn stamp(moment: i64) -> String {
    OffsetDateTime::from_unix_timestamp(moment).map_or_else(
        |_| "unknown".to_owned(),
        |t| {
            let month: String = t.month().to_string().chars().take(3).collect();
            let (day, year, hour, minute) = (t.day(), t.year(), t.hour(), t.minute());
            format!("{day} {month} {year}, {hour:02}:{minute:02} UTC")
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_only_navigate() {
        for good in ["/", "/a?b=c#d", "https://app.example.com/x", "HTTP://h/", "/%2e%2e/%5c"] {
            assert_eq!(href(good), good);
        }
        for bad in [
            "",
            "javascript:alert(1)",
            "JaVaScRiPt:alert(1)",
            "data:text/html,x",
            "//evil.example",
            "/\\evil.example",
            "/\t/evil.example",
            "https://good.example\\@evil.example",
            "\u{1}javascript:alert(1)",
            " https://h/",
            "relative",
            "https:evil",
            "/\u{202e}/",
        ] {
            assert_eq!(href(bad), "/", "{bad:?}");
        }
    }

    #[test]
    fn durations_round_up() {
        let cases = [
            (0, "1 second"),
            (1, "1 second"),
            (45, "45 seconds"),
            (60, "1 minute"),
            (90, "90 seconds"),
            (121, "3 minutes"),
            (3600, "1 hour"),
            (5400, "90 minutes"),
            (7200, "2 hours"),
            (7201, "3 hours"),
            (u64::MAX, "106751991167301 days"),
        ];
        for (seconds, text) in cases {
            assert_eq!(duration(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn moments_are_told_from_now() {
        assert_eq!(ago(100, 90), "just now");
        assert_eq!(ago(0, 60), "1 minute ago");
        assert_eq!(ago(0, 2 * HOUR), "2 hours ago");
        assert_eq!(ago(0, 40 * DAY), "1 Jan 1970, 00:00 UTC");
        assert_eq!(ago(i64::MIN, i64::MAX), "unknown");
        assert_eq!(until(10, 10), "now");
        assert_eq!(until(10, 0), "in less than a minute");
        assert_eq!(until(12 * HOUR - 1, 0), "in 11 hours");
        assert_eq!(until(i64::MIN, i64::MAX), "now");
    }

    #[test]
    fn moments_are_written_in_utc() {
        assert_eq!(iso(1_773_324_186), "2026-03-12T14:03:06Z");
        assert_eq!(stamp(1_773_324_186), "12 Mar 2026, 14:03 UTC");
        assert_eq!((iso(i64::MAX), stamp(i64::MIN)), (String::new(), "unknown".to_owned()));
    }

    #[test]
    fn coded_values_are_decoded_when_that_says_more() {
        assert_eq!(decoded("J%C3%BCrgen"), Some("Jürgen".to_owned()));
        assert_eq!(decoded("plain"), None);
        assert_eq!(decoded("100%"), None);
        assert_eq!(decoded("%ff"), None);
        assert_eq!(query("a b&c=d/é"), "a%20b%26c%3Dd%2F%C3%A9");
    }
}

//! Durations of the configuration: read the same however they are put together.

use portcullis::section::parse_duration;

/// Words of durations.
pub const WORDS: &[&str] = &[
    "1",
    "0",
    "18446744073709551615",
    "ms",
    "s",
    "m",
    "min",
    "h",
    "d",
    " ",
    "\t",
    "1h30m",
    "+",
    "-",
    ".",
];

/// Reads `data` as a duration, whole and in two parts.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let whole = parse_duration(text);
    if let Some(whole) = whole {
        if let Ok(ms) = u64::try_from(whole.as_millis()) {
            assert_eq!(parse_duration(&format!("{ms}ms")), Some(whole));
            assert_eq!(parse_duration(&format!(" {text} ")), Some(whole));
        }
        assert!(text.bytes().any(|byte| byte.is_ascii_digit()), "{text:?} has no number");
    }
    for cut in (0..text.len()).filter(|cut| text.is_char_boundary(*cut)).take(64) {
        let (first, second) = text.split_at(cut);
        if let (Some(first), Some(second)) = (parse_duration(first), parse_duration(second)) {
            // "1m" and "1s" are "1m1s", but a unit that goes on over the cut is another one.
            let sum = first.checked_add(second);
            assert!(whole.is_none() || whole == sum, "{text:?} at {cut}: {whole:?}, not {sum:?}");
        }
    }
}

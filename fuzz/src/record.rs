//! Session records of older and newer versions: reading, writing and reading again changes nothing,
//! and fields of a newer version survive.

use portcullis::session::Record;
use serde_json::Value;

/// Words of records.
pub const WORDS: &[&str] = &[
    "\"v\":",
    "\"generation\":",
    "\"previous\":",
    "\"kind\":\"user\"",
    "\"kind\":\"api-key\"",
    "\"tenant\":null",
    "\"ip\":\"::1\"",
    "\"privileges\":[]",
    "\"parent\":",
    "\"other\":{}",
    "18446744073709551615",
    "-1",
    "1e400",
    "0.1",
    "1.7976931348623157e308",
    "null",
    "{",
    "}",
    "[",
    "]",
    ",",
    "\"new\":",
    "\"\\u0000\"",
    "true",
    "5e-324",
    "123456789.123456789",
];

/// Reads `data` as a stored record.
pub fn run(data: &[u8]) {
    let Ok(record) = serde_json::from_slice::<Record>(data) else { return };
    let written = serde_json::to_vec(&record).expect("what was read can be written");
    let again: Record = serde_json::from_slice(&written).expect("what was written can be read");
    let twice = serde_json::to_vec(&again).expect("what was read can be written");
    assert_eq!(
        String::from_utf8_lossy(&written),
        String::from_utf8_lossy(&twice),
        "a record changes each time that it is written"
    );
    assert_eq!(record.ends(), again.ends());
    assert!(record.ends() <= record.expires);
    // A decoder that keeps the last of several equal keys would not be asked twice by the record's.
    let Ok(Value::Object(given)) = serde_json::from_slice::<Value>(data) else { return };
    let Ok(Value::Object(kept)) = serde_json::from_slice::<Value>(&written) else {
        panic!("a record is an object")
    };
    for (key, value) in &record.other {
        assert_eq!(kept.get(key), Some(value), "{key} is lost");
    }
    for key in given.keys() {
        let known = kept.contains_key(key);
        // Left out when they say nothing.
        let optional = ["previous", "tenant", "actor", "ip", "privileges", "parent"];
        assert!(known || optional.contains(&key.as_str()), "{key} is lost");
    }
}

use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::log::testing::{Memory, WAIT, clock};

fn log() -> (AccessLog, LineWriter, Memory) {
    let memory = Memory::default();
    let out = LineWriter::stream("access", memory.clone(), clock()).unwrap();
    (AccessLog::new(Some(out.clone())), out, memory)
}

/// The lines that `entries` make.
fn lines(entries: &[AccessEntry<'_>]) -> String {
    let (mut log, out, memory) = log();
    entries.iter().for_each(|entry| log.line(entry));
    log.flush();
    assert!(out.drain(WAIT));
    memory.text()
}

#[test]
fn a_line_has_every_value() {
    let place = Place::new("/", "app");
    let entry = AccessEntry {
        time: UnixMs(951_782_400_007),
        request: "r-1",
        client: Some("::1"),
        method: "GET",
        host: "app.example",
        path: "/files/a?ks=secret",
        status: 200,
        bytes_sent: Some(12),
        duration_us: 345,
        user: Some("user/1"),
        session: Some("s"),
        place: Some(&place),
        upstream_us: Some(300),
        protocol: "h2",
        tls: Some("1.3"),
        refusal: None,
        cut: None,
    };
    let expected = json!({
        "time": "2000-02-29T00:00:00.007Z", "request": "r-1", "ip": "::1", "method": "GET",
        "host": "app.example", "path": "/files/a", "status": 200, "bytes_sent": 12,
        "duration_us": 345, "user": "user/1", "session": "s", "route": "/", "upstream": "app",
        "upstream_us": 300, "protocol": "h2", "tls": "1.3",
    });
    assert_eq!(serde_json::from_str::<Value>(&lines(&[entry])).unwrap(), expected);
}

#[test]
fn times_are_right_within_and_across_seconds() {
    let times = [999, 1_000, 1_001, 1_999, 86_400_000, 5, u64::MAX];
    let entries = times.map(|time| AccessEntry { time: UnixMs(time), ..AccessEntry::default() });
    let text = lines(&entries);
    let read: Vec<String> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["time"].as_str().unwrap().into())
        .collect();
    let (last, others) = read.split_last().unwrap();
    let expected: Vec<String> = times[..6].iter().map(|time| UnixMs(*time).rfc3339()).collect();
    assert_eq!(others, expected);
    assert!(last.starts_with("9999-12-31T23:59:59."), "{last}");
}

#[test]
fn lines_leave_in_batches_without_growing_the_buffer() {
    let (mut log, out, memory) = log();
    let entry = AccessEntry { path: "/some/path", host: "app.example", ..AccessEntry::default() };
    log.line(&entry);
    assert!(out.drain(WAIT));
    assert_eq!(memory.text(), "", "handed over before a batch was full");
    for _ in 0..999 {
        log.line(&entry);
        assert!(log.buffer.len() < BATCH);
        assert_eq!(log.buffer.capacity(), BUFFER);
    }
    drop(log);
    assert!(out.drain(WAIT));
    assert_eq!(memory.text().lines().count(), 1_000);
    assert_eq!(out.dropped(), 0);
}

#[derive(Debug)]
struct Owned {
    texts: [String; 4],
    options: [Option<String>; 3],
    route: Option<(String, String, Place)>,
    fixed: (&'static str, Option<&'static str>, Option<&'static str>),
    status: u16,
    numbers: (u64, u64, Option<u64>, Option<u64>),
}

impl Owned {
    fn entry(&self) -> AccessEntry<'_> {
        let [request, method, host, path] = &self.texts;
        let [client, user, session] = self.options.each_ref().map(Option::as_deref);
        let (protocol, tls, refusal) = self.fixed;
        let (time, duration_us, bytes_sent, upstream_us) = self.numbers;
        AccessEntry {
            time: UnixMs(time),
            request,
            client,
            method,
            host,
            path,
            status: self.status,
            bytes_sent,
            duration_us,
            user,
            session,
            place: self.route.as_ref().map(|(.., place)| place),
            upstream_us,
            protocol,
            tls,
            refusal,
            cut: refusal,
        }
    }
}

fn owned() -> impl Strategy<Value = Owned> {
    let text =
        prop_oneof![any::<String>(), "[ -~\\x00-\\x1f\\x7f-\\x{9f}\\x{2028}\\x{2029}\"\\\\]*"];
    let times = 0..253_402_300_800_000_u64;
    let route = (text.clone(), text.clone()).prop_map(|(route, upstream)| {
        let place = Place::new(&route, &upstream);
        (route, upstream, place)
    });
    let code = option::of(prop::sample::select(vec!["1.2", "1.3", "no-route"]));
    (
        prop::array::uniform4(text.clone()),
        prop::array::uniform3(option::of(text)),
        option::of(route),
        (prop::sample::select(vec!["h1", "h2"]), code.clone(), code),
        any::<u16>(),
        (times, any::<u64>(), option::of(any::<u64>()), option::of(any::<u64>())),
    )
        .prop_map(|(texts, options, route, fixed, status, numbers)| Owned {
            texts,
            options,
            route,
            fixed,
            status,
            numbers,
        })
}

/// Every value read back from `line`; `Null` where there is none.
fn check(line: &str, owned: &Owned) {
    let entry = owned.entry();
    let names = owned.route.as_ref().map(|(route, upstream, _)| (route, upstream));
    let read: Value = serde_json::from_str(line).unwrap();
    let path = entry.path.split('?').next().unwrap();
    for (key, value) in [
        ("time", json!(entry.time.rfc3339())),
        ("request", json!(entry.request)),
        ("ip", json!(entry.client)),
        ("method", json!(entry.method)),
        ("host", json!(entry.host)),
        ("path", json!(path)),
        ("status", json!(entry.status)),
        ("bytes_sent", json!(entry.bytes_sent)),
        ("duration_us", json!(entry.duration_us)),
        ("user", json!(entry.user)),
        ("session", json!(entry.session)),
        ("route", json!(names.map(|(route, _)| route))),
        ("upstream", json!(names.map(|(_, upstream)| upstream))),
        ("upstream_us", json!(entry.upstream_us)),
        ("protocol", json!(entry.protocol)),
        ("tls", json!(entry.tls)),
        ("cut", json!(entry.cut)),
        ("refusal", json!(entry.refusal)),
    ] {
        assert_eq!(read[key], value, "{key} in {line}");
    }
}

proptest! {
    #[test]
    fn any_entries_come_back_one_line_each(all in prop::collection::vec(owned(), 1..8)) {
        let entries: Vec<_> = all.iter().map(Owned::entry).collect();
        let text = lines(&entries);
        prop_assert!(text.ends_with('\n'));
        // Whatever a reader takes for the end of a line, there is one for each entry.
        let ends = ['\n', '\r', '\u{b}', '\u{c}', '\u{85}', '\u{2028}', '\u{2029}'];
        prop_assert_eq!(text.matches(ends).count(), entries.len());
        for (line, owned) in text.lines().zip(&all) {
            check(line, owned);
        }
    }
}

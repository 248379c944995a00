//! Request targets: every form that an upstream may make of a forwarded path lies on the same route.
//!
//! A model of upstreams on bytes, independent of the product's.

use std::collections::BTreeSet;

use portcullis::route::{Leniency, Prefix, Target};

/// Words of targets.
pub const WORDS: &[&str] = &[
    "/",
    "//",
    "public",
    "PUBLIC",
    "admin",
    "aDmin",
    "files",
    "a",
    "b",
    ".",
    "..",
    "%2e",
    "%252E",
    "%2f",
    "%252F",
    "\\",
    "%5c",
    ";",
    ";x",
    "%3b",
    "%253b",
    "%20",
    "%00",
    "%2500",
    "%3f",
    "%23",
    "?",
    "#",
    "%",
    "5c",
    "%25",
    "%61",
    "%2561",
    "%c0%ae",
    "%ef%bc%8e",
    "%ef%bc%8f",
    "%ef%bd%81",
    "%e2%80%8b",
    "%e2%84%aa",
    "caf%c3%a9",
    "caf%C3%89",
    "%c5%bf",
    " ",
    "%41DMIN",
    "/public/",
    "/admin/",
    "/files/",
    "/a/b/",
    "\n/",
];

const STRICT: Leniency = Leniency { encoded_slash: false, double_slash: false, params: false };
const ALL: Leniency = Leniency { encoded_slash: true, double_slash: true, params: true };

type Table = &'static [(&'static str, Leniency)];

const TABLES: &[Table] = &[
    &[("/public/", STRICT), ("/", STRICT)],
    &[("/", STRICT), ("/admin", STRICT), ("/admin/public", STRICT)],
    &[("/", STRICT), ("/files/", ALL), ("/admin", STRICT), ("/a", STRICT)],
    &[("/", ALL)],
    &[("/public/", STRICT), ("/files", ALL), ("/caf\u{e9}", STRICT)],
];

/// Reads the first line of `data` as a target and the second as a configured path.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (target, configured) = text.split_once('\n').unwrap_or((text, "/"));
    check_target(target);
    check_prefix(configured, target);
}

fn check_target(text: &str) {
    let Ok(target) = Target::parse(text) else { return };
    assert_eq!(target.raw(), text, "the target was changed");
    let canonical = target.canonical().into_owned();
    assert!(canonical.starts_with('/') && !canonical.contains("//"), "{canonical:?}");
    assert!(!canonical.contains([';', '\\', '?', '#', '\0']), "{canonical:?}");
    let chosen: Vec<_> =
        TABLES.iter().filter_map(|t| choose(t, &target).map(|at| (*t, at))).collect();
    if chosen.is_empty() {
        return;
    }
    // Each further step multiplies the forms by the ways of reading.
    let depth = if target.path().len() <= 48 { 3 } else { 2 };
    for form in forms(target.path().as_bytes(), depth) {
        for (table, at) in &chosen {
            let read = literal(table, &form);
            let shown = String::from_utf8_lossy(&form);
            let meant = table[*at].0;
            assert_eq!(read, Some(*at), "{text:?} went to {meant:?}; {shown:?} does not");
        }
    }
}

/// The gateway's choice; `None`: it answers 4xx.
fn choose(table: Table, target: &Target<'_>) -> Option<usize> {
    let prefixes: Vec<Prefix> = table.iter().map(|(p, _)| Prefix::new(p).unwrap()).collect();
    let covering = (0..table.len()).filter(|&at| prefixes[at].covers(target));
    let at = covering.max_by_key(|&at| prefixes[at].stem().len())?;
    target.permitted_by(&table[at].1, &prefixes[at]).ok().map(|()| at)
}

/// The longest prefix for an upstream that takes `path` as it is: whole segments, case aside.
fn literal(table: Table, path: &[u8]) -> Option<usize> {
    let path = String::from_utf8_lossy(path).to_uppercase();
    let inside = |prefix: &str| {
        let below = path.strip_prefix(prefix.trim_end_matches('/').to_uppercase().as_str());
        below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let sent = |prefix: &str| prefix.replace('\u{e9}', "%c3%a9");
    let found = (0..table.len()).filter(|&at| inside(table[at].0) || inside(&sent(table[at].0)));
    found.max_by_key(|&at| table[at].0.trim_end_matches('/').len())
}

type Reading = fn(&[u8]) -> Vec<u8>;

/// Ways in which upstreams are known to read a path.
const READINGS: [Reading; 14] = [
    |p| percent_encoding::percent_decode(p).collect(),
    dot_segments,
    |p| {
        let mut out = p.to_vec();
        out.dedup_by(|a, b| (*a, *b) == (b'/', b'/'));
        out
    },
    |p| p.iter().map(|&b| if b == b'\\' { b'/' } else { b }).collect(),
    |p| each_segment(p, |s| cut(s, b";")),
    |p| cut(p, b";"),
    |p| p.to_ascii_lowercase(),
    |p| String::from_utf8_lossy(p).to_lowercase().into_bytes(),
    |p| String::from_utf8_lossy(p).to_uppercase().into_bytes(),
    |p| {
        each_segment(p, |s| {
            let end = s.iter().rposition(|b| !b". ".contains(b)).map_or(0, |at| at + 1);
            s[..end].to_vec()
        })
    },
    |p| cut(p, b"\0"),
    |p| cut(p, b"?#"),
    plainer,
    |p| mapped(p, |c| (!"\u{ad}\u{200b}\u{200c}\u{200d}\u{2060}\u{feff}".contains(c)).then_some(c)),
];

/// Wide letters and signs as plain ones, and two more that stand for letters.
fn plainer(path: &[u8]) -> Vec<u8> {
    mapped(path, |c| match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0),
        '\u{2024}' => Some('.'),
        '\u{a0}' | '\u{3000}' => Some(' '),
        other => Some(other),
    })
}

fn mapped(path: &[u8], map: impl Fn(char) -> Option<char>) -> Vec<u8> {
    match std::str::from_utf8(path) {
        Ok(text) => text.chars().filter_map(map).collect::<String>().into_bytes(),
        Err(_) => path.to_vec(),
    }
}

/// RFC 3986 5.2.4.
fn dot_segments(path: &[u8]) -> Vec<u8> {
    let mut kept: Vec<&[u8]> = Vec::new();
    let segments: Vec<&[u8]> = path.split(|&b| b == b'/').skip(1).collect();
    for (at, segment) in segments.iter().enumerate() {
        match *segment {
            b"." | b".." => {
                if *segment == b".." {
                    kept.pop();
                }
                if at + 1 == segments.len() {
                    kept.push(b"");
                }
            }
            other => kept.push(other),
        }
    }
    kept.iter().flat_map(|segment| [b"/", *segment].concat()).collect()
}

fn each_segment(path: &[u8], change: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let segments: Vec<Vec<u8>> = path.split(|&b| b == b'/').map(change).collect();
    segments.join(&b'/')
}

fn cut(path: &[u8], at: &[u8]) -> Vec<u8> {
    path.split(|b| at.contains(b)).next().unwrap_or_default().to_vec()
}

/// Every form that up to `depth` readings in any order make of `path`, itself included.
fn forms(path: &[u8], depth: usize) -> BTreeSet<Vec<u8>> {
    let mut all = BTreeSet::from([path.to_vec()]);
    let mut newest = all.clone();
    for _ in 0..depth {
        let next = newest.iter().flat_map(|path| READINGS.iter().map(|read| read(path)));
        newest = next.filter(|path| !all.contains(path)).collect();
        all.extend(newest.iter().cloned());
    }
    all
}

fn check_prefix(configured: &str, text: &str) {
    let prefix = match Prefix::new(configured) {
        Ok(prefix) => prefix,
        Err(what) => return assert!(what.len() > 20, "{configured:?} is not explained: {what}"),
    };
    assert!(!prefix.stem().ends_with('/'), "{prefix:?}");
    // A client that asks for the very path that was configured gets there; letters outside ASCII
    // have other cases, of which one is asked for.
    let decoded: Vec<u8> = percent_encoding::percent_decode_str(configured).collect();
    if decoded.is_ascii() {
        let asked = configured.replace(' ', "%20");
        let asked = Target::parse(&asked).expect("a configured path can be asked for");
        assert_eq!(asked.permitted_by(&STRICT, &prefix), Ok(()), "{configured:?}");
    }
    if let Ok(target) = Target::parse(text)
        && target.permitted_by(&ALL, &prefix).is_ok()
    {
        assert!(prefix.covers(&target));
        let canonical = target.canonical();
        let below = canonical.strip_prefix(prefix.stem()).expect("what is permitted lies below");
        assert!(below.is_empty() || below.starts_with('/'), "{configured:?} {text:?}");
    }
}

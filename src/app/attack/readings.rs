//! Ways in which applications read a path before they decide what it names. Each was seen in some server,
//! framework or file system; together they are the measure for what a forwarded path may turn into.
//!
//! It knows nothing of how the gateway reads paths: the tests measure the gateway by it.

use std::collections::BTreeMap;

/// One way to read a path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    /// What an application does that reads so.
    pub(crate) name: &'static str,
    apply: fn(&[u8]) -> Vec<u8>,
}

/// All of them.
pub(crate) const READINGS: &[Reading] = &[
    Reading { name: "decodes percent codes", apply: decoded },
    Reading { name: "decodes %uXXXX (IIS)", apply: decoded_wide },
    Reading { name: "accepts overlong UTF-8", apply: overlong },
    Reading { name: "resolves dot segments", apply: dot_segments },
    Reading { name: "merges slashes", apply: merged },
    Reading { name: "takes a backslash for a slash", apply: backslashes },
    Reading { name: "cuts parameters off segments", apply: |path| each(path, |s| cut(s, b";")) },
    Reading { name: "cuts the path at ;", apply: |path| cut(path, b";").to_vec() },
    Reading { name: "cuts the path at NUL", apply: |path| cut(path, b"\0").to_vec() },
    Reading { name: "cuts the path at ? or #", apply: |path| cut(path, b"?#").to_vec() },
    Reading {
        name: "cuts dots and white space at ends of segments (Windows)",
        apply: |path| each(path, ends),
    },
    Reading { name: "takes an NTFS stream for its file (Windows)", apply: |path| each(path, file) },
    Reading { name: "drops tabs and line breaks (WHATWG URL)", apply: without_breaks },
    Reading { name: "takes + for a space", apply: spaced },
    Reading { name: "drops cookieless segments (ASP.NET)", apply: without_tickets },
    Reading { name: "ignores the case of letters", apply: lower },
    Reading { name: "compares capitals", apply: upper_lower },
    Reading { name: "maps each letter to one (Java, C, Go)", apply: lower_one },
    Reading { name: "maps letters of other widths and ligatures (NFKC)", apply: compatible },
    Reading { name: "ignores invisible characters", apply: visible },
];

/// More forms than these of one path are not looked at.
const MAX_FORMS: usize = 4000;

/// Every form that up to `depth` readings, one after the other, make of `path`, with the names of those that
/// made it. The path itself is one, made by none.
pub(crate) fn forms(path: &[u8], depth: usize) -> BTreeMap<Vec<u8>, Vec<&'static str>> {
    let mut all = BTreeMap::from([(path.to_vec(), Vec::new())]);
    let mut newest = vec![path.to_vec()];
    for _ in 0..depth {
        let mut next = Vec::new();
        for form in newest {
            let names = all.get(&form).cloned().unwrap_or_default();
            for reading in READINGS {
                let read = (reading.apply)(&form);
                if !all.contains_key(&read) && all.len() < MAX_FORMS {
                    let mut names = names.clone();
                    names.push(reading.name);
                    all.insert(read.clone(), names);
                    next.push(read);
                }
            }
        }
        newest = next;
    }
    all
}

/// Whether `form` is `stem` or lies below it, as an application sees it that takes letters as they are.
pub(crate) fn is_below(form: &[u8], stem: &str) -> bool {
    match form.strip_prefix(stem.as_bytes()) {
        Some(rest) => rest.is_empty() || rest.starts_with(b"/"),
        None => false,
    }
}

fn decoded(path: &[u8]) -> Vec<u8> {
    percent_encoding::percent_decode(path).collect()
}

fn decoded_wide(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&first, behind)) = rest.split_first() {
        let code = rest.get(2..6).filter(|_| rest.starts_with(b"%u") || rest.starts_with(b"%U"));
        let code = code.and_then(|code| str::from_utf8(code).ok());
        let code = code.and_then(|code| u32::from_str_radix(code, 16).ok());
        match code.and_then(char::from_u32) {
            Some(c) => {
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                rest = rest.get(6..).unwrap_or_default();
            }
            None => {
                out.push(first);
                rest = behind;
            }
        }
    }
    out
}

/// Two and three bytes for what needs one: `c0 ae` is a dot, `e0 80 af` a slash.
fn overlong(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    loop {
        rest = match rest {
            [first @ (0xc0 | 0xc1), second, behind @ ..] => {
                out.push(((first & 0x1f) << 6) | (second & 0x3f));
                behind
            }
            [0xe0, second @ 0x80..0xa0, third, behind @ ..] => {
                out.push(((second & 0x01) << 6) | (third & 0x3f));
                behind
            }
            [first, behind @ ..] => {
                out.push(*first);
                behind
            }
            [] => return out,
        };
    }
}

/// RFC 3986 5.2.4.
fn dot_segments(path: &[u8]) -> Vec<u8> {
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut segments = path.split(|&byte| byte == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            b"." | b".." => {
                if segment == b".." {
                    kept.pop();
                }
                if last {
                    kept.push(b"");
                }
            }
            other => kept.push(other),
        }
    }
    kept.iter().flat_map(|segment| [b"/", *segment].concat()).collect()
}

fn merged(path: &[u8]) -> Vec<u8> {
    let mut out = path.to_vec();
    out.dedup_by(|a, b| (*a, *b) == (b'/', b'/'));
    out
}

fn backslashes(path: &[u8]) -> Vec<u8> {
    path.iter().map(|&byte| if byte == b'\\' { b'/' } else { byte }).collect()
}

fn each(path: &[u8], change: impl Fn(&[u8]) -> &[u8]) -> Vec<u8> {
    let segments: Vec<&[u8]> = path.split(|&byte| byte == b'/').map(change).collect();
    segments.join(&b'/')
}

fn cut<'a>(path: &'a [u8], at: &[u8]) -> &'a [u8] {
    path.split(|byte| at.contains(byte)).next().unwrap_or_default()
}

/// Dot, space, the line and paragraph separators, and the space mark of Ogham.
const ENDS: [&[u8]; 5] = [b".", b" ", b"\xe2\x80\xa8", b"\xe2\x80\xa9", b"\xe1\x9a\x80"];

fn ends(mut segment: &[u8]) -> &[u8] {
    if matches!(segment, b"." | b"..") {
        return segment;
    }
    while let Some(rest) = ENDS.iter().find_map(|end| segment.strip_suffix(*end)) {
        segment = rest;
    }
    segment
}

/// `name:stream:$TYPE`, where the name of the stream may be missing.
fn file(segment: &[u8]) -> &[u8] {
    match segment.windows(2).any(|two| two == b":$") {
        true => cut(segment, b":"),
        false => segment,
    }
}

fn without_breaks(path: &[u8]) -> Vec<u8> {
    path.iter().copied().filter(|byte| !b"\t\r\n".contains(byte)).collect()
}

fn spaced(path: &[u8]) -> Vec<u8> {
    path.iter().map(|&byte| if byte == b'+' { b' ' } else { byte }).collect()
}

/// Without segments such as `(S(x))` and `(F(x)S(y))`.
fn without_tickets(path: &[u8]) -> Vec<u8> {
    let is_ticket = |segment: &[u8]| {
        let inner = segment.strip_prefix(b"(").and_then(|rest| rest.strip_suffix(b"))"));
        inner.is_some_and(|inner| {
            inner.split(|&byte| byte == b')').all(
                |value| matches!(value, [b'A'..=b'Z' | b'a'..=b'z', b'(', rest @ ..] if !rest.contains(&b'(')),
            )
        })
    };
    let kept: Vec<&[u8]> = path.split(|&byte| byte == b'/').filter(|it| !is_ticket(it)).collect();
    kept.join(&b'/')
}

fn lower(path: &[u8]) -> Vec<u8> {
    text(path, str::to_lowercase)
}

/// Where the standard library has a dot of its own behind the `i`.
fn lower_one(path: &[u8]) -> Vec<u8> {
    text(path, |text| text.replace('\u{130}', "i").to_lowercase())
}

/// Some letters meet only as capitals.
fn upper_lower(path: &[u8]) -> Vec<u8> {
    text(path, |text| text.to_uppercase().to_lowercase())
}

fn text(path: &[u8], change: impl Fn(&str) -> String) -> Vec<u8> {
    match str::from_utf8(path) {
        Ok(text) => change(text).into_bytes(),
        Err(_) => path.to_vec(),
    }
}

/// What Unicode's compatibility mapping makes of the characters that matter in a path: wide letters, dot
/// leaders, ligatures; and an accent of its own joined with its letter.
fn compatible(path: &[u8]) -> Vec<u8> {
    let map = |c: char| match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c).to_string(),
        '\u{3000}' | '\u{a0}' | '\u{2000}'..='\u{200a}' => " ".to_owned(),
        '\u{2024}' => ".".to_owned(),
        '\u{2025}' => "..".to_owned(),
        '\u{2026}' => "...".to_owned(),
        '\u{2100}' => "a/c".to_owned(),
        '\u{24d0}'..='\u{24e9}' => ascii(u32::from(c) - 0x24d0),
        '\u{1d41a}'..='\u{1d433}' => ascii(u32::from(c) - 0x1d41a),
        '\u{fb01}' => "fi".to_owned(),
        '\u{2139}' => "i".to_owned(),
        '\u{17f}' => "s".to_owned(),
        '\u{212a}' => "K".to_owned(),
        '\u{2170}' => "i".to_owned(),
        '\u{217f}' => "m".to_owned(),
        '\u{217e}' => "d".to_owned(),
        '\u{1d43}' | '\u{aa}' => "a".to_owned(),
        '\u{207f}' => "n".to_owned(),
        other => other.to_string(),
    };
    text(path, |text| text.chars().map(map).collect::<String>().replace("e\u{301}", "\u{e9}"))
}

fn ascii(letter: u32) -> String {
    char::from_u32(u32::from(b'a') + letter).map_or_else(String::new, String::from)
}

/// HFS+ does, and so do many comparisons of names.
fn visible(path: &[u8]) -> Vec<u8> {
    let invisible = |c: &char| {
        matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}')
    };
    text(path, |text| text.chars().filter(|c| !invisible(c)).collect())
}

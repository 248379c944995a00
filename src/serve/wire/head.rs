//! Judges a request head or a trailer section, line by line (RFC 9112 2 to 6).
//!
//! It keeps no bytes and moves none: the caller shows it the section from its first byte on, as
//! often as more arrives, and every byte is looked at once. It must accept only what hyper reads
//! in exactly the same way.

use memchr::memchr;

use super::WireLimits;
use super::violation::Violation;

/// The longest method that is looked at. The longest registered one has 17 bytes.
const MAX_METHOD: usize = 32;

/// How the bytes behind a request head are framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framing {
    /// The request body (RFC 9112 6.3).
    pub body: Body,
    /// The request has an `Upgrade` field and is HTTP/1.1: the connection may become a tunnel.
    /// True without `Connection: upgrade` too, because that is when hyper offers the upgrade.
    pub upgrade: bool,
}

/// The length of a request body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Chunked transfer coding.
    Chunked,
    /// No body.
    Empty,
    /// This many bytes, at least one.
    Length(u64),
}

/// Judges one complete request head, from its first byte to its empty line.
///
/// # Errors
/// The first violation, in the order of the bytes; [`Violation::HeadIncomplete`] when the empty
/// line is missing, and when bytes follow it.
pub fn judge_head(head: &[u8], limits: &WireLimits) -> Result<Framing, Violation> {
    let mut section = Section::head();
    match section.advance(head, limits)? {
        Some(len) if len == head.len() => Ok(section.framing()),
        _ => Err(Violation::HeadIncomplete),
    }
}

/// A head or trailer section whose lines are judged as they arrive.
#[derive(Debug)]
pub(super) struct Section {
    part: Part,
    /// Where the first line that is not judged yet starts.
    line: usize,
    /// Everything before this offset was searched for LF.
    searched: usize,
    fields: usize,
    blank_line: bool,
    http10: bool,
    chunked: bool,
    upgrade: bool,
    length: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    RequestLine,
    Fields,
    Trailer,
}

impl Section {
    pub(super) fn head() -> Self {
        Self {
            part: Part::RequestLine,
            line: 0,
            searched: 0,
            fields: 0,
            blank_line: false,
            http10: false,
            chunked: false,
            upgrade: false,
            length: None,
        }
    }

    pub(super) fn trailer() -> Self {
        Self { part: Part::Trailer, ..Self::head() }
    }

    /// The framing that a complete head asks for.
    pub(super) fn framing(&self) -> Framing {
        let body = match (self.chunked, self.length) {
            (true, _) => Body::Chunked,
            (false, None | Some(0)) => Body::Empty,
            (false, Some(length)) => Body::Length(length),
        };
        Framing { body, upgrade: self.upgrade && !self.http10 }
    }

    /// Judges what arrived. `bytes` starts at the section's first byte and holds all that it held
    /// in the call before. `Some(length)` once the section is complete.
    pub(super) fn advance(
        &mut self,
        bytes: &[u8],
        limits: &WireLimits,
    ) -> Result<Option<usize>, Violation> {
        loop {
            let found = memchr(b'\n', bytes.get(self.searched..).unwrap_or_default());
            let end = match found {
                Some(at) => self.searched + at + 1,
                None => bytes.len(),
            };
            // Bounds come before content, so that a line is refused alike whether it came in
            // one piece or not.
            let line = bytes.get(self.line..end).unwrap_or_default();
            self.check_bounds(line, end, limits)?;
            self.searched = end;
            if found.is_none() {
                return Ok(None);
            }
            self.line = end;
            let Some(line) = line.strip_suffix(b"\r\n") else {
                return Err(Violation::BareLf);
            };
            if self.judge_line(line, limits)? {
                return Ok(Some(end));
            }
        }
    }

    /// `line` is the current line as far as it is known, `end` its end within the section.
    fn check_bounds(&self, line: &[u8], end: usize, limits: &WireLimits) -> Result<(), Violation> {
        if self.part == Part::RequestLine {
            let most = limits.request_line.saturating_add(2).min(limits.head);
            if line.len() > most {
                return Err(match line.iter().take(MAX_METHOD + 1).any(|&b| b == b' ') {
                    true => Violation::UriTooLong,
                    false => Violation::MethodTooLong,
                });
            }
        }
        match end > limits.head {
            true if self.part == Part::Trailer => Err(Violation::TrailerTooLarge),
            true => Err(Violation::HeadTooLarge),
            false => Ok(()),
        }
    }

    /// Judges one line without its CR LF. True: it ends the section.
    fn judge_line(&mut self, line: &[u8], limits: &WireLimits) -> Result<bool, Violation> {
        match (self.part, line.is_empty()) {
            (Part::RequestLine, true) if self.blank_line => Err(Violation::BlankLines),
            (Part::RequestLine, true) => {
                self.blank_line = true;
                Ok(false)
            }
            (Part::RequestLine, false) => {
                self.http10 = judge_request_line(line)?;
                self.part = Part::Fields;
                Ok(false)
            }
            (Part::Fields | Part::Trailer, true) => Ok(true),
            (Part::Fields | Part::Trailer, false) => {
                self.fields += 1;
                if self.fields > limits.fields {
                    return Err(Violation::TooManyFields);
                }
                let (name, value) = split_field(line)?;
                if self.part == Part::Fields {
                    self.note_framing(name, value)?;
                }
                Ok(false)
            }
        }
    }

    /// Keeps what the field says about the body. Trailers never come here (RFC 9110 6.5.1).
    fn note_framing(&mut self, name: &[u8], value: &[u8]) -> Result<(), Violation> {
        // The length alone clears nearly every field.
        match name.len() {
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.upgrade = true,
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                if self.length.is_some() {
                    return Err(Violation::ContentLengthRepeated);
                }
                self.length = Some(parse_length(trim_ows(value))?);
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if self.http10 {
                    return Err(Violation::TransferEncodingInHttp10);
                }
                if self.chunked || !trim_ows(value).eq_ignore_ascii_case(b"chunked") {
                    return Err(Violation::TransferEncoding);
                }
                self.chunked = true;
            }
            _ => return Ok(()),
        }
        match self.chunked && self.length.is_some() {
            true => Err(Violation::LengthAndEncoding),
            false => Ok(()),
        }
    }
}

/// True: HTTP/1.0.
fn judge_request_line(line: &[u8]) -> Result<bool, Violation> {
    check_controls(line)?;
    let mut words = line.splitn(3, |&b| b == b' ');
    let (Some(method), Some(target), Some(version)) = (words.next(), words.next(), words.next())
    else {
        return Err(Violation::RequestLine);
    };
    if method.is_empty() || !method.iter().all(|&b| has_class(b, TOKEN)) {
        return Err(Violation::RequestLine);
    }
    if method.len() > MAX_METHOD {
        return Err(Violation::MethodTooLong);
    }
    let http10 = match version {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9'] => return Err(Violation::Version),
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
            return Err(Violation::Version);
        }
        _ => return Err(Violation::RequestLine),
    };
    if method == b"CONNECT" {
        return Err(Violation::Connect);
    }
    judge_target(target)?;
    Ok(http10)
}

/// Form and bytes of the target (RFC 9112 3.2). What the path means is judged by the router.
fn judge_target(target: &[u8]) -> Result<(), Violation> {
    let known_form = match target {
        [b'/', ..] | b"*" => true,
        _ => [&b"http://"[..], b"https://"].iter().any(|scheme| {
            target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
        }),
    };
    let mut class = PATH;
    for &byte in target {
        if !has_class(byte, class) {
            return Err(Violation::Target);
        }
        if byte == b'?' {
            class = QUERY;
        }
    }
    match known_form {
        true => Ok(()),
        false => Err(Violation::Target),
    }
}

/// Splits `name: value`, both checked.
fn split_field(line: &[u8]) -> Result<(&[u8], &[u8]), Violation> {
    let stop = line.iter().position(|&b| !has_class(b, TOKEN));
    let (name, rest) = line.split_at_checked(stop.unwrap_or(line.len())).unwrap_or_default();
    match (name, rest) {
        ([], [b' ' | b'\t', ..]) => Err(Violation::ObsFold),
        ([_, ..], [b':', value @ ..]) => {
            check_controls(value)?;
            Ok((name, value))
        }
        ([_, ..], [b' ' | b'\t', ..]) => Err(Violation::SpaceBeforeColon),
        (_, [b'\r', ..]) => Err(Violation::BareCr),
        (_, [0, ..]) => Err(Violation::Nul),
        _ => Err(Violation::FieldName),
    }
}

/// Refuses every control byte but HTAB. One pass without early exit, so that it is vectorised.
fn check_controls(text: &[u8]) -> Result<(), Violation> {
    let is_bad = |b: u8| (b < 0x20 && b != b'\t') | (b == 0x7f);
    if !text.iter().fold(false, |bad, &b| bad | is_bad(b)) {
        return Ok(());
    }
    Err(match text.iter().find(|&&b| is_bad(b)) {
        Some(b'\r') => Violation::BareCr,
        Some(0) => Violation::Nul,
        _ => Violation::ControlByte,
    })
}

/// `1*DIGIT` (RFC 9110 8.6), at most `i64::MAX` so that every peer can count it.
fn parse_length(value: &[u8]) -> Result<u64, Violation> {
    if value.contains(&b',') {
        return Err(Violation::ContentLengthRepeated);
    }
    if value.is_empty() {
        return Err(Violation::ContentLength);
    }
    let mut length: i64 = 0;
    for byte in value {
        length = match byte {
            b'0'..=b'9' => {
                length.checked_mul(10).and_then(|tens| tens.checked_add(i64::from(byte - b'0')))
            }
            _ => None,
        }
        .ok_or(Violation::ContentLength)?;
    }
    u64::try_from(length).map_err(|_| Violation::ContentLength)
}

/// Without the optional white space around a value (RFC 9110 5.6.3): SP and HTAB only.
fn trim_ows(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// RFC 9110 5.6.2 `tchar`.
const TOKEN: u8 = 1;
/// May stand raw in a target before its `?`. `\` may not, because some servers read it as `/`; the
/// other gaps are what hyper refuses as well.
const PATH: u8 = 2;
/// May stand raw behind the `?`. Browsers leave `\`, `` ` ``, `|`, `^` and braces as they are.
const QUERY: u8 = 4;

#[expect(clippy::indexing_slicing, reason = "runs in the compiler, below 0x7f")]
static CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte: u8 = 0x21;
    while byte < 0x7f {
        let mut class = PATH | QUERY | TOKEN;
        if matches!(byte, b'#' | b'<' | b'>') {
            class &= !(PATH | QUERY);
        }
        if matches!(byte, b'\\' | b'`') {
            class &= !PATH;
        }
        if byte == b'"' {
            class &= !QUERY;
        }
        if matches!(
            byte,
            b'"' | b'(' | b')' | b',' | b'/' | b':'..=b'@' | b'['..=b']' | b'{' | b'}'
        ) {
            class &= !TOKEN;
        }
        classes[byte as usize] = class;
        byte += 1;
    }
    classes
};

fn has_class(byte: u8, class: u8) -> bool {
    CLASSES.get(usize::from(byte)).is_some_and(|have| have & class != 0)
}

//! A strict reader of HTTP/1.1 answers (RFC 9112), for what the client gets and for what an application said.

/// Whether an answer came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whole {
    Yes,
    No,
}

#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    fields: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) body: Vec<u8>,
    pub(super) whole: Whole,
    /// Whether a gateway may refuse it although it can be read.
    pub(super) doubtful: bool,
}

impl Answer {
    pub(super) fn all(&self, name: &str) -> Vec<&[u8]> {
        let same = self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes()));
        same.map(|(_, value)| value.as_slice()).collect()
    }
}

/// All final answers in what a client got until the end of its connection.
pub(super) fn read(bytes: &[u8]) -> Result<Vec<Answer>, &'static str> {
    let mut answers = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (answer, behind) = one(rest, true)?;
        let over = answer.whole == Whole::No;
        rest = behind;
        if answer.status >= 200 || answer.status == 101 {
            answers.push(answer);
        }
        if over {
            break;
        }
    }
    Ok(answers)
}

/// The final answer that an application gave, and what it sent behind; `None`: a strict reader finds none.
pub(super) fn first(bytes: &[u8], closes: bool) -> (Option<Answer>, &[u8]) {
    let mut rest = bytes;
    let mut interim = 0;
    loop {
        let Ok((mut answer, behind)) = one(rest, closes) else { return (None, b"") };
        rest = behind;
        if answer.status == 101 {
            return (None, b"");
        }
        if answer.status >= 200 {
            answer.doubtful |= interim > 8;
            return (Some(answer), rest);
        }
        interim += 1;
    }
}

type Line<'a> = (&'a [u8], &'a [u8]);

fn line(bytes: &[u8]) -> Result<Line<'_>, &'static str> {
    let at = bytes.iter().position(|&byte| byte == b'\n').ok_or("no end of a line")?;
    let line = bytes[..at].strip_suffix(b"\r").ok_or("bare LF")?;
    if line.iter().any(|&byte| (byte < 0x20 && byte != b'\t') || byte == 0x7f) {
        return Err("control byte");
    }
    Ok((line, &bytes[at + 1..]))
}

fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

fn one(bytes: &[u8], closes: bool) -> Result<(Answer, &[u8]), &'static str> {
    let (status, mut rest) = line(bytes)?;
    let code = match status {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0' | b'1', b' ', code @ ..] => code,
        _ => return Err("status line"),
    };
    let (code, reason) = code.split_at_checked(3).ok_or("status")?;
    let text = std::str::from_utf8(code).map_err(|_| "status")?;
    if !code.iter().all(u8::is_ascii_digit) || !matches!(reason, [] | [b' ', ..]) {
        return Err("status");
    }
    let status: u16 = text.parse().map_err(|_| "status")?;
    if !(100..600).contains(&status) {
        return Err("status");
    }
    let doubtful = reason.is_empty() || !reason.is_ascii();
    let mut answer =
        Answer { status, fields: Vec::new(), body: Vec::new(), whole: Whole::Yes, doubtful };
    loop {
        let (field, behind) = line(rest)?;
        rest = behind;
        if field.is_empty() {
            break;
        }
        let colon = field.iter().position(|&byte| byte == b':').ok_or("no colon")?;
        let (name, value) = (&field[..colon], field[colon + 1..].trim_ascii());
        if !is_token(name) {
            return Err("field name");
        }
        answer.fields.push((name.to_vec(), value.to_vec()));
    }
    let size: usize = answer.fields.iter().map(|(name, value)| name.len() + value.len()).sum();
    answer.doubtful |= size > 16_000 || answer.fields.len() > 64;
    if answer.status < 200 || matches!(answer.status, 204 | 304) {
        return Ok((answer, rest));
    }
    let (lengths, codings) = (answer.all("content-length"), answer.all("transfer-encoding"));
    let length = match (&lengths[..], &codings[..]) {
        ([], []) => None,
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => return chunks(answer, rest),
        ([length], []) if !length.is_empty() && length.iter().all(u8::is_ascii_digit) => {
            let text = std::str::from_utf8(length).unwrap_or_default();
            Some(text.parse::<usize>().map_err(|_| "length")?)
        }
        _ => return Err("framing"),
    };
    match length {
        Some(length) if length <= rest.len() => {
            answer.body = rest[..length].to_vec();
            Ok((answer, &rest[length..]))
        }
        Some(_) => {
            (answer.body, answer.whole) = (rest.to_vec(), Whole::No);
            Ok((answer, b""))
        }
        None => {
            answer.body = rest.to_vec();
            answer.whole = if closes { Whole::Yes } else { Whole::No };
            Ok((answer, b""))
        }
    }
}

/// A chunked body; what is malformed or missing in it makes it end early.
fn chunks(mut answer: Answer, bytes: &[u8]) -> Result<(Answer, &[u8]), &'static str> {
    let mut rest = bytes;
    answer.whole = Whole::No;
    loop {
        let Ok((size, behind)) = line(rest) else { return Ok((answer, b"")) };
        let (size, extension) = match size.iter().position(|&byte| byte == b';') {
            Some(at) => (&size[..at], true),
            None => (size, false),
        };
        // Some servers fill sizes up with spaces; a reader of answers may pass over them.
        let padded = size.trim_ascii_end();
        answer.doubtful |= extension || padded.len() < size.len();
        let size = padded;
        let digits = !size.is_empty() && size.len() <= 16 && size.iter().all(u8::is_ascii_hexdigit);
        let size = std::str::from_utf8(size).ok().filter(|_| digits);
        let Some(size) = size.and_then(|size| u64::from_str_radix(size, 16).ok()) else {
            return Ok((answer, b""));
        };
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        rest = behind;
        if size == 0 {
            break;
        }
        let data = &rest[..size.min(rest.len())];
        answer.body.extend_from_slice(data);
        match rest[data.len()..].strip_prefix(b"\r\n") {
            Some(behind) if data.len() == size => rest = behind,
            _ => return Ok((answer, b"")),
        }
    }
    loop {
        let Ok((field, behind)) = line(rest) else { return Ok((answer, b"")) };
        rest = behind;
        if field.is_empty() {
            answer.whole = Whole::Yes;
            return Ok((answer, rest));
        }
        let name = field.split(|&byte| byte == b':').next().unwrap_or_default();
        if !is_token(name) || name.len() == field.len() {
            return Ok((answer, b""));
        }
        answer.doubtful = true;
    }
}

//! A strict reader of HTTP/1.1 (RFC 9112): what a byte stream says, and nothing beyond it. It is the
//! measure for what the application may see, so it shares no code with the gateway.

/// One request.
#[derive(Clone, Debug, Default)]
pub(super) struct Message {
    pub(super) method: Vec<u8>,
    pub(super) target: Vec<u8>,
    /// In the order in which they came, values without white space at their ends.
    pub(super) fields: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) body: Vec<u8>,
    /// Whether a gateway may refuse it although it is right.
    pub(super) doubtful: bool,
    /// Whether the connection ends with it.
    closes: bool,
}

impl Message {
    pub(super) fn all<'a>(&'a self, name: &str) -> Vec<&'a [u8]> {
        let same = |field: &&'a (Vec<u8>, Vec<u8>)| field.0.eq_ignore_ascii_case(name.as_bytes());
        self.fields.iter().filter(same).map(|(_, value)| value.as_slice()).collect()
    }

    /// The target without scheme and authority.
    pub(super) fn path(&self) -> &[u8] {
        let lower = self.target.to_ascii_lowercase();
        let scheme = [&b"http://"[..], b"https://"].into_iter().find(|s| lower.starts_with(s));
        let Some(scheme) = scheme else { return &self.target };
        let rest = &self.target[scheme.len()..];
        match rest.iter().position(|&byte| byte == b'/') {
            Some(at) => &rest[at..],
            None => b"/",
        }
    }

    /// The authority of an absolute target.
    pub(super) fn authority(&self) -> Option<&[u8]> {
        if self.target.starts_with(b"/") || !self.target.contains(&b'/') {
            return None;
        }
        let at = self.target.windows(3).position(|window| window == b"://")? + 3;
        let rest = &self.target[at..];
        Some(rest.split(|byte| b"/?".contains(byte)).next().unwrap_or(rest))
    }
}

/// How the stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// With a whole message, behind which another may come.
    Clean,
    /// With a message that ends the connection; what follows is nobody's.
    Closed,
    /// In the middle of something.
    Incomplete,
    /// With something that is no HTTP/1.1.
    Malformed(&'static str),
}

/// What a stream says.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    pub(super) messages: Vec<Message>,
    /// The message whose head is right and whose body is not, with the body as far as it goes.
    pub(super) broken: Option<Message>,
    pub(super) end: End,
}

/// Reads all of `bytes`.
pub(super) fn read(bytes: &[u8]) -> Reading {
    let mut reading = Reading { messages: Vec::new(), broken: None, end: End::Clean };
    let mut rest = bytes;
    let mut first = true;
    while !rest.is_empty() {
        // One empty line before a request line is forgiven (RFC 9112 2.2).
        let skipped = rest.strip_prefix(b"\r\n");
        let start = skipped.unwrap_or(rest);
        if start.is_empty() {
            reading.end = if first { End::Incomplete } else { End::Clean };
            return reading;
        }
        let (mut message, framing, behind) = match head(start) {
            Ok(found) => found,
            Err(end) => {
                reading.end = end;
                return reading;
            }
        };
        message.doubtful |= skipped.is_some();
        first = false;
        match body(framing, behind, &mut message) {
            Ok(left) => rest = left,
            Err(end) => {
                reading.broken = Some(message);
                reading.end = end;
                return reading;
            }
        }
        let closes = message.closes;
        reading.messages.push(message);
        if closes {
            reading.end = End::Closed;
            return reading;
        }
    }
    reading
}

enum Framing {
    Length(u64),
    Chunked,
}

type Line<'a> = (&'a [u8], &'a [u8]);

/// One line that ends with CRLF and holds no other control byte than HTAB, and what follows it.
fn line(bytes: &[u8]) -> Result<Line<'_>, End> {
    let Some(at) = bytes.iter().position(|&byte| byte == b'\n') else {
        let end = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        return Err(if control(end) { End::Malformed("control byte") } else { End::Incomplete });
    };
    let line = bytes[..at].strip_suffix(b"\r").ok_or(End::Malformed("bare LF"))?;
    if control(line) {
        return Err(End::Malformed("control byte"));
    }
    Ok((line, &bytes[at + 1..]))
}

fn control(bytes: &[u8]) -> bool {
    bytes.iter().any(|&byte| (byte < 0x20 && byte != b'\t') || byte == 0x7f)
}

fn token(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

fn trimmed(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

fn head(bytes: &[u8]) -> Result<(Message, Framing, &[u8]), End> {
    let (first, mut rest) = line(bytes)?;
    let words: Vec<&[u8]> = first.split(|&byte| byte == b' ').collect();
    let [method, target, version] = words[..] else {
        return Err(End::Malformed("request line"));
    };
    let old = match version {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        _ => return Err(End::Malformed("version")),
    };
    let bad = |byte: &u8| !(0x21..0x7f).contains(byte) || b"#".contains(byte);
    if !token(method) || target.is_empty() || target.iter().any(bad) {
        return Err(End::Malformed("request line"));
    }
    let mut message = Message {
        method: method.to_vec(),
        target: target.to_vec(),
        doubtful: old,
        closes: old,
        ..Message::default()
    };
    loop {
        let (field, behind) = line(rest)?;
        rest = behind;
        if field.is_empty() {
            break;
        }
        let colon = field.iter().position(|&byte| byte == b':');
        let colon = colon.ok_or(End::Malformed("no colon"))?;
        let (name, value) = (&field[..colon], trimmed(&field[colon + 1..]));
        if !token(name) {
            return Err(End::Malformed("field name"));
        }
        message.fields.push((name.to_vec(), value.to_vec()));
    }
    let framing = framing(&message, old)?;
    let options = message.all("connection").join(&b',').to_ascii_lowercase();
    let mut options = options.split(|&byte| byte == b',').map(trimmed);
    if options.any(|option| option == b"close") {
        message.closes = true;
    }
    Ok((message, framing, rest))
}

fn framing(message: &Message, old: bool) -> Result<Framing, End> {
    let (lengths, codings) = (message.all("content-length"), message.all("transfer-encoding"));
    match (&lengths[..], &codings[..]) {
        ([], []) => Ok(Framing::Length(0)),
        ([], [coding]) if !old && coding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
        ([length], []) if !length.is_empty() && length.iter().all(u8::is_ascii_digit) => {
            let text = std::str::from_utf8(length).unwrap_or_default();
            let length: u64 = text.parse().map_err(|_| End::Malformed("length"))?;
            if i64::try_from(length).is_err() {
                return Err(End::Malformed("length"));
            }
            Ok(Framing::Length(length))
        }
        _ => Err(End::Malformed("framing")),
    }
}

/// Takes the body; what follows it.
fn body<'a>(framing: Framing, bytes: &'a [u8], message: &mut Message) -> Result<&'a [u8], End> {
    let mut rest = bytes;
    if let Framing::Length(length) = framing {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let Some((data, behind)) = rest.split_at_checked(length) else {
            message.body = rest.to_vec();
            return Err(End::Incomplete);
        };
        message.body = data.to_vec();
        return Ok(behind);
    }
    let mut extensions = 0;
    loop {
        let (size, behind) = line(rest)?;
        let digits = size.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let extension = &size[digits..];
        if digits == 0 || digits > 16 {
            return Err(End::Malformed("chunk size"));
        }
        // Whoever counts may find them too many (RFC 9112 7.1.1).
        extensions += extension.len();
        message.doubtful |= extensions > 4000;
        if !matches!(trimmed(extension), [b';', ..]) && !extension.is_empty() {
            return Err(End::Malformed("chunk extension"));
        }
        let number = std::str::from_utf8(&size[..digits]).unwrap_or_default();
        let number = u64::from_str_radix(number, 16).map_err(|_| End::Malformed("chunk size"))?;
        let number = usize::try_from(number).unwrap_or(usize::MAX);
        rest = behind;
        if number == 0 {
            break;
        }
        let data = &rest[..number.min(rest.len())];
        message.body.extend_from_slice(data);
        rest = &rest[data.len()..];
        match rest {
            _ if data.len() < number => return Err(End::Incomplete),
            [b'\r', b'\n', behind @ ..] => rest = behind,
            [] | [b'\r'] => return Err(End::Incomplete),
            _ => return Err(End::Malformed("chunk end")),
        }
    }
    let trailers = rest.len();
    loop {
        let (field, behind) = line(rest)?;
        rest = behind;
        if field.is_empty() {
            return Ok(rest);
        }
        message.doubtful |= trailers - rest.len() > 500;
        let name = field.split(|&byte| byte == b':').next().unwrap_or_default();
        if !token(name) || name.len() == field.len() {
            return Err(End::Malformed("trailer"));
        }
    }
}

#[test]
fn reads_what_is_there_and_no_more() {
    let read = |text: &str| {
        let reading = read(text.as_bytes());
        (reading.messages.len(), reading.end)
    };
    let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(read(get), (1, End::Clean));
    assert_eq!(read(&get.repeat(3)), (3, End::Clean));
    assert_eq!(read(&format!("{get}GET")), (1, End::Incomplete));
    let close = "GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n";
    assert_eq!(read(&format!("{close}{get}")), (1, End::Closed));
    let post = |lines: &str, body: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n{body}");
    let (length, chunked) = ("Content-Length: 3\r\n", "Transfer-Encoding: chunked\r\n");
    assert_eq!(read(&post(length, &format!("abc{get}"))), (2, End::Clean));
    assert_eq!(read(&post(length, "ab")), (0, End::Incomplete));
    assert_eq!(read(&post(chunked, "3\r\nabc\r\n0\r\n\r\n")), (1, End::Clean));
    assert_eq!(read(&post(chunked, "3\r\nabcd\r\n0\r\n\r\n")).1, End::Malformed("chunk end"));
    assert_eq!(read(&post(chunked, "3\nabc\n0\n\n")).1, End::Malformed("bare LF"));
    let both = format!("{length}{chunked}");
    assert_eq!(read(&post(&both, "abc")).1, End::Malformed("framing"));
}

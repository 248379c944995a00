//! The cases of `tests/hostile/*.toml`: read, spread out and filled in. `tests/hostile/README.md` describes them.

use serde::Deserialize;

/// What must become of a case, beside the properties that hold for all.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Want {
    /// Nothing of it may reach the application.
    Refuse,
    /// It is odd, but right: it must reach the application.
    Pass,
    /// Either, as long as what reaches the application is what a strict reader reads.
    #[default]
    Safe,
}

/// Whom the application may take the client for.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Who {
    #[default]
    Nobody,
    Alice,
}

/// One entry of a file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    source: String,
    /// Whole bytes; or else the parts below.
    send: Option<String>,
    line: Option<String>,
    #[serde(default)]
    fields: Vec<String>,
    #[serde(default)]
    body: String,
    /// One case for each: stands where `{each}` does.
    #[serde(default)]
    each: Vec<String>,
    #[serde(default)]
    want: Want,
    #[serde(default)]
    who: Who,
}

#[derive(Debug, Deserialize)]
struct File {
    case: Vec<Entry>,
}

/// Bytes that still have places to be filled in, and what must become of them.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) send: Vec<u8>,
    pub(super) want: Want,
    pub(super) who: Who,
    /// Sent a few bytes at a time.
    pub(super) slowly: bool,
}

impl Case {
    pub(super) fn slow(self) -> Self {
        Self { name: format!("{} (in pieces)", self.name), slowly: true, ..self }
    }
}

/// The HTTP/1.1 cases of a file.
pub(super) fn cases(toml: &str) -> Vec<Case> {
    let file: File = toml::from_str(toml).unwrap_or_else(|error| panic!("{error}"));
    let mut cases = Vec::new();
    for entry in file.case {
        assert!(!entry.source.is_empty(), "{}: no source", entry.name);
        let text = entry.send.clone().unwrap_or_else(|| {
            let line = entry.line.as_deref().unwrap_or("GET /public/{id} HTTP/1.1");
            let fields: String = entry.fields.iter().map(|field| format!(r"{field}\r\n")).collect();
            format!(r"{line}\r\nHost: {{host}}\r\n{fields}\r\n{}", entry.body)
        });
        let spread: Vec<(String, String)> = match entry.each.is_empty() {
            true => vec![(entry.name.clone(), text)],
            false => {
                let one = |each: &String| {
                    (format!("{} {each}", entry.name), text.replace("{each}", each))
                };
                entry.each.iter().map(one).collect()
            }
        };
        cases.extend(spread.into_iter().map(|(name, text)| Case {
            name,
            send: unescaped(&text),
            want: entry.want,
            who: entry.who,
            slowly: false,
        }));
    }
    cases
}

/// `\r`, `\n`, `\t`, `\0`, `\\` and `\xHH`.
pub(super) fn unescaped(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        out.push(match chars.next() {
            Some('r') => b'\r',
            Some('n') => b'\n',
            Some('t') => b'\t',
            Some('0') => 0,
            Some('\\') => b'\\',
            Some('x') => {
                let code: String = chars.by_ref().take(2).collect();
                u8::from_str_radix(&code, 16).unwrap_or_else(|_| panic!("\\x{code} in {text}"))
            }
            other => panic!("\\{other:?} in {text}"),
        });
    }
    out
}

/// What stands for the places of a case.
#[derive(Clone, Debug)]
pub(super) struct Filling {
    pub(super) host: String,
    pub(super) token: String,
}

impl Filling {
    /// Fills in `{id}`, `{host}`, `{token}`, `{hidden}` (a whole request), `{hiddenlen}` and
    /// `{N*x}` (N times x).
    pub(super) fn fill(&self, bytes: &[u8], id: &str) -> Vec<u8> {
        let hidden = format!("GET /public/{id}-hidden HTTP/1.1\r\nHost: {}\r\n\r\n", self.host);
        let mut out = Vec::new();
        let mut rest = bytes;
        while let Some(start) = rest.iter().position(|&byte| byte == b'{') {
            out.extend_from_slice(&rest[..start]);
            let end = rest[start..].iter().position(|&byte| byte == b'}').map(|end| start + end);
            let name = end.and_then(|end| std::str::from_utf8(&rest[start + 1..end]).ok());
            let value = match name {
                Some("id") => Some(id.to_owned()),
                Some("host") => Some(self.host.clone()),
                Some("name") => self.host.split(':').next().map(str::to_owned),
                Some("port") => self.host.split(':').next_back().map(str::to_owned),
                Some("token") => Some(self.token.clone()),
                Some("hidden") => Some(hidden.clone()),
                Some("hiddenlen") => Some(hidden.len().to_string()),
                Some("hiddenhex") => Some(format!("{:x}", hidden.len())),
                Some(other) => other
                    .split_once('*')
                    .and_then(|(count, text)| Some(text.repeat(count.parse().ok()?))),
                None => None,
            };
            match (value, end) {
                (Some(value), Some(end)) => {
                    out.extend_from_slice(value.as_bytes());
                    rest = &rest[end + 1..];
                }
                _ => {
                    out.push(b'{');
                    rest = &rest[start + 1..];
                }
            }
        }
        out.extend_from_slice(rest);
        out
    }
}

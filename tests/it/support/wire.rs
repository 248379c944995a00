//! HTTP/1.1 messages as bytes: reads one message from a stream and keeps what was really sent.

use std::io;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt};

const MAX_HEAD: usize = 1 << 20;

/// One answer, as simple as it can be.
#[derive(Debug, Clone, Default)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// In the order in which they came; names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
    /// The connection ended before the body did.
    pub(crate) truncated: bool,
}

impl Response {
    /// The value of the header, or `None`. Several fields of one name are joined with `, `.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        joined(&self.headers, name)
    }

    /// All values of one name, for `Set-Cookie`.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let same = |(n, _): &&(String, String)| n.eq_ignore_ascii_case(name);
        self.headers.iter().filter(same).map(|(_, value)| value.as_str()).collect()
    }

    pub(crate) fn trailer(&self, name: &str) -> Option<String> {
        joined(&self.trailers, name)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; fails the test when it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {} {}", self.status, self.text()))
    }

    /// Fails the test with the whole answer unless the status is `want`.
    #[track_caller]
    pub(crate) fn expect(self, want: u16) -> Self {
        assert_eq!(self.status, want, "{:?}\n{}", self.headers, self.text());
        self
    }

    pub(crate) fn is_redirect(&self) -> bool {
        matches!(self.status, 301 | 302 | 303 | 307 | 308)
    }

    pub(crate) fn is_html(&self) -> bool {
        self.header("content-type").is_some_and(|kind| kind.starts_with("text/html"))
    }
}

fn joined(headers: &[(String, String)], name: &str) -> Option<String> {
    let same = |(n, _): &&(String, String)| n.eq_ignore_ascii_case(name);
    let values: Vec<&str> = headers.iter().filter(same).map(|(_, v)| v.as_str()).collect();
    if values.is_empty() { None } else { Some(values.join(", ")) }
}

/// The first line and the header fields of a message.
#[derive(Debug, Clone, Default)]
pub(crate) struct Head {
    pub(crate) raw: Vec<u8>,
    pub(crate) first_line: String,
    /// As they came: order and spelling kept.
    pub(crate) headers: Vec<(String, String)>,
}

impl Head {
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        joined(&self.headers, name)
    }

    fn chunked(&self) -> bool {
        self.header("transfer-encoding").is_some_and(|te| te.to_lowercase().contains("chunked"))
    }

    fn length(&self) -> Option<usize> {
        self.header("content-length")?.parse().ok()
    }
}

/// A body with the trailers that followed it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Body {
    /// Exactly the bytes on the wire, chunk framing included.
    pub(crate) raw: Vec<u8>,
    pub(crate) data: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
    pub(crate) truncated: bool,
}

/// A stream with the bytes that were read ahead.
#[derive(Debug)]
pub(crate) struct Reader<S> {
    pub(crate) stream: S,
    buffer: Vec<u8>,
}

impl<S: AsyncRead + Unpin> Reader<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    /// Whatever was read but not used yet.
    pub(crate) fn take_buffer(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffer)
    }

    /// Reads once; `false` = the peer is done (a reset counts as done).
    pub(crate) async fn fill(&mut self) -> bool {
        matches!(self.stream.read_buf(&mut self.buffer).await, Ok(n) if n > 0)
    }

    /// All bytes up to the end of the connection.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while self.fill().await {}
        self.take_buffer()
    }

    /// The next bytes up to and with `end`; `None` when the connection ends before.
    pub(crate) async fn until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = find(&self.buffer, end) {
                return Some(self.buffer.drain(..at + end.len()).collect());
            }
            if self.buffer.len() > MAX_HEAD || !self.fill().await {
                return None;
            }
        }
    }

    pub(crate) async fn exactly(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < length {
            if !self.fill().await {
                return None;
            }
        }
        Some(self.buffer.drain(..length).collect())
    }

    /// The next head; `None` when the connection ends before its empty line.
    pub(crate) async fn head(&mut self) -> Option<Head> {
        let raw = self.until(b"\r\n\r\n").await?;
        let text = String::from_utf8_lossy(&raw).into_owned();
        let mut lines = text.split("\r\n").take_while(|line| !line.is_empty());
        let first_line = lines.next().unwrap_or_default().to_owned();
        Some(Head { headers: lines.map(field).collect(), first_line, raw })
    }

    /// The body of a request with this head: no framing = no body.
    pub(crate) async fn request_body(&mut self, head: &Head) -> Body {
        if head.chunked() {
            self.chunks().await
        } else {
            self.sized(head.length().unwrap_or(0)).await
        }
    }

    /// Reads one final response (interim ones are passed over).
    pub(crate) async fn response(&mut self, bodyless: bool) -> io::Result<Response> {
        loop {
            let head = self.head().await.ok_or_else(|| {
                let got = String::from_utf8_lossy(&self.buffer).into_owned();
                io::Error::new(io::ErrorKind::UnexpectedEof, format!("no response, got {got:?}"))
            })?;
            let status = head.first_line.split(' ').nth(1).and_then(|code| code.parse().ok());
            let status: u16 = status.ok_or_else(|| io::Error::other(head.first_line.clone()))?;
            if (100..200).contains(&status) && status != 101 {
                continue;
            }
            let body = if bodyless || matches!(status, 101 | 204 | 304) {
                Body::default()
            } else if head.chunked() {
                self.chunks().await
            } else if let Some(length) = head.length() {
                self.sized(length).await
            } else {
                let data = self.rest().await;
                Body { raw: data.clone(), data, ..Body::default() }
            };
            return Ok(Response {
                status,
                headers: lower(head.headers),
                body: body.data,
                trailers: lower(body.trailers),
                truncated: body.truncated,
            });
        }
    }

    async fn sized(&mut self, length: usize) -> Body {
        match self.exactly(length).await {
            Some(data) => Body { raw: data.clone(), data, ..Body::default() },
            None => {
                let data = self.take_buffer();
                Body { raw: data.clone(), data, truncated: true, ..Body::default() }
            }
        }
    }

    async fn chunks(&mut self) -> Body {
        let mut body = Body { truncated: true, ..Body::default() };
        loop {
            let Some(line) = self.until(b"\r\n").await else {
                return body;
            };
            body.raw.extend_from_slice(&line);
            let text = String::from_utf8_lossy(&line).into_owned();
            let size = text.trim().split(';').next().unwrap_or_default();
            let Ok(size) = usize::from_str_radix(size, 16) else {
                return body;
            };
            if size == 0 {
                break;
            }
            let Some(data) = self.exactly(size + 2).await else {
                // Part of a chunk is part of the body that the peer has seen.
                body.data.extend_from_slice(&self.take_buffer());
                return body;
            };
            body.raw.extend_from_slice(&data);
            body.data.extend_from_slice(&data[..size]);
        }
        loop {
            let Some(line) = self.until(b"\r\n").await else {
                return body;
            };
            body.raw.extend_from_slice(&line);
            if line == b"\r\n" {
                body.truncated = false;
                return body;
            }
            body.trailers.push(field(String::from_utf8_lossy(&line).trim_end()));
        }
    }
}

fn lower(headers: Vec<(String, String)>) -> Vec<(String, String)> {
    headers.into_iter().map(|(name, value)| (name.to_lowercase(), value)).collect()
}

fn field(line: &str) -> (String, String) {
    let (name, value) = line.split_once(':').unwrap_or((line, ""));
    (name.to_owned(), value.trim().to_owned())
}

/// Where `needle` starts in `hay`.
pub(crate) fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len()).position(|window| window == needle)
}

//! One byte of every line that frames a message is replaced, inserted or deleted. A strict reader says which of
//! these still are requests, and where their bodies end; bodies hold a whole request, so that whoever reads
//! another length finds one that nobody sent.

use super::corpus::{Case, Want, Who};
use super::stand::Stand;

/// Bytes that some reader takes for white space, an end, a separator, a digit or a letter.
const BYTES: &[u8] = b"\0\t\n\x0b\x0c\r !\"+,-./09:;=_x\x7f\x80\xa0\xff";

/// Those that are inserted, too: what is replaced by the others says as much.
const INSERTED: &[u8] = b"\0\t\n\r ,:0x\xff";

/// What stands before the line that is changed, the line, and what follows it.
type Base = (&'static str, &'static str, &'static str, &'static str);

const POST: &str = "POST /public/{id} HTTP/1.1\r\nHost: {host}\r\n";
const CHUNKS: &str = "\r\n{hiddenhex}\r\n{hidden}\r\n0\r\n\r\n";
const CHUNKED: &str =
    "POST /public/{id} HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n";

const BASES: &[Base] = &[
    ("length", POST, "Content-Length: {hiddenlen}\r\n", "\r\n{hidden}"),
    ("coding", POST, "Transfer-Encoding: chunked\r\n", CHUNKS),
    (
        "coding beside a length",
        "POST /public/{id} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\n",
        "\r\n0\r\n\r\n{hidden}",
    ),
    (
        "length beside a coding",
        "POST /public/{id} HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\n",
        "\r\n0\r\n\r\n{hidden}",
    ),
    ("end of the chunks", CHUNKED, "0\r\n\r\n", "{hidden}"),
    ("chunk size", CHUNKED, "5;a=b\r\n", "hello\r\n0\r\n\r\n"),
    ("chunk end", CHUNKED, "5\r\nhello\r\n0\r\n", "\r\n{hidden}"),
    ("trailer", CHUNKED, "0\r\nX-Auth-User: evil\r\n\r\n", "{hidden}"),
    ("host", "GET /public/{id} HTTP/1.1\r\n", "Host: {host}\r\n", "\r\n{hidden}"),
    ("connection", POST, "Connection: close\r\n", "Content-Length: 0\r\n\r\n{hidden}"),
    ("nomination", POST, "Connection: Content-Length\r\n", "Content-Length: 3\r\n\r\nabc{hidden}"),
    ("expectation", POST, "Expect: 100-continue\r\n", "Content-Length: 3\r\n\r\nabc{hidden}"),
    ("version", "GET /public/{id}", " HTTP/1.1\r\n", "Host: {host}\r\n\r\n{hidden}"),
    (
        "method",
        "",
        "POST /public",
        "/{id} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 3\r\n\r\nabc",
    ),
    ("end of the head", POST, "X-A: b\r\n\r\n", "{hidden}"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_byte_makes_a_message_mean_two_things() {
    let stand = Stand::start().await;
    let mut cases = Vec::new();
    for (name, before, line, behind) in BASES {
        let line = stand.filling.fill(line.as_bytes(), "q00000z");
        for (at, changed) in mutations(&line) {
            let send = [before.as_bytes(), &changed, behind.as_bytes()].concat();
            let name = format!("{name} {at}");
            cases.push(Case {
                name,
                send,
                want: Want::Safe,
                who: Who::Nobody,
                slowly: at % 8 == 3,
            });
        }
    }
    stand.attack(cases).await.report("mutations");
}

/// The session counts for what is exactly its cookie, by a reading of our own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_byte_beside_our_cookie_makes_it_another_and_none_within_it_is_forgiven() {
    let stand = Stand::start().await;
    let token = stand.filling.token.clone();
    let line = format!("Cookie: a=1; __Host-portcullis={token}; b=2\r\n");
    let inner = line.find(&token).unwrap() + 3..line.find(&token).unwrap() + token.len() - 3;
    let mut cases = Vec::new();
    for (at, changed) in mutations(line.as_bytes()) {
        // All of the token's letters are alike.
        if inner.contains(&at) && at % 16 > 0 {
            continue;
        }
        let who = if carries(&changed, &token) { Who::Alice } else { Who::Nobody };
        let head = "GET /public/{id} HTTP/1.1\r\nHost: {host}\r\n";
        let send = [head.as_bytes(), &changed, b"\r\n"].concat();
        let name = format!("cookie {at}");
        cases.push(Case { name, send, want: Want::Safe, who, slowly: false });
    }
    stand.attack(cases).await.report("cookie mutations");
}

/// Whether a line is `Cookie` with exactly one cookie of our name, whose value is the token.
fn carries(line: &[u8], token: &str) -> bool {
    let Some((name, value)) = line.split_at_checked(7) else { return false };
    if !name.eq_ignore_ascii_case(b"cookie:") {
        return false;
    }
    let pairs = value.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
    let ours: Vec<&[u8]> =
        pairs.filter_map(|pair| pair.strip_prefix(b"__Host-portcullis=")).collect();
    ours == [token.as_bytes()]
}

/// The line itself, and every change of one byte, with its place.
fn mutations(line: &[u8]) -> Vec<(usize, Vec<u8>)> {
    let mut all = vec![(0, line.to_vec())];
    for at in 0..=line.len() {
        let (before, behind) = line.split_at(at);
        for byte in BYTES {
            if INSERTED.contains(byte) || super::is_thorough() {
                all.push((at, [before, &[*byte], behind].concat()));
            }
            if let Some((_, rest)) = behind.split_first() {
                all.push((at, [before, &[*byte], rest].concat()));
            }
        }
        if let Some((_, rest)) = behind.split_first() {
            all.push((at, [before, rest].concat()));
        }
    }
    all
}

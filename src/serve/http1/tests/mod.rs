//! Requests, good and bad, and what the reader makes of them.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod heads;
mod stream;
mod transport;

use super::*;

const LIMITS: HeadLimits = HeadLimits { request_line: 1024, head: 4096, fields: 32 };

/// Heads that must be refused, with the verdict.
fn bad_heads() -> Vec<(Vec<u8>, Violation)> {
    use Violation as V;
    let after_line = |rest: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{rest}").into_bytes();
    let target = |t: &[u8]| [b"GET ", t, b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
    let mut cases = vec![
        (b"GET / HTTP/1.1\nHost: a\n\n".to_vec(), V::BareLf),
        (b"GET / HTTP/1.1\r\nHost: a\n\r\n".to_vec(), V::BareLf),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\n".to_vec(), V::BareLf),
        (b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), V::BareLf),
        (b"\r\n\r\nGET / HTTP/1.1\r\n\r\n".to_vec(), V::BlankLines),
        (b"GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n".to_vec(), V::BareCr),
        (b"GET / HTTP/1.1\r\nHo\rst: a\r\n\r\n".to_vec(), V::BareCr),
        (b"GET /\rx HTTP/1.1\r\n\r\n".to_vec(), V::BareCr),
        (b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n".to_vec(), V::BareCr),
        (b"GET / HTTP/1.1\r\nHost: a\0\r\n\r\n".to_vec(), V::Nul),
        (b"GET / HTTP/1.1\r\nHo\0st: a\r\n\r\n".to_vec(), V::Nul),
        (b"GET /\0 HTTP/1.1\r\n\r\n".to_vec(), V::Nul),
        (after_line("X: a\x1bb\r\n\r\n"), V::ControlByte),
        (after_line("X: a\x7f\r\n\r\n"), V::ControlByte),
        (after_line("X: a\r\n b\r\n\r\n"), V::ObsFold),
        (after_line("X: a\r\n\tb\r\n\r\n"), V::ObsFold),
        (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n".to_vec(), V::ObsFold),
        (after_line("X : a\r\n\r\n"), V::SpaceBeforeColon),
        (after_line("Content-Length\t: 5\r\n\r\nhello"), V::SpaceBeforeColon),
        (after_line(": a\r\n\r\n"), V::FieldName),
        (after_line("X\r\n\r\n"), V::FieldName),
        (after_line("X(y): a\r\n\r\n"), V::FieldName),
        (after_line("X\u{e9}: a\r\n\r\n"), V::FieldName),
        (after_line("\"X\": a\r\n\r\n"), V::FieldName),
        (
            after_line("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            V::LengthAndEncoding,
        ),
        (
            after_line("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
            V::LengthAndEncoding,
        ),
        (
            after_line("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n"),
            V::LengthAndEncoding,
        ),
        (
            after_line("Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
            V::ContentLengthRepeated,
        ),
        (
            after_line("Content-Length: 5\r\ncontent-length: 5\r\n\r\nhello"),
            V::ContentLengthRepeated,
        ),
        (after_line("Content-Length: 5, 5\r\n\r\nhello"), V::ContentLengthRepeated),
        (after_line("Content-Length: +5\r\n\r\nhello"), V::ContentLength),
        (after_line("Content-Length: -1\r\n\r\nhello"), V::ContentLength),
        (after_line("Content-Length: 0x5\r\n\r\nhello"), V::ContentLength),
        (after_line("Content-Length: 5 5\r\n\r\nhello"), V::ContentLength),
        (after_line("Content-Length: \u{b2}\r\n\r\nhello"), V::ContentLength),
        (after_line("Content-Length:\r\n\r\nhello"), V::ContentLength),
        (after_line("Content-Length: 9223372036854775808\r\n\r\n"), V::ContentLength),
        (after_line("Content-Length: 18446744073709551621\r\n\r\n"), V::ContentLength),
        (after_line("Transfer-Encoding: identity\r\n\r\n"), V::TransferEncoding),
        (after_line("Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n"), V::TransferEncoding),
        (after_line("Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"), V::TransferEncoding),
        (after_line("Transfer-Encoding: chunked,\r\n\r\n0\r\n\r\n"), V::TransferEncoding),
        (after_line("Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"), V::TransferEncoding),
        (after_line("Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n"), V::TransferEncoding),
        (after_line("Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n"), V::TransferEncoding),
        (after_line("Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"), V::ControlByte),
        (after_line("Transfer-Encoding:\r\n\r\n"), V::TransferEncoding),
        (
            after_line("Transfer-Encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
            V::TransferEncoding,
        ),
        (
            b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(),
            V::TransferEncodingInHttp10,
        ),
        (b"GET /\r\n\r\n".to_vec(), V::RequestLine),
        (b"GET\r\n\r\n".to_vec(), V::RequestLine),
        (b"GET  / HTTP/1.1\r\n\r\n".to_vec(), V::RequestLine),
        (b"GET / HTTP/1.1 \r\n\r\n".to_vec(), V::RequestLine),
        (b"GET /  HTTP/1.1\r\n\r\n".to_vec(), V::RequestLine),
        (b" GET / HTTP/1.1\r\n\r\n".to_vec(), V::RequestLine),
        (b"GET\t/\tHTTP/1.1\r\n\r\n".to_vec(), V::RequestLine),
        (b"GET / HTTP/1.1\tx\r\n\r\n".to_vec(), V::RequestLine),
        (b"GET / http/1.1\r\n\r\n".to_vec(), V::RequestLine),
        (b"GET / HTTP/1.10\r\n\r\n".to_vec(), V::RequestLine),
        (b"GET / HTTP/01.1\r\n\r\n".to_vec(), V::RequestLine),
        (b"G(T / HTTP/1.1\r\n\r\n".to_vec(), V::RequestLine),
        (b"GET / HTTP/2.0\r\n\r\n".to_vec(), V::Version),
        (b"GET / HTTP/1.2\r\n\r\n".to_vec(), V::Version),
        (b"GET / HTTP/0.9\r\n\r\n".to_vec(), V::Version),
        (b"GET / HTTP/3\r\n\r\n".to_vec(), V::Version),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), V::Version),
        (b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), V::Connect),
        ([&[b'A'; 33][..], b" / HTTP/1.1\r\n\r\n"].concat(), V::MethodTooLong),
        ([&[b'A'; 70_000][..], b" / HTTP/1.1\r\n\r\n"].concat(), V::MethodTooLong),
        (target(&[b"/", &[b'a'; 1100][..]].concat()), V::UriTooLong),
        (target(&[b"/", &[b'a'; 70_000][..]].concat()), V::UriTooLong),
        (after_line(&format!("X: {}\r\n\r\n", "a".repeat(4096))), V::HeadTooLarge),
        (
            after_line(&"X: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n".repeat(2000)),
            V::TooManyFields,
        ),
        (after_line(&"Y:\r\n".repeat(32)), V::TooManyFields),
        (after_line(&format!("X: a\r\ncookie: {}\r\n\r\n", "a".repeat(4096))), V::CookiesTooLarge),
        (after_line(&format!("Cookie: {}", "a".repeat(4096))), V::CookiesTooLarge),
        (after_line(&"Cookie: aaaa\r\n".repeat(40)), V::CookiesTooLarge),
        (
            after_line(&format!("X: {}\r\nCookie: {}\r\n\r\n", "a".repeat(3000), "a".repeat(4096))),
            V::HeadTooLarge,
        ),
    ];
    for bad in [
        &b"/a#b"[..],
        b"#",
        b"/a b",
        b"/\\a",
        b"/a\x80",
        b"/caf\xc3\xa9",
        b"/?a b",
        b"/?\xff",
        b"/?#",
        b"/<",
        b"/>",
        b"a",
        b"",
        b"?a",
        b"a:443",
        b"ftp://a/",
        b"http:/a",
        b"**",
        b"*a",
        b"/a?b<",
    ] {
        let verdict = match bad.contains(&b' ') || bad.is_empty() {
            true if bad.is_empty() => V::Target,
            true => V::RequestLine,
            false => V::Target,
        };
        cases.push((target(bad), verdict));
    }
    cases
}

/// Complete requests that must pass byte for byte, with the framing of their head.
fn good_requests() -> Vec<(Vec<u8>, Framing)> {
    let none = Framing::Empty;
    let head = |rest: &str| format!("GET / HTTP/1.1\r\nHost: a\r\n{rest}\r\n").into_bytes();
    let chunked = |te: &str, body: &str| {
        let head = format!("POST /up HTTP/1.1\r\nHost: a\r\n{te}\r\n\r\n{body}");
        (head.into_bytes(), Framing::Chunked)
    };
    let line = |line: &str| (format!("{line}\r\nHost: a\r\n\r\n").into_bytes(), none);
    vec![
        line("GET / HTTP/1.1"),
        line("\r\nGET / HTTP/1.1"),
        line("GET /a/b.c?d=e&f=%20 HTTP/1.1"),
        line("GET /a|b^c{d}\"e'(f)!$&+,;=:@[]~ HTTP/1.1"),
        line("GET /?x=|^`{}\\'[] HTTP/1.1"),
        line("OPTIONS * HTTP/1.1"),
        line("GET http://a/b?c HTTP/1.1"),
        line("GET HTTPS://a:8443/b HTTP/1.1"),
        line("GET http://a HTTP/1.1"),
        line("VERSION-CONTROL /x HTTP/1.1"),
        line("M-SEARCH /x HTTP/1.1"),
        line("TRACE / HTTP/1.1"),
        (b"GET / HTTP/1.0\r\n\r\n".to_vec(), none),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\nHost: a\r\n\r\n".to_vec(), none),
        (b"GET / HTTP/1.0\r\nUpgrade: websocket\r\n\r\n".to_vec(), none),
        (b"POST / HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc".to_vec(), Framing::Length(3)),
        (head(&format!("Cookie: {}\r\n", "k=v; ".repeat(700))), none),
        (head(&"X: y\r\n".repeat(31)), none),
        (head("X:\r\nY: \r\nZ:\t v \t\r\n"), none),
        (head("X_y.z!#$%&'*+^`|~: caf\u{e9} \"q\" (c)\r\n"), none),
        (head("Host: b\r\n"), none),
        (head("Connection: Upgrade-Insecure-Requests, close\r\n"), none),
        (head("Content-Length: 0\r\n"), none),
        ([head("CONTENT-length:\t5 \r\n"), b"he\r\n\n".to_vec()].concat(), Framing::Length(5)),
        (
            [head("Content-Length: 0000000000000000000000005\r\n"), b"GET /".to_vec()].concat(),
            Framing::Length(5),
        ),
        (
            [head("Expect: 100-continue\r\nContent-Length: 5\r\n"), b"hello".to_vec()].concat(),
            Framing::Length(5),
        ),
        chunked("Transfer-Encoding: chunked", "0\r\n\r\n"),
        chunked("transfer-encoding:  cHuNkEd\t", "5\r\nhello\r\n000a\r\n0123456789\r\n0\r\n\r\n"),
        chunked("Transfer-Encoding: chunked", "5;a=b;c=\"d;\\\" e\"\r\nhello\r\n0;last\r\n\r\n"),
        chunked("Transfer-Encoding: chunked", "5 ;a\r\nhello\r\n0\t ; b\r\n\r\n"),
        chunked("Transfer-Encoding: chunked", "A\r\n\r\n0\r\n\r\nGET\r\n0000000000000000\r\n\r\n"),
        chunked(
            "Trailer: X-Sum\r\nTransfer-Encoding: chunked",
            "1\r\na\r\n0\r\nX-Sum: 1\r\nContent-Length: 7\r\n\r\n",
        ),
    ]
}

/// Chunked bodies that must break the connection.
fn bad_bodies() -> Vec<(Vec<u8>, Violation)> {
    use Violation as V;
    let long_extension = format!("1;{}\r\na\r\n", "e".repeat(4096));
    let many_extensions = format!("1;{}\r\na\r\n", "e".repeat(31)).repeat(300);
    let long_trailer = format!("0\r\n{}", "X: aaaaaaaaaaaaaaaa\r\n".repeat(33));
    let large_trailer = format!("0\r\nX: {}\r\n\r\n", "a".repeat(16 * 1024));
    [
        ("x\r\n", V::ChunkSize),
        ("\r\n", V::ChunkSize),
        (" 5\r\nhello\r\n", V::ChunkSize),
        ("0x5\r\nhello\r\n", V::ChunkSize),
        ("+5\r\nhello\r\n", V::ChunkSize),
        ("-1\r\n", V::ChunkSize),
        ("5_0\r\n", V::ChunkSize),
        ("00000000000000005\r\nhello\r\n", V::ChunkSize),
        ("10000000000000005\r\nhello\r\n", V::ChunkSize),
        (";a\r\n", V::ChunkSize),
        ("5\nhello\r\n", V::ChunkLine),
        ("5 \r\nhello\r\n", V::ChunkLine),
        ("5 5\r\nhello\r\n", V::ChunkLine),
        ("5\rhello\r\n", V::ChunkLine),
        ("5\r\r\nhello\r\n", V::ChunkLine),
        ("5;a\nb\r\nhello\r\n", V::ChunkLine),
        ("5;a\rb\r\nhello\r\n", V::ChunkLine),
        ("5;a\0\r\nhello\r\n", V::ChunkLine),
        (&long_extension, V::ChunkExtensions),
        (&many_extensions, V::ChunkExtensions),
        ("5\r\nhelloX\r\n", V::ChunkEnd),
        ("5\r\nhello\n0\r\n\r\n", V::ChunkEnd),
        ("5\r\nhello\r0\r\n\r\n", V::ChunkEnd),
        ("5\r\nhello0\r\n\r\n", V::ChunkEnd),
        ("0\r\nX: a\n\r\n", V::BareLf),
        ("0\r\n\n", V::BareLf),
        ("0\r\nX : a\r\n\r\n", V::SpaceBeforeColon),
        ("0\r\n X: a\r\n\r\n", V::ObsFold),
        ("0\r\nX: a\0\r\n\r\n", V::Nul),
        ("0\r\nGET / HTTP/1.1\r\n\r\n", V::SpaceBeforeColon),
        (&long_trailer, V::TooManyFields),
        (&large_trailer, V::TrailerTooLarge),
    ]
    .map(|(body, violation)| {
        let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        ([head, body.as_bytes()].concat(), violation)
    })
    .to_vec()
}

//! Requests that are malformed (section 8).

use super::case::{COMPRESSION_ERROR, Case, Kit, PROTOCOL_ERROR, Want, case, data, open, whole};
use crate::support::h2raw::{END_HEADERS, END_STREAM, PUSH_PROMISE, block, frame};

const MALFORMED: Want = Want::Stream(&[PROTOCOL_ERROR]);
/// h2spec asks for PROTOCOL_ERROR. The library stops unpacking at a malformed name and so loses the state of
/// compression, which is an error of the connection and has this name.
const NOT_UNPACKED: Want = Want::Connection(&[PROTOCOL_ERROR, COMPRESSION_ERROR]);

/// h2spec asks for PROTOCOL_ERROR. The library drops pseudo-headers of trailers that end the stream.
const DROPPED: Want = Want::Answer;

pub(super) fn cases(kit: &Kit) -> Vec<Case> {
    let mut cases = fields(kit);
    cases.extend(pseudo_headers(kit));
    cases.extend(bodies(kit));
    cases
}

fn fields(kit: &Kit) -> Vec<Case> {
    let with = |number, what, more: &[(&str, &str)]| {
        case(number, what, &[whole(1, &kit.get_with(more))], MALFORMED)
    };
    let malformed = |number, what, name| {
        case(number, what, &[whole(1, &kit.get_with(&[(name, "ok")]))], NOT_UNPACKED)
    };
    let late = [block(&[("x-test", "ok")]), kit.get()].concat();
    vec![
        case(
            "http2/8.1/1",
            "trailers that do not end the stream",
            &[kit.open(), data(1, 0), open(1, &block(&[("x-test", "ok")]))],
            MALFORMED,
        ),
        malformed("http2/8.1.2/1", "an upper-case name", "X-TEST"),
        malformed("http2/8.1.2.1/1", "an unknown pseudo-header", ":test"),
        with("http2/8.1.2.1/2", "a pseudo-header of answers", &[(":status", "200")]),
        case(
            "http2/8.1.2.1/3",
            "a pseudo-header in trailers",
            &[kit.open(), data(1, 0), whole(1, &block(&[(":method", "POST")]))],
            DROPPED,
        ),
        case("http2/8.1.2.1/4", "pseudo-headers behind a field", &[whole(1, &late)], MALFORMED),
        with("http2/8.1.2.2/1", "connection", &[("connection", "keep-alive")]),
        with(
            "http2/8.1.2.2/2",
            "te that is not trailers",
            &[("trailers", "test"), ("te", "trailers, deflate")],
        ),
    ]
}

fn pseudo_headers(kit: &Kit) -> Vec<Case> {
    let without = |number, what, name: &str| {
        let mut fields = kit.fields("GET", "/public/x");
        fields.retain(|(field, _)| *field != name);
        case(number, what, &[whole(1, &block(&fields))], MALFORMED)
    };
    let twice = |number, what, name: &str| {
        let fields = kit.fields("GET", "/public/x");
        let again: Vec<_> = fields.iter().filter(|(field, _)| *field == name).copied().collect();
        case(number, what, &[whole(1, &kit.get_with(&again))], MALFORMED)
    };
    let empty = block(&kit.fields("GET", ""));
    vec![
        case("http2/8.1.2.3/1", "an empty path", &[whole(1, &empty)], MALFORMED),
        without("http2/8.1.2.3/2", "no method", ":method"),
        without("http2/8.1.2.3/3", "no scheme", ":scheme"),
        without("http2/8.1.2.3/4", "no path", ":path"),
        twice("http2/8.1.2.3/5", "two methods", ":method"),
        twice("http2/8.1.2.3/6", "two schemes", ":scheme"),
        twice("http2/8.1.2.3/7", "two paths", ":path"),
    ]
}

fn bodies(kit: &Kit) -> Vec<Case> {
    let short = || open(1, &kit.post_with(&[("content-length", "1")]));
    let promise = [3_u32.to_be_bytes().to_vec(), kit.get()].concat();
    vec![
        case(
            "http2/8.1.2.6/1",
            "more than the content-length",
            &[short(), data(1, END_STREAM)],
            MALFORMED,
        ),
        case(
            "http2/8.1.2.6/2",
            "more than the content-length, in two frames",
            &[short(), data(1, 0), data(1, END_STREAM)],
            MALFORMED,
        ),
        case(
            "http2/8.2/1",
            "PUSH_PROMISE",
            &[frame(PUSH_PROMISE, END_HEADERS, 1, &promise)],
            Want::Connection(&[PROTOCOL_ERROR]),
        ),
    ]
}

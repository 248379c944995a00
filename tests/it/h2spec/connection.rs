//! Preface, format and size of frames, heads in pieces, errors of the connection, extensions (sections 3 to 5 of
//! the older numbering).

use super::case::{
    COMPRESSION_ERROR, Case, FRAME_SIZE_ERROR, INITIAL_WINDOW_SIZE, Kit, PROTOCOL_ERROR, Want,
    case, first, more, ping, priority, settings, whole,
};
use crate::support::h2raw::{DATA, END_HEADERS, END_STREAM, HEADERS, PING, PREFACE, block, frame};

/// The largest frame that is taken: the gateway leaves it at the least that there is.
const LARGEST: usize = 16_384;
/// A type and flags that mean nothing.
const UNKNOWN: u8 = 22;

pub(super) fn cases(kit: &Kit) -> Vec<Case> {
    let mut cases = formats(kit);
    cases.extend(heads(kit));
    cases.extend(errors(kit));
    cases
}

fn formats(kit: &Kit) -> Vec<Case> {
    let hello = [PREFACE.to_vec(), settings(&[(INITIAL_WINDOW_SIZE, 65_535)])].concat();
    let no_preface = b"INVALID CONNECTION PREFACE\r\n\r\n".to_vec();
    let body = |length| frame(DATA, END_STREAM, 1, &vec![b'a'; length]);
    let filler = "a".repeat(3500);
    let long = [("x-a", filler.as_str()); 5];
    vec![
        first("http2/3.5/1", "preface", hello, Want::SettingsFirst),
        first("http2/3.5/2", "no preface", no_preface, Want::End),
        case(
            "http2/4.1/1",
            "a frame of unknown type",
            &[frame(UNKNOWN, 0, 0, &[0; 8]), ping([0; 8])],
            Want::Pong([0; 8]),
        ),
        case(
            "http2/4.1/2",
            "flags that mean nothing",
            &[frame(PING, UNKNOWN, 0, &[0; 8])],
            Want::Pong([0; 8]),
        ),
        case(
            "http2/4.1/3",
            "the reserved bit",
            &[frame(PING, UNKNOWN, 1 << 31, &[0; 8])],
            Want::Pong([0; 8]),
        ),
        case("http2/4.2/1", "the largest DATA", &[kit.open(), body(LARGEST)], Want::Answer),
        case(
            "http2/4.2/2",
            "DATA too large",
            &[kit.open(), body(LARGEST + 1)],
            Want::Stream(&[FRAME_SIZE_ERROR]),
        ),
        case(
            "http2/4.2/3",
            "HEADERS too large",
            &[whole(1, &kit.get_with(&long))],
            Want::Connection(&[FRAME_SIZE_ERROR]),
        ),
    ]
}

fn heads(kit: &Kit) -> Vec<Case> {
    let refused = Want::Connection(&[PROTOCOL_ERROR]);
    let other = || whole(3, &kit.get());
    vec![
        case(
            "http2/4.3/1",
            "a block that ends within a field",
            &[whole(1, &[0x40])],
            Want::Connection(&[COMPRESSION_ERROR]),
        ),
        case(
            "http2/4.3/2",
            "PRIORITY within a head",
            &[kit.begun(0), priority(1, 0, 255), more(1, END_HEADERS)],
            refused,
        ),
        case(
            "http2/4.3/3",
            "HEADERS of another stream within a head",
            &[kit.begun(0), other(), more(1, END_HEADERS)],
            Want::Connection(&[PROTOCOL_ERROR]),
        ),
    ]
}

fn errors(kit: &Kit) -> Vec<Case> {
    let lost = || frame(PING, 0, 3, &[0; 8]);
    let on_itself = |stream: u32| super::case::urgency(stream, 255);
    let headers = [on_itself(1), kit.get()].concat();
    let flags = crate::support::h2raw::PRIORITIZED | END_HEADERS | END_STREAM;
    vec![
        // RFC 9113 section 5.3.2 takes all of priority back: what it says is read and means nothing.
        case(
            "http2/5.3.1/1",
            "HEADERS that depend on themselves",
            &[frame(HEADERS, flags, 1, &headers)],
            Want::Stream(&[PROTOCOL_ERROR]),
        ),
        case(
            "http2/5.3.1/2",
            "PRIORITY that depends on itself",
            &[priority(1, 1, 255)],
            Want::Stream(&[PROTOCOL_ERROR]),
        ),
        case("http2/5.4.1/1", "PING of a stream: the end", &[lost()], Want::End),
        case("http2/5.4.1/2", "PING of a stream: GOAWAY", &[lost()], Want::Goaway(PROTOCOL_ERROR)),
        case(
            "http2/5.5/1",
            "an extension",
            &[frame(UNKNOWN, 0, 0, &[0; 8]), ping([0; 8])],
            Want::Pong([0; 8]),
        ),
        case(
            "http2/5.5/2",
            "an extension within a head",
            &[kit.begun(END_STREAM), frame(UNKNOWN, 0, 0, &block(&[("x-a", "b")]))],
            Want::Connection(&[PROTOCOL_ERROR]),
        ),
    ]
}

//! What every HTTP/2 server takes.

use super::case::{
    CANCEL, Case, INITIAL_WINDOW_SIZE, Kit, Step, Want, case, data, first, open, ping, priority,
    reset, settings, steps, urgency, whole, window,
};
use super::hpack::fields;
use crate::support::h2raw::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PREFACE, PRIORITIZED,
    block, frame,
};

pub(super) fn cases(kit: &Kit) -> Vec<Case> {
    let mut cases = states(kit);
    cases.extend(frames(kit));
    cases.extend(requests(kit));
    cases.extend(compression(kit));
    cases
}

fn states(kit: &Kit) -> Vec<Case> {
    let hello = [PREFACE.to_vec(), settings(&[(INITIAL_WINDOW_SIZE, 65_535)])].concat();
    let none = settings(&[(INITIAL_WINDOW_SIZE, 0)]);
    vec![
        first("generic/1/1", "preface", hello, Want::SettingsFirst),
        case(
            "generic/2/1",
            "PRIORITY on an idle stream",
            &[priority(1, 0, 255), ping([0; 8])],
            Want::Pong([0; 8]),
        ),
        case(
            "generic/2/2",
            "WINDOW_UPDATE on a half-closed stream",
            &[none.clone(), kit.request(), window(1, 1)],
            Want::Data(1),
        ),
        case(
            "generic/2/3",
            "PRIORITY on a half-closed stream",
            &[none, kit.request(), priority(1, 0, 255), window(1, 1)],
            Want::Data(1),
        ),
        case(
            "generic/2/4",
            "RST_STREAM on a half-closed stream",
            &[kit.request(), reset(1, CANCEL), ping([0; 8])],
            Want::PongOrEnd([0; 8]),
        ),
        steps(
            "generic/2/5",
            "PRIORITY on a closed stream",
            vec![
                Step::Send(kit.request()),
                Step::Ended,
                Step::Send([priority(1, 0, 255), ping([0; 8])].concat()),
            ],
            Want::Pong([0; 8]),
        ),
    ]
}

fn frames(kit: &Kit) -> Vec<Case> {
    let padded = [&[6][..], b"test", &[0; 6]].concat();
    let wide = [&[8][..], &kit.get(), &[0; 8]].concat();
    let urgent = [urgency(0, 255), kit.get()].concat();
    let all = END_HEADERS | END_STREAM;
    let head = kit.get();
    let usual = [(1, 4096), (2, 1), (3, 100), (4, 65_535), (5, 16_384), (6, 100)];
    vec![
        case("generic/3.1/1", "DATA", &[kit.open(), data(1, END_STREAM)], Want::Answer),
        case(
            "generic/3.1/2",
            "several DATA",
            &[kit.open(), data(1, 0), data(1, END_STREAM)],
            Want::Answer,
        ),
        case(
            "generic/3.1/3",
            "DATA with padding",
            &[kit.open(), frame(DATA, PADDED | END_STREAM, 1, &padded)],
            Want::Answer,
        ),
        case("generic/3.2/1", "HEADERS", &[kit.request()], Want::Answer),
        case(
            "generic/3.2/2",
            "HEADERS with padding",
            &[frame(HEADERS, PADDED | all, 1, &wide)],
            Want::Answer,
        ),
        case(
            "generic/3.2/3",
            "HEADERS with priority",
            &[frame(HEADERS, PRIORITIZED | all, 1, &urgent)],
            Want::Answer,
        ),
        case("generic/3.3/1", "PRIORITY 1", &[priority(1, 0, 0), kit.request()], Want::Answer),
        case("generic/3.3/2", "PRIORITY 256", &[priority(1, 0, 255), kit.request()], Want::Answer),
        case(
            "generic/3.3/3",
            "PRIORITY with a dependency",
            &[priority(3, 1, 0), kit.request()],
            Want::Answer,
        ),
        case(
            "generic/3.3/4",
            "PRIORITY, exclusive",
            &[priority(1, 1 << 31, 0), kit.request()],
            Want::Answer,
        ),
        case(
            "generic/3.3/5",
            "PRIORITY of an idle stream, then HEADERS of a lower one",
            &[priority(3, 0, 255), kit.request()],
            Want::Answer,
        ),
        case(
            "generic/3.4/1",
            "RST_STREAM",
            &[open(1, &kit.get()), reset(1, CANCEL), ping([0; 8])],
            Want::PongOrEnd([0; 8]),
        ),
        case("generic/3.5/1", "SETTINGS", &[settings(&usual)], Want::Confirmed),
        case("generic/3.7/1", "PING", &[ping(*b"portculs")], Want::Pong(*b"portculs")),
        case(
            "generic/3.8/1",
            "GOAWAY",
            &[frame(GOAWAY, 0, 0, &[0; 8]), ping([0; 8])],
            Want::PongOrEnd([0; 8]),
        ),
        case(
            "generic/3.9/1",
            "WINDOW_UPDATE of the connection",
            &[window(0, 1), ping([0; 8])],
            Want::Pong([0; 8]),
        ),
        case(
            "generic/3.9/2",
            "WINDOW_UPDATE of a stream",
            &[kit.request(), window(1, 1)],
            Want::Answer,
        ),
        case(
            "generic/3.10/1",
            "CONTINUATION",
            &[
                frame(HEADERS, END_STREAM, 1, &head[..5]),
                frame(CONTINUATION, END_HEADERS, 1, &head[5..]),
            ],
            Want::Answer,
        ),
        case(
            "generic/3.10/2",
            "several CONTINUATION",
            &[
                frame(HEADERS, END_STREAM, 1, &head[..5]),
                frame(CONTINUATION, 0, 1, &head[5..10]),
                frame(CONTINUATION, END_HEADERS, 1, &head[10..]),
            ],
            Want::Answer,
        ),
    ]
}

fn requests(kit: &Kit) -> Vec<Case> {
    let head = whole(1, &block(&kit.fields("HEAD", "/public/x")));
    let announced = open(1, &kit.post_with(&[("trailer", "x-test")]));
    let trailers = whole(1, &block(&[("x-test", "ok")]));
    vec![
        case("generic/4/1", "GET", &[kit.request()], Want::Answer),
        case("generic/4/2", "HEAD", &[head], Want::Answer),
        case("generic/4/3", "POST", &[kit.open(), data(1, END_STREAM)], Want::Answer),
        case("generic/4/4", "POST with trailers", &[announced, data(1, 0), trailers], Want::Answer),
    ]
}

fn compression(kit: &Kit) -> Vec<Case> {
    let behind = |more: Vec<u8>| vec![whole(1, &[kit.get(), more].concat())];
    let before = |more: &[u8]| vec![whole(1, &[more, &kit.get()].concat())];
    // The beginning of a literal, and whether its name is that of entry 58, user-agent.
    let literal = |number, what, first: u8, known: bool, short: bool| {
        case(number, what, &behind(fields(first, known, short)), Want::Answer)
    };
    vec![
        case("generic/5/1", "indexed field", &behind(vec![0xba]), Want::Answer),
        literal("generic/5/2", "indexing, known name", 0x40, true, false),
        literal("generic/5/3", "indexing, known name, Huffman", 0x40, true, true),
        literal("generic/5/4", "indexing, new name", 0x40, false, false),
        literal("generic/5/5", "indexing, new name, Huffman", 0x40, false, true),
        literal("generic/5/6", "no indexing, known name", 0x00, true, false),
        literal("generic/5/7", "no indexing, known name, Huffman", 0x00, true, true),
        literal("generic/5/8", "no indexing, new name", 0x00, false, false),
        literal("generic/5/9", "no indexing, new name, Huffman", 0x00, false, true),
        literal("generic/5/10", "never indexed, known name", 0x10, true, false),
        literal("generic/5/11", "never indexed, known name, Huffman", 0x10, true, true),
        literal("generic/5/12", "never indexed, new name", 0x10, false, false),
        literal("generic/5/13", "never indexed, new name, Huffman", 0x10, false, true),
        case("generic/5/14", "size of the table", &before(&[0x20]), Want::Answer),
        case(
            "generic/5/15",
            "two sizes of the table",
            &before(&[0x20, 0x3f, 0xe1, 0x1f]),
            Want::Answer,
        ),
    ]
}

//! States, numbers and concurrency of streams, and the frames that belong to them: DATA, HEADERS, PRIORITY,
//! RST_STREAM, CONTINUATION (sections 5.1, 6.1 to 6.4 and 6.10).

use super::case::{
    CANCEL, Case, FRAME_SIZE_ERROR, INITIAL_WINDOW_SIZE, Kit, PROTOCOL_ERROR, REFUSED_STREAM,
    STREAM_CLOSED, STREAMS, Step, Want, case, data, more, priority, reset, settings, steps, whole,
    window,
};
use crate::support::h2raw::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PADDED, PRIORITY, RST_STREAM, frame,
};

/// An error of the connection, PROTOCOL_ERROR.
const REFUSED: Want = Want::Connection(&[PROTOCOL_ERROR]);
/// An error of the stream (or more), STREAM_CLOSED.
const CLOSED: Want = Want::Stream(&[STREAM_CLOSED]);
/// As [`CLOSED`] where CONTINUATION without a head is an error of its own.
const CLOSED_OR_REFUSED: Want = Want::Stream(&[STREAM_CLOSED, PROTOCOL_ERROR]);

pub(super) fn cases(kit: &Kit) -> Vec<Case> {
    let mut cases = idle(kit);
    cases.extend(half_closed(kit));
    cases.extend(closed(kit));
    cases.extend(numbers(kit));
    cases.extend(frames(kit));
    cases.extend(pieces(kit));
    cases
}

fn idle(kit: &Kit) -> Vec<Case> {
    let head = frame(CONTINUATION, END_HEADERS, 1, &kit.get());
    vec![
        case("http2/5.1/1", "idle: DATA", &[data(1, END_STREAM)], REFUSED),
        case("http2/5.1/2", "idle: RST_STREAM", &[reset(1, CANCEL)], REFUSED),
        case("http2/5.1/3", "idle: WINDOW_UPDATE", &[window(1, 100)], REFUSED),
        case("http2/5.1/4", "idle: CONTINUATION", &[head], REFUSED),
    ]
}

fn half_closed(kit: &Kit) -> Vec<Case> {
    let request = || kit.request();
    let head = frame(CONTINUATION, END_HEADERS, 1, &kit.get());
    vec![
        case("http2/5.1/5", "half-closed: DATA", &[request(), data(1, END_STREAM)], CLOSED),
        case("http2/5.1/6", "half-closed: HEADERS", &[request(), request()], CLOSED),
        case("http2/5.1/7", "half-closed: CONTINUATION", &[request(), head], CLOSED_OR_REFUSED),
    ]
}

fn closed(kit: &Kit) -> Vec<Case> {
    let taken_back = |number, what, then: Vec<u8>, want| {
        case(number, what, &[kit.open(), reset(1, CANCEL), then], want)
    };
    let answered = |number, what, then: Vec<u8>, want| {
        steps(number, what, vec![Step::Send(kit.request()), Step::Ended, Step::Send(then)], want)
    };
    const ERROR: Want = Want::Connection(&[STREAM_CLOSED]);
    let either = Want::Connection(&[STREAM_CLOSED, PROTOCOL_ERROR]);
    let more = || more(1, END_HEADERS);
    vec![
        taken_back("http2/5.1/8", "reset: DATA", data(1, END_STREAM), CLOSED),
        taken_back("http2/5.1/9", "reset: HEADERS", kit.request(), CLOSED),
        taken_back("http2/5.1/10", "reset: CONTINUATION", more(), CLOSED_OR_REFUSED),
        answered("http2/5.1/11", "closed: DATA", data(1, END_STREAM), ERROR),
        answered("http2/5.1/12", "closed: HEADERS", kit.request(), ERROR),
        answered("http2/5.1/13", "closed: CONTINUATION", more(), either),
    ]
}

fn numbers(kit: &Kit) -> Vec<Case> {
    let get = |stream| whole(stream, &kit.get());
    let mut many = vec![settings(&[(INITIAL_WINDOW_SIZE, 0)])];
    many.extend((0..=STREAMS).map(|number| get(2 * number + 1)));
    vec![
        case("http2/5.1.1/1", "an even number", &[get(2)], REFUSED),
        case("http2/5.1.1/2", "a smaller number", &[get(5), get(3)], REFUSED),
        case("http2/5.1.1/3", "the same number", &[get(5), get(5)], CLOSED),
        case(
            "http2/5.1.2/1",
            "more streams than allowed",
            &many,
            Want::Stream(&[PROTOCOL_ERROR, REFUSED_STREAM]),
        ),
    ]
}

fn frames(kit: &Kit) -> Vec<Case> {
    let long = kit.post_with(&[("content-length", "4")]);
    let padding = [&[6][..], b"test"].concat();
    let head = kit.get();
    let wide = [&[head.len() as u8 + 2][..], &head].concat();
    let size = Want::Stream(&[FRAME_SIZE_ERROR]);
    let all = END_HEADERS | END_STREAM;
    vec![
        case("http2/6.1/1", "DATA of no stream", &[data(0, END_STREAM)], REFUSED),
        case(
            "http2/6.1/2",
            "DATA on a half-closed stream",
            &[whole(1, &kit.post_with(&[])), data(1, END_STREAM)],
            CLOSED,
        ),
        case(
            "http2/6.1/3",
            "DATA with too much padding",
            &[frame(HEADERS, END_HEADERS, 1, &long), frame(DATA, PADDED | END_STREAM, 1, &padding)],
            REFUSED,
        ),
        case(
            "http2/6.2/1",
            "PRIORITY within a head",
            &[kit.begun(0), priority(1, 0, 255), more(1, END_HEADERS)],
            REFUSED,
        ),
        case(
            "http2/6.2/2",
            "HEADERS of another stream within a head",
            &[kit.begun(0), whole(3, &head), more(1, END_HEADERS)],
            REFUSED,
        ),
        case("http2/6.2/3", "HEADERS of no stream", &[whole(0, &head)], REFUSED),
        case(
            "http2/6.2/4",
            "HEADERS with too much padding",
            &[frame(HEADERS, PADDED | all, 1, &wide)],
            Want::Stream(&[PROTOCOL_ERROR]),
        ),
        case("http2/6.3/1", "PRIORITY of no stream", &[priority(0, 0, 255)], REFUSED),
        case(
            "http2/6.3/2",
            "PRIORITY of four bytes",
            &[kit.request(), frame(PRIORITY, 0, 1, &[0x80, 0, 0, 1])],
            size,
        ),
        case(
            "http2/6.3/3",
            "PRIORITY of an idle stream, then HEADERS of a lower one",
            &[priority(3, 0, 255), kit.request()],
            Want::Answer,
        ),
        case("http2/6.4/1", "RST_STREAM of no stream", &[reset(0, CANCEL)], REFUSED),
        case("http2/6.4/2", "RST_STREAM on an idle stream", &[reset(1, CANCEL)], REFUSED),
        case(
            "http2/6.4/3",
            "RST_STREAM of three bytes",
            &[kit.request(), frame(RST_STREAM, 0, 1, &[0; 3])],
            Want::Stream(&[FRAME_SIZE_ERROR]),
        ),
    ]
}

fn pieces(kit: &Kit) -> Vec<Case> {
    let post = frame(HEADERS, 0, 1, &kit.post_with(&[]));
    vec![
        case(
            "http2/6.10/1",
            "several CONTINUATION behind HEADERS",
            &[kit.begun(END_STREAM), more(1, 0), more(1, END_HEADERS)],
            Want::Answer,
        ),
        case(
            "http2/6.10/2",
            "CONTINUATION, then DATA",
            &[post.clone(), more(1, 0), data(1, END_STREAM)],
            REFUSED,
        ),
        case(
            "http2/6.10/3",
            "CONTINUATION of no stream",
            &[kit.begun(END_STREAM), more(0, END_HEADERS)],
            REFUSED,
        ),
        case(
            "http2/6.10/4",
            "CONTINUATION behind a whole head",
            &[kit.request(), more(1, END_HEADERS)],
            REFUSED,
        ),
        case(
            "http2/6.10/5",
            "CONTINUATION behind the last one",
            &[kit.begun(END_STREAM), more(1, END_HEADERS), more(1, END_HEADERS)],
            REFUSED,
        ),
        case(
            "http2/6.10/6",
            "CONTINUATION behind DATA",
            &[post, data(1, END_STREAM), more(1, 0), more(0, END_HEADERS)],
            REFUSED,
        ),
    ]
}

//! SETTINGS, PING, GOAWAY and flow control (sections 6.5 to 6.9 and 7).

use super::case::{
    Case, ENABLE_PUSH, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, INITIAL_WINDOW_SIZE, Kit,
    MAX_FRAME_SIZE, PROTOCOL_ERROR, Step, Want, case, open, ping, reset, settings, steps, window,
};
use crate::support::h2raw::{ACK, GOAWAY, PING, SETTINGS, WINDOW_UPDATE, frame};

const REFUSED: Want = Want::Connection(&[PROTOCOL_ERROR]);
const WRONG_SIZE: Want = Want::Connection(&[FRAME_SIZE_ERROR]);
const OVERFLOW: Want = Want::Connection(&[FLOW_CONTROL_ERROR]);
const MOST: u32 = (1 << 31) - 1;

pub(super) fn cases(kit: &Kit) -> Vec<Case> {
    let mut cases = values(kit);
    cases.extend(pings());
    cases.extend(windows(kit));
    cases.extend(codes(kit));
    cases
}

/// Settings that are confirmed before the next step.
fn agreed(values: &[(u16, u32)]) -> [Step; 2] {
    [Step::Send(settings(values)), Step::Confirmed]
}

fn window_of(size: u32) -> [Step; 2] {
    agreed(&[(INITIAL_WINDOW_SIZE, size)])
}

fn values(kit: &Kit) -> Vec<Case> {
    let one = |number, what, setting, value, want| {
        case(number, what, &[settings(&[(setting, value)])], want)
    };
    let in_order = agreed(&[(INITIAL_WINDOW_SIZE, 100), (INITIAL_WINDOW_SIZE, 1)]);
    vec![
        case(
            "http2/6.5/1",
            "a confirmation with a payload",
            &[frame(SETTINGS, ACK, 0, &[0])],
            WRONG_SIZE,
        ),
        case(
            "http2/6.5/2",
            "SETTINGS of a stream",
            &[frame(SETTINGS, 0, 1, &[0, 3, 0, 0, 0, 100])],
            REFUSED,
        ),
        case(
            "http2/6.5/3",
            "SETTINGS of no whole entries",
            &[frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100, 0, 2])],
            Want::Stream(&[PROTOCOL_ERROR, FRAME_SIZE_ERROR]),
        ),
        one("http2/6.5.2/1", "push neither on nor off", ENABLE_PUSH, 2, REFUSED),
        one("http2/6.5.2/2", "a window too large", INITIAL_WINDOW_SIZE, 1 << 31, OVERFLOW),
        one("http2/6.5.2/3", "frames too small", MAX_FRAME_SIZE, 16_383, REFUSED),
        one("http2/6.5.2/4", "frames too large", MAX_FRAME_SIZE, 1 << 24, REFUSED),
        case(
            "http2/6.5.2/5",
            "an unknown setting",
            &[settings(&[(0xff, 1)]), ping([0; 8])],
            Want::Pong([0; 8]),
        ),
        steps(
            "http2/6.5.3/1",
            "the same setting twice",
            in_order.into_iter().chain([Step::Send(kit.request())]).collect(),
            Want::Data(1),
        ),
        one("http2/6.5.3/2", "settings are confirmed", ENABLE_PUSH, 0, Want::Confirmed),
    ]
}

fn pings() -> Vec<Case> {
    let echo = *b"portculs";
    vec![
        case("http2/6.7/1", "PING", &[ping(echo)], Want::Pong(echo)),
        case(
            "http2/6.7/2",
            "a confirmation that nobody asked for",
            &[frame(PING, ACK, 0, b"unasked!"), ping(echo)],
            Want::Pong(echo),
        ),
        case("http2/6.7/3", "PING of a stream", &[frame(PING, 0, 1, &[0; 8])], REFUSED),
        case("http2/6.7/4", "PING of six bytes", &[frame(PING, 0, 0, &[0; 6])], WRONG_SIZE),
        case("http2/6.8/1", "GOAWAY of a stream", &[frame(GOAWAY, 0, 1, &[0; 8])], REFUSED),
    ]
}

fn windows(kit: &Kit) -> Vec<Case> {
    let request = || Step::Send(kit.request());
    let head = open(1, &kit.get());
    let [set, confirmed] = window_of(1);
    let later = window_of(0).into_iter().chain([request(), set, confirmed]);
    let narrower = window_of(3).into_iter().chain([request(), Step::Data]);
    let negative = narrower.chain(window_of(2)).chain([Step::Send(window(1, 2))]);
    vec![
        case("http2/6.9/1", "WINDOW_UPDATE of 0", &[window(0, 0)], REFUSED),
        case(
            "http2/6.9/2",
            "WINDOW_UPDATE of 0 on a stream",
            &[head.clone(), window(1, 0)],
            Want::Stream(&[PROTOCOL_ERROR]),
        ),
        case(
            "http2/6.9/3",
            "WINDOW_UPDATE of three bytes",
            &[frame(WINDOW_UPDATE, 0, 0, &[0, 0, 1])],
            WRONG_SIZE,
        ),
        steps(
            "http2/6.9.1/1",
            "a window of one byte",
            window_of(1).into_iter().chain([request()]).collect(),
            Want::Data(1),
        ),
        case(
            "http2/6.9.1/2",
            "the connection's window overflows",
            &[window(0, MOST), window(0, MOST)],
            Want::Goaway(FLOW_CONTROL_ERROR),
        ),
        case(
            "http2/6.9.1/3",
            "a stream's window overflows",
            &[head, window(1, MOST), window(1, MOST)],
            Want::Reset(FLOW_CONTROL_ERROR),
        ),
        steps("http2/6.9.2/1", "the window is set later", later.collect(), Want::Data(1)),
        steps("http2/6.9.2/2", "a window below zero", negative.collect(), Want::Data(1)),
        case(
            "http2/6.9.2/3",
            "a window too large",
            &[settings(&[(INITIAL_WINDOW_SIZE, 1 << 31)])],
            OVERFLOW,
        ),
    ]
}

fn codes(kit: &Kit) -> Vec<Case> {
    let away = frame(GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 0xff]);
    vec![
        case("http2/7/1", "GOAWAY with an unknown code", &[away], Want::End),
        case(
            "http2/7/2",
            "RST_STREAM with an unknown code",
            &[kit.open(), reset(1, 0xff), ping([0; 8])],
            Want::Pong([0; 8]),
        ),
    ]
}

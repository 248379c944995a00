//! A case: what is sent, and what must come back.

use std::time::Duration;

use tokio::time::timeout;

use crate::support::Gateway;
use crate::support::h2raw::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, H2Raw, HEADERS, PING, PRIORITY,
    RST_STREAM, SETTINGS, WINDOW_UPDATE, block, frame, get, number, status,
};

/// How long what must come back may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Streams that the gateway allows in these cases.
pub(super) const STREAMS: u32 = 10;

/// Error codes (RFC 9113 section 7).
pub(super) const PROTOCOL_ERROR: u32 = 1;
pub(super) const FLOW_CONTROL_ERROR: u32 = 3;
pub(super) const STREAM_CLOSED: u32 = 5;
pub(super) const FRAME_SIZE_ERROR: u32 = 6;
pub(super) const REFUSED_STREAM: u32 = 7;
pub(super) const CANCEL: u32 = 8;
pub(super) const COMPRESSION_ERROR: u32 = 9;

/// Settings (RFC 9113 section 6.5.2).
pub(super) const ENABLE_PUSH: u16 = 2;
pub(super) const INITIAL_WINDOW_SIZE: u16 = 4;
pub(super) const MAX_FRAME_SIZE: u16 = 5;

/// What is done, one after the other.
#[derive(Debug)]
pub(super) enum Step {
    Send(Vec<u8>),
    /// Waits for the end of stream 1.
    Ended,
    /// Waits until settings are confirmed.
    Confirmed,
    /// Waits for a DATA frame.
    Data,
}

/// What must come back. Other frames may come before it, but none that ends the stream or the connection.
#[derive(Debug)]
pub(super) enum Want {
    /// 200 on stream 1.
    Answer,
    /// A PING with these bytes, confirmed, and none with others.
    Pong([u8; 8]),
    /// As [`Self::Pong`], or the end of the connection.
    PongOrEnd([u8; 8]),
    /// Settings, before anything else.
    SettingsFirst,
    /// The confirmation of settings.
    Confirmed,
    /// DATA of so many bytes.
    Data(usize),
    /// The stream is reset with one of these codes, or the connection ends with one.
    Stream(&'static [u32]),
    /// The connection ends, with one of these codes when it says why.
    Connection(&'static [u32]),
    /// The connection ends.
    End,
    /// GOAWAY with this code.
    Goaway(u32),
    /// RST_STREAM with this code.
    Reset(u32),
}

#[derive(Debug)]
pub(super) struct Case {
    /// The number that h2spec gives it.
    pub(super) number: &'static str,
    pub(super) what: &'static str,
    /// Whether preface and settings are exchanged first.
    greets: bool,
    steps: Vec<Step>,
    want: Want,
}

/// A case that sends these frames after the settings are exchanged.
pub(super) fn case(number: &'static str, what: &'static str, sent: &[Vec<u8>], want: Want) -> Case {
    steps(number, what, vec![Step::Send(sent.concat())], want)
}

/// A case that waits in between.
pub(super) fn steps(
    number: &'static str,
    what: &'static str,
    steps: Vec<Step>,
    want: Want,
) -> Case {
    Case { number, what, greets: true, steps, want }
}

/// A case about the very first bytes.
pub(super) fn first(number: &'static str, what: &'static str, sent: Vec<u8>, want: Want) -> Case {
    Case { number, what, greets: false, steps: vec![Step::Send(sent)], want }
}

type Frame = (u8, u8, u32, Vec<u8>);

impl Case {
    pub(super) async fn run(self, gateway: &Gateway) -> Result<(), String> {
        let mut h2 = if self.greets {
            let mut h2 = H2Raw::connect(gateway).await;
            until(&mut h2, |(kind, flags, ..)| *kind == SETTINGS && flags & ACK != 0).await?;
            h2
        } else {
            H2Raw::silent(gateway).await
        };
        for step in self.steps {
            match step {
                Step::Send(bytes) => h2.send(&bytes).await,
                Step::Ended => {
                    until(&mut h2, |(kind, flags, stream, _)| {
                        matches!(*kind, DATA | HEADERS) && *stream == 1 && flags & END_STREAM != 0
                    })
                    .await?;
                }
                Step::Confirmed => {
                    until(&mut h2, |(kind, flags, ..)| *kind == SETTINGS && flags & ACK != 0)
                        .await?;
                }
                Step::Data => {
                    until(&mut h2, |(kind, ..)| *kind == DATA).await?;
                }
            }
        }
        judge(&mut h2, &self.want).await
    }
}

/// The next frame; `None` at the end of the connection.
async fn next(h2: &mut H2Raw) -> Result<Option<Frame>, String> {
    let frame = timeout(LIMIT, h2.read()).await;
    let frame = frame.map_err(|_| format!("nothing further within {LIMIT:?}"))?;
    if let Some((SETTINGS, flags, ..)) = frame
        && flags & ACK == 0
    {
        h2.frame(SETTINGS, ACK, 0, &[]).await;
    }
    Ok(frame)
}

async fn until(h2: &mut H2Raw, is: impl Fn(&Frame) -> bool) -> Result<(), String> {
    while let Some(frame) = next(h2).await? {
        if is(&frame) {
            return Ok(());
        }
    }
    Err("closed before what was waited for".to_owned())
}

/// What a frame says about the outcome.
async fn judge(h2: &mut H2Raw, want: &Want) -> Result<(), String> {
    if let Want::SettingsFirst = want {
        return match next(h2).await? {
            Some((SETTINGS, flags, ..)) if flags & ACK == 0 => Ok(()),
            other => Err(format!("{other:?} in place of settings")),
        };
    }
    loop {
        let Some(frame) = next(h2).await? else {
            return match want {
                Want::Stream(_) | Want::Connection(_) | Want::End | Want::PongOrEnd(_) => Ok(()),
                _ => Err("closed without a word".to_owned()),
            };
        };
        if let Some(done) = verdict(want, &frame) {
            done?;
            return match want {
                Want::Connection(_) | Want::End | Want::Goaway(_) => closes(h2).await,
                _ => Ok(()),
            };
        }
    }
}

fn verdict(want: &Want, frame: &Frame) -> Option<Result<(), String>> {
    let (kind, flags, stream, payload) = frame;
    let unless = |good: bool| if good { Ok(()) } else { Err(format!("{frame:?}")) };
    Some(match (want, *kind) {
        (Want::Answer, HEADERS) if *stream == 1 => unless(status(payload) == 200),
        (Want::Pong(data) | Want::PongOrEnd(data), PING) => {
            unless(flags & ACK != 0 && payload == data)
        }
        (Want::Confirmed, SETTINGS) if flags & ACK != 0 => Ok(()),
        (Want::Data(length), DATA) => unless(payload.len() == *length),
        (Want::Stream(codes), RST_STREAM) => unless(codes.contains(&number(payload))),
        (Want::Reset(code), RST_STREAM) => unless(number(payload) == *code && *stream == 1),
        (Want::Stream(codes) | Want::Connection(codes), GOAWAY) => {
            unless(codes.contains(&number(&payload[4..])))
        }
        (Want::Goaway(code), GOAWAY) => unless(number(&payload[4..]) == *code),
        (Want::End | Want::PongOrEnd(_), GOAWAY) => Ok(()),
        (_, RST_STREAM | GOAWAY) => unless(false),
        _ => return None,
    })
}

async fn closes(h2: &mut H2Raw) -> Result<(), String> {
    let rest = async { while h2.read().await.is_some() {} };
    timeout(LIMIT, rest).await.map_err(|_| format!("still open {LIMIT:?} after GOAWAY"))
}

/// What cases are made of. Requests are for a page that answers 200 with five bytes.
#[derive(Debug)]
pub(super) struct Kit {
    host: String,
}

impl Kit {
    pub(super) fn new(host: &str) -> Self {
        Self { host: host.to_owned() }
    }

    /// The four pseudo-headers with another method and path.
    pub(super) fn fields<'a>(&'a self, method: &'a str, path: &'a str) -> Vec<(&'a str, &'a str)> {
        let mut fields = get(&self.host, path);
        fields[0].1 = method;
        fields
    }

    /// The block of a GET.
    pub(super) fn get(&self) -> Vec<u8> {
        block(&self.fields("GET", "/public/x"))
    }

    /// The block of a GET with further fields.
    pub(super) fn get_with(&self, more: &[(&str, &str)]) -> Vec<u8> {
        [self.get(), block(more)].concat()
    }

    /// The block of a POST with further fields.
    pub(super) fn post_with(&self, more: &[(&str, &str)]) -> Vec<u8> {
        [block(&self.fields("POST", "/public/x")), block(more)].concat()
    }

    /// A whole GET on stream 1.
    pub(super) fn request(&self) -> Vec<u8> {
        whole(1, &self.get())
    }

    /// A POST on stream 1 whose body is to come.
    pub(super) fn open(&self) -> Vec<u8> {
        open(1, &self.post_with(&[]))
    }

    /// A GET on stream 1 whose head goes on.
    pub(super) fn begun(&self, flags: u8) -> Vec<u8> {
        frame(HEADERS, flags, 1, &self.get())
    }
}

/// A request without a body.
pub(super) fn whole(stream: u32, fields: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, fields)
}

/// The head of a request whose body is to come, or trailers that do not end the stream.
pub(super) fn open(stream: u32, fields: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, fields)
}

pub(super) fn data(stream: u32, flags: u8) -> Vec<u8> {
    frame(DATA, flags, stream, b"test")
}

/// More of a head.
pub(super) fn more(stream: u32, flags: u8) -> Vec<u8> {
    frame(CONTINUATION, flags, stream, &block(&[("x-dummy", "1")]))
}

pub(super) fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}

pub(super) fn settings(values: &[(u16, u32)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (setting, value) in values {
        payload.extend(setting.to_be_bytes());
        payload.extend(value.to_be_bytes());
    }
    frame(SETTINGS, 0, 0, &payload)
}

pub(super) fn ping(payload: [u8; 8]) -> Vec<u8> {
    frame(PING, 0, 0, &payload)
}

pub(super) fn window(stream: u32, increment: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

/// PRIORITY: depends on `on`, with a weight less one.
pub(super) fn priority(stream: u32, on: u32, weight: u8) -> Vec<u8> {
    frame(PRIORITY, 0, stream, &urgency(on, weight))
}

/// The payload of PRIORITY.
pub(super) fn urgency(on: u32, weight: u8) -> Vec<u8> {
    let mut payload = on.to_be_bytes().to_vec();
    payload.push(weight);
    payload
}

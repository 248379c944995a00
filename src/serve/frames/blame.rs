//! Names the error of a client that the `h2` library ends a connection for.
//!
//! The library says PROTOCOL_ERROR for most of them. RFC 9113 has a name for each, which tells the client's author what
//! to look for, and which conformance suites ask for. The heads of frames are enough to find it, with one exception: a
//! malformed name of a field is where the library stops unpacking, so that is a COMPRESSION_ERROR too. The RFC's words
//! for that are that the state of compression cannot be kept up.

use super::follow::{Frame, Kind};

/// SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113 section 6.5.2).
const INITIAL_WINDOW_SIZE: u16 = 4;

/// The largest window (RFC 9113 section 6.9.1).
const LARGEST_WINDOW: u32 = (1 << 31) - 1;

/// Error codes (RFC 9113 section 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// An error that has no other name.
    Protocol = 1,
    /// A window that is too large.
    FlowControl = 3,
    /// A frame for a stream that is over.
    StreamClosed = 5,
    /// A frame that cannot have this size.
    FrameSize = 6,
    /// A head that cannot be unpacked.
    Compression = 9,
    /// A client that asks too much.
    EnhanceYourCalm = 11,
}

/// How a client has finished with a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Side {
    #[default]
    Open,
    Ended,
    Reset,
}

/// What a client has done, as far as it tells what is wrong.
#[derive(Debug, Default)]
pub struct Blame {
    /// The highest stream that the client has begun.
    highest: u32,
    /// What the client has done with it.
    side: Side,
    /// The stream of a head that goes on in the next frame.
    head: Option<u32>,
    /// Whether something came whose bytes behind the head may be wrong.
    unclear: bool,
    /// The first error that is seen in a frame's head.
    fault: Option<Code>,
    /// Whether it is a body that goes on behind its end.
    beyond_end: bool,
}

impl Blame {
    /// The library asks for more: it has no fault to find with the bytes behind earlier heads.
    pub fn go_on(&mut self) {
        self.unclear = false;
    }

    /// The client has sent a frame.
    pub fn received(&mut self, frame: Frame) {
        if self.fault.is_none() {
            self.fault = self.judge(frame);
        }
    }

    /// Whether the client goes on with a body behind its end, which the library takes for the error of a stream once
    /// the answer is out, though it can be no mistake.
    pub fn is_beyond_end(&self) -> bool {
        self.beyond_end
    }

    /// The name of an error that the library knows as PROTOCOL_ERROR only. `last` is the last stream that it has begun
    /// to serve.
    pub fn name(&self, last: u32) -> Code {
        match self.fault {
            Some(code) => code,
            // A whole head, in order, and its stream was not begun.
            None if last < self.highest && !self.unclear && self.head.is_none() => {
                Code::Compression
            }
            None => Code::Protocol,
        }
    }

    /// What is wrong with a frame by its head, and by what came before.
    fn judge(&mut self, frame: Frame) -> Option<Code> {
        if let Some(stream) = self.head {
            if frame.kind != Kind::Continuation || frame.stream != stream {
                return Some(Code::Protocol);
            }
            self.head = (!frame.ends_head()).then_some(stream);
            return None;
        }
        match frame.kind {
            Kind::Headers => self.headers(frame),
            Kind::Data => self.data(frame),
            Kind::Continuation => Some(Code::Protocol),
            Kind::Priority => (frame.length != 5).then_some(Code::FrameSize),
            Kind::RstStream => self.rst_stream(frame),
            Kind::Settings => self.settings(frame),
            Kind::Ping if frame.stream != 0 => Some(Code::Protocol),
            Kind::Ping => (frame.length != 8).then_some(Code::FrameSize),
            Kind::Goaway if frame.stream != 0 => Some(Code::Protocol),
            Kind::Goaway => (frame.length < 8).then_some(Code::FrameSize),
            Kind::WindowUpdate if frame.length != 4 => Some(Code::FrameSize),
            Kind::WindowUpdate if frame.stream > self.highest => Some(Code::Protocol),
            Kind::WindowUpdate => {
                // An increment of 0.
                self.unclear = true;
                None
            }
            Kind::Other => None,
        }
    }

    fn headers(&mut self, frame: Frame) -> Option<Code> {
        if frame.stream < self.highest || frame.stream.is_multiple_of(2) {
            return Some(Code::Protocol);
        }
        if frame.stream == self.highest {
            if self.side != Side::Open {
                return Some(Code::StreamClosed);
            }
        } else {
            self.highest = frame.stream;
            // More padding than there is room for.
            self.unclear |= frame.is_padded();
        }
        self.side = if frame.ends_stream() { Side::Ended } else { Side::Open };
        self.head = (!frame.ends_head()).then_some(frame.stream);
        None
    }

    fn data(&mut self, frame: Frame) -> Option<Code> {
        if frame.stream == 0 || frame.stream > self.highest {
            return Some(Code::Protocol);
        }
        if frame.stream == self.highest {
            if self.side == Side::Ended {
                self.beyond_end = true;
                return Some(Code::StreamClosed);
            }
            if frame.ends_stream() && self.side == Side::Open {
                self.side = Side::Ended;
            }
        }
        None
    }

    fn rst_stream(&mut self, frame: Frame) -> Option<Code> {
        if frame.length != 4 {
            return Some(Code::FrameSize);
        }
        if frame.stream == 0 || frame.stream > self.highest {
            return Some(Code::Protocol);
        }
        if frame.stream == self.highest {
            self.side = Side::Reset;
        }
        None
    }

    fn settings(&mut self, frame: Frame) -> Option<Code> {
        if frame.stream != 0 {
            return Some(Code::Protocol);
        }
        if !frame.length.is_multiple_of(6) || (frame.confirms() && frame.length > 0) {
            return Some(Code::FrameSize);
        }
        match frame.setting {
            Some((INITIAL_WINDOW_SIZE, size)) if size > LARGEST_WINDOW => Some(Code::FlowControl),
            _ => None,
        }
    }
}

//! What can be wrong with a request as it comes, and how to say so.
//!
//! It must not quote the request: a violation may come from an attacker and is shown and logged.

use thiserror::Error;

/// One breach of message syntax (RFC 9112, RFC 9113 section 8) or of a configured bound.
///
/// The text says what the client has to change; [`Violation::code`] is for programs.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Violation {
    /// A CR that is not followed by LF (RFC 9112 2.2).
    #[error("a CR stands alone: end every line of the request head with CR LF")]
    BareCr,
    /// An LF that does not follow a CR (RFC 9112 2.2).
    #[error("a line ends with LF alone: end every line of the request head with CR LF")]
    BareLf,
    /// More than one empty line before the request line (RFC 9112 2.2).
    #[error("empty lines before the request line: start with the method")]
    BlankLines,
    /// The chunk data is longer or shorter than its size says (RFC 9112 7.1).
    #[error("chunk data is not followed by CR LF: make the chunk size match the data")]
    ChunkEnd,
    /// The chunk extensions of one body exceed their bound (RFC 9112 7.1.1).
    #[error("chunk extensions are longer than 4096 bytes in this body: send fewer or none")]
    ChunkExtensions,
    /// A chunk-size line has a bare CR or LF, or a control byte (RFC 9112 7.1).
    #[error("a chunk-size line is malformed: write the size in hex, then CR LF")]
    ChunkLine,
    /// A chunk size that is not hexadecimal or has more than 16 digits (RFC 9112 7.1).
    #[error("a chunk size is not a hexadecimal number of at most 16 digits")]
    ChunkSize,
    /// The head has more bytes or lines than allowed, most of them cookies.
    #[error("the cookies of this request are too many, or too large together")]
    CookiesTooLarge,
    /// CONNECT: this gateway opens no tunnels to third parties (RFC 9110 9.3.6).
    #[error("CONNECT is not offered: send the request to this site itself")]
    Connect,
    /// `Content-Length` is not one decimal number (RFC 9112 6.3).
    #[error("Content-Length is not one decimal number: send the body's length in digits")]
    ContentLength,
    /// More than one `Content-Length`, equal or not (RFC 9110 8.6).
    #[error("Content-Length is given more than once: send exactly one")]
    ContentLengthRepeated,
    /// A control byte in the head (RFC 9110 5.5).
    #[error("a control byte stands in the request head: remove or encode it")]
    ControlByte,
    /// White space around a value in HTTP/2 (RFC 9113 8.2.1).
    #[error("a header value begins or ends with white space: HTTP/2 wants it without")]
    FieldEdge,
    /// A header name that is empty, has no colon or is not a token (RFC 9110 5.1).
    #[error("a header line has no valid name: write `Name: value` with letters, digits and `-`")]
    FieldName,
    /// The head has more bytes than allowed.
    #[error("the request head is too large: send fewer or shorter headers and cookies")]
    HeadTooLarge,
    /// Both `Content-Length` and `Transfer-Encoding` (RFC 9112 6.1).
    #[error("Content-Length and Transfer-Encoding exclude each other: send only one of them")]
    LengthAndEncoding,
    /// A method longer than any known one.
    #[error("the method is not known: use a registered HTTP method")]
    MethodTooLong,
    /// A NUL byte in the head.
    #[error("a NUL byte stands in the request head: remove it")]
    Nul,
    /// A header line that continues the one before, or white space before the first (RFC 9112 5.2).
    #[error("a header line starts with white space: write each header on one line")]
    ObsFold,
    /// Not `METHOD SP target SP HTTP/1.1` (RFC 9112 3).
    #[error("the request line is not `METHOD target HTTP/1.1` with single spaces")]
    RequestLine,
    /// White space between a header name and its colon (RFC 9112 5.1).
    #[error("white space stands before the colon of a header: remove it")]
    SpaceBeforeColon,
    /// A byte in the target that must be percent-encoded, or a form that is not served
    /// (RFC 9112 3.2).
    #[error("the request target is malformed: start it with `/` and percent-encode special bytes")]
    Target,
    /// More header lines than allowed.
    #[error("the request has too many header lines: send fewer")]
    TooManyFields,
    /// The trailer section of a chunked body is too large.
    #[error("the trailer section is too large: send fewer or shorter trailers")]
    TrailerTooLarge,
    /// `Transfer-Encoding` is not exactly one `chunked` (RFC 9112 6.1).
    #[error("Transfer-Encoding is not exactly `chunked`: send one such header or none")]
    TransferEncoding,
    /// `Transfer-Encoding` in an HTTP/1.0 request (RFC 9112 6.1).
    #[error("HTTP/1.0 has no Transfer-Encoding: use Content-Length or HTTP/1.1")]
    TransferEncodingInHttp10,
    /// The request line has more bytes than allowed.
    #[error("the request target is too long: shorten the URL or send the data in the body")]
    UriTooLong,
    /// A well-formed version other than HTTP/1.0 and HTTP/1.1.
    #[error("this HTTP version is not served here: use HTTP/1.1, or HTTP/2 negotiated by ALPN")]
    Version,
}

impl Violation {
    /// The status that answers it: 400, 414, 431, 501 or 505.
    pub fn status(self) -> u16 {
        match self {
            Self::UriTooLong => 414,
            Self::CookiesTooLarge
            | Self::HeadTooLarge
            | Self::TooManyFields
            | Self::TrailerTooLarge => 431,
            Self::Connect | Self::MethodTooLong => 501,
            Self::Version => 505,
            _ => 400,
        }
    }

    /// A stable kebab-case name for programs, logs and metrics.
    pub fn code(self) -> &'static str {
        match self {
            Self::BareCr => "bare-cr",
            Self::BareLf => "bare-lf",
            Self::BlankLines => "blank-lines",
            Self::ChunkEnd => "chunk-end",
            Self::ChunkExtensions => "chunk-extensions",
            Self::ChunkLine => "chunk-line",
            Self::ChunkSize => "chunk-size",
            Self::Connect => "connect-not-offered",
            Self::ContentLength => "content-length",
            Self::ContentLengthRepeated => "content-length-repeated",
            Self::ControlByte => "control-byte",
            Self::CookiesTooLarge => crate::api::COOKIES_TOO_LARGE,
            Self::FieldEdge => "field-edge",
            Self::FieldName => "field-name",
            Self::HeadTooLarge => "head-too-large",
            Self::LengthAndEncoding => "length-and-encoding",
            Self::MethodTooLong => "method-too-long",
            Self::Nul => "nul-byte",
            Self::ObsFold => "obs-fold",
            Self::RequestLine => "request-line",
            Self::SpaceBeforeColon => "space-before-colon",
            Self::Target => "target-malformed",
            Self::TooManyFields => "too-many-fields",
            Self::TrailerTooLarge => "trailer-too-large",
            Self::TransferEncoding => "transfer-encoding",
            Self::TransferEncodingInHttp10 => "transfer-encoding-in-http10",
            Self::UriTooLong => "uri-too-long",
            Self::Version => "version-not-served",
        }
    }
}

//! Bodies of requests: JSON or a form, plain or gzip, read strictly.
//!
//! No answer repeats what a body held: it may have been a password.

use std::io::Read as _;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName};
use percent_encoding::percent_decode;
use serde::de::{DeserializeOwned, IgnoredAny};
use url::form_urlencoded;

use super::refuse::Failure;
use crate::api::Ask;
use crate::secret::Secret;

/// Bound on a body once it is unpacked, in bytes.
const LARGEST: usize = 64 << 10;
/// Bound on fields of a form.
const FIELDS: usize = 32;

/// What a body says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Media {
    Form,
    Json,
    Other,
}

/// The body of a request, unpacked.
#[derive(Debug)]
pub(super) struct Body {
    media: Media,
    bytes: Bytes,
}

impl Body {
    /// Unpacks the body; JSON is JSON afterwards.
    pub(super) fn read(ask: &Ask<'_>) -> Result<Self, Failure> {
        let bytes = match value(ask.headers, header::CONTENT_ENCODING)?.as_deref() {
            None | Some("" | "identity") => ask.body.clone(),
            Some(_) if ask.body.is_empty() => ask.body.clone(),
            Some("gzip" | "x-gzip") => unpacked(&ask.body)?,
            Some(_) => {
                let message = "send the body plain, or with Content-Encoding: gzip";
                return Err(unsupported(message));
            }
        };
        let media = match essence(ask.headers)?.as_deref() {
            Some("application/json") => Media::Json,
            Some("application/x-www-form-urlencoded") => Media::Form,
            _ => Media::Other,
        };
        let body = Self { media, bytes };
        if media == Media::Json && !body.is_empty() {
            body.json::<IgnoredAny>("")?;
        }
        Ok(body)
    }

    /// Whether there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.trim_ascii().is_empty()
    }

    /// Whether it is a form.
    pub(super) fn is_form(&self) -> bool {
        self.media == Media::Form
    }

    /// A document of the type `T`; `wanted` says what that is.
    pub(super) fn json<T: DeserializeOwned>(&self, wanted: &str) -> Result<T, Failure> {
        if self.media != Media::Json {
            return Err(unsupported("send the body as application/json"));
        }
        serde_json::from_slice(&self.bytes).map_err(|error| {
            if error.is_data() {
                return Failure::schema(wanted);
            }
            let message = "Malformed JSON in request body.";
            Failure::new(StatusCode::BAD_REQUEST, "malformed-body", message)
        })
    }

    /// Where a search begins (from 1) and ends, by its form and its query. Of a search nothing is
    /// refused: what cannot be meant has no effect.
    pub(super) fn window(&self, query: Option<&str>) -> (usize, usize) {
        let form = if self.is_form() { &*self.bytes } else { b"" };
        let query = query.unwrap_or_default().as_bytes();
        let number = |name: &str| {
            let mut fields = [form, query].into_iter().flat_map(form_urlencoded::parse);
            fields.find(|(known, _)| known == name)?.1.parse::<usize>().ok()
        };
        (number("first").unwrap_or(1).max(1), number("last").unwrap_or(usize::MAX))
    }

    /// The fields of a form; none of any other body.
    pub(super) fn fields(&self) -> Result<Fields, Failure> {
        let bytes = if self.is_form() { &*self.bytes } else { b"" };
        Fields::parse(bytes)
    }
}

/// The fields of a form. Any may be secret.
#[derive(Debug, Default)]
pub(super) struct Fields(pub(super) Vec<(String, Secret)>);

impl Fields {
    /// Reads `application/x-www-form-urlencoded`.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Failure> {
        let mut fields: Vec<(String, Secret)> = Vec::new();
        for pair in bytes.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
            let mut halves = pair.splitn(2, |byte| *byte == b'=');
            let name = decode(halves.next().unwrap_or_default())?;
            let value = decode(halves.next().unwrap_or_default())?;
            if fields.len() >= FIELDS || fields.iter().any(|(known, _)| *known == name) {
                return Err(Failure::schema("a form takes few fields, each of them once"));
            }
            fields.push((name, Secret::new(value)));
        }
        Ok(Self(fields))
    }

    /// A field.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.expose())
    }
}

/// Strict: what is not UTF-8 would otherwise be changed, and a password with it.
fn decode(text: &[u8]) -> Result<String, Failure> {
    let spaced: Vec<u8> =
        text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    let decoded = percent_decode(&spaced).decode_utf8();
    decoded.map(Into::into).map_err(|_| Failure::schema("the form is not UTF-8"))
}

fn unpacked(bytes: &Bytes) -> Result<Bytes, Failure> {
    let mut out = Vec::new();
    let limit = u64::try_from(LARGEST + 1).unwrap_or(u64::MAX);
    if MultiGzDecoder::new(&**bytes).take(limit).read_to_end(&mut out).is_err() {
        let message = "the body is not valid gzip";
        return Err(Failure::new(StatusCode::BAD_REQUEST, "malformed-body", message));
    }
    if out.len() > LARGEST {
        let message = format!("the body is larger than {LARGEST} bytes once it is unpacked");
        return Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", message));
    }
    Ok(out.into())
}

fn unsupported(message: &str) -> Failure {
    Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", message)
}

fn essence(headers: &HeaderMap) -> Result<Option<String>, Failure> {
    let essence = |value: String| value.split(';').next().unwrap_or_default().trim().to_owned();
    Ok(value(headers, header::CONTENT_TYPE)?.map(essence))
}

/// A header that comes once at most, in lower case.
fn value(headers: &HeaderMap, name: HeaderName) -> Result<Option<String>, Failure> {
    let mut values = headers.get_all(&name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(unsupported(&format!("{name} is given twice")));
    }
    let text = first.map(|value| value.to_str().unwrap_or("?").trim().to_ascii_lowercase());
    Ok(text)
}

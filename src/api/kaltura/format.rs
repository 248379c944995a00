//! The format that an answer is wanted in, and the headers that every answer has.

use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::error::ApiError;
use super::params::Params;
use super::value::Value;
use super::{json, xml};
use crate::api::Reply;

/// Longest name of a JSONP function.
const CALLBACK: usize = 128;

/// How answers are written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Format {
    /// 1.
    Json,
    /// 9: a call of this function.
    Jsonp(String),
    /// 2, and when nothing is asked for.
    #[default]
    Xml,
}

impl Format {
    /// The format that `params` ask for.
    ///
    /// # Errors
    /// It is not one that is written here; the error is to be written in the format that comes with it.
    pub(super) fn of(params: &Params) -> Result<Self, (Self, ApiError)> {
        let Some(format) = params.text("format") else { return Ok(Self::Xml) };
        match format.as_ref() {
            "1" => Ok(Self::Json),
            "2" => Ok(Self::Xml),
            "9" => {
                let callback = params.text("callback").unwrap_or_default();
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.".contains(&byte);
                if callback.is_empty() || callback.len() > CALLBACK || !callback.bytes().all(plain)
                {
                    let detail = "Format 9 needs a `callback` of letters, digits, `_` and `.`.";
                    return Err((Self::Json, ApiError::malformed(detail)));
                }
                Ok(Self::Jsonp(callback.into_owned()))
            }
            _ => {
                let detail =
                    "Ask for format 1 (JSON), 2 (XML) or 9 (JSONP): others are not served.";
                Err((Self::Xml, ApiError::malformed(detail)))
            }
        }
    }

    /// The format for a failure, of which often only the head is known: what its parameters ask for,
    /// else what its `Accept` does.
    pub(super) fn of_head(params: &Params, headers: &HeaderMap) -> Self {
        if params.text("format").is_some() {
            return Self::of(params).unwrap_or_else(|(format, _)| format);
        }
        let accept = headers.get_all(header::ACCEPT).iter();
        let mut accept = accept.filter_map(|value| value.to_str().ok());
        let json = accept.any(|value| {
            let position = |kind| value.to_ascii_lowercase().find(kind);
            match (position("/json"), position("/xml")) {
                (Some(json), Some(xml)) => json < xml,
                (json, _) => json.is_some(),
            }
        });
        if json { Self::Json } else { Self::Xml }
    }

    /// The answer. Its status is 200 whatever happened: clients look no further than that.
    pub(super) fn reply(&self, value: &Value) -> Reply {
        let retry_after = match value {
            Value::Error(error) => error.retry_after,
            _ => None,
        };
        let (kind, text) = match self {
            Self::Json => ("application/json", json::encode(value).to_string()),
            Self::Jsonp(callback) => {
                ("application/javascript; charset=utf-8", json::call(callback, value))
            }
            Self::Xml => ("text/xml", xml::encode(value)),
        };
        let reply = with_headers(Reply::new(StatusCode::OK, kind, text));
        match retry_after {
            Some(wait) => reply.with(header::RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1))),
            None => reply,
        }
    }
}

/// The answer to OPTIONS: pages of any origin may call, since nothing here goes by cookie.
pub(super) fn preflight() -> Reply {
    let fixed = HeaderValue::from_static;
    let allowed = "Accept, Accept-Language, Authorization, Cache-Control, Content-Type, Origin, \
                   Range, X-Kaltura-Session-Id, X-Requested-With";
    with_headers(Reply::empty(StatusCode::OK))
        .with(header::ACCESS_CONTROL_ALLOW_HEADERS, fixed(allowed))
        .with(header::ACCESS_CONTROL_ALLOW_METHODS, fixed("POST, GET, HEAD, OPTIONS"))
        .with(header::ACCESS_CONTROL_MAX_AGE, fixed("86400"))
}

fn with_headers(mut reply: Reply) -> Reply {
    let common: [(HeaderName, &'static str); 4] = [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    reply.headers.extend(common.map(|(name, value)| (name, HeaderValue::from_static(value))));
    reply
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::read;
    use super::*;

    #[test]
    fn formats_are_chosen() {
        let of = |query| Format::of(&read::head("/", Some(query)).params);
        assert_eq!(of(""), Ok(Format::Xml));
        assert_eq!(of("format=1"), Ok(Format::Json));
        assert_eq!(of("format=2"), Ok(Format::Xml));
        assert_eq!(of("format=9&callback=a.b_1"), Ok(Format::Jsonp("a.b_1".to_owned())));
        assert_eq!(of("format=3").unwrap_err().0, Format::Xml);
        let long = format!("format=9&callback={}", "a".repeat(CALLBACK + 1));
        for bad in ["format=9", "format=9&callback=a(b", "format=9&callback=%3Cscript%3E", &long] {
            assert_eq!(of(bad).unwrap_err().0, Format::Json, "{bad}");
        }
    }

    #[test]
    fn failures_are_written_as_the_client_reads() {
        let none = read::head("/", None).params;
        for (accept, format) in [
            ("application/json, text/plain, */*", Format::Json),
            ("text/xml", Format::Xml),
            ("text/html,application/xhtml+xml,application/xml;q=0.9", Format::Xml),
            ("application/xml, application/json", Format::Xml),
            ("*/*", Format::Xml),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(Format::of_head(&none, &headers), format, "{accept}");
        }
    }
}

//! The body of a request: read whole for own routes, looked at for some calls, or passed on unread.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http::{StatusCode, header};
use http_body::Body;
use http_body_util::BodyExt;

use super::exchange::Exchange;
use crate::api::Fault;
use crate::upstream::Incoming;

/// What there is of a body.
#[derive(Debug)]
pub(super) struct Upload {
    /// What was read ahead, if anything was.
    ahead: Option<Bytes>,
    rest: Incoming,
    /// Whether all of it was read ahead.
    whole: bool,
}

impl Upload {
    pub(super) fn new(rest: Incoming) -> Self {
        Self { ahead: None, rest, whole: false }
    }

    /// Whether there is a body, announced or not.
    pub(super) fn has_body(&self) -> bool {
        self.ahead.is_some() || !self.rest.is_end_stream()
    }

    /// What was looked at.
    pub(super) fn looked_at(&self) -> Option<&Bytes> {
        self.ahead.as_ref().filter(|_| self.whole)
    }

    /// What was read ahead, and the rest.
    pub(super) fn into_parts(self) -> (Bytes, Incoming) {
        (self.ahead.unwrap_or_default(), self.rest)
    }

    /// The whole body when it has at most `limit` bytes; otherwise nothing, and it stays whole for
    /// whoever it is passed on to.
    pub(super) async fn look(
        &mut self,
        parts: &Parts,
        limit: usize,
        time: Duration,
        exchange: &Exchange,
    ) -> Result<Option<Bytes>, Box<Fault>> {
        if announced(parts).is_some_and(|length| length > limit) {
            return Ok(None);
        }
        let (body, whole) = self.gather(limit, time, exchange).await?;
        (self.ahead, self.whole) = (Some(body.clone()), whole);
        Ok(whole.then_some(body))
    }

    /// The whole body of at most `limit` bytes.
    pub(super) async fn read(
        mut self,
        parts: &Parts,
        limit: usize,
        time: Duration,
        exchange: &Exchange,
    ) -> Result<Bytes, Box<Fault>> {
        if announced(parts).is_none_or(|length| length <= limit)
            && let (body, true) = self.gather(limit, time, exchange).await?
        {
            return Ok(body);
        }
        let detail = format!("The request's body is larger than {limit} bytes.");
        Err(Box::new(Fault::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", detail)))
    }

    /// Reads until the end or beyond `limit`; what was read, and whether that is all.
    async fn gather(
        &mut self,
        limit: usize,
        time: Duration,
        exchange: &Exchange,
    ) -> Result<(Bytes, bool), Box<Fault>> {
        let ahead = self.ahead.take().unwrap_or_default();
        if self.rest.is_end_stream() {
            return Ok((ahead, true));
        }
        let mut deadline = exchange.worker().timer.deadline(time);
        let rest = &mut self.rest;
        let collect = async {
            let mut body = BytesMut::from(ahead);
            while let Some(frame) = rest.frame().await {
                let frame = frame.map_err(|_| {
                    let detail = "The request's body broke off or is not valid.";
                    Box::new(Fault::new(StatusCode::BAD_REQUEST, "bad-body", detail))
                })?;
                if let Ok(data) = frame.into_data() {
                    body.extend_from_slice(&data);
                    if body.len() > limit {
                        return Ok((body.freeze(), false));
                    }
                }
            }
            Ok((body.freeze(), true))
        };
        deadline.limit(collect).await.unwrap_or_else(|| {
            let detail = "The request's body took too long.";
            Err(Box::new(Fault::new(StatusCode::REQUEST_TIMEOUT, "body-timeout", detail)))
        })
    }
}

fn announced(parts: &Parts) -> Option<usize> {
    parts.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

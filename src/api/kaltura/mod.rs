//! The Kaltura session API: calls of services and actions, in whatever encoding, with a KS as the carrier.
//!
//! Endpoints and their differences from the original are in `docs/api/kaltura.md`. Bytes of a KS are
//! [`crate::ks`]'s, rules about who may open one the core's.

mod actions;
mod call;
mod error;
mod format;
mod json;
mod multi;
mod multipart;
mod params;
mod read;
#[cfg(test)]
mod tests;
mod token;
mod value;
mod xml;

use std::sync::Arc;

use http::{Method, header};

use self::actions::Work;
use self::call::{Call, Whose, whose_together};
use self::error::ApiError;
use self::format::Format;
use self::params::Params;
use self::read::{HeadParams, Place};
use self::value::Value;
use super::{Ask, Context, Core, Dialect, Fault, Head, Kind, LocalFuture, Owns, Reply, Shown};
use crate::section::Section;

/// The registration.
pub(super) static KIND: Kind = Kind { name: NAME, prefix: Some(PREFIX), read };

const NAME: &str = "kaltura";
const PREFIX: &str = "/api_v3";

/// The dialect with its settings.
#[derive(Debug)]
pub struct Kaltura {
    /// Path of the mount, without a slash at its end.
    prefix: String,
}

fn read(section: &mut Section) -> Arc<dyn Dialect> {
    let prefix = section.text("prefix").map_or_else(|| PREFIX.to_owned(), |prefix| prefix.value);
    Arc::new(Kaltura::new(&prefix))
}

impl Kaltura {
    /// A dialect that is mounted at `prefix`.
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.trim_end_matches('/').to_owned() }
    }

    async fn respond(&self, ask: &Ask<'_>, core: Core<'_>) -> Reply {
        if *ask.method == Method::OPTIONS {
            return format::preflight();
        }
        let head = read::head(ask.path, ask.query);
        let known = Format::of_head(&head.params, ask.headers);
        let params = match read::whole(head, ask.headers, &ask.body) {
            Ok(params) => params,
            Err(detail) => return known.reply(&ApiError::malformed(detail).into()),
        };
        let format = match Format::of(&params) {
            Ok(format) => format,
            Err((format, error)) => return format.reply(&error.into()),
        };
        let mut target = format!("{}{}", self.prefix, ask.path);
        if let Some(query) = ask.query {
            target.push('?');
            target.push_str(query);
        }
        let work = Work { ask, core, target: &target };
        let several = Call::of(&params).is_some_and(|call| call.is_multirequest());
        let answer = if several { run_all(&work, &params).await } else { work.run(&params).await };
        format.reply(&answer)
    }
}

/// Runs the items of a multirequest one after the other; an error is the answer of its item only.
async fn run_all(work: &Work<'_>, params: &Params) -> Value {
    let items = multi::items(params);
    if items.len() > multi::ITEMS {
        return ApiError::malformed("A multirequest has at most 100 items.").into();
    }
    let calls: Vec<_> = items.iter().map(Call::of).collect();
    if let (_, true) = whose_together(&calls) {
        return ApiError::mixed().into();
    }
    let mut answers: Vec<Value> = Vec::with_capacity(items.len());
    for mut item in items {
        let answer = match multi::resolve(&mut item, &answers) {
            Ok(()) => work.run(&item).await,
            Err(error) => error.into(),
        };
        answers.push(answer);
    }
    Value::List(answers)
}

/// Whose a request is with all the parameters that it has.
fn whose(params: &Params) -> Whose {
    match Call::of(params) {
        None => Whose::Nobodys,
        Some(call) if call.is_multirequest() => {
            let items = multi::items(params);
            if items.len() > multi::ITEMS {
                return Whose::Ours;
            }
            let calls: Vec<_> = items.iter().map(Call::of).collect();
            whose_together(&calls).0
        }
        Some(call) => call.whose(),
    }
}

/// Whether a body follows, whatever the method.
fn announces_body(head: &Head<'_>) -> bool {
    let length = head.headers.get(header::CONTENT_LENGTH);
    head.has_body
        || length.is_some_and(|length| length != "0")
        || head.headers.contains_key(header::TRANSFER_ENCODING)
}

impl Dialect for Kaltura {
    fn name(&self) -> &'static str {
        NAME
    }

    fn owns(&self, head: &Head<'_>) -> Owns {
        let HeadParams { place, params, malformed } = read::head(head.path, head.query);
        if place == Place::Elsewhere {
            return Owns::No;
        }
        // What cannot be read is refused here: an app might read it in another way. Browsers ask whether
        // they may call before they know whom.
        if malformed.is_some() || *head.method == Method::OPTIONS {
            return Owns::Yes;
        }
        let has_body = !matches!(*head.method, Method::GET | Method::HEAD) || announces_body(head);
        // The body may name what the head does not, and clients put the ks of calls to apps there.
        let whose = match Call::of(&params) {
            None if has_body => return Owns::Told,
            None => return Owns::Unrouted,
            Some(call) if call.is_multirequest() && has_body => return Owns::Told,
            Some(call) if call.is_multirequest() => whose(&params),
            Some(call) if has_body && call.is_of_known_service() && call.action.is_empty() => {
                return Owns::Told;
            }
            Some(call) => call.whose(),
        };
        match whose {
            Whose::App if has_body && params.text("ks").is_none() => Owns::Unread,
            Whose::App => Owns::No,
            // Items may be in the body of the request that OPTIONS asks for: the answer is the same.
            Whose::Nobodys | Whose::Ours => Owns::Yes,
        }
    }

    fn owns_body(&self, head: &Head<'_>, body: &[u8]) -> bool {
        let params = read::whole(read::head(head.path, head.query), head.headers, body);
        // What nobody can read is refused here.
        params.map_or(true, |params| whose(&params) != Whose::App)
    }

    fn token(&self, head: &Head<'_>, body: Option<&[u8]>) -> Shown {
        match token::find(head, body) {
            Ok(None) => Shown::Nothing,
            Ok(Some(token)) => Shown::Token(token),
            Err(token::Several) => Shown::Several,
        }
    }

    fn takes_links(&self) -> bool {
        true
    }

    fn has_pairs(&self) -> bool {
        true
    }

    fn finds_sessions(&self) -> bool {
        // Each item of a multirequest may have another one.
        true
    }

    fn answer<'a>(&'a self, ask: Ask<'a>, core: Core<'a>) -> LocalFuture<'a, Reply> {
        Box::pin(async move { self.respond(&ask, core).await })
    }

    fn refuse(&self, fault: &Fault, context: &Context<'_>) -> Reply {
        let (path, query) = match context.target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (context.target, None),
        };
        let below = path.get(self.prefix.len()..).unwrap_or_default();
        let params = read::head(below, query).params;
        let call = Call::of(&params);
        let error = match fault.sign_in && context.identity.is_some() {
            // There is a ks, and it may not do this.
            true => ApiError::forbidden(call.as_ref().unwrap_or(&Call::default())),
            false => ApiError::of_fault(fault, call.as_ref()),
        };
        Format::of_head(&params, context.headers).reply(&error.into())
    }
}

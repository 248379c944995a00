//! The dialect of Nuvla's API for sessions, mounted at `/api`.
//!
//! Decodes into [`Command`](crate::session::Command)s and words outcomes; has no session rules. Owns
//! sessions and their templates only: every other place under the mount is an app's.
//!
//! | below the mount | methods | answer |
//! |---|---|---|
//! | `/session-template` | GET, PUT | 200 the enabled login methods, for everybody |
//! | `/session-template/<id>` | GET, PUT without a body | 200 one of them; 404 |
//! | `/session` | POST JSON or form | 201 `Location`, cookie; 400, 403, 404 |
//! | `/session` | GET, PUT | 200 the own session or none, never 401 |
//! | `/session/<uuid>` | GET | 200 the own session; 403, 404 |
//! | `/session/<uuid>` | DELETE | 200, cookie taken back; 403, 404 |
//! | `/session/<uuid>/switch-group` | any, `{claim, extended}` | 200 the session, new cookie; 403 |
//! | `/session/<uuid>/get-groups` | any | 200 the tree of groups |
//! | `/session/<uuid>/get-peers` | any | 200 a map of users to e-mail addresses |
//! | `/cloud-entry-point` | GET | 200 what there is, where no app has one |
//!
//! OPTIONS is 204 everywhere, HEAD is answered like GET. A session in a cookie changes at the word of its
//! own site only, and no other site signs anybody in; programs send neither `Origin` nor `Sec-Fetch-Site`.

mod action;
mod body;
mod claim;
mod login;
mod refuse;
mod resource;
mod template;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use http::header::{self, HeaderName, HeaderValue};
use http::{Method, StatusCode};

use self::body::Body;
use self::refuse::Failure;
use super::{
    Ask, Context, Core, Dialect, Fault, Head, Kind, LocalFuture, Owns, Reply, is_cross_site,
};
use crate::section::Section;
use crate::session::Live;

const PREFIX: &str = "/api";

/// `[api.nuvla]`.
pub static KIND: Kind = Kind { name: "nuvla", prefix: Some(PREFIX), read };

fn read(section: &mut Section) -> Arc<dyn Dialect> {
    let prefix = section.text("prefix").map(|prefix| prefix.value);
    let prefix = prefix.as_deref().unwrap_or(PREFIX).trim_end_matches('/').to_owned();
    Arc::new(Nuvla { prefix, renew_on_switch: section.flag("renew_on_switch", false) })
}

/// Nuvla's API for sessions.
#[derive(Debug)]
pub struct Nuvla {
    /// Path of the mount, without a slash at its end.
    prefix: String,
    /// Whether a switch of the claim begins the session's lifetime anew, as in Nuvla.
    renew_on_switch: bool,
}

/// The own routes. Ids are as they were sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route<'a> {
    Action(&'a str, &'a str),
    Entry,
    Session(&'a str),
    Sessions,
    Template(&'a str),
    Templates,
}

impl<'a> Route<'a> {
    fn find(path: &'a str) -> Option<Self> {
        let mut parts = path.strip_prefix('/')?.split('/');
        let kind = parts.next()?;
        let (id, action, more) = (parts.next(), parts.next(), parts.next());
        Some(match (kind, id, action, more) {
            ("cloud-entry-point", None, None, None) => Self::Entry,
            ("session", None, None, None) => Self::Sessions,
            ("session", Some(id), None, None) if !id.is_empty() => Self::Session(id),
            ("session", Some(id), Some(action), None) if !id.is_empty() && !action.is_empty() => {
                Self::Action(id, action)
            }
            ("session-template", None, None, None) => Self::Templates,
            ("session-template", Some(id), None, None) if !id.is_empty() => Self::Template(id),
            _ => return None,
        })
    }

    /// As the Allow header lists them (RFC 9110 section 10.2.1); of an action the usual one.
    fn methods(self) -> &'static str {
        match self {
            Self::Action(..) => "POST, OPTIONS",
            Self::Entry => "GET, HEAD, OPTIONS",
            Self::Session(_) => "GET, HEAD, DELETE, OPTIONS",
            Self::Sessions => "GET, HEAD, PUT, POST, OPTIONS",
            Self::Template(_) | Self::Templates => "GET, HEAD, PUT, OPTIONS",
        }
    }
}

impl Nuvla {
    async fn serve(&self, ask: &Ask<'_>, core: Core<'_>) -> Result<Reply, Failure> {
        let route = Route::find(ask.path).ok_or_else(|| self.unknown(ask))?;
        if *ask.method == Method::OPTIONS {
            let allow = HeaderValue::from_static(route.methods());
            return Ok(Reply::empty(StatusCode::NO_CONTENT).with(header::ALLOW, allow));
        }
        let mut methods = route.methods().split(", ");
        let takes_any = matches!(route, Route::Action(..));
        if !takes_any && !methods.any(|method| method == ask.method.as_str()) {
            return Err(self.wrong_method(ask, route));
        }
        let body = Body::read(ask)?;
        match route {
            Route::Action(id, action) => self.act(id, action, ask, &body, core).await,
            Route::Entry => Ok(resource::entry_point(ask.origin, &self.prefix)),
            Route::Session(id) if *ask.method == Method::DELETE => self.delete(id, ask, core).await,
            Route::Session(id) => self.show(id, ask, core).await,
            Route::Sessions if *ask.method == Method::POST => self.login(ask, &body, core).await,
            Route::Sessions => self.search(ask, &body),
            Route::Template(_) if *ask.method == Method::PUT && !body.is_empty() => {
                Err(self.wrong_method(ask, route))
            }
            Route::Template(id) => template::one(id, core).await,
            Route::Templates => template::all(ask, &body, core).await,
        }
    }

    /// The path as the client sent it.
    fn uri(&self, ask: &Ask<'_>) -> String {
        format!("{}{}", self.prefix, ask.path)
    }

    fn unknown(&self, ask: &Ask<'_>) -> Failure {
        Failure::new(StatusCode::NOT_FOUND, "no-route", refuse::UNKNOWN).about(self.uri(ask))
    }

    fn wrong_method(&self, ask: &Ask<'_>, route: Route<'_>) -> Failure {
        let uri = self.uri(ask);
        let message = refuse::invalid_method(ask.method, &uri);
        let status = StatusCode::METHOD_NOT_ALLOWED;
        let mut failure = Failure::new(status, "method-not-allowed", message).about(uri);
        failure.fault.allow = Some(route.methods().to_owned());
        failure
    }
}

impl Dialect for Nuvla {
    fn name(&self) -> &'static str {
        KIND.name
    }

    fn owns(&self, head: &Head<'_>) -> Owns {
        let kind = head.path.strip_prefix('/').unwrap_or_default();
        match kind.split('/').next().unwrap_or_default() {
            "session" | "session-template" => Owns::Yes,
            "cloud-entry-point" if kind == "cloud-entry-point" => Owns::Unrouted,
            _ => Owns::No,
        }
    }

    fn is_login(&self, head: &Head<'_>, _: &[u8]) -> bool {
        *head.method == Method::POST && head.path == "/session"
    }

    fn answer<'a>(&'a self, ask: Ask<'a>, core: Core<'a>) -> LocalFuture<'a, Reply> {
        Box::pin(async move {
            let reply = match self.serve(&ask, core).await {
                Ok(reply) => reply,
                Err(failure) => failure.reply(),
            };
            finished(reply)
        })
    }

    fn refuse(&self, fault: &Fault, context: &Context<'_>) -> Reply {
        finished(refuse::word(fault, context))
    }
}

/// The reply with the headers that all own answers have.
fn finished(reply: Reply) -> Reply {
    reply
        .with(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))
        .with(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"))
        .with(
            HeaderName::from_static("x-content-type-options"),
            HeaderValue::from_static("nosniff"),
        )
}

/// A change that another site's page asks for is not made.
fn same_site(ask: &Ask<'_>) -> Result<(), Failure> {
    if !is_cross_site(ask.headers, ask.origin) {
        return Ok(());
    }
    tracing::info!(request = ask.caller.request, path = ask.path, "cross-site-request");
    let message = "The request was made by a page of another site, so nothing was done.";
    Err(Failure::new(StatusCode::FORBIDDEN, "cross-site-request", message))
}

/// A change of the session that came with the request.
fn own_change(ask: &Ask<'_>) -> Result<(), Failure> {
    if ask.by_cookie { same_site(ask) } else { Ok(()) }
}

/// The session that came, when it is the one that is named.
fn named<'a>(ask: &'a Ask<'_>, id: &str) -> Option<&'a Arc<Live>> {
    ask.caller.session.as_ref().filter(|live| live.identity().session == id)
}

//! The browser dialect: pages for people and JSON for their scripts, mounted at `/auth`.
//!
//! The reference for other dialects. Decodes into [`Command`](crate::session::Command)s and words
//! outcomes; has no session rules, and never puts a token into a body or a URL. The secret of a new API
//! key is the one secret that a body holds.
//!
//! | below the mount | methods | answer |
//! |---|---|---|
//! | `/` | GET | 303 to `/account` |
//! | `/login` | GET, POST form `username`, `password`, `next`, `fragment` | page; 303 to where the browser wanted to go |
//! | `/continue` | GET `?next=` | page: a form was lost, here is the way back |
//! | `/logout` | GET, POST form `next` | page that asks; 303 to `/logged-out`, or with `next` to `/login` |
//! | `/logged-out` | GET | page |
//! | `/account` | GET | page |
//! | `/switch` | POST form `claim`, `extended`, `next` or JSON `{claim, extended}` | 303; 200 the session |
//! | `/session` | GET, POST JSON `{username, password}`, DELETE | 200 or 401; 201; 204 |
//! | `/sessions` | GET, DELETE | 200 the own sessions; 200 `{ended}`: all others ended |
//! | `/sessions/<id>` | DELETE | 204; 404 |
//! | `/sessions/end`, `/sessions/end-others` | POST form `id`; POST | 303 to `/account` |
//! | `/keys` | GET, POST JSON `{name, expires}` | 200 the keys of the active claim; 201 the new one with its secret |
//! | `/keys/<id>` | DELETE | 204; 404 |
//! | `/keys/create`, `/keys/revoke` | POST form `name`, `expires`; POST form `id` | page with the secret; 303 to `/account` |
//! | `/static/<hash>.css`, `.js` | GET | what the pages load, cached for good |
//!
//! HEAD is answered like GET. `next` is a state id that this gateway made, or a path of the own
//! origin; anything else leads to `/`. Every POST and DELETE, login included, is refused when another
//! site's page made it.

mod account;
mod form;
mod json;
mod keys;
mod refuse;
mod returns;
mod sign_in;
mod target;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use http::header::{self, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use self::form::Media;
use self::returns::{Place, Returns};
use super::{Ask, Context, Core, Dialect, Fault, Head, LocalFuture, Reply, is_cross_site};
use crate::clock::Clock;
use crate::pages::{self, Brand, PageError, Pages};
use crate::session::{Identity, Live};

/// The headers of every page of the gateway, besides `Strict-Transport-Security`.
static PAGE_HEADERS: [(HeaderName, HeaderValue); 7] = [
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(pages::CSP)),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("same-origin"),
    ),
    (
        HeaderName::from_static("permissions-policy"),
        HeaderValue::from_static("camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    ),
    (header::REFERRER_POLICY, HeaderValue::from_static("same-origin")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
];

/// The headers that every page of the gateway carries. `Strict-Transport-Security` is the server's.
pub fn page_headers() -> &'static [(HeaderName, HeaderValue)] {
    &PAGE_HEADERS
}

/// What the dialect is told by the configuration.
#[derive(Clone, Debug)]
pub struct BrowserSettings {
    /// Path of the mount, such as `/auth`; a slash at its end does not matter.
    pub mount: String,
    /// The product name that people see.
    pub name: String,
}

/// The dialect for people.
#[derive(Debug)]
pub struct Browser {
    mount: String,
    pages: Arc<Pages>,
    returns: Arc<Returns>,
}

impl Browser {
    /// A dialect that knows of no sign-in under way.
    ///
    /// # Errors
    /// When the mount is not a plain path.
    pub fn new(settings: BrowserSettings, clock: Clock) -> Result<Self, PageError> {
        Self::with(settings, Arc::new(Returns::new(clock)))
    }

    /// The dialect for a new configuration: sign-ins that are under way go on.
    ///
    /// # Errors
    /// When the mount is not a plain path.
    pub fn renewed(&self, settings: BrowserSettings) -> Result<Self, PageError> {
        Self::with(settings, Arc::clone(&self.returns))
    }

    fn with(settings: BrowserSettings, returns: Arc<Returns>) -> Result<Self, PageError> {
        let mount = settings.mount.trim_end_matches('/').to_owned();
        let brand = Brand { name: settings.name, mount: settings.mount };
        Ok(Self { mount, pages: Arc::new(Pages::new(&brand)?), returns })
    }

    /// The pages, for the built-in app.
    pub fn pages(&self) -> Arc<Pages> {
        Arc::clone(&self.pages)
    }

    /// Path of the mount, without a slash at its end.
    pub fn mount(&self) -> &str {
        &self.mount
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.mount)
    }

    /// The sign-in page for `next`, which may be empty.
    fn login_url(&self, next: &str) -> String {
        match next {
            "" => self.at("/login"),
            next => {
                format!("{}/login?next={}", self.mount, utf8_percent_encode(next, NON_ALPHANUMERIC))
            }
        }
    }

    /// Where `next` leads: a place kept for this host, or a path of the own origin.
    fn place(&self, next: &str, origin: &str) -> Option<Place> {
        if !next.starts_with('/') {
            return self.returns.find(host_of(origin), next);
        }
        let target = target::own_path(next, origin, &self.mount)?.to_owned();
        Some(Place { target, reason: None })
    }

    async fn serve(&self, ask: &Ask<'_>, core: Core<'_>) -> Result<Reply, Fault> {
        let route = Route::find(ask.path).ok_or_else(no_page)?;
        let safe = matches!(*ask.method, Method::GET | Method::HEAD);
        let known = route.methods().split(", ").any(|method| method == ask.method.as_str());
        if !known {
            return Err(wrong_method(route));
        }
        if !safe && is_cross_site(ask.headers, ask.origin) {
            tracing::info!(request = ask.caller.request, path = ask.path, "cross-site-request");
            return self.cross_site(route, ask);
        }
        match (route, safe) {
            (Route::Account, _) => self.account(ask, core).await,
            (Route::Continue, _) => self.lost_form(ask),
            (Route::EndOthers, _) => self.end_others_form(ask, core).await,
            (Route::EndSession, _) => self.end_form(ask, core).await,
            (Route::Home, _) => Ok(Reply::see_other(&self.at("/account"))),
            (Route::Keys, true) => self.keys(ask, core).await,
            (Route::Keys, false) => self.issue_json(ask, core).await,
            (Route::LoggedOut, _) => Ok(self.logged_out(ask)),
            (Route::Login, true) => self.login_page(ask),
            (Route::Login, false) => self.login(ask, core).await,
            (Route::Logout, true) => self.logout_page(ask),
            (Route::Logout, false) => self.logout(ask, core).await,
            (Route::NewKey, _) => self.issue_form(ask, core).await,
            (Route::One(id), _) => self.end_json(id, ask, core).await,
            (Route::OneKey(id), _) => self.revoke_json(id, ask, core).await,
            (Route::RevokeKey, _) => self.revoke_form(ask, core).await,
            (Route::Session, true) => self.who(ask, core).await,
            (Route::Session, false) if *ask.method == Method::POST => {
                self.login_json(ask, core).await
            }
            (Route::Session, false) => self.logout_json(ask, core).await,
            (Route::Sessions, true) => self.sessions(ask, core).await,
            (Route::Sessions, false) => self.end_others_json(ask, core).await,
            (Route::Static(name), _) => asset(name),
            // A browser says that it sends a form.
            (Route::Switch, _)
                if Media::of(ask) == Media::Json
                    || !ask.headers.contains_key(header::CONTENT_TYPE) =>
            {
                self.switch_json(ask, core).await
            }
            (Route::Switch, _) => self.switch_form(ask, core).await,
        }
    }

    fn context<'a>(&self, ask: &'a Ask<'_>, target: &'a str) -> Context<'a> {
        Context {
            headers: ask.headers,
            method: ask.method,
            request: &ask.caller.request,
            identity: ask.caller.session.as_ref().map(|live| live.identity()),
            target,
            host: host_of(ask.origin),
            ip: ask.caller.ip,
            stale: ask.stale,
            now: ask.now,
        }
    }
}

impl Dialect for Browser {
    fn name(&self) -> &'static str {
        "browser"
    }

    fn answer<'a>(&'a self, ask: Ask<'a>, core: Core<'a>) -> LocalFuture<'a, Reply> {
        Box::pin(async move {
            let reply = match self.serve(&ask, core).await {
                Ok(reply) => reply,
                Err(fault) => {
                    let mut target = self.at(ask.path);
                    if let Some(query) = ask.query {
                        target.push('?');
                        target.push_str(query);
                    }
                    // A script that posted JSON cannot use a page.
                    let json = Media::of(&ask) == Media::Json;
                    self.word(&fault, &self.context(&ask, &target), json)
                }
            };
            finished(reply)
        })
    }

    fn is_login(&self, head: &Head<'_>, _: &[u8]) -> bool {
        head.path == "/login" || *head.method == Method::POST && head.path == "/session"
    }

    fn refuse(&self, fault: &Fault, context: &Context<'_>) -> Reply {
        finished(self.word(fault, context, false))
    }
}

/// The own routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route<'a> {
    Account,
    Continue,
    EndOthers,
    EndSession,
    Home,
    Keys,
    LoggedOut,
    Login,
    Logout,
    NewKey,
    One(&'a str),
    OneKey(&'a str),
    RevokeKey,
    Session,
    Sessions,
    Static(&'a str),
    Switch,
}

impl<'a> Route<'a> {
    fn find(path: &'a str) -> Option<Self> {
        Some(match path {
            "/" => Self::Home,
            "/account" => Self::Account,
            "/continue" => Self::Continue,
            "/keys" => Self::Keys,
            "/keys/create" => Self::NewKey,
            "/keys/revoke" => Self::RevokeKey,
            "/logged-out" => Self::LoggedOut,
            "/login" => Self::Login,
            "/logout" => Self::Logout,
            "/session" => Self::Session,
            "/sessions" => Self::Sessions,
            "/sessions/end" => Self::EndSession,
            "/sessions/end-others" => Self::EndOthers,
            "/switch" => Self::Switch,
            _ => {
                let below = |folder: &str| path.strip_prefix(folder);
                let key = || below("/keys/").map(Self::OneKey);
                let one = || below("/sessions/").map(Self::One);
                return below("/static/").map(Self::Static).or_else(key).or_else(one);
            }
        })
    }

    /// As the Allow header lists them (RFC 9110 section 10.2.1).
    fn methods(self) -> &'static str {
        match self {
            Self::Account | Self::Continue | Self::Home | Self::LoggedOut | Self::Static(_) => {
                "GET, HEAD"
            }
            Self::EndOthers | Self::EndSession | Self::NewKey | Self::RevokeKey | Self::Switch => {
                "POST"
            }
            Self::Keys => "GET, HEAD, POST",
            Self::Login | Self::Logout => "GET, HEAD, POST",
            Self::One(_) | Self::OneKey(_) => "DELETE",
            Self::Session => "GET, HEAD, POST, DELETE",
            Self::Sessions => "GET, HEAD, DELETE",
        }
    }

    /// Whether only programs use it: its failures are never pages or redirects.
    fn is_for_programs(self) -> bool {
        matches!(self, Self::Keys | Self::One(_) | Self::OneKey(_) | Self::Session | Self::Sessions)
    }
}

fn no_page() -> Fault {
    Fault::new(StatusCode::NOT_FOUND, "no-route", "There is no such page.")
}

fn wrong_method(route: Route<'_>) -> Fault {
    let detail = format!("This address takes {} only.", route.methods());
    let mut fault = Fault::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail);
    fault.allow = Some(route.methods().to_owned());
    fault
}

fn asset(name: &str) -> Result<Reply, Fault> {
    let (content_type, text) = match name.rsplit_once('.') {
        Some((hash, "css")) if hash == pages::stylesheet().0 => {
            ("text/css; charset=utf-8", pages::stylesheet().1)
        }
        Some((hash, "js")) if hash == pages::script().0 => {
            ("text/javascript; charset=utf-8", pages::script().1)
        }
        _ => return Err(no_page()),
    };
    // The name changes with the content.
    let cache = HeaderValue::from_static("public, max-age=31536000, immutable");
    Ok(Reply::new(StatusCode::OK, content_type, text).with(header::CACHE_CONTROL, cache))
}

/// The reply with the headers that all own answers have; what it has already stays.
fn finished(mut reply: Reply) -> Reply {
    let page = reply.headers.iter().any(|(name, value)| {
        *name == header::CONTENT_TYPE && value.as_bytes().starts_with(b"text/html")
    });
    let common = [header::CACHE_CONTROL, header::REFERRER_POLICY, header::X_CONTENT_TYPE_OPTIONS];
    for (name, value) in &PAGE_HEADERS {
        let known = reply.headers.iter().any(|(known, _)| known == name);
        if !known && (page || common.contains(name)) {
            reply.headers.push((name.clone(), value.clone()));
        }
    }
    reply
}

/// The host of an origin, with its port.
fn host_of(origin: &str) -> &str {
    origin.split_once("://").map_or(origin, |(_, host)| host)
}

/// What to call somebody.
fn shown(identity: &Identity) -> &str {
    if identity.name.is_empty() { &identity.identifier } else { &identity.name }
}

fn not_signed_in() -> Fault {
    Fault::from(&crate::session::Refusal::NotSignedIn)
}

fn signed_in<'a>(ask: &'a Ask<'_>) -> Result<&'a Arc<Live>, Fault> {
    ask.caller.session.as_ref().ok_or_else(not_signed_in)
}

/// An outcome that its command never has.
fn unexpected() -> Fault {
    let detail = "The gateway did not understand its own answer.";
    Fault::new(StatusCode::INTERNAL_SERVER_ERROR, "internal-error", detail)
}

//! The Versal session API: `SID` as the carrier, JSON in and out, errors as `{"error", "message"}`.
//!
//! Endpoints and their differences from the original are in `docs/api/versal.md`. Rules about who may
//! act for whom are the core's.

mod ask;
mod shapes;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderName, HeaderValue};
use http::{Method, StatusCode};

use self::ask::{Place, SignIn};
use super::{
    Ask, Context, Core, Dialect, Fault, Head, Kind, LocalFuture, Owns, Reply, Shown, is_cross_site,
};
use crate::ks::Ks;
use crate::section::Section;
use crate::session::{
    Caller, Command, Form, KeySecret, Live, Opening, Outcome, Refusal, Terms, Token, Whom,
};

/// The registration.
pub(super) static KIND: Kind = Kind { name: NAME, prefix: None, read };

const NAME: &str = "versal";
/// The carrier.
const SID: HeaderName = HeaderName::from_static("sid");
/// What older clients send and read instead.
const SESSION_ID: HeaderName = HeaderName::from_static("session_id");
const AUTHSID: HeaderName = HeaderName::from_static("authsid");
const DAY: Duration = Duration::from_secs(86_400);

/// The dialect with its settings.
#[derive(Debug)]
pub struct Versal {
    lifetime: Duration,
    idle: Duration,
    /// Where a token is looked for.
    accepted: Vec<HeaderName>,
    /// What does not go to apps.
    removed: Vec<HeaderName>,
}

/// `[api.versal]`: `lifetime`, `idle`, `legacy_headers`, `pass_on`.
fn read(section: &mut Section) -> Arc<dyn Dialect> {
    const SECOND: Duration = Duration::from_secs(1);
    let year = 366 * DAY;
    let lifetime = section.duration("lifetime", 90 * DAY, SECOND..=10 * year);
    let idle = section.duration("idle", lifetime.min(30 * DAY), SECOND..=year);
    if idle > lifetime {
        let what = "`api.versal.idle` is longer than `lifetime`: it would have no effect";
        section.problem("idle", what, "make it shorter, or lengthen `lifetime`");
    }
    let legacy = section.flag("legacy_headers", false);
    let pass_on = section.flag("pass_on", false);
    Arc::new(Versal::new(lifetime, idle, legacy, pass_on))
}

impl Versal {
    /// A dialect whose sessions live for `lifetime`, `idle` without use; `legacy` also takes the headers
    /// `SESSION_ID` and `AUTHSID`; with `pass_on` the carriers go to apps, too.
    pub fn new(lifetime: Duration, idle: Duration, legacy: bool, pass_on: bool) -> Self {
        let accepted = if legacy { vec![SID, SESSION_ID, AUTHSID] } else { vec![SID] };
        let removed = if pass_on { Vec::new() } else { accepted.clone() };
        Self { lifetime, idle, accepted, removed }
    }

    fn terms(&self) -> Terms {
        Terms { form: Form::Sid, lifetime: Some(self.lifetime), idle: Some(self.idle) }
    }

    async fn respond(&self, ask: &Ask<'_>, core: Core<'_>) -> Result<Reply, Fault> {
        let place = Place::find(ask.path).ok_or_else(nothing_here)?;
        let allowed = place.method();
        let reads = *ask.method == Method::HEAD && allowed == Method::GET;
        if *ask.method != allowed && !reads {
            return Err(wrong_method(ask.method, &allowed));
        }
        // A header is set by a program on purpose; a cookie goes along with anything.
        if ask.by_cookie && !reads && is_cross_site(ask.headers, ask.origin) {
            let detail = "A page of another site may not do this.";
            return Err(Fault::new(StatusCode::FORBIDDEN, "cross-site", detail));
        }
        match place {
            Place::Sessions => self.act_for(ask::target(&ask.body)?, ask, core).await,
            Place::SignIn(None) => {
                let credentials = ask::credentials(ask)?;
                let opening = Opening { credentials, terms: self.terms() };
                self.signed_in(Command::Login(opening), ask, core).await
            }
            Place::SignIn(Some(id)) => self.sign_in_as(id, ask, core).await,
            Place::SignOut => {
                core.execute(Command::Logout, &ask.caller).await.map_err(worded)?;
                Ok(Reply::empty(StatusCode::NO_CONTENT))
            }
            Place::Session => {
                let live = caller(ask)?;
                Ok(Reply::json(StatusCode::OK, &shapes::session(live.identity())))
            }
            Place::User => {
                let live = caller(ask)?;
                let user = shapes::user(live.identity()).ok_or_else(invalid)?;
                Ok(Reply::json(StatusCode::OK, &user))
            }
            Place::NewPartnerKey(id) => {
                let command = Command::IssuePartnerKey(alias(id));
                match core.execute(command, &ask.caller).await {
                    Ok(Outcome::KeyIssued(_, secret)) => {
                        Ok(Reply::json(StatusCode::CREATED, &shapes::key(&secret)))
                    }
                    outcome => Err(failed(outcome, id)),
                }
            }
            Place::PartnerKeys(id) => {
                let command = Command::RevokePartnerKeys(alias(id));
                match core.execute(command, &ask.caller).await {
                    Ok(Outcome::Ended(_)) => Ok(Reply::empty(StatusCode::NO_CONTENT)),
                    outcome => Err(failed(outcome, id)),
                }
            }
        }
    }

    /// POST `/sessions`: a partner opens a session for a user.
    async fn act_for(&self, whom: Whom, ask: &Ask<'_>, core: Core<'_>) -> Result<Reply, Fault> {
        let (name, by_email) = match &whom {
            Whom::Alias { id, .. } => (id.clone(), false),
            Whom::Email(email) => (email.clone(), true),
        };
        match core.execute(Command::ActFor(whom, self.terms()), &ask.caller).await {
            Ok(Outcome::Opened(live, token)) => Ok(opened(StatusCode::CREATED, &live, &token)),
            // Of an e-mail address the contract says so.
            Err(Refusal::Missing(_)) if by_email => {
                let detail = format!("User '{name}' not found");
                Err(Fault::new(StatusCode::BAD_REQUEST, "user-not-found", detail))
            }
            outcome => Err(failed(outcome, &name)),
        }
    }

    /// POST `/signin/<userId>`: by the user's own password, or for the user by a partner.
    async fn sign_in_as(&self, id: &str, ask: &Ask<'_>, core: Core<'_>) -> Result<Reply, Fault> {
        let command = match ask::password(&ask.body)? {
            SignIn::Password(password) => {
                let command = Command::LoginAs { user: alias(id), password, terms: self.terms() };
                return self.signed_in(command, ask, core).await;
            }
            SignIn::Partner => Command::ActFor(alias(id), self.terms()),
        };
        match core.execute(command, &ask.caller).await {
            Ok(Outcome::Opened(live, token)) => Ok(opened(StatusCode::OK, &live, &token)),
            outcome => Err(failed(outcome, id)),
        }
    }

    async fn signed_in(
        &self,
        command: Command,
        ask: &Ask<'_>,
        core: Core<'_>,
    ) -> Result<Reply, Fault> {
        // A session that rides along is not this client's former one: it goes on.
        let caller = Caller { session: None, ..ask.caller.clone() };
        match core.execute(command, &caller).await.map_err(worded)? {
            Outcome::Opened(live, token) => Ok(opened(StatusCode::OK, &live, &token)),
            _ => Err(unexpected()),
        }
    }
}

impl Dialect for Versal {
    fn name(&self) -> &'static str {
        NAME
    }

    fn owns(&self, head: &Head<'_>) -> Owns {
        if Place::find(head.path).is_some() { Owns::Yes } else { Owns::No }
    }

    fn token(&self, head: &Head<'_>, _: Option<&[u8]>) -> Shown {
        let mut values = self.accepted.iter().flat_map(|name| head.headers.get_all(name));
        let Some(value) = values.next() else { return Shown::Nothing };
        // Several that differ: somebody may have added one, so none counts.
        if values.any(|other| other != value) {
            return Shown::Several;
        }
        let text = value.as_bytes().trim_ascii();
        let token = Token::parse_sid(text).or_else(|| Token::parse(text)).or_else(|| {
            let text = str::from_utf8(text).ok()?;
            // A KS is longer than any key.
            let ks = Ks::parse(text).map(|ks| Token::of_text(Form::Ks, ks.identity(), text.into()));
            ks.ok().or_else(|| KeySecret::parse(text).map(|secret| secret.token()))
        });
        token.map_or(Shown::Nothing, Shown::Token)
    }

    fn is_login(&self, head: &Head<'_>, body: &[u8]) -> bool {
        match Place::find(head.path) {
            Some(Place::SignIn(None)) => true,
            Some(Place::SignIn(Some(_))) => matches!(ask::password(body), Ok(SignIn::Password(_))),
            _ => false,
        }
    }

    fn carriers(&self) -> &[HeaderName] {
        &self.removed
    }

    fn answer<'a>(&'a self, ask: Ask<'a>, core: Core<'a>) -> LocalFuture<'a, Reply> {
        Box::pin(async move {
            if *ask.method == Method::OPTIONS {
                return finished(Reply::empty(StatusCode::NO_CONTENT));
            }
            finished(self.respond(&ask, core).await.unwrap_or_else(|fault| shapes::error(&fault)))
        })
    }

    fn refuse(&self, fault: &Fault, _: &Context<'_>) -> Reply {
        if fault.sign_in {
            let refusal = Fault { retry_after: fault.retry_after, ..invalid() };
            return finished(shapes::error(&refusal));
        }
        finished(shapes::error(fault))
    }
}

fn alias(id: &str) -> Whom {
    Whom::Alias { dialect: NAME, id: id.to_owned() }
}

fn caller<'a>(ask: &'a Ask<'_>) -> Result<&'a Arc<Live>, Fault> {
    ask.caller.session.as_ref().ok_or_else(invalid)
}

/// A session was opened: its id goes into the body, and into a header for the oldest clients.
fn opened(status: StatusCode, live: &Live, token: &Token) -> Reply {
    let sid = token.encode();
    let reply = Reply::json(status, &shapes::opened(live.identity(), &sid));
    let Ok(mut value) = HeaderValue::from_str(&sid) else { return reply };
    value.set_sensitive(true);
    reply.with(SESSION_ID, value)
}

/// The reply with the headers that all own answers have.
fn finished(reply: Reply) -> Reply {
    reply
        .with(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))
        .with(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"))
}

/// The fault for what the core did not do for the user whom the client named.
fn failed(outcome: Result<Outcome, Refusal>, name: &str) -> Fault {
    match outcome {
        Err(Refusal::Missing(_)) => {
            let detail = format!("User '{name}' not found");
            Fault::new(StatusCode::NOT_FOUND, "user-not-found", detail)
        }
        Err(refusal) => worded(refusal),
        Ok(_) => unexpected(),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is used with map_err")]
fn worded(refusal: Refusal) -> Fault {
    match &refusal {
        Refusal::NotSignedIn | Refusal::InvalidCredentials => invalid(),
        Refusal::Forbidden => {
            let detail = "Insufficient permissions (must be a partner)";
            Fault::new(StatusCode::FORBIDDEN, "not-a-partner", detail)
        }
        other => Fault::from(other),
    }
}

fn invalid() -> Fault {
    Fault::new(StatusCode::UNAUTHORIZED, "invalid-credentials", "Invalid credentials")
}

fn nothing_here() -> Fault {
    Fault::new(StatusCode::NOT_FOUND, "no-route", "There is no such resource.")
}

fn unexpected() -> Fault {
    Fault::new(StatusCode::INTERNAL_SERVER_ERROR, "unexpected", "Something went wrong.")
}

fn wrong_method(method: &Method, allowed: &Method) -> Fault {
    let detail = format!("{method} is not served here; use {allowed}.");
    let mut fault = Fault::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail);
    fault.allow = Some(format!("{allowed}, OPTIONS"));
    fault
}

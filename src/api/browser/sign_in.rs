//! Signing in and out, by form and by JSON.
//!
//! A redirect leads to judged places only.

use std::time::Duration;

use http::StatusCode;
use http::header::{self, HeaderName, HeaderValue};

use super::form::{Form, LoginBody};
use super::returns::{Place, Visit};
use super::{Browser, Route, host_of, json, shown, target, unexpected};
use crate::api::{Ask, Carrier, Core, Fault, Reply, wants_page};
use crate::pages::{
    ContinuePage, Current, LoggedOutPage, LoginPage, LoginProblem, LoginReason, LogoutPage,
};
use crate::session::{Command, Credentials, Outcome, Refusal};

/// Makes the back button show nothing of the session that ended. Cookies and storage stay: they are
/// the app's.
const CLEAR: (HeaderName, HeaderValue) =
    (HeaderName::from_static("clear-site-data"), HeaderValue::from_static("\"cache\""));

/// What a login form brought, to be shown again when it failed.
#[derive(Debug, Default)]
struct Attempt<'a> {
    next: &'a str,
    fragment: &'a str,
    username: &'a str,
    problem: Option<LoginProblem>,
}

impl Browser {
    /// GET `/login`.
    pub(super) fn login_page(&self, ask: &Ask<'_>) -> Result<Reply, Fault> {
        let query = Form::of_query(ask.query)?;
        let attempt = Attempt { next: query.text("next"), ..Attempt::default() };
        Ok(Reply::page(StatusCode::OK, self.form(ask, &attempt)))
    }

    fn form(&self, ask: &Ask<'_>, attempt: &Attempt<'_>) -> String {
        let place = self.place(attempt.next, ask.origin);
        let destination = place.as_ref().map(|place| {
            let path = place.target.split('?').next().unwrap_or("/");
            format!("{}{}", host_of(ask.origin), if path == "/" { "" } else { path })
        });
        let go_on = self.way_on(place.as_ref(), attempt.next, "");
        // A failed attempt is not the moment to offer the session that is there.
        let session = ask.caller.session.as_ref().filter(|_| attempt.problem.is_none());
        self.pages.login(&LoginPage {
            next: if place.is_some() { attempt.next } else { "" },
            fragment: attempt.fragment,
            username: attempt.username,
            destination: destination.as_deref(),
            reason: place.filter(|_| attempt.problem.is_none()).and_then(|place| place.reason),
            problem: attempt.problem,
            current: session
                .map(|live| Current { name: shown(live.identity()), continue_url: &go_on }),
        })
    }

    /// Where somebody who is signed in goes on.
    fn way_on(&self, place: Option<&Place>, next: &str, fragment: &str) -> String {
        match place {
            None => format!("/{fragment}"),
            // Its body is gone: going there again would send an empty one.
            Some(place) if place.reason == Some(LoginReason::StaleForm) => {
                format!("{}/continue?next={next}", self.mount)
            }
            Some(place) => format!("{}{fragment}", place.target),
        }
    }

    /// POST `/login`.
    pub(super) async fn login(&self, ask: &Ask<'_>, core: Core<'_>) -> Result<Reply, Fault> {
        let form = Form::read(ask)?;
        let mut attempt = Attempt {
            next: form.text("next"),
            fragment: target::fragment(form.text("fragment")).unwrap_or(""),
            username: form.text("username"),
            problem: None,
        };
        let password = form.secret("password");
        if attempt.username.is_empty() || password.expose().is_empty() {
            let detail = "Give both `username` and `password`.";
            let fault = Fault::new(StatusCode::BAD_REQUEST, "incomplete-credentials", detail);
            attempt.problem = Some(LoginProblem::Incomplete);
            return self.failed(ask, &attempt, fault);
        }
        let credentials =
            Credentials::Password { identifier: attempt.username.to_owned(), password };
        match core.execute(Command::login(credentials), &ask.caller).await {
            Ok(Outcome::Opened(_, token)) => {
                let place = self.place(attempt.next, ask.origin);
                let target = place.as_ref().map_or("/", |place| &place.target);
                self.returns.signed_in(visit(ask, target));
                let location = self.way_on(place.as_ref(), attempt.next, attempt.fragment);
                Ok(Reply::see_other(&location).carrying(Carrier::Issue(token)))
            }
            Ok(_) => Err(unexpected()),
            Err(refusal) => {
                let fault = Fault::from(&refusal);
                let seconds = fault.retry_after.as_ref().map_or(1, Duration::as_secs);
                attempt.problem = problem(&refusal, seconds);
                self.failed(ask, &attempt, fault)
            }
        }
    }

    /// The form again, with what was typed; a problem for programs, and for what the form has no
    /// words for.
    fn failed(&self, ask: &Ask<'_>, attempt: &Attempt<'_>, fault: Fault) -> Result<Reply, Fault> {
        if attempt.problem.is_none() || !wants_page(ask.method, ask.headers) {
            return Err(fault);
        }
        let page = Reply::page(fault.status, self.form(ask, attempt));
        Ok(super::refuse::explained(page, &fault))
    }

    /// A state change that another site's page asked for: nothing is done.
    pub(super) fn cross_site(&self, route: Route<'_>, ask: &Ask<'_>) -> Result<Reply, Fault> {
        let detail = "The request was made by a page of another site, so nothing was done.";
        let fault = Fault::new(StatusCode::FORBIDDEN, "cross-site-request", detail);
        if route != Route::Login {
            return Err(fault);
        }
        // Nothing of what came is shown: it is the other site's.
        let problem = Some(LoginProblem::CrossSite);
        self.failed(ask, &Attempt { problem, ..Attempt::default() }, fault)
    }

    /// GET `/continue`.
    pub(super) fn lost_form(&self, ask: &Ask<'_>) -> Result<Reply, Fault> {
        let query = Form::of_query(ask.query)?;
        let Some(place) = self.place(query.text("next"), ask.origin) else {
            return Ok(Reply::see_other("/"));
        };
        let url = format!("{}{}", ask.origin, place.target);
        let form_lost = place.reason == Some(LoginReason::StaleForm);
        let page = ContinuePage { url: &url, automatic: false, form_lost };
        Ok(Reply::page(StatusCode::OK, self.pages.continue_to(&page)))
    }

    /// GET `/logout`: asks, changes nothing.
    pub(super) fn logout_page(&self, ask: &Ask<'_>) -> Result<Reply, Fault> {
        let query = Form::of_query(ask.query)?;
        let Some(live) = &ask.caller.session else {
            return Ok(Reply::see_other(&self.at("/logged-out")));
        };
        let next = query.text("next");
        let next = if self.place(next, ask.origin).is_some() { next } else { "" };
        let page = LogoutPage { name: shown(live.identity()), next };
        Ok(Reply::page(StatusCode::OK, self.pages.logout(&page)))
    }

    /// POST `/logout`. The cookie is taken back only when the session has ended.
    pub(super) async fn logout(&self, ask: &Ask<'_>, core: Core<'_>) -> Result<Reply, Fault> {
        let form = Form::read(ask)?;
        core.execute(Command::Logout, &ask.caller)
            .await
            .map_err(|refusal| Fault::from(&refusal))?;
        let next = form.text("next");
        let location = match self.place(next, ask.origin) {
            Some(_) => self.login_url(next),
            None => self.at("/logged-out"),
        };
        let (name, value) = CLEAR;
        Ok(Reply::see_other(&location).with(name, value).carrying(Carrier::Revoke))
    }

    /// GET `/logged-out`.
    pub(super) fn logged_out(&self, ask: &Ask<'_>) -> Reply {
        if ask.caller.session.is_some() {
            return Reply::see_other(&self.at("/account"));
        }
        Reply::page(StatusCode::OK, self.pages.logged_out(&LoggedOutPage::default()))
    }

    /// GET `/session`.
    pub(super) async fn who(&self, ask: &Ask<'_>, core: Core<'_>) -> Result<Reply, Fault> {
        let outcome = core.execute(Command::Inspect, &ask.caller).await;
        match outcome.map_err(|refusal| Fault::from(&refusal))? {
            Outcome::Session(live) => {
                Ok(Reply::json(StatusCode::OK, &json::session(&live, core, ask.now)))
            }
            _ => Err(unexpected()),
        }
    }

    /// POST `/session`.
    pub(super) async fn login_json(&self, ask: &Ask<'_>, core: Core<'_>) -> Result<Reply, Fault> {
        let (identifier, password) = LoginBody::read(ask)?;
        let credentials = Credentials::Password { identifier, password };
        let outcome = core.execute(Command::login(credentials), &ask.caller).await;
        let Outcome::Opened(live, token) = outcome.map_err(|refusal| Fault::from(&refusal))? else {
            return Err(unexpected());
        };
        let location = HeaderValue::from_str(&self.at("/session")).map_err(|_| unexpected())?;
        Ok(Reply::json(StatusCode::CREATED, &json::session(&live, core, ask.now))
            .with(header::LOCATION, location)
            .carrying(Carrier::Issue(token)))
    }

    /// DELETE `/session`. Also right for somebody who is not signed in.
    pub(super) async fn logout_json(&self, ask: &Ask<'_>, core: Core<'_>) -> Result<Reply, Fault> {
        core.execute(Command::Logout, &ask.caller)
            .await
            .map_err(|refusal| Fault::from(&refusal))?;
        let (name, value) = CLEAR;
        Ok(Reply::empty(StatusCode::NO_CONTENT).with(name, value).carrying(Carrier::Revoke))
    }
}

fn problem(refusal: &Refusal, retry_after: u64) -> Option<LoginProblem> {
    match refusal {
        Refusal::Busy => Some(LoginProblem::Busy { retry_after }),
        Refusal::InvalidCredentials => Some(LoginProblem::Mismatch),
        Refusal::Throttled { .. } => Some(LoginProblem::Throttled { retry_after }),
        Refusal::Unavailable => Some(LoginProblem::Unavailable { retry_after }),
        Refusal::AppTokenDisabled
        | Refusal::AppTokenExpired
        | Refusal::AppTokenHash
        | Refusal::ClaimNotAllowed(_)
        | Refusal::Conflict
        | Refusal::Forbidden
        | Refusal::Guessing { .. }
        | Refusal::Missing(_)
        | Refusal::NotFound
        | Refusal::NotSignedIn
        | Refusal::TooMany(_)
        | Refusal::Unsupported => None,
    }
}

fn visit<'a>(ask: &'a Ask<'_>, target: &'a str) -> Visit<'a> {
    Visit { ip: ask.caller.ip, agent: &ask.caller.agent, host: host_of(ask.origin), target }
}

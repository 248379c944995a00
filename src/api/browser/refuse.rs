//! The gateway's failures in words: a way to the sign-in page, an error page, or problem+json.
//!
//! Decides nothing: what failed and with which status has been said.

use http::header::{self, HeaderName, HeaderValue};
use http::{Method, StatusCode};

use super::returns::{Place, Visit};
use super::{Browser, Route, json, shown, target};
use crate::api::{COOKIES_TOO_LARGE, Context, Fault, Reply, UNKNOWN_TOKENS, wants_page};
use crate::pages::{Action, ErrorPage, LoginReason, LoopCause, LoopPage};

const CLEAR: HeaderName = HeaderName::from_static("clear-site-data");

impl Browser {
    /// Words a fault; `program` when the answer must not be a page.
    pub(super) fn word(&self, fault: &Fault, context: &Context<'_>, program: bool) -> Reply {
        let program = program || self.route(context.target).is_some_and(Route::is_for_programs);
        if program || !wants_page(context.method, context.headers) {
            return explained(json::problem(fault, context, &self.mount), fault);
        }
        // Whose session has ended need not know that others in their network guess.
        if fault.sign_in || fault.code == UNKNOWN_TOKENS {
            return self.to_sign_in(fault, context);
        }
        explained(Reply::page(fault.status, self.error(fault, context)), fault)
    }

    /// The own route that a target names.
    fn route<'a>(&self, target: &'a str) -> Option<Route<'a>> {
        let path = target.split('?').next().unwrap_or_default();
        Route::find(path.strip_prefix(&self.mount)?)
    }

    /// To the sign-in page, which leads back to where the browser wanted to go; or, when that has just
    /// been tried several times, to a page that says why it does not work.
    fn to_sign_in(&self, fault: &Fault, context: &Context<'_>) -> Reply {
        let origin = format!("https://{}", context.host);
        let posted = *context.method == Method::POST;
        let target =
            if posted { self.form_page(context, &origin) } else { context.target.to_owned() };
        let target = target::own_path(&target, &origin, &self.mount);
        let reason = match (posted, context.stale) {
            (true, _) => LoginReason::StaleForm,
            (false, true) => LoginReason::SessionEnded,
            (false, false) => LoginReason::Required,
        };
        let next = target.and_then(|target| {
            let place = Place { target: target.to_owned(), reason: Some(reason) };
            self.returns.keep(context.host, place)
        });
        let next = next.unwrap_or_default();
        if !posted && self.goes_in_circles(context) {
            return explained(self.circle(fault, context, &next), fault);
        }
        Reply::see_other(&self.login_url(&next))
    }

    /// The page that holds the form whose body is lost: the one it was sent from, if that is known.
    fn form_page(&self, context: &Context<'_>, origin: &str) -> String {
        let referer = context.headers.get(header::REFERER).and_then(|value| value.to_str().ok());
        let path = referer.and_then(|referer| referer.strip_prefix(origin));
        let path = path.and_then(|path| target::own_path(path, origin, &self.mount));
        match path {
            Some(path) => path.to_owned(),
            None if self.route(context.target).is_some() => self.at("/account"),
            None => context.target.to_owned(),
        }
    }

    /// Whether the browser comes from signing in, again and again. Another browser behind the same
    /// address that types the address or follows a bookmark is told apart by what led it here.
    fn goes_in_circles(&self, context: &Context<'_>) -> bool {
        let text = |name: header::HeaderName| context.headers.get(name).map(HeaderValue::as_bytes);
        let login = format!("https://{}{}/login", context.host, self.mount);
        let elsewhere =
            context.headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin")
                || text(header::REFERER)
                    .is_some_and(|referer| !referer.starts_with(login.as_bytes()));
        let agent = String::from_utf8_lossy(text(header::USER_AGENT).unwrap_or_default());
        let (ip, host, target) = (context.ip, context.host, context.target);
        !elsewhere && self.returns.came_back(Visit { ip, agent: &agent, host, target })
    }

    fn circle(&self, fault: &Fault, context: &Context<'_>, next: &str) -> Reply {
        let cause = if context.stale { LoopCause::CookieUnknown } else { LoopCause::CookieMissing };
        tracing::warn!(request = context.request, host = context.host, ?cause, "sign-in loop");
        let page = self.pages.sign_in_loop(&LoopPage {
            cause,
            host: context.host,
            expected_url: None,
            next,
            request_id: context.request,
        });
        Reply::page(fault.status, page)
    }

    fn error(&self, fault: &Fault, context: &Context<'_>) -> String {
        let status = fault.status.as_u16();
        let mut page = ErrorPage::new(status, context.request);
        let happened = sentence(&fault.detail);
        if !happened.is_empty() {
            page.happened = &happened;
        }
        page.retry_after = fault.retry_after.map(|wait| wait.as_secs());
        let logout = self.at("/logout");
        let origin = format!("https://{}", context.host);
        let safe = matches!(*context.method, Method::GET | Method::HEAD);
        let target = target::own_path(context.target, &origin, &self.mount).filter(|_| safe);
        let user = context.identity.map(user);
        let next;
        if fault.requirement.is_some() {
            page.user = user.as_deref();
            page.claim = context.identity.map(|identity| identity.claim.as_str());
            page.requirement = fault.requirement.as_deref();
            next = self.keep(context.host, target);
            page.actions =
                vec![Action::SwitchAccount { next: &next }, Action::Account, Action::Home];
        } else if fault.status.is_server_error()
            && self.route(context.target) == Some(Route::Logout)
        {
            page.title = "You are not signed out yet";
            page.remedy = "Your session goes on until it can be ended. Try again in a moment.";
            page.actions = vec![Action::TryAgain { href: &logout }];
        } else {
            page.actions = actions(fault, target);
        }
        self.pages.error(&page)
    }

    fn keep(&self, host: &str, target: Option<&str>) -> String {
        let place = target.map(|target| Place { target: target.to_owned(), reason: None });
        place.and_then(|place| self.returns.keep(host, place)).unwrap_or_default()
    }
}

/// What can be done about a failure.
fn actions<'a>(fault: &Fault, target: Option<&'a str>) -> Vec<Action<'a>> {
    let status = fault.status;
    let again = status.is_server_error()
        || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::MISDIRECTED_REQUEST);
    match (status, target) {
        (StatusCode::UNAUTHORIZED, _) => vec![Action::SignIn { next: "" }, Action::Home],
        // Signing in works whatever others in the network try.
        _ if fault.code == UNKNOWN_TOKENS => vec![Action::SignIn { next: "" }, Action::Home],
        (_, Some(href)) if again => vec![Action::TryAgain { href }, Action::Home],
        _ => vec![Action::Home],
    }
}

/// The reply with the headers that its fault calls for.
pub(super) fn explained(mut reply: Reply, fault: &Fault) -> Reply {
    if let Some(wait) = fault.retry_after {
        reply = reply.with(header::RETRY_AFTER, HeaderValue::from(wait.as_secs()));
    }
    if let Some(allow) = fault.allow.as_deref().and_then(|allow| HeaderValue::from_str(allow).ok())
    {
        reply = reply.with(header::ALLOW, allow);
    }
    if fault.status == StatusCode::UNAUTHORIZED {
        // RFC 9110 section 15.5.2 wants a challenge; Basic would make browsers ask for a password.
        let challenge = HeaderValue::from_static("Bearer realm=\"portcullis\"");
        reply = reply.with(header::WWW_AUTHENTICATE, challenge);
    }
    if fault.code == COOKIES_TOO_LARGE {
        // The only way out for a browser in which another site has planted too many. Also where nothing says
        // that it wants a page: what would may stand behind the cookies.
        reply = reply.with(CLEAR, HeaderValue::from_static("\"cookies\""));
    }
    reply
}

fn user(identity: &crate::session::Identity) -> String {
    let name = shown(identity);
    if name == identity.identifier {
        name.to_owned()
    } else {
        format!("{name} ({})", identity.identifier)
    }
}

/// `text` with a capital at its start and a full stop at its end.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let Some(first) = chars.next() else { return String::new() };
    let mut sentence: String = first.to_uppercase().collect();
    sentence.push_str(chars.as_str());
    if !sentence.ends_with(['.', '!', '?']) {
        sentence.push('.');
    }
    sentence
}

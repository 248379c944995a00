//! What each page is told: plain text and numbers.
//!
//! It must not hold types of other modules. Every `&str` may be hostile; moments are Unix time in
//! seconds, durations are seconds.

use serde::Serialize;

use super::wording;

/// The sign-in form. `LoginPage::default()` is the bare form.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LoginPage<'a> {
    /// Opaque id of the place to return to, posted back as `next`. Empty for none.
    pub next: &'a str,
    /// What the failed attempt posted as `fragment`, so that it is not lost. Empty for none.
    pub fragment: &'a str,
    /// User name to show again after a failed attempt. Empty for none.
    pub username: &'a str,
    /// Where sign-in leads, as a person reads it: `app.example.com/reports`. Not a link.
    pub destination: Option<&'a str>,
    /// Why the browser was sent here.
    pub reason: Option<LoginReason>,
    /// What went wrong with the attempt before.
    pub problem: Option<LoginProblem>,
    /// The session that this browser already has.
    pub current: Option<Current<'a>>,
}

/// Why a browser was sent to the sign-in page.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LoginReason {
    /// No session came with the request.
    Required,
    /// The session reached its absolute end.
    SessionEnded,
    /// The session was not used for too long.
    Idle,
    /// The session was ended by its user elsewhere, or by an administrator.
    Revoked,
    /// The posted form is older than the state it names.
    StaleForm,
}

/// What went wrong with an attempt to sign in. Times are seconds to wait.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum LoginProblem {
    /// Wrong name or wrong password, or a user who may not sign in: the page tells no difference.
    Mismatch,
    /// A field was empty.
    Incomplete,
    /// Too many failures of this user or from this network.
    Throttled {
        /// Seconds until the next attempt counts.
        retry_after: u64,
    },
    /// The queue for password checks is full.
    Busy {
        /// Seconds until it is worth trying again.
        retry_after: u64,
    },
    /// The session store or the directory does not answer.
    Unavailable {
        /// Seconds until it is worth trying again.
        retry_after: u64,
    },
    /// The form came from another origin.
    CrossSite,
}

/// Who this browser is signed in as already.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Current<'a> {
    /// Name to show.
    pub name: &'a str,
    /// Link that goes on with that session. `http(s)` or a path; the script adds the fragment.
    pub continue_url: &'a str,
}

/// The question before signing out.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LogoutPage<'a> {
    /// Name of the signed-in person.
    pub name: &'a str,
    /// Opaque id of the place to return to, posted back as `next`. Empty for none.
    pub next: &'a str,
}

/// What is seen after signing out.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LoggedOutPage<'a> {
    /// Opaque id of the place to return to after signing in again. Empty for none.
    pub next: &'a str,
    /// All sessions of the user ended, not only this one.
    pub everywhere: bool,
}

/// The signed-in person.
#[derive(Clone, Debug, Default, Serialize)]
pub struct AccountPage<'a> {
    /// Now.
    pub now: i64,
    /// Name to show.
    pub name: &'a str,
    /// Name used to sign in.
    pub identifier: &'a str,
    /// E-mail address, if known.
    pub email: Option<&'a str>,
    /// Stable id.
    pub user_id: &'a str,
    /// Who acts for the user in this session, if anyone.
    pub actor: Option<&'a str>,
    /// Groups that the user is in.
    pub groups: Vec<&'a str>,
    /// The claim that applications see now.
    pub active_claim: &'a str,
    /// All claims that can be chosen, in the order of the tree: own user, then each group followed
    /// by its sub-groups.
    pub claims: Vec<ClaimChoice<'a>>,
    /// Sessions of the user, in the order to show.
    pub sessions: Vec<SessionRow<'a>>,
    /// How many sessions were left out of `sessions`.
    pub sessions_left_out: usize,
    /// Keys that act under the active claim, oldest first.
    pub keys: Vec<KeyRow<'a>>,
    /// Whether this session may make and revoke keys.
    pub may_make_keys: bool,
    /// When this session ends at the latest.
    pub expires: i64,
    /// After how many seconds without use it ends earlier.
    pub idle_limit: Option<u64>,
    /// What has just been done.
    pub notice: Option<AccountNotice>,
}

/// Outcome of the action that led to the account page.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountNotice {
    /// The active claim changed.
    Switched,
    /// One session was ended.
    SessionEnded,
    /// All sessions but this one were ended.
    OthersEnded,
    /// The session to end was not there any more.
    NotFound,
    /// The claim is not one of the user's.
    NotAllowed,
    /// A key was revoked.
    KeyRevoked,
    /// The key to revoke was not there any more.
    KeyNotFound,
    /// There are as many keys as there may be.
    TooManyKeys,
}

/// One claim that the user may act as.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ClaimChoice<'a> {
    /// The claim, posted back as `claim`: `user/<id>` or `group/<name>`.
    pub claim: &'a str,
    /// Name to show.
    pub label: &'a str,
    /// Name of the group that this one is a sub-group of.
    pub parent: Option<&'a str>,
    /// Depth in the tree: 0 for the user and the groups they are in. Shown up to 4.
    pub depth: u8,
}

/// One session of the user.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SessionRow<'a> {
    /// Public id, posted back as `id`.
    pub id: &'a str,
    /// `User-Agent` at sign-in; shown as a device name.
    pub user_agent: &'a str,
    /// Client address.
    pub ip: &'a str,
    /// When it was made.
    pub created: i64,
    /// When it was last used.
    pub last_seen: i64,
    /// It is the session of this request.
    pub current: bool,
}

/// One API key.
#[derive(Clone, Debug, Default, Serialize)]
pub struct KeyRow<'a> {
    /// Public id, posted back as `id`.
    pub id: &'a str,
    /// What it is for, may be empty.
    pub name: &'a str,
    /// When it was made.
    pub created: i64,
    /// When it ends, if ever.
    pub expires: Option<i64>,
}

/// A new API key: the one page that shows its secret.
#[derive(Clone, Debug, Default, Serialize)]
pub struct KeyPage<'a> {
    /// Id with its prefix.
    pub id: &'a str,
    /// The secret.
    pub secret: &'a str,
    /// What it is for, may be empty.
    pub name: &'a str,
    /// The claim that it acts under.
    pub owner: &'a str,
    /// When it ends, if ever.
    pub expires: Option<i64>,
}

/// A refusal or failure.
#[derive(Clone, Debug, Serialize)]
pub struct ErrorPage<'a> {
    /// HTTP status.
    pub status: u16,
    /// Heading.
    pub title: &'a str,
    /// What happened, in whole sentences.
    pub happened: &'a str,
    /// What to do, in whole sentences.
    pub remedy: &'a str,
    /// Id of the request in the logs. Empty for none.
    pub request_id: &'a str,
    /// Who the gateway takes the reader for.
    pub user: Option<&'a str>,
    /// The active claim of that session.
    pub claim: Option<&'a str>,
    /// Which requirement of the route was not met.
    pub requirement: Option<&'a str>,
    /// Seconds until it is worth trying again.
    pub retry_after: Option<u64>,
    /// What can be done from here; the first one stands out.
    pub actions: Vec<Action<'a>>,
}

impl<'a> ErrorPage<'a> {
    /// The page with the standing words for `status`. Fields may be replaced afterwards.
    #[must_use]
    pub fn new(status: u16, request_id: &'a str) -> Self {
        let wording::Wording { title, happened, remedy } = wording::for_status(status);
        Self {
            status,
            title,
            happened,
            remedy,
            request_id,
            user: None,
            claim: None,
            requirement: None,
            retry_after: None,
            actions: Vec::new(),
        }
    }
}

/// A link or button on an error page.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Action<'a> {
    /// Link to the sign-in page.
    SignIn {
        /// Opaque id of the place to return to. Empty for none.
        next: &'a str,
    },
    /// Button that signs out and leads to the sign-in page.
    SwitchAccount {
        /// Opaque id of the place to return to. Empty for none.
        next: &'a str,
    },
    /// Link to the same page. `http(s)` or a path.
    TryAgain {
        /// Where it leads.
        href: &'a str,
    },
    /// Link to the account page, where the claim can be switched.
    Account,
    /// Link to the sign-out page.
    SignOut,
    /// Link to `/`.
    Home,
}

/// The end of a redirect loop.
#[derive(Clone, Debug, Serialize)]
pub struct LoopPage<'a> {
    /// Which check failed.
    pub cause: LoopCause,
    /// Host as the browser named it.
    pub host: &'a str,
    /// Where the site really is, for [`LoopCause::WrongOrigin`]. `http(s)` only.
    pub expected_url: Option<&'a str>,
    /// Opaque id of the place to return to. Empty for none.
    pub next: &'a str,
    /// Id of the request in the logs. Empty for none.
    pub request_id: &'a str,
}

/// Why a sign-in does not hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LoopCause {
    /// The cookie that was set did not come back.
    CookieMissing,
    /// A cookie came back that names no session.
    CookieUnknown,
    /// The cookie came more than once.
    CookieTwice,
    /// Scheme, host or port is not the configured one.
    WrongOrigin,
    /// The session was expired as soon as it was made.
    Clock,
    /// The store lost the session.
    Store,
    /// None of these.
    Unknown,
}

/// What an app behind the gateway receives.
#[derive(Clone, Debug, Default, Serialize)]
pub struct WhoamiPage<'a> {
    /// Request method.
    pub method: &'a str,
    /// Path and query as the app gets them.
    pub target: &'a str,
    /// Protocol version: `HTTP/1.1`.
    pub version: &'a str,
    /// Address of the client, as the gateway tells it.
    pub client: &'a str,
    /// There is a session: offers the account and sign-out pages.
    pub signed_in: bool,
    /// All headers, in the order received.
    pub headers: Vec<HeaderRow<'a>>,
}

/// One received header.
#[derive(Clone, Debug, Default, Serialize)]
pub struct HeaderRow<'a> {
    /// Name.
    pub name: &'a str,
    /// Value, as received.
    pub value: &'a str,
    /// One of the gateway's identity headers.
    pub identity: bool,
    /// What it means; see [`super::header_meaning`].
    pub meaning: Option<&'a str>,
}

/// The step between sign-in and the target.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ContinuePage<'a> {
    /// Full target, fragment included. `http(s)` or a path, judged by the caller.
    pub url: &'a str,
    /// Go there at once (meta refresh), without a click.
    pub automatic: bool,
    /// The session ended while a form was sent; its contents are gone.
    pub form_lost: bool,
}

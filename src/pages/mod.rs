//! The HTML of the gateway's own pages: text in, text out.
//!
//! It must not know HTTP, sessions or configuration, keep state, or touch a request. Whatever a
//! caller hands in is hostile text: it is escaped on the way out, by default and everywhere.

mod assets;
mod device;
mod filters;
mod model;
mod wording;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value, context};
use serde::Serialize;

pub use self::assets::{CSP, script, stylesheet};
pub use self::device::device_name;
pub use self::model::{
    AccountNotice, AccountPage, Action, ClaimChoice, ContinuePage, Current, ErrorPage, HeaderRow,
    KeyPage, KeyRow, LoggedOutPage, LoginPage, LoginProblem, LoginReason, LogoutPage, LoopCause,
    LoopPage, SessionRow, WhoamiPage,
};
pub use self::wording::header_meaning;

/// Every template, under the name that `{% extends %}` uses.
///
/// The names end in `.html`: that is what switches escaping on.
const TEMPLATES: [(&str, &str); 10] = [
    ("layout.html", include_str!("layout.html")),
    ("login.html", include_str!("login.html")),
    ("logout.html", include_str!("logout.html")),
    ("logged_out.html", include_str!("logged_out.html")),
    ("account.html", include_str!("account.html")),
    ("key.html", include_str!("key.html")),
    ("error.html", include_str!("error.html")),
    ("loop.html", include_str!("loop.html")),
    ("whoami.html", include_str!("whoami.html")),
    ("continue.html", include_str!("continue.html")),
];

/// What is sent when a template cannot be rendered. Constant, so that it cannot fail or leak.
const FALLBACK: &str = "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
<title>Page not available</title>\
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
<meta name=\"robots\" content=\"noindex\"><meta name=\"referrer\" content=\"same-origin\"></head>\
<body><h1>Page not available</h1><p>The gateway could not show this page. Go back and try again; \
if it happens again, tell your administrator.</p></body></html>\n";

/// Who the pages speak for, and where their links lead.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Brand {
    /// The product name that people see. Any text.
    pub name: String,
    /// Path under which the browser dialect is mounted: `/auth`, no trailing slash needed.
    pub mount: String,
}

impl Default for Brand {
    fn default() -> Self {
        Self { name: "Portcullis".to_owned(), mount: "/auth".to_owned() }
    }
}

/// Why the pages could not be built. Both are known at start, before any request.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// The mount is not a plain absolute path, so links made from it could lead elsewhere.
    #[error("mount {0:?} must be an absolute path of letters, digits and `-._~/`, without `//`")]
    Mount(String),
    /// A template does not compile.
    #[error("page template: {0}")]
    Template(#[from] minijinja::Error),
}

/// All pages, compiled. Cheap to share: rendering needs `&self` only.
#[derive(Debug)]
pub struct Pages {
    environment: Environment<'static>,
}

impl Pages {
    /// Compiles every template.
    ///
    /// # Errors
    /// [`PageError`] when the mount is unusable or a template is broken.
    pub fn new(brand: &Brand) -> Result<Self, PageError> {
        let mount = plain_path(&brand.mount)?;
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| AutoEscape::Html);
        environment.set_formatter(filters::format);
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?;
        environment.set_syntax(syntax);
        filters::register(&mut environment);
        environment.add_global("brand", brand.name.clone());
        // Proven plain just above; escaping would only blow up each `/`.
        environment.add_global("mount", Value::from_safe_string(mount));
        environment.add_global("style_hash", stylesheet().0);
        environment.add_global("script_hash", script().0);
        for (name, source) in TEMPLATES {
            environment.add_template(name, source)?;
        }
        Ok(Self { environment })
    }

    /// The sign-in form.
    #[must_use]
    pub fn login(&self, page: &LoginPage<'_>) -> String {
        self.render("login.html", page)
    }

    /// The question before signing out.
    #[must_use]
    pub fn logout(&self, page: &LogoutPage<'_>) -> String {
        self.render("logout.html", page)
    }

    /// What is seen after signing out.
    #[must_use]
    pub fn logged_out(&self, page: &LoggedOutPage<'_>) -> String {
        self.render("logged_out.html", page)
    }

    /// The signed-in person: identity, claims to act as, sessions.
    #[must_use]
    pub fn account(&self, page: &AccountPage<'_>) -> String {
        self.render("account.html", page)
    }

    /// A new API key with its secret.
    #[must_use]
    pub fn key(&self, page: &KeyPage<'_>) -> String {
        self.render("key.html", page)
    }

    /// Any refusal or failure that a person meets.
    #[must_use]
    pub fn error(&self, page: &ErrorPage<'_>) -> String {
        self.render("error.html", page)
    }

    /// The end of a redirect loop between an app and the sign-in page.
    #[must_use]
    pub fn sign_in_loop(&self, page: &LoopPage<'_>) -> String {
        self.render("loop.html", page)
    }

    /// What an app behind the gateway receives.
    #[must_use]
    pub fn whoami(&self, page: &WhoamiPage<'_>) -> String {
        self.render("whoami.html", page)
    }

    /// The step between sign-in and the target when a redirect cannot do it.
    #[must_use]
    pub fn continue_to(&self, page: &ContinuePage<'_>) -> String {
        self.render("continue.html", page)
    }

    fn render(&self, name: &str, page: &impl Serialize) -> String {
        let rendered = self
            .environment
            .get_template(name)
            .and_then(|template| template.render(context! { p => Value::from(Serde(page)) }));
        rendered.unwrap_or_else(|error| {
            tracing::error!(page = name, %error, "page could not be rendered");
            FALLBACK.to_owned()
        })
    }
}

/// Accepts a mount that means the same in HTML, in a URL and in a `Set-Cookie` path.
fn plain_path(mount: &str) -> Result<String, PageError> {
    let path = mount.trim_end_matches('/');
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~/".contains(c);
    let dots = |segment: &str| segment == "." || segment == "..";
    let good = path.is_empty()
        || (path.starts_with('/')
            && !path.contains("//")
            && path.chars().all(plain)
            && !path.split('/').any(dots));
    if good { Ok(path.to_owned()) } else { Err(PageError::Mount(mount.to_owned())) }
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice
)]
mod tests;

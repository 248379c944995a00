//! Standing sentences: what a status means to a person, what a header means to an app.
//!
//! It must not know why a request was refused; callers add that.

/// The words of an error page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wording {
    pub(super) title: &'static str,
    pub(super) happened: &'static str,
    pub(super) remedy: &'static str,
}

const fn words(title: &'static str, happened: &'static str, remedy: &'static str) -> Wording {
    Wording { title, happened, remedy }
}

/// What happened and what to do, for any status.
pub(super) const fn for_status(status: u16) -> Wording {
    match status {
        401 => words(
            "Sign in first",
            "This page is for signed-in users, and this request came without a valid session.",
            "Sign in, then open the page again.",
        ),
        403 => words(
            "You have no access to this page",
            "You are signed in, but your account may not open it.",
            "Switch to an account or a group that has access, or ask your administrator for it.",
        ),
        404 => words(
            "There is nothing here",
            "No page is known at this address.",
            "Check the address for a typing error, or start from the front page.",
        ),
        405 => words(
            "That cannot be done here",
            "This address exists, but it does not accept this kind of request.",
            "Go back and use the page's own links and buttons.",
        ),
        413 => words(
            "That is too large",
            "What you sent is larger than this address accepts.",
            "Send a smaller file or less text.",
        ),
        414 => words(
            "The address is too long",
            "The address of this page is longer than the gateway accepts.",
            "Open the page from its start, with fewer filters or options in the address.",
        ),
        421 => words(
            "This is not the right server",
            "Your browser used a connection that was made for another host name.",
            "Reload the page. If that does not help, close the browser and open it again.",
        ),
        429 => words(
            "Too many requests",
            "More requests came from you than are allowed in such a short time.",
            "Wait a little. Trying again at once makes the wait longer.",
        ),
        431 => words(
            "Your browser sent too much",
            "The cookies or other headers of this request are larger than the gateway accepts.",
            "Reload the page and sign in again. If that does not help, delete the cookies of this site first.",
        ),
        _ => for_failure(status),
    }
}

/// The rest: failures of ours or of the app, and what nobody foresaw.
const fn for_failure(status: u16) -> Wording {
    match status {
        500 => words(
            "Something went wrong here",
            "The gateway failed while it handled this request. You did nothing wrong.",
            "Try again. If it happens again, give the request id to your administrator.",
        ),
        502 => words(
            "The application did not answer properly",
            "The gateway works, but the application behind it could not be reached or broke off.",
            "Try again in a moment. If it goes on, give the request id to your administrator.",
        ),
        503 => words(
            "Not available for the moment",
            "The service is busy or restarting. Your sign-in is not affected.",
            "Nothing is lost. Try again in a moment.",
        ),
        504 => words(
            "The application took too long",
            "The gateway works, but the application behind it did not answer in time.",
            "Try again in a moment. What you sent may have been done all the same: check first.",
        ),
        501.. => words(
            "Something went wrong",
            "The request could not be finished.",
            "Try again. If it happens again, give the request id to your administrator.",
        ),
        _ => words(
            "This request was not understood",
            "Something in the request is not valid, so it was not passed on.",
            "Go back and try again. If you followed a link, tell the one who made it.",
        ),
    }
}

/// What a header that the gateway sets by default means to the app, or `None` for any other.
///
/// `name` in any case. Renamed headers are the caller's to explain.
#[must_use]
pub fn header_meaning(name: &str) -> Option<&'static str> {
    const MEANINGS: [(&str, &str); 20] = [
        ("x-auth-user", "stable id of the user: use this as the key"),
        ("x-auth-identifier", "the name used to sign in"),
        ("x-auth-name", "name to show"),
        ("x-auth-email", "e-mail address"),
        ("x-auth-groups", "groups of the user, comma-separated"),
        ("x-auth-roles", "roles of the active claim"),
        ("x-auth-active-claim", "what the user acts as now"),
        ("x-auth-session", "public id of the session; it opens nothing"),
        ("x-auth-method", "how the user signed in"),
        ("x-auth-actor", "who acts for the user"),
        ("x-auth-assertion", "the identity, signed"),
        ("nuvla-authn-info", "user, active claim and roles"),
        ("host", "the host that the client asked for"),
        ("forwarded", "the way of the request (RFC 7239)"),
        ("x-forwarded-for", "address of the client"),
        ("x-forwarded-host", "the host that the client asked for"),
        ("x-forwarded-port", "the port that the client used"),
        ("x-forwarded-proto", "how the client connected"),
        ("x-real-ip", "address of the client"),
        ("x-request-id", "the same id in the logs of the gateway"),
    ];
    MEANINGS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, text)| *text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_words() {
        for status in 0..=u16::MAX {
            let Wording { title, happened, remedy } = for_status(status);
            assert!(!title.is_empty() && happened.ends_with('.') && remedy.ends_with('.'));
        }
        let titles = [400, 401, 403, 404, 413, 421, 429, 431, 500, 502, 503, 504]
            .map(|status| for_status(status).title);
        let distinct = titles.iter().collect::<std::collections::HashSet<_>>();
        assert_eq!(distinct.len(), titles.len());
    }

    #[test]
    fn headers_are_known_in_any_case() {
        assert_eq!(header_meaning("X-Auth-Email"), Some("e-mail address"));
        assert_eq!(header_meaning("x-auth-email"), Some("e-mail address"));
        assert_eq!(header_meaning("accept"), None);
    }
}

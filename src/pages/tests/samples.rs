//! The pages as a person could meet them.

use super::super::*;

const NOW: i64 = 1_773_324_186;
const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0";
const IPHONE: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 \
(KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1";

pub(super) fn all(pages: &Pages) -> Vec<(&'static str, String)> {
    let mut all = logins(pages);
    all.push(("logout", pages.logout(&LogoutPage { name: "Ada Lovelace", next: "" })));
    all.push(("logged-out", pages.logged_out(&LoggedOutPage::default())));
    all.push(("account", account(pages)));
    let page = KeyPage {
        id: "credential/1c8a4e0f-6f5c-4b6a-9a57-0d6a6f5b7a10",
        secret: "wS7rQa.2mXk9d.Pz4vNt.bH6yLf.c3GjRe",
        name: "nightly backup",
        owner: "group/engines",
        expires: Some(NOW + 86_400 * 90),
    };
    all.push(("key", pages.key(&page)));
    all.extend(errors(pages));
    let page = LoopPage {
        cause: LoopCause::CookieMissing,
        host: "app.example.com",
        expected_url: None,
        next: "n1",
        request_id: "01JZ8Q6Y3V",
    };
    all.push(("loop", pages.sign_in_loop(&page)));
    all.push(("whoami", whoami(pages)));
    let page = ContinuePage {
        url: "https://app.example.com/reports/2026?view=month#march",
        automatic: false,
        form_lost: false,
    };
    all.push(("continue", pages.continue_to(&page)));
    all
}

fn logins(pages: &Pages) -> Vec<(&'static str, String)> {
    let bounced = LoginPage {
        next: "n1",
        destination: Some("app.example.com/reports"),
        reason: Some(LoginReason::SessionEnded),
        ..LoginPage::default()
    };
    let mismatch = LoginPage {
        username: "ada",
        problem: Some(LoginProblem::Mismatch),
        reason: None,
        ..bounced.clone()
    };
    let throttled = LoginPage {
        problem: Some(LoginProblem::Throttled { retry_after: 30 }),
        ..mismatch.clone()
    };
    let current = LoginPage {
        current: Some(Current { name: "Ada Lovelace", continue_url: "/reports" }),
        reason: None,
        ..bounced.clone()
    };
    vec![
        ("login", pages.login(&LoginPage::default())),
        ("login-bounced", pages.login(&bounced)),
        ("login-mismatch", pages.login(&mismatch)),
        ("login-throttled", pages.login(&throttled)),
        ("login-current", pages.login(&current)),
    ]
}

fn account(pages: &Pages) -> String {
    let claim = |claim, label, parent, depth| ClaimChoice { claim, label, parent, depth };
    let session = |id, user_agent, ip, age: i64, idle: i64, current| SessionRow {
        id,
        user_agent,
        ip,
        created: NOW - age,
        last_seen: NOW - idle,
        current,
    };
    pages.account(&AccountPage {
        now: NOW,
        name: "Ada Lovelace",
        identifier: "ada",
        email: Some("ada@example.com"),
        user_id: "user/0b6f2c1e-9d0a-4a53-8e0e-0a7d7b8f3c11",
        actor: None,
        groups: vec!["engines", "operators"],
        active_claim: "group/engines",
        claims: vec![
            claim("user/0b6f2c1e-9d0a-4a53-8e0e-0a7d7b8f3c11", "Ada Lovelace", None, 0),
            claim("group/engines", "engines", None, 0),
            claim("group/engines-analytical", "engines-analytical", Some("engines"), 1),
            claim("group/engines-mill", "engines-mill", Some("engines-analytical"), 2),
            claim("group/operators", "operators", None, 0),
        ],
        sessions: vec![
            session("s1", FIREFOX, "192.0.2.17", 5_400, 3, true),
            session("s2", IPHONE, "2001:db8::42", 86_400 * 3, 7_300, false),
            session("s3", "curl/8.14.1", "198.51.100.7", 86_400 * 20, 86_400 * 2, false),
        ],
        sessions_left_out: 0,
        keys: vec![
            KeyRow {
                id: "1c8a4e0f-6f5c-4b6a-9a57-0d6a6f5b7a10",
                name: "nightly backup",
                created: NOW - 86_400 * 40,
                expires: Some(NOW + 86_400 * 50),
            },
            KeyRow {
                id: "8d4f2c1e-9d0a-4a53-8e0e-0a7d7b8f3c11",
                name: "",
                created: NOW - 3_600,
                expires: None,
            },
        ],
        may_make_keys: true,
        expires: NOW + 37_800,
        idle_limit: Some(3_600),
        notice: Some(AccountNotice::Switched),
    })
}

fn errors(pages: &Pages) -> Vec<(&'static str, String)> {
    let id = "01JZ8Q6Y3VFJ2T9K";
    let forbidden = ErrorPage {
        user: Some("Ada Lovelace (ada)"),
        claim: Some("user/0b6f2c1e-9d0a-4a53-8e0e-0a7d7b8f3c11"),
        requirement: Some("one of the groups finance, admins"),
        actions: vec![Action::SwitchAccount { next: "n1" }, Action::Account, Action::Home],
        ..ErrorPage::new(403, id)
    };
    let unavailable = ErrorPage {
        retry_after: Some(5),
        actions: vec![Action::TryAgain { href: "/reports" }],
        ..ErrorPage::new(503, id)
    };
    let missing = ErrorPage { actions: vec![Action::Home], ..ErrorPage::new(404, id) };
    vec![
        ("error-403", pages.error(&forbidden)),
        ("error-404", pages.error(&missing)),
        ("error-503", pages.error(&unavailable)),
        ("error-400", pages.error(&ErrorPage::new(400, id))),
    ]
}

fn whoami(pages: &Pages) -> String {
    let headers = [
        ("host", "localhost:8443", false),
        ("user-agent", FIREFOX, false),
        ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", false),
        ("accept-language", "en-GB,en;q=0.5", false),
        ("x-forwarded-for", "192.0.2.17", false),
        ("x-forwarded-proto", "https", false),
        ("x-request-id", "01JZ8Q6Y3VFJ2T9K", false),
        ("x-auth-user", "user/0b6f2c1e-9d0a-4a53-8e0e-0a7d7b8f3c11", true),
        ("x-auth-identifier", "ada", true),
        ("x-auth-name", "Ada%20Lovelace%20%C2%B7%20M%C3%BCnchen", true),
        ("x-auth-email", "ada@example.com", true),
        ("x-auth-groups", "engines,operators", true),
        ("x-auth-active-claim", "group/engines", true),
        ("x-auth-session", "7c1d6a52-45a0-4f83-9a53-3e1d2a9a1c70", true),
    ];
    let row = |(name, value, identity)| HeaderRow {
        name,
        value,
        identity,
        meaning: header_meaning(name),
    };
    pages.whoami(&WhoamiPage {
        method: "GET",
        target: "/reports/2026?view=month",
        version: "HTTP/1.1",
        client: "192.0.2.17",
        signed_in: true,
        headers: headers.map(row).into(),
    })
}

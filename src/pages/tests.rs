//! Every page, in every variant, with friendly and hostile text.

use std::collections::BTreeSet;

use super::*;

/// Text that breaks out of HTML where it is not escaped, or out of a line where it is.
const HOSTILE: [&str; 10] = [
    "\"><script>alert(1)</script>",
    "'><img src=x onerror=alert(1)>",
    "\" autofocus onfocus=\"alert(1)",
    "' style='position:fixed",
    "</title></head><body><h1>x</h1>",
    "x\r\nSet-Cookie: a=b\r\n\r\n<b>",
    "a\u{202e}gpj.exe\u{2066}\0\u{1b}[31m",
    "javascript:alert(1)",
    "{{ brand }}{% include 'login.html' %}",
    "<!--\u{2028}]]>&lt;script&gt;",
];

fn pages() -> Pages {
    Pages::new(&Brand::default()).unwrap()
}

/// Every page and variant; `s` stands in every string field.
fn every_page(pages: &Pages, s: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    all.extend(logins(pages, s));
    let logout = LogoutPage { name: s, next: s };
    all.push(("logout".into(), pages.logout(&logout)));
    for everywhere in [false, true] {
        let page = LoggedOutPage { next: s, everywhere };
        all.push((format!("logged-out-{everywhere}"), pages.logged_out(&page)));
    }
    all.extend(accounts(pages, s));
    for expires in [None, Some(1)] {
        let page = KeyPage { id: s, secret: s, name: s, owner: s, expires };
        all.push((format!("key-{expires:?}"), pages.key(&page)));
    }
    all.extend(errors(pages, s));
    all.extend(loops(pages, s));
    for signed_in in [false, true] {
        let row = |identity| HeaderRow { name: s, value: s, identity, meaning: Some(s) };
        let headers = if signed_in { vec![row(true), row(false)] } else { vec![row(false)] };
        let page = WhoamiPage { method: s, target: s, version: s, client: s, signed_in, headers };
        all.push((format!("whoami-{signed_in}"), pages.whoami(&page)));
    }
    for (automatic, form_lost) in [(false, false), (true, false), (false, true)] {
        let page = ContinuePage { url: s, automatic, form_lost };
        all.push((format!("continue-{automatic}-{form_lost}"), pages.continue_to(&page)));
    }
    all
}

fn logins(pages: &Pages, s: &str) -> Vec<(String, String)> {
    use LoginProblem::*;
    let reasons = [
        LoginReason::Required,
        LoginReason::SessionEnded,
        LoginReason::Idle,
        LoginReason::Revoked,
        LoginReason::StaleForm,
    ];
    let wait = 30;
    let problems = [
        Mismatch,
        Incomplete,
        Throttled { retry_after: wait },
        Busy { retry_after: wait },
        Unavailable { retry_after: wait },
        CrossSite,
    ];
    let full = LoginPage {
        next: s,
        fragment: s,
        username: s,
        destination: Some(s),
        ..LoginPage::default()
    };
    let mut all = vec![
        ("login".to_owned(), pages.login(&LoginPage::default())),
        ("login-full".to_owned(), pages.login(&full)),
    ];
    for reason in reasons {
        let page = LoginPage { reason: Some(reason), ..full.clone() };
        all.push((format!("login-{reason:?}"), pages.login(&page)));
    }
    for problem in problems {
        let page = LoginPage { problem: Some(problem), ..full.clone() };
        all.push((format!("login-{problem:?}"), pages.login(&page)));
    }
    let current = Some(Current { name: s, continue_url: s });
    let page = LoginPage { current, ..full };
    all.push(("login-current".to_owned(), pages.login(&page)));
    all
}

fn accounts(pages: &Pages, s: &str) -> Vec<(String, String)> {
    let claim = |claim, parent, depth| ClaimChoice { claim, label: s, parent, depth };
    let session =
        |current| SessionRow { id: s, user_agent: s, ip: s, created: 1, last_seen: 2, current };
    let full = AccountPage {
        now: 1_000,
        name: s,
        identifier: s,
        email: Some(s),
        user_id: s,
        actor: Some(s),
        groups: vec![s, s],
        active_claim: "user/own",
        claims: vec![claim("user/own", None, 0), claim(s, Some(s), 1), claim(s, None, 200)],
        sessions: vec![session(true), session(false)],
        sessions_left_out: 7,
        keys: vec![
            KeyRow { id: s, name: s, created: 1, expires: Some(2) },
            KeyRow { id: "k", name: "", created: 1, expires: None },
        ],
        may_make_keys: true,
        expires: 5_000,
        idle_limit: Some(600),
        notice: None,
    };
    let mut all = vec![("account".to_owned(), pages.account(&AccountPage::default()))];
    for notice in [
        AccountNotice::Switched,
        AccountNotice::SessionEnded,
        AccountNotice::OthersEnded,
        AccountNotice::NotFound,
        AccountNotice::NotAllowed,
        AccountNotice::KeyRevoked,
        AccountNotice::KeyNotFound,
        AccountNotice::TooManyKeys,
    ] {
        let page = AccountPage { notice: Some(notice), ..full.clone() };
        all.push((format!("account-{notice:?}"), pages.account(&page)));
        let page = AccountPage { active_claim: s, ..page };
        all.push((format!("account-claim-{notice:?}"), pages.account(&page)));
    }
    all
}

fn errors(pages: &Pages, s: &str) -> Vec<(String, String)> {
    let statuses = [400, 401, 403, 404, 405, 413, 414, 421, 429, 431, 500, 502, 503, 504, 418];
    let mut all = Vec::new();
    for status in statuses {
        let plain = ErrorPage::new(status, s);
        all.push((format!("error-{status}"), pages.error(&plain)));
        let actions = vec![
            Action::SignIn { next: s },
            Action::SwitchAccount { next: s },
            Action::TryAgain { href: s },
            Action::Account,
            Action::SignOut,
            Action::Home,
        ];
        let full = ErrorPage {
            title: s,
            happened: s,
            remedy: s,
            user: Some(s),
            claim: Some(s),
            requirement: Some(s),
            retry_after: Some(5),
            actions,
            ..plain
        };
        all.push((format!("error-{status}-full"), pages.error(&full)));
    }
    all
}

fn loops(pages: &Pages, s: &str) -> Vec<(String, String)> {
    let causes = [
        LoopCause::CookieMissing,
        LoopCause::CookieUnknown,
        LoopCause::CookieTwice,
        LoopCause::WrongOrigin,
        LoopCause::Clock,
        LoopCause::Store,
        LoopCause::Unknown,
    ];
    let page = |cause| LoopPage { cause, host: s, expected_url: Some(s), next: s, request_id: s };
    let render = |cause| (format!("loop-{cause:?}"), pages.sign_in_loop(&page(cause)));
    causes.map(render).into()
}

/// One start or end tag. A strict reading of the HTML that we write ourselves.
#[derive(Debug, PartialEq)]
struct Tag {
    name: String,
    attributes: Vec<(String, String)>,
}

impl Tag {
    fn get(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// Splits a page into its tags and the text between them; panics on anything irregular.
fn parse(html: &str) -> (Vec<Tag>, String) {
    let (mut tags, mut text, mut rest) = (Vec::new(), String::new(), html);
    while let Some(start) = rest.find('<') {
        text.push_str(&rest[..start]);
        text.push('\n');
        rest = &rest[start + 1..];
        let word = |c: char| !(c.is_ascii_alphanumeric() || "/!-".contains(c));
        let end = rest.find(word).unwrap();
        assert!(end > 0, "stray < before {:?}", rest.get(..20));
        let mut tag = Tag { name: rest[..end].to_owned(), attributes: Vec::new() };
        rest = &rest[end..];
        loop {
            rest = rest.trim_start();
            if let Some(after) = rest.strip_prefix('>') {
                rest = after;
                break;
            }
            if let Some(after) = rest.strip_prefix("/>") {
                rest = after;
                break;
            }
            let end = rest.find(['=', ' ', '>', '"', '\'', '<']).unwrap();
            assert!(end > 0, "no attribute name in <{}> at {:?}", tag.name, rest.get(..20));
            let name = rest[..end].to_owned();
            rest = &rest[end..];
            let mut value = String::new();
            if let Some(after) = rest.strip_prefix('=') {
                let after = after.strip_prefix('"').expect("attribute values are in quotes");
                let end = after.find('"').unwrap();
                value = after[..end].to_owned();
                assert!(!value.contains(['<', '>']), "raw < or > in {name}={value}");
                rest = &after[end + 1..];
            }
            tag.attributes.push((name, value));
        }
        tags.push(tag);
    }
    text.push_str(rest);
    (tags, text)
}

/// The names of tags and attributes: what hostile text must not change.
fn skeleton(html: &str) -> Vec<String> {
    let (tags, _) = parse(html);
    let names = |tag: &Tag| {
        let names: Vec<_> = tag.attributes.iter().map(|(name, _)| name.as_str()).collect();
        format!("{} {}", tag.name, names.join(" "))
    };
    tags.iter().map(names).collect()
}

#[test]
fn every_template_renders() {
    let pages = pages();
    let all = every_page(&pages, "some text");
    for (name, html) in &all {
        assert_ne!(html, FALLBACK, "{name}");
        assert!(html.len() < 20_000, "{name} has {} bytes", html.len());
        assert!(!html.contains("{{") && !html.contains("{%"), "{name}");
    }
    let titles = |part: &str| all.iter().filter(|(name, _)| name.starts_with(part)).count();
    assert!(
        ["login", "logout", "account", "key", "error", "loop", "whoami", "continue"]
            .iter()
            .all(|part| titles(part) > 0)
    );
}

#[test]
fn hostile_text_never_becomes_markup() {
    let pages = pages();
    let friendly = every_page(&pages, "some text");
    for hostile in HOSTILE {
        for ((name, html), (_, plain)) in every_page(&pages, hostile).iter().zip(&friendly) {
            assert_ne!(html, FALLBACK, "{name}: {hostile:?}");
            assert_eq!(skeleton(html), skeleton(plain), "{name}: {hostile:?}");
            assert!(!html.contains("<script>") && !html.contains("<img"), "{name}: {hostile:?}");
            let (_, text) = parse(html);
            assert!(!text.contains(['>', '"']), "{name}: {hostile:?}\n{text}");
        }
    }
}

#[test]
fn hostile_brand_is_text() {
    for hostile in HOSTILE {
        let brand = Brand { name: hostile.to_owned(), ..Brand::default() };
        let marked = Pages::new(&brand).unwrap();
        let html = marked.login(&LoginPage::default());
        assert_eq!(skeleton(&html), skeleton(&pages().login(&LoginPage::default())));
    }
}

#[test]
fn control_and_bidi_characters_are_made_visible() {
    let pages = pages();
    for (name, html) in every_page(&pages, "a\u{202e}b\rc\u{0}d\u{2067}e\u{9f}f") {
        let hidden = |c: char| {
            (c.is_control() && c != '\n')
                || ('\u{202a}'..='\u{202e}').contains(&c)
                || c == '\u{2067}'
        };
        assert!(!html.contains(hidden), "{name}");
    }
    let page = LogoutPage { name: "a\u{202e}b", next: "" };
    assert!(pages.logout(&page).contains("a\u{fffd}b"));
}

#[test]
fn escaped_text_is_still_what_was_given() {
    let page = LoginPage { next: "a\"b<c>&'/d", ..LoginPage::default() };
    let html = pages().login(&page);
    assert!(html.contains("name=\"next\" value=\"a&quot;b&lt;c&gt;&amp;&#x27;&#x2f;d\""), "{html}");
}

#[test]
fn nothing_inline_that_the_policy_would_block() {
    let pages = pages();
    for (name, html) in every_page(&pages, "some text") {
        let (tags, _) = parse(&html);
        for (at, tag) in tags.iter().enumerate() {
            assert_ne!(tag.name, "style", "{name}");
            for (attribute, _) in &tag.attributes {
                assert!(!attribute.starts_with("on") && attribute != "style", "{name}: {tag:?}");
            }
            if tag.name == "script" {
                let expected = format!("/auth/static/{}.js", script().0);
                assert_eq!(tag.get("src"), Some(expected.as_str()), "{name}");
                assert_eq!(tags[at + 1].name, "/script", "{name}");
            }
        }
        let styles =
            format!("<link rel=\"stylesheet\" href=\"/auth/static/{}.css\">", stylesheet().0);
        assert_eq!(html.matches(&styles).count(), 1, "{name}");
    }
    assert!(!CSP.contains("unsafe") && !CSP.contains('*'));
}

#[test]
fn links_and_forms_stay_where_they_belong() {
    let pages = pages();
    for text in ["some text", "javascript:alert(1)", "//evil.example/", "/\\evil.example"] {
        for (name, html) in every_page(&pages, text) {
            let (tags, _) = parse(&html);
            for tag in &tags {
                let target = tag.get("href").or(tag.get("action")).or(tag.get("src"));
                let Some(target) = target else { continue };
                let target = target.replace("&#x2f;", "/");
                let own = target == "#main"
                    || target.starts_with("data:image/svg+xml,")
                    || (target.starts_with('/') && !target[1..].starts_with(['/', '\\']));
                assert!(own, "{name}: {target}");
                if tag.name == "form" {
                    assert_eq!(tag.get("method"), Some("post"), "{name}");
                    assert!(target.starts_with("/auth/"), "{name}: {target}");
                }
            }
        }
    }
    let page = ContinuePage { url: "javascript:alert(1)", automatic: true, form_lost: false };
    assert!(pages.continue_to(&page).contains("content=\"0;url=&#x2f;\""));
}

#[test]
fn each_page_is_a_whole_document() {
    let pages = pages();
    for (name, html) in every_page(&pages, "some text") {
        assert!(html.starts_with("<!doctype html>\n<html lang=\"en\">"), "{name}");
        let (tags, _) = parse(&html);
        let count = |wanted: &str| tags.iter().filter(|tag| tag.name == wanted).count();
        for once in ["title", "h1", "main", "head", "body"] {
            assert_eq!(count(once), 1, "{name}: {once}");
        }
        assert!(!html.contains("<title> ·"), "{name}");
        let meta = |wanted: &str| {
            tags.iter()
                .find(|tag| tag.get("name") == Some(wanted))
                .and_then(|tag| tag.get("content"))
        };
        assert_eq!(meta("robots"), Some("noindex"), "{name}");
        assert_eq!(meta("referrer"), Some("same-origin"), "{name}");
        assert!(meta("viewport").is_some(), "{name}");
        let void = |tag: &str| ["!doctype", "meta", "link", "input", "rect", "path"].contains(&tag);
        let mut open = Vec::new();
        for tag in &tags {
            match tag.name.strip_prefix('/') {
                Some(end) => assert_eq!(open.pop(), Some(end), "{name}"),
                None if void(&tag.name) => {}
                None => open.push(tag.name.as_str()),
            }
        }
        assert!(open.is_empty(), "{name}: {open:?} not closed");
    }
}

#[test]
fn headings_inputs_and_references_serve_a_screen_reader() {
    let pages = pages();
    for (name, html) in every_page(&pages, "some text") {
        let (tags, _) = parse(&html);
        let ids: Vec<_> = tags.iter().filter_map(|tag| tag.get("id")).collect();
        let distinct: BTreeSet<_> = ids.iter().collect();
        assert_eq!(ids.len(), distinct.len(), "{name}: {ids:?}");
        let labels: BTreeSet<_> = tags.iter().filter_map(|tag| tag.get("for")).collect();
        for tag in &tags {
            if tag.name == "input" && tag.get("type") != Some("hidden") {
                assert!(labels.contains(tag.get("id").unwrap()), "{name}: {tag:?}");
            }
            for reference in ["aria-labelledby", "aria-describedby", "for", "data-reveal"] {
                if let Some(id) = tag.get(reference) {
                    assert!(ids.contains(&id), "{name}: {reference}={id}");
                }
            }
        }
        let levels: Vec<_> = tags
            .iter()
            .filter(|t| ["h1", "h2", "h3"].contains(&&*t.name))
            .map(|t| &*t.name)
            .collect();
        assert_eq!(levels.first(), Some(&"h1"), "{name}");
        assert!(tags.iter().filter(|tag| tag.get("autofocus").is_some()).count() <= 1, "{name}");
    }
}

#[test]
fn login_says_what_matters() {
    let pages = pages();
    let bare = pages.login(&LoginPage::default());
    for part in [
        "action=\"/auth/login\"",
        "name=\"username\"",
        "autocomplete=\"username\"",
        "autocomplete=\"current-password\"",
        "name=\"fragment\"",
    ] {
        assert!(bare.contains(part), "{part}");
    }
    assert!(!bare.contains("id=\"problem\"") && !bare.contains("Error:"));
    let page = LoginPage {
        username: "ada",
        destination: Some("app.example.com"),
        reason: Some(LoginReason::SessionEnded),
        problem: Some(LoginProblem::Throttled { retry_after: 90 }),
        ..LoginPage::default()
    };
    let html = pages.login(&page);
    assert!(html.contains("Your session ended. Sign in to go on to <strong class=\"where\">"));
    assert!(html.contains("Wait 90 seconds, then try again."));
    assert!(html.contains("<title>Error: Sign in · Portcullis</title>"));
    let (tags, _) = parse(&html);
    let focused = tags.iter().find(|tag| tag.get("autofocus").is_some()).unwrap();
    assert_eq!(focused.get("id"), Some("password"));
    assert!(!html.contains("aria-invalid"), "a wait is not a mistake in the fields");
}

#[test]
fn account_offers_every_claim_but_the_active_one() {
    let claims = vec![
        ClaimChoice { claim: "user/1", label: "Ada", parent: None, depth: 0 },
        ClaimChoice { claim: "group/a", label: "A", parent: None, depth: 0 },
        ClaimChoice { claim: "group/b", label: "B", parent: Some("A"), depth: 9 },
    ];
    let page = AccountPage { active_claim: "group/a", claims, ..AccountPage::default() };
    let html = pages().account(&page);
    assert!(html.contains("name=\"claim\" value=\"user&#x2f;1\""));
    assert!(html.contains("name=\"claim\" value=\"group&#x2f;b\""));
    assert!(!html.contains("name=\"claim\" value=\"group&#x2f;a\""));
    assert_eq!(html.matches("aria-current=\"true\"").count(), 1);
    assert!(html.contains("class=\"deep-4\""));
    assert!(!html.contains("end-others"), "there are no others");
}

#[test]
fn mount_must_be_plain() {
    for (mount, action) in
        [("/auth", "/auth/login"), ("/a/b-c_d/", "/a/b-c_d/login"), ("", "/login"), ("/", "/login")]
    {
        let brand = Brand { mount: mount.to_owned(), ..Brand::default() };
        let html = Pages::new(&brand).unwrap().login(&LoginPage::default());
        assert!(html.contains(&format!("action=\"{action}\"")), "{mount}");
    }
    for mount in ["auth", "//evil.example", "/a//b", "/a\"b", "/a b", "/../a", "https://h/", "/é"]
    {
        let brand = Brand { mount: mount.to_owned(), ..Brand::default() };
        assert!(matches!(Pages::new(&brand), Err(PageError::Mount(_))), "{mount}");
    }
}

#[test]
fn a_page_that_cannot_be_rendered_is_still_a_page() {
    let html = pages().render("no such page", &());
    assert_eq!(html, FALLBACK);
    let html = pages().render("login.html", &LogoutPage::default());
    assert_eq!(html, FALLBACK, "a missing field is an error, not an empty string");
    let (tags, _) = parse(FALLBACK);
    assert!(["title", "h1"].iter().all(|wanted| tags.iter().any(|tag| tag.name == *wanted)));
}

/// Writes the pages with sample data to `PORTCULLIS_PAGES_DIR`, to be looked at in a browser.
#[test]
fn samples_for_the_eye() {
    let samples = samples::all(&pages());
    assert!(samples.iter().all(|(_, html)| html != FALLBACK));
    let Some(directory) = std::env::var_os("PORTCULLIS_PAGES_DIR") else {
        return;
    };
    let directory = std::path::PathBuf::from(directory);
    let assets = directory.join("auth/static");
    std::fs::create_dir_all(&assets).unwrap();
    std::fs::write(assets.join(format!("{}.css", stylesheet().0)), stylesheet().1).unwrap();
    std::fs::write(assets.join(format!("{}.js", script().0)), script().1).unwrap();
    for (name, html) in samples {
        std::fs::write(directory.join(format!("{name}.html")), html).unwrap();
    }
}

mod samples;

//! Request targets: what was judged is byte for byte what the upstream gets, and whatever an
//! application could read in another way is refused.

use super::{Edge, cases};
use crate::support::Upstream;

/// Targets that some application would read as another path.
const AMBIGUOUS: &[&str] = &[
    "/public/../private",
    "/public/..",
    "/public/x/../../private",
    "/public/./x",
    "/public/.",
    "/public/%2e%2e/private",
    "/public/%2E%2E/private",
    "/public/.%2e/private",
    "/public/%2e/x",
    "/public/%252e%252e/private",
    "/public/%252e%252e%252fprivate",
    "/public/..%2fprivate",
    "/public/a%2fb",
    "/public/a%2Fb",
    "/public/a%252fb",
    "/public/a%5cb",
    "/public/a%5Cb",
    "/public/a\\b",
    "/public/..\\private",
    "/public/a%00b",
    "/public/x%2500",
    "//public/x",
    "/public//x",
    "/public/x//",
    "//evil.example/public/x",
    "/public;x=1/y",
    "/public/x;y",
    "/public/..;/private",
    "/public/%3bx",
    "/public/%zz",
    "/public/%",
    "/public/%2",
    "/public/x#y",
    "/public/#/../private",
    "/public/x?y#z",
    "/public/x y",
    "/public/x\ty",
    "/public/x\x01y",
    "/public/x\x7fy",
    "/public/\u{e4}",
    "/public/%c0%ae%c0%ae/private",
    "/public/%u002e",
    "public/x",
    "",
    "?x",
    "*",
];

fn head(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: {{host}}\r\n\r\n").into_bytes()
}

#[tokio::test]
async fn ambiguous_targets_are_refused() {
    Edge::start().refuses(&[400], false, &cases(AMBIGUOUS, head)).await;
}

/// The same for somebody who is signed in: a session does not make a bad target good.
#[tokio::test]
async fn ambiguous_targets_are_refused_with_a_session() {
    let edge = Edge::start();
    let client = edge.gateway.signed_in("alice").await;
    let cookie = format!("__Host-portcullis={}", client.token().unwrap());
    let with_cookie = |target: &str| {
        format!("GET {target} HTTP/1.1\r\nHost: {{host}}\r\nCookie: {cookie}\r\n\r\n").into_bytes()
    };
    edge.refuses(&[400], false, &cases(AMBIGUOUS, with_cookie)).await;
}

#[tokio::test]
async fn plain_targets_arrive_unchanged() {
    let targets = [
        "/public/",
        "/public/a-b_c.d~e",
        "/public/x:y@z!$&'()*+,=",
        "/public/caf%C3%A9",
        "/public/caf%c3%a9",
        "/public/a%20b",
        "/public/100%25",
        "/public/.well-known/x",
        "/public/x..y",
        "/public/?",
        "/public/x?a=1&b=2",
        "/public/x?q=../../private",
        "/public/x?q=a//b;c\\d%2f%5c%00%zz",
        "/public/x?next=https://evil.example/",
        "/public/x??y",
    ];
    let edge = Edge::start();
    for target in targets {
        // A backslash or a bad percent code in a query is doubtful too; either it is refused or
        // it arrives as it is.
        if target.contains('\\') {
            edge.upstream.forget();
            let answer = edge.open(&head(target)).await.response().await;
            if answer.status == 400 {
                assert!(edge.upstream.requests().is_empty());
                continue;
            }
        }
        assert_eq!(edge.passes(&head(target)).await.target, target);
    }
}

#[tokio::test]
async fn the_query_never_changes_the_decision() {
    let edge = Edge::start();
    let targets = [
        "/private",
        "/private?/public/",
        "/private?x=/public/x",
        "/?/public/",
        "/publicx",
        "/private/public/",
        "/private?%23/public/",
    ];
    edge.refuses(&[401], false, &cases(&targets, head)).await;
}

/// Found by an outside attacker: all of these passed the open route, and some application reads each as a path
/// that is closed.
#[tokio::test]
async fn other_readings_do_not_lead_to_another_route() {
    let edge = Edge::with(Upstream::start(), |builder| {
        let paths = ["/site/admin", "/site/administrator", "/site/my files", "/site/app/admin"];
        let builder = builder.public("/site", "app").public("/site/a+b", "app");
        paths.iter().fold(builder, |builder, path| builder.private(path, "app"))
    });
    let refused = [
        "/site/(S(x))/admin",
        "/site/(F(x)S(y))/admin/x",
        "/site/app/(S(x))/admin",
        "/site/my+files/x",
        "/site/my%2bfiles/x",
        "/site/admin+",
        "/site/public/..+/admin",
        "/site/ADMINI~1/x",
        "/site/MYFILE~1/x",
        "/site/admin%e2%80%a8",
        "/site/admin%e1%9a%80",
        "/site/%25u0061dmin",
        "/site/public/%25u002e%25u002e/admin",
    ];
    edge.refuses(&[400], false, &cases(&refused, head)).await;
    let passing = [
        "/site/wiki/(foo)",
        "/site/a/(S(x))/b",
        "/site/c++/docs",
        "/site/a+b",
        "/site/a%2Bb",
        "/site/~user/",
        "/site/file~1",
    ];
    for target in passing {
        assert_eq!(edge.passes(&head(target)).await.target, target);
    }
}

#[tokio::test]
async fn a_route_may_allow_what_its_application_needs() {
    let edge = Edge::with(Upstream::start(), |builder| {
        builder
            .route("/slash/", "app", "\"anyone\"", "allow_encoded_slash = true")
            .route("/double/", "app", "\"anyone\"", "allow_double_slash = true")
            .route("/params/", "app", "\"anyone\"", "allow_params = true")
    });
    for target in ["/slash/a%2Fb", "/slash/a%2fb", "/double/a//b", "/params/a;v=1/b"] {
        assert_eq!(edge.passes(&head(target)).await.target, target);
    }
    let others = [
        "/slash/a//b",
        "/slash/a;b",
        "/slash/%2e%2e%2fprivate",
        "/slash/..%2fprivate",
        "/slash/%2f..%2f..%2fprivate",
        "/slash/a%5cb",
        "/double/a%2fb",
        "/double/..//private",
        "/params/a%2fb",
        "/params/..;/private",
        "/params/..;x=1/private",
        "/params/a//b",
    ];
    edge.refuses(&[400], false, &cases(&others, head)).await;
}

#[tokio::test]
async fn a_route_takes_only_its_methods() {
    let edge = Edge::with(Upstream::start(), |builder| {
        builder.route("/read/", "app", "\"anyone\"", "methods = [\"GET\", \"HEAD\"]")
    });
    edge.passes(b"GET /read/x HTTP/1.1\r\nHost: {host}\r\n\r\n").await;
    // What this route does not take falls to the one for `/`, which wants a session.
    let post = "POST /read/x HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n";
    edge.refuses(&[401, 403, 405], false, &[("POST", post.as_bytes().to_vec())]).await;
}

/// A GET that a route allows became a DELETE in apps that let a header name the method.
#[tokio::test]
async fn no_header_names_another_method_where_methods_are_told_apart() {
    let edge = Edge::with(Upstream::start(), |builder| {
        builder
            .route("/read/", "app", "\"anyone\"", "methods = [\"GET\"]")
            .route("/both/", "app", "\"anyone\"", "methods = [\"POST\"]")
            .route("/both/", "app", "\"anyone\"", "")
            .route("/open/", "app", "\"anyone\"", "")
    });
    let names = ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"];
    let lines: String = names.iter().map(|name| format!("{name}: DELETE\r\n")).collect();
    for (path, pass) in [("/read/x", false), ("/both/x", false), ("/open/x", true)] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {{host}}\r\n{lines}\r\n");
        let seen = edge.passes(request.as_bytes()).await;
        for name in names {
            assert_eq!(seen.header(name).is_some(), pass, "{path} {name}");
        }
    }
}

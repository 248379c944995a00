//! Encodings, formats, carriers, whose a request is, and failures of the gateway.

use super::*;

#[tokio::test]
async fn every_encoding_of_a_request_is_read() {
    let site = Site::new();
    let form = "application/x-www-form-urlencoded";
    let flat = format!("partnerId=102&secret={ADMIN}&userId=b0b&format=1");
    let json = json!({"partnerId": 102, "secret": ADMIN, "userId": "b0b", "format": 1}).to_string();
    let multipart =
        format!("--b\r\nContent-Disposition: form-data; name=\"json\"\r\n\r\n{json}\r\n--b--\r\n");
    let start = "/service/session/action/start";
    for request in [
        get(&format!("{start}?{flat}")),
        get(&format!("/index.php?service=session&action=start&{flat}")),
        get(&format!("/?service=Session&action=START&{flat}")),
        get(&format!("/index.php{start}?{flat}")),
        get(&format!("{start}/partnerId/102/secret/{ADMIN}/userId/b0b/format/1")),
        post(start, form, &flat),
        post(start, "application/json", &json),
        post(start, "application/JSON;charset=UTF-8", &json),
        post(start, "multipart/form-data; boundary=b", &multipart),
        post(
            "/",
            "application/json",
            &json.replacen('{', "{\"service\":\"session\",\"action\":\"start\",", 1),
        ),
        post("/service/session", form, &format!("action=start&{flat}")),
        Request { method: "PUT", ..post(start, form, &flat) },
    ] {
        assert!(site.is_own(&request), "{request:?}");
        assert_eq!(opened(&text(&site.json(request.clone()).await)).user, "b0b", "{request:?}");
    }
}

#[tokio::test]
async fn answers_come_in_the_format_that_is_asked_for() {
    let site = Site::new();
    let ks = site.start(json!({})).await;
    let ask = |format: &str| {
        let path = format!("/service/session/action/get?ks={}&{format}", ks.replace('=', "%3D"));
        site.ask(get(&path))
    };
    for (format, kind, begins) in [
        ("", "text/xml", "<?xml version=\"1.0\" encoding=\"utf-8\"?><xml><result><objectType>"),
        ("format=2", "text/xml", "<?xml"),
        ("format=1", "application/json", "{"),
        ("format=9&callback=a.b", "application/javascript; charset=utf-8", "a.b({"),
    ] {
        let reply = ask(format).await;
        assert_eq!(value(&reply, "content-type").as_deref(), Some(kind));
        assert!(reply.body.starts_with(begins.as_bytes()), "{format} {:?}", reply.body);
        assert_eq!(value(&reply, "x-content-type-options").as_deref(), Some("nosniff"));
    }
    let reply = ask("format=3").await;
    assert!(String::from_utf8_lossy(&reply.body).contains("<error><code>MALFORMED_REQUEST</code>"));
    let reply = ask("format=9&callback=%3Cscript%3E").await;
    assert_eq!(body(&reply)["code"], "MALFORMED_REQUEST");
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let site = Site::new();
    for (path, code, message) in [
        (
            "/?format=1",
            "SERVICE_NOT_SPECIFIED",
            "Service name was not specified, please specify one",
        ),
        (
            "/service/user?format=1",
            "ACTION_NOT_SPECIFIED",
            "Action name was not specified, please specify one",
        ),
        (
            "/service/Nothing/action/x?format=1",
            "SERVICE_DOES_NOT_EXISTS",
            "Service \"nothing\" does not exists",
        ),
        (
            "/service/user/action/X?format=1",
            "ACTION_DOES_NOT_EXISTS",
            "Action \"x\" does not exists for service \"user\"",
        ),
    ] {
        error(&site.json(get(path)).await, code, message);
    }
    let broken = post("/service/user/action/get?format=1", "application/json", "{");
    assert_eq!(site.json(broken).await["code"], "MALFORMED_REQUEST");
}

#[tokio::test]
async fn pages_of_any_origin_may_ask_first() {
    let site = Site::new();
    let request = Request { method: "OPTIONS", ..get("/service/session/action/start") };
    assert_eq!(site.owns(&request), Owns::Yes);
    let reply = site.ask(request).await;
    assert_eq!(value(&reply, "access-control-max-age").as_deref(), Some("86400"));
    let methods = value(&reply, "access-control-allow-methods");
    assert_eq!(methods.as_deref(), Some("POST, GET, HEAD, OPTIONS"));
    let headers = value(&reply, "access-control-allow-headers").unwrap();
    assert!(headers.contains("Content-Type") && reply.body.is_empty());
}

#[test]
fn only_listed_actions_are_the_gateways() {
    let site = Site::new();
    for (path, owns) in [
        ("/service/session/action/start", Owns::Yes),
        ("/service/SESSION/action/startWidgetSession/widgetId/_102", Owns::Yes),
        ("/service/apptoken/action/startSession", Owns::Yes),
        ("/service/appToken/action/startsession", Owns::Yes),
        ("/service/partner/action/listPartnersForUser", Owns::Yes),
        ("/service/s%65ssion/action/start", Owns::Yes),
        ("/service/session", Owns::Yes),
        ("/service/session/action/impersonate", Owns::No),
        ("/service/partner/action/get", Owns::No),
        ("/service/media/action/list", Owns::No),
        ("/service/media", Owns::No),
        ("/testme/index.php", Owns::No),
        ("/testme?service=session&action=start", Owns::No),
        ("/", Owns::Unrouted),
        ("/index.php", Owns::Unrouted),
        ("/?service=media&action=list", Owns::No),
        ("/?service=session&action=end", Owns::Yes),
        // The path counts.
        ("/service/media/action/list?service=session&action=start", Owns::No),
        ("/service/session/action/end?service=media&action=list", Owns::Yes),
    ] {
        assert_eq!(site.owns(&get(path)), owns, "{path}");
    }
    let json = "application/json";
    for (path, body, own) in [
        ("/", r#"{"service":"session","action":"start"}"#, true),
        ("/", r#"{"service":"media","action":"list"}"#, false),
        ("/service/session", r#"{"action":"start"}"#, true),
        ("/service/session", r#"{"action":"impersonate"}"#, false),
        ("/service/session", "{}", true),
        ("/", "", true),
        ("/?service=media", r#"{"service":"session","action":"start"}"#, false),
        ("/?action=list", r#"{"service":"media","action":"start"}"#, false),
        // What cannot be read does not go to the app as something else.
        ("/", "{", true),
    ] {
        assert_eq!(site.is_own(&post(path, json, body)), own, "{path} {body}");
    }
    // The body is looked at for the ks, unless there is one already.
    assert_eq!(site.owns(&post("/service/media/action/list", json, "{}")), Owns::Unread);
    assert_eq!(site.owns(&post("/service/media/action/list/ks/x", json, "{}")), Owns::No);
    assert_eq!(site.owns(&post("/upload", json, "{}")), Owns::No);
}

#[tokio::test]
async fn a_ks_is_found_wherever_it_is() {
    let site = Site::new();
    let ks = site.start(json!({})).await;
    let id = token::token(&ks).unwrap().id();
    let coded = ks.replace('=', "%3D");
    let find = |request: &Request<'_>| {
        let body = request.body.clone();
        match site.with_head(request, |head| site.kaltura.token(head, Some(&body))) {
            Shown::Token(token) => Some(token.id()),
            Shown::Nothing | Shown::Several => None,
        }
    };
    let json = "application/json";
    let form = "application/x-www-form-urlencoded";
    for request in [
        get(&format!("/service/media/action/list?x=1&ks={coded}")),
        get(&format!("/service/media/action/list?ks={}", ks.replace('-', "+").replace('_', "/"))),
        get(&format!("/service/media/action/get/ks/{ks}/id/1")),
        get(&format!("/p/102/playManifest/entryId/1/ks/{coded}/a.m3u8")),
        post("/service/media/action/list", json, &json!({"ks": ks}).to_string()),
        post("/service/media/action/list", form, &format!("a=b&ks={coded}")),
        post("/service/multirequest", json, &json!({"1": {"ks": ks}, "2": {"ks": ks}}).to_string()),
        // Path before query before body.
        post(&format!("/a/ks/{ks}?ks=djJ8"), json, "{\"ks\":\"x\"}"),
    ] {
        assert_eq!(find(&request), Some(id), "{request:?}");
    }
    for request in [
        get("/service/media/action/list?ks=null"),
        get("/ks/abc/ks"),
        get(&format!("/service/media?kss={coded}")),
        post("/", json, r#"{"ks":"{1:result}"}"#),
        post("/", json, &json!({"1": {"ks": ks}, "2": {"ks": "{1:result}"}}).to_string()),
        post("/", json, "{"),
        post("/", "video/mp4", &format!("ks={coded}")),
    ] {
        assert_eq!(find(&request), None, "{request:?}");
    }
    // A session that was opened elsewhere.
    let own = crate::session::Token::issue(crate::session::SessionId::issue().unwrap()).unwrap();
    let request = get(&format!("/?ks={}", *own.encode()));
    assert_eq!(find(&request), Some(own.id()));
}

/// Regression: a name that was sent in another spelling was one for the app and the actions, but none for
/// the gateway: the request was whose cookie it carried.
#[tokio::test]
async fn a_ks_is_found_by_its_name_in_every_spelling() {
    let site = Site::new();
    let ks = site.start(json!({})).await;
    let other = site.start(json!({"userId": "guest"})).await;
    let id = token::token(&ks).unwrap().id();
    let find = |path: &str| {
        let find = |head: &Head<'_>| site.kaltura.token(head, None);
        match site.with_head(&get(path), find) {
            Shown::Token(token) => Some(token.id()),
            Shown::Nothing | Shown::Several => None,
        }
    };
    let list = "/service/media/action/list";
    for path in [
        format!("{list}?%6bs={ks}"),
        format!("{list}?k%73={ks}"),
        format!("{list}?a=1&%6B%73={ks}&b=%20"),
        format!("{list}/%6bs/{ks}"),
        format!("{list}/k%73/{ks}/id/1"),
        format!("{list}//ks//{ks}"),
        format!("/p/102/%6bs/{ks}/a.m3u8"),
        format!("{list}?x={}&ks={ks}", "x".repeat(20_000)),
        // Where there are several, the one that the app sees.
        format!("{list}?ks={other}&%6bs={ks}"),
        format!("{list}/%6bs/{ks}?ks={other}"),
        format!("{list}/x/ks/{other}?ks={ks}"),
    ] {
        assert_eq!(find(&path), Some(id), "{path}");
        let posted = post(&path, "application/json", "{}");
        assert_ne!(site.owns(&posted), Owns::Yes, "{path}");
    }
    for path in
        [format!("{list}?KS={ks}"), format!("{list}?%6b={ks}"), format!("{list}?a%6bs={ks}")]
    {
        assert_eq!(find(&path), None, "{path}");
    }
    // Of several in the path PHP takes the first, and it leaves out what is named like its script.
    for path in [
        format!("{list}/ks/{other}/%6bs/{ks}"),
        format!("{list}/api_v3/ks/{ks}"),
        format!("{list}/index.php/ks/{ks}"),
        format!("{list}/0/x/ks/{ks}"),
        format!("{list}/ks:x/1?ks={ks}"),
        format!("/format/1?service=session&action=end&ks={ks}"),
        format!("/index.php/format/1?service=session&action=end&ks={ks}"),
    ] {
        assert_eq!(site.owns(&get(&path)), Owns::Yes, "{path}");
    }
    // Without a word over HTTP/2.
    let silent = Request { headers: Vec::new(), ..post("/", "application/json", "{}") };
    let silent = Request { method: "GET", ..silent };
    assert_eq!(site.owns(&silent), Owns::Told);
    for name in ["%201:ks", "1:ks%5b", "+1:service", "2:action%20"] {
        let path = format!("/service/multirequest?{name}={ks}");
        assert_eq!(site.owns(&get(&path)), Owns::Yes, "{name} reaches the app");
    }
}

#[test]
fn failures_of_the_gateway_are_answers_of_the_api() {
    let site = Site::new();
    let refuse = |target: &str, accept: &str, fault: &Fault| {
        let mut headers = HeaderMap::new();
        headers.insert("accept", HeaderValue::from_str(accept).unwrap());
        let method = Method::POST;
        let context = Context {
            headers: &headers,
            method: &method,
            request: "r1",
            identity: None,
            target,
            host: "api.example.com",
            ip: None,
            stale: false,
            now: 0,
        };
        let reply = site.kaltura.refuse(fault, &context);
        assert_eq!(reply.status, StatusCode::OK);
        assert_eq!(value(&reply, "access-control-allow-origin").as_deref(), Some("*"));
        reply
    };
    let fault = |status: u16, code| Fault::new(StatusCode::from_u16(status).unwrap(), code, "Why.");
    let list = "/api_v3/service/media/action/list";
    for (target, fault, code) in [
        (list, fault(401, "not-signed-in"), "MISSING_KS"),
        (list, fault(403, "not-allowed"), "SERVICE_FORBIDDEN"),
        (list, fault(404, "no-route"), "SERVICE_DOES_NOT_EXISTS"),
        ("/api_v3/service/user/action/add", fault(404, "no-route"), "ACTION_DOES_NOT_EXISTS"),
        ("/api_v3/", fault(404, "no-route"), "SERVICE_NOT_SPECIFIED"),
        ("/api_v3", fault(404, "no-route"), "SERVICE_NOT_SPECIFIED"),
        (list, fault(429, "too-many"), "ACTION_BLOCKED"),
        (list, fault(400, "bad-target"), "BAD_TARGET"),
        (list, fault(405, "method-not-allowed"), "METHOD_NOT_ALLOWED"),
        (list, fault(413, "body-too-large"), "BODY_TOO_LARGE"),
        (list, fault(502, "upstream-failed"), "INTERNAL_SERVERL_ERROR"),
        (list, fault(503, "session-store-unavailable"), "INTERNAL_SERVERL_ERROR"),
    ] {
        let json = body(&refuse(target, "application/json", &fault));
        assert_eq!(json["code"], code, "{target} {fault:?}");
        let xml = refuse(target, "text/xml", &fault);
        let text = String::from_utf8(xml.body.to_vec()).unwrap();
        assert!(text.contains(&format!("<result><error><code>{code}</code>")), "{text}");
        assert_eq!(value(&xml, "content-type").as_deref(), Some("text/xml"));
    }
    let mut expired = fault(401, "not-signed-in");
    expired.worthless = Some(crate::session::Worthless::Expired);
    invalid_ks(&body(&refuse(&format!("{list}?format=1"), "*/*", &expired)), "EXPIRED");
    let wait = fault(503, "busy").after(Duration::from_secs(7));
    let reply = refuse(list, "*/*", &wait);
    assert_eq!(value(&reply, "retry-after").as_deref(), Some("7"));
    assert!(String::from_utf8_lossy(&reply.body).contains("Why."));
}

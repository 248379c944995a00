use std::path::Path;

use http::Request;
use proptest::prelude::*;

use super::*;
use crate::section::Problems;
use crate::session::Identity;

fn rules(text: &str) -> (Rules, Vec<String>) {
    let problems = Problems::default();
    let mut section = Section::parse(Path::new("c.toml"), text.to_owned(), &problems);
    let rules = Rules::read(&mut section);
    drop(section);
    (rules, problems.list().iter().map(ToString::to_string).collect())
}

fn cleaned(lines: &[(&str, &str)]) -> HeaderMap {
    let mut request = Request::new(());
    for (name, value) in lines {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        request.headers_mut().append(name, HeaderValue::from_str(value).unwrap());
    }
    let (rules, problems) = rules("[templates]\nnuvla-authn-info = \"{user_claim} {roles}\"");
    assert_eq!(problems, [""; 0]);
    rules.clean(request.headers_mut());
    request.into_parts().0.headers
}

#[test]
fn every_copy_of_an_identity_header_is_removed() {
    for name in [
        "X-Auth-User",
        "x_auth_user",
        "X-Auth_User",
        "x.auth.user",
        "x+auth+user",
        "x!auth-user",
        "x'auth'user",
        "X-AUTH-ACTOR",
        "x-auth-assertion",
        "Nuvla-Authn-Info",
        "nuvla_authn_info",
        "X-Forwarded-User",
        "X_Forwarded_For",
        "X-Forwarded-Prefix",
        "Forwarded",
        "X-Real-IP",
        "X-Original-URL",
        "x-original-uri",
        "X-Rewrite-URL",
        "Proxy",
        "True-Client-IP",
        "Remote-User",
        "Client-IP",
    ] {
        let left = cleaned(&[(name, "admin"), (name, "root"), ("accept", "*/*")]);
        assert_eq!(left.len(), 1, "{name}: {left:?}");
    }
}

/// An outside attacker found these to pass: apps and frameworks take them for the client's address, the host or
/// the path.
#[test]
fn names_of_addresses_hosts_and_paths_are_removed() {
    let names = [
        "Proxy-Client-IP",
        "WL-Proxy-Client-IP",
        "X-Originating-IP",
        "X-Remote-IP",
        "X-Remote-Addr",
        "Remote-Addr",
        "HTTP-Client-IP",
        "X-Azure-ClientIP",
        "X-Envoy-External-Address",
        "X-AppEngine-User-IP",
        "X-Host",
        "Forwarded-Host",
        "X-Rewrite-Uri",
        "X-Envoy-Original-Path",
    ];
    // And those that were removed before.
    let old = [
        "Proxy",
        "Client-IP",
        "Forwarded",
        "Forwarded-For",
        "X-Forwarded",
        "X-Real-IP",
        "Remote-User",
        "X-Client-IP",
        "X-Request-Id",
        "X-Remote-User",
        "X-Rewrite-Url",
        "True-Client-IP",
        "X-ProxyUser-IP",
        "CF-Connecting-IP",
        "CF-Connecting-IPv6",
        "Fastly-Client-IP",
        "X-Cluster-Client-IP",
    ];
    for name in names.into_iter().chain(old) {
        let left = cleaned(&[(name, "203.0.113.9"), ("accept", "*/*")]);
        assert_eq!(left.len(), 1, "{name}: {left:?}");
    }
}

#[test]
fn names_of_the_app_pass() {
    let left = cleaned(&[("x-auth-token", "t"), ("x-api-key", "k"), ("authorization", "Basic x")]);
    assert_eq!(left.len(), 3);
}

#[test]
fn nominated_names_go_but_never_what_holds_the_request_together() {
    let left = cleaned(&[
        ("connection", "close, X-Hop, COOKIE"),
        ("connection", "x-second, content-length, host"),
        ("x-hop", "1"),
        ("x-second", "2"),
        ("cookie", "a=b"),
        ("host", "h"),
        ("content-length", "3"),
        ("keep-alive", "timeout=5"),
        ("te", "gzip, trailers"),
        ("proxy-authorization", "Basic x"),
        ("upgrade", "h2c"),
        ("expect", "100-continue"),
    ]);
    let mut names: Vec<_> = left.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-length", "cookie", "host", "te"]);
    assert_eq!(left["te"], "trailers");
}

#[test]
fn a_byte_outside_ascii_does_not_hide_nominations() {
    let mut headers = HeaderMap::new();
    for line in [&b"\xff, x-one"[..], b"x-two,\xc3\xa9"] {
        headers.append(header::CONNECTION, HeaderValue::from_bytes(line).unwrap());
    }
    for name in ["x-one", "x-two", "x-three"] {
        headers.insert(name, HeaderValue::from_static("1"));
    }
    remove(&mut headers, is_hop_by_hop);
    assert_eq!(headers.keys().collect::<Vec<_>>(), ["x-three"]);
}

#[test]
fn forwarding_headers_are_believed_from_trusted_proxies_only() {
    let trust = Trust(vec!["10.0.0.0/8".parse().unwrap()]);
    let find = |peer: &str, chain: &str| {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", HeaderValue::from_str(chain).unwrap());
        Client::find(peer.parse().unwrap(), &headers, &trust).ip.to_string()
    };
    assert_eq!(find("203.0.113.9", "1.2.3.4"), "203.0.113.9");
    assert_eq!(find("10.0.0.1", "1.2.3.4"), "1.2.3.4");
    assert_eq!(find("10.0.0.1", "6.6.6.6, 1.2.3.4, 10.9.9.9"), "1.2.3.4");
    assert_eq!(find("::ffff:10.0.0.1", "1.2.3.4:567"), "1.2.3.4");
    assert_eq!(find("10.0.0.1", "[2001:db8::1]:99"), "2001:db8::1");
    assert_eq!(find("10.0.0.1", "1.2.3.4, nonsense, 10.2.2.2"), "10.2.2.2");
    assert_eq!(find("10.0.0.1", ""), "10.0.0.1");
}

#[test]
fn a_byte_outside_ascii_from_a_client_does_not_hide_its_address() {
    let trust = Trust(vec!["10.0.0.0/8".parse().unwrap()]);
    for line in
        [&b"\xff, 203.0.113.7"[..], b"\xc3\xa9, 203.0.113.7, 10.0.0.2", b"1,\xff,203.0.113.7"]
    {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", HeaderValue::from_bytes(line).unwrap());
        let client = Client::find("10.0.0.1".parse().unwrap(), &headers, &trust);
        assert_eq!(client.ip.to_string(), "203.0.113.7", "{line:?}");
    }
}

#[test]
fn header_settings_say_what_is_wrong() {
    for (text, what) in [
        ("user = \"X_User\"", "dropped from every request"),
        ("user = \"a b\"", "not a header name"),
        ("name = \"Cookie\"", "has another meaning"),
        ("name = \"X-Forwarded-User\"", "has another meaning"),
        ("name = \"X-Auth-User\"", "made twice"),
        ("[templates]\nx-a = \"{usr}\"", "did you mean {user}?"),
        ("[templates]\nx-a = \"{user\"", "`{` without `}`"),
        ("usr = \"X-U\"", "did you mean `user`?"),
    ] {
        let (_, problems) = rules(text);
        assert!(problems.concat().contains(what), "{text}: {problems:?}");
    }
    let (rules, problems) = rules("actor = \"\"\nuser = \"X-Remote-Id\"");
    assert_eq!(problems, [""; 0]);
    let names: Vec<_> = rules.identity_names().collect();
    assert!(names.contains(&"x-remote-id") && !names.contains(&"x-auth-actor"));
    assert!(rules.guarded.contains("x-auth-user"), "a default name stays guarded when renamed");
}

proptest! {
    #[test]
    fn forwarded_names_are_unique_however_an_app_folds_them(
        names in prop::collection::vec("[!#$%&'*+.^_`|~0-9a-zA-Z-]{1,12}", 0..20)
    ) {
        let lines: Vec<_> = names.iter().map(|name| (name.as_str(), "v")).collect();
        let left = cleaned(&lines);
        let folded = |name: &HeaderName| {
            name.as_str().replace(|c: char| !c.is_ascii_alphanumeric(), "-")
        };
        let mut seen: Vec<_> = left.keys().map(folded).collect();
        let all = seen.len();
        seen.sort_unstable();
        seen.dedup();
        prop_assert_eq!(seen.len(), all);
    }
}

/// An identity whose every text is one of these.
fn of_texts(texts: &[String; 8], list: Vec<String>) -> Identity {
    let [user, identifier, name, email, claim, tenant, actor, alias] = texts.clone();
    let aliases = ["nuvla", "versal", "kaltura"].map(|dialect| (dialect.to_owned(), alias.clone()));
    Identity {
        user,
        identifier,
        name,
        email,
        claim,
        tenant: Some(tenant),
        actor: Some(actor),
        groups: list.clone(),
        roles: list.clone(),
        privileges: list,
        aliases: aliases.into(),
        ..Identity::default()
    }
}

proptest! {
    #[test]
    fn every_text_is_one_field_that_decodes_to_itself(
        texts: [String; 8],
        list in prop::collection::vec(any::<String>(), 0..6),
    ) {
        let identity = of_texts(&texts, list.clone());
        let text = "[templates]\n\
            x-all = \"{user_claim} {privileges} {roles} {nuvla_id} {versal_id} {kaltura_id} {tenant}\"";
        let (rules, problems) = rules(text);
        prop_assert_eq!(problems, [""; 0]);
        let fields = rules.identity.fields(&identity);
        let decode = |text: &str| {
            percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned()
        };
        let mut names = Vec::new();
        for (name, value) in &fields {
            let value = value.to_str().unwrap();
            prop_assert!(value.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{}", value);
            let expected = match name.as_str() {
                "x-auth-privileges" | "x-auth-groups" | "x-auth-roles" => {
                    let back: Vec<_> = value.split(',').map(decode).collect();
                    prop_assert_eq!(&back, &list);
                    names.push(name);
                    continue;
                }
                "x-auth-tenant" => Some(&texts[5]),
                "x-auth-actor" => Some(&texts[6]),
                "x-auth-name" => Some(&texts[2]),
                _ => None,
            };
            if let Some(expected) = expected {
                prop_assert_eq!(&decode(value), expected);
            }
            names.push(name);
        }
        let all = names.len();
        names.sort_unstable_by_key(|name| name.as_str());
        names.dedup();
        prop_assert_eq!(names.len(), all, "each once");
    }
}

#[test]
fn an_id_with_spaces_is_one_word() {
    let (rules, problems) =
        rules("[templates]\nx-claims = \"{user_claim} {active_claim} {roles}\"");
    assert_eq!(problems, [""; 0]);
    let evil = "partner/1/x group/admin ".to_owned();
    let (user, claim, roles) = (evil.clone(), evil.clone(), vec![evil]);
    let identity = Identity { user, claim, roles, ..Identity::default() };
    let fields = rules.identity.fields(&identity);
    let value = |wanted: &str| {
        let (_, value) = fields.iter().find(|(name, _)| name == wanted).unwrap();
        value.to_str().unwrap().to_owned()
    };
    assert_eq!(value("x-claims").split(' ').count(), 3);
    assert_eq!(value("x-auth-user"), "partner/1/x group/admin%20");
}

#[test]
fn templates_know_what_other_apis_call_a_user() {
    let text = "[templates]\nx-ids = \"{nuvla_id} {versal_id} {kaltura_id}\"";
    let (rules, problems) = rules(text);
    assert_eq!(problems, [""; 0]);
    let ids = |identity: &Identity| {
        let fields = rules.identity.fields(identity);
        let (_, value) = fields.iter().find(|(name, _)| name == "x-ids").unwrap();
        value.to_str().unwrap().to_owned()
    };
    let (user, identifier) = ("u1".to_owned(), "alice".to_owned());
    let mut identity = Identity { user, identifier, ..Identity::default() };
    assert_eq!(ids(&identity), "user/u1  alice");
    let aliases = [("nuvla", "user/n"), ("versal", "-7"), ("kaltura", "al")];
    identity.aliases = aliases.map(|(dialect, id)| (dialect.to_owned(), id.to_owned())).into();
    assert_eq!(ids(&identity), "user/n -7 al");
    let partner = Identity { user: "partner/1".to_owned(), ..Identity::default() };
    assert_eq!(ids(&partner), "partner/1  ");
}

/// Regression: apps took `user/`, and what is there but empty, for the name of somebody who is signed in.
#[test]
fn templates_of_which_nothing_is_known_are_left_out() {
    let text = "[templates]\nx-n = \"user/{nuvla_id}\"\nx-v = \"{versal_id}\"\nx-g = \"in {groups}\"\nx-t = \"yes\"";
    let (rules, problems) = rules(text);
    assert_eq!(problems, [""; 0]);
    let made = |identity: &Identity| {
        let fields = rules.identity.fields(identity);
        let names = fields.iter().map(|(name, _)| name.as_str().to_owned());
        names.filter(|name| !name.starts_with("x-auth-")).collect::<Vec<_>>()
    };
    assert_eq!(made(&Identity::default()), ["x-t"]);
    let (user, groups) = ("u1".to_owned(), vec!["ops".to_owned()]);
    assert_eq!(made(&Identity { user, ..Identity::default() }), ["x-n", "x-t"]);
    assert_eq!(made(&Identity { groups, ..Identity::default() }), ["x-g", "x-t"]);
}

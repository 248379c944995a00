//! Several actions in one request.

use super::*;

async fn many(site: &Site, params: Json) -> Json {
    let mut params = params;
    params["format"] = json!(1);
    site.json(post("/service/multirequest", "application/json", &params.to_string())).await
}

#[tokio::test]
async fn later_items_use_what_earlier_ones_answered() {
    let site = Site::new();
    let start = json!({"service": "session", "action": "start", "secret": ADMIN, "userId": "b0b"});
    let who = json!({"service": "user", "action": "get", "ks": "{1:result}"});
    // Clients count from zero, people from one: references count from one in both.
    for first in [0, 1, 7] {
        let params = json!({"partnerId": 102, first.to_string(): start,
            (first + 1).to_string(): who,
            (first + 2).to_string(): {"service": "user", "action": "get", "ks": "{1:result}",
                "userId": "{2:result:id}"}});
        let answers = many(&site, params).await;
        assert_eq!(answers.as_array().unwrap().len(), 3);
        assert_eq!((&answers[1]["id"], &answers[2]["id"]), (&json!("b0b"), &json!("b0b")));
    }
}

#[tokio::test]
async fn an_error_is_the_answer_of_its_item_only() {
    let site = Site::new();
    let ks = site.start(json!({})).await;
    let params = json!({"ks": ks,
        "1": {"service": "session", "action": "start", "secret": "wrong", "partnerId": 102},
        "2": {"service": "user", "action": "get", "userId": "{1:result}"},
        "3": {"service": "user", "action": "get", "userId": "{9:result:id}"},
        "4": {"service": "user"},
        "5": {"nothing": 1},
        "6": {"service": "user", "action": "get"},
        "7": {"service": "session", "action": "end"},
        "8": {"service": "user", "action": "get"},
    });
    let answers = many(&site, params).await;
    let codes: Vec<_> = answers.as_array().unwrap().iter().map(|item| &item["code"]).collect();
    assert_eq!(
        json!(codes),
        json!([
            "START_SESSION_ERROR",
            "INVALID_MULTIREQUEST_TOKEN",
            "INVALID_MULTIREQUEST_TOKEN",
            "ACTION_NOT_SPECIFIED",
            "SERVICE_NOT_SPECIFIED",
            null,
            null,
            "INVALID_KS",
        ])
    );
    assert_eq!(answers[5]["id"], "b0b");
    assert_eq!(answers[6], json!(null));
}

#[tokio::test]
async fn each_item_is_a_use_of_the_session() {
    let site = Site::new();
    let ks = site.start(json!({"privileges": "actionslimit:2"})).await;
    let item = json!({"service": "user", "action": "get"});
    let answers = many(&site, json!({"ks": ks, "1": item, "2": item, "3": item})).await;
    assert_eq!((&answers[0]["id"], &answers[1]["id"]), (&json!("b0b"), &json!("b0b")));
    invalid_ks(&answers[2], "EXCEEDED_ACTIONS_LIMIT");
}

#[tokio::test]
async fn flat_names_and_xml_work_too() {
    let site = Site::new();
    let body = format!(
        "format=2&partnerId=102&1:service=session&1:action=start&1:secret={ADMIN}&1:userId=b0b\
         &2:service=user&2:action=get&2:ks=%7B1:result%7D"
    );
    let request = post("/service/multirequest", "application/x-www-form-urlencoded", &body);
    let xml = String::from_utf8(site.ask(request).await.body.to_vec()).unwrap();
    let document = roxmltree::Document::parse(&xml).unwrap();
    let items: Vec<_> = document.descendants().filter(|node| node.has_tag_name("item")).collect();
    assert_eq!(items.len(), 2, "{xml}");
    assert!(items[0].text().unwrap().starts_with("djJ8"));
    let id = items[1].children().find(|child| child.has_tag_name("id")).unwrap();
    assert_eq!(id.text(), Some("b0b"));
}

#[tokio::test]
async fn mixed_and_endless_requests_are_refused_whole() {
    let site = Site::new();
    let start = json!({"service": "session", "action": "start", "secret": ADMIN, "partnerId": 102});
    let list = json!({"service": "media", "action": "list"});
    let answer = many(&site, json!({"1": start, "2": list})).await;
    assert_eq!(answer["code"], "MULTIREQUEST_MIXED");
    assert_eq!(site.store.len(), 0, "nothing was done");
    let items = (0..101).map(|n| (n.to_string(), json!({"service": "user", "action": "get"})));
    let answer = many(&site, Json::Object(items.collect())).await;
    assert_eq!(answer["code"], "MALFORMED_REQUEST");
    assert_eq!(many(&site, json!({})).await, json!([]));
}

#[test]
fn whose_a_multirequest_is_follows_from_its_items() {
    let site = Site::new();
    let item = |name: &str| {
        let (service, action) = name.split_once('.').unwrap();
        json!({"service": service, "action": action})
    };
    for (names, own) in [
        (&["session.start", "user.get"][..], true),
        (&["Session.START"], true),
        (&["media.list"], false),
        (&["media.list", "session.impersonate"], false),
        (&["media.list", "session.end"], true),
        (&["session.startWidgetSession", "media.list"], false),
        (&["session.startWidgetSession"], true),
        (&[], true),
    ] {
        let items = names.iter().enumerate().map(|(at, name)| (at.to_string(), item(name)));
        let body = Json::Object(items.collect()).to_string();
        for path in
            ["/service/multirequest", "/?service=multirequest", "/index.php?service=Multirequest"]
        {
            let request = post(path, "application/json", &body);
            assert_eq!(site.owns(&request), Owns::Told);
            assert_eq!(site.is_own(&request), own, "{names:?}");
        }
    }
    // Far more than are taken: it is refused before anything is copied into each.
    let many: serde_json::Map<_, _> = (0..3_000).map(|at| (at.to_string(), json!({}))).collect();
    let many = Json::Object(many).to_string();
    assert!(site.is_own(&post("/service/multirequest", "application/json", &many)));
    let flat = |query: &str| get(&format!("/service/multirequest?{query}"));
    assert!(site.is_own(&flat("1:service=user&1:action=get")));
    assert!(!site.is_own(&flat("1:service=media&1:action=get")));
}

/// Regression: items were looked at in bodies only, and those that had different sessions were the cookie's.
#[tokio::test]
async fn the_session_of_all_items_counts_and_different_ones_are_nobodys() {
    let site = Site::new();
    let one = site.start(json!({})).await;
    let two = site.start(json!({"userId": "guest"})).await;
    let id = token::token(&one).unwrap().id();
    let found = |request: &Request<'_>| {
        let body = Some(&*request.body).filter(|body| !body.is_empty());
        site.with_head(request, |head| match site.kaltura.token(head, body) {
            Shown::Nothing => (None, false),
            Shown::Token(token) => (Some(token.id()), false),
            Shown::Several => (None, true),
        })
    };
    let (yes, none, several) = ((Some(id), false), (None, false), (None, true));
    for (whole, first, second, expected) in [
        ("", &*one, &*one, yes),
        (&*one, "", "", yes),
        (&*one, &*one, "", yes),
        (&*one, "", "{1:result}", yes),
        ("", "", "", none),
        ("", "", "{1:result}", none),
        ("", &*one, &*two, several),
        ("", &*one, "", several),
        ("", "", &*one, several),
        ("", &*one, "{1:result}", several),
        (&*one, "", &*two, several),
        (&*one, &*two, &*two, several),
    ] {
        let names = [("ks", whole), ("1:ks", first), ("2:ks", second)];
        let given = || names.iter().filter(|(_, ks)| !ks.is_empty());
        let query: Vec<_> = given().map(|(name, ks)| format!("&{name}={ks}")).collect();
        let calls = "1:service=media&1:action=list&2:service=media&2:action=get";
        let flat = format!("{calls}{}", query.concat());
        let path: Vec<_> = given().map(|(name, ks)| format!("/{name}/{ks}")).collect();
        let mut json = json!({"1:service": "media", "2:service": "media"});
        given().for_each(|(name, ks)| json[name] = json!(ks));
        let many = "/service/multirequest";
        let form = "application/x-www-form-urlencoded";
        for request in [
            get(&format!("{many}?{flat}")),
            get(&format!("{many}?{}", flat.replace(":ks", "%3a%6Bs"))),
            get(&format!("/?service=MultiRequest&{flat}")),
            get(&format!("{many}{}?{calls}", path.concat())),
            post(many, form, &flat),
            post(&format!("{many}?{calls}"), form, &query.concat()),
            post(many, "application/json", &json.to_string()),
        ] {
            assert_eq!(found(&request), expected, "{whole} {first} {second} {request:?}");
        }
    }
    let split = post(
        &format!("/service/multirequest?1:service=media&1:ks={one}"),
        "application/json",
        &json!({"2": {"service": "media", "ks": two}}).to_string(),
    );
    assert_eq!(found(&split), several);
    // Items are those of a multirequest only.
    assert_eq!(found(&get(&format!("/service/media/action/list?1:ks={one}&2:ks={two}"))), none);
}

//! `user.get` and `partner.listPartnersForUser`.

use super::*;

#[tokio::test]
async fn a_user_asks_who_they_are() {
    let site = Site::new();
    let login = json!({"loginId": "alice", "password": "alice"});
    let ks = text(&site.call("user.loginByLoginId", login).await);
    let user = site.call("user.get", json!({"ks": ks})).await;
    let wanted = json!({
        "objectType": "KalturaUser", "id": "alice.k", "partnerId": 102, "type": 0, "status": 1,
        "screenName": "alice <Example>", "fullName": "alice <Example>", "firstName": "alice",
        "lastName": "<Example>", "email": "alice@example.com", "isAdmin": true, "isGuest": false,
        "isAccountOwner": false, "loginEnabled": true,
    });
    assert_eq!(user, wanted);
    assert_eq!(site.call("user.get", json!({"ks": ks, "userId": "alice.k"})).await, wanted);
    // Somebody whom only the partner knows.
    let ks = site.start(json!({"userId": "somebody"})).await;
    let guest = site.call("user.get", json!({"ks": ks})).await;
    assert_eq!((&guest["id"], &guest["isGuest"]), (&json!("somebody"), &json!(true)));
    // The partner itself is no user.
    let ks = site.start(json!({"userId": "", "type": 2})).await;
    error(&site.call("user.get", json!({"ks": ks})).await, "INVALID_USER_ID", "Invalid user id");
}

#[tokio::test]
async fn administrators_ask_who_others_are() {
    let site = Site::new();
    let admin = site.start(json!({"type": 2, "userId": "alice.k"})).await;
    let other = |user: &str| site.call("user.get", json!({"ks": admin, "userId": user}));
    let bob = other("b0b").await;
    assert_eq!((&bob["id"], &bob["fullName"]), (&json!("b0b"), &json!("bob <Example>")));
    assert_eq!((&bob["isAdmin"], &bob["status"]), (&json!(false), &json!(1)));
    assert_eq!(other("carol").await["status"], 0);
    for unknown in ["bob", "dave", "nobody"] {
        error(&other(unknown).await, "INVALID_USER_ID", "Invalid user id");
    }
    let user = site.start(json!({})).await;
    for whom in ["alice.k", "nobody"] {
        let answer = site.call("user.get", json!({"ks": user, "userId": whom})).await;
        let code = "CANNOT_RETRIEVE_ANOTHER_USER_USING_NON_ADMIN_SESSION";
        let message = format!("cannot retrieve another user \"{whom}\" using non-admin session");
        assert_eq!(error(&answer, code, &message), json!({"USER_ID": whom}));
    }
}

#[tokio::test]
async fn without_a_ks_nobody_is_told_anything() {
    let site = Site::new();
    for name in ["user.get", "session.get", "partner.listPartnersForUser"] {
        let answer = site.call(name, json!({})).await;
        error(&answer, "MISSING_KS", "Missing KS, session not established");
        let answer = site.call(name, json!({"partnerId": 102})).await;
        assert_eq!(answer["code"], "SERVICE_FORBIDDEN");
    }
    let answer = site.call("user.get", json!({"partnerId": 102})).await;
    let message = "The access to service [user->get] is forbidden";
    assert_eq!(error(&answer, "SERVICE_FORBIDDEN", message), json!({"SERVICE": "user->get"}));
    for ks in ["rubbish", "djJ8MTAyfBMM", "djJ8MTAyfBMM6nJrb9vRKGndlsjrrm6MjK6AlrWLrbWQ"] {
        let answer = site.call("user.get", json!({"ks": ks})).await;
        invalid_ks(&answer, "INVALID_STR");
        assert!(!answer.to_string().contains(ks), "the token is repeated");
    }
    let ks = site.start(json!({})).await;
    let answer = site.call("user.get", json!({"ks": ks, "partnerId": 103})).await;
    let message = "Partner [102] cannot access partner [103]";
    error(&answer, "PARTNER_ACCESS_FORBIDDEN", message);
}

#[tokio::test]
async fn the_first_step_of_a_login_only_chooses_a_partner() {
    let site = Site::new();
    let login = json!({"loginId": "bob", "password": "bob"});
    let ks = text(&site.call("user.loginByLoginId", login.clone()).await);
    let list = site.call("partner.listPartnersForUser", json!({"ks": ks})).await;
    assert_eq!(
        (&list["objectType"], &list["totalCount"]),
        (&json!("KalturaPartnerListResponse"), &json!(1))
    );
    assert_eq!(list["objects"][0]["id"], 103);
    assert_eq!(list["objects"][0]["objectType"], "KalturaPartner");
    assert_eq!(site.call("session.get", json!({"ks": ks})).await["privileges"], "choosepartner");
    assert!(site.call("user.get", json!({"ks": ks})).await["id"].is_string());
    let app = json!({"ks": ks, "id": "plain", "tokenHash": "00"});
    assert_eq!(site.call("appToken.startSession", app).await["code"], "SERVICE_FORBIDDEN");
    let mut second = login;
    second["partnerId"] = json!(103);
    second["ks"] = json!(ks);
    let whole = text(&site.call("user.loginByLoginId", second).await);
    let info = site.call("session.get", json!({"ks": whole})).await;
    assert_eq!((&info["partnerId"], &info["sessionType"]), (&json!(103), &json!(2)));
    assert_eq!(site.call("session.end", json!({"ks": ks})).await, json!(null));
}

#[tokio::test]
async fn partners_are_listed_without_their_secrets() {
    let site = Site::new();
    let login = json!({"loginId": "alice", "password": "alice"});
    let ks = text(&site.call("user.loginByLoginId", login).await);
    let list = site.call("partner.listPartnersForUser", json!({"ks": ks})).await;
    assert_eq!(
        list["objects"],
        json!([{
            "objectType": "KalturaPartner", "id": 102, "name": "Rich & Co", "status": 1, "type": 1,
            "website": "https://rich.example", "adminEmail": "it@rich.example",
        }])
    );
    let pager = json!({"ks": ks, "pager": {"pageIndex": 2, "pageSize": "1"}});
    let list = site.call("partner.listPartnersForUser", pager).await;
    assert_eq!((&list["objects"], &list["totalCount"]), (&json!([]), &json!(1)));
}

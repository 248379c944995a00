//! Whatever is secret is in no line that is written, wherever in a request it stood.

use bytes::Bytes;
use http::Method;
use serde_json::json;

use super::{By, kaltura, nuvla_login, over_both, partner_session};
use crate::support::gateway::password;
use crate::support::process::eventually;
use crate::support::world::{
    ADMIN_SECRET, ALICE_KEY, APP_TOKEN, Held, Kept, PARTNER_KEY, SHOP, USER_SECRET, World, telling,
};

over_both!(nothing_secret_is_written_down);

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

async fn nothing_secret_is_written_down(kept: Kept) {
    let app = telling();
    let world = World::in_front_of(kept, app.addr());
    let mut client = world.a.client();
    let mut secrets: Vec<String> = [ADMIN_SECRET, USER_SECRET, ALICE_KEY.1, PARTNER_KEY.1]
        .iter()
        .chain(&["canary-wrong-word", APP_TOKEN.1])
        .map(|text| (*text).to_owned())
        .chain([password("alice"), ALICE_KEY.1.replace('.', ""), PARTNER_KEY.1.replace('.', "")])
        .collect();

    // By each way in, and by each way to carry what came of it.
    for by in By::ALL {
        let held = by.opened(&world.a).await;
        for node in world.nodes() {
            let mut client = node.client();
            for (_, tail, header) in held.carriers() {
                let header: Vec<_> = header.iter().map(|(n, v)| (*n, v.as_str())).collect();
                client.get_with(&format!("/who{tail}"), &header).await.expect(200);
                client.get_with(&format!("/api/nothing{tail}"), &header).await;
                client.get_with(&format!("/api2/user{tail}"), &header).await;
                let path = format!("/api_v3/service/media/action/list{tail}");
                client.get_with(&path, &header).await;
            }
        }
        secrets.push(match &held {
            Held::Cookie(token) => token.split('.').nth(1).unwrap().to_owned(),
            held => held.text().to_owned(),
        });
    }
    let Held::Ks(ks) = By::Kaltura.opened(&world.a).await else { panic!("no KS") };
    secrets.push(ks.clone());
    let coded: String = url::form_urlencoded::byte_serialize(ks.as_bytes()).collect();

    // A session of Kaltura's in query, path pair, form and JSON; owned and proxied; alive and over.
    for round in 0..2 {
        for path in [
            format!("/api_v3/service/user/action/get?ks={coded}&format=1"),
            format!("/api_v3/service/user/action/get/ks/{coded}/format/1"),
            format!("/api_v3/index.php?service=user&action=get&ks={coded}"),
            format!("/api_v3/index.php/service/user/action/get/ks/{coded}"),
            format!("/api_v3/service/media/action/get/ks/{coded}/entryId/1"),
            format!("/p/102/sp/10200/playManifest/entryId/1/ks/{coded}/a.m3u8"),
            format!("/api_v3/service/session/action/get/session/{coded}?ks={coded}"),
        ] {
            client.get(&path).await;
        }
        let form = Bytes::from(format!("ks={coded}&format=1"));
        for action in ["user/action/get", "media/action/list"] {
            let path = format!("/api_v3/service/{action}");
            client.request(Method::POST, &path, &[FORM], form.clone()).await;
            client.post_json(&path, &json!({ "ks": ks, "format": 1 })).await;
            let broken = Bytes::from(format!("{{\"ks\": \"{ks}\", broken"));
            let kind = [("content-type", "application/json")];
            client.request(Method::POST, &path, &kind, broken).await;
        }
        if round == 0 {
            kaltura(&mut client, "session", "end", &json!({ "ks": ks })).await;
        }
    }

    // Failed logins: what somebody typed is as secret as what would have been right.
    let wrong = "canary-wrong-word";
    client.try_sign_in("alice", wrong).await;
    let mut login = nuvla_login("bob");
    login["template"]["password"] = json!(wrong);
    client.post_json("/api/session", &login).await.expect(403);
    let body =
        Bytes::from(format!("href=session-template%2Fpassword&username=bob&password={wrong}"));
    client.request(Method::POST, "/api/session", &[FORM], body).await;
    client
        .post_json("/api2/signin", &json!({ "email": "carol@example.org", "password": wrong }))
        .await;
    let start = format!("/api_v3/service/session/action/start?secret={wrong}&partnerId={SHOP}");
    client.get(&start).await;
    let start =
        format!("/api_v3/service/session/action/start/secret/{USER_SECRET}/partnerId/{SHOP}");
    client.get(&start).await;
    let start = format!(
        "/api_v3/service/session/action/start?secret={USER_SECRET}&partnerId={SHOP}&userId=bob"
    );
    client.get(&start).await;
    let login = json!({ "loginId": "alice", "password": wrong });
    kaltura(&mut client, "user", "loginByLoginId", &login).await;
    let login = json!({ "loginId": "alice", "password": password("alice"), "partnerId": SHOP });
    kaltura(&mut client, "user", "loginByLoginId", &login).await;

    // Keys, as what they open and as a typing mistake.
    let sid = partner_session(&mut client, "1002").await;
    client.get_with("/who", &[("sid", PARTNER_KEY.1)]).await;
    client.get_with("/who", &[("authorization", &format!("Bearer {}", ALICE_KEY.1))]).await;
    client.get(&format!("/who?ks={sid}")).await;
    client.get(&format!("/who?SID={sid}")).await;
    secrets.push(sid);

    let mark = "/public/the-last-request";
    client.get(mark).await.expect(200);
    eventually("the last line of the log", || world.a.output().contains(mark).then_some(())).await;
    let mut written = world.output();
    for node in world.nodes() {
        written += &node.metrics().await;
    }
    for secret in &secrets {
        let decoded = percent_encoding::percent_decode_str(&written).decode_utf8_lossy();
        for text in [written.as_str(), &decoded] {
            if let Some(at) = text.find(secret.as_str()) {
                let line = text[..at].rfind('\n').map_or(0, |end| end + 1);
                panic!("{secret} was written: {}", text[line..].lines().next().unwrap());
            }
        }
    }
}

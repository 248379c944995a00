//! The drivers of the client libraries, against an application that answers as the originals do.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::clients::{KalturaClient, NuvlaClient, VersalSdk};
use crate::support::upstream::Recorded;
use crate::support::{Reply, Upstream};

/// Nothing here uses TLS.
const NONE: &str = "/nonexistent.pem";

fn origin(upstream: &Upstream) -> String {
    format!("http://{}", upstream.addr())
}

fn json_reply(status: &str, lines: &str, body: &Value) -> Reply {
    let lines = format!("Content-Type: application/json\r\n{lines}");
    Reply::status(status, &lines, &body.to_string())
}

fn body(request: &Recorded) -> Value {
    serde_json::from_slice(&request.body.data).unwrap()
}

fn nuvla(request: &Recorded) -> Reply {
    let id = "session/1f3c1a4e-2b5d-4c55-a5b1-6a1c3a0f3f6e";
    match (request.method.as_str(), request.target.as_str()) {
        ("POST", "/api/session") => {
            let cookie = "Set-Cookie: c=token; Secure; Path=/; HttpOnly\r\n";
            json_reply("201 Created", cookie, &json!({ "status": 201, "resource-id": id }))
        }
        ("PUT", "/api/session") => {
            let resources = json!([{ "id": id }]);
            json_reply("200 OK", "", &json!({ "count": 1, "resources": resources }))
        }
        ("DELETE", _) => json_reply("200 OK", "", &json!({ "status": 200 })),
        _ => json_reply("403 Forbidden", "", &json!({ "status": 403, "message": "not you" })),
    }
}

#[tokio::test]
async fn nuvla_api_is_driven() {
    let upstream = Upstream::answering(nuvla);
    // Without TLS it sends a secure cookie only so.
    let options = json!({ "insecure": true });
    let mut client = NuvlaClient::at(&origin(&upstream), Path::new(NONE), &options);
    let answer = client.login_password("alice", "word");
    assert_eq!(answer["status"], 201, "{answer}");
    assert_eq!(client.cookies()["c"], "token");
    assert_eq!(
        body(&upstream.last())["template"],
        json!({ "href": "session-template/password", "username": "alice", "password": "word" })
    );
    let id = client.current_session().unwrap();
    assert!(id.starts_with("session/"));
    let search = upstream.last();
    assert_eq!((search.method.as_str(), search.header("content-type")), ("PUT", None));
    assert_eq!(search.header("cookie").as_deref(), Some("c=token"));
    let refused = client.operation(&id, "switch-group", &json!({ "claim": "group/x" }));
    let refused = refused.unwrap_err();
    assert_eq!((&refused["type"], &refused["status"]), (&json!("NuvlaError"), &json!(403)));
    assert!(refused["message"].as_str().unwrap().contains("not you"), "{refused}");
    client.logout();
    assert_eq!(upstream.last().method, "DELETE");
}

fn kaltura(request: &Recorded) -> Reply {
    // A body is not read before it is answered: the format is told by what each library accepts.
    let action = request.target.rsplit('/').next().unwrap();
    if request.header("accept").as_deref() == Some("text/xml") {
        let result = match action {
            "start" => "sealed",
            "end" => "",
            "get" => "<objectType>KalturaUser</objectType><id>alice</id><isAdmin>1</isAdmin>",
            "multirequest" => {
                "<item>sealed</item><item><error><code>INVALID_KS</code><message>no</message>\
                 <objectType>KalturaAPIException</objectType></error></item>"
            }
            _ => "<error><code>INVALID_KS</code><message>no</message></error>",
        };
        let text = format!("<?xml version=\"1.0\"?><xml><result>{result}</result></xml>");
        return Reply::status("200 OK", "Content-Type: text/xml\r\n", &text);
    }
    let failure = json!({ "code": "INVALID_KS", "message": "no", "args": { "KSID": "LOGOUT" } });
    let result = match action {
        "start" => json!("sealed"),
        "end" => Value::Null,
        "get" => json!({ "objectType": "KalturaUser", "id": "alice", "isAdmin": true }),
        "multirequest" => json!(["sealed", failure]),
        _ => failure,
    };
    json_reply("200 OK", "", &result)
}

#[tokio::test]
async fn both_kaltura_clients_are_driven() {
    let upstream = Upstream::answering(kaltura);
    for open in [KalturaClient::python_at, KalturaClient::node_at] {
        let mut client = open(&origin(&upstream), Path::new(NONE));
        let start = [json!("s3cret"), json!("alice"), json!(2), json!(102)];
        assert_eq!(client.text("session", "start", &start), "sealed");
        let request = upstream.last();
        assert_eq!(request.target, "/api_v3/service/session/action/start");
        let sent = body(&request);
        assert_eq!((&sent["secret"], &sent["userId"]), (&json!("s3cret"), &json!("alice")));
        assert!(sent["partnerId"] == "102" || sent["partnerId"] == 102, "{sent}");
        client.set_ks("sealed");
        let user = client.call("user", "get", &[]).unwrap();
        assert_eq!((&user["objectType"], &user["id"]), (&json!("KalturaUser"), &json!("alice")));
        assert_eq!(body(&upstream.last())["ks"], "sealed");
        let error = client.call("user", "login", &[json!(1), json!("a"), json!("b")]);
        assert_eq!(error.unwrap_err()["code"], "INVALID_KS");
        assert_eq!(client.call("session", "end", &[]).unwrap_or_default(), Value::Null);
        let calls =
            json!([["session", "start", "s3cret"], ["session", "get", { "ref": "1:result" }]]);
        let results = client.multi(&calls).unwrap();
        assert_eq!(results[0], "sealed", "{results}");
        assert!(results[1].to_string().contains("INVALID_KS"), "{results}");
        let sent = body(&upstream.last());
        assert_eq!(sent["1"]["session"], "{1:result}", "{sent}");
    }
}

#[tokio::test]
async fn versal_sdk_is_driven() {
    let upstream = Upstream::answering(|request| match request.target.as_str() {
        "/api2/signin" => json_reply("200 OK", "", &json!({ "sessionId": "an-id" })),
        "/api2/user" => json_reply("200 OK", "", &json!({ "id": "123" })),
        _ => json_reply("401 Unauthorized", "", &json!({ "error": 401, "message": "Invalid" })),
    });
    let mut sdk = VersalSdk::at(&format!("{}/api2", origin(&upstream)), Path::new(NONE));
    assert_eq!(sdk.signin("alice@example.org", "word").unwrap(), "an-id");
    assert_eq!(body(&upstream.last())["email"], "alice@example.org");
    assert_eq!(sdk.user("an-id").unwrap()["id"], "123");
    assert_eq!(upstream.last().header("sid").as_deref(), Some("an-id"));
    assert_eq!(sdk.gadgets("sandbox", "other").unwrap_err()["message"], "Invalid");
    assert_eq!(upstream.last().target, "/api2/gadgets?catalog=sandbox&user=me");
}

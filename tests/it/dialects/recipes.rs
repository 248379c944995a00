//! The recipes of the originals' documents, with curl as they have it.

use std::process::Command;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::Gateway;
use crate::support::gateway::password;
use crate::support::process::Proc;
use crate::support::world::{
    ADMIN_SECRET, APP_TOKEN, Kept, PARTNER_KEY, SHOP, USER_SECRET, World, telling,
};

/// curl with a cookie jar of its own.
struct Curl<'a> {
    gateway: &'a Gateway,
    dir: TempDir,
}

impl<'a> Curl<'a> {
    fn of(gateway: &'a Gateway) -> Self {
        Self { gateway, dir: tempfile::tempdir().unwrap() }
    }

    fn jar(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("jar")).unwrap_or_default()
    }

    /// `curl ARGS ORIGIN/PATH`: the status and the body.
    fn run(&self, args: &[&str], path: &str) -> (u16, String) {
        let mut command = Command::new("curl");
        command
            .current_dir(self.dir.path())
            .args(["-sS", "--max-time", "20", "-w", "\n%{http_code}", "-b", "jar", "-c", "jar"])
            .arg("--cacert")
            .arg(self.gateway.certificate())
            .args(args)
            .arg(format!("{}{path}", self.gateway.origin()));
        let name = format!("curl {path}").replace('/', "_");
        let name: String = name.chars().take(40).collect();
        // Its output is appended to: one folder each.
        let output = tempfile::tempdir().unwrap();
        let text = Proc::start(&name, output.path(), command).finish(Duration::from_secs(30));
        let text = text.success();
        let (body, status) = text.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), body.to_owned())
    }

    #[track_caller]
    fn json(&self, args: &[&str], path: &str, wanted: u16) -> Value {
        let (status, body) = self.run(args, path);
        assert_eq!(status, wanted, "{path}: {body}");
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"))
    }

    /// The text in `<result>`.
    #[track_caller]
    fn result(&self, args: &[&str], path: &str) -> String {
        let (status, body) = self.run(args, path);
        assert_eq!(status, 200, "{body}");
        let document = roxmltree::Document::parse(&body).unwrap();
        let result = document.descendants().find(|node| node.has_tag_name("result")).unwrap();
        assert!(!body.contains("<error>"), "{path}: {body}");
        result.text().unwrap_or_default().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nuvla() {
    let app = telling();
    let world = World::in_front_of(Kept::Embedded, app.addr());
    let curl = Curl::of(&world.a);
    let templates = curl.json(&[], "/api/session-template", 200);
    let ids: Vec<_> = templates["resources"].as_array().unwrap().iter().map(|t| &t["id"]).collect();
    assert!(ids.contains(&&json!("session-template/password")), "{ids:?}");
    let word = password("alice");
    let body = json!({ "template": { "href": "session-template/password", "username": "alice",
        "password": word } })
    .to_string();
    let json_body = ["-X", "POST", "-H", "content-type: application/json", "-d", &body];
    let form = [
        "-X",
        "POST",
        "-d",
        "href=session-template/password",
        "-d",
        "username=alice",
        "--data-urlencode",
        &format!("password={word}"),
    ];
    for login in [&json_body[..], &form[..]] {
        let made = curl.json(login, "/api/session", 201);
        let id = made["resource-id"].as_str().unwrap().to_owned();
        assert_eq!(made["message"], format!("{id} created"));
        assert!(curl.jar().contains("HttpOnly"), "{}", curl.jar());
        for method in ["GET", "PUT"] {
            let found = curl.json(&["-X", method], "/api/session", 200);
            assert_eq!((&found["count"], &found["resources"][0]["id"]), (&json!(1), &json!(id)));
        }
        let switch = ["-X", "POST", "-H", "content-type: application/json", "-d"];
        let switch = [&switch[..], &["{\"claim\": \"group/eng\"}"]].concat();
        let session = curl.json(&switch, &format!("/api/{id}/switch-group"), 200);
        assert_eq!(session["active-claim"], "group/eng");
        let groups = curl.json(&["-X", "POST"], &format!("/api/{id}/get-groups"), 200);
        assert!(groups.to_string().contains("group/eng-core"), "{groups}");
        let peers = curl.json(&["-X", "POST"], &format!("/api/{id}/get-peers"), 200);
        assert!(peers.to_string().contains("bob@example.org"), "{peers}");
        assert_eq!(curl.json(&[], "/who", 200)["x-auth-active-claim"], "group/eng");
        let gone = curl.json(&["-X", "DELETE"], &format!("/api/{id}"), 200);
        assert_eq!(gone["message"], format!("{id} deleted"));
        assert_eq!(curl.json(&[], "/api/session", 200)["count"], 0);
        assert!(!curl.jar().contains("__Host-portcullis"), "{}", curl.jar());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versal() {
    let app = telling();
    let world = World::in_front_of(Kept::Embedded, app.addr());
    let curl = Curl::of(&world.a);
    let key = format!("SID: {}", PARTNER_KEY.1);
    // The content type is that of a form: curl's own.
    for body in ["{\"userId\": \"1002\"}", "{\"email\": \"bob@example.org\", \"expiresIn\": 1}"] {
        let args = ["-X", "POST", "-H", &key, "-d", body];
        let made = curl.json(&args, "/api2/sessions", 201);
        assert_eq!(
            (&made["user"]["id"], &made["user"]["username"]),
            (&json!("1002"), &json!("bob"))
        );
        let sid = format!("SID: {}", made["sessionId"].as_str().unwrap());
        let session = curl.json(&["-H", &sid], "/api2/session", 200);
        assert_eq!(session, json!({ "sessionType": "PlainUserSession", "userId": "1002" }));
        assert_eq!(curl.json(&["-H", &sid], "/api2/user", 200)["email"], "bob@example.org");
        assert_eq!(curl.json(&["-H", &sid], "/who", 200)["x-auth-user"], "u-bob");
    }
    let session = curl.json(&["-H", &key], "/api2/session", 200);
    assert_eq!(session["sessionType"], "PartnerKey");
    for (header, body, status, message) in [
        (key.as_str(), "{}", 400, "Missing field: userId or email"),
        (&key, "{\"userId\": \"42\"}", 404, "User '42' not found"),
        (&key, "{\"email\": \"x@y.z\"}", 400, "User 'x@y.z' not found"),
        (&key, "{\"userId\": \"1\", \"expiresIn\": \"x\"}", 400, ""),
        ("SID: nothing", "{\"userId\": \"1002\"}", 401, "Invalid credentials"),
        ("X-None: 1", "{\"userId\": \"1002\"}", 401, "Invalid credentials"),
    ] {
        let args = ["-X", "POST", "-H", header, "-d", body];
        let error = curl.json(&args, "/api2/sessions", status);
        assert_eq!(error["error"], status, "{error}");
        assert!(message.is_empty() || error["message"] == message, "{error}");
    }
    let made = curl.json(&["-X", "POST", "-H", &key], "/api2/user/1002/partnerkey", 201);
    let own = format!("SID: {}", made["key"].as_str().unwrap());
    let (status, _) = curl.run(&["-X", "DELETE", "-H", &key], "/api2/users/1002/partnerkey");
    assert_eq!(status, 204);
    curl.json(&["-H", &own], "/api2/session", 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kaltura() {
    let app = telling();
    let world = World::in_front_of(Kept::Embedded, app.addr());
    let curl = Curl::of(&world.a);
    let start = format!(
        "/api_v3/service/session/action/start?secret={USER_SECRET}&userId=bob&type=0\
         &partnerId={SHOP}&expiry=86400"
    );
    let ks = curl.result(&[], &start);
    let json_ks = curl.json(&[], &format!("{start}&format=1"), 200);
    assert!(json_ks.is_string(), "{json_ks}");
    let path = format!("/api_v3/service/user/action/get/ks/{ks}/format/1");
    let user = curl.json(&[], &path, 200);
    assert_eq!((&user["objectType"], &user["id"]), (&json!("KalturaUser"), &json!("bob")));
    assert_eq!(
        curl.json(&["-G", "--data-urlencode", &format!("ks={ks}")], "/who", 200)["x-auth-user"],
        "u-bob"
    );

    // As a form, as the documents' console has it.
    let form = [
        "-d",
        &format!("secret={ADMIN_SECRET}"),
        "-d",
        "userId=alice-p&type=2&format=1",
        "-d",
        &format!("partnerId={SHOP}&privileges=sessionid:x"),
    ];
    let admin = curl.json(&form, "/api_v3/service/session/action/start", 200);
    let admin = admin.as_str().unwrap();
    let path = format!("/api_v3/index.php?service=session&action=get&format=1&ks={admin}");
    let info = curl.json(&[], &path, 200);
    assert_eq!((&info["partnerId"], &info["userId"]), (&json!(SHOP), &json!("alice-p")), "{info}");
    assert_eq!(info["sessionType"], 2, "{info}");

    // Sign in, see where one may go, go there.
    let login = format!("loginId=alice&password={}", password("alice"));
    let args = ["-d", &login, "-d", "format=1"];
    let first = curl.json(&args, "/api_v3/service/user/action/loginByLoginId", 200);
    let ks = format!("ks={}", first.as_str().unwrap_or_else(|| panic!("{first}")));
    let path = "/api_v3/service/partner/action/listPartnersForUser";
    let partners = curl.json(&["-d", &ks, "-d", "format=1"], path, 200);
    assert_eq!((&partners["totalCount"], &partners["objects"][0]["id"]), (&json!(1), &json!(SHOP)));
    let args = ["-d", &login, "-d", &format!("format=1&partnerId={SHOP}")];
    let second = curl.json(&args, "/api_v3/service/user/action/loginByLoginId", 200);
    assert!(second.is_string(), "{second}");

    // An app token, by a widget's session.
    let path =
        format!("/api_v3/service/session/action/startWidgetSession?widgetId=_{SHOP}&format=1");
    let widget = curl.json(&[], &path, 200);
    let ks = widget["ks"].as_str().unwrap_or_else(|| panic!("{widget}"));
    assert_eq!(widget["userId"], "0", "{widget}");
    let hash = digest(&SHA256, format!("{ks}{}", APP_TOKEN.1).as_bytes());
    let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let path = format!(
        "/api_v3/service/apptoken/action/startSession?ks={ks}&id={}&tokenHash={hash}&format=1",
        APP_TOKEN.0
    );
    let info = curl.json(&[], &path, 200);
    assert_eq!(
        (&info["objectType"], &info["userId"]),
        (&json!("KalturaSessionInfo"), &json!("bob"))
    );
    let privileges = info["privileges"].as_str().unwrap();
    assert!(
        privileges.contains("apptoken:1_app") && privileges.contains("sessionid:1_app"),
        "{info}"
    );

    // Over is over; a second end says so.
    let path = format!("/api_v3/service/session/action/end?format=1&ks={admin}");
    assert!(curl.json(&[], &path, 200).is_null());
    let error = curl.json(&[], &path, 200);
    assert_eq!((&error["code"], &error["args"]["KSID"]), (&json!("INVALID_KS"), &json!("LOGOUT")));
}

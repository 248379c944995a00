//! What holds across all session APIs, whatever the store: one session is one session, apps may trust
//! what they are told, nothing secret is written down, and each API words its own failures.

mod canary;
mod failures;
mod recipes;
mod trust;
mod truth;

use serde_json::{Value, json};

use crate::support::client::COOKIE;
use crate::support::gateway::password;
use crate::support::world::{ADMIN_SECRET, Held, PARTNER_KEY, SHOP};
use crate::support::{Client, Gateway, Response};

/// Runs each of the functions over both stores.
macro_rules! over_both {
    ($($name:ident),+ $(,)?) => {
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(crate::support::world::Kept::Embedded).await;
            })+
        }
        mod redis {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(crate::support::world::Kept::Redis).await;
            })+
        }
    };
}
use over_both;

/// The ways to open a session of alice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Browser,
    Nuvla,
    Versal,
    Kaltura,
}

impl By {
    const ALL: [Self; 4] = [Self::Browser, Self::Nuvla, Self::Versal, Self::Kaltura];

    async fn opened(self, gateway: &Gateway) -> Held {
        let mut client = gateway.client();
        match self {
            Self::Browser => {
                client.sign_in("alice").await;
                Held::Cookie(client.token().unwrap().to_owned())
            }
            Self::Nuvla => {
                client.post_json("/api/session", &nuvla_login("alice")).await.expect(201);
                Held::Cookie(client.token().unwrap().to_owned())
            }
            Self::Versal => Held::Sid(partner_session(&mut client, "1001").await),
            Self::Kaltura => {
                let start = json!({ "secret": ADMIN_SECRET, "userId": "alice-p", "type": 2,
                    "partnerId": SHOP });
                Held::Ks(kaltura(&mut client, "session", "start", &start).await.text_of())
            }
        }
    }
}

fn nuvla_login(user: &str) -> Value {
    let href = "session-template/password";
    json!({ "template": { "href": href, "username": user, "password": password(user) } })
}

/// A session that [`SHOP`] opens for the user with this id in Versal.
async fn partner_session(client: &mut Client, id: &str) -> String {
    let headers = [("sid", PARTNER_KEY.1)];
    let answer = client.post_json_with("/api2/sessions", &json!({ "userId": id }), &headers).await;
    answer.expect(201).json()["sessionId"].as_str().unwrap().to_owned()
}

/// A call of Kaltura's API in JSON.
async fn kaltura(client: &mut Client, service: &str, action: &str, args: &Value) -> Answered {
    let mut args = args.clone();
    args["format"] = json!(1);
    let path = format!("/api_v3/service/{service}/action/{action}");
    Answered(client.post_json(&path, &args).await.expect(200).json())
}

/// What a call of Kaltura's API answered.
#[derive(Debug)]
struct Answered(Value);

impl Answered {
    #[track_caller]
    fn text_of(&self) -> String {
        self.0.as_str().unwrap_or_else(|| panic!("no text but {}", self.0)).to_owned()
    }

    #[track_caller]
    fn code(&self) -> &str {
        self.0["code"].as_str().unwrap_or_else(|| panic!("no error but {}", self.0))
    }
}

/// The public id of the session that the app was told of at `path`.
async fn seen(client: &mut Client, path: &str, header: Option<(&str, &str)>) -> Response {
    let headers: Vec<_> = header.into_iter().collect();
    client.get_with(path, &headers).await
}

/// `cookie` as a `Cookie` header.
fn cookie_header(client: &Client) -> String {
    format!("{COOKIE}={}", client.token().unwrap())
}

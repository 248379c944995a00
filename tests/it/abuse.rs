//! Whoever guesses: at passwords by every door, at keys and secrets, at tokens; and what an answer's time
//! tells.

mod doors;
mod timing;
mod tokens;

use http::Method;
use serde_json::{Value, json};

use crate::support::gateway::Builder;
use crate::support::world::{ALICE_KEY, APP_TOKEN, SHOP, mounted, routed};
use crate::support::{Client, Gateway, Response, Upstream};

/// All APIs on one gateway that is told by a proxy where requests come from.
fn builder(app: &Upstream) -> Builder {
    let builder = mounted(Gateway::builder());
    routed(builder, app.addr()).set("server", "trusted_proxies", "[\"127.0.0.1/32\"]")
}

/// What a door said to an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Welcome,
    Wrong,
    Wait,
}

/// A place where credentials are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    Form,
    Json,
    Nuvla,
    VersalEmail,
    VersalId,
    KalturaLogin,
    KalturaId,
}

impl Door {
    const ALL: [Self; 7] = [
        Self::Form,
        Self::Json,
        Self::Nuvla,
        Self::VersalEmail,
        Self::VersalId,
        Self::KalturaLogin,
        Self::KalturaId,
    ];

    /// Shows bob's name as this door knows him, and a password, from `ip`.
    async fn bob(self, gateway: &Gateway, ip: &str, password: &str) -> Said {
        let name = match self {
            Self::VersalEmail => "bob@example.org",
            Self::VersalId => "1002",
            Self::KalturaLogin => "BOB",
            _ => "bob",
        };
        self.attempt(gateway, ip, name, password).await
    }

    async fn attempt(self, gateway: &Gateway, ip: &str, name: &str, password: &str) -> Said {
        let mut client = gateway.client();
        let from = ("x-forwarded-for", ip);
        let (path, body) = match self {
            Self::Form => {
                let origin = client.origin().to_owned();
                let form = url::form_urlencoded::Serializer::new(String::new())
                    .extend_pairs([("username", name), ("password", password)])
                    .finish();
                let headers = [
                    ("content-type", "application/x-www-form-urlencoded"),
                    ("origin", origin.as_str()),
                    from,
                ];
                let answer =
                    client.request(Method::POST, "/auth/login", &headers, form.into()).await;
                return self.said(&client, &answer);
            }
            Self::Json => ("/auth/session", json!({ "username": name, "password": password })),
            Self::Nuvla => (
                "/api/session",
                json!({ "template": { "href": "session-template/password", "username": name,
                    "password": password } }),
            ),
            Self::VersalEmail => ("/api2/signin", json!({ "email": name, "password": password })),
            Self::VersalId => {
                let path = format!("/api2/signin/{name}");
                let body = json!({ "password": password });
                let answer = client.post_json_with(&path, &body, &[from]).await;
                return self.said(&client, &answer);
            }
            Self::KalturaLogin => (
                "/api_v3/service/user/action/loginByLoginId",
                json!({ "format": 1, "loginId": name, "password": password, "partnerId": SHOP }),
            ),
            Self::KalturaId => (
                "/api_v3/service/user/action/login",
                json!({ "format": 1, "userId": name, "password": password, "partnerId": SHOP }),
            ),
        };
        let answer = client.post_json_with(path, &body, &[from]).await;
        self.said(&client, &answer)
    }

    #[track_caller]
    fn said(self, client: &Client, answer: &Response) -> Said {
        let what = format!("{self:?}: {} {}", answer.status, answer.text());
        let said = match (self, answer.status) {
            (Self::KalturaLogin | Self::KalturaId, 200) => kaltura_said(&answer.json()),
            (Self::Form, 303) | (Self::Json | Self::Nuvla, 201) => {
                assert!(client.token().is_some(), "{what}");
                Said::Welcome
            }
            (Self::VersalEmail | Self::VersalId, 200 | 201) => Said::Welcome,
            (Self::Form | Self::Json | Self::VersalEmail | Self::VersalId, 401)
            | (Self::Nuvla, 403) => Said::Wrong,
            (_, 429) => Said::Wait,
            _ => panic!("{what}"),
        };
        let waits = answer.header("retry-after").is_some_and(|after| after.parse::<u64>().is_ok());
        assert_eq!(waits, said == Said::Wait, "Retry-After, {what}: {:?}", answer.headers);
        said
    }
}

#[track_caller]
fn kaltura_said(answer: &Value) -> Said {
    match answer["code"].as_str() {
        None => Said::Welcome,
        Some("ACTION_BLOCKED") => Said::Wait,
        Some("APP_TOKEN_ID_NOT_FOUND" | "INVALID_APP_TOKEN_HASH" | "START_SESSION_ERROR") => {
            Said::Wrong
        }
        Some(code) if code.contains("PASSWORD") => Said::Wrong,
        Some(_) => panic!("{answer}"),
    }
}

/// A way to guess at something other than a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Secret {
    Key,
    Partner,
    AppTokenHash,
    AppTokenId,
}

impl Secret {
    const ALL: [Self; 4] = [Self::Key, Self::Partner, Self::AppTokenHash, Self::AppTokenId];

    /// A wrong one from `ip`, the `number`th. `ks` is a session that an app token can be shown with.
    async fn guess(self, gateway: &Gateway, ip: &str, ks: &str, number: usize) -> Said {
        let mut client = gateway.client();
        let from = [("x-forwarded-for", ip)];
        let (path, body) = match self {
            Self::Key => (
                "/api/session",
                json!({ "template": { "href": "session-template/api-key",
                    "key": format!("credential/{}", ALICE_KEY.0), "secret": format!("no{number}") } }),
            ),
            Self::Partner => (
                "/api_v3/service/session/action/start",
                json!({ "format": 1, "partnerId": SHOP, "secret": format!("no{number}") }),
            ),
            Self::AppTokenHash | Self::AppTokenId => {
                let id = if self == Self::AppTokenHash {
                    APP_TOKEN.0.to_owned()
                } else {
                    format!("1_none{number}")
                };
                (
                    "/api_v3/service/apptoken/action/startSession",
                    json!({ "format": 1, "ks": ks, "id": id, "tokenHash": format!("{number:064x}") }),
                )
            }
        };
        let answer = client.post_json_with(path, &body, &from).await;
        match answer.status {
            403 => Said::Wrong,
            429 => Said::Wait,
            _ => kaltura_said(&answer.json()),
        }
    }
}

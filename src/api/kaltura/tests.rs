//! The dialect against a real core: every action and error, every carrier, whose a request is.

mod logins;
mod multirequests;
mod requests;
mod sessions;
mod users;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::{Value as Json, json};

use super::*;
use crate::audit::Audit;
use crate::clock::{Clock, UnixMs};
use crate::ks::{Fields, Ks, KsKind, seal};
use crate::secret::Secret;
use crate::session::testing::{Lines, Shelf};
use crate::session::{
    Account, AppToken, Authority, BoxFuture, Caller, Credentials, Directory, Group, HashKind,
    LoginError, Member, Method as Login, Partner, Proven, Reach, Settings, Store,
};

const ADMIN: &str = "admin-secret";
const SECOND: &str = "second-admin-secret";
const USER: &str = "user-secret";
const DAY: u64 = 86_400;

/// Partner 102 with everything, 103 with little, 104 that is disabled.
///
/// `alice` administrates 102; `bob` is a user of 102 as `b0b`, and administrates 103; `carol` is a user of
/// 102 who may not sign in; `dave` is no member.
#[derive(Debug)]
struct Tenants {
    accounts: Vec<Arc<Account>>,
    partners: Mutex<BTreeMap<String, Arc<Partner>>>,
}

impl Tenants {
    fn new(now: UnixMs) -> Self {
        let account = |id: &str, identifier: &str, alias: &str, disabled| {
            let aliases = [("kaltura".to_owned(), alias.to_owned())];
            Arc::new(Account {
                id: id.to_owned(),
                identifier: identifier.to_owned(),
                name: format!("{identifier} <Example>"),
                email: format!("{identifier}@example.com"),
                aliases: aliases.into_iter().filter(|(_, alias)| !alias.is_empty()).collect(),
                disabled,
                ..Account::default()
            })
        };
        let accounts = vec![
            account("u1", "alice", "alice.k", false),
            account("u2", "bob", "", false),
            account("u3", "carol", "", true),
            account("u4", "dave", "", false),
        ];
        let member = |alias: &str, admin, role: &str| Member {
            alias: alias.to_owned(),
            admin,
            role: role.to_owned(),
            privileges: None,
        };
        let rich = Partner {
            id: "102".to_owned(),
            name: "Rich & Co".to_owned(),
            email: "it@rich.example".to_owned(),
            website: "https://rich.example".to_owned(),
            admin_secrets: vec![secret(ADMIN), secret(SECOND)],
            user_secrets: vec![secret(USER)],
            members: [
                ("u1".to_owned(), member("", true, "MANAGER")),
                ("u2".to_owned(), member("b0b", false, "")),
                ("u3".to_owned(), member("", false, "")),
            ]
            .into(),
            roles: vec!["PLAYBACK_BASE_ROLE".to_owned()],
            reach: Reach::Guests,
            lifetime: Duration::from_secs(7 * DAY),
            offline: true,
            ks_v1: false,
            widgets: true,
            app_tokens: app_tokens(now).into_iter().map(|app| (app.id.clone(), app)).collect(),
            disabled: false,
        };
        let poor = Partner {
            id: "103".to_owned(),
            admin_secrets: vec![secret("103-secret")],
            members: [("u2".to_owned(), member("", true, ""))].into(),
            lifetime: Duration::from_secs(DAY),
            ..Partner::default()
        };
        let gone = Partner { id: "104".to_owned(), disabled: true, ..rich.clone() };
        let partners = [rich, poor, gone].map(|partner| (partner.id.clone(), Arc::new(partner)));
        Self { accounts, partners: Mutex::new(partners.into()) }
    }
}

fn app_tokens(now: UnixMs) -> Vec<AppToken> {
    let app = |id: &str| AppToken {
        id: id.to_owned(),
        token: secret("app-secret"),
        hash: HashKind::Sha256,
        user: String::new(),
        admin: false,
        privileges: String::new(),
        lifetime: Duration::from_secs(3600),
        expires: None,
        disabled: false,
    };
    vec![
        app("plain"),
        AppToken { hash: HashKind::Md5, ..app("md5") },
        AppToken {
            user: "u2".to_owned(),
            admin: true,
            privileges: "view:*".to_owned(),
            ..app("own")
        },
        AppToken { disabled: true, ..app("off") },
        AppToken { expires: Some(now), ..app("old") },
    ]
}

impl Directory for Tenants {
    fn epoch(&self) -> u64 {
        0
    }

    fn by_login(&self, identifier: &str) -> Option<Arc<Account>> {
        self.accounts.iter().find(|account| account.identifier == identifier).cloned()
    }

    fn by_id(&self, id: &str) -> Option<Arc<Account>> {
        self.accounts.iter().find(|account| account.id == id).cloned()
    }

    fn by_alias(&self, dialect: &str, alias: &str) -> Option<Arc<Account>> {
        let named =
            |account: &&Arc<Account>| account.aliases.get(dialect).is_some_and(|a| a == alias);
        self.accounts.iter().find(named).cloned()
    }

    fn group(&self, _: &str) -> Option<Arc<Group>> {
        None
    }

    fn below(&self, _: &str) -> Vec<String> {
        Vec::new()
    }

    fn members(&self, _: &str) -> Vec<Arc<Account>> {
        Vec::new()
    }

    fn partner(&self, id: &str) -> Option<Arc<Partner>> {
        self.partners.lock().unwrap().get(id).cloned()
    }

    fn partners_of(&self, user: &str) -> Vec<Arc<Partner>> {
        let all = self.partners.lock().unwrap();
        all.values().filter(|partner| partner.members.contains_key(user)).cloned().collect()
    }

    fn rehash(&self, _: &str, _: &Secret, _: &Secret) -> Result<(), String> {
        Ok(())
    }
}

/// Accepts whoever gives their login name as the password.
#[derive(Debug)]
struct SameWord(Arc<Tenants>);

impl Login for SameWord {
    fn name(&self) -> &'static str {
        "password"
    }

    fn verify<'a>(&'a self, shown: &'a Credentials) -> BoxFuture<'a, Result<Proven, LoginError>> {
        let found = match shown {
            Credentials::Password { identifier, password } if password.expose() == identifier => {
                self.0.by_login(identifier).map(Proven::Account).ok_or(LoginError::Invalid)
            }
            _ => Err(LoginError::Invalid),
        };
        Box::pin(std::future::ready(found))
    }
}

fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

/// The dialect, and the core behind it.
struct Site {
    kaltura: Kaltura,
    authority: Arc<Authority>,
    store: Arc<Shelf>,
    clock: Clock,
}

/// A request.
#[derive(Clone, Debug)]
struct Request<'a> {
    method: &'a str,
    /// Path below the mount, and query.
    path: String,
    headers: Vec<(&'a str, &'a str)>,
    body: Vec<u8>,
    ip: &'a str,
}

fn get<'a>(path: &str) -> Request<'a> {
    let path = path.to_owned();
    Request { method: "GET", path, headers: Vec::new(), body: Vec::new(), ip: "192.0.2.7" }
}

fn post<'a>(path: &str, kind: &'a str, body: &str) -> Request<'a> {
    let headers = vec![("content-type", kind)];
    Request { method: "POST", headers, body: body.as_bytes().to_vec(), ..get(path) }
}

/// As clients call: JSON in, JSON out.
fn call<'a>(name: &str, mut params: Json) -> Request<'a> {
    let (service, action) = name.split_once('.').unwrap();
    params["format"] = json!(1);
    params["clientTag"] = json!("test");
    let path = format!("/service/{service}/action/{action}");
    post(&path, "application/json", &params.to_string())
}

impl Site {
    fn new() -> Self {
        let clock = Clock::manual(UnixMs(1_800_000_000_000));
        let tenants = Arc::new(Tenants::new(clock.now()));
        let store = Arc::new(Shelf::new(&clock));
        let settings = Settings {
            lifetime: Duration::from_secs(3600),
            idle: Duration::from_secs(600),
            per_user: 10,
            cached: 1000,
            unknown: 300,
        };
        let authority = Authority::new(
            settings,
            Arc::clone(&store) as Arc<dyn Store>,
            Arc::clone(&tenants) as Arc<dyn Directory>,
            vec![Box::new(SameWord(tenants))],
            Arc::new(Audit::new(clock.clone(), Box::new(Lines::default()))),
            clock.clone(),
        );
        Self { kaltura: Kaltura::new("/api_v3"), authority: Arc::new(authority), store, clock }
    }

    async fn ask(&self, request: Request<'_>) -> Reply {
        let headers = header_map(&request.headers);
        let method = Method::from_bytes(request.method.as_bytes()).unwrap();
        let (path, query) = halves(&request.path);
        let caller = Caller { ip: request.ip.parse().ok(), ..Caller::default() };
        let ask = Ask {
            method: &method,
            path,
            query,
            headers: &headers,
            body: request.body.into(),
            caller,
            origin: "https://api.example.com",
            stale: false,
            by_cookie: false,
            now: self.clock.now().seconds(),
        };
        let reply = self.kaltura.answer(ask, Core::new(&self.authority)).await;
        assert_eq!(reply.status, StatusCode::OK);
        assert_eq!(value(&reply, "access-control-allow-origin").unwrap(), "*");
        assert_eq!(value(&reply, "cache-control").unwrap(), "no-store");
        reply
    }

    /// The JSON that a call answers.
    async fn json(&self, request: Request<'_>) -> Json {
        body(&self.ask(request).await)
    }

    async fn call(&self, name: &str, params: Json) -> Json {
        self.json(call(name, params)).await
    }

    /// A KS by a secret of partner 102.
    async fn start(&self, params: Json) -> String {
        let mut all = json!({"partnerId": 102, "secret": ADMIN, "userId": "b0b", "type": 0});
        for (name, value) in params.as_object().unwrap() {
            all[name] = value.clone();
        }
        text(&self.call("session.start", all).await)
    }

    fn owns(&self, request: &Request<'_>) -> Owns {
        self.with_head(request, |head| self.kaltura.owns(head))
    }

    /// Whose the request is in the end.
    fn is_own(&self, request: &Request<'_>) -> bool {
        match self.owns(request) {
            Owns::No => false,
            Owns::Yes => true,
            Owns::Unrouted => panic!("{request:?} is whose the routes say"),
            Owns::Told | Owns::Unread => {
                self.with_head(request, |head| self.kaltura.owns_body(head, &request.body))
            }
        }
    }

    fn with_head<T>(&self, request: &Request<'_>, act: impl FnOnce(&Head<'_>) -> T) -> T {
        let (path, query) = halves(&request.path);
        let method = Method::from_bytes(request.method.as_bytes()).unwrap();
        let has_body = !request.body.is_empty();
        act(&Head {
            method: &method,
            path,
            query,
            headers: &header_map(&request.headers),
            has_body,
        })
    }
}

fn halves(target: &str) -> (&str, Option<&str>) {
    target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)))
}

fn header_map(lines: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn value(reply: &Reply, name: &str) -> Option<String> {
    let mut found = reply.headers.iter().filter(|(known, _)| known == name);
    let value = found.next().map(|(_, value)| value.to_str().unwrap().to_owned());
    assert!(found.next().is_none(), "{name} twice");
    value
}

fn body(reply: &Reply) -> Json {
    serde_json::from_slice(&reply.body).unwrap()
}

#[track_caller]
fn text(json: &Json) -> String {
    json.as_str().unwrap_or_else(|| panic!("not a text: {json}")).to_owned()
}

/// Checks an error; what it names.
#[track_caller]
fn error(json: &Json, code: &str, message: &str) -> Json {
    assert_eq!(json["code"], code, "{json}");
    assert_eq!(json["message"], message);
    assert_eq!(json["objectType"], "KalturaAPIException");
    json["args"].clone()
}

#[track_caller]
fn invalid_ks(json: &Json, reason: &str) {
    assert_eq!(json["code"], "INVALID_KS", "{json}");
    assert_eq!(json["args"]["KSID"], reason);
}

/// What a KS says, read with a secret of the partner.
fn opened(ks: &str) -> Fields {
    Ks::parse(ks).unwrap().open(&secret(ADMIN)).unwrap()
}

/// A KS as a client makes it that knows a secret.
fn offline(fields: &Fields, signed: &str) -> String {
    seal("102", fields, &secret(signed), [7; 16])
}

fn unsealed(site: &Site) -> Fields {
    Fields {
        expires: site.clock.now().seconds() + 60,
        kind: KsKind::User,
        user: "b0b".to_owned(),
        ..Fields::default()
    }
}

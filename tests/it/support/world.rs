//! A site with all session APIs: partners, keys and aliases in its directory, over either store.

use std::net::SocketAddr;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use super::client::COOKIE;
use super::gateway::{Builder, cheap_hash, password};
use super::open::stream;
use super::redis::Server;
use super::upstream::Recorded;
use super::{Client, Gateway, Reply, Upstream};

/// A partner that may seal sessions by itself. Alice is `alice-p` there and an administrator; bob is
/// a member. The secrets are an admin's and a user's.
pub(crate) const SHOP: u32 = 102;
pub(crate) const ADMIN_SECRET: &str = "0123456789abcdef0123456789abcdef";
pub(crate) const USER_SECRET: &str = "fedcba9876543210fedcba9876543210";
/// A partner that may not; bob is its one member.
pub(crate) const BANK: u32 = 103;
pub(crate) const BANK_SECRET: &str = "00112233445566778899aabbccddeeff";
/// An app token of [`SHOP`] (SHA-256) for bob.
pub(crate) const APP_TOKEN: (&str, &str) = ("1_app", "app-token-of-the-shop-0123456789");
/// Ids and secrets of keys: of [`SHOP`], and of alice.
pub(crate) const PARTNER_KEY: (&str, &str) =
    ("7d0c6f2e-5b0d-4a57-8e27-3f7f1f3f9a01", "shpkey.234567.shpkey.abcdef.ABCDEF");
pub(crate) const ALICE_KEY: (&str, &str) =
    ("7d0c6f2e-5b0d-4a57-8e27-3f7f1f3f9a02", "abcdef.ghijkm.npqrst.uvwxyz.234567");

/// The characters of a key's secret that count.
fn canonical(secret: &str) -> String {
    let text: String =
        secret.chars().filter(|c| c.is_ascii_alphanumeric() && !"1lI0oO".contains(*c)).collect();
    assert_eq!(text.len(), 30, "{secret}");
    text
}

fn key((id, secret): (&str, &str), owner: &str) -> String {
    let hash = URL_SAFE_NO_PAD.encode(digest(&SHA256, canonical(secret).as_bytes()));
    format!(
        "[[key]]\nid = \"{id}\"\nname = \"of a test\"\nowner = \"{owner}\"\nhash = \"{hash}\"\n\
         created = \"2026-01-31T00:00:00Z\"\n\n"
    )
}

/// The users file: alice in `staff` and `eng` (with the sub-group `eng-core`), bob in `staff`.
pub(crate) fn users() -> String {
    let user = |id: &str, groups: &str, aliases: &str| {
        let hash = cheap_hash(&password(id));
        format!(
            "[[user]]\nid = \"u-{id}\"\nname = \"{id}\"\nemail = \"{id}@example.org\"\n\
             password = \"{hash}\"\ngroups = [{groups}]\naliases = {{ {aliases} }}\n\n"
        )
    };
    let (app_id, app_token) = APP_TOKEN;
    [
        user("alice", "\"staff\", \"eng\"", "nuvla = \"f3a1\", versal = \"1001\""),
        user("bob", "\"staff\"", "versal = \"1002\""),
        user("carol", "\"staff\"", "versal = \"1003\""),
        "[[group]]\nname = \"staff\"\n[[group]]\nname = \"eng\"\n\
         [[group]]\nname = \"eng-core\"\nparents = [\"eng\"]\n\n"
            .to_owned(),
        format!(
            "[[partner]]\nid = \"{SHOP}\"\nname = \"Shop\"\nemail = \"shop@example.org\"\n\
             admin_secrets = [\"{ADMIN_SECRET}\"]\nuser_secrets = [\"{USER_SECRET}\"]\n\
             offline = true\nwidgets = true\nroles = [\"PLAYBACK_BASE_ROLE\"]\n\
             [[partner.member]]\nuser = \"alice\"\nalias = \"alice-p\"\nadmin = true\n\
             [[partner.member]]\nuser = \"bob\"\n\
             [[partner.app_token]]\nid = \"{app_id}\"\ntoken = \"{app_token}\"\n\
             hash = \"sha256\"\nuser = \"bob\"\n\n"
        ),
        format!(
            "[[partner]]\nid = \"{BANK}\"\nname = \"Bank\"\nemail = \"bank@example.org\"\n\
             admin_secrets = [\"{BANK_SECRET}\"]\n[[partner.member]]\nuser = \"bob\"\n\n"
        ),
        key(PARTNER_KEY, &format!("partner/{SHOP}")),
        key(ALICE_KEY, "user/u-alice"),
    ]
    .concat()
}

/// All three APIs at their usual places.
pub(crate) fn mounted(builder: Builder) -> Builder {
    builder
        .users(&users())
        .set("api.nuvla", "prefix", "\"/api\"")
        .set("api.versal", "prefix", "\"/api2\"")
        .set("api.kaltura", "prefix", "\"/api_v3\"")
}

/// `/public/` is open, everything else needs a session; the app is told claims in Nuvla's way, too.
pub(crate) fn routed(builder: Builder, app: SocketAddr) -> Builder {
    builder
        .upstream_with("app", &format!("http://{app}"), "nuvla_authn_info = true")
        .public("/public/", "app")
        .private("/", "app")
}

/// An app that streams as [`stream`] does, and else tells the headers that it got.
pub(crate) fn telling() -> Upstream {
    Upstream::answering(|request| stream(request).unwrap_or_else(|| told(request)))
}

fn told(request: &Recorded) -> Reply {
    let mut fields = Map::new();
    for (name, value) in &request.head.headers {
        fields.insert(name.to_lowercase(), json!(value));
    }
    Reply::ok(&Value::Object(fields).to_string())
}

/// Where sessions are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// On one node.
    Embedded,
    /// On two nodes.
    Redis,
}

/// The site. With the embedded store `b` is `None`: there is one node.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) a: Gateway,
    pub(crate) b: Option<Gateway>,
    pub(crate) redis: Option<Server>,
}

impl World {
    /// With further settings on all nodes; they must say where requests go.
    pub(crate) fn with(kept: Kept, settings: impl Fn(Builder) -> Builder) -> Self {
        let builder = || settings(mounted(Gateway::builder().patient()));
        if kept == Kept::Embedded {
            return Self { a: builder().start(), b: None, redis: None };
        }
        let redis = Server::start();
        let url = format!("redis://{}/0", redis.addr());
        let a = builder().redis(&url).start();
        let b = Some(builder().redis(&url).beside(&a).start());
        Self { a, b, redis: Some(redis) }
    }

    /// In front of this app.
    pub(crate) fn in_front_of(kept: Kept, app: SocketAddr) -> Self {
        Self::with(kept, |builder| routed(builder, app))
    }

    /// The node that is not the one where something was done, or the only one.
    pub(crate) fn other(&self) -> &Gateway {
        self.b.as_ref().unwrap_or(&self.a)
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Gateway> {
        std::iter::once(&self.a).chain(&self.b)
    }

    /// What all nodes have printed.
    pub(crate) fn output(&self) -> String {
        self.nodes().map(Gateway::output).collect()
    }
}

/// A way to carry a session: its name, what follows the path, and a header.
pub(crate) type Carrier = (&'static str, String, Option<(&'static str, String)>);

/// A session as its holder has it.
#[derive(Clone, Debug)]
pub(crate) enum Held {
    Cookie(String),
    Sid(String),
    Ks(String),
}

impl Held {
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Cookie(text) | Self::Sid(text) | Self::Ks(text) => text,
        }
    }

    /// Every way to carry it.
    pub(crate) fn carriers(&self) -> Vec<Carrier> {
        let text = self.text().to_owned();
        let coded: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
        let mut all = vec![
            ("SID", String::new(), Some(("sid", text.clone()))),
            ("ks in the query", format!("?ks={coded}"), None),
            ("ks in the path", format!("/ks/{coded}"), None),
        ];
        if matches!(self, Self::Cookie(_)) {
            all.push(("bearer", String::new(), Some(("authorization", format!("Bearer {text}")))));
            all.push(("cookie", String::new(), Some(("cookie", format!("{COOKIE}={text}")))));
        }
        all
    }

    /// The header by which its own clients, or those of another API, carry it. All take this one.
    pub(crate) fn header(&self) -> (&'static str, &str) {
        ("sid", self.text())
    }

    /// GET with the session carried in a header.
    pub(crate) async fn get(&self, client: &mut Client, path: &str) -> super::Response {
        client.get_with(path, &[self.header()]).await
    }
}

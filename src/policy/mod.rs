//! Rules of routes: the only maker of [`Permit`].
//!
//! Knows no headers and no upstream. Everything that is not allowed is refused.

mod identity;
mod request;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::section::Section;
use crate::session::{Identity, Live};

/// What a rule is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The validated session, if the request carries one.
    pub session: Option<&'a Arc<Live>>,
    /// Request method.
    pub method: &'a str,
    /// Client address, after trusted proxies.
    pub ip: IpAddr,
}

/// The right to be forwarded. Only [`Rule::decide`] makes one.
#[derive(Debug)]
pub struct Permit {
    session: Option<Arc<Live>>,
}

impl Permit {
    /// The session whose identity goes upstream; none on routes for anyone.
    pub fn session(&self) -> Option<&Arc<Live>> {
        self.session.as_ref()
    }
}

/// What a rule says to a request.
#[derive(Debug)]
pub enum Decision {
    /// Forward it.
    Permit(Permit),
    /// The caller must sign in first.
    SignIn,
    /// Signed in, but not allowed: the requirement that failed, in words.
    Refuse(String),
}

/// One requirement of a rule.
pub trait Condition: fmt::Debug + Send + Sync {
    /// Whether it holds for this caller and request.
    fn holds(&self, identity: &Identity, facts: &Facts<'_>) -> bool;

    /// Whether it depends on the method of the request.
    fn looks_at_method(&self) -> bool {
        false
    }

    /// What it wants, for the page that refuses: "be in one of the groups ops, staff".
    fn wants(&self) -> String;

    /// The users and groups that it names, as claims.
    fn named(&self) -> Vec<String> {
        Vec::new()
    }
}

/// How a condition is written: a key of `allow = { ... }`.
#[derive(Clone, Copy, Debug)]
struct Kind {
    key: &'static str,
    read: fn(&mut Section) -> Option<Box<dyn Condition>>,
}

/// Every condition that a rule can name.
const KINDS: &[Kind] = &[
    Kind { key: "users", read: identity::users },
    Kind { key: "groups", read: identity::groups },
    Kind { key: "claims", read: identity::claims },
    Kind { key: "methods", read: request::methods },
    Kind { key: "networks", read: request::networks },
];

/// Who may pass a route.
#[derive(Debug)]
pub enum Rule {
    /// Everybody; no session is looked up and no identity is forwarded.
    Anyone,
    /// Everybody who is signed in.
    Authenticated,
    /// Everybody; the app is told who is signed in.
    Optional,
    /// Everybody who is signed in and meets all conditions.
    Meets(Vec<Box<dyn Condition>>),
}

impl Rule {
    /// Reads `allow` of a route: `"anyone"`, `"optional"`, `"authenticated"` or a table of conditions.
    pub fn read(route: &mut Section) -> Self {
        if !route.has("allow") {
            route.problem(
                "allow",
                "the route does not say who may pass: `allow` is missing",
                "add allow = \"authenticated\", \"anyone\" or { groups = [...] }",
            );
            return Self::Meets(Vec::new());
        }
        if route.is_text("allow") {
            let Some(word) = route.text("allow") else { return Self::Meets(Vec::new()) };
            return match word.value.as_str() {
                "anyone" => Self::Anyone,
                "authenticated" => Self::Authenticated,
                "optional" => Self::Optional,
                other => {
                    route.problem_at(
                        &word,
                        format!("`allow` cannot be \"{other}\""),
                        "use \"anyone\", \"optional\", \"authenticated\" or a table such as { groups = [\"ops\"] }",
                    );
                    Self::Meets(Vec::new())
                }
            };
        }
        let mut table = route.table("allow");
        let mut conditions = Vec::new();
        for kind in KINDS {
            let given = table.has(kind.key);
            match (kind.read)(&mut table) {
                Some(condition) => conditions.push(condition),
                None if given => table.problem(
                    kind.key,
                    format!("`allow.{}` is empty: nobody could pass", kind.key),
                    "list at least one value, or remove the key",
                ),
                None => {}
            }
        }
        if conditions.is_empty() && table.is_present() {
            table.problem("", "`allow` names no condition", "use \"authenticated\", or name one");
        }
        Self::Meets(conditions)
    }

    /// Whether the rule looks at the caller's session.
    pub fn looks_at_session(&self) -> bool {
        !matches!(self, Self::Anyone)
    }

    /// Whether the rule tells methods apart.
    pub fn looks_at_method(&self) -> bool {
        match self {
            Self::Anyone | Self::Authenticated | Self::Optional => false,
            Self::Meets(conditions) => conditions.iter().any(|one| one.looks_at_method()),
        }
    }

    /// Whether a request passes without a session.
    pub fn is_open(&self) -> bool {
        matches!(self, Self::Anyone | Self::Optional)
    }

    /// Judges a request.
    pub fn decide(&self, facts: &Facts<'_>) -> Decision {
        match self {
            Self::Anyone => return Decision::Permit(Permit { session: None }),
            Self::Optional => {
                let session = facts.session.filter(|live| !live.may_only_choose()).cloned();
                return Decision::Permit(Permit { session });
            }
            Self::Authenticated | Self::Meets(_) => {}
        }
        // One that is anonymous, or may only choose a tenant, is no login.
        let signed_in = facts.session.filter(|live| live.is_signed_in());
        let Some(live) = signed_in else { return Decision::SignIn };
        let conditions = match self {
            Self::Anyone | Self::Optional | Self::Authenticated => &[][..],
            // A table that named nothing usable lets nobody in.
            Self::Meets(conditions) if conditions.is_empty() => {
                return Decision::Refuse("nobody may pass here".to_owned());
            }
            Self::Meets(conditions) => conditions,
        };
        for condition in conditions {
            if !condition.holds(live.identity(), facts) {
                return Decision::Refuse(condition.wants());
            }
        }
        Decision::Permit(Permit { session: Some(Arc::clone(live)) })
    }

    /// The rule in words, for `explain`.
    pub fn describe(&self) -> String {
        match self {
            Self::Anyone => "anyone".to_owned(),
            Self::Optional => "anyone; the app is told who is signed in".to_owned(),
            Self::Authenticated => "everybody who is signed in".to_owned(),
            Self::Meets(conditions) if conditions.is_empty() => "nobody".to_owned(),
            Self::Meets(conditions) => {
                let wants: Vec<_> = conditions.iter().map(|condition| condition.wants()).collect();
                format!("whoever is signed in and must {}", wants.join(", and "))
            }
        }
    }

    /// Which requirement `identity` would fail, if any: for `explain`, without a session.
    pub fn missing(&self, identity: &Identity, method: &str, ip: IpAddr) -> Option<String> {
        let Self::Meets(conditions) = self else { return None };
        let facts = Facts { session: None, method, ip };
        conditions
            .iter()
            .find(|condition| !condition.holds(identity, &facts))
            .map(|condition| condition.wants())
    }

    /// The users and groups that it names, as claims.
    pub fn named(&self) -> Vec<String> {
        let Self::Meets(conditions) = self else { return Vec::new() };
        conditions.iter().flat_map(|condition| condition.named()).collect()
    }
}

/// `a, b or c`.
fn either<T: fmt::Display>(items: &[T]) -> String {
    let words: Vec<_> = items.iter().map(ToString::to_string).collect();
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => words.concat(),
    }
}

#[cfg(test)]
mod tests;

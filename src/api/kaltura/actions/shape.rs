//! Objects of the API.

use crate::api::kaltura::value::Value;
use crate::session::{Account, Form, Kind, Live, Member, Partner, Principal, Token};

/// Name of the dialect in aliases.
const DIALECT: &str = "kaltura";
/// The user of a widget session.
const NOBODY: &str = "0";

/// `KalturaSessionInfo`; with the token only when it is new.
pub(super) fn session(live: &Live, issued: Option<&Token>) -> Value {
    let (record, identity) = (live.record(), live.identity());
    let kind = match (identity.kind, identity.admin) {
        (Kind::Widget, _) => 1,
        (_, true) => 2,
        (_, false) => 0,
    };
    let ks = issued.map_or(Value::Null, |token| Value::Text(token.encode().to_string()));
    Value::Object(
        "KalturaSessionInfo",
        vec![
            ("ks", ks),
            ("sessionType", Value::Int(kind)),
            ("partnerId", Value::partner(identity.tenant.as_deref())),
            ("userId", Value::Text(user_id(live))),
            ("expiry", Value::seconds(record.expires.seconds())),
            ("privileges", Value::Text(identity.privileges.join(","))),
        ],
    )
}

/// `KalturaStartWidgetSessionResponse`.
pub(super) fn widget(partner: &str, issued: &Token) -> Value {
    Value::Object(
        "KalturaStartWidgetSessionResponse",
        vec![
            ("partnerId", Value::partner(Some(partner))),
            ("ks", Value::Text(issued.encode().to_string())),
            ("userId", Value::Text(NOBODY.to_owned())),
        ],
    )
}

/// What the partner calls the user of a session; empty for the partner itself.
pub(super) fn user_id(live: &Live) -> String {
    let (record, identity) = (live.record(), live.identity());
    if identity.kind == Kind::Widget {
        return NOBODY.to_owned();
    }
    match Principal::of_record(&record.user) {
        Principal::Guest { user, .. } => user,
        Principal::Group(_) | Principal::Partner(_) => String::new(),
        // A sealed session was opened by the partner's name for the user.
        Principal::User(_) if record.form == Form::Ks => record.identifier.clone(),
        Principal::User(_) => identity.aliases.get(DIALECT).unwrap_or(&identity.identifier).clone(),
    }
}

/// What is told of a user.
#[derive(Debug, Default)]
struct User<'a> {
    id: &'a str,
    partner: Option<&'a str>,
    name: &'a str,
    email: &'a str,
    admin: bool,
    guest: bool,
    blocked: bool,
    role: &'a str,
    privileges: Option<&'a str>,
}

/// `KalturaUser` for the user of a session.
pub(super) fn own_user(live: &Live) -> Value {
    let identity = live.identity();
    let guest = matches!(Principal::of_record(&identity.user), Principal::Guest { .. });
    user(&User {
        id: &user_id(live),
        partner: identity.tenant.as_deref(),
        name: &identity.name,
        email: &identity.email,
        admin: identity.admin,
        guest,
        role: identity.role.as_deref().unwrap_or_default(),
        ..User::default()
    })
}

/// `KalturaUser` for a user of the partner `partner`.
pub(super) fn other_user(id: &str, partner: &str, account: &Account, member: &Member) -> Value {
    user(&User {
        id,
        partner: Some(partner),
        name: &account.name,
        email: &account.email,
        admin: member.admin,
        blocked: account.disabled,
        role: &member.role,
        privileges: member.privileges.as_deref(),
        ..User::default()
    })
}

fn user(user: &User<'_>) -> Value {
    let (first, last) = user.name.rsplit_once(' ').unwrap_or((user.name, ""));
    Value::Object(
        "KalturaUser",
        vec![
            ("id", Value::Text(user.id.to_owned())),
            ("partnerId", Value::partner(user.partner)),
            ("type", Value::Int(0)),
            ("screenName", Value::text(user.name)),
            ("fullName", Value::text(user.name)),
            ("firstName", Value::text(first)),
            ("lastName", Value::text(last)),
            ("email", Value::text(user.email)),
            ("tags", Value::Null),
            ("language", Value::Null),
            ("status", Value::Int(if user.blocked { 0 } else { 1 })),
            ("createdAt", Value::Null),
            ("updatedAt", Value::Null),
            ("lastLoginTime", Value::Null),
            ("isAdmin", Value::Bool(user.admin)),
            ("isGuest", Value::Bool(user.guest)),
            ("roleIds", Value::text(user.role)),
            ("roleNames", Value::text(user.role)),
            ("isAccountOwner", Value::Bool(false)),
            ("loginEnabled", Value::Bool(!user.guest)),
            ("ksPrivileges", user.privileges.map_or(Value::Null, Value::text)),
        ],
    )
}

/// `KalturaPartner`: never its secrets.
pub(super) fn partner(partner: &Partner) -> Value {
    Value::Object(
        "KalturaPartner",
        vec![
            ("id", Value::partner(Some(&partner.id))),
            ("name", Value::text(&partner.name)),
            ("website", Value::text(&partner.website)),
            ("adminName", Value::Null),
            ("adminEmail", Value::text(&partner.email)),
            ("description", Value::Null),
            ("createdAt", Value::Null),
            ("status", Value::Int(if partner.disabled { 2 } else { 1 })),
            ("type", Value::Int(1)),
        ],
    )
}

/// `KalturaPartnerListResponse`.
pub(super) fn partners(objects: Vec<Value>, total: usize) -> Value {
    let total = i64::try_from(total).unwrap_or(i64::MAX);
    Value::Object(
        "KalturaPartnerListResponse",
        vec![("objects", Value::List(objects)), ("totalCount", Value::Int(total))],
    )
}

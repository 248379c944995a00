//! Whom a partner may make sessions for, and who its sessions are right now.
//!
//! Asked when a session is made, and again whenever the directory has changed.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::authority::Authority;
use super::identity::Identity;
use super::name::canonical;
use super::ports::{Account, Directory};
use super::principal::{AppToken, Member, Partner, Principal, Reach};
use super::record::{Kind, Record};
use super::token::{Form, SecretHash};
use crate::secret::Secret;

/// Prefix of the role that a session has within its tenant.
pub const ROLE: &str = "role/";
/// The dialect whose ids of users are those of partners.
pub(super) const PARTNERS_DIALECT: &str = "kaltura";
/// The login method of sessions that a partner made without asking.
pub(super) const OFFLINE: &str = "offline";
/// Of those that it made by one of its secrets, or by one of its app tokens.
pub(super) const SECRET: &str = "partner-secret";
pub(super) const APP: &str = "app-token";
/// Privilege of the sessions of an app token, with its id.
pub(super) const APP_TOKEN: &str = "apptoken";
/// Longest id of a guest, in bytes.
const GUEST: usize = 100;

impl Authority {
    /// The partner with this id, if it may be used.
    pub(super) fn partner(&self, id: &str) -> Option<Arc<Partner>> {
        self.directory.partner(id).filter(|partner| !partner.disabled)
    }

    /// Who a session is; `None` when its user may not have one any more, or its partner may not give it.
    pub(super) fn identify(&self, record: &Record) -> Option<Identity> {
        if record.form == Form::Group {
            return Some(Identity::default());
        }
        let partner = match &record.tenant {
            Some(tenant) => Some(self.partner(tenant)?),
            None => None,
        };
        if record.form == Form::Ks && !partner.as_ref().is_some_and(|one| one.seals(record)) {
            return None;
        }
        if record.kind == Kind::Widget {
            return partner.filter(|partner| partner.widgets).map(|_| anonymous(record));
        }
        if partner.as_ref().is_some_and(|partner| !partner.allows(record)) {
            return None;
        }
        let mut identity = Identity::derive(record, &*self.directory)?;
        let member = partner.as_ref().and_then(|partner| partner.members.get(&identity.user));
        if let Some(member) = member.filter(|member| !member.alias.is_empty()) {
            identity.aliases.insert(PARTNERS_DIALECT.to_owned(), member.alias.clone());
        }
        identity.admin &= partner.as_ref().is_some_and(|partner| partner.lets_administrate(record));
        identity.roles.extend(record.role.iter().map(|role| format!("{ROLE}{role}")));
        Some(identity)
    }
}

/// A widget is nobody.
fn anonymous(record: &Record) -> Identity {
    Identity {
        session: record.id.to_string(),
        method: record.method.clone(),
        tenant: record.tenant.clone(),
        privileges: record.privileges.clone(),
        kind: record.kind,
        ..Identity::default()
    }
}

impl Partner {
    /// Whether it may make sessions for somebody of the directory.
    pub(super) fn reaches(&self, account: &Account) -> bool {
        self.reach == Reach::Everybody || self.members.contains_key(&account.id)
    }

    /// By what sessions know that they were sealed with this secret.
    pub(super) fn seal_of(&self, secret: &Secret) -> SecretHash {
        let text = [self.id.as_bytes(), b"\0", secret.expose().as_bytes()].concat();
        SecretHash::of(&Zeroizing::new(text))
    }

    /// Whether one of its secrets has sealed this session: one that is taken back takes them along.
    fn seals(&self, record: &Record) -> bool {
        let known =
            |by: &SecretHash| self.admin_secrets.iter().any(|one| self.seal_of(one).matches(by));
        record.sealed_by.as_ref().is_some_and(known)
    }

    /// Whether it may (still) give this session.
    fn allows(&self, record: &Record) -> bool {
        let (reached, member) = match Principal::of_record(&record.user) {
            Principal::User(id) => {
                let member = self.members.get(&id);
                (member.is_some() || self.reach == Reach::Everybody, member)
            }
            Principal::Guest { partner, .. } => {
                (partner == self.id && self.reach == Reach::Guests, None)
            }
            Principal::Partner(id) => (id == self.id, None),
            // Only a key is of a group, and none of a partner's.
            Principal::Group(_) => (false, None),
        };
        let asked = self.offline || record.method != OFFLINE;
        let by_app =
            self.app_token(record).is_none_or(|token| token.is_some_and(|it| !it.disabled));
        reached
            && asked
            && by_app
            && record.role.as_deref().is_none_or(|role| self.grants(role, member))
    }

    /// The app token by which it made a session; `Some(None)` when that is gone.
    fn app_token(&self, record: &Record) -> Option<Option<&AppToken>> {
        let id = |privilege: &String| {
            let id = privilege.strip_prefix(APP_TOKEN)?.strip_prefix(':')?;
            Some(self.app_tokens.get(id))
        };
        record.privileges.iter().find_map(id).filter(|_| record.method == APP)
    }

    /// Whether a session of an administrator may (still) be one.
    fn lets_administrate(&self, record: &Record) -> bool {
        match record.method.as_str() {
            SECRET | OFFLINE | APP => {
                self.app_token(record).is_none_or(|token| token.is_some_and(|token| token.admin))
            }
            _ => match Principal::of_record(&record.user) {
                Principal::User(id) => self.members.get(&id).is_some_and(|member| member.admin),
                Principal::Group(_) | Principal::Guest { .. } | Principal::Partner(_) => false,
            },
        }
    }

    /// Whether `setrole` may name this role.
    pub(super) fn grants(&self, role: &str, member: Option<&Member>) -> bool {
        let own = member.is_some_and(|member| !member.role.is_empty() && member.role == role);
        own || self.roles.iter().any(|granted| granted == role)
    }
}

/// A user of a partner.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) principal: Principal,
    /// Of a person whom the partner lists.
    pub(super) member: Option<Member>,
}

impl Subject {
    /// The partner itself.
    pub(super) fn partner(partner: &Partner) -> Self {
        Self { principal: Principal::Partner(partner.id.clone()), member: None }
    }

    pub(super) fn person(partner: &Partner, account: &Account) -> Self {
        let member = partner.members.get(&account.id).cloned();
        Self { principal: Principal::User(account.id.clone()), member }
    }

    /// Whom the partner calls `id`, if it may make sessions for them; empty: itself.
    pub(super) fn find(partner: &Partner, id: &str, directory: &dyn Directory) -> Option<Self> {
        if id.is_empty() {
            return Some(Self::partner(partner));
        }
        if let Some(account) = member(partner, id, directory) {
            return (!account.disabled).then(|| Self::person(partner, &account));
        }
        let known = directory.by_alias(PARTNERS_DIALECT, id).or_else(|| {
            // An e-mail address names nobody here.
            directory.by_login(id).filter(|account| account.identifier == id)
        });
        match (partner.reach, known) {
            (Reach::Everybody, Some(account)) if !account.disabled => {
                Some(Self::person(partner, &account))
            }
            (Reach::Guests, None) if may_be_guest(partner, id, directory) => {
                let (partner, user) = (partner.id.clone(), id.to_owned());
                let principal = Principal::Guest { partner, user };
                Some(Self { principal, member: None })
            }
            _ => None,
        }
    }

    /// The person with this stable id, if the partner may make sessions for them.
    pub(super) fn by_id(partner: &Partner, id: &str, directory: &dyn Directory) -> Option<Self> {
        let account = directory.by_id(id).filter(|account| !account.disabled)?;
        let subject = Self::person(partner, &account);
        (subject.member.is_some() || partner.reach == Reach::Everybody).then_some(subject)
    }

    /// What the partner calls a user of the directory, as [`Subject::find`] reads it.
    pub(super) fn name(partner: &Partner, account: &Account) -> String {
        let member = partner.members.get(&account.id);
        member.map_or(account.puser(), |member| member.puser(account)).to_owned()
    }
}

/// The member whom a partner calls `id`.
pub(super) fn member(
    partner: &Partner,
    id: &str,
    directory: &dyn Directory,
) -> Option<Arc<Account>> {
    let accounts = partner.members.keys().filter_map(|user| directory.by_id(user));
    let mut named = accounts.filter(|account| Subject::name(partner, account) == id);
    // Two who share a name are told apart by nothing.
    named.next().filter(|_| named.next().is_none())
}

/// Whether a guest may have this name: one that is seen, and that does not pass for somebody's.
pub(super) fn may_be_guest(partner: &Partner, name: &str, directory: &dyn Directory) -> bool {
    let is_name =
        name.len() <= GUEST && !name.chars().any(char::is_control) && !canonical(name).is_empty();
    is_name && !directory.is_taken(name) && !directory.is_members(partner, name)
}

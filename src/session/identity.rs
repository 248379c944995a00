//! Who a session is right now: derived from its record and the directory, never stored.
//!
//! A change of groups takes effect because the derivation is repeated when the directory's epoch moves.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ports::{Account, Directory};
use super::principal::{Partner, Principal, Reach};
use super::reach::may_be_guest;
use super::record::{Kind, Record};

/// Prefix of a claim to be oneself.
pub const USER: &str = "user/";
/// Prefix of a claim to act as a group.
pub const GROUP: &str = "group/";

/// The claim of a user to be themselves.
pub fn user_claim(id: &str) -> String {
    format!("{USER}{id}")
}

/// The claim to act as a group.
pub fn group_claim(name: &str) -> String {
    format!("{GROUP}{name}")
}

/// The claim of a user, group, partner or guest, whom a record or identity names `user`, to be themselves.
pub fn own_claim(user: &str) -> String {
    Principal::of_record(user).to_string()
}

/// A validated identity, as policy and headers see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Stable id of the user.
    pub user: String,
    /// Login name.
    pub identifier: String,
    /// Name for people, may be empty.
    pub name: String,
    /// E-mail address, may be empty.
    pub email: String,
    /// Groups that list the user, by name, sorted.
    pub groups: Vec<String>,
    /// Roles that follow from the active claim.
    pub roles: Vec<String>,
    /// Active claim, `user/<id>` or `group/<name>`; of a partner or a guest, its own.
    pub claim: String,
    /// Public id of the session.
    pub session: String,
    /// Login method.
    pub method: String,
    /// Who acts for the user, if somebody else.
    pub actor: Option<String>,
    /// Tenant (partner), if any.
    pub tenant: Option<String>,
    /// Privileges of dialects, verbatim.
    pub privileges: Vec<String>,
    /// Role within the tenant.
    pub role: Option<String>,
    /// Whether the session administrates its tenant.
    pub admin: bool,
    /// Kind of principal.
    pub kind: Kind,
    /// What other APIs call the user: dialect to id.
    pub aliases: BTreeMap<String, String>,
}

impl Identity {
    /// Whether a person has signed in by themselves: no key, no partner, nobody who acts for them. Only they may see
    /// and end their other sessions, and make keys.
    pub fn is_person(&self) -> bool {
        self.kind == Kind::User && self.actor.is_none() && self.tenant.is_none()
    }

    /// Derives the identity of a session; `None` when its user may not have one any more, or what it was
    /// made with (a key, a partner) is gone.
    ///
    /// An active claim that the user has lost falls back to being themselves.
    pub fn derive(record: &Record, directory: &dyn Directory) -> Option<Self> {
        let account = account_of(&record.user, directory).filter(|_| stands(record, directory))?;
        let claim = if may_claim(&account, &record.claim, directory) {
            record.claim.clone()
        } else {
            own_claim(&account.id)
        };
        let mut roles = vec![claim.clone()];
        if let (true, Some(group)) = (record.extended, claim.strip_prefix(GROUP)) {
            roles.extend(directory.below(group).iter().map(|name| group_claim(name)));
        }
        Some(Self {
            user: account.id.clone(),
            identifier: account.identifier.clone(),
            name: account.name.clone(),
            email: account.email.clone(),
            groups: account.groups.clone(),
            roles,
            claim,
            session: record.id.to_string(),
            method: record.method.clone(),
            actor: record.actor.clone(),
            tenant: record.tenant.clone().or_else(|| tenant_of(&record.user)),
            privileges: record.privileges.clone(),
            role: record.role.clone(),
            admin: record.admin,
            kind: record.kind,
            aliases: account.aliases.clone(),
        })
    }
}

/// The account of whomever a record names `user`; `None` when there is none, or it is disabled.
///
/// Of a group, a partner or a guest it is made up: its id is what the record says, and a group is in
/// itself, so that it may act as what is below it.
pub fn account_of(user: &str, directory: &dyn Directory) -> Option<Arc<Account>> {
    // Not the bare name: somebody may have it as a login name.
    let made_up =
        || Account { id: user.to_owned(), identifier: user.to_owned(), ..Account::default() };
    let account = match Principal::of_record(user) {
        Principal::User(id) => return directory.by_id(&id).filter(|account| !account.disabled),
        Principal::Group(name) => {
            let group = directory.group(&name)?;
            let description = group.description.clone();
            Account { name: description, groups: vec![name.clone()], ..made_up() }
        }
        Principal::Partner(id) => {
            let partner = active(&id, directory)?;
            let (name, email) = (partner.name.clone(), partner.email.clone());
            Account { name, email, ..made_up() }
        }
        Principal::Guest { partner, user } => {
            let partner = active(&partner, directory)?;
            let is_let = partner.reach == Reach::Guests && may_be_guest(&partner, &user, directory);
            is_let.then(made_up)?
        }
    };
    Some(Arc::new(account))
}

fn active(partner: &str, directory: &dyn Directory) -> Option<Arc<Partner>> {
    directory.partner(partner).filter(|partner| !partner.disabled)
}

/// The tenant that a partner and its guests belong to.
fn tenant_of(user: &str) -> Option<String> {
    match Principal::of_record(user) {
        Principal::Guest { partner, .. } | Principal::Partner(partner) => Some(partner),
        Principal::Group(_) | Principal::User(_) => None,
    }
}

/// Whether what a session was made with is still there, whosever it is: the key, which must live as long
/// as the session, whoever acts, and the tenant.
fn stands(record: &Record, directory: &dyn Directory) -> bool {
    let key = record.key.as_deref().is_none_or(|id| {
        let key = directory.key(id);
        key.is_some_and(|key| key.expires.is_none_or(|end| record.expires <= end))
    });
    let actor = record.actor.as_deref().and_then(|actor| actor.parse::<Principal>().ok());
    key && actor.is_none_or(|actor| account_of(&actor.record(), directory).is_some())
        && record.tenant.as_deref().is_none_or(|tenant| active(tenant, directory).is_some())
}

/// Whether `account` may act under `claim`: as themselves, as a group that lists them, or as a group
/// below one of those. The account may be one that [`account_of`] made up.
pub fn may_claim(account: &Account, claim: &str, directory: &dyn Directory) -> bool {
    if claim == own_claim(&account.id) {
        return true;
    }
    let Some(group) = claim.strip_prefix(GROUP) else { return false };
    if account.groups.iter().any(|name| name == group) {
        return directory.group(group).is_some();
    }
    account.groups.iter().any(|name| directory.below(name).iter().any(|below| below == group))
}

/// A group that somebody may act as, with the groups below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupNode {
    /// Name, without the `group/` prefix.
    pub name: String,
    /// Name for people, may be empty.
    pub description: String,
    /// Sub-groups that are not already above this one, sorted by name.
    pub children: Vec<Self>,
}

/// The forest of groups that `account` may act as.
pub fn claimable(account: &Arc<Account>, directory: &dyn Directory) -> Vec<GroupNode> {
    let mut path = Vec::new();
    account.groups.iter().filter_map(|name| tree(name, directory, &mut path)).collect()
}

/// Sub-groups nest as deep as the directory says, but a loop is cut and so is a depth of 16.
fn tree(name: &str, directory: &dyn Directory, path: &mut Vec<String>) -> Option<GroupNode> {
    let group = directory.group(name)?;
    if path.len() >= 16 || path.iter().any(|above| above == name) {
        return None;
    }
    path.push(name.to_owned());
    let children = directory
        .below(name)
        .iter()
        .filter(|below| {
            directory.group(below).is_some_and(|group| group.parents.iter().any(|up| up == name))
        })
        .filter_map(|below| tree(below, directory, path))
        .collect();
    path.pop();
    let (name, description) = (group.name.clone(), group.description.clone());
    Some(GroupNode { name, description, children })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixMs;
    use crate::session::record::tests::sample;
    use crate::session::testing::People;

    #[test]
    fn a_lost_claim_falls_back_to_the_user() {
        let people = People::new();
        let (mut record, _) = sample("u1", UnixMs(0));
        record.claim = "group/staff".to_owned();
        assert_eq!(Identity::derive(&record, &people).unwrap().claim, "group/staff");
        people.change(|account| account.groups.clear());
        let identity = Identity::derive(&record, &people).unwrap();
        assert_eq!(identity.claim, "user/u1");
        assert_eq!(identity.roles, ["user/u1"]);
    }

    #[test]
    fn a_disabled_or_unknown_user_has_no_identity() {
        let people = People::new();
        let (record, _) = sample("u1", UnixMs(0));
        assert!(Identity::derive(&record, &people).is_some());
        people.change(|account| account.disabled = true);
        assert!(Identity::derive(&record, &people).is_none());
        assert!(Identity::derive(&sample("nobody", UnixMs(0)).0, &people).is_none());
    }

    #[test]
    fn sub_groups_may_be_claimed_and_extend_the_roles() {
        let people = People::new();
        let (mut record, _) = sample("u1", UnixMs(0));
        record.claim = "group/staff".to_owned();
        record.extended = true;
        let identity = Identity::derive(&record, &people).unwrap();
        assert_eq!(identity.roles, ["group/staff", "group/night", "group/ops"]);
        let account = people.by_id("u1").unwrap();
        assert!(may_claim(&account, "group/night", &people));
        for foreign in ["group/board", "user/u2", "group/", "staff", "", "group/staff "] {
            assert!(!may_claim(&account, foreign, &people), "{foreign}");
        }
    }

    #[test]
    fn loops_of_groups_are_cut() {
        let people = People::new();
        let forest = claimable(&people.by_id("u1").unwrap(), &people);
        assert_eq!(forest.len(), 1);
        assert_eq!(forest[0].children[0].name, "ops");
        assert_eq!(forest[0].children[0].children[0].name, "night");
    }
}

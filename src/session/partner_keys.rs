//! Keys that a partner's people make for it, and logins by an id that another API gives to a user.

use std::io;
use std::sync::Arc;

use super::authority::{Authority, origin};
use super::command::{Caller, Opening, Outcome, Refusal, Terms, Whom};
use super::key::KeySecret;
use super::name::canonical;
use super::ports::{Account, Credentials};
use super::principal::{Key, Partner, Principal};
use super::record::{Kind, Record};
use super::token::Form;
use crate::audit::Event;
use crate::secret::Secret;
use crate::threads::aside;

/// Keys that one user may have made for a partner.
const KEYS: usize = 20;

impl Authority {
    /// The person whom a caller means.
    pub(super) fn whom(&self, whom: &Whom) -> Option<Arc<Account>> {
        let found = match whom {
            Whom::Alias { dialect, id } => self.directory.by_alias(dialect, id),
            Whom::Email(email) => {
                let found = self.directory.by_login(email);
                found.filter(|account| canonical(&account.email) == canonical(email))
            }
        };
        found.filter(|account| !account.disabled)
    }

    /// The login of the person whom `whom` names. Of nobody it takes as long, and fails in the same way.
    pub(super) fn login_of(&self, whom: &Whom, password: Secret, terms: Terms) -> Opening {
        let identifier = match (self.whom(whom), whom) {
            (Some(account), _) => account.identifier.clone(),
            // No login name has a control character.
            (None, Whom::Alias { dialect, id }) => format!("{dialect}:{id}\0"),
            (None, Whom::Email(email)) => format!("{email}\0"),
        };
        let credentials = Credentials::Password { identifier, password };
        Opening { credentials, terms }
    }

    /// A new key for the partner of the caller, in the name of one of its users.
    pub(super) async fn issue_partner_key(
        &self,
        whom: &Whom,
        caller: &Caller,
    ) -> Result<Outcome, Refusal> {
        let (partner, account) = self.administrates(whom, caller)?;
        let (owner, name) = (Principal::Partner(partner.id.clone()), made_by(&account));
        let made = self.directory.keys_of(&owner);
        if made.iter().filter(|key| key.name == name).count() >= KEYS {
            return Err(Refusal::TooMany("keys of this partner"));
        }
        let secret = KeySecret::issue().map_err(super::authority::no_randomness)?;
        let id = super::token::SessionId::issue().map_err(super::authority::no_randomness)?;
        let (hash, created) = (secret.hash(), self.clock.now());
        let key = Key { id: id.to_string(), name, owner, hash, created, expires: None };
        self.write_key(key, secret, caller).await
    }

    /// Revokes the keys that were made for the partner of the caller in the name of one of its users.
    pub(super) async fn revoke_partner_keys(
        self: &Arc<Self>,
        whom: &Whom,
        caller: &Caller,
    ) -> Result<Outcome, Refusal> {
        let (partner, account) = self.administrates(whom, caller)?;
        let (owner, name) = (Principal::Partner(partner.id.clone()), made_by(&account));
        let mut ended = 0;
        for key in self.directory.keys_of(&owner).iter().filter(|key| key.name == name) {
            ended += usize::from(self.drop_key(key, caller).await?);
        }
        Ok(Outcome::Ended(ended))
    }

    /// The partner in whose name the caller may make keys for this user: its own, or the one that the
    /// user, who asks, administrates.
    fn administrates(
        &self,
        whom: &Whom,
        caller: &Caller,
    ) -> Result<(Arc<Partner>, Arc<Account>), Refusal> {
        let live = caller.session.as_ref().ok_or(Refusal::NotSignedIn)?;
        let account = self.whom(whom);
        match Principal::of_record(&live.record().user) {
            // What a KS may do is said by its privileges: it must not turn into a key that lasts.
            Principal::Partner(id) if live.record().form != Form::Ks => {
                let partner = self.directory.partner(&id).filter(|partner| !partner.disabled);
                let partner = partner.ok_or(Refusal::NotSignedIn)?;
                let account = account.filter(|account| partner.members.contains_key(&account.id));
                Ok((partner, account.ok_or(Refusal::Missing("user"))?))
            }
            // Nor whoever acts for a user, or has a key or a KS of theirs.
            Principal::User(id) if is_own(live.record()) => {
                let account = account.filter(|account| account.id == id);
                let account = account.ok_or(Refusal::Forbidden)?;
                let mut partners = self.directory.partners_of(&id).into_iter().filter(|partner| {
                    let member = partner.members.get(&id);
                    !partner.disabled && member.is_some_and(|member| member.admin)
                });
                // Of several partners nobody knows which one is meant.
                match (partners.next(), partners.next()) {
                    (Some(partner), None) => Ok((partner, account)),
                    _ => Err(Refusal::Forbidden),
                }
            }
            _ => Err(Refusal::Forbidden),
        }
    }

    /// Writes a key down and gives its secret out.
    pub(super) async fn write_key(
        &self,
        key: Key,
        secret: KeySecret,
        caller: &Caller,
    ) -> Result<Outcome, Refusal> {
        let (directory, key) = (Arc::clone(&self.directory), Arc::new(key));
        let new = Arc::clone(&key);
        let written = aside("add-key", move || directory.add_key(&new)).await;
        settled(written)?;
        let event = Event::KeyIssued { key: &key.id, owner: &key.owner.to_string() };
        self.audit.record(&origin(caller), &event);
        Ok(Outcome::KeyIssued(key, secret.written()))
    }

    /// Removes a key, and ends the sessions that were made with it; whether it was there.
    pub(super) async fn drop_key(
        self: &Arc<Self>,
        key: &Key,
        caller: &Caller,
    ) -> Result<bool, Refusal> {
        let (directory, id) = (Arc::clone(&self.directory), key.id.clone());
        let removed = aside("remove-key", move || directory.remove_key(&id)).await;
        let removed = settled(removed)?;
        let event = Event::KeyRevoked { key: &key.id, owner: &key.owner.to_string() };
        self.audit.record(&origin(caller), &event);
        self.end_made_with(key, caller).await?;
        Ok(removed)
    }
}

/// Whether it is the session of a person who has signed in by themselves.
fn is_own(record: &Record) -> bool {
    let alone = record.actor.is_none() && record.key.is_none() && record.tenant.is_none();
    alone && record.kind == Kind::User
}

fn made_by(account: &Account) -> String {
    format!("partner key of {}", account.identifier)
}

/// What came of a change of the directory.
fn settled<T>(done: io::Result<Result<T, String>>) -> Result<T, Refusal> {
    match done {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            tracing::error!(error, "a key cannot be written to the directory");
            Err(Refusal::Unavailable)
        }
        Err(error) => {
            tracing::error!(%error, "nobody can write to the directory");
            Err(Refusal::Unavailable)
        }
    }
}

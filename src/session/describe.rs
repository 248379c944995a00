//! Who a user of a partner is: for sessions that administrate it.

use super::authority::{Authority, signed_in};
use super::command::{Caller, Outcome, Refusal};
use super::principal::Principal;
use super::reach::{Subject, member};

impl Authority {
    /// The user whom the caller's partner calls `id`; the caller administrates the partner.
    pub(super) fn describe(&self, id: &str, caller: &Caller) -> Result<Outcome, Refusal> {
        let identity = signed_in(caller)?.identity();
        let tenant = identity.tenant.as_deref().filter(|_| identity.admin);
        let partner = tenant.and_then(|tenant| self.partner(tenant)).ok_or(Refusal::Forbidden)?;
        // Members that may not sign in are users, too.
        let account = member(&partner, id, &*self.directory).or_else(|| {
            match Subject::find(&partner, id, &*self.directory)?.principal {
                Principal::User(id) => self.directory.by_id(&id),
                Principal::Group(_) | Principal::Guest { .. } | Principal::Partner(_) => None,
            }
        });
        let account = account.ok_or(Refusal::Missing("user"))?;
        let member = partner.members.get(&account.id).cloned().unwrap_or_default();
        Ok(Outcome::Account(account, Box::new(member)))
    }
}

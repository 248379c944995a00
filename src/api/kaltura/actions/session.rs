//! `session.get` and `session.end`.

use super::{Turn, shape};
use crate::api::kaltura::error::ApiError;
use crate::api::kaltura::token::token;
use crate::api::kaltura::value::Value;
use crate::session::{Command, Worthless};

impl Turn<'_> {
    /// What a ks says: the own one, or for administrators another one of their partner.
    pub(super) async fn show_session(&self) -> Result<Value, ApiError> {
        let live = self.signed_in().await?;
        let Some(other) = self.params.text("session") else {
            return Ok(shape::session(&live, None));
        };
        let invalid = || ApiError::invalid_ks(Worthless::Invalid);
        let token = token(&other).ok_or_else(invalid)?;
        if token.id() == live.id() {
            return Ok(shape::session(&live, None));
        }
        let (own, admin) = (live.identity().tenant.as_deref(), live.identity().admin);
        let Some(own) = own.filter(|_| admin) else {
            return Err(ApiError::forbidden(self.call));
        };
        let shown = self.open(&token).await?;
        match shown.identity().tenant.as_deref() {
            Some(tenant) if tenant == own => Ok(shape::session(&shown, None)),
            tenant => Err(ApiError::foreign_partner(own, tenant.unwrap_or_default())),
        }
    }

    /// Ends the session of the ks; without one there is nothing to end.
    pub(super) async fn end(&self) -> Result<Value, ApiError> {
        let Some(live) = self.session().await? else { return Ok(Value::Null) };
        let ended = self.execute(Command::Logout, Some(&live)).await;
        ended.map(|_| Value::Null).map_err(|refusal| self.refused(&refusal))
    }
}

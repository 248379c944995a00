//! Actions that open a session: by a secret of the partner, by a password, by an app token, by nothing.

use super::{NAME, SECRET, Turn, shape};
use crate::api::kaltura::error::ApiError;
use crate::api::kaltura::value::Value;
use crate::secret::Secret;
use crate::session::{Command, Credentials, KsTerms, Live, Outcome, Refusal, Seal, Token};
use std::sync::Arc;

/// Privileges of a login that asks for none.
const ALL: &str = "*";
/// Types of sessions that can be asked for.
const USER: &str = "0";
const ADMIN: &str = "2";

impl Turn<'_> {
    /// `session.start`: a secret of the partner opens a session for any of its users. A ks that comes
    /// along counts for nothing.
    pub(super) async fn start(&self) -> Result<Value, ApiError> {
        let secret = self.secret("secret")?;
        let tenant = self.partner().unwrap_or_default();
        let failed = || ApiError::start_session(&tenant);
        let admin = match self.params.text("type").as_deref() {
            None | Some(USER) => false,
            Some(ADMIN) => true,
            Some(_) => return Err(failed()),
        };
        let terms = self.terms("privileges", "").ok_or_else(failed)?;
        let user = self.optional("userId");
        let seal = Seal::Secret { tenant: tenant.clone(), secret, user, admin };
        match self.seal(seal, terms, None).await {
            Ok((_, token)) => Ok(Value::Text(token.encode().to_string())),
            Err(refusal) => Err(self.refused_as(&refusal, failed())),
        }
    }

    /// `user.loginByLoginId` and, `by_alias`, `user.login`. Every failure to prove oneself is the same.
    pub(super) async fn login(&self, by_alias: bool) -> Result<Value, ApiError> {
        let (name, tenant) = if by_alias {
            let partner = self.partner().ok_or_else(|| ApiError::missing("partnerId"))?;
            ("userId", Some(partner))
        } else {
            ("loginId", self.partner())
        };
        let identifier = self.mandatory(name, SECRET)?;
        let password = self.secret("password")?;
        let terms = self.terms("privileges", ALL).ok_or_else(ApiError::wrong_password)?;
        if identifier.len() > NAME {
            return Err(ApiError::wrong_password());
        }
        let credentials = Credentials::Password { identifier, password };
        let seal = Seal::Password { credentials, tenant, by_alias };
        match self.seal(seal, terms, None).await {
            Ok((_, token)) => Ok(Value::Text(token.encode().to_string())),
            Err(refusal) => Err(self.refused_as(&refusal, ApiError::wrong_password())),
        }
    }

    /// `session.startWidgetSession`: an anonymous session of the partner.
    pub(super) async fn start_widget(&self) -> Result<Value, ApiError> {
        let widget = self.mandatory("widgetId", NAME)?;
        let failed = || ApiError::invalid_widget(&widget);
        let tenant = widget.strip_prefix('_').ok_or_else(failed)?;
        let terms = self.terms("privileges", "").ok_or_else(failed)?;
        // The gateway says what an anonymous session may do.
        let terms = KsTerms { privileges: String::new(), ..terms };
        let seal = Seal::Widget { tenant: tenant.to_owned() };
        match self.seal(seal, terms, None).await {
            Ok((_, token)) => Ok(shape::widget(tenant, &token)),
            Err(refusal) => Err(self.refused_as(&refusal, failed())),
        }
    }

    /// `appToken.startSession`: the hash over the ks of the request and the secret of an app token.
    pub(super) async fn start_by_app_token(&self) -> Result<Value, ApiError> {
        let id = self.mandatory("id", NAME)?;
        let hash = self.mandatory("tokenHash", NAME)?;
        let live = self.signed_in().await?;
        let admin = match self.params.text("type").as_deref() {
            None => None,
            Some(USER) => Some(false),
            Some(ADMIN) => Some(true),
            Some(_) => return Err(ApiError::forbidden(self.call)),
        };
        let forbidden = || ApiError::forbidden(self.call);
        let terms = self.terms("sessionPrivileges", "").ok_or_else(forbidden)?;
        let ks = Secret::new(self.optional("ks"));
        let user = self.optional("userId");
        let seal = Seal::AppToken { id: id.clone(), hash, user, admin, ks };
        match self.seal(seal, terms, Some(&live)).await {
            Ok((live, token)) => Ok(shape::session(&live, Some(&token))),
            Err(refusal) => {
                Err(ApiError::app_token(&id, &refusal).unwrap_or_else(|| self.refused(&refusal)))
            }
        }
    }

    async fn seal(
        &self,
        seal: Seal,
        terms: KsTerms,
        session: Option<&Arc<Live>>,
    ) -> Result<(Arc<Live>, Token), Refusal> {
        match self.execute(Command::StartSealed(seal, terms), session).await? {
            Outcome::Opened(live, token) => Ok((live, token)),
            // An outcome that the command never has.
            _ => Err(Refusal::Unsupported),
        }
    }

    fn terms(&self, privileges: &str, usual: &str) -> Option<KsTerms> {
        let asked = self.params.text(privileges).map(|text| text.into_owned());
        let privileges = asked.unwrap_or_else(|| usual.to_owned());
        Some(KsTerms { lifetime: Some(self.lifetime()?), privileges })
    }
}

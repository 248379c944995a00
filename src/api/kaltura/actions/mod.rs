//! The actions: parameters to commands, outcomes to answers.

mod login;
mod session;
mod shape;
mod user;

use std::sync::Arc;
use std::time::Duration;

use super::call::{Action, Call};
use super::error::ApiError;
use super::params::Params;
use super::token::token;
use super::value::Value;
use crate::api::{Ask, Core};
use crate::secret::Secret;
use crate::session::{Caller, Command, Live, Outcome, Refusal, Token, Worthless};

/// Longest name of somebody or something, in bytes.
const NAME: usize = 1 << 10;
/// Longest password or secret, in bytes.
const SECRET: usize = 4 << 10;
/// Life of a session for which no other is asked.
const DAY: Duration = Duration::from_secs(86_400);

/// One request, of one action or several.
#[derive(Debug)]
pub(super) struct Work<'a> {
    pub(super) ask: &'a Ask<'a>,
    pub(super) core: Core<'a>,
    /// Path and query as sent.
    pub(super) target: &'a str,
}

/// One action of a request.
#[derive(Debug)]
struct Turn<'a> {
    work: &'a Work<'a>,
    call: &'a Call,
    params: &'a Params,
}

impl Work<'_> {
    /// Does what `params` ask for.
    pub(super) async fn run(&self, params: &Params) -> Value {
        self.try_run(params).await.unwrap_or_else(Value::from)
    }

    async fn try_run(&self, params: &Params) -> Result<Value, ApiError> {
        let call = Call::of(params).ok_or_else(ApiError::service_not_specified)?;
        let turn = Turn { work: self, call: &call, params };
        match call.find() {
            Some(Action::AppTokenStart) => turn.start_by_app_token().await,
            Some(Action::ListPartners) => turn.list_partners().await,
            Some(Action::LoginByLoginId) => turn.login(false).await,
            Some(Action::SessionEnd) => turn.end().await,
            Some(Action::SessionGet) => turn.show_session().await,
            Some(Action::SessionStart) => turn.start().await,
            Some(Action::UserGet) => turn.show_user().await,
            Some(Action::UserLogin) => turn.login(true).await,
            Some(Action::WidgetStart) => turn.start_widget().await,
            None if !call.is_of_known_service() => Err(ApiError::no_service(&call.service)),
            None if call.action.is_empty() => Err(ApiError::action_not_specified()),
            None => Err(ApiError::no_action(&call)),
        }
    }
}

impl Turn<'_> {
    /// A parameter that must be there, at most `longest` bytes long.
    fn mandatory(&self, name: &str, longest: usize) -> Result<String, ApiError> {
        let given = self.params.text(name).filter(|text| text.len() <= longest);
        given.map(|text| text.into_owned()).ok_or_else(|| ApiError::missing(name))
    }

    fn secret(&self, name: &str) -> Result<Secret, ApiError> {
        self.mandatory(name, SECRET).map(Secret::new)
    }

    fn optional(&self, name: &str) -> String {
        self.params.text(name).map(|text| text.into_owned()).unwrap_or_default()
    }

    /// The partner that the request names.
    fn partner(&self) -> Option<String> {
        let named = self.params.text("partnerId").or_else(|| self.params.text("p"));
        named.map(|id| id.into_owned())
    }

    /// The lifetime that is asked for; `None` when it cannot be one.
    fn lifetime(&self) -> Option<Duration> {
        match self.params.text("expiry") {
            None => Some(DAY),
            // Beyond what any partner allows, the size does not matter.
            Some(text) => match text.parse::<i64>() {
                Ok(0) => Some(DAY),
                Ok(seconds) => u32::try_from(seconds).map_or_else(
                    |_| (seconds > 0).then_some(Duration::from_secs(u32::MAX.into())),
                    |seconds| Some(Duration::from_secs(seconds.into())),
                ),
                Err(_) => None,
            },
        }
    }

    /// The session of the request's ks; one use of it. `None` without a ks.
    async fn session(&self) -> Result<Option<Arc<Live>>, ApiError> {
        let Some(text) = self.params.text("ks") else { return Ok(None) };
        let invalid = || ApiError::invalid_ks(Worthless::Invalid);
        let token = token(&text).ok_or_else(invalid)?;
        self.open(&token).await.map(Some)
    }

    async fn open(&self, token: &Token) -> Result<Arc<Live>, ApiError> {
        let Work { ask, core, target } = self.work;
        let found = core.session(token, ask.caller.ip, target).await;
        let found = found.map_err(|refusal| self.refused(&refusal))?;
        let live = found.map_err(ApiError::invalid_ks)?;
        live.pulse().note(crate::clock::UnixMs(ask.now.saturating_mul(1000)));
        Ok(live)
    }

    /// The session of the request's ks, which must be there and of the partner that the request names.
    async fn signed_in(&self) -> Result<Arc<Live>, ApiError> {
        let Some(live) = self.session().await? else {
            // Of an anonymous request the original says which partner's service it may not use.
            let known = self.partner().is_some();
            return Err(if known {
                ApiError::forbidden(self.call)
            } else {
                ApiError::missing_ks()
            });
        };
        // Who may only choose a partner is of none yet.
        if let (Some(own), Some(other)) = (&live.identity().tenant, self.partner())
            && *own != other
            && !live.may_only_choose()
        {
            return Err(ApiError::foreign_partner(own, &other));
        }
        Ok(live)
    }

    /// Carries out `command` in the name of `session`.
    async fn execute(
        &self,
        command: Command,
        session: Option<&Arc<Live>>,
    ) -> Result<Outcome, Refusal> {
        let caller = Caller { session: session.cloned(), ..self.work.ask.caller.clone() };
        self.work.core.execute(command, &caller).await
    }

    /// What no action words in its own way.
    fn refused(&self, refusal: &Refusal) -> ApiError {
        ApiError::general(self.call, refusal).unwrap_or_else(|| match refusal {
            Refusal::NotSignedIn => ApiError::missing_ks(),
            _ => ApiError::forbidden(self.call),
        })
    }

    /// The same, with `own` for what is not the same for every action.
    fn refused_as(&self, refusal: &Refusal, own: ApiError) -> ApiError {
        ApiError::general(self.call, refusal).unwrap_or(own)
    }
}

//! Errors as the API words them: a code, a sentence, and what the sentence names.
//!
//! The texts are those of the original, which clients may compare; none repeats a token.

use std::borrow::Cow;
use std::time::Duration;

use super::call::Call;
use super::value::Value;
use crate::api::Fault;
use crate::session::{Refusal, Worthless};

/// An error of the API.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ApiError {
    /// Stable code.
    pub(super) code: Cow<'static, str>,
    /// What happened.
    pub(super) message: String,
    /// What the message names.
    pub(super) args: Vec<(&'static str, String)>,
    /// When to try again.
    pub(super) retry_after: Option<Duration>,
}

impl ApiError {
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        let (code, message) = (Cow::Borrowed(code), message.into());
        Self { code, message, args: Vec::new(), retry_after: None }
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.args.push((name, value.into()));
        self
    }

    fn after(mut self, wait: Option<Duration>) -> Self {
        self.retry_after = wait;
        self
    }

    pub(super) fn service_not_specified() -> Self {
        let message = "Service name was not specified, please specify one";
        Self::new("SERVICE_NOT_SPECIFIED", message)
    }

    pub(super) fn no_service(service: &str) -> Self {
        let message = format!("Service \"{service}\" does not exists");
        Self::new("SERVICE_DOES_NOT_EXISTS", message).with("SRV_NAME", service)
    }

    pub(super) fn action_not_specified() -> Self {
        let message = "Action name was not specified, please specify one";
        Self::new("ACTION_NOT_SPECIFIED", message)
    }

    pub(super) fn no_action(call: &Call) -> Self {
        let Call { service, action } = call;
        let message = format!("Action \"{action}\" does not exists for service \"{service}\"");
        Self::new("ACTION_DOES_NOT_EXISTS", message)
            .with("ACTION_NAME", action)
            .with("SERVICE_NAME", service)
    }

    pub(super) fn blocked(call: &Call, wait: Option<Duration>) -> Self {
        let Call { service, action } = call;
        let message = format!("Action \"{action}\" in service \"{service}\" is blocked");
        Self::new("ACTION_BLOCKED", message)
            .with("ACTION_NAME", action)
            .with("SERVICE_NAME", service)
            .after(wait)
    }

    pub(super) fn forbidden(call: &Call) -> Self {
        let service = format!("{}->{}", call.service, call.action);
        let message = format!("The access to service [{service}] is forbidden");
        Self::new("SERVICE_FORBIDDEN", message).with("SERVICE", service)
    }

    pub(super) fn missing(parameter: &str) -> Self {
        let message = format!("Missing parameter \"{parameter}\"");
        Self::new("MISSING_MANDATORY_PARAMETER", message).with("PARAM_NAME", parameter)
    }

    pub(super) fn missing_ks() -> Self {
        Self::new("MISSING_KS", "Missing KS, session not established")
    }

    /// The reason stands where the original repeats the token.
    pub(super) fn invalid_ks(why: Worthless) -> Self {
        let (number, reason) = match why {
            Worthless::Invalid => ("-1", "INVALID_STR"),
            Worthless::Expired => ("-5", "EXPIRED"),
            Worthless::Ended => ("-6", "LOGOUT"),
            Worthless::ActionsExceeded => ("-8", "EXCEEDED_ACTIONS_LIMIT"),
            Worthless::WrongAddress => ("-9", "EXCEEDED_RESTRICTED_IP"),
            Worthless::WrongUri => ("-11", "EXCEEDED_RESTRICTED_URI"),
        };
        Self::new("INVALID_KS", format!("Invalid KS \"{reason}\", Error \"{number},{reason}\""))
            .with("KSID", reason)
            .with("ERR_CODE", number)
            .with("ERR_DESC", reason)
    }

    pub(super) fn start_session(partner: &str) -> Self {
        let message = format!("Error while starting session for partner [{partner}]");
        Self::new("START_SESSION_ERROR", message).with("PID", partner)
    }

    pub(super) fn invalid_widget(widget: &str) -> Self {
        let message = format!("Unknown widget [{widget}]");
        Self::new("INVALID_WIDGET_ID", message).with("WIDGET_ID", widget)
    }

    pub(super) fn wrong_password() -> Self {
        Self::new("USER_WRONG_PASSWORD", "Wrong password supplied")
    }

    pub(super) fn another_user(user: &str) -> Self {
        let message = format!("cannot retrieve another user \"{user}\" using non-admin session");
        Self::new("CANNOT_RETRIEVE_ANOTHER_USER_USING_NON_ADMIN_SESSION", message)
            .with("USER_ID", user)
    }

    pub(super) fn invalid_user() -> Self {
        Self::new("INVALID_USER_ID", "Invalid user id")
    }

    pub(super) fn foreign_partner(own: &str, other: &str) -> Self {
        let message = format!("Partner [{own}] cannot access partner [{other}]");
        Self::new("PARTNER_ACCESS_FORBIDDEN", message)
            .with("ACCESSING_PID", own)
            .with("ACCESSED_PID", other)
    }

    /// What went wrong with an app token.
    pub(super) fn app_token(id: &str, refusal: &Refusal) -> Option<Self> {
        let (code, what) = match refusal {
            Refusal::AppTokenDisabled => ("APP_TOKEN_NOT_ACTIVE", "not active"),
            Refusal::AppTokenExpired => ("APP_TOKEN_EXPIRED", "expired"),
            Refusal::AppTokenHash => {
                let message = "Invalid application token hash";
                return Some(Self::new("INVALID_APP_TOKEN_HASH", message));
            }
            Refusal::Missing(_) => ("APP_TOKEN_ID_NOT_FOUND", "not found"),
            _ => return None,
        };
        let message = format!("Application token id \"{id}\" {what}");
        Some(Self::new(code, message).with("ID", id))
    }

    /// A request that cannot be read; the original has no such error.
    pub(super) fn malformed(detail: &'static str) -> Self {
        Self::new("MALFORMED_REQUEST", detail)
    }

    /// A reference to an answer of a multirequest that is not there; the original has no such error.
    pub(super) fn unresolved() -> Self {
        let message = "A reference to the result of an earlier request leads nowhere";
        Self::new("INVALID_MULTIREQUEST_TOKEN", message)
    }

    /// Actions of the gateway and of the app in one multirequest; the original has no such error.
    pub(super) fn mixed() -> Self {
        let message = "A multirequest may not mix actions that open, end or show sessions with other \
                       actions: send them apart";
        Self::new("MULTIREQUEST_MIXED", message)
    }

    /// What any action may meet; `None`: it depends on the action.
    pub(super) fn general(call: &Call, refusal: &Refusal) -> Option<Self> {
        let fault = Fault::from(refusal);
        match refusal {
            Refusal::Throttled { .. } => Some(Self::blocked(call, fault.retry_after)),
            Refusal::Busy
            | Refusal::Conflict
            | Refusal::Guessing { .. }
            | Refusal::Unavailable
            | Refusal::Unsupported => Some(Self::internal(&fault)),
            _ => None,
        }
    }

    pub(super) fn internal(fault: &Fault) -> Self {
        let message = format!("Internal server error occurred \"{}\"", fault.detail);
        Self::new("INTERNAL_SERVERL_ERROR", message).after(fault.retry_after)
    }

    /// A failure before or after any action, by what the request's head tells of the call.
    pub(super) fn of_fault(fault: &Fault, call: Option<&Call>) -> Self {
        let unnamed = Call::default();
        match fault.status.as_u16() {
            401 => match fault.worthless {
                Some(why) => Self::invalid_ks(why),
                None => Self::missing_ks(),
            },
            403 => Self::forbidden(call.unwrap_or(&unnamed)),
            404 => match call {
                None => Self::service_not_specified(),
                Some(call) if call.is_of_known_service() && call.action.is_empty() => {
                    Self::action_not_specified()
                }
                Some(call) if call.is_of_known_service() => Self::no_action(call),
                Some(call) => Self::no_service(&call.service),
            },
            429 => Self::blocked(call.unwrap_or(&unnamed), fault.retry_after),
            500.. => Self::internal(fault),
            _ => {
                let code = fault.code.to_ascii_uppercase().replace('-', "_");
                let error = Self::new("", fault.detail.clone()).after(fault.retry_after);
                Self { code: Cow::Owned(code), ..error }
            }
        }
    }
}

impl From<ApiError> for Value {
    fn from(error: ApiError) -> Self {
        Self::Error(Box::new(error))
    }
}

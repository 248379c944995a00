//! Services and actions: which ones the gateway answers itself.

use super::params::Params;

/// What a request calls, in lower case; an empty action is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) service: String,
    pub(super) action: String,
}

/// The actions that are the gateway's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    AppTokenStart,
    ListPartners,
    LoginByLoginId,
    SessionEnd,
    SessionGet,
    SessionStart,
    UserGet,
    UserLogin,
    WidgetStart,
}

/// Services and their actions, as on the wire.
const ACTIONS: [(&str, &str, Action); 9] = [
    ("apptoken", "startsession", Action::AppTokenStart),
    ("partner", "listpartnersforuser", Action::ListPartners),
    ("session", "end", Action::SessionEnd),
    ("session", "get", Action::SessionGet),
    ("session", "start", Action::SessionStart),
    ("session", "startwidgetsession", Action::WidgetStart),
    ("user", "get", Action::UserGet),
    ("user", "login", Action::UserLogin),
    ("user", "loginbyloginid", Action::LoginByLoginId),
];

const MULTIREQUEST: &str = "multirequest";

/// Whose a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    App,
    /// It names no service.
    Nobodys,
    Ours,
}

impl Call {
    /// What the parameters name; `None` without a service.
    pub(super) fn of(params: &Params) -> Option<Self> {
        let name = |key| params.text(key).map(|text| text.to_ascii_lowercase());
        Some(Self { service: name("service")?, action: name("action").unwrap_or_default() })
    }

    /// The action, when it is one of ours.
    pub(super) fn find(&self) -> Option<Action> {
        let own = ACTIONS
            .iter()
            .find(|(service, action, _)| *service == self.service && *action == self.action);
        own.map(|(_, _, action)| *action)
    }

    pub(super) fn is_multirequest(&self) -> bool {
        self.service == MULTIREQUEST
    }

    /// Whether some of its service's actions are ours.
    pub(super) fn is_of_known_service(&self) -> bool {
        ACTIONS.iter().any(|(service, ..)| *service == self.service)
    }

    /// Whose a single call is. Of a service with actions of ours, a call without an action is ours: it is
    /// an error anywhere.
    pub(super) fn whose(&self) -> Whose {
        let ours = self.find().is_some() || (self.is_of_known_service() && self.action.is_empty());
        if ours { Whose::Ours } else { Whose::App }
    }
}

/// Whose the items of a multirequest are together, and whether ours and the app's are mixed.
///
/// A mix is ours, to be refused: neither side can answer it. But players put `startWidgetSession` before
/// their own calls; what needs no secret and shows nothing the app may answer itself.
pub(super) fn whose_together(calls: &[Option<Call>]) -> (Whose, bool) {
    let count = |whose| calls.iter().flatten().filter(|call| call.whose() == whose).count();
    let (apps, ours) = (count(Whose::App), count(Whose::Ours));
    let own = calls.iter().flatten().filter(|call| call.whose() == Whose::Ours);
    let only_widgets = own.into_iter().all(|call| call.find() == Some(Action::WidgetStart));
    match (apps, ours) {
        (0, 0) => (Whose::Nobodys, false),
        (0, _) => (Whose::Ours, false),
        (_, _) if only_widgets => (Whose::App, false),
        (_, _) => (Whose::Ours, true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(text: &str) -> Option<Call> {
        let (service, action) = text.split_once('.')?;
        Some(Call { service: service.to_owned(), action: action.to_owned() })
    }

    #[test]
    fn mixed_calls_are_told_apart() {
        for (calls, whose) in [
            (&[][..], (Whose::Nobodys, false)),
            (&["-"], (Whose::Nobodys, false)),
            (&["session.start", "user.get"], (Whose::Ours, false)),
            (&["session.start", "-"], (Whose::Ours, false)),
            (&["session."], (Whose::Ours, false)),
            (&["media.list", "session.impersonate"], (Whose::App, false)),
            (&["media.list", "-"], (Whose::App, false)),
            (&["media.list", "session.end"], (Whose::Ours, true)),
            (&["session.startwidgetsession", "media.list"], (Whose::App, false)),
            (&["session.startwidgetsession"], (Whose::Ours, false)),
            (&["session.startwidgetsession", "media.list", "user.get"], (Whose::Ours, true)),
        ] {
            let all: Vec<_> = calls.iter().map(|text| call(text)).collect();
            assert_eq!(whose_together(&all), whose, "{calls:?}");
        }
    }
}

//! Privileges of a sealed session: what is carried on, and what is enforced here.
//!
//! What cannot be understood of a limit refuses the whole: a limit that is left out would be none.

use std::net::IpAddr;

use crate::ks::{Privilege, privileges};
use crate::session::reach::APP_TOKEN;
use crate::session::record::Limits;

/// The privilege of a session that may only choose a partner.
pub(super) const CHOOSE: &str = "choosepartner";
/// Set by the gateway only.
const GROUP: &str = "sessionid";
const WIDGET: &str = "widget";
const RESERVED: [&str; 6] =
    [APP_TOKEN, CHOOSE, "edituser", "enablechangeaccount", "reftime", WIDGET];

/// What a list of privileges says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Grants {
    /// Those that are carried on, verbatim.
    pub(super) listed: Vec<String>,
    pub(super) limits: Option<Limits>,
    /// Role within the partner.
    pub(super) role: Option<String>,
    /// Name of the group of sessions that end together.
    pub(super) group: Option<String>,
    /// Whether it is a widget's.
    pub(super) widget: bool,
    /// Whether it may only choose a partner.
    pub(super) choose: bool,
}

impl Grants {
    /// What a client asks for; the privileges that are not a client's to ask for are left out.
    pub(super) fn asked(text: &str) -> Option<Self> {
        Some(Self { widget: false, choose: false, ..Self::sealed(text)? })
    }

    /// What a KS says that was sealed by the partner.
    pub(super) fn sealed(text: &str) -> Option<Self> {
        let (mut grants, mut limits) = (Self::default(), Limits::default());
        for privilege in privileges(text).ok()? {
            let Privilege { name, value } = privilege;
            match name {
                "actionslimit" => {
                    limits.actions = Some(value.parse().ok().filter(|most| *most > 0)?);
                }
                "iprestrict" => limits.ips = addresses(&privilege)?,
                "urirestrict" => {
                    limits.uris = privilege.uris().map(str::to_owned).collect();
                    if limits.uris.is_empty() {
                        return None;
                    }
                }
                "setrole" => grants.role = Some(some(value)?),
                GROUP => grants.group = Some(some(value)?),
                WIDGET => grants.widget = true,
                CHOOSE => grants.choose = true,
                _ => {}
            }
            if !RESERVED.contains(&name) {
                grants.list(name, value);
            }
        }
        grants.limits = (limits != Limits::default()).then_some(limits);
        Some(grants)
    }

    /// The same as those of a session that may only choose a partner.
    pub(super) fn choosing() -> Self {
        let mut grants = Self { choose: true, ..Self::default() };
        grants.list(CHOOSE, "");
        grants
    }

    /// Those of a widget.
    pub(super) fn of_widget() -> Self {
        let mut grants = Self { widget: true, ..Self::default() };
        grants.list("view", "*");
        grants.list(WIDGET, "1");
        grants
    }

    /// The same for a session of an app token: all of them end together.
    pub(super) fn of_app_token(mut self, id: &str) -> Self {
        let group = format!("{GROUP}:");
        self.listed.retain(|privilege| !privilege.starts_with(&group));
        self.list(GROUP, id);
        self.list(APP_TOKEN, id);
        self.group = Some(id.to_owned());
        self
    }

    fn list(&mut self, name: &str, value: &str) {
        self.listed.push(match value {
            "" => name.to_owned(),
            value => format!("{name}:{value}"),
        });
    }

    /// As a KS has them.
    pub(super) fn text(&self) -> String {
        self.listed.join(",")
    }
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn addresses(privilege: &Privilege<'_>) -> Option<Vec<IpAddr>> {
    let list: Vec<_> = privilege.values().map(|ip| ip.parse().ok()).collect::<Option<_>>()?;
    (!list.is_empty()).then_some(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_and_all_else_is_carried_on() {
        let text = "*,actionslimit:3,iprestrict:192.0.2.1/2001:db8::1,urirestrict:/a*|/b,\
                    setrole:EDITOR,sessionid:s1,sview:1_abc,download";
        let grants = Grants::asked(text).unwrap();
        let limits = grants.limits.clone().unwrap();
        assert_eq!((limits.actions, limits.used), (Some(3), 0));
        assert_eq!(limits.ips.len(), 2);
        assert_eq!(limits.uris, ["/a*", "/b"]);
        assert_eq!(grants.role.as_deref(), Some("EDITOR"));
        assert_eq!(grants.group.as_deref(), Some("s1"));
        assert_eq!(grants.text(), text.replace('*', "all:*").replacen("/aall:*", "/a*", 1));
        assert_eq!(Grants::sealed(&grants.text()).unwrap(), grants);
        assert_eq!(Grants::asked("").unwrap(), Grants::default());
    }

    #[test]
    fn what_is_not_a_clients_to_ask_for_is_left_out() {
        let text = "apptoken:1,widget:1,enablechangeaccount:5,reftime:1,edituser:x,choosepartner,a";
        let grants = Grants::asked(text).unwrap();
        assert_eq!((grants.listed, grants.widget, grants.choose), (vec!["a".into()], false, false));
        let grants = Grants::sealed(text).unwrap();
        assert!(grants.widget && grants.choose);
        assert_eq!(grants.listed, ["a"]);
    }

    #[test]
    fn limits_that_make_no_sense_refuse_the_whole() {
        for bad in [
            "actionslimit",
            "actionslimit:0",
            "actionslimit:-1",
            "actionslimit:x",
            "iprestrict",
            "iprestrict:",
            "iprestrict:localhost",
            "iprestrict:192.0.2.1/nobody",
            "urirestrict:",
            "urirestrict:|",
            "setrole",
            "sessionid:",
        ] {
            assert!(Grants::asked(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn an_app_token_names_the_group() {
        let grants = Grants::asked("list:*,sessionid:mine").unwrap().of_app_token("t1");
        assert_eq!(grants.text(), "list:*,sessionid:t1,apptoken:t1");
        assert_eq!(grants.group.as_deref(), Some("t1"));
    }
}

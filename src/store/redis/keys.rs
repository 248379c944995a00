//! Names of keys, and the slots of a Cluster that they lie in.
//!
//! A session is one key, named by its public id; a user's index is another.

use crate::session::{CounterKey, SessionId};

/// Slots of a Cluster.
pub(super) const SLOTS: usize = 16_384;

/// Makes names under one prefix.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    sessions: String,
    users: String,
    counts: String,
    probe: String,
    canary: String,
}

impl Keys {
    /// `node` is a name that no other process has.
    pub(super) fn new(prefix: &str, node: &str) -> Self {
        Self {
            sessions: format!("{prefix}s:"),
            users: format!("{prefix}u:"),
            counts: format!("{prefix}t:"),
            probe: format!("{prefix}probe:"),
            canary: format!("{prefix}s:canary:{node}:"),
        }
    }

    /// What the names of all sessions begin with.
    pub(super) fn sessions(&self) -> &str {
        &self.sessions
    }

    pub(super) fn session(&self, id: SessionId) -> String {
        format!("{}{id}", self.sessions)
    }

    /// A key beside the sessions that lies in the same slot as `probe`.
    pub(super) fn canary(&self, probe: &str) -> String {
        let tag = probe.strip_prefix(&self.probe).unwrap_or_default();
        format!("{}{tag}", self.canary)
    }

    /// The session that a key belongs to.
    pub(super) fn session_of(&self, key: &[u8]) -> Option<SessionId> {
        let id = key.strip_prefix(self.sessions.as_bytes())?;
        std::str::from_utf8(id).ok()?.parse().ok()
    }

    /// The index of a user's sessions.
    pub(super) fn user(&self, user: &str) -> String {
        format!("{}{user}", self.users)
    }

    pub(super) fn user_of(&self, key: &[u8]) -> Option<String> {
        let user = key.strip_prefix(self.users.as_bytes())?;
        std::str::from_utf8(user).ok().map(str::to_owned)
    }

    /// A count of failed logins.
    pub(super) fn count(&self, key: &CounterKey) -> String {
        format!("{}{key}", self.counts)
    }

    pub(super) fn count_of(&self, key: &[u8]) -> Option<CounterKey> {
        let name = key.strip_prefix(self.counts.as_bytes())?;
        std::str::from_utf8(name).ok()?.parse().ok()
    }

    /// The pattern of all counts for `SCAN`.
    pub(super) fn counts(&self) -> String {
        format!("{}*", literal(&self.counts))
    }

    /// Patterns for `SCAN`: of sessions, of users.
    pub(super) fn patterns(&self) -> (String, String) {
        (format!("{}*", literal(&self.sessions)), format!("{}*", literal(&self.users)))
    }

    /// A name in this slot; `None` where the prefix decides on the slot.
    pub(super) fn in_slot(&self, wanted: u16) -> Option<String> {
        let name = |number: u32| format!("{}{{{number}}}", self.probe);
        (0..1_000_000).map(name).find(|name| slot(name.as_bytes()) == wanted)
    }
}

/// `text` with what is special in patterns made literal.
fn literal(text: &str) -> String {
    let mut literal = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\' | '^' | '-') {
            literal.push('\\');
        }
        literal.push(c);
    }
    literal
}

/// The slot of a key: CRC-16 (XMODEM) of its hash tag, or of all of it.
pub(super) fn slot(key: &[u8]) -> u16 {
    let tag = key
        .iter()
        .position(|byte| *byte == b'{')
        .and_then(|open| {
            let rest = key.get(open + 1..)?;
            let close = rest.iter().position(|byte| *byte == b'}')?;
            rest.get(..close).filter(|tag| !tag.is_empty())
        })
        .unwrap_or(key);
    let mut crc = 0_u16;
    for byte in tag {
        crc ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
        }
    }
    crc & 0x3fff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_what_they_name() {
        let keys = Keys::new("gate[1]:", "n1");
        let id = SessionId::issue().unwrap();
        assert_eq!(keys.session_of(keys.session(id).as_bytes()), Some(id));
        assert_eq!(keys.user_of(keys.user("u:1").as_bytes()).as_deref(), Some("u:1"));
        assert_eq!(keys.session_of(keys.user("u1").as_bytes()), None);
        assert_eq!(keys.session_of(b"gate[1]:s:nonsense"), None);
        assert_eq!(keys.session_of(b"\xff"), None);
        assert_eq!(keys.patterns().0, "gate\\[1\\]:s:*");
    }

    #[test]
    fn slots_are_those_of_the_cluster_specification() {
        assert_eq!(slot(b"123456789"), 0x31c3);
        assert_eq!(slot(b"{user1000}.following"), slot(b"{user1000}.followers"));
        assert_eq!(slot(b"foo{{bar}}zap"), slot(b"{bar"));
        assert_eq!(slot(b"foo{}{bar}"), slot(b"foo{}{bar}"));
        assert_ne!(slot(b"foo{}{bar}"), slot(b"bar"));
        let keys = Keys::new("portcullis:", "n1");
        for wanted in [0, 8191, 16_383] {
            assert_eq!(slot(keys.in_slot(wanted).unwrap().as_bytes()), wanted);
        }
        let probe = keys.in_slot(77).unwrap();
        assert_eq!(slot(keys.canary(&probe).as_bytes()), 77);
        assert_eq!(keys.session_of(keys.canary(&probe).as_bytes()), None);
        assert_eq!(Keys::new("{one}:", "n1").in_slot(0), None);
    }
}

//! Looks at a server's settings for what would hurt sessions.

use redis::aio::MultiplexedConnection;
use redis::cmd;

use super::connect::Server;

/// Policies under which a live session stays while there is an expired or a sooner ending one.
const SAFE: [&str; 2] = ["noeviction", "volatile-ttl"];

/// Warns of an eviction policy that can drop live sessions.
pub(super) async fn warn_of_eviction(mut connection: MultiplexedConnection, server: Server) {
    let mut question = cmd("INFO");
    question.arg("memory");
    let text: String = match question.query_async(&mut connection).await {
        Ok(text) => text,
        Err(error) => {
            tracing::debug!(%error, %server, "the eviction policy is not known");
            return;
        }
    };
    if let Some(policy) = dangerous(&text) {
        tracing::warn!(
            %server,
            "maxmemory-policy is {policy}: when memory is short, Redis drops sessions of people who \
             use them (fix: set it to noeviction or volatile-ttl)"
        );
    }
}

fn dangerous(info: &str) -> Option<&str> {
    let policy = info.lines().find_map(|line| line.strip_prefix("maxmemory_policy:"))?.trim();
    let known = policy.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    (known && !SAFE.contains(&policy)).then_some(policy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_that_drop_live_sessions_are_told() {
        let info = |policy: &str| format!("# Memory\r\nused:1\r\nmaxmemory_policy:{policy}\r\n");
        assert_eq!(dangerous(&info("allkeys-lru")), Some("allkeys-lru"));
        assert_eq!(dangerous(&info("volatile-random")), Some("volatile-random"));
        assert_eq!(dangerous(&info("noeviction")), None);
        assert_eq!(dangerous(&info("volatile-ttl")), None);
        assert_eq!(dangerous(""), None);
    }
}

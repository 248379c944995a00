//! The changes of one key, each atomic: what Redis has no command for is a script.
//!
//! Each names one key, so that a Cluster takes it. Scripts are sent whole: a server that was restarted
//! or has just become the master knows none.

use redis::{Cmd, cmd};

use super::link::Up;
use crate::clock::{UnixMs, millis};
use crate::session::Record;

/// The longest time to live that is asked for.
const YEARS: u64 = 10 * 365 * 86_400_000;

/// `v` is the value, `seen`, `ends`: numbers of its first line, and `now`. Ends with 0 where there is no
/// live session.
macro_rules! live {
    ($rest:literal) => {
        concat!(
            "local v = redis.call('GET', KEYS[1])\n",
            "if not v then return 0 end\n",
            "local seen, expires, idle, generation = ",
            "string.match(v, '^1 (%d+) (%d+) (%d+) (%d+)\\n')\n",
            "if not seen then return 0 end\n",
            "local now = tonumber(ARGV[1])\n",
            "if math.min(tonumber(expires), tonumber(seen) + tonumber(idle)) <= now then ",
            "return 0 end\n",
            $rest
        )
    };
}

/// Answers 0 gone, 1 done, 2 changed by somebody else. A later `seen` that is there is kept.
const REPLACE: &str = live!(
    "if generation ~= ARGV[2] then return 2 end
local at, rest = string.match(ARGV[3], '^1 (%d+)( .*)$')
if tonumber(seen) > tonumber(at) then at = seen end
local ends = math.min(tonumber(ARGV[4]), tonumber(at) + tonumber(ARGV[5]))
if ends <= now then return 0 end
redis.call('SET', KEYS[1], '1 ' .. at .. rest, 'PX', string.format('%.0f', math.min(ends - now, ARGV[6])))
return 1"
);

/// Moves `seen` forward.
const TOUCH: &str = live!(
    "if tonumber(ARGV[2]) <= tonumber(seen) then return 0 end
local ends = math.min(tonumber(expires), tonumber(ARGV[2]) + tonumber(idle))
if ends <= now then return 0 end
redis.call('SET', KEYS[1], '1 ' .. ARGV[2] .. string.sub(v, 3 + #seen), 'PX', string.format('%.0f', math.min(ends - now, ARGV[3])))
return 1"
);

/// Adds a session to its user's index, which lives as long as the one that lives longest.
const INDEX: &str = "redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[3]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return 1";

/// As `GETDEL`, but always a write, so that there is something for replicas to have.
const END: &str = "local v = redis.call('GET', KEYS[1])
if not v then redis.call('SET', KEYS[1], '', 'PX', 1) end
redis.call('DEL', KEYS[1])
return v";

/// Deletes a value that is no text.
const CLEAR: &str = "local v = redis.pcall('GET', KEYS[1])
if type(v) == 'table' and string.find(v.err or '', 'WRONGTYPE', 1, true) then
  return redis.call('DEL', KEYS[1])
end
return 0";

/// Adds sessions to their user's index, in the place of a value of another type. An index that is there
/// stays: another node may have made it anew, and added to it since.
const REINDEX: &str = "local v = redis.pcall('ZREVRANGE', KEYS[1], 0, 0)
if string.find(v.err or '', 'WRONGTYPE', 1, true) then redis.call('DEL', KEYS[1]) end
for i = 2, #ARGV, 2 do redis.call('ZADD', KEYS[1], ARGV[i], ARGV[i + 1]) end
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[1]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
return 1";

fn script(text: &str, key: &str) -> Cmd {
    let mut command = cmd("EVAL");
    command.arg(text).arg(1).arg(key);
    command
}

/// How long a session that ends then lives from `now`; at least 1 ms.
fn left(ends: UnixMs, now: UnixMs) -> u64 {
    millis(ends.since(now)).clamp(1, YEARS)
}

/// Writes a value where there is none: answers `OK`, or nothing.
pub(super) fn create(key: &str, value: &[u8], record: &Record, now: UnixMs) -> Cmd {
    let mut command = cmd("SET");
    command.arg(key).arg(value).arg("NX").arg("PX").arg(left(record.ends(), now));
    command
}

/// `now` and the times of `value` are the server's, those of `record` ours.
pub(super) fn replace(key: &str, value: &[u8], record: &Record, ahead: i64, now: UnixMs) -> Cmd {
    let expires = super::value::moved(record.expires, ahead);
    let mut command = script(REPLACE, key);
    command.arg(now.0).arg(record.generation.wrapping_sub(1)).arg(value);
    command.arg(expires.0).arg(record.idle_ms).arg(YEARS);
    command
}

pub(super) fn touch(key: &str, seen: UnixMs, now: UnixMs) -> Cmd {
    let mut command = script(TOUCH, key);
    command.arg(now.0).arg(seen.0).arg(YEARS);
    command
}

pub(super) fn index(key: &str, member: &str, record: &Record, now: UnixMs, ours: UnixMs) -> Cmd {
    let mut command = script(INDEX, key);
    command.arg(member).arg(now.0).arg(left(record.expires, ours));
    command
}

/// `records` are all that the user has.
pub(super) fn reindex(key: &str, records: &[Record], up: &Up, ours: UnixMs) -> Cmd {
    let longest = records.iter().map(|record| record.expires).max().unwrap_or(ours);
    let mut command = script(REINDEX, key);
    command.arg(left(longest, ours));
    for record in records {
        command.arg(up.theirs(record.created).0).arg(record.id.to_string());
    }
    command
}

pub(super) fn clear(key: &str) -> Cmd {
    script(CLEAR, key)
}

pub(super) fn get(key: &str) -> Cmd {
    let mut command = cmd("GET");
    command.arg(key);
    command
}

/// Takes a session away and answers with what was there.
pub(super) fn end(key: &str) -> Cmd {
    let mut command = cmd("GETDEL");
    command.arg(key);
    command
}

/// Writes a value over whatever is there and answers with that.
pub(super) fn bury(key: &str, value: &[u8], record: &Record, now: UnixMs) -> Cmd {
    let mut command = cmd("SET");
    command.arg(key).arg(value).arg("PX").arg(left(record.ends(), now)).arg("GET");
    command
}

/// As [`end`], for a session that is not known to have ended on enough servers.
pub(super) fn end_again(key: &str) -> Cmd {
    script(END, key)
}

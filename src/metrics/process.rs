//! Figures of the process, read when asked.
//!
//! A figure that the system does not give is left out, never zero.

use std::fs;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// Memory in use, in bytes.
pub(super) fn resident_bytes() -> Option<u64> {
    resident_in(&fs::read_to_string("/proc/self/status").ok()?)
}

fn resident_in(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Open file descriptors, without the one that counting takes.
pub(super) fn open_descriptors() -> Option<u64> {
    let count = fs::read_dir("/proc/self/fd").ok()?.count();
    u64::try_from(count.saturating_sub(1)).ok()
}

/// How many file descriptors may be open; `None` when there is no limit.
pub(super) fn max_descriptors() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// CPU time used so far, in seconds.
pub(super) fn cpu_seconds() -> f64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_this_process_are_plausible() {
        assert!(resident_bytes().unwrap() > 1 << 20);
        let before = open_descriptors().unwrap();
        assert!(before >= 1);
        assert!(max_descriptors().is_none_or(|most| most >= before));
        assert!(cpu_seconds() > 0.0);
    }

    #[test]
    fn an_unreadable_status_gives_nothing() {
        assert_eq!(resident_in("VmRSS:\t   1234 kB\n"), Some(1234 * 1024));
        for bad in
            ["", "VmRSS: kB", "VmRSS: -1 kB", "VmRSS: 1 MB", "VmRSS: 99999999999999999999 kB"]
        {
            assert_eq!(resident_in(bad), None, "{bad}");
        }
    }
}

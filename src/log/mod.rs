//! The logs: diagnostics, access, audit. Opens, rotates and closes them.
//!
//! Knows where lines go, not what a request or a security event is.

mod access;
mod diagnostic;
mod json;
mod settings;
#[cfg(test)]
mod testing;
mod writer;

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing::subscriber::{SetGlobalDefaultError, set_global_default};

pub use self::access::{AccessEntry, AccessLog, Place};
pub use self::json::{escape_deceptive, is_deceptive};
pub use self::settings::{Destination, Format, Settings};
pub use self::writer::LineWriter;
use crate::clock::{Clock, millis};

/// A log that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the {log} log ({destination}): {source}")]
pub struct OpenError {
    log: &'static str,
    destination: String,
    source: io::Error,
}

/// The logs of the process. Logs with the same destination share one writer.
#[derive(Debug)]
pub struct Logs {
    level: LevelFilter,
    format: Format,
    diagnostic: LineWriter,
    access: Option<LineWriter>,
    audit: Option<LineWriter>,
    /// Each writer once, under the names of its logs.
    writers: Vec<(String, LineWriter)>,
}

impl Logs {
    /// Opens every log.
    ///
    /// # Errors
    /// [`OpenError`] for the first log that cannot be opened.
    pub fn open(settings: &Settings, clock: &Clock) -> Result<Self, OpenError> {
        let mut opener = Opener { clock, opened: Vec::new() };
        let diagnostic = opener.open("diagnostic", &Destination::Stderr)?;
        let access = opener.open_if("access", &settings.access)?;
        let audit = opener.open_if("audit", &settings.audit)?;
        let writers = opener.opened.into_iter().map(|(_, names, writer)| (names, writer));
        Ok(Self {
            level: settings.level,
            format: settings.format,
            diagnostic,
            access,
            audit,
            writers: writers.collect(),
        })
    }

    /// Sends the events of `tracing`, from every thread, to standard error.
    ///
    /// # Errors
    /// When something else takes them already.
    pub fn subscribe(&self) -> Result<(), SetGlobalDefaultError> {
        let colour = self.format == Format::Text && io::stderr().is_terminal();
        let out = self.diagnostic.clone();
        set_global_default(diagnostic::subscriber(out, self.level, self.format, colour))
    }

    /// An access log for one worker.
    pub fn access(&self) -> AccessLog {
        AccessLog::new(self.access.clone())
    }

    /// Where the audit log goes; it never blocks.
    pub fn audit(&self) -> Box<dyn io::Write + Send> {
        match &self.audit {
            Some(writer) => Box::new(writer.clone()),
            None => Box::new(io::sink()),
        }
    }

    /// Opens every file anew: after rotation.
    pub fn reopen(&self) {
        self.writers.iter().for_each(|(_, writer)| writer.reopen());
    }

    /// A value to be asked, from any thread, for the lines dropped so far by log.
    pub fn dropped(&self) -> impl Fn() -> Vec<(String, u64)> + Send + Sync + 'static {
        let writers = self.writers.clone();
        move || writers.iter().map(|(names, writer)| (names.clone(), writer.dropped())).collect()
    }

    /// Waits until everything is written: at the end of the process. False when `timeout` came first.
    pub fn drain(&self, timeout: Duration, clock: &Clock) -> bool {
        let end = clock.now().plus(timeout);
        self.writers.iter().rev().all(|(_, writer)| {
            let left = end.0.saturating_sub(clock.now().0);
            writer.drain(Duration::from_millis(left.min(millis(timeout))))
        })
    }
}

struct Opener<'a> {
    clock: &'a Clock,
    opened: Vec<(Destination, String, LineWriter)>,
}

impl Opener<'_> {
    fn open_if(
        &mut self,
        log: &'static str,
        destination: &Destination,
    ) -> Result<Option<LineWriter>, OpenError> {
        match destination {
            Destination::Off => Ok(None),
            Destination::Stdout | Destination::Stderr | Destination::File(_) => {
                self.open(log, destination).map(Some)
            }
        }
    }

    fn open(
        &mut self,
        log: &'static str,
        destination: &Destination,
    ) -> Result<LineWriter, OpenError> {
        let same = self.opened.iter_mut().find(|(opened, ..)| opened == destination);
        if let Some((_, names, writer)) = same {
            names.push('+');
            names.push_str(log);
            return Ok(writer.clone());
        }
        let writer = start(log, destination, self.clock.clone()).map_err(|source| OpenError {
            log,
            destination: match destination {
                Destination::File(path) => path.display().to_string(),
                Destination::Stdout => "standard output".to_owned(),
                Destination::Stderr | Destination::Off => "standard error".to_owned(),
            },
            source,
        })?;
        self.opened.push((destination.clone(), log.to_owned(), writer.clone()));
        Ok(writer)
    }
}

/// Standard output and error are taken as plain files: the library's own buffer would keep half a
/// line when it cannot be written.
fn start(log: &'static str, destination: &Destination, clock: Clock) -> io::Result<LineWriter> {
    match destination {
        Destination::Off => LineWriter::stream(log, io::sink(), clock),
        Destination::Stdout => {
            let out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
            LineWriter::stream(log, out, clock)
        }
        Destination::Stderr => {
            let out = File::from(io::stderr().as_fd().try_clone_to_owned()?);
            LineWriter::stream(log, out, clock)
        }
        Destination::File(path) => LineWriter::file(log, path, clock),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::testing::{WAIT, clock};
    use super::*;
    use crate::clock::UnixMs;

    #[test]
    fn logs_go_where_the_settings_say_and_follow_a_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let (access, audit) = (dir.path().join("access.log"), dir.path().join("audit.log"));
        let settings = Settings {
            access: Destination::File(access.clone()),
            audit: Destination::File(audit.clone()),
            ..Settings::default()
        };
        let clock = clock();
        let logs = Logs::open(&settings, &clock).unwrap();
        let mut worker = logs.access();
        assert!(worker.is_on());
        worker.line(&AccessEntry { time: UnixMs(0), path: "/a", ..AccessEntry::default() });
        worker.flush();
        logs.audit().write_all(b"{\"event\":\"one\"}\n").unwrap();
        assert!(logs.drain(WAIT, &clock));
        assert!(std::fs::read_to_string(&access).unwrap().contains("\"path\":\"/a\""));

        std::fs::rename(&audit, dir.path().join("audit.log.1")).unwrap();
        logs.reopen();
        logs.audit().write_all(b"{\"event\":\"two\"}\n").unwrap();
        assert!(logs.drain(WAIT, &clock));
        let old = std::fs::read_to_string(dir.path().join("audit.log.1")).unwrap();
        assert_eq!(old, "{\"event\":\"one\"}\n");
        assert_eq!(std::fs::read_to_string(&audit).unwrap(), "{\"event\":\"two\"}\n");
        let names: Vec<_> = logs.dropped()();
        let expected = ["diagnostic", "access", "audit"].map(|name| (name.to_owned(), 0));
        assert_eq!(names, expected);
    }

    #[test]
    fn logs_with_one_destination_share_a_writer() {
        let dir = tempfile::tempdir().unwrap();
        let file = Destination::File(dir.path().join("all.log"));
        let settings = Settings { access: file.clone(), audit: file, ..Settings::default() };
        let logs = Logs::open(&settings, &clock()).unwrap();
        let names: Vec<_> = logs.dropped()().into_iter().map(|(names, _)| names).collect();
        assert_eq!(names, ["diagnostic", "access+audit"]);
    }

    #[test]
    fn a_log_that_cannot_be_opened_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let audit = Destination::File(dir.path().join("missing").join("audit.log"));
        let settings = Settings { audit, ..Settings::default() };
        let error = Logs::open(&settings, &clock()).unwrap_err().to_string();
        assert!(error.starts_with("cannot open the audit log ("), "{error}");
        assert!(error.contains("missing/audit.log"), "{error}");
    }

    #[test]
    fn an_access_log_that_is_off_takes_nothing() {
        let logs =
            Logs::open(&Settings { access: Destination::Off, ..Settings::default() }, &clock())
                .unwrap();
        let mut worker = logs.access();
        assert!(!worker.is_on());
        worker.line(&AccessEntry::default());
        worker.flush();
    }
}

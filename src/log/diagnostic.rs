//! What the gateway says about itself, through `tracing`.
//!
//! One event is one line, whatever its values hold: the text of an error may come from outside.

use std::io::{self, Write};

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;

use super::settings::Format;
use super::writer::LineWriter;

/// A subscriber that writes to `out`.
///
/// `level` is that of our own events. Libraries are held at warnings: their details of a connection
/// may show headers, and with them cookies. h2 warns of what clients do wrong, frame by frame: as often as they like.
pub(super) fn subscriber(
    out: LineWriter,
    level: LevelFilter,
    format: Format,
    colour: bool,
) -> Box<dyn Subscriber + Send + Sync> {
    let filter = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("h2", level.min(LevelFilter::ERROR))
        .with_target(env!("CARGO_CRATE_NAME"), level);
    let registry = tracing_subscriber::registry().with(filter);
    let lines = Lines { out, colour };
    match format {
        Format::Text => Box::new(registry.with(fmt::layer().with_ansi(colour).with_writer(lines))),
        Format::Json => {
            Box::new(registry.with(fmt::layer().json().flatten_event(true).with_writer(lines)))
        }
    }
}

/// Keeps each event on one line.
#[derive(Clone, Debug)]
struct Lines {
    out: LineWriter,
    colour: bool,
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Write for Lines {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let line = event.strip_suffix(b"\n").unwrap_or(event);
        let mut whole = Vec::with_capacity(event.len() + 1);
        for byte in line {
            match byte {
                // Colours are ours: the formatter escapes the ESC of a value.
                b'\t' => whole.push(*byte),
                0x1b if self.colour => whole.push(*byte),
                0..0x20 | 0x7f => whole.extend(byte.escape_ascii()),
                _ => whole.push(*byte),
            }
        }
        whole.push(b'\n');
        self.out.append(&whole);
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::testing::{Memory, clock};
    use super::*;

    fn written(format: Format, level: LevelFilter, log: impl FnOnce()) -> String {
        let memory = Memory::default();
        let out = LineWriter::stream("diagnostic", memory.clone(), clock()).unwrap();
        tracing::subscriber::with_default(subscriber(out.clone(), level, format, false), log);
        assert!(out.drain(Duration::from_secs(10)));
        memory.text()
    }

    #[test]
    fn a_value_from_outside_cannot_start_a_line() {
        let error = "no such host\n2026-01-01T00:00:00Z  INFO portcullis: all is well\x1b[2J\r";
        for format in [Format::Text, Format::Json] {
            let text = written(format, LevelFilter::INFO, || {
                tracing::warn!(%error, "cannot connect");
            });
            assert_eq!(text.matches('\n').count(), 1, "{text:?}");
            assert!(!text.contains(['\x1b', '\r']), "{text:?}");
            assert!(text.contains("cannot connect"), "{text:?}");
        }
    }

    #[test]
    fn json_lines_are_objects() {
        let text = written(Format::Json, LevelFilter::INFO, || {
            tracing::info!(sessions = 3, "restored");
        });
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["message"], "restored");
        assert_eq!(line["sessions"], 3);
        assert_eq!(line["level"], "INFO");
    }

    #[test]
    fn libraries_stay_at_warnings() {
        let text = written(Format::Text, LevelFilter::TRACE, || {
            tracing::trace!("own detail");
            tracing::info!(target: "hyper::proto", "cookie: secret");
            tracing::warn!(target: "rustls::conn", "library warning");
        });
        assert!(text.contains("own detail"), "{text}");
        assert!(text.contains("library warning"), "{text}");
        assert!(!text.contains("secret"), "{text}");
        let text = written(Format::Text, LevelFilter::ERROR, || {
            tracing::warn!(target: "rustls::conn", "library warning");
            tracing::warn!("own warning");
            tracing::error!("own error");
        });
        assert!(text.contains("own error") && !text.contains("warning"), "{text}");
    }
}

//! Standard output of commands. `println!` panics where nobody reads, or the disk behind it is full.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

use super::Error;
use crate::log::is_deceptive;

/// A value of one line: what a client wrote must not speak to the terminal, nor turn round what is beside it.
pub(super) fn plain(text: &str) -> String {
    text.replace(is_deceptive, "\u{fffd}")
}

/// Writes lines, with each as [`plain`] has it.
///
/// # Errors
/// Without words when whoever reads has enough (`| head`).
pub(super) fn say(text: impl Display) -> Result<(), Error> {
    let text = text.to_string().replace(|c| c != '\n' && is_deceptive(c), "\u{fffd}");
    written(text).map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => Error::new(""),
        _ => Error::new(format!("cannot write to standard output: {error}")),
    })
}

/// Says something beside the answer, to people only. Nobody reading is no failure.
pub(super) fn warn(text: impl Display) {
    let _ = writeln!(io::stderr(), "warning: {text}");
}

/// Writes lines with a secret that is shown once. `remedy`: what to do when nobody sees it, since what it belongs to is
/// made already.
pub(super) fn show_once(text: impl Display, remedy: impl Display) -> Result<(), Error> {
    written(text).map_err(|error| {
        let what = "it is done, but the secret could not be shown, and nobody will see it again";
        Error::new(format!("{what}: {error}\n    fix: {remedy}"))
    })
}

fn written(text: impl Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

//! `attack`: the hostile corpus against the operator's own rules.

use std::path::Path;

use clap::Args;

use super::out::say;
use super::{Error, json};
use crate::app::attack::{self, Options};

/// Nothing could be tried.
const COULD_NOT_RUN: u8 = 2;

/// What to attack.
#[derive(Args, Debug)]
pub(super) struct Attack {
    /// Also send direct requests to this app: few, slow, GET only.
    #[arg(long)]
    upstream: Option<String>,
    /// Whom forged identity headers name.
    #[arg(long, default_value = "admin")]
    user: String,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

/// Prints the report. Exit codes: 0 nothing found, 1 something found, 2 could not run.
pub(super) fn attack(file: &Path, asked: Attack) -> Result<(), Error> {
    let could_not = |text: String| Error { text, code: COULD_NOT_RUN };
    if !asked.user.bytes().all(|byte| (0x21..0x7f).contains(&byte)) {
        return Err(could_not("--user is not a name of plain characters".to_owned()));
    }
    let options = Options { upstream: asked.upstream, user: asked.user };
    let report = attack::attack(file, &options).map_err(could_not)?;
    let told = if asked.json { say(json(&report)?) } else { say(&report) };
    told.map_err(|error| could_not(error.text))?;
    match report.is_clean() {
        true => Ok(()),
        false => Err(Error::new("the rules above let something pass that they should not")),
    }
}

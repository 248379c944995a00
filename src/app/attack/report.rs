//! What came of an attack, for people and for programs.

use std::fmt;
use std::path::Path;

use serde::Serialize;

/// A hole, with what it takes to go through it.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    /// A stable name for programs.
    pub(super) code: &'static str,
    /// What an outsider could do, and by which behaviour of the app.
    pub(super) what: String,
    /// A request that shows it.
    pub(super) example: String,
    /// What to change.
    pub(super) fix: String,
}

/// Everything that was found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    file: String,
    /// Requests that were sent.
    pub(super) requests: usize,
    /// Of these, how many an app would have got.
    pub(super) reached: usize,
    pub(super) findings: Vec<Finding>,
    /// What is worth knowing, but no hole by itself.
    pub(super) notes: Vec<String>,
}

impl Report {
    pub(super) fn new(file: &Path) -> Self {
        let file = file.display().to_string();
        Self { file, requests: 0, reached: 0, findings: Vec::new(), notes: Vec::new() }
    }

    /// Whether nothing was found.
    pub(crate) fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {} requests, {} reached an app", self.file, self.requests, self.reached)?;
        for finding in &self.findings {
            writeln!(f, "\nfinding   {}: {}", finding.code, finding.what)?;
            writeln!(f, "example   {}", finding.example)?;
            writeln!(f, "fix       {}", finding.fix)?;
        }
        if !self.notes.is_empty() {
            writeln!(f)?;
        }
        for note in &self.notes {
            writeln!(f, "note      {note}")?;
        }
        match self.findings.len() {
            0 => write!(f, "\nnothing found"),
            1 => write!(f, "\n1 finding"),
            count => write!(f, "\n{count} findings"),
        }
    }
}

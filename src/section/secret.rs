//! Secrets in a configuration: written out, in a file, or in the environment.

use std::path::PathBuf;

use super::Section;
use crate::secret::Secret;

/// A secret and where it was found.
#[derive(Clone, Debug)]
pub struct SecretSource {
    /// The secret.
    pub secret: Secret,
    /// The file that holds it, if one does: for readers that look again.
    pub file: Option<PathBuf>,
}

impl Section {
    /// A secret: a string, `{ file = "..." }` or `{ env = "..." }`. The trailing line break of a file
    /// is not part of the secret.
    pub fn secret(&mut self, key: &'static str) -> Option<Secret> {
        self.secret_source(key).map(|source| source.secret)
    }

    /// Like [`Section::secret`], with the file that it came from.
    pub fn secret_source(&mut self, key: &'static str) -> Option<SecretSource> {
        let given = |text: String| SecretSource { secret: Secret::new(text), file: None };
        if self.is_text(key) {
            return self.text(key).map(|text| given(text.value));
        }
        if !self.has(key) {
            self.known.push(key);
            return None;
        }
        let mut source = self.table(key);
        let (file, env) = (source.path("file"), source.text("env"));
        match (file, env) {
            (Some(file), None) => match std::fs::read_to_string(&file) {
                Ok(text) => {
                    let text = text.trim_end_matches(['\r', '\n']).to_owned();
                    Some(SecretSource { secret: Secret::new(text), file: Some(file) })
                }
                Err(error) => {
                    let what = format!("cannot read the secret file {}: {error}", file.display());
                    source.problem("file", what, "make the file readable for the gateway's user");
                    None
                }
            },
            (None, Some(env)) => match std::env::var(&env.value) {
                Ok(text) => Some(given(text)),
                Err(_) => {
                    let what = format!("the environment variable {} is not set", env.value);
                    source.problem(
                        "env",
                        what,
                        "set it before the start, or use { file = \"...\" }",
                    );
                    None
                }
            },
            _ => {
                let what = format!("`{}` needs exactly one of `file` and `env`", self.full(key));
                source.problem("file", what, "write { file = \"path\" } or { env = \"NAME\" }");
                None
            }
        }
    }
}

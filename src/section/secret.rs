//! Secrets in a configuration: written out, in a file, or in the environment.

use std::io;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::value::Value;
use super::{Placed, Section};
use crate::secret::Secret;

/// A secret and where it was found.
#[derive(Clone, Debug)]
pub struct SecretSource {
    /// The secret.
    pub secret: Secret,
    /// The file that holds it, if one does: for readers that look again.
    pub file: Option<PathBuf>,
}

impl SecretSource {
    /// Whether the file still holds the secret; a secret without a file is always current.
    pub fn is_current(&self) -> bool {
        self.file.as_deref().is_none_or(|file| read(file).is_ok_and(|now| now == self.secret))
    }
}

fn read(file: &Path) -> io::Result<Secret> {
    let text = Zeroizing::new(io::read_to_string(super::open_file(file)?)?);
    Ok(Secret::new(text.trim_end_matches(['\r', '\n']).to_owned()))
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
        self.table(key).elsewhere()
    }

    /// A list of secrets, each as [`Section::secret`] takes it; empty when absent.
    pub fn secrets(&mut self, key: &'static str) -> Vec<Placed<SecretSource>> {
        let wanted = "a list of secrets";
        let Some(node) = self.take(key) else { return Vec::new() };
        let Value::List(items) = node.value else {
            self.wrong_kind(key, &node, wanted);
            return Vec::new();
        };
        let mut secrets = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            let at = item.at;
            let found = match item.value {
                Value::Text(text) => Some(SecretSource { secret: Secret::new(text), file: None }),
                Value::Table(entries) => {
                    let path = format!("{}[{index}]", self.full(key));
                    self.child(path, at, Some(entries)).elsewhere()
                }
                _ => {
                    self.wrong_kind(key, &item, wanted);
                    None
                }
            };
            secrets.extend(found.map(|value| Placed { value, at }));
        }
        secrets
    }

    /// The secret that this table points to.
    fn elsewhere(mut self) -> Option<SecretSource> {
        let (file, env) = (self.path("file"), self.text("env"));
        match (file, env) {
            (Some(file), None) => match read(&file) {
                Ok(secret) => Some(SecretSource { secret, file: Some(file) }),
                Err(error) => {
                    let what = format!("cannot read the secret file {}: {error}", file.display());
                    self.problem("file", what, "make the file readable for the gateway's user");
                    None
                }
            },
            (None, Some(env)) => match std::env::var(&env.value) {
                Ok(text) => Some(SecretSource { secret: Secret::new(text), file: None }),
                Err(_) => {
                    let what = format!("the environment variable {} is not set", env.value);
                    let remedy = "set it before the start, or use { file = \"...\" }";
                    self.problem("env", what, remedy);
                    None
                }
            },
            _ => {
                let what = format!("`{}` needs exactly one of `file` and `env`", self.path);
                self.problem("file", what, "write { file = \"path\" } or { env = \"NAME\" }");
                None
            }
        }
    }
}

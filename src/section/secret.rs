//! Secrets in a configuration: written out, in a file, or in the environment.

use super::Section;
use crate::secret::Secret;

impl Section {
    /// A secret: a string, `{ file = "..." }` or `{ env = "..." }`. The trailing line break of a file
    /// is not part of the secret.
    pub fn secret(&mut self, key: &'static str) -> Option<Secret> {
        if self.is_text(key) {
            return self.text(key).map(|text| Secret::new(text.value));
        }
        if !self.has(key) {
            self.known.push(key);
            return None;
        }
        let mut source = self.table(key);
        let (file, env) = (source.path("file"), source.text("env"));
        match (file, env) {
            (Some(file), None) => match std::fs::read_to_string(&file) {
                Ok(text) => Some(Secret::new(text.trim_end_matches(['\r', '\n']).to_owned())),
                Err(error) => {
                    let what = format!("cannot read the secret file {}: {error}", file.display());
                    source.problem("file", what, "make the file readable for the gateway's user");
                    None
                }
            },
            (None, Some(env)) => match std::env::var(&env.value) {
                Ok(text) => Some(Secret::new(text)),
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

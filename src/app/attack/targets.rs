//! Targets that try to reach a closed path through an open one: the pieces of `tests/hostile/paths.toml`, put
//! together around the paths of a configuration.

use std::collections::BTreeSet;

use serde::Deserialize;

/// The pieces.
#[derive(Debug, Deserialize)]
pub(crate) struct Pieces {
    /// What is put in the places of `templates`.
    tricks: Vec<String>,
    /// `{o}` and `{c}` are an open and a closed path, `{t}` and `{u}` tricks.
    templates: Vec<String>,
    /// Ways to write a letter of a path.
    letters: Vec<String>,
    /// Whole targets around `{o}` and `{c}`, with the names under which they are known.
    known: Vec<String>,
}

impl Pieces {
    /// Those of the project.
    ///
    /// # Errors
    /// Never: a test reads them.
    pub(crate) fn read() -> Result<Self, toml::de::Error> {
        toml::from_str(include_str!("../../../tests/hostile/paths.toml"))
    }

    /// All targets for a pair of paths without a slash at their ends (`""` is the root). Every `step`th of the
    /// combinations of two tricks is left in.
    pub(crate) fn targets(&self, open: &str, closed: &str, step: usize) -> Vec<String> {
        let mut all = BTreeSet::new();
        for template in self.known.iter().chain(&self.templates) {
            all.insert(filled(template, open, closed, "", ""));
        }
        for disguised in self.disguises(closed) {
            all.insert(disguised.clone());
            all.insert(format!("{open}{disguised}"));
            all.insert(format!("{open}/..{disguised}"));
        }
        for template in &self.templates {
            for trick in &self.tricks {
                all.insert(filled(template, open, closed, trick, ""));
            }
        }
        let combined = self.templates.iter().flat_map(|template| {
            let tricks = self.tricks.iter();
            tricks.flat_map(move |t| self.tricks.iter().map(move |u| (template, t, u)))
        });
        for (template, t, u) in combined.step_by(step.max(1)) {
            all.insert(filled(template, open, closed, t, u));
        }
        all.into_iter().collect()
    }

    /// The path with one letter written in another way, and with all of them.
    fn disguises(&self, path: &str) -> Vec<String> {
        let mut all = vec![path.to_uppercase()];
        for way in &self.letters {
            let letters = path.char_indices().filter(|(_, c)| c.is_alphanumeric());
            let other = |c: char| written(way, c);
            for (at, c) in letters {
                let (before, behind) = path.split_at(at);
                let behind = behind.get(c.len_utf8()..).unwrap_or_default();
                all.push(format!("{before}{}{behind}", other(c)));
            }
            let each = |c: char| if c.is_alphanumeric() { other(c) } else { c.to_string() };
            all.push(path.chars().map(each).collect());
        }
        all
    }
}

fn filled(template: &str, open: &str, closed: &str, t: &str, u: &str) -> String {
    let text = template.replace("{o}", open).replace("{c}", closed);
    let text = text.replace("{t}", t).replace("{u}", u);
    match text.is_empty() {
        true => "/".to_owned(),
        false => text,
    }
}

/// A letter in one of the ways: `{hex}` its code, `{wide}` its wide form, `{twin}` another that meets it in some
/// case, `{letter}` itself.
fn written(way: &str, c: char) -> String {
    let mut bytes = [0; 4];
    let hex: Vec<String> =
        c.encode_utf8(&mut bytes).bytes().map(|byte| format!("{byte:02x}")).collect();
    let wide = char::from_u32(u32::from(c) + 0xfee0).filter(|_| c.is_ascii_graphic()).unwrap_or(c);
    let wide: String =
        wide.encode_utf8(&mut bytes).bytes().map(|byte| format!("%{byte:02x}")).collect();
    let twin = match c.to_ascii_lowercase() {
        'i' => "%c4%b0",
        'k' => "%e2%84%aa",
        's' => "%c5%bf",
        _ => "{letter}",
    };
    way.replace("{twin}", twin)
        .replace("{hex}", &hex.join("%"))
        .replace("{hex25}", &hex.join("%25"))
        .replace("{wide}", &wide)
        .replace("{letter}", &c.to_string())
        .replace("{upper}", &c.to_uppercase().to_string())
}

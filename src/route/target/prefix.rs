//! The configured path of a route, and which targets lie below it.

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use super::canonical::{fold, is_in_plain_form};
use super::{Target, TargetError, short};

/// A path and everything below it, in whole segments and without regard to case.
///
/// `/api` and `/api/` mean the same: `/api` itself and `/api/...`, never `/apix`, because upstreams
/// take the two for the same or redirect one to the other. `/` covers everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// Canonical, without the slash at its end; empty for `/`.
    stem: Box<str>,
    /// How clients send it: the same unless it has a space or is not ASCII.
    sent: Box<str>,
    /// The stem with spaces for `+`, if it has any: whoever names a route so has an app that takes them for `+`.
    spaced: Option<Box<str>>,
}

/// What a client has to encode, as far as a prefix may contain it.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ');

impl Prefix {
    /// Reads a configured path: decoded (`/café`) or, where a client has to encode it, encoded.
    ///
    /// # Errors
    /// One sentence for the operator: what is wrong and what to write.
    pub fn new(configured: &str) -> Result<Self, String> {
        if !configured.starts_with('/') {
            return Err(format!("the path {configured:?} has to start with `/`"));
        }
        if let Some(odd) = configured.chars().find(|c| "?#\"<>`^{|}".contains(*c)) {
            return Err(format!("the path {configured:?} must not contain `{odd}`"));
        }
        let encoded = utf8_percent_encode(configured, ENCODED).to_string();
        let target = Target::parse(&encoded)
            .map_err(|error| format!("the path {configured:?} cannot be a route: {error}"))?;
        let decoded = percent_decode_str(&encoded).decode_utf8_lossy();
        let mut folded = String::new();
        fold(&decoded, &mut folded);
        let canonical = target.canonical();
        let needless_code =
            !utf8_percent_encode(&decoded, ENCODED).to_string().eq_ignore_ascii_case(&encoded);
        if decoded.contains('%') {
            return Err(format!("the path {configured:?} must not contain a percent sign"));
        }
        if needless_code || folded != canonical || !is_in_plain_form(&decoded) {
            return Err(format!(
                "the path {configured:?} is not in its plain form: write {canonical:?}"
            ));
        }
        // A `+` is what it is; whatever else some leave out of a path cannot be told from a path without it.
        let others = target.others();
        if others.len() > usize::from(decoded.contains('+')) {
            let error = TargetError::Ambiguous;
            return Err(format!("the path {configured:?} cannot be a route: {error}"));
        }
        let lower = decoded.to_lowercase();
        let sent = utf8_percent_encode(&lower, ENCODED).to_string();
        let stem = |path: &str| path.strip_suffix('/').unwrap_or(path).into();
        let spaced = others.first().map(|other| stem(other));
        Ok(Self { stem: stem(&canonical), sent: stem(&sent), spaced })
    }

    /// The canonical path that it covers, without a slash at its end; empty for `/`. Of two
    /// prefixes that cover a target, the one with the longer stem decides.
    pub fn stem(&self) -> &str {
        &self.stem
    }

    /// Whether the canonical path of `target` is this path or lies below it, or what others read in it does.
    pub fn covers(&self, target: &Target<'_>) -> bool {
        is_below(&self.stem, target.matched())
            || target.others().iter().any(|other| is_below(&self.stem, other))
            || self.covers_by_short_names(target)
    }

    /// Whether it does where short names of Windows stand for long ones.
    pub(in crate::route) fn covers_by_short_names(&self, target: &Target<'_>) -> bool {
        target.has_short_names() && {
            let others = target.others().iter().map(AsRef::as_ref);
            others.chain([target.matched()]).any(|path| short::is_below(&self.stem, path))
        }
    }

    /// Whether whatever somebody reads in `target` is this path or lies below it, with long names.
    pub(super) fn covers_every_reading(&self, target: &Target<'_>) -> bool {
        let covers = |path: &str| is_below(&self.stem, path);
        let is_meant = |path: &str| self.spaced.as_ref().is_some_and(|stem| is_below(stem, path));
        covers(target.matched())
            && target.others().iter().all(|other| covers(other) || is_meant(other))
    }

    /// Whether the raw path does, with no letter of the prefix encoded. A `+` may be: some clients encode what
    /// need not be.
    pub(super) fn covers_literally(&self, target: &Target<'_>) -> bool {
        match self.spaced {
            None => is_below(&self.sent, target.path()),
            Some(_) => {
                let path = target.path().replace("%2B", "+").replace("%2b", "+");
                is_below(&self.sent, &path)
            }
        }
    }
}

fn is_below(stem: &str, path: &str) -> bool {
    match path.as_bytes().split_at_checked(stem.len()) {
        Some((start, rest)) => {
            start.eq_ignore_ascii_case(stem.as_bytes()) && matches!(rest, [] | [b'/', ..])
        }
        None => false,
    }
}

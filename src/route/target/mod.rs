//! The one parse of a request target: what may be forwarded, and the form that routes are matched
//! against.
//!
//! It must not change the target: what was judged is byte for byte what the upstream gets. It
//! chooses no route.
//!
//! Upstreams normalise paths in many ways (decode once or twice, merge slashes, cut parameters,
//! fold case, strip trailing dots). The property that this module gives: when
//! 1. [`Target::parse`] accepts a target,
//! 2. the route is the one with the longest [`Prefix`] that [covers](Prefix::covers) it, and
//! 3. [`Target::permitted_by`] accepts it for that route,
//!
//! then every such form of the path, the raw one included, lies literally below that prefix and
//! below no longer one. Where upstreams make different paths of one (`+` is a space to some), each of
//! these is one of those forms; only the `+` of a route's own path is a `+` to all. A leniency keeps
//! that promise only if all routes below its own have the same rule, which the configuration has to
//! check.

mod canonical;
mod others;
mod prefix;
mod short;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use thiserror::Error;

use canonical::{Findings, Readings};
pub use prefix::Prefix;

/// A request target in origin-form (RFC 9112 3.2.1), parsed and not ambiguous beyond its flags.
#[derive(Clone, Debug)]
pub struct Target<'a> {
    raw: &'a str,
    path: &'a str,
    query: Option<&'a str>,
    /// `None`: the path is canonical but for ASCII case.
    readings: Option<Box<Readings>>,
    /// The path has `%2f` at some depth of decoding.
    pub encoded_slash: bool,
    /// The path has two slashes in a row at some depth of decoding.
    pub double_slash: bool,
    /// The path has `;` or `%3b` at some depth of decoding.
    pub params: bool,
}

/// What a route whose whole subtree has one rule may allow for its app.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leniency {
    /// Allow `%2f`, also when it is encoded again.
    pub encoded_slash: bool,
    /// Allow `//`.
    pub double_slash: bool,
    /// Allow `;` and `%3b`.
    pub params: bool,
}

/// Why a target is refused. Every one is answered with 400.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TargetError {
    /// The route depends on how the path is read: one reading lies in it, another does not.
    #[error(
        "the path can be read in two ways: write it in its plain form, without encoded letters"
    )]
    Ambiguous,
    /// `\` or `%5c` in the path.
    #[error("the path has a backslash: use `/`")]
    Backslash,
    /// A byte that must not stand raw in a target.
    #[error(
        "the target has a byte that must be percent-encoded (space, control, `#` or non-ASCII)"
    )]
    BadByte,
    /// `%` without two hexadecimal digits in the path.
    #[error("the path has `%` without two hexadecimal digits: write a percent sign as `%25`")]
    BadPercent,
    /// A control character in the decoded path.
    #[error("the path has an encoded control character: remove it")]
    Control,
    /// A path segment of only dots and spaces, with or without parameters.
    #[error("the path has a segment of only dots or spaces: send the path that is meant")]
    DotSegment,
    /// `//` where the route does not allow it.
    #[error(
        "the path has two slashes in a row: send one, or set `allow_double_slash` on the route"
    )]
    DoubleSlash,
    /// `%2f` where the route does not allow it.
    #[error("the path has an encoded slash: send `/`, or set `allow_encoded_slash` on the route")]
    EncodedSlash,
    /// The decoded path is not UTF-8.
    #[error("the decoded path is not UTF-8: percent-encode UTF-8 bytes")]
    NotUtf8,
    /// Not origin-form: the path does not start with `/`.
    #[error("the path does not start with `/`")]
    NotAPath,
    /// `;` where the route does not allow it.
    #[error("the path has `;` parameters: leave them out, or set `allow_params` on the route")]
    Params,
    /// The path is encoded again and again.
    #[error("the path is percent-encoded too many times: encode it once")]
    TooDeep,
}

impl TargetError {
    /// A stable kebab-case name for programs, logs and metrics.
    pub fn code(self) -> &'static str {
        match self {
            Self::Ambiguous => "path-ambiguous",
            Self::Backslash => "path-backslash",
            Self::BadByte => "target-byte",
            Self::BadPercent => "path-percent",
            Self::Control => "path-control",
            Self::DotSegment => "path-dot-segment",
            Self::DoubleSlash => "path-double-slash",
            Self::EncodedSlash => "path-encoded-slash",
            Self::NotUtf8 => "path-not-utf8",
            Self::NotAPath => "target-not-a-path",
            Self::Params => "path-params",
            Self::TooDeep => "path-too-deep",
        }
    }
}

impl<'a> Target<'a> {
    /// Parses path and query as they stand in the request. `*` (RFC 9112 3.2.4) and absolute-form
    /// have to be taken care of before.
    ///
    /// # Errors
    /// Whatever no route may allow; see [`TargetError`].
    pub fn parse(path_and_query: &'a str) -> Result<Self, TargetError> {
        if !path_and_query.starts_with('/') {
            return Err(TargetError::NotAPath);
        }
        let (path, query) = match path_and_query.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path_and_query, None),
        };
        if query.is_some_and(|query| query.bytes().any(|b| class(b) == Class::Bad)) {
            return Err(TargetError::BadByte);
        }
        let mut target = Self {
            raw: path_and_query,
            path,
            query,
            readings: None,
            encoded_slash: false,
            double_slash: false,
            params: false,
        };
        if !is_plain(path)? {
            let Findings { readings, encoded_slash, double_slash, params } = canonical::find(path)?;
            target.readings = Some(Box::new(readings));
            target.encoded_slash = encoded_slash;
            target.double_slash = double_slash;
            target.params = params;
        }
        Ok(target)
    }

    /// The target byte for byte: what is forwarded.
    pub fn raw(&self) -> &'a str {
        self.raw
    }

    /// The raw path.
    pub fn path(&self) -> &'a str {
        self.path
    }

    /// The raw query without its `?`.
    pub fn query(&self) -> Option<&'a str> {
        self.query
    }

    /// The path that routes are matched against: decoded until nothing is left to decode, without
    /// parameters, with single slashes, without names of NTFS streams, dots and white space at the end of segments, in
    /// lower case. Each segment ends at a decoded `?` or `#` too. It allocates only for a path with
    /// capitals; matching goes through [`Prefix::covers`], which never does.
    pub fn canonical(&self) -> Cow<'_, str> {
        match &self.readings {
            Some(readings) => Cow::Borrowed(&readings.path),
            None if self.path.bytes().any(|b| b.is_ascii_uppercase()) => {
                Cow::Owned(self.path.to_ascii_lowercase())
            }
            None => Cow::Borrowed(self.path),
        }
    }

    /// The canonical path but for ASCII case.
    pub(super) fn matched(&self) -> &str {
        self.readings.as_ref().map_or(self.path, |readings| &readings.path)
    }

    /// What others read, in canonical form.
    pub(super) fn others(&self) -> &[Box<str>] {
        self.readings.as_ref().map_or(&[], |readings| &readings.others)
    }

    /// Whether prefixes may cover it by short names of Windows.
    pub(super) fn has_short_names(&self) -> bool {
        self.readings.as_ref().is_some_and(|readings| readings.short_names)
    }

    /// Whether the route that was chosen for it, with this prefix, may take it.
    ///
    /// # Errors
    /// The first oddity that the route does not allow; [`TargetError::Ambiguous`] when the raw path
    /// does not lie below `prefix` as the canonical one does (`/%61dmin`, `//admin`, `/admin;x`), or
    /// what others read in it does not (`/(S(x))/admin`, `/my+files`, `/ADMINI~1`).
    pub fn permitted_by(&self, leniency: &Leniency, prefix: &Prefix) -> Result<(), TargetError> {
        if self.encoded_slash && !leniency.encoded_slash {
            return Err(TargetError::EncodedSlash);
        }
        if self.double_slash && !leniency.double_slash {
            return Err(TargetError::DoubleSlash);
        }
        if self.params && !leniency.params {
            return Err(TargetError::Params);
        }
        match prefix.covers_every_reading(self) && prefix.covers_literally(self) {
            true => Ok(()),
            false => Err(TargetError::Ambiguous),
        }
    }
}

/// True: the path is its own canonical form but for ASCII case, and all read the same in it.
fn is_plain(path: &str) -> Result<bool, TargetError> {
    let mut plain = true;
    let mut before = 0;
    for byte in path.bytes() {
        match class(byte) {
            Class::Plain => {}
            Class::Slash if matches!(before, b'/' | b'.') => plain = false,
            Class::Slash => {}
            // The type of an NTFS stream.
            Class::Dollar if before == b':' => plain = false,
            Class::Dollar => {}
            Class::Odd => plain = false,
            Class::Backslash => return Err(TargetError::Backslash),
            Class::Bad => return Err(TargetError::BadByte),
        }
        before = byte;
    }
    Ok(plain && before != b'.')
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Plain,
    Slash,
    Dollar,
    /// `%` and `;`, and what some read in another way: `+`, `(` and `~`. The slow path looks closer.
    Odd,
    Backslash,
    Bad,
}

fn class(byte: u8) -> Class {
    CLASSES.get(usize::from(byte)).copied().unwrap_or(Class::Bad)
}

#[expect(clippy::indexing_slicing, reason = "runs in the compiler, below 256")]
static CLASSES: [Class; 256] = {
    let mut classes = [Class::Bad; 256];
    let mut byte: u8 = 0x21;
    while byte < 0x7f {
        classes[byte as usize] = match byte {
            b'#' => Class::Bad,
            b'%' | b';' | b'+' | b'(' | b'~' => Class::Odd,
            b'$' => Class::Dollar,
            b'/' => Class::Slash,
            b'\\' => Class::Backslash,
            _ => Class::Plain,
        };
        byte += 1;
    }
    classes
};

//! The slow way to a canonical path, for paths with anything but plain characters.
//!
//! It must be the coarsest of all forms that an upstream may make of a path: two paths that some
//! upstream takes for the same have the same canonical form.

use icu_normalizer::{ComposingNormalizerBorrowed, DecomposingNormalizerBorrowed};

use super::{TargetError, others, short};

/// So many steps to the plain path are taken. Twice encoded happens by mistake; more is an attack.
const MAX_DEPTH: usize = 4;

/// What is known about a path that is not plain.
pub(super) struct Findings {
    /// The canonical path, and what others read.
    pub(super) readings: Readings,
    pub(super) encoded_slash: bool,
    pub(super) double_slash: bool,
    pub(super) params: bool,
}

/// What may be read in a path that is not plain.
#[derive(Clone, Debug)]
pub(super) struct Readings {
    /// The canonical path.
    pub(super) path: Box<str>,
    /// The canonical paths of those who read another one; see [`others`].
    pub(super) others: Vec<Box<str>>,
    /// Whether short names of Windows may occur in one of them.
    pub(super) short_names: bool,
}

pub(super) fn find(raw: &str) -> Result<Findings, TargetError> {
    check_percents(raw.as_bytes())?;
    let mut encoded_slash = false;
    let (decoded, others) = decode_all(raw, &mut encoded_slash)?;
    let path = canonical(&decoded)?;
    let mut read = Vec::with_capacity(others.len());
    for other in others {
        let other = canonical(&without_blanks(&other))?.into_boxed_str();
        if *other != *path && !read.contains(&other) {
            read.push(other);
        }
    }
    let short_names = short::occurs(&path) || read.iter().any(|other| short::occurs(other));
    Ok(Findings {
        readings: Readings { path: path.into_boxed_str(), others: read, short_names },
        encoded_slash,
        double_slash: decoded.contains("//"),
        params: decoded.contains(';'),
    })
}

/// The path with nothing left to decode, and what readings on the way make of it.
fn decode_all(raw: &str, encoded_slash: &mut bool) -> Result<(String, Vec<String>), TargetError> {
    let mut decoded = raw.to_owned();
    let mut others = Vec::new();
    for _ in 0..=MAX_DEPTH {
        others::spread(&decoded, &mut others)?;
        let mut is_plain = true;
        for text in others.iter_mut().chain([&mut decoded]) {
            if has_wide_code(text) {
                return Err(TargetError::BadPercent);
            }
            if let Some(once) = step(text, encoded_slash)? {
                (*text, is_plain) = (once, false);
            }
        }
        if is_plain {
            return Ok((decoded, others));
        }
        others.sort_unstable();
        others.dedup();
        others.retain(|other| *other != decoded);
    }
    Err(TargetError::TooDeep)
}

/// One step to the plain path. `None`: nothing is left to do.
fn step(text: &str, encoded_slash: &mut bool) -> Result<Option<String>, TargetError> {
    match decode(text, encoded_slash)? {
        Some(once) => Ok(Some(once)),
        // What a mapped character brings may be a code again.
        None => plainer(text, encoded_slash),
    }
}

/// `%u0061`, which IIS and old scripts decode. In the request itself it is no code at all.
fn has_wide_code(text: &str) -> bool {
    text.as_bytes().windows(6).any(|six| match six {
        [b'%', b'u' | b'U', digits @ ..] => digits.iter().all(u8::is_ascii_hexdigit),
        _ => false,
    })
}

fn canonical(decoded: &str) -> Result<String, TargetError> {
    let mut path = String::with_capacity(decoded.len());
    let mut ends_with_slash = false;
    for segment in decoded.split('/') {
        let name = strip(segment)?;
        ends_with_slash = name.is_empty();
        if !name.is_empty() {
            path.push('/');
            fold(name, &mut path);
        }
    }
    if ends_with_slash {
        path.push('/');
    }
    Ok(path)
}

/// Without segments of spaces only, which are refused where they are meant so: a lone `+` is in use (`/repo/+/x`),
/// and is nothing to who takes it for a space and trims it.
fn without_blanks(text: &str) -> String {
    let kept = text.split('/').map(|segment| match segment.chars().all(char::is_whitespace) {
        true => "",
        false => segment,
    });
    kept.collect::<Vec<_>>().join("/")
}

/// Every `%` of the request itself must be a code. Deeper down a `%` may be a mere percent sign.
fn check_percents(raw: &[u8]) -> Result<(), TargetError> {
    for (at, _) in raw.iter().enumerate().filter(|&(_, &b)| b == b'%') {
        match (raw.get(at + 1), raw.get(at + 2)) {
            (Some(high), Some(low)) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {}
            _ => return Err(TargetError::BadPercent),
        }
    }
    Ok(())
}

/// Decodes once. `None`: there is no code in it.
fn decode(path: &str, encoded_slash: &mut bool) -> Result<Option<String>, TargetError> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    let mut found = false;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let mut byte = byte;
        if let (b'%', Some((code, after))) = (byte, split_code(after)) {
            (byte, rest, found) = (code, after, true);
            *encoded_slash |= code == b'/';
            if code == b'\\' {
                return Err(TargetError::Backslash);
            }
        }
        bytes.push(byte);
    }
    if !found {
        return Ok(None);
    }
    // The standard library refuses overlong forms, surrogates and cut sequences.
    let decoded = String::from_utf8(bytes).map_err(|_| TargetError::NotUtf8)?;
    match decoded.chars().any(char::is_control) {
        true => Err(TargetError::Control),
        false => Ok(Some(decoded)),
    }
}

/// Whether the mapping to plain forms leaves a text as it is.
pub(super) fn is_in_plain_form(text: &str) -> bool {
    matches!(plainer(text, &mut false), Ok(None))
}

/// The path as those read it who map characters to their plain forms (NFKC: wide letters, ligatures, dot
/// leaders, an accent apart from its letter) and see no invisible ones, as some file systems and comparisons of
/// names do. `None`: that changes nothing.
fn plainer(path: &str, encoded_slash: &mut bool) -> Result<Option<String>, TargetError> {
    if path.is_ascii() {
        return Ok(None);
    }
    let visible = path.chars().filter(|c| !is_ignorable(*c));
    let mapped: String = ComposingNormalizerBorrowed::new_nfkc().normalize_iter(visible).collect();
    if mapped == path {
        return Ok(None);
    }
    if mapped.contains('\\') {
        return Err(TargetError::Backslash);
    }
    *encoded_slash |= mapped.matches('/').count() > path.matches('/').count();
    Ok(Some(mapped))
}

/// Unicode's `Default_Ignorable_Code_Point`.
fn is_ignorable(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}')
}

/// The byte that two hexadecimal digits stand for, and what follows them.
fn split_code(after_percent: &[u8]) -> Option<(u8, &[u8])> {
    let ([high, low], rest) = after_percent.split_first_chunk()?;
    let digit = |b: u8| char::from(b).to_digit(16);
    let code = (digit(*high)? << 4) | digit(*low)?;
    Some((u8::try_from(code).ok()?, rest))
}

/// A segment without parameters, decoded query or fragment, the name of an NTFS stream, and trailing dots and
/// white space. Most of that has become a space before; of the rest, controls are refused.
fn strip(segment: &str) -> Result<&str, TargetError> {
    let name = segment.split([';', '?', '#']).next().unwrap_or_default();
    // `admin::$INDEX_ALLOCATION` and `admin:$i30:$INDEX_ALLOCATION` are the folder `admin`: what follows the
    // first colon names a stream when it has a type, which begins with `$`.
    let file = match name.split_once(':') {
        Some((file, _)) if name.contains(":$") => file,
        _ => name,
    };
    let stripped = file.trim_end_matches(|c: char| c == '.' || c.is_whitespace());
    match stripped.is_empty() && !name.is_empty() {
        true => Err(TargetError::DotSegment),
        false => Ok(stripped),
    }
}

/// Appends in one form for all cases that a letter has: whatever lower, upper, title or folded case makes of a
/// character, alone or letter by letter, composed or not, is folded to the same.
///
/// Also without the dot of an `i` or `j` that has one of its own: `İ` is an `i` with a dot in whole mappings
/// and an `i` in those of one character to one (C, Go, Java).
pub(super) fn fold(name: &str, folded: &mut String) {
    if name.is_ascii() {
        folded.extend(name.bytes().map(|b| char::from(b.to_ascii_lowercase())));
        return;
    }
    let mut form = fold_once(name);
    for _ in 1..FOLDS {
        let again = fold_once(&form);
        if again == form {
            break;
        }
        form = again;
    }
    folded.push_str(&form);
}

/// After so many times nothing changes any more; the tests look at every character.
const FOLDS: usize = 4;

const DOT_ABOVE: char = '\u{307}';

fn fold_once(name: &str) -> String {
    let decompose = DecomposingNormalizerBorrowed::new_nfkd();
    // Decomposed first, because no letter with two marks has a capital of its own: that is put together anew.
    let letters = decompose.normalize_iter(name.chars());
    // Through upper case, because some characters meet only there (`ſ` and `s`, `ı` and `i`), and to lower
    // case before, because the capital sharp s is its own upper case.
    let lower = letters.flat_map(char::to_lowercase);
    let upper = lower.flat_map(char::to_uppercase);
    let cased = upper.flat_map(char::to_lowercase);
    let mut dotted = false;
    let bare = decompose.normalize_iter(cased).filter(move |&c| {
        match c {
            'i' | 'j' => dotted = true,
            DOT_ABOVE => return !dotted,
            // A mark between the letter and its dot: below or through the letter.
            '\u{300}'..='\u{36f}' => {}
            _ => dotted = false,
        }
        true
    });
    ComposingNormalizerBorrowed::new_nfkc().normalize_iter(bare).collect()
}

//! Short names, which Windows gives to files and folders with longer ones: `ADMINI~1` is `administrator`.
//!
//! Which number a name has depends on what else is in the folder: any may be meant.

/// Whether a segment of `path` may be a short name.
pub(super) fn occurs(path: &str) -> bool {
    path.contains('~') && path.split('/').any(|segment| Short::read(segment).is_some())
}

/// Whether `path` is `stem` or lies below it where short names stand for long ones. Both are canonical.
pub(super) fn is_below(stem: &str, path: &str) -> bool {
    let mut segments = path.split('/');
    stem.split('/').all(|long| {
        let segment = segments.next();
        segment.is_some_and(|segment| {
            segment == long || Short::read(segment).is_some_and(|short| short.stands_for(long))
        })
    })
}

/// `start~number.extension`
struct Short<'a> {
    start: &'a str,
    extension: &'a str,
}

impl<'a> Short<'a> {
    fn read(segment: &'a str) -> Option<Self> {
        let (name, extension) = segment.split_once('.').unwrap_or((segment, ""));
        let (start, number) = name.rsplit_once('~')?;
        let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        let fits = name.chars().count() <= BASE && extension.chars().count() <= EXTENSION;
        (is_number && fits && !start.is_empty()).then_some(Self { start, extension })
    }

    fn stands_for(&self, long: &str) -> bool {
        let Some((base, extension)) = shortened(long) else { return false };
        extension == self.extension && (base.starts_with(self.start) || self.is_hash_of(&base))
    }

    /// From the fifth of one kind on: the first one or two letters and four digits of a hash.
    fn is_hash_of(&self, base: &str) -> bool {
        let at = self.start.len().saturating_sub(4);
        let Some((letters, hash)) = self.start.split_at_checked(at) else { return false };
        matches!(letters.chars().count(), 1 | 2)
            && base.starts_with(letters)
            && hash.bytes().all(|b| b.is_ascii_hexdigit())
    }
}

/// So many characters fit before the dot of a short name and behind it.
const BASE: usize = 8;
const EXTENSION: usize = 3;

/// The characters that a short name is made of. `None`: the name is short enough to have no other.
fn shortened(long: &str) -> Option<(String, String)> {
    let name = long.trim_start_matches(['.', ' ']);
    let (base, extension) = name.rsplit_once('.').unwrap_or((name, ""));
    let plain = |part: &str| -> String {
        let kept = part.chars().filter(|c| !matches!(c, '.' | ' '));
        kept.map(|c| if "+,;=[]".contains(c) { '_' } else { c }).collect()
    };
    let (short_base, short_extension) = (plain(base), plain(extension));
    let is_short = name == long
        && (short_base.as_str(), short_extension.as_str()) == (base, extension)
        && base.chars().count() <= BASE
        && extension.chars().count() <= EXTENSION
        && long.is_ascii();
    let cut = short_extension.chars().take(EXTENSION).collect();
    (!is_short).then_some((short_base, cut))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_name_stands_for_its_long_one() {
        for (stem, path) in [
            ("/administrator", "/admini~1"),
            ("/administrator", "/admini~1/x"),
            ("/administrator", "/admin~12/x"),
            ("/administrator", "/ad3f2c~1"),
            ("/my files", "/myfile~1/x"),
            ("/a+b", "/a_b~1"),
            ("/app/administrator", "/app/admini~2/x"),
            ("/long folder/administrator", "/longfo~1/admini~2/x"),
            ("/web.config", "/web~1.con"),
            ("/.well-known", "/well-k~1"),
            ("/a.b.c", "/ab~1.c"),
        ] {
            assert!(is_below(stem, path) && occurs(path), "{stem} {path}");
        }
        for (stem, path) in [
            ("/administrator", "/file~1"),
            ("/administrator", "/admini~1.x"),
            ("/administrator", "/x/admini~1"),
            ("/administrator", "/administ~1"),
            ("/administrator", "/admini~x"),
            ("/app/administrator", "/app"),
            ("/admin", "/admin~1"),
            ("/files", "/file~1"),
            ("/user", "/~user"),
            ("/1", "/~1"),
        ] {
            assert!(!is_below(stem, path), "{stem} {path}");
        }
        for path in ["/", "/~user/x", "/a~", "/a~b", "/~1", "/a-long-name~1", "/a~1.html"] {
            assert!(!occurs(path), "{path}");
        }
    }
}

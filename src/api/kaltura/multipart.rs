//! The fields of a small `multipart/form-data` body (RFC 7578) that is there as a whole. Files are
//! skipped.

use memchr::memmem;

/// Most parts that are looked at.
const PARTS: usize = 256;
/// Longest boundary (RFC 2046 section 5.1.1).
const BOUNDARY: usize = 70;

/// The boundary that a Content-Type names, once and without a letter at which other readers end it.
pub(super) fn boundary(content_type: &str) -> Option<&str> {
    let lower = content_type.to_ascii_lowercase();
    if memmem::find_iter(lower.as_bytes(), b"boundary").count() != 1 {
        return None;
    }
    let value = content_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.trim().split_once('=')?;
        name.eq_ignore_ascii_case("boundary").then_some(value)
    })?;
    let value = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value);
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_-./:=?".contains(&byte);
    ((1..=BOUNDARY).contains(&value.len()) && value.bytes().all(is_plain)).then_some(value)
}

/// Names and contents of the fields; `None` when the body is no such form, or one that readers part in different ways:
/// with text before or behind it, or with lines that end in LF alone.
pub(super) fn fields<'a>(body: &'a [u8], boundary: &str) -> Option<Vec<(String, &'a [u8])>> {
    let first = format!("--{boundary}");
    let next = format!("\r\n{first}");
    let line = format!("\n{first}");
    let has_return =
        |at: usize| at.checked_sub(1).and_then(|before| body.get(before)) == Some(&b'\r');
    if !memmem::find_iter(body, line.as_bytes()).all(has_return) {
        return None;
    }
    let mut rest = body.strip_prefix(first.as_bytes())?;
    let mut fields = Vec::new();
    for _ in 0..PARTS {
        if let Some(end) = rest.strip_prefix(b"--") {
            return (end.is_empty() || end == b"\r\n").then_some(fields);
        }
        rest = rest.strip_prefix(b"\r\n")?;
        let end = memmem::find(rest, next.as_bytes())?;
        let (part, behind) = rest.split_at_checked(end)?;
        let at = memmem::find(part, b"\r\n\r\n")?;
        let (head, content) = (part.get(..at)?, part.get(at + 4..)?);
        let Part { name, is_file } = Part::read(str::from_utf8(head).ok()?)?;
        if !is_file {
            fields.push((name, content));
        }
        rest = behind.get(next.len()..)?;
    }
    None
}

/// What the head of a part says.
struct Part {
    name: String,
    is_file: bool,
}

impl Part {
    /// Strict: readers differ in what they make of folded lines, blanks, other quotes and other parameters.
    fn read(head: &str) -> Option<Self> {
        let mut found = None;
        for line in head.split("\r\n") {
            let (name, value) = line.split_once(':')?;
            let is_token = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            let is_name = !name.is_empty() && name.bytes().all(is_token);
            if !is_name || value.contains(|letter: char| letter.is_control()) {
                return None;
            }
            if name.eq_ignore_ascii_case("content-disposition")
                && found.replace(Self::disposition(value)?).is_some()
            {
                return None;
            }
        }
        found
    }

    fn disposition(value: &str) -> Option<Self> {
        let mut rest = value.trim_start().strip_prefix("form-data")?;
        let (mut name, mut is_file) = (None, false);
        while !rest.is_empty() {
            let (key, behind) = rest.strip_prefix(';')?.trim_start().split_once('=')?;
            let (text, behind) = match behind.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => behind.split_at(behind.find(';').unwrap_or(behind.len())),
            };
            // An escaped quote would end it elsewhere.
            let is_odd = |letter: char| matches!(letter, '\\' | '"' | '\'');
            let is_plain = !text.ends_with('\\') && !text.starts_with(is_odd);
            match key {
                "name" if name.is_none() && is_plain && !text.contains([';', '\\']) => {
                    name = Some(text.to_owned());
                }
                "filename" if !is_file && is_plain => is_file = true,
                _ => return None,
            }
            rest = behind;
        }
        Some(Self { name: name?, is_file })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn form(parts: &[(&str, &str)]) -> String {
        let mut body = String::new();
        for (head, content) in parts {
            body.push_str(&format!("--XX\r\n{head}\r\n\r\n{content}\r\n"));
        }
        body + "--XX--\r\n"
    }

    fn read(body: &str) -> Option<Vec<(String, String)>> {
        let text = |bytes: &[u8]| str::from_utf8(bytes).unwrap().to_owned();
        let all = fields(body.as_bytes(), "XX")?;
        Some(all.into_iter().map(|(name, content)| (name, text(content))).collect())
    }

    #[test]
    fn fields_are_read_and_files_skipped() {
        let body = form(&[
            ("Content-Disposition: form-data; name=\"json\"", "{\"a\":\"\r\n-\"}"),
            (
                "content-disposition: form-data; name=\"f\"; filename=\"a;b\"\r\nContent-Type: x/y",
                "1",
            ),
            ("Content-Disposition: form-data; name=plain", "--X"),
        ]);
        let own = |name: &str, content: &str| (name.to_owned(), content.to_owned());
        assert_eq!(read(&body).unwrap(), [own("json", "{\"a\":\"\r\n-\"}"), own("plain", "--X")]);
        assert_eq!(read("--XX--").unwrap(), []);
    }

    /// Each was read in another way by PHP.
    #[test]
    fn what_readers_differ_in_is_refused() {
        let good = form(&[("Content-Disposition: form-data; name=\"a\"", "1")]);
        assert!(read(&good).is_some());
        for head in [
            "Content-Disposition: form-data; name=\"a\";",
            "Content-Disposition: form-data; name=\"a\"; foo",
            "Content-Disposition: form-data; name=\"a\"b",
            "Content-Disposition: form-data; name='a'",
            "Content-Disposition: form-data; name = \"a\"",
            "Content-Disposition: form-data; name=\"a\"; name=\"b\"",
            "Content-Disposition: form-data; name=\"a\\\"b\"",
            "Content-Disposition: form-data; name=a\tx",
            "Content-Disposition: form-data; name=\"a\"; filename*=utf-8''b",
            "Content-Disposition: form-data; name=\"a\"; filename =\"b\"",
            "Content-Disposition : form-data; name=\"a\"",
            "Content-Disposition: form-data;\r\n name=\"a\"",
            "Content-Disposition: form-data; name=\"a\"\nX: y",
            "Content-Disposition: form-data; name=\"a\"\r\nContent-Disposition: form-data; name=\"b\"",
            "Content-Disposition: attachment; name=\"a\"",
            "Content-Type: text/plain",
        ] {
            assert_eq!(read(&form(&[(head, "1")])), None, "{head}");
        }
        for (from, to) in [
            ("--XX\r\nC", "x\r\n--XX\r\nC"),
            ("--XX--\r\n", "--XX--\r\nx"),
            ("--XX\r\nC", "--XX \r\nC"),
            ("\r\n--XX--", "\n--XX--"),
            ("1", "1\n--XX\r\n"),
        ] {
            assert_eq!(read(&good.replacen(from, to, 1)), None, "{to:?}");
        }
    }

    #[test]
    fn what_breaks_off_is_refused() {
        let body = form(&[("Content-Disposition: form-data; name=a", "1")]);
        for end in 0..body.len() - 4 {
            assert_eq!(read(body.split_at(end).0), None, "{end}");
        }
        assert_eq!(read(&form(&[("", "1"); PARTS])), None);
        assert_eq!(read(""), None);
    }

    #[test]
    fn boundaries_are_found() {
        for (text, found) in [
            ("multipart/form-data; boundary=XX", Some("XX")),
            ("multipart/form-data; charset=utf-8; Boundary=\"X_X\"", Some("X_X")),
            ("multipart/form-data; boundary=\"X X\"", None),
            ("multipart/form-data; boundary=X,Y", None),
            ("multipart/form-data; xboundary=Y; boundary=X", None),
            ("multipart/form-data", None),
            ("multipart/form-data; boundary=", None),
            ("multipart/form-data; boundary=\"\"", None),
        ] {
            assert_eq!(boundary(text), found, "{text}");
        }
        assert_eq!(boundary(&format!("m; boundary={}", "a".repeat(71))), None);
    }

    proptest! {
        #[test]
        fn contents_come_back(contents in prop::collection::vec("[-X\r\na]{0,12}", 0..4)) {
            // What stands behind an end of line would be a boundary.
            prop_assume!(contents.iter().all(|text| !format!("\r\n{text}").contains("\n--XX")));
            prop_assume!(contents.iter().all(|text| !text.ends_with("\n--X")));
            let head = "Content-Disposition: form-data; name=a";
            let parts: Vec<_> = contents.iter().map(|text| (head, text.as_str())).collect();
            let all: Vec<_> =
                read(&form(&parts)).unwrap().into_iter().map(|(_, content)| content).collect();
            prop_assert_eq!(all, contents);
        }

        #[test]
        fn nothing_panics(body in "([-X\r\n:;=\"a]|name|Content-Disposition){0,40}") {
            let _ = (read(&body), boundary(&body));
        }
    }
}

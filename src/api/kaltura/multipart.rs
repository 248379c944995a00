//! The fields of a small `multipart/form-data` body (RFC 7578) that is there as a whole. Files are
//! skipped.

use memchr::memmem;

/// Most parts that are looked at.
const PARTS: usize = 256;
/// Longest boundary (RFC 2046 section 5.1.1).
const BOUNDARY: usize = 70;

/// The boundary that a Content-Type names.
pub(super) fn boundary(content_type: &str) -> Option<&str> {
    let value = content_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.trim().split_once('=')?;
        name.eq_ignore_ascii_case("boundary").then_some(value)
    })?;
    let value = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value);
    (!value.is_empty() && value.len() <= BOUNDARY).then_some(value)
}

/// Names and contents of the fields; `None` when the body is no such form.
pub(super) fn fields<'a>(body: &'a [u8], boundary: &str) -> Option<Vec<(String, &'a [u8])>> {
    let first = format!("--{boundary}");
    let next = format!("\r\n{first}");
    // What comes before the first boundary counts for nothing.
    let start = match body.starts_with(first.as_bytes()) {
        true => first.len(),
        false => memmem::find(body, next.as_bytes())? + next.len(),
    };
    let mut rest = body.get(start..)?;
    let mut fields = Vec::new();
    for _ in 0..PARTS {
        if rest.starts_with(b"--") {
            return Some(fields);
        }
        // Blanks may follow a boundary.
        let blanks = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        rest = rest.get(blanks..)?.strip_prefix(b"\r\n")?;
        let end = memmem::find(rest, next.as_bytes())?;
        let (part, behind) = rest.split_at_checked(end)?;
        // A part without headers begins with the empty line.
        let (head, content) = match part.strip_prefix(b"\r\n") {
            Some(content) => (&b""[..], content),
            None => {
                let at = memmem::find(part, b"\r\n\r\n")?;
                (part.get(..at)?, part.get(at + 4..)?)
            }
        };
        if let Some(name) = field_name(str::from_utf8(head).ok()?) {
            fields.push((name, content));
        }
        rest = behind.get(next.len()..)?;
    }
    None
}

/// The name of a part that is no file.
fn field_name(head: &str) -> Option<String> {
    let disposition = head.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("content-disposition").then_some(value)
    })?;
    let mut name = None;
    for parameter in parameters(disposition) {
        let (key, value) = parameter.trim().split_once('=')?;
        match key.trim().to_ascii_lowercase().as_str() {
            "name" => name = Some(unquoted(value.trim())),
            "filename" | "filename*" => return None,
            _ => {}
        }
    }
    name
}

/// The parameters behind the first semicolon; those inside quotes part nothing.
fn parameters(text: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    let parts = text.split(move |letter| {
        let plain = !escaped;
        escaped = quoted && plain && letter == '\\';
        quoted ^= letter == '"' && plain;
        letter == ';' && !quoted
    });
    parts.skip(1)
}

fn unquoted(value: &str) -> String {
    match value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inside) => inside.replace("\\\"", "\"").replace("%22", "\""),
        None => value.to_owned(),
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
            ("Content-Disposition: form-data; name=\"a;b=\\\"c\"", ""),
            ("Content-Disposition: form-data; name=plain", "--X"),
            ("Content-Type: text/plain", "no name"),
        ]);
        let own = |name: &str, content: &str| (name.to_owned(), content.to_owned());
        assert_eq!(
            read(&body).unwrap(),
            [own("json", "{\"a\":\"\r\n-\"}"), own("a;b=\"c", ""), own("plain", "--X")]
        );
        assert_eq!(read(&format!("preamble\r\n{body}epilogue")).unwrap().len(), 3);
        assert_eq!(read("--XX--").unwrap(), []);
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
            ("multipart/form-data; charset=utf-8; Boundary=\"X X\"", Some("X X")),
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
            prop_assume!(contents.iter().all(|text| !format!("\r\n{text}").contains("\r\n--XX")));
            prop_assume!(contents.iter().all(|text| !text.ends_with("\r\n--X")));
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

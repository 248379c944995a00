//! One JSON object, written into a buffer without allocating.
//!
//! Keys are text of the program and are not escaped; values are.

use std::fmt;
use std::io::Write;

/// A key as it stands in an object: behind a comma, and with the quote of its text.
macro_rules! key {
    ($name:literal) => {
        $crate::log::json::Key(concat!(",\"", $name, "\":"))
    };
}
pub(super) use key;

/// Made by [`key`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Key(pub(super) &'static str);

/// Members of objects, ready to be copied.
#[derive(Clone, Debug, Default)]
pub(super) struct Members(Vec<u8>);

impl Members {
    /// Texts that are the same in many objects.
    pub(super) fn new<const N: usize>(texts: [(Key, &str); N]) -> Self {
        let mut out = Vec::new();
        let mut object = Object::open(&mut out);
        texts.into_iter().for_each(|(key, value)| object.text(key, value));
        Self(out)
    }
}

/// An object that is open until [`Object::close`].
#[derive(Debug)]
pub(super) struct Object<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> Object<'a> {
    pub(super) fn open(out: &'a mut Vec<u8>) -> Self {
        let start = out.len();
        Self { out, start }
    }

    pub(super) fn text(&mut self, Key(key): Key, value: &str) {
        self.out.extend_from_slice(key.as_bytes());
        self.out.push(b'"');
        escape(self.out, value);
        self.out.push(b'"');
    }

    /// A text of the program, which has nothing to escape.
    pub(super) fn fixed(&mut self, Key(key): Key, value: &'static str) {
        debug_assert!(is_plain(value), "{value:?}");
        self.out.extend_from_slice(key.as_bytes());
        self.out.push(b'"');
        self.out.extend_from_slice(value.as_bytes());
        self.out.push(b'"');
    }

    /// Members that were written once for many objects.
    pub(super) fn ready(&mut self, members: &Members) {
        self.out.extend_from_slice(&members.0);
    }

    pub(super) fn text_if(&mut self, key: Key, value: Option<&str>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    pub(super) fn number(&mut self, Key(key): Key, value: u64) {
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    pub(super) fn number_if(&mut self, key: Key, value: Option<u64>) {
        if let Some(value) = value {
            self.number(key, value);
        }
    }

    pub(super) fn close(self) {
        match self.out.get_mut(self.start) {
            // The comma before the first key.
            Some(first) => *first = b'{',
            None => self.out.push(b'{'),
        }
        self.out.push(b'}');
    }
}

/// Whether every byte is ASCII that stands for itself: neither a control character nor `"` nor `\\`. Looks at
/// eight bytes at a time: most texts are short, and have nothing to escape.
fn is_plain(text: &str) -> bool {
    let (words, rest) = text.as_bytes().as_chunks();
    let mut last = [b' '; 8];
    last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    words.iter().chain([&last]).all(|word| is_plain_word(u64::from_le_bytes(*word)))
}

/// The same for the bytes of a word. What sets the highest bit of a byte below: the byte is under 0x20 (when
/// it is ASCII), or is 0 once it is compared with another by XOR; a borrow from the byte before it can only
/// add to what is found, never hide it.
fn is_plain_word(word: u64) -> bool {
    const ONES: u64 = u64::MAX / 0xff;
    let is = |byte: u8| (word ^ (ONES * u64::from(byte))).wrapping_sub(ONES);
    let below = word.wrapping_sub(ONES * 0x20);
    (word | below | is(b'"') | is(b'\\') | is(0x7f)) & (ONES * 0x80) == 0
}

/// Escapes what JSON asks for, and beyond it what could move a terminal's cursor, reorder the text
/// on a screen, or pass for the end of a line.
fn escape(out: &mut Vec<u8>, text: &str) {
    if is_plain(text) {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    for c in text.chars() {
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            _ if is_deceptive(c) => {
                let _ = write!(out, "{}", Code(c));
            }
            _ => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// Escapes what deceives in `json`, whose texts alone may hold it.
pub fn escape_deceptive(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match is_deceptive(c) {
            true => out.push_str(&Code(c).to_string()),
            false => out.push(c),
        }
    }
    out
}

/// A character by its number, as JSON may have it.
struct Code(char);

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut units = [0; 2];
        self.0.encode_utf16(&mut units).iter().try_for_each(|unit| write!(f, "\\u{unit:04x}"))
    }
}

/// Whether a character may deceive who reads a screen: controls (C0, DEL, C1), separators of lines and paragraphs,
/// marks that change the direction of text, and others that are not seen.
pub fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_and_number_come_back(text in any::<String>(), value in any::<u64>()) {
            let mut out = Vec::new();
            let mut object = Object::open(&mut out);
            object.text(key!("t"), &text);
            object.number(key!("n"), value);
            object.close();
            let read: serde_json::Value = serde_json::from_slice(&out).unwrap();
            prop_assert_eq!(read, serde_json::json!({ "t": text, "n": value }));
        }

        #[test]
        fn plain_texts_are_told_apart(text in "[ !\"#\\[\\\\\\]~\\x00\\x1f\\x7f\u{80}a-z]{0,20}") {
            let odd = |byte: u8| !matches!(byte, b' '..=b'~') || byte == b'"' || byte == b'\\';
            prop_assert_eq!(is_plain(&text), !text.bytes().any(odd), "{:?}", text);
        }

        #[test]
        fn plain_and_special_characters_mix(text in "[ -~\\x00-\\x1f\\x7f-\\x{9f}\\x{2028}é\"\\\\]*") {
            let mut out = Vec::new();
            escape(&mut out, &text);
            let line = String::from_utf8(out).unwrap();
            prop_assert!(!line.chars().any(is_deceptive), "{line:?}");
            let read: String = serde_json::from_str(&format!("\"{line}\"")).unwrap();
            prop_assert_eq!(read, text);
        }
    }

    #[test]
    fn an_object_may_be_empty_and_absent_values_leave_no_trace() {
        let mut out = Vec::new();
        let mut object = Object::open(&mut out);
        object.text_if(key!("a"), None);
        object.number_if(key!("b"), None);
        object.close();
        assert_eq!(out, b"{}");
    }
}

//! Rust source as text: comments, literals and test items taken out, so that what is left can be
//! searched. It knows just enough of the grammar for that.

/// Each line with the number of inline modules that are open where it begins.
pub(crate) fn lines_with_depth(code: &str) -> Vec<(usize, &str, usize)> {
    let mut open: Vec<usize> = Vec::new();
    let mut braces = 0_usize;
    let mut lines = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let trimmed = line.trim_start();
        if trimmed.contains("mod ") && trimmed.contains('{') && !trimmed.starts_with("use ") {
            open.push(braces);
        }
        lines.push((number + 1, line, open.len()));
        for c in line.chars() {
            match c {
                '{' => braces += 1,
                '}' => {
                    braces = braces.saturating_sub(1);
                    if open.last() == Some(&braces) {
                        open.pop();
                    }
                }
                _ => {}
            }
        }
    }
    lines
}

/// The text with comments and the insides of literals as spaces; lines stay where they are.
pub(crate) fn code(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let skip = literal(bytes, at);
        if skip == 0 {
            out.push(bytes[at]);
            at += 1;
        } else {
            out.extend(bytes[at..at + skip].iter().map(|&b| if b == b'\n' { b } else { b' ' }));
            at += skip;
        }
    }
    String::from_utf8(out).unwrap()
}

/// The length of the comment, string or character that begins at `at`; 0 when none does.
fn literal(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let until = |end: &[u8], from: usize| {
        let found = rest[from..].windows(end.len()).position(|window| window == end);
        found.map_or(rest.len(), |position| from + position + end.len())
    };
    let word_before = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    match rest {
        [b'/', b'/', ..] => until(b"\n", 2) - usize::from(rest.contains(&b'\n')),
        [b'/', b'*', ..] => block_comment(rest),
        [b'"', ..] => quoted(rest, 1),
        [b'b', b'"', ..] if !word_before => quoted(rest, 2),
        [b'r', b'"' | b'#', ..] | [b'b', b'r', b'"' | b'#', ..] if !word_before => {
            let start = rest.iter().position(|&b| b == b'r').unwrap() + 1;
            let hashes = rest[start..].iter().take_while(|&&b| b == b'#').count();
            if rest.get(start + hashes) != Some(&b'"') {
                return 0;
            }
            let end = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
            until(&end, start + hashes + 1)
        }
        // A character, not a lifetime.
        [b'\'', b'\\', ..] => until(b"'", 3),
        [b'\'', ..] => {
            let text = std::str::from_utf8(&rest[1..rest.len().min(6)]);
            let valid = text.map_or_else(|error| error.valid_up_to(), str::len);
            let first = std::str::from_utf8(&rest[1..=valid]).unwrap().chars().next();
            let size = first.map_or(0, char::len_utf8);
            if size > 0 && rest.get(1 + size) == Some(&b'\'') { size + 2 } else { 0 }
        }
        _ => 0,
    }
}

fn quoted(rest: &[u8], mut at: usize) -> usize {
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

fn block_comment(rest: &[u8]) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at + 1 < rest.len() {
        match &rest[at..at + 2] {
            b"/*" => {
                depth += 1;
                at += 2;
            }
            b"*/" => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    rest.len()
}

/// The code with every item under `#[cfg(test)]` as spaces. `code` holds no literals any more.
pub(crate) fn without_tests(code: &str) -> String {
    let mut out = code.to_owned();
    while let Some(start) = out.find("#[cfg(test)]") {
        let end = item_end(&out, start);
        let blank: String =
            out[start..end].chars().map(|c| if c == '\n' { c } else { ' ' }).collect();
        out.replace_range(start..end, &blank);
    }
    out
}

/// Where the item ends whose attributes begin at `start`.
fn item_end(code: &str, start: usize) -> usize {
    let mut braces = 0;
    let mut brackets = 0;
    for (at, c) in code[start..].char_indices() {
        match c {
            '[' | '(' => brackets += 1,
            ']' | ')' => brackets -= 1,
            '{' => braces += 1,
            '}' => {
                braces -= 1;
                if braces == 0 {
                    return start + at + 1;
                }
            }
            ';' if braces == 0 && brackets == 0 => return start + at + 1,
            _ => {}
        }
    }
    code.len()
}

/// How many lines of the file stand in items under `#[cfg(test)]`.
pub(crate) fn test_lines(text: &str) -> usize {
    let mut code = code(text);
    let mut lines = 0;
    while let Some(start) = code.find("#[cfg(test)]") {
        let end = item_end(&code, start);
        lines += code[start..end].lines().count();
        code.replace_range(start..end, "");
    }
    lines
}

#[test]
fn literals_and_tests_are_not_code() {
    assert_eq!(code("a \"b\\\" // c\" d"), "a            d");
    assert_eq!(code("a // b\nc"), "a     \nc");
    assert_eq!(code("a /* b /* c */ */ d"), "a                 d");
    assert_eq!(code("r#\"a\"b\"# c"), "         c");
    assert_eq!(code("'\"' 'a &'b c '\\'' d"), "    'a &'b c      d");
    assert_eq!(code("'ä' x"), "     x");
    let text = "a\n#[cfg(test)]\n#[allow(x(y))]\nmod tests {\n fn f() {}\n}\nb\n";
    assert_eq!(test_lines(text), 5);
    assert_eq!(without_tests(text).split_whitespace().collect::<String>(), "ab");
}

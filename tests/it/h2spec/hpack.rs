//! Compressed heads (RFC 7541).

use super::case::{COMPRESSION_ERROR, Case, Kit, Want, case, whole};

/// `x-test` and `test` in Huffman code, with their lengths.
const X_TEST: &[u8] = &[0x85, 0xf2, 0xb2, 0x4a, 0x84, 0xff];
const TEST: &[u8] = &[0x83, 0x49, 0x50, 0x9f];

/// A literal field: `first` says how it is indexed, `known` whether its name is that of entry 58 (user-agent).
pub(super) fn fields(first: u8, known: bool, huffman: bool) -> Vec<u8> {
    let plain = |text: &str| [&[text.len() as u8][..], text.as_bytes()].concat();
    let name = match (known, first) {
        // Six bits hold the index, four do not.
        (true, 0x40) => vec![0x40 | 58],
        (true, _) => vec![first | 15, 58 - 15],
        (false, _) if huffman => [&[first][..], X_TEST].concat(),
        (false, _) => [vec![first], plain("x-test")].concat(),
    };
    [name, if huffman { TEST.to_vec() } else { plain("test") }].concat()
}

pub(super) fn cases(kit: &Kit) -> Vec<Case> {
    let wrong = |number, what, block: Vec<u8>| {
        case(number, what, &[whole(1, &block)], Want::Connection(&[COMPRESSION_ERROR]))
    };
    let behind = |more: &[u8]| [&kit.get(), more].concat();
    let literal = |value: &[u8]| behind(&[&[0x00], X_TEST, value].concat());
    // 4097 in five bits and more, one above the size that holds without a setting.
    let large = [&[0x3f, 0xe2, 0x1f][..], &kit.get()].concat();
    vec![
        wrong("hpack/2.3.3/1", "an index beyond both tables", behind(&[0xfe])),
        wrong("hpack/4.2/1", "size of the table behind a field", behind(&[0x21])),
        wrong(
            "hpack/5.2/1",
            "a byte of padding too much",
            literal(&[0x84, 0x49, 0x50, 0x9f, 0xff]),
        ),
        wrong("hpack/5.2/2", "padding of zeros", literal(&[0x83, 0x49, 0x50, 0x90])),
        wrong(
            "hpack/5.2/3",
            "the end of a string within it",
            literal(&[0x87, 0xff, 0xff, 0xff, 0xfd, 0x25, 0x42, 0x7f]),
        ),
        wrong("hpack/6.1/1", "index 0", behind(&[0x80])),
        wrong("hpack/6.3/1", "a table larger than allowed", large),
    ]
}

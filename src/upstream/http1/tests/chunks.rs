//! The chunked coding: every cutting gives the same body, and a second reader agrees.

use bytes::Bytes;
use proptest::prelude::*;

use super::super::chunked::{Chunked, Step};

/// What became of an input.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The body ended; so many trailer fields, and this behind it.
    Whole(usize, Vec<u8>),
    /// More bytes are needed.
    Open,
    Broken,
}

/// Decodes `bytes` in pieces that end at `cuts`.
fn decode(bytes: &[u8], cuts: &[usize]) -> (Vec<u8>, End) {
    let (mut chunked, mut data, mut start) = (Chunked::new(), Vec::new(), 0);
    for &cut in cuts.iter().chain([&bytes.len()]) {
        let mut piece = Bytes::copy_from_slice(&bytes[start..cut]);
        start = cut;
        loop {
            match chunked.advance(&mut piece) {
                Ok(Step::Data(some)) => {
                    assert!(!some.is_empty());
                    data.extend_from_slice(&some);
                }
                Ok(Step::End(trailers)) => {
                    let fields = trailers.map_or(0, |fields| fields.len());
                    return (data, End::Whole(fields, [&piece, &bytes[start..]].concat()));
                }
                Ok(Step::More) => {
                    assert!(piece.is_empty(), "bytes are left although more are needed");
                    break;
                }
                Err(_) => return (data, End::Broken),
            }
        }
    }
    (data, End::Open)
}

/// The same by the grammar of RFC 9112 section 7.1 over the whole input, at most 15 digits a size behind
/// its zeros.
fn model(bytes: &[u8]) -> (Vec<u8>, End) {
    let (mut data, mut rest) = (Vec::new(), bytes);
    loop {
        let digits = rest.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let (number, behind) = rest.split_at(digits);
        let zeros = number.iter().take_while(|digit| **digit == b'0').count();
        if digits - zeros > 15 || digits == 0 && !behind.is_empty() {
            return (data, End::Broken);
        }
        let gap = behind.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        let behind = &behind[gap..];
        let line = match behind.first() {
            None => return (data, End::Open),
            Some(b'\r') => behind,
            Some(b';') => {
                let end = behind.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
                let Some(end) = end else { return (data, End::Open) };
                &behind[end..]
            }
            Some(_) => return (data, End::Broken),
        };
        rest = match line {
            [b'\r', b'\n', rest @ ..] => rest,
            [b'\r'] => return (data, End::Open),
            _ => return (data, End::Broken),
        };
        let size = usize::from_str_radix(str::from_utf8(number).unwrap(), 16).unwrap();
        if size == 0 {
            let end = trailers(rest);
            return (data, end);
        }
        let some = size.min(rest.len());
        data.extend_from_slice(&rest[..some]);
        rest = match &rest[some..] {
            [b'\r', b'\n', rest @ ..] => rest,
            [] | [b'\r'] => return (data, End::Open),
            _ => return (data, End::Broken),
        };
    }
}

fn trailers(section: &[u8]) -> End {
    if let Some(rest) = section.strip_prefix(b"\r\n") {
        return End::Whole(0, rest.to_vec());
    }
    let Some(end) = section.windows(3).position(|three| three == b"\n\r\n") else {
        return End::Open;
    };
    let (mut fields, mut count) = (&section[..=end], 0);
    while let Some(at) = fields.iter().position(|byte| *byte == b'\n') {
        let line = fields[..at].strip_suffix(b"\r").unwrap_or(&fields[..at]);
        fields = &fields[at + 1..];
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { return End::Broken };
        let (name, value) = line.split_at(colon);
        let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
        let text = |byte: &u8| !byte.is_ascii_control() || *byte == b'\t';
        if name.is_empty() || !name.iter().all(token) || !value.iter().all(text) {
            return End::Broken;
        }
        count += 1;
    }
    End::Whole(count, section[end + 3..].to_vec())
}

/// `data` in chunks of the given sizes, with what else may stand there.
fn coded(data: &[u8], sizes: &[usize], extension: &str, trailers: &str) -> Vec<u8> {
    let (mut bytes, mut rest, mut sizes) = (Vec::new(), data, sizes.iter().cycle());
    while !rest.is_empty() {
        let size = (*sizes.next().unwrap()).min(rest.len());
        let (chunk, behind) = rest.split_at(size);
        bytes.extend(format!("{size:x}{extension}\r\n").bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend(b"\r\n");
        rest = behind;
    }
    bytes.extend(format!("0{extension}\r\n{trailers}\r\n").bytes());
    bytes
}

/// An app that pads its chunk sizes had its event stream cut after 4096 chunks.
#[test]
fn a_long_stream_may_have_padded_sizes() {
    for (size, pad) in [(1024, "    "), (1, "       "), (3, ";e=012345678")] {
        let data = vec![b'x'; size * 10_000];
        let bytes = coded(&data, &[size], pad, "");
        assert_eq!(decode(&bytes, &[]), (data, End::Whole(0, Vec::new())), "{pad:?}");
    }
}

#[test]
fn extensions_beyond_what_the_data_allows_break_the_body() {
    // Each takes 67 bytes and allows for 17; the last has no data.
    let extension = format!(";{}", "e".repeat(66));
    let most = (16 * 1024 - 67) / 50;
    for (chunks, broken) in [(most, false), (most + 1, true)] {
        let data = vec![b'x'; chunks];
        let end = decode(&coded(&data, &[1], &extension, ""), &[]).1;
        assert_eq!(end == End::Broken, broken, "{chunks} {end:?}");
    }
    let bytes = coded(b"x", &[1], &format!(";{}", "e".repeat(16 * 1024)), "");
    assert_eq!(decode(&bytes, &[]).1, End::Broken);
}

proptest! {
    #[test]
    fn any_body_in_any_chunks_and_pieces_is_the_same(
        data in prop::collection::vec(any::<u8>(), 0..600),
        sizes in prop::collection::vec(1usize..300, 1..6),
        extension in prop::sample::select(&["", ";a=b", " ", "\t ;x", ";\"\u{e9}\""][..]),
        trailers in prop::sample::select(&["", "X-Sum: 1\r\n", "X-Sum: 1\r\nx-sum:2\r\n"][..]),
        behind in prop::collection::vec(any::<u8>(), 0..5),
        mut cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let mut bytes = coded(&data, &sizes, extension, trailers);
        let length = bytes.len();
        bytes.extend_from_slice(&behind);
        let mut cuts: Vec<usize> = cuts.drain(..).map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        let fields = trailers.matches(':').count();
        let want = (data, End::Whole(fields, behind));
        prop_assert_eq!(&decode(&bytes, &cuts), &want);
        prop_assert_eq!(&model(&bytes), &want);
        // Nothing less is the whole.
        prop_assert_eq!(decode(&bytes[..length - 1], &cuts.iter().map(|c| (*c).min(length - 1)).collect::<Vec<_>>()).1, End::Open);
    }

    #[test]
    fn a_second_reader_agrees_on_anything(
        parts in prop::collection::vec(
            prop::sample::select(
                &["0", "1", "5", "f", "A", "\r\n", "\r", "\n", ";", " ", "hello", "x", "X-Sum: 1\r\n",
                  ":", "0\r\n", "5\r\nhello\r\n", "\0", "ffffffffffffff", "0\r\n\r\n", "-", "+", "_"][..],
            ),
            0..16,
        ),
    ) {
        let bytes = parts.concat().into_bytes();
        let whole = decode(&bytes, &[]);
        prop_assert_eq!(&whole, &model(&bytes));
        prop_assert_eq!(&whole, &decode(&bytes, &(0..bytes.len()).collect::<Vec<_>>()));
    }
}

#[test]
fn every_mutation_of_one_byte_is_read_as_the_grammar_says() {
    let framings = [
        coded(b"hello world", &[5, 1, 3], "", ""),
        coded(b"hello world, hello all", &[0x10], " ;x=\"y\"", "X-Sum: 1\r\nx-sum:2\r\n"),
    ];
    for framing in framings {
        for at in 0..framing.len() {
            for byte in 0..=255 {
                let mut bytes = framing.clone();
                bytes[at] = byte;
                bytes.extend(b"HTTP/1.1 200 OK\r\n\r\n");
                let whole = decode(&bytes, &[]);
                assert_eq!(whole, model(&bytes), "{:?}", String::from_utf8_lossy(&bytes));
                assert_eq!(whole, decode(&bytes, &[at]), "cut at {at}");
                assert_eq!(whole, decode(&bytes, &[at + 1]), "cut behind {at}");
            }
        }
    }
}

#[test]
fn what_can_be_read_in_two_ways_is_no_framing() {
    for bytes in [
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello!\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "\r\n5\r\nhello\r\n0\r\n\r\n",
        "5 5\r\nhello\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "5;a\rb\r\nhello\r\n0\r\n\r\n",
        "0\r\n\n\r\n",
        "0\r\nX: y\n\nHTTP/1.1 200 OK\r\nZ: a\r\n\r\n",
        "0\r\nX : y\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "ffffffffffffffff\r\n",
    ] {
        assert_eq!(decode(bytes.as_bytes(), &[]).1, End::Broken, "{bytes:?}");
    }
}

/// Some apps write all sizes with as many digits as the largest one has.
#[test]
fn zeros_in_front_of_a_size_mean_nothing() {
    for zeros in [1, 14, 15, 16, 100] {
        let zeros = "0".repeat(zeros);
        let body = format!("{zeros}5\r\nhello\r\n{zeros}0\r\n\r\n");
        let (data, end) = decode(body.as_bytes(), &[]);
        assert_eq!((&*data, end), (&b"hello"[..], End::Whole(0, Vec::new())), "{zeros}");
    }
    assert_eq!(decode("0".repeat(20_000).as_bytes(), &[]).1, End::Broken);
}

#[test]
fn what_is_no_data_is_bounded() {
    let extended = |length: usize| format!("1;{}\r\nx\r\n0\r\n\r\n", "x".repeat(length));
    assert!(matches!(decode(extended(16_000).as_bytes(), &[]).1, End::Whole(..)));
    assert_eq!(decode(extended(17_000).as_bytes(), &[]).1, End::Broken);
    // Bounded over all chunks, and white space counts.
    let padded = format!("1{}\r\nx\r\n", " \t".repeat(10));
    assert_eq!(decode(padded.repeat(9_000).as_bytes(), &[]).1, End::Broken);
    let trailed = |length: usize| format!("0\r\nX: {}\r\n\r\n", "x".repeat(length));
    assert!(matches!(decode(trailed(16_000).as_bytes(), &[]).1, End::Whole(..)));
    let long = trailed(17_000).into_bytes();
    assert_eq!(decode(&long, &[]).1, End::Broken);
    assert_eq!(decode(&long, &(0..long.len()).collect::<Vec<_>>()).1, End::Broken);
    let fields = |count: usize| format!("0\r\n{}\r\n", "x-sum: y\r\n".repeat(count));
    assert_eq!(decode(fields(128).as_bytes(), &[]).1, End::Whole(128, Vec::new()));
    assert_eq!(decode(fields(129).as_bytes(), &[]).1, End::Broken);
}

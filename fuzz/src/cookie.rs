//! The Cookie header: ours is found and removed, the app's stay byte for byte.

use http::{HeaderMap, HeaderValue, header};
use portcullis::serve::CookieName;
use portcullis::session::Token;

const NAME: &str = "__Host-portcullis";

/// Words of cookies.
pub const WORDS: &[&str] = &[
    "__Host-portcullis=",
    "__Host-portcullis",
    "__Host-portcullis-next=1",
    "__host-portcullis=",
    "; ",
    ";",
    "=",
    "\"",
    "\n",
    "a=1",
    "$Version=1",
    ",",
    " ",
    "\t",
    "AAAAAAAAAAAAAAAAAAAAAA.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
];

/// Reads each line of `data` as a Cookie line (or a crumb of one).
pub fn run(data: &[u8]) {
    let lines: Vec<HeaderValue> = data
        .split(|byte| *byte == b'\n')
        .filter_map(|line| HeaderValue::from_bytes(line).ok())
        .collect();
    let mut headers = HeaderMap::new();
    headers.insert(header::HOST, HeaderValue::from_static("h"));
    for line in &lines {
        headers.append(header::COOKIE, line.clone());
    }
    // The type is not public and has no other face than Debug.
    let (name, mut recall, mut again) = (CookieName::new(NAME.to_owned()), None, headers.clone());
    let carried = format!("{:?}", name.take(&mut headers, &mut recall));
    // As the next request of the same connection.
    assert_eq!(format!("{:?}", name.take(&mut again, &mut recall)), carried);
    assert_eq!(again, headers);
    let left: Vec<&[u8]> =
        headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();

    let pairs = || lines.iter().flat_map(|line| line.as_bytes().split(|b| *b == b';'));
    let pairs: Vec<&[u8]> = pairs().map(<[u8]>::trim_ascii).filter(|p| !p.is_empty()).collect();
    let is = |pair: &[u8], next: u8| {
        pair.strip_prefix(NAME.as_bytes()).is_some_and(|rest| rest.first() == Some(&next))
    };
    let sessions: Vec<&[u8]> = pairs.iter().copied().filter(|pair| is(pair, b'=')).collect();
    let wanted = match sessions[..] {
        [] => "Nothing",
        [one] => match Token::parse(&one[NAME.len() + 1..]) {
            Some(token) => {
                assert!(carried.contains(&token.id().to_string()), "{carried}");
                "Token"
            }
            None => "Unreadable",
        },
        _ => "Several",
    };
    assert!(carried.starts_with(wanted), "{carried}, not {wanted}");

    let apps: Vec<&[u8]> =
        pairs.iter().copied().filter(|pair| !is(pair, b'=') && !is(pair, b'-')).collect();
    assert!(left.len() <= 1, "crumbs are not joined");
    let kept: Vec<&[u8]> = left
        .iter()
        .flat_map(|line| line.split(|b| *b == b';'))
        .map(<[u8]>::trim_ascii)
        .filter(|pair| !pair.is_empty())
        .collect();
    assert_eq!(kept, apps, "the app's cookies changed");
    if let [line] = &lines[..]
        && apps.len() == pairs.len()
    {
        let same = left == [line.as_bytes()] || (left.is_empty() && pairs.is_empty());
        assert!(same, "a Cookie line without ours was rewritten");
    }
    assert_eq!(headers.get(header::HOST).map(HeaderValue::as_bytes), Some(&b"h"[..]));
}

//! Kaltura sessions: no text is two sessions or panics, nobody without the secret makes one, and what is
//! sealed comes back.

use portcullis::ks::{Fields, Ks, KsError, KsKind, MAX_LENGTH, privileges, seal};
use portcullis::secret::Secret;

/// Words of sessions and privileges.
pub const WORDS: &[&str] = &[
    "djJ8MTAyf",
    "=",
    "-",
    "_",
    "+",
    "/",
    "v2|102|",
    "102;102;",
    ";",
    "|",
    "list:*",
    "setrole:",
    "iprestrict:",
    "actionslimit:",
    "urirestrict:",
    "sessionid:",
    ",",
    ":",
    "*",
    "_e",
    "_m",
    "[",
    "&",
    "%00",
];

/// Reads `data` as a KS; then seals a KS whose user and privileges are its lines.
pub fn run(data: &[u8]) {
    let secret = Secret::new("0123456789abcdef0123456789abcdef".to_owned());
    let text = String::from_utf8_lossy(data);
    if let Ok(ks) = Ks::parse(&text) {
        assert!(text.len() <= MAX_LENGTH);
        let number: u64 = ks.partner().parse().expect("a partner id is a number");
        assert_eq!(number.to_string(), ks.partner(), "it has one spelling");
        assert!(!format!("{ks:?}").contains(text.trim_end_matches('=')), "Debug shows the session");
        let padded = text.trim_end_matches('=').replace('+', "-").replace('/', "_");
        assert_eq!(Ks::parse(&padded).unwrap().identity(), ks.identity());
        let stranger = Secret::new("a secret that nobody has used".to_owned());
        assert_eq!(ks.open(&stranger), Err(KsError::Unsound));
        let _ = (ks.open(&secret), ks.revocation_key(&secret));
    }
    let (user, asked) = text.split_once('\n').unwrap_or((&text, ""));
    let Ok(list) = privileges(asked) else { return };
    let fields = Fields {
        expires: data.len() as u64,
        kind: KsKind::Admin,
        user: user.to_owned(),
        privileges: asked.to_owned(),
        ..Fields::default()
    };
    let sealed = seal("102", &fields, &secret, [9; 16]);
    if sealed.len() > MAX_LENGTH {
        assert!(Ks::parse(&sealed).is_err());
        return;
    }
    let back = Ks::parse(&sealed).unwrap().open(&secret).unwrap();
    assert_eq!((&back.user, back.expires, back.kind), (&fields.user, fields.expires, fields.kind));
    assert_eq!((back.master, back.data), (None, None), "a privilege passed for a field");
    let names: Vec<_> = list.iter().map(|one| one.name).collect();
    for name in names {
        assert!(back.privileges.contains(name), "a privilege is lost");
    }
}

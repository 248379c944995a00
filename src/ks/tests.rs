#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const V2: &str = "djJ8MTAyfBMM6nJrb9vRKGndlsjrrm6MjK6AlrWLrbWQm_-hVWmYC8tTFPjGRGV5NYTXsEgayxhbxigg0RhBiHZ5jPlPUIocjRNWo-Bl7zmHhqu73zV1OETnaV8FnBdPv2kYHjkiLUwieKQ4KdBikQvS8pt9ZMc=";
const V1: &str = "M2I0YmU5MWI4ZDY1ZWUwOGRjNjA4ZTZjOWRiZWZlNTQyOWRiNTc3MXwxMDI7MTAyOzQxMDI0NDQ4MDA7MjsxMjM0NTthbGljZTtsaXN0Oiosc2V0cm9sZTpQTEFZQkFDS19CQVNFX1JPTEU7Ow==";

fn secret() -> Secret {
    Secret::new(SECRET.to_owned())
}

fn alice() -> Fields {
    Fields {
        expires: 4_102_444_800,
        kind: KsKind::Admin,
        user: "alice".to_owned(),
        privileges: "list:*,setrole:PLAYBACK_BASE_ROLE".to_owned(),
        ..Fields::default()
    }
}

fn counted() -> [u8; 16] {
    std::array::from_fn(|at| u8::try_from(at).unwrap())
}

#[test]
fn version_2_is_written_as_kaltura_writes_it() {
    assert_eq!(seal("102", &alice(), &secret(), counted()), V2);
}

#[test]
fn version_2_is_read() {
    let ks = Ks::parse(V2).unwrap();
    assert_eq!((ks.partner(), ks.version()), ("102", Version::V2));
    assert_eq!(ks.open(&secret()).unwrap(), alice());
    let key = ks.revocation_key(&secret()).unwrap();
    assert_eq!(key, "c3611fc6696e9799ecb67c1326ae8c908680d77e");
}

#[test]
fn version_1_is_read() {
    let ks = Ks::parse(V1).unwrap();
    assert_eq!((ks.partner(), ks.version()), ("102", Version::V1));
    assert_eq!(ks.open(&secret()).unwrap(), alice());
    let key = ks.revocation_key(&secret()).unwrap();
    assert_eq!(key, "3b4be91b8d65ee08dc608e6c9dbefe5429db5771");
}

#[test]
fn another_secret_opens_nothing() {
    let other = Secret::new("other".to_owned());
    for text in [V1, V2] {
        let ks = Ks::parse(text).unwrap();
        assert_eq!(ks.open(&other), Err(KsError::Unsound));
        assert_eq!(ks.revocation_key(&other), Err(KsError::Unsound));
        assert!(!format!("{ks:?}").contains(text.split_at(20).1.split_at(20).0));
    }
}

#[test]
fn spellings_of_one_ks_have_one_identity() {
    let (dash, bar) = (V2.replace('-', "+"), V2.replace('_', "/"));
    let whole = Ks::parse(V2).unwrap();
    for same in [V2.trim_end_matches('='), &dash, &bar] {
        assert_eq!(Ks::parse(same).unwrap().identity(), whole.identity(), "{same}");
    }
    // Bits that mean nothing, and other padding.
    for other in [V2.replace("Mc=", "Md="), format!("{V2}="), format!(" {V2}"), format!("{V2}\n")] {
        assert_eq!(Ks::parse(&other).unwrap_err(), KsError::Malformed, "{other}");
    }
}

#[test]
fn partners_have_one_spelling() {
    for partner in ["0102", "0", "", "+102", "-1", "1 ", "1234567890123456789", "a", "\u{0661}"] {
        let text = seal(partner, &alice(), &secret(), counted());
        assert_eq!(Ks::parse(&text).unwrap_err(), KsError::Malformed, "{partner:?}");
    }
    let text = seal("999999999999999999", &alice(), &secret(), counted());
    assert!(Ks::parse(&text).is_ok());
}

#[test]
fn what_is_no_ks_is_refused() {
    let long = "djJ8MTAyfBMM".repeat(400);
    for text in ["", "a", "djJ8", "djJ8MTAyfA==", "{1:result}", "null", "\u{fffd}", &long] {
        assert_eq!(Ks::parse(text).unwrap_err(), KsError::Malformed, "{text}");
    }
}

/// A KS of version 1 with any text in it, as who has the secret can write it.
fn v1(info: &str) -> Ks {
    let digest = hex(&sha1(&[SECRET.as_bytes(), info.as_bytes()]));
    let text = base64::engine::general_purpose::STANDARD.encode(format!("{digest}|{info}"));
    Ks::parse(&text).unwrap()
}

#[test]
fn sound_nonsense_is_told_apart_from_forgery() {
    for info in ["1;1;x;0;1", "1;1;5;7;1", "1;1;5;0", "1;1;5;0;r;u;p;m;d;more", "1;1;-5;0;r"] {
        assert_eq!(v1(info).open(&secret()), Err(KsError::Malformed), "{info}");
    }
    let fields = v1("1;1;5;0;r").open(&secret()).unwrap();
    assert_eq!(fields, Fields { expires: 5, ..Fields::default() });
    let fields = v1("1;1;5;1;r;u;p:1,q;9;d").open(&secret()).unwrap();
    assert_eq!((fields.master.as_deref(), fields.data.as_deref()), (Some("9"), Some("d")));
    assert_eq!((fields.kind, &*fields.privileges), (KsKind::Widget, "p:1,q"));
}

#[test]
fn the_other_partner_of_version_1_must_be_the_same() {
    for info in ["1;*;5;0;r", "1;2;5;0;r", "1"] {
        let text = format!("{}|{info}", "0".repeat(40));
        let text = base64::engine::general_purpose::STANDARD.encode(text);
        assert_eq!(Ks::parse(&text).unwrap_err(), KsError::Malformed, "{info}");
    }
}

#[test]
fn a_digest_in_capitals_is_another_text() {
    let bytes = Ks::parse(V1).unwrap().bytes;
    let text = String::from_utf8(bytes).unwrap();
    let (digest, info) = text.split_once('|').unwrap();
    let text = format!("{}|{info}", digest.to_uppercase());
    let text = base64::engine::general_purpose::STANDARD.encode(text);
    assert_eq!(Ks::parse(&text).unwrap().open(&secret()), Err(KsError::Unsound));
}

#[test]
fn what_cannot_be_sealed_whole_is_not_sealed() {
    let privileges: Vec<_> = (0..=MAX_PRIVILEGES).map(|n| n.to_string()).collect();
    let fields = Fields { privileges: privileges.join(","), ..alice() };
    assert_eq!(seal("1", &fields, &secret(), counted()), "");
}

prop_compose! {
    fn fields()(
        expires: u64,
        kind in prop_oneof![Just(KsKind::User), Just(KsKind::Widget), Just(KsKind::Admin)],
        user: String,
        names in prop::collection::btree_set("[a-z]{3,8}\\PC{0,3}[a-z]", 0..8),
        value in "[^,]{0,12}",
        master: Option<String>,
        data: Option<String>,
    ) -> Fields {
        let names = names.iter().map(|name| name.replace([',', ':', '['], "-"));
        let mut names: Vec<_> = names.collect();
        names.dedup();
        if let Some(first) = names.first_mut().filter(|_| !value.trim().is_empty()) {
            first.push(':');
            first.push_str(value.trim());
        }
        Fields { expires, kind, user, privileges: names.join(","), master, data }
    }
}

proptest! {
    #[test]
    fn what_is_sealed_comes_back(fields in fields(), random: [u8; 16], secret: String) {
        let secret = Secret::new(secret);
        let text = seal("102", &fields, &secret, random);
        prop_assume!(text.len() <= MAX_LENGTH);
        prop_assert_eq!(Ks::parse(&text).unwrap().open(&secret), Ok(fields));
    }

    #[test]
    fn one_changed_byte_opens_nothing(at in 0..V2.len(), byte in 0u8..128) {
        let mut text = V2.as_bytes().to_vec();
        prop_assume!(text[at] != byte);
        text[at] = byte;
        let text = String::from_utf8(text).unwrap();
        if let Ok(ks) = Ks::parse(&text) {
            let same = ks.identity() == Ks::parse(V2).unwrap().identity();
            prop_assert!(same || ks.open(&secret()).is_err() || ks.partner() != "102", "{}", text);
        }
    }

    #[test]
    fn nothing_panics(text in "\\PC{0,80}", privileged in "\\PC{0,80}", bytes: Vec<u8>) {
        let _ = privileges(&privileged);
        let raw = base64::engine::general_purpose::URL_SAFE.encode(&bytes);
        let v2 = base64::engine::general_purpose::URL_SAFE
            .encode([b"v2|1|", &bytes[..]].concat());
        for text in [text, raw, v2] {
            if let Ok(ks) = Ks::parse(&text) {
                let _ = (ks.open(&secret()), ks.revocation_key(&secret()));
            }
        }
    }
}

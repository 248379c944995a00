//! Partners, aliases and keys of `users.toml`.

use super::*;
use crate::clock::UnixMs;
use crate::session::{HashKind, Reach};

const KEY: &str = "1c8a4e0f-6f5c-4b6a-9a57-0d6a6f5b7a10";

fn full() -> String {
    let hash = SecretHash::of(b"the secret of a key").encode();
    format!(
        r#"{FILE}
[[partner]]
id = "100"
name = "Acme"
email = "it@acme.example"
website = "https://acme.example"
admin_secrets = ["0123456789abcdef0123456789abcdef", {{ file = "acme.secret" }}]
user_secrets = ["fedcba9876543210fedcba9876543210"]
reach = "guests"
lifetime = "7d"
offline = true
ks_v1 = true
widgets = true
roles = ["PLAYBACK", "12"]

[[partner.member]]
user = "ALICE"
role = "PLAYBACK"
admin = true
privileges = ""

[[partner.member]]
user = "u2"
alias = "robert"

[[partner.app_token]]
id = "1_abc"
token = "a token of an application"
hash = "sha512"
user = "bob"
admin = true
privileges = "sview:*"
lifetime = "1h"
expires = "2030-01-31T00:00:00Z"
disabled = true

[[key]]
id = "{KEY}"
name = "backup"
owner = "group/staff"
hash = "{hash}"
created = "2026-01-31T10:00:00.500Z"
expires = "2030-01-31T00:00:00+01:00"
"#
    )
}

fn place(text: &str) -> Place {
    let place = Place::with(text);
    let secret = place.file.with_file_name("acme.secret");
    fs::write(secret, "the second secret of acme\n").unwrap();
    place
}

#[test]
fn partners_and_keys_are_read_whole() {
    let place = place(&full());
    let users = place.open();
    let acme = users.partner("100").unwrap();
    assert_eq!((acme.name.as_str(), acme.email.as_str()), ("Acme", "it@acme.example"));
    assert_eq!(acme.website, "https://acme.example");
    let secrets: Vec<_> = acme.admin_secrets.iter().map(Secret::expose).collect();
    assert_eq!(secrets, ["0123456789abcdef0123456789abcdef", "the second secret of acme"]);
    assert_eq!(acme.user_secrets.len(), 1);
    assert_eq!((acme.reach, acme.lifetime.as_secs()), (Reach::Guests, 7 * 86_400));
    assert!(acme.offline && acme.ks_v1 && acme.widgets && !acme.disabled);
    assert_eq!(acme.roles, ["PLAYBACK", "12"]);
    let (alice, bob) = (&acme.members["u1"], &acme.members["u2"]);
    assert_eq!((alice.puser(&users.by_id("u1").unwrap()), alice.admin), ("42", true));
    assert_eq!((alice.role.as_str(), alice.privileges.as_deref()), ("PLAYBACK", Some("")));
    assert_eq!((bob.puser(&users.by_id("u2").unwrap()), &bob.privileges), ("robert", &None));
    let token = &acme.app_tokens["1_abc"];
    assert_eq!((token.hash, token.user.as_str()), (HashKind::Sha512, "u2"));
    assert_eq!(token.expires, Some(UnixMs(1_896_048_000_000)));
    assert!(token.admin && token.disabled && token.privileges == "sview:*");
    assert_eq!(token.lifetime.as_secs(), 3600);
    let of = |user: &str| users.partners_of(user).len();
    assert_eq!((of("u1"), of("u2"), of("u3")), (1, 1, 0));
    assert!(!format!("{acme:?}").contains("0123456789abcdef"));

    let key = users.key(KEY).unwrap();
    assert_eq!((key.name.as_str(), key.owner.to_string()), ("backup", "group/staff".to_owned()));
    assert_eq!(key.created, UnixMs(1_769_853_600_500));
    assert_eq!(key.expires, Some(UnixMs(1_896_044_400_000)));
    let hash = SecretHash::of(b"the secret of a key");
    assert_eq!(users.key_by_hash(&hash).unwrap().id, KEY);
    assert!(users.key_by_hash(&SecretHash::of(b"another")).is_none());
    assert_eq!(users.keys_of(&Principal::Group("staff".to_owned())).len(), 1);
    assert!(users.keys_of(&Principal::User("staff".to_owned())).is_empty());
}

#[test]
fn the_epoch_moves_with_partners_and_keys() {
    let place = place(&full());
    let users = place.open();
    for (from, to) in [
        ("admin_secrets = [\"0123456789abcdef", "admin_secrets = [\"1123456789abcdef"),
        ("role = \"PLAYBACK\"", "role = \"12\""),
        ("\"a token of an application\"", "\"a token of the application\""),
        ("owner = \"group/staff\"", "owner = \"user/u2\""),
        ("2030-01-31T00:00:00+01:00", "2029-01-31T00:00:00+01:00"),
        ("lifetime = \"7d\"", "lifetime = \"6d\""),
    ] {
        let (text, epoch) = (place.text(), users.epoch());
        assert!(text.contains(from), "{from}");
        fs::write(&place.file, text.replacen(from, to, 1)).unwrap();
        assert_eq!(users.reload().unwrap(), Reload::Changed);
        assert_eq!(users.epoch(), epoch + 1, "{from}");
    }
}

#[test]
fn what_sessions_are_made_with_is_missed_and_what_is_new_is_not() {
    let place = place(&full());
    let users = place.open();
    for (from, to, missed) in [
        ("role = \"PLAYBACK\"", "role = \"12\"", true),
        (
            "[[partner.app_token]]",
            "[[partner.member]]\nuser = \"carol\"\n\n[[partner.app_token]]",
            true,
        ),
        ("name = \"backup\"", "name = \"nightly\"", true),
        ("[[partner]]", "[[partner]]\nid = \"101\"\n\n[[partner]]", false),
        ("[[group]]", "[[group]]\nname = \"new\"\n\n[[group]]", false),
        ("name = \"bob\"", "name = \"bob\"\ndisabled = true", true),
        ("disabled = true", "disabled = false", false),
    ] {
        let (text, makers, epoch) = (place.text(), users.makers(), users.epoch());
        assert!(text.contains(from), "{from}");
        fs::write(&place.file, text.replacen(from, to, 1)).unwrap();
        assert_eq!(users.reload().unwrap(), Reload::Changed, "{to}");
        assert_eq!(users.makers() != makers, missed, "{to}");
        assert_ne!(users.epoch(), epoch, "{to}");
    }
}

#[test]
fn a_changed_secret_file_is_a_change() {
    let place = place(&full());
    let users = place.open();
    let epoch = users.epoch();
    let secret = place.file.with_file_name("acme.secret");
    fs::write(&secret, "a newer secret of acme\n").unwrap();
    assert_eq!(users.reload().unwrap(), Reload::Changed);
    assert_eq!(users.partner("100").unwrap().admin_secrets[1].expose(), "a newer secret of acme");
    assert_eq!(users.epoch(), epoch + 1);
    assert_eq!(users.reload().unwrap(), Reload::Unchanged);
    fs::remove_file(&secret).unwrap();
    assert!(!users.reload().unwrap_err().repeated);
    assert!(users.reload().unwrap_err().repeated);
    assert_eq!(users.partner("100").unwrap().admin_secrets[1].expose(), "a newer secret of acme");
    fs::write(&secret, "the newest secret of acme\n").unwrap();
    assert_eq!(users.reload().unwrap(), Reload::Changed);
}

#[test]
fn every_problem_of_partners_is_reported_without_a_secret() {
    let found = problems(
        r#"[[user]]
id = "u1"
name = "alice"
aliases = { kaltur = "a", versal = "1.5", nuvla = "user/x", kaltura = "bob" }
[[user]]
id = "u2"
name = "bob"
[[partner]]
id = "a/b"
admin_secrets = ["too short", { env = "SURELY_NOT_SET_42" }, 5]
reach = "guest"
lifetime = "20y"
[[partner]]
id = "7"
roles = ["a,b"]
ks_v2 = true
[[partner.member]]
user = "alise"
[[partner.member]]
user = "u1"
[[partner.member]]
user = "bob"
[[partner.member]]
user = "bob"
alias = "robert"
[[partner.app_token]]
id = "t"
token = "short secret"
hash = "sha-256"
user = "carl"
expires = "tomorrow"
[[partner.app_token]]
id = "t"
[[partner]]
id = "7"
[[key]]
id = "x"
owner = "group/none"
hash = "the secret itself"
created = "yesterday"
[[key]]
id = "1c8a4e0f-6f5c-4b6a-9a57-0d6a6f5b7a10"
owner = "partner/8"
hash = "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"
[[key]]
id = "1c8a4e0f-6f5c-4b6a-9a57-0d6a6f5b7a10"
owner = "user/alice"
hash = "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"
[[key]]
"#,
    );
    let fix = |start: &str, fix: &str| {
        let hit = find(&found, start);
        assert!(hit.contains(fix), "{hit}");
    };
    fix("users.toml:4:13: there is no API `kaltur`", "did you mean `kaltura`?");
    fix("users.toml:4:27: the alias `versal` cannot be \"1.5\"", "64 bits");
    fix("users.toml:4:43: the alias `nuvla` cannot be \"user/x\"", "A-Z a-z 0-9");
    fix("users.toml:4:61: the alias `bob` is the login name of another user", "another");
    fix("users.toml:9:6: `id` cannot be \"a/b\"", "A-Z a-z 0-9");
    fix("users.toml:10:18: `admin_secrets` holds a secret that is too short", "16 random");
    fix("users.toml:10:33: the environment variable SURELY_NOT_SET_42", "set it");
    fix("users.toml:10:62: `partner[0].admin_secrets` must be a list", "write a list");
    fix("users.toml:11:9: `reach` cannot be \"guest\"", "did you mean `guests`?");
    fix("users.toml:12:12: `partner[0].lifetime` is not a duration", "7d");
    fix("users.toml:15:10: a role cannot be \"a,b\"", "without commas");
    fix("users.toml:16:1: unknown key `partner[1].ks_v2`", "did you mean `ks_v1`?");
    fix("users.toml:18:8: there is no user `alise`", "did you mean `alice`?");
    fix("users.toml:22:8: `bob` is the id of `alice` in this partner", "another `alias`");
    fix("users.toml:24:8: `bob` is a member already", "keep one");
    fix("users.toml:28:1: `token` is too short", "openssl rand");
    fix("users.toml:29:8: `hash` cannot be \"sha-256\"", "did you mean `sha256`?");
    fix("users.toml:30:8: there is no user `carl`", "");
    fix("users.toml:31:11: `partner[1].app_token[0].expires`", "2030-01-31");
    fix("users.toml:32:1: the app token has no `token`", "add `token");
    fix("users.toml:33:6: the app token `t` is declared twice", "another id");
    fix("users.toml:35:6: the partner `7` is declared twice", "another id");
    fix("users.toml:37:6: `id` is no UUID", "key create");
    fix("users.toml:38:9: there is no group `none`", "remove the key");
    fix("users.toml:39:8: `hash` is no base64url SHA-256", "key create");
    fix("users.toml:40:11: `key[0].created`", "2026-01-31");
    fix("users.toml:43:9: there is no partner `8`", "did you mean `7`?");
    fix("users.toml:46:6: the key `1c8a4e0f", "remove one");
    fix("users.toml:47:9: there is no user with the id `alice`", "");
    fix("users.toml:48:1: two keys have one secret", "revoke one");
    for secret in ["too short\"", "short secret", "the secret itself", "47DEQ"] {
        assert!(!found.iter().any(|problem| problem.contains(secret)), "{found:#?}");
    }
    assert_eq!(found.len(), 33, "{found:#?}");
}

#[test]
fn the_example_of_the_documentation_is_sound() {
    let page = include_str!("../../../docs/directory.md");
    let example = page.split("```toml").nth(1).unwrap().split("```").next().unwrap();
    assert_eq!(problems(example), Vec::<String>::new());
    let users = Place::with(example).open();
    let acme = users.partner("102").unwrap();
    assert_eq!((acme.members.len(), acme.app_tokens.len(), users.keys().len()), (2, 1, 1));
    // What is commented out is sound as well.
    let hash = "$2b$04$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
    let opened =
        example.replace("\n# disabled", "\ndisabled").replace("\n# privileges", "\nprivileges");
    let opened =
        opened.replace("# password = \"$argon2id$...\"", &format!("password = \"{hash}\""));
    assert_eq!(problems(&opened), Vec::<String>::new());
}

/// Regression: who is not listed was taken for a member whose alias is their login name.
#[test]
fn no_alias_of_a_member_is_the_name_of_somebody_else_within_reach() {
    let people = "[[user]]\nid = \"1\"\nname = \"ada\"\n[[user]]\nid = \"2\"\nname = \"bob\"\n";
    let partner = "[[partner]]\nid = \"102\"\nadmin_secrets = [\"0123456789abcdef\"]\n";
    let member = "[[partner.member]]\nuser = \"ada\"\nalias = \"Bob\"\n";
    let with = |reach: &str, more: &str| {
        problems(&format!("{people}{partner}reach = \"{reach}\"\n{member}{more}"))
    };
    let found = with("everybody", "");
    assert!(
        found.iter().any(|one| one.contains("`Bob` is what everybody calls `bob`")),
        "{found:?}"
    );
    assert_eq!(with("members", ""), [""; 0]);
    let listed = "[[partner.member]]\nuser = \"bob\"\nalias = \"robert\"\n";
    assert_eq!(with("everybody", listed), [""; 0]);
}

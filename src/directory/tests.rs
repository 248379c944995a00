use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::secret::PasswordHash;

pub(super) const CHEAP: Costs = Costs { memory_kib: 16, passes: 1, lanes: 1 };

pub(super) const FILE: &str = r#"# our people
[[group]]
name = "staff"
description = "Everybody here"

[[group]]
name = "ops"
parents = ["staff"]

[[group]]
name = "night"
parents = ["ops"]

[[group]]
name = "board"

[[user]] # the boss
id = "u1"
name = "Alice"
email = "alice@example.org"
display_name = "Alice A."
password = "$2b$04$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW" # imported
groups = ["staff", "board", "staff"]
aliases = { kaltura = "42" }

[[user]]
id = "u2"
name = "bob"
email = "Shared@example.org"
groups = ["ops"]

[[user]]
id = "u3"
name = "carol"
email = "shared@example.org"
disabled = true
# the end
"#;

pub(super) struct Place {
    _folder: tempfile::TempDir,
    pub(super) file: PathBuf,
}

impl Place {
    pub(super) fn with(text: &str) -> Self {
        let place = Self::empty();
        fs::write(&place.file, text).unwrap();
        place
    }

    fn empty() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("users.toml");
        Self { _folder: folder, file }
    }

    pub(super) fn open(&self) -> Users {
        Users::open(&Settings { file: self.file.clone() }, &CHEAP).unwrap().0
    }

    pub(super) fn text(&self) -> String {
        fs::read_to_string(&self.file).unwrap()
    }

    pub(super) fn others(&self) -> Vec<String> {
        let all = fs::read_dir(self.file.parent().unwrap()).unwrap();
        let names = all.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name != "users.toml").collect()
    }
}

fn problems(text: &str) -> Vec<String> {
    let found = read(Path::new("users.toml"), text.to_owned());
    found.err().unwrap_or_default().iter().map(ToString::to_string).collect()
}

fn find(found: &[String], start: &str) -> String {
    let hit = found.iter().find(|problem| problem.starts_with(start));
    hit.unwrap_or_else(|| panic!("no {start} in {found:#?}")).clone()
}

#[test]
fn people_are_found_by_name_address_and_id() {
    let place = Place::with(FILE);
    let users = place.open();
    let id = |typed: &str| users.by_login(typed).map(|account| account.id.clone());
    for typed in ["Alice", "alice", " ALICE ", "alice@example.org", "ALICE@Example.org"] {
        assert_eq!(id(typed).as_deref(), Some("u1"), "{typed}");
    }
    for typed in ["", " ", "u1", "alic", "shared@example.org", "alice@example.or", "ALICÉ"] {
        assert_eq!(id(typed), None, "{typed}");
    }
    let alice = users.by_id("u1").unwrap();
    assert_eq!(alice.identifier, "Alice");
    assert_eq!(alice.name, "Alice A.");
    assert_eq!(alice.groups, ["board", "staff"]);
    assert!(!alice.disabled);
    assert!(users.by_id("u3").unwrap().disabled);
    assert!(users.by_id("Alice").is_none());
    assert_eq!(users.by_alias("kaltura", "42").unwrap().id, "u1");
    assert!(users.by_alias("versal", "42").is_none());
    assert!(!format!("{users:?}").contains("$2b$"));
}

#[test]
fn a_name_wins_over_somebody_elses_address() {
    let text = "[[user]]\nid = \"1\"\nname = \"a@x\"\n[[user]]\nid = \"2\"\nname = \"b\"\nemail = \"a@x\"\n";
    let users = Place::with(text).open();
    assert_eq!(users.by_login("a@x").unwrap().id, "1");
}

#[test]
fn no_name_of_one_person_stands_for_another() {
    let bob = "[[user]]\nid = \"u-bob\"\nname = \"bob\"\naliases = { nuvla = \"b\" }\n";
    let with = |more: &str| format!("{bob}[[user]]\n{more}");
    for (more, what) in [
        (
            "id = \"1\"\nname = \"nora\"\naliases = { nuvla = \"u-bob\" }",
            "the alias `u-bob` is the id",
        ),
        (
            "id = \"1\"\nname = \"nora\"\naliases = { kaltura = \"BOB\" }",
            "is the login name of another",
        ),
        ("id = \"bob\"\nname = \"mallory\"", "the id `bob` is the login name of another user"),
        ("id = \"1\"\nname = \"eve\"\nemail = \"U-Bob\"", "address `U-Bob` is the id of another"),
        (
            "id = \"1\"\nname = \"eve\"\naliases = { nuvla = \"B\" }",
            "the alias `B` is taken by `bob`",
        ),
        ("id = \"U-bob\"\nname = \"eve\"", "the id `U-bob` is taken by `bob`"),
        ("id = \"1\"\nname = \"b\u{ad}ob\"", "is taken by `bob`"),
        ("id = \"1\"\nname = \"\u{200b}\"", "use a name that is seen"),
        ("id = \"1\"\nname = \"group/ops\"", "apps would take it for a claim"),
        ("id = \"1\"\nname = \"Partner／1\"", "apps would take it for a claim"),
        (
            "id = \"1\"\nname = \"eve\"\naliases = { kaltura = \"partner/103/zoe\" }",
            "apps would take it for a claim",
        ),
    ] {
        let found = problems(&with(more));
        assert!(found.iter().any(|problem| problem.contains(what)), "{more}: {found:?}");
    }
    let groups = "[[group]]\nname = \"ops\"\n[[group]]\nname = \"Ops\"\n";
    let found = problems(groups);
    assert!(found.iter().any(|problem| problem.contains("upper and lower case only")), "{found:?}");
    let same = "id = \"nora\"\nname = \"Nora\"\naliases = { nuvla = \"nora\", kaltura = \"NORA\" }";
    let users = Place::with(&with(same)).open();
    for name in ["Bob", "U-BOB", "b", "B", "nora", "ｎｏｒａ"] {
        assert!(users.is_taken(name), "{name}");
    }
    assert!(!users.is_taken("u-bo") && !users.is_taken(""));
}

#[test]
fn groups_reach_down_over_all_levels() {
    let users = Place::with(FILE).open();
    assert_eq!(users.below("staff"), ["night", "ops"]);
    assert_eq!(users.below("ops"), ["night"]);
    assert!(users.below("night").is_empty());
    assert!(users.below("nothing").is_empty());
    assert_eq!(users.group("staff").unwrap().description, "Everybody here");
    assert_eq!(users.group("ops").unwrap().parents, ["staff"]);
    let members: Vec<_> = users.members("staff").iter().map(|peer| peer.id.clone()).collect();
    assert_eq!(members, ["u1"]);
}

#[test]
fn every_problem_is_reported_with_its_place_and_remedy() {
    let found = problems(
        r#"[[partner]]
id = 1
[[group]]
name = "staff"
[[group]]
name = "staff"
[[group]]
name = "bad name"
parents = ["stuff", "elsewhere"]
[[user]]
name = "alice"
[[user]]
id = "a/b"
name = " bob"
pasword = "x"
password = "plain"
groups = ["staf"]
[[user]]
id = "u1"
name = "ALICE"
email = "x\ny"
aliases = { kaltura = "42" }
[[user]]
id = "u1"
disabled = "yes"
name = "dave"
aliases = { kaltura = "42" }
"#,
    );
    let fix = |start: &str, fix: &str| {
        let hit = find(&found, start);
        assert!(hit.contains(fix), "{hit}");
    };
    fix("users.toml:2:6: `partner[0].id` must be a string", "write a string");
    fix("users.toml:6:8: the group `staff` is declared twice", "keep one");
    fix("users.toml:8:8: `name` cannot be \"bad name\"", "A-Z a-z 0-9");
    fix("users.toml:10:1: `user[0].id` is missing", "add `id = \"");
    fix("users.toml:13:6: `id` cannot be \"a/b\"", "A-Z a-z 0-9");
    fix("users.toml:14:8: `name` cannot be \" bob\"", "space");
    fix("users.toml:15:1: unknown key `user[1].pasword`", "did you mean `password`");
    fix("users.toml:16:12: `password` is not a PHC string", "portcullis hash-password");
    fix("users.toml:17:11: the group `staf` is not declared", "did you mean `staff`");
    fix("users.toml:20:8: the login name `ALICE` is taken by `alice`", "upper and lower");
    fix("users.toml:21:9: `email` cannot be", "control");
    fix("users.toml:24:6: the id `u1` is taken by `ALICE`", "such as \"");
    fix("users.toml:25:12: `user[3].disabled` must be", "true or false");
    fix("users.toml:27:13: the alias `42` is taken by `ALICE`", "choose another");
    assert!(!found.iter().any(|problem| problem.contains("plain")), "{found:#?}");
    assert_eq!(found.len(), 14, "{found:#?}");
}

#[test]
fn a_missing_id_is_offered_ready_to_paste() {
    let text = "[[user]]\nname = \"alice\"\n";
    let id = |problem: &str| problem.split('"').nth(1).unwrap().to_owned();
    let (one, two) = (id(&problems(text)[0]), id(&problems(text)[0]));
    assert_eq!(one.parse::<uuid::Uuid>().unwrap().get_version_num(), 4);
    assert_ne!(one, two);
    assert_eq!(problems(&format!("{text}id = \"{one}\"\n")), Vec::<String>::new());
}

#[test]
fn undeclared_parents_and_cycles_are_named() {
    let group = |name: &str, parents: &str| {
        format!("[[group]]\nname = \"{name}\"\nparents = [{parents}]\n")
    };
    let found = problems(&group("ops", "\"staff\""));
    assert!(found[0].starts_with("users.toml:3:12: the group `staff` is not declared"));
    assert!(found[0].contains("add a `[[group]]` table"));
    let found = problems(&group("a", "\"a\""));
    assert!(found[0].starts_with("users.toml:2:8: groups are their own parents: a < a"));
    let three =
        [group("a", "\"b\""), group("b", "\"c\""), group("c", "\"a\""), group("d", "\"a\"")];
    let found = problems(&three.concat());
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].contains(": a < b < c < a"), "{found:#?}");
    let diamond = [group("top", ""), group("l", "\"top\""), group("r", "\"top\"")].concat();
    assert!(problems(&(diamond + &group("end", "\"l\", \"r\""))).is_empty());
}

#[test]
fn a_very_long_chain_of_groups_is_refused_without_harm() {
    let chain: String = (1..3_000)
        .map(|n| format!("[[group]]\nname = \"g{n}\"\nparents = [\"g{}\"]\n", n - 1))
        .collect();
    let found = problems(&format!("[[group]]\nname = \"g0\"\n{chain}"));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("nested too deeply"), "{found:?}");
}

#[test]
fn the_first_start_makes_one_user_with_a_password_shown_once() {
    let place = Place::empty();
    let settings = Settings { file: place.file.clone() };
    assert!(check(&settings).is_empty());
    let (users, first) = Users::open(&settings, &CHEAP).unwrap();
    let first = first.unwrap();
    assert_eq!(first.name, "admin");
    assert_eq!(first.password.expose().len(), 23);
    assert!(!format!("{first:?}").contains(first.password.expose()));
    let admin = users.by_login("admin").unwrap();
    assert_eq!(admin.groups, ["admins"]);
    let hash = PasswordHash::parse(admin.password.as_ref().unwrap().expose()).unwrap();
    assert!(hash.verify(&first.password).unwrap());
    assert!(hash.is_current(&CHEAP));
    assert!(!place.text().contains(first.password.expose()));
    assert_eq!(fs::metadata(&place.file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(place.others(), Vec::<String>::new());
    let (again, none) = Users::open(&settings, &CHEAP).unwrap();
    assert!(none.is_none(), "an existing file is not touched");
    assert_eq!(again.by_login("admin").unwrap().id, admin.id);
    assert!(
        matches!(file::create(&place.file, "x"), Err(error) if error.kind() == io::ErrorKind::AlreadyExists)
    );
}

#[test]
fn a_folder_that_is_not_there_is_a_clear_refusal() {
    let place = Place::empty();
    let settings = Settings { file: place.file.with_file_name("no").join("users.toml") };
    let refused = Users::open(&settings, &CHEAP).unwrap_err().to_string();
    assert!(refused.contains("cannot be made") && refused.contains("fix:"), "{refused}");
}

#[test]
fn the_epoch_moves_with_what_sessions_show() {
    let place = Place::with(FILE);
    let users = place.open();
    let start = users.epoch();
    assert_eq!(users.reload().unwrap(), Reload::Unchanged);
    assert_eq!(users.epoch(), start);
    let change = |from: &str, to: &str| {
        let text = place.text();
        assert!(text.contains(from));
        fs::write(&place.file, text.replace(from, to)).unwrap();
        assert_eq!(users.reload().unwrap(), Reload::Changed);
        users.epoch()
    };
    assert_eq!(change("# our people", "# all our people"), start);
    let hash = hash_password(&Secret::new("secret".to_owned()), &CHEAP).unwrap();
    let old = "$2b$04$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
    assert_eq!(change(old, hash.expose()), start, "sessions do not show hashes");
    assert_eq!(users.by_id("u1").unwrap().password.as_ref().unwrap().expose(), hash.expose());
    assert_eq!(change("disabled = true", "disabled = false"), start + 1);
    assert!(!users.by_id("u3").unwrap().disabled);
    assert_eq!(change("Everybody here", "All"), start + 2);
    assert_eq!(change("kaltura = \"42\"", "kaltura = \"43\""), start + 3);
    assert_eq!(change("[\"ops\"]", "[]"), start + 4);
}

#[test]
fn a_bad_version_is_refused_and_the_old_one_stays() {
    let place = Place::with(FILE);
    let users = place.open();
    let start = users.epoch();
    let refused = |what: &str| {
        let refused = users.reload().unwrap_err();
        assert!(refused.to_string().contains(what), "{refused}");
        assert_eq!(users.by_login("bob").unwrap().id, "u2");
        assert_eq!(users.epoch(), start);
        refused.repeated
    };
    fs::write(&place.file, FILE.replace("name = \"bob\"", "nam = \"bob\"")).unwrap();
    assert!(!refused("did you mean `name`"));
    assert!(refused("did you mean `name`"), "the same version again");
    fs::write(&place.file, "[[user").unwrap();
    assert!(!refused("not valid TOML"));
    fs::write(&place.file, "").unwrap();
    assert!(!refused("lists no user any more"));
    fs::write(&place.file, b"\xff\xfe").unwrap();
    assert!(!refused("cannot be read"));
    fs::remove_file(&place.file).unwrap();
    assert!(!refused("the file is missing"));
    assert!(refused("the file is missing"));
    fs::write(&place.file, FILE).unwrap();
    assert_eq!(users.reload().unwrap(), Reload::Unchanged);
    fs::remove_file(&place.file).unwrap();
    assert!(!refused("the file is missing"), "it was there in between");
    fs::write(&place.file, FILE.replace("carol", "carla")).unwrap();
    assert_eq!(users.reload().unwrap(), Reload::Changed);
    assert_eq!(users.epoch(), start + 1);
}

#[test]
fn a_renewed_hash_keeps_the_file_as_it_was_written() {
    let place = Place::with(FILE);
    fs::set_permissions(&place.file, fs::Permissions::from_mode(0o640)).unwrap();
    let users = place.open();
    let old = users.by_id("u1").unwrap().password.clone().unwrap();
    let new = hash_password(&Secret::new("U*U".to_owned()), &CHEAP).unwrap();
    users.rehash("u1", &old, &new).unwrap();
    assert_eq!(place.text(), FILE.replace(old.expose(), new.expose()));
    assert_eq!(users.by_id("u1").unwrap().password.as_ref().unwrap().expose(), new.expose());
    assert_eq!(fs::metadata(&place.file).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(place.others(), Vec::<String>::new());
    let third = hash_password(&Secret::new("other".to_owned()), &CHEAP).unwrap();
    users.rehash("u1", &old, &third).unwrap();
    users.rehash("nobody", &new, &third).unwrap();
    assert!(!place.text().contains(third.expose()), "somebody else was faster");
    assert!(users.rehash("u1", &new, &Secret::new("plain".to_owned())).is_err());
    fs::write(&place.file, "[[user").unwrap();
    assert!(users.rehash("u1", &new, &third).unwrap_err().contains("not valid TOML"));
    assert_eq!(place.text(), "[[user", "a broken file is left alone");
}

#[test]
fn a_link_is_followed_and_stays() {
    let place = Place::with(FILE);
    let link = place.file.with_file_name("link.toml");
    std::os::unix::fs::symlink(&place.file, &link).unwrap();
    edit::set_disabled(&link, "bob", true).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(place.open().by_id("u2").unwrap().disabled);
}

#[test]
fn what_an_editor_saves_during_a_change_is_not_lost() {
    let place = Place::with(FILE);
    let mut first = true;
    let changed = file::update::<io::Error>(&place.file, |before| {
        if std::mem::take(&mut first) {
            fs::write(&place.file, format!("{before}# saved meanwhile\n"))?;
        }
        Ok(Some(format!("{before}# ours\n")))
    });
    changed.unwrap();
    assert!(place.text().ends_with("# saved meanwhile\n# ours\n"), "{}", place.text());
}

mod partners;

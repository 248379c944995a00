use std::fs;
use std::thread;

use super::super::tests::{CHEAP, FILE, Place};
use super::*;
use crate::secret::hash_password;
use crate::session::Directory as _;

fn hash(password: &str) -> Secret {
    hash_password(&Secret::new(password.to_owned()), &CHEAP).unwrap()
}

fn user(name: &str) -> NewUser {
    NewUser { name: name.to_owned(), ..NewUser::default() }
}

#[test]
fn a_user_is_added_behind_the_others() {
    let place = Place::with(FILE);
    let new = NewUser {
        name: "dave \"d\"".to_owned(),
        email: Some("dave@example.org".to_owned()),
        display_name: Some("Dávid".to_owned()),
        groups: vec!["ops".to_owned(), "board".to_owned()],
        password: Some(hash("secret")),
        aliases: Vec::new(),
    };
    let id = add_user(&place.file, &new).unwrap();
    let text = place.text();
    let (before, added) = text.split_once("disabled = true\n").unwrap();
    assert!(FILE.starts_with(before), "what was there stays");
    assert!(added.starts_with("\n[[user]]\nid = \""), "{added}");
    assert!(added.ends_with("groups = [\"ops\", \"board\"]\n# the end\n"), "{added}");
    let users = place.open();
    let dave = users.by_id(&id).unwrap();
    assert_eq!(dave.identifier, "dave \"d\"");
    assert_eq!(dave.name, "Dávid");
    assert_eq!(dave.groups, ["board", "ops"]);
    assert_eq!(users.by_login("dave@example.org").unwrap().id, id);
}

/// Regression: `zoë`, `ZOË` and `zoë` in two code points could exist side by side, each refused the others' way
/// to write the name.
#[test]
fn a_name_is_one_however_it_is_written() {
    let place = Place::with(FILE);
    let id = add_user(&place.file, &user("zoë")).unwrap();
    for other in ["ZOË", "zoe\u{308}", "Zoe\u{308}"] {
        let refusal = add_user(&place.file, &user(other)).unwrap_err().to_string();
        assert!(refusal.contains(&format!("`{other}` exists already, as `zoë`")), "{refusal}");
        assert_eq!(place.open().by_login(other).unwrap().id, id);
        set_disabled(&place.file, other, true).unwrap();
        // Two that were let in before are named both.
        let both = format!("{FILE}\n[[user]]\nid = \"z1\"\nname = \"zoë\"\n");
        let both = format!("{both}[[user]]\nid = \"z2\"\nname = \"{other}\"\n");
        let problems = read(&place.file, both).unwrap_err();
        let [problem] = &*problems else { panic!("{problems:?}") };
        let what = format!("the login name `{other}` is taken by `zoë`");
        assert!(problem.to_string().contains(&what), "{problem}");
    }
    assert!(place.open().by_login("zoe").is_none());
}

#[test]
fn what_would_break_the_file_is_refused_with_a_remedy() {
    let place = Place::with(FILE);
    let file = &place.file;
    let group = |name: &str, parent: &str| NewGroup {
        name: name.to_owned(),
        parents: vec![parent.to_owned()],
        ..NewGroup::default()
    };
    let in_group = |name: &str| NewUser { groups: vec![name.to_owned()], ..user("new") };
    let attempts = [
        (add_user(file, &user("ALICE")).map(drop), "`ALICE` exists already"),
        (add_user(file, &user(" x")).map(drop), "login name cannot be"),
        (add_user(file, &user("")).map(drop), "login name cannot be"),
        (add_user(file, &in_group("staf")).map(drop), "did you mean `staff`?"),
        (add_user(file, &in_group("zzz")).map(drop), "portcullis group add zzz"),
        (set_password(file, "alicia", &hash("x")), "no user `alicia` (did you mean `alice`?)"),
        (set_password(file, "bob", &Secret::new("plain".to_owned())), "not a PHC string"),
        (set_disabled(file, "u1", true), "no user `u1`"),
        (add_group(file, &group("staff", "board")), "`staff` exists already"),
        (add_group(file, &group("a b", "board")), "group name cannot be"),
        (add_group(file, &group("new", "bord")), "did you mean `board`?"),
        (add_group(file, &group("new", "new")), "no group `new`"),
    ];
    for (result, expected) in attempts {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert_eq!(place.text(), FILE);
    assert_eq!(place.others(), Vec::<String>::new());
}

#[test]
fn a_missing_or_broken_file_is_told_and_left() {
    let place = Place::with("[[user]]\nname = \"x\"\n");
    let error = add_user(&place.file, &user("y")).unwrap_err().to_string();
    assert!(error.contains("users.toml:1:1: `user[0].id` is missing"), "{error}");
    assert_eq!(place.text(), "[[user]]\nname = \"x\"\n");
    fs::remove_file(&place.file).unwrap();
    let error = add_user(&place.file, &user("y")).unwrap_err().to_string();
    assert!(error.contains("start portcullis once"), "{error}");
    assert!(!place.file.exists());
}

#[test]
fn passwords_and_the_disabled_mark_change_in_place() {
    let place = Place::with(FILE);
    let new = hash("secret");
    set_password(&place.file, "aLICE", &new).unwrap();
    let old = "$2b$04$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
    let expected = FILE.replace(old, new.expose());
    assert_eq!(place.text(), expected);
    set_disabled(&place.file, "carol", false).unwrap();
    let expected = expected.replace("disabled = true", "disabled = false");
    assert_eq!(place.text(), expected);
    set_disabled(&place.file, "bob", true).unwrap();
    assert_eq!(
        place.text(),
        expected.replace("groups = [\"ops\"]\n", "groups = [\"ops\"]\ndisabled = true\n")
    );
    set_password(&place.file, "bob", &new).unwrap();
    let users = place.open();
    assert!(users.by_id("u2").unwrap().password.is_some());
    assert!(users.by_id("u2").unwrap().disabled);
}

#[test]
fn a_group_is_added_behind_the_others() {
    let place = Place::with(FILE);
    let group = NewGroup {
        name: "day".to_owned(),
        description: Some("Day shift".to_owned()),
        parents: vec!["ops".to_owned()],
    };
    add_group(&place.file, &group).unwrap();
    let text = place.text();
    let added = "\n[[group]]\nname = \"day\"\ndescription = \"Day shift\"\nparents = [\"ops\"]\n";
    assert_eq!(text.replace(added, ""), FILE);
    assert!(text.find(added).unwrap() < text.find("[[user]]").unwrap());
    assert_eq!(place.open().below("staff"), ["day", "night", "ops"]);
}

#[test]
fn an_empty_file_and_inline_tables_are_understood() {
    let place = Place::with("");
    add_group(&place.file, &NewGroup { name: "g".to_owned(), ..NewGroup::default() }).unwrap();
    add_user(&place.file, &user("x")).unwrap();
    assert!(place.text().starts_with("[[group]]\nname = \"g\"\n\n[[user]]\n"), "{}", place.text());
    let place = Place::with("user = [{ id = \"1\", name = \"x\" }]\n");
    set_disabled(&place.file, "x", true).unwrap();
    assert!(place.open().by_id("1").unwrap().disabled);
    let error = add_user(&place.file, &user("y")).unwrap_err().to_string();
    assert!(error.contains("`[[user]]` tables first"), "{error}");
}

#[test]
fn edits_at_the_same_time_are_all_kept() {
    let place = Place::with(FILE);
    let writers: Vec<_> = (0..2)
        .map(|writer| {
            let file = place.file.clone();
            thread::spawn(move || {
                for number in 0..20 {
                    add_user(&file, &user(&format!("w{writer}-{number}"))).unwrap();
                }
            })
        })
        .collect();
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    let users = place.open();
    for name in (0..2).flat_map(|writer| (0..20).map(move |n| format!("w{writer}-{n}"))) {
        assert!(users.by_login(&name).is_some(), "{name}");
    }
    assert_eq!(place.text().matches("[[user]]").count(), 3 + 40);
    assert_eq!(place.others(), Vec::<String>::new());
}

/// The lock that another process would hold.
#[test]
fn a_writer_waits_for_another_process() {
    let place = Place::with(FILE);
    let foreign = fs::File::open(&place.file).unwrap();
    foreign.lock().unwrap();
    let file = place.file.clone();
    let writer = thread::spawn(move || set_disabled(&file, "bob", true));
    // The other process replaces the file, as this one would, and lets go.
    let other = place.file.with_file_name("other");
    fs::write(&other, FILE.replace("carol", "carla")).unwrap();
    fs::rename(&other, &place.file).unwrap();
    foreign.unlock().unwrap();
    writer.join().unwrap().unwrap();
    let users = place.open();
    assert!(users.by_login("carla").is_some(), "nothing of the other is lost");
    assert!(users.by_login("bob").unwrap().disabled);
}

fn new_key(owner: &str) -> crate::session::Key {
    let secret = crate::session::KeySecret::issue().unwrap();
    crate::session::Key {
        id: crate::session::SessionId::issue().unwrap().to_string(),
        name: "for \"tests\"".to_owned(),
        owner: owner.parse().unwrap(),
        hash: secret.hash(),
        created: crate::clock::UnixMs(1_769_853_600_500),
        expires: Some(crate::clock::UnixMs(1_896_044_400_000)),
    }
}

#[test]
fn keys_and_partners_come_and_go_and_the_rest_stays() {
    let place = Place::with(FILE);
    let users = place.open();
    let secret = Secret::new("0123456789abcdef0123456789abcdef".to_owned());
    let (name, email) = (Some("Acme".to_owned()), Some("it@acme.example".to_owned()));
    let partner = NewPartner { id: "100".to_owned(), name, email, secret };
    add_partner(&place.file, &partner).unwrap();
    let with_partner = place.text();
    assert!(matches!(add_partner(&place.file, &partner), Err(EditError::Taken(_))));
    let keys = ["user/u1", "group/staff", "partner/100"].map(new_key);
    for key in &keys {
        users.add_key(key).unwrap();
        assert_eq!(*users.key(&key.id).unwrap(), *key);
        assert_eq!(users.keys_of(&key.owner).len(), 1);
    }
    assert_eq!(users.partner("100").unwrap().admin_secrets.len(), 1);
    assert!(matches!(add_key(&place.file, &keys[0]), Err(EditError::Taken(_))));
    for key in &keys {
        assert!(users.remove_key(&key.id).unwrap());
        assert!(users.key(&key.id).is_none());
        assert!(!users.remove_key(&key.id).unwrap());
    }
    assert_eq!(place.text(), with_partner);
    assert!(with_partner.starts_with("# our people") && with_partner.contains("# the boss"));
    assert!(with_partner.ends_with("# the end\n"));
}

#[test]
fn keys_of_nobody_are_refused() {
    let place = Place::with(FILE);
    for (owner, expected) in [
        ("user/alice", "no user `alice`"),
        ("group/staf", "did you mean `staff`?"),
        ("partner/7", "portcullis partner add 7"),
        ("partner/7/eve", "keys belong to"),
    ] {
        let error = add_key(&place.file, &new_key(owner)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let owner = find_owner(&place.file, &"user/alice".parse().unwrap()).unwrap();
    assert_eq!(owner.to_string(), "user/u1");
    assert_eq!(place.text(), FILE);
}

#[test]
fn aliases_of_a_new_user_are_checked() {
    let place = Place::with(FILE);
    let with = |dialect: &str, id: &str| NewUser {
        aliases: vec![(dialect.to_owned(), id.to_owned())],
        ..user("erin")
    };
    let error = add_user(&place.file, &with("versal", "x")).unwrap_err().to_string();
    assert!(error.contains("64 bits"), "{error}");
    assert_eq!(place.text(), FILE);
    let id = add_user(&place.file, &with("versal", "-7")).unwrap();
    assert_eq!(place.open().by_alias("versal", "-7").unwrap().id, id);
}

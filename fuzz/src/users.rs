//! `users.toml`: any text gives a directory or problems, and no edit breaks a file that was sound.

use std::fs;
use std::path::{Path, PathBuf};

use portcullis::directory::edit::{
    EditError, NewGroup, NewUser, add_group, add_user, set_disabled,
};
use portcullis::directory::{Settings, Users};
use portcullis::secret::Costs;
use portcullis::session::Directory;

/// Words of user files.
pub const WORDS: &[&str] = &[
    "[[user]]\n",
    "[[group]]\n",
    "[user.aliases]\n",
    "[[partner]]\n",
    "[[partner.member]]\n",
    "[[partner.app_token]]\n",
    "[[key]]\n",
    "user = \"alice\"\n",
    "admin_secrets = [\"0123456789abcdef\"]\n",
    "token = \"0123456789abcdef\"\n",
    "owner = \"user/u1\"\n",
    "id = \"1c8a4e0f-6f5c-4b6a-9a57-0d6a6f5b7a10\"\n",
    "hash = \"47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU\"\n",
    "created = \"2026-01-31T10:00:00Z\"\n",
    "id = \"u1\"\n",
    "name = \"alice\"\n",
    "name = \"staff\"\n",
    "email = \"a@example.com\"\n",
    "groups = [\"staff\"]\n",
    "parents = [\"staff\"]\n",
    "disabled = true\n",
    "aliases = { kaltura = \"a\" }\n",
    "# note\n",
    "user = [{ id = \"u2\", name = \"bob\" }]\n",
    "group = []\n",
    "\"",
    "'''",
    "=",
    "\n",
    ",",
    "[",
    "]",
    "{",
    "}",
    "\u{130}",
    "\u{df}",
    "\r\n",
    "display_name = \"A\"\n",
    "description = \"d\"\n",
];

/// Reads `data` as `users.toml`, then edits it.
pub fn run(data: &[u8]) {
    // Every run of this program has a file of its own.
    let file = folder().join(format!("portcullis-fuzz-{}.toml", std::process::id()));
    fs::write(&file, data).expect("the scratch file can be written");
    if let Some(users) = open(&file) {
        look(&users);
        let name = "fuzzed-user".to_owned();
        let user = NewUser { name: name.clone(), groups: groups(&users), ..NewUser::default() };
        edited(&file, add_user(&file, &user).map(drop));
        edited(&file, set_disabled(&file, "alice", true));
        edited(&file, set_disabled(&file, &name, true));
        let group = NewGroup { name: "fuzzed-group".to_owned(), ..NewGroup::default() };
        edited(&file, add_group(&file, &group));
    }
    fs::remove_file(&file).expect("the scratch file can be removed");
}

/// In memory where the system offers that.
fn folder() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() { memory } else { std::env::temp_dir() }
}

fn open(file: &Path) -> Option<Users> {
    match Users::open(&Settings { file: file.to_owned() }, &Costs::default()) {
        Ok((users, first)) => {
            assert!(first.is_none(), "a file that is there was taken for none");
            Some(users)
        }
        Err(refused) => {
            assert!(!refused.problems.is_empty(), "refused without a word");
            assert!(!refused.to_string().is_empty());
            None
        }
    }
}

fn look(users: &Users) {
    for name in ["alice", "ALICE", "u1", "a@example.com", ""] {
        if let Some(account) = users.by_login(name) {
            let same = users.by_id(&account.id).expect("everybody is found by id");
            assert_eq!(same.identifier, account.identifier);
            assert!(account.groups.iter().all(|group| users.group(group).is_some()));
        }
    }
    for group in ["staff", "ops", ""] {
        let below = users.below(group);
        assert!(below.iter().all(|name| name != group && users.group(name).is_some()));
    }
}

fn groups(users: &Users) -> Vec<String> {
    users.group("staff").map(|group| group.name.clone()).into_iter().collect()
}

/// The file was sound before: it still is, and no edit fails for what it made itself.
fn edited(file: &Path, result: Result<(), EditError>) {
    match result {
        Err(error @ (EditError::Refused(_) | EditError::Io(_))) => panic!("{error}"),
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(()) => {}
    }
    assert!(open(file).is_some(), "an edit broke the file");
}

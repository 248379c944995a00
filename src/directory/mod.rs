//! People, groups, partners and keys from `users.toml`: an immutable snapshot that is swapped when the file changes.
//!
//! Answers the session core's questions from memory; checks no password and opens no session.
//! Calls that touch the file block: never make them on a worker.

pub mod edit;
mod file;
mod keys;
mod partners;
mod read;
mod snapshot;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use self::read::{fresh_id, read};
use self::snapshot::Snapshot;
use crate::secret::{Costs, Secret, hash_password, random, sha256};
use crate::section::{Problem, Section, Settled};
use crate::session::{Account, Directory, Group, Key, Partner, Principal, SecretHash};

/// Login name of the user that is made at the first start.
const FIRST_USER: &str = "admin";

/// The `[directory]` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where people and groups are written down.
    pub file: PathBuf,
}

impl Settings {
    /// Reads the `[directory]` table.
    pub fn read(section: &mut Section) -> Self {
        let file = section.path("file").unwrap_or_else(|| section.base().join("users.toml"));
        Self { file }
    }
}

/// A version of the file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Everything that is wrong with it.
    pub problems: Vec<Problem>,
    /// Whether the same version was refused before: log and count it once.
    pub repeated: bool,
}

impl Refused {
    fn new(problems: Vec<Problem>) -> Self {
        Self { problems, repeated: false }
    }

    /// A problem of the file as a whole.
    fn whole(file: &Path, what: String, remedy: &str) -> Self {
        let (file, remedy) = (file.to_owned(), remedy.to_owned());
        Self::new(vec![Problem { file, line: 0, column: 0, what, remedy }])
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> = self.problems.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for Refused {}

/// What a look at the file led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// The file is the one in use.
    Unchanged,
    /// A new version is in use.
    Changed,
}

/// The user made at the first start. The password exists nowhere else: show it once.
#[derive(Debug)]
pub struct FirstUser {
    /// Login name.
    pub name: String,
    /// Password.
    pub password: Secret,
}

/// The directory.
pub struct Users {
    file: PathBuf,
    now: ArcSwap<Snapshot>,
    epoch: AtomicU64,
    makers: AtomicU64,
    state: Mutex<State>,
}

/// What is known of the file.
struct State {
    /// SHA-256 of the version in use.
    used: [u8; 32],
    settled: Settled,
    /// The last version that was refused; `None` in place of the hash: the file could not be read.
    refused: Option<(Option<[u8; 32]>, Refused)>,
}

impl State {
    fn refuse(&mut self, hash: Option<[u8; 32]>, mut refused: Refused) -> Refused {
        let last = self.refused.replace((hash, refused.clone()));
        refused.repeated =
            last.is_some_and(|(known, last)| known == hash && last.problems == refused.problems);
        refused
    }
}

impl Users {
    /// Reads the file. When there is none it is made, with one user who may log in with the password
    /// that is returned; its hash is made with `costs`.
    ///
    /// # Errors
    /// Everything that is wrong with the file.
    pub fn open(settings: &Settings, costs: &Costs) -> Result<(Self, Option<FirstUser>), Refused> {
        let file = settings.file.clone();
        let mut first = None;
        let text = match text_of(&file)? {
            Some(text) => text,
            None => {
                first = make(&file, costs)?;
                text_of(&file)?.ok_or_else(|| missing(&file))?
            }
        };
        let used = sha256(text.as_bytes());
        let now = ArcSwap::from_pointee(read(&file, text).map_err(Refused::new)?);
        let state = Mutex::new(State { used, settled: Settled::default(), refused: None });
        let (epoch, makers) = (AtomicU64::new(1), AtomicU64::new(1));
        Ok((Self { file, now, epoch, makers, state }, first))
    }

    /// Looks at the file and uses it if it has changed and is sound. A file that is missing, broken,
    /// or suddenly lists nobody (half written) is refused: what is in use stays.
    ///
    /// # Errors
    /// Everything that is wrong with the new version, at every call until it is replaced.
    pub fn reload(&self) -> Result<Reload, Refused> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let settled = state.settled.is_unchanged(&self.file) && state.refused.is_none();
        if settled && self.now.load().is_current() {
            return Ok(Reload::Unchanged);
        }
        let text = match text_of(&self.file) {
            Ok(Some(text)) => text,
            Ok(None) => return Err(state.refuse(None, missing(&self.file))),
            Err(refused) => return Err(state.refuse(None, refused)),
        };
        let hash = sha256(text.as_bytes());
        if hash == state.used && self.now.load().is_current() {
            state.refused = None;
            return Ok(Reload::Unchanged);
        }
        self.adopt(text).map_err(|refused| state.refuse(Some(hash), refused))?;
        (state.used, state.refused) = (hash, None);
        Ok(Reload::Changed)
    }

    fn adopt(&self, text: String) -> Result<(), Refused> {
        let new = read(&self.file, text).map_err(Refused::new)?;
        let old = self.now.load();
        if new.is_empty() && !old.is_empty() {
            let what = "the file lists no user any more".to_owned();
            let remedy = "restore it; to lock everybody out, set `disabled = true` for each user";
            return Err(Refused::whole(&self.file, what, remedy));
        }
        let differs = !new.looks_like(&old);
        let lacks = !new.has_makers_of(&old);
        self.now.store(Arc::new(new));
        if lacks {
            self.makers.fetch_add(1, Ordering::AcqRel);
        }
        if differs {
            // After the swap: whoever reads the new epoch reads the new content.
            self.epoch.fetch_add(1, Ordering::AcqRel);
        }
        Ok(())
    }

    /// Words for a person about each e-mail address that is somebody else's login name: it means that one.
    pub fn shadowed(&self) -> Vec<String> {
        let now = self.now.load();
        let tell = |(email, owner, other)| {
            format!(
                "the e-mail address {email} of {owner} is the login name of {other}, whom it means everywhere"
            )
        };
        now.shadowed().into_iter().map(tell).collect()
    }

    /// All keys, oldest first.
    pub fn keys(&self) -> Vec<Arc<Key>> {
        self.now.load().all_keys()
    }
}

/// Everything that is wrong with the file; a missing file is made at the first start, so it is fine.
pub fn check(settings: &Settings) -> Vec<Problem> {
    match text_of(&settings.file) {
        Ok(Some(text)) => read(&settings.file, text).err().unwrap_or_default(),
        Ok(None) => Vec::new(),
        Err(refused) => refused.problems,
    }
}

fn text_of(file: &Path) -> Result<Option<String>, Refused> {
    file::text_of(file).map_err(|error| {
        let remedy = "make it a text file that the gateway's user can read";
        Refused::whole(file, format!("cannot be read: {error}"), remedy)
    })
}

fn missing(file: &Path) -> Refused {
    Refused::whole(file, "the file is missing".to_owned(), "put it back")
}

/// Makes the file with its first user; `None` when another process was faster.
fn make(file: &Path, costs: &Costs) -> Result<Option<FirstUser>, Refused> {
    let failed = |error: &dyn fmt::Display| {
        let remedy = "make the folder exist and writable, or name another `file` in [directory]";
        Refused::whole(file, format!("cannot be made: {error}"), remedy)
    };
    let password = first_password().map_err(|error| failed(&error))?;
    let hash = hash_password(&password, costs).map_err(|error| failed(&error))?;
    let id = fresh_id();
    let text = format!(
        r#"# People and groups. Read again when it changes; a broken version is refused, the old one stays.
# Change it by hand, or with `portcullis user add|passwd|disable` and `portcullis group add`.

[[group]]
name = "admins"
description = "Administrators"
# parents = ["staff"]           # groups that this one is a sub-group of

[[user]]
id = "{id}"                     # stable, never reused
name = "{FIRST_USER}"                  # login name; upper and lower case are the same
# email = "admin@example.org"   # may be typed at login, too, where only one user has it
display_name = "Administrator"
password = "{hash}"
# disabled = true               # sessions end at once
groups = ["admins"]
"#,
        hash = hash.expose()
    );
    match file::create(file, &text) {
        Ok(()) => Ok(Some(FirstUser { name: FIRST_USER.to_owned(), password })),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
        Err(error) => Err(failed(&error)),
    }
}

/// 100 random bits as four groups of five characters that are hard to mistake for each other.
fn first_password() -> Result<Secret, getrandom::Error> {
    const LETTERS: [u8; 32] = *b"0123456789abcdefghjkmnpqrstvwxyz";
    let mut text = String::with_capacity(23);
    for (place, byte) in random::<20>()?.into_iter().enumerate() {
        if place > 0 && place % 5 == 0 {
            text.push('-');
        }
        text.extend(LETTERS.get(usize::from(byte % 32)).copied().map(char::from));
    }
    Ok(Secret::new(text))
}

impl Directory for Users {
    fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    fn makers(&self) -> u64 {
        self.makers.load(Ordering::Acquire)
    }

    fn refresh(&self) -> Result<(), String> {
        self.reload().map(drop).map_err(|refused| refused.to_string())
    }

    fn by_login(&self, identifier: &str) -> Option<Arc<Account>> {
        self.now.load().by_login(identifier).cloned()
    }

    fn by_id(&self, id: &str) -> Option<Arc<Account>> {
        self.now.load().by_id(id).cloned()
    }

    fn group(&self, name: &str) -> Option<Arc<Group>> {
        self.now.load().group(name).cloned()
    }

    fn below(&self, name: &str) -> Vec<String> {
        self.now.load().below(name).to_vec()
    }

    fn members(&self, group: &str) -> Vec<Arc<Account>> {
        self.now.load().members(group).to_vec()
    }

    fn by_alias(&self, dialect: &str, alias: &str) -> Option<Arc<Account>> {
        self.now.load().by_alias(dialect, alias).cloned()
    }

    fn is_taken(&self, name: &str) -> bool {
        self.now.load().is_taken(name)
    }

    fn is_members(&self, partner: &Partner, name: &str) -> bool {
        self.now.load().is_members(&partner.id, name)
    }

    fn partner(&self, id: &str) -> Option<Arc<Partner>> {
        self.now.load().partner(id).cloned()
    }

    fn partners_of(&self, user: &str) -> Vec<Arc<Partner>> {
        self.now.load().partners_of(user).to_vec()
    }

    fn key(&self, id: &str) -> Option<Arc<Key>> {
        self.now.load().key(id).cloned()
    }

    fn key_by_hash(&self, hash: &SecretHash) -> Option<Arc<Key>> {
        self.now.load().key_by_hash(hash).cloned()
    }

    fn keys_of(&self, owner: &Principal) -> Vec<Arc<Key>> {
        self.now.load().keys_of(owner).to_vec()
    }

    fn add_key(&self, key: &Key) -> Result<(), String> {
        edit::add_key(&self.file, key).map_err(|error| error.to_string())?;
        self.refresh()
    }

    fn remove_key(&self, id: &str) -> Result<bool, String> {
        let removed = edit::remove_key(&self.file, id).map_err(|error| error.to_string())?;
        self.refresh()?;
        Ok(removed)
    }

    fn rehash(&self, id: &str, old: &Secret, new: &Secret) -> Result<(), String> {
        let replaced = edit::replace_password(&self.file, id, old, new);
        if replaced.map_err(|error| error.to_string())? {
            self.refresh()?;
        }
        Ok(())
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Users").field("file", &self.file).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

//! Reads and replaces `users.toml`: atomically, and one writer at a time over all processes.
//!
//! Knows no content.

use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::secret::random;
use crate::section::open_file;

/// Largest file that is read, in bytes.
const LIMIT: u64 = 64 << 20;
/// How often, and after how long each time, a lock that another process holds is tried again.
const LOCK_TRIES: u32 = 250;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// How often a change is made anew when the file is saved under our hands.
const ATTEMPTS: usize = 5;

/// Writers of this process queue here; only one of them waits for other processes.
static WRITER: Mutex<()> = Mutex::new(());

/// The content of `file`; `None` when there is no such file.
pub(super) fn text_of(file: &Path) -> io::Result<Option<String>> {
    match open_file(file) {
        Ok(mut open) => text_in(&mut open).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn text_in(open: &mut File) -> io::Result<String> {
    let mut text = String::new();
    open.take(LIMIT + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LIMIT {
        let what = format!("the file is larger than {} MiB", LIMIT >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
    }
    Ok(text)
}

/// Replaces the content of `file` by what `change` makes of it; `None` leaves it.
///
/// Mode and owner are kept, links are followed. Blocks; waits at most some seconds for others. An
/// editor knows nothing of our lock: what it saves meanwhile is taken up, and the change made anew.
pub(super) fn update<E: From<io::Error>>(
    file: &Path,
    mut change: impl FnMut(String) -> Result<Option<String>, E>,
) -> Result<(), E> {
    let _alone = WRITER.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..ATTEMPTS {
        let target = fs::canonicalize(file)?;
        let mut locked = lock(&target)?;
        let text = text_in(&mut locked)?;
        let Some(new) = change(text.clone())? else { return Ok(()) };
        if replace(&target, &locked.metadata()?, &text, &new)? {
            return Ok(());
        }
    }
    let what = "somebody saves the file again and again";
    Err(io::Error::new(io::ErrorKind::ResourceBusy, what).into())
}

/// Makes `file` for its owner alone, unless there is one already: then an `AlreadyExists` error.
pub(super) fn create(file: &Path, text: &str) -> io::Result<()> {
    let temporary = Temporary::beside(file)?;
    temporary.fill(text, None)?;
    let kept = renameat_with(CWD, &temporary.path, CWD, file, RenameFlags::NOREPLACE);
    match kept {
        Ok(()) => {}
        // Some file systems cannot refuse to replace; two first starts at once are rare there.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) if !file.exists() => {
            fs::rename(&temporary.path, file)?;
        }
        Err(error) => return Err(error.into()),
    }
    sync_folder(file)
}

/// The file itself is the lock. A writer replaces it, so whoever waited looks again.
fn lock(target: &Path) -> io::Result<File> {
    for _ in 0..LOCK_TRIES {
        let open = open_file(target)?;
        match open.try_lock() {
            Ok(()) => {
                let (mine, there) = (open.metadata()?, fs::metadata(target)?);
                if (mine.dev(), mine.ino()) == (there.dev(), there.ino()) {
                    return Ok(open);
                }
            }
            Err(TryLockError::WouldBlock) => thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "another process is changing the file"))
}

/// Puts `text` in place of `before`; false when the file is not `before` any more.
fn replace(target: &Path, former: &Metadata, before: &str, text: &str) -> io::Result<bool> {
    let temporary = Temporary::beside(target)?;
    temporary.fill(text, Some(former))?;
    // As late as can be: writing and syncing took milliseconds in which an editor may have saved.
    if text_of(target)?.as_deref() != Some(before) {
        return Ok(false);
    }
    fs::rename(&temporary.path, target)?;
    sync_folder(target)?;
    Ok(true)
}

fn sync_folder(file: &Path) -> io::Result<()> {
    File::open(folder(file))?.sync_all()
}

fn folder(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// A file that goes away unless it was renamed.
struct Temporary {
    path: PathBuf,
    open: File,
}

impl Temporary {
    fn beside(file: &Path) -> io::Result<Self> {
        let mark = u64::from_ne_bytes(random().map_err(io::Error::other)?);
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let path = folder(file).join(format!(".{name}.{mark:016x}"));
        let open = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Self { path, open })
    }

    /// Writes everything to the disk, under the owner and mode of `former`.
    fn fill(&self, text: &str, former: Option<&Metadata>) -> io::Result<()> {
        let mut open = &self.open;
        open.write_all(text.as_bytes())?;
        if let Some(former) = former {
            let own = open.metadata()?;
            if (own.uid(), own.gid()) != (former.uid(), former.gid()) {
                fchown(open, Some(former.uid()), Some(former.gid())).map_err(|error| {
                    io::Error::new(error.kind(), format!("cannot keep the file's owner: {error}"))
                })?;
            }
            open.set_permissions(fs::Permissions::from_mode(former.mode() & 0o7777))?;
        }
        open.sync_all()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a rename there is nothing left under this name.
        let _ = fs::remove_file(&self.path);
    }
}

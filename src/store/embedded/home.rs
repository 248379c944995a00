//! The directory of the embedded store: whose it is, and how a file comes into it whole.
//!
//! Knows nothing of what is in the files.

use std::fs::{DirBuilder, File, Metadata, OpenOptions, Permissions, TryLockError};
use std::io::{Error, ErrorKind, Result as IoResult, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use redb::Database;
use redb::backends::FileBackend;
use rustix::io::Errno;

use super::disk::{DiskError, builder, refused};
use crate::store::OpenError;

/// Name of the store's file.
pub(super) const FILE: &str = "sessions.redb";
/// Name of a new one that is not complete yet.
const DRAFT: &str = "sessions.redb.new";
const LOCK: &str = "sessions.lock";
/// How often the lock is tried, and how long to wait in between: five seconds in all.
const LOCK_TRIES: u32 = 250;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Where a file lies, and which one it is: another may take its place.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    /// Kept open, but for nothing: the number of a file that nobody has is given to the next one.
    file: File,
}

impl Place {
    /// The place of the file that has just been opened at `path`.
    pub(super) fn of(opened: &File, path: &Path) -> IoResult<Self> {
        // Not a copy of the descriptor, which would keep the library's lock.
        let place = Self { path: path.to_owned(), file: File::open(path)? };
        match is_one(&opened.metadata()?, &place.file.metadata()?) {
            true => Ok(place),
            false => Err(Error::other("it was replaced while it was opened")),
        }
    }

    /// Whether the file is no longer there. What may not be looked at counts as there.
    pub(super) fn is_left(&self) -> bool {
        match (std::fs::metadata(&self.path), self.file.metadata()) {
            (Ok(found), Ok(opened)) => !is_one(&found, &opened),
            (Err(error), _) => {
                matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
                    || Errno::from_io_error(&error) == Some(Errno::LOOP)
            }
            (Ok(_), Err(_)) => false,
        }
    }
}

fn is_one(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Opens or makes a file that only its owner may read.
pub(super) fn open_private(path: &Path) -> IoResult<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

/// The directory, this process's alone until it is dropped. By a file of its own, because the database's lock is gone
/// while the database is opened again.
#[derive(Debug)]
pub(super) struct Home {
    directory: PathBuf,
    lock: Place,
}

impl Home {
    /// Takes the directory, which is made when missing. Waits for an operator's command, which is short.
    pub(super) fn take(directory: &Path) -> Result<Self, OpenError> {
        let failed = |error: Error| refused(directory, &error.into());
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
        let mut lock = open_lock(directory).map_err(failed)?;
        for _ in 1..LOCK_TRIES {
            if try_lock(&mut lock.file).map_err(failed)? && !lock.is_left() {
                let home = Self { directory: directory.to_owned(), lock };
                // What a dead gateway left.
                remove(&home.directory.join(DRAFT)).map_err(failed)?;
                return Ok(home);
            }
            std::thread::sleep(LOCK_PAUSE);
            if lock.is_left() {
                lock = open_lock(directory).map_err(failed)?;
            }
        }
        let process = holder(&lock.file).parse().ok();
        Err(OpenError::InUse { path: directory.to_owned(), process })
    }

    /// Takes it again when another directory, or another lock, lies where it was; but not one that another process has
    /// had meanwhile: its sessions are in there.
    pub(super) fn stay(&mut self) -> Result<(), DiskError> {
        if self.lock.is_left() {
            let mut lock = open_lock(&self.directory)?;
            let holder = holder(&lock.file);
            let is_free = holder.is_empty() || holder == std::process::id().to_string();
            if !is_free || !try_lock(&mut lock.file)? {
                return Err(DiskError::InUse);
            }
            self.lock = lock;
        }
        Ok(())
    }

    /// Puts a new file in place of any other once `fill` has written what is to be in it.
    pub(super) fn make(
        &self,
        fill: impl FnOnce(&Database) -> Result<(), DiskError>,
    ) -> Result<(), DiskError> {
        let draft = self.directory.join(DRAFT);
        let made = write_to(&draft, fill).and_then(|()| {
            std::fs::rename(&draft, self.directory.join(FILE))?;
            // A file outlives a power failure only when its directory entry does, too.
            Ok(File::open(&self.directory)?.sync_all()?)
        });
        if made.is_err() {
            // It may be what has filled the disk.
            let _ = std::fs::remove_file(&draft);
        }
        made
    }
}

fn write_to(
    draft: &Path,
    fill: impl FnOnce(&Database) -> Result<(), DiskError>,
) -> Result<(), DiskError> {
    remove(draft)?;
    let database = builder().create_with_backend(FileBackend::new(open_private(draft)?)?)?;
    fill(&database)?;
    drop(database);
    Ok(File::open(draft)?.sync_all()?)
}

/// Removes a file, if it is there.
fn remove(path: &Path) -> IoResult<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The number of the process that had the lock last; empty where it cannot be read.
fn holder(lock: &File) -> String {
    let mut text = [0; 16];
    let read = lock.read_at(&mut text, 0).unwrap_or_default();
    String::from_utf8_lossy(text.get(..read).unwrap_or_default()).trim().to_owned()
}

fn open_lock(directory: &Path) -> IoResult<Place> {
    let path = directory.join(LOCK);
    Ok(Place { file: open_private(&path)?, path })
}

/// Takes the lock and leaves the number of the process in it; whether it was free.
fn try_lock(file: &mut File) -> IoResult<bool> {
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(false),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())?;
    Ok(true)
}

//! The file of the embedded store: opening it for one process only, loading it, one commit per batch.
//!
//! Knows records only as JSON documents under their ids; decides nothing about them but "readable".

use std::fmt;
use std::fs::{DirBuilder, File, Metadata, OpenOptions, Permissions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use redb::backends::FileBackend;
use redb::{
    Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition,
    WriteTransaction,
};

use crate::panics::caught;
use crate::session::{Count, CounterKey, Record, SessionId};
use crate::store::OpenError;
use crate::threads::{NoThread, REMEDY, is_want};

/// Records as JSON, under the 16 bytes of their ids.
const SESSIONS: TableDefinition<'_, &[u8; 16], &[u8]> = TableDefinition::new("sessions");
/// Documents that could not be read, kept for a person to look at.
const QUARANTINE: TableDefinition<'_, &[u8; 16], &[u8]> = TableDefinition::new("quarantine");
/// Counts of failed logins as JSON, under their names.
const COUNTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("throttle");
/// What is written to see whether writing works again.
const PROBE: TableDefinition<'_, u8, &[u8]> = TableDefinition::new("probe");
/// Big enough to need space that a full disk does not have.
const PROBE_BYTES: usize = 64 * 1024;
/// Bytes of the file that redb keeps in memory: the upper levels of the tree.
const CACHE_BYTES: usize = 32 << 20;

/// Name of the file within the store's directory.
pub(super) const FILE: &str = "sessions.redb";
const LOCK: &str = "sessions.lock";
/// How often the lock is tried, and how long to wait in between: five seconds in all.
const LOCK_TRIES: u32 = 250;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Why the file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum DiskError {
    /// It was closed after an earlier failure.
    #[error("closed after an earlier failure")]
    Closed,
    /// The library gave up on what it found in the file.
    #[error("the file is damaged")]
    Damaged,
    /// Nobody is there to write it.
    #[error("{0}")]
    NoThread(NoThread),
    /// The library or the operating system says no.
    #[error("{0}")]
    Failed(Box<redb::Error>),
}

impl<E: Into<redb::Error>> From<E> for DiskError {
    fn from(error: E) -> Self {
        Self::Failed(Box::new(error.into()))
    }
}

/// One change: a document to write under the id, or `None` to remove it.
pub(super) type Change = (SessionId, Option<Vec<u8>>);

/// A count to write under the name, or `None` to remove it.
pub(super) type CountChange = (CounterKey, Option<Count>);

type Opener = dyn Fn() -> Result<(Database, Option<Place>), DatabaseError> + Send;

/// Where a file lies, and which one it is: another may take its place.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    /// Kept open, but for nothing: the number of a file that nobody has is given to the next one.
    file: File,
}

impl Place {
    /// The place of the file that has just been opened at `path`.
    fn of(opened: &File, path: &Path) -> std::io::Result<Self> {
        // Not a copy of the descriptor, which would keep the library's lock.
        let place = Self { path: path.to_owned(), file: File::open(path)? };
        match is_one(&opened.metadata()?, &place.file.metadata()?) {
            true => Ok(place),
            false => Err(std::io::Error::other("it was replaced while it was opened")),
        }
    }

    /// Whether the file is no longer there. What cannot be looked at counts as there.
    fn is_left(&self) -> bool {
        match (std::fs::metadata(&self.path), self.file.metadata()) {
            (Ok(found), Ok(opened)) => !is_one(&found, &opened),
            (Err(error), _) => error.kind() == ErrorKind::NotFound,
            (Ok(_), Err(_)) => false,
        }
    }
}

fn is_one(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// The open file.
pub(super) struct Disk {
    open: Box<Opener>,
    database: Option<Database>,
    /// Which file was opened last.
    place: Option<Place>,
    /// Whether nothing is known of its content: it is not the one that was loaded.
    is_strange: bool,
    /// Held for as long as the store is open, also while the database is closed after a failure.
    _lock: Option<File>,
}

impl Disk {
    /// Opens the file in `directory`, making both when missing.
    pub(super) fn open(directory: &Path) -> Result<Self, OpenError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(|error| refused(directory, &error.into()))?;
        let lock = lock(directory)?;
        let file = directory.join(FILE);
        let opener = move || {
            let opened = open_private(&file)?;
            let place = Place::of(&opened, &file)?;
            let database = builder().create_with_backend(FileBackend::new(opened)?)?;
            Ok((database, Some(place)))
        };
        Self::with(Box::new(opener), Some(lock))
            .and_then(|disk| {
                // A file outlives a power failure only when its directory entry does, too.
                File::open(directory)?.sync_all()?;
                Ok(disk)
            })
            .map_err(|error| refused(directory, &error))
    }

    /// Opens what `open` opens.
    pub(super) fn with(open: Box<Opener>, lock: Option<File>) -> Result<Self, DiskError> {
        let mut disk = Self { open, database: None, place: None, is_strange: false, _lock: lock };
        disk.reopen()?;
        Ok(disk)
    }

    /// Hands every document that is a record to `keep`, which says whether the session goes on. The
    /// others are removed; unreadable ones are put aside. Returns how many were removed and put aside.
    pub(super) fn load(
        &mut self,
        mut keep: impl FnMut(Record) -> bool,
    ) -> Result<(usize, usize), DiskError> {
        self.guarded(|database| {
            let (mut ended, mut unreadable) = (Vec::new(), Vec::new());
            let read = database.begin_read()?;
            match read.open_table(SESSIONS) {
                Err(redb::TableError::TableDoesNotExist(_)) => {}
                Err(error) => return Err(error.into()),
                Ok(table) => {
                    for row in table.iter()? {
                        let (key, value) = row?;
                        let id = SessionId::from_bytes(*key.value());
                        match serde_json::from_slice::<Record>(value.value()) {
                            Ok(record) if record.id == id => {
                                if !keep(record) {
                                    ended.push(id);
                                }
                            }
                            Ok(_) => unreadable.push((id, "it carries another id".to_owned())),
                            Err(error) => unreadable.push((id, error.to_string())),
                        }
                    }
                }
            }
            drop(read);
            if !ended.is_empty() || !unreadable.is_empty() {
                clean(database, &ended, &unreadable)?;
            }
            Ok((ended.len(), unreadable.len()))
        })
    }

    /// Hands every readable count to `keep`; unreadable ones go at the next change of theirs.
    pub(super) fn load_counts(
        &mut self,
        mut keep: impl FnMut(CounterKey, Count),
    ) -> Result<(), DiskError> {
        self.guarded(|database| {
            let table = match database.begin_read()?.open_table(COUNTS) {
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(()),
                found => found?,
            };
            for row in table.iter()? {
                let (name, document) = row?;
                match (name.value().parse(), serde_json::from_slice(document.value())) {
                    (Ok(key), Ok(count)) => keep(key, count),
                    // A newer version's, or damaged: worth a few guesses, not a start.
                    _ => tracing::warn!("a stored count of failed logins is not readable"),
                }
            }
            Ok(())
        })
    }

    /// Writes all changes or none; durable when this returns. After an error the file is closed, and
    /// whether the changes are in it is not known: they are to be written again after [`Disk::heal`].
    pub(super) fn commit(
        &mut self,
        changes: &[Change],
        counts: &[CountChange],
    ) -> Result<(), DiskError> {
        self.guarded(|database| {
            let write = database.begin_write()?;
            if !counts.is_empty() {
                write_counts(&write, counts)?;
            }
            if !changes.is_empty() {
                let mut table = write.open_table(SESSIONS)?;
                for (id, document) in changes {
                    match document {
                        Some(document) => table.insert(id.as_bytes(), document.as_slice())?,
                        None => table.remove(id.as_bytes())?,
                    };
                }
            }
            Ok(write.commit()?)
        })
    }

    /// Whether the file was removed, or another put in its place: what is written now would be lost.
    pub(super) fn is_left(&self) -> bool {
        self.place.as_ref().is_some_and(Place::is_left)
    }

    /// Opens the file again after a failure, and sees whether it can be written.
    pub(super) fn heal(&mut self) -> Result<(), DiskError> {
        self.reopen()?;
        self.guarded(|database| {
            let write = database.begin_write()?;
            write.open_table(PROBE)?.insert(0, vec![0; PROBE_BYTES].as_slice())?;
            Ok(write.commit()?)
        })
    }

    /// The ids of all documents, once for each file that is found in the place of another.
    pub(super) fn strange(&mut self) -> Result<Option<Vec<SessionId>>, DiskError> {
        if !self.is_strange {
            return Ok(None);
        }
        let ids = self.guarded(|database| {
            let table = match database.begin_read()?.open_table(SESSIONS) {
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                found => found?,
            };
            table.iter()?.map(|row| Ok(SessionId::from_bytes(*row?.0.value()))).collect()
        })?;
        self.is_strange = false;
        Ok(Some(ids))
    }

    fn reopen(&mut self) -> Result<(), DiskError> {
        self.database = None;
        let (database, place) = caught(|| (self.open)()).map_err(damaged)??;
        // Of the former one: the new one is there now, or another already.
        self.is_strange |= self.is_left();
        (self.database, self.place) = (Some(database), place);
        Ok(())
    }

    /// Runs `work` on the database; closes it when that fails, since redb then refuses all further
    /// writes until it is opened again. A damaged file can make redb panic: that is a failure, too.
    fn guarded<T>(
        &mut self,
        work: impl FnOnce(&Database) -> Result<T, DiskError>,
    ) -> Result<T, DiskError> {
        let database = self.database.take().ok_or(DiskError::Closed)?;
        match caught(|| work(&database)) {
            Ok(Ok(done)) => {
                self.database = Some(database);
                Ok(done)
            }
            Ok(Err(error)) => Err(error),
            Err(place) => Err(damaged(place)),
        }
    }
}

/// The library looks at the file when it closes it, too, and may give up on it.
impl Drop for Disk {
    fn drop(&mut self) {
        let database = self.database.take();
        if let Err(place) = caught(|| drop(database)) {
            tracing::warn!(error = %damaged(place), "the session store, when it was closed");
        }
    }
}

/// What a panic of the library means.
fn damaged(place: String) -> DiskError {
    tracing::debug!(place, "the library gave up on the file");
    DiskError::Damaged
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").field("open", &self.database.is_some()).finish_non_exhaustive()
    }
}

/// Settings of the database; one process at a time.
pub(super) fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

fn write_counts(write: &WriteTransaction, counts: &[CountChange]) -> Result<(), DiskError> {
    let mut table = write.open_table(COUNTS)?;
    for (key, count) in counts {
        let name = key.to_string();
        match count.map(|count| serde_json::to_vec(&count)) {
            None => table.remove(name.as_str())?,
            Some(Ok(document)) => table.insert(name.as_str(), document.as_slice())?,
            // Cannot happen: it is plain numbers.
            Some(Err(error)) => {
                tracing::error!(%error, "a count of failed logins cannot be written");
                None
            }
        };
    }
    Ok(())
}

fn clean(
    database: &Database,
    ended: &[SessionId],
    unreadable: &[(SessionId, String)],
) -> Result<(), DiskError> {
    let write = database.begin_write()?;
    {
        let (mut sessions, mut aside) =
            (write.open_table(SESSIONS)?, write.open_table(QUARANTINE)?);
        for id in ended {
            sessions.remove(id.as_bytes())?;
        }
        for (id, reason) in unreadable {
            tracing::warn!(session = %id, %reason, "stored session put aside: not readable");
            if let Some(document) = sessions.remove(id.as_bytes())? {
                aside.insert(id.as_bytes(), document.value())?;
            }
        }
    }
    Ok(write.commit()?)
}

/// Opens or makes a file that only its owner may read.
fn open_private(path: &Path) -> std::io::Result<File> {
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

/// Takes the directory for this process until the returned file is dropped. Its own file, because the
/// database's lock is gone while the database is opened again. Waits for an operator's command, which is short.
fn lock(directory: &Path) -> Result<File, OpenError> {
    let take = || {
        let mut file = open_private(&directory.join(LOCK))?;
        for tries in 1.. {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if tries < LOCK_TRIES => {
                    std::thread::sleep(LOCK_PAUSE)
                }
                Err(TryLockError::WouldBlock) => return Ok(Err(file)),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        file.set_len(0)?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Ok(file))
    };
    match take() {
        Ok(Ok(file)) => Ok(file),
        Ok(Err(file)) => {
            let mut text = String::new();
            // Only for the message: what cannot be read is left out of it.
            let _ = file.take(16).read_to_string(&mut text);
            let process = text.trim().parse().ok();
            Err(OpenError::InUse { path: directory.to_owned(), process })
        }
        Err(error) => Err(refused(directory, &error.into())),
    }
}

/// The store in `directory` cannot be opened.
pub(super) fn refused(directory: &Path, error: &DiskError) -> OpenError {
    let directory = directory.display();
    let kind = match error {
        DiskError::Failed(error) => match &**error {
            redb::Error::Io(error) => Some(error.kind()),
            _ => None,
        },
        DiskError::NoThread(_) => Some(ErrorKind::WouldBlock),
        DiskError::Closed | DiskError::Damaged => None,
    };
    let remedy = match kind {
        Some(ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => {
            format!("make {directory} writable for the gateway's user, or change `store.path`")
        }
        Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
            format!("free space on the disk that holds {directory}")
        }
        // The file may be sound.
        Some(kind) if is_want(kind) => REMEDY.to_owned(),
        _ => format!(
            "check the disk and `store.path`; a damaged file must be restored, or be moved out of \
             {directory}: all its sessions end then"
        ),
    };
    OpenError::Failed {
        what: format!("cannot open the session store in {directory}: {error}"),
        remedy,
    }
}

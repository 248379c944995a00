//! The file of the embedded store: opening it for one process only, loading it, one commit per batch.
//!
//! Knows records only as JSON documents under their ids; decides nothing about them but "readable".

use std::fmt;
use std::io::ErrorKind;
use std::path::Path;

use redb::backends::FileBackend;
use redb::{
    Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition,
    WriteTransaction,
};

use super::home::{FILE, Home, Place, open_private};
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

/// Sessions that are written to a new file in one commit.
const STEP: usize = 4096;

/// Why the file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum DiskError {
    /// It was closed after an earlier failure.
    #[error("closed after an earlier failure")]
    Closed,
    /// Its directory was taken away, and another process has, or had, the one that is there now.
    #[error("another Portcullis has its directory now: stop this one, whose sessions end then")]
    InUse,
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

/// The open file.
pub(super) struct Disk {
    open: Box<Opener>,
    database: Option<Database>,
    /// Which file was opened last.
    place: Option<Place>,
    /// Whether it was found to have gone, and no other is open yet.
    left: bool,
    /// Held for as long as the store is open, also while the database is closed after a failure.
    home: Option<Home>,
}

impl Disk {
    /// Opens the file in `directory`, making both when missing.
    pub(super) fn open(directory: &Path) -> Result<Self, OpenError> {
        let home = Home::take(directory)?;
        let file = directory.join(FILE);
        let opener = move || {
            let opened = open_private(&file)?;
            let place = Place::of(&opened, &file)?;
            let database = builder().create_with_backend(FileBackend::new(opened)?)?;
            Ok((database, Some(place)))
        };
        let refused = |error| refused(directory, &error);
        if matches!(directory.join(FILE).try_exists(), Ok(false)) {
            home.make(|_| Ok(())).map_err(refused)?;
        }
        Self::with(Box::new(opener), Some(home)).map_err(refused)
    }

    /// Opens what `open` opens.
    pub(super) fn with(open: Box<Opener>, home: Option<Home>) -> Result<Self, DiskError> {
        let mut disk = Self { open, database: None, place: None, left: false, home };
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
        self.guarded(|database| write(database, changes, counts))
    }

    /// Whether the file was removed, or another put in its place: what is written now would be lost.
    pub(super) fn is_left(&self) -> bool {
        self.left || self.place.as_ref().is_some_and(Place::is_left)
    }

    /// Puts a file with exactly this content where the one is that is left: whole, or not at all.
    pub(super) fn replace(
        &mut self,
        sessions: impl Iterator<Item = Change>,
        counts: &[CountChange],
    ) -> Result<(), DiskError> {
        self.close();
        // A file that was removed takes room for as long as somebody has it open.
        (self.place, self.left) = (None, true);
        let home = self.home.as_mut().ok_or(DiskError::Closed)?;
        home.stay()?;
        let mut sessions = sessions.peekable();
        caught(|| {
            home.make(|database| {
                write(database, &[], counts)?;
                while sessions.peek().is_some() {
                    let step: Vec<_> = sessions.by_ref().take(STEP).collect();
                    write(database, &step, &[])?;
                }
                Ok(())
            })
        })
        .map_err(damaged)??;
        self.left = false;
        self.reopen()
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

    /// The library looks at the file when it closes it, too, and may give up on it.
    fn close(&mut self) {
        let database = self.database.take();
        if let Err(place) = caught(|| drop(database)) {
            tracing::warn!(error = %damaged(place), "the session store, when it was closed");
        }
    }

    fn reopen(&mut self) -> Result<(), DiskError> {
        self.close();
        let (database, place) = caught(|| (self.open)()).map_err(damaged)??;
        if self.is_left() {
            // In this moment. Nothing is known of what the new one holds.
            return Err(std::io::Error::other("the file was replaced").into());
        }
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

impl Drop for Disk {
    fn drop(&mut self) {
        self.close();
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

fn write(database: &Database, changes: &[Change], counts: &[CountChange]) -> Result<(), DiskError> {
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

/// The store in `directory` cannot be opened.
pub(super) fn refused(directory: &Path, error: &DiskError) -> OpenError {
    let directory = directory.display();
    let kind = match error {
        DiskError::Failed(error) => match &**error {
            redb::Error::Io(error) => Some(error.kind()),
            _ => None,
        },
        DiskError::NoThread(_) => Some(ErrorKind::WouldBlock),
        DiskError::Closed | DiskError::Damaged | DiskError::InUse => None,
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

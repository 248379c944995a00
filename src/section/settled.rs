//! Tells without reading it whether a file is still the one that was read.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// So many times a file is read with the same stamp before the stamp alone is believed: it may have
/// been written twice within one tick of the file system's clock.
const LOOKS: u8 = 3;

/// What a file looked like whenever it was read.
#[derive(Debug, Default)]
pub struct Settled {
    stamp: Option<Stamp>,
    looks: u8,
}

/// Changes with every write, also when the size and the time of modification are put back.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(file: &Path) -> Option<Self> {
        let found = fs::metadata(file).ok()?;
        Some(Self {
            file: (found.dev(), found.ino()),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }
}

impl Settled {
    /// Whether the file need not be read again. To be asked before each reading, and with some time
    /// between: whoever is told no reads the file.
    pub fn is_unchanged(&mut self, file: &Path) -> bool {
        let stamp = Stamp::of(file);
        if stamp.is_none() || stamp != self.stamp {
            (self.stamp, self.looks) = (stamp, 0);
            return false;
        }
        if self.looks < LOOKS {
            self.looks += 1;
            return false;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    /// Whether it is read at each of the next looks.
    fn looks(settled: &mut Settled, file: &Path) -> [bool; 5] {
        [(); 5].map(|()| !settled.is_unchanged(file))
    }

    #[test]
    fn a_file_is_read_until_it_has_settled_and_after_every_change() {
        let folder = tempfile::tempdir().unwrap();
        let (file, other) = (folder.path().join("file"), folder.path().join("other"));
        let mut settled = Settled::default();
        assert_eq!(looks(&mut settled, &file), [true; 5], "there is none");
        fs::write(&file, "one").unwrap();
        let first = [true, true, true, true, false];
        assert_eq!(looks(&mut settled, &file), first);
        // Another length, another file, a modification that says it is old.
        fs::write(&file, "three").unwrap();
        assert_eq!(looks(&mut settled, &file), first);
        fs::write(&other, "three").unwrap();
        fs::rename(&other, &file).unwrap();
        assert_eq!(looks(&mut settled, &file), first);
        let old = SystemTime::UNIX_EPOCH + Duration::from_secs(3600);
        fs::File::options().write(true).open(&file).unwrap().set_modified(old).unwrap();
        assert_eq!(looks(&mut settled, &file), first);
        assert!(settled.is_unchanged(&file));
    }
}

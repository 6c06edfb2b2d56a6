//! Where lines end up: standard output, or the end of a file that may be renamed away under our hands. Blocks; only the
//! writer's own thread calls it.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::{
        fd::AsFd as _,
        unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::PathBuf,
};

/// Who may read records: they say who may pull what.
const FILE_MODE: u32 = 0o600;

/// Takes bytes.
pub(super) trait Sink: Send + 'static {
    /// Makes sure that what is written next goes to the right place; true if that is another place than before.
    fn renew(&mut self) -> io::Result<bool>;

    /// Writes some of `bytes`; how many.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;
}

/// Standard output, past the buffer of the library: after an error it could not tell what it has written.
pub(super) struct Stdout(File);

/// The end of a file.
pub(super) struct Appended {
    path: PathBuf,
    file: File,
    /// Device and inode: another one under the path means that the file was rotated.
    id: (u64, u64),
}

impl Stdout {
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self(File::from(io::stdout().as_fd().try_clone_to_owned()?)))
    }
}

impl Appended {
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(FILE_MODE)
            .open(&path)?;
        let found = file.metadata()?;
        Ok(Self {
            path,
            id: (found.dev(), found.ino()),
            file,
        })
    }
}

impl Sink for Stdout {
    fn renew(&mut self) -> io::Result<bool> {
        Ok(false)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }
}

impl Sink for Appended {
    fn renew(&mut self) -> io::Result<bool> {
        let is_in_place = match std::fs::metadata(&self.path) {
            Ok(found) => (found.dev(), found.ino()) == self.id,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        if is_in_place {
            return Ok(false);
        }
        *self = Self::open(self.path.clone())?;
        Ok(true)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o1_file_that_was_rotated_is_opened_anew_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let (path, rotated) = (folder.path().join("audit"), folder.path().join("audit.1"));
        let mut sink = Appended::open(path.clone()).unwrap();
        assert_eq!(sink.write(b"one\n").unwrap(), 4);
        assert!(!sink.renew().unwrap());
        std::fs::rename(&path, &rotated).unwrap();
        assert!(sink.renew().unwrap());
        assert_eq!(sink.write(b"two\n").unwrap(), 4);
        assert_eq!(std::fs::read_to_string(&rotated).unwrap(), "one\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\n");
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, FILE_MODE);

        // What is there stays.
        let mut again = Appended::open(path.clone()).unwrap();
        assert_eq!(again.write(b"three\n").unwrap(), 6);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\nthree\n");
    }
}

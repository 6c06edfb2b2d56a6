//! Where lines end up: standard output, or the end of a file that may be renamed away under our hands. Blocks; only the
//! writer's own thread calls it.

use std::{
    fs::{File, Metadata, OpenOptions},
    io::{self, Write as _},
    os::{
        fd::AsFd as _,
        unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _},
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
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// It cannot be opened, or is something else than a file: to open a pipe would block until somebody reads it.
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        match std::fs::metadata(&path) {
            Ok(found) if !found.is_file() => return Err(not_a_file(&found)),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
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

fn not_a_file(found: &Metadata) -> io::Error {
    let kind = found.file_type();
    let what = if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_dir() {
        "a folder"
    } else {
        "a special file"
    };
    io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("it is {what} and must be a regular file; records for another program go to standard output"),
    )
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

    #[test]
    fn sink_that_is_a_pipe_or_another_special_file_is_refused_and_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mkfifoat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        )
        .unwrap();
        for (path, what) in [
            (pipe, "a named pipe"),
            (PathBuf::from("/dev/null"), "a special file"),
            (folder.path().to_owned(), "a folder"),
        ] {
            let error = Appended::open(path).err().unwrap();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(
                error.to_string().starts_with(&format!("it is {what} ")),
                "{error}"
            );
        }
    }
}

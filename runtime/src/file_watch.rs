//! Notices that files have changed since they were read.
//!
//! A ConfigMap or Secret volume swaps a symlink two directories up, a projected token is replaced by rename, an editor
//! writes in place: reading the content on a timer sees all of them, and nothing can be missed. The files are small.

use std::{
    collections::BTreeMap,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use zeroize::Zeroizing;

use crate::Shutdown;

/// How often the content is read. A configuration change takes effect within 10 s of reaching the disk (guarantee A6).
pub const POLL_PERIOD: Duration = Duration::from_secs(2);
/// More is none of the files that are watched: a ConfigMap holds 1 MiB.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// Files as they were when they were read, to be compared with what they are later. One that could not be read counts
/// too: it has changed once it can be. Wiped when dropped, because some of them hold keys and tokens.
#[derive(Default)]
pub struct ReadFiles(BTreeMap<PathBuf, Option<Zeroizing<Vec<u8>>>>);

impl ReadFiles {
    /// Reads `path`, and remembers what came of it. Blocks.
    ///
    /// # Errors
    /// The file cannot be read, or is larger than 4 MiB.
    pub fn read(&mut self, path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
        let content = read_small(path);
        self.0.insert(path.to_owned(), content.as_ref().ok().cloned());
        content
    }

    /// Waits until one of the files differs from what was read. False: the shutdown came first.
    pub async fn changed(self, shutdown: &Shutdown) -> bool {
        let files = Arc::new(self);
        loop {
            tokio::select! {
                () = shutdown.started() => return false,
                () = tokio::time::sleep(POLL_PERIOD) => {}
            }
            let files = Arc::clone(&files);
            if tokio::task::spawn_blocking(move || files.have_changed())
                .await
                .is_ok_and(|have_changed| have_changed)
            {
                return true;
            }
        }
    }

    /// Whether one of the files differs now from what was read. Blocks.
    pub fn have_changed(&self) -> bool {
        self.0
            .iter()
            .any(|(path, known)| read_small(path).ok().as_ref() != known.as_ref())
    }
}

fn read_small(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut content = Zeroizing::new(Vec::new());
    std::fs::File::open(path)?
        .take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut content)?;
    if content.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "is larger than 4 MiB",
        ));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn read(paths: &[&Path]) -> ReadFiles {
        let mut files = ReadFiles::default();
        for path in paths {
            drop(files.read(path));
        }
        files
    }

    #[test]
    fn read_files_differ_once_one_was_written_removed_or_created() {
        let folder = tempfile::tempdir().unwrap();
        let (present, absent) = (folder.path().join("present"), folder.path().join("absent"));
        std::fs::write(&present, "1").unwrap();
        let files = read(&[&present, &absent]);
        assert!(!files.have_changed());
        std::fs::write(&present, "2").unwrap();
        assert!(files.have_changed(), "written");
        std::fs::remove_file(&present).unwrap();
        assert!(files.have_changed(), "removed");
        std::fs::write(&present, "1").unwrap();
        assert!(!files.have_changed(), "as it was");
        std::fs::write(&absent, "").unwrap();
        assert!(files.have_changed(), "created");
    }

    #[tokio::test(start_paused = true)]
    async fn read_files_see_a_volume_that_is_swapped_by_its_symlink() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for (state, content) in [("state-1", "old"), ("state-2", "new")] {
            std::fs::create_dir(path(state)).unwrap();
            std::fs::write(path(state).join("config.yaml"), content).unwrap();
        }
        symlink("state-1", path("..data")).unwrap();
        symlink("..data/config.yaml", path("config.yaml")).unwrap();
        let files = read(&[&path("config.yaml")]);
        symlink("state-2", path("..data_tmp")).unwrap();
        std::fs::rename(path("..data_tmp"), path("..data")).unwrap();
        let started = tokio::time::Instant::now();
        assert!(files.changed(&Shutdown::manual()).await);
        assert_eq!(started.elapsed(), POLL_PERIOD);
    }

    #[tokio::test(start_paused = true)]
    async fn read_files_are_given_up_at_shutdown() {
        let shutdown = Shutdown::manual();
        shutdown.start();
        assert!(!ReadFiles::default().changed(&shutdown).await);
    }
}

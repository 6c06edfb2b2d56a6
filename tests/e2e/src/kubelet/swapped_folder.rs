//! A volume's files, swapped all at once as a kubelet does it: every file is a link into `..data`, which is itself a
//! link to a folder with one state of all files, and is replaced by a rename.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};

/// Files of a volume: path below the mount point, and content.
pub(super) type Files = BTreeMap<PathBuf, Vec<u8>>;

/// The link to the current state.
const CURRENT: &str = "..data";

/// A folder whose files change together.
pub(super) struct SwappedFolder {
    path: PathBuf,
    generation: u64,
}

impl SwappedFolder {
    pub(super) fn create(path: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&path)?;
        Ok(Self { path, generation: 0 })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces everything.
    pub(super) fn write(&mut self, files: &Files) -> io::Result<()> {
        let before = self.state_name();
        self.generation += 1;
        let state = self.path.join(self.state_name());
        for (name, content) in files {
            let path = state.join(name);
            fs::create_dir_all(path.parent().unwrap_or(&state))?;
            // Tokens and keys: for the owner alone, as far as this machine can say it.
            fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)?
                .write_all(content)?;
        }
        let next = self.path.join("..data_tmp");
        symlink(self.state_name(), &next)?;
        fs::rename(&next, self.path.join(CURRENT))?;
        self.link_top_level(files)?;
        if self.generation > 1 {
            fs::remove_dir_all(self.path.join(before))?;
        }
        Ok(())
    }

    fn link_top_level(&self, files: &Files) -> io::Result<()> {
        let tops = files.keys().filter_map(|name| name.components().next());
        for top in tops {
            let link = self.path.join(top);
            if link.symlink_metadata().is_err() {
                symlink(Path::new(CURRENT).join(top), link)?;
            }
        }
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let is_ours = entry.file_name().to_string_lossy().starts_with("..");
            if !is_ours && !files.keys().any(|name| name.starts_with(entry.file_name())) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    fn state_name(&self) -> String {
        format!("..state_{}", self.generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(entries: &[(&str, &str)]) -> Files {
        entries
            .iter()
            .map(|(name, content)| (PathBuf::from(name), content.as_bytes().to_vec()))
            .collect()
    }

    #[test]
    fn swapped_folder_shows_the_last_state_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let mut folder = SwappedFolder::create(directory.path().join("volume")).unwrap();
        folder
            .write(&files(&[("a", "1"), ("deep/b", "1"), ("old", "1")]))
            .unwrap();
        let held = fs::canonicalize(folder.path().join("a")).unwrap();
        folder
            .write(&files(&[("a", "2"), ("deep/b", "2"), ("new", "2")]))
            .unwrap();
        for name in ["a", "deep/b", "new"] {
            assert_eq!(fs::read_to_string(folder.path().join(name)).unwrap(), "2");
        }
        assert!(!folder.path().join("old").exists() && folder.path().join("old").symlink_metadata().is_err());
        assert!(!held.exists(), "the earlier state is gone");
    }
}

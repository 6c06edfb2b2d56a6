//! Files of kept keys on the disk: replaced as a whole, and read only if nobody else could have written them. Blocks.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

use rustix::{fs::OFlags, process::geteuid};

use crate::authn::{KeySetError, keys::MAX_JWKS_BYTES};

/// How the names of all our files begin and end; nothing else in the folder is touched.
pub(super) const PREFIX: &str = "signing-keys-";
pub(super) const SUFFIX: &str = ".json";
/// How the name of a file ends that is not complete yet.
const INCOMPLETE: &str = ".new";
/// For the user of the process alone.
const MODE: u32 = 0o600;
/// Anybody may write. The group may not be judged: the kubelet gives a volume's files to the group of the Pod.
const WRITABLE_BY_ANYBODY: u32 = 0o002;
/// The keys, and what is written beside them.
const MAX_FILE_BYTES: u64 = 2 * MAX_JWKS_BYTES as u64;

/// Why a file or its folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The disk says no.
    #[error("cannot {action} {path}")]
    Disk {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Somebody else could have written it.
    #[error("{0} is not a file of this user that nobody else can write")]
    Foreign(String),
    /// Larger than a key set can be.
    #[error("{0} is larger than a key set can be")]
    TooLarge(String),
    /// Torn, or of another make.
    #[error("the content is not what a broker writes")]
    Syntax(#[source] serde_json::Error),
    /// Not of this cluster, issuer, URL and bundle.
    #[error(
        "the content is of another cluster, issuer, URL or CA bundle, or of another version of the broker"
    )]
    OtherSource,
    /// Older than keys may become.
    #[error("the keys were not confirmed for 24 h")]
    Expired,
    /// The clock of one of two processes is wrong.
    #[error("the keys were confirmed in the future: a clock is wrong")]
    Future,
    /// No keys.
    #[error("the kept document {0}")]
    Keys(KeySetError),
}

/// Writes a file into `folder` and removes it.
pub(super) fn check_writable(folder: &Path) -> Result<(), KeyFileError> {
    let probe = folder.join(format!(
        "{PREFIX}probe-{:016x}{INCOMPLETE}",
        rand::random::<u64>()
    ));
    write_new(&probe, b"{}")?;
    fs::remove_file(&probe).map_err(failed("remove", &probe))
}

/// Removes what processes that were killed have left incomplete.
pub(super) fn remove_remains(folder: &Path) -> Result<(), KeyFileError> {
    remove_if(folder, |name| name.ends_with(INCOMPLETE))
}

/// Removes every file of keys whose name is not wanted.
pub(super) fn remove_other_than(folder: &Path, wanted: &BTreeSet<OsString>) -> Result<(), KeyFileError> {
    remove_if(folder, |name| {
        name.ends_with(SUFFIX) && !wanted.contains(OsStr::new(name))
    })
}

fn remove_if(folder: &Path, is_unwanted: impl Fn(&str) -> bool) -> Result<(), KeyFileError> {
    for entry in fs::read_dir(folder).map_err(failed("list", folder))? {
        let entry = entry.map_err(failed("list", folder))?;
        let name = entry.file_name();
        // Whatever is not text is not ours.
        if name
            .to_str()
            .is_some_and(|name| name.starts_with(PREFIX) && is_unwanted(name))
        {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// What is in a file; nothing, if there is none.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, KeyFileError> {
    // No link to a file of somebody else's choice, and no pipe that one waits for.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("open", path)(error)),
    };
    let found = file.metadata().map_err(failed("look at", path))?;
    let is_ours = found.is_file() && found.uid() == geteuid().as_raw();
    if !is_ours || found.mode() & WRITABLE_BY_ANYBODY != 0 {
        return Err(KeyFileError::Foreign(path.display().to_string()));
    }
    let mut content = Vec::new();
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut content)
        .map_err(failed("read", path))?;
    if content.len() as u64 > MAX_FILE_BYTES {
        return Err(KeyFileError::TooLarge(path.display().to_string()));
    }
    Ok(Some(content))
}

/// Replaces a file at once: whoever reads it, and whatever ends this process, it is the old one or the new one.
pub(super) fn replace(path: &Path, content: &[u8]) -> Result<(), KeyFileError> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!("-{:016x}{INCOMPLETE}", rand::random::<u64>()));
    let incomplete = Path::new(&name);
    let replaced = write_new(incomplete, content)
        .and_then(|()| fs::rename(incomplete, path).map_err(failed("replace", path)));
    if replaced.is_err() {
        // What is left of it is removed at the next start if it cannot be removed now.
        drop(fs::remove_file(incomplete));
        return replaced;
    }
    // The rename itself is in the folder.
    let folder = path.parent().unwrap_or(path);
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(failed("write", folder))
}

/// Removes a file, if there is one.
pub(super) fn remove(path: &Path) -> Result<(), KeyFileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn write_new(path: &Path, content: &[u8]) -> Result<(), KeyFileError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(MODE);
    options
        .open(path)
        .and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()))
        .map_err(failed("write", path))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KeyFileError {
    let path = path.display().to_string();
    move |source| KeyFileError::Disk { action, path, source }
}

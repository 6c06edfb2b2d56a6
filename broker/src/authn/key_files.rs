//! The last good keys of each cluster in a file, so that a restart in an outage of their source does not lose them
//! (guarantee A7).
//!
//! The keys are public. But whoever writes such a file speaks for the cluster, so it is read only if nobody else could
//! have written it, and what it holds is checked against the other clusters' keys like a fetch. A file that is not as it
//! should be is ignored with a warning; it never stops anything.
//!
//! The disk is asked from a thread of its own kind, one call at a time and within a bound: a volume that hangs costs one
//! thread and no keys.

mod disk;

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use runtime::error_chain::ErrorChain;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{sync::Semaphore, time::timeout};
use url::Url;

use super::{
    KeySet,
    key_holdings::{Ages, Thumbprint},
    key_refresh::KEPT_UNCONFIRMED,
};
use crate::config::{CaBundle, JwksUrl};
pub use disk::KeyFileError;

/// Bound on one call to the disk, with the wait for those before it.
const DISK_TIMEOUT: Duration = Duration::from_secs(5);
/// How far ahead of this clock a file may have been confirmed: the clocks of two machines that share a volume differ.
const CLOCK_SKEW: Duration = Duration::from_secs(60);
/// Of what is in a file. Another form gets another number, and is ignored by those who do not know it.
const VERSION: u32 = 2;

/// A folder with a file for each cluster whose keys are fetched. Cheap to clone.
#[derive(Debug, Clone)]
pub struct KeyFiles {
    folder: Arc<Path>,
    turn: Arc<Semaphore>,
}

/// The file of one source of keys: of a cluster and its issuer, and of what vouches for the keys: the URL that they come from,
/// and the content of the bundle that the server is known by.
#[derive(Debug, Clone)]
pub struct KeyFile {
    files: KeyFiles,
    cluster: Arc<str>,
    issuer: Arc<str>,
    url: Url,
    /// Its digest in base64; empty, where the system's roots count.
    ca_bundle: String,
}

/// Keys, and when their source confirmed them.
#[derive(Debug)]
pub(super) struct Confirmed {
    pub(super) keys: KeySet,
    /// For how long they have counted for their cluster.
    pub(super) ages: Ages,
    pub(super) at: SystemTime,
}

/// What is in a file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Content {
    version: u32,
    cluster: String,
    issuer: String,
    url: String,
    ca_bundle_sha256: String,
    /// Seconds since 1970, by the clock of the machine that fetched them.
    confirmed_at: u64,
    /// Since when each key has counted for the cluster, by its thumbprint and that clock.
    counts_since: BTreeMap<String, u64>,
    /// The JWKS document.
    keys: Value,
}

impl KeyFiles {
    /// Takes a folder into use. Blocks.
    ///
    /// # Errors
    /// There is no such folder, or nothing can be written there.
    pub fn open(folder: &Path) -> Result<Self, KeyFileError> {
        disk::check_writable(folder)?;
        disk::remove_remains(folder)?;
        Ok(Self {
            folder: folder.into(),
            turn: Arc::new(Semaphore::new(1)),
        })
    }

    /// The file of a source.
    pub fn of(&self, cluster: &Arc<str>, issuer: &Arc<str>, source: &JwksUrl) -> KeyFile {
        let text = |bundle: &CaBundle| URL_SAFE_NO_PAD.encode(bundle.digest);
        KeyFile {
            files: self.clone(),
            cluster: Arc::clone(cluster),
            issuer: Arc::clone(issuer),
            url: source.url.clone(),
            ca_bundle: source.ca_bundle.as_ref().map(text).unwrap_or_default(),
        }
    }

    /// Removes the files of all other sources: keys that an operator has turned away from are not kept.
    pub async fn keep_only(self, wanted: Vec<KeyFile>) {
        let names: BTreeSet<OsString> = wanted.iter().map(|file| file.name().into()).collect();
        let removed = self
            .ask_disk(move |folder| disk::remove_other_than(folder, &names))
            .await;
        self.warn_unless_done("cannot remove files of clusters that are not configured", removed);
    }

    /// Runs `work` off the threads that serve. Nothing, if the disk does not answer.
    async fn ask_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path) -> Result<T, KeyFileError> + Send + 'static,
    ) -> Option<Result<T, KeyFileError>> {
        let (folder, turn) = (Arc::clone(&self.folder), Arc::clone(&self.turn));
        let answer = async {
            let turn = turn.acquire_owned().await.ok()?;
            let asked = tokio::task::spawn_blocking(move || {
                // Held until the disk has answered, however long nobody has been waiting any more.
                let _turn = turn;
                work(&folder)
            });
            asked.await.ok()
        };
        timeout(DISK_TIMEOUT, answer).await.ok().flatten()
    }

    fn warn_unless_done<T>(&self, what: &str, result: Option<Result<T, KeyFileError>>) -> Option<T> {
        match result {
            Some(Ok(done)) => return Some(done),
            Some(Err(error)) => {
                tracing::warn!(folder = %self.folder.display(), error = %ErrorChain(&error), "{what}");
            }
            None => tracing::warn!(folder = %self.folder.display(), "{what}: the disk does not answer"),
        }
        None
    }
}

impl KeyFile {
    /// The keys that were last confirmed, if they are still good at `now`.
    pub(super) async fn read(&self, now: SystemTime) -> Option<Confirmed> {
        let name = self.name();
        let read = self
            .files
            .ask_disk(move |folder| disk::read(&folder.join(name)))
            .await;
        let bytes = self
            .files
            .warn_unless_done("cannot read kept signing keys", read)??;
        match self.parse(&bytes, now) {
            Ok(confirmed) => Some(confirmed),
            Err(error) => {
                tracing::warn!(
                    cluster = %self.cluster,
                    file = %self.path().display(),
                    error = %ErrorChain(&error),
                    "the kept signing keys are ignored"
                );
                None
            }
        }
    }

    /// Keeps `keys`, which their source has confirmed at `at` and that have counted for so long by then.
    pub(super) async fn write(&self, keys: &KeySet, ages: &Ages, at: SystemTime) {
        let content = self.content(keys, ages, at);
        let name = self.name();
        let written = self
            .files
            .ask_disk(move |folder| disk::replace(&folder.join(name), &content?))
            .await;
        self.files.warn_unless_done("cannot keep signing keys", written);
    }

    /// Forgets them.
    pub(super) async fn remove(&self) {
        let name = self.name();
        let removed = self
            .files
            .ask_disk(move |folder| disk::remove(&folder.join(name)))
            .await;
        self.files
            .warn_unless_done("cannot remove kept signing keys", removed);
    }

    fn parse(&self, bytes: &[u8], now: SystemTime) -> Result<Confirmed, KeyFileError> {
        let content: Content = serde_json::from_slice(bytes).map_err(KeyFileError::Syntax)?;
        let source = [
            &*content.cluster,
            &content.issuer,
            &content.url,
            &content.ca_bundle_sha256,
        ];
        if content.version != VERSION || source != self.source() {
            return Err(KeyFileError::OtherSource);
        }
        let at = UNIX_EPOCH
            .checked_add(Duration::from_secs(content.confirmed_at))
            .filter(|at| *at <= now + CLOCK_SKEW)
            .ok_or(KeyFileError::Future)?;
        if now.duration_since(at).unwrap_or_default() >= KEPT_UNCONFIRMED {
            return Err(KeyFileError::Expired);
        }
        let keys = KeySet::parse(content.keys.to_string().as_bytes()).map_err(KeyFileError::Keys)?;
        // By a clock that was ahead, or that nobody has noted: from now on.
        let age = |key: &Thumbprint| {
            let since = Duration::from_secs(*content.counts_since.get(&URL_SAFE_NO_PAD.encode(key))?);
            now.duration_since(UNIX_EPOCH.checked_add(since)?).ok()
        };
        let ages = keys.thumbprints().map(|key| {
            let age = age(&key).unwrap_or_default();
            (key, age)
        });
        let ages = ages.collect();
        Ok(Confirmed { keys, ages, at })
    }

    fn content(&self, keys: &KeySet, ages: &Ages, at: SystemTime) -> Result<Vec<u8>, KeyFileError> {
        let seconds = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let since = |(key, age): (&Thumbprint, &Duration)| {
            let since = at.checked_sub(*age).unwrap_or(UNIX_EPOCH);
            (URL_SAFE_NO_PAD.encode(key), seconds(since))
        };
        let content = Content {
            version: VERSION,
            cluster: self.cluster.to_string(),
            issuer: self.issuer.to_string(),
            url: self.url.to_string(),
            ca_bundle_sha256: self.ca_bundle.clone(),
            confirmed_at: seconds(at),
            counts_since: ages.iter().map(since).collect(),
            keys: serde_json::to_value(keys.document()).map_err(KeyFileError::Syntax)?,
        };
        serde_json::to_vec(&content).map_err(KeyFileError::Syntax)
    }

    fn source(&self) -> [&str; 4] {
        [&self.cluster, &self.issuer, self.url.as_str(), &self.ca_bundle]
    }

    /// Made of all parts of the source, each with its length. Names of clusters are free text.
    fn name(&self) -> String {
        let mut context = digest::Context::new(&digest::SHA256);
        for part in self.source() {
            context.update(&part.len().to_be_bytes());
            context.update(part.as_bytes());
        }
        let digest = context.finish();
        let half = digest.as_ref().first_chunk().copied().unwrap_or_default();
        format!(
            "{}{:032x}{}",
            disk::PREFIX,
            u128::from_be_bytes(half),
            disk::SUFFIX
        )
    }

    fn path(&self) -> PathBuf {
        self.files.folder.join(self.name())
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;

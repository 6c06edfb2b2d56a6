//! The caller's own token, in the file where the kubelet keeps it fresh.

use std::{path::PathBuf, sync::Arc, time::Duration};

use runtime::Secret;
use tokio::{sync::Mutex, time::Instant};
use tonic::{Status, metadata::MetadataValue};

/// How long a token that was read is used before the file is read again. The kubelet renews a token when a fifth of
/// its life is left (two minutes for the shortest one), so this is never late.
const REREAD_AFTER: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub(crate) struct TokenFile {
    path: Arc<PathBuf>,
    read: Arc<Mutex<Option<(Instant, Secret)>>>,
}

impl std::fmt::Debug for TokenFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenFile")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl TokenFile {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path: Arc::new(path),
            read: Arc::default(),
        }
    }

    /// The `authorization` entry.
    pub(crate) async fn bearer(&self) -> Result<MetadataValue<tonic::metadata::Ascii>, Status> {
        let token = self.token().await?;
        let mut value = MetadataValue::try_from(format!("Bearer {}", token.expose().trim()))
            .map_err(|_not_ascii| self.unusable("holds no token"))?;
        value.set_sensitive(true);
        Ok(value)
    }

    async fn token(&self) -> Result<Secret, Status> {
        // Held across a read of a small local file, never across the network.
        let mut read = self.read.lock().await;
        if let Some((at, token)) = read.as_ref()
            && at.elapsed() < REREAD_AFTER
        {
            return Ok(token.clone());
        }
        let token = match tokio::fs::read_to_string(self.path.as_ref()).await {
            Ok(text) => Secret::from(text),
            // The volume is being swapped: the token of before is good for minutes, and the broker judges it anyway.
            Err(error) => match read.as_ref() {
                Some((_, token)) => token.clone(),
                None => return Err(self.unusable(&error.to_string())),
            },
        };
        *read = Some((Instant::now(), token.clone()));
        Ok(token)
    }

    fn unusable(&self, why: &str) -> Status {
        tracing::error!(path = %self.path.display(), why, "cannot use the token file");
        Status::unauthenticated("the caller's own token cannot be read")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn bearer(file: &TokenFile) -> String {
        file.bearer().await.unwrap().to_str().unwrap().to_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn token_that_was_renewed_is_used_and_one_that_vanished_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "first\n").unwrap();
        let file = TokenFile::new(path.clone());
        assert_eq!(bearer(&file).await, "Bearer first");
        std::fs::write(&path, "second").unwrap();
        assert_eq!(bearer(&file).await, "Bearer first");
        tokio::time::advance(REREAD_AFTER).await;
        assert_eq!(bearer(&file).await, "Bearer second");
        std::fs::remove_file(&path).unwrap();
        tokio::time::advance(REREAD_AFTER).await;
        assert_eq!(bearer(&file).await, "Bearer second");
    }

    #[tokio::test]
    async fn token_that_never_was_is_an_error_of_the_caller() {
        let folder = tempfile::tempdir().unwrap();
        let missing = TokenFile::new(folder.path().join("token"));
        let status = missing.bearer().await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::Unauthenticated);
    }

    #[tokio::test]
    async fn token_is_not_in_the_debug_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "sesame").unwrap();
        let file = TokenFile::new(path);
        let bearer = file.bearer().await.unwrap();
        assert!(!format!("{file:?} {bearer:?}").contains("sesame"));
    }
}

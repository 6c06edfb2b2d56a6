//! The broker's own ServiceAccount token, from the file in which the kubelet keeps it fresh.
//!
//! Read for each exchange and never kept: the file is always newer. Read on a thread that may block, and waited for no
//! longer than a call may take; what is not a token goes nowhere.

use std::{fs::File, io, io::Read as _, path::Path, time::Duration};

use proto::Reason;
use runtime::Secret;
use tokio::{task::spawn_blocking, time::timeout};
use zeroize::Zeroizing;

use super::token_text;
use crate::error::CredentialError;

/// What a cluster signs has 1 to 2 KiB.
const MAX_BYTES: usize = 16 * 1024;
/// The file lies in memory, next to the process. One that takes longer does not come.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no token in the file.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    /// Said in the words of its kind: the rest of an I/O error is a number.
    #[error("cannot be read: {}", .0.kind())]
    Io(#[from] io::Error),
    #[error("could not be read in time")]
    Timeout,
    #[error("is larger than any token")]
    TooLarge,
    #[error("is not text")]
    NotText,
    #[error("{0}")]
    NoToken(&'static str),
}

/// Reads the token in `file`.
///
/// # Errors
/// There is none to be had, in a text that names the file.
pub(super) async fn read(file: &Path) -> Result<Secret, CredentialError> {
    let path = file.to_owned();
    let reading = timeout(READ_TIMEOUT, spawn_blocking(move || read_blocking(&path))).await;
    let token = match reading {
        Ok(Ok(token)) => token,
        Ok(Err(join)) => Err(ReadError::Io(join.into())),
        Err(_elapsed) => Err(ReadError::Timeout),
    };
    token.map_err(|error| {
        CredentialError::new(
            Reason::IdentityTokenUnreadable,
            format!("the broker's own token {} {error}", file.display()),
        )
    })
}

fn read_blocking(path: &Path) -> Result<Secret, ReadError> {
    // All of its room at once, so that growing leaves no copy behind.
    let mut content = Zeroizing::new(Vec::with_capacity(MAX_BYTES + 1));
    let limit = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path)?.take(limit).read_to_end(&mut content)?;
    if content.len() > MAX_BYTES {
        return Err(ReadError::TooLarge);
    }
    let text = std::str::from_utf8(&content).map_err(|_error| ReadError::NotText)?;
    let token = Secret::from(text.trim().to_owned());
    token_text::check(&token).map_err(ReadError::NoToken)?;
    Ok(token)
}

#[cfg(test)]
mod tests {
    use proto::catalogue::RetryClass;
    use tempfile::TempDir;

    use super::*;

    #[tokio::test]
    async fn projected_token_is_what_the_file_holds_now() {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("token");
        for text in ["first.token.x", "second.token.x\n"] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(read(&file).await.ok().unwrap().expose(), text.trim());
        }
    }

    #[tokio::test]
    async fn projected_token_that_is_none_is_refused_by_the_name_of_its_file() {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("token");
        let missing = read(&file).await.err().unwrap();
        assert_eq!(
            missing.message,
            format!(
                "the broker's own token {} cannot be read: entity not found",
                file.display()
            )
        );
        assert_eq!(missing.reason.retry_class(), RetryClass::Transient);
        for (content, why) in [
            (Vec::new(), "holds no token"),
            (b"\n".to_vec(), "holds no token"),
            (
                b"two words".to_vec(),
                "holds a token with characters that no token has",
            ),
            (vec![0xff, 0xfe], "is not text"),
            (vec![b'x'; MAX_BYTES + 1], "is larger than any token"),
        ] {
            std::fs::write(&file, content).unwrap();
            let error = read(&file).await.err().unwrap();
            assert_eq!(error.reason, Reason::IdentityTokenUnreadable);
            assert_eq!(
                error.message,
                format!("the broker's own token {} {why}", file.display())
            );
        }
        let folder_for_a_file = read(folder.path()).await.err().unwrap();
        assert_eq!(folder_for_a_file.reason, Reason::IdentityTokenUnreadable);
    }
}

//! crane, a registry client that reads dockerconfigjson as a kubelet does; and images made out of nothing.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::supervisor::{Program, Supervisor};
use crate::tar;
use crate::tools::{Tool, Tools};

/// How long one call may take.
const TIMEOUT: Duration = Duration::from_mins(1);

/// What of the environment would change where crane goes or as whom: it sees only what the caller sets.
const FOREIGN_VARIABLES: [&str; 9] = [
    "DOCKER_CONFIG",
    "REGISTRY_AUTH_FILE",
    "SSL_CERT_FILE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// crane with an environment of its own.
#[derive(Clone)]
pub struct Crane {
    binary: PathBuf,
    environment: Vec<(OsString, OsString)>,
    supervisor: Arc<Supervisor>,
}

impl Crane {
    /// crane without credentials, proxy or extra roots.
    pub fn new(supervisor: Arc<Supervisor>, tools: &Tools) -> Self {
        Self {
            binary: tools.path(Tool::Crane).to_owned(),
            environment: Vec::new(),
            supervisor,
        }
    }

    /// Sets a variable: `DOCKER_CONFIG` (the folder of a config.json), `HTTPS_PROXY`, `SSL_CERT_FILE`.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment
            .push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Makes an image of one layer with these files, pushes it, and returns its digest (`sha256:...`).
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn push_new(&self, reference: &str, files: &[(&str, &str)]) -> anyhow::Result<String> {
        let folder =
            tempfile::tempdir_in(self.supervisor.directory()).context("failed to create a folder")?;
        let layer = folder.path().join("layer.tar");
        std::fs::write(&layer, tar::archive(files)?).context("failed to write a layer")?;
        let layer = layer.display().to_string();
        self.run(&["append", "--new_layer", &layer, "--new_tag", reference])
            .await?;
        let digest = self.run(&["digest", reference]).await?.trim().to_owned();
        ensure!(
            digest.starts_with("sha256:"),
            "crane digest {reference} printed {digest:?}"
        );
        Ok(digest)
    }

    /// Pulls an image with all its layers, and returns its files as one tar archive.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn pull(&self, reference: &str) -> anyhow::Result<Vec<u8>> {
        let folder =
            tempfile::tempdir_in(self.supervisor.directory()).context("failed to create a folder")?;
        let archive = folder.path().join("files.tar");
        self.run(&["export", reference, &archive.display().to_string()])
            .await?;
        std::fs::read(&archive).context("failed to read the pulled files")
    }

    /// Runs crane with any arguments and returns what it prints.
    ///
    /// # Errors
    /// It fails (with its standard error: a registry's 401 or 403 shows there) or does not end in time.
    pub async fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut program = Program::new(&self.binary).args(arguments);
        for name in FOREIGN_VARIABLES {
            program = program.without_env(name);
        }
        // Without it crane reads the user's own credentials.
        program = program.env(
            "DOCKER_CONFIG",
            self.supervisor.directory().join("no-docker-config"),
        );
        for (name, value) in &self.environment {
            program = program.env(name, value);
        }
        self.supervisor
            .run(&program, TIMEOUT)
            .await?
            .success()
            .with_context(|| format!("crane {}", arguments.join(" ")))
    }
}

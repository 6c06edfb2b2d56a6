//! The volumes of a Pod: what is in them, and keeping it current.

use std::path::Path;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Volume;
use kube::Client;

use super::Node;
use super::source::{Source, sources};
use super::swapped_folder::{Files, SwappedFolder};

/// The volume with the token for the API server; the name that Kubernetes gives it begins like this.
const API_SERVER_ACCESS: &str = "kube-api-access";

/// Whose volumes these are.
pub(super) struct Owner<'a> {
    pub(super) node: &'a Node,
    pub(super) client: &'a Client,
    pub(super) namespace: &'a str,
    pub(super) service_account: &'a str,
}

/// A volume on this machine.
pub(super) struct Mounted {
    pub(super) name: String,
    folder: SwappedFolder,
    sources: Vec<Source>,
    written: Option<Files>,
}

impl Mounted {
    /// Creates a volume, still empty.
    pub(super) fn create(volume: Volume, directory: &Path) -> anyhow::Result<Self> {
        let name = volume.name.clone();
        let sources = sources(volume).with_context(|| format!("volume {name}"))?;
        let folder = SwappedFolder::create(directory.join(&name)).context("failed to create a volume")?;
        Ok(Self {
            name,
            folder,
            sources,
            written: None,
        })
    }

    /// A volume with a token for the API server.
    pub(super) fn api_server_token(directory: &Path) -> anyhow::Result<Self> {
        let name = API_SERVER_ACCESS.to_owned();
        let folder = SwappedFolder::create(directory.join(&name)).context("failed to create a volume")?;
        let sources = vec![Source::api_server_token()?];
        Ok(Self {
            name,
            folder,
            sources,
            written: None,
        })
    }

    /// Whether what is in it is the container's: an `emptyDir`.
    pub(super) fn is_of_container(&self) -> bool {
        self.sources.is_empty()
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes what the volume should hold, if that has changed.
    pub(super) async fn sync(&mut self, owner: &Owner<'_>) -> anyhow::Result<()> {
        let mut files = Files::new();
        for source in &mut self.sources {
            files.extend(
                source
                    .files(owner)
                    .await
                    .with_context(|| format!("volume {}", self.name))?,
            );
        }
        if self.is_of_container() || self.written.as_ref() == Some(&files) {
            return Ok(());
        }
        self.folder
            .write(&files)
            .with_context(|| format!("failed to write volume {}", self.name))?;
        self.written = Some(files);
        Ok(())
    }
}

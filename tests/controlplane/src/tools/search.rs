//! Where binaries may be, and finding them there. It runs a found binary only to ask for its version.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use aws_lc_rs::digest;
use tokio::process::Command;

use super::catalogue::Tool;
use super::choose::{Candidate, Source};
use super::version::Version;

/// A binary that takes longer to tell its version is none of ours.
const VERSION_TIMEOUT: Duration = Duration::from_secs(10);

/// To be raised when `build.rs` changes what it builds from unchanged modules with unchanged linker flags.
const RECIPE: &str = "1";

/// The places that are searched and written.
#[derive(Debug, Clone)]
pub struct Places {
    /// The folder of `KUBEBUILDER_ASSETS`.
    pub assets: Option<PathBuf>,
    /// The folder in which built binaries are kept.
    pub cache: PathBuf,
    /// The value of `PATH`; Go is looked up there, too.
    pub path: OsString,
}

impl Places {
    /// The places that the environment names.
    ///
    /// # Errors
    /// There is no home folder and no `XDG_CACHE_HOME`.
    pub fn from_environment() -> anyhow::Result<Self> {
        let folder = |name| {
            env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let cache = folder("XDG_CACHE_HOME")
            .or_else(|| folder("HOME").map(|home| home.join(".cache")))
            .context("neither XDG_CACHE_HOME nor HOME is set: set one, built tools are kept there")?;
        Ok(Self {
            assets: folder("KUBEBUILDER_ASSETS"),
            cache: cache.join("acrpull/tools"),
            path: env::var_os("PATH").unwrap_or_default(),
        })
    }

    /// Where the cache keeps a tool. The folder's name changes with anything that changes the binary.
    pub(super) fn cached_path(&self, tool: Tool, pinned: Version) -> PathBuf {
        let mut context = digest::Context::new(&digest::SHA256);
        for part in tool.module().content() {
            context.update(part.as_bytes());
        }
        context.update(tool.linker_flags(pinned).as_bytes());
        context.update(RECIPE.as_bytes());
        let digest = context
            .finish()
            .as_ref()
            .first_chunk()
            .map_or(0, |bytes| u64::from_be_bytes(*bytes));
        let (name, os, arch) = (tool.name(), env::consts::OS, env::consts::ARCH);
        self.cache
            .join(format!("{name}-{pinned}-{os}-{arch}-{digest:016x}"))
            .join(name)
    }

    /// An executable on `PATH`.
    pub(super) fn on_path(&self, name: &str) -> Option<PathBuf> {
        env::split_paths(&self.path)
            .map(|folder| folder.join(name))
            .find(|path| path.is_file())
    }

    /// What is there for each tool, place after place.
    pub(super) async fn find_all(&self, pinned: &[(Tool, Version)]) -> Vec<Candidate> {
        let mut found = Vec::new();
        for &(tool, _) in pinned {
            let path = self
                .assets
                .as_ref()
                .map(|assets| assets.join(tool.name()))
                .filter(|path| path.is_file());
            found.extend(probe(tool, Source::Assets, path).await);
        }
        let mut complete = true;
        for &(tool, version) in pinned {
            let path = self.cached_path(tool, version);
            if path.is_file() {
                // Built by us under a name that says what it is: it need not be asked.
                found.push(Candidate {
                    tool,
                    source: Source::Cache,
                    path,
                    version,
                });
            } else {
                complete = false;
            }
        }
        // The cache is better than PATH for every tool: asking seven programs for their versions takes time.
        if !complete {
            for &(tool, _) in pinned {
                found.extend(probe(tool, Source::Path, self.on_path(tool.name())).await);
            }
        }
        found
    }
}

async fn probe(tool: Tool, source: Source, path: Option<PathBuf>) -> Option<Candidate> {
    let path = path?;
    let version = ask_version(tool, &path).await?;
    Some(Candidate {
        tool,
        source,
        path,
        version,
    })
}

/// What the binary says it is; `None` if it does not say, and is left aside.
async fn ask_version(tool: Tool, path: &Path) -> Option<Version> {
    let asked = Command::new(path)
        .args(tool.version_arguments())
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(VERSION_TIMEOUT, asked).await.ok()?.ok()?;
    Version::find(&String::from_utf8_lossy(&output.stdout))
}

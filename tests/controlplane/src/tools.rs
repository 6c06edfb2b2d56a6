//! The programs that tests and the demo run, each found or built: see [`Tools::resolve`].

mod build;
mod catalogue;
mod choose;
mod search;
mod version;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

pub use catalogue::Tool;
pub use choose::Source;
use choose::{Candidate, Choice};
pub use search::Places;
pub use version::Version;

/// Where every tool is.
#[derive(Debug, Clone)]
pub struct Tools {
    found: Vec<Resolved>,
}

/// One tool that can be run.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// Which.
    pub tool: Tool,
    /// Its binary.
    pub path: PathBuf,
    /// What it says it is, or what it was built as.
    pub version: Version,
    /// Where it was found.
    pub source: Source,
}

impl Tools {
    /// Finds every tool, and builds those that are nowhere: see the crate's README for the order of places.
    /// Building says so on standard error before it starts, and shows progress.
    ///
    /// # Errors
    /// A tool is missing and there is no Go, or a build fails.
    pub async fn resolve() -> anyhow::Result<Self> {
        Self::resolve_in(&Places::from_environment()?).await
    }

    /// The same, in places that the caller names.
    ///
    /// # Errors
    /// As [`Self::resolve`].
    pub async fn resolve_in(places: &Places) -> anyhow::Result<Self> {
        let mut pinned = Vec::new();
        for tool in Tool::ALL {
            let version = tool
                .pinned()
                .with_context(|| format!("no go.mod requires {}", tool.package()))?;
            pinned.push((tool, version));
        }
        let pinned_minor = Tool::KubeApiserver.pinned().map_or(0, |version| version.minor);
        let found = places.find_all(&pinned).await;
        let choices = choose::choose(&found, pinned_minor);
        for Candidate { path, version, .. } in choose::passed_over(&found, &choices) {
            drop(writeln!(
                std::io::stderr(),
                "tools: {} ({version}) is not used: it does not fit the others",
                path.display()
            ));
        }
        let missing: Vec<_> = pinned
            .iter()
            .filter(|(tool, _)| choices.contains(&Choice::Build(*tool)))
            .copied()
            .collect();
        if !missing.is_empty() {
            build::build(places, &missing).await?;
        }
        let found = choices
            .into_iter()
            .zip(pinned)
            .map(|(choice, (tool, version))| match choice {
                Choice::Use(Candidate {
                    tool,
                    source,
                    path,
                    version,
                }) => Resolved {
                    tool,
                    path,
                    version,
                    source,
                },
                Choice::Build(_) => {
                    let path = places.cached_path(tool, version);
                    Resolved {
                        tool,
                        path,
                        version,
                        source: Source::Built,
                    }
                }
            })
            .collect::<Vec<_>>();
        for resolved in &found {
            ensure!(
                resolved.path.is_file(),
                "{} has vanished",
                resolved.path.display()
            );
        }
        Ok(Self { found })
    }

    /// The binary of a tool.
    ///
    /// # Panics
    /// Never: every tool was resolved.
    pub fn path(&self, tool: Tool) -> &Path {
        #[expect(clippy::expect_used, reason = "the only constructor resolves every tool")]
        let resolved = self
            .found
            .iter()
            .find(|resolved| resolved.tool == tool)
            .expect("every tool must be resolved");
        &resolved.path
    }

    /// Every tool.
    pub fn iter(&self) -> impl Iterator<Item = &Resolved> {
        self.found.iter()
    }
}

//! The product's binaries, from the same target folder as the program that asks, so that they have its profile.
//!
//! `make test` builds them first. Whoever runs `cargo test -p e2e` by hand would otherwise test the binaries of
//! yesterday: cargo builds only those of the package under test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context as _, bail};

/// Where the binaries are.
#[derive(Debug, Clone)]
pub struct Binaries {
    directory: PathBuf,
}

impl Binaries {
    /// Finds the binaries of these packages, each named as its package, and has cargo build those that are missing
    /// or older than their sources.
    ///
    /// # Errors
    /// cargo is missing or fails.
    pub async fn of(packages: &'static [&'static str]) -> anyhow::Result<Self> {
        tokio::task::spawn_blocking(move || Self::locate(packages))
            .await
            .context("the search was cut short")?
    }

    /// The binary that a container image would have on its PATH under this name.
    ///
    /// # Errors
    /// There is none.
    pub fn path(&self, command: &str) -> anyhow::Result<PathBuf> {
        let path = self.directory.join(command);
        if !path.is_file() {
            bail!("{} does not exist: run cargo build -p {command}", path.display());
        }
        Ok(path)
    }

    fn locate(packages: &[&str]) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("failed to find this program")?;
        let directory = profile_directory(&program)
            .with_context(|| format!("{} is not in a target folder", program.display()))?;
        let binaries = Self { directory };
        let stale: Vec<&str> = packages
            .iter()
            .copied()
            .filter(|package| !binaries.is_current(package))
            .collect();
        if !stale.is_empty() {
            binaries.build(&stale)?;
        }
        Ok(binaries)
    }

    /// Whether a binary exists and is no older than any source file that cargo noted down beside it.
    fn is_current(&self, package: &str) -> bool {
        let path = self.directory.join(package);
        let Some(built_at) = modified_at(&path) else {
            return false;
        };
        let Ok(notes) = std::fs::read_to_string(path.with_extension("d")) else {
            return false;
        };
        sources(&notes).all(|source| modified_at(&source).is_some_and(|changed_at| changed_at <= built_at))
    }

    /// Two programs may do this at once: cargo lets one wait for the other.
    fn build(&self, packages: &[&str]) -> anyhow::Result<()> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let profile = self
            .directory
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let mut command = Command::new(&cargo);
        command.arg("build").current_dir(env!("CARGO_MANIFEST_DIR"));
        // The folder of the profile `dev` has a name of its own.
        command.args(["--profile", if profile == "debug" { "dev" } else { profile }]);
        // Not these packages alone: another selection means other features of the dependencies, compiled anew.
        command.args(["--workspace", "--bins"]);
        let output = command
            .output()
            .with_context(|| format!("failed to run {}: install Rust, or set CARGO", cargo.display()))?;
        if !output.status.success() {
            bail!(
                "cargo build of {} failed:\n{}",
                packages.join(", "),
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(())
    }
}

/// `target/<profile>` of a program: binaries are in it, tests and examples one folder deeper.
fn profile_directory(program: &Path) -> Option<PathBuf> {
    let directory = program.parent()?;
    let is_deeper = ["deps", "examples"].iter().any(|name| directory.ends_with(name));
    Some(if is_deeper { directory.parent()? } else { directory }.to_owned())
}

/// The files after the colon of a `.d` file (Make's syntax: a space in a name is written `\ `).
fn sources(notes: &str) -> impl Iterator<Item = PathBuf> {
    let list = notes
        .lines()
        .next()
        .and_then(|line| line.split_once(": "))
        .map_or("", |(_target, list)| list);
    list.replace("\\ ", "\0")
        .split(' ')
        .map(|name| PathBuf::from(name.replace('\0', " ")))
        .collect::<Vec<_>>()
        .into_iter()
}

fn modified_at(path: &Path) -> Option<SystemTime> {
    path.metadata().ok()?.modified().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profile_directory_of_a_test_is_that_of_the_binaries() {
        let expected = Some(PathBuf::from("/t/debug"));
        assert_eq!(profile_directory(Path::new("/t/debug/deps/e2e-1234")), expected);
        assert_eq!(profile_directory(Path::new("/t/debug/demo")), expected);
    }

    #[test]
    fn sources_are_read_with_their_spaces() {
        let found: Vec<_> = sources("/t/debug/broker: /w/a.rs /w/b\\ c.rs\n").collect();
        assert_eq!(found, [PathBuf::from("/w/a.rs"), PathBuf::from("/w/b c.rs")]);
    }
}

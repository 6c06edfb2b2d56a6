//! The folder that the demo writes to: manifests that a person can apply again, and the file `env`.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// The certificate that clients of the simulated Azure trust.
pub(crate) const AZURE_CA_FILE: &str = "azure-ca.pem";

/// The file that shells read.
const ENV_FILE: &str = "env";

/// A folder that exists.
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Creates the folder, or the default one, and removes what an earlier run wrote about processes that are gone.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn create(chosen: Option<PathBuf>) -> anyhow::Result<Self> {
        let path = chosen.map_or_else(default_path, Ok)?;
        let shown = path.display().to_string();
        std::fs::create_dir_all(&path)
            .with_context(|| format!("failed to create {shown}: choose another folder with --out"))?;
        let path = path
            .canonicalize()
            .with_context(|| format!("failed to find {shown}"))?;
        let folder = Self(path);
        folder.remove_env_file()?;
        Ok(folder)
    }

    /// The path of a file in it, as short as a person at the shell would type it.
    pub(crate) fn shown(&self, name: &str) -> String {
        let path = self.0.join(name);
        let here = std::env::current_dir().ok();
        let short = here.as_deref().and_then(|here| path.strip_prefix(here).ok());
        short.unwrap_or(&path).display().to_string()
    }

    /// The path of a file in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(crate) fn write(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.path(name);
        std::fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))?;
        Ok(path)
    }

    /// Writes the file `env`; whoever waits for it never sees half of it.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(crate) fn write_env_file(&self, text: &str) -> anyhow::Result<()> {
        let draft = self.write("env.draft", text)?;
        std::fs::rename(&draft, self.path(ENV_FILE)).context("failed to write the file env")
    }

    /// Removes it: what it names is gone.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(crate) fn remove_env_file(&self) -> anyhow::Result<()> {
        match std::fs::remove_file(self.path(ENV_FILE)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("failed to remove {}", self.path(ENV_FILE).display()))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// How a shell reads it.
    pub(crate) fn env_file_shown(&self) -> String {
        self.shown(ENV_FILE)
    }
}

/// `target/demo`, wherever `target` is: this program is in `target/<profile>`.
fn default_path() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe().context("failed to find this program")?;
    let target = program.ancestors().nth(2).unwrap_or_else(|| Path::new("."));
    Ok(target.join("demo"))
}

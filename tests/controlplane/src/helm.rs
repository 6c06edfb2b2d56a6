//! helm, with its caches and settings in a folder of ours: the user's are neither read nor written.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use crate::supervisor::{Program, Supervisor};
use crate::tools::{Tool, Tools};

/// How long one call may take. Nothing here waits for pods: there are none.
const TIMEOUT: Duration = Duration::from_mins(2);

/// helm for one cluster, or for none (`template` and `lint`).
#[derive(Clone)]
pub struct Helm {
    binary: PathBuf,
    kubeconfig: Option<PathBuf>,
    home: PathBuf,
    supervisor: Arc<Supervisor>,
}

/// What is to be rendered or installed.
#[derive(Debug, Clone)]
pub struct Release {
    /// Its name.
    pub name: String,
    /// The chart: a folder or an archive.
    pub chart: PathBuf,
    /// Where it goes; created if it is missing.
    pub namespace: String,
    /// Values as YAML; empty for the chart's own.
    pub values: String,
}

impl Helm {
    /// helm whose processes and files end with the supervisor.
    ///
    /// # Errors
    /// The supervisor's folder cannot be written.
    pub fn new(
        supervisor: Arc<Supervisor>,
        tools: &Tools,
        kubeconfig: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let home = supervisor.directory().join("helm");
        std::fs::create_dir_all(&home).with_context(|| format!("failed to create {}", home.display()))?;
        Ok(Self {
            binary: tools.path(Tool::Helm).to_owned(),
            kubeconfig: kubeconfig.map(Path::to_owned),
            home,
            supervisor,
        })
    }

    /// Installs a release, or upgrades it if it is there.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn install(&self, release: &Release) -> anyhow::Result<String> {
        self.release(&["upgrade", "--install", "--create-namespace"], release)
            .await
    }

    /// Renders a chart without a cluster; the result is YAML. `extra` as in `["--api-versions", "x/v1"]`.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn template(&self, release: &Release, extra: &[&str]) -> anyhow::Result<String> {
        let arguments: Vec<&str> = [&["template", "--include-crds"], extra].concat();
        self.release(&arguments, release).await
    }

    /// Lints a chart; warnings are errors.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn lint(&self, chart: &Path, values: &str) -> anyhow::Result<String> {
        let values = self.write_values(values)?;
        let (chart, values_path) = (chart.display().to_string(), values.path().display().to_string());
        self.run(&["lint", "--strict", &chart, "--values", &values_path])
            .await
    }

    /// Removes a release.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn uninstall(&self, name: &str, namespace: &str) -> anyhow::Result<String> {
        self.run(&["uninstall", name, "--namespace", namespace]).await
    }

    /// Runs helm with any arguments and returns what it prints.
    ///
    /// # Errors
    /// It fails (with its standard error) or does not end in time.
    pub async fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut program = Program::new(&self.binary)
            .args(arguments)
            .env("HELM_CACHE_HOME", self.home.join("cache"))
            .env("HELM_CONFIG_HOME", self.home.join("config"))
            .env("HELM_DATA_HOME", self.home.join("data"))
            .without_env("HELM_NAMESPACE")
            .without_env("HELM_KUBECONTEXT")
            .without_env("KUBECONFIG");
        if let Some(kubeconfig) = &self.kubeconfig {
            program = program.env("KUBECONFIG", kubeconfig);
        }
        self.supervisor
            .run(&program, TIMEOUT)
            .await?
            .success()
            .with_context(|| format!("helm {}", arguments.join(" ")))
    }

    async fn release(&self, command: &[&str], release: &Release) -> anyhow::Result<String> {
        let Release {
            name,
            chart,
            namespace,
            values,
        } = release;
        let values = self.write_values(values)?;
        let (chart, values_path) = (chart.display().to_string(), values.path().display().to_string());
        let target = [
            name.as_str(),
            &chart,
            "--namespace",
            namespace,
            "--values",
            &values_path,
        ];
        self.run(&[command, &target].concat()).await
    }

    /// Values go by a file, which is removed after the call: they may be large, and a command line is visible
    /// to all.
    fn write_values(&self, values: &str) -> anyhow::Result<tempfile::NamedTempFile> {
        let file = tempfile::Builder::new()
            .prefix("values-")
            .suffix(".yaml")
            .tempfile_in(&self.home);
        let file = file.context("failed to create a values file")?;
        std::fs::write(file.path(), values).context("failed to write a values file")?;
        Ok(file)
    }
}

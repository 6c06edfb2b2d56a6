//! Azure/msi-acrpull itself, built from the source of a release, as a process beside the stack.
//!
//! It is not built here: `ACRPULL_MSI_ACRPULL` names it, see the README. Its tests are ignored unless they are asked for.
//!
//! Nothing in it knows of tests. It is sent to the simulated Azure by what it inherits from Go's HTTP client: proxies and a file
//! with roots. Entra ID and registries keep their names behind the proxy for HTTPS; the metadata service, whose address it
//! knows for good, is the proxy for plain HTTP. Its API server is on loopback, for which Go asks no proxy.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use controlplane::{Process, Program, Supervisor};
use e2e::Stack;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::peer::LABEL;
use crate::shared::V1BETA1_DEFAULT;

/// Names the program.
const VARIABLE: &str = "ACRPULL_MSI_ACRPULL";
/// Its name in its image. An API server keeps account of who wrote what by the name of the program.
const PROGRAM: &str = "manager";

/// Its account and rights.
const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/msi-acrpull.yaml");
const NAMESPACE: &str = "msi-acrpull";
const ACCOUNT: &str = "acrpull";

/// How long its token for the API server lives: longer than any test.
const TOKEN_LIFETIME: Duration = Duration::from_hours(1);

/// As in its Deployment.
const GRACE: Duration = Duration::from_secs(10);

/// A running one. It sees bindings with [`LABEL`] and no others: those of other tests are none of its business.
pub(super) struct MsiAcrpull {
    /// None once it was stopped.
    process: watch::Sender<Option<Arc<Process>>>,
    _restarts: JoinSet<()>,
}

impl MsiAcrpull {
    /// The program.
    pub(super) fn given() -> anyhow::Result<PathBuf> {
        let path = std::env::var_os(VARIABLE).with_context(|| format!("{VARIABLE} names no program"))?;
        let path = PathBuf::from(path);
        let is_named = path.file_name().is_some_and(|name| name == PROGRAM);
        anyhow::ensure!(
            path.is_file() && is_named,
            "{VARIABLE} must be the path of a program that is called {PROGRAM}, as in its image: {}",
            path.display()
        );
        Ok(path)
    }

    /// Starts it. Nothing says when it has seen everything.
    pub(super) async fn start(stack: &Stack, executable: &Path) -> anyhow::Result<Self> {
        let plane = stack.plane();
        plane.kubectl(&["apply", "--filename", MANIFESTS]).await?;
        let token = plane.service_account_token(NAMESPACE, ACCOUNT, &[], TOKEN_LIFETIME);
        let file = |name: &str, content: &str| {
            let path = plane.directory().join(name);
            std::fs::write(&path, content).with_context(|| format!("failed to write {name}"))?;
            anyhow::Ok(path)
        };
        let token_file = file("msi-acrpull-token", &token.await?)?;
        let roots_file = file("msi-acrpull-roots.pem", stack.azure().ca_pem())?;
        let kubeconfig = plane.kubeconfig_for_token_file(&token_file)?;
        let program = program(executable, stack, &kubeconfig, &roots_file);
        let first = spawn(plane.supervisor(), &program)?;
        let process = watch::Sender::new(Some(Arc::clone(&first)));
        let mut restarts = JoinSet::new();
        restarts.spawn(restart(
            Arc::clone(plane.supervisor()),
            program,
            first,
            process.clone(),
        ));
        Ok(Self {
            process,
            _restarts: restarts,
        })
    }

    /// Ends it as a kubelet does.
    pub(super) async fn stop(self) {
        let process = self.process.send_replace(None);
        if let Some(process) = process {
            process.terminate(GRACE).await;
        }
    }

    /// Runs what is to happen while it runs. If that fails, the error has its last words.
    pub(super) async fn meanwhile<T>(
        &self,
        ends: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        ends.await.map_err(|error| {
            let last = self.process.borrow().as_ref().map(|process| process.log_tail());
            anyhow!("{error:#}\n--- msi-acrpull\n{}", last.unwrap_or_default())
        })
    }
}

fn program(executable: &Path, stack: &Stack, kubeconfig: &Path, roots_file: &Path) -> Program {
    let addresses = stack.azure().addresses();
    Program::new(executable)
        .clear_env()
        .env("KUBECONFIG", kubeconfig)
        .env("SSL_CERT_FILE", roots_file)
        .env("HTTPS_PROXY", format!("http://{}", addresses.proxy))
        .env("HTTP_PROXY", format!("http://{}", addresses.imds))
        .env("ACR_SERVER", V1BETA1_DEFAULT.registry)
        .env(
            "MANAGED_IDENTITY_RESOURCE_ID",
            V1BETA1_DEFAULT.identity().resource_id,
        )
        .args([
            &format!("--label-selector={LABEL}"),
            "--allowed-acr-server-suffixes=azurecr.io",
            "--metrics-bind-address=0",
            "--health-probe-bind-address=0",
        ])
}

fn spawn(supervisor: &Supervisor, program: &Program) -> anyhow::Result<Arc<Process>> {
    Ok(Arc::new(supervisor.spawn("msi-acrpull", program)?))
}

/// Starts it again when it has ended by itself without an error, as a kubelet does: it ends so when it has labelled
/// Secrets that an older version left.
async fn restart(
    supervisor: Arc<Supervisor>,
    program: Program,
    mut running: Arc<Process>,
    process: watch::Sender<Option<Arc<Process>>>,
) {
    while running.exited().await.is_some_and(|status| status.success()) && process.borrow().is_some() {
        let Ok(next) = spawn(&supervisor, &program) else {
            return;
        };
        process.send_replace(Some(Arc::clone(&next)));
        running = next;
    }
}

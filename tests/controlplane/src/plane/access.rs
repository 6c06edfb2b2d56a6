//! Ways into a control plane: clients, tokens, kubeconfigs, kubectl and helm. It starts and stops nothing of
//! the plane.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context as _;
use kube::Client;
use kube::config::Cluster;

use super::{ControlPlane, kubeconfig, requests};
use crate::helm::Helm;
use crate::supervisor::Program;
use crate::tools::Tool;

/// How long a token of `client_for_service_account` lives: longer than any test.
const CLIENT_TOKEN_LIFETIME: Duration = Duration::from_hours(1);

/// How long kubectl may take.
const KUBECTL_TIMEOUT: Duration = Duration::from_mins(1);

impl ControlPlane {
    /// A client of the administrator. It works in the runtime that it was made in: each test makes its own.
    ///
    /// # Errors
    /// The kubeconfig of an existing cluster names something that cannot be read.
    pub fn client(&self) -> anyhow::Result<Client> {
        Client::try_from(self.admin.clone()).context("failed to make a client")
    }

    /// A client that has only the rights of a `ServiceAccount`; for at most an hour.
    ///
    /// # Errors
    /// There is no such `ServiceAccount`.
    pub async fn client_for_service_account(&self, namespace: &str, name: &str) -> anyhow::Result<Client> {
        let token = self
            .service_account_token(namespace, name, &[], CLIENT_TOKEN_LIFETIME)
            .await?;
        let kubeconfig = kubeconfig::kubeconfig(self.cluster.clone(), kubeconfig::token_user(&token));
        Client::try_from(kubeconfig).context("failed to make a client")
    }

    /// A token of a `ServiceAccount`, as `TokenRequest` issues it (at least 600 s). No audiences: the API
    /// server's own.
    ///
    /// # Errors
    /// There is no such `ServiceAccount`, or the API server refuses the lifetime.
    pub async fn service_account_token(
        &self,
        namespace: &str,
        name: &str,
        audiences: &[&str],
        lifetime: Duration,
    ) -> anyhow::Result<String> {
        requests::service_account_token(self.client()?, namespace, name, audiences, lifetime).await
    }

    /// The kubeconfig of the administrator.
    pub fn kubeconfig_path(&self) -> &Path {
        &self.kubeconfig_path
    }

    /// Writes a kubeconfig that reads its token from a file, for a process that runs as a `ServiceAccount`
    /// does in a pod.
    ///
    /// # Errors
    /// The plane's folder cannot be written.
    pub fn kubeconfig_for_token_file(&self, token_file: &Path) -> anyhow::Result<PathBuf> {
        self.write_kubeconfig(self.cluster.clone(), token_file)
    }

    /// The same for a process that reaches the API server by way of this address of the loopback interface.
    ///
    /// # Errors
    /// The plane's folder cannot be written.
    pub fn kubeconfig_by_way_of(&self, address: SocketAddr, token_file: &Path) -> anyhow::Result<PathBuf> {
        let cluster = Cluster {
            server: Some(format!("https://{address}")),
            ..self.cluster.clone()
        };
        self.write_kubeconfig(cluster, token_file)
    }

    fn write_kubeconfig(&self, cluster: Cluster, token_file: &Path) -> anyhow::Result<PathBuf> {
        let number = self.files.fetch_add(1, Ordering::Relaxed);
        let path = self.directory().join(format!("token-file-{number}.kubeconfig"));
        let user = kubeconfig::token_file_user(token_file);
        kubeconfig::write(&path, &kubeconfig::kubeconfig(cluster, user))
    }

    /// helm for this cluster, as the administrator.
    ///
    /// # Errors
    /// The plane's folder cannot be written.
    pub fn helm(&self) -> anyhow::Result<Helm> {
        Helm::new(
            Arc::clone(&self.supervisor),
            &self.tools,
            Some(&self.kubeconfig_path),
        )
    }

    /// Runs kubectl as the administrator and returns what it prints.
    ///
    /// # Errors
    /// It fails (with its standard error) or does not end in time.
    pub async fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let program = Program::new(self.tools.path(Tool::Kubectl))
            .args(arguments)
            .env("KUBECONFIG", &self.kubeconfig_path)
            // Its discovery cache would go to the user's home.
            .env("KUBECACHEDIR", self.directory().join("kubectl-cache"));
        self.supervisor
            .run(&program, KUBECTL_TIMEOUT)
            .await?
            .success()
            .with_context(|| format!("kubectl {}", arguments.join(" ")))
    }
}

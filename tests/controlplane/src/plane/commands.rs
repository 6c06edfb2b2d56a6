//! The command lines of etcd, the API server and the controller manager: pure.

use std::path::Path;

use super::credentials::Credentials;
use super::ports::Ports;
use crate::supervisor::Program;
use crate::tools::{Tool, Tools};

/// The controllers that tests need. Nothing turns a Deployment into pods: there is no kubelet, whoever runs
/// the product here takes the pod template from the Deployment and acts as one.
const CONTROLLERS: [&str; 8] = [
    "clusterrole-aggregation-controller",
    "garbage-collector-controller",
    "namespace-controller",
    "resourcequota-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "validatingadmissionpolicy-status-controller",
];

/// Everything is removed with the plane, so nothing needs to survive a crash of the machine.
pub(super) fn etcd(tools: &Tools, directory: &Path, ports: Ports) -> Program {
    let (client, peer) = (ports.etcd_url(), ports.etcd_peer_url());
    Program::new(tools.path(Tool::Etcd)).clear_env().args([
        "--name=plane",
        &format!("--data-dir={}", directory.join("etcd").display()),
        &format!("--listen-client-urls={client}"),
        &format!("--advertise-client-urls={client}"),
        &format!("--listen-peer-urls={peer}"),
        &format!("--initial-advertise-peer-urls={peer}"),
        &format!("--initial-cluster=plane={peer}"),
        "--unsafe-no-fsync",
        "--log-level=warn",
    ])
}

pub(super) fn api_server(
    tools: &Tools,
    directory: &Path,
    ports: Ports,
    credentials: &Credentials,
    issuer: &str,
) -> Program {
    // An empty environment: a proxy or credentials of the user's shell have no business here.
    Program::new(tools.path(Tool::KubeApiserver)).clear_env().args([
        &format!("--etcd-servers={}", ports.etcd_url()),
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        &format!("--secure-port={}", ports.api_server),
        &format!("--cert-dir={}", directory.display()),
        &format!("--tls-cert-file={}", credentials.serving_cert_path.display()),
        &format!(
            "--tls-private-key-file={}",
            credentials.serving_key_path.display()
        ),
        &format!("--service-cluster-ip-range={}", super::SERVICE_RANGE),
        &format!("--service-account-issuer={issuer}"),
        &format!(
            "--service-account-key-file={}",
            credentials.verifying_key_path.display()
        ),
        &format!(
            "--service-account-signing-key-file={}",
            credentials.signing_key_path.display()
        ),
        "--authorization-mode=RBAC",
        &format!("--token-auth-file={}", credentials.token_file_path.display()),
        // The API refuses an endpoint on loopback, and the server would log so every few seconds.
        "--endpoint-reconciler-type=none",
        "--profiling=false",
    ])
}

pub(super) fn controller_manager(tools: &Tools, credentials: &Credentials, kubeconfig: &Path) -> Program {
    Program::new(tools.path(Tool::KubeControllerManager))
        .clear_env()
        .args([
            &format!("--kubeconfig={}", kubeconfig.display()),
            // Each controller with the role that Kubernetes gives it, not with a role that may do everything.
            "--use-service-account-credentials",
            &format!(
                "--service-account-private-key-file={}",
                credentials.signing_key_path.display()
            ),
            &format!("--root-ca-file={}", credentials.ca_pem_path.display()),
            &format!("--controllers={}", CONTROLLERS.join(",")),
            "--secure-port=0",
            "--leader-elect=false",
        ])
}

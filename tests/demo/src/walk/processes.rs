//! Every process that was started, by name, number and address.

use anyhow::Context as _;
use e2e::{Pod, Stack};

use crate::scene::REGISTRY;

/// The plane's processes in the order in which it starts them.
const PLANE: [&str; 3] = ["etcd", "kube-apiserver", "kube-controller-manager"];

/// One process.
pub(crate) struct Part {
    /// What it is.
    pub(crate) name: String,
    /// The same in one word.
    pub(crate) short_name: &'static str,
    /// Its process id.
    pub(crate) pid: u32,
    /// Where it listens, for people.
    pub(crate) address: String,
}

/// All of them.
///
/// # Errors
/// One is gone.
pub(crate) async fn all(stack: &Stack) -> anyhow::Result<Vec<Part>> {
    let plane = stack.plane();
    let mut parts = Vec::new();
    for (short_name, pid) in PLANE.into_iter().zip(plane.pids()) {
        let address = match short_name {
            "etcd" => "for kube-apiserver alone".to_owned(),
            "kube-apiserver" => plane.api_server_url().to_owned(),
            _ => "listens nowhere".to_owned(),
        };
        parts.push(Part { name: short_name.to_owned(), short_name, pid, address });
    }
    let azure = stack.azure();
    let addresses = azure.addresses();
    parts.push(Part {
        name: "azure-simulator".to_owned(),
        short_name: "simulator",
        pid: azure.pid().context("the simulator is gone")?,
        address: format!(
            "Entra {}, registries {}, IMDS {}, admin {}",
            addresses.entra, addresses.acr, addresses.imds, addresses.admin
        ),
    });
    let state = azure.admin().state().await?;
    let backend = state.registry(REGISTRY).and_then(|registry| registry.backend.clone()).unwrap_or_default();
    for (host, pid) in stack.images().pids().await {
        let name = format!("registry of {host}");
        parts.push(Part { name, short_name: "registry", pid, address: backend.clone() });
    }
    let broker = format!("gRPC and HTTP {}, admin {}", stack.broker_url()?, stack.broker().address("admin")?);
    parts.push(pod(stack.broker(), "broker", broker)?);
    let syncer = format!("admin {}", stack.syncer().address("admin")?);
    parts.push(pod(stack.syncer(), "syncer", syncer)?);
    Ok(parts)
}

fn pod(pod: &Pod, short_name: &'static str, address: String) -> anyhow::Result<Part> {
    let pid = pod.pid().with_context(|| format!("{} is gone", pod.name()))?;
    Ok(Part { name: pod.name().to_owned(), short_name, pid, address })
}

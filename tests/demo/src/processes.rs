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
    /// Where it listens, for people: one address a line.
    pub(crate) addresses: Vec<String>,
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
            "etcd" => "a port that only kube-apiserver knows".to_owned(),
            "kube-apiserver" => plane.api_server_url().to_owned(),
            _ => "nothing".to_owned(),
        };
        parts.push(Part {
            name: short_name.to_owned(),
            short_name,
            pid,
            addresses: vec![address],
        });
    }
    let azure = stack.azure();
    let at = azure.addresses();
    parts.push(Part {
        name: "azure-simulator".to_owned(),
        short_name: "simulator",
        pid: azure.pid().context("the simulator is gone")?,
        addresses: vec![
            format!("https://{} (Entra ID)", at.entra),
            format!("http://{} (instance metadata)", at.imds),
            format!("https://{} (every registry, told apart by name)", at.acr),
            format!("http://{} (egress proxy)", at.proxy),
            format!("http://{}/_sim (its own admin API)", at.admin),
        ],
    });
    let state = azure.admin().state().await?;
    let backend = state
        .registry(REGISTRY)
        .and_then(|registry| registry.backend.clone())
        .unwrap_or_default();
    for (host, pid) in stack.images().pids().await {
        let name = format!("registry of {host}");
        parts.push(Part {
            name,
            short_name: "registry",
            pid,
            addresses: vec![backend.clone()],
        });
    }
    parts.push(pod(
        stack.broker(),
        "broker",
        vec![format!("{} (gRPC and HTTP)", stack.broker_url()?)],
    )?);
    parts.push(pod(stack.syncer(), "syncer", Vec::new())?);
    Ok(parts)
}

fn pod(pod: &Pod, short_name: &'static str, mut addresses: Vec<String>) -> anyhow::Result<Part> {
    let pid = pod.pid().with_context(|| format!("{} is gone", pod.name()))?;
    addresses.push(format!("http://{} (health and metrics)", pod.address("admin")?));
    Ok(Part {
        name: pod.name().to_owned(),
        short_name,
        pid,
        addresses,
    })
}

//! Runs a Deployment's container as a process of this machine, as its manifest says: the part of a kubelet that the
//! product can notice, so that what is tested is what the charts render.
//!
//! What it does, as a kubelet does:
//! - reads the pod template from the API server, not from the chart;
//! - materialises the volumes in a folder of the Pod: `configMap` and `secret` (with `items` and `optional`), `emptyDir`,
//!   and `projected` volumes of the same two and `ServiceAccount` tokens; written through a symlink that is
//!   swapped, so that a reader sees all of the old or all of the new;
//! - requests the projected tokens with audience and life as asked, renews them when a fifth of their life is left,
//!   and follows changes of `ConfigMap` and `Secret` objects (within seconds; a kubelet takes up to a minute);
//! - resolves the environment: values with `$(OTHER)`, `fieldRef`, `configMapKeyRef`, `secretKeyRef`; nothing else is in
//!   the environment of the process;
//! - runs command and arguments, ends them by SIGTERM and the grace period, and asks the readiness probe's path.
//!
//! What differs, because there is no container around the process:
//! - a mount path at the beginning of an argument's or a variable's value is replaced by the folder of the volume (a value
//!   of an argument is what follows `--flag=`). Nothing inside a file is replaced;
//! - `0.0.0.0:PORT` in an argument becomes a free port of the loopback interface, known by the name of the container port;
//! - a Pod with a `ServiceAccount` token of the API server gets it through `KUBECONFIG`, because the folder where a
//!   container finds it, and the Service address of the API server, do not exist here;
//! - the command is looked up among the binaries of this build; the image is not looked at.
//!
//! One Pod stands for all replicas; a test that needs more, or one with other arguments, runs [`Pod::another`], and one that
//! needs it on a machine that is different runs [`Pod::elsewhere`].
//!
//! What it does not do: no Pod object, so tokens are not bound to one; no restarts, no liveness, no resources, no
//! security context, no network policy; one container, no init containers. What it cannot do it refuses.

mod environment;
mod pod;
mod prepared;
mod source;
mod swapped_folder;
mod template;
mod volumes;

use std::net::SocketAddr;
use std::sync::Arc;

use controlplane::ControlPlane;

use crate::{Binaries, Clock};

pub use pod::Pod;

/// Where Pods run.
#[derive(Clone)]
pub struct Node {
    /// The cluster.
    pub plane: Arc<ControlPlane>,
    /// What container images would hold.
    pub binaries: Binaries,
    /// What is different about it.
    pub machine: Machine,
}

/// What may be different about a machine.
#[derive(Debug, Clone, Default)]
pub struct Machine {
    /// Its clock, if that is not this machine's.
    pub clock: Option<Clock>,
    /// Where its processes reach the API server, if not directly.
    pub api_server: Option<SocketAddr>,
}

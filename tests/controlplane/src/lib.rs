//! Real parts for tests and the demo: a Kubernetes control plane, an OCI registry, helm and crane.
//!
//! - [`Tools`] finds the programs or builds them once with Go.
//! - [`Supervisor`] runs processes that never outlive their owner.
//! - [`ControlPlane`] is etcd, kube-apiserver and kube-controller-manager with fresh state, or an existing cluster.
//! - [`Registry`], [`Helm`] and [`Crane`] are what their names say.
//!
//! It knows nothing of the product; `README.md` is for people.

mod crane;
mod helm;
mod namespace;
mod plane;
mod registry;
mod supervisor;
mod tar;
mod tools;

pub use crane::Crane;
pub use helm::{Helm, Release};
pub use namespace::Namespace;
pub use plane::{ControlPlane, ControlPlaneOptions, DEFAULT_ISSUER, free_ports};
pub use registry::{Registry, RegistryOptions, TokenAuth};
pub use supervisor::{Output, Process, Program, Supervisor};
pub use tools::{Places, Resolved, Source, Tool, Tools, Version};

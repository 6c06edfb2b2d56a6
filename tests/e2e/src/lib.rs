//! The harness: the whole product on real parts, and nothing of its own in between.
//!
//! - [`Stack`] starts everything: control plane, simulated Azure, collector, broker and syncer, the last two as their
//!   charts say and [`kubelet`] does it.
//! - [`Team`] is an application team: a namespace, a registry, and the objects that such a team writes.
//! - [`Azure`] sets the simulated Azure up and knows what was asked of it; [`Images`] puts real registries behind it.
//! - [`Collector`] receives the spans of both processes.
//! - [`Canaries`] finds secrets where they must not be.
//! - [`Pod::another`] and [`Balancer`] make several replicas of what the stack has one of, behind one address.
//! - [`Machine`] is one whose [`Clock`] can be set, or whose way to the API server has a [`Valve`] in it.
//! - [`Rig`] starts brokers alone, for what Kubernetes has no part in.
//!
//! It decides nothing that the product decides, and has no way into it but those that a user has. The tests are in
//! `tests`; the demo and the benchmarks start the same stack.

mod azure;
mod balancer;
mod binaries;
pub mod binding;
mod canary;
mod certificates;
mod clock;
mod collector;
mod images;
pub mod kubelet;
mod pull_secret;
pub mod rig;
mod stack;
mod team;
mod valve;
mod wait;

pub use azure::{Application, Azure, SUBSCRIPTION, SimulatorKind, TENANT, VmIdentity};
pub use balancer::Balancer;
pub use binaries::Binaries;
pub use binding::condition;
pub use canary::{Canaries, Leak};
pub use certificates::{ClientAuthority, ClientCertificate, ServerCertificate};
pub use clock::Clock;
pub use collector::{Collector, Span, Trace};
pub use images::{IMAGE_FILE, Images};
pub use kubelet::{Machine, Pod};
pub use pull_secret::{PullSecret, RegistryLogin};
pub use rig::{Broker, Rig, Site};
pub use stack::{
    BROKER_AUDIENCE, CLUSTER, ExtraCloud, FEDERATION_AUDIENCE, NAMESPACE, SYNCER_CERTIFICATE_NAME,
    SYNCER_SUBJECT, Stack, StackOptions, chart,
};
pub use team::Team;
pub use valve::Valve;
pub use wait::{poll, wait_for};

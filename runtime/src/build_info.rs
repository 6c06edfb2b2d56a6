//! Which build this is: one log line at start, one metric.

use prometheus_client::{metrics::info::Info, registry::Registry};

/// The version of the workspace; all crates share it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Registers `acrpull_build_info{version, component} 1`.
pub fn register(registry: &mut Registry, component: &'static str) {
    registry.register(
        "acrpull_build",
        "Version and component of this process",
        Info::new(vec![("version", VERSION), ("component", component)]),
    );
}

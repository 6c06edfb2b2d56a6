//! Which ServiceAccounts of a cluster may ask for themselves: those of the namespaces listed. None, until one is listed.

use super::Pattern;

/// The namespaces whose ServiceAccounts may ask for themselves.
#[derive(Debug, Clone, Default)]
pub struct Workloads {
    namespaces: Vec<Pattern>,
}

impl Workloads {
    /// Those of namespaces that match one of these.
    pub fn of(namespaces: Vec<Pattern>) -> Self {
        Self { namespaces }
    }

    /// The patterns, as they are written.
    pub fn namespaces(&self) -> &[Pattern] {
        &self.namespaces
    }

    /// Whether the ServiceAccounts of `namespace` are among them.
    pub fn admit(&self, namespace: &str) -> bool {
        self.namespaces.iter().any(|pattern| pattern.matches(namespace))
    }
}

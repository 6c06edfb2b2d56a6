//! Who a request is served for, as far as fairness goes: limits and shares are kept per tenant, never per address.

use std::sync::Arc;

/// A namespace of a cluster. Both parts are authenticated: the cluster by its key, the namespace by its syncer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tenant {
    /// Name of the cluster in the configuration.
    pub cluster: Arc<str>,
    /// Namespace of the binding.
    pub namespace: Arc<str>,
}

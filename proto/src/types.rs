//! Words of the contract that both sides parse the same way: once at the edge, canonical ever after.

mod azure;
mod registry;
mod scope;

pub use azure::{AzureId, AzureIdError, ResourceId, TenantId};
pub use registry::{RegistryHost, RegistryHostError};
pub use scope::{Scope, ScopeError, ScopeSet};

//! Words of the contract that both sides parse the same way: once at the edge, canonical ever after.

mod azure;
mod registry;
mod repository;
mod scope;

pub use azure::{AzureId, AzureIdError, ResourceId, TenantId};
pub use registry::{RegistryHost, RegistryHostError};
pub use repository::is_repository;
pub use scope::{Scope, ScopeError, ScopeSet};

//! What may change while the broker runs: clusters with their keys, clouds, policy. Swapped as a whole, so that one decision
//! sees one state of it. A credential is answered by the state of the moment in which it leaves.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::{
    authn::Authenticator,
    config::{Clouds, Policy},
};

/// One state of the configuration.
#[derive(Debug)]
pub struct Snapshot {
    /// Verifies tokens of the configured clusters. Its memory of verified tokens goes with it.
    pub authenticator: Arc<Authenticator>,
    /// The clouds that requests may name.
    pub clouds: Clouds,
    /// Identities and grants.
    pub policy: Policy,
}

/// The state of the moment. Cheap to clone; clones see the same swaps.
#[derive(Debug, Clone)]
pub struct Live(Arc<ArcSwap<Snapshot>>);

impl Live {
    /// Starts with `snapshot`.
    pub fn new(snapshot: Snapshot) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(snapshot)))
    }

    /// The state to serve one request with.
    pub fn current(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }

    /// Replaces the state; credentials that are being fetched are judged by it once more before they leave.
    pub fn replace(&self, snapshot: Snapshot) {
        self.0.store(Arc::new(snapshot));
    }
}

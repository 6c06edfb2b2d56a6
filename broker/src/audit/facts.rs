//! What is learned of a call on its way: who, what for, what allowed it, what came of it. Made of what is at hand, mostly
//! shared, and written out only when the call ends.

use std::{net::SocketAddr, sync::Arc, time::SystemTime};

use proto::{
    Fingerprint,
    types::{ScopeSet, TenantId},
};
use runtime::Secret;

use crate::{
    access::Role, authn::Caller, channel::Peer, credentials::Invalidation, error::CredentialError,
    request::DockerConfigRequest,
};

/// All that is known of a call. What never came to be known is absent.
#[derive(Default)]
pub struct Facts {
    /// The other end of the connection; behind a load balancer, that.
    pub address: Option<SocketAddr>,
    /// Whom the certificate of the connection names, where one was presented.
    pub peer: Option<Arc<Peer>>,
    /// W3C trace id, ours or the caller's.
    pub trace_id: Option<String>,
    /// Who. Absent for somebody whom the broker does not know.
    pub caller: Option<Caller>,
    /// In which of its roles it makes this call; absent where it has none that counts.
    pub role: Option<Role>,
    /// The caller's token, if that has no id of its own: its fingerprint is made once it is sure that there is a record.
    pub bearer: Option<Secret>,
    /// For what.
    pub request: Option<Arc<DockerConfigRequest>>,
    /// The verified `sub` that a federated request acts for.
    pub subject: Option<Arc<str>>,
    /// The tenant that a federated request comes to, the cluster's default included.
    pub tenant: Option<TenantId>,
    /// The declared identity that a broker-owned request comes to, granted or not.
    pub identity: Option<Arc<str>>,
    /// By what it is allowed, once it is.
    pub permission: Option<Permission>,
    /// What is handed out.
    pub credential: Option<Handed>,
    /// What an explanation came to.
    pub explained: Option<Explained>,
    /// What an operator had dropped.
    pub dropped: Option<(Invalidation, u64)>,
    /// Why it was refused or failed.
    pub error: Option<CredentialError>,
}

/// By what a call is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Permission {
    /// By the grant of this name.
    Grant(Arc<str>),
    /// By a ServiceAccount's token and the ceilings of its cluster: Entra ID decides.
    NotNeeded,
    /// By no grant, although it needs one: those of its cluster are only reported.
    ReportOnly,
    /// By the caller's role: nothing is asked of Azure.
    Role,
}

/// What a caller holds after the call.
pub struct Handed {
    /// Of the token, under the key of the audit; absent where the caller keeps what it has.
    pub token_fingerprint: Option<String>,
    /// Of the payload, as the contract knows it and a Secret's annotation carries it.
    pub payload_fingerprint: Fingerprint,
    /// Until when it is good.
    pub expires_at: SystemTime,
    /// What of the scopes the registry granted.
    pub granted: ScopeSet,
    /// It could not be renewed when it should have been.
    pub degraded: bool,
}

/// What an explanation came to.
pub struct Explained {
    /// As of which cluster.
    pub cluster: String,
    /// How a request would fare.
    pub verdict: &'static str,
    /// Why, in the catalogue's words.
    pub reason: String,
}

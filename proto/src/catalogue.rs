//! The catalogue: every reason for which a credential is refused, delayed or degraded, once.
//!
//! gRPC code, HTTP status, `ErrorInfo.reason`, condition reason, event reason and the anchor in
//! `docs/troubleshooting.md` all follow from the [`Reason`]; nothing else in the project spells one of them.

use tonic::Code;

/// How long an error is remembered, and how a caller should wait (the periods are in the broker's `expiry`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RetryClass {
    /// What a grant that has not propagated yet looks like: 15 s doubling to 60 s for 15 min, then to 15 min.
    Waiting,
    /// Nothing changes until somebody changes a name or an id: 30 s doubling to 15 min.
    Permanent,
    /// The other side named a time.
    Throttled,
    /// Full-jitter backoff.
    Transient,
    /// Our own policy said no. Never remembered, so that a new grant takes effect at once.
    Denied,
    /// The request itself is wrong; the same request fails again.
    Caller,
}

/// Who can put it right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Owner {
    /// Who wrote the binding.
    ApplicationTeam,
    /// Who runs the syncer in the cluster.
    ClusterTeam,
    /// Who runs the broker and its grants.
    PlatformTeam,
    /// Who owns the identity in Entra ID.
    IdentityOwner,
    /// Who owns the registry.
    RegistryOwner,
    /// Nobody needs to act: it heals by itself.
    Nobody,
}

macro_rules! catalogue {
    ($($(#[doc = $doc:literal])+ $variant:ident = $wire:literal, $code:ident, $http:literal, $class:ident, $owner:ident, $title:literal;)+) => {
        /// Why something was refused or failed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Reason { $($(#[doc = $doc])+ $variant,)+ }

        impl Reason {
            /// Every reason, in the order of the catalogue.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// `google.rpc.ErrorInfo.reason`: upper snake case, at most 63 characters.
            pub const fn as_wire(self) -> &'static str { match self { $(Self::$variant => $wire,)+ } }

            /// The reason of a condition or an event, and the anchor in the troubleshooting guide.
            pub const fn as_str(self) -> &'static str { match self { $(Self::$variant => stringify!($variant),)+ } }

            /// The canonical gRPC code.
            pub const fn grpc_code(self) -> Code { match self { $(Self::$variant => Code::$code,)+ } }

            /// The HTTP status of the same answer.
            pub const fn http_status(self) -> u16 { match self { $(Self::$variant => $http,)+ } }

            /// How it is remembered and retried.
            pub const fn retry_class(self) -> RetryClass { match self { $(Self::$variant => RetryClass::$class,)+ } }

            /// Whose move it is.
            pub const fn owner(self) -> Owner { match self { $(Self::$variant => Owner::$owner,)+ } }

            /// One line for people.
            pub const fn title(self) -> &'static str { match self { $(Self::$variant => $title,)+ } }
        }
    };
}

catalogue! {
    // --- who asks
    /// No bearer token, or one that is forged, expired, or issued for another audience.
    CallerUnauthenticated = "CALLER_UNAUTHENTICATED", Unauthenticated, 401, Caller, ClusterTeam,
        "the caller's token was not accepted";
    /// No configured cluster has the issuer and the key of the token.
    ClusterNotRegistered = "CLUSTER_NOT_REGISTERED", Unauthenticated, 401, Denied, PlatformTeam,
        "the broker knows no cluster with the issuer and key of this token";
    /// The keys of the issuer could not be fetched yet.
    ClusterKeysUnavailable = "CLUSTER_KEYS_UNAVAILABLE", Unavailable, 503, Transient, PlatformTeam,
        "the signing keys of the cluster are not available";
    /// The subject token is forged, expired, of another cluster, or for another audience.
    SubjectTokenRejected = "SUBJECT_TOKEN_REJECTED", Unauthenticated, 401, Caller, ClusterTeam,
        "the ServiceAccount's token was not accepted";
    /// The ServiceAccount is authentic and not one that may call.
    CallerNotPermitted = "CALLER_NOT_PERMITTED", PermissionDenied, 403, Denied, PlatformTeam,
        "this ServiceAccount may not call the broker";

    /// The cluster, or the namespace, has asked more often than the broker's configuration allows.
    CallerThrottled = "CALLER_THROTTLED", ResourceExhausted, 429, Throttled, PlatformTeam,
        "the cluster or the namespace asks more often than it may";

    // --- what is asked
    /// A field of the request does not parse.
    InvalidRequest = "INVALID_REQUEST", InvalidArgument, 400, Caller, ApplicationTeam,
        "a field of the request is not valid";
    /// The message is larger than any honest one.
    RequestTooLarge = "REQUEST_TOO_LARGE", OutOfRange, 413, Caller, ApplicationTeam,
        "the message is larger than the broker accepts";
    /// The registry lies outside the allowed domains or the cluster's ceiling.
    RegistryNotAllowed = "REGISTRY_NOT_ALLOWED", PermissionDenied, 403, Denied, PlatformTeam,
        "the registry is not among those that the broker may send tokens to";
    /// The tenant lies outside the cluster's ceiling.
    TenantNotAllowed = "TENANT_NOT_ALLOWED", PermissionDenied, 403, Denied, PlatformTeam,
        "the tenant is not among those that this cluster may use";
    /// The cloud is not configured.
    CloudNotConfigured = "CLOUD_NOT_CONFIGURED", PermissionDenied, 403, Denied, PlatformTeam,
        "the broker's configuration does not list this cloud";
    /// No declared identity, or no grant, allows the request.
    PolicyDenied = "POLICY_DENIED", PermissionDenied, 403, Denied, PlatformTeam,
        "no grant allows this";

    // --- what Azure said
    /// Entra knows no federated credential for issuer, subject and audience, or not yet.
    FederationRejected = "FEDERATION_REJECTED", FailedPrecondition, 412, Waiting, IdentityOwner,
        "Entra ID has no federated credential that matches this ServiceAccount";
    /// The identity does not exist in the tenant or is not assigned to the broker's host, or not yet.
    IdentityNotFound = "IDENTITY_NOT_FOUND", FailedPrecondition, 412, Waiting, IdentityOwner,
        "the identity was not found";
    /// The tenant does not exist, or belongs to another cloud.
    TenantNotFound = "TENANT_NOT_FOUND", FailedPrecondition, 412, Permanent, ApplicationTeam,
        "the tenant was not found";
    /// Entra does not know the audience for registry tokens.
    AudienceRejected = "AUDIENCE_REJECTED", FailedPrecondition, 412, Permanent, PlatformTeam,
        "Entra ID does not know the audience that was asked for";
    /// Entra refused the request for another reason that will not pass by itself.
    EntraRejected = "ENTRA_REJECTED", FailedPrecondition, 412, Permanent, IdentityOwner,
        "Entra ID refused the request";
    /// Entra could not be reached or answered 5xx.
    EntraUnreachable = "ENTRA_UNREACHABLE", Unavailable, 503, Transient, Nobody,
        "Entra ID could not be reached";
    /// The instance metadata service could not be reached or answered 5xx.
    IdentityEndpointUnreachable = "IDENTITY_ENDPOINT_UNREACHABLE", Unavailable, 503, Transient, PlatformTeam,
        "the managed identity endpoint could not be reached";
    /// The file with the broker's own token, for an identity that trusts it, is not there or holds none.
    IdentityTokenUnreadable = "IDENTITY_TOKEN_UNREADABLE", Unavailable, 503, Transient, PlatformTeam,
        "the broker's own ServiceAccount token could not be read";
    /// The registry's token service knows no role of the identity, or not yet.
    RegistryUnauthorized = "REGISTRY_UNAUTHORIZED", FailedPrecondition, 412, Waiting, RegistryOwner,
        "the identity has no role on the registry";
    /// The registry's firewall refused the broker.
    RegistryForbidden = "REGISTRY_FORBIDDEN", FailedPrecondition, 412, Waiting, RegistryOwner,
        "the registry's network rules refuse the broker";
    /// The registry did not grant what was asked for.
    ScopeRejected = "SCOPE_REJECTED", FailedPrecondition, 412, Waiting, RegistryOwner,
        "the registry did not grant the scope";
    /// The registry's name does not resolve, or resolves to an address that no token may go to.
    RegistryNotFound = "REGISTRY_NOT_FOUND", FailedPrecondition, 412, Waiting, ApplicationTeam,
        "the registry was not found";
    /// The registry could not be reached or answered 5xx.
    RegistryUnreachable = "REGISTRY_UNREACHABLE", Unavailable, 503, Transient, Nobody,
        "the registry could not be reached";
    /// Entra, the registry or the metadata service asked for fewer requests.
    UpstreamThrottled = "UPSTREAM_THROTTLED", ResourceExhausted, 429, Throttled, Nobody,
        "Azure asked for fewer requests";
    /// An answer that is not what the protocol says.
    UpstreamMalformed = "UPSTREAM_MALFORMED", Unavailable, 503, Transient, Nobody,
        "Azure answered with something unexpected";

    // --- the broker itself
    /// The caller's deadline passed first.
    DeadlineExceeded = "DEADLINE_EXCEEDED", DeadlineExceeded, 504, Transient, Nobody,
        "the answer did not come within the deadline";
    /// A limit of the broker was reached.
    Overloaded = "OVERLOADED", ResourceExhausted, 429, Transient, PlatformTeam,
        "the broker is at one of its limits";
    /// The record of the call could not be written, and the configuration says that then nothing is handed out.
    AuditUnavailable = "AUDIT_UNAVAILABLE", Unavailable, 503, Transient, PlatformTeam,
        "the broker's audit log is blocked";
    /// A fault of the broker.
    Internal = "INTERNAL", Internal, 500, Transient, PlatformTeam,
        "the broker failed";

    // --- the syncer's side
    /// The broker could not be reached.
    BrokerUnreachable = "BROKER_UNREACHABLE", Unavailable, 503, Transient, ClusterTeam,
        "the broker could not be reached";
    /// A field of the binding does not parse.
    InvalidSpec = "INVALID_SPEC", InvalidArgument, 400, Permanent, ApplicationTeam,
        "the binding's spec is not valid";
    /// The ServiceAccount that the binding names does not exist.
    ServiceAccountNotFound = "SERVICE_ACCOUNT_NOT_FOUND", NotFound, 404, Waiting, ApplicationTeam,
        "the ServiceAccount does not exist";
    /// Neither the binding nor the ServiceAccount says which identity to use.
    IdentityAnnotationMissing = "IDENTITY_ANNOTATION_MISSING", FailedPrecondition, 412, Permanent, ApplicationTeam,
        "no client id: set auth.workloadIdentity.clientID, or annotate the ServiceAccount";
    /// A Secret of that name exists and belongs to somebody else.
    SecretConflict = "SECRET_CONFLICT", AlreadyExists, 409, Permanent, ApplicationTeam,
        "a Secret of that name belongs to somebody else";
    /// Kubernetes refused a call for another reason than the two below: RBAC, or a namespace that is being deleted.
    KubernetesDenied = "KUBERNETES_DENIED", PermissionDenied, 403, Waiting, ClusterTeam,
        "Kubernetes refused the write";
    /// An admission policy or webhook of the cluster refused the write.
    AdmissionDenied = "ADMISSION_DENIED", PermissionDenied, 403, Waiting, ClusterTeam,
        "an admission policy of the cluster refused the write";
    /// A quota of the namespace is used up.
    QuotaExceeded = "QUOTA_EXCEEDED", PermissionDenied, 403, Waiting, ClusterTeam,
        "a quota of the namespace is used up";
    /// The API server could not be reached or failed.
    KubernetesUnreachable = "KUBERNETES_UNREACHABLE", Unavailable, 503, Transient, Nobody,
        "the Kubernetes API server could not be reached";
    /// Another controller works on the same binding.
    DuplicateController = "DUPLICATE_CONTROLLER", FailedPrecondition, 412, Waiting, ClusterTeam,
        "another controller works on this binding";
    /// Somebody else undoes, again and again, what the syncer writes.
    Contested = "CONTESTED", FailedPrecondition, 412, Permanent, ApplicationTeam,
        "somebody else keeps undoing what the syncer writes";
    /// The token expired before it could be renewed.
    CredentialExpired = "CREDENTIAL_EXPIRED", Unavailable, 503, Transient, Nobody,
        "the credential expired before it could be renewed";
    /// By the clock of the syncer's machine the broker hands out what has expired.
    ClockAhead = "CLOCK_AHEAD", Unavailable, 503, Transient, ClusterTeam,
        "the broker's token has expired by the clock of the syncer's machine";
}

impl Reason {
    /// Reads the wire form.
    pub fn from_wire(wire: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.as_wire() == wire)
    }

    /// Stands for a reason of a newer broker that this version does not know: the one that its code is nearest to. The
    /// broker's own text goes with it, so it matters for retries more than for people.
    pub const fn standing_for(code: Code) -> Self {
        match code {
            Code::Unauthenticated => Self::CallerUnauthenticated,
            Code::PermissionDenied => Self::PolicyDenied,
            Code::InvalidArgument | Code::OutOfRange => Self::InvalidRequest,
            Code::FailedPrecondition | Code::NotFound | Code::AlreadyExists => Self::EntraRejected,
            Code::ResourceExhausted => Self::Overloaded,
            Code::DeadlineExceeded | Code::Cancelled => Self::DeadlineExceeded,
            Code::Unavailable | Code::Aborted => Self::BrokerUnreachable,
            Code::Ok | Code::Unknown | Code::Unimplemented | Code::Internal | Code::DataLoss => {
                Self::Internal
            }
        }
    }

    /// Where the troubleshooting guide explains it; also the `type` of a problem+json answer.
    pub fn help_url(self) -> String {
        format!("https://acrpull.dev/e/{}", self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn catalogue_names_are_unique_and_well_formed() {
        for (position, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(Reason::from_wire(reason.as_wire()), Some(*reason));
            assert!(reason.as_wire().len() <= 63);
            assert!(
                reason
                    .as_wire()
                    .bytes()
                    .all(|byte| byte.is_ascii_uppercase() || byte == b'_')
            );
            assert_eq!(
                reason.as_wire().replace('_', "").to_lowercase(),
                reason.as_str().to_lowercase()
            );
            assert!(
                Reason::ALL
                    .iter()
                    .skip(position + 1)
                    .all(|other| other.as_str() != reason.as_str())
            );
        }
    }

    #[test]
    fn r5_reason_of_a_newer_broker_is_retried_like_its_code() {
        for (code, class) in [
            (Code::PermissionDenied, RetryClass::Denied),
            (Code::InvalidArgument, RetryClass::Caller),
            (Code::FailedPrecondition, RetryClass::Permanent),
            (Code::ResourceExhausted, RetryClass::Transient),
            (Code::Unavailable, RetryClass::Transient),
            (Code::Internal, RetryClass::Transient),
        ] {
            let reason = Reason::standing_for(code);
            assert_eq!((reason.grpc_code(), reason.retry_class()), (code, class));
        }
    }

    #[test]
    fn catalogue_status_codes_agree() {
        for reason in Reason::ALL {
            let status = reason.http_status();
            let pairs = [
                (Code::InvalidArgument, 400),
                (Code::Unauthenticated, 401),
                (Code::PermissionDenied, 403),
                (Code::NotFound, 404),
                (Code::AlreadyExists, 409),
                (Code::FailedPrecondition, 412),
                (Code::OutOfRange, 413),
                (Code::ResourceExhausted, 429),
                (Code::Internal, 500),
                (Code::Unavailable, 503),
                (Code::DeadlineExceeded, 504),
            ];
            assert!(pairs.contains(&(reason.grpc_code(), status)), "{reason:?}");
        }
    }
}

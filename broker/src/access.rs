//! Who may call what: the one table of every gRPC method and HTTP route, whom each admits, and how much of a message it
//! reads (guarantee A5). A method or route that is not in it is refused. Pure; [`gate`](crate::gate) applies it.

use std::{fmt, sync::Arc};

use http::Method;
use proto::MAX_MESSAGE_BYTES;

use crate::{
    authn::{Caller, ServiceAccount},
    metrics::WireFormat,
};

/// A name of a service; nothing that is asked of the health service is longer.
pub const MAX_HEALTH_MESSAGE_BYTES: usize = 1024;

/// Whom the configuration of its cluster makes of a caller. One caller can have several roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Asks for the bindings of its own cluster.
    Syncer,
    /// Asks for itself, and for nobody else: [`own_account`](crate::own_account).
    Workload,
    /// Looks after the broker.
    Operator,
}

/// Everything that can be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    /// A pull Secret's content.
    GetDockerConfig,
    /// A token by itself.
    GetAccessToken,
    /// How a request would fare.
    Explain,
    /// The clusters.
    ListClusters,
    /// Drops what is cached.
    Invalidate,
    /// `grpc.health.v1`, once.
    HealthCheck,
    /// `grpc.health.v1`, as a stream.
    HealthWatch,
    /// The description of the HTTP routes.
    OpenApi,
}

/// Whom a call admits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admits {
    /// Anybody: it says nothing that a stranger may not know.
    Anybody,
    /// Authenticated callers with one of these roles. A caller with several of them acts in the first.
    Only(&'static [Role]),
}

/// One row of the table.
#[derive(Debug)]
pub struct Rule {
    /// What is called.
    pub call: Call,
    /// Its path over gRPC.
    pub grpc: Option<&'static str>,
    /// Its method and path over HTTP.
    pub http: Option<(Method, &'static str)>,
    /// Who may.
    pub admits: Admits,
    /// The largest message that is read.
    pub max_message_bytes: usize,
}

/// The table.
pub static TABLE: [Rule; 8] = [
    Rule {
        call: Call::GetDockerConfig,
        grpc: Some("/acrpull.broker.v1.CredentialService/GetDockerConfig"),
        http: Some((Method::POST, "/v1/docker-config")),
        admits: Admits::Only(&[Role::Syncer, Role::Workload]),
        max_message_bytes: MAX_MESSAGE_BYTES,
    },
    Rule {
        call: Call::GetAccessToken,
        grpc: Some("/acrpull.broker.v1.CredentialService/GetAccessToken"),
        http: Some((Method::POST, "/v1/access-token")),
        admits: Admits::Only(&[Role::Syncer, Role::Workload]),
        max_message_bytes: MAX_MESSAGE_BYTES,
    },
    Rule {
        call: Call::Explain,
        grpc: Some("/acrpull.broker.v1.CredentialService/Explain"),
        http: Some((Method::POST, "/v1/explain")),
        admits: Admits::Only(&[Role::Operator, Role::Syncer, Role::Workload]),
        max_message_bytes: MAX_MESSAGE_BYTES,
    },
    Rule {
        call: Call::ListClusters,
        grpc: Some("/acrpull.broker.v1.FleetService/ListClusters"),
        http: Some((Method::GET, "/v1/clusters")),
        admits: Admits::Only(&[Role::Operator]),
        max_message_bytes: MAX_MESSAGE_BYTES,
    },
    Rule {
        call: Call::Invalidate,
        grpc: Some("/acrpull.broker.v1.FleetService/Invalidate"),
        http: Some((Method::POST, "/v1/invalidate")),
        admits: Admits::Only(&[Role::Operator]),
        max_message_bytes: MAX_MESSAGE_BYTES,
    },
    Rule {
        call: Call::HealthCheck,
        grpc: Some("/grpc.health.v1.Health/Check"),
        http: None,
        admits: Admits::Anybody,
        max_message_bytes: MAX_HEALTH_MESSAGE_BYTES,
    },
    Rule {
        call: Call::HealthWatch,
        grpc: Some("/grpc.health.v1.Health/Watch"),
        http: None,
        admits: Admits::Anybody,
        max_message_bytes: MAX_HEALTH_MESSAGE_BYTES,
    },
    Rule {
        call: Call::OpenApi,
        grpc: None,
        http: Some((Method::GET, "/openapi.json")),
        admits: Admits::Anybody,
        max_message_bytes: 0,
    },
];

/// Why the table has no row for a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unlisted {
    /// No such path.
    Path,
    /// The path takes other methods, in the form of the `Allow` header.
    Method(String),
    /// The path is a gRPC method, and the request is not gRPC.
    NotGrpc,
}

/// An authentic caller without a role that the call admits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{subject} may not make this call: the configuration does not list it among the {} of cluster {cluster}", Lists(.admitted))]
pub struct NotPermitted {
    /// Who it is.
    pub subject: Arc<str>,
    /// Of which cluster.
    pub cluster: Arc<str>,
    /// Who may.
    pub admitted: &'static [Role],
}

/// Roles as the configuration calls their lists.
struct Lists<'a>(&'a [Role]);

impl Call {
    /// Its name in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::GetDockerConfig => "get_docker_config",
            Self::GetAccessToken => "get_access_token",
            Self::Explain => "explain",
            Self::ListClusters => "list_clusters",
            Self::Invalidate => "invalidate",
            Self::HealthCheck => "health_check",
            Self::HealthWatch => "health_watch",
            Self::OpenApi => "openapi",
        }
    }
}

impl Role {
    /// Its name in traces.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Syncer => "syncer",
            Self::Workload => "workload",
            Self::Operator => "operator",
        }
    }

    /// Whether the configuration of the caller's cluster gives it this role.
    pub fn is_of(self, caller: &Caller) -> bool {
        let config = &caller.cluster.config;
        let is_listed = |list: &[String]| list.iter().any(|subject| **subject == *caller.subject);
        match self {
            Self::Syncer => is_listed(&config.syncers),
            Self::Operator => is_listed(&config.operators),
            Self::Workload => ServiceAccount::parse(&caller.subject)
                .is_some_and(|account| config.workloads.admit(account.namespace)),
        }
    }
}

/// The row for a request.
///
/// # Errors
/// There is none.
pub fn find(wire: WireFormat, method: &Method, path: &str) -> Result<&'static Rule, Unlisted> {
    match wire {
        WireFormat::Grpc => TABLE
            .iter()
            .find(|rule| rule.grpc == Some(path) && method == Method::POST)
            .ok_or(Unlisted::Path),
        WireFormat::Http => find_route(method, path),
    }
}

fn find_route(method: &Method, path: &str) -> Result<&'static Rule, Unlisted> {
    // What can be got can be asked for by its head (RFC 9110 section 9.3.2).
    let wanted = if method == Method::HEAD {
        &Method::GET
    } else {
        method
    };
    let mut allowed = Vec::new();
    for rule in &TABLE {
        match &rule.http {
            Some((takes, at)) if *at == path => {
                if takes == wanted {
                    return Ok(rule);
                }
                allowed.push(takes.as_str());
                if takes == Method::GET {
                    allowed.push(Method::HEAD.as_str());
                }
            }
            Some(_) | None => {}
        }
    }
    let is_grpc_method = TABLE.iter().any(|rule| rule.grpc == Some(path));
    Err(match (allowed.is_empty(), is_grpc_method) {
        (false, _) => Unlisted::Method(allowed.join(", ")),
        (true, true) if wanted == Method::POST => Unlisted::NotGrpc,
        (true, true) => Unlisted::Method(Method::POST.to_string()),
        (true, false) => Unlisted::Path,
    })
}

/// What is called at `path`, if anybody may call it: that it was answered says nothing about who asked.
pub fn for_anybody(path: &str) -> Option<Call> {
    let is_there =
        |rule: &&Rule| rule.grpc == Some(path) || rule.http.as_ref().is_some_and(|(_method, at)| *at == path);
    let rule = TABLE.iter().find(is_there)?;
    (rule.admits == Admits::Anybody).then_some(rule.call)
}

/// In which role a caller makes a call that admits these.
///
/// # Errors
/// It has none of them.
pub fn check(caller: &Caller, admitted: &'static [Role]) -> Result<Role, NotPermitted> {
    let mut roles = admitted.iter().copied();
    roles.find(|role| role.is_of(caller)).ok_or_else(|| NotPermitted {
        subject: Arc::clone(&caller.subject),
        cluster: Arc::clone(&caller.cluster.config.name),
        admitted,
    })
}

impl fmt::Display for Lists<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, role) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str(" or ")?;
            }
            f.write_str(match role {
                Role::Syncer => "syncers",
                Role::Workload => "workloads",
                Role::Operator => "operators",
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

//! The HTTP clients: which addresses a name may mean, which roots are trusted, through which proxy.
//!
//! The names of registries come from bindings. What the operator configured (authorities, overrides, the metadata
//! address, the proxy) is not bound by the rule on addresses.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use reqwest::{
    Certificate, Client,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect, retry,
};

use crate::config::{EgressConfig, HostOverride};

/// Longest wait for a connection, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The metadata service is on the same machine.
const IMDS_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Idle connections kept per host: as many as calls may be in flight to it.
const IDLE_CONNECTIONS_PER_HOST: usize = 32;
/// They are kept for a burst and not for the next refresh. Shorter than servers keep them, so that a call does not meet
/// a connection that is just being closed; and what a black hole has swallowed is not tried for long.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);
/// Azure's host endpoint ("wire server"): reachable from every virtual machine, meant for its agent only.
const AZURE_WIRE_SERVER: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);

/// The clients cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// `egress.caBundle` holds something that is no certificate.
    #[error("cannot use egress.caBundle")]
    CaBundle(#[source] reqwest::Error),
    /// The client itself.
    #[error("cannot build the HTTP client")]
    Client(#[source] reqwest::Error),
}

/// A name that must not be connected to, found in the chain of a connection error.
#[derive(Debug, thiserror::Error)]
pub(super) enum ResolveError {
    /// No such name.
    #[error("the name does not exist")]
    NoSuchName,
    /// The resolver failed; the name may well exist.
    #[error("the name could not be looked up")]
    Lookup(#[source] std::io::Error),
    /// All addresses are of the kind that no token goes to.
    #[error("the name resolves to a loopback, link-local or metadata address")]
    Forbidden,
}

/// The client for Entra and the registries.
pub(super) fn azure_client(
    egress: &EgressConfig,
    registry_suffixes: Vec<String>,
) -> Result<Client, EgressError> {
    let mut builder = Client::builder()
        .https_only(true)
        // A redirect could carry a token elsewhere.
        .redirect(redirect::Policy::none())
        // One call is one request, also where a server says that it has not looked at it yet: the budgets count calls.
        .retry(retry::never())
        // One connection, one call: one that stalls is closed with the call that timed out. Over HTTP/2 every later call
        // to the host would share it, and time out as well.
        .http1_only()
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(IDLE_CONNECTIONS_PER_HOST)
        .user_agent(concat!("acrpull-broker/", env!("CARGO_PKG_VERSION")))
        .dns_resolver(GuardedResolver {
            overrides: egress.host_overrides.clone(),
            registry_suffixes,
        });
    if let Some(pem) = &egress.ca_bundle_pem {
        for certificate in Certificate::from_pem_bundle(pem).map_err(EgressError::CaBundle)? {
            builder = builder.add_root_certificate(certificate);
        }
    }
    builder.build().map_err(EgressError::Client)
}

/// The client for the metadata service: plain HTTP on the same machine, never through a proxy.
pub(super) fn imds_client() -> Result<Client, EgressError> {
    Client::builder()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .connect_timeout(IMDS_CONNECT_TIMEOUT)
        .build()
        .map_err(EgressError::Client)
}

/// Answers with the operator's override, or with what DNS says less the addresses that no token may go to.
#[derive(Debug)]
struct GuardedResolver {
    overrides: Vec<HostOverride>,
    /// Names under these come from bindings; all others are the operator's own: authorities and the proxy.
    registry_suffixes: Vec<String>,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let host = name.as_str().to_ascii_lowercase();
        let overridden = self
            .overrides
            .iter()
            .find(|rule| rule.host.matches(&host))
            .map(|rule| rule.address);
        let is_guarded = self
            .registry_suffixes
            .iter()
            .any(|suffix| host.strip_suffix(suffix).is_some_and(|head| head.ends_with('.')));
        Box::pin(async move {
            if let Some(address) = overridden {
                return Ok(Box::new(std::iter::once(address)) as Addrs);
            }
            // Port 0: the connector fills in that of the URL.
            let found = tokio::net::lookup_host((host.as_str(), 0))
                .await
                .map_err(lookup_error)?;
            let allowed: Vec<SocketAddr> = found
                .filter(|address| !is_guarded || !is_forbidden(address.ip()))
                .collect();
            if allowed.is_empty() {
                return Err(ResolveError::Forbidden.into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// The resolver's answer is a text and no code: "Name or service not known" and "No address associated with hostname"
/// (glibc), "Name does not resolve" (musl) say that the name does not exist, everything else that nobody knows.
fn lookup_error(error: std::io::Error) -> ResolveError {
    let text = error.to_string();
    let is_certain = ["not known", "No address associated", "does not resolve"]
        .iter()
        .any(|part| text.contains(part));
    if is_certain {
        ResolveError::NoSuchName
    } else {
        ResolveError::Lookup(error)
    }
}

/// Private addresses are fine (private endpoints); those of this machine and its link are not.
fn is_forbidden(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            v4.is_loopback()
                || v4.is_link_local()
                || v4.is_unspecified()
                || v4.is_multicast()
                || v4.is_broadcast()
                || v4 == AZURE_WIRE_SERVER
        }
        IpAddr::V6(v6) => {
            v6.is_loopback() || v6.is_unicast_link_local() || v6.is_unspecified() || v6.is_multicast()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn egress_addresses_of_the_machine_itself_are_forbidden() {
        for address in [
            "127.0.0.1",
            "169.254.169.254",
            "0.0.0.0",
            "224.0.0.1",
            "168.63.129.16",
            "::1",
            "fe80::1",
            "::ffff:127.0.0.1",
        ] {
            assert!(is_forbidden(address.parse().unwrap()), "{address}");
        }
        for address in ["10.1.2.3", "192.168.0.4", "20.1.2.3", "fd00::1", "2603:1030::1"] {
            assert!(!is_forbidden(address.parse().unwrap()), "{address}");
        }
    }

    fn resolver(suffix: &str) -> GuardedResolver {
        let address = "127.0.0.1:10443".parse().unwrap();
        GuardedResolver {
            overrides: vec![HostOverride {
                host: crate::config::Pattern::new("*.azurecr.io"),
                address,
            }],
            registry_suffixes: vec!["azurecr.io".to_owned(), suffix.to_owned()],
        }
    }

    #[tokio::test]
    async fn e1_registry_that_means_this_machine_is_refused_unless_overridden() {
        // Every resolver answers names under `localhost` with this machine (RFC 6761 section 6.3).
        let resolver = resolver("localhost");
        let refused = resolver
            .resolve("registry.localhost".parse().unwrap())
            .await
            .err();
        let refused = refused
            .as_ref()
            .and_then(|error| error.downcast_ref::<ResolveError>());
        assert!(
            matches!(
                refused,
                Some(ResolveError::Forbidden | ResolveError::NoSuchName | ResolveError::Lookup(_))
            ),
            "{refused:?}"
        );
        let found: Vec<_> = resolver
            .resolve("Example.azurecr.io".parse().unwrap())
            .await
            .ok()
            .unwrap()
            .collect();
        assert_eq!(found, ["127.0.0.1:10443".parse().unwrap()]);
    }

    #[tokio::test]
    async fn egress_name_that_the_operator_configured_may_mean_this_machine() {
        assert!(
            resolver("azurecr.us")
                .resolve("localhost".parse().unwrap())
                .await
                .is_ok()
        );
    }
}

//! The HTTP clients: which addresses a name may mean, which roots are trusted, through which proxy.
//!
//! The names of registries come from bindings. What the operator configured (authorities, overrides, the metadata
//! address, the proxy) is not bound by the rule on addresses.

mod addresses;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use proto::types::RegistryHost;
use reqwest::{
    Certificate, Client,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect, retry,
};

use crate::config::{EgressConfig, HostOverride, RegistryFence};
use addresses::is_forbidden;

/// Longest wait for a connection, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The metadata service is on the same machine.
const IMDS_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Idle connections kept per host: as many as calls may be in flight to it.
const IDLE_CONNECTIONS_PER_HOST: usize = 32;
/// They are kept for a burst and not for the next refresh. Shorter than servers keep them, so that a call does not meet
/// a connection that is just being closed; and what a black hole has swallowed is not tried for long.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

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
    Lookup(#[source] io::Error),
    /// All addresses are of the kind that no token goes to.
    #[error("the name resolves to a loopback, link-local or metadata address")]
    Forbidden,
}

/// What a name means, by whoever answers for it. It is not believed for the names of registries.
#[async_trait::async_trait]
pub(super) trait NameService: Send + Sync + 'static {
    async fn lookup(&self, name: &str) -> io::Result<Vec<SocketAddr>>;
}

/// The resolver of the system: `/etc/hosts`, DNS, whatever else it asks.
pub(super) struct SystemNames;

#[async_trait::async_trait]
impl NameService for SystemNames {
    async fn lookup(&self, name: &str) -> io::Result<Vec<SocketAddr>> {
        // Port 0: the connector fills in that of the URL.
        Ok(tokio::net::lookup_host((name, 0)).await?.collect())
    }
}

/// The client for Entra and the registries.
pub(super) fn azure_client(
    egress: &EgressConfig,
    registries: RegistryFence,
    names: Arc<dyn NameService>,
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
            registries,
            names,
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

/// Answers with the operator's override, or with what the name service says less the addresses that no token may go to.
struct GuardedResolver {
    overrides: Vec<HostOverride>,
    /// These names come from bindings; all others are the operator's own: authorities and the proxy.
    registries: RegistryFence,
    names: Arc<dyn NameService>,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let host = name.as_str().to_ascii_lowercase();
        let overridden = self
            .overrides
            .iter()
            .find(|rule| rule.host.matches(&host))
            .map(|rule| rule.address);
        let is_guarded = host
            .parse::<RegistryHost>()
            .is_ok_and(|host| self.registries.allows(&host));
        let names = Arc::clone(&self.names);
        Box::pin(async move {
            if let Some(address) = overridden {
                return Ok(Box::new(std::iter::once(address)) as Addrs);
            }
            let found = names.lookup(&host).await.map_err(lookup_error)?;
            let allowed: Vec<SocketAddr> = found
                .into_iter()
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
fn lookup_error(error: io::Error) -> ResolveError {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Pattern;

    /// Answers every question alike.
    struct Liar(&'static [&'static str]);

    #[async_trait::async_trait]
    impl NameService for Liar {
        async fn lookup(&self, _name: &str) -> io::Result<Vec<SocketAddr>> {
            let addresses = self.0.iter().map(|address| address.parse().unwrap());
            Ok(addresses.map(|ip| SocketAddr::new(ip, 0)).collect())
        }
    }

    /// What `name` means where the resolver answers with `lie`.
    async fn meaning(name: &str, lie: &'static [&'static str]) -> Option<Vec<String>> {
        let resolver = GuardedResolver {
            overrides: vec![HostOverride {
                host: Pattern::new("private.azurecr.io"),
                address: "127.0.0.1:10443".parse().unwrap(),
            }],
            registries: RegistryFence::new(["exact.example.com".parse().unwrap()], ["azurecr.io".to_owned()]),
            names: Arc::new(Liar(lie)),
        };
        match resolver.resolve(name.parse().unwrap()).await {
            Ok(found) => Some(found.map(|address| address.to_string()).collect()),
            Err(error) => {
                let refused = error.downcast_ref::<ResolveError>();
                assert!(matches!(refused, Some(ResolveError::Forbidden)), "{error}");
                None
            }
        }
    }

    #[tokio::test]
    async fn e1_registry_that_a_resolver_says_is_this_machine_is_refused() {
        for name in ["example.azurecr.io", "Example.AzureCR.io", "exact.example.com"] {
            for lie in [
                &["127.0.0.1"][..],
                &["169.254.169.254"],
                &["::1", "fe80::1"],
                &["::ffff:168.63.129.16", "0.0.0.0"],
                &["64:ff9b::a9fe:a9fe"],
                &[],
            ] {
                assert_eq!(meaning(name, lie).await, None, "{name} {lie:?}");
            }
        }
    }

    #[tokio::test]
    async fn e1_of_a_mixed_answer_only_the_allowed_addresses_are_left() {
        let lie = &["127.0.0.1", "10.1.2.3", "fe80::1", "20.1.2.3", "169.254.169.254"];
        let left = meaning("example.azurecr.io", lie).await;
        assert_eq!(left.unwrap(), ["10.1.2.3:0", "20.1.2.3:0"]);
    }

    #[tokio::test]
    async fn e1_what_the_operator_configured_may_mean_this_machine() {
        let overridden = meaning("Private.azurecr.io", &["20.1.2.3"]).await;
        assert_eq!(overridden.unwrap(), ["127.0.0.1:10443"]);
        for name in ["login.example", "proxy", "azurecr.io", "other.example.com"] {
            assert_eq!(
                meaning(name, &["127.0.0.1"]).await.unwrap(),
                ["127.0.0.1:0"],
                "{name}"
            );
        }
    }
}

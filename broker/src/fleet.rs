//! What operators see and select: the clusters, page by page, and what to drop from the caches. Pure.

use std::sync::Arc;

use prost::Message as _;
use proto::v1::{self, InvalidateRequest, ListClustersResponse};

use crate::{
    authn::Cluster, config::KeySource, credentials::Invalidation, live::Snapshot, request::InvalidField,
};

/// A page ends before it is larger than this, so that with one more cluster it stays under the 64 KiB of a message.
const PAGE_BYTES: usize = 32 * 1024;

/// The clusters after the one that `page_token` names, by name.
pub fn clusters(clusters: &[Arc<Cluster>], page_token: &str) -> ListClustersResponse {
    let mut sorted: Vec<&Arc<Cluster>> = clusters
        .iter()
        .filter(|cluster| *cluster.config.name > *page_token)
        .collect();
    sorted.sort_by(|a, b| a.config.name.cmp(&b.config.name));
    let mut page = ListClustersResponse::default();
    let mut bytes = 0;
    for cluster in sorted {
        if bytes >= PAGE_BYTES {
            page.next_page_token = page
                .clusters
                .last()
                .map(|last| last.name.clone())
                .unwrap_or_default();
            break;
        }
        let entry = describe(cluster);
        bytes += entry.encoded_len();
        page.clusters.push(entry);
    }
    page
}

fn describe(cluster: &Cluster) -> v1::Cluster {
    let config = &cluster.config;
    let key_source = match &config.keys {
        KeySource::Fixed(_) => v1::KeySource::Fixed,
        KeySource::Url(_) => v1::KeySource::Url,
    };
    let fetches = cluster.keys.fetches();
    v1::Cluster {
        name: config.name.to_string(),
        issuer: config.issuer.clone(),
        key_source: key_source.into(),
        keys_loaded: cluster.keys.current().map_or(0, |keys| {
            u32::try_from(keys.thumbprints().count()).unwrap_or(u32::MAX)
        }),
        key_fetch_time: fetches.succeeded_at.map(proto::time::to_timestamp),
        key_fetch_failure: fetches.failure.map(str::to_owned).unwrap_or_default(),
        syncers: config.syncers.clone(),
        operators: config.operators.clone(),
    }
}

/// Which entries a request means.
///
/// # Errors
/// The first field that contradicts another one, is missing, or does not parse.
pub fn selection(message: InvalidateRequest) -> Result<Invalidation, InvalidField> {
    let InvalidateRequest {
        cluster,
        namespace,
        service_account,
        identity,
        registry,
        all,
    } = message;
    let [cluster, namespace, service_account, identity, registry] =
        [cluster, namespace, service_account, identity, registry]
            .map(|text| (!text.is_empty()).then_some(text));
    let subject = match (&cluster, namespace, service_account) {
        (_, None, None) => None,
        (Some(_), Some(namespace), Some(name)) => Some(format!("system:serviceaccount:{namespace}:{name}")),
        (None, _, _) => {
            return Err(InvalidField::new(
                "cluster",
                "must be set where a ServiceAccount is",
            ));
        }
        (Some(_), None, Some(_)) => {
            return Err(InvalidField::new(
                "namespace",
                "must be set where service_account is",
            ));
        }
        (Some(_), Some(_), None) => {
            return Err(InvalidField::new(
                "service_account",
                "must be set where namespace is",
            ));
        }
    };
    if identity.is_some() && cluster.is_some() {
        return Err(InvalidField::new(
            "identity",
            "is an identity of the broker and of no cluster: set one of the two",
        ));
    }
    let registry = registry
        .map(|host| host.parse().map_err(|error| InvalidField::new("registry", error)))
        .transpose()?;
    let selection = Invalidation {
        cluster,
        subject,
        identity,
        registry,
    };
    match (all, selection == Invalidation::default()) {
        (true, false) => Err(InvalidField::new(
            "all",
            "must be alone: leave out the other fields, or this one",
        )),
        (false, true) => Err(InvalidField::new(
            "all",
            "must be true to drop everything; else name a cluster, an identity or a registry",
        )),
        (true, true) | (false, false) => Ok(selection),
    }
}

/// For a selection that matched nothing: whether there could be anything. A misspelt name must not pass for an empty cache.
///
/// # Errors
/// The first field that names what the configuration does not have.
pub fn check_names(selection: &Invalidation, live: &Snapshot) -> Result<(), InvalidField> {
    let Invalidation {
        cluster,
        subject: _ours_cannot_tell,
        identity,
        registry,
    } = selection;
    let clusters = live.authenticator.clusters();
    if let Some(name) = cluster
        && !clusters.iter().any(|cluster| *cluster.config.name == **name)
    {
        return Err(InvalidField::new(
            "cluster",
            "must be the name of a configured cluster, or of one that something is cached of",
        ));
    }
    if let Some(name) = identity
        && !live
            .policy
            .identities
            .iter()
            .any(|identity| *identity.name == **name)
    {
        return Err(InvalidField::new(
            "identity",
            "must be the name of a declared identity, or of one that something is cached of",
        ));
    }
    if let Some(host) = registry {
        let may_be_asked_for = live.clouds.iter().any(|cloud| cloud.allows(host))
            && clusters.iter().any(|cluster| {
                let ceiling = &cluster.config.registry_ceiling;
                ceiling.is_empty() || ceiling.contains(host)
            });
        if !may_be_asked_for {
            return Err(InvalidField::new(
                "registry",
                "must be one that a cluster may ask for, or that something is cached of",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        authn::{KeySet, KeyStore, test_keys::Signer},
        config::{ClusterConfig, DEFAULT_TOKEN_LIFETIME, GrantModes, Limits, Workloads},
    };

    fn request(set: impl FnOnce(&mut InvalidateRequest)) -> InvalidateRequest {
        let mut message = InvalidateRequest::default();
        set(&mut message);
        message
    }

    fn cluster(name: &str, keys: &KeySet) -> Arc<Cluster> {
        let config = ClusterConfig {
            name: name.into(),
            issuer: "https://issuer.example".into(),
            keys: KeySource::Fixed(keys.clone()),
            caller_audiences: vec!["acrpull-broker".into()],
            subject_audiences: vec!["api://AzureCRTokenExchange".into()],
            max_token_lifetime: DEFAULT_TOKEN_LIFETIME,
            // As long as such lists get.
            syncers: vec!["system:serviceaccount:acrpull-system:acrpull-syncer".into(); 20],
            operators: Vec::new(),
            client_certificates: Vec::new(),
            workloads: Workloads::default(),
            default_tenant: None,
            grant_modes: GrantModes::default(),
            tenant_ceiling: Vec::new(),
            registry_ceiling: Vec::new(),
            limits: Limits::default(),
        };
        Arc::new(Cluster {
            config,
            keys: KeyStore::default(),
        })
    }

    #[test]
    fn clusters_come_in_pages_that_fit_a_message() {
        let keys = Signer::new("a").jwks();
        let fleet: Vec<_> = (0..200)
            .rev()
            .map(|n| cluster(&format!("c{n:03}"), &keys))
            .collect();
        let (mut names, mut token, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let page = clusters(&fleet, &token);
            assert!(page.encoded_len() < proto::MAX_MESSAGE_BYTES);
            names.extend(page.clusters.iter().map(|cluster| cluster.name.clone()));
            pages += 1;
            if page.next_page_token.is_empty() {
                break;
            }
            token = page.next_page_token;
        }
        assert!(pages > 2, "{pages}");
        assert_eq!(names, (0..200).map(|n| format!("c{n:03}")).collect::<Vec<_>>());
    }

    #[test]
    fn selection_that_selects_nothing_in_particular_is_refused() {
        let cases = [
            (request(|_r| {}), "all"),
            (
                request(|r| {
                    r.all = true;
                    r.registry = "a.azurecr.io".into();
                }),
                "all",
            ),
            (request(|r| r.namespace = "web".into()), "cluster"),
            (
                request(|r| {
                    r.cluster = "east".into();
                    r.service_account = "app".into();
                }),
                "namespace",
            ),
            (
                request(|r| {
                    r.cluster = "east".into();
                    r.namespace = "web".into();
                }),
                "service_account",
            ),
            (
                request(|r| {
                    r.cluster = "east".into();
                    r.identity = "prod".into();
                }),
                "identity",
            ),
            (
                request(|r| r.registry = "https://a.azurecr.io".into()),
                "registry",
            ),
        ];
        for (message, field) in cases {
            assert_eq!(
                selection(message.clone()).unwrap_err().field,
                field,
                "{message:?}"
            );
        }
    }

    #[test]
    fn selection_keeps_what_was_named() {
        let everything = selection(request(|r| r.all = true)).unwrap();
        assert_eq!(everything, Invalidation::default());
        let account = request(|r| {
            r.cluster = "east".into();
            r.namespace = "web".into();
            r.service_account = "app".into();
            r.registry = "A.azurecr.io".into();
        });
        assert_eq!(
            selection(account).unwrap(),
            Invalidation {
                cluster: Some("east".into()),
                subject: Some("system:serviceaccount:web:app".into()),
                identity: None,
                registry: Some("a.azurecr.io".parse().unwrap()),
            }
        );
    }
}

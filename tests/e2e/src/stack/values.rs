//! The values that the charts are installed with: what a user would write for this cluster and this Azure. Pure.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::{Value, json};

use super::{
    BROKER_AUDIENCE, CLUSTER, ExtraCloud, FEDERATION_AUDIENCE, SECOND_SYNCER_SUBJECT,
    SYNCER_CERTIFICATE_NAME, SYNCER_SUBJECT, StackOptions,
};
use crate::{Azure, TENANT, VmIdentity};

/// The Secret with the broker's certificate and its CA.
pub(super) const TLS_SECRET: &str = "acrpull-broker-tls";
/// The Secret with the key of the audit's fingerprints.
pub(super) const AUDIT_SECRET: &str = "acrpull-broker-audit";
/// The Secret with the syncer's certificate and the CA of callers.
pub(super) const CLIENT_SECRET: &str = "acrpull-syncer-client";

/// How often spans are sent, in milliseconds: a person or a test waits for them.
const SPAN_DELAY_MS: &str = "200";

/// What the values depend on besides the options.
pub(super) struct Surroundings<'a> {
    pub(super) issuer: &'a str,
    pub(super) jwks: &'a str,
    pub(super) azure: &'a Azure,
    pub(super) otel_endpoint: &'a str,
    pub(super) trap: SocketAddr,
}

/// Values of `acrpull-broker`.
pub(super) fn broker(options: &StackOptions, around: &Surroundings<'_>) -> String {
    let client_secret = client_secret(options);
    let mut cluster = json!({
        "name": CLUSTER,
        "issuer": around.issuer,
        "jwks": {"inline": around.jwks},
        "callerAudiences": [BROKER_AUDIENCE],
        "subjectAudiences": [FEDERATION_AUDIENCE],
        "syncers": [SYNCER_SUBJECT, SECOND_SYNCER_SUBJECT],
        "defaultTenant": TENANT,
    });
    if let (Value::Object(cluster), true) = (&mut cluster, options.mutual_tls) {
        cluster.insert("clientCertificates".to_owned(), json!([SYNCER_CERTIFICATE_NAME]));
    }
    if let (Value::Object(cluster), [_, ..]) = (&mut cluster, &*options.workloads) {
        cluster.insert("workloads".to_owned(), json!({"namespaces": options.workloads}));
    }
    let clusters: Vec<&Value> = std::iter::once(&cluster).chain(&options.more_clusters).collect();
    let identities: Vec<Value> = options.identities.iter().map(identity).collect();
    let addresses = around.azure.addresses();
    let of_clouds = options.clouds.iter().flat_map(|cloud| {
        [
            (cloud.authority.to_owned(), addresses.entra),
            (format!("*.{}", cloud.registry_suffix), addresses.acr),
        ]
    });
    let trapped = options
        .trapped_hosts
        .iter()
        .map(|host| (host.clone(), around.trap));
    let overrides: BTreeMap<String, SocketAddr> = [
        ("login.microsoftonline.com".to_owned(), addresses.entra),
        ("*.azurecr.io".to_owned(), addresses.acr),
    ]
    .into_iter()
    .chain(of_clouds)
    .chain(trapped)
    .collect();
    let values = json!({
        "replicaCount": 1,
        "tls": {"existingSecret": TLS_SECRET, "clientCA": {"secret": client_secret}},
        "config": {
            "clusters": clusters,
            "clouds": options.clouds.iter().map(cloud).collect::<Vec<_>>(),
            "identities": identities,
            "grants": options.grants,
            "limits": options.limits,
            "egress": {
                "hostOverrides": overrides,
                "imdsEndpoint": format!("http://{}", addresses.imds),
            },
        },
        "audit": {"existingSecret": AUDIT_SECRET},
        "egressCaBundle": around.azure.ca_pem(),
        "log": {"level": options.log_level},
        "otel": {"endpoint": around.otel_endpoint},
        "extraEnv": [span_delay(), loud_libraries()],
    });
    values.to_string()
}

/// Values of `acrpull-syncer`.
pub(super) fn syncer(options: &StackOptions, broker_address: &str, around: &Surroundings<'_>) -> String {
    let defaults = &options.v1beta1_defaults;
    let values = json!({
        "replicas": 1,
        "broker": {
            "address": broker_address,
            "caBundle": {"secret": TLS_SECRET},
            "clientCertificate": {"secretName": client_secret(options)},
        },
        "v1beta1Defaults": {
            "acrServer": defaults.acr_server,
            "managedIdentityClientID": defaults.managed_identity_client_id,
            "managedIdentityResourceID": defaults.managed_identity_resource_id,
        },
        "labelSelector": options.label_selector,
        "workers": options.workers,
        "allowedRegistryDomains": options.registry_domains,
        "log": {"level": options.log_level},
        "otel": {"endpoint": around.otel_endpoint},
        "extraEnv": [span_delay(), loud_libraries(), trap_as_proxy(around.trap)],
    });
    values.to_string()
}

/// None where it is empty.
fn client_secret(options: &StackOptions) -> &'static str {
    if options.mutual_tls { CLIENT_SECRET } else { "" }
}

fn cloud(cloud: &ExtraCloud) -> Value {
    json!({
        "name": cloud.name,
        "authority": format!("https://{}", cloud.authority),
        "registrySuffixes": [cloud.registry_suffix],
    })
}

fn identity(identity: &VmIdentity) -> Value {
    json!({
        "name": identity.name,
        "tenant": TENANT,
        "clientId": identity.client_id,
        "resourceId": identity.resource_id,
        "source": "imds",
    })
}

/// What makes the libraries of other programs talk, and must not do so here.
fn loud_libraries() -> Value {
    json!({"name": "RUST_LOG", "value": "trace"})
}

fn span_delay() -> Value {
    json!({"name": "OTEL_BSP_SCHEDULE_DELAY", "value": SPAN_DELAY_MS})
}

/// Where HTTP clients go that heed the environment. A syncer has none: it talks to its API server and its broker, directly.
/// `HTTPS_PROXY` cannot say so here, because the Kubernetes client reads it with a kubeconfig, which in a Pod there is not.
fn trap_as_proxy(trap: SocketAddr) -> Value {
    json!({"name": "ALL_PROXY", "value": format!("http://{trap}")})
}

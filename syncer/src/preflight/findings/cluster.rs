//! What is found about the cluster: its CRDs, what is left of Azure/msi-acrpull, what the server can do.

use super::{Code, Finding, Severity};
use crate::{
    binding::ApiVersion,
    preflight::{
        object::Object,
        world::{Crd, Look, World},
    },
};

/// The policies that the peer's chart installs, about the peer's own ServiceAccount.
const PEER_POLICIES: [&str; 3] = [
    "controller-secret-mutation-policy",
    "controller-service-account-mutation-policy",
    "controller-token-request-policy",
];

/// Everything about the cluster.
pub(super) fn all(world: &World) -> Vec<Finding> {
    let mut findings: Vec<Finding> = ApiVersion::ALL
        .into_iter()
        .filter_map(|api| crd(api, world.crds.of(api)))
        .collect();
    match &world.secrets {
        Look::Denied => findings.push(not_looked_at(
            "Secret",
            "whether Secrets under the names of bindings belong to somebody else is not known",
        )),
        Look::Seen(_) => {}
    }
    findings.extend(peers(world));
    findings.extend(policies(&world.policies));
    findings
}

fn crd(api: ApiVersion, crd: &Look<Option<Crd>>) -> Option<Finding> {
    let object = Object::of_cluster("CustomResourceDefinition", &Crd::name(api));
    let crd = match crd {
        Look::Denied => {
            return Some(not_looked_at(
                &object.name,
                "whether its conditions are kept is not known",
            ));
        }
        Look::Seen(None) => {
            return Some(Finding::new(
                Severity::Info,
                Code::CrdMissing,
                object,
                "it is not installed",
                "nothing: the chart installs it (crds.enabled), and the syncer does not need both",
            ));
        }
        Look::Seen(Some(crd)) => crd,
    };
    if crd.is_leaving {
        return Some(Finding::new(
            Severity::Blocker,
            Code::CrdLeaving,
            object,
            "it is being deleted, and all bindings with it",
            "keep a copy of the bindings, let it go, and install it again",
        ));
    }
    if crd.lacks.is_empty() {
        return None;
    }
    let (owner, warning) = match &crd.release {
        None => (String::new(), ""),
        Some(release) => (
            format!("belongs to the Helm release {release} and "),
            ". Do not uninstall that release: helm would delete the CRD, and all bindings with it",
        ),
    };
    Some(Finding::new(
        Severity::Attention,
        Code::CrdOlder,
        object,
        format!(
            "it {owner}does not know {}: the API server drops what is written there",
            crd.lacks.join(" or ")
        ),
        format!(
            "helm install --take-ownership replaces it by ours, which accepts the same manifests; with crds.enabled=false \
             it stays{warning}"
        ),
    ))
}

fn peers(world: &World) -> Vec<Finding> {
    let Look::Seen(peers) = &world.peers else {
        return vec![not_looked_at(
            "Deployment",
            "whether Azure/msi-acrpull runs is not known",
        )];
    };
    peers
        .iter()
        .map(|peer| {
            Finding::new(
                Severity::Attention,
                Code::PeerRunning,
                Object::namespaced("Deployment", peer),
                "Azure/msi-acrpull runs: it puts its finalizer back on what it works on, and this syncer then writes nothing \
                 there (DuplicateController)",
                "scale it to 0 before the syncer starts, or give the two different label selectors: docs/migration.md",
            )
        })
        .collect()
}

fn policies(policies: &Look<Option<Vec<String>>>) -> Option<Finding> {
    let names = match policies {
        Look::Denied => {
            return Some(not_looked_at(
                "ValidatingAdmissionPolicy",
                "whether this server has the API is not known; the chart needs it",
            ));
        }
        Look::Seen(None) => {
            return Some(Finding::new(
                Severity::Attention,
                Code::NoAdmissionPolicies,
                Object::of_cluster("APIService", "admissionregistration.k8s.io/v1"),
                "the server has no ValidatingAdmissionPolicy: nothing would bound the syncer's rights",
                "run Kubernetes 1.30 or newer, or accept the risk with admissionPolicies.enabled=false",
            ));
        }
        Look::Seen(Some(names)) => names,
    };
    let left: Vec<&str> = names
        .iter()
        .map(String::as_str)
        .filter(|name| PEER_POLICIES.contains(name))
        .collect();
    if left.is_empty() {
        return None;
    }
    Some(Finding::new(
        Severity::Attention,
        Code::PeerPolicies,
        Object::of_cluster("ValidatingAdmissionPolicy", &left.join(", ")),
        "policies of Azure/msi-acrpull are installed; they fail closed and read a ConfigMap in its namespace: as charts before \
         v0.1.9 bind them, nobody in the cluster can write a Secret once that is gone",
        "delete their bindings (each policy's name with -binding) first, then the policies, and only then the ConfigMap and \
         its namespace, in the order of docs/migration.md",
    ))
}

fn not_looked_at(what: &str, unknown: &str) -> Finding {
    Finding::new(
        Severity::Attention,
        Code::NotLookedAt,
        Object::of_cluster("Access", what),
        format!("this user may not look at it: {unknown}"),
        "run this as a user with the role of docs/preflight.md",
    )
}

//! What is found about bindings together: those that share a name, an identity, or the peer's finalizer.

use std::collections::{BTreeMap, BTreeSet};

use super::{Code, Finding, Severity};
use crate::{
    binding::ApiVersion,
    finalizer,
    preflight::{
        assess::Assessed,
        object::Object,
        world::{Name, World},
    },
    wanted::Identity,
};

/// How many names a sentence lists.
const NAMED: usize = 5;

/// Everything about bindings together.
pub(super) fn all(world: &World, assessed: &[Assessed]) -> Vec<Finding> {
    let mut findings = both_apis(world);
    findings.extend(broker_owned(assessed));
    findings.extend(peer_finalizers(world));
    findings
}

fn both_apis(world: &World) -> Vec<Finding> {
    let [current, older] = ApiVersion::ALL.map(|api| {
        let of_api = world.all_bindings().filter(|(found, _name)| *found == api);
        of_api.map(|(_api, name)| name).collect::<BTreeSet<_>>()
    });
    current
        .intersection(&older)
        .map(|name| {
            Finding::new(
                Severity::Info,
                Code::SameNameInBothApis,
                Object::namespaced("AcrPullBinding", name),
                "bindings of both APIs have this name",
                "nothing: they live side by side, each with its Secret and its link",
            )
        })
        .collect()
}

fn broker_owned(assessed: &[Assessed]) -> Vec<Finding> {
    let mut users: BTreeMap<String, BTreeSet<Name>> = BTreeMap::new();
    for assessed in assessed.iter().filter(|assessed| !assessed.is_leaving()) {
        let id = match assessed.wanted.as_ref().map(|wanted| &wanted.identity) {
            Ok(Identity::ClientId(id)) => id.to_string(),
            Ok(Identity::ResourceId(id)) => id.to_string(),
            Ok(Identity::Federated { .. }) | Err(_) => continue,
        };
        users.entry(id).or_default().insert(assessed.name());
    }
    users
        .into_iter()
        .map(|(id, users)| {
            Finding::new(
                Severity::Attention,
                Code::BrokerOwnedIdentity,
                Object::of_cluster("ManagedIdentity", &id),
                format!("bindings that use it: {} ({})", users.len(), listed(&users)),
                "it must be an identity of the broker's machines, and not of this cluster's nodes: declare it and grant it \
                 there, as printed below",
            )
        })
        .collect()
}

fn peer_finalizers(world: &World) -> Option<Finding> {
    let readable = world.bindings.iter().map(|binding| &binding.metadata);
    let all = readable.chain(world.unreadable.iter().map(|unreadable| &unreadable.metadata));
    let carriers: BTreeSet<Name> = all
        .filter(|metadata| finalizer::is_on(metadata))
        .map(Name::of)
        .collect();
    if carriers.is_empty() {
        return None;
    }
    Some(Finding::new(
        Severity::Info,
        Code::PeerFinalizer,
        Object::of_cluster("Finalizer", finalizer::PEERS),
        format!(
            "bindings that carry it: {} ({})",
            carriers.len(),
            listed(&carriers)
        ),
        "nothing, once Azure/msi-acrpull has ended: the syncer removes it. To hand over binding by binding: docs/migration.md",
    ))
}

fn listed(names: &BTreeSet<Name>) -> String {
    let mut words: Vec<String> = names.iter().take(NAMED).map(Name::to_string).collect();
    if names.len() > NAMED {
        words.push(format!("and {} more", names.len() - NAMED));
    }
    words.join(", ")
}

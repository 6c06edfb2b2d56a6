//! What is found about Secrets and the links to them.

use std::collections::BTreeSet;

use super::{Code, Finding, Severity};
use crate::{
    preflight::{
        assess::Assessed,
        object::Object,
        world::{Name, World},
    },
    pull_secret::{self, SecretState},
};

/// About the Secret of one binding.
pub(super) fn of(assessed: &Assessed) -> Option<Finding> {
    if assessed.is_leaving() {
        return None;
    }
    let binding = &assessed.binding;
    let mut secret = assessed.name();
    secret.name = pull_secret::name_of(binding);
    let object = Object::namespaced("Secret", &secret);
    match assessed.secret.as_ref()? {
        SecretState::Foreign => Some(Finding::new(
            Severity::Blocker,
            Code::ForeignSecret,
            object,
            format!(
                "it has the name of the Secret of binding {} and belongs to somebody else: it is left alone, and nothing is \
                 linked",
                assessed.name()
            ),
            "delete or rename it, or rename the binding",
        )),
        SecretState::Ours(secret) if !secret.adopted => Some(Finding::new(
            Severity::Info,
            Code::SecretUnmarked,
            object,
            "its label is missing or its owner is an earlier binding",
            "nothing: it is taken over in place",
        )),
        SecretState::Ours(_) | SecretState::Absent => None,
    }
}

/// About what has no binding any more. Only where all bindings are known: a selector hides those of others.
pub(super) fn left_behind(world: &World) -> Vec<Finding> {
    let Some(secrets) = world.secrets.seen().filter(|_secrets| world.is_whole) else {
        return Vec::new();
    };
    let belonging: BTreeSet<Name> = world
        .all_bindings()
        .map(|(api, binding)| Name::new(&binding.namespace, &pull_secret::name_for(api, &binding.name)))
        .collect();
    let orphans = secrets
        .iter()
        .filter(|(name, metadata)| !belonging.contains(*name) && pull_secret::binding_of(metadata).is_some())
        .map(|(name, _metadata)| {
            Finding::new(
                Severity::Info,
                Code::SecretWithoutBinding,
                Object::namespaced("Secret", name),
                "it is marked as a binding's, and there is no such binding: nobody renews it",
                "delete it when nothing pulls by it",
            )
        });
    let links = world.accounts.iter().flat_map(|(account, found)| {
        let entries = found.image_pull_secrets.iter().flatten();
        entries.filter_map(|entry| {
            let secret = Name::new(&account.namespace, &entry.name);
            let is_dangling = pull_secret::api_of_name(&entry.name).is_some()
                && !belonging.contains(&secret)
                && !secrets.contains_key(&secret);
            is_dangling.then(|| {
                Finding::new(
                    Severity::Info,
                    Code::LinkWithoutBinding,
                    Object::namespaced("ServiceAccount", account),
                    format!(
                        "it lists the pull Secret {}, which has no binding and does not exist",
                        entry.name
                    ),
                    "remove it from imagePullSecrets; the syncer removes only links of its own",
                )
            })
        })
    });
    orphans.chain(links).collect()
}

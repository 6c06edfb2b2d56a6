//! What is said of which bindings.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::*;
use crate::{
    finalizer::PEERS,
    preflight::{
        assess::assess,
        scene::{args, empty, peers, peers_secret},
        world::{Look, World},
    },
    samples::{account, annotated_account, binding, now, workload_identity_spec},
};

/// The changes of a world with one binding, each as one line.
fn changes(change: impl FnOnce(&mut World)) -> Vec<String> {
    let mut world = empty();
    world.add(binding("web", workload_identity_spec()));
    world.add_account(annotated_account("puller"));
    world.add_account(account("web"));
    change(&mut world);
    let changes = all(&assess(&world, &args(""), now()));
    changes.iter().map(Change::in_words).collect()
}

#[test]
fn change_of_a_new_binding_is_a_secret_and_a_link() {
    assert_eq!(
        changes(|_world| {}),
        ["link in ServiceAccount web added, Secret acr-pull-web created, one token fetched at once"]
    );
}

#[test]
fn change_of_what_the_peer_left_keeps_its_place() {
    let mut world = peers();
    world.link("puller", "own");
    let changes = all(&assess(&world, &args(""), now()));
    let web = changes
        .iter()
        .find(|change| change.binding.name == "web")
        .unwrap();
    assert_eq!(
        web.in_words(),
        "link in ServiceAccount puller kept in place and recorded, Secret acr-pull-web taken over in place, \
        finalizer of Azure/msi-acrpull removed, one token fetched when the finalizer stays away"
    );
}

#[test]
fn change_of_what_the_peer_left_waits_for_no_token_that_has_ended() {
    let ended = |world: &mut World| {
        let mut web = binding("web", workload_identity_spec());
        web.metadata.finalizers = Some(vec![PEERS.to_owned()]);
        let mut secret = peers_secret(&web);
        for (key, value) in secret.annotations.iter_mut().flatten() {
            if key.ends_with("token.expiry") {
                *value = now().to_string();
            }
        }
        world.bindings = vec![Arc::new(web)];
        world.add_secret(secret);
    };
    assert_eq!(
        changes(ended),
        [
            "link in ServiceAccount web added, Secret acr-pull-web taken over in place, finalizer of \
            Azure/msi-acrpull removed, one token fetched at once"
        ]
    );
}

#[test]
fn change_of_what_the_peer_left_and_the_syncer_refuses_is_no_token() {
    let bare = |world: &mut World| {
        world.edit("web", |web| {
            web.metadata.finalizers = Some(vec![PEERS.to_owned()]);
        });
        world.add_secret(peers_secret(&binding("web", workload_identity_spec())));
        world.add_account(account("puller"));
    };
    let kept = "link in ServiceAccount web added, Secret acr-pull-web kept as it is, finalizer of \
    Azure/msi-acrpull removed";
    assert_eq!(changes(bare), [kept]);
}

#[test]
fn change_of_several_accounts_tells_the_link_of_each() {
    let several = |world: &mut World| {
        world.edit("web", |web| {
            web.spec.service_account_names = ["batch", "cron", "gone", "lost"].map(str::to_owned).into();
        });
        world.add_account(account("batch"));
        world.add_account(account("cron"));
        world.link("cron", "acr-pull-web");
    };
    assert_eq!(
        changes(several),
        [
            "link in ServiceAccount cron kept in place and recorded, links in ServiceAccounts web, batch added, \
            links in ServiceAccounts gone, lost put off until there is such a ServiceAccount, Secret \
            acr-pull-web created, one token fetched at once"
        ]
    );
}

#[test]
fn change_of_a_registry_that_the_syncer_refuses_is_no_token() {
    let args = args("--allowed-acr-server-suffixes azurecr.us");
    let mut world = empty();
    world.add(binding("web", workload_identity_spec()));
    world.add_account(annotated_account("puller"));
    world.add_account(account("web"));
    let changes = all(&assess(&world, &args, now()));
    assert_eq!(
        changes[0].in_words(),
        "link in ServiceAccount web added, Secret acr-pull-web not created"
    );
}

#[test]
fn change_of_a_binding_that_is_refused_is_no_token() {
    let refused = |world: &mut World| world.edit("web", |web| web.spec.acr.scope.clear());
    assert_eq!(
        changes(refused),
        ["link in ServiceAccount web added, Secret acr-pull-web not created"]
    );
    let of_the_peer = |world: &mut World| {
        refused(world);
        world.add_secret(peers_secret(&binding("web", workload_identity_spec())));
    };
    assert_eq!(
        changes(of_the_peer),
        ["link in ServiceAccount web added, Secret acr-pull-web kept as it is"]
    );
}

#[test]
fn change_of_what_is_somebody_elses_or_not_seen_is_none() {
    let foreign = |world: &mut World| {
        let mut secret = peers_secret(&binding("web", workload_identity_spec()));
        secret.labels = None;
        secret.owner_references = None;
        world.add_secret(secret);
    };
    assert_eq!(
        changes(foreign),
        ["link in ServiceAccount web not made, Secret acr-pull-web left alone"]
    );
    let unseen = changes(|world| {
        world.secrets = Look::Denied;
        world.accounts.retain(|account, _found| account.name != "web");
    });
    assert_eq!(
        unseen,
        [
            "link in ServiceAccount web put off until there is such a ServiceAccount, Secret acr-pull-web not \
            looked at, one token fetched at once"
        ]
    );
}

#[test]
fn change_of_a_binding_that_is_being_deleted_is_none() {
    let leaving = changes(|world| {
        world.edit("web", |web| web.metadata.deletion_timestamp = Some(Time(now())));
    });
    assert_eq!(leaving, [""; 0]);
}

//! Every finding: what brings it about, and how much it matters. Beside it, nothing new is found. Here those of
//! one binding.

mod cluster;
mod secrets;

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use super::*;
use crate::{
    binding::ApiVersion,
    finalizer::PEERS,
    preflight::{
        assess::assess,
        scene::{args, empty, fresh, older, peers, peers_secret},
        world::{Crd, Look, Name, Unreadable},
    },
    samples::{account, annotated_account, binding, managed_identity_spec, now, workload_identity_spec},
};

fn found(world: &World, arguments: &str) -> Vec<Finding> {
    let args = args(arguments);
    all(world, &assess(world, &args, now()), &args)
}

/// What is found besides what is found in `before`, each as `Severity Code object`.
fn news(world: &World, before: &World, arguments: &str) -> Vec<String> {
    let before: BTreeSet<Finding> = found(before, "").into_iter().collect();
    let news = found(world, arguments)
        .into_iter()
        .filter(|finding| !before.contains(finding));
    news.map(|finding| format!("{:?} {:?} {}", finding.severity, finding.code, finding.object))
        .collect()
}

/// What one change of a world with one good binding brings about.
fn changed(arguments: &str, change: impl FnOnce(&mut World)) -> Vec<String> {
    let mut world = good();
    change(&mut world);
    news(&world, &good(), arguments)
}

/// A federated binding with one ServiceAccount for both.
fn good() -> World {
    let mut world = empty();
    let mut spec = workload_identity_spec();
    spec.service_account_name = "puller".to_owned();
    world.add(binding("web", spec));
    world.add_account(annotated_account("puller"));
    world
}

fn deleted() -> Time {
    Time(now())
}

#[test]
fn finding_of_a_good_binding_is_none() {
    assert_eq!(found(&good(), "--allowed-acr-server-suffixes azurecr.io"), []);
}

#[test]
fn finding_of_a_spec_that_the_syncer_refuses_is_in_the_way() {
    for (what, scope) in [("a wildcard", "repository:team/*:pull"), ("no scope", "")] {
        let news = changed("", |world| {
            world.edit("web", |web| scope.clone_into(&mut web.spec.acr.scope));
        });
        assert_eq!(
            news,
            ["Blocker SpecRefused AcrPullBinding.v1beta2 shop/web"],
            "{what}"
        );
    }
    let bare = |world: &mut World| {
        world.add(older("old", "puller", |spec| spec.acr_server.clear()));
    };
    assert_eq!(
        changed("", bare),
        ["Blocker SpecRefused AcrPullBinding.v1beta1 shop/old"]
    );
}

#[test]
fn finding_of_a_binding_that_does_not_decode_is_in_the_way() {
    let unreadable = |finalizer: Option<&str>| Unreadable {
        api: ApiVersion::V1Beta2,
        metadata: ObjectMeta {
            namespace: Some("shop".to_owned()),
            name: Some("moon".to_owned()),
            deletion_timestamp: finalizer.map(|_finalizer| deleted()),
            finalizers: finalizer.map(|finalizer| vec![finalizer.to_owned()]),
            ..ObjectMeta::default()
        },
        error: "unknown variant `Moon\u{1b}[2JCloud`".to_owned(),
    };
    let mut world = good();
    world.unreadable.push(unreadable(None));
    let finding = found(&world, "").remove(0);
    assert_eq!(finding.code, Code::Undecodable);
    assert_eq!(finding.severity, Severity::Blocker);
    assert_eq!(
        finding.message,
        "it does not decode: unknown variant `Moon?[2JCloud`"
    );

    let leaving = changed("", |world| {
        world.unreadable.push(unreadable(Some("other.example/f")));
    });
    assert_eq!(
        leaving,
        ["Attention DeletionHangs AcrPullBinding.v1beta2 shop/moon"]
    );
}

#[test]
fn finding_of_missing_accounts_tells_identity_from_target() {
    let none = changed("", |world| world.accounts.clear());
    assert_eq!(
        none,
        [
            "Blocker IdentityAccountMissing AcrPullBinding.v1beta2 shop/web",
            "Attention TargetAccountMissing AcrPullBinding.v1beta2 shop/web"
        ]
    );
    let several = changed("", |world| {
        world.edit("web", |web| {
            web.spec.service_account_names = ["batch", "worker", "puller"].map(str::to_owned).into();
        });
        world.add_account(account("worker"));
        world.add_account(account("batch"));
        world.accounts.retain(|account, _found| account.name != "batch");
    });
    assert_eq!(
        several,
        ["Attention TargetAccountMissing AcrPullBinding.v1beta2 shop/web"]
    );
    let bare = changed("", |world| world.add_account(account("puller")));
    assert_eq!(
        bare,
        ["Blocker IdentityAnnotationMissing AcrPullBinding.v1beta2 shop/web"]
    );
}

#[test]
fn b9_finding_of_two_accounts_is_in_the_way_until_it_is_decided_where_the_peer_served() {
    const OBJECT: &str = "AcrPullBinding.v1beta2 shop/web";
    let two = |world: &mut World| {
        world.edit("web", |web| "app".clone_into(&mut web.spec.service_account_name));
        world.add_account(annotated_account("app"));
    };
    let two_of_the_peer = |world: &mut World| {
        two(world);
        let web = Arc::clone(world.bindings.first().unwrap());
        world.add_secret(peers_secret(&web));
    };
    for (arguments, severity, severity_of_the_peers) in [
        ("", "Attention", "Blocker"),
        ("--service-account-ref=use", "Attention", "Attention"),
        ("--service-account-ref=ignore", "Info", "Info"),
    ] {
        assert_eq!(
            changed(arguments, two),
            [format!("{severity} AccountRefDiffers {OBJECT}")]
        );
        assert_eq!(
            changed(arguments, two_of_the_peer),
            [format!("{severity_of_the_peers} AccountRefDiffers {OBJECT}")]
        );
    }
    // The account that the peer used names no identity, so only the field's own reading works.
    let bare = |world: &mut World| {
        two(world);
        world.add_account(account("app"));
    };
    assert_eq!(
        changed("", bare),
        [format!("Attention AccountRefDiffers {OBJECT}")]
    );
    assert_eq!(
        changed("--service-account-ref=ignore", bare),
        [
            format!("Blocker IdentityAnnotationMissing {OBJECT}"),
            format!("Info AccountRefDiffers {OBJECT}")
        ]
    );
}

#[test]
fn b9_finding_says_which_identity_each_reading_gives() {
    let mut world = good();
    world.edit("web", |web| "app".clone_into(&mut web.spec.service_account_name));
    world.add_account(account("app"));
    let findings = found(&world, "");
    assert_eq!(
        findings[0].message,
        "serviceAccountRef is puller (client ID 33333333-3333-3333-3333-000000000001) and serviceAccountName app (which \
         names no identity): Azure/msi-acrpull proves the identity by app, and this syncer by puller"
    );
    assert!(findings[0].remedy.contains("--service-account-ref=ignore"));
    assert!(findings[0].remedy.contains("system:serviceaccount:shop:puller"));
    let decided = found(&world, "--service-account-ref=ignore");
    let finding = decided
        .iter()
        .find(|finding| finding.code == Code::AccountRefDiffers)
        .unwrap();
    assert!(
        finding
            .message
            .ends_with("proves the identity by app, and so does this syncer")
    );
}

#[test]
fn finding_of_registries_goes_by_the_domains_and_clouds() {
    const OBJECT: &str = "AcrPullBinding.v1beta2 shop/web";
    let elsewhere = |world: &mut World| {
        world.edit("web", |web| {
            "prod.azurecr.us".clone_into(&mut web.spec.acr.server);
        });
    };
    assert_eq!(
        changed("", elsewhere),
        [format!("Attention CloudNotDeclared {OBJECT}")]
    );
    assert_eq!(
        changed("--allowed-acr-server-suffixes=azurecr.io", elsewhere),
        [format!("Blocker RegistryNotAllowed {OBJECT}")]
    );
}

#[test]
fn finding_of_a_scope_that_no_grant_allows_is_in_the_way_of_identities_of_the_broker() {
    let catalog = |world: &mut World| {
        world.edit("web", |web| {
            "registry:catalog:*".clone_into(&mut web.spec.acr.scope);
        });
    };
    assert_eq!(
        changed("", catalog),
        [
            "Attention ScopeNotGrantable AcrPullBinding.v1beta2 shop/web",
            "Attention ScopeMoreThanPull AcrPullBinding.v1beta2 shop/web"
        ]
    );
    let owned = |world: &mut World| {
        catalog(world);
        world.edit("web", |web| web.spec.auth = managed_identity_spec().auth);
    };
    assert_eq!(
        changed("", owned),
        [
            "Blocker ScopeNotGrantable AcrPullBinding.v1beta2 shop/web",
            "Attention ScopeMoreThanPull AcrPullBinding.v1beta2 shop/web",
            "Attention BrokerOwnedIdentity ManagedIdentity 33333333-3333-3333-3333-000000000009"
        ]
    );
}

#[test]
fn finding_of_a_scope_that_pushes_is_made_for_each_action_but_those_that_pull() {
    for (scope, more) in [
        ("repository:team/web:pull", false),
        ("repository:team/web:metadata_read,pull", false),
        ("repository:team/web:pull,push", true),
        ("repository:team/api:pull repository:team/web:delete", true),
    ] {
        let news = changed("", |world| {
            world.edit("web", |web| scope.clone_into(&mut web.spec.acr.scope));
        });
        let is_found = news == ["Attention ScopeMoreThanPull AcrPullBinding.v1beta2 shop/web"];
        assert_eq!(is_found, more, "{scope}: {news:?}");
    }
}

#[test]
fn finding_of_a_deletion_that_hangs_is_the_only_one_of_that_binding_but_for_the_peers_finalizer() {
    const OBJECT: &str = "DeletionHangs AcrPullBinding.v1beta2 shop/web";
    let hangs = |finalizers: &[&str]| {
        changed("", |world| {
            world.accounts.clear();
            world.edit("web", |web| {
                web.metadata.deletion_timestamp = Some(deleted());
                web.metadata.finalizers = Some(finalizers.iter().map(|&name| name.to_owned()).collect());
            });
        })
    };
    let carried = format!("Info PeerFinalizer Finalizer {PEERS}");
    assert_eq!(hangs(&["other.example/f"]), [format!("Attention {OBJECT}")]);
    assert_eq!(
        hangs(&[PEERS, "other.example/f"]),
        [format!("Attention {OBJECT}"), carried.clone()]
    );
    // The syncer removes it.
    assert_eq!(hangs(&[PEERS]), [format!("Info {OBJECT}"), carried]);
}

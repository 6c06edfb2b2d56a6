//! What is found about the cluster, and about all bindings together.

use super::*;

#[test]
fn finding_of_the_cluster_is_made_once() {
    const CRD: &str = "CustomResourceDefinition acrpullbindings.acrpull.microsoft.com";
    let crd = |crd: Look<Option<Crd>>| changed("", |world| world.crds.v1beta2 = crd);
    assert_eq!(crd(Look::Seen(None)), [format!("Info CrdMissing {CRD}")]);
    for (lacks, is_leaving, finding) in [
        (&["status.conditions"][..], false, "Attention CrdOlder"),
        (&[], true, "Blocker CrdLeaving"),
        (&["status.conditions"], true, "Blocker CrdLeaving"),
    ] {
        let found = crd(Look::Seen(Some(Crd {
            lacks: lacks.to_vec(),
            is_leaving,
            release: None,
        })));
        assert_eq!(found, [format!("{finding} {CRD}")]);
    }
    assert_eq!(
        changed("", |world| world.peers =
            Look::Seen(vec![Name::new("acrpull", "acrpull")])),
        ["Attention PeerRunning Deployment acrpull/acrpull"]
    );
    assert_eq!(
        changed("", |world| world.policies = Look::Seen(None)),
        ["Attention NoAdmissionPolicies APIService admissionregistration.k8s.io/v1"]
    );
    let policies = ["acrpull-syncer-token", "controller-secret-mutation-policy"];
    assert_eq!(
        changed("", |world| world.policies =
            Look::Seen(Some(policies.map(str::to_owned).into()))),
        ["Attention PeerPolicies ValidatingAdmissionPolicy controller-secret-mutation-policy"]
    );
}

#[test]
fn finding_of_what_may_not_be_looked_at_says_so() {
    let denied = changed("", |world| {
        let nothing = World::empty(true);
        world.secrets = nothing.secrets;
        world.crds = nothing.crds;
        world.peers = nothing.peers;
        world.policies = nothing.policies;
    });
    assert_eq!(
        denied,
        [
            "Attention NotLookedAt Access Deployment",
            "Attention NotLookedAt Access Secret",
            "Attention NotLookedAt Access ValidatingAdmissionPolicy",
            "Attention NotLookedAt Access acrpullbindings.acrpull.microsoft.com",
            "Attention NotLookedAt Access acrpullbindings.msi-acrpull.microsoft.com",
        ]
    );
}

#[test]
fn finding_of_the_peers_finalizer_counts_its_bindings() {
    let findings = found(&peers(), "");
    let finalizer = findings
        .iter()
        .find(|finding| finding.code == Code::PeerFinalizer)
        .unwrap();
    assert_eq!(finalizer.object.name, PEERS);
    assert_eq!(
        finalizer.message,
        "bindings that carry it: 5 (shop/batch, shop/legacy, shop/mixed, shop/web, shop/web-v1)"
    );
}

#[test]
fn finding_of_identities_and_whole_registries_says_what_the_broker_must_allow() {
    let codes: Vec<String> = found(&fresh(), "")
        .into_iter()
        .map(|finding| format!("{:?} {}", finding.code, finding.object.name))
        .collect();
    assert_eq!(
        codes,
        [
            "BrokerOwnedIdentity /subscriptions/44444444-4444-4444-4444-444444444444/resourcegroups/rg/providers/microsoft.managedidentity/userassignedidentities/puller",
            "BrokerOwnedIdentity 33333333-3333-3333-3333-000000000003",
            "BrokerOwnedIdentity 33333333-3333-3333-3333-000000000009",
            "RegistryWide legacy",
            "RegistryWide web-v1",
        ]
    );
}

#[test]
fn finding_of_the_peers_policies_says_what_has_to_go_first() {
    let mut world = good();
    world.policies = Look::Seen(Some(vec!["controller-secret-mutation-policy".to_owned()]));
    let finding = found(&world, "").remove(0);
    assert_eq!(
        (finding.severity, finding.code),
        (Severity::Attention, Code::PeerPolicies)
    );
    assert!(
        finding
            .message
            .contains("nobody in the cluster can write a Secret")
    );
    let order = [
        "their bindings",
        "then the policies",
        "only then the ConfigMap",
        "its namespace",
    ];
    let places = order.map(|what| finding.remedy.find(what).expect(what));
    assert!(places.is_sorted(), "{}", finding.remedy);
}

#[test]
fn b5_finding_of_one_name_in_both_apis_needs_nothing() {
    let mut before = good();
    before.add(older("old", "puller", |_spec| {}));
    let mut world = good();
    world.add(older("web", "puller", |_spec| {}));
    let news = news(&world, &before, "");
    assert!(
        news.contains(&"Info SameNameInBothApis AcrPullBinding shop/web".to_owned()),
        "{news:?}"
    );
}

use std::collections::HashSet;

use super::*;
use crate::{
    binding::{AccountRef, Defaults},
    crd::{AcrPullBindingSpec, v1beta1},
    samples::{
        account, annotated_account, binding, managed_identity_spec, older_binding, older_spec,
        workload_identity_spec,
    },
};

const CLIENT: &str = "33333333-3333-3333-3333-000000000001";
const TENANT: &str = "22222222-2222-2222-2222-222222222222";

fn read_spec(spec: &AcrPullBindingSpec, account: Option<&ServiceAccount>) -> Result<Wanted, Problem> {
    read(&binding("web", spec.clone()), account)
}

fn reason_of(spec: &AcrPullBindingSpec, account: Option<&ServiceAccount>) -> Reason {
    read_spec(spec, account).unwrap_err().reason
}

#[test]
fn b13_wanted_annotation_with_client_id_alone_is_enough() {
    let wanted = read_spec(&workload_identity_spec(), Some(&annotated_account("puller"))).unwrap();
    assert_eq!(
        wanted.identity,
        Identity::Federated {
            service_account: "puller".to_owned(),
            client_id: CLIENT.parse().unwrap(),
            tenant_id: None
        }
    );
    assert_eq!(wanted.scopes.to_field(), "repository:team/web:pull");
    assert_eq!(wanted.cloud.name, "PublicCloud");
}

#[test]
fn wanted_spec_wins_over_annotations_as_a_pair() {
    let mut annotated = annotated_account("puller");
    annotated
        .metadata
        .annotations
        .as_mut()
        .unwrap()
        .insert(TENANT_ID_ANNOTATION.to_owned(), TENANT.to_owned());
    let mut spec = workload_identity_spec();
    let identity = spec.auth.workload_identity.as_mut().unwrap();
    identity.client_id = Some("33333333-3333-3333-3333-000000000002".to_owned());
    identity.tenant_id = Some("contoso.onmicrosoft.com".to_owned());
    let Identity::Federated {
        client_id, tenant_id, ..
    } = read_spec(&spec, Some(&annotated)).unwrap().identity
    else {
        panic!("not federated");
    };
    assert_eq!(client_id.as_str(), "33333333-3333-3333-3333-000000000002");
    assert_eq!(tenant_id.unwrap().as_str(), "contoso.onmicrosoft.com");
}

#[test]
fn wanted_change_of_an_annotation_changes_the_inputs() {
    let spec = workload_identity_spec();
    let before = annotated_account("puller");
    let mut after = before.clone();
    after
        .metadata
        .annotations
        .as_mut()
        .unwrap()
        .insert(TENANT_ID_ANNOTATION.to_owned(), TENANT.to_owned());
    assert_ne!(
        read_spec(&spec, Some(&before)).unwrap().inputs,
        read_spec(&spec, Some(&after)).unwrap().inputs
    );
}

#[test]
fn wanted_account_missing_is_named() {
    assert_eq!(
        reason_of(&workload_identity_spec(), None),
        Reason::ServiceAccountNotFound
    );
}

#[test]
fn wanted_annotation_missing_is_named() {
    assert_eq!(
        reason_of(&workload_identity_spec(), Some(&account("puller"))),
        Reason::IdentityAnnotationMissing
    );
}

#[test]
fn wanted_field_that_does_not_parse_is_named() {
    for (edit, field) in [
        (
            (|spec| spec.acr.server = "https://prod.azurecr.io".to_owned()) as fn(&mut AcrPullBindingSpec),
            "spec.acr.server",
        ),
        (
            |spec| spec.acr.scope = "repository:*:pull".to_owned(),
            "spec.acr.scope",
        ),
        (|spec| spec.acr.scope = " ".to_owned(), "spec.acr.scope"),
        (
            |spec| spec.auth.managed_identity.as_mut().unwrap().client_id = Some("x".to_owned()),
            "clientID",
        ),
        (
            |spec| spec.auth.managed_identity.as_mut().unwrap().client_id = None,
            "exactly one of clientID",
        ),
        (
            |spec| spec.auth.managed_identity = None,
            "exactly one of managedIdentity",
        ),
    ] {
        let mut spec = managed_identity_spec();
        edit(&mut spec);
        let problem = read_spec(&spec, None).unwrap_err();
        assert_eq!(problem.reason, Reason::InvalidSpec);
        assert!(problem.message.contains(field), "{problem}");
    }
}

#[test]
fn wanted_managed_identity_needs_no_account() {
    assert!(matches!(
        read_spec(&managed_identity_spec(), None).unwrap().identity,
        Identity::ClientId(_)
    ));
}

fn read_older(edit: impl FnOnce(&mut v1beta1::AcrPullBindingSpec)) -> Result<Wanted, Problem> {
    let mut spec = older_spec();
    edit(&mut spec);
    read(&older_binding("web", spec), None)
}

#[test]
fn wanted_of_both_apis_is_the_same_when_they_say_the_same() {
    let newer = read_spec(&managed_identity_spec(), None).unwrap();
    assert_eq!(read_older(|_spec| {}).unwrap(), newer);
}

#[test]
fn wanted_older_binding_without_a_scope_asks_for_the_whole_registry() {
    for scope in [None, Some(String::new())] {
        let wanted = read_older(|spec| spec.scope = scope).unwrap();
        assert!(wanted.scopes.is_empty());
    }
}

#[test]
fn wanted_older_binding_with_two_identities_uses_the_client_id() {
    let wanted = read_older(|spec| spec.managed_identity_resource_id = Some("never looked at".to_owned()));
    assert!(matches!(wanted.unwrap().identity, Identity::ClientId(_)));
}

#[test]
fn wanted_older_resource_id_with_needless_slashes_is_one() {
    let id = "/subscriptions/s/resourceGroups//rg/providers/Microsoft.ManagedIdentity/userAssignedIdentities/puller/";
    let wanted = read_older(|spec| {
        spec.managed_identity_client_id = Some(String::new());
        spec.managed_identity_resource_id = Some(id.to_owned());
    });
    let Identity::ResourceId(id) = wanted.unwrap().identity else {
        panic!("not a resource ID");
    };
    assert!(
        id.as_str()
            .ends_with("/rg/providers/microsoft.managedidentity/userassignedidentities/puller")
    );
}

#[test]
fn wanted_older_field_that_does_not_parse_is_named() {
    type Edit = fn(&mut v1beta1::AcrPullBindingSpec);
    let edits: [(Edit, &str); 5] = [
        (
            |spec| spec.acr_server = "https://prod.azurecr.io".to_owned(),
            "spec.acrServer must",
        ),
        (|spec| spec.acr_server = String::new(), "ACR_SERVER"),
        (
            |spec| spec.scope = Some("repository:*:pull".to_owned()),
            "spec.scope",
        ),
        (
            |spec| spec.managed_identity_client_id = Some("x".to_owned()),
            "spec.managedIdentityClientID",
        ),
        (
            |spec| spec.managed_identity_client_id = None,
            "MANAGED_IDENTITY_CLIENT_ID",
        ),
    ];
    for (edit, field) in edits {
        let problem = read_older(edit).unwrap_err();
        assert_eq!(problem.reason, Reason::InvalidSpec);
        assert!(problem.message.contains(field), "{problem}");
    }
}

#[test]
fn wanted_change_of_a_default_changes_the_inputs() {
    let inputs = |server: &str| {
        let defaults = Defaults {
            acr_server: server.to_owned(),
            ..Defaults::default()
        };
        let spec = v1beta1::AcrPullBindingSpec {
            acr_server: String::new(),
            ..older_spec()
        };
        let binding = defaults.complete(v1beta1::AcrPullBinding::new("web", spec));
        read(&binding, None).unwrap().inputs
    };
    assert_ne!(inputs("one.azurecr.io"), inputs("two.azurecr.io"));
}

#[test]
fn b10_wanted_change_of_any_older_field_changes_the_inputs() {
    type Edit = fn(&mut v1beta1::AcrPullBindingSpec);
    let edits: [Edit; 6] = [
        |_spec| {},
        |spec| spec.acr_server = "other.azurecr.io".to_owned(),
        |spec| spec.scope = None,
        |spec| spec.managed_identity_client_id = Some(CLIENT.to_owned()),
        |spec| spec.managed_identity_resource_id = Some("another".to_owned()),
        |spec| spec.service_account_name = None,
    ];
    let hashes = edits.map(|edit| read_older(edit).unwrap().inputs);
    assert_eq!(hashes.iter().collect::<HashSet<_>>().len(), hashes.len());
}

#[test]
fn b9_wanted_identity_is_that_of_the_ref_or_as_the_peer_reads_it() {
    for (account_ref, account) in [(AccountRef::Use, "puller"), (AccountRef::Ignore, "web")] {
        let mut binding = binding("web", workload_identity_spec());
        binding.account_ref = account_ref;
        assert_eq!(binding.identity_account(), Some(account));
        let wanted = read(&binding, Some(&annotated_account(account))).unwrap();
        assert!(
            matches!(&wanted.identity, Identity::Federated { service_account, .. } if service_account == account),
            "{:?}",
            wanted.identity
        );
        let missing = read(&binding, None).unwrap_err();
        assert_eq!(
            missing.message,
            format!(
                "ServiceAccount {account} of {} does not exist",
                account_ref.field()
            )
        );
    }
}

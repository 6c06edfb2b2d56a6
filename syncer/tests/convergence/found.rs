//! The state in which a case begins, of the shapes that Secrets and ServiceAccounts are found in.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{
    ByteString,
    api::core::v1::{LocalObjectReference, Secret, ServiceAccount},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
    jiff::Timestamp,
};
use proto::Fingerprint;
use syncer::{
    binding::{ApiVersion, Binding, Defaults},
    crd::{
        AcrConfiguration, AcrPullBinding, AcrPullBindingSpec, AuthenticationMethod, AzureEnvironment,
        ManagedIdentityAuth, WorkloadIdentityAuth, v1beta1,
    },
    finalizer, inputs,
    links::RECORD_ANNOTATION,
    pull_secret::{self, Credential},
    wanted::CLIENT_ID_ANNOTATION,
};

use crate::{
    broker::meaning,
    cases::{ACCOUNTS, Account, Case, Found, Shape, Spec, account_key, place},
    right,
    server::{Key, payload_taken, secret_key, wrote_all},
    world::World,
};

const CLIENT: &str = "33333333-3333-3333-3333-000000000001";
pub(crate) const SCOPES: [&str; 2] = ["repository:team/web:pull", "repository:team/other:pull"];

pub(crate) fn start() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

/// The world of a case, before the syncer has looked at it.
pub(crate) fn world(case: &Case) -> World {
    let mut world = World::new(start(), case.dice);
    for (index, account) in case.accounts.iter().enumerate() {
        if let Some(account) = account {
            create_account(&mut world, &account_key(index), account);
        }
    }
    for Found {
        slot,
        spec,
        has_finalizer,
        secret,
    } in &case.bindings
    {
        create_binding(&mut world, *slot, spec);
        let binding = world.server.objects.bindings.get_mut(slot).unwrap();
        binding.metadata.finalizers = has_finalizer.then(|| vec![finalizer::PEERS.to_owned()]);
        put_secret(&mut world, *slot, *secret);
    }
    // Beside them: what nobody here may ever touch.
    let bystander = Secret {
        metadata: ObjectMeta {
            name: Some("acr-pull-bystander".to_owned()),
            namespace: Some("shop".to_owned()),
            ..ObjectMeta::default()
        },
        ..Secret::default()
    };
    let key = ("shop".to_owned(), "acr-pull-bystander".to_owned());
    world.server.objects.secrets.insert(key, bystander);
    world.broker.mood = case.mood;
    world.wake_all();
    world
}

pub(crate) fn create_account(world: &mut World, key: &Key, account: &Account) {
    let mut annotations = BTreeMap::new();
    if account.is_annotated {
        annotations.insert(CLIENT_ID_ANNOTATION.to_owned(), CLIENT.to_owned());
    }
    if !account.recorded.is_empty() {
        annotations.insert(RECORD_ANNOTATION.to_owned(), account.recorded.join(","));
    }
    let metadata = ObjectMeta {
        namespace: Some(key.0.clone()),
        name: Some(key.1.clone()),
        uid: Some(world.server.objects.next()),
        resource_version: Some(world.server.objects.next()),
        annotations: Some(annotations),
        ..ObjectMeta::default()
    };
    let listed = account.listed.iter().map(|name| LocalObjectReference {
        name: (*name).to_owned(),
    });
    let account = ServiceAccount {
        metadata,
        image_pull_secrets: Some(listed.collect()),
        ..ServiceAccount::default()
    };
    world.server.objects.accounts.insert(key.clone(), account);
}

pub(crate) fn create_binding(world: &mut World, slot: usize, spec: &Spec) {
    let (api, name, namespace) = place(slot);
    let mut binding = written(api, name, spec);
    binding.metadata.namespace = Some(namespace.to_owned());
    binding.metadata.uid = Some(world.server.objects.next());
    binding.metadata.resource_version = Some(world.server.objects.next());
    binding.metadata.generation = Some(1);
    world.server.objects.bindings.insert(slot, binding);
}

/// A binding of either API with this spec.
pub(crate) fn written(api: ApiVersion, name: &str, spec: &Spec) -> Binding {
    let server = if spec.is_valid {
        "prod.azurecr.io"
    } else {
        "10.0.0.1"
    }
    .to_owned();
    let scope = SCOPES[spec.scope].to_owned();
    if api == ApiVersion::V1Beta1 {
        let spec = v1beta1::AcrPullBindingSpec {
            acr_server: server,
            scope: Some(scope),
            managed_identity_client_id: Some(CLIENT.to_owned()),
            managed_identity_resource_id: None,
            service_account_name: Some(spec.account.to_owned()),
        };
        return Defaults::default().complete(v1beta1::AcrPullBinding::new(name, spec));
    }
    let federated = WorkloadIdentityAuth {
        service_account_ref: "puller".to_owned(),
        client_id: None,
        tenant_id: None,
    };
    let owned = ManagedIdentityAuth {
        client_id: Some(CLIENT.to_owned()),
        resource_id: None,
    };
    let more = if spec.has_more { &ACCOUNTS[..2] } else { &[] };
    let spec = AcrPullBindingSpec {
        acr: AcrConfiguration {
            server,
            scope,
            environment: AzureEnvironment::PublicCloud,
            cloud_config: None,
        },
        auth: AuthenticationMethod {
            managed_identity: (!spec.is_federated).then_some(owned),
            workload_identity: spec.is_federated.then_some(federated),
        },
        service_account_name: spec.account.to_owned(),
        service_account_names: more.iter().map(|name| (*name).to_owned()).collect(),
    };
    AcrPullBinding::new(name, spec).into()
}

/// Puts a Secret of this shape under the binding's name, as if it had been there before.
pub(crate) fn put_secret(world: &mut World, slot: usize, shape: Shape) {
    let binding = world.server.objects.bindings[&slot].clone();
    let key = secret_key(&binding);
    world.server.objects.secrets.remove(&key);
    if matches!(shape, Shape::Absent) {
        return;
    }
    let mut secret = ours(world, slot, shape);
    let metadata = &mut secret.metadata;
    let owner = metadata
        .owner_references
        .as_mut()
        .and_then(|owners| owners.first_mut());
    match shape {
        Shape::Absent | Shape::Fresh | Shape::Due | Shape::Expired | Shape::OtherInputs => {}
        Shape::Overwritten => overwrite(&mut secret, "kubectl-edit"),
        Shape::LabelLost => metadata.labels = None,
        Shape::StaleOwner => owner.unwrap().uid = "of an earlier one".to_owned(),
        Shape::Orphaned => metadata.owner_references = None,
        Shape::Peers { .. } => {
            metadata.managed_fields = Some(vec![wrote_all("manager", "Update")]);
            let annotations = metadata.annotations.as_mut().unwrap();
            annotations.retain(|key, _value| key.starts_with("acr.microsoft.com/"));
        }
        Shape::ForeignOwner => *owner.unwrap() = somebody(),
        Shape::ForeignWithoutLabel => {
            metadata.owner_references = None;
            metadata.labels = None;
        }
        Shape::OtherType => secret.type_ = Some("Opaque".to_owned()),
        Shape::Immutable => secret.immutable = Some(true),
    }
    world.server.objects.secrets.insert(key, secret);
}

/// A Secret as we write it, of the age that the shape says.
fn ours(world: &mut World, slot: usize, shape: Shape) -> Secret {
    let binding = world.server.objects.bindings[&slot].clone();
    let wanted = right::wanted(world, slot);
    let issued_for = match (&wanted, shape) {
        (Some(wanted), shape) if !matches!(shape, Shape::OtherInputs) => meaning(wanted),
        _ => "something else".to_owned(),
    };
    let age = if matches!(shape, Shape::Due) {
        Duration::from_secs(100 * 60)
    } else if matches!(shape, Shape::Expired | Shape::Peers { is_valid: false }) {
        Duration::from_secs(300 * 60)
    } else {
        Duration::ZERO
    };
    let issued_at = world.now.saturating_sub(age).unwrap();
    let draw = world.draw();
    let token = world.broker.mint(&issued_for, issued_at, draw);
    let inputs = match (wanted, shape) {
        (Some(wanted), shape) if !matches!(shape, Shape::OtherInputs) => wanted.inputs,
        _ => "others".to_owned(),
    };
    let credential = Credential {
        inputs,
        fingerprint: Fingerprint::of(token.payload()),
        refreshed_at: issued_at,
        expires_at: token.expires_at,
        refresh_at: token.refresh_at(),
    };
    let mut annotations = pull_secret::annotations(&binding, &credential, None);
    annotations.insert(
        "acr.microsoft.com/token.inputs".to_owned(),
        inputs::peer(&binding),
    );
    let mut secret = pull_secret::object(&binding, token.payload(), annotations);
    let metadata = &mut secret.metadata;
    metadata.uid = Some(world.server.objects.next());
    metadata.resource_version = Some(world.server.objects.next());
    metadata.managed_fields = Some(vec![wrote_all(pull_secret::FIELD_MANAGER, "Apply")]);
    secret
}

/// Somebody writes the payload.
pub(crate) fn overwrite(secret: &mut Secret, manager: &str) {
    let payload = ByteString(b"of somebody else".to_vec());
    secret.data = Some(BTreeMap::from([(".dockerconfigjson".to_owned(), payload)]));
    secret.metadata.managed_fields = Some(payload_taken(manager));
}

/// An owner that is no binding.
pub(crate) fn somebody() -> OwnerReference {
    OwnerReference {
        api_version: "apps/v1".to_owned(),
        kind: "Deployment".to_owned(),
        name: "web".to_owned(),
        uid: "of a Deployment".to_owned(),
        ..OwnerReference::default()
    }
}

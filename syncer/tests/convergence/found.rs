//! The state in which a case begins, of the shapes that Secrets and ServiceAccounts are found in.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{
    ByteString,
    api::core::v1::{LocalObjectReference, Secret, ServiceAccount},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::ResourceExt as _;
use proto::Fingerprint;
use syncer::{
    finalizer, inputs,
    links::RECORD_ANNOTATION,
    pull_secret::{self, Credential},
    wanted::{self, CLIENT_ID_ANNOTATION},
};

use crate::{
    cases::{Account, Case, Found, Shape, account_key, place},
    fields::{payload_taken, wrote_all},
    meaning::Meaning,
    server::{Key, secret_key},
    world::World,
    written::{CLIENTS, Spec, written},
};

/// The world of a case, with a process that has not looked at anything yet.
pub(crate) fn world(case: &Case) -> World {
    let mut world = World::empty(case);
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
            uid: Some(world.server.next()),
            resource_version: Some(world.server.next()),
            ..ObjectMeta::default()
        },
        ..Secret::default()
    };
    let key = ("shop".to_owned(), "acr-pull-bystander".to_owned());
    world.server.objects.secrets.insert(key, bystander);
    world.broker.mood = case.mood;
    world.faults.extend(&case.faults);
    world.start();
    world
}

pub(crate) fn create_account(world: &mut World, key: &Key, account: &Account) {
    let mut annotations = BTreeMap::new();
    if account.is_annotated {
        annotations.insert(CLIENT_ID_ANNOTATION.to_owned(), CLIENTS[0].to_owned());
    }
    if !account.recorded.is_empty() {
        annotations.insert(RECORD_ANNOTATION.to_owned(), account.recorded.join(","));
    }
    let metadata = ObjectMeta {
        namespace: Some(key.0.clone()),
        name: Some(key.1.clone()),
        uid: Some(world.server.next()),
        resource_version: Some(world.server.next()),
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
    binding.metadata.uid = Some(world.server.next());
    binding.metadata.resource_version = Some(world.server.next());
    binding.metadata.generation = Some(1);
    world.server.objects.bindings.insert(slot, binding);
    world.specs.insert(slot, spec.clone());
}

/// Puts a Secret of this shape under the binding's name, as if it had been there before.
pub(crate) fn put_secret(world: &mut World, slot: usize, shape: Shape) {
    let key = secret_key(slot);
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
        Shape::StaleOwner | Shape::StaleOwnerOtherInputs => {
            owner.unwrap().uid = "of an earlier one".to_owned();
        }
        Shape::Orphaned => metadata.owner_references = None,
        Shape::Peers { .. } => {
            metadata.managed_fields = Some(vec![wrote_all("manager", "Update")]);
            let annotations = metadata.annotations.as_mut().unwrap();
            annotations.retain(|key, _value| key.starts_with("acr.microsoft.com/"));
        }
        Shape::ForeignOwner => {
            *owner.unwrap() = somebody();
            metadata.managed_fields = Some(vec![wrote_all("kubectl-create", "Update")]);
        }
        Shape::ForeignWithoutLabel => {
            metadata.owner_references = None;
            metadata.labels = None;
            metadata.managed_fields = Some(vec![wrote_all("kubectl-create", "Update")]);
        }
        Shape::OtherType => secret.type_ = Some("Opaque".to_owned()),
        Shape::Immutable => secret.immutable = Some(true),
    }
    world.server.objects.secrets.insert(key, secret);
}

/// A Secret as we write it, of the age that the shape says.
fn ours(world: &mut World, slot: usize, shape: Shape) -> Secret {
    let binding = world.server.objects.bindings[&slot].clone();
    let account = binding.identity_account().and_then(|name| {
        let key = (binding.namespace().unwrap_or_default(), name.to_owned());
        world.server.objects.accounts.get(&key)
    });
    let wanted = wanted::read(&binding, account).ok();
    let wanted = wanted.filter(|_wanted| !matches!(shape, Shape::OtherInputs | Shape::StaleOwnerOtherInputs));
    let meaning = world.meant(slot).filter(|_meaning| wanted.is_some());
    let age = if matches!(shape, Shape::Due) {
        Duration::from_secs(100 * 60)
    } else if matches!(shape, Shape::Expired | Shape::Peers { is_valid: false }) {
        Duration::from_secs(300 * 60)
    } else {
        Duration::ZERO
    };
    let issued_at = world.clock.right().saturating_sub(age).unwrap();
    let draw = world.draw();
    let meaning = meaning.unwrap_or_else(Meaning::other);
    let token = world.broker.mint(&meaning, issued_at, draw);
    let credential = Credential {
        inputs: wanted.map_or_else(|| "others".to_owned(), |wanted| wanted.inputs),
        fingerprint: Fingerprint::of(&token.payload),
        refreshed_at: issued_at,
        expires_at: token.expires_at,
        refresh_at: token.refresh_at,
    };
    let mut annotations = pull_secret::annotations(&binding, &credential, None);
    annotations.insert(
        "acr.microsoft.com/token.inputs".to_owned(),
        inputs::peer(&binding),
    );
    let mut secret = pull_secret::object(&binding, &token.payload, annotations);
    let metadata = &mut secret.metadata;
    metadata.uid = Some(world.server.next());
    metadata.resource_version = Some(world.server.next());
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

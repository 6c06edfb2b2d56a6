//! Worlds for tests: an empty cluster with our CRDs, and one that Azure/msi-acrpull has served.

use std::{collections::BTreeMap, sync::Arc};

use clap::Parser as _;
use k8s_openapi::{
    api::core::v1::{LocalObjectReference, ServiceAccount},
    apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry, ObjectMeta},
};
use kube::ResourceExt as _;
use serde_json::json;

use super::world::{Crd, Look, Name, World};
use crate::{
    args::{Command, PreflightArgs, SyncerArgs},
    binding::{Binding, Defaults, PerApi},
    crd::v1beta1,
    inputs,
    pull_secret::{self, BINDING_LABEL},
    samples::{account, annotated_account, binding, managed_identity_spec, owner, workload_identity_spec},
};

const RESOURCE_ID: &str = "/subscriptions/44444444-4444-4444-4444-444444444444/resourceGroups/rg/providers/Microsoft.ManagedIdentity/userAssignedIdentities/puller";

/// The command line.
pub(super) fn args(arguments: &str) -> PreflightArgs {
    let arguments = ["syncer", "preflight"]
        .into_iter()
        .chain(arguments.split_whitespace());
    match SyncerArgs::try_parse_from(arguments).unwrap().command {
        Command::Preflight(args) => *args,
        Command::Run(_) | Command::Crd => panic!("not preflight"),
    }
}

/// A cluster in which everything is as it should be, and nothing is there.
pub(super) fn empty() -> World {
    let ours = Crd {
        lacks: Vec::new(),
        is_leaving: false,
        release: None,
    };
    World {
        secrets: Look::Seen(BTreeMap::new()),
        crds: PerApi::new(|_api| Look::Seen(Some(ours.clone()))),
        peers: Look::Seen(Vec::new()),
        policies: Look::Seen(Some(Vec::new())),
        ..World::empty(true)
    }
}

/// With one binding of each kind, their ServiceAccounts, and nothing that the peer left.
pub(super) fn fresh() -> World {
    let mut world = empty();
    let mut spec = workload_identity_spec();
    spec.service_account_name = "puller".to_owned();
    world.add(binding("web", spec));
    let mut spec = managed_identity_spec();
    spec.service_account_name = "batch".to_owned();
    world.add(binding("batch", spec));
    world.add(older("legacy", "legacy", |spec| {
        spec.managed_identity_client_id = Some("33333333-3333-3333-3333-000000000003".to_owned());
    }));
    world.add(older("web-v1", "", |spec| {
        spec.managed_identity_resource_id = Some(RESOURCE_ID.to_owned());
    }));
    world.add_account(annotated_account("puller"));
    for name in ["batch", "legacy", "default"] {
        world.add_account(account(name));
    }
    world
}

/// The same, as the peer leaves it: finalizers, Secrets, links, CRDs, policies, and itself.
pub(super) fn peers() -> World {
    let mut world = fresh();
    let mut spec = workload_identity_spec();
    spec.service_account_name = "batch".to_owned();
    world.add(binding("mixed", spec));
    for binding in &mut world.bindings {
        Arc::make_mut(binding).metadata.finalizers = Some(vec![crate::finalizer::PEERS.to_owned()]);
    }
    for binding in world.bindings.clone() {
        let secret = peers_secret(&binding);
        world.link(
            &binding.spec.service_account_name,
            &pull_secret::name_of(&binding),
        );
        world.add_secret(secret);
    }
    let theirs = |lacks: &[&'static str]| Crd {
        lacks: lacks.to_vec(),
        is_leaving: false,
        release: Some("acrpull/acrpull".to_owned()),
    };
    world.crds = PerApi {
        v1beta2: Look::Seen(Some(theirs(&["status.conditions", "spec.serviceAccountNames"]))),
        v1beta1: Look::Seen(Some(theirs(&["status.conditions"]))),
    };
    world.peers = Look::Seen(vec![Name::new("acrpull", "acrpull")]);
    world.policies = Look::Seen(Some(vec!["controller-token-request-policy".to_owned()]));
    world.issuer = Some("https://oidc.example/4f1c/".to_owned());
    world
}

/// One of `v1beta1` in namespace shop, without a scope.
pub(super) fn older(name: &str, account: &str, change: impl Fn(&mut v1beta1::AcrPullBindingSpec)) -> Binding {
    let mut spec = v1beta1::AcrPullBindingSpec {
        acr_server: "legacy.azurecr.io".to_owned(),
        scope: Some(String::new()),
        managed_identity_client_id: Some(String::new()),
        managed_identity_resource_id: Some(String::new()),
        service_account_name: Some(account.to_owned()),
    };
    change(&mut spec);
    let mut binding = v1beta1::AcrPullBinding::new(name, spec);
    binding.metadata.namespace = Some("shop".to_owned());
    binding.metadata.uid = Some(format!("uid-of-{name}"));
    Defaults::default().complete(binding)
}

/// The Secret of a binding as the peer writes it, with a token that is valid.
pub(super) fn peers_secret(binding: &Binding) -> ObjectMeta {
    let name = pull_secret::name_of(binding);
    ObjectMeta {
        namespace: binding.metadata.namespace.clone(),
        uid: Some(format!("uid-of-{name}")),
        resource_version: Some("300".to_owned()),
        labels: Some([(BINDING_LABEL.to_owned(), binding.name_any())].into()),
        annotations: Some(
            [
                (
                    "acr.microsoft.com/token.expiry",
                    "2026-11-21T13:05:00Z".to_owned(),
                ),
                (
                    "acr.microsoft.com/token.refresh",
                    "2026-11-21T11:50:00Z".to_owned(),
                ),
                ("acr.microsoft.com/token.inputs", inputs::peer(binding)),
            ]
            .map(|(key, value)| (key.to_owned(), value))
            .into(),
        ),
        managed_fields: Some(vec![ManagedFieldsEntry {
            manager: Some("manager".to_owned()),
            operation: Some("Update".to_owned()),
            fields_v1: Some(FieldsV1(json!({
                "f:data": {"f:.dockerconfigjson": {}},
                "f:metadata": {"f:annotations": {
                    "f:acr.microsoft.com/token.expiry": {},
                    "f:acr.microsoft.com/token.refresh": {},
                }},
            }))),
            ..ManagedFieldsEntry::default()
        }]),
        owner_references: Some(vec![owner(binding)]),
        name: Some(name),
        ..ObjectMeta::default()
    }
}

impl World {
    pub(super) fn add(&mut self, binding: Binding) {
        self.bindings.push(Arc::new(binding));
        self.bindings.sort_by_key(|binding| Name::of(&binding.metadata));
    }

    pub(super) fn add_account(&mut self, account: ServiceAccount) {
        self.accounts
            .insert(Name::of(&account.metadata), Arc::new(account));
    }

    pub(super) fn add_secret(&mut self, secret: ObjectMeta) {
        let Look::Seen(secrets) = &mut self.secrets else {
            panic!("Secrets are not looked at")
        };
        secrets.insert(Name::of(&secret), secret);
    }

    pub(super) fn link(&mut self, account: &str, secret: &str) {
        let account = self.accounts.get_mut(&Name::new("shop", account)).unwrap();
        let entry = LocalObjectReference {
            name: secret.to_owned(),
        };
        let entries = &mut Arc::make_mut(account).image_pull_secrets;
        entries.get_or_insert_default().push(entry);
    }

    /// Changes a binding.
    pub(super) fn edit(&mut self, name: &str, change: impl FnOnce(&mut Binding)) {
        let mut bindings = self.bindings.iter_mut();
        let binding = bindings.find(|binding| binding.name_any() == name).unwrap();
        change(Arc::make_mut(binding));
    }
}

//! What the syncer would make of each binding: its own `wanted`, `pull_secret` and `plan` are asked, so that there is no
//! second opinion. Pure.

use std::sync::Arc;

use k8s_openapi::{api::core::v1::ServiceAccount, jiff::Timestamp};
use kube::ResourceExt as _;

use super::world::{Look, Name, World};
use crate::{
    allowed_servers::AllowedServers,
    args::{PreflightArgs, ServiceAccountRef},
    binding::{AccountRef, Binding},
    finalizer,
    links::Target,
    memory::BindingMemory,
    plan::{self, Plan, Snapshot},
    problem::Problem,
    pull_secret::{self, SecretState},
    wanted::{self, Wanted},
};

/// A binding, and what the syncer would do about it.
#[derive(Debug, Clone)]
pub(super) struct Assessed {
    /// As it will be read.
    pub(super) binding: Arc<Binding>,
    /// The ServiceAccounts that are to be linked.
    pub(super) targets: Vec<Target>,
    /// The Secret under its name, if Secrets could be looked at.
    pub(super) secret: Option<SecretState>,
    /// What will be asked for.
    pub(super) wanted: Result<Wanted, Problem>,
    /// What will be done first.
    pub(super) plan: Plan,
    /// What will be done when the peer's finalizer was removed and stays away, if it is there.
    pub(super) plan_after: Option<Plan>,
    /// The two ways to read it, where they differ.
    pub(super) readings: Option<Readings>,
}

/// A binding that names one ServiceAccount for the identity and another one for the link.
#[derive(Debug, Clone)]
pub(super) struct Readings {
    /// `serviceAccountRef`, and what it means.
    pub(super) by_ref: (String, Result<Wanted, Problem>),
    /// `serviceAccountName`, and what it means to the peer.
    pub(super) by_name: (String, Result<Wanted, Problem>),
}

impl Assessed {
    /// Its namespace and name.
    pub(super) fn name(&self) -> Name {
        Name::of(&self.binding.metadata)
    }

    /// Whether it is being deleted.
    pub(super) fn is_leaving(&self) -> bool {
        self.binding.metadata.deletion_timestamp.is_some()
    }

    /// Whether the peer's finalizer is on it.
    pub(super) fn has_peer_finalizer(&self) -> bool {
        finalizer::is_on(&self.binding.metadata)
    }

    /// Whether the peer serves it, or did: its finalizer is there, or a Secret that is not of this syncer's writing.
    pub(super) fn is_peers(&self) -> bool {
        let has_its_secret =
            matches!(&self.secret, Some(SecretState::Ours(secret)) if secret.credential.is_none());
        self.has_peer_finalizer() || has_its_secret
    }
}

/// Assesses every binding that decodes, in the order of the world.
pub(super) fn assess(world: &World, args: &PreflightArgs, now: Timestamp) -> Vec<Assessed> {
    let allowed_servers: AllowedServers = args.allowed_acr_server_suffixes.iter().cloned().collect();
    world
        .bindings
        .iter()
        .map(|binding| assess_one(world, binding, args.service_account_ref, &allowed_servers, now))
        .collect()
}

fn assess_one(
    world: &World,
    written: &Arc<Binding>,
    reading: Option<ServiceAccountRef>,
    allowed_servers: &AllowedServers,
    now: Timestamp,
) -> Assessed {
    let by_name = peers_reading(written).map(Arc::new);
    let readings = by_name.as_ref().map(|by_name| Readings {
        by_ref: reading_of(world, written),
        by_name: reading_of(world, by_name),
    });
    let binding = match (by_name, reading) {
        (Some(by_name), Some(ServiceAccountRef::Ignore)) => by_name,
        (Some(_), Some(ServiceAccountRef::Use) | None) | (None, _) => Arc::clone(written),
    };
    let namespace = binding.namespace().unwrap_or_default();
    let target = |name: &str| Target {
        name: name.to_owned(),
        account: world.account(&namespace, name).cloned(),
        fight: None,
    };
    let targets: Vec<_> = binding.spec.accounts().into_iter().map(target).collect();
    let identity = identity_account(world, &binding).cloned();
    let secret = secret(world, &binding);
    let mut memory = BindingMemory::new(&binding.uid().unwrap_or_default(), now);
    memory.handover = finalizer::observe(None, &binding, now, 0.0);
    let snapshot = Snapshot {
        binding: Arc::clone(&binding),
        targets: targets.clone(),
        identity_account: identity.clone(),
        secret: secret.clone().unwrap_or(SecretState::Absent),
        allowed_servers: allowed_servers.clone(),
        reapply_at: None,
        secret_fight: None,
        memory,
    };
    Assessed {
        wanted: wanted::read(&binding, identity.as_deref())
            .and_then(|wanted| allowed_servers.check(&wanted.registry).map(|()| wanted)),
        plan: plan::plan(&snapshot, now),
        plan_after: plan_after(snapshot, now),
        binding,
        targets,
        secret,
        readings,
    }
}

/// The plan for the binding as it is without the peer's finalizer.
fn plan_after(mut snapshot: Snapshot, now: Timestamp) -> Option<Plan> {
    finalizer::is_on(&snapshot.binding.metadata).then_some(())?;
    let binding = Arc::make_mut(&mut snapshot.binding);
    binding.finalizers_mut().retain(|name| name != finalizer::PEERS);
    snapshot.memory.handover = None;
    Some(plan::plan(&snapshot, now))
}

/// The binding as the peer reads it, if that is another one: its identity is that of the ServiceAccount that is linked.
fn peers_reading(binding: &Binding) -> Option<Binding> {
    let account = &binding.spec.service_account_name;
    binding
        .identity_account()
        .filter(|identity_account| identity_account != account)?;
    Some(Binding {
        account_ref: AccountRef::Ignore,
        ..binding.clone()
    })
}

fn reading_of(world: &World, binding: &Binding) -> (String, Result<Wanted, Problem>) {
    let account = binding.identity_account().unwrap_or_default().to_owned();
    let wanted = wanted::read(binding, identity_account(world, binding).map(AsRef::as_ref));
    (account, wanted)
}

fn identity_account<'a>(world: &'a World, binding: &Binding) -> Option<&'a Arc<ServiceAccount>> {
    let namespace = binding.namespace().unwrap_or_default();
    world.account(&namespace, binding.identity_account()?)
}

fn secret(world: &World, binding: &Binding) -> Option<SecretState> {
    let Look::Seen(secrets) = &world.secrets else {
        return None;
    };
    let namespace = binding.namespace().unwrap_or_default();
    let found = secrets.get(&Name::new(&namespace, &pull_secret::name_of(binding)));
    Some(found.map_or(SecretState::Absent, |metadata| {
        pull_secret::judge(metadata, binding)
    }))
}

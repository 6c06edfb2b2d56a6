//! The one right state of each binding, told by the objects themselves and not by the code that decides.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use proto::Reason;
use syncer::{
    binding::Binding,
    finalizer, links,
    plan::plan,
    pull_secret::{self, BINDING_LABEL},
    status,
    wanted::{self, Wanted},
};

use crate::{
    broker::meaning,
    pass::status_after,
    server::{listed, secret_key, wrote_all},
    world::World,
};

/// What a binding can come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Its Secret's name is somebody else's.
    Conflict,
    /// It says too little, or its ServiceAccount does.
    Unasked,
    /// Its Secret cannot be written: another type, or immutable.
    Stuck,
    /// It gets its token.
    Served,
}

/// Whether the Secret under the binding's name is somebody else's.
pub(crate) fn is_foreign(secret: &Secret, binding: &Binding) -> bool {
    let (name, metadata) = (binding.name_any(), &secret.metadata);
    let owners = metadata.owner_references.as_deref().unwrap_or_default();
    let label = metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(BINDING_LABEL));
    let group = format!("{}/", binding.api.group());
    let is_binding = owners.iter().all(|owner| {
        owner.kind == "AcrPullBinding" && owner.name == name && owner.api_version.starts_with(&group)
    });
    !is_binding || owners.is_empty() && label != Some(&name)
}

/// Whether the payload is the one that the syncer wrote.
pub(crate) fn is_written_by_us(secret: &Secret) -> bool {
    let ours = wrote_all(pull_secret::FIELD_MANAGER, "Apply");
    secret
        .metadata
        .managed_fields
        .iter()
        .flatten()
        .any(|entry| *entry == ours)
}

/// Whether the annotations say that the token is for this.
pub(crate) fn is_for(secret: &Secret, wanted: &Wanted) -> bool {
    let annotations = secret.metadata.annotations.as_ref();
    annotations.and_then(|annotations| annotations.get("acrpull.microsoft.com/inputs"))
        == Some(&wanted.inputs)
}

pub(crate) fn payload(secret: &Secret) -> &[u8] {
    let payload = secret
        .data
        .as_ref()
        .and_then(|data| data.get(".dockerconfigjson"));
    payload.map(|payload| payload.0.as_slice()).unwrap_or_default()
}

/// What the binding is to get, if that can be said.
pub(crate) fn wanted(world: &World, slot: usize) -> Option<Wanted> {
    let snapshot = world.snapshot(slot, world.remembered(slot));
    wanted::read(&snapshot.binding, snapshot.identity_account.as_deref()).ok()
}

fn standing(world: &World, slot: usize) -> Standing {
    let binding = &world.server.objects.bindings[&slot];
    let secret = world.server.objects.secrets.get(&secret_key(binding));
    let is_writable = |secret: &Secret| {
        secret.type_.as_deref() == Some("kubernetes.io/dockerconfigjson") && secret.immutable != Some(true)
    };
    match secret {
        Some(secret) if is_foreign(secret, binding) => Standing::Conflict,
        _ if wanted(world, slot).is_none() => Standing::Unasked,
        Some(secret) if !is_writable(secret) => Standing::Stuck,
        Some(_) | None => Standing::Served,
    }
}

/// What is not yet as it should be; nothing once it is.
pub(crate) fn wrong(world: &World) -> Vec<(usize, String)> {
    let bindings = world.server.objects.bindings.keys();
    let mut wrong: Vec<_> = bindings
        .filter_map(|slot| shortfall(world, *slot).map(|why| (*slot, why)))
        .collect();
    for (key, account) in &world.server.objects.accounts {
        let claimed: BTreeSet<_> = world.server.claims(key).collect();
        let left: Vec<_> = links::record(account).difference(&claimed).cloned().collect();
        if !left.is_empty() {
            wrong.push((usize::MAX, format!("{key:?} still records {left:?}")));
        }
    }
    wrong
}

/// Whether the binding has its token and needs nothing before the next one.
pub(crate) fn is_served(world: &World, slot: usize) -> bool {
    let snapshot = world.snapshot(slot, world.remembered(slot));
    let is_fresh = snapshot
        .secret
        .credential()
        .is_some_and(|held| held.refresh_at > world.now);
    is_fresh && standing(world, slot) == Standing::Served && shortfall(world, slot).is_none()
}

fn shortfall(world: &World, slot: usize) -> Option<String> {
    let standing = standing(world, slot);
    let snapshot = world.snapshot(slot, world.remembered(slot));
    let plan = plan(&snapshot, world.now);
    if !plan.steps.is_empty() {
        return Some(format!("{standing:?}, to be done: {:?}", plan.steps));
    }
    if plan.wake_at.is_some_and(|at| at <= world.now) {
        return Some("it wakes in the past".to_owned());
    }
    let before = snapshot.binding.status.clone().unwrap_or_default();
    let after = status_after(&snapshot, &plan, &plan.link, plan.problem.as_ref(), world.now);
    if status::is_due(&before, &after, Some(world.now), world.now) {
        return Some(format!(
            "the status is behind: {:?}",
            status::merge_patch(&before, &after)
        ));
    }
    let reason = plan.problem.as_ref().map(|problem| problem.reason);
    if standing == Standing::Conflict {
        let told = reason == Some(Reason::SecretConflict);
        return (!told).then(|| format!("a foreign Secret, and it tells {reason:?}"));
    }
    let binding = &snapshot.binding;
    if finalizer::is_on(&binding.metadata) {
        return Some("the peer's finalizer is there".to_owned());
    }
    let (_namespace, secret_name) = secret_key(binding);
    for target in &snapshot.targets {
        if let Some(account) = &target.account
            && !(listed(account).contains(&secret_name) && links::record(account).contains(&secret_name))
        {
            return Some(format!("{} does not list it", target.name));
        }
    }
    let secret = world.server.objects.secrets.get(&secret_key(binding));
    if let Some(secret) = secret {
        let owners = secret.metadata.owner_references.as_deref().unwrap_or_default();
        let is_owned = matches!(owners, [owner] if Some(&owner.uid) == binding.metadata.uid.as_ref());
        let label = secret
            .metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(BINDING_LABEL));
        if !is_owned || label != Some(&binding.name_any()) {
            return Some(format!("not adopted: {owners:?}, {label:?}"));
        }
    }
    match standing {
        Standing::Unasked => reason.is_none().then(|| "no problem is told".to_owned()),
        Standing::Conflict | Standing::Stuck => None,
        Standing::Served => unserved(world, slot, secret, reason),
    }
}

fn unserved(world: &World, slot: usize, secret: Option<&Secret>, reason: Option<Reason>) -> Option<String> {
    let Some(secret) = secret else {
        return Some(format!("no Secret: {reason:?}"));
    };
    let Some(token) = world.broker.issued.get(payload(secret)) else {
        return Some("the payload is not the broker's".to_owned());
    };
    let wanted = wanted(world, slot).map(|wanted| meaning(&wanted));
    if Some(&token.issued_for) != wanted.as_ref() {
        return Some(format!("the token is for {}", token.issued_for));
    }
    if !is_written_by_us(secret) {
        return Some("the token is the peer's".to_owned());
    }
    if token.expires_at <= world.now {
        return Some("the token is not valid".to_owned());
    }
    if reason.is_some() {
        return Some(format!("it has its token, and tells {reason:?}"));
    }
    let binding = &world.server.objects.bindings[&slot];
    let conditions = binding.status.iter().flat_map(|status| &status.conditions);
    let mut ready = conditions.filter(|condition| condition.type_ == "Ready");
    let is_ready = ready.any(|ready| ready.status == "True");
    let snapshot = world.snapshot(slot, world.remembered(slot));
    let are_there = snapshot.targets.iter().all(|target| target.account.is_some());
    (is_ready != are_there).then(|| format!("Ready is {is_ready}"))
}

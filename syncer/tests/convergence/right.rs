//! The one right state of each binding, told by the objects themselves and not by the code that decides.

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use proto::Reason;
use syncer::{
    finalizer, links,
    plan::plan,
    pull_secret::{BINDING_LABEL, REFRESH_REQUESTED},
    snapshot, status,
};

use crate::{
    cases::place,
    fields::is_payload_ours,
    judge::{is_foreign, payload},
    report::status_after,
    server::{Key, listed, secret_key},
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

fn standing(world: &World, slot: usize) -> Standing {
    let secret = world.server.objects.secrets.get(&secret_key(slot));
    let is_writable = |secret: &Secret| {
        secret.type_.as_deref() == Some("kubernetes.io/dockerconfigjson") && secret.immutable != Some(true)
    };
    match secret {
        Some(secret) if is_foreign(secret, slot) => Standing::Conflict,
        _ if world.meant(slot).is_none() => Standing::Unasked,
        Some(secret) if !is_writable(secret) => Standing::Stuck,
        Some(_) | None => Standing::Served,
    }
}

/// What is not yet as it should be; nothing once it is.
pub(crate) fn wrong(world: &mut World) -> Vec<(usize, String)> {
    let slots: Vec<_> = world.server.objects.bindings.keys().copied().collect();
    let mut wrong: Vec<_> = slots
        .into_iter()
        .filter_map(|slot| shortfall(world, slot).map(|why| (slot, why)))
        .collect();
    for (key, account) in &world.server.objects.accounts {
        let claimed = world.server.claims(key);
        let left: Vec<_> = links::record(account).difference(&claimed).cloned().collect();
        if !left.is_empty() {
            wrong.push((usize::MAX, format!("{key:?} still records {left:?}")));
        }
    }
    wrong
}

/// Whether the binding has its token and needs nothing before the next one.
pub(crate) fn is_served(world: &mut World, slot: usize) -> bool {
    let leader = world.leader();
    let Some(snapshot) = world.snapshot(leader, slot, 0.0) else {
        return false;
    };
    let held = snapshot.secret.credential();
    let is_fresh = held.is_some_and(|held| held.is_fresh(world.now_of(&snapshot)));
    is_fresh && standing(world, slot) == Standing::Served && shortfall(world, slot).is_none()
}

fn shortfall(world: &mut World, slot: usize) -> Option<String> {
    let (leader, standing) = (world.leader(), standing(world, slot));
    if world.processes[leader].feeds.next().is_some() {
        return Some("the watches lag behind".to_owned());
    }
    let Some(mut snapshot) = world.snapshot(leader, slot, 0.0) else {
        return Some("nobody knows of it".to_owned());
    };
    let now = world.now_of(&snapshot);
    let plan = plan(&snapshot, now);
    if !plan.steps.is_empty() {
        return Some(format!("{standing:?}, to be done: {:?}", plan.steps));
    }
    if plan.wake_at.is_some_and(|at| at <= now) {
        return Some("it wakes in the past".to_owned());
    }
    let before = snapshot::status(&snapshot.binding, &mut snapshot.memory);
    let after = status_after(&snapshot, &before, &plan, &plan.link, plan.problem.as_ref(), now);
    let binding = &world.server.objects.bindings[&slot];
    if status::is_due(&before, &after, Some(now), now) || before != binding.status.clone().unwrap_or_default()
    {
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
    if finalizer::is_on(&binding.metadata) {
        return Some("the peer's finalizer is there".to_owned());
    }
    let (namespace, secret_name) = secret_key(slot);
    let mut accounts = binding.spec.service_account_names.clone();
    accounts.push(binding.spec.service_account_name.clone());
    let accounts = accounts.into_iter().map(|name| (namespace.clone(), name));
    let accounts: Vec<_> = accounts
        .map(|key| world.server.objects.accounts.get(&key))
        .collect();
    for account in accounts.iter().flatten() {
        if !(listed(account).contains(&secret_name) && links::record(account).contains(&secret_name)) {
            return Some(format!("{} does not list it", account.name_any()));
        }
    }
    if let Some(secret) = world.server.objects.secrets.get(&secret_key(slot)) {
        let owners = secret.metadata.owner_references.as_deref().unwrap_or_default();
        let is_owned = matches!(owners, [owner] if Some(&owner.uid) == binding.metadata.uid.as_ref());
        let label = secret.labels().get(BINDING_LABEL).map(String::as_str);
        if !is_owned || label != Some(place(slot).1) {
            return Some(format!("not adopted: {owners:?}, {label:?}"));
        }
    }
    match standing {
        Standing::Unasked => reason.is_none().then(|| "no problem is told".to_owned()),
        Standing::Conflict | Standing::Stuck => None,
        Standing::Served => lacks_its_token(world, slot).or_else(|| {
            let are_there = accounts.iter().all(Option::is_some);
            untold(world, slot, reason, are_there)
        }),
    }
}

/// The first ServiceAccount that a binding names.
pub(crate) fn first_account(world: &World, slot: usize) -> Key {
    let binding = &world.server.objects.bindings[&slot];
    (
        binding.namespace().unwrap_or_default(),
        binding.spec.service_account_name.clone(),
    )
}

/// Whether all ServiceAccounts are there that a binding names.
pub(crate) fn has_accounts(world: &World, slot: usize) -> bool {
    let binding = &world.server.objects.bindings[&slot];
    let (namespace, first) = first_account(world, slot);
    let mut more = binding.spec.service_account_names.iter().chain([&first]);
    more.all(|name| {
        let key = (namespace.clone(), name.clone());
        world.server.objects.accounts.contains_key(&key)
    })
}

/// Why the binding is ready, or is not.
pub(crate) fn ready_reason(world: &World, slot: usize) -> Option<&str> {
    let status = world.server.objects.bindings[&slot].status.as_ref()?;
    let mut conditions = status.conditions.iter();
    let ready = conditions.find(|condition| condition.type_ == "Ready")?;
    Some(&ready.reason)
}

/// Why the Secret does not hold a token that was granted for what the binding says now; nothing if it does, or cannot.
pub(crate) fn lacks_its_token(world: &World, slot: usize) -> Option<String> {
    if standing(world, slot) != Standing::Served {
        return None;
    }
    let Some(secret) = world.server.objects.secrets.get(&secret_key(slot)) else {
        return Some("no Secret".to_owned());
    };
    let Some(token) = world.broker.token(payload(secret)) else {
        return Some("the payload is not the broker's".to_owned());
    };
    let meaning = world.meant(slot)?;
    if !world.broker.has_granted(&token.payload, &meaning) {
        return Some(format!("the token was not granted for {meaning:?}"));
    }
    if !is_payload_ours(secret) {
        return Some("the token is the peer's".to_owned());
    }
    if token.expires_at <= world.clock.right() {
        return Some("the token is not valid".to_owned());
    }
    let requested = world.server.objects.bindings[&slot]
        .annotations()
        .get(REFRESH_REQUESTED);
    let answered = secret.annotations().get(REFRESH_REQUESTED);
    (requested.is_some() && requested != answered)
        .then(|| format!("request {requested:?} is not answered, {answered:?} was"))
}

/// What the status of a binding that has its token should say, and does not.
fn untold(world: &World, slot: usize, reason: Option<Reason>, are_there: bool) -> Option<String> {
    if reason.is_some() {
        return Some(format!("it has its token, and tells {reason:?}"));
    }
    let binding = &world.server.objects.bindings[&slot];
    let conditions = binding.status.iter().flat_map(|status| &status.conditions);
    let mut ready = conditions.filter(|condition| condition.type_ == "Ready");
    let is_ready = ready.any(|ready| ready.status == "True");
    (is_ready != are_there).then(|| format!("Ready is {is_ready}"))
}

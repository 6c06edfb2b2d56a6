//! Reads what a decision needs, from the stores of the watches and what the process remembers. One live read is
//! possible: the Secret, by name and metadata only, when the watch does not know it, because it watches Secrets with
//! our label and the name may be taken by one without. Where Secrets may not be read at all, see
//! [`unread_secret`] and [`unread`]. Writes nothing.

pub mod unread;

use std::sync::Arc;

use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Api, ResourceExt as _, runtime::reflector::ObjectRef};
use runtime::Moment;

use crate::{
    binding::Binding,
    contest::Fight,
    context::{Context, Secrets},
    crd::AcrPullBindingStatus,
    finalizer,
    kube_calls::{KubeError, Verb},
    links::{self, Target},
    memory::{BindingMemory, Echo, Memory},
    plan::Snapshot,
    pull_secret::{self, SecretState},
    steady, unread_secret,
};

/// Reads everything about `binding`.
///
/// # Errors
/// The live read failed.
pub async fn load(context: &Context, binding: Arc<Binding>) -> Result<Snapshot, KubeError> {
    let mut memory = remembered(&context.memory, &binding, context.clock.moment(), rand::random());
    let namespace = binding.namespace().unwrap_or_default();
    let secret = secret(context, &binding, &namespace, &mut memory).await?;
    memory.steady.saw(secret.credential(), context.clock.moment());
    Ok(assemble(context, binding, secret, memory))
}

/// The same without a look at the Secret, as if there were none.
pub fn without_secret(context: &Context, binding: Arc<Binding>) -> Snapshot {
    let memory = remembered(&context.memory, &binding, context.clock.moment(), rand::random());
    assemble(context, binding, SecretState::Absent, memory)
}

/// What is remembered of `binding`, and what a look at it adds to that.
fn remembered(memory: &Memory, binding: &Binding, moment: Moment, draw: f64) -> BindingMemory {
    let uid = binding.uid().unwrap_or_default();
    let mut known = memory.of(&binding.key(), &uid, steady::time_of_day(moment));
    let now = known.steady.now(moment);
    known.handover = finalizer::observe(known.handover, binding, now, draw);
    known
}

fn assemble(
    context: &Context,
    binding: Arc<Binding>,
    secret: SecretState,
    memory: BindingMemory,
) -> Snapshot {
    let namespace = binding.namespace().unwrap_or_default();
    let reapply_at = match context.secrets {
        Secrets::Watched(_) => None,
        Secrets::Unread(_) => Some(unread_secret::reapply_at(&binding, &memory)),
    };
    let account = |name: &str| context.links.account(&links::account_ref(&namespace, name));
    let moment = context.clock.moment();
    Snapshot {
        targets: targets(context, &binding, &memory, moment),
        identity_account: binding.identity_account().and_then(account),
        secret,
        secret_fight: secret_fight(&memory, moment),
        memory,
        allowed_servers: context.allowed_servers.clone(),
        reapply_at,
        binding,
    }
}

/// The ServiceAccounts that are to list the Secret of `binding`, as they are now.
pub(crate) fn targets(
    context: &Context,
    binding: &Binding,
    memory: &BindingMemory,
    moment: Moment,
) -> Vec<Target> {
    let namespace = binding.namespace().unwrap_or_default();
    let secret_name = pull_secret::name_of(binding);
    let now = memory.steady.now(moment);
    let target = |name: &str| {
        let account = links::account_ref(&namespace, name);
        context
            .links
            .target(&account, &secret_name, moment.monotonic, now)
    };
    binding.spec.accounts().into_iter().map(target).collect()
}

/// The fight over the Secret, if there is one.
pub(crate) fn secret_fight(memory: &BindingMemory, moment: Moment) -> Option<Fight> {
    let fight = memory.secret_contest.fight(moment.monotonic)?;
    Some(fight.told_at(moment.monotonic, memory.steady.now(moment)))
}

async fn secret(
    context: &Context,
    binding: &Binding,
    namespace: &str,
    memory: &mut BindingMemory,
) -> Result<SecretState, KubeError> {
    let watched = match &context.secrets {
        Secrets::Watched(watched) => watched,
        Secrets::Unread(_) => {
            let now = memory.steady.now(context.clock.moment());
            return Ok(unread_secret::state(binding, memory, now));
        }
    };
    let name = pull_secret::name_of(binding);
    let key = ObjectRef::new(&name).within(namespace);
    if let Some(seen) = watched.get(&key) {
        return Ok(watched_secret(&seen.metadata, binding, memory));
    }
    // A live read needs no echo, it is the newest there is.
    memory.secret = None;
    let api: Api<Secret> = Api::namespaced(context.client.clone(), namespace);
    let live = context
        .calls
        .call(Verb::Get, "secrets", api.get_metadata_opt(&name))
        .await?;
    Ok(live.map_or(SecretState::Absent, |live| {
        pull_secret::judge(&live.metadata, binding)
    }))
}

/// The Secret that the watch knows: as watched, or as we last wrote it if the watch lags behind.
pub fn watched_secret(seen: &ObjectMeta, binding: &Binding, memory: &mut BindingMemory) -> SecretState {
    let SecretState::Ours(secret) = pull_secret::judge(seen, binding) else {
        return SecretState::Foreign;
    };
    let version = secret.resource_version.clone();
    SecretState::Ours(Echo::newer(&mut memory.secret, &version, secret))
}

/// The binding's status: as watched, or as we last wrote it if the watch lags behind. Where the installed CRD is the
/// peer's, which knows three fields, the others are those that we last wrote: a status that never seems to be what it
/// should would be written, and its events told, at every pass.
pub fn status(binding: &Binding, memory: &mut BindingMemory) -> AcrPullBindingStatus {
    let version = binding.resource_version().unwrap_or_default();
    let mut seen = binding.status.clone().unwrap_or_default();
    if let Some(written) = &memory.status_not_kept
        && seen.conditions.is_empty()
    {
        seen = AcrPullBindingStatus {
            last_token_refresh_time: seen.last_token_refresh_time,
            token_expiration_time: seen.token_expiration_time,
            error: seen.error,
            ..written.clone()
        };
    }
    Echo::newer(&mut memory.status, &version, seen)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

    use k8s_openapi::jiff::ToSpan as _;
    use runtime::{Clock as _, clock::ManualClock};

    use kube::runtime::watcher::Event;

    use super::*;
    use crate::{
        binding::Bindings,
        finalizer::{Claim, Handover, PEERS, claim},
        samples::{binding, now, workload_identity_spec},
    };

    #[test]
    fn snapshot_peer_that_comes_back_after_the_clock_was_set_back_is_asked_again_in_minutes_and_not_at_once()
    {
        let mut binding = binding("web", workload_identity_spec());
        binding.metadata.finalizers = Some(vec![PEERS.to_owned()]);
        let clock = ManualClock::at(now().into());
        let (bindings, mut watched) = Bindings::empty();
        watched
            .v1beta2
            .apply_watcher_event(&Event::Apply(binding.clone()));
        let memory = Memory::new(bindings);
        let mut known = memory.of(&binding.key(), "uid-of-web", now());
        known.steady.failed(clock.moment());
        known.handover = Some(Handover::Removed {
            over: "before".to_owned(),
            settled_at: now(),
            returns: 0,
        });
        memory.keep(binding.key(), known);

        clock.set((now() - 1.hour()).into());
        let seen = remembered(&memory, &binding, clock.moment(), 0.0);
        let until = Some(now() + 5.minutes());
        let decided_at = seen.steady.now(clock.moment());
        let claim = claim(seen.handover.as_ref(), &binding, decided_at);
        assert_eq!(claim, Claim::Contested { until });
    }

    #[test]
    fn snapshot_fight_over_a_secret_lasts_as_long_whatever_becomes_of_the_time_of_day() {
        let clock = ManualClock::at(now().into());
        let mut memory = BindingMemory::new("uid-of-web", now());
        memory.steady.failed(clock.moment());
        for _write in 0..5 {
            memory.secret_contest.wrote(clock.monotonic(), 0.0);
        }
        for set_to in [now() - 1.hour(), now() + 1.hour()] {
            clock.set(set_to.into());
            let fight = secret_fight(&memory, clock.moment()).unwrap();
            let decided_at = memory.steady.now(clock.moment());
            assert_eq!(fight.next_at, decided_at + 1.minute(), "{set_to}");
        }
    }

    #[test]
    fn status_that_an_older_crd_prunes_counts_as_written() {
        let mut binding = binding("web", workload_identity_spec());
        let mut memory = BindingMemory::new("uid-of-web", now());
        let ready = Condition {
            last_transition_time: Time(now()),
            message: String::new(),
            observed_generation: Some(3),
            reason: "CredentialCurrent".to_owned(),
            status: "True".to_owned(),
            type_: "Ready".to_owned(),
        };
        let written = AcrPullBindingStatus {
            token_expiration_time: Some(Time(now())),
            conditions: vec![ready],
            ..AcrPullBindingStatus::default()
        };
        let kept = AcrPullBindingStatus {
            conditions: Vec::new(),
            ..written.clone()
        };
        binding.status = Some(kept.clone());
        assert_eq!(status(&binding, &mut memory), kept);
        memory.status_not_kept = Some(written.clone());
        assert_eq!(status(&binding, &mut memory), written);

        // What the peer, or a person, writes into its fields is seen.
        binding.status = Some(AcrPullBindingStatus {
            error: Some("of the peer".to_owned()),
            ..kept
        });
        let seen = status(&binding, &mut memory);
        assert_eq!(seen.error.as_deref(), Some("of the peer"));
        assert_eq!(seen.conditions, written.conditions);

        // A CRD that knows them all is installed meanwhile.
        let whole = AcrPullBindingStatus {
            conditions: vec![Condition {
                status: "False".to_owned(),
                ..written.conditions[0].clone()
            }],
            ..written
        };
        binding.status = Some(whole.clone());
        assert_eq!(status(&binding, &mut memory), whole);
    }
}

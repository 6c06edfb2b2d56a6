//! Guarantee A3: what a caller is answered follows from its own grants, and from nothing else. Random policies and requests,
//! through the real configuration, router, authentication, caches and token engine, against a [`model`] of the policy. Syncers ask, and workloads
//! for themselves.

mod cases;
mod model;
mod simulated;
mod terms;
mod world;
mod written;

use std::{cell::Cell, collections::BTreeSet, time::Duration};

use axum::Router;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use tokio::runtime::Builder;

use cases::{Case, HAD, case};
use simulated::{REGISTRIES, TENANT, directory, object};
use terms::{Ask, Asked, Grant, Rules, Who};
use world::{Outcome, World};

/// Reasons by which the policy refuses; Azure has others.
const DENIALS: [&str; 7] = [
    "CALLER_NOT_PERMITTED",
    "CLOUD_NOT_CONFIGURED",
    "POLICY_DENIED",
    "REGISTRY_NOT_ALLOWED",
    "TENANT_NOT_ALLOWED",
    "SUBJECT_TOKEN_REJECTED",
    // No tenant is named and the cluster has no default.
    "INVALID_REQUEST",
];
/// Between two brokers, so that the metadata service's limit on calls sees them apart.
const PAUSE: Duration = Duration::from_secs(5);

/// Runs `test` on random cases, in virtual time.
fn check(test: &impl AsyncFn(&World, &Case) -> Result<(), TestCaseError>) {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    let world = runtime.block_on(async { World::new() });
    let config = Config {
        failure_persistence: None,
        ..Config::with_cases(256)
    };
    TestRunner::new(config)
        .run(&case(), |case| runtime.block_on(test(&world, &case)))
        .unwrap();
}

/// A broker with these rules.
async fn started(world: &World, rules: &Rules) -> Router {
    tokio::time::sleep(PAUSE).await;
    world.broker(rules).await
}

/// What each request of the case comes to, in order.
async fn play(world: &World, rules: &Rules, case: &Case) -> Vec<Outcome> {
    let broker = started(world, rules).await;
    let mut outcomes = Vec::new();
    for turn in &case.order {
        outcomes.push(world.ask(&broker, &case.asks[*turn]).await);
    }
    outcomes
}

/// The tenant that Azure is asked for, by the request's own word or its cluster's.
fn tenant_of<'a>(rules: &'a Rules, ask: &'a Ask) -> Option<&'a str> {
    match &ask.identity {
        Asked::Owned { .. } => Some(TENANT),
        Asked::Federated { tenant, .. } => {
            let default = &rules.clusters[ask.cluster].default_tenant;
            tenant.as_deref().or(default.as_deref()).map(directory)
        }
    }
}

/// Whether Azure would say yes: to all but a tenant that is not the registry's, and so to nobody in another cloud. What a
/// repository is called is all the same to it.
fn azure_issues(rules: &Rules, ask: &Ask) -> bool {
    let tenant = tenant_of(rules, ask);
    REGISTRIES
        .iter()
        .any(|(host, own)| *host == ask.registry && tenant == Some(own))
}

/// Whether everybody has in Azure what is asked for. Of actions and kinds of which nobody has anything, the registry grants
/// less, or nothing.
fn is_had(ask: &Ask) -> bool {
    ask.other_scope.is_none() && ask.actions.iter().all(|action| HAD.contains(&action.as_str()))
}

/// Whether `outcome` is the token that was asked for, of whom it was asked for, and no other. Where Azure has not all of it,
/// no more than was asked for.
fn is_for(outcome: &Outcome, rules: &Rules, ask: &Ask) -> bool {
    let Outcome::Token {
        registry,
        client,
        object: holder,
        access,
    } = outcome
    else {
        return false;
    };
    let (Asked::Owned { client: wanted, .. } | Asked::Federated { client: wanted, .. }) = &ask.identity;
    let granted: BTreeSet<(&str, &str)> = access
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|entry| {
            let actions = entry["actions"].as_array().into_iter().flatten();
            actions.map(|action| (entry["name"].as_str().unwrap(), action.as_str().unwrap()))
        })
        .collect();
    let expected: BTreeSet<(&str, &str)> = ask
        .repositories
        .iter()
        .flat_map(|name| ask.actions.iter().map(|action| (name.as_str(), action.as_str())))
        .chain(ask.other_scope.map(resource_and_action))
        .collect();
    let is_granted = if is_had(ask) {
        granted == expected
    } else {
        granted.is_subset(&expected)
    };
    let is_holder = tenant_of(rules, ask).is_some_and(|tenant| *holder == object(wanted, tenant));
    *registry == ask.registry && *client == *wanted && is_holder && is_granted
}

/// Of a scope with one action.
fn resource_and_action(scope: &str) -> (&str, &str) {
    let (resource, action) = scope.rsplit_once(':').unwrap();
    (resource.rsplit_once(':').unwrap().1, action)
}

#[test]
fn a3_answer_is_given_if_and_only_if_the_model_says_so() {
    let (tokens, denials) = (Cell::new(0), Cell::new(0));
    check(&async |world: &World, case: &Case| {
        let broker = started(world, &case.rules).await;
        for turn in &case.order {
            let ask = &case.asks[*turn];
            let outcome = world.ask(&broker, ask).await;
            let explained = world.explain(&broker, ask).await;
            let refused = match &outcome {
                Outcome::Token { .. } => None,
                Outcome::Refused(reason) => Some(reason.as_str()),
            };
            let is_denied = refused.is_some_and(|reason| DENIALS.contains(&reason));
            let (is_right, verdicts): (bool, &[&str]) =
                match (case.rules.allow(ask), azure_issues(&case.rules, ask)) {
                    (false, _) => (is_denied, &["VERDICT_DENIED"]),
                    (true, true) if !is_had(ask) => (
                        is_for(&outcome, &case.rules, ask) || (refused.is_some() && !is_denied),
                        &["VERDICT_FAILING", "VERDICT_PASSED"],
                    ),
                    (true, true) => (is_for(&outcome, &case.rules, ask), &["VERDICT_PASSED"]),
                    // What Azure said is remembered, and not for ever.
                    (true, false) => (
                        refused.is_some() && !is_denied,
                        &["VERDICT_FAILING", "VERDICT_PASSED"],
                    ),
                };
            let is_explained = verdicts.contains(&explained.verdict.as_str())
                && (explained.reason.is_empty() || refused == Some(&explained.reason))
                && (!is_denied || !explained.reason.is_empty());
            if !is_right || !is_explained {
                return Err(TestCaseError::fail(format!(
                    "{outcome:?}, explained as {explained:?}, for {ask:?}"
                )));
            }
            count_token(&tokens, &outcome);
            denials.set(denials.get() + u32::from(is_denied));
        }
        Ok(())
    });
    let (tokens, denials) = (tokens.get(), denials.get());
    assert!(
        tokens > 200 && denials > 500,
        "{tokens} tokens and {denials} denials show nothing"
    );
}

#[test]
fn a3_grants_of_others_change_nothing() {
    let tokens = Cell::new(0);
    check(&async |world: &World, case: &Case| {
        // X is whoever asks first; the others are all whose cluster or namespace is another.
        let of_x = |ask: &Ask| {
            let x = &case.asks[case.order[0]];
            (ask.cluster, &ask.namespace) == (x.cluster, &x.namespace)
        };
        let x = &case.asks[case.order[0]];
        let is_of_others = |grant: &&Grant| !grant.is_about(x.cluster, &x.namespace);
        let mut changed = case.rules.clone();
        let added = case.others.iter().filter(is_of_others).cloned();
        let kept = case
            .rules
            .grants
            .iter()
            .filter(|grant| !is_of_others(grant))
            .cloned();
        changed.grants = added.chain(kept).collect();
        for (number, cluster) in changed.clusters.iter_mut().enumerate() {
            if number != x.cluster {
                cluster.broker_owned = "enforce";
                cluster.federated = "enforce";
                cluster.registries.clear();
            }
        }
        let before = play(world, &case.rules, case).await;
        let after = play(world, &changed, case).await;
        for ((before, after), turn) in before.iter().zip(&after).zip(&case.order) {
            let ask = &case.asks[*turn];
            if of_x(ask) && before != after {
                return Err(TestCaseError::fail(format!(
                    "{before:?}, then {after:?}, for {ask:?}"
                )));
            }
            count_token(&tokens, after);
        }
        Ok(())
    });
    assert!(tokens.get() > 80, "{} tokens show nothing", tokens.get());
}

fn count_token(tokens: &Cell<u32>, outcome: &Outcome) {
    tokens.set(tokens.get() + u32::from(matches!(outcome, Outcome::Token { .. })));
}

#[test]
fn a3_syncers_and_workloads_change_nothing_for_each_other() {
    let [of_syncers, of_workloads] = [Cell::new(0), Cell::new(0)];
    check(&async |world: &World, case: &Case| {
        let asker = |turn: &usize| &case.asks[*turn].caller;
        // A workload, where one asks: in most cases. Else whoever asks first.
        let workload = case.order.iter().map(asker).find(|asker| **asker != Who::Syncer);
        let x = workload
            .filter(|_workload| !case.others.is_empty())
            .unwrap_or_else(|| asker(&case.order[0]));
        let is_of_x = |turn: &usize| asker(turn) == x;
        let mut alone = case.clone();
        alone.order.retain(is_of_x);
        if alone.order.len() == case.order.len() {
            return Ok(());
        }
        let beside_others = play(world, &case.rules, case).await;
        let of_x = beside_others
            .iter()
            .zip(&case.order)
            .filter(|(_outcome, turn)| is_of_x(turn));
        let alone_outcomes = play(world, &alone.rules, &alone).await;
        for ((before, turn), after) in of_x.zip(&alone_outcomes) {
            if decided(before) != decided(after) {
                let ask = &case.asks[*turn];
                return Err(TestCaseError::fail(format!(
                    "{before:?}, and {after:?} alone, for {ask:?}"
                )));
            }
            let of_kind = match x {
                Who::Syncer => &of_syncers,
                Who::Workload(..) => &of_workloads,
            };
            count_token(of_kind, after);
        }
        Ok(())
    });
    let (of_syncers, of_workloads) = (of_syncers.get(), of_workloads.get());
    assert!(
        of_syncers > 0 && of_workloads > 0,
        "{of_syncers} tokens of syncers and {of_workloads} of workloads show nothing"
    );
}

/// What the broker decided. In which words Azure refuses may depend on what it has refused before.
fn decided(outcome: &Outcome) -> Outcome {
    match outcome {
        Outcome::Refused(reason) if !DENIALS.contains(&reason.as_str()) => {
            Outcome::Refused("by Azure".to_owned())
        }
        Outcome::Token { .. } | Outcome::Refused(_) => outcome.clone(),
    }
}

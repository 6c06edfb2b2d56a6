//! Keys that cannot work: what they cost Azure, however often somebody asks, and how soon they heal.

use std::{collections::BTreeMap, time::Duration};

use azure_simulator::{Condition, Operation, Role, RoleMode, Service};
use broker::request::Wish;
use proto::{Reason, catalogue::RetryClass};

use super::{
    rig::Rig,
    scene::{Ask, azure_with, azure_with_owned, client, object},
};

const REGISTRY: &str = "one.azurecr.io";
const KEYS: usize = 1_000;

/// Asks for every key, for an hour: when it was told to come back, and one in twenty all the time.
async fn pester_for_an_hour(rig: &Rig, asks: &[Ask], expected: Reason) {
    let mut next_at = vec![rig.now(); asks.len()];
    while rig.clock.elapsed() < Duration::from_secs(3600) {
        for (n, ask) in asks.iter().enumerate() {
            if n % 20 != 0 && rig.now() < next_at[n] {
                continue;
            }
            let error = rig.ask(ask, &Wish::default()).await.err().unwrap();
            assert_eq!(error.reason, expected, "{error}");
            next_at[n] = rig.now() + error.retry_after.unwrap();
        }
        rig.pass(5).await;
    }
}

/// Calls of any kind that each key has cost: the fewest, and the most.
fn calls_per_key(rig: &Rig, keys: usize) -> (usize, usize) {
    let mut counts = BTreeMap::<Option<String>, usize>::new();
    for call in rig.calls().entries() {
        *counts.entry(call.client_id.clone()).or_default() += 1;
    }
    assert_eq!(counts.len(), keys, "every key was tried");
    let fewest = counts.values().min().copied().unwrap();
    (fewest, counts.into_values().max().unwrap())
}

fn federated(keys: usize) -> Vec<Ask> {
    (0..keys).map(|n| Ask::federated(n, REGISTRY)).collect()
}

#[tokio::test(start_paused = true)]
async fn u5_a_thousand_keys_without_a_role_cost_25_calls_each_in_the_first_hour() {
    let mut state = azure_with(KEYS, &[REGISTRY]);
    state.registry_mut(REGISTRY).unwrap().roles.clear();
    let rig = Rig::new(state);
    assert_eq!(Reason::RegistryUnauthorized.retry_class(), RetryClass::Waiting);
    pester_for_an_hour(&rig, &federated(KEYS), Reason::RegistryUnauthorized).await;
    let (fewest, most) = calls_per_key(&rig, KEYS);
    assert!(fewest >= 15 && most <= 25, "{fewest} to {most}");
}

#[tokio::test(start_paused = true)]
async fn u5_a_thousand_keys_of_unknown_tenants_cost_8_calls_each_in_the_first_hour() {
    let rig = Rig::new(azure_with(KEYS, &[REGISTRY]));
    let asks: Vec<_> = (0..KEYS)
        .map(|n| Ask {
            tenant: format!("55555555-5555-5555-5555-{n:012}"),
            ..Ask::federated(n, REGISTRY)
        })
        .collect();
    assert_eq!(Reason::TenantNotFound.retry_class(), RetryClass::Permanent);
    pester_for_an_hour(&rig, &asks, Reason::TenantNotFound).await;
    let (fewest, most) = calls_per_key(&rig, KEYS);
    assert!(fewest >= 6 && most <= 8, "{fewest} to {most}");
}

#[tokio::test(start_paused = true)]
async fn u5_other_keys_that_wait_for_somebody_cost_25_calls_each_too() {
    const FEW: usize = 20;
    // No federated credential at all; a role for other repositories; an identity that is not on this machine.
    let mut untrusted = azure_with(FEW, &[REGISTRY]);
    for principal in &mut untrusted.principals {
        principal.fics.clear();
    }
    let mut elsewhere = azure_with(FEW, &[REGISTRY]);
    let registry = elsewhere.registry_mut(REGISTRY).unwrap();
    registry.switch_mode(RoleMode::RbacAbac);
    for role in &mut registry.roles {
        role.role = Role::RepoReader;
        role.condition = Some(Condition::Equals("other/app".to_owned()));
    }
    let mut unassigned = azure_with_owned(FEW, &[REGISTRY]);
    unassigned.vm.user_assigned.clear();
    let owned = (0..FEW).map(|n| Ask::broker_owned(n, REGISTRY)).collect();
    for (state, asks, reason) in [
        (untrusted, federated(FEW), Reason::FederationRejected),
        (elsewhere, federated(FEW), Reason::ScopeRejected),
        (unassigned, owned, Reason::IdentityNotFound),
    ] {
        assert_eq!(reason.retry_class(), RetryClass::Waiting);
        let rig = Rig::new(state);
        pester_for_an_hour(&rig, &asks, reason).await;
        let (fewest, most) = calls_per_key(&rig, FEW);
        assert!(fewest >= 15 && most <= 25, "{reason:?}: {fewest} to {most}");
    }
}

#[tokio::test(start_paused = true)]
async fn u5_a_key_that_entra_rejects_costs_four_calls_in_its_first_minute() {
    let mut state = azure_with(1, &[REGISTRY]);
    state.principal_mut(&client(0)).unwrap().fics.clear();
    let rig = Rig::new(state);
    for _ in 0..600 {
        let error = rig.ask(&Ask::federated(0, REGISTRY), &Wish::default()).await;
        assert_eq!(error.err().unwrap().reason, Reason::FederationRejected);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let calls = rig.count(Service::Entra, Operation::Token);
    assert!((3..=4).contains(&calls), "{calls}");
}

#[tokio::test(start_paused = true)]
async fn u5_a_late_role_heals_within_a_minute_early_and_within_a_quarter_of_an_hour_later() {
    for (granted_at_s, within_s) in [(70, 60), (600, 60), (880, 60), (3000, 900)] {
        let mut state = azure_with(1, &[REGISTRY]);
        state.registry_mut(REGISTRY).unwrap().roles.clear();
        let rig = Rig::new(state);
        let ask = Ask::federated(0, REGISTRY);
        let healed_at = loop {
            if rig.clock.elapsed().as_secs() == granted_at_s {
                rig.azure
                    .update(|state| {
                        let registry = state.registry_mut(REGISTRY).unwrap();
                        registry.grant(&object(0), Role::AcrPull, None);
                    })
                    .unwrap();
            }
            if rig.ask(&ask, &Wish::default()).await.is_ok() {
                break rig.clock.elapsed().as_secs();
            }
            rig.pass(1).await;
        };
        let took = healed_at - granted_at_s;
        assert!(
            took <= within_s,
            "granted at {granted_at_s} s, healed {took} s later"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn u5_a_changed_input_and_a_forced_request_pass_a_remembered_failure() {
    let mut state = azure_with(2, &[REGISTRY]);
    state.registry_mut(REGISTRY).unwrap().roles.clear();
    let rig = Rig::new(state);
    let broken = Ask::federated(0, REGISTRY);
    assert!(rig.ask(&broken, &Wish::default()).await.is_err());
    let before = rig.count(Service::Acr, Operation::Exchange);
    rig.azure
        .update(|state| {
            let registry = state.registry_mut(REGISTRY).unwrap();
            registry.grant(&object(0), Role::AcrPull, None);
        })
        .unwrap();
    assert!(rig.ask(&broken, &Wish::default()).await.is_err(), "remembered");
    assert_eq!(rig.count(Service::Acr, Operation::Exchange), before);
    let forced = Wish {
        force: true,
        ..Wish::default()
    };
    assert!(rig.ask(&broken, &forced).await.is_ok());
    // Another identity is another key, whatever is remembered for this one.
    assert!(
        rig.ask(&Ask::federated(1, REGISTRY), &Wish::default())
            .await
            .is_err()
    );
    assert_eq!(rig.count(Service::Acr, Operation::Exchange), before + 2);
}

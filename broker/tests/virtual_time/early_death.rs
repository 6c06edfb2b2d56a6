//! Tokens that die before their time, clocks that are set, and a metadata service that is being updated.

use std::{collections::BTreeMap, time::Duration};

use azure_simulator::{Action, Fault, Operation, Role, RoleAssignment, RoleMode, Service};
use broker::request::{Held, Wish};
use proto::Reason;

use super::{
    rig::{Rig, claims},
    scene::{Ask, azure_with, azure_with_owned, object},
};

const REGISTRY: &str = "one.azurecr.io";

#[tokio::test(start_paused = true)]
async fn c5_a_mode_switch_of_the_registry_is_healed_by_the_first_report() {
    let rig = Rig::new(azure_with(1, &[REGISTRY]));
    let ask = Ask::federated(0, REGISTRY);
    let dead = rig.ask(&ask, &Wish::default()).await.ok().unwrap();
    rig.pass(120).await;
    rig.azure
        .update(|state| {
            let registry = state.registry_mut(REGISTRY).unwrap();
            registry.switch_mode(RoleMode::RbacAbac);
            registry.roles.push(RoleAssignment {
                object_id: object(0),
                role: Role::RepoReader,
                condition: None,
                effective_at: None,
                revoked_at: None,
            });
        })
        .unwrap();
    let report = Wish {
        held: Some(Held {
            fingerprint: dead.fingerprint,
            expires_at: dead.expires_at,
        }),
        rejected: Some(dead.fingerprint),
        ..Wish::default()
    };
    // Every refresh and access token issued before the switch is dead, at an age at which nothing else suspects it.
    let healed = rig.ask(&ask, &report).await.ok().unwrap();
    assert!(healed.payload.is_some() && healed.fingerprint != dead.fingerprint);
    assert_eq!(rig.count(Service::Acr, Operation::Exchange), 2);
    assert_eq!(
        rig.count(Service::Entra, Operation::Token),
        1,
        "Entra is not to blame"
    );
}

#[tokio::test(start_paused = true)]
async fn c5_a_thousand_reports_in_a_minute_cost_one_renewal() {
    let rig = Rig::new(azure_with(1, &[REGISTRY]));
    let ask = Ask::federated(0, REGISTRY);
    let first = rig.ask(&ask, &Wish::default()).await.ok().unwrap();
    rig.pass(120).await;
    let report = Wish {
        rejected: Some(first.fingerprint),
        ..Wish::default()
    };
    for _ in 0..1_000 {
        rig.ask(&ask, &report).await.ok().unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(rig.count(Service::Acr, Operation::Token), 2);
    // An older fingerprint than the current one says nothing about the current one.
    rig.pass(3600).await;
    let before = rig.count(Service::Acr, Operation::Token);
    rig.ask(&ask, &Wish::default()).await.ok().unwrap();
    let renewed = rig.count(Service::Acr, Operation::Token);
    assert!(renewed <= before + 1);
    rig.pass(120).await;
    rig.ask(&ask, &report).await.ok().unwrap();
    assert_eq!(rig.count(Service::Acr, Operation::Token), renewed);
}

#[tokio::test(start_paused = true)]
async fn s7_setting_the_clock_hands_out_nothing_dead_and_starts_no_burst() {
    const TEAMS: usize = 50;
    // An hour behind, tokens are as good as before. An hour ahead, those of a registry look dead on arrival: they are
    // not handed out, and asked for at the pace of an outage. (A broker like that also takes its callers' tokens for expired.)
    for (set_by_s, most_calls_per_key) in [(-3600, 30), (3600, 300)] {
        let rig = Rig::new(azure_with(TEAMS, &[REGISTRY]));
        let asks: Vec<_> = (0..TEAMS).map(|n| Ask::federated(n, REGISTRY)).collect();
        for ask in &asks {
            rig.ask(ask, &Wish::default()).await.ok().unwrap();
        }
        let before = rig.calls().count();
        rig.clock.set_by(set_by_s);
        let mut served_after = 0;
        // Two hours with the wrong time: what is handed out is good by Azure's clock all the while.
        for _ in 0..720 {
            for ask in &asks {
                if let Ok(served) = rig.ask(ask, &Wish::default()).await {
                    let token = served.payload.unwrap();
                    served_after += 1;
                    assert!(is_alive(&rig, token.token().expose()), "set by {set_by_s} s");
                }
            }
            rig.pass(10).await;
        }
        assert!(
            set_by_s > 0 || served_after == 720 * TEAMS,
            "{served_after} served"
        );
        let calls = rig.calls();
        let mut per_second = BTreeMap::<i64, usize>::new();
        for call in calls.entries().iter().skip(before) {
            *per_second.entry(call.at_sim.as_second()).or_default() += 1;
        }
        let most = per_second.values().max().copied().unwrap_or_default();
        assert!(most <= 3 * TEAMS, "{most} calls in one second");
        let all = calls.count() - before;
        assert!(
            all <= most_calls_per_key * TEAMS,
            "{all} calls in two hours, set by {set_by_s} s"
        );
    }
}

/// Whether a token has not expired by the clock that the registry goes by.
fn is_alive(rig: &Rig, token: &str) -> bool {
    let true_now = 2_000_000_000 + rig.clock.elapsed().as_secs();
    claims(token)["exp"].as_u64().unwrap() > true_now
}

#[tokio::test(start_paused = true)]
async fn u3_a_metadata_service_that_is_updated_for_65_seconds_is_waited_for() {
    let rig = Rig::new(azure_with_owned(1, &[REGISTRY]));
    let gone = Action::Status {
        code: 410,
        body: String::new(),
        content_type: None,
        headers: BTreeMap::new(),
    };
    rig.add_fault(Fault::new(gone).on_service(Service::Imds).named("update"));
    let ask = Ask::broker_owned(0, REGISTRY);
    let healed_at = loop {
        if rig.clock.elapsed() >= Duration::from_secs(65) {
            rig.azure.clear_faults();
        }
        match rig.ask(&ask, &Wish::default()).await {
            Ok(_credential) => break rig.clock.elapsed().as_secs(),
            Err(error) => assert_eq!(error.reason, Reason::IdentityEndpointUnreachable),
        }
        rig.pass(1).await;
    };
    assert!(healed_at <= 85, "healed after {healed_at} s");
    let calls = rig.count(Service::Imds, Operation::Token);
    assert!(calls <= 20, "{calls} calls");
}

//! Azure dark for long: whoever can still be served is served, the others learn why and when to come back.

use std::time::Duration;

use azure_simulator::{Action, Fault, HangAt, Service};
use broker::{error::CredentialError, request::Wish};
use proto::Reason;

use super::{
    holder::Holder,
    rig::Rig,
    scene::{Ask, azure_with},
};

const REGISTRIES: [&str; 3] = ["one.azurecr.io", "two.azurecr.io", "three.azurecr.io"];
const TEAMS: usize = 30;

/// Teams that asked first at different times, so that their tokens are of every age.
async fn teams_of_every_age(rig: &Rig) -> Vec<Holder> {
    let mut holders: Vec<_> = (0..TEAMS)
        .map(|n| {
            Holder::new(
                Ask::federated(n, REGISTRIES[n % 2]),
                rig.now() + Duration::from_secs(120 * n as u64),
            )
        })
        .collect();
    for _ in 0..(4 * 360) {
        tick_all(rig, &mut holders, |holder, outcome| {
            assert!(outcome.is_ok(), "{:?}: {outcome:?}", holder.ask);
        })
        .await;
        rig.pass(10).await;
    }
    holders
}

async fn tick_all(
    rig: &Rig,
    holders: &mut [Holder],
    mut check: impl FnMut(&Holder, &Result<(), CredentialError>),
) {
    for holder in holders {
        if let Some(outcome) = holder.tick(rig, 0).await {
            check(holder, &outcome);
        }
    }
}

/// A refusal is right only if nothing in the chain of this key could have yielded a token, and it says when to come back.
fn assert_nothing_was_left(rig: &Rig, ask: &Ask, error: &CredentialError) {
    let state = rig.replicas[0].inspect(&rig.permit(ask));
    let access = state.access.and_then(|access| access.token);
    assert!(
        state.entra.token.is_none() && state.refresh.token.is_none() && access.is_none(),
        "{ask:?} refused although its chain could yield a token: {error}"
    );
    assert_eq!(error.reason, Reason::EntraUnreachable, "{error}");
    assert!(error.retry_after.is_some_and(|wait| !wait.is_zero()));
}

#[tokio::test(start_paused = true)]
async fn s4_entra_dark_for_an_hour_everybody_whose_chain_holds_is_served() {
    let rig = Rig::new(azure_with(TEAMS, &REGISTRIES));
    let mut holders = teams_of_every_age(&rig).await;
    let dark = Action::Hang {
        at: HangAt::BeforeHeaders,
    };
    rig.add_fault(Fault::new(dark).on_service(Service::Entra).named("dark"));
    let (mut served, mut refused) = (0, 0);
    for minute in 0..60 {
        for _ in 0..6 {
            let now = rig.now();
            tick_all(&rig, &mut holders, |holder, outcome| match outcome {
                Ok(()) => assert!(holder.is_above_the_floor(now)),
                Err(error) => assert_nothing_was_left(&rig, &holder.ask, error),
            })
            .await;
            rig.pass(10).await;
        }
        // A scope that nobody asked for yet costs one call to the registry and none to Entra; a registry that nobody used
        // yet needs the Entra token, for as long as that lives.
        for (n, holder) in holders.iter().enumerate() {
            let registry = if n % 2 == 0 {
                &holder.ask.registry
            } else {
                REGISTRIES[2]
            };
            let ask = Ask {
                scope: format!("repository:team/other-{minute}:pull"),
                registry: registry.to_owned(),
                ..holder.ask.clone()
            };
            match rig.ask(&ask, &Wish::default()).await {
                Ok(_credential) => served += 1,
                Err(error) => {
                    refused += 1;
                    assert_nothing_was_left(&rig, &ask, &error);
                }
            }
        }
    }
    assert!(served > 15 * 60, "{served} served, {refused} refused");
    rig.azure.clear_faults();
    for _ in 0..60 {
        tick_all(&rig, &mut holders, |_holder, _outcome| {}).await;
        rig.pass(60).await;
    }
    assert!(
        holders.iter().all(|holder| !holder.degraded),
        "all are renewed again"
    );
}

#[tokio::test(start_paused = true)]
async fn s4_azure_dark_every_key_with_enough_left_is_served_and_then_told_why() {
    for minutes in [10, 30, 55] {
        let rig = Rig::new(azure_with(TEAMS, &REGISTRIES));
        let mut holders = teams_of_every_age(&rig).await;
        let dark_at = rig.now();
        for service in [Service::Entra, Service::Acr] {
            rig.add_fault(Fault::outage(service, None, None).named(&format!("{service:?}")));
        }
        let mut refused = 0;
        for _ in 0..minutes * 6 {
            let now = rig.now();
            tick_all(&rig, &mut holders, |holder, outcome| match outcome {
                Ok(()) => assert!(holder.is_above_the_floor(now)),
                Err(error) => {
                    refused += 1;
                    assert!(
                        !holder.is_above_the_floor(now),
                        "refused with {:?} left",
                        holder.left(now)
                    );
                    assert!(matches!(
                        error.reason,
                        Reason::EntraUnreachable | Reason::RegistryUnreachable
                    ));
                    assert!(error.retry_after.is_some_and(|wait| !wait.is_zero()));
                }
            })
            .await;
            rig.pass(10).await;
        }
        let outage = rig.now().duration_since(dark_at).unwrap();
        // Refreshed at 0.70 of their life at the latest: what lives an hour has 18 minutes left, and 17 of them count.
        assert!(minutes > 10 || refused == 0, "{refused} refused in {outage:?}");
        rig.azure.clear_faults();
        for _ in 0..30 {
            tick_all(&rig, &mut holders, |_holder, _outcome| {}).await;
            rig.pass(60).await;
        }
        assert!(
            holders
                .iter()
                .all(|holder| holder.can_pull(rig.now()) && !holder.degraded)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn s5_what_was_handed_out_outlives_a_broker_that_is_gone_for_a_third_of_its_life() {
    let rig = Rig::new(azure_with(TEAMS, &REGISTRIES));
    let holders = teams_of_every_age(&rig).await;
    // The moment all replicas die, at its worst for each binding: just before it would have asked again.
    for holder in &holders {
        let answer = rig.ask(&holder.ask, &Wish::default()).await.ok().unwrap();
        let now = rig.now();
        let life = Duration::from_secs(3600);
        let latest_ask = answer.refresh_at + life.mul_f64(0.05);
        let left = answer.expires_at.duration_since(latest_ask.max(now)).unwrap();
        assert!(left + Duration::from_secs(60) >= life.mul_f64(0.30), "{left:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn s1_every_answer_through_days_of_outages_is_good_enough_or_flagged() {
    let rig = Rig::new(azure_with(5, &REGISTRIES));
    let mut holders: Vec<_> = (0..5)
        .map(|n| Holder::new(Ask::federated(n, REGISTRIES[n % 3]), rig.now()))
        .collect();
    // Every hour something is dark for up to 50 minutes; the rig looks at every answer.
    let (mut answers, mut degraded) = (0, 0);
    for hour in 0..72_u32 {
        let service = if hour % 3 == 0 {
            Service::Acr
        } else {
            Service::Entra
        };
        rig.add_fault(Fault::outage(service, None, None).named(&format!("hour {hour}")));
        let dark_minutes = rand::random_range(0..50);
        for minute in 0..60 {
            if minute == dark_minutes {
                rig.azure.clear_faults();
            }
            tick_all(&rig, &mut holders, |holder, outcome| {
                answers += u32::from(outcome.is_ok());
                degraded += u32::from(holder.degraded);
            })
            .await;
            rig.pass(60).await;
        }
    }
    assert!(
        answers > 500 && degraded > 0,
        "{answers} answers, {degraded} of them flagged"
    );
}

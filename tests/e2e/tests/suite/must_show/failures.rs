//! A failure that goes on: how often Azure is asked and the status written meanwhile, and how soon it is over. After the
//! first quarter of an hour the pauses grow to 15 minutes: the tests of `syncer::schedule` show that.

use std::collections::BTreeMap;
use std::time::Duration;

use azure_simulator::{Action, Fault, Operation, Service};
use e2e::{binding, wait_for};
use futures::future::try_join_all;
use syncer::binding::ApiVersion;
use tokio::time::Instant;

use crate::shared::life_events::WORDY;
use crate::shared::{FAILING, LATE_ROLE, SHORT_LIFE_S, beside_others};
use crate::side::{ACCOUNT, OWN, SCOPE, Side};

/// How long a failure is looked at.
const MINUTE: Duration = Duration::from_secs(60);
/// For whoever grants a role within a quarter of an hour.
const RECOVERED: Duration = Duration::from_secs(60);
/// Attempts in the first minute after 0, 15 and 45 s, and one to spare. The peer: 1,147 calls and 1,149 writes.
const CALLS: usize = 4;
const WRITES: usize = 2;
/// The same when the registry fails, which heals by itself: pauses from one second up, doubled and drawn at random. The
/// peer asks up to four times each second.
const TRANSIENT_CALLS: usize = 30;
/// That renewing fails, that the token has expired, and one to spare.
const TRANSIENT_WRITES: usize = 3;

#[test]
fn b1a_late_role_is_noticed_within_a_minute_and_nobody_touches_the_binding() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let team = stack.team(LATE_ROLE.prefix).await?;
        team.create_account(ACCOUNT, &[OWN], &[]).await?;
        let sides = ApiVersion::ALL.map(|api| Side::new(&team, api));
        // Nobody has a role: 401 each time.
        let watched = try_join_all(sides.iter().map(async |side| {
            let created = side
                .create("one", &side.spec_for(&LATE_ROLE, ACCOUNT, SCOPE))
                .await?;
            let version = created.metadata.resource_version.clone();
            let written = side.written_within("one", version, MINUTE).await?;
            anyhow::Ok((created, written))
        }))
        .await?;
        let calls = stack.azure().calls().await?;
        let refused = calls
            .of(Service::Acr, Operation::Exchange)
            .host(LATE_ROLE.registry);
        println!("a missing role: {} calls in a minute", refused.count());
        assert!((2..=CALLS).contains(&refused.count()), "{}", refused.count());
        for (side, (_created, written)) in sides.iter().zip(&watched) {
            let api = side.api.as_str();
            println!("{api}: {} status writes in that minute", written.len());
            assert!((1..=WRITES).contains(&written.len()), "{api}: {written:#?}");
            side.refused("one", "Ready", "RegistryUnauthorized").await?;
        }

        let object_id = LATE_ROLE.identity().object_id;
        stack.azure().grant_pull(LATE_ROLE.registry, &object_id).await?;
        let granted = Instant::now();
        wait_for("both have recovered", RECOVERED, async || {
            let found = try_join_all(sides.iter().map(|side| side.get("one"))).await?;
            Ok(found.iter().all(|(_binding, status)| status.error.is_none()))
        })
        .await?;
        println!("the role was noticed after {:?}", granted.elapsed());
        for (side, (created, _written)) in sides.iter().zip(&watched) {
            side.ready("one").await?;
            let (binding, _status) = side.get("one").await?;
            assert_eq!(binding.metadata.generation, created.metadata.generation);
            assert!(binding.metadata.annotations.is_none(), "somebody has touched it");
            assert!(side.secret("one").await?.login(LATE_ROLE.registry).is_ok());
        }
        Ok(())
    })
}

#[test]
fn b1b_error_with_ever_changing_trace_ids_costs_few_calls_and_two_writes_a_minute() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let team = stack.team("trace-ids").await?;
        // The application trusts another ServiceAccount. Each answer has a trace id and a time of its own.
        let application = team.federated_account("another").await?;
        let client_id = ("azure.workload.identity/client-id", &*application.client_id);
        team.create_account(ACCOUNT, &[], &[client_id]).await?;
        let side = Side::new(&team, ApiVersion::V1Beta2);
        let binding = binding::workload_identity("one", ACCOUNT, team.registry(), SCOPE);
        let created = team.create(&binding).await?;
        let version = created.metadata.resource_version;
        let written = side.written_within("one", version, MINUTE).await?;

        let calls = stack.azure().calls().await?;
        let calls = calls
            .of(Service::Entra, Operation::Token)
            .client_id(&application.client_id);
        println!(
            "AADSTS with changing ids: {} calls, {} status writes in a minute",
            calls.count(),
            written.len()
        );
        assert!((2..=CALLS).contains(&calls.count()), "{}", calls.count());
        assert!((1..=WRITES).contains(&written.len()), "{written:#?}");
        side.refused("one", "CredentialIssued", "FederationRejected")
            .await?;
        Ok(())
    })
}

/// For an identity of the broker's, which is all that `v1beta1` has, it is the registry whose words change.
#[test]
fn b1b_refusal_of_the_registry_in_ever_changing_words_costs_few_calls_and_two_writes_a_minute()
-> anyhow::Result<()> {
    beside_others(async |stack| {
        for number in 0..100 {
            let words = format!(
                r#"{{"errors":[{{"code":"UNAUTHORIZED","message":"CorrelationId: {number:032x}","detail":null}}]}}"#
            );
            let refusal = Action::Status {
                code: 401,
                body: words,
                content_type: Some("application/json".to_owned()),
                headers: BTreeMap::new(),
            };
            let refusal = Fault::new(refusal).on(Service::Acr, Operation::Exchange);
            let once = Fault {
                times: Some(1),
                ..refusal.host(WORDY.registry)
            };
            stack.azure().add_fault(once).await?;
        }
        let team = stack.team(WORDY.prefix).await?;
        team.create_account(ACCOUNT, &[OWN], &[]).await?;
        let sides = ApiVersion::ALL.map(|api| Side::new(&team, api));
        let watched = try_join_all(sides.iter().map(async |side| {
            let created = side.create("one", &side.spec_for(&WORDY, ACCOUNT, SCOPE)).await?;
            let version = created.metadata.resource_version;
            side.written_within("one", version, MINUTE).await
        }))
        .await?;
        let calls = stack.azure().calls().await?.host(WORDY.registry);
        println!(
            "words that change: {} calls in a minute",
            calls.clone().status(401).count()
        );
        let count = calls.status(401).count();
        assert!((2..=2 * CALLS).contains(&count), "{count}");
        for (side, written) in sides.iter().zip(&watched) {
            let api = side.api.as_str();
            println!("{api}: {} status writes in that minute", written.len());
            assert!((1..=WRITES).contains(&written.len()), "{api}: {written:#?}");
            side.refused("one", "Ready", "RegistryUnauthorized").await?;
        }
        Ok(())
    })
}

#[test]
fn b1c_refresh_that_fails_does_not_hammer_the_registry() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let team = stack.team(FAILING.prefix).await?;
        team.create_account(ACCOUNT, &[OWN], &[]).await?;
        let sides = ApiVersion::ALL.map(|api| Side::new(&team, api));
        for side in &sides {
            // A token for each.
            let scope = format!("repository:team/{}:pull", side.api.version());
            side.create("one", &side.spec_for(&FAILING, ACCOUNT, &scope))
                .await?;
            side.ready("one").await?;
        }
        let failing = Fault::new(Action::status(503))
            .on(Service::Acr, Operation::Token)
            .host(FAILING.registry);
        stack.azure().add_fault(failing).await?;
        let failed = async || {
            let calls = stack.azure().calls().await?.host(FAILING.registry);
            anyhow::Ok(calls.status(503).count())
        };
        let due = Duration::from_secs(SHORT_LIFE_S);
        wait_for("a refresh fails", due, async || Ok(failed().await? > 0)).await?;

        let watched = try_join_all(sides.iter().map(async |side| {
            let (binding, _status) = side.get("one").await?;
            let version = binding.metadata.resource_version;
            side.written_within("one", version, MINUTE).await
        }));
        let watched = watched.await?;
        let calls = failed().await?;
        println!("two bindings that cannot be renewed: {calls} calls in a minute");
        assert!((4..=TRANSIENT_CALLS).contains(&calls), "{calls}");
        for (side, written) in sides.iter().zip(watched) {
            let api = side.api.as_str();
            println!("{api}: {} status writes in that minute", written.len());
            assert!(
                (1..=TRANSIENT_WRITES).contains(&written.len()),
                "{api}: {written:#?}"
            );
        }
        Ok(())
    })
}

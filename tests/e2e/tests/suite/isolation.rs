//! What goes wrong for one binding is not felt by another, and the link waits for nobody.

use std::time::Duration;

use azure_simulator::{Action, Fault, HangAt, Operation, Service};
use e2e::{Stack, wait_for};
use futures::future::try_join_all;
use rustix::process::Signal;
use syncer::binding::ApiVersion;
use tokio::time::Instant;

use crate::shared::life_events::SILENT;
use crate::shared::{EITHER_API, Granted, alone};
use crate::side::{ACCOUNT, OWN, SCOPE, Side, in_both_apis_alone};

const GOOD: usize = 50;
const HANGING: usize = 200;
/// The promise: all good ones within this time.
const ALL_READY: Duration = Duration::from_secs(10);
/// The promise: a link within this time.
const LINKED: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn b3_bindings_beside_a_registry_that_never_answers_are_ready_within_ten_seconds() -> anyhow::Result<()> {
    alone(async |stack| {
        let teams = [
            stack.team(SILENT.prefix).await?,
            stack.team(EITHER_API.prefix).await?,
        ];
        for team in &teams {
            team.create_account(ACCOUNT, &[], &[]).await?;
        }
        // Half of them are of the one API, half of the other.
        let [bad, good] = teams
            .each_ref()
            .map(|team| ApiVersion::ALL.map(|api| Side::new(team, api)));
        // The connection is accepted, and then nothing.
        let silence = Fault::new(Action::Hang { at: HangAt::Tls })
            .on_service(Service::Acr)
            .host(SILENT.registry);
        stack.azure().add_fault(silence).await?;
        create_many(&bad, &SILENT, HANGING).await?;
        wait_for("the silent registry is being asked", PATIENCE, async || {
            let calls = stack.azure().calls().await?.of(Service::Acr, Operation::Connect);
            Ok(!calls.host(SILENT.registry).is_empty())
        })
        .await?;

        let started = Instant::now();
        create_many(&good, &EITHER_API, GOOD).await?;
        for side in &good {
            for number in 0..GOOD / good.len() {
                side.ready(&format!("b{number}")).await?;
            }
            let api = side.api.as_str();
            println!("those of {api} were Ready after {:?}", started.elapsed());
        }
        let took = started.elapsed();
        println!("{GOOD} bindings were Ready after {took:?}, beside {HANGING} on a silent registry");
        assert!(took <= ALL_READY, "{GOOD} bindings took {took:?}");
        let [bad_team, _good_team] = &teams;
        let linked = bad_team.links(ACCOUNT).await?.len();
        assert_eq!(linked, HANGING, "links do not wait for the registry");
        for side in &bad {
            assert!(side.secret("b0").await.is_err());
            says_who_is_silent(side).await?;
        }
        for side in &good {
            side.create("late", &side.spec(ACCOUNT, "repository:team/late:pull"))
                .await?;
            side.ready("late").await?;
        }
        Ok(())
    })
}

/// What waits long says so in its status. That takes a worker each, and there are fewer workers than that.
async fn says_who_is_silent(side: &Side<'_>) -> anyhow::Result<()> {
    wait_for("one says which side does not answer", PATIENCE, async || {
        Ok(side.all().await?.iter().any(|status| {
            ["CredentialIssued", "Ready"].into_iter().all(|kind| {
                status.conditions.iter().any(|condition| {
                    condition.type_ == kind
                        && condition.status == "False"
                        && condition.reason == "RegistryUnreachable"
                })
            })
        }))
    })
    .await
}

#[test]
fn b15_link_is_there_within_a_second_while_azure_is_dark() -> anyhow::Result<()> {
    in_both_apis_alone(async |stack, side| {
        // Whatever starts may still be about to look at all that there is.
        side.team.create_account("web-early", &[], &[]).await?;
        side.create("early", &side.spec("web-early", SCOPE)).await?;
        side.ready("early").await?;
        // A broker that stands still asks nobody for anything: it is as dark as it gets.
        stack.broker().signal(Signal::STOP);
        let linked = linked_in_the_dark(stack, side).await;
        stack.broker().signal(Signal::CONT);
        let took = linked?;
        println!("{}: linked after {took:?} with Azure dark", side.api.as_str());
        assert!(took <= LINKED, "it took {took:?}");
        side.ready("one").await?;
        Ok(())
    })
}

async fn linked_in_the_dark(stack: &Stack, side: &Side<'_>) -> anyhow::Result<Duration> {
    let calls = stack.azure().calls().await?.count();
    let from = Instant::now();
    side.create("one", &side.spec(ACCOUNT, SCOPE)).await?;
    let links = [OWN, &side.secret_name("one")];
    side.team.wait_links(ACCOUNT, &links).await?;
    let took = from.elapsed();
    assert!(
        side.secret("one").await.is_err(),
        "there is a Secret although nobody was asked"
    );
    assert_eq!(stack.azure().calls().await?.count(), calls, "Azure was asked");
    Ok(took)
}

/// Creates so many bindings, in turn of each API.
async fn create_many(sides: &[Side<'_>], granted: &Granted, count: usize) -> anyhow::Result<()> {
    let each = count / sides.len();
    let all = sides
        .iter()
        .flat_map(|side| (0..each).map(move |number| (side, number)));
    try_join_all(all.map(async |(side, number)| {
        // A token for each.
        let scope = format!("repository:team/app{number}-{}:pull", side.api.version());
        let spec = side.spec_for(granted, ACCOUNT, &scope);
        side.create(&format!("b{number}"), &spec).await
    }))
    .await?;
    Ok(())
}

//! What goes wrong for one binding is not felt by another, and the link waits for nobody.

use std::time::Duration;

use azure_simulator::{Action, Fault, HangAt, Operation, Service};
use e2e::binding::{self, condition};
use e2e::{Stack, Team, wait_for};
use futures::future::try_join_all;
use kube::api::ListParams;
use rustix::process::Signal;
use syncer::crd::AcrPullBinding;
use tokio::time::Instant;

use crate::shared::alone;
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
        let (bad, good) = (stack.team("hanging").await?, stack.team("beside").await?);
        for team in [&bad, &good] {
            team.federated_account("web").await?;
        }
        // The connection is accepted, and then nothing.
        let silence = Fault::new(Action::Hang { at: HangAt::Tls })
            .on_service(Service::Acr)
            .host(bad.registry());
        stack.azure().add_fault(silence).await?;
        create_many(&bad, HANGING).await?;
        wait_for("the silent registry is being asked", PATIENCE, async || {
            Ok(!stack
                .azure()
                .calls()
                .await?
                .of(Service::Acr, Operation::Connect)
                .host(bad.registry())
                .is_empty())
        })
        .await?;

        let started = Instant::now();
        create_many(&good, GOOD).await?;
        for number in 0..GOOD {
            good.ready(&format!("b{number}")).await?;
        }
        let took = started.elapsed();
        println!("{GOOD} bindings were Ready after {took:?}, beside {HANGING} on a silent registry");
        assert!(took <= ALL_READY, "{GOOD} bindings took {took:?}");
        assert!(bad.pull_secret("b0").await?.is_none());
        let linked = bad.links("web").await?.len();
        assert_eq!(linked, HANGING, "links do not wait for the registry");

        // What waits long says so in its status. That takes a worker each, and there are fewer workers than that.
        wait_for("one says which side does not answer", PATIENCE, async || {
            let bindings = bad.api::<AcrPullBinding>().list(&ListParams::default()).await?;
            Ok(bindings.iter().any(|binding| {
                ["CredentialIssued", "Ready"].into_iter().all(|kind| {
                    condition(binding, kind).is_some_and(|condition| {
                        condition.status == "False" && condition.reason == "RegistryUnreachable"
                    })
                })
            }))
        })
        .await?;
        let scope = "repository:team/late:pull";
        good.create(&binding::workload_identity("late", "web", good.registry(), scope))
            .await?;
        good.ready("late").await?;
        Ok(())
    })
}

#[test]
fn b15_link_is_there_within_a_second_while_azure_is_dark() -> anyhow::Result<()> {
    in_both_apis_alone(async |stack, side| {
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

async fn create_many(team: &Team<'_>, count: usize) -> anyhow::Result<()> {
    let bindings = (0..count).map(|number| {
        let scope = format!("repository:team/app{number}:pull");
        binding::workload_identity(&format!("b{number}"), "web", team.registry(), &scope)
    });
    try_join_all(bindings.map(async |binding| team.create(&binding).await)).await?;
    Ok(())
}

//! What goes wrong for one binding is not felt by another, and the link waits for nobody.

use std::time::Duration;

use azure_simulator::{Action, Fault, HangAt, Operation, Service};
use e2e::binding::{self, condition};
use e2e::{Stack, Team, wait_for};
use futures::future::try_join_all;
use rustix::process::Signal;
use tokio::time::Instant;

use crate::shared::alone;

const GOOD: usize = 50;
const HANGING: usize = 200;
/// The promise: all good ones within this time.
const ALL_READY: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn bindings_beside_a_registry_that_never_answers_are_ready_within_ten_seconds() -> anyhow::Result<()> {
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
        assert!(took <= ALL_READY, "{GOOD} bindings took {took:?}");
        assert!(bad.pull_secret("b0").await?.is_none());
        let linked = bad.links("web").await?.len();
        assert_eq!(linked, HANGING, "links do not wait for the registry");

        // What waits long says so in its status. That takes a worker each, and there are fewer workers than that.
        bad.wait_binding("b0", "says that it waits or has failed", PATIENCE, |binding| {
            condition(binding, "CredentialIssued").is_some_and(|issued| issued.status != "True")
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
fn link_is_there_before_the_first_azure_call() -> anyhow::Result<()> {
    alone(async |stack| {
        let team = stack.team("link-first").await?;
        let application = team.federated_account("web").await?;
        // A broker that stands still asks nobody for anything.
        stack.broker().signal(Signal::STOP);
        let linked = link_without_azure(stack, &team, &application.client_id).await;
        stack.broker().signal(Signal::CONT);
        linked?;
        team.ready("web").await?;
        Ok(())
    })
}

async fn link_without_azure(stack: &Stack, team: &Team<'_>, client_id: &str) -> anyhow::Result<()> {
    let scope = "repository:team/web:pull";
    team.create(&binding::workload_identity("web", "web", team.registry(), scope))
        .await?;
    team.wait_links("web", &["acr-pull-web"]).await?;
    assert!(team.pull_secret("web").await?.is_none());
    let calls = stack.azure().calls().await?;
    assert!(calls.clone().client_id(client_id).is_empty() && calls.host(team.registry()).is_empty());
    Ok(())
}

async fn create_many(team: &Team<'_>, count: usize) -> anyhow::Result<()> {
    let bindings = (0..count).map(|number| {
        let scope = format!("repository:team/app{number}:pull");
        binding::workload_identity(&format!("b{number}"), "web", team.registry(), &scope)
    });
    try_join_all(bindings.map(async |binding| team.create(&binding).await)).await?;
    Ok(())
}

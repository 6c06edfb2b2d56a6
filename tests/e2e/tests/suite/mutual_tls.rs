//! Broker and syncer with certificates on both sides, in a stack of their own: what else there is calls without one.

use std::time::Duration;

use anyhow::Context as _;
use e2e::{Canaries, FEDERATION_AUDIENCE, SYNCER_CERTIFICATE_NAME, Stack, StackOptions, binding};

use crate::wire::{Wires, federated};
use crate::zz_whole_run::artefacts::{artefacts, assert_clean};
use crate::zz_whole_run::{SPANS_ARRIVE, held};

const SCOPE: &str = "repository:team/web:pull";
const TEN_MINUTES: Duration = Duration::from_mins(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a1_syncers_token_counts_only_over_a_connection_of_its_cluster() -> anyhow::Result<()> {
    let stack = Stack::start(StackOptions {
        name: "mutual-tls".to_owned(),
        mutual_tls: true,
        // The most that they ever log, because all of it is searched for secrets.
        log_level: "trace".to_owned(),
        ..StackOptions::default()
    })
    .await?;
    let checked = tokio::select! {
        error = stack.failed() => Err(error),
        checked = check(&stack) => checked,
    };
    let checked = checked.inspect_err(|_error| stack.plane().keep_logs());
    stack.stop().await;
    checked
}

async fn check(stack: &Stack) -> anyhow::Result<()> {
    let team = stack.team("mutual").await?;
    let application = team.federated_account("web").await?;
    let binding = binding::workload_identity("web", "web", team.registry(), SCOPE);
    team.create(&binding).await?;
    team.ready("web").await?;

    // Whoever has stolen both tokens has nothing yet.
    let bearer = std::fs::read_to_string(stack.syncer_token_file()?)?;
    let subject = stack
        .mint_token(team.namespace(), "web", FEDERATION_AUDIENCE, TEN_MINUTES)
        .await?;
    let request = federated(
        team.namespace(),
        team.registry(),
        SCOPE,
        &application.client_id,
        &subject,
    );
    let calls = stack.azure().calls().await?.count();
    let anonymous = async { Wires::to(stack).await?.ask(Some(&bearer), &request).await };
    assert!(anonymous.await.is_err(), "there is no connection");
    let other = stack.clients().issue("acrpull-syncer.elsewhere.svc")?;
    let refused = Wires::certified(stack, &other)
        .await?
        .ask(Some(&bearer), &request)
        .await?;
    assert_eq!(refused.err().as_deref(), Some("CALLER_UNAUTHENTICATED"));
    assert_eq!(stack.azure().calls().await?.count(), calls, "Azure was asked");

    let own = stack.clients().issue(SYNCER_CERTIFICATE_NAME)?;
    let answer = Wires::certified(stack, &own)
        .await?
        .ask(Some(&bearer), &request)
        .await?;
    assert!(answer.is_ok(), "{:?}", answer.err());

    for (metrics, name) in [
        (
            stack.broker().metrics().await?,
            "acrpull_broker_tls_certificate_not_after_seconds",
        ),
        (
            stack.syncer().metrics().await?,
            "acrpull_syncer_broker_tls_certificate_not_after_seconds",
        ),
    ] {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        let not_after: u64 = line.with_context(|| format!("no {name}"))?.trim().parse()?;
        assert!(
            not_after > std::time::UNIX_EPOCH.elapsed()?.as_secs(),
            "{name} {not_after}"
        );
    }

    let mut canaries = Canaries::default();
    held::by_all(stack, &mut canaries).await?;
    held::by_certified_syncer(stack, &mut canaries)?;
    tokio::time::sleep(SPANS_ARRIVE).await;
    assert_clean(&artefacts(stack).await?, &mut canaries);
    Ok(())
}

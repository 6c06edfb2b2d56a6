//! What must hold of everything that has happened. Tests are run in the order of their names, and the name of this module
//! sorts last. The search waits for all that still run, and any test of the stack that begins after it fails.

pub(crate) mod artefacts;
pub(crate) mod held;
mod mistakes;

use std::time::Duration;

use azure_simulator::{Action, BodyVariant, Fault, Operation, Service};
use e2e::{BROKER_AUDIENCE, Canaries, FEDERATION_AUDIENCE, NAMESPACE, Stack, Team, binding};
use serde_json::json;

use crate::shared::{alone, last};
use artefacts::{TRACES, artefacts, assert_clean};
use mistakes::Mistakes;

/// The search, which nothing may come after.
const SEARCH: &str = "zz_whole_run::l1_no_secret_is_in_any_artefact_of_the_whole_run";
/// Spans are on their way for 200 ms.
pub(crate) const SPANS_ARRIVE: Duration = Duration::from_millis(600);
const SCOPE: &str = "repository:team/web:pull";
/// The life of tokens that are made here.
const TEN_MINUTES: Duration = Duration::from_mins(10);
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn every_other_test_is_named_to_run_before_the_search() -> anyhow::Result<()> {
    let listed = std::process::Command::new(std::env::current_exe()?)
        .args(["--list", "--format", "terse"])
        .output()?;
    let listed = String::from_utf8(listed.stdout)?;
    let tests = listed.lines().filter_map(|line| line.strip_suffix(": test"));
    assert_eq!(tests.max(), Some(SEARCH));
    Ok(())
}

#[test]
fn l1_no_secret_is_in_any_artefact_of_the_whole_run() -> anyhow::Result<()> {
    last(async |stack| {
        let mut canaries = Canaries::default();
        let team = stack.team("leak").await?;
        spoil(stack, &team, &mut canaries).await?;
        let mistakes = mistakes(stack, &team, &mut canaries).await?;
        let answers = mistakes.make_all(&mut canaries).await?;
        held::by_all(stack, &mut canaries).await?;

        tokio::time::sleep(SPANS_ARRIVE).await;
        let mut artefacts = artefacts(stack).await?;
        let traces = artefacts.iter().find(|artefact| artefact.name == TRACES);
        let traces = String::from_utf8_lossy(&traces.unwrap().content);
        assert!(traces.contains("events: [Event {"), "no span has an event");
        artefacts.extend(answers);
        assert_clean(&artefacts, &mut canaries);
        Ok(())
    })
}

#[test]
fn l1_libraries_say_nothing_below_warn_whatever_the_environment_asks_for() -> anyhow::Result<()> {
    alone(async |stack| {
        // The stack sets RUST_LOG, and the level of both processes is trace.
        for pod in [stack.broker(), stack.syncer()] {
            let log = pod.logs()?;
            let lines = log.lines().filter_map(|line| {
                let line: serde_json::Value = serde_json::from_str(line).ok()?;
                let text = |name| Some(line.get(name)?.as_str()?.to_owned());
                Some((text("target")?, text("level")?))
            });
            let (ours, theirs): (Vec<_>, Vec<_>) = lines.partition(|(target, _level)| {
                let name = target.split("::").next().unwrap_or_default();
                ["broker", "syncer", "client", "runtime", "proto"].contains(&name)
            });
            assert!(!ours.is_empty(), "{} has logged nothing", pod.name());
            let loud = theirs
                .iter()
                .find(|(_target, level)| !["WARN", "ERROR"].contains(&level.as_str()));
            assert_eq!(loud, None, "{}", pod.name());
        }
        Ok(())
    })
}

/// At the least: a success, refusals whose bodies hold a secret, and an answer that cannot be understood.
async fn spoil(stack: &Stack, team: &Team<'_>, canaries: &mut Canaries) -> anyhow::Result<()> {
    let garbage = BodyVariant::Raw("eyJub3Q=.eyJhLXRva2Vu.AAAA".to_owned());
    let prose = canaries.plant("what Entra ID wrote");
    let refusal = json!({
        "error": "invalid_client", "error_codes": [70021],
        "error_description": format!("AADSTS70021: {prose} Trace ID: {prose}"),
        "trace_id": prose, "correlation_id": prose,
    });
    let entra = [
        ("garbage", Action::Body { body: garbage }),
        (
            "prose",
            Action::Status {
                code: 401,
                body: refusal.to_string(),
                content_type: Some("application/json".to_owned()),
                headers: [("x-ms-request-id".to_owned(), prose.clone())].into(),
            },
        ),
    ];
    for (account, action) in entra {
        let application = team.federated_account(account).await?;
        let fault = Fault::new(action)
            .on(Service::Entra, Operation::Token)
            .client_id(&application.client_id);
        stack.azure().add_fault(fault).await?;
        bind(team, account).await?;
    }
    team.federated_account("web").await?;
    bind(team, "web").await?;
    team.ready("web").await?;
    for account in ["garbage", "prose"] {
        failed(team, account).await?;
    }

    let registry = stack.team("leak-registry").await?;
    let prose = canaries.plant("what a registry wrote");
    let refusal = Action::Status {
        code: 401,
        body: json!({"errors": [{"code": "UNAUTHORIZED", "message": prose, "detail": prose}]}).to_string(),
        content_type: Some("application/json".to_owned()),
        headers: [
            (
                "www-authenticate".to_owned(),
                format!("Bearer realm=\"https://{prose}.example\""),
            ),
            ("x-ms-correlation-request-id".to_owned(), prose.clone()),
        ]
        .into(),
    };
    let fault = Fault::new(refusal).on(Service::Acr, Operation::Exchange);
    stack.azure().add_fault(fault.host(registry.registry())).await?;
    registry.federated_account("web").await?;
    bind(&registry, "web").await?;
    failed(&registry, "web").await
}

async fn bind(team: &Team<'_>, account: &str) -> anyhow::Result<()> {
    let binding = binding::workload_identity(account, account, team.registry(), SCOPE);
    team.create(&binding).await?;
    Ok(())
}

async fn failed(team: &Team<'_>, binding: &str) -> anyhow::Result<()> {
    let has_error = |binding: &syncer::crd::AcrPullBinding| {
        let status = binding.status.as_ref();
        status.is_some_and(|status| status.error.is_some())
    };
    team.wait_binding(binding, "has failed", PATIENCE, has_error)
        .await?;
    Ok(())
}

/// Good tokens in places where they do not belong, and bad ones where good ones do.
async fn mistakes(stack: &Stack, team: &Team<'_>, canaries: &mut Canaries) -> anyhow::Result<Mistakes> {
    let bearer = stack
        .mint_token(NAMESPACE, "acrpull-syncer", BROKER_AUDIENCE, TEN_MINUTES)
        .await?;
    let subject = stack
        .mint_token(team.namespace(), "web", FEDERATION_AUDIENCE, TEN_MINUTES)
        .await?;
    canaries.add_token("a caller's token", &bearer);
    canaries.add_token("a subject token", &subject);
    Mistakes::new(stack, team, bearer, subject).await
}

//! Many bindings created at once: how long until they are linked, have their Secrets and are ready, and what that costs
//! in calls and memory, beside a bare Kubernetes client.
//!
//! Each number of bindings is measured with a broker and a syncer that have just been started, after the same number was served
//! by the bare client while the syncer was stopped.

use std::time::Duration;

use anyhow::Context as _;
use e2e::{Pod, Stack, Team};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use tokio::time::Instant;

use crate::api_calls::ApiCalls;
use crate::azure_calls::AzureCalls;
use crate::bare_client;
use crate::observer::Observer;
use crate::process::ProcessUse;
use crate::report::{Figure, Group, Part, progress};
use crate::scene::{self, CREATORS};
use crate::timeline::{Milestone, REACHED, Timeline};

/// For the API server to have seen every kind of write once before anything is measured.
const WARM_UP_BINDINGS: usize = 20;

/// The longest that all bindings of one measurement may take; the peer needed 541 s for 1,000.
const LIMIT: Duration = Duration::from_secs(180);

/// After the last binding is ready: what is written later counts as well.
const AFTERMATH: Duration = Duration::from_secs(3);

/// How long the deletion of a namespace may take.
const DELETE_TIMEOUT: Duration = Duration::from_secs(180);

/// What one measurement of the product has found out.
struct Measured {
    timeline: Timeline,
    api: ApiCalls,
    azure: AzureCalls,
    syncer: ProcessUse,
    broker: ProcessUse,
}

/// Measures each number of bindings.
///
/// # Errors
/// Not all bindings became ready, or a part failed.
pub(crate) async fn measure(stack: &Stack, sizes: &[u16]) -> anyhow::Result<Part> {
    stack.syncer().stop().await;
    progress("bindings: warming the API server up");
    serve_barely(stack, WARM_UP_BINDINGS).await?;
    let mut groups = Vec::new();
    for &size in sizes {
        let count = usize::from(size);
        progress(&format!("bindings: {size} by the bare client"));
        let (bare, bare_calls) = serve_barely(stack, count).await?;
        progress(&format!("bindings: {size} by the syncer"));
        let ours = serve(stack, count)
            .await
            .with_context(|| format!("{size} bindings"))?;
        groups.push(group(size, &ours, &bare, &bare_calls));
    }
    stack.syncer().start().await?;
    Ok(Part {
        title: "Bindings: created at once, 10 identities, 10 registries, a scope each, 100 ms per Azure call",
        baseline: "bare client",
        notes: vec![
            "\"last\" counts from the first creation, \"one binding\" from its own.",
            "The bare client makes the same writes as the same ServiceAccount with as many workers, and asks no Azure.",
            "Measured elsewhere, on such a control plane and with the same 100 ms: Azure/msi-acrpull 0.1.24 needs 541 s, 4,000 Azure calls and 71 MB for 1,000 bindings.",
        ],
        groups,
    })
}

async fn serve_barely(stack: &Stack, count: usize) -> anyhow::Result<(Timeline, ApiCalls)> {
    let team = scene::team(stack, count).await?;
    let served = tokio::time::timeout(LIMIT, bare_client::run(stack, &team, count)).await;
    let served = served.with_context(|| format!("the bare client was not through within {LIMIT:?}"))?;
    remove(stack, team).await?;
    served.context("the bare client")
}

async fn serve(stack: &Stack, count: usize) -> anyhow::Result<Measured> {
    let team = scene::team(stack, count).await?;
    stack.broker().restart().await?;
    stack.syncer().start().await?;
    let admin = stack.syncer().address("admin")?;
    let api_before = ApiCalls::of_syncer(admin).await?;
    let azure_before = AzureCalls::so_far(stack.azure()).await?;
    let timeline = watch_creation(&team, count).await?;
    tokio::time::sleep(AFTERMATH).await;
    let measured = Measured {
        timeline,
        api: ApiCalls::of_syncer(admin).await?.since(&api_before),
        azure: AzureCalls::so_far(stack.azure()).await?.since(&azure_before),
        syncer: used(stack.syncer())?,
        broker: used(stack.broker())?,
    };
    stack.syncer().stop().await;
    remove(stack, team).await?;
    Ok(measured)
}

/// Creates the bindings and sees them through.
async fn watch_creation(team: &Team<'_>, count: usize) -> anyhow::Result<Timeline> {
    let observer = Observer::start(team).await?;
    let mut timeline = Timeline::new(count);
    let start = Instant::now();
    let create = async |number| {
        team.create(&scene::binding(number)).await?;
        anyhow::Ok((number, start.elapsed()))
    };
    let creation = stream::iter(0..count)
        .map(create)
        .buffer_unordered(CREATORS)
        .try_collect::<Vec<_>>();
    let (created, ()) = tokio::try_join!(creation, observer.note(&mut timeline, start, LIMIT))?;
    for (number, at) in created {
        timeline.mark(number, Milestone::Created, at);
    }
    Ok(timeline)
}

/// Deletes a team's namespace and waits until nothing of it is left to disturb the next measurement.
async fn remove(stack: &Stack, team: Team<'_>) -> anyhow::Result<()> {
    let name = team.namespace().to_owned();
    let namespaces: Api<Namespace> = Api::all(stack.client()?);
    drop(team);
    e2e::wait_for("the namespace is gone", DELETE_TIMEOUT, async || {
        Ok(namespaces.get_opt(&name).await?.is_none())
    })
    .await
}

fn used(pod: &Pod) -> anyhow::Result<ProcessUse> {
    ProcessUse::of(pod.pid().with_context(|| format!("{} is stopped", pod.name()))?)
}

fn group(size: u16, ours: &Measured, bare: &Timeline, bare_calls: &ApiCalls) -> Group {
    let last = |name: &str, milestone| {
        Figure::beside(name, "s", ours.timeline.last_s(milestone), bare.last_s(milestone))
    };
    let mut figures = vec![last("last created", Milestone::Created)];
    figures.extend(REACHED.map(|(milestone, word)| last(&format!("last {word}"), milestone)));
    for (milestone, word) in REACHED {
        figures.extend([("p50", 0.5), ("p99", 0.99)].map(|(label, quantile)| {
            let took = |timeline: &Timeline| timeline.since_creation_s(milestone, quantile);
            let name = format!("one binding, creation to {word}, {label}");
            Figure::beside(name, "s", took(&ours.timeline), took(bare))
        }));
    }
    figures.extend(ours.azure.figures());
    figures.extend(ours.api.figures(bare_calls));
    for (process, used) in [("syncer", ours.syncer), ("broker", ours.broker)] {
        figures.push(Figure::alone(
            format!("{process} peak RSS"),
            "MiB",
            used.peak_rss_mib(),
        ));
        figures.push(Figure::alone(
            format!("{process} CPU since its start"),
            "s",
            used.cpu.as_secs_f64(),
        ));
    }
    Group {
        title: format!("{size} bindings"),
        id: format!("bindings/{size}"),
        figures,
    }
}

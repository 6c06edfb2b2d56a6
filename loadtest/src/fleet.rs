//! Thousands of bindings over hundreds of namespaces: how long until all are served and what that costs, and what a
//! restart costs that finds everything fresh.
//!
//! There is no baseline beside it: a bare client would be as slow as the control plane, which is what most of the time goes
//! to. What says something about the product are calls per binding, passes per binding and memory.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context as _;
use e2e::{Pod, Stack, condition};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use kube::api::{ListParams, ObjectMeta, PostParams};
use kube::core::PartialObjectMeta;
use kube::{Api, Client};
use syncer::crd::AcrPullBinding;
use syncer::{links, pull_secret};
use tokio::time::Instant;

use crate::api_calls::ApiCalls;
use crate::azure_calls::AzureCalls;
use crate::process::ProcessUse;
use crate::report::{Figure, Goal, Group, Part, progress};
use crate::scene::{BROKER_OWNED_REGISTRY, CREATORS, NAMESPACE_PREFIX, broker_owned_identity};
use crate::syncer_counts::SyncerCounts;

/// Bindings of a namespace, and `ServiceAccount`s that they share.
const PER_NAMESPACE: usize = 20;
const ACCOUNTS_PER_NAMESPACE: usize = 4;

/// The longest that all bindings may take, and a restarted syncer to look at them.
const LIMIT: Duration = Duration::from_secs(15 * 60);

/// How often it is looked how far they are. Each look costs the control plane something, and the figures are in minutes.
const LOOK: Duration = Duration::from_secs(3);

/// After the last binding is ready, or looked at: what is done later counts as well.
const AFTERMATH: Duration = Duration::from_secs(10);

/// Objects per page.
const PAGE: u32 = 500;

/// What is promised: a look whether the Secret is somebody else's, the link (shared), the Secret, the status, one event.
const CALLS_PER_BINDING: f64 = 5.0;

/// What a syncer did, from its start on or from when something was begun.
struct Did {
    took: Duration,
    api: ApiCalls,
    counts: SyncerCounts,
    used: ProcessUse,
}

/// How far the bindings are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Standing {
    linked: usize,
    secrets: usize,
    ready: usize,
}

/// Measures so many bindings.
///
/// # Errors
/// Not all became ready, or a part failed.
pub(crate) async fn measure(stack: &Stack, count: usize) -> anyhow::Result<Part> {
    let client = stack.client()?;
    let namespaces = count.div_ceil(PER_NAMESPACE);
    stack.syncer().stop().await;
    progress(&format!(
        "fleet: {namespaces} namespaces and their ServiceAccounts"
    ));
    create_places(&client, namespaces).await?;
    progress(&format!("fleet: {count} bindings, while no syncer runs"));
    create_bindings(&client, count).await?;

    progress("fleet: the syncer finds them");
    let azure_before = AzureCalls::so_far(stack.azure()).await?;
    stack.syncer().start().await?;
    let (first, reached) = serve(stack, &client, count).await?;
    let azure = AzureCalls::so_far(stack.azure()).await?.since(&azure_before);

    progress("fleet: the syncer is restarted and finds everything fresh");
    stack.syncer().stop().await;
    stack.syncer().start().await?;
    let again = settle(stack, count).await?;
    Ok(Part {
        title: "Fleet: 20 bindings and 4 ServiceAccounts per namespace, all there when the syncer starts",
        baseline: "",
        notes: vec![
            "Identities of the broker; with one of the workload's own a binding costs a TokenRequest more.",
            "Times are those of this control plane on this machine.",
        ],
        groups: vec![served(count, &first, &reached, &azure), restarted(count, &again)],
    })
}

async fn create_places(client: &Client, namespaces: usize) -> anyhow::Result<()> {
    let create = async |number: usize| {
        let name = namespace(number);
        let object = Namespace {
            metadata: named(name.clone()),
            ..Namespace::default()
        };
        Api::<Namespace>::all(client.clone())
            .create(&PostParams::default(), &object)
            .await?;
        let accounts = Api::<ServiceAccount>::namespaced(client.clone(), &name);
        for number in 0..ACCOUNTS_PER_NAMESPACE {
            let object = ServiceAccount {
                metadata: named(account(number)),
                ..ServiceAccount::default()
            };
            accounts.create(&PostParams::default(), &object).await?;
        }
        anyhow::Ok(())
    };
    stream::iter(0..namespaces)
        .map(create)
        .buffer_unordered(CREATORS)
        .try_collect::<()>()
        .await
        .context("namespaces and ServiceAccounts")
}

async fn create_bindings(client: &Client, count: usize) -> anyhow::Result<()> {
    let identity = broker_owned_identity();
    let create = async |number: usize| {
        let namespace = namespace(number / PER_NAMESPACE);
        let scope = format!("repository:team/{namespace}:pull");
        let binding = e2e::binding::client_id(
            &format!("web-{:02}", number % PER_NAMESPACE),
            &account(number % ACCOUNTS_PER_NAMESPACE),
            BROKER_OWNED_REGISTRY,
            &scope,
            &identity.client_id,
        );
        let bindings = Api::<AcrPullBinding>::namespaced(client.clone(), &namespace);
        bindings.create(&PostParams::default(), &binding).await.map(drop)
    };
    stream::iter(0..count)
        .map(create)
        .buffer_unordered(CREATORS)
        .try_collect::<()>()
        .await
        .context("bindings")
}

/// Sees all bindings through. The second answer says when all were linked, had Secrets and were ready.
async fn serve(stack: &Stack, client: &Client, count: usize) -> anyhow::Result<(Did, [Duration; 3])> {
    let start = Instant::now();
    let mut reached = [None; 3];
    while reached.iter().any(Option::is_none) {
        anyhow::ensure!(
            start.elapsed() < LIMIT,
            "not all bindings were ready within {LIMIT:?}"
        );
        tokio::time::sleep(LOOK).await;
        let ready_looked_at = reached[1].is_some();
        let standing = Standing::of(client, ready_looked_at).await?;
        progress(&format!("fleet: {:?} after {:?}", standing, start.elapsed()));
        for (reached, done) in reached
            .iter_mut()
            .zip([standing.linked, standing.secrets, standing.ready])
        {
            if done >= count && reached.is_none() {
                *reached = Some(start.elapsed());
            }
        }
    }
    let took = start.elapsed();
    tokio::time::sleep(AFTERMATH).await;
    let did = Did::of(stack.syncer(), took).await?;
    Ok((did, reached.map(Option::unwrap_or_default)))
}

/// Waits until a syncer that was just started has looked at all bindings.
async fn settle(stack: &Stack, count: usize) -> anyhow::Result<Did> {
    let start = Instant::now();
    let admin = stack.syncer().address("admin")?;
    while SyncerCounts::of(admin).await?.passes < u64::try_from(count)? {
        anyhow::ensure!(
            start.elapsed() < LIMIT,
            "not all bindings were looked at within {LIMIT:?}"
        );
        tokio::time::sleep(LOOK / 10).await;
    }
    let took = start.elapsed();
    tokio::time::sleep(AFTERMATH).await;
    Did::of(stack.syncer(), took).await
}

impl Did {
    async fn of(syncer: &Pod, took: Duration) -> anyhow::Result<Self> {
        let admin = syncer.address("admin")?;
        Ok(Self {
            took,
            api: ApiCalls::of_syncer(admin).await?,
            counts: SyncerCounts::of(admin).await?,
            used: ProcessUse::of(syncer.pid().context("the syncer is stopped")?)?,
        })
    }

    /// Figures per binding and of the process.
    fn figures(&self, count: usize) -> Vec<Figure> {
        let mut figures = vec![Figure::alone(
            "passes per binding",
            "passes",
            per(self.counts.passes, count),
        )];
        let calls = self.api.figures(&ApiCalls::default()).into_iter();
        figures.extend(calls.map(|figure| Figure {
            baseline: None,
            ..figure
        }));
        figures.extend([
            Figure::alone("syncer RSS", "MiB", self.used.rss_mib()),
            Figure::alone("syncer peak RSS", "MiB", self.used.peak_rss_mib()),
            Figure::alone("syncer CPU since its start", "s", self.used.cpu.as_secs_f64()),
        ]);
        figures
    }
}

impl Standing {
    async fn of(client: &Client, ready_looked_at: bool) -> anyhow::Result<Self> {
        let accounts: Api<ServiceAccount> = Api::all(client.clone());
        let linked = |page: &[ServiceAccount]| {
            let names: Vec<BTreeSet<String>> = page.iter().map(links::linked).collect();
            names.iter().map(BTreeSet::len).sum()
        };
        let secrets: Api<PartialObjectMeta<Secret>> = Api::all(client.clone());
        let labelled = ListParams::default().labels(pull_secret::BINDING_LABEL);
        let bindings: Api<AcrPullBinding> = Api::all(client.clone());
        let is_ready = |binding: &&AcrPullBinding| {
            condition(binding, "Ready").is_some_and(|ready| ready.status == "True")
        };
        Ok(Self {
            linked: counted(&accounts, ListParams::default(), linked).await?,
            secrets: counted(&secrets, labelled, <[_]>::len).await?,
            ready: if ready_looked_at {
                let ready = |page: &[AcrPullBinding]| page.iter().filter(is_ready).count();
                counted(&bindings, ListParams::default(), ready).await?
            } else {
                0
            },
        })
    }
}

/// What `count` finds on all pages.
async fn counted<K>(
    api: &Api<K>,
    mut params: ListParams,
    count: impl Fn(&[K]) -> usize,
) -> anyhow::Result<usize>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned + kube::Resource,
{
    params = params.limit(PAGE);
    let mut all = 0;
    loop {
        let page = api.list(&params).await?;
        all += count(&page.items);
        params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
        if params.continue_token.is_none() {
            return Ok(all);
        }
    }
}

fn served(count: usize, did: &Did, reached: &[Duration; 3], azure: &AzureCalls) -> Group {
    let words = ["all linked", "all Secrets", "all Ready"];
    let mut figures: Vec<_> = words
        .into_iter()
        .zip(reached)
        .map(|(word, at)| Figure::alone(word, "s", at.as_secs_f64()))
        .collect();
    let calls = Figure::alone("API calls per binding", "calls", per(did.api.total(), count));
    figures.push(calls.with_goal(Goal::AtMost(CALLS_PER_BINDING)));
    figures.extend(did.figures(count));
    figures.extend(azure.figures());
    Group {
        title: format!("{count} bindings, new"),
        id: format!("fleet/{count}/new"),
        figures,
    }
}

fn restarted(count: usize, did: &Did) -> Group {
    let none =
        |name: &str, value: u64| Figure::alone(name, "calls", per(value, 1)).with_goal(Goal::AtMost(0.0));
    let mut figures = vec![
        Figure::alone("all looked at", "s", did.took.as_secs_f64()),
        none("changes", did.api.changes()),
        none("questions to the broker", did.counts.questions),
    ];
    figures.extend(did.figures(count));
    Group {
        title: format!("{count} bindings, the syncer restarted"),
        id: format!("fleet/{count}/restarted"),
        figures,
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of a run are far below 2^52")]
fn per(calls: u64, count: usize) -> f64 {
    calls as f64 / count as f64
}

fn named(name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        ..ObjectMeta::default()
    }
}

fn namespace(number: usize) -> String {
    format!("{NAMESPACE_PREFIX}-fleet-{number:04}")
}

fn account(number: usize) -> String {
    format!("web-{number}")
}

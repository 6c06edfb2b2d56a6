//! Sees what becomes of the bindings of a namespace, as any user could: by watching `ServiceAccount`s, Secrets (their
//! metadata) and bindings.

use std::fmt::Debug;
use std::time::Duration;

use anyhow::{Context as _, bail};
use e2e::{Team, condition};
use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use syncer::binding::ApiVersion;
use syncer::crd::AcrPullBinding;
use syncer::pull_secret;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::scene;
use crate::timeline::{Milestone, REACHED, Timeline};

/// Sightings on their way to the one who notes them.
const QUEUE: usize = 1_024;

/// How long the first lists may take.
const LIST_TIMEOUT: Duration = Duration::from_secs(30);

/// Watches until it is dropped.
pub(crate) struct Observer {
    sightings: mpsc::Receiver<Sighting>,
    _watches: JoinSet<()>,
}

enum Sighting {
    /// A watch has seen everything that was there at its start.
    Listed,
    Reached {
        name: String,
        milestone: Milestone,
        at: Instant,
    },
    Broken(watcher::Error),
}

impl Observer {
    /// Starts to watch, and waits until all that happens from now on is seen.
    ///
    /// # Errors
    /// The API server does not let this client watch.
    pub(crate) async fn start(team: &Team<'_>) -> anyhow::Result<Self> {
        let (sender, sightings) = mpsc::channel(QUEUE);
        let mut watches = JoinSet::new();
        watches.spawn(follow(
            team.api::<ServiceAccount>(),
            Milestone::Linked,
            is_linked,
            sender.clone(),
        ));
        watches.spawn(follow(
            team.api::<PartialObjectMeta<Secret>>(),
            Milestone::Secret,
            |secret| secret.name_any().starts_with("acr-pull-"),
            sender.clone(),
        ));
        watches.spawn(follow(
            team.api::<AcrPullBinding>(),
            Milestone::Ready,
            is_ready,
            sender,
        ));
        let mut observer = Self {
            sightings,
            _watches: watches,
        };
        let listed = async {
            let mut lists = 0;
            while lists < REACHED.len() {
                match observer.sightings.recv().await {
                    Some(Sighting::Listed) => lists += 1,
                    Some(Sighting::Reached { .. }) => {}
                    Some(Sighting::Broken(error)) => return Err(error.into()),
                    None => bail!("the watches have ended"),
                }
            }
            Ok(())
        };
        tokio::time::timeout(LIST_TIMEOUT, listed)
            .await
            .context("the API server does not list")??;
        Ok(observer)
    }

    /// Notes what happens until all bindings are through, with times since `start`.
    ///
    /// # Errors
    /// They are not within `limit`, or a watch broke.
    pub(crate) async fn note(
        mut self,
        timeline: &mut Timeline,
        start: Instant,
        limit: Duration,
    ) -> anyhow::Result<()> {
        let end = start + limit;
        while !timeline.is_complete() {
            match tokio::time::timeout_at(end, self.sightings.recv()).await {
                Ok(Some(Sighting::Reached { name, milestone, at })) => {
                    if let Some(binding) = scene::number_of(&name) {
                        timeline.mark(binding, milestone, at.saturating_duration_since(start));
                    }
                }
                Ok(Some(Sighting::Listed)) => {}
                Ok(Some(Sighting::Broken(error))) => return Err(error).context("a watch broke"),
                Ok(None) => bail!("the watches have ended"),
                Err(_elapsed) => {
                    let counts =
                        REACHED.map(|(milestone, word)| format!("{} {word}", timeline.reached(milestone)));
                    bail!(
                        "not all bindings are through within {limit:?}: {}",
                        counts.join(", ")
                    );
                }
            }
        }
        Ok(())
    }
}

async fn follow<K>(
    api: Api<K>,
    milestone: Milestone,
    has_reached: fn(&K) -> bool,
    sender: mpsc::Sender<Sighting>,
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let watched = watcher(api, watcher::Config::default()).try_for_each(async |event| {
        let sighting = match event {
            Event::InitDone => Sighting::Listed,
            Event::Apply(object) | Event::InitApply(object) if has_reached(&object) => Sighting::Reached {
                name: object.name_any(),
                milestone,
                at: Instant::now(),
            },
            Event::Init | Event::Apply(_) | Event::InitApply(_) | Event::Delete(_) => return Ok(()),
        };
        // Nobody listens any more: this task ends with the observer.
        drop(sender.send(sighting).await);
        Ok(())
    });
    if let Err(error) = watched.await {
        drop(sender.send(Sighting::Broken(error)).await);
    }
}

fn is_linked(account: &ServiceAccount) -> bool {
    let secret_name = pull_secret::name_for(ApiVersion::V1Beta2, &account.name_any());
    account
        .image_pull_secrets
        .iter()
        .flatten()
        .any(|entry| entry.name == secret_name)
}

fn is_ready(binding: &AcrPullBinding) -> bool {
    condition(binding, "Ready").is_some_and(|ready| ready.status == "True")
}

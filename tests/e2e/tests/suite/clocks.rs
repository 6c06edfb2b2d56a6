//! Clocks that are set while everything runs (guarantee S7): that of the syncer's machine, that of the broker's. What is in
//! a Secret stays there, nothing dead is put into one, nobody is asked all the time, and all goes on when the clock is
//! right again. For bindings of both APIs at once.
//!
//! Processes of the test's own, on a machine with a clock of its own. Certificates are no obstacle here, those of the
//! harness are valid for centuries.

mod of_broker;
mod of_syncer;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use e2e::{Clock, Pod, PullSecret, Stack, Team, poll};
use futures::TryStreamExt as _;
use futures::future::try_join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use kube::api::{WatchEvent, WatchParams};
use serde::Deserialize;
use syncer::binding::ApiVersion;

use crate::shared::{ELSEWHERE, Granted, STEPPED, STEPPED_SOON};
use crate::side::{ACCOUNT, OWN, Side};

/// More than any token lives here, in seconds.
const HOURS: i64 = 2 * 3_600;
/// How long a clock stays wrong at least, and is looked at. The syncer compares its two clocks every 10 s.
const WRONG: Duration = Duration::from_secs(20);
/// What fails is tried again within a minute.
const RECOVERED: Duration = Duration::from_secs(75);
/// Questions to the broker about one binding while a clock is wrong: the pauses between them grow from a second or two.
const MOST_QUESTIONS: u64 = 12;
/// Writes of one status in that time: that something fails, and what else is new.
const MOST_STATUSES: usize = 2;

/// Its token lives for an hour.
const KEPT: &str = "kept";
/// Its token lives for a minute and is renewed after half of that.
const RENEWED: &str = "renewed";

/// A team with bindings that no other syncer works on.
struct Scene<'a> {
    sides: [Side<'a>; 2],
    /// Distinguishes bindings, Pods and scopes of one test from those of others.
    what: &'static str,
}

#[derive(Deserialize)]
struct Claims {
    exp: i64,
}

/// The team of a test: grants for both registries.
async fn team(stack: &Stack) -> anyhow::Result<Team<'_>> {
    let team = stack.team(STEPPED_SOON.prefix).await?;
    team.create_account(ACCOUNT, &[OWN], &[]).await?;
    Ok(team)
}

async fn clock(stack: &Stack, what: &str) -> anyhow::Result<Clock> {
    Clock::new(&stack.plane().directory().join("clocks").join(what)).await
}

impl<'a> Scene<'a> {
    fn new(team: &'a Team<'a>, what: &'static str) -> Self {
        let sides = ApiVersion::ALL.map(|api| Side::new(team, api));
        Self { sides, what }
    }

    /// Arguments of the syncer for these bindings.
    fn arguments(&self) -> Vec<String> {
        vec![
            format!("--label-selector={ELSEWHERE}=clock-{}", self.what),
            // Otherwise it would stand by: the stack's syncer holds the Lease.
            "--leader-elect=false".to_owned(),
        ]
    }

    /// A binding of each API, with a token of its own, that is ready.
    async fn bind(&self, name: &str, granted: &Granted) -> anyhow::Result<()> {
        try_join_all(self.sides.iter().map(async |side| {
            let scope = format!("repository:team/{}-{}-{name}:pull", self.what, side.api.version());
            let spec = side.spec_for(granted, ACCOUNT, &scope);
            let label = format!("clock-{}", self.what);
            side.create_labelled(name, &spec, &[(ELSEWHERE, &label)]).await?;
            side.ready(name).await
        }))
        .await?;
        Ok(())
    }

    async fn secrets(&self, name: &str) -> anyhow::Result<Vec<PullSecret>> {
        try_join_all(self.sides.iter().map(|side| side.secret(name))).await
    }

    /// How many tokens were fetched for these bindings but the short-lived ones.
    async fn tokens_fetched(&self, stack: &Stack) -> anyhow::Result<usize> {
        let repository = format!("team/{}-", self.what);
        let calls = stack.azure().calls().await?.host(STEPPED.registry);
        let own = calls.filter(|call| call.form.iter().any(|(_key, value)| value.contains(&repository)));
        Ok(own.count())
    }

    /// Does something to the clock, and counts the writes of these bindings' statuses from then on.
    async fn statuses_written(
        &self,
        names: &[&str],
        set: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let all = self
            .sides
            .iter()
            .flat_map(|side| names.iter().map(move |name| (side, *name)));
        let all: Vec<_> = all.collect();
        let before = try_join_all(all.iter().map(|(side, name)| side.get(name))).await?;
        set()?;
        let written = all
            .iter()
            .zip(before)
            .map(async |((side, name), (binding, _status))| {
                let version = binding.metadata.resource_version;
                let written = side.written_within(name, version, WRONG).await?;
                ensure!(
                    written.len() <= MOST_STATUSES,
                    "{} {name}: {} writes: {written:#?}",
                    side.api.as_str(),
                    written.len()
                );
                Ok(())
            });
        try_join_all(written).await?;
        Ok(())
    }

    /// Waits until the bindings are ready.
    async fn ready_again(&self, name: &str) -> anyhow::Result<()> {
        try_join_all(self.sides.iter().map(async |side| {
            let what = format!("{} {name} is Ready", side.api.as_str());
            poll(&what, RECOVERED, async || {
                let (_binding, status) = side.get(name).await?;
                let mut conditions = status.conditions.iter();
                let is_ready = conditions.any(|one| one.type_ == "Ready" && one.status == "True");
                Ok(is_ready.then_some(()).ok_or_else(|| format!("{status:?}")))
            })
            .await
        }))
        .await?;
        Ok(())
    }

    /// Looks at every write to the team's Secrets, and ends with what is wrong with one.
    async fn watch_every_write(&self) -> anyhow::Result<()> {
        let [side, ..] = &self.sides;
        let params = WatchParams::default().labels("acr.microsoft.com/binding");
        let changes = side.team.api::<Secret>().watch(&params, "0").await?;
        let mut changes = std::pin::pin!(changes);
        let mut seen = BTreeMap::<String, (String, Timestamp)>::new();
        while let Some(change) = changes.try_next().await? {
            let secret = match change {
                WatchEvent::Added(secret) | WatchEvent::Modified(secret) => secret,
                WatchEvent::Bookmark(_) => continue,
                WatchEvent::Deleted(secret) => anyhow::bail!("{} was deleted", secret.name_any()),
                WatchEvent::Error(status) => anyhow::bail!("the watch of the test failed: {status:?}"),
            };
            let name = secret.name_any();
            // What no kubelet could use is an error.
            let secret = PullSecret::read(secret).with_context(|| name.clone())?;
            let end = end_of_token(&secret).with_context(|| name.clone())?;
            let before = seen.insert(name.clone(), (secret.docker_config.clone(), end));
            if let Some((_payload, earlier)) =
                before.filter(|(payload, _end)| *payload != secret.docker_config)
            {
                ensure!(
                    end > Timestamp::now(),
                    "{name} got a token that had ended at {end}"
                );
                ensure!(
                    end >= earlier,
                    "{name} got a token that ends at {end}, after {earlier}"
                );
            }
        }
        anyhow::bail!("the watch of the test has ended")
    }
}

/// When the token ends, in its own words.
fn end_of_token(secret: &PullSecret) -> anyhow::Result<Timestamp> {
    let login = secret.logins.values().next().context("there is no login")?;
    let payload = login.password.split('.').nth(1).context("the token is no JWT")?;
    let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload)?)?;
    Ok(Timestamp::from_second(claims.exp)?)
}

/// How many questions a syncer has put to the broker, whatever came of them.
async fn questions(syncer: &Pod) -> anyhow::Result<u64> {
    let metrics = syncer.metrics().await?;
    let counters = metrics
        .lines()
        .filter(|line| line.starts_with("acrpull_syncer_refresh_total{"));
    Ok(counters
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok())
        .sum())
}

/// Bindings of both APIs, as a number of questions.
fn at_most(bindings: u64) -> u64 {
    2 * bindings * MOST_QUESTIONS
}

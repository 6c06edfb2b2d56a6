//! Plays one row of the fault table against a real broker and judges everything that its caller was promised.

use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use e2e::rig::{Answer, Caller, Refusal};
use e2e::{Rig, Site, poll, wait_for};
use futures::FutureExt as _;
use proto::Reason;
use proto::catalogue::RetryClass;
use proto::v1::GetDockerConfigRequest;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use crate::row::{CANARY, Meaning, Row, remembered};

/// The longest that the broker works on a call, and a little for a machine with other things to do.
const ANSWERED_WITHIN: Duration = Duration::from_secs(33);
/// No recovery is waited for longer than a permanent failure takes.
const PATIENCE: Duration = Duration::from_secs(38);
/// How long after its time a credential may take to come.
const RECOVERY: Duration = Duration::from_secs(20);
/// A failure that passes by itself comes back in a second: then it is made to fail twice.
const SOON: Duration = Duration::from_secs(5);

/// Requests under way at a time, silent ones aside.
const SLOTS: usize = 8;
/// No row waits longer for others to be served beside the silent ones: by then a deadline has ended those.
const BESIDE: Duration = Duration::from_secs(10);

/// The site that nothing is wrong with.
pub(crate) const HEALTHY: &str = "healthy";

/// Each request beside a silent Azure asks for a repository that nobody has asked for.
static NEXT_REPOSITORY: AtomicU32 = AtomicU32::new(0);

/// What all rows share.
pub(crate) struct Stage<'a> {
    pub(crate) rig: &'a Rig,
    /// A busy machine makes deadlines pass that are none of the row's business: so many requests at a time.
    slots: Semaphore,
    /// How many rows are silent.
    silent: u32,
    /// One for each of them, when others have been served beside it.
    beside: Semaphore,
}

struct Play<'a> {
    row: &'a Row,
    stage: &'a Stage<'a>,
    site: &'a Site,
    caller: &'a Caller,
    request: GetDockerConfigRequest,
}

impl<'a> Stage<'a> {
    pub(crate) fn new(rig: &'a Rig, rows: &[Row]) -> Self {
        Self {
            rig,
            slots: Semaphore::new(SLOTS),
            silent: rows.iter().map(|row| u32::from(row.is_silent())).sum(),
            beside: Semaphore::new(0),
        }
    }

    /// What takes the machine's time.
    pub(crate) async fn at_work<T>(
        &self,
        work: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let _slot = self.slots.acquire().await?;
        work.await
    }

    /// What is silent comes first: that others are served beside it must not depend on how busy this machine is.
    pub(crate) async fn after_the_silent(&self) {
        // A row that fails early never says so.
        drop(timeout(BESIDE, self.beside.acquire_many(self.silent)).await);
    }
}

/// Plays a row.
pub(crate) async fn play(row: &Row, stage: &Stage<'_>, caller: &Caller) -> anyhow::Result<()> {
    let site = stage.rig.site(&row.name)?;
    let is_soon_over = row.class() == Some(RetryClass::Transient) && !row.is_silent();
    let times = if is_soon_over { 2 } else { 1 };
    let fault = row.hop.fault(site, row.action()?).named(&row.name).times(times);
    stage.rig.azure().add_fault(fault)?;
    let play = Play {
        request: row.hop.request(stage.rig, site),
        caller,
        row,
        stage,
        site,
    };
    let first = if row.is_silent() {
        play.ask_beside_others().await?
    } else {
        stage.after_the_silent().await;
        play.ask().await?
    };
    match (row.meaning, first) {
        (Meaning::Served, Ok(_credential)) => play.ensure_calls(1),
        (Meaning::Refused(_) | Meaning::Paused(..), Err(refusal)) => {
            let wait = play.judge(&refusal)?;
            play.remembers(&refusal, wait).await?;
            if wait > PATIENCE {
                return play.ensure_calls(1);
            }
            play.recovers(&refusal, wait).await?;
            play.ensure_calls(usize::try_from(times)? + 1)?;
            play.ensure_pauses(wait)
        }
        (expected, Ok(_credential)) => bail!("a credential instead of {expected:?}"),
        (Meaning::Served, Err(refusal)) => bail!("no credential: {refusal:?}"),
    }
}

impl Play<'_> {
    async fn ask(&self) -> anyhow::Result<Answer> {
        self.stage.at_work(self.ask_now()).await
    }

    async fn ask_now(&self) -> anyhow::Result<Answer> {
        let asked_at = Instant::now();
        let answer = self.caller.ask(&self.request).await;
        let took = asked_at.elapsed();
        ensure!(took < ANSWERED_WITHIN, "it took {took:?}");
        answer
    }

    /// While Azure is silent at one place, whoever needs another gets all the way through.
    async fn ask_beside_others(&self) -> anyhow::Result<Answer> {
        let rig = self.stage.rig;
        let mut asked = pin!(self.ask_now());
        let others = async {
            wait_for("Azure is being asked", ANSWERED_WITHIN, async || {
                Ok(self.calls() > 0)
            })
            .await?;
            let mut request = rig.federated(rig.site(HEALTHY)?);
            let number = NEXT_REPOSITORY.fetch_add(1, Ordering::Relaxed);
            request.scopes = vec![format!("repository:team/other{number}:pull")];
            let answer = self.caller.ask(&request).await?;
            answer.map_err(|refusal| anyhow!("a request that has nothing to do with it: {refusal:?}"))
        };
        tokio::select! {
            biased;
            answer = others => { answer?; }
            early = &mut asked => bail!("answered before the others were: {:?}", early?.err()),
        }
        self.stage.beside.add_permits(1);
        ensure!(asked.as_mut().now_or_never().is_none(), "Azure was not silent");
        asked.await
    }

    /// Reason, text and time. Returns for how long it holds.
    fn judge(&self, refusal: &Refusal) -> anyhow::Result<Duration> {
        let (Meaning::Refused(expected) | Meaning::Paused(expected, _)) = self.row.meaning else {
            bail!("a refusal where none was expected: {refusal:?}");
        };
        ensure!(
            refusal.reason == expected,
            "expected {expected:?}, got {refusal:?}"
        );
        ensure!(!refusal.message.is_empty(), "{expected:?} without a text");
        ensure!(
            !refusal.message.contains(CANARY),
            "Azure's own words: {}",
            refusal.message
        );
        let hint = refusal.retry_after;
        let hint = hint.with_context(|| format!("no word on when to ask again: {refusal:?}"))?;
        let (least, most) = remembered(self.row.meaning).context("it is not remembered at all")?;
        ensure!(!hint.is_zero(), "asking again at once is no advice");
        // Some of it has passed since Azure said so.
        let slack = Duration::from_secs(2).min(least / 2);
        ensure!(
            least.saturating_sub(slack) <= hint && hint <= most,
            "asks for {hint:?}, not for {least:?} to {most:?}"
        );
        Ok(hint)
    }

    /// Asked again before the time, it says the same, and Azure is left alone. A short time may be over when the answer
    /// has come to a busy test: then the log of calls tells, at the end.
    async fn remembers(&self, refusal: &Refusal, wait: Duration) -> anyhow::Result<()> {
        let is_long = wait >= SOON;
        match self.ask().await? {
            Err(again) => ensure_same(refusal, &again)?,
            Ok(_credential) => ensure!(!is_long, "a credential before the time"),
        }
        if is_long { self.ensure_calls(1) } else { Ok(()) }
    }

    /// After the time, and after as many failures as there are, comes the credential; until then nothing else is said.
    async fn recovers(&self, refusal: &Refusal, wait: Duration) -> anyhow::Result<()> {
        tokio::time::sleep(wait).await;
        poll("there is a credential", RECOVERY, async || {
            match self.ask().await? {
                Ok(_credential) => Ok(Ok(())),
                Err(again) => {
                    ensure_same(refusal, &again)?;
                    Ok(Err(again.message))
                }
            }
        })
        .await
    }

    fn calls(&self) -> usize {
        self.row.hop.calls(self.stage.rig, self.site).count()
    }

    /// One fetch is one call: nothing below retries.
    fn ensure_calls(&self, expected: usize) -> anyhow::Result<()> {
        let calls = self.calls();
        ensure!(calls == expected, "{calls} calls instead of {expected}");
        Ok(())
    }

    /// No call came before the time that the failure before it has set.
    fn ensure_pauses(&self, hint: Duration) -> anyhow::Result<()> {
        let least = match (self.row.class(), remembered(self.row.meaning)) {
            (Some(RetryClass::Transient), _) | (_, None) => hint.min(SOON),
            (_, Some((least, _most))) => least,
        };
        let calls = self.row.hop.calls(self.stage.rig, self.site);
        let Some(([first, ..], [second, ..])) = calls.entries().split_at_checked(1) else {
            bail!("two calls were expected");
        };
        let after = first.answered_at().unwrap_or(first.at_real);
        let pause = Duration::try_from(second.at_real.duration_since(after))?;
        ensure!(pause >= least, "asked again after {pause:?}, not {least:?}");
        Ok(())
    }
}

/// Texts end up in the status of Kubernetes objects: one that changes is a write, and a reason to ask again.
fn ensure_same(first: &Refusal, again: &Refusal) -> anyhow::Result<()> {
    ensure!(
        (first.reason, &first.message) == (again.reason, &again.message),
        "{first:?} became {again:?}"
    );
    Ok(())
}

impl Row {
    fn class(&self) -> Option<RetryClass> {
        match self.meaning {
            Meaning::Served => None,
            Meaning::Paused(..) => Some(RetryClass::Throttled),
            Meaning::Refused(reason) => Some(Reason::retry_class(reason)),
        }
    }
}

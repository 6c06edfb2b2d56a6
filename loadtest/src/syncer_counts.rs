//! What the syncer counts besides its calls to the API server: passes, and questions to the broker.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;

const PASSES: &str = "acrpull_syncer_reconcile_total{";
const QUESTIONS: &str = "acrpull_syncer_refresh_total{";

/// The admin listener answers at once, unless the machine is busy.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(5);

/// Since the syncer's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SyncerCounts {
    pub(crate) passes: u64,
    pub(crate) questions: u64,
}

/// All metrics of a process, as text.
///
/// # Errors
/// Its admin listener does not answer.
pub(crate) async fn scrape(admin: SocketAddr) -> anyhow::Result<String> {
    let client = reqwest::Client::builder()
        .timeout(SCRAPE_TIMEOUT)
        .no_proxy()
        .build()?;
    let answer = client.get(format!("http://{admin}/metrics")).send().await?;
    let answer = answer.error_for_status().context("the syncer's metrics")?;
    Ok(answer.text().await?)
}

impl SyncerCounts {
    /// What a syncer has done.
    ///
    /// # Errors
    /// Its admin listener does not answer.
    pub(crate) async fn of(admin: SocketAddr) -> anyhow::Result<Self> {
        Ok(Self::parse(&scrape(admin).await?))
    }

    fn parse(metrics: &str) -> Self {
        Self {
            passes: sum(metrics, PASSES),
            questions: sum(metrics, QUESTIONS),
        }
    }
}

fn sum(metrics: &str, name: &str) -> u64 {
    metrics
        .lines()
        .filter_map(|line| line.strip_prefix(name)?.rsplit_once(' ')?.1.parse::<u64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_summed_over_their_labels() {
        let counts = SyncerCounts::parse(
            "# TYPE acrpull_syncer_reconcile counter\n\
             acrpull_syncer_reconcile_total{result=\"success\"} 7\n\
             acrpull_syncer_reconcile_total{result=\"problem\"} 2\n\
             acrpull_syncer_refresh_total{outcome=\"failed\",reason=\"POLICY DENIED\"} 4\n",
        );
        assert_eq!(
            counts,
            SyncerCounts {
                passes: 9,
                questions: 4
            }
        );
    }
}

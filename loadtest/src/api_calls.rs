//! Calls to the API server by verb and resource, as the syncer counts them (watches aside).

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::report::Figure;
use crate::syncer_counts;

/// The metric that counts them.
const METRIC: &str = "acrpull_syncer_kube_requests_total{";

/// Verbs that change nothing.
const READS: [&str; 2] = ["get", "list"];

/// Calls by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ApiCalls(BTreeMap<Kind, u64>);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    verb: String,
    resource: String,
    is_refused: bool,
}

impl ApiCalls {
    /// So many successful calls of each kind.
    pub(crate) fn of(calls: &[(&str, &str, u64)]) -> Self {
        let kind = |&(verb, resource, calls): &(&str, &str, u64)| {
            (
                Kind {
                    verb: verb.to_owned(),
                    resource: resource.to_owned(),
                    is_refused: false,
                },
                calls,
            )
        };
        Self(calls.iter().map(kind).collect())
    }

    /// What a syncer has done since its start.
    ///
    /// # Errors
    /// Its admin listener does not answer.
    pub(crate) async fn of_syncer(admin: SocketAddr) -> anyhow::Result<Self> {
        Ok(Self::parse(&syncer_counts::scrape(admin).await?))
    }

    fn parse(metrics: &str) -> Self {
        let mut calls = Self::default();
        for line in metrics.lines() {
            if let Some((kind, count)) = line.strip_prefix(METRIC).and_then(sample) {
                *calls.0.entry(kind).or_default() += count;
            }
        }
        calls
    }

    /// Those that were not there before.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let more = |(kind, calls): (&Kind, &u64)| {
            let new = calls - before.0.get(kind).unwrap_or(&0).min(calls);
            (new > 0).then(|| (kind.clone(), new))
        };
        Self(self.0.iter().filter_map(more).collect())
    }

    /// A figure for each kind beside the baseline's calls of that kind, and one for all writes.
    pub(crate) fn figures(&self, baseline: &Self) -> Vec<Figure> {
        let kinds = self.0.iter().map(|(kind, calls)| {
            let name = format!("API: {}", kind.name());
            figure(name, *calls, baseline.0.get(kind).copied())
        });
        let writes = figure(
            "API: all writes".to_owned(),
            self.writes(),
            Some(baseline.writes()),
        );
        kinds.chain([writes]).collect()
    }

    /// All of them.
    pub(crate) fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Writes that were not refused. The syncer tries once a while whether what must be refused is, as a dry run.
    pub(crate) fn changes(&self) -> u64 {
        // A leader renews its Lease all the time.
        let aside = self
            .0
            .iter()
            .filter(|(kind, _calls)| !kind.is_read() && (kind.is_refused || kind.resource == "leases"));
        self.writes() - aside.map(|(_kind, calls)| calls).sum::<u64>()
    }

    fn writes(&self) -> u64 {
        let writes = self.0.iter().filter(|(kind, _calls)| !kind.is_read());
        writes.map(|(_kind, calls)| calls).sum()
    }
}

impl Kind {
    fn is_read(&self) -> bool {
        READS.contains(&self.verb.as_str())
    }

    fn name(&self) -> String {
        format!(
            "{} {}{}",
            self.verb,
            self.resource,
            if self.is_refused { ", refused" } else { "" }
        )
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of a short run are far below 2^52"
)]
fn figure(name: String, calls: u64, baseline: Option<u64>) -> Figure {
    Figure {
        name,
        unit: "calls",
        value: calls as f64,
        baseline: baseline.map(|calls| calls as f64),
        goal: None,
    }
}

/// The labels and the value of one line of the metric.
fn sample(line: &str) -> Option<(Kind, u64)> {
    let (labels, value) = line.split_once('}')?;
    let label = |name: &str| {
        let mut pairs = labels.split(',').filter_map(|pair| pair.split_once('='));
        pairs.find_map(|(key, value)| (key == name).then(|| value.trim_matches('"').to_owned()))
    };
    let is_refused = label("code")? != "200";
    Some((
        Kind {
            verb: label("verb")?,
            resource: label("resource")?,
            is_refused,
        },
        value.trim().parse().ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_read_from_the_metrics_and_refused_ones_told_apart() {
        let calls = ApiCalls::parse(
            "# TYPE acrpull_syncer_kube_requests counter\n\
             acrpull_syncer_kube_requests_total{verb=\"patch\",resource=\"secrets\",code=\"200\"} 7\n\
             acrpull_syncer_kube_requests_total{verb=\"patch\",resource=\"secrets\",code=\"409\"} 2\n\
             acrpull_syncer_kube_requests_total{verb=\"list\",resource=\"secrets\",code=\"200\"} 1\n\
             acrpull_syncer_reconcile_total{result=\"success\"} 9\n",
        );
        let names: Vec<_> = calls
            .figures(&ApiCalls::of(&[("patch", "secrets", 5)]))
            .into_iter()
            .map(|f| (f.name, f.baseline))
            .collect();
        assert_eq!(
            names,
            [
                ("API: list secrets".to_owned(), None),
                ("API: patch secrets".to_owned(), Some(5.0)),
                ("API: patch secrets, refused".to_owned(), None),
                ("API: all writes".to_owned(), Some(5.0)),
            ]
        );
        assert_eq!((calls.writes(), calls.changes(), calls.total()), (9, 7, 10));
    }
}

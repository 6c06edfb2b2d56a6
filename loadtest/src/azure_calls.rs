//! Calls to the simulated Azure by kind, as the simulator counts them.

use std::collections::BTreeMap;

use azure_simulator::{CallCount, Operation, Service};
use e2e::Azure;

use crate::report::Figure;

/// Calls by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct AzureCalls(BTreeMap<String, u64>);

impl AzureCalls {
    /// All since the simulator was started.
    ///
    /// # Errors
    /// The simulator does not answer.
    pub(crate) async fn so_far(azure: &Azure) -> anyhow::Result<Self> {
        Ok(Self::of(&azure.admin().counters().await?.calls))
    }

    /// Finished calls to one host, since the simulator was started.
    ///
    /// # Errors
    /// The simulator does not answer.
    pub(crate) async fn to(azure: &Azure, host: &str) -> anyhow::Result<u64> {
        let counters = azure.admin().counters().await?;
        let to_host = counters.calls.iter().filter(|count| count.host == host);
        Ok(to_host.map(|count| count.calls).sum())
    }

    fn of(counts: &[CallCount]) -> Self {
        let mut calls = BTreeMap::new();
        for count in counts {
            *calls.entry(kind(count.service, count.op)).or_default() += count.calls;
        }
        Self(calls)
    }

    /// Those that were not there before.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let more = |(kind, calls): (&String, &u64)| {
            let new = calls - before.0.get(kind).unwrap_or(&0).min(calls);
            (new > 0).then(|| (kind.clone(), new))
        };
        Self(self.0.iter().filter_map(more).collect())
    }

    /// All of them.
    pub(crate) fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// A figure for each kind, and one for all.
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts of a short run are far below 2^52"
    )]
    pub(crate) fn figures(&self) -> Vec<Figure> {
        let figure = |name: String, calls: u64| Figure::alone(name, "calls", calls as f64);
        let kinds = self
            .0
            .iter()
            .map(|(kind, calls)| figure(format!("Azure: {kind}"), *calls));
        kinds
            .chain([figure("Azure: all".to_owned(), self.total())])
            .collect()
    }
}

fn kind(service: Service, operation: Operation) -> String {
    match (service, operation) {
        (Service::Entra, Operation::Token) => "Entra token".to_owned(),
        (Service::Imds, Operation::Token) => "IMDS token".to_owned(),
        (Service::Acr, Operation::Exchange) => "ACR refresh token".to_owned(),
        (Service::Acr, Operation::Token) => "ACR access token".to_owned(),
        (service, operation) => format!("{} {operation:?}", service.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_since_are_only_the_new_ones() {
        let of = |calls: &[(&str, u64)]| {
            AzureCalls(
                calls
                    .iter()
                    .map(|&(kind, calls)| (kind.to_owned(), calls))
                    .collect(),
            )
        };
        let new = of(&[("a", 5), ("b", 2), ("c", 1)]).since(&of(&[("a", 3), ("b", 2)]));
        assert_eq!(new, of(&[("a", 2), ("c", 1)]));
        assert_eq!(new.total(), 3);
    }
}

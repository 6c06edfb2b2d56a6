//! Limits: what a cluster's own section says, else that of the file, else the defaults.

use super::field::{ConfigError, content};
use crate::config::{Limits, Rate, file};

/// Beyond this a bucket is finer than its clock, and no machine is that fast.
const MOST_PER_SECOND: u32 = 1_000_000;

pub(super) fn limits(field: &str, limits: file::Limits, otherwise: &Limits) -> Result<Limits, ConfigError> {
    let file::Limits {
        per_cluster,
        per_namespace,
    } = limits;
    Ok(Limits {
        per_cluster: rate(
            &format!("{field}.perCluster"),
            per_cluster.as_ref(),
            otherwise.per_cluster,
        )?,
        per_namespace: rate(
            &format!("{field}.perNamespace"),
            per_namespace.as_ref(),
            otherwise.per_namespace,
        )?,
    })
}

fn rate(field: &str, rate: Option<&file::Rate>, otherwise: Rate) -> Result<Rate, ConfigError> {
    let Some(&file::Rate {
        requests_per_second,
        burst,
    }) = rate
    else {
        return Ok(otherwise);
    };
    if !(1..=MOST_PER_SECOND).contains(&requests_per_second) {
        return Err(content(
            format!("{field}.requestsPerSecond"),
            format!("must be from 1 to {MOST_PER_SECOND}; to cut off a cluster, take it out of clusters"),
        ));
    }
    if burst == 0 {
        return Err(content(
            format!("{field}.burst"),
            "must be at least 1: a request is let through whole or not at all",
        ));
    }
    Ok(Rate {
        requests_per_second,
        burst,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> Result<Limits, String> {
        let section: file::Limits = serde_saphyr::from_str(yaml).map_err(|error| error.to_string())?;
        limits("limits", section, &Limits::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn limits_that_are_not_written_are_those_around() {
        let written = read("perNamespace: {requestsPerSecond: 7, burst: 9}").unwrap();
        assert_eq!(written.per_cluster, Limits::default().per_cluster);
        let expected = Rate {
            requests_per_second: 7,
            burst: 9,
        };
        assert_eq!(written.per_namespace, expected);
        assert_eq!(read("{}"), Ok(Limits::default()));
    }

    #[test]
    fn limits_that_make_no_sense_are_refused_by_the_name_of_the_field() {
        for (yaml, named) in [
            (
                "perCluster: {requestsPerSecond: 0, burst: 1}",
                "limits.perCluster.requestsPerSecond",
            ),
            (
                "perCluster: {requestsPerSecond: 1000001, burst: 1}",
                "limits.perCluster.requestsPerSecond",
            ),
            (
                "perNamespace: {requestsPerSecond: 1, burst: 0}",
                "limits.perNamespace.burst",
            ),
            ("perNamespace: {requestsPerSecond: 1}", "burst"),
            (
                "perNamespace: {requestsPerSecond: -1, burst: 1}",
                "requestsPerSecond",
            ),
            ("perAddress: {requestsPerSecond: 1, burst: 1}", "perAddress"),
        ] {
            let error = read(yaml).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
    }
}

//! Flags of leader election. The names and defaults are those of controller-runtime, so that what people wrote for
//! other controllers works here; checked together, because none of the three times says anything alone.

use std::time::Duration;

use clap::{Args, builder::BoolishValueParser};
use runtime::Failure;

use crate::leadership::Timing;

/// Of several replicas one works, the others stand by.
#[derive(Debug, Args)]
pub struct LeadershipArgs {
    /// Work only while holding a Lease, so that several replicas can run.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, action = clap::ArgAction::Set,
          default_value = "false", default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub leader_elect: bool,
    /// Namespace of the Lease. Without it, that of the Pod.
    #[arg(long, value_name = "NAMESPACE", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub leader_election_namespace: Option<String>,
    /// Name of the Lease. Replicas that share it are replicas of each other.
    #[arg(long, value_name = "NAME", default_value = "acrpull-syncer",
          value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub leader_election_id: String,
    /// What this replica calls itself in the Lease; a random suffix is added.
    #[arg(long, value_name = "NAME", env = "POD_NAME", default_value = "syncer",
          value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub leader_election_identity: String,
    /// How long a Lease that nobody renews is respected; whole seconds.
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = duration)]
    pub leader_elect_lease_duration: Duration,
    /// How long the leader goes on without having renewed the Lease.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub leader_elect_renew_deadline: Duration,
    /// Between two looks at the Lease.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration)]
    pub leader_elect_retry_period: Duration,
}

impl LeadershipArgs {
    /// The three times, if leadership can be safe with them.
    ///
    /// # Errors
    /// It cannot; the failure names the flag.
    pub fn timing(&self) -> Result<Timing, Failure> {
        let timing = Timing {
            lease: self.leader_elect_lease_duration,
            renew_deadline: self.leader_elect_renew_deadline,
            retry: self.leader_elect_retry_period,
        };
        if timing.lease.is_zero() || timing.lease.subsec_nanos() != 0 {
            return Err(
                Failure::usage("--leader-elect-lease-duration is not whole seconds")
                    .remedy("a Lease keeps whole seconds; write 15s, for example"),
            );
        }
        if timing.renew_deadline >= timing.lease {
            return Err(Failure::usage(
                "--leader-elect-renew-deadline is not shorter than --leader-elect-lease-duration",
            )
            .remedy("a leader must stop before others may begin; 10s and 15s, for example"));
        }
        if timing.longest_pause() >= timing.renew_deadline || timing.retry.is_zero() {
            return Err(Failure::usage(
                "--leader-elect-retry-period, and a fifth of it for jitter, is not between zero and \
                 --leader-elect-renew-deadline",
            )
            .remedy("a leader must have several tries before it gives up; 2s and 10s, for example"));
        }
        Ok(timing)
    }
}

/// A duration as Go writes it: numbers with units, such as `15s`, `1m30s` or `500ms`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "write whole numbers with the units h, m, s or ms, such as 15s or 1m30s".to_owned();
    let mut rest = text;
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest
            .find(|letter: char| !letter.is_ascii_digit())
            .unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let letters = after
            .find(|letter: char| letter.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let unit_ms: u64 = match unit {
            "h" => 3_600_000,
            "m" => 60_000,
            "s" => 1_000,
            "ms" => 1,
            _ => return Err(wrong()),
        };
        let number: u64 = number.parse().map_err(|_error| wrong())?;
        total = number
            .checked_mul(unit_ms)
            .and_then(|ms| total.checked_add(Duration::from_millis(ms)))
            .filter(|total| *total <= LONGEST)
            .ok_or_else(|| "is longer than a day".to_owned())?;
        rest = after;
    }
    Ok(total)
}

/// Nobody waits longer than this for a successor; and it fits the Lease's field many times over.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Only {
        #[command(flatten)]
        leadership: LeadershipArgs,
    }

    fn parsed(flags: &[&str]) -> Result<LeadershipArgs, clap::Error> {
        let only = Only::try_parse_from(["syncer"].iter().chain(flags));
        only.map(|only| only.leadership)
    }

    #[test]
    fn leader_elect_is_read_as_go_users_write_it() {
        for (flags, expected) in [
            (&[][..], false),
            (&["--leader-elect"], true),
            (&["--leader-elect=true"], true),
            (&["--leader-elect=1"], true),
            (&["--leader-elect=false"], false),
        ] {
            assert_eq!(parsed(flags).unwrap().leader_elect, expected, "{flags:?}");
        }
        assert!(parsed(&["--leader-elect=maybe"]).is_err());
    }

    #[test]
    fn leadership_times_default_to_those_of_other_controllers() {
        let timing = parsed(&[]).unwrap().timing().unwrap();
        let [lease, renew_deadline, retry] = [15, 10, 2].map(Duration::from_secs);
        assert_eq!(
            timing,
            Timing {
                lease,
                renew_deadline,
                retry
            }
        );
    }

    #[test]
    fn leadership_times_that_are_not_safe_together_are_refused_by_the_flag() {
        for (flags, named) in [
            (
                ["--leader-elect-lease-duration=10s"],
                "--leader-elect-renew-deadline",
            ),
            (
                ["--leader-elect-lease-duration=15500ms"],
                "--leader-elect-lease-duration",
            ),
            (
                ["--leader-elect-lease-duration=0s"],
                "--leader-elect-lease-duration",
            ),
            (
                ["--leader-elect-renew-deadline=15s"],
                "--leader-elect-renew-deadline",
            ),
            (
                ["--leader-elect-renew-deadline=2400ms"],
                "--leader-elect-retry-period",
            ),
            (["--leader-elect-retry-period=9s"], "--leader-elect-retry-period"),
            (["--leader-elect-retry-period=0s"], "--leader-elect-retry-period"),
        ] {
            let refused = parsed(&flags).unwrap().timing().unwrap_err().to_string();
            assert!(refused.starts_with(named), "{flags:?}: {refused}");
        }
    }

    #[test]
    fn duration_is_read_as_go_writes_it() {
        for (text, ms) in [
            ("15s", 15_000),
            ("1m30s", 90_000),
            ("500ms", 500),
            ("1h0m0s", 3_600_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for bad in [
            "",
            "15",
            "s",
            "-1s",
            "1.5s",
            "1d",
            "1 s",
            "25h",
            "99999999999999999999s",
            "5124095576030432h",
        ] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}

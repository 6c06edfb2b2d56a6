//! Simulated time. Each service may be off by its own amount, so that clock skew between Azure, the
//! clusters and the product can be tested without touching the machine's clock.

use std::{collections::BTreeMap, sync::Arc};

use jiff::{SignedDuration, Timestamp, fmt::rfc2822::DateTimePrinter};
use serde::{Deserialize, Serialize};

use crate::Service;

/// Where the simulator reads the time from, before the settings of its clock: the machine, or a test that moves time by
/// hand.
pub type TimeSource = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// How simulated time differs from that of the source, which is usually the machine's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClockSettings {
    /// Seconds added to the source's time, for every service.
    pub offset_s: i64,
    /// Time stands still here. `offset_s` is still added.
    pub frozen: Option<Timestamp>,
    /// Seconds added for one service only.
    pub service_offsets_s: BTreeMap<Service, i64>,
}

/// A change of simulated time; what is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClockChange {
    /// Moves time by so many seconds.
    pub advance_s: i64,
    /// Replaces all settings first.
    pub settings: Option<ClockSettings>,
}

impl ClockChange {
    /// Moves time by so many seconds.
    pub fn advance_s(seconds: i64) -> Self {
        Self {
            advance_s: seconds,
            settings: None,
        }
    }

    pub(crate) fn apply(self, clock: &mut ClockSettings) {
        if let Some(settings) = self.settings {
            *clock = settings;
        }
        clock.offset_s = clock.offset_s.saturating_add(self.advance_s);
    }
}

impl ClockSettings {
    /// What `service` takes for the time when the source's clock shows `real`.
    pub fn at(&self, service: Service, real: Timestamp) -> Timestamp {
        let own = self.service_offsets_s.get(&service).copied().unwrap_or_default();
        self.shifted(real, own)
    }

    /// What clusters take for the time.
    pub(crate) fn of_clusters(&self, real: Timestamp) -> Timestamp {
        self.shifted(real, 0)
    }

    fn shifted(&self, real: Timestamp, own_s: i64) -> Timestamp {
        let offset = SignedDuration::from_secs(self.offset_s.saturating_add(own_s));
        let base = self.frozen.unwrap_or(real);
        base.saturating_add(offset).unwrap_or(base)
    }
}

/// An instant as HTTP writes it (RFC 9110, 5.6.7); none beyond the year 9999.
pub(crate) fn http_date(at: Timestamp) -> Option<String> {
    DateTimePrinter::new().timestamp_to_rfc9110_string(&at).ok()
}

/// The machine's time: the only place that reads it.
pub(crate) fn of_the_machine() -> TimeSource {
    Arc::new(Timestamp::now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_offset_adds_to_every_service_and_skew_to_one() {
        let clock = ClockSettings {
            offset_s: 60,
            service_offsets_s: BTreeMap::from([(Service::Acr, -600)]),
            ..ClockSettings::default()
        };
        let real = Timestamp::from_second(1_000_000).unwrap();
        assert_eq!(clock.at(Service::Entra, real).as_second(), 1_000_060);
        assert_eq!(clock.at(Service::Acr, real).as_second(), 999_460);
    }

    #[test]
    fn clock_frozen_ignores_the_machine() {
        let clock = ClockSettings {
            frozen: Some(Timestamp::from_second(500).unwrap()),
            offset_s: 1,
            ..ClockSettings::default()
        };
        assert_eq!(
            clock
                .at(Service::Imds, Timestamp::from_second(9_999).unwrap())
                .as_second(),
            501
        );
    }
}

//! Lines that are about the log itself and not about a call: what it begins with, and what it lacks.

use std::time::SystemTime;

use proto::Reason;
use runtime::build_info::VERSION;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    fingerprint::FingerprintKey,
    strangers::Suppressed,
    text::{Time, to_line},
};

/// What every line says of its form. A reader may rely on the fields of a version; later ones may be added to it.
pub(super) const FORM: &str = "acrpull.dev/v1";

#[derive(Serialize)]
struct Beginning<'a> {
    audit: &'static str,
    event: &'static str,
    time: Time,
    version: &'static str,
    instance: &'a str,
    fingerprint_key: &'a str,
    /// Whether the key is gone when the process is.
    fingerprint_key_is_random: bool,
}

#[derive(Serialize)]
struct Lost {
    audit: &'static str,
    event: &'static str,
    time: Time,
    records: u64,
}

#[derive(Serialize)]
struct Strangers {
    audit: &'static str,
    event: &'static str,
    time: Time,
    suppressed: u64,
    reasons: Map<String, Value>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    clusters: Map<String, Value>,
}

/// The first line of a process.
pub(super) fn start(now: SystemTime, instance: &str, key: &FingerprintKey, is_random: bool) -> Vec<u8> {
    about_key("start", now, instance, key, is_random)
}

/// From here on, fingerprints are made with another key.
pub(super) fn key(now: SystemTime, instance: &str, key: &FingerprintKey, is_random: bool) -> Vec<u8> {
    about_key("key", now, instance, key, is_random)
}

fn about_key(
    event: &'static str,
    now: SystemTime,
    instance: &str,
    key: &FingerprintKey,
    is_random: bool,
) -> Vec<u8> {
    to_line(&Beginning {
        audit: FORM,
        event,
        time: Time(now),
        version: VERSION,
        instance,
        fingerprint_key: key.id(),
        fingerprint_key_is_random: is_random,
    })
}

/// So many records are missing before the one before this line.
pub(super) fn lost(now: SystemTime, records: u64) -> Vec<u8> {
    to_line(&Lost {
        audit: FORM,
        event: "lost",
        time: Time(now),
        records,
    })
}

/// So many refusals since the last such line have no record of their own: of strangers, and by cluster of its callers.
pub(super) fn strangers(now: SystemTime, suppressed: &Suppressed) -> Vec<u8> {
    let mut summary = Strangers {
        audit: FORM,
        event: "strangers",
        time: Time(now),
        suppressed: 0,
        reasons: Map::new(),
        clusters: Map::new(),
    };
    for (source, reasons) in suppressed {
        summary.suppressed += reasons.iter().map(|(_reason, times)| times).sum::<u64>();
        match source {
            None => summary.reasons = by_reason(reasons),
            Some(cluster) => {
                let reasons = Value::Object(by_reason(reasons));
                summary.clusters.insert(cluster.to_string(), reasons);
            }
        }
    }
    to_line(&summary)
}

fn by_reason(reasons: &[(Reason, u64)]) -> Map<String, Value> {
    reasons
        .iter()
        .map(|(reason, times)| (reason.as_wire().to_owned(), Value::from(*times)))
        .collect()
}

//! One call as it is remembered: everything but the secrets, which are named by their digest.

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::counters::CallCount;
use crate::{
    Operation, Service,
    jwt::Parsed,
    request::{Parameters, Request},
};

/// One call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogEntry {
    /// Order of arrival.
    pub seq: u64,
    /// Arrival by the clock of the simulator's source of time: the machine's, unless it runs in process.
    pub at_real: Timestamp,
    /// Arrival by the service's clock.
    pub at_sim: Timestamp,
    /// Number of the connection it came on.
    pub connection: u64,
    /// The service.
    pub service: Service,
    /// What was wanted.
    pub op: Operation,
    /// HTTP method.
    pub method: String,
    /// Host asked for, without port.
    pub host: String,
    /// Path.
    pub path: String,
    /// Query; values of secret parameters are left out.
    pub query: Vec<(String, String)>,
    /// Form; values of secret parameters are left out.
    pub form: Vec<(String, String)>,
    /// Headers; `Authorization` is left out.
    pub headers: Vec<(String, String)>,
    /// Secrets that came with it.
    pub secrets: Vec<SecretSeen>,
    /// Entra tenant.
    pub tenant: Option<String>,
    /// Client ID it speaks for.
    pub client_id: Option<String>,
    /// Each check that was made and its result.
    pub trace: Vec<String>,
    /// Status of the answer; none while it is open, or if there was none.
    pub status: Option<u16>,
    /// The fault that hit it.
    pub fault: Option<String>,
    /// Time to the answer; none while it is open.
    pub duration_ms: Option<u64>,
    /// The last call that had arrived when this one ended: it was open together with those from `seq` to here. None
    /// while it is open.
    pub ended_after: Option<u64>,
    /// The client went away first.
    pub client_closed_early: bool,
}

/// A secret that came with a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SecretSeen {
    /// Where it was.
    pub place: String,
    /// SHA-256, hexadecimal.
    pub sha256: String,
    /// Its claims, if it is a JWT.
    pub claims: Option<Value>,
}

impl SecretSeen {
    pub(crate) fn of(place: String, secret: &str) -> Self {
        let claims = Parsed::parse(secret).map(|token| token.claims);
        Self {
            place,
            sha256: sha256_hex(secret.as_bytes()),
            claims,
        }
    }
}

impl LogEntry {
    pub(super) fn new(seq: u64, request: &Request, connection: u64, sim: Timestamp, real: Timestamp) -> Self {
        let subject = request.subject();
        let secrets = request
            .secrets()
            .into_iter()
            .map(|(place, secret)| SecretSeen::of(place, &secret));
        Self {
            seq,
            at_real: real,
            at_sim: sim,
            connection,
            service: request.service,
            op: request.operation,
            method: request.method.to_string(),
            host: request.host.clone(),
            path: request.path.clone(),
            query: without_secrets(&request.query),
            form: without_secrets(&request.form),
            headers: request
                .headers
                .iter()
                .filter(|(name, _)| name.as_str() != "authorization")
                .map(|(name, value)| {
                    (
                        name.to_string(),
                        String::from_utf8_lossy(value.as_bytes()).into_owned(),
                    )
                })
                .collect(),
            secrets: secrets.collect(),
            tenant: subject.tenant,
            client_id: subject.client_id,
            trace: Vec::new(),
            status: None,
            fault: None,
            duration_ms: None,
            ended_after: None,
            client_closed_early: false,
        }
    }

    pub(super) fn count_key(&self) -> CallCount {
        CallCount {
            service: self.service,
            op: self.op,
            status: self.status,
            client_id: self.client_id.clone(),
            host: self.host.clone(),
            fault: self.fault.clone(),
            calls: 0,
        }
    }

    /// The first value of a parameter, in the form or in the query; that of a secret is left out.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let parameters = self.form.iter().chain(&self.query);
        parameters
            .filter(|(own, _)| own == name)
            .map(|(_, value)| value.as_str())
            .next()
    }

    /// Whether it was still open when the call `seq` arrived, which is a later one.
    pub(super) fn was_open_at(&self, seq: u64) -> bool {
        self.ended_after.is_none_or(|last| seq <= last)
    }

    /// When it was answered, by the clock of [`LogEntry::at_real`].
    pub fn answered_at(&self) -> Option<Timestamp> {
        let duration = jiff::SignedDuration::from_millis(i64::try_from(self.duration_ms?).ok()?);
        self.at_real.saturating_add(duration).ok()
    }
}

fn without_secrets(parameters: &Parameters) -> Vec<(String, String)> {
    let shown = |(name, value): &(String, String)| {
        (
            name.clone(),
            if Parameters::is_secret(name) {
                "(secret)".to_owned()
            } else {
                value.clone()
            },
        )
    };
    parameters.0.iter().map(shown).collect()
}

/// SHA-256 in hexadecimal.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    digest(&SHA256, bytes)
        .as_ref()
        .iter()
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

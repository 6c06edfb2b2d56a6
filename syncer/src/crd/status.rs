//! The status: the peer's three fields, still filled for those who read them, and what a user of today expects.

#![expect(
    unreachable_pub,
    reason = "the derive of the schema repeats each struct inside a function"
)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// What the syncer last saw and did.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AcrPullBindingStatus {
    /// When the token in the Secret was fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_token_refresh_time: Option<Time>,
    /// When the token in the Secret expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_expiration_time: Option<Time>,
    /// What is wrong at the moment, in words; absent when nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// `Ready` sums up; `CredentialIssued`, `SecretSynced` and `ServiceAccountLinked` are its parts;
    /// `RefreshDegraded` is True while the token still works and its renewal fails; `Reconciling` and `Stalled` are there
    /// only while they are True: not ready yet, or not before somebody changes something.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
    /// The generation of the spec that this status speaks of; -1 before the syncer has seen the binding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Name of the pull Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_secret_name: Option<String>,
    /// When the next token is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_refresh_time: Option<Time>,
    /// Failed attempts since the last success. Updated at most every ten minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consecutive_failures: Option<i64>,
    /// The most recent failure, of the credential or of the link, kept after it has passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<LastFailure>,
    /// What the registry granted, in canonical form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub granted_scope: Option<String>,
    /// What the token in the Secret was issued for. Told only by a syncer that may not read Secrets
    /// (`--secrets-access=write-only`): it knows by this, after a restart, whether the token still fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<CredentialRecord>,
}

/// What a token was issued for.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct CredentialRecord {
    /// Hash over all that the token depends on: the spec, and what the ServiceAccount says about the identity.
    pub inputs: String,
    /// Fingerprint of the Secret's payload, in hexadecimal.
    pub fingerprint: String,
    /// The value of the annotation `acrpull.microsoft.com/refresh-requested` that was answered last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_request: Option<String>,
}

/// A failure.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LastFailure {
    /// From the catalogue of reasons; the troubleshooting guide has a section for each.
    pub reason: String,
    /// In words.
    pub message: String,
    /// When it first happened.
    pub time: Time,
    /// The trace of that attempt.
    #[serde(rename = "traceID", default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// The id of that attempt's request to Azure, if it got so far: what Azure's support asks for.
    #[serde(rename = "azureRequestID", default, skip_serializing_if = "Option::is_none")]
    pub azure_request_id: Option<String>,
}

//! Credentials as the messages that hand them out, and how answers are counted.

use proto::{
    time::to_timestamp,
    v1::{
        ExplainResponse, GetAccessTokenResponse, GetDockerConfigResponse, InvalidateResponse,
        ListClustersResponse, TokenKind,
    },
};

use crate::{
    credentials::{Credential, Payload},
    metrics::Outcome,
};

/// What a call answers with.
pub trait Answer: Send {
    /// How it is counted.
    fn outcome(&self) -> Outcome {
        Outcome::Answered
    }
}

impl Answer for GetDockerConfigResponse {
    fn outcome(&self) -> Outcome {
        issued_unless(self.not_modified)
    }
}

impl Answer for GetAccessTokenResponse {
    fn outcome(&self) -> Outcome {
        issued_unless(self.not_modified)
    }
}

impl Answer for ExplainResponse {}
impl Answer for ListClustersResponse {}
impl Answer for InvalidateResponse {}

fn issued_unless(not_modified: bool) -> Outcome {
    if not_modified {
        Outcome::NotModified
    } else {
        Outcome::Issued
    }
}

pub(super) fn docker_config(credential: &Credential) -> GetDockerConfigResponse {
    let Credential {
        payload,
        fingerprint,
        expires_at,
        refresh_at,
        degraded,
        granted,
    } = credential;
    GetDockerConfigResponse {
        not_modified: payload.is_none(),
        docker_config_json: payload
            .as_ref()
            .map(Payload::docker_config_json)
            .unwrap_or_default(),
        expire_time: Some(to_timestamp(*expires_at)),
        refresh_time: Some(to_timestamp(*refresh_at)),
        granted_scopes: granted.iter().map(ToString::to_string).collect(),
        fingerprint: fingerprint.as_bytes().to_vec().into(),
        degraded: *degraded,
    }
}

pub(super) fn access_token(credential: &Credential, kind: TokenKind) -> GetAccessTokenResponse {
    let Credential {
        payload,
        fingerprint,
        expires_at,
        refresh_at,
        degraded,
        granted,
    } = credential;
    GetAccessTokenResponse {
        not_modified: payload.is_none(),
        token: payload
            .as_ref()
            .map(|payload| payload.token().expose().to_owned())
            .unwrap_or_default(),
        kind: kind.into(),
        expire_time: Some(to_timestamp(*expires_at)),
        refresh_time: Some(to_timestamp(*refresh_at)),
        granted_scopes: granted.iter().map(ToString::to_string).collect(),
        fingerprint: fingerprint.as_bytes().to_vec().into(),
        degraded: *degraded,
    }
}

//! `Debug` for the messages that carry a credential: the names of the fields that are safe to print, and no more.
//! `build.rs` leaves out the generated implementation for every message with a field marked `debug_redact`.

use std::fmt;

use crate::v1::{FederatedIdentity, GetAccessTokenResponse, GetDockerConfigResponse};

impl fmt::Debug for FederatedIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FederatedIdentity")
            .field("tenant_id", &self.tenant_id)
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for GetDockerConfigResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GetDockerConfigResponse")
            .field("not_modified", &self.not_modified)
            .field("expire_time", &self.expire_time)
            .field("refresh_time", &self.refresh_time)
            .field("granted_scopes", &self.granted_scopes)
            .field("degraded", &self.degraded)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for GetAccessTokenResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GetAccessTokenResponse")
            .field("kind", &self.kind())
            .field("not_modified", &self.not_modified)
            .field("expire_time", &self.expire_time)
            .field("refresh_time", &self.refresh_time)
            .field("granted_scopes", &self.granted_scopes)
            .field("degraded", &self.degraded)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::v1::{GetDockerConfigRequest, get_docker_config_request};

    #[test]
    fn l2_credential_messages_print_no_credential() {
        let federated = FederatedIdentity {
            tenant_id: String::new(),
            client_id: String::new(),
            subject_token: "canary-subject".to_owned(),
        };
        let docker_config = GetDockerConfigResponse {
            docker_config_json: "canary-payload".into(),
            ..GetDockerConfigResponse::default()
        };
        let mut access_token = GetAccessTokenResponse::default();
        "canary-token".clone_into(&mut access_token.token);
        let printed = [
            ("FederatedIdentity", format!("{federated:?}")),
            ("GetDockerConfigResponse", format!("{docker_config:?}")),
            ("GetAccessTokenResponse", format!("{access_token:?}")),
        ];
        for (name, text) in &printed {
            assert!(text.starts_with(name) && !text.contains("canary"), "{text}");
        }
        let tried: BTreeSet<&str> = printed.iter().map(|(name, _text)| *name).collect();
        assert_eq!(tried, marked_messages());

        // What contains such a message prints it in the same way.
        let request = GetDockerConfigRequest {
            identity: Some(get_docker_config_request::Identity::Federated(federated)),
            ..GetDockerConfigRequest::default()
        };
        assert!(!format!("{request:?}").contains("canary"));
    }

    /// Messages of the contract with a field that is marked as a secret, as `build.rs` found them.
    fn marked_messages() -> BTreeSet<&'static str> {
        include_str!(concat!(env!("OUT_DIR"), "/credential_messages.txt"))
            .lines()
            .filter_map(|name| name.rsplit('.').next())
            .collect()
    }
}

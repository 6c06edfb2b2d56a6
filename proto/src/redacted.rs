//! `Debug` for the messages that carry a credential: the names of the fields that are safe to print, and no more.
//! The generated implementation is switched off in `build.rs`.

use std::fmt;

use crate::v1::{FederatedIdentity, GetDockerConfigRequest, GetDockerConfigResponse};

impl fmt::Debug for GetDockerConfigRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GetDockerConfigRequest")
            .field("binding", &self.binding)
            .field("service_accounts", &self.service_accounts)
            .field("registry", &self.registry)
            .field("scopes", &self.scopes)
            .finish_non_exhaustive()
    }
}

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

#[cfg(test)]
mod tests {
    use crate::v1::{
        FederatedIdentity, GetDockerConfigRequest, GetDockerConfigResponse, get_docker_config_request,
    };

    #[test]
    fn credential_messages_print_no_credential() {
        let federated = FederatedIdentity {
            subject_token: "canary-subject".to_owned(),
            ..FederatedIdentity::default()
        };
        let request = GetDockerConfigRequest {
            identity: Some(get_docker_config_request::Identity::Federated(federated.clone())),
            ..GetDockerConfigRequest::default()
        };
        let response = GetDockerConfigResponse {
            docker_config_json: "canary-payload".into(),
            ..Default::default()
        };
        for printed in [
            format!("{request:?}"),
            format!("{federated:?}"),
            format!("{response:?}"),
        ] {
            assert!(!printed.contains("canary"), "{printed}");
        }
    }
}

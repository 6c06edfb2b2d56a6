//! The methods of the broker, each a name and a line. All of them are idempotent, which is what makes it safe to ask a
//! second replica.

use proto::v1::{
    ExplainRequest, ExplainResponse, GetAccessTokenRequest, GetAccessTokenResponse, GetDockerConfigRequest,
    GetDockerConfigResponse, InvalidateRequest, InvalidateResponse, ListClustersRequest,
    ListClustersResponse, credential_service_client::CredentialServiceClient,
    fleet_service_client::FleetServiceClient,
};

use crate::{BrokerClient, BrokerError, connection::Wire};

/// One method: asks the broker, and returns its answer.
macro_rules! methods {
    ($($(#[$doc:meta])* $name:ident = $service:ident / $method:literal: $request:ident -> $response:ident;)*) => {
        impl BrokerClient {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// The broker refused or failed ([`BrokerError::reason`] says why), or could not be reached.
                ///
                /// # Cancel safety
                /// Cancel safe: the broker finishes the work for others, the answer is lost.
                pub async fn $name(&self, message: $request) -> Result<$response, BrokerError> {
                    self.call($method, message, |wire, request| async move {
                        $service(wire).$name(request).await
                    })
                    .await
                }
            )*
        }
    };
}

methods! {
    /// Asks for the content of a pull Secret.
    get_docker_config = credentials / "acrpull.broker.v1.CredentialService/GetDockerConfig":
        GetDockerConfigRequest -> GetDockerConfigResponse;
    /// Asks for a token alone, for a client that is no kubelet.
    get_access_token = credentials / "acrpull.broker.v1.CredentialService/GetAccessToken":
        GetAccessTokenRequest -> GetAccessTokenResponse;
    /// Asks how a request would fare, step by step; no Azure call is made and no token comes back.
    explain = credentials / "acrpull.broker.v1.CredentialService/Explain":
        ExplainRequest -> ExplainResponse;
    /// Lists the clusters, for operators.
    list_clusters = fleet / "acrpull.broker.v1.FleetService/ListClusters":
        ListClustersRequest -> ListClustersResponse;
    /// Drops cached tokens, for operators. Of the one replica that answers: replicas share nothing.
    invalidate = fleet / "acrpull.broker.v1.FleetService/Invalidate":
        InvalidateRequest -> InvalidateResponse;
}

fn credentials(wire: Wire) -> CredentialServiceClient<Wire> {
    let origin = wire.origin();
    CredentialServiceClient::with_origin(wire, origin)
        .max_decoding_message_size(proto::MAX_MESSAGE_BYTES)
        .max_encoding_message_size(proto::MAX_MESSAGE_BYTES)
}

fn fleet(wire: Wire) -> FleetServiceClient<Wire> {
    let origin = wire.origin();
    FleetServiceClient::with_origin(wire, origin)
        .max_decoding_message_size(proto::MAX_MESSAGE_BYTES)
        .max_encoding_message_size(proto::MAX_MESSAGE_BYTES)
}

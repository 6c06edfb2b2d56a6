//! `grpc.health.v1`: serving from the start to the shutdown, for the server as a whole and for each service.

use proto::v1::{credential_service_server, fleet_service_server};
use runtime::Shutdown;
use tonic_health::{
    ServingStatus,
    pb::health_server::{Health as HealthApi, HealthServer},
    server::HealthReporter,
};

use crate::access::MAX_HEALTH_MESSAGE_BYTES;

/// The server as a whole has the empty name.
const SERVICES: [&str; 3] = [
    "",
    credential_service_server::SERVICE_NAME,
    fleet_service_server::SERVICE_NAME,
];

/// What is told.
pub struct Health(HealthReporter);

/// The service, and what it tells.
pub(super) async fn service() -> (Health, HealthServer<impl HealthApi>) {
    let (reporter, service) = tonic_health::server::health_reporter();
    for name in SERVICES {
        reporter.set_service_status(name, ServingStatus::Serving).await;
    }
    // Otherwise five bytes that announce a message of 4 MiB have its memory set aside.
    let service = service.max_decoding_message_size(MAX_HEALTH_MESSAGE_BYTES);
    (Health(reporter), service)
}

impl Health {
    /// Tells everybody who watches, once the shutdown starts; and ends what they watch with, which would otherwise last
    /// until the end of the drain.
    pub async fn follow(mut self, shutdown: Shutdown) {
        shutdown.started().await;
        for name in SERVICES {
            self.0.set_service_status(name, ServingStatus::NotServing).await;
            self.0.clear_service_status(name).await;
        }
    }
}

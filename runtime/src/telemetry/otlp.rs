//! The span exporter, by the OpenTelemetry specification's environment variables and nothing else.

use opentelemetry::KeyValue;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};

use crate::{Failure, build_info::VERSION};

/// Any of these set means that traces are wanted.
const ENDPOINTS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
];

/// A provider that exports over gRPC, or none when no endpoint is set or traces are switched off.
pub(super) fn provider(service: &'static str) -> Result<Option<SdkTracerProvider>, Failure> {
    let wanted = ENDPOINTS.iter().any(|name| !variable(name).is_empty());
    let switched_off = variable("OTEL_SDK_DISABLED").eq_ignore_ascii_case("true")
        || variable("OTEL_TRACES_EXPORTER").eq_ignore_ascii_case("none");
    if !wanted || switched_off {
        return Ok(None);
    }
    // Endpoint, headers, timeout, compression and certificate are read by the exporter itself.
    let exporter = SpanExporter::builder().with_tonic().build().map_err(|error| {
        Failure::runtime("cannot build the OTLP exporter")
            .source(error)
            .remedy("check the OTEL_EXPORTER_OTLP_* variables")
    })?;
    let mut resource = Resource::builder().with_attribute(KeyValue::new("service.version", VERSION));
    if variable("OTEL_SERVICE_NAME").is_empty() {
        resource = resource.with_service_name(service);
    }
    Ok(Some(
        SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource.build())
            .build(),
    ))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the OTEL_* variables are the interface that the specification defines"
)]
fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

//! An OpenTelemetry collector that keeps what it receives: OTLP over gRPC, traces only.
//!
//! Spans are kept twice: what a test or a person looks at, and every byte, because a secret may be in what nobody looks at.

mod trace;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

pub use trace::{Span, Trace};

/// Spans kept at most; the oldest go first. A whole test run has some ten thousand.
const KEPT_SPANS: usize = 100_000;

/// Bytes kept at most, some thousand for each span. Who wants more of them is told that they are not all there.
const KEPT_BYTES: usize = 256 << 20;

/// A running collector; it ends when it is dropped.
pub struct Collector {
    address: SocketAddr,
    received: Arc<Mutex<Received>>,
    _server: JoinSet<()>,
}

#[derive(Default)]
struct Received {
    spans: Vec<Span>,
    /// All exports, one after the other: of messages that are lists this is the encoding of one export of everything.
    encoded: Vec<u8>,
    is_cut: bool,
}

struct Receiver {
    received: Arc<Mutex<Received>>,
}

impl Collector {
    /// Listens on a free port of the loopback interface.
    ///
    /// # Errors
    /// There is none.
    pub async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .context("the collector found no free port")?;
        let address = listener
            .local_addr()
            .context("failed to read the collector's port")?;
        let received = Arc::new(Mutex::new(Received::default()));
        let receiver = TraceServiceServer::new(Receiver {
            received: Arc::clone(&received),
        });
        let mut server = JoinSet::new();
        server.spawn(async move {
            let incoming = TcpListenerStream::new(listener);
            // It ends with the set. Spans that nobody receives show in the test that wants them.
            drop(
                tonic::transport::Server::builder()
                    .add_service(receiver)
                    .serve_with_incoming(incoming)
                    .await,
            );
        });
        Ok(Self {
            address,
            received,
            _server: server,
        })
    }

    /// What `OTEL_EXPORTER_OTLP_ENDPOINT` has to be.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The traces that have a span which meets a condition, oldest first.
    pub fn traces_with(&self, wanted: impl Fn(&Span) -> bool) -> Vec<Trace> {
        let received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        let spans = &received.spans;
        let mut ids: Vec<&str> = Vec::new();
        for span in spans.iter().filter(|span| wanted(span)) {
            if !ids.contains(&span.trace_id.as_str()) {
                ids.push(&span.trace_id);
            }
        }
        ids.into_iter()
            .map(|id| Trace::new(spans.iter().filter(|span| span.trace_id == id).cloned().collect()))
            .collect()
    }

    /// Everything that came, as it came: with events, status, links, and what is said of scopes and processes.
    ///
    /// # Errors
    /// More came than is kept.
    pub fn encoded(&self) -> anyhow::Result<Vec<u8>> {
        let received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        anyhow::ensure!(!received.is_cut, "more than {KEPT_BYTES} bytes of spans came");
        Ok(received.encoded.clone())
    }

    /// The same as text, in which random bytes are numbers.
    ///
    /// # Errors
    /// As [`Self::encoded`].
    pub fn text(&self) -> anyhow::Result<String> {
        let everything = ExportTraceServiceRequest::decode(self.encoded()?.as_slice())?;
        Ok(format!("{everything:?}"))
    }
}

impl Received {
    fn add(&mut self, request: ExportTraceServiceRequest) {
        self.is_cut |= self.encoded.len() + request.encoded_len() > KEPT_BYTES;
        if !self.is_cut {
            self.encoded.extend(request.encode_to_vec());
        }
        self.spans.extend(trace::read(request));
        let surplus = self.spans.len().saturating_sub(KEPT_SPANS);
        self.spans.drain(..surplus);
    }
}

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        received.add(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
    use opentelemetry_proto::tonic::resource::v1::Resource;
    use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};

    use super::*;
    use crate::Canaries;

    fn attribute(value: &str) -> Vec<KeyValue> {
        vec![KeyValue {
            key: "key".to_owned(),
            value: Some(AnyValue {
                value: Some(Value::StringValue(value.to_owned())),
            }),
            ..KeyValue::default()
        }]
    }

    /// Puts a text into one part of an export.
    type Planting<'a> = &'a dyn Fn(&str) -> ExportTraceServiceRequest;

    /// An export with one span.
    fn export(resource: &str, scope: &str, span: Span) -> ExportTraceServiceRequest {
        let spans = ScopeSpans {
            scope: Some(InstrumentationScope {
                name: scope.to_owned(),
                ..InstrumentationScope::default()
            }),
            spans: vec![span],
            ..ScopeSpans::default()
        };
        ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(Resource {
                    attributes: attribute(resource),
                    ..Resource::default()
                }),
                scope_spans: vec![spans],
                ..ResourceSpans::default()
            }],
        }
    }

    #[tokio::test]
    async fn canary_in_any_part_of_a_span_is_found() -> anyhow::Result<()> {
        let event = |name: &str, value: &str| Span {
            events: vec![Event {
                name: name.to_owned(),
                attributes: attribute(value),
                ..Event::default()
            }],
            ..Span::default()
        };
        let places: [(&str, Planting<'_>); 9] = [
            ("name", &|it| {
                export(
                    "",
                    "",
                    Span {
                        name: it.to_owned(),
                        ..Span::default()
                    },
                )
            }),
            ("attribute", &|it| {
                export(
                    "",
                    "",
                    Span {
                        attributes: attribute(it),
                        ..Span::default()
                    },
                )
            }),
            ("event", &|it| export("", "", event(it, ""))),
            ("attribute of an event", &|it| export("", "", event("", it))),
            ("status", &|it| {
                let status = Some(Status {
                    message: it.to_owned(),
                    ..Status::default()
                });
                export(
                    "",
                    "",
                    Span {
                        status,
                        ..Span::default()
                    },
                )
            }),
            ("link", &|it| {
                let links = vec![Link {
                    attributes: attribute(it),
                    ..Link::default()
                }];
                export(
                    "",
                    "",
                    Span {
                        links,
                        ..Span::default()
                    },
                )
            }),
            ("state", &|it| {
                export(
                    "",
                    "",
                    Span {
                        trace_state: it.to_owned(),
                        ..Span::default()
                    },
                )
            }),
            ("scope", &|it| export("", it, Span::default())),
            ("process", &|it| export(it, "", Span::default())),
        ];
        for (place, planted) in places {
            let collector = Collector::start().await?;
            let mut client = TraceServiceClient::connect(collector.endpoint()).await?;
            let mut canaries = Canaries::default();
            let canary = canaries.plant(place);
            client.export(planted("nothing")).await?;
            assert_eq!(canaries.find(&collector.encoded()?), None, "{place}");
            client.export(planted(&canary)).await?;
            client.export(planted("nothing")).await?;
            assert!(canaries.find(&collector.encoded()?).is_some(), "{place}");
            assert!(canaries.find(collector.text()?.as_bytes()).is_some(), "{place}");
        }
        Ok(())
    }
}

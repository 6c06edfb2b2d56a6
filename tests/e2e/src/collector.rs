//! An OpenTelemetry collector that keeps what it receives: OTLP over gRPC, traces only.

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
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

pub use trace::{Span, Trace};

/// Spans kept at most; the oldest go first. A whole test run has some ten thousand.
const KEPT_SPANS: usize = 100_000;

/// A running collector; it ends when it is dropped.
pub struct Collector {
    address: SocketAddr,
    spans: Arc<Mutex<Vec<Span>>>,
    _server: JoinSet<()>,
}

struct Receiver {
    spans: Arc<Mutex<Vec<Span>>>,
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
        let spans = Arc::new(Mutex::new(Vec::new()));
        let receiver = TraceServiceServer::new(Receiver {
            spans: Arc::clone(&spans),
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
            spans,
            _server: server,
        })
    }

    /// What `OTEL_EXPORTER_OTLP_ENDPOINT` has to be.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The traces that have a span which meets a condition, oldest first.
    pub fn traces_with(&self, wanted: impl Fn(&Span) -> bool) -> Vec<Trace> {
        let spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
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
}

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let received = trace::read(request.into_inner());
        let mut spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        spans.extend(received);
        let surplus = spans.len().saturating_sub(KEPT_SPANS);
        spans.drain(..surplus);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

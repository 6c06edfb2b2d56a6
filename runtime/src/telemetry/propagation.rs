//! W3C trace context in and out of HTTP headers. gRPC metadata is HTTP headers, so one pair of functions serves both.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{
    global,
    propagation::{Extractor, Injector},
    trace::TraceContextExt as _,
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

struct Headers<'a>(&'a HeaderMap);
struct HeadersMut<'a>(&'a mut HeaderMap);

pub(super) fn install() {
    global::set_text_map_propagator(TraceContextPropagator::new());
}

/// Makes `span` a child of the trace that `headers` name, if they name one. Call it before the span is entered.
pub fn continue_trace(span: &Span, headers: &HeaderMap) {
    let parent = global::get_text_map_propagator(|propagator| propagator.extract(&Headers(headers)));
    if parent.span().span_context().is_valid() && span.set_parent(parent).is_err() {
        tracing::debug!("traces are off: the caller's trace is not continued");
    }
}

/// Writes the current span's trace context into `headers`.
pub fn inject_current(headers: &mut HeaderMap) {
    let context = Span::current().context();
    global::get_text_map_propagator(|propagator| {
        propagator.inject_context(&context, &mut HeadersMut(headers));
    });
}

/// The trace id of the current span as 32 hexadecimal digits, when traces are on.
pub fn current_trace_id() -> Option<String> {
    let context = Span::current().context();
    let trace_id = context.span().span_context().trace_id();
    (trace_id != opentelemetry::trace::TraceId::INVALID).then(|| trace_id.to_string())
}

/// The trace id that a request belongs to: of the current span when traces are on, else the caller's if `headers` name one.
pub fn trace_id(headers: &HeaderMap) -> Option<String> {
    current_trace_id().or_else(|| {
        let parent = global::get_text_map_propagator(|propagator| propagator.extract(&Headers(headers)));
        let span = parent.span();
        let context = span.span_context();
        context.is_valid().then(|| context.trace_id().to_string())
    })
}

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

impl Injector for HeadersMut<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(name), Ok(value)) = (key.parse::<HeaderName>(), HeaderValue::from_str(&value)) {
            self.0.insert(name, value);
        }
    }
}

//! W3C trace context in and out of HTTP headers. gRPC metadata is HTTP headers, so one pair of functions serves both.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{
    Context, global,
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

/// Makes `span` a child of the trace that `headers` name, if they name one. Call it before the span is entered. Yields the
/// id of the trace that the request belongs to: the caller's, else that of `span` when traces are on.
pub fn continue_trace(span: &Span, headers: &HeaderMap) -> Option<String> {
    let parent = global::get_text_map_propagator(|propagator| propagator.extract(&Headers(headers)));
    let callers = trace_id_in(&parent);
    if callers.is_some() && span.set_parent(parent).is_err() {
        tracing::debug!("traces are off: the caller's trace is not continued");
    }
    callers.or_else(|| trace_id_in(&span.context()))
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
    trace_id_in(&Span::current().context())
}

fn trace_id_in(context: &Context) -> Option<String> {
    let span = context.span();
    let span = span.span_context();
    span.is_valid().then(|| span.trace_id().to_string())
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

//! Spans as they are looked at, and a trace as a tree for people. Pure.

use std::fmt;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};

/// The attributes that a tree shows, where a span has them.
const SHOWN: [&str; 9] = [
    "acrpull.cluster",
    "acrpull.binding.namespace",
    "acrpull.binding.name",
    "acrpull.registry.server",
    "acrpull.policy.rule",
    "server.address",
    "http.response.status_code",
    "rpc.response.status_code",
    "error.type",
];

/// One span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The trace, in hexadecimal.
    pub trace_id: String,
    /// The span, in hexadecimal.
    pub id: String,
    /// The span above it; empty for a root.
    pub parent_id: String,
    /// `service.name` of the process.
    pub service: String,
    /// Its name.
    pub name: String,
    /// Start, in nanoseconds since 1970.
    pub start_ns: u64,
    /// End, in nanoseconds since 1970.
    pub end_ns: u64,
    /// Attributes as text.
    pub attributes: Vec<(String, String)>,
}

/// The spans of one trace in the order of their start. Displays as a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    spans: Vec<Span>,
}

impl Span {
    /// An attribute.
    pub fn attribute(&self, key: &str) -> Option<&str> {
        self.attributes
            .iter()
            .find(|(name, _value)| name == key)
            .map(|(_name, value)| value.as_str())
    }

    /// How long it took.
    pub fn duration(&self) -> Duration {
        Duration::from_nanos(self.end_ns.saturating_sub(self.start_ns))
    }
}

impl Trace {
    pub(super) fn new(mut spans: Vec<Span>) -> Self {
        spans.sort_by_key(|span| span.start_ns);
        Self { spans }
    }

    /// Its spans.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// The first span with this name.
    pub fn span(&self, name: &str) -> Option<&Span> {
        self.spans.iter().find(|span| span.name == name)
    }

    /// The names from a span up to the root, or to where a parent is missing.
    pub fn path_up<'a>(&'a self, span: &'a Span) -> Vec<&'a str> {
        let mut names = vec![span.name.as_str()];
        let mut current = span;
        while let Some(parent) = self.spans.iter().find(|span| span.id == current.parent_id)
            // What refers to itself is no tree.
            && names.len() <= self.spans.len()
        {
            names.push(&parent.name);
            current = parent;
        }
        names
    }

    fn write_below(&self, f: &mut fmt::Formatter<'_>, parent_id: &str, indent: &str) -> fmt::Result {
        let children: Vec<&Span> = self
            .spans
            .iter()
            .filter(|span| span.parent_id == parent_id)
            .collect();
        for (position, span) in children.iter().enumerate() {
            let is_last = position + 1 == children.len();
            self.write_line(f, span, indent, if is_last { "└─ " } else { "├─ " })?;
            let deeper = format!("{indent}{}", if is_last { "   " } else { "│  " });
            self.write_below(f, &span.id, &deeper)?;
        }
        Ok(())
    }

    fn write_line(&self, f: &mut fmt::Formatter<'_>, span: &Span, indent: &str, branch: &str) -> fmt::Result {
        let start_ns = self.spans.first().map_or(0, |first| first.start_ns);
        let after = Duration::from_nanos(span.start_ns.saturating_sub(start_ns));
        let what = format!("{indent}{branch}{} {}", span.service, span.name);
        write!(
            f,
            "{what:<92} +{:>5} ms {:>6.1} ms",
            after.as_millis(),
            span.duration().as_secs_f64() * 1000.0
        )?;
        for key in SHOWN {
            if let Some(value) = span.attribute(key) {
                write!(f, "  {key}={value}")?;
            }
        }
        writeln!(f)
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_known = |id: &str| self.spans.iter().any(|span| span.id == id);
        for root in self.spans.iter().filter(|span| !is_known(&span.parent_id)) {
            self.write_line(f, root, "", "")?;
            self.write_below(f, &root.id, "")?;
        }
        Ok(())
    }
}

/// The spans of an export.
pub(super) fn read(request: ExportTraceServiceRequest) -> Vec<Span> {
    let mut spans = Vec::new();
    for process in request.resource_spans {
        let resource = process
            .resource
            .map(|resource| resource.attributes)
            .unwrap_or_default();
        let service = attributes(resource)
            .into_iter()
            .find(|(key, _value)| key == "service.name");
        let service = service.map(|(_key, value)| value).unwrap_or_default();
        for span in process.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            spans.push(Span {
                trace_id: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent_id: hex(&span.parent_span_id),
                service: service.clone(),
                name: span.name,
                start_ns: span.start_time_unix_nano,
                end_ns: span.end_time_unix_nano,
                attributes: attributes(span.attributes),
            });
        }
    }
    spans
}

fn attributes(attributes: Vec<KeyValue>) -> Vec<(String, String)> {
    attributes
        .into_iter()
        .map(|KeyValue { key, value, .. }| (key, value.map(text).unwrap_or_default()))
        .collect()
}

fn text(AnyValue { value }: AnyValue) -> String {
    match value {
        Some(Value::StringValue(text)) => text,
        Some(Value::BoolValue(value)) => value.to_string(),
        Some(Value::IntValue(value)) => value.to_string(),
        Some(Value::DoubleValue(value)) => value.to_string(),
        Some(other) => format!("{other:?}"),
        None => String::new(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(id: &str, parent_id: &str, name: &str, start_ms: u64, end_ms: u64) -> Span {
        Span {
            trace_id: "t".to_owned(),
            id: id.to_owned(),
            parent_id: parent_id.to_owned(),
            service: "svc".to_owned(),
            name: name.to_owned(),
            start_ns: start_ms * 1_000_000,
            end_ns: end_ms * 1_000_000,
            attributes: vec![
                ("server.address".to_owned(), "host".to_owned()),
                ("other".to_owned(), "x".to_owned()),
            ],
        }
    }

    #[test]
    fn trace_displays_as_a_tree() {
        let trace = Trace::new(vec![
            span("3", "1", "second", 6, 9),
            span("2", "1", "first", 1, 5),
            span("4", "2", "below", 2, 3),
            span("1", "", "root", 0, 10),
        ]);
        let lines: Vec<String> = trace
            .to_string()
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(
            lines,
            [
                "svc root + 0 ms 10.0 ms server.address=host",
                "├─ svc first + 1 ms 4.0 ms server.address=host",
                "│ └─ svc below + 2 ms 1.0 ms server.address=host",
                "└─ svc second + 6 ms 3.0 ms server.address=host",
            ]
        );
    }

    #[test]
    fn trace_path_leads_to_the_root() {
        let trace = Trace::new(vec![
            span("1", "", "root", 0, 9),
            span("2", "1", "a", 1, 2),
            span("3", "2", "b", 1, 2),
        ]);
        assert_eq!(trace.path_up(trace.span("b").unwrap()), ["b", "a", "root"]);
    }
}

//! The fields of a span as its log lines carry them: a JSON object that grows by what is recorded later.
//!
//! The formatter of `tracing-subscriber` parses the whole object and writes it anew with each field that is recorded. A
//! call records half a dozen before it is answered, and mostly nothing is logged of it.

use std::fmt::{self, Debug};

use serde::Serialize;
use tracing::{
    field::{Field, Visit},
    span::Record,
};
use tracing_subscriber::{
    field::RecordFields,
    fmt::{FormatFields, FormattedFields, format::Writer},
};

/// What is recorded once more stands there twice. Whoever reads the object takes the last one, as the formatter of events
/// does.
#[derive(Debug)]
pub(super) struct SpanFields;

/// Adds members to an object whose closing brace is missing.
struct Members<'a> {
    object: &'a mut String,
    written: fmt::Result,
}

impl<'writer> FormatFields<'writer> for SpanFields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut object = "{".to_owned();
        Members::add(&mut object, fields)?;
        writer.write_str(&object)
    }

    fn add_fields(&self, current: &'writer mut FormattedFields<Self>, fields: &Record<'_>) -> fmt::Result {
        let object = &mut current.fields;
        if object.pop().is_none() {
            object.push('{');
        }
        Members::add(object, fields)
    }
}

impl Members<'_> {
    fn add(object: &mut String, fields: impl RecordFields) -> fmt::Result {
        let mut members = Members {
            object,
            written: Ok(()),
        };
        fields.record(&mut members);
        members.object.push('}');
        members.written
    }

    fn member(&mut self, field: &Field, value: &(impl Serialize + ?Sized)) {
        // Names are written in the code: they need no escapes.
        let separator = if self.object.len() > 1 { "," } else { "" };
        let name = field.name();
        match serde_json::to_string(value) {
            Ok(json) => self.object.extend([separator, "\"", name, "\":", &json]),
            Err(_not_json) => self.written = Err(fmt::Error),
        }
    }
}

impl Visit for Members<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.member(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.member(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.member(field, &value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.member(field, &value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.member(field, &value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.member(field, &value);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tracing::field::Empty;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::{super::tests::Lines, *};

    /// The span of the one line that `log` writes.
    fn logged(log: impl FnOnce()) -> Value {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = tracing_subscriber::fmt::layer()
            .json()
            .with_span_list(false)
            .fmt_fields(SpanFields)
            .with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        let line: Value = serde_json::from_slice(&lines.0.lock().unwrap()).unwrap();
        line["span"].clone()
    }

    #[test]
    fn span_fields_of_all_times_are_in_the_line() {
        let span = logged(|| {
            let span = tracing::info_span!(
                "call",
                first = "a\"},{\"b",
                second = Empty,
                third = Empty,
                n = Empty
            );
            span.record("second", true);
            span.record("third", "line\nend");
            span.record("n", 7);
            span.in_scope(|| tracing::info!("said"));
        });
        let all = json!({"name": "call", "first": "a\"},{\"b", "second": true, "third": "line\nend", "n": 7});
        assert_eq!(span, all);
    }

    #[test]
    fn span_fields_begin_with_the_first_that_is_recorded_and_end_with_the_last() {
        let span = logged(|| {
            let span = tracing::info_span!("call", cluster = Empty, role = Empty);
            span.record("role", "syncer");
            span.record("cluster", "weu-7");
            span.record("role", "operator");
            span.in_scope(|| tracing::info!("said"));
        });
        assert_eq!(
            span,
            json!({"name": "call", "cluster": "weu-7", "role": "operator"})
        );
    }

    #[test]
    fn span_fields_without_any_are_an_object_without_any() {
        let span = logged(|| {
            let span = tracing::info_span!("call", none = Empty);
            span.in_scope(|| tracing::info!("said"));
        });
        assert_eq!(span, json!({"name": "call"}));
    }

    #[test]
    fn span_fields_of_other_kinds_are_in_their_form() {
        let span = logged(|| {
            let address = std::net::Ipv4Addr::LOCALHOST;
            let span = tracing::info_span!("call", %address, debug = ?Some("a"), n = -7, share = 0.5, none = Option::<u8>::None);
            span.in_scope(|| tracing::info!("said"));
        });
        let all =
            json!({"name": "call", "address": "127.0.0.1", "debug": "Some(\"a\")", "n": -7, "share": 0.5});
        assert_eq!(span, all);
    }
}

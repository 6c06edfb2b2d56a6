//! Logs to standard error, which holds up nobody; traces by OTLP when the standard `OTEL_*` variables ask for them, W3C trace context.

mod log_writer;
mod otlp;
pub mod propagation;
mod span_fields;

use std::io::IsTerminal as _;

use clap::{Args, ValueEnum};
use log_writer::LogWriter;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::SdkTracerProvider;
use prometheus_client::registry::Registry;
use span_fields::SpanFields;
use tracing::{Metadata, level_filters::LevelFilter};
use tracing_subscriber::{
    Layer as _,
    filter::{FilterFn, filter_fn},
    layer::SubscriberExt as _,
    registry::Registry as Spans,
    util::SubscriberInitExt as _,
};

use crate::{Failure, build_info::VERSION, panics};

/// Crates whose logs and spans follow `--log-level`. Everything else is capped in code at [`OTHERS`].
const OURS: [&str; 5] = ["broker", "syncer", "client", "runtime", "proto"];
/// Cap for other crates: HTTP stacks log headers below WARN.
const OTHERS: LevelFilter = LevelFilter::WARN;
/// Crates that log what they were given to carry, and say nothing that our own code does not say of the same call:
/// - the Kubernetes client: whole response bodies at WARN when they do not decode, Secrets included, and at ERROR all that
///   a credential plugin has printed;
/// - the cache and the HTTP middleware: the message of a panic, which [`panics`] withholds.
const SILENCED: [&str; 4] = ["kube_client", "kube_runtime", "moka", "tower_http"];

/// What the command line says about logs.
#[derive(Debug, Clone, Args)]
pub struct TelemetryArgs {
    /// Least severe log line to print, of this program's own; libraries never log below warn.
    #[arg(long, value_enum, default_value_t = LogLevel::Info, env = "ACRPULL_LOG_LEVEL")]
    pub log_level: LogLevel,
    /// Form of the log lines on standard error.
    #[arg(long, value_enum, default_value_t = LogFormat::Json, env = "ACRPULL_LOG_FORMAT")]
    pub log_format: LogFormat,
}

/// Severity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "the names say it")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// Form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For people.
    Text,
}

/// Keeps the exporter alive; flushes it when dropped.
#[derive(Debug)]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
    logs: LogWriter,
}

impl LogLevel {
    fn filter(self) -> LevelFilter {
        match self {
            Self::Error => LevelFilter::ERROR,
            Self::Warn => LevelFilter::WARN,
            Self::Info => LevelFilter::INFO,
            Self::Debug => LevelFilter::DEBUG,
            Self::Trace => LevelFilter::TRACE,
        }
    }
}

/// Asked once for each place in the code that logs, not for each line.
fn capped(ours: LevelFilter) -> FilterFn<impl Fn(&Metadata<'_>) -> bool> {
    filter_fn(move |metadata| *metadata.level() <= cap(metadata.target(), ours)).with_max_level_hint(ours)
}

/// The most that a target may log. Crates are told by their whole name: the beginning of a name is anybody's.
fn cap(target: &str, ours: LevelFilter) -> LevelFilter {
    let name = target.split("::").next().unwrap_or_default();
    if OURS.contains(&name) {
        ours
    } else if SILENCED.contains(&name) {
        LevelFilter::OFF
    } else {
        OTHERS.min(ours)
    }
}

/// Starts logs and traces for `service` (`acrpull-broker`, `acrpull-syncer`). Call it inside the async runtime.
///
/// # Errors
/// The `OTEL_*` variables ask for an exporter that cannot be built.
pub fn init(service: &'static str, args: &TelemetryArgs) -> Result<Telemetry, Failure> {
    propagation::install();
    let filter = capped(args.log_level.filter());
    let (lines, writer) = LogWriter::start();
    let format = tracing_subscriber::fmt::layer::<Spans>()
        .with_writer(lines)
        .with_ansi(std::io::stderr().is_terminal());
    let logs = match args.log_format {
        LogFormat::Json => format
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .fmt_fields(SpanFields)
            .with_filter(filter)
            .boxed(),
        LogFormat::Text => format.with_target(false).with_filter(filter).boxed(),
    };
    let traces = otlp::provider(service)?;
    // Spans of ours at INFO; a trace is not more detailed because a log is.
    let spans = traces.as_ref().map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer(service))
            .with_filter(capped(LevelFilter::INFO))
    });
    tracing_subscriber::registry()
        .with(logs)
        .with(spans)
        .try_init()
        .map_err(|error| Failure::runtime("cannot start logging").source(error))?;
    panics::log_them();
    tracing::info!(service, version = VERSION, traces = traces.is_some(), "starting");
    Ok(Telemetry { traces, logs: writer })
}

impl Telemetry {
    /// Adds the metric of what could not be logged.
    pub fn register(&self, registry: &mut Registry) {
        self.logs.register(registry);
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(provider) = self.traces.take()
            && let Err(error) = provider.shutdown()
        {
            tracing::warn!(%error, "the last spans could not be sent");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex, PoisonError};

    use tracing::Level;

    use super::*;

    #[test]
    fn l1_third_party_targets_stay_capped_at_trace() {
        let is_enabled = |target: &str, level| level <= cap(target, LevelFilter::TRACE);
        for own in ["broker::authn", "broker", "proto::catalogue", "client"] {
            assert!(is_enabled(own, Level::TRACE), "{own}");
        }
        for library in [
            "hyper::proto",
            "h2::codec",
            "tonic::transport",
            "reqwest::connect",
            "azure_core::http::policies",
            "azure_identity",
            "typespec_client_core::http::policies",
            "rustls::client",
            "opentelemetry_sdk",
            "log",
            // Ours are whole names and not beginnings of names.
            "hyper_util::client::legacy::client",
            "protox::x",
            "client_foo",
            "broker:x",
            "",
        ] {
            assert!(is_enabled(library, Level::WARN), "{library}");
            assert!(!is_enabled(library, Level::INFO), "{library}");
        }
        for library in [
            "kube_client::client",
            "kube_client::client::builder",
            "kube_runtime::watcher",
            "moka::notification::notifier",
            "tower_http::catch_panic",
        ] {
            assert!(!is_enabled(library, Level::ERROR), "{library}");
        }
    }

    #[test]
    fn cap_holds_for_what_is_logged() {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = tracing_subscriber::fmt::layer::<Spans>()
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .with_filter(capped(LevelFilter::TRACE));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::trace!(target: "proto::x", "ours");
            tracing::trace!(target: "protox::x", "near ours");
            tracing::info!(target: "client_foo", "also near ours");
            tracing::warn!(target: "client_foo", "theirs");
            tracing::error!(target: "kube_client::client", "silenced");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let said: Vec<_> = text.lines().filter_map(|line| line.rsplit(": ").next()).collect();
        assert_eq!(said, ["ours", "theirs"]);
    }

    /// What was logged.
    #[derive(Clone, Default)]
    pub(super) struct Lines(pub(super) Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}

//! Log lines on their way to standard error: through a bounded queue to a thread of its own. A pipe that nobody drains
//! blocks that thread and nothing else; what no longer fits is dropped and counted.

use std::io;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::counter::ConstCounter,
    registry::Registry,
};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

/// Lines that wait at most, of half a KiB mostly: some seconds of a busy process, and few MiB.
const MAX_WAITING_LINES: usize = 8192;

/// Keeps the thread; flushes what waits when dropped, for a second at most.
#[derive(Debug)]
pub(super) struct LogWriter {
    dropped: ErrorCounter,
    _thread: WorkerGuard,
}

/// The number of lines that were dropped, as a metric.
#[derive(Debug)]
struct DroppedLines(ErrorCounter);

impl LogWriter {
    /// Starts the thread; what is written to the first of the two goes to standard error.
    pub(super) fn start() -> (NonBlocking, Self) {
        Self::over(io::stderr())
    }

    fn over(target: impl io::Write + Send + 'static) -> (NonBlocking, Self) {
        let (lines, thread) = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(MAX_WAITING_LINES)
            .thread_name("logs")
            .finish(target);
        let dropped = lines.error_counter();
        let writer = Self {
            dropped,
            _thread: thread,
        };
        (lines, writer)
    }

    /// Adds the metric.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(DroppedLines(self.dropped.clone())));
    }
}

impl Collector for DroppedLines {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let lines = ConstCounter::new(u64::try_from(self.0.dropped_lines()).unwrap_or(u64::MAX));
        let descriptor = encoder.encode_descriptor(
            "acrpull_log_lines_dropped",
            "Log lines that were dropped because standard error took none",
            None,
            lines.metric_type(),
        )?;
        lines.encode(descriptor)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        sync::mpsc::{Receiver, sync_channel},
    };

    use super::*;

    /// Takes nothing until it is told to.
    struct Blocked(Receiver<()>);

    impl io::Write for Blocked {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0
                .recv()
                .map_or_else(|_ended| Ok(bytes.len()), |()| Ok(bytes.len()))
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn log_writer_that_is_blocked_holds_up_nobody_and_counts_what_it_drops() {
        let (unblock, blocked) = sync_channel(0);
        let (mut lines, writer) = LogWriter::over(Blocked(blocked));
        for _line in 0..MAX_WAITING_LINES + 100 {
            lines.write_all(b"a line\n").unwrap();
        }
        // One is in the writer's hands, perhaps, and the rest waits.
        assert!((99..=100).contains(&writer.dropped.dropped_lines()));
        let mut registry = Registry::default();
        writer.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let wanted = format!(
            "acrpull_log_lines_dropped_total {}",
            writer.dropped.dropped_lines()
        );
        assert!(text.contains(&wanted), "{text}");
        drop(unblock);
    }
}

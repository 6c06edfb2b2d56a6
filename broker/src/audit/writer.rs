//! The one thread that writes. A thread of the operating system, because a pipe that nobody reads blocks whoever writes
//! to it, and a thread of the runtime would take the calls with it.
//!
//! What cannot be written is tried again for as long as it takes: meanwhile the queue fills, and its bound decides what
//! becomes of calls.

use std::{io, sync::Arc, thread, time::Duration};

use tokio::sync::oneshot;

use super::{
    queue::{Item, Items},
    sink::Sink,
    trouble::Trouble,
};

/// What is written at once, when there is that much: one call of the system for some hundred records.
const BATCH_BYTES: usize = 64 * 1024;
/// Between two writes for which nobody waits. At 2,000 calls a second a wake-up of the thread and a call of the system for
/// each record would cost as much as all the rest of its making.
const GATHERING: Duration = Duration::from_millis(5);
/// Before the next try after an error, doubling; a disk that was cleared is noticed soon.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LAST_PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Writer<S> {
    items: Items,
    sink: S,
    trouble: Arc<Trouble>,
}

/// Lines that are written together.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    records: u64,
    items: Vec<Item>,
}

impl<S: Sink> Writer<S> {
    /// Starts the thread. What is returned resolves when it has ended, which it never should.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub(super) fn start(items: Items, sink: S, trouble: Arc<Trouble>) -> io::Result<oneshot::Receiver<()>> {
        let (ended_tx, ended) = oneshot::channel();
        let writer = Self { items, sink, trouble };
        thread::Builder::new().name("audit".to_owned()).spawn(move || {
            // Dropped at the end, a panic included.
            let _ended_tx: oneshot::Sender<()> = ended_tx;
            writer.run();
        })?;
        Ok(ended)
    }

    fn run(mut self) {
        while let Some(first) = self.items.blocking_recv() {
            let mut batch = Batch::default();
            batch.add(first);
            while batch.bytes.len() < BATCH_BYTES
                && let Ok(next) = self.items.try_recv()
            {
                batch.add(next);
            }
            self.write(&batch.bytes);
            self.trouble.written(batch.records);
            let is_awaited = batch.is_awaited();
            batch.confirm();
            if !is_awaited {
                wait(GATHERING);
            }
        }
    }

    /// Returns once all of it is written.
    fn write(&mut self, lines: &[u8]) {
        let (mut written, mut pause) = (0, FIRST_PAUSE);
        while let Some(rest) = lines.get(written..)
            && !rest.is_empty()
        {
            match self.write_some(lines, written) {
                Ok(so_far) => (written, pause) = (so_far, FIRST_PAUSE),
                Err(error) => {
                    self.trouble.failing(&error);
                    wait(pause);
                    pause = (pause * 2).min(LAST_PAUSE);
                }
            }
        }
    }

    /// How much of `lines` is written after another try.
    fn write_some(&mut self, lines: &[u8], written: usize) -> io::Result<usize> {
        let from = if self.sink.renew()? {
            // A line that was begun elsewhere is torn there, and whole here.
            start_of_line(lines, written)
        } else {
            written
        };
        match self.sink.write(lines.get(from..).unwrap_or_default()) {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => Ok(from + count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(from),
            Err(error) => Err(error),
        }
    }
}

impl Batch {
    fn add(&mut self, item: Item) {
        // What it says has not come to pass: its call was refused for want of it.
        let is_given_up = item.written.as_ref().is_some_and(oneshot::Sender::is_closed);
        if !is_given_up && !item.line.is_empty() {
            self.bytes.extend_from_slice(&item.line);
            self.records += 1;
        }
        self.items.push(item);
    }

    /// Whether a call waits for it, or for what comes next.
    fn is_awaited(&self) -> bool {
        self.items.iter().any(|item| item.written.is_some())
    }

    fn confirm(self) {
        for item in self.items {
            if let Some(written) = item.written
                && written.send(()).is_err()
            {
                tracing::debug!("a record was written after its call had given up");
            }
        }
    }
}

/// Where the line begins that the byte at `position` is in.
fn start_of_line(lines: &[u8], position: usize) -> usize {
    let before = lines.get(..position).unwrap_or_default();
    before
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |newline| newline + 1)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a thread of its own: nothing else waits on it"
)]
fn wait(pause: Duration) {
    thread::sleep(pause);
}

#[cfg(test)]
mod tests;

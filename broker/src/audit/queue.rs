//! Lines on their way to the writer: bounded in bytes, and nobody waits for long to put one in.

use std::{mem, sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::timeout,
};

/// What a call waits for its record at most, for room and for the writer together (guarantee O1).
pub(super) const MAX_WAIT: Duration = Duration::from_millis(100);
/// Some six thousand records: two to three seconds of all that a replica can answer.
const MAX_QUEUED_BYTES: usize = 4 * 1024 * 1024;

/// The way in. Cheap to clone.
#[derive(Clone)]
pub(super) struct Queue {
    items: mpsc::UnboundedSender<Item>,
    /// A permit for each byte: the bound of a channel without one.
    room: Arc<Semaphore>,
}

/// The way out.
pub(super) type Items = mpsc::UnboundedReceiver<Item>;

/// A line, or a question whether all before it has been written.
pub(super) struct Item {
    pub(super) line: Vec<u8>,
    /// Told once it has been written. Closed: whoever asked has given up, and what the line says did not come to pass.
    pub(super) written: Option<oneshot::Sender<()>>,
    /// Given back once the line is written.
    _room: Option<OwnedSemaphorePermit>,
}

/// A line did not get where it should in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the audit log is blocked")]
pub(super) struct Blocked;

pub(super) fn queue() -> (Queue, Items) {
    let (items, out) = mpsc::unbounded_channel();
    let room = Arc::new(Semaphore::new(MAX_QUEUED_BYTES));
    (Queue { items, room }, out)
}

impl Queue {
    /// Puts a line in, if there is room now.
    pub(super) fn put_now(&self, line: Vec<u8>) -> Result<(), Blocked> {
        let room = Arc::clone(&self.room)
            .try_acquire_many_owned(permits(&line))
            .map_err(|_no_room| Blocked)?;
        self.send(line, None, Some(room))
    }

    /// Puts a line in, and waits for room. Leaves nothing of it behind, whether there was room or not.
    ///
    /// # Cancel safety
    /// Cancel safe: the line is where it was until this returns.
    pub(super) async fn put(&self, line: &mut Vec<u8>) -> Result<(), Blocked> {
        let room = timeout(MAX_WAIT, self.room_for(line)).await;
        let line = mem::take(line);
        let room = room.map_err(|_elapsed| Blocked)??;
        self.send(line, None, Some(room))
    }

    /// Puts a line in and waits until it has been written. If that takes too long, it is not written any more unless the
    /// writer is at it already.
    ///
    /// # Cancel safety
    /// As if it had taken too long.
    pub(super) async fn put_and_confirm(&self, line: Vec<u8>) -> Result<(), Blocked> {
        let confirmed = async {
            let room = self.room_for(&line).await?;
            let (written_tx, written) = oneshot::channel();
            self.send(line, Some(written_tx), Some(room))?;
            written.await.map_err(|_dropped| Blocked)
        };
        timeout(MAX_WAIT, confirmed).await.map_err(|_elapsed| Blocked)?
    }

    /// Waits until all that is in by now has been written, however long that takes.
    pub(super) async fn written(&self) -> Result<(), Blocked> {
        let (written_tx, written) = oneshot::channel();
        self.send(Vec::new(), Some(written_tx), None)?;
        written.await.map_err(|_dropped| Blocked)
    }

    async fn room_for(&self, line: &[u8]) -> Result<OwnedSemaphorePermit, Blocked> {
        Arc::clone(&self.room)
            .acquire_many_owned(permits(line))
            .await
            .map_err(|_closed| Blocked)
    }

    fn send(
        &self,
        line: Vec<u8>,
        written: Option<oneshot::Sender<()>>,
        room: Option<OwnedSemaphorePermit>,
    ) -> Result<(), Blocked> {
        let item = Item {
            line,
            written,
            _room: room,
        };
        self.items.send(item).map_err(|_writer_is_gone| Blocked)
    }
}

/// A message has 64 KiB, and its record not much more: it always fits.
fn permits(line: &[u8]) -> u32 {
    u32::try_from(line.len().min(MAX_QUEUED_BYTES)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    const LINE: usize = 64 * 1024;

    fn fill(queue: &Queue) -> usize {
        std::iter::repeat_with(|| queue.put_now(vec![b'x'; LINE]))
            .take_while(Result::is_ok)
            .count()
    }

    #[tokio::test(start_paused = true)]
    async fn o1_queue_is_bounded_and_waiting_for_room_too() {
        let (queue, mut items) = queue();
        assert_eq!(fill(&queue) * LINE, MAX_QUEUED_BYTES);
        let begun = Instant::now();
        assert_eq!(queue.put(&mut b"one more".to_vec()).await, Err(Blocked));
        assert_eq!(begun.elapsed(), MAX_WAIT);
        assert_eq!(queue.put_and_confirm(b"one more".to_vec()).await, Err(Blocked));
        assert_eq!(begun.elapsed(), MAX_WAIT * 2);
        // What is written makes room.
        drop(items.recv().await);
        queue.put(&mut b"one more".to_vec()).await.unwrap();
        assert_eq!(begun.elapsed(), MAX_WAIT * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn o1_line_that_nobody_waits_to_put_in_any_more_is_where_it_was() {
        let (queue, _items) = queue();
        fill(&queue);
        let mut line = b"line".to_vec();
        assert!(timeout(MAX_WAIT / 2, queue.put(&mut line)).await.is_err());
        assert_eq!(line, b"line");
        assert_eq!(queue.put(&mut line).await, Err(Blocked));
        assert!(line.is_empty(), "it is given up");
    }

    #[tokio::test(start_paused = true)]
    async fn o1_confirmation_comes_from_the_writer_or_the_line_is_given_up() {
        let (queue, mut items) = queue();
        let begun = Instant::now();
        assert_eq!(queue.put_and_confirm(b"late".to_vec()).await, Err(Blocked));
        assert_eq!(begun.elapsed(), MAX_WAIT);
        let late = items.recv().await.unwrap().written.unwrap();
        assert!(late.is_closed(), "the writer can tell");

        let written = async { items.recv().await.unwrap().written.unwrap().send(()) };
        let (confirmed, written) = tokio::join!(queue.put_and_confirm(b"in time".to_vec()), written);
        assert_eq!((confirmed, written), (Ok(()), Ok(())));
    }

    #[tokio::test]
    async fn o1_writer_that_is_gone_is_a_blocked_log_and_no_hang() {
        let (queue, items) = queue();
        drop(items);
        assert_eq!(queue.put(&mut b"x".to_vec()).await, Err(Blocked));
        assert_eq!(queue.put_and_confirm(b"x".to_vec()).await, Err(Blocked));
        assert_eq!(queue.written().await, Err(Blocked));
    }
}

//! Sinks that fail, tear, move and block, and what ends up in them.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, mpsc},
    time::UNIX_EPOCH,
};

use prometheus_client::registry::Registry;
use runtime::clock::ManualClock;

use super::*;
use crate::{
    audit::queue::{Queue, queue},
    metrics::AuditMetrics,
};

/// What the sink does next; when there is nothing left, it takes everything.
enum Step {
    Take(usize),
    Fail(io::ErrorKind),
    Move,
    Panic,
    /// Says that it is there, and waits to be told to go on.
    Block(mpsc::Sender<()>, mpsc::Receiver<()>),
}

struct Scripted {
    steps: Arc<Mutex<VecDeque<Step>>>,
    places: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Scripted {
    fn steps(&self) -> MutexGuard<'_, VecDeque<Step>> {
        self.steps.lock().unwrap()
    }

    fn places(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.places.lock().unwrap()
    }
}

impl Sink for Scripted {
    fn renew(&mut self) -> io::Result<bool> {
        let mut steps = self.steps();
        let moves = matches!(steps.front(), Some(Step::Move));
        if moves {
            steps.pop_front();
            self.places().push(Vec::new());
        }
        Ok(moves)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let step = self.steps().pop_front();
        let count = match step {
            None => bytes.len(),
            Some(Step::Take(count)) => count.min(bytes.len()),
            Some(Step::Fail(kind)) => return Err(kind.into()),
            Some(Step::Block(there, go)) => {
                assert!(there.send(()).is_ok());
                assert!(go.recv().is_ok());
                bytes.len()
            }
            Some(Step::Panic) => panic!("on purpose"),
            Some(Step::Move) => unreachable!("renew takes it"),
        };
        let mut places = self.places();
        if let Some(place) = places.last_mut() {
            place.extend_from_slice(&bytes[..count]);
        }
        Ok(count)
    }
}

/// A step that blocks, how to wait until it does, and how to end it.
fn block() -> (Step, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (there_tx, there) = mpsc::channel();
    let (go_tx, go) = mpsc::channel();
    (Step::Block(there_tx, go), there, go_tx)
}

struct Rig {
    queue: Queue,
    ended: oneshot::Receiver<()>,
    places: Arc<Mutex<Vec<Vec<u8>>>>,
}

fn rig(steps: Vec<Step>) -> Rig {
    let (queue, items) = queue();
    let places = Arc::new(Mutex::new(vec![Vec::new()]));
    let sink = Scripted {
        steps: Arc::new(Mutex::new(steps.into())),
        places: Arc::clone(&places),
    };
    let trouble = Arc::new(Trouble::new(
        AuditMetrics::register(&mut Registry::default()),
        Arc::new(ManualClock::at(UNIX_EPOCH)),
    ));
    let ended = Writer::start(items, sink, trouble).unwrap();
    Rig { queue, ended, places }
}

impl Rig {
    fn places(&self) -> Vec<String> {
        let places = self.places.lock().unwrap();
        places
            .iter()
            .map(|place| String::from_utf8(place.clone()).unwrap())
            .collect()
    }
}

#[tokio::test]
async fn o1_writer_that_fails_goes_on_where_it_was() {
    let rig = rig(vec![
        Step::Take(3),
        Step::Fail(io::ErrorKind::StorageFull),
        Step::Fail(io::ErrorKind::BrokenPipe),
        Step::Fail(io::ErrorKind::Interrupted),
        Step::Take(0),
    ]);
    rig.queue.put_now(b"first line\n".to_vec()).unwrap();
    rig.queue.put_now(b"second line\n".to_vec()).unwrap();
    rig.queue.written().await.unwrap();
    assert_eq!(rig.places(), ["first line\nsecond line\n"]);
}

#[tokio::test]
async fn o1_line_that_a_rotation_tears_is_whole_in_the_new_file() {
    let (blocked, there, go) = block();
    let rig = rig(vec![blocked, Step::Take(7), Step::Move]);
    rig.queue.put_now(b"x\n".to_vec()).unwrap();
    there.recv().unwrap();
    // The next batch.
    rig.queue.put_now(b"one\n".to_vec()).unwrap();
    rig.queue.put_now(b"second\n".to_vec()).unwrap();
    go.send(()).unwrap();
    rig.queue.written().await.unwrap();
    assert_eq!(rig.places().last().unwrap(), "second\n");
}

#[tokio::test]
async fn o1_record_that_nobody_waits_for_any_more_is_not_written() {
    let (blocked, there, go) = block();
    let rig = rig(vec![blocked]);
    rig.queue.put_now(b"at it\n".to_vec()).unwrap();
    there.recv().unwrap();
    assert!(rig.queue.put_and_confirm(b"issued\n".to_vec()).await.is_err());
    go.send(()).unwrap();
    rig.queue.put_now(b"later\n".to_vec()).unwrap();
    rig.queue.written().await.unwrap();
    assert_eq!(rig.places(), ["at it\nlater\n"]);
}

#[tokio::test]
async fn o1_writer_that_dies_is_noticed() {
    let rig = rig(vec![Step::Panic]);
    rig.queue.put_now(b"x\n".to_vec()).unwrap();
    assert!(rig.ended.await.is_err(), "the process ends by it");
    assert!(rig.queue.put(&mut b"y\n".to_vec()).await.is_err());
}

//! Turns: who asks the broker next when more want to than may at a time. The most urgent first, equals in the order in
//! which they came.
//!
//! Urgency is a moment by the monotonic clock, see [`crate::schedule::patience`]: a question that waits is overtaken only
//! by those that should have been put before it. As that moment lies a few minutes ahead at most, nobody starves,
//! however many come later. What waits is one entry per pass, and there is one pass per binding at most.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::oneshot;

/// A moment by the monotonic clock of the process, by which the turn should have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Urgency(pub Duration);

/// Hands out turns.
#[derive(Debug)]
pub struct Turns(Arc<Mutex<Line>>);

/// A turn; dropping it gives it to whoever is the most urgent.
#[derive(Debug)]
pub struct Turn(Option<Arc<Mutex<Line>>>);

/// Who waits; the first is the next.
#[derive(Debug)]
struct Line {
    free: usize,
    waiting: BTreeMap<Place, oneshot::Sender<Turn>>,
    /// How many have ever waited: tells equals apart.
    arrivals: u64,
}

type Place = (Urgency, u64);

/// Takes somebody who waits no longer out of the line.
struct Waiting<'a> {
    line: &'a Mutex<Line>,
    place: Place,
}

impl Turns {
    /// So many at a time.
    pub fn new(at_a_time: usize) -> Self {
        Self(Arc::new(Mutex::new(Line {
            free: at_a_time,
            waiting: BTreeMap::new(),
            arrivals: 0,
        })))
    }

    /// Waits for a turn.
    ///
    /// # Cancel safety
    /// Cancel safe: who goes away leaves the line, and a turn that was on its way goes to the next.
    pub async fn take(&self, urgency: Urgency) -> Turn {
        let (turn_tx, turn_rx) = oneshot::channel();
        let place = {
            let mut line = locked(&self.0);
            if line.free > 0 {
                line.free -= 1;
                return Turn(Some(Arc::clone(&self.0)));
            }
            line.arrivals += 1;
            let place = (urgency, line.arrivals);
            line.waiting.insert(place, turn_tx);
            place
        };
        let _waiting = Waiting { line: &self.0, place };
        match turn_rx.await {
            Ok(turn) => turn,
            // The line hands a turn to everybody whom it strikes off; it lives as long as `self`.
            Err(_closed) => Turn(None),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(shared) = self.0.take() else { return };
        loop {
            let next = {
                let mut line = locked(&shared);
                let Some((_place, next)) = line.waiting.pop_first() else {
                    line.free += 1;
                    return;
                };
                next
            };
            match next.send(Self(Some(Arc::clone(&shared)))) {
                Ok(()) => return,
                // Gone meanwhile. Disarmed, or a line of many that went away would be dropped by recursion.
                Err(mut refused) => refused.0 = None,
            }
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        locked(self.line).waiting.remove(&self.place);
    }
}

fn locked(line: &Mutex<Line>) -> MutexGuard<'_, Line> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;

//! How many connections there may be, and which one goes when there are too many.
//!
//! A connection that has been served stays. At the limit the oldest one that has not makes room for a new one: a flood
//! of connections that ask nothing displaces itself, and a caller that knocks gets the milliseconds that it needs.
//! If all have been served, the new one is closed at once, and its caller turns to another replica.
//!
//! Nothing is refused below the limit, and nothing is decided by address: a load balancer hides them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, watch};

use crate::metrics::{Closed, ConnectionMetrics};

/// All seats.
pub(super) struct Seats(Arc<Room>);

/// The place of one connection, until it is dropped.
pub(super) struct Seat {
    room: Arc<Room>,
    number: u64,
    displaced: Arc<Notify>,
}

struct Room {
    limit: usize,
    taken: watch::Sender<usize>,
    /// Connections that have not been served, in the order in which they came.
    strangers: Mutex<Strangers>,
    metrics: ConnectionMetrics,
}

#[derive(Default)]
struct Strangers {
    next_number: u64,
    seated: BTreeMap<u64, Arc<Notify>>,
}

impl Seats {
    pub(super) fn new(limit: usize, metrics: ConnectionMetrics) -> Self {
        Self(Arc::new(Room {
            limit,
            taken: watch::Sender::new(0),
            strangers: Mutex::default(),
            metrics,
        }))
    }

    /// A seat for a connection that was just accepted; none when it must be closed.
    pub(super) fn take(&self) -> Option<Seat> {
        let room = &self.0;
        let mut strangers = room.strangers();
        if *room.taken.borrow() >= room.limit {
            let Some((_number, oldest)) = strangers.seated.pop_first() else {
                room.metrics.count_closed(Closed::Full);
                return None;
            };
            // Its seat is free once its task has noticed: for that long there is one more than the limit.
            oldest.notify_one();
            room.metrics.count_closed(Closed::MadeRoom);
        }
        let number = strangers.next_number;
        strangers.next_number += 1;
        let displaced = Arc::new(Notify::new());
        strangers.seated.insert(number, Arc::clone(&displaced));
        drop(strangers);
        room.count(|taken| taken + 1);
        Some(Seat {
            room: Arc::clone(room),
            number,
            displaced,
        })
    }

    /// Waits until every seat is free.
    pub(super) async fn all_free(&self) {
        let mut taken = self.0.taken.subscribe();
        // The sender lives as long as `self`.
        drop(taken.wait_for(|taken| *taken == 0).await);
    }
}

impl Seat {
    /// The connection has been served: it keeps its seat.
    pub(super) fn keep(&self) {
        self.room.strangers().seated.remove(&self.number);
    }

    /// Waits until the connection must make room.
    pub(super) async fn displaced(&self) {
        self.displaced.notified().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.keep();
        self.room.count(|taken| taken.saturating_sub(1));
    }
}

impl Room {
    fn strangers(&self) -> MutexGuard<'_, Strangers> {
        self.strangers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, change: impl FnOnce(usize) -> usize) {
        self.taken.send_modify(|taken| {
            *taken = change(*taken);
            self.metrics.set_open(*taken);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prometheus_client::registry::Registry;

    use super::*;

    fn seats(limit: usize) -> Seats {
        Seats::new(limit, ConnectionMetrics::register(&mut Registry::default()))
    }

    async fn is_displaced(seat: &Seat) -> bool {
        tokio::time::timeout(Duration::from_millis(1), seat.displaced())
            .await
            .is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn u8_oldest_connection_that_was_not_served_makes_room() {
        let seats = seats(3);
        let served = seats.take().unwrap();
        served.keep();
        let (older, newer) = (seats.take().unwrap(), seats.take().unwrap());
        let new = seats.take().unwrap();
        assert!(is_displaced(&older).await);
        for seat in [&served, &newer, &new] {
            assert!(!is_displaced(seat).await);
        }
    }

    #[test]
    fn u8_connection_is_closed_when_all_others_were_served() {
        let seats = seats(2);
        let (one, two) = (seats.take().unwrap(), seats.take().unwrap());
        one.keep();
        two.keep();
        assert!(seats.take().is_none());
        drop(one);
        assert!(seats.take().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn seats_are_free_when_the_last_connection_has_gone() {
        let seats = seats(2);
        seats.all_free().await;
        let seat = seats.take().unwrap();
        let waiting = tokio::time::timeout(Duration::from_secs(1), seats.all_free());
        assert!(waiting.await.is_err());
        drop(seat);
        seats.all_free().await;
    }
}

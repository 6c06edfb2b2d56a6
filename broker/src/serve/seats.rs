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

/// All seats, for one accept loop.
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

    /// A seat for a connection that was just accepted; none when it must be closed. Waits until whoever makes room has
    /// gone, so that there are never more than the limit. For one accept loop: two at a time could take the same seat.
    pub(super) async fn take(&mut self) -> Option<Seat> {
        let room = &self.0;
        if *room.taken.borrow() >= room.limit {
            let Some((_number, oldest)) = room.strangers().seated.pop_first() else {
                room.metrics.count_closed(Closed::Full);
                return None;
            };
            room.metrics.count_closed(Closed::MadeRoom);
            oldest.notify_one();
            room.until(|taken| taken < room.limit).await;
        }
        let displaced = Arc::new(Notify::new());
        let number = room.strangers().seat(Arc::clone(&displaced));
        room.count(|taken| taken + 1);
        Some(Seat {
            room: Arc::clone(room),
            number,
            displaced,
        })
    }

    /// Waits until every seat is free.
    pub(super) async fn all_free(&self) {
        self.0.until(|taken| taken == 0).await;
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

    /// Waits for a number of taken seats.
    async fn until(&self, is_reached: impl Fn(usize) -> bool) {
        let mut taken = self.taken.subscribe();
        // It fails when the sender is gone, and the sender is in `self`.
        drop(taken.wait_for(|taken| is_reached(*taken)).await);
    }

    fn count(&self, change: impl FnOnce(usize) -> usize) {
        self.taken.send_modify(|taken| {
            *taken = change(*taken);
            self.metrics.set_open(*taken);
        });
    }
}

impl Strangers {
    fn seat(&mut self, displaced: Arc<Notify>) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        self.seated.insert(number, displaced);
        number
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prometheus_client::registry::Registry;
    use runtime::tasks::spawn_detached;
    use tokio::time::timeout;

    use super::*;

    fn seats(limit: usize) -> Seats {
        Seats::new(limit, ConnectionMetrics::register(&mut Registry::default()))
    }

    /// A connection that goes when it has to.
    fn obedient(seat: Seat) -> tokio::task::JoinHandle<()> {
        spawn_detached(async move { seat.displaced().await })
    }

    #[tokio::test(start_paused = true)]
    async fn u8_oldest_connection_that_was_not_served_makes_room() {
        let mut seats = seats(3);
        let served = seats.take().await.unwrap();
        served.keep();
        let [served, older, newer] = [
            obedient(served),
            obedient(seats.take().await.unwrap()),
            obedient(seats.take().await.unwrap()),
        ];
        let _new = seats.take().await.unwrap();
        older.await.unwrap();
        tokio::task::yield_now().await;
        assert!(!served.is_finished() && !newer.is_finished());
    }

    #[tokio::test(start_paused = true)]
    async fn u8_limit_holds_while_a_connection_makes_room() {
        let mut seats = seats(1);
        let slow = seats.take().await.unwrap();
        let early = timeout(Duration::from_secs(1), seats.take()).await;
        assert!(early.is_err(), "there are two where there is room for one");
        drop(slow);
        assert!(seats.take().await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn u8_connection_is_closed_when_all_others_were_served() {
        let mut seats = seats(2);
        let (one, two) = (seats.take().await.unwrap(), seats.take().await.unwrap());
        one.keep();
        two.keep();
        assert!(seats.take().await.is_none());
        drop(one);
        assert!(seats.take().await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn seats_are_free_when_the_last_connection_has_gone() {
        let mut seats = seats(2);
        seats.all_free().await;
        let seat = seats.take().await.unwrap();
        let waiting = timeout(Duration::from_secs(1), seats.all_free());
        assert!(waiting.await.is_err());
        drop(seat);
        seats.all_free().await;
    }
}

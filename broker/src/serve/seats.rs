//! How many connections there may be, and which one goes when there are too many.
//!
//! A connection over which a caller was admitted stays. At the limit the oldest of the others, the strangers, makes room
//! for a new one: a flood of connections that ask nothing displaces itself, and a caller that knocks gets the
//! milliseconds that it needs. If there is no stranger, the cluster that has the most seats gives one up, as long as it
//! has more than its share. Nobody knows of what cluster the new one is, so the share is that beside one cluster more:
//! no cluster keeps the others out, not even one that has all the seats. If none has more, the new one is closed at
//! once, and its caller turns to another replica.
//!
//! Nothing is refused below the limit, and nothing is decided by address: a load balancer hides them.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
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
    peer: Option<SocketAddr>,
}

struct Room {
    limit: usize,
    taken: watch::Sender<usize>,
    guests: Mutex<Guests>,
    metrics: ConnectionMetrics,
}

/// Those who have a seat and have not been told to leave.
#[derive(Default)]
struct Guests {
    next_number: u64,
    strangers: InOrder,
    /// By cluster; none is empty.
    known: BTreeMap<Arc<str>, InOrder>,
}

/// In the order in which they came.
type InOrder = BTreeMap<u64, Arc<Notify>>;

impl Seats {
    pub(super) fn new(limit: usize, metrics: ConnectionMetrics) -> Self {
        Self(Arc::new(Room {
            limit,
            taken: watch::Sender::new(0),
            guests: Mutex::default(),
            metrics,
        }))
    }

    /// A seat for a connection that was just accepted; none when it must be closed. Waits until whoever makes room has
    /// gone, so that there are never more than the limit. For one accept loop: two at a time could take the same seat.
    pub(super) async fn take(&mut self) -> Option<Seat> {
        let room = &self.0;
        if *room.taken.borrow() >= room.limit {
            let leaving = room.guests().next_to_leave(room.limit);
            let Some((guest, reason)) = leaving else {
                room.metrics.count_closed(Closed::Full);
                return None;
            };
            room.metrics.count_closed(reason);
            guest.notify_one();
            room.until(|taken| taken < room.limit).await;
        }
        let displaced = Arc::new(Notify::new());
        let number = room.guests().seat(Arc::clone(&displaced));
        room.count(|taken| taken + 1);
        Some(Seat {
            room: Arc::clone(room),
            number,
            displaced,
            peer: None,
        })
    }

    /// Waits until every seat is free.
    pub(super) async fn all_free(&self) {
        self.0.until(|taken| taken == 0).await;
    }
}

impl Seat {
    /// The same, for a connection from `peer`.
    pub(super) fn of(self, peer: SocketAddr) -> Self {
        let mut seat = self;
        seat.peer = Some(peer);
        seat
    }

    /// Who is on the other side: a caller, or a load balancer.
    pub(super) fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// A caller of `cluster` was admitted: the connection keeps its seat. Not if it was told to leave already.
    pub(super) fn keep(&self, cluster: &Arc<str>) {
        self.room.guests().keep(self.number, cluster);
    }

    /// Waits until the connection must make room.
    pub(super) async fn displaced(&self) {
        self.displaced.notified().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.room.guests().remove(self.number);
        self.room.count(|taken| taken.saturating_sub(1));
    }
}

impl Room {
    fn guests(&self) -> MutexGuard<'_, Guests> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
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

impl Guests {
    fn seat(&mut self, displaced: Arc<Notify>) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        self.strangers.insert(number, displaced);
        number
    }

    fn keep(&mut self, number: u64, cluster: &Arc<str>) {
        if let Some(guest) = self.strangers.remove(&number) {
            self.known
                .entry(Arc::clone(cluster))
                .or_default()
                .insert(number, guest);
        }
    }

    fn remove(&mut self, number: u64) {
        if self.strangers.remove(&number).is_none() {
            self.known.retain(|_cluster, guests| {
                guests.remove(&number);
                !guests.is_empty()
            });
        }
    }

    /// Takes out whoever must leave when all of `limit` seats are taken.
    fn next_to_leave(&mut self, limit: usize) -> Option<(Arc<Notify>, Closed)> {
        if let Some((_number, oldest)) = self.strangers.pop_first() {
            return Some((oldest, Closed::MadeRoom));
        }
        // One more than are known: the new one may be of a cluster that has no seat yet, and would never become known if
        // those who have them all kept them. Rounded up, so that nobody gives up its only seat.
        let share = limit.div_ceil(self.known.len() + 1);
        let greediest = self.known.values_mut().max_by_key(|guests| guests.len())?;
        if greediest.len() <= share {
            return None;
        }
        let (_number, oldest) = greediest.pop_first()?;
        Some((oldest, Closed::OverShare))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prometheus_client::registry::Registry;
    use runtime::tasks::spawn_detached;
    use tokio::time::timeout;

    use super::*;

    fn cluster(name: &str) -> Arc<str> {
        Arc::from(name)
    }

    fn seats(limit: usize) -> Seats {
        Seats::new(limit, ConnectionMetrics::register(&mut Registry::default()))
    }

    /// A connection that goes when it has to.
    fn obedient(seat: Seat) -> tokio::task::JoinHandle<()> {
        spawn_detached(async move { seat.displaced().await })
    }

    #[tokio::test(start_paused = true)]
    async fn u8_oldest_stranger_makes_room() {
        let mut seats = seats(3);
        let admitted = seats.take().await.unwrap();
        admitted.keep(&cluster("weu-7"));
        let [admitted, older, newer] = [
            obedient(admitted),
            obedient(seats.take().await.unwrap()),
            obedient(seats.take().await.unwrap()),
        ];
        let _new = seats.take().await.unwrap();
        older.await.unwrap();
        tokio::task::yield_now().await;
        assert!(!admitted.is_finished() && !newer.is_finished());
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
    async fn u8_connection_is_closed_when_all_others_were_admitted() {
        let mut seats = seats(2);
        let (one, two) = (seats.take().await.unwrap(), seats.take().await.unwrap());
        one.keep(&cluster("weu-7"));
        two.keep(&cluster("neu-3"));
        assert!(seats.take().await.is_none(), "nobody gives up its only seat");
        drop(one);
        assert!(seats.take().await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn u8_newcomer_finds_a_seat_when_one_cluster_has_them_all() {
        let mut seats = seats(4);
        let mut large = Vec::new();
        for _ in 0..4 {
            let seat = seats.take().await.unwrap();
            seat.keep(&cluster("large"));
            large.push(obedient(seat));
        }
        // Four seats, the cluster that has them and one more: two for each.
        let mut small = Vec::new();
        for _ in 0..2 {
            let seat = seats.take().await.expect("a newcomer is let in");
            seat.keep(&cluster("small"));
            small.push(seat);
            large.remove(0).await.unwrap();
        }
        assert!(seats.take().await.is_none(), "each has its share");
        assert!(large.iter().all(|seat| !seat.is_finished()));
    }

    #[tokio::test(start_paused = true)]
    async fn u8_cluster_with_more_than_its_share_makes_room_for_others() {
        let mut seats = seats(4);
        let small = seats.take().await.unwrap();
        small.keep(&cluster("small"));
        let mut large = Vec::new();
        for _ in 0..3 {
            let seat = seats.take().await.unwrap();
            seat.keep(&cluster("large"));
            large.push(obedient(seat));
        }
        // Four seats, two clusters: two for each.
        let newcomer = seats.take().await.unwrap();
        large.remove(0).await.unwrap();
        newcomer.keep(&cluster("small"));
        assert!(seats.take().await.is_none(), "each has its share");
        assert!(large.iter().all(|seat| !seat.is_finished()));
        drop(small);
    }

    #[tokio::test(start_paused = true)]
    async fn u8_connection_that_was_told_to_leave_cannot_keep_its_seat() {
        let mut seats = seats(1);
        let leaving = seats.take().await.unwrap();
        let early = timeout(Duration::from_secs(1), seats.take()).await;
        assert!(early.is_err());
        leaving.keep(&cluster("weu-7"));
        drop(leaving);
        assert!(seats.take().await.is_some());
        assert!(seats.0.guests().known.is_empty());
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

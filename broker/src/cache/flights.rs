//! One fetch in flight per key. Knows neither tokens nor stores; explored by a model checker in
//! `broker/tests/flights_model.rs`.
//!
//! Who looks finds the fetch in flight or what it has stored, never neither: look-ups for a new flight happen under the
//! lock, and a flight leaves the map after its outcome was stored and before its waiters are told. The lock is held for
//! map operations only.

use std::{collections::HashMap, hash::Hash};

use tokio::sync::watch;

use super::sync::{Arc, Mutex, PoisonError};

/// The flights of one cache. Each is led on behalf of a party.
pub(super) struct Flights<K, P, O> {
    in_the_air: Mutex<InTheAir<K, P, O>>,
    limit: usize,
    limit_per_party: usize,
}

struct InTheAir<K, P, O> {
    flights: HashMap<K, Flight<O>>,
    by_party: HashMap<P, usize>,
}

/// A flight to wait for.
pub(super) struct Flight<O>(watch::Receiver<Option<O>>);

/// What became of an attempt to get on a flight.
pub(super) enum Boarding<S, K: Eq + Hash, P: Eq + Hash, O> {
    /// None is needed any more.
    Settled(S),
    /// One was in the air.
    Joined(Flight<O>),
    /// The caller must fetch, store, and then land.
    Leads(Lead<K, P, O>, Flight<O>),
    /// Too many are in the air, or too many of this party.
    Full,
}

/// The duty to land a flight. Dropped without that, its waiters learn that there will be no outcome.
pub(super) struct Lead<K: Eq + Hash, P: Eq + Hash, O> {
    flights: Arc<Flights<K, P, O>>,
    key: K,
    party: P,
    landed: watch::Sender<Option<O>>,
    has_landed: bool,
}

impl<O> Clone for Flight<O> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<O: Clone> Flight<O> {
    /// Waits for the outcome; `None` if the lead was lost.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn outcome(mut self) -> Option<O> {
        let landed = self.0.wait_for(Option::is_some).await.ok()?;
        landed.clone()
    }
}

impl<K: Clone + Eq + Hash, P: Clone + Eq + Hash, O> Flights<K, P, O> {
    /// No flights; at most `limit` at once, and `limit_per_party` on behalf of one party.
    pub(super) fn new(limit: usize, limit_per_party: usize) -> Arc<Self> {
        Arc::new(Self {
            in_the_air: Mutex::new(InTheAir {
                flights: HashMap::new(),
                by_party: HashMap::new(),
            }),
            limit,
            limit_per_party,
        })
    }

    /// Joins the flight for `key` or leads a new one on behalf of `party`, unless `settled` finds that none is needed: it is
    /// asked under the lock, when no flight can land unseen.
    pub(super) fn board<S>(
        self: &Arc<Self>,
        key: &K,
        party: &P,
        settled: impl FnOnce() -> Option<S>,
    ) -> Boarding<S, K, P, O> {
        let mut in_the_air = self.in_the_air.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(settled) = settled() {
            return Boarding::Settled(settled);
        }
        if let Some(flight) = in_the_air.flights.get(key) {
            return Boarding::Joined(flight.clone());
        }
        let of_party = in_the_air.by_party.get(party).copied().unwrap_or_default();
        if in_the_air.flights.len() >= self.limit || of_party >= self.limit_per_party {
            return Boarding::Full;
        }
        let (landed, receiver) = watch::channel(None);
        let flight = Flight(receiver);
        in_the_air.flights.insert(key.clone(), flight.clone());
        in_the_air.by_party.insert(party.clone(), of_party + 1);
        let lead = Lead {
            flights: Arc::clone(self),
            key: key.clone(),
            party: party.clone(),
            landed,
            has_landed: false,
        };
        Boarding::Leads(lead, flight)
    }

    /// How many are in the air.
    pub(super) fn len(&self) -> usize {
        self.in_the_air
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .flights
            .len()
    }
}

impl<K: Eq + Hash, P: Eq + Hash, O> Lead<K, P, O> {
    /// Tells everybody. The outcome must have been stored where `settled` of [`Flights::board`] looks.
    pub(super) fn land(mut self, outcome: O) {
        self.leave();
        self.landed.send_replace(Some(outcome));
        self.has_landed = true;
    }

    fn leave(&self) {
        let mut in_the_air = self
            .flights
            .in_the_air
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        in_the_air.flights.remove(&self.key);
        if let Some(of_party) = in_the_air.by_party.get_mut(&self.party) {
            *of_party -= 1;
            if *of_party == 0 {
                in_the_air.by_party.remove(&self.party);
            }
        }
    }
}

impl<K: Eq + Hash, P: Eq + Hash, O> Drop for Lead<K, P, O> {
    fn drop(&mut self) {
        // After `land` the key may be in the air again, with another lead.
        if !self.has_landed {
            self.leave();
        }
    }
}

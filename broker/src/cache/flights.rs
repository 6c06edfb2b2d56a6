//! One fetch in flight per key. Knows neither tokens nor stores; explored by a model checker in
//! `broker/tests/flights_model.rs`.
//!
//! Who looks finds the fetch in flight or what it has stored, never neither: look-ups for a new flight happen under the
//! lock, and a flight leaves the map after its outcome was stored and before its waiters are told. The lock is held for
//! map operations only.

use std::{collections::HashMap, hash::Hash};

use tokio::sync::watch;

use super::sync::{Arc, Mutex, PoisonError};

/// On whose behalf a flight is led. Parties come in groups.
pub(super) trait Party: Clone + Eq + Hash {
    /// What a party cannot choose.
    type Group: Clone + Eq + Hash;

    /// Its group.
    fn group(&self) -> &Self::Group;
}

/// How many may be in the air.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// At once.
    pub(super) all: usize,
    /// On behalf of one party.
    pub(super) per_party: usize,
    /// On behalf of one group, where so many groups have some, itself included.
    pub(super) per_group: fn(usize) -> usize,
}

/// The flights of one cache.
pub(super) struct Flights<K, P: Party, O> {
    in_the_air: Mutex<InTheAir<K, P, O>>,
    limits: Limits,
}

struct InTheAir<K, P: Party, O> {
    flights: HashMap<K, Flight<O>>,
    by_party: HashMap<P, usize>,
    by_group: HashMap<P::Group, usize>,
}

/// A flight to wait for.
pub(super) struct Flight<O>(watch::Receiver<Option<O>>);

/// What became of an attempt to get on a flight.
pub(super) enum Boarding<S, K: Eq + Hash, P: Party, O> {
    /// None is needed any more.
    Settled(S),
    /// One was in the air.
    Joined(Flight<O>),
    /// The caller must fetch, store, and then land.
    Leads(Lead<K, P, O>, Flight<O>),
    /// Too many are in the air, or too many of this party or its group.
    Full,
}

/// The duty to land a flight. Dropped without that, its waiters learn that there will be no outcome.
pub(super) struct Lead<K: Eq + Hash, P: Party, O> {
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

impl<K: Clone + Eq + Hash, P: Party, O> Flights<K, P, O> {
    /// No flights.
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            in_the_air: Mutex::new(InTheAir {
                flights: HashMap::new(),
                by_party: HashMap::new(),
                by_group: HashMap::new(),
            }),
            limits,
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
        if !in_the_air.has_room_for(party, &self.limits) {
            return Boarding::Full;
        }
        let (landed, receiver) = watch::channel(None);
        let flight = Flight(receiver);
        in_the_air.flights.insert(key.clone(), flight.clone());
        *in_the_air.by_party.entry(party.clone()).or_default() += 1;
        *in_the_air.by_group.entry(party.group().clone()).or_default() += 1;
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

impl<K, P: Party, O> InTheAir<K, P, O> {
    fn has_room_for(&self, party: &P, limits: &Limits) -> bool {
        let of_party = self.by_party.get(party).copied().unwrap_or_default();
        let of_group = self.by_group.get(party.group()).copied().unwrap_or_default();
        let groups = self.by_group.len() + usize::from(of_group == 0);
        self.flights.len() < limits.all
            && of_party < limits.per_party
            && of_group < (limits.per_group)(groups)
    }
}

impl<K: Eq + Hash, P: Party, O> Lead<K, P, O> {
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
        one_less(&mut in_the_air.by_party, &self.party);
        one_less(&mut in_the_air.by_group, self.party.group());
    }
}

fn one_less<T: Eq + Hash>(counts: &mut HashMap<T, usize>, of: &T) {
    if let Some(count) = counts.get_mut(of) {
        *count -= 1;
        if *count == 0 {
            counts.remove(of);
        }
    }
}

impl<K: Eq + Hash, P: Party, O> Drop for Lead<K, P, O> {
    fn drop(&mut self) {
        // After `land` the key may be in the air again, with another lead.
        if !self.has_landed {
            self.leave();
        }
    }
}

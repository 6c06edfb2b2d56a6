//! The coalescer under a model checker: every explored interleaving of callers, a fetch and its landing keeps the
//! promises that many threads on a real machine would break once in a million.
//!
//! The file under test is the broker's own, compiled here over the checker's lock instead of the standard one.

#![expect(clippy::unwrap_used, reason = "a test")]

#[path = "../src/cache/flights.rs"]
mod flights;

/// What `flights` is built on here.
mod sync {
    pub(super) use std::sync::PoisonError;

    pub(super) use shuttle::sync::{Arc, Mutex};
}

use std::sync::atomic::Ordering;

use flights::{Boarding, Flights, Limits, Party};
use shuttle::{
    check_dfs, check_random, future,
    sync::{Arc, Mutex, atomic::AtomicU32},
    thread,
};

/// Interleavings per test: seconds, not minutes.
const SCHEDULES: usize = 2_000;

#[derive(Clone)]
struct Rig {
    flights: Arc<Flights<&'static str, &'static str, u32>>,
    store: Arc<Mutex<Option<u32>>>,
    fetches: Arc<AtomicU32>,
    in_flight: Arc<Mutex<Vec<future::JoinHandle<()>>>>,
}

impl Party for &'static str {
    type Group = Self;

    fn group(&self) -> &Self {
        self
    }
}

impl Rig {
    fn new(limit: usize) -> Self {
        Self {
            flights: Flights::new(Limits {
                all: limit,
                per_party: 8,
                per_group: |_groups| 8,
            }),
            store: Arc::new(Mutex::new(None)),
            fetches: Arc::new(AtomicU32::new(0)),
            in_flight: Arc::default(),
        }
    }

    /// What the cache does: look, board, and fetch in a task of its own if it leads.
    async fn get(&self, lose_the_lead: bool) -> Option<u32> {
        let look = || *self.store.lock().unwrap();
        if let Some(token) = look() {
            return Some(token);
        }
        let flight = match self.flights.board(&"key", &"party", look) {
            Boarding::Settled(token) => return Some(token),
            Boarding::Joined(flight) => flight,
            Boarding::Full => return None,
            Boarding::Leads(lead, flight) => {
                let rig = self.clone();
                let fetch = future::spawn(async move {
                    let token = rig.fetches.fetch_add(1, Ordering::SeqCst) + 1;
                    future::yield_now().await;
                    if lose_the_lead {
                        drop(lead);
                    } else {
                        *rig.store.lock().unwrap() = Some(token);
                        lead.land(token);
                    }
                });
                self.in_flight.lock().unwrap().push(fetch);
                flight
            }
        };
        flight.outcome().await
    }

    /// Waits for the fetches to end: the callers may have been served from the store a moment before.
    fn fetches_made(&self) -> u32 {
        let fetches = std::mem::take(&mut *self.in_flight.lock().unwrap());
        for fetch in fetches {
            future::block_on(fetch).unwrap();
        }
        assert_eq!(self.flights.len(), 0, "nothing stays in the air");
        self.fetches.load(Ordering::SeqCst)
    }
}

/// `callers` threads that ask at once; what they got.
fn ask_at_once(rig: &Rig, callers: usize, lose_the_lead: bool) -> Vec<Option<u32>> {
    let threads: Vec<_> = (0..callers)
        .map(|_| {
            let rig = rig.clone();
            thread::spawn(move || future::block_on(async move { rig.get(lose_the_lead).await }))
        })
        .collect();
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

#[test]
fn c1_model_callers_at_once_cost_one_fetch_and_share_its_outcome() {
    check_random(
        || {
            let rig = Rig::new(8);
            let got = ask_at_once(&rig, 4, false);
            assert_eq!(got, [Some(1); 4]);
            assert_eq!(rig.fetches_made(), 1);
        },
        SCHEDULES,
    );
}

#[test]
fn c1_model_two_callers_in_depth_first_order() {
    check_dfs(
        || {
            let rig = Rig::new(8);
            assert_eq!(ask_at_once(&rig, 2, false), [Some(1); 2]);
            assert_eq!(rig.fetches_made(), 1);
        },
        Some(5 * SCHEDULES),
    );
}

#[test]
fn c1_model_a_lost_lead_leaves_nobody_waiting_and_nothing_in_the_air() {
    check_random(
        || {
            let rig = Rig::new(8);
            let got = ask_at_once(&rig, 3, true);
            assert!(got.iter().all(Option::is_none));
            assert!(rig.fetches_made() >= 1);
        },
        SCHEDULES,
    );
}

#[test]
fn c2_model_a_caller_that_goes_away_changes_nothing_for_the_others() {
    check_random(
        || {
            let rig = Rig::new(8);
            let leaver = rig.clone();
            let leaver = future::spawn(async move { leaver.get(false).await });
            let others = {
                let rig = rig.clone();
                thread::spawn(move || ask_at_once(&rig, 2, false))
            };
            // It goes away before it asked, while it waits, or after: the checker tries all of them.
            thread::yield_now();
            leaver.abort();
            assert_eq!(others.join().unwrap(), [Some(1); 2]);
            assert_eq!(rig.fetches_made(), 1);
        },
        SCHEDULES,
    );
}

#[test]
fn u4_model_a_full_cache_turns_callers_away() {
    check_random(
        || {
            let rig = Rig::new(0);
            assert_eq!(ask_at_once(&rig, 2, false), [None, None]);
            assert_eq!(rig.fetches_made(), 0);
        },
        100,
    );
}

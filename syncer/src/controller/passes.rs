//! Runs passes: one at a time per object, as many objects at a time as are due. Knows neither what a pass does nor what
//! for.
//!
//! Not the library's `applier`: at each wake it looks at every pass in flight and at every object that was woken during
//! its own, so that its work grows with the square of a burst; with 10,000 bindings it is what the others wait for. Here a
//! wake costs the same however many there are.

use std::{future::Future, hash::Hash, pin::pin, time::Duration};

use futures::{Stream, StreamExt as _, stream::FuturesUnordered};
use tokio::time::Instant;

use super::agenda::Agenda;

/// Changes that come within this time are looked at together: our own writes come back as changes.
const DEBOUNCE: Duration = Duration::from_millis(20);
/// The longest pause that a pass may ask for. What is due later is looked at in vain, once a month.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Begins a pass for every wake until these end, and waits for those that have begun. A pass says after which pause it is
/// to be made again, if nothing wakes it before. `begin` has none for an object that is gone.
pub(super) async fn run<R, P>(wakes: impl Stream<Item = R>, mut begin: impl FnMut(&R) -> Option<P>)
where
    R: Clone + Eq + Hash,
    P: Future<Output = Option<Duration>>,
{
    let mut wakes = pin!(wakes.fuse());
    let mut agenda = Agenda::default();
    let mut passes = FuturesUnordered::new();
    loop {
        tokio::select! {
            wake = wakes.next() => match wake {
                Some(object) => agenda.wake(object, Instant::now() + DEBOUNCE),
                None => break,
            },
            object = agenda.next() => match begin(&object) {
                Some(pass) => passes.push(async move { (object, pass.await) }),
                None => agenda.back(object, None),
            },
            Some((object, pause)) = passes.next() => {
                let again_at = pause.map(|pause| Instant::now() + pause.min(LONGEST));
                agenda.back(object, again_at);
            }
        }
    }
    while let Some(_ended) = passes.next().await {}
}

#[cfg(test)]
mod tests {
    use std::{
        cell::{Cell, RefCell},
        collections::BTreeSet,
        future::poll_fn,
        rc::Rc,
        task::Poll,
    };

    use futures::{FutureExt as _, channel::mpsc, stream};
    use tokio::{sync::Notify, time::sleep};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn passes_wakes_that_come_together_make_one_pass_and_one_during_it_another() {
        let (mut wakes_tx, wakes) = mpsc::channel(8);
        let (begun, running) = (RefCell::new(Vec::new()), Cell::new(0));
        let start = Instant::now();
        let test = async {
            for pause in [0, 5, 5, 500] {
                sleep(Duration::from_millis(pause)).await;
                wakes_tx.try_send("web").unwrap();
            }
            sleep(5 * SECOND).await;
            drop(wakes_tx);
        };
        let passes = run(wakes, |_object| {
            begun.borrow_mut().push(start.elapsed().as_millis());
            Some(async {
                assert_eq!(running.replace(1), 0, "two at a time");
                sleep(SECOND).await;
                running.set(0);
                None
            })
        });
        futures::join!(test, passes);
        let begun = begun.into_inner();
        assert!(matches!(begun[..], [20..25, 1020..1030]), "{begun:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn passes_are_made_again_after_the_pause_that_they_ask_for_however_long() {
        let (mut wakes_tx, wakes) = mpsc::channel(8);
        wakes_tx.try_send("web").unwrap();
        let begun = Cell::new(0);
        let passes = run(wakes, |_object| {
            begun.set(begun.get() + 1);
            let pause = if begun.get() < 4 { SECOND } else { Duration::MAX };
            Some(async move { Some(pause) })
        });
        let test = async {
            sleep(10 * SECOND).await;
            drop(wakes_tx);
        };
        futures::join!(test, passes);
        assert_eq!(begun.get(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn passes_that_have_begun_are_waited_for_at_the_end_and_none_begins() {
        let (mut wakes_tx, wakes) = mpsc::channel(8);
        let ended = RefCell::new(Vec::new());
        let ended = &ended;
        let passes = run(wakes, |object: &&'static str| {
            let object = *object;
            (object != "gone").then_some(async move {
                sleep(10 * SECOND).await;
                ended.borrow_mut().push(object);
                Some(SECOND)
            })
        });
        let test = async {
            for name in ["gone", "web"] {
                wakes_tx.try_send(name).unwrap();
            }
            sleep(SECOND).await;
            wakes_tx.try_send("late").unwrap();
            drop(wakes_tx);
        };
        futures::join!(test, passes);
        assert_eq!(*ended.borrow(), ["web"]);
    }

    /// In a burst all wait for something, and come to it one after the other.
    #[tokio::test(start_paused = true)]
    async fn passes_of_ten_thousand_objects_are_each_polled_a_few_times() {
        const OBJECTS: usize = 10_000;
        let (polls, ended) = (Rc::new(Cell::new(0)), Rc::new(RefCell::new(BTreeSet::new())));
        let turns: Vec<_> = (0..OBJECTS).map(|_object| Rc::new(Notify::new())).collect();
        let (mut wakes_tx, later) = mpsc::channel(OBJECTS);
        let wakes = stream::iter(0..OBJECTS).chain(later);
        let passes = run(wakes, |object| {
            let (object, polls, ended) = (*object, Rc::clone(&polls), Rc::clone(&ended));
            let turn = Rc::clone(&turns[object]);
            let mut wait = Box::pin(async move { turn.notified().await });
            Some(async move {
                poll_fn(|context| {
                    polls.set(polls.get() + 1);
                    wait.poll_unpin(context)
                })
                .await;
                ended.borrow_mut().insert(object);
                poll_fn(|_context| Poll::Ready(None)).await
            })
        });
        let test = async {
            sleep(SECOND).await;
            assert_eq!(polls.get(), OBJECTS, "each has begun");
            for (object, turn) in turns.iter().enumerate() {
                // It is woken once more while it runs, as by its own writes.
                wakes_tx.try_send(object).unwrap();
                turn.notify_one();
                tokio::task::yield_now().await;
            }
            drop(wakes_tx);
        };
        futures::join!(test, passes);
        assert_eq!(ended.borrow().len(), OBJECTS);
        assert!(polls.get() <= 4 * OBJECTS, "{} polls", polls.get());
    }
}

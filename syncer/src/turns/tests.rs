//! Thousands of questions in virtual time, with a broker that answers slowly.

use std::{cmp::Reverse, time::Duration};

use runtime::tasks::spawn_detached;
use tokio::time::{Instant, sleep};

use super::*;
use crate::schedule;

const AT_A_TIME: usize = 512;
const ANSWER: Duration = Duration::from_secs(5);

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Puts a question at each of these times after the start, each as urgent as what is `left` of its credential makes it.
/// Says, in the order in which the turns came, who had one and when.
async fn order_of(questions: Vec<(Duration, Option<Duration>)>, at_a_time: usize) -> Vec<(usize, Duration)> {
    let turns = Arc::new(Turns::new(at_a_time));
    let order = Arc::new(Mutex::new(Vec::new()));
    let start = Instant::now();
    let passes: Vec<_> = questions
        .into_iter()
        .enumerate()
        .map(|(number, (at, left))| {
            let (turns, order) = (Arc::clone(&turns), Arc::clone(&order));
            spawn_detached(async move {
                sleep(at).await;
                let urgency = Urgency(start.elapsed() + schedule::patience(left, 0));
                let _turn = turns.take(urgency).await;
                order.lock().unwrap().push((number, start.elapsed()));
                sleep(ANSWER).await;
            })
        })
        .collect();
    for pass in passes {
        pass.await.unwrap();
    }
    let line = locked(&turns.0);
    assert_eq!((line.free, line.waiting.len()), (at_a_time, 0), "turns are lost");
    Arc::into_inner(order).unwrap().into_inner().unwrap()
}

#[tokio::test(start_paused = true)]
async fn turns_of_10_000_that_are_due_at_once_come_by_urgency() {
    const COUNT: usize = 10_000;
    // Every seventh has no credential; of the others less is left the higher the number.
    let left = |number: usize| {
        (!number.is_multiple_of(7))
            .then(|| Duration::from_millis(u64::try_from(COUNT - number).unwrap() * 17))
    };
    let questions = (0..COUNT).map(|number| (Duration::ZERO, left(number))).collect();
    let order = order_of(questions, AT_A_TIME).await;
    assert_eq!(order.len(), COUNT);
    // The first have turns before there is a line.
    let line = &order[AT_A_TIME..];
    assert!(
        line.is_sorted_by_key(|(number, _at)| schedule::patience(left(*number), 0)),
        "the order is not that of urgency"
    );
    let first_with_a_secret = line
        .iter()
        .position(|(number, _at)| left(*number) > Some(seconds(60)));
    let last_without = line.iter().rposition(|(number, _at)| left(*number).is_none());
    assert!(last_without < first_with_a_secret);
}

#[tokio::test(start_paused = true)]
async fn turns_nobody_starves_though_more_urgent_ones_keep_coming() {
    // One that could wait for hours, and for ten minutes twice as many without any credential as can be served.
    let patient = (seconds(1), Some(seconds(3 * 3600)));
    let hurried = (0..1200).map(|half| (Duration::from_millis(half * 500), None));
    let order = order_of([patient].into_iter().chain(hurried).collect(), 5).await;
    let at = order.iter().find(|(number, _at)| *number == 0).unwrap().1;
    // Those that came before its moment are served first, and none that came after.
    let bound = 2 * schedule::patience(Some(seconds(3 * 3600)), 0) + 2 * ANSWER;
    assert!(at <= bound, "{at:?} is more than {bound:?}");
    let last = order.last().unwrap().1;
    assert!(at < last / 2, "{at:?} of {last:?}");
}

#[tokio::test(start_paused = true)]
async fn b3_questions_that_nobody_answers_delay_no_other() {
    // A silent registry keeps its questions for as long as a call may take, for ever anew.
    const SILENCE: Duration = Duration::from_secs(20);
    let turns = Arc::new(Turns::new(AT_A_TIME));
    let start = Instant::now();
    let silent: Vec<_> = (0..200)
        .map(|_number| {
            let turns = Arc::clone(&turns);
            spawn_detached(async move {
                loop {
                    let _turn = turns.take(Urgency(start.elapsed())).await;
                    sleep(SILENCE).await;
                }
            })
        })
        .collect();
    sleep(seconds(60)).await;
    for _number in 0..50 {
        let asked = Instant::now();
        drop(turns.take(Urgency(start.elapsed())).await);
        assert_eq!(asked.elapsed(), Duration::ZERO);
    }
    for pass in silent {
        pass.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn turns_of_who_went_away_go_to_the_next() {
    let turns = Arc::new(Turns::new(1));
    let held = turns.take(Urgency(seconds(0))).await;
    let waiting: Vec<_> = (0..10_000_u64)
        .map(|number| {
            let turns = Arc::clone(&turns);
            spawn_detached(async move { turns.take(Urgency(seconds(number))).await })
        })
        .collect();
    let last = {
        let turns = Arc::clone(&turns);
        spawn_detached(async move { turns.take(Urgency(seconds(20_000))).await })
    };
    sleep(seconds(1)).await;
    assert_eq!(locked(&turns.0).waiting.len(), 10_001);
    for pass in &waiting {
        pass.abort();
    }
    sleep(seconds(1)).await;
    assert_eq!(locked(&turns.0).waiting.len(), 1, "who went away still waits");
    drop(held);
    drop(last.await.unwrap());
    assert_eq!(locked(&turns.0).free, 1);
}

#[tokio::test(start_paused = true)]
async fn turns_of_a_pass_that_panics_are_given_back() {
    let turns = Arc::new(Turns::new(1));
    let shared = Arc::clone(&turns);
    let pass = spawn_detached(async move {
        let _turn = shared.take(Urgency(seconds(0))).await;
        panic!("on purpose");
    });
    pass.await.unwrap_err();
    drop(turns.take(Urgency(seconds(0))).await);
}

#[test]
fn urgency_is_greatest_for_who_has_nothing_and_has_not_failed() {
    let hour = Some(seconds(3600));
    let mut ranked = [
        (schedule::patience(hour, 0), "an hour left"),
        (schedule::patience(None, 3), "nothing, and failed before"),
        (schedule::patience(Some(seconds(65)), 2), "about to expire"),
        (schedule::patience(None, 0), "nothing"),
    ];
    ranked.sort_by_key(|(patience, _who)| Reverse(*patience));
    assert_eq!(
        ranked.map(|(_patience, who)| who),
        [
            "an hour left",
            "nothing, and failed before",
            "about to expire",
            "nothing"
        ]
    );
}

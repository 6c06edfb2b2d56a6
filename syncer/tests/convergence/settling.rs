//! The property: after the last disturbance, with Azure willing, every binding gets to its right state within so many
//! passes and so much time; then nothing happens before the next refresh, and with the refreshes it stays right.

use std::{collections::BTreeMap, time::Duration};

use proptest::test_runner::{Config, TestRunner};
use syncer::schedule::{elapsed, later};

use crate::{
    broker::Mood,
    cases::{Case, case},
    found, right,
    world::World,
};

const CASES: u32 = 250;
/// Passes over one binding until it is right: each of a fight, of the peer's finalizer and of failures has a few.
const MOST_PASSES: usize = 12;
/// The longest that anything may have to wait: ...
const LONGEST: Duration = Duration::from_secs(65 * 60);
/// Between two of several equal disturbances.
const AT_ONCE: Duration = Duration::from_secs(2);
/// Until the next look where nothing is due.
const STEP: Duration = Duration::from_secs(5);

/// Every token is refreshed in this time, and some twice; ...
const WHILE: Duration = Duration::from_secs(120 * 60);
/// ... more of one binding's questions come from a Secret that cannot be written, or from replicas that disagree.
const MOST_QUESTIONS: usize = 16;

/// Lets happen what the case says.
fn live(world: &mut World, case: &Case) {
    for (gap, disturbance, times) in &case.events {
        world.run_for(*gap);
        for _time in 0..*times {
            world.disturb(disturbance);
            world.run_for(AT_ONCE);
        }
    }
    world.broker.mood = Mood::Grants;
    world.server.faults.clear();
}

/// Runs until all is right.
fn settle(world: &mut World) {
    let began = world.now;
    world.passes.clear();
    let mut passes = BTreeMap::new();
    loop {
        let wrong = right::wrong(world);
        for (slot, _why) in &wrong {
            passes.insert(*slot, world.passes.get(slot).copied().unwrap_or_default());
        }
        if wrong.is_empty() {
            break;
        }
        assert!(
            elapsed(began, world.now) <= LONGEST,
            "after {LONGEST:?}: {wrong:#?}"
        );
        let until = world
            .next_wake()
            .map_or(STEP, |at| elapsed(world.now, at).max(Duration::from_secs(1)));
        world.run_for(until);
    }
    for (slot, count) in passes {
        assert!(count <= MOST_PASSES, "binding {slot} took {count} passes");
    }
}

/// Looks at everything again, now and once more before the next time that something is due.
fn rest(world: &mut World) {
    let asked = world.broker.questions;
    let before = world.server.objects.clone();
    let next = world.next_wake().map_or(STEP, |at| elapsed(world.now, at));
    for pause in [Duration::ZERO, next / 2] {
        world.now = later(world.now, pause);
        let slots: Vec<_> = world.server.objects.bindings.keys().copied().collect();
        for slot in slots {
            world.look_at(slot);
        }
        for account in world.account_keys() {
            world.settle_links(&account, None).unwrap();
        }
        let changes = before.changes(&world.server.objects);
        assert!(
            changes.is_empty(),
            "a pass over what is right changes it: {}",
            changes.join("\n")
        );
        assert_eq!(world.broker.questions, asked, "nothing is asked for");
    }
}

/// Lets the refreshes come, with a bounded number of questions.
fn renew(world: &mut World) {
    let asked = world.broker.questions;
    world.run_for(WHILE);
    let wrong = right::wrong(world);
    assert!(wrong.is_empty(), "{WHILE:?} later: {wrong:#?}");
    let asked = world.broker.questions - asked;
    let most = MOST_QUESTIONS * world.server.objects.bindings.len();
    assert!(asked <= most, "{asked} questions in {WHILE:?}");
}

fn check(case: &Case) {
    let mut world = found::world(case);
    live(&mut world, case);
    settle(&mut world);
    rest(&mut world);
    renew(&mut world);
}

#[test]
fn plan_converges_from_any_state_and_then_does_nothing() {
    let config = Config {
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..Config::with_cases(CASES)
    };
    TestRunner::new(config)
        .run(&case(), |case| {
            check(&case);
            Ok(())
        })
        .unwrap();
}

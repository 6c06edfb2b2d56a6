//! The property: after the last disturbance, with Azure willing, every binding gets to its right state within so many
//! passes and so much time; then nothing happens before the next refresh; what somebody changes then takes effect within
//! seconds; what somebody undoes again and again is put right ever less often; and with the refreshes all stays right, also
//! by a clock that was set back.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proto::Reason;
use syncer::finalizer;

use crate::{
    broker::Mood,
    cases::{Case, Change},
    right,
    world::World,
};

/// Passes over one binding until it is right: each of a fight, of the peer's finalizer and of failures has a few.
const MOST_PASSES: usize = 12;
/// The longest that anything may have to wait: ...
const LONGEST: Duration = Duration::from_secs(65 * 60);
/// ... the token of a binding that nothing stands in the way of, because the last write failed.
const UNHINDERED: Duration = Duration::from_secs(35);
/// Until a token for what a binding says now takes the place of the one before.
const SOON: Duration = Duration::from_secs(5);
/// So long may the peer, if its finalizer was removed just now, take to come back; its token is left in place until then.
const PEERS_TURN: Duration = Duration::from_secs(30);
/// Between two of several equal disturbances.
const AT_ONCE: Duration = Duration::from_secs(2);
/// Until the next look where nothing is due.
const STEP: Duration = Duration::from_secs(5);

/// How long somebody fights, ...
const FIGHT: Duration = Duration::from_secs(30 * 60);
/// ... and how often what they undo is put right meanwhile: at once at first, and ever less often.
const FEWEST_REPAIRS: usize = 6;
const MOST_REPAIRS: usize = 12;

/// Every token is refreshed in this time, and some twice; ...
const WHILE: Duration = Duration::from_secs(120 * 60);
/// ... in it, it is looked so often whether they are good; ...
const LOOKS: u32 = 8;
/// ... more of one binding's questions come from a Secret that cannot be written, or from replicas that disagree.
const MOST_QUESTIONS: usize = 16;

/// Lets happen what the case says, and all of it arrive.
pub(crate) fn live(world: &mut World, case: &Case) {
    for (gap, disturbance, times) in &case.events {
        world.run_for(*gap);
        for _time in 0..*times {
            world.disturb(disturbance);
            world.run_for(AT_ONCE);
        }
    }
    world.broker.mood = Mood::Grants;
    world.faults.clear();
    world.calm();
    world.run_for(world.longest_under_way());
    // What a deposed process says of a binding is put right by the next pass, whenever that is.
    let (leader, now) = (world.leader(), world.clock.monotonic());
    for slot in std::mem::take(&mut world.told_late) {
        world.processes[leader].wake(slot, now);
    }
}

/// Runs until all is right.
pub(crate) fn settle(world: &mut World) {
    let began = world.clock.monotonic();
    let leader = world.leader();
    world.processes[leader].passes.clear();
    let unhindered = unhindered(world);
    let mut passes = BTreeMap::new();
    loop {
        let wrong = right::wrong(world);
        for (slot, _why) in &wrong {
            let count = world.processes[leader].passes.get(slot);
            passes.insert(*slot, count.copied().unwrap_or_default());
        }
        if wrong.is_empty() {
            break;
        }
        let now = world.clock.monotonic();
        let lasted = now.saturating_sub(began);
        assert!(lasted <= LONGEST, "after {LONGEST:?}: {wrong:#?}");
        for slot in unhindered.iter().filter(|_slot| lasted >= UNHINDERED) {
            let lacks = right::lacks_its_token(world, *slot);
            assert_eq!(lacks, None, "binding {slot}, {lasted:?} after the last event");
        }
        let until = world
            .next_event()
            .map_or(STEP, |at| at.saturating_sub(now).max(Duration::from_secs(1)));
        world.run_for(until);
    }
    for (slot, count) in passes {
        assert!(count <= MOST_PASSES, "binding {slot} took {count} passes");
    }
}

/// The bindings of which nothing is remembered that would make them wait: no failure, no fight, no peer.
fn unhindered(world: &mut World) -> BTreeSet<usize> {
    let leader = world.leader();
    let slots: Vec<_> = world.server.objects.bindings.keys().copied().collect();
    let is_unhindered = |slot: &usize| {
        let snapshot = world.snapshot(leader, *slot, 0.0);
        snapshot.is_some_and(|snapshot| {
            let memory = &snapshot.memory;
            memory.failures.is_none()
                && memory.outpaced == 0
                && memory.handover.is_none()
                && snapshot.secret_fight.is_none()
                && !finalizer::is_on(&snapshot.binding.metadata)
        })
    };
    slots.into_iter().filter(is_unhindered).collect()
}

/// Looks at everything again, now and once more before the next time that something is due.
pub(crate) fn rest(world: &mut World) {
    let asked = world.broker.questions;
    let before = world.server.objects.clone();
    let now = world.clock.monotonic();
    let next = world.next_event().map_or(STEP, |at| at.saturating_sub(now));
    let leader = world.leader();
    for at in [now, now + next / 2] {
        world.clock.advance_to(at);
        let slots: Vec<_> = world.server.objects.bindings.keys().copied().collect();
        for slot in slots {
            world.look_at(leader, slot);
        }
        let accounts: Vec<_> = world.server.objects.accounts.keys().cloned().collect();
        for account in accounts {
            world.settle_links(leader, &account, None).unwrap();
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

/// Changes one thing at a time, and leaves no time for a refresh.
pub(crate) fn obey(world: &mut World, changes: &[Change]) {
    world.run_for(PEERS_TURN);
    for change in changes {
        let mut change = *change;
        if change.fails_first {
            world.broker.mood = Mood::Refuses(Reason::TenantNotFound);
            world.change(change);
            world.run_for(AT_ONCE);
            world.broker.mood = Mood::Grants;
            change.field += 1;
        }
        let Some(slot) = world.change(change) else {
            return;
        };
        world.run_for(SOON);
        let lacks = right::lacks_its_token(world, slot);
        assert_eq!(lacks, None, "binding {slot}, {SOON:?} after a change of it");
    }
}

/// Somebody undoes at once whatever is written of one binding's Secret, or of the link to it, and does not give up.
pub(crate) fn withstand(world: &mut World, change: Change) {
    if change.fails_first {
        return;
    }
    settle(world);
    let slots: Vec<_> = world.server.objects.bindings.keys().copied().collect();
    let slot = change.binding.checked_rem(slots.len()).map(|place| slots[place]);
    let is_fit = |slot: &usize| right::has_accounts(world, *slot) && right::is_served(world, *slot);
    let Some(slot) = slot.filter(is_fit) else {
        return;
    };
    let is_link = change.field.is_multiple_of(2);
    let mut undone = 0;
    for _look in 0..FIGHT.as_secs() / STEP.as_secs() {
        undone += usize::from(world.undo(slot, is_link));
        world.run_for(STEP);
    }
    assert!(
        (FEWEST_REPAIRS..=MOST_REPAIRS).contains(&undone),
        "binding {slot}: {undone} repairs in {FIGHT:?}, of the link: {is_link}"
    );
    assert_eq!(right::ready_reason(world, slot), Some("Contested"));
    // Nobody fights over what it says now.
    let change = Change {
        field: change.field + 1,
        ..change
    };
    obey(world, &[change]);
}

/// Lets the refreshes come, with a bounded number of questions.
pub(crate) fn renew(world: &mut World, set_back: Duration) {
    settle(world);
    world.set_back(set_back);
    let asked = world.broker.questions;
    let slots: Vec<_> = world.server.objects.bindings.keys().copied().collect();
    for _look in 0..LOOKS {
        world.run_for(WHILE / LOOKS);
        for slot in &slots {
            let lacks = right::lacks_its_token(world, *slot);
            assert_eq!(lacks, None, "binding {slot}, by a clock that was set back");
        }
    }
    let wrong = right::wrong(world);
    assert!(wrong.is_empty(), "{WHILE:?} later: {wrong:#?}");
    let asked = world.broker.questions - asked;
    let most = MOST_QUESTIONS * slots.len();
    assert!(asked <= most, "{asked} questions in {WHILE:?}");
}

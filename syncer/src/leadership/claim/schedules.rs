//! Two processes, one Lease, and all that can go wrong between them, in virtual time: requests that arrive late, answers
//! that are lost, processes that are held up, killed or told to stop, somebody who touches the Lease, and clocks that
//! start anywhere and run at different rates. Times are in microseconds.

mod world;

use proptest::prelude::*;

use self::world::{Fate, Luck, Process, STORM, World};
use super::*;

const TIMING: Timing = Timing {
    lease: Duration::from_secs(15),
    renew_deadline: Duration::from_secs(10),
    retry: Duration::from_secs(2),
};

const SECOND: u64 = 1_000_000;
/// By then the last of the storm's requests has arrived, and nobody is held up any more.
const LULL: u64 = 40 * SECOND;
/// After that a leader is there at the latest when a lease has expired by a slow clock, and two looks were made.
const RECOVERY: u64 = 25 * SECOND;

/// Mostly short, and now and then longer than a lease.
fn delay() -> impl Strategy<Value = u64> {
    prop_oneof![
        6 => 1_000..50_000_u64,
        2 => 50_000..6 * SECOND,
        1 => 6 * SECOND..30 * SECOND,
    ]
}

fn luck() -> impl Strategy<Value = Luck> {
    let held_up = prop_oneof![8 => Just(0), 1 => delay()];
    let fate = prop_oneof![
        40 => Just(Fate::Lives),
        1 => Just(Fate::IsKilled),
        1 => Just(Fate::IsToldToStop),
        1 => Just(Fate::SeesTheLeaseTouched),
    ];
    (
        delay(),
        prop::option::weighted(0.9, delay()),
        held_up,
        0.0..1.0_f64,
        fate,
    )
        .prop_map(|(request, answer, held_up, draw, fate)| Luck {
            request,
            answer,
            held_up,
            draw,
            fate,
        })
}

/// With a clock that is a tenth off at most, where 15 s and 10 s would allow a fifth.
fn process() -> impl Strategy<Value = Process> {
    let clock_rate = SECOND * 9 / 10..SECOND * 11 / 10;
    (
        0..1_000 * SECOND,
        clock_rate,
        prop::collection::vec(luck(), 20..80),
    )
        .prop_map(|(clock_start, clock_rate, luck)| Process {
            clock_start,
            clock_rate,
            luck,
        })
}

proptest! {
    #[test]
    fn claims_of_two_processes_never_allow_both_to_write_and_one_does_when_all_goes_well(
        one in process(), other in process()
    ) {
        let mut world = World::new([one, other]);
        world.run_until(STORM + LULL + RECOVERY);
        prop_assert!(world.overlap().is_none(), "{:?}", world.overlap());
        prop_assert!(world.is_led(), "nobody leads at {}", world.now);
    }

    #[test]
    fn claims_of_processes_that_are_not_disturbed_leave_the_first_leader_alone(start in 0..1_000 * SECOND) {
        let calm = |clock_start| Process {
            clock_start,
            clock_rate: SECOND,
            luck: vec![Luck { request: 5_000, answer: Some(5_000), held_up: 0, draw: 0.9, fate: Fate::Lives }],
        };
        let mut world = World::new([calm(0), calm(start)]);
        world.run_until(STORM);
        let leader = &world.reigns[0].0;
        prop_assert!(world.reigns.iter().all(|(holder, _reign)| holder == leader));
    }
}

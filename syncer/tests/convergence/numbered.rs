//! Runs the cases, each by its number, so that one that fails is found again.

use proptest::{
    strategy::Strategy as _,
    test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner},
};

use crate::{cases::Case, draws::case, found, settling};

/// How many there are if nobody says otherwise.
const CASES: u64 = 250;

fn check(case: &Case) {
    let mut world = found::world(case);
    settling::live(&mut world, case);
    settling::settle(&mut world);
    settling::rest(&mut world);
    settling::obey(&mut world, &case.changes);
    settling::withstand(&mut world, case.changes[0]);
    settling::renew(&mut world, case.set_back);
}

#[expect(
    clippy::disallowed_methods,
    reason = "which cases are run is said from outside"
)]
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

#[test]
fn plan_converges_from_any_state_and_then_does_nothing() {
    let first = setting("CONVERGENCE_FIRST", 0);
    for number in first..first + setting("CONVERGENCE_CASES", CASES) {
        let config = Config {
            failure_persistence: None,
            max_shrink_iters: 500,
            ..Config::default()
        };
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&number.to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
        let mut runner = TestRunner::new_with_rng(config, rng);
        let tree = case().new_tree(&mut runner).unwrap();
        let run = runner.run_one(tree, |case| {
            check(&case);
            Ok(())
        });
        if let Err(TestError::Fail(why, least)) = run {
            panic!(
                "case {number} fails: {why}\nthe least that fails the same way: {least:#?}\n\
                 to run it again: CONVERGENCE_FIRST={number} CONVERGENCE_CASES=1 \
                 cargo test -p syncer --test convergence"
            );
        }
    }
}

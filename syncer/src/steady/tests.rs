//! A clock that is set, a machine that sleeps: what becomes due when, by the real decision.

use std::sync::Arc;

use k8s_openapi::jiff::{SignedDuration, ToSpan as _};
use proptest::prelude::*;
use proto::Reason;
use runtime::{Clock as _, clock::ManualClock};

use super::*;
use crate::{
    allowed_servers::AllowedServers,
    binding::ApiVersion,
    memory::BindingMemory,
    plan::{Plan, Snapshot, Step, plan},
    problem::Problem,
    pull_secret::{PullSecret, SecretState},
    samples::{binding_of, now},
    schedule::FailureRun,
    wanted,
};

const HOUR: SignedDuration = SignedDuration::from_hours(1);
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// A binding whose Secret holds a credential of 75 minutes that is due after 45.
struct Scene {
    clock: ManualClock,
    snapshot: Snapshot,
}

impl Scene {
    fn new() -> Self {
        let binding = binding_of(ApiVersion::V1Beta2, "web");
        let memory = BindingMemory::new("uid-of-web", now());
        let inputs = wanted::read(&binding, None).unwrap().inputs;
        let secret = SecretState::Ours(PullSecret {
            uid: "uid-of-secret".to_owned(),
            resource_version: "1".to_owned(),
            adopted: true,
            credential: Some(Credential {
                inputs,
                fingerprint: Fingerprint::of(b"payload"),
                refreshed_at: now(),
                expires_at: now() + 75.minutes(),
                refresh_at: now() + 45.minutes(),
            }),
            answered_request: None,
            peers: None,
        });
        let mut scene = Self {
            clock: ManualClock::at(now().into()),
            snapshot: Snapshot {
                binding: Arc::new(binding),
                targets: Vec::new(),
                identity_account: None,
                secret,
                allowed_servers: AllowedServers::default(),
                reapply_at: None,
                secret_fight: None,
                memory,
            },
        };
        scene.look();
        scene
    }

    fn memory(&mut self) -> &mut BindingMemory {
        &mut self.snapshot.memory
    }

    fn credential(&self) -> Credential {
        let SecretState::Ours(secret) = &self.snapshot.secret else {
            panic!("the Secret is the binding's");
        };
        secret.credential.clone().unwrap()
    }

    /// What a pass decides now.
    fn look(&mut self) -> (Plan, Timestamp) {
        let (moment, credential) = (self.clock.moment(), self.credential());
        self.memory().steady.saw(Some(&credential), moment);
        let now = self.snapshot.memory.steady.now(moment);
        (plan(&self.snapshot, now), now)
    }

    /// Lets time pass as the passes would: from wake to wake, until the broker is asked. How long that took.
    fn until_asked(&mut self) -> Duration {
        let start = self.clock.monotonic();
        loop {
            let (plan, now) = self.look();
            if plan.steps.iter().any(|step| matches!(step, Step::Issue(_))) {
                return self.clock.monotonic().saturating_sub(start);
            }
            let wait = plan.wake_after(now).expect("nobody would look again");
            self.clock.advance(wait.max(Duration::from_secs(1)));
        }
    }

    fn set_by(&mut self, step: SignedDuration) {
        let set = time_of_day(self.clock.moment()) + step;
        self.clock.set(set.into());
    }

    /// The broker, where it is `there`, answers with a new credential.
    fn answer(&mut self, there: Timestamp) {
        let moment = self.clock.moment();
        let inputs = self.credential().inputs;
        let SecretState::Ours(secret) = &mut self.snapshot.secret else {
            panic!("the Secret is the binding's");
        };
        secret.credential = Some(Credential {
            inputs,
            fingerprint: Fingerprint::of(there.to_string().as_bytes()),
            refreshed_at: time_of_day(moment),
            expires_at: there + 75.minutes(),
            refresh_at: schedule::refresh_at(
                there + 41.minutes(),
                there + 75.minutes(),
                time_of_day(moment),
                0.1,
            ),
        });
        let credential = secret.credential.clone();
        self.memory().steady.wrote(credential.as_ref(), moment);
        self.memory().failures = None;
    }

    fn fail(&mut self) {
        let moment = self.clock.moment();
        let inputs = self.credential().inputs;
        let memory = self.memory();
        let now = memory.steady.now(moment);
        let problem = Problem::new(Reason::BrokerUnreachable, "away");
        let run = FailureRun::after(memory.failures.as_ref(), &inputs, problem, now, 0.5);
        memory.failures = Some(run);
        memory.steady.failed(moment);
    }
}

fn minutes(count: u64) -> Duration {
    Duration::from_secs(count * 60)
}

#[test]
fn steady_secret_is_renewed_in_time_though_the_clock_is_set_back() {
    for step in [HOUR, DAY] {
        let mut scene = Scene::new();
        scene.clock.advance(minutes(20));
        scene.set_by(-step);
        assert_eq!(scene.until_asked(), minutes(25), "set back by {step}");
        // And goes on being asked for, for as long as nobody answers.
        for _attempt in 0..20 {
            scene.fail();
            assert!(scene.until_asked() <= minutes(1));
        }
    }
}

#[test]
fn steady_each_secret_is_renewed_in_time_though_the_clock_stays_wrong() {
    for step in [-DAY, -HOUR, DAY] {
        let mut scene = Scene::new();
        // What time it is where the broker is.
        let broker = scene.clock.clone();
        let off = step;
        scene.set_by(off);
        for round in 0..10 {
            let asked_after = scene.until_asked();
            // Ahead of the broker's, nothing can be believed, and nothing is written.
            if off > SignedDuration::ZERO {
                scene.fail();
                assert!(asked_after <= minutes(1), "{asked_after:?}");
                continue;
            }
            assert!(
                asked_after <= minutes(60),
                "round {round}, off by {off}: {asked_after:?}"
            );
            let there = time_of_day(broker.moment()) - off;
            scene.answer(there);
        }
    }
}

#[test]
fn steady_failed_attempt_is_repeated_in_time_though_the_clock_is_set_back() {
    let mut scene = Scene::new();
    scene.until_asked();
    for _attempt in 0..10 {
        scene.fail();
    }
    scene.set_by(-DAY);
    assert!(scene.until_asked() <= minutes(1));
}

#[test]
fn steady_clock_that_is_put_right_is_forgiven_with_the_next_answer() {
    let mut scene = Scene::new();
    // Somebody sets it a day ahead; what comes back from the broker then looks expired, and is a failure.
    scene.set_by(DAY);
    assert_eq!(scene.until_asked(), Duration::ZERO);
    scene.fail();
    scene.set_by(-DAY);
    assert!(scene.until_asked() <= minutes(1));
    let moment = scene.clock.moment();
    scene.answer(time_of_day(moment));
    let (plan, now) = scene.look();
    assert_eq!(now, time_of_day(moment));
    assert_eq!(plan.problem, None);
    assert!(plan.steps.is_empty(), "{plan:?}");
}

#[test]
fn steady_machine_that_slept_finds_its_secret_due() {
    let mut scene = Scene::new();
    // Asleep, only the time of day goes on.
    scene.set_by(3 * HOUR);
    assert_eq!(scene.until_asked(), Duration::ZERO);
}

proptest! {
    #[test]
    fn steady_credential_never_grows_old_more_slowly_than_time_passes(
        steps in prop::collection::vec((0_u64..7_200, -90_000_i64..90_000, prop::bool::ANY), 1..40)
    ) {
        let mut scene = Scene::new();
        let mut passed = Duration::ZERO;
        for (pass, set, fails) in steps {
            scene.clock.advance(Duration::from_secs(pass));
            passed += Duration::from_secs(pass);
            scene.set_by(SignedDuration::from_secs(set));
            if fails {
                scene.fail();
            }
            let (_plan, seen) = scene.look();
            prop_assert!(seen >= schedule::later(now(), passed), "{seen} after {passed:?}");
            prop_assert!(seen >= time_of_day(scene.clock.moment()));
        }
    }
}

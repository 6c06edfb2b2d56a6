//! The real loop in virtual time; only the network is replaced.

use std::{
    cell::{Cell, RefCell},
    path::Path,
    time::UNIX_EPOCH,
};

use runtime::clock::ManualClock;

use super::{
    super::{KeyStore, test_keys::Signer, unknown_keys::UnknownKeys},
    *,
};
use crate::authn::{KeyFiles, KeySetError};

const HOUR: Duration = Duration::from_secs(3600);
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// A source of keys that can fall silent, and the loop that asks it.
struct Scene {
    member: Member,
    ring: KeyRing,
    clock: ManualClock,
    published: RefCell<Option<KeySet>>,
    /// What its next answer is taken for, if it publishes nothing.
    without_keys: RefCell<Option<KeySetError>>,
    asked_at: RefCell<Vec<Duration>>,
    tried: Cell<bool>,
    started_at: Instant,
    file: Option<KeyFile>,
}

impl Scene {
    fn new(published: Option<&Signer>) -> Self {
        let member = Member {
            cluster: "weu-7".into(),
            issuer: ISSUER.into(),
            keys: KeyStore::default(),
            is_fetched: true,
        };
        let ring = KeyRing::default();
        ring.enroll(vec![member.clone()], Duration::ZERO);
        Self {
            member,
            ring,
            clock: ManualClock::at(UNIX_EPOCH),
            published: RefCell::new(published.map(Signer::jwks)),
            without_keys: RefCell::default(),
            asked_at: RefCell::default(),
            tried: Cell::new(false),
            started_at: Instant::now(),
            file: None,
        }
    }

    /// A process with a state folder, some time after another one.
    fn after(folder: &Path, elapsed: Duration, published: Option<&Signer>) -> Self {
        Self {
            file: Some(file_in(folder, "https://weu-7.example/keys")),
            clock: ManualClock::at(UNIX_EPOCH + elapsed),
            ..Self::new(published)
        }
    }

    fn fetch(&self) -> impl Future<Output = Result<KeySet, FetchError>> {
        self.asked_at.borrow_mut().push(self.started_at.elapsed());
        let published = self.published.borrow().clone();
        let without_keys = || match self.without_keys.take() {
            Some(error) => FetchError::Content(error),
            None => FetchError::Status(503),
        };
        std::future::ready(published.ok_or_else(without_keys))
    }

    /// The loop, for as long as `events` take.
    async fn run(&self, events: impl Future<Output = ()>) {
        let refreshing = refresh(
            &self.member,
            &self.ring,
            &self.clock,
            self.file.as_ref(),
            || self.fetch(),
            || self.tried.set(true),
        );
        tokio::select! {
            () = refreshing => {}
            () = events => {}
        }
    }

    fn has_keys_of(&self, signer: &Signer) -> bool {
        self.member
            .keys
            .current()
            .is_some_and(|keys| keys.same_keys(&signer.jwks()))
    }

    fn calls(&self) -> usize {
        self.asked_at.borrow().len()
    }
}

fn file_in(folder: &Path, url: &str) -> KeyFile {
    let files = KeyFiles::open(folder).unwrap();
    let source = JwksUrl {
        url: url.parse().unwrap(),
        ca_bundle: None,
        token_file: None,
    };
    files.of(&Arc::from("weu-7"), &Arc::from(ISSUER), &source)
}

#[tokio::test(start_paused = true)]
async fn a7_last_good_keys_stay_for_24_h_and_no_longer() {
    let signer = Signer::new("a");
    let scene = Scene::new(Some(&signer));
    scene
        .run(async {
            tokio::time::sleep(HOUR).await;
            let confirmed_at = *scene.asked_at.borrow().last().unwrap();
            scene.published.take();
            // The source falls silent right after it has confirmed them.
            let until = |at: Duration| tokio::time::sleep_until(scene.started_at + confirmed_at + at);
            until(Duration::from_secs(24 * 3600 - 1)).await;
            assert!(scene.has_keys_of(&signer), "still good");
            until(Duration::from_secs(24 * 3600 + 1)).await;
            assert!(scene.member.keys.current().is_none(), "dropped");
            // They are taken back at once when the source is.
            scene.published.replace(Some(signer.jwks()));
            tokio::time::sleep(RETRY_PERIODS.1.mul_f64(1.0 + JITTER)).await;
            assert!(scene.has_keys_of(&signer), "back");
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a7_each_confirmation_starts_the_24_h_anew() {
    let signer = Signer::new("a");
    let scene = Scene::new(Some(&signer));
    scene
        .run(async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            for _ in 0..4 {
                scene.published.take();
                tokio::time::sleep(20 * HOUR).await;
                assert!(scene.has_keys_of(&signer));
                scene.published.replace(Some(signer.jwks()));
                tokio::time::sleep(Duration::from_secs(90)).await;
            }
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a7_unknown_key_id_costs_a_silent_source_one_attempt_a_minute() {
    let scene = Scene::new(None);
    scene
        .run(async {
            // A flood of forgeries, ten a second for ten minutes.
            let unknown = UnknownKeys::default();
            let keys = [&scene.member.keys];
            for tenth in 0..6000 {
                unknown.noticed(&keys, &keys, Duration::from_millis(tenth * 100));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        })
        .await;
    // 10 by the unknown keys; the rest are the retries that a silent source gets anyway: 15, 30, 60 s and so on.
    let without_flood = Scene::new(None);
    without_flood
        .run(tokio::time::sleep(Duration::from_secs(600)))
        .await;
    assert!(
        scene.calls() <= without_flood.calls() + 10 + 2,
        "{} against {}",
        scene.calls(),
        without_flood.calls()
    );
    assert!(without_flood.calls() <= 14, "{}", without_flood.calls());
}

#[tokio::test(start_paused = true)]
async fn a7_unknown_key_id_brings_a_rotated_key_at_once() {
    let (old, new) = (Signer::new("a"), Signer::new("b"));
    let scene = Scene::new(Some(&old));
    scene
        .run(async {
            tokio::time::sleep(Duration::from_secs(60)).await;
            scene.published.replace(Some(new.jwks()));
            let keys = [&scene.member.keys];
            UnknownKeys::default().noticed(&keys, &keys, Duration::from_secs(60));
            tokio::time::sleep(Duration::from_millis(1)).await;
            assert!(scene.has_keys_of(&new));
        })
        .await;
    assert_eq!(scene.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn keys_are_refreshed_every_five_minutes_with_jitter() {
    let scene = Scene::new(Some(&Signer::new("a")));
    scene.run(tokio::time::sleep(10 * HOUR)).await;
    let asked_at = scene.asked_at.borrow();
    for pair in asked_at.windows(2) {
        let wait = pair[1].as_secs_f64() - pair[0].as_secs_f64();
        assert!((270.0..=331.0).contains(&wait), "{wait}");
    }
    assert!(asked_at.len() > 100, "{}", asked_at.len());
}

#[tokio::test(start_paused = true)]
async fn r4_issuer_that_is_silent_counts_as_tried() {
    let scene = Scene::new(None);
    scene.run(tokio::time::sleep(Duration::from_secs(1))).await;
    assert!(scene.tried.get());
}

#[tokio::test(start_paused = true)]
async fn a7_restart_in_an_outage_goes_on_with_the_keys_of_the_file() {
    let (folder, signer) = (tempfile::tempdir().unwrap(), Signer::new("a"));
    let second = Duration::from_secs(1);
    let first = Scene::after(folder.path(), Duration::ZERO, Some(&signer));
    first.run(tokio::time::sleep(second)).await;
    assert!(first.has_keys_of(&signer));

    let restarted = Scene::after(folder.path(), 20 * HOUR, None);
    restarted
        .run(async {
            tokio::time::sleep(second).await;
            assert!(
                restarted.has_keys_of(&signer),
                "at once, and the source is silent"
            );
            assert_eq!(restarted.member.keys.fetches().succeeded_at, Some(UNIX_EPOCH));
            // The 24 h count from the confirmation, not from the restart.
            let until = |at: Duration| tokio::time::sleep_until(restarted.started_at + at);
            until(Duration::from_secs(4 * 3600 - 1)).await;
            assert!(restarted.has_keys_of(&signer));
            until(Duration::from_secs(4 * 3600 + 1)).await;
            assert!(restarted.member.keys.current().is_none(), "dropped");
        })
        .await;
    // And they are not in the file any more, whatever a clock that is set back would say.
    let again = Scene::after(folder.path(), HOUR, None);
    again.run(tokio::time::sleep(second)).await;
    assert!(again.member.keys.current().is_none());
}

#[tokio::test(start_paused = true)]
async fn a7_clock_that_is_set_back_does_not_prolong_the_24_h() {
    let (folder, signer) = (tempfile::tempdir().unwrap(), Signer::new("a"));
    let first = Scene::after(folder.path(), 10 * HOUR, Some(&signer));
    first.run(tokio::time::sleep(Duration::from_secs(1))).await;

    let restarted = Scene::after(folder.path(), 30 * HOUR, None);
    restarted
        .run(async {
            tokio::time::sleep(HOUR).await;
            restarted.clock.set(UNIX_EPOCH + 11 * HOUR);
            tokio::time::sleep(2 * HOUR).await;
            assert!(restarted.has_keys_of(&signer));
            tokio::time::sleep(HOUR + Duration::from_secs(1)).await;
            assert!(
                restarted.member.keys.current().is_none(),
                "20 h before the restart, 4 h after it"
            );
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a7_kept_key_that_another_cluster_has_by_now_is_refused() {
    let (folder, signer) = (tempfile::tempdir().unwrap(), Signer::new("a"));
    let first = Scene::after(folder.path(), Duration::ZERO, Some(&signer));
    first.run(tokio::time::sleep(Duration::from_secs(1))).await;

    let restarted = Scene::after(folder.path(), HOUR, None);
    let other = Member {
        cluster: "other".into(),
        issuer: ISSUER.into(),
        keys: KeyStore::with(signer.jwks()),
        is_fetched: false,
    };
    restarted
        .ring
        .enroll(vec![restarted.member.clone(), other], Duration::ZERO);
    restarted.run(tokio::time::sleep(Duration::from_secs(1))).await;
    assert!(restarted.member.keys.current().is_none());
}

/// The copy of a key is no reason to let the other keys of its owner grow old.
#[tokio::test(start_paused = true)]
async fn a7_cluster_with_a_contested_key_is_confirmed_all_the_same() {
    let (own, copied) = (Signer::new("a"), Signer::new("b"));
    let scene = Scene::new(None);
    scene.published.replace(Some(Signer::jwks_of(&[&own, &copied])));
    let hostile = Member {
        cluster: "hostile".into(),
        keys: KeyStore::default(),
        ..scene.member.clone()
    };
    scene
        .ring
        .enroll(vec![hostile.clone(), scene.member.clone()], Duration::ZERO);
    scene.ring.admit(&hostile, copied.jwks(), Duration::ZERO);
    let folder = tempfile::tempdir().unwrap();
    let scene = Scene {
        file: Some(file_in(folder.path(), "https://weu-7.example/keys")),
        ..scene
    };
    scene
        .run(async {
            tokio::time::sleep(30 * HOUR).await;
            assert!(scene.has_keys_of(&own), "30 h later");
        })
        .await;
    let fetches = scene.member.keys.fetches();
    assert_eq!(fetches.failure, Some("shared_with_another_cluster"));
    assert!(fetches.succeeded_at.is_some());
    // The key that is not used is not kept either.
    let kept = scene
        .file
        .as_ref()
        .unwrap()
        .read(scene.clock.now())
        .await
        .unwrap();
    assert!(kept.keys.same_keys(&own.jwks()));
}

#[tokio::test(start_paused = true)]
async fn a7_new_keys_replace_those_of_the_file() {
    let (folder, old, new) = (tempfile::tempdir().unwrap(), Signer::new("a"), Signer::new("b"));
    for (hour, published, expected) in [(0, Some(&old), &old), (1, Some(&new), &new), (2, None, &new)] {
        let scene = Scene::after(folder.path(), hour * HOUR, published);
        scene.run(tokio::time::sleep(Duration::from_secs(1))).await;
        assert!(scene.has_keys_of(expected), "{hour}");
    }
}

/// To answer without keys is to withdraw them; to answer anything else is to say nothing.
#[tokio::test(start_paused = true)]
async fn a7_source_that_answers_with_no_usable_key_has_withdrawn_its_keys() {
    let syntax = KeySetError::Syntax { line: 1, column: 1 };
    for (answer, is_withdrawal) in [(KeySetError::Empty, true), (syntax, false)] {
        let (folder, signer) = (tempfile::tempdir().unwrap(), Signer::new("a"));
        let scene = Scene::after(folder.path(), Duration::ZERO, Some(&signer));
        scene
            .run(async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                assert!(scene.has_keys_of(&signer));
                scene.published.take();
                scene.without_keys.replace(Some(answer));
                tokio::time::sleep(REFRESH_PERIOD.mul_f64(1.0 + JITTER)).await;
                assert_eq!(scene.has_keys_of(&signer), !is_withdrawal);
            })
            .await;
        let kept = scene.file.as_ref().unwrap().read(UNIX_EPOCH).await;
        assert_eq!(kept.is_some(), !is_withdrawal, "and not on the disk either");
    }
}

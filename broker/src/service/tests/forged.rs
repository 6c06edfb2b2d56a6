//! Guarantee A1 as one table: every forged token, over both wires, in every call that takes one, while nothing is cached,
//! while the credential is, and while it is being fetched. All are refused with the right reason, and nothing else happens.

mod tokens;

use futures::FutureExt as _;
use serde_json::{Value, json};

use crate::{
    access::Call,
    metrics::WireFormat,
    test_scene::{
        OPERATOR, SYNCER, Scene, federated_request, granted_request, subject_token, token, wire::BOTH,
    },
};
use tokens::{ACCOUNT, Forged, OPERATORS_OWN, bearers, operators, subjects};

/// What the caches have when the forged token comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    Miss,
    Hit,
    InFlight,
}

/// Calls to Azure that a first credential takes, whoever's identity it is for.
const FIRST: usize = 3;

/// The calls that a request like the good one is made in.
const CALLS: [Call; 3] = [Call::GetDockerConfig, Call::GetAccessToken, Call::Explain];

/// A forgery, and the request that it is in; none, where the caller of the good request is forged.
type Try = (Forged, Option<Value>);

/// A broker, a good request, and the forged ones.
struct Attack<'a> {
    scene: Scene,
    wire: WireFormat,
    good: &'a Value,
    forged: &'a [Try],
}

impl<'a> Attack<'a> {
    async fn on(wire: WireFormat, good: &'a Value, forged: &'a [Try]) -> Self {
        let scene = Scene::new().await;
        // As if their keys came from a URL, so that somebody could be asked to fetch them.
        for cluster in scene.live.current().authenticator.clusters() {
            cluster.keys.tried(std::time::Duration::ZERO);
        }
        Self {
            scene,
            wire,
            good,
            forged,
        }
    }

    async fn good_answer(&self) -> Value {
        let answer = self.scene.ask(self.wire, &token(SYNCER), self.good).await;
        let answer = answer.expect("the good request is good");
        assert!(answer["dockerConfigJson"].is_string());
        answer
    }

    /// What an attacker must leave as it is: entries of the caches and their times, look-ups in them, calls to Azure.
    async fn state(&self) -> (Value, Vec<String>, usize) {
        let metrics = self.scene.metrics();
        let caches = metrics
            .lines()
            .filter(|line| line.starts_with("acrpull_broker_cache_"))
            .map(str::to_owned)
            .collect();
        let question = json!({"request": self.good});
        let explained = self.scene.post(SYNCER, "/v1/explain", &question).await.json();
        assert_eq!(explained["verdict"], "VERDICT_PASSED");
        (explained["cacheLevels"].clone(), caches, self.scene.azure.calls())
    }

    /// Sends all that is forged. How often keys were asked for.
    async fn run(&self, moment: Moment) -> usize {
        let before = self.state().await;
        let mut fetches = 0;
        for (forged, request) in self.forged {
            for call in CALLS {
                let what = format!("{} in {call:?} over {:?}, {moment:?}", forged.what, self.wire);
                let answer = self.answer(call, forged, request.as_ref()).await;
                if forged.what == OPERATORS_OWN && call == Call::Explain {
                    assert!(answer.is_ok(), "{what}: {answer:?}");
                } else {
                    assert_eq!(answer, Err(forged.reason.to_owned()), "{what}");
                }
            }
            let live = self.scene.live.current();
            let stores = live.authenticator.clusters().iter().map(|cluster| &cluster.keys);
            fetches += stores
                .filter(|keys| keys.refetch_wanted().now_or_never().is_some())
                .count();
        }
        assert_eq!(self.state().await, before, "{:?}, {moment:?}", self.wire);
        fetches
    }

    /// What a forgery comes to. To be told that the request is denied is a refusal, too.
    async fn answer(&self, call: Call, forged: &Forged, request: Option<&Value>) -> Result<Value, String> {
        let syncer = [format!("Bearer {}", token(SYNCER))];
        let (tokens, message) = match request {
            None => (&*forged.tokens, self.good),
            Some(request) => (&syncer[..], request),
        };
        if call != Call::Explain {
            return self.scene.call(self.wire, call, tokens, message).await;
        }
        let question = json!({"request": message});
        let explained = self.scene.call(self.wire, call, tokens, &question).await?;
        match explained["verdict"].as_str() {
            Some("VERDICT_PASSED") => Ok(explained),
            _ => Err(explained["reason"].as_str().unwrap_or_default().to_owned()),
        }
    }

    async fn at(&self, moment: Moment) {
        let azure = &self.scene.azure;
        // All clusters have one issuer, and a minute does not pass: the first unknown key is the only one that counts.
        match moment {
            Moment::Miss => {
                assert_eq!(self.run(moment).await, 1);
                assert_eq!(azure.calls(), 0);
                self.good_answer().await;
            }
            Moment::Hit => {
                let first = self.good_answer().await;
                assert_eq!(self.run(moment).await, 1);
                assert_eq!(self.good_answer().await, first, "unaffected");
            }
            Moment::InFlight => {
                azure.hold();
                let attack = async {
                    azure.is_asked().await;
                    assert_eq!(self.run(moment).await, 1);
                    azure.release();
                };
                let (answer, ()) = tokio::join!(self.good_answer(), attack);
                assert_eq!(self.good_answer().await, answer, "one fetch for both");
            }
        }
        assert_eq!(azure.calls(), FIRST);
    }
}

/// Forged callers of the good request.
fn callers(elsewhere: &'static str) -> Vec<Try> {
    let forged = bearers(elsewhere).into_iter();
    forged.map(|forged| (forged, None)).collect()
}

async fn attack(good: &Value, forged: &[Try]) {
    for wire in BOTH {
        for moment in [Moment::Miss, Moment::Hit, Moment::InFlight] {
            let attack = Attack::on(wire, good, forged).await;
            attack.at(moment).await;
        }
    }
}

#[tokio::test]
async fn a1_forged_callers_of_a_broker_owned_identity_are_refused_whatever_is_cached() {
    attack(&granted_request(), &callers("POLICY_DENIED")).await;
}

#[tokio::test]
async fn a1_forged_callers_of_a_federated_identity_are_refused_whatever_is_cached() {
    let good = federated_request(&subject_token("east", ACCOUNT));
    attack(&good, &callers("SUBJECT_TOKEN_REJECTED")).await;
}

#[tokio::test]
async fn a1_forged_subject_tokens_are_refused_whatever_is_cached() {
    let good = federated_request(&subject_token("east", ACCOUNT));
    let forged: Vec<_> = subjects()
        .into_iter()
        .map(|forged| {
            let request = federated_request(&forged.tokens[0]);
            (forged, Some(request))
        })
        .collect();
    attack(&good, &forged).await;
}

#[tokio::test]
async fn a1_forged_callers_of_the_fleet_are_told_and_drop_nothing() {
    let good = granted_request();
    for wire in BOTH {
        let attack = Attack::on(wire, &good, &[]).await;
        let first = attack.good_answer().await;
        let before = attack.state().await;
        for forged in operators() {
            for (call, message) in [
                (Call::ListClusters, json!({})),
                (Call::Invalidate, json!({"all": true})),
            ] {
                let answer = attack.scene.call(wire, call, &forged.tokens, &message).await;
                let what = format!("{} in {call:?} over {wire:?}", forged.what);
                assert_eq!(answer, Err(forged.reason.to_owned()), "{what}");
            }
        }
        assert_eq!(attack.state().await, before, "{wire:?}");
        assert_eq!(attack.good_answer().await, first, "nothing was dropped");
        // What was forged in all of them is good as it is.
        let own = [format!("Bearer {}", token(OPERATOR))];
        let listed = attack
            .scene
            .call(wire, Call::ListClusters, &own, &json!({}))
            .await;
        assert!(listed.is_ok(), "{listed:?}");
    }
}

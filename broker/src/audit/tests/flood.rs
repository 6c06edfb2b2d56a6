//! Many refusals at once: each source has its few records and its few lines in the log, and the rest is summed up.

use std::sync::atomic::{AtomicUsize, Ordering};

use tracing::{
    Event, Level, Metadata, Subscriber,
    span::{Attributes, Id, Record},
};

use super::*;
use crate::{
    config::{GrantMode, GrantModes, Limits, Rate},
    live::Live,
    test_scene::{NOBODY, SYNCER, Shape, granted_request, snapshot, snapshot_with, token_of_west},
};

const PER_SECOND: usize = 10;

/// Counts the warnings about calls.
#[derive(Clone, Default)]
struct Warnings(Arc<AtomicUsize>);

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN && metadata.target() == "broker::service::record"
    }

    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        if self.enabled(event.metadata()) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

impl Warnings {
    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

fn decisions(lines: &[Value]) -> Vec<&Value> {
    lines.iter().filter(|line| line["event"] == "decision").collect()
}

fn summary(lines: &[Value]) -> &Value {
    let mut summaries = lines.iter().filter(|line| line["event"] == "strangers");
    let first = summaries.next().unwrap();
    assert!(summaries.next().is_none(), "nothing to sum up, nothing said");
    first
}

async fn ask_as(scene: &Scene, bearer: &str) {
    let call = Call::GetDockerConfig;
    scene
        .send(request(WireFormat::Http, call, bearer, &granted_request()))
        .await;
}

#[tokio::test]
async fn o1_floods_of_strangers_and_of_callers_who_are_not_allowed_are_summed_up() {
    let scene = Scene::new().await;
    let warnings = Warnings::default();
    let guard = tracing::subscriber::set_default(warnings.clone());
    for _ in 0..30 {
        for wire in BOTH {
            let call = Call::GetDockerConfig;
            scene
                .send(request(wire, call, "not-a-token", &granted_request()))
                .await;
        }
        ask_as(&scene, &token(NOBODY)).await;
    }
    drop(guard);
    assert_eq!(warnings.count(), PER_SECOND, "of those who are known");
    scene.sum_up().await;
    scene.sum_up().await;
    let lines = scene.lines().await;
    let (strangers, known): (Vec<_>, Vec<_>) = decisions(&lines)
        .into_iter()
        .partition(|record| record.get("caller").is_none());
    assert_eq!((strangers.len(), known.len()), (PER_SECOND, PER_SECOND));
    let fingerprint = known[0]["caller"]["token_fingerprint"].as_str();
    assert_eq!(fingerprint.map(str::len), Some(32), "of a token without an id");
    let summary = summary(&lines);
    assert_eq!(summary["suppressed"], 70);
    assert_eq!(summary["reasons"], json!({"CALLER_UNAUTHENTICATED": 50}));
    assert_eq!(summary["clusters"], json!({"east": {"CALLER_NOT_PERMITTED": 20}}));
    let suppressed = r#"acrpull_broker_audit_records_total{outcome="suppressed"} 70"#;
    assert!(scene.metrics().contains(suppressed), "{}", scene.metrics());
}

#[tokio::test]
async fn o1_flood_of_one_caller_hides_no_other_caller_of_its_cluster() {
    const THIEF: &str = "system:serviceaccount:data:thief";
    let scene = Scene::new().await;
    for _ in 0..30 {
        ask_as(&scene, &token(NOBODY)).await;
    }
    ask_as(&scene, &token(THIEF)).await;
    let lines = scene.lines().await;
    let subject = |record: &&Value| record["caller"]["subject"] == THIEF;
    assert_eq!(decisions(&lines).len(), PER_SECOND + 1);
    assert_eq!(decisions(&lines).into_iter().filter(subject).count(), 1);
}

#[tokio::test]
async fn o1_flood_over_the_wrong_connection_is_summed_up() {
    let scene = Scene::over(Live::new(snapshot(Shape {
        east_certificates: &["spiffe://fleet/east"],
        ..Shape::WHOLE
    })))
    .await;
    for _ in 0..30 {
        ask_as(&scene, &token(SYNCER)).await;
    }
    scene.sum_up().await;
    let lines = scene.lines().await;
    assert_eq!(decisions(&lines).len(), PER_SECOND);
    assert_eq!(
        summary(&lines)["clusters"],
        json!({"east": {"CALLER_UNAUTHENTICATED": 20}})
    );
}

#[tokio::test]
async fn o1_flood_of_one_cluster_takes_no_record_from_another() {
    let once = Rate {
        requests_per_second: 1,
        burst: 1,
    };
    for (limits, of_cluster) in [(once, true), (once, false)] {
        let mut limit = Limits::default();
        if of_cluster {
            limit.per_cluster = limits;
        } else {
            limit.per_namespace = limits;
        }
        let scene = Scene::new().await;
        // Nobody has to be asked once time stands still.
        ask_as(&scene, &token(SYNCER)).await;
        scene.live.replace(snapshot_with(Shape::WHOLE, limit));
        tokio::time::pause();
        for _ in 0..30 {
            ask_as(&scene, &token(SYNCER)).await;
        }
        // Its syncer asks for what no grant of west allows; the second time it is throttled.
        for _ in 0..2 {
            ask_as(&scene, &token_of_west()).await;
        }
        tokio::time::resume();
        scene.sum_up().await;
        let lines = scene.lines().await;
        let throttled = |cluster: &str| {
            let of = decisions(&lines)
                .into_iter()
                .filter(|record| record["reason"] == "CALLER_THROTTLED");
            let of: Vec<_> = of
                .filter(|record| record["caller"]["cluster"] == cluster)
                .collect();
            assert!(
                of.iter()
                    .all(|record| record["decision"] == "deny" && record["outcome"] == "refused")
            );
            of.len()
        };
        assert_eq!((throttled("east"), throttled("west")), (PER_SECOND, 1));
        let clusters = summary(&lines)["clusters"].as_object().unwrap();
        assert_eq!(clusters.keys().collect::<Vec<_>>(), ["east"]);
    }
}

#[tokio::test]
async fn o1_requests_that_are_only_reported_all_have_records_and_few_warnings() {
    let scene = Scene::over(Live::new(snapshot(Shape {
        has_grant: false,
        grant_modes: GrantModes {
            broker_owned: GrantMode::Report,
            federated: None,
        },
        ..Shape::WHOLE
    })))
    .await;
    let warnings = Warnings::default();
    let guard = tracing::subscriber::set_default(warnings.clone());
    for _ in 0..30 {
        ask_as(&scene, &token(SYNCER)).await;
    }
    drop(guard);
    assert_eq!(warnings.count(), PER_SECOND);
    let records = scene.records().await;
    assert_eq!(records.len(), 30);
    for record in &records {
        assert_record(record, &json!({"/policy": "report_only", "/outcome": "issued"}));
    }
}

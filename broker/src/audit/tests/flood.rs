//! Many refusals at once: strangers are summed up, known callers never.

use super::*;
use crate::test_scene::{NOBODY, granted_request};

#[tokio::test]
async fn o1_flood_of_strangers_is_summed_up_and_known_callers_are_not() {
    let scene = Scene::new().await;
    for _ in 0..30 {
        for wire in BOTH {
            let call = Call::GetDockerConfig;
            scene
                .send(request(wire, call, "not-a-token", &granted_request()))
                .await;
        }
        ask(
            &scene,
            WireFormat::Http,
            Call::GetDockerConfig,
            NOBODY,
            &granted_request(),
        )
        .await;
    }
    scene.sum_up().await;
    scene.sum_up().await;
    let lines = scene.lines().await;
    let (strangers, known): (Vec<_>, Vec<_>) = lines
        .iter()
        .filter(|line| line["event"] == "decision")
        .partition(|record| record.get("caller").is_none());
    assert_eq!((strangers.len(), known.len()), (10, 30));
    let summaries: Vec<_> = lines.iter().filter(|line| line["event"] == "strangers").collect();
    assert_eq!(summaries.len(), 1, "nothing to sum up, nothing said");
    assert_eq!(summaries[0]["suppressed"], 50);
    assert_eq!(summaries[0]["reasons"], json!({"CALLER_UNAUTHENTICATED": 50}));
    let suppressed = r#"acrpull_broker_audit_records_total{outcome="suppressed"} 50"#;
    assert!(scene.metrics().contains(suppressed), "{}", scene.metrics());
}

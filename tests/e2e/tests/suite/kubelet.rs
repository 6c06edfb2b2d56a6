//! The harness itself: that what the product sees of a kubelet is there.

use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use e2e::{BROKER_AUDIENCE, NAMESPACE, SYNCER_SUBJECT, wait_for};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{Patch, PatchParams};
use rustix::process::Signal;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    leadership::leads_again,
    shared::{alone, beside_others},
};

const PATIENCE: Duration = Duration::from_secs(15);

#[derive(Deserialize)]
struct Claims {
    aud: Vec<String>,
    sub: String,
    iat: i64,
    exp: i64,
}

#[test]
fn kubelet_changed_config_map_reaches_the_volume() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let config_maps: Api<ConfigMap> = Api::namespaced(stack.client()?, NAMESPACE);
        let note = stack.broker().file("/etc/acrpull-broker/note.txt")?;
        let patch = async |value: Value| {
            let patch = json!({"data": {"note.txt": value}});
            let params = PatchParams::default();
            config_maps
                .patch("acrpull-broker", &params, &Patch::Merge(&patch))
                .await
        };
        patch(json!("hello")).await?;
        wait_for("the file appears", PATIENCE, async || {
            Ok(std::fs::read_to_string(&note).is_ok_and(|text| text == "hello"))
        })
        .await?;
        patch(Value::Null).await?;
        wait_for("the file goes", PATIENCE, async || Ok(!note.exists())).await
    })
}

#[test]
fn kubelet_projected_token_is_what_the_chart_asks_for() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let token = std::fs::read_to_string(stack.syncer_token_file()?)?;
        let payload = token.split('.').nth(1).context("it is no JWT")?;
        let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload)?)?;
        assert_eq!(claims.aud, [BROKER_AUDIENCE]);
        assert_eq!(claims.sub, SYNCER_SUBJECT);
        assert_eq!(claims.exp - claims.iat, 600);
        Ok(())
    })
}

#[test]
fn stack_process_that_is_killed_is_named() -> anyhow::Result<()> {
    alone(async |stack| {
        stack.syncer().signal(Signal::KILL);
        let failed = tokio::time::timeout(PATIENCE, stack.failed()).await?;
        stack.syncer().restart().await?;
        // It gave no lease back, and other tests do not expect to wait for that.
        leads_again(stack.syncer()).await?;
        let failed = failed.to_string();
        assert!(
            failed.starts_with("acrpull-syncer-0 ended unexpectedly"),
            "{failed}"
        );
        Ok(())
    })
}

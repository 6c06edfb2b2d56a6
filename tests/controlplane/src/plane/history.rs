//! Makes a control plane of our own forget: what it had stored before now can be read and watched from no more, as after
//! the compaction that an API server has done every few minutes.

use anyhow::{Context as _, bail};
use kube::{Client, Config};
use serde_json::{Value, json};

use super::ControlPlane;

/// A range that is empty: the answer is wanted for its header. A key is written in base64; this is one byte, zero.
const NOTHING: &str = "AA==";

impl ControlPlane {
    /// Has etcd drop every version of every object but the newest, and says which revision is the oldest that is left.
    ///
    /// # Errors
    /// etcd refuses, or the cluster is not ours to do that to.
    pub async fn forget_history(&self) -> anyhow::Result<i64> {
        let Some(own) = &self.own else {
            bail!("an existing cluster's history is not dropped")
        };
        let uri = own.etcd_url.parse().context("a bad address of etcd")?;
        // It speaks HTTP and JSON besides its own protocol, and any HTTP client will do.
        let etcd = Client::try_from(Config::new(uri)).context("failed to make a client of etcd")?;
        let newest = ask(
            &etcd,
            "/v3/kv/range",
            &json!({"key": NOTHING, "count_only": true}),
        )
        .await?;
        let revision = newest.pointer("/header/revision").and_then(Value::as_str);
        let revision: i64 = revision
            .and_then(|revision| revision.parse().ok())
            .with_context(|| format!("etcd names no revision: {newest}"))?;
        let compaction = json!({"revision": revision.to_string(), "physical": true});
        ask(&etcd, "/v3/kv/compaction", &compaction).await?;
        Ok(revision)
    }
}

async fn ask(etcd: &Client, path: &str, question: &Value) -> anyhow::Result<Value> {
    let request = http::Request::post(path)
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(question.to_string().into_bytes())
        .context("a bad request")?;
    let answer = etcd.request(request).await;
    answer.with_context(|| format!("etcd refused POST {path}"))
}

//! The audit log of the real program: a pipe that nobody reads, a file that is rotated, a key that changes, the end.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{ChildStdout, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::timeout};

use crate::process::{Broker, PATIENCE, Setup, Signer, configuration, refused};

/// With so many scopes, each nearly as long as a record keeps it, a record has 28 KiB.
const LONG_NAMES: usize = 60;
/// More than the queue (4 MiB) and the pipe hold.
const REQUESTS: usize = 190;

async fn start(audit: Value, setup: Setup) -> anyhow::Result<Broker> {
    let signer = Signer::new()?;
    let configuration = configuration(&signer, json!({"audit": audit}))?;
    Broker::start_with(signer, &configuration, &[], setup).await
}

/// A request that no grant allows, of `scopes` long scopes.
fn request(scopes: usize) -> Value {
    let scope = |n| format!("repository:{}/{n}:pull", "x".repeat(450));
    json!({
        "binding": {"namespace": "web", "name": "web"},
        "serviceAccounts": ["app"],
        "registry": "prod.azurecr.io",
        "scopes": (0..scopes).map(scope).collect::<Vec<_>>(),
        "brokerOwned": {"clientId": "33333333-3333-3333-3333-000000000001"},
    })
}

/// Reads lines until there is one of which `is_it` is true; the others before it too.
fn read_until(
    pipe: ChildStdout,
    is_it: impl Fn(&Value) -> bool + Send + 'static,
) -> JoinHandle<anyhow::Result<Vec<Value>>> {
    tokio::task::spawn_blocking(move || {
        let mut lines = Vec::new();
        for line in BufReader::new(pipe).lines() {
            lines.push(serde_json::from_str(&line?)?);
            if lines.last().is_some_and(&is_it) {
                return Ok(lines);
            }
        }
        anyhow::bail!("the pipe ended after {} lines", lines.len())
    })
}

fn records(path: &Path) -> Vec<Value> {
    std::fs::read_to_string(path)
        .unwrap_or_default()
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// Waits for a line in a file.
async fn line_in(path: &Path, is_it: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
    let found = async {
        loop {
            if let Some(line) = records(path).into_iter().find(|line| is_it(line)) {
                return line;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, found).await.context("no such line in the file")
}

#[tokio::test]
async fn o1_pipe_that_nobody_reads_stops_no_call_and_the_log_tells_of_the_gap() -> anyhow::Result<()> {
    let mut broker = start(json!({"onBlocked": "continue"}), Setup::piped()).await?;
    let pipe = broker.stdout().context("a pipe")?;
    let client = broker.client(1)?;
    let bearer = broker.signer.caller_token(1)?;
    let large = request(LONG_NAMES);
    for _ in 0..REQUESTS {
        let answered = broker.ask(&client, &bearer, &large).await?;
        assert_eq!(answered, (403, "POLICY_DENIED".to_owned()));
    }
    let metrics = broker.metrics().await?;
    let lost = metric(&metrics, "lost")?;
    assert!(lost > 0 && lost < REQUESTS as u64, "{lost}");
    broker.has_logged("records are lost").await?;

    let reading = read_until(pipe, |line| line["event"] == "lost");
    let written = async {
        while metric(&broker.metrics().await?, "written")? + lost < 1 + REQUESTS as u64 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    };
    timeout(PATIENCE, written)
        .await
        .context("it does not recover")??;
    broker.ask(&client, &bearer, &request(0)).await?;
    let lines = timeout(PATIENCE, reading).await.context("no such line")???;
    assert_eq!(lines[0]["event"], "start");
    assert_eq!(lines.last().context("none")?["records"], lost);
    assert_eq!(lines.len() as u64, 3 + REQUESTS as u64 - lost);
    assert!(
        lines[1..lines.len() - 1]
            .iter()
            .all(|line| line["reason"] == "POLICY_DENIED")
    );
    Ok(())
}

#[tokio::test]
async fn o1_standard_error_that_nobody_reads_stops_no_call() -> anyhow::Result<()> {
    /// Each refusal is a line of half a KiB, and a pipe holds 64 KiB.
    const CALLS: usize = 1000;
    let broker = start(json!({"sink": "off"}), Setup::log_piped()).await?;
    let client = broker.client(1)?;
    let bearer = broker.signer.caller_token(1)?;
    for _ in 0..CALLS {
        let answered = timeout(PATIENCE, broker.ask(&client, &bearer, &request(1))).await??;
        assert_eq!(answered, (403, "POLICY_DENIED".to_owned()));
    }
    Ok(())
}

#[tokio::test]
async fn o1_pipe_that_nobody_reads_lets_nothing_out_where_it_should_not_until_it_is_read()
-> anyhow::Result<()> {
    let mut broker = start(json!({"onBlocked": "refuse"}), Setup::piped()).await?;
    let pipe = broker.stdout().context("a pipe")?;
    let client = broker.client(1)?;
    let bearer = broker.signer.caller_token(1)?;
    let explain = json!({"request": request(LONG_NAMES)});
    let ask = || broker.ask_at("/v1/explain", &client, &bearer, &explain);
    let blocked = (503, "AUDIT_UNAVAILABLE".to_owned());
    let until_blocked = async {
        // The pipe holds one or two of them.
        while ask().await? != blocked {}
        anyhow::Ok(())
    };
    timeout(PATIENCE, until_blocked)
        .await
        .context("nothing is refused")??;
    for _ in 0..5 {
        assert_eq!(ask().await?, blocked);
    }
    broker.has_logged("calls are refused").await?;
    assert_eq!(broker.admin_status("/livez").await?, 200);

    let reading = read_until(pipe, |line| line["request"]["namespace"] == "last");
    let mut last = request(0);
    last["binding"]["namespace"] = json!("last");
    let last = json!({"request": last});
    let recovered = async {
        while broker.ask_at("/v1/explain", &client, &bearer, &last).await?.0 != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    };
    timeout(PATIENCE, recovered)
        .await
        .context("it does not recover")??;
    timeout(PATIENCE, reading).await.context("no such line")???;
    Ok(())
}

#[tokio::test]
async fn o1_file_is_rotated_its_key_reloaded_and_complete_at_the_end() -> anyhow::Result<()> {
    let audit = json!({"sink": {"file": "audit.log"}, "keyFile": "key"});
    let mut broker = start(audit, Setup::default().file("key", &[1; 32])).await?;
    let (path, rotated) = (broker.path("audit.log"), broker.path("audit.log.1"));
    let client = broker.client(1)?;
    let bearer = broker.signer.caller_token(1)?;
    let first = line_in(&path, |line| line["event"] == "start").await?;
    assert_eq!(first["fingerprint_key_is_random"], false);

    std::fs::rename(&path, &rotated)?;
    std::fs::write(broker.path("key"), [2; 32])?;
    let changed = line_in(&path, |line| line["event"] == "key").await?;
    assert_ne!(changed["fingerprint_key"], first["fingerprint_key"]);
    broker.ask(&client, &bearer, &request(1)).await?;
    broker.signal(Signal::TERM)?;
    assert_eq!(broker.ended().await?.code(), Some(0), "{}", broker.log()?);
    let last = records(&path);
    let last = last.last().context("no record")?;
    assert_eq!(last["reason"], "POLICY_DENIED");
    assert_eq!(last["fingerprint_key"], changed["fingerprint_key"]);
    assert_eq!(last["caller"]["token_id"], Value::Null, "a number is no id");
    let peer = last["peer"].as_str().context("no peer")?;
    assert!(peer.starts_with("127.0.0.1:"), "{peer}");
    assert_eq!(records(&rotated).len(), 1);
    Ok(())
}

#[tokio::test]
async fn o1_broker_whose_log_cannot_be_opened_does_not_start() -> anyhow::Result<()> {
    let signer = Signer::new()?;
    let audit = json!({"audit": {"sink": {"file": "/nowhere/at/all"}}});
    let (code, said) = refused(&configuration(&signer, audit)?, &[])?;
    assert_eq!(code, Some(1));
    assert!(
        said.contains("cannot open the audit log /nowhere/at/all"),
        "{said}"
    );
    Ok(())
}

#[test]
fn o1_fingerprint_of_a_found_token_is_printed_with_the_key() -> anyhow::Result<()> {
    use std::io::Write as _;
    let folder = tempfile::tempdir()?;
    let key = folder.path().join("key");
    std::fs::write(&key, [7; 32])?;
    let ask = |input: &'static str| -> anyhow::Result<(Option<i32>, String)> {
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_broker"))
            .args(["audit", "fingerprint", "--key-file"])
            .arg(&key)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        child
            .stdin
            .take()
            .context("no pipe")?
            .write_all(input.as_bytes())?;
        let output = child.wait_with_output()?;
        Ok((output.status.code(), String::from_utf8(output.stdout)?))
    };
    let (code, of_token) = ask("a.b.c\n")?;
    assert_eq!((code, of_token.trim().len()), (Some(0), 8 + 1 + 32));
    let (_code, of_payload) = ask(r#"{"auths":{"prod.azurecr.io":{"password":"a.b.c"}}}"#)?;
    assert_eq!(of_payload, of_token);
    assert_eq!(ask("\n")?, (Some(64), String::new()));
    Ok(())
}

fn metric(metrics: &str, outcome: &str) -> anyhow::Result<u64> {
    let name = format!("acrpull_broker_audit_records_total{{outcome=\"{outcome}\"}} ");
    let value = metrics.lines().find_map(|line| line.strip_prefix(&name));
    Ok(value.with_context(|| format!("no {name}"))?.parse()?)
}

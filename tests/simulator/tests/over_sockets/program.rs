//! The binary: what it prints, what it writes, how it ends.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Output, Stdio},
};

use anyhow::{Context, Result};
use azure_simulator::{Addresses, AdminClient};

use crate::azure::state;

fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_azure-simulator"))
}

/// Ends the process with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn fails(arguments: &[&str]) -> Result<(Option<i32>, String)> {
    let Output { status, stderr, .. } = command().args(arguments).output()?;
    Ok((status.code(), String::from_utf8(stderr)?))
}

#[tokio::test]
async fn program_announces_itself_and_ends_when_told() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("state.json"), serde_json::to_string(&state())?)?;
    let mut child = Running(
        command()
            .arg("--state")
            .arg(path("state.json"))
            .arg("--ca-file")
            .arg(path("ca.pem"))
            .arg("--jwks-file")
            .arg(path("jwks.json"))
            .stdout(Stdio::piped())
            .spawn()?,
    );
    let mut line = String::new();
    BufReader::new(child.0.stdout.take().context("no output")?).read_line(&mut line)?;
    let ready: serde_json::Value = serde_json::from_str(&line)?;
    let admin = AdminClient::new(ready["admin"].as_str().context("no admin address")?.parse()?)?;
    assert_eq!(admin.state().await?, state());
    assert_eq!(std::fs::read_to_string(path("ca.pem"))?, admin.ca_pem().await?);
    assert_eq!(
        std::fs::read_to_string(path("jwks.json"))?,
        admin.acr_jwks().await?
    );
    assert_eq!(ready["pid"], child.0.id());

    let told = Command::new("kill").arg(child.0.id().to_string()).status()?;
    assert!(told.success());
    assert_eq!(child.0.wait()?.code(), Some(0));
    Ok(())
}

#[test]
fn program_with_bad_input_says_so_in_one_line() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let bad = folder.path().join("bad.json");
    std::fs::write(&bad, r#"{"registrys": []}"#)?;
    let bad = bad.to_str().context("a path that is no text")?;
    let (code, text) = fails(&["--state", bad])?;
    assert_eq!((code, text.lines().count()), (Some(64), 1), "{text}");
    assert!(text.contains("unknown field `registrys`"), "{text}");

    assert_eq!(fails(&["--nonsense"])?.0, Some(64));
    let (code, text) = fails(&["--state", "/nowhere/state.json"])?;
    assert_eq!((code, text.lines().count()), (Some(1), 1), "{text}");
    assert!(text.contains("/nowhere/state.json"), "{text}");
    Ok(())
}

#[test]
fn program_with_a_port_in_use_says_which() -> Result<()> {
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let (code, text) = fails(&["--imds-address", &address])?;
    assert_eq!((code, text.lines().count()), (Some(1), 1), "{text}");
    assert!(text.contains(&address) && text.contains("imds"), "{text}");
    Ok(())
}

#[test]
fn program_ready_file_holds_the_addresses() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let ready = folder.path().join("ready.json");
    let _child = Running(command().arg("--ready-file").arg(&ready).spawn()?);
    for _ in 0..500 {
        if ready.exists() {
            let value: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&ready)?)?;
            let addresses: Vec<&str> = ["entra", "acr", "imds", "proxy", "admin"]
                .iter()
                .filter_map(|name| value[*name].as_str())
                .collect();
            assert_eq!(addresses.len(), 5, "{value}");
            return Ok(());
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "a plain thread that waits for another process"
        )]
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    anyhow::bail!("no ready file for {:?}", size_of::<Addresses>())
}

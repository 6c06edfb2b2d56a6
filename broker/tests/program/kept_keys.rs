//! Signing keys that outlive a process whose source of keys is away.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, anyhow, ensure};
use axum::{Router, routing::get};
use broker::{
    metrics::ConnectionMetrics,
    serve::{self, Certificate, ConnectionLimits},
};
use prometheus_client::registry::Registry;
use runtime::{
    Failure, Shutdown, listen,
    tasks::spawn_detached,
    tls::server::{ClientAuth, ServerTls, TlsVersion},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::process::{Broker, PATIENCE, Signer, cluster, configuration, refused};

/// An API server that shows its keys.
pub(crate) struct KeyServer {
    address: SocketAddr,
    folder: TempDir,
    shutdown: Shutdown,
    serving: JoinHandle<()>,
}

impl KeyServer {
    pub(crate) fn start(jwks: String) -> anyhow::Result<Self> {
        runtime::tls::install_crypto_provider();
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
        let folder = tempfile::tempdir()?;
        let tls = ServerTls {
            cert: folder.path().join("tls.crt"),
            key: folder.path().join("tls.key"),
            clients: ClientAuth::None,
            min_version: TlsVersion::Tls13,
        };
        std::fs::write(&tls.cert, cert.pem())?;
        std::fs::write(&tls.key, signing_key.serialize_pem())?;
        let (certificate, _files) = done(Certificate::load(tls))?;
        let listener = done(listen::bind("", (Ipv4Addr::LOCALHOST, 0).into()))?;
        let address = listener.local_addr()?;
        let shutdown = Shutdown::manual();
        let server = done(serve::serve(
            listener,
            certificate,
            Router::new().route("/keys", get(async move || jwks)),
            ConnectionLimits {
                max_connections: 100,
                max_age: Duration::from_secs(3600),
            },
            ConnectionMetrics::register(&mut Registry::default()),
            shutdown.clone(),
        ))?;
        Ok(Self {
            address,
            folder,
            shutdown,
            serving: spawn_detached(server),
        })
    }

    /// Ends it: nobody listens there any more.
    async fn stop(&mut self) -> anyhow::Result<()> {
        self.shutdown.start();
        tokio::time::timeout(PATIENCE, &mut self.serving).await??;
        Ok(())
    }

    /// A URL of it.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }

    /// The file with its certificate.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.folder.path().join("tls.crt")
    }

    /// A configuration with one cluster whose keys are here.
    fn configuration(&self, signer: &Signer, path: &str) -> anyhow::Result<Value> {
        let jwks = json!({"url": self.url(path), "caBundle": self.certificate()});
        let clusters = json!({"clusters": [cluster("weu-7", &jwks)]});
        configuration(signer, clusters)
    }
}

/// In a test a failure is an error like others.
fn done<T>(result: Result<T, Failure>) -> anyhow::Result<T> {
    result.map_err(|failure| anyhow!("{failure}"))
}

fn state_dir(folder: &Path) -> String {
    format!("--state-dir={}", folder.display())
}

fn kept_files(folder: &Path) -> anyhow::Result<usize> {
    Ok(std::fs::read_dir(folder)?.count())
}

async fn until(what: &str, mut is_so: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let waiting = async {
        while !is_so()? {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .with_context(|| what.to_owned())?
}

/// What the syncer is told: nothing is granted, so that a caller who is known learns just that.
pub(crate) async fn answer(broker: &Broker) -> anyhow::Result<String> {
    let question = json!({
        "binding": {"namespace": "web", "name": "pull"}, "serviceAccounts": ["app"],
        "registry": "prod.azurecr.io",
        "brokerOwned": {"clientId": "33333333-3333-3333-3333-000000000001"},
    });
    let token = broker.signer.caller_token(1)?;
    let (_status, reason) = broker.ask(&broker.client(0)?, &token, &question).await?;
    Ok(reason)
}

#[tokio::test]
async fn a7_broker_that_restarts_while_the_keys_are_away_knows_its_callers() -> anyhow::Result<()> {
    let (signer, state) = (Signer::new()?, tempfile::tempdir()?);
    let mut api_server = KeyServer::start(signer.jwks()?)?;
    let here = api_server.configuration(&signer, "/keys")?;
    let elsewhere = api_server.configuration(&signer, "/elsewhere")?;
    let keeps = state_dir(state.path());

    let first = Broker::start(signer.clone(), &here, &[&keeps]).await?;
    ensure!(answer(&first).await? == "POLICY_DENIED", "{}", first.log()?);
    until("the keys are kept", || Ok(kept_files(state.path())? == 1)).await?;
    // Killed, and the API server goes too.
    drop(first);
    api_server.stop().await?;

    let restarted = Broker::start(signer.clone(), &here, &[&keeps]).await?;
    ensure!(
        answer(&restarted).await? == "POLICY_DENIED",
        "{}",
        restarted.log()?
    );
    drop(restarted);

    let forgetful = Broker::start(signer.clone(), &here, &[]).await?;
    ensure!(answer(&forgetful).await? == "CLUSTER_KEYS_UNAVAILABLE");
    drop(forgetful);

    // Keys of a URL that the operator has turned away from are neither used nor kept.
    let turned_away = Broker::start(signer, &elsewhere, &[&keeps]).await?;
    ensure!(answer(&turned_away).await? == "CLUSTER_KEYS_UNAVAILABLE");
    until("they are removed", || Ok(kept_files(state.path())? == 0)).await
}

#[tokio::test]
async fn broker_that_cannot_write_its_state_folder_says_so() -> anyhow::Result<()> {
    let configuration = configuration(&Signer::new()?, json!({}))?;
    let folder = tempfile::tempdir()?;
    let missing = folder.path().join("missing");
    let (code, said) = refused(&configuration, &[&state_dir(&missing)])?;
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("cannot use --state-dir") && said.contains("leave the flag out"),
        "{said}"
    );
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    Ok(())
}

//! The broker: the only code that talks to Azure. It turns an identity into a registry credential, caches it, and hands
//! it out to any number of clusters.
//!
//! A request passes these files in this order:
//! [`gate`] (listed in [`access`], and by whom: [`authn`]) -> [`grpc`] or [`http`] (decode) -> [`service`] ->
//! [`request`] (what) -> [`authz`] (may it; pure) ->
//! [`credentials`] -> [`cache`] (one fetch for all who wait) -> [`azure`] -> [`expiry`] (until when; pure) ->
//! [`docker_config`] (the bytes; pure). Whatever goes wrong becomes one [`error::CredentialError`].
//!
//! [`run`] is the only place where the parts are put together.

pub mod access;
pub mod args;
pub mod authn;
pub mod authz;
pub mod azure;
pub mod cache;
pub mod config;
pub mod credentials;
pub mod docker_config;
pub mod error;
pub mod expiry;
pub mod explain;
pub mod fleet;
pub mod gate;
pub mod grpc;
pub mod http;
pub mod live;
pub mod metrics;
pub mod openapi;
pub mod request;
pub mod serve;
pub mod service;
pub mod tenant;
#[cfg(test)]
mod test_scene;

use std::{path::Path, sync::Arc, time::Duration};

use prometheus_client::registry::Registry;
use runtime::{
    Clock, Failure, Shutdown, SystemClock, Tasks,
    admin::{self, Readiness},
    build_info, listen, telemetry,
};

use args::{ConfigArgs, RunArgs};
use authn::{Authenticator, Cluster, KeyStore};
use azure::Azure;
use config::{Config, ConfigError, KeySource};
use credentials::Credentials;
use live::{Live, Snapshot};
use metrics::Metrics;
use serve::TlsFiles;
use service::Service;

/// What was evicted from a cache is wiped after at most this long.
const MAINTENANCE_PERIOD: Duration = Duration::from_secs(10);

/// Checks a configuration and prints what it found.
///
/// # Errors
/// The file cannot be read (exit code 1) or its content is wrong (64).
#[expect(clippy::print_stdout, reason = "the answer of a command")]
pub fn check_config(args: &ConfigArgs) -> Result<(), Failure> {
    let config = load_config(&args.config)?;
    println!(
        "{}: ok; clusters: {}, broker-owned identities: {}, grants: {}",
        args.config.display(),
        config.clusters.len(),
        config.policy.identities.len(),
        config.policy.grants.len()
    );
    Ok(())
}

/// Runs the broker until it is told to stop.
///
/// # Errors
/// Something is missing, wrong or in use; or a part of the process ended before its time.
pub async fn run(args: RunArgs) -> Result<(), Failure> {
    let RunArgs {
        config,
        listen_address,
        admin_address,
        tls_cert_file,
        tls_key_file,
        telemetry,
    } = args;
    let Config {
        clusters,
        clouds,
        policy,
        egress,
    } = load_config(&config.config)?;
    let tls_files = TlsFiles {
        cert: tls_cert_file,
        key: tls_key_file,
    };
    let tls = serve::load_tls(&tls_files)?;
    // Every port is bound before anything starts: a port in use is an error, not a broken replica.
    let listener = listen::bind("--listen-address", listen_address)?;
    let admin_listener = listen::bind("--admin-address", admin_address)?;
    let _telemetry = telemetry::init("acrpull-broker", &telemetry)?;
    let shutdown = Shutdown::on_signal()?;
    let tasks = Tasks::new(shutdown.clone());
    let readiness = Readiness::default();

    let mut registry = Registry::default();
    build_info::register(&mut registry, "broker");
    let metrics = Metrics::register(&mut registry);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);

    let authenticator = authenticator(clusters, Arc::clone(&clock), &tasks, &readiness);
    let azure = Azure::new(&egress, &clouds, Arc::clone(&clock), metrics.upstream())
        .map_err(|error| Failure::usage("the configuration's egress section").source(error))?;
    let credentials = Credentials::new(Arc::new(azure), clock, &metrics);
    tasks.spawn(
        "cache maintenance",
        maintain(credentials.clone(), shutdown.clone()),
    );
    tasks.spawn(
        "certificate reload",
        serve::reload_tls(tls_files, tls.clone(), shutdown.clone()),
    );
    let live = Live::new(Snapshot {
        authenticator,
        clouds,
        policy,
    });
    let service = Service::new(live, credentials, metrics);

    let router = serve::router(service).await;
    tasks.spawn("server", serve::serve(listener, tls, router, shutdown.clone())?);
    let admin = admin::router(registry, readiness, shutdown.clone());
    tasks.spawn_to_the_end("admin server", admin::serve(admin_listener, admin)?);
    tracing::info!(%listen_address, %admin_address, "serving");
    tasks.run_until_done(serve::DRAIN + Duration::from_secs(5)).await
}

/// Sets up the clusters, with a task for each whose keys are fetched.
fn authenticator(
    configs: Vec<config::ClusterConfig>,
    clock: Arc<dyn Clock>,
    tasks: &Tasks,
    readiness: &Readiness,
) -> Arc<Authenticator> {
    let mut fetched = Vec::new();
    let clusters: Vec<Arc<Cluster>> = configs
        .into_iter()
        .map(|config| {
            let keys = match &config.keys {
                KeySource::Fixed(keys) => KeyStore::with(keys.clone()),
                KeySource::Url(source) => {
                    fetched.push((Arc::clone(&config.name), source.clone()));
                    KeyStore::default()
                }
            };
            Arc::new(Cluster { config, keys })
        })
        .collect();
    let authenticator = Arc::new(Authenticator::new(clusters, clock));
    for (name, source) in fetched {
        let tried = readiness.gate(format!("signing keys of cluster {name}"));
        if let Some(cluster) = authenticator
            .clusters()
            .iter()
            .find(|cluster| cluster.config.name == name)
        {
            let (cluster, authenticator) = (Arc::clone(cluster), Arc::clone(&authenticator));
            let shutdown = tasks.shutdown().clone();
            tasks.spawn(
                "signing keys",
                authn::keep_fresh(cluster, source, authenticator, tried, shutdown),
            );
        }
    }
    authenticator
}

async fn maintain(credentials: Credentials, shutdown: Shutdown) {
    loop {
        tokio::select! {
            () = shutdown.started() => return,
            () = tokio::time::sleep(MAINTENANCE_PERIOD) => credentials.maintain(),
        }
    }
}

fn load_config(path: &Path) -> Result<Config, Failure> {
    config::load(path).map_err(|error| {
        let failure = match &error {
            ConfigError::Read { .. } => Failure::runtime(format!("configuration {}", path.display()))
                .remedy("correct the path, or put the file there"),
            ConfigError::Content { .. } | ConfigError::Syntax(_) => {
                Failure::usage(format!("configuration {}", path.display()))
                    .remedy("correct it; docs/configuration.md explains every field")
            }
        };
        failure.source(error)
    })
}

//! The broker: the only code that talks to Azure. It turns an identity into a registry credential, caches it, and hands
//! it out to any number of clusters.
//!
//! A request passes these files in this order:
//! [`gate`] (listed in [`access`], and by whom: [`authn`]) -> [`grpc`] or [`http`] (decode) -> [`service`] ->
//! [`request`] (what) -> [`own_account`] and [`authz`] (may it; pure) ->
//! [`credentials`] -> [`cache`] (one fetch for all who wait) -> [`azure`] -> [`expiry`] (until when; pure) ->
//! [`docker_config`] (the bytes; pure). Whatever goes wrong becomes one [`error::CredentialError`], and whatever was
//! decided one record of the [`audit`].
//!
//! [`run`] is the only place where the parts are put together.

pub mod access;
pub mod args;
pub mod audit;
pub mod authn;
pub mod authz;
pub mod azure;
pub mod cache;
pub mod channel;
mod check_config;
pub mod cluster_keys;
pub mod config;
pub mod credentials;
pub mod docker_config;
pub mod error;
pub mod expiry;
pub mod explain;
pub mod fleet;
pub mod gate;
mod grants_test;
pub mod grpc;
pub mod http;
pub mod live;
pub mod metrics;
pub mod names;
pub mod openapi;
pub mod own_account;
pub mod reload;
pub mod request;
mod secret_types;
pub mod serve;
pub mod service;
pub mod tenant;
#[cfg(test)]
mod test_scene;
pub mod throttle;

use std::{path::Path, sync::Arc, time::Duration};

use prometheus_client::registry::Registry;
use runtime::{
    Clock, Failure, Shutdown, SystemClock, Tasks,
    admin::{self, Readiness},
    build_info, listen, open_files, telemetry,
};

use args::RunArgs;
use audit::Audit;
use authn::KeyFiles;
use azure::Azure;
pub use check_config::check_config;
use cluster_keys::ClusterKeys;
use config::{ConfigError, Loaded};
use credentials::Credentials;
pub use grants_test::grants_test;
use metrics::{AuditMetrics, ConfigMetrics, ConnectionMetrics, Metrics};
use reload::Reloader;
use serve::{Certificate, ConnectionLimits};
use service::Service;

/// What was evicted from a cache is wiped after at most this long.
const MAINTENANCE_PERIOD: Duration = Duration::from_secs(10);

/// Runs the broker until it is told to stop.
///
/// # Errors
/// Something is missing, wrong or in use; or a part of the process ended before its time.
pub async fn run(args: RunArgs) -> Result<(), Failure> {
    let RunArgs {
        config: config_args,
        listen_address,
        admin_address,
        tls,
        state_dir,
        max_connections,
        max_connection_age,
        telemetry,
    } = args;
    let Loaded { config, files } = config::load(&config_args.config);
    let mut config = config.map_err(|error| failure(&config_args.config, error))?;
    let tls = tls.into_server_tls()?;
    let clients = tls.clients.clone();
    let (certificate, noted_tls_files) = Certificate::load(tls)?;
    let key_files = state_dir.as_deref().map(key_files).transpose()?;
    // Every port is bound before anything starts: a port in use is an error, not a broken replica.
    let listener = listen::bind("--listen-address", listen_address)?;
    let admin_listener = listen::bind("--admin-address", admin_address)?;
    let limits = limits(max_connections.get(), max_connection_age)?;
    let telemetry = telemetry::init("acrpull-broker", &telemetry)?;
    let shutdown = Shutdown::on_signal()?;
    let tasks = Tasks::new(shutdown.clone());
    let readiness = Readiness::default();

    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let mut registry = Registry::default();
    telemetry.register(&mut registry);
    build_info::register(&mut registry, "broker");
    let metrics = Metrics::register(&mut registry);
    let connection_metrics = ConnectionMetrics::register(&mut registry);
    let config_metrics = ConfigMetrics::register(&mut registry, clock.now());
    certificate.metrics().register(&mut registry);

    let (audit, writer_end) = Audit::start(
        std::mem::take(&mut config.audit),
        Arc::clone(&clock),
        AuditMetrics::register(&mut registry),
    )?;
    tasks.spawn_to_the_end("audit writer", writer_end.wait());
    tasks.spawn("audit summary", audit.clone().follow(shutdown.clone()));
    let azure = Azure::new(
        &config.egress,
        &config.clouds,
        Arc::clone(&clock),
        metrics.upstream(),
    )
    .map_err(|error| Failure::usage("the configuration's egress section").source(error))?;
    let reloader = Reloader::start(
        config,
        clients,
        ClusterKeys::new(tasks.spawner(), Arc::clone(&clock))
            .kept_in(key_files)
            .counted_by(metrics.clusters().contested_keys()),
        &readiness,
        audit.clone(),
        Arc::clone(&clock),
        config_metrics,
    )?;
    let credentials = Credentials::new(Arc::new(azure), clock, &metrics);
    tasks.spawn(
        "cache maintenance",
        maintain(credentials.clone(), shutdown.clone()),
    );
    let service = Service::new(reloader.live(), credentials, metrics, audit.clone());
    tasks.spawn(
        "configuration reload",
        reloader.follow(config_args.config, files, shutdown.clone()),
    );
    tasks.spawn(
        "certificate reload",
        certificate.clone().follow(noted_tls_files, shutdown.clone()),
    );

    let (router, health) = serve::router(service).await;
    tasks.spawn("health", health.follow(shutdown.clone()));
    let server = serve::serve(
        listener,
        certificate,
        router,
        limits,
        connection_metrics,
        shutdown.clone(),
    )?;
    tasks.spawn("server", server);
    let admin = admin::router(registry, readiness, shutdown.clone());
    tasks.spawn_to_the_end("admin server", admin::serve(admin_listener, admin)?);
    tracing::info!(%listen_address, %admin_address, "serving");
    let ended = tasks.run_until_done(serve::DRAIN + Duration::from_secs(5)).await;
    audit.close().await;
    ended
}

/// Connections are open files: what was asked for must be possible, or it would fail when it matters most.
fn limits(max_connections: u32, max_age: Duration) -> Result<ConnectionLimits, Failure> {
    let wanted = u64::from(max_connections) + serve::OTHER_OPEN_FILES;
    let allowed = open_files::raise_limit();
    if wanted > allowed {
        return Err(Failure::usage(format!(
            "--max-connections {max_connections} takes {wanted} open files, and this process may have {allowed}"
        ))
        .remedy("lower it, or raise the hard limit on open files (ulimit -Hn)"));
    }
    Ok(ConnectionLimits {
        max_connections: max_connections as usize,
        max_age,
    })
}

/// A folder that cannot be written is found out now, and not in the outage that it is for.
fn key_files(folder: &Path) -> Result<KeyFiles, Failure> {
    KeyFiles::open(folder).map_err(|error| {
        Failure::runtime(format!("cannot use --state-dir {}", folder.display()))
            .source(error)
            .remedy("name a folder that the user of this process can write, or leave the flag out")
    })
}

async fn maintain(credentials: Credentials, shutdown: Shutdown) {
    loop {
        tokio::select! {
            () = shutdown.started() => return,
            () = tokio::time::sleep(MAINTENANCE_PERIOD) => credentials.maintain(),
        }
    }
}

/// Why there is no configuration to start with.
fn failure(path: &Path, error: ConfigError) -> Failure {
    let what = format!("configuration {}", path.display());
    let failure = match &error {
        ConfigError::Read { .. } => Failure::runtime(what).remedy("correct the path, or put the file there"),
        ConfigError::Content { .. } | ConfigError::Syntax(_) => {
            Failure::usage(what).remedy("correct it; docs/configuration.md explains every field")
        }
    };
    failure.source(error)
}

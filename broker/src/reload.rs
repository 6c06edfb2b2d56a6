//! Takes a changed configuration into use while the process serves: read completely, checked completely, then swapped as
//! one [`Snapshot`], with an empty memory of verified tokens. One that is wrong is refused as a whole, and what was in
//! use stays.
//!
//! Followed are the file and every file that it names, by content. Not reloaded is what the way to Azure was built from:
//! a changed `egress` section is reported and the rest is taken, because a grant that was withdrawn must not wait for a
//! restart; so is another sink of the audit log, whose other settings are taken; a new registry host or domain is refused,
//! because the way to Azure would not let a token through to it.

use std::{path::PathBuf, sync::Arc};

use runtime::{
    Clock, Failure, Shutdown, admin::Readiness, error_chain::ErrorChain, file_watch::ReadFiles,
    tls::server::ClientAuth,
};

use crate::{
    audit::Audit,
    authn::Authenticator,
    channel,
    cluster_keys::ClusterKeys,
    config::{self, Config, ConfigError, EgressConfig, Loaded, RegistryFence},
    live::{Live, Snapshot},
    metrics::ConfigMetrics,
};

/// Keeps [`Live`] at what the configuration says.
pub struct Reloader {
    live: Live,
    clients: ClientAuth,
    keys: ClusterKeys,
    egress: EgressConfig,
    registries: RegistryFence,
    audit: Audit,
    clock: Arc<dyn Clock>,
    metrics: ConfigMetrics,
}

impl Reloader {
    /// Takes the first configuration into use; `readiness` waits until the keys of each cluster were tried. `clients` is
    /// what the listener asks of callers.
    ///
    /// # Errors
    /// A cluster is bound to certificates that nobody asks for.
    pub fn start(
        config: Config,
        clients: ClientAuth,
        mut keys: ClusterKeys,
        readiness: &Readiness,
        audit: Audit,
        clock: Arc<dyn Clock>,
        metrics: ConfigMetrics,
    ) -> Result<Self, Failure> {
        let Config {
            clusters,
            clouds,
            policy,
            egress,
            audit: _started_already,
            warnings,
        } = config;
        channel::check_possible(&clusters, &clients)
            .map_err(|error| Failure::usage("the configuration").source(error))?;
        let clusters = keys.adopt(clusters, Some(readiness));
        log(&warnings);
        let registries = clouds.registries();
        let live = Live::new(Snapshot {
            authenticator: Arc::new(Authenticator::new(clusters, Arc::clone(&clock))),
            clouds,
            policy,
        });
        Ok(Self {
            live,
            clients,
            keys,
            egress,
            registries,
            audit,
            clock,
            metrics,
        })
    }

    /// What is in use.
    pub fn live(&self) -> Live {
        self.live.clone()
    }

    /// Takes each changed configuration into use until shutdown. `files` are those of the configuration in use.
    pub async fn follow(mut self, path: PathBuf, mut files: ReadFiles, shutdown: Shutdown) {
        while files.changed(&shutdown).await {
            let loaded = load(path.clone()).await;
            files = loaded.files;
            match loaded.config.and_then(|config| self.adopt(config)) {
                Ok(()) => self.metrics.count_success(self.clock.now()),
                Err(error) => {
                    self.metrics.count_failure();
                    tracing::error!(
                        config = %path.display(),
                        error = %ErrorChain(&error),
                        "the changed configuration is refused; the one before stays in use"
                    );
                }
            }
        }
    }

    fn adopt(&mut self, config: Config) -> Result<(), ConfigError> {
        let Config {
            clusters,
            clouds,
            policy,
            egress,
            audit,
            warnings,
        } = config;
        if let Some(new) = clouds.registries().first_outside(&self.registries) {
            return Err(refused(
                "clouds",
                format!("{new} is a new registry or domain of registries: restart the broker to add it"),
            ));
        }
        channel::check_possible(&clusters, &self.clients)?;
        let clusters = self.keys.adopt(clusters, None);
        if egress != self.egress {
            tracing::warn!("egress has changed and takes effect with the next start; the rest is in use");
        }
        log(&warnings);
        self.audit.adopt(audit);
        tracing::info!(
            clusters = clusters.len(),
            identities = policy.identities.len(),
            grants = policy.grants.len(),
            "configuration reloaded"
        );
        self.live.replace(Snapshot {
            authenticator: Arc::new(Authenticator::new(clusters, Arc::clone(&self.clock))),
            clouds,
            policy,
        });
        Ok(())
    }
}

/// Reads off the threads that serve.
async fn load(path: PathBuf) -> Loaded {
    let reading = tokio::task::spawn_blocking({
        let path = path.clone();
        move || config::load(&path)
    });
    reading.await.unwrap_or_else(|_panicked| {
        // Whatever a parser trips over must not end a process that serves with a good configuration.
        let mut files = ReadFiles::default();
        drop(files.read(&path));
        Loaded {
            config: Err(ConfigError::Syntax("it cannot be parsed".to_owned())),
            files,
        }
    })
}

fn log(warnings: &[String]) {
    for warning in warnings {
        tracing::warn!(%warning, "the configuration is in use, and may hold a mistake");
    }
}

fn refused(field: &str, problem: String) -> ConfigError {
    ConfigError::Content {
        field: field.to_owned(),
        problem,
    }
}

#[cfg(test)]
mod tests;

//! From one configuration to the next: clusters with the same issuer whose keys come from the same URL keep the keys that were fetched and the
//! task that keeps them fresh; tasks of the others end, and new ones start.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use runtime::{
    Clock, Shutdown,
    admin::Readiness,
    tasks::{Spawner, spawn_detached},
};

use crate::{
    authn::{Cluster, KeyFile, KeyFiles, KeyRing, KeyStore, Member, keep_fresh},
    config::{ClusterConfig, JwksUrl, KeySource},
    metrics::ContestedKeys,
};

/// The keys of all clusters, and the tasks behind them.
pub struct ClusterKeys {
    spawner: Spawner,
    ring: Arc<KeyRing>,
    clock: Arc<dyn Clock>,
    files: Option<KeyFiles>,
    fetched: BTreeMap<Source, Fetched>,
}

/// Another URL under the same name is another source: keys that an operator has turned away from are not kept. Nor are they
/// under another issuer, among whose clusters somebody may have them already, nor where another CA bundle says whom to believe.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Source {
    cluster: Arc<str>,
    issuer: Arc<str>,
    url: JwksUrl,
}

/// Keys from a URL, and the end of the task that fetches them.
struct Fetched {
    keys: KeyStore,
    stop: Shutdown,
}

impl ClusterKeys {
    /// No clusters yet.
    pub fn new(spawner: Spawner, clock: Arc<dyn Clock>) -> Self {
        Self {
            spawner,
            ring: Arc::default(),
            clock,
            files: None,
            fetched: BTreeMap::new(),
        }
    }

    /// The same, with what is fetched kept in files too.
    #[must_use]
    pub fn kept_in(self, files: Option<KeyFiles>) -> Self {
        Self { files, ..self }
    }

    /// The same, with what is contested counted.
    #[must_use]
    pub fn counted_by(self, metrics: ContestedKeys) -> Self {
        Self {
            ring: Arc::new(KeyRing::counting(metrics)),
            ..self
        }
    }

    /// Takes `configs` in place of the clusters before, whatever has been fetched by then. With `readiness`, the process is
    /// ready once each URL was tried; a cluster that comes later keeps nobody but its own callers waiting.
    pub fn adopt(&mut self, configs: Vec<ClusterConfig>, readiness: Option<&Readiness>) -> Vec<Arc<Cluster>> {
        let clusters: Vec<Arc<Cluster>> = configs
            .into_iter()
            .map(|config| {
                let keys = match (&config.keys, source(&config)) {
                    (KeySource::Fixed(keys), _) => KeyStore::with(keys.clone()),
                    (KeySource::Url(_), source) => self.kept(source.as_ref()),
                };
                Arc::new(Cluster { config, keys })
            })
            .collect();
        let members = clusters.iter().map(|cluster| member(cluster)).collect();
        self.ring.enroll(members, self.clock.monotonic());
        let sources = clusters.iter().filter_map(|cluster| source(&cluster.config));
        self.end_other_than(&sources.collect());
        for cluster in &clusters {
            if let Some(source) = source(&cluster.config)
                && !self.fetched.contains_key(&source)
            {
                self.start(member(cluster), source, readiness);
            }
        }
        self.remove_other_files();
        clusters
    }

    /// What was fetched from `source` so far.
    fn kept(&self, source: Option<&Source>) -> KeyStore {
        source
            .and_then(|source| self.fetched.get(source))
            .map_or_else(KeyStore::default, |fetched| fetched.keys.clone())
    }

    fn end_other_than(&mut self, wanted: &BTreeSet<Source>) {
        self.fetched.retain(|source, fetched| {
            let stays = wanted.contains(source);
            if !stays {
                fetched.stop.start();
            }
            stays
        });
    }

    /// In the background: files that are not removed are not used either.
    fn remove_other_files(&self) {
        let Some(files) = &self.files else {
            return;
        };
        let wanted = self
            .fetched
            .keys()
            .filter_map(|source| self.file(source))
            .collect();
        drop(spawn_detached(files.clone().keep_only(wanted)));
    }

    fn file(&self, source: &Source) -> Option<KeyFile> {
        let files = self.files.as_ref()?;
        Some(files.of(&source.cluster, &source.issuer, &source.url))
    }

    fn start(&mut self, member: Member, source: Source, readiness: Option<&Readiness>) {
        let tried =
            readiness.map(|readiness| readiness.gate(format!("signing keys of cluster {}", member.cluster)));
        let stop = self.spawner.shutdown().child();
        let fetched = Fetched {
            keys: member.keys.clone(),
            stop: stop.clone(),
        };
        let url = source.url.clone();
        let file = self.file(&source);
        let (ring, clock) = (Arc::clone(&self.ring), Arc::clone(&self.clock));
        let task = keep_fresh(member, url, file, ring, clock, tried, stop);
        self.spawner.spawn_until(&fetched.stop, "signing keys", task);
        self.fetched.insert(source, fetched);
    }
}

fn source(config: &ClusterConfig) -> Option<Source> {
    match &config.keys {
        KeySource::Url(url) => Some(Source {
            cluster: Arc::clone(&config.name),
            issuer: config.issuer.as_str().into(),
            url: url.clone(),
        }),
        KeySource::Fixed(_keys) => None,
    }
}

fn member(cluster: &Cluster) -> Member {
    Member {
        cluster: Arc::clone(&cluster.config.name),
        issuer: cluster.config.issuer.as_str().into(),
        keys: cluster.keys.clone(),
        is_fetched: matches!(cluster.config.keys, KeySource::Url(_)),
    }
}

#[cfg(test)]
mod tests {
    use runtime::{SystemClock, Tasks};

    use super::*;
    use crate::config::{CaBundle, DEFAULT_TOKEN_LIFETIME, GrantModes, Limits, Workloads};

    fn config(name: &str, keys: KeySource) -> ClusterConfig {
        ClusterConfig {
            name: name.into(),
            issuer: "https://issuer.example".into(),
            keys,
            caller_audiences: vec!["acrpull-broker".into()],
            subject_audiences: vec!["api://AzureCRTokenExchange".into()],
            max_token_lifetime: DEFAULT_TOKEN_LIFETIME,
            syncers: vec!["system:serviceaccount:acrpull-system:acrpull-syncer".into()],
            operators: Vec::new(),
            client_certificates: Vec::new(),
            workloads: Workloads::default(),
            default_tenant: None,
            grant_modes: GrantModes::default(),
            tenant_ceiling: Vec::new(),
            registry_ceiling: Vec::new(),
            limits: Limits::default(),
        }
    }

    /// A URL that nobody answers: what is tested here happens without it.
    fn silent(path: &str) -> KeySource {
        KeySource::Url(JwksUrl {
            url: format!("https://127.0.0.1:9/{path}").parse().unwrap(),
            ca_bundle: None,
            token_file: None,
        })
    }

    #[tokio::test]
    async fn cluster_with_the_same_source_keeps_its_keys_and_its_task() {
        let tasks = Tasks::new(Shutdown::manual());
        let mut keys = ClusterKeys::new(tasks.spawner(), Arc::new(SystemClock));
        let stops = |keys: &ClusterKeys| -> Vec<bool> {
            keys.fetched
                .values()
                .map(|fetched| fetched.stop.has_started())
                .collect()
        };
        let first = keys.adopt(vec![config("a", silent("a")), config("b", silent("b"))], None);
        let of_b = keys.fetched.values().last().unwrap().stop.clone();
        // The rest of a's entry changes, b goes, c comes.
        let mut changed = config("a", silent("a"));
        changed.caller_audiences = vec!["another".into()];
        let second = keys.adopt(vec![changed, config("c", silent("c"))], None);
        assert!(second[0].keys.is_same(&first[0].keys));
        assert!(of_b.has_started(), "its task was told to end");
        assert_eq!(stops(&keys), [false, false]);
        // Another URL under the same name starts from nothing.
        let third = keys.adopt(vec![config("a", silent("elsewhere"))], None);
        assert!(!third[0].keys.is_same(&first[0].keys));
        // And so does another issuer: one of its clusters may have the key already.
        let mut moved = config("a", silent("elsewhere"));
        moved.issuer = "https://other.example".into();
        let fourth = keys.adopt(vec![moved], None);
        assert!(!fourth[0].keys.is_same(&third[0].keys));
        // And another content of the bundle, under the same path: what vouched for the keys does so no more.
        let bundled = |byte| {
            let mut config = config("a", silent("elsewhere"));
            if let KeySource::Url(url) = &mut config.keys {
                url.ca_bundle = Some(CaBundle {
                    path: "/etc/acrpull/ca.pem".into(),
                    digest: [byte; 32],
                });
            }
            config
        };
        let mut before = third[0].keys.clone();
        for (byte, stays) in [(1, false), (1, true), (2, false)] {
            let next = keys.adopt(vec![bundled(byte)], None);
            assert_eq!(next[0].keys.is_same(&before), stays, "{byte}");
            before = next[0].keys.clone();
        }
        tasks.shutdown().start();
        tasks
            .run_until_done(std::time::Duration::from_secs(5))
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn readiness_waits_for_the_sources_of_the_start_only() {
        let tasks = Tasks::new(Shutdown::manual());
        let mut keys = ClusterKeys::new(tasks.spawner(), Arc::new(SystemClock));
        let readiness = Readiness::default();
        keys.adopt(vec![config("a", silent("a"))], Some(&readiness));
        assert_eq!(readiness.waiting_for(), ["signing keys of cluster a"]);
        keys.adopt(vec![config("b", silent("b"))], None);
        // The cluster that is gone is waited for no longer.
        while !readiness.waiting_for().is_empty() {
            tokio::task::yield_now().await;
        }
        tasks.shutdown().start();
    }
}

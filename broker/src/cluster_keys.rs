//! From one configuration to the next: clusters whose keys come from the same URL keep the keys that were fetched and the
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
    authn::{Cluster, KeyFiles, KeyRing, KeyStore, Member, SharedKey, keep_fresh},
    config::{ClusterConfig, JwksUrl, KeySource},
};

/// The keys of all clusters, and the tasks behind them.
pub struct ClusterKeys {
    spawner: Spawner,
    ring: Arc<KeyRing>,
    clock: Arc<dyn Clock>,
    files: Option<KeyFiles>,
    fetched: BTreeMap<Source, Fetched>,
}

/// Another URL under the same name is another source: keys that an operator has turned away from are not kept.
type Source = (Arc<str>, JwksUrl);

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

    /// Takes `configs` in place of the clusters before. With `readiness`, the process is ready once each URL was tried;
    /// a cluster that comes later keeps nobody but its own callers waiting.
    ///
    /// # Errors
    /// Two clusters have a key in common; nothing has changed then.
    pub fn adopt(
        &mut self,
        configs: Vec<ClusterConfig>,
        readiness: Option<&Readiness>,
    ) -> Result<Vec<Arc<Cluster>>, SharedKey> {
        let clusters: Vec<Arc<Cluster>> = configs
            .into_iter()
            .map(|config| {
                let keys = match &config.keys {
                    KeySource::Fixed(keys) => KeyStore::with(keys.clone()),
                    KeySource::Url(url) => self.kept(&(Arc::clone(&config.name), url.clone())),
                };
                Arc::new(Cluster { config, keys })
            })
            .collect();
        let members = clusters.iter().map(|cluster| member(cluster)).collect();
        self.ring.enroll(members)?;
        self.end_other_than(&clusters.iter().filter_map(|cluster| source(cluster)).collect());
        for cluster in &clusters {
            if let Some(source) = source(cluster)
                && !self.fetched.contains_key(&source)
            {
                self.start(member(cluster), source, readiness);
            }
        }
        self.remove_other_files();
        Ok(clusters)
    }

    /// What was fetched from `source` so far.
    fn kept(&self, source: &Source) -> KeyStore {
        self.fetched
            .get(source)
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
        let sources = self.fetched.keys();
        let wanted = sources
            .map(|(name, source)| files.of(name, &source.url))
            .collect();
        drop(spawn_detached(files.clone().keep_only(wanted)));
    }

    fn start(&mut self, member: Member, source: Source, readiness: Option<&Readiness>) {
        let tried =
            readiness.map(|readiness| readiness.gate(format!("signing keys of cluster {}", member.cluster)));
        let stop = self.spawner.shutdown().child();
        let fetched = Fetched {
            keys: member.keys.clone(),
            stop: stop.clone(),
        };
        let (name, url) = &source;
        let file = self.files.as_ref().map(|files| files.of(name, &url.url));
        let (ring, clock) = (Arc::clone(&self.ring), Arc::clone(&self.clock));
        let task = keep_fresh(member, url.clone(), file, ring, clock, tried, stop);
        self.spawner.spawn_until(&fetched.stop, "signing keys", task);
        self.fetched.insert(source, fetched);
    }
}

fn source(cluster: &Cluster) -> Option<Source> {
    match &cluster.config.keys {
        KeySource::Url(url) => Some((Arc::clone(&cluster.config.name), url.clone())),
        KeySource::Fixed(_keys) => None,
    }
}

fn member(cluster: &Cluster) -> Member {
    Member {
        cluster: Arc::clone(&cluster.config.name),
        keys: cluster.keys.clone(),
    }
}

#[cfg(test)]
mod tests {
    use runtime::{SystemClock, Tasks};

    use super::*;
    use crate::{authn::test_keys::Signer, config::Workloads};

    fn config(name: &str, keys: KeySource) -> ClusterConfig {
        ClusterConfig {
            name: name.into(),
            issuer: "https://issuer.example".into(),
            keys,
            caller_audiences: vec!["acrpull-broker".into()],
            subject_audiences: vec!["api://AzureCRTokenExchange".into()],
            syncers: vec!["system:serviceaccount:acrpull-system:acrpull-syncer".into()],
            operators: Vec::new(),
            workloads: Workloads::default(),
            default_tenant: None,
            tenant_ceiling: Vec::new(),
            registry_ceiling: Vec::new(),
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
        let first = keys
            .adopt(vec![config("a", silent("a")), config("b", silent("b"))], None)
            .unwrap();
        let of_b = keys.fetched.values().last().unwrap().stop.clone();
        // The rest of a's entry changes, b goes, c comes.
        let mut changed = config("a", silent("a"));
        changed.issuer = "https://other.example".into();
        let second = keys.adopt(vec![changed, config("c", silent("c"))], None).unwrap();
        assert!(second[0].keys.is_same(&first[0].keys));
        assert!(of_b.has_started(), "its task was told to end");
        assert_eq!(stops(&keys), [false, false]);
        // Another URL under the same name starts from nothing.
        let third = keys.adopt(vec![config("a", silent("elsewhere"))], None).unwrap();
        assert!(!third[0].keys.is_same(&first[0].keys));
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
        keys.adopt(vec![config("a", silent("a"))], Some(&readiness))
            .unwrap();
        assert_eq!(readiness.waiting_for(), ["signing keys of cluster a"]);
        keys.adopt(vec![config("b", silent("b"))], None).unwrap();
        // The cluster that is gone is waited for no longer.
        while !readiness.waiting_for().is_empty() {
            tokio::task::yield_now().await;
        }
        tasks.shutdown().start();
    }

    #[tokio::test]
    async fn a2_refused_clusters_change_nothing() {
        let tasks = Tasks::new(Shutdown::manual());
        let mut keys = ClusterKeys::new(tasks.spawner(), Arc::new(SystemClock));
        let signer = Signer::new("a");
        keys.adopt(vec![config("a", silent("a"))], None).unwrap();
        let fixed = || KeySource::Fixed(signer.jwks());
        let refused = keys.adopt(vec![config("b", fixed()), config("c", fixed())], None);
        assert!(refused.is_err());
        assert!(!keys.fetched.values().next().unwrap().stop.has_started());
        tasks.shutdown().start();
    }
}

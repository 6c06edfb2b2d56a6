//! A client that proves itself by a certificate, towards replicas that ask for one.

use std::{
    error::Error as _,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use client::{BrokerClient, ClientError, ClientOptions};
use proto::Reason;
use runtime::tasks::spawn_detached;
use tokio::time::{sleep, timeout};

use crate::{
    authority::Authority,
    replica::Replica,
    scene::{Scene, call, connected},
};

const PATIENCE: Duration = Duration::from_secs(15);
const SYNCER: &str = "weu-7.syncers.example";

async fn requiring(scene: &Scene, ca_pem: &str) -> Replica {
    let mut replica = scene.replica().await;
    replica.require_client_certificates(ca_pem);
    again(&mut replica).await;
    replica
}

async fn again(replica: &mut Replica) {
    replica.drain().await;
    replica.restart().await;
}

/// Calls one after the other until it is told to stop; how many were made, and how many of these failed.
struct Load {
    is_over: Arc<AtomicBool>,
    made: Arc<AtomicUsize>,
    calls: tokio::task::JoinHandle<usize>,
}

impl Load {
    fn start(client: &BrokerClient) -> Self {
        let (is_over, made) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (client, over, count) = (client.clone(), Arc::clone(&is_over), Arc::clone(&made));
        let calls = spawn_detached(async move {
            let mut failed = 0;
            while !over.load(Ordering::Relaxed) {
                failed += usize::from(call(&client, "load").await.is_err());
                count.fetch_add(1, Ordering::Relaxed);
            }
            failed
        });
        Self { is_over, made, calls }
    }

    /// Stops once there were enough calls to speak of a load, and yields how many of them failed.
    async fn failed(self) -> usize {
        let enough = async {
            while self.made.load(Ordering::Relaxed) <= 10 {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, enough).await.expect("there is no load");
        self.is_over.store(true, Ordering::Relaxed);
        self.calls.await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificate_of_the_authority_is_accepted_and_none_or_another_is_not() {
    let scene = Scene::new();
    let clients = Authority::new();
    let replica = requiring(&scene, &clients.pem()).await;
    scene.write_own(&Authority::new().issue_pem(SYNCER));
    for refused in [
        scene.client(&[replica.address]),
        scene.certified_client(&[replica.address]),
    ] {
        let error = call(&refused, "refused").await.unwrap_err();
        assert_eq!(error.reason, Reason::BrokerUnreachable);
    }
    assert!(scene.log.events().is_empty(), "a token was read from a stranger");

    scene.write_own(&clients.issue_pem(SYNCER));
    let client = scene.certified_client(&[replica.address]);
    assert_eq!(call(&client, "accepted").await.unwrap(), replica.address);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r1_certificates_and_authorities_that_are_replaced_under_load_fail_no_request() {
    let scene = Scene::new();
    let (old, new) = (Authority::new(), Authority::new());
    let both = old.pem() + &new.pem();
    let mut replicas = [requiring(&scene, &both).await, requiring(&scene, &both).await];
    scene.write_own(&old.issue_pem(SYNCER));
    let client = scene.certified_client(&[replicas[0].address, replicas[1].address]);
    connected(&client, 2, PATIENCE).await;
    let load = Load::start(&client);

    // A new certificate beside the old key is not taken: the pair of before stays.
    let next = new.issue_pem(SYNCER);
    std::fs::write(&scene.own.cert_file, &next.0).unwrap();
    again(&mut replicas[0]).await;
    connected(&client, 2, PATIENCE).await;

    std::fs::write(&scene.own.key_file, &next.1).unwrap();
    for replica in &mut replicas {
        replica.require_client_certificates(&new.pem());
        again(replica).await;
        connected(&client, 2, PATIENCE).await;
    }
    assert_eq!(load.failed().await, 0);
    // The replicas trust the new authority alone, so it is the new certificate that the calls go by.
    assert!(call(&client, "new").await.is_ok());
}

#[tokio::test]
async fn certificate_that_cannot_be_used_is_refused_by_the_name_of_its_file() {
    let scene = Scene::new();
    let refused = || {
        let options = ClientOptions {
            client_certificate: Some(scene.own.clone()),
            ..scene.options()
        };
        let error = BrokerClient::new(&options).map(|_client| ()).unwrap_err();
        assert!(matches!(error, ClientError::Certificate(_)), "{error}");
        error.source().unwrap().to_string()
    };
    let (cert_file, key_file) = (scene.own.cert_file.to_str(), scene.own.key_file.to_str());
    assert!(refused().contains(cert_file.unwrap()), "missing");
    let authority = Authority::new();
    let (certificate, key) = authority.issue_pem(SYNCER);
    scene.write_own(&(certificate.clone(), "no key".to_owned()));
    assert!(refused().contains(key_file.unwrap()), "no key");
    scene.write_own(&("no certificate".to_owned(), key));
    assert!(refused().contains(cert_file.unwrap()), "no certificate");
    scene.write_own(&(certificate, authority.issue_pem(SYNCER).1));
    assert!(refused().contains(cert_file.unwrap()), "another key");
}

//! A steady stream of calls, whatever becomes of each of them.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use client::{BrokerClient, BrokerError};
use tokio::task::{JoinHandle, JoinSet};

use crate::scene::call;

/// Calls until it is stopped. They are named by their number.
pub(crate) struct Load {
    is_over: Arc<AtomicBool>,
    calls: JoinHandle<Vec<Result<SocketAddr, BrokerError>>>,
}

impl Load {
    #[expect(clippy::disallowed_methods, reason = "a test waits for its own tasks")]
    pub(crate) fn start(client: &BrokerClient, per_second: u32) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let (client, stop) = (client.clone(), Arc::clone(&is_over));
        let calls = tokio::spawn(async move {
            let mut calls = JoinSet::new();
            let mut ticks = tokio::time::interval(Duration::from_secs(1) / per_second);
            for number in 0.. {
                ticks.tick().await;
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let client = client.clone();
                calls.spawn(async move { call(&client, format!("{number}")).await });
            }
            calls.join_all().await
        });
        Self { is_over, calls }
    }

    /// Stops, waits for the answers, and yields the address that each call was answered from. All must have succeeded.
    pub(crate) async fn all_answered(self) -> Vec<SocketAddr> {
        self.is_over.store(true, Ordering::Relaxed);
        let results = self.calls.await.unwrap();
        let count = results.len();
        let failed: Vec<_> = results
            .iter()
            .filter_map(|result| result.as_ref().err())
            .collect();
        assert!(
            failed.is_empty(),
            "{} of {count} calls failed, the first with {:?}",
            failed.len(),
            failed.first()
        );
        results.into_iter().map(Result::unwrap).collect()
    }
}

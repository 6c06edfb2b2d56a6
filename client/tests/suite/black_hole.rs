//! A replica whose packets vanish: what SIGSTOP, a dead node or a dropping firewall look like (guarantee R2).
//!
//! The network is a proxy in user space that stops forwarding: that needs no privileges.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
};

use crate::{
    load::Load,
    scene::{Scene, connected},
};

const PATIENCE: Duration = Duration::from_secs(15);
/// Silence of 10 s and 3 s of patience, and time for a busy machine.
const DETECTED: Duration = Duration::from_secs(18);

/// The way to a replica.
struct Road {
    address: SocketAddr,
    is_open: watch::Sender<bool>,
    _traffic: JoinSet<()>,
}

impl Road {
    async fn to(replica: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (is_open, open) = watch::channel(true);
        let mut traffic = JoinSet::new();
        traffic.spawn(async move {
            let mut pumps = JoinSet::new();
            loop {
                // A kernel accepts connections even where the process behind them sleeps.
                let (near, _peer) = listener.accept().await.unwrap();
                let far = TcpStream::connect(replica).await.unwrap();
                near.set_nodelay(true).unwrap();
                far.set_nodelay(true).unwrap();
                let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                pumps.spawn(pump(near_in, far_out, open.clone()));
                pumps.spawn(pump(far_in, near_out, open.clone()));
            }
        });
        Self {
            address,
            is_open,
            _traffic: traffic,
        }
    }
}

/// Forwards while the road is open, holds everything back while it is not.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut open: watch::Receiver<bool>) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if open.wait_for(|is_open| *is_open).await.is_err() || to.write_all(&buffer[..length]).await.is_err()
        {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r2_replica_whose_packets_vanish_fails_no_call_and_is_given_up() {
    let scene = Scene::new();
    let (well, lost) = (scene.replica().await, scene.replica().await);
    let road = Road::to(lost.address).await;
    let client = scene.client(&[well.address, road.address]);
    connected(&client, 2, PATIENCE).await;

    let load = Load::start(&client, 100);
    tokio::time::sleep(Duration::from_millis(300)).await;
    road.is_open.send_replace(false);
    connected(&client, 1, DETECTED).await;
    let answered = load.all_answered().await;
    assert!(answered.contains(&lost.address) && answered.contains(&well.address));

    let after = Load::start(&client, 100);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let answered = after.all_answered().await;
    assert!(answered.iter().all(|replica| *replica == well.address));

    road.is_open.send_replace(true);
    connected(&client, 2, PATIENCE).await;
}

//! Free loopback ports. They are free when they are looked up; whoever uses them retries if they no longer are.

use std::{
    net::{Ipv4Addr, TcpListener},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::Context as _;

/// Below those from which the kernel takes a port for whoever connects somewhere (32768 to 60999, ip(7)): a test opens
/// thousands of connections, and one of them would have the port before the process that it was looked up for.
const FIRST: u32 = 20_000;
const COUNT_OF_ALL: u32 = 12_000;
/// Test programs that run at the same time start looking at places of their own.
const APART: u32 = 997;

/// How many ports this process has looked at: the next is another one, so that none is given out twice in a while.
static LOOKED_AT: AtomicU32 = AtomicU32::new(0);

/// What a process says when another was faster.
const IN_USE: &str = "address already in use";

/// The ports of one control plane.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ports {
    etcd: u16,
    etcd_peer: u16,
    pub(super) api_server: u16,
}

impl Ports {
    pub(super) fn free() -> anyhow::Result<Self> {
        let [etcd, etcd_peer, api_server] = free_ports()?;
        Ok(Self {
            etcd,
            etcd_peer,
            api_server,
        })
    }

    pub(super) fn etcd_url(self) -> String {
        format!("http://127.0.0.1:{}", self.etcd)
    }

    pub(super) fn etcd_peer_url(self) -> String {
        format!("http://127.0.0.1:{}", self.etcd_peer)
    }

    pub(super) fn api_server_url(self) -> String {
        format!("https://127.0.0.1:{}", self.api_server)
    }
}

/// Ports of 127.0.0.1 that nobody listens on, each another one.
///
/// # Errors
/// No port is free.
pub fn free_ports<const COUNT: usize>() -> anyhow::Result<[u16; COUNT]> {
    let mut ports = [0; COUNT];
    let mut found = 0;
    for _attempt in 0..COUNT_OF_ALL {
        let Some(place) = ports.get_mut(found) else { break };
        let number = LOOKED_AT.fetch_add(1, Ordering::Relaxed);
        let offset = process::id().wrapping_mul(APART).wrapping_add(number) % COUNT_OF_ALL;
        let port = u16::try_from(FIRST + offset).context("a port has 16 bits")?;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            *place = port;
            found += 1;
        }
    }
    anyhow::ensure!(found == COUNT, "no loopback port is free");
    Ok(ports)
}

/// Whether a process failed because its port was taken in the meantime.
pub(crate) fn is_port_taken(log: &str) -> bool {
    log.contains(IN_USE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_are_distinct_and_can_be_bound() {
        let ports: [u16; 8] = free_ports().unwrap();
        let listeners = ports.map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap());
        assert_eq!(listeners.len(), ports.len());
    }
}

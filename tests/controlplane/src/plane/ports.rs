//! Free loopback ports. They are free when they are looked up; whoever uses them retries if they no longer are.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::Context as _;

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
    let mut listeners = Vec::with_capacity(COUNT);
    let mut ports = [0; COUNT];
    for port in &mut ports {
        // All are held until all are known, or the same port would come twice.
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no loopback port is free")?;
        *port = listener.local_addr().context("failed to read a port")?.port();
        listeners.push(listener);
    }
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

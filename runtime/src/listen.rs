//! Binds a listener, or says which address and what to do. Every listener is bound before anything is served.

use std::{
    io::ErrorKind,
    net::{SocketAddr, TcpListener},
};

use crate::Failure;

/// Connections that the kernel completes ahead of `accept`; it may allow fewer. The standard library asks for 128, and a
/// connection that finds the queue full waits a second for its next attempt: too long when all syncers come at once.
const BACKLOG: i32 = 4096;

/// Binds `address`; `flag` is the command line flag that set it and is named in the failure.
///
/// # Errors
/// The address is in use, not of this machine, or not permitted.
pub fn bind(flag: &str, address: SocketAddr) -> Result<TcpListener, Failure> {
    let failed = |error: std::io::Error| {
        let failure = Failure::runtime(format!("cannot listen on {address} ({flag})"));
        let remedy = if error.kind() == ErrorKind::AddrInUse {
            format!("another process has the port: stop it or choose another with {flag}")
        } else if error.kind() == ErrorKind::PermissionDenied {
            format!("choose a port above 1023 with {flag}")
        } else {
            format!("choose an address of this machine with {flag}")
        };
        failure.remedy(remedy).source(error)
    };
    let listener = TcpListener::bind(address).map_err(failed)?;
    rustix::net::listen(&listener, BACKLOG).map_err(|error| failed(error.into()))?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bind_port_in_use_names_the_flag() {
        let first = bind("--listen-address", ([127, 0, 0, 1], 0).into()).unwrap();
        let failure = bind("--listen-address", first.local_addr().unwrap())
            .unwrap_err()
            .to_string();
        assert!(
            failure.contains("--listen-address") && failure.contains("another process has the port"),
            "{failure}"
        );
    }
}

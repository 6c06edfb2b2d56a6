//! Which addresses the name of a registry may mean. Pure.
//!
//! Whoever writes the DNS of a registry's name must not be able to point the broker at its own machine, at its link, or at
//! a metadata service. Private addresses are fine: they are what private endpoints have.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Metadata services and host endpoints outside the link-local network, of any cloud that the broker may run in:
/// Azure's wire server, which answers the machine's agent, and Alibaba's.
const METADATA_V4: [Ipv4Addr; 2] = [Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(100, 100, 100, 200)];
/// The same in IPv6, where they have unique local addresses: of AWS, Google Cloud and Oracle Cloud.
const METADATA_V6: [Ipv6Addr; 3] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe),
];

/// Whether no token may go there.
pub(super) fn is_forbidden(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_forbidden_v4(v4),
        IpAddr::V6(v6) => {
            v6.is_loopback()
                || v6.is_unicast_link_local()
                || v6.is_unspecified()
                || v6.is_multicast()
                || METADATA_V6.contains(&v6)
                || embedded(v6).any(is_forbidden_v4)
        }
    }
}

fn is_forbidden_v4(v4: Ipv4Addr) -> bool {
    /// "This host on this network" (RFC 791 section 3.2): some stacks take all of it for the machine itself.
    const THIS_NETWORK: u8 = 0;
    v4.is_loopback()
        || v4.is_link_local()
        || v4.octets().first() == Some(&THIS_NETWORK)
        || v4.is_multicast()
        || v4.is_broadcast()
        || METADATA_V4.contains(&v4)
}

/// The IPv4 addresses that a gateway or the stack may make of an IPv6 address.
fn embedded(v6: Ipv6Addr) -> impl Iterator<Item = Ipv4Addr> {
    let join = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    let candidates = match v6.segments() {
        // Mapped (RFC 4291 section 2.5.5.2); compatible, which is deprecated and still understood (2.5.5.1); NAT64
        // (RFC 6052 section 2.1).
        [0, 0, 0, 0, 0, 0xffff | 0, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            [Some(join(high, low)), None]
        }
        // NAT64 of the network's own (RFC 8215): the address is at the end, or around octet 8 (RFC 6052 section 2.2).
        [0x64, 0xff9b, 1, .., high, low] => {
            let [_, _, _, _, _, _, first, second, _, third, fourth, ..] = v6.octets();
            [
                Some(join(high, low)),
                Some(Ipv4Addr::new(first, second, third, fourth)),
            ]
        }
        // 6to4 (RFC 3056 section 2).
        [0x2002, high, low, ..] => [Some(join(high, low)), None],
        // Teredo (RFC 4380 section 4): the server, and the client with its bits inverted.
        [0x2001, 0, server_high, server_low, .., high, low] => {
            [Some(join(server_high, server_low)), Some(join(!high, !low))]
        }
        _ => [None, None],
    };
    candidates.into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e1_addresses_of_the_machine_its_link_and_metadata_are_forbidden() {
        for address in [
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "169.254.0.1",
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "239.255.255.255",
            "255.255.255.255",
            "168.63.129.16",
            "100.100.100.200",
            "::",
            "::1",
            "fe80::1",
            "febf::1",
            "ff02::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "fd00:c1::a9fe:a9fe",
        ] {
            assert!(is_forbidden(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn e1_forbidden_address_inside_of_another_is_forbidden() {
        for address in [
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::169.254.169.254",
            "64:ff9b::7f00:1",
            "64:ff9b:1::127.0.0.1",
            // 169.254.169.254 around octet 8.
            "64:ff9b:1:a9fe:a9:fe00::",
            "2002:7f00:1::1",
            "2002:a9fe:a9fe::",
            // The client 127.0.0.1, inverted; then the server.
            "2001:0:1401:203:0:0:80ff:fffe",
            "2001:0:7f00:1::",
        ] {
            assert!(is_forbidden(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn e1_private_and_public_addresses_are_allowed() {
        for address in [
            "10.1.2.3",
            "172.16.0.1",
            "192.168.0.4",
            "100.64.0.1",
            "20.1.2.3",
            "fd00::1",
            "fd00:ec2::253",
            "2603:1030::1",
            "2001:db8::1",
            "::ffff:10.1.2.3",
            "64:ff9b::20.1.2.3",
            "64:ff9b::10.1.2.3",
            "64:ff9b:1:1401:2:300:a01:203",
            "2002:1401:203::1",
            "2001:0:1401:203:0:0:f5fe:fdfc",
        ] {
            assert!(!is_forbidden(address.parse().unwrap()), "{address}");
        }
    }
}

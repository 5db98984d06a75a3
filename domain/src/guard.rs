//! The address guard: which addresses a tenant's channel may make a worker connect to.
//!
//! A channel names a host, and whoever names the host's DNS records names the address; so an address is judged where it
//! is used: what a name resolves to is filtered here and only what is left is handed to the socket, and a literal
//! address in a URL, or in the URL of a redirect, is judged before it is used. A second answer of DNS never gets past.
//!
//! Never: a flag, a setting or a field of a channel that lets loopback or link-local addresses through.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What may be connected to.
#[derive(Debug, Clone, Copy)]
pub struct Guard {
    deny_private: bool,
    allow_loopback: bool,
}

/// An address, or all addresses of a name, that may not be connected to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("address {address} is not allowed: {class}")]
pub struct Denied {
    /// The first denied address.
    pub address: IpAddr,
    /// Why: `loopback`, `link-local`, ...
    pub class: &'static str,
}

/// Addresses behind which clouds keep credentials and that are not link-local.
const METADATA: [IpAddr; 3] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
];

impl Guard {
    /// Denies loopback, link-local, unspecified, multicast, broadcast, reserved and cloud metadata addresses; with
    /// `deny_private` also those of private networks (RFC 1918, RFC 6598, RFC 4193).
    pub const fn new(deny_private: bool) -> Self {
        Self { deny_private, allow_loopback: false }
    }

    /// The same, but a test's receiver on this machine can be reached. No binary calls this.
    #[doc(hidden)]
    pub const fn allowing_loopback_in_tests(deny_private: bool) -> Self {
        Self { deny_private, allow_loopback: true }
    }

    /// Whether `address` may be connected to.
    pub fn check(self, address: IpAddr) -> Result<(), Denied> {
        match class(address) {
            Some(("loopback", _)) if self.allow_loopback => Ok(()),
            Some((class, always)) if always || self.deny_private => Err(Denied { address, class }),
            _ => Ok(()),
        }
    }

    /// Whether the host of a URL, where it is an address and not a name, may be connected to. A name is judged when
    /// it is resolved, for who owns it may change what it means.
    pub fn check_host(self, host: &str) -> Result<(), Denied> {
        let literal = host.trim_start_matches('[').trim_end_matches(']');
        literal.parse().map_or(Ok(()), |address| self.check(address))
    }
}

/// The class of an address that is not simply public, and whether it is denied whatever the settings.
fn class(address: IpAddr) -> Option<(&'static str, bool)> {
    if METADATA.contains(&address) {
        return Some(("cloud metadata", true));
    }
    match address {
        IpAddr::V4(v4) => class_v4(v4),
        IpAddr::V6(v6) => class_v6(v6),
    }
}

fn class_v4(address: Ipv4Addr) -> Option<(&'static str, bool)> {
    let [a, b, ..] = address.octets();
    match (a, b) {
        (0, _) => Some(("unspecified", true)),
        (127, _) => Some(("loopback", true)),
        (169, 254) => Some(("link-local, where clouds keep their metadata", true)),
        (224..=239, _) => Some(("multicast", true)),
        (240..=255, _) => Some((if address.is_broadcast() { "broadcast" } else { "reserved" }, true)),
        (10, _) | (172, 16..=31) | (192, 168) => Some(("private network", false)),
        (100, 64..=127) => Some(("shared address space", false)),
        _ => None,
    }
}

fn class_v6(address: Ipv6Addr) -> Option<(&'static str, bool)> {
    if address.is_unspecified() {
        return Some(("unspecified", true));
    }
    if address.is_loopback() {
        return Some(("loopback", true));
    }
    // An IPv4 address in another coat leads to the same host.
    if let Some(inner) = embedded(address) {
        return class(IpAddr::V4(inner));
    }
    match address.segments()[0] {
        0xfe80..=0xfebf => Some(("link-local", true)),
        0xff00..=0xffff => Some(("multicast", true)),
        0xfec0..=0xfeff | 0xfc00..=0xfdff => Some(("private network", false)),
        _ => None,
    }
}

/// IPv4-mapped and -compatible (RFC 4291), NAT64 (RFC 6052, RFC 8215) and 6to4 (RFC 3056) addresses.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let segments = address.segments();
    match segments {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x64, 0xff9b, 1, _, _, _, high, low]
        | [0x2002, high, low, ..] => Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_never_a_receiver_is_denied_in_every_form() {
        for (address, class) in [
            ("127.0.0.1", "loopback"),
            ("127.255.0.9", "loopback"),
            ("::1", "loopback"),
            ("::ffff:127.0.0.1", "loopback"),
            ("::7f00:1", "loopback"),
            ("64:ff9b::7f00:1", "loopback"),
            ("2002:7f00:1::", "loopback"),
            ("169.254.169.254", "link-local, where clouds keep their metadata"),
            ("::ffff:169.254.169.254", "link-local, where clouds keep their metadata"),
            ("fe80::1", "link-local"),
            ("fd00:ec2::254", "cloud metadata"),
            ("100.100.100.200", "cloud metadata"),
            ("0.0.0.0", "unspecified"),
            ("0.1.2.3", "unspecified"),
            ("::", "unspecified"),
            ("224.0.0.1", "multicast"),
            ("ff02::1", "multicast"),
            ("255.255.255.255", "broadcast"),
            ("240.0.0.1", "reserved"),
        ] {
            let denied = Guard::new(false).check(address.parse().unwrap()).unwrap_err();
            assert_eq!(denied.class, class, "{address}");
            assert!(denied.to_string().starts_with(&format!("address {} is not allowed", denied.address)));
        }
    }

    #[test]
    fn private_networks_are_a_setting() {
        for address in [
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "fc00::1",
            "fd12::1",
            "::ffff:10.0.0.1",
        ] {
            let address = address.parse().unwrap();
            assert_eq!(Guard::new(false).check(address), Ok(()));
            assert!(Guard::new(true).check(address).is_err(), "{address}");
        }
        for address in ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "192.169.0.1"] {
            assert_eq!(Guard::new(true).check(address.parse().unwrap()), Ok(()), "{address}");
        }
    }

    #[test]
    fn a_literal_address_of_a_url_is_judged_and_a_name_is_left_to_the_lookup() {
        let guard = Guard::new(false);
        assert!(guard.check_host("[::1]").is_err());
        assert!(guard.check_host("127.0.0.1").is_err());
        assert_eq!(guard.check_host("localhost"), Ok(()));
    }
}

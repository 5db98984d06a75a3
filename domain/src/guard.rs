//! The address guard: which addresses a tenant's object may make a worker connect to.
//!
//! A channel or source names a host, and whoever owns the host's DNS records chooses its address. So each address is checked
//! where it is used: resolved addresses are filtered before a socket gets them; a literal address in a URL or in the URL of a
//! redirect is checked before the request; each connection of librdkafka is checked by the address that it connects to. A
//! second, different answer of DNS therefore doesn't help an attacker.
//!
//! One table ([`table`]) classifies all addresses. The administrator's ranges take precedence over it; among them, the longest
//! prefix wins. Addresses that hand out credentials are allowed only by a range that equals their row. An IPv4 address inside
//! an IPv6 address is checked too.
//!
//! No field of a tenant's object can allow an address.

mod literal;
mod range;
mod table;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use range::{AddressRange, AddressRangeError};
use table::AddressKind;

/// Decides which addresses may be connected to. Each process makes one from its settings.
#[derive(Debug, Clone, Copy)]
pub struct Guard {
    deny_private: bool,
    denied: &'static [AddressRange],
    allowed: &'static [AddressRange],
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

impl Guard {
    /// Denies the addresses that the table classifies as metadata or special; with `deny_private` also private networks
    /// (RFC 1918, RFC 6598, RFC 4193).
    pub const fn new(deny_private: bool) -> Self {
        Self { deny_private, denied: &[], allowed: &[], allow_loopback: false }
    }

    /// Adds the administrator's ranges. They stay in memory as long as the process, so call this once.
    #[must_use]
    pub fn with_ranges(self, denied: Vec<AddressRange>, allowed: Vec<AddressRange>) -> Self {
        Self { denied: Vec::leak(denied), allowed: Vec::leak(allowed), ..self }
    }

    /// Like [`Guard::new`], but allows loopback, so that tests reach a receiver on this machine. No binary calls this.
    #[doc(hidden)]
    pub const fn allowing_loopback_in_tests(deny_private: bool) -> Self {
        Self { allow_loopback: true, ..Self::new(deny_private) }
    }

    /// Whether `address` may be connected to.
    pub fn check(self, address: IpAddr) -> Result<(), Denied> {
        // An IPv4-mapped address (RFC 4291, section 2.5.5.2) is an IPv4 address by another name.
        let canonical = address.to_canonical();
        let class = embedded(canonical)
            .into_iter()
            .find_map(|inner| self.denies(IpAddr::V4(inner)))
            .or_else(|| self.denies(canonical));
        class.map_or(Ok(()), |class| Err(Denied { address, class }))
    }

    /// Checks the host of a URL if it is an address. A name passes here: it is checked when it is resolved, since its owner may
    /// change what it resolves to.
    pub fn check_host(self, host: &str) -> Result<(), Denied> {
        literal::literal(host).map_or(Ok(()), |address| self.check(address))
    }

    /// Describes in words what is allowed.
    pub fn allowed(self) -> String {
        let private = if self.deny_private { "" } else { " and private" };
        let mut all = vec![format!("public{private} addresses, and names that lead to them")];
        all.extend(self.allowed.iter().map(AddressRange::to_string));
        all.join(", ")
    }

    /// Why the address is denied, or `None` if it is not. Doesn't look at an address inside it.
    fn denies(self, address: IpAddr) -> Option<&'static str> {
        let row = table::row(address);
        let longest = |ranges: &[AddressRange]| {
            ranges.iter().filter(|range| range.contains(address)).map(AddressRange::length).max()
        };
        let class = row.map_or("reserved", |row| row.class);
        let kind = row.map_or(AddressKind::Special, |row| row.kind);
        if kind == AddressKind::Metadata && !row.is_some_and(|row| self.allowed.contains(&row.range)) {
            return Some(class);
        }
        match (longest(self.denied), longest(self.allowed)) {
            (Some(denied), allowed) if allowed.is_none_or(|allowed| denied >= allowed) => {
                Some("refused by this cluster's administrator")
            }
            (_, Some(_)) => None,
            _ if class == "loopback" && self.allow_loopback => None,
            _ => (kind == AddressKind::Special || (kind == AddressKind::Private && self.deny_private))
                .then_some(class),
        }
    }
}

/// The IPv4 addresses that an IPv6 address may lead to.
fn embedded(address: IpAddr) -> Vec<Ipv4Addr> {
    let IpAddr::V6(v6) = address else { return Vec::new() };
    let join = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match v6.segments() {
        // `::` and `::1` contain no IPv4 address.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => Vec::new(),
        // IPv4-compatible and SIIT, NAT64's well-known prefix, 6to4 (the router).
        [0, 0, 0, 0, 0 | 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => vec![join(high, low)],
        [0x64, 0xff9b, 1, ..] => nat64(v6),
        // Teredo (RFC 4380, section 4): the server, and the client with its bits turned.
        [0x2001, 0, high, low, .., last, end] => vec![join(high, low), join(!last, !end)],
        _ => Vec::new(),
    }
}

/// The IPv4 addresses that an address of a local NAT64 prefix may mean. The prefix may have 48, 56, 64 or 96 bits, and each
/// length puts the IPv4 address elsewhere (RFC 6052, section 2.2; byte 8 is never part of it). Only the network knows the
/// length, so all four are read; readings that begin with 0 are not real addresses and are dropped.
fn nat64(address: Ipv6Addr) -> Vec<Ipv4Addr> {
    let at = address.octets();
    let mut readings = vec![
        [at[6], at[7], at[9], at[10]],
        [at[7], at[9], at[10], at[11]],
        [at[9], at[10], at[11], at[12]],
        [at[12], at[13], at[14], at[15]],
    ];
    readings.retain(|reading| reading[0] != 0);
    readings.into_iter().map(Ipv4Addr::from).collect()
}

#[cfg(test)]
mod tests;

//! The address guard: which addresses a tenant's object may make a worker connect to.
//!
//! A channel or source names a host, and whoever names the host's DNS records names the address; so an address is judged
//! where it is used: what a name resolves to is filtered before it is handed to the socket, a literal address in a URL, or
//! in the URL of a redirect, is judged before it is used, and librdkafka's connections are judged by the very address that
//! each is made to. A second answer of DNS never gets past.
//!
//! What is what stands in one table ([`table`]). What the administrator says of ranges counts more, the longest prefix
//! most; but where credentials lie is opened only by a range of exactly that row. An IPv4 address inside of an IPv6
//! address is judged as well.
//!
//! Never: a field of a tenant's object that lets an address through.

mod literal;
mod range;
mod table;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use range::{Range, RangeError};
use table::Kind;

/// What may be connected to. One for a process, made of its settings.
#[derive(Debug, Clone, Copy)]
pub struct Guard {
    deny_private: bool,
    denied: &'static [Range],
    allowed: &'static [Range],
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
    /// Denies what the table calls metadata or special; with `deny_private` also private networks (RFC 1918, RFC 6598,
    /// RFC 4193).
    pub const fn new(deny_private: bool) -> Self {
        Self { deny_private, denied: &[], allowed: &[], allow_loopback: false }
    }

    /// The same with the administrator's ranges. They are kept for the life of the process: call it once.
    #[must_use]
    pub fn with_ranges(self, denied: Vec<Range>, allowed: Vec<Range>) -> Self {
        Self { denied: Vec::leak(denied), allowed: Vec::leak(allowed), ..self }
    }

    /// The same, but a test's receiver on this machine can be reached. No binary calls this.
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

    /// Whether the host of a URL, where it is an address and not a name, may be connected to. A name is judged when
    /// it is resolved, for who owns it may change what it means.
    pub fn check_host(self, host: &str) -> Result<(), Denied> {
        literal::literal(host).map_or(Ok(()), |address| self.check(address))
    }

    /// What is allowed, for people.
    pub fn allowed(self) -> String {
        let private = if self.deny_private { "" } else { " and private" };
        let mut all = vec![format!("public{private} addresses, and names that lead to them")];
        all.extend(self.allowed.iter().map(Range::to_string));
        all.join(", ")
    }

    /// Why not, if not; nothing of what may be inside of the address.
    fn denies(self, address: IpAddr) -> Option<&'static str> {
        let row = table::row(address);
        let longest =
            |ranges: &[Range]| ranges.iter().filter(|range| range.contains(address)).map(Range::length).max();
        let class = row.map_or("reserved", |row| row.class);
        let kind = row.map_or(Kind::Special, |row| row.kind);
        if kind == Kind::Metadata && !row.is_some_and(|row| self.allowed.contains(&row.range)) {
            return Some(class);
        }
        match (longest(self.denied), longest(self.allowed)) {
            (Some(denied), allowed) if allowed.is_none_or(|allowed| denied >= allowed) => {
                Some("refused by this cluster's administrator")
            }
            (_, Some(_)) => None,
            _ if class == "loopback" && self.allow_loopback => None,
            _ => (kind == Kind::Special || (kind == Kind::Private && self.deny_private)).then_some(class),
        }
    }
}

/// The IPv4 addresses that an IPv6 address may lead to.
fn embedded(address: IpAddr) -> Vec<Ipv4Addr> {
    let IpAddr::V6(v6) = address else { return Vec::new() };
    let join = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match v6.segments() {
        // Both are themselves.
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

/// A local NAT64 prefix may have 48, 56, 64 or 96 bits, each with the IPv4 address elsewhere (RFC 6052, section 2.2, whose
/// byte 8 is none of it), and only the network knows which. Where another one holds, what is read is 0.something at most.
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

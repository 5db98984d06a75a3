//! Parses a host that is an address, in any notation.
//!
//! Resolvers (POSIX `inet_aton`) and URL parsers (WHATWG) accept more than the usual notation: `2130706433`, `0x7f.1`,
//! `0177.0.0.1` and `127.1` all mean 127.0.0.1.

use std::net::{IpAddr, Ipv4Addr};

/// Parses `host` as an address, with or without brackets, a zone, or a trailing dot; `None` if it is a name.
pub(super) fn literal(host: &str) -> Option<IpAddr> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    // A zone names the interface, not the destination (RFC 4007).
    let host = host.split('%').next().unwrap_or_default();
    host.parse().ok().or_else(|| dotted_numbers(host).map(IpAddr::V4))
}

/// Parses one to four numbers with dots between them; the last number fills the bytes that the others leave.
fn dotted_numbers(host: &str) -> Option<Ipv4Addr> {
    let mut address: u64 = 0;
    let parts: Vec<&str> = host.split('.').collect();
    let (last, first) = parts.split_last().filter(|(_, first)| first.len() < 4)?;
    for part in first {
        address = address << 8 | number(part).filter(|number| *number < 256)?;
    }
    let left = 8 * (4 - first.len() as u32);
    let last = number(last).filter(|number| *number < 1 << left)?;
    u32::try_from(address << left | last).ok().map(Ipv4Addr::from_bits)
}

fn number(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let (digits, radix) = match lower.strip_prefix("0x") {
        Some("") => return Some(0),
        Some(digits) => (digits, 16),
        None if lower.len() > 1 && lower.starts_with('0') => (lower.as_str(), 8),
        None => (lower.as_str(), 10),
    };
    // `from_str_radix` would accept a sign.
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_alphanumeric());
    plain.then(|| u64::from_str_radix(digits, radix).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_an_address_is_the_address() {
        for (address, spellings) in [
            (
                "127.0.0.1",
                &[
                    "127.0.0.1",
                    "127.0.0.1.",
                    "127.1",
                    "127.0.1",
                    "2130706433",
                    "0x7f000001",
                    "0X7F.0.0.0X1",
                    "017700000001",
                    "0177.0.0.01",
                    "0x7f.1",
                ][..],
            ),
            ("::1", &["::1", "[::1]", "0:0:0:0:0:0:0:1", "[::1].", "::1%eth0"][..]),
            ("fe80::1", &["FE80::1", "fe80::1%25eth0", "[fe80::1%1]"][..]),
            ("0.0.0.0", &["0", "0x", "0.0"][..]),
        ] {
            for spelling in spellings {
                assert_eq!(literal(spelling), Some(address.parse().unwrap()), "{spelling}");
            }
        }
    }

    #[test]
    fn a_name_is_no_address() {
        for name in [
            "",
            ".",
            "example.com",
            "127.0.0.1.example.com",
            "1.2.3.4.5",
            "4294967296",
            "256.1",
            "08",
            "+1",
            "a.1",
        ] {
            assert_eq!(literal(name), None, "{name}");
        }
    }
}

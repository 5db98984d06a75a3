//! Classifies all addresses, in the only table that does. Each row names its source. As in a routing table, the row with the
//! longest matching prefix counts.
//!
//! Sources: the IANA IPv4 and IPv6 special-purpose address registries (RFC 6890, RFC 8190) with the RFC of each entry; the
//! IANA IPv6 address space; the clouds' own documentation. AS112 (RFC 7534, RFC 7535) and AMT's relays (RFC 7450) have no
//! rows, because they are ordinary hosts of the internet.

use std::net::IpAddr;
use std::sync::LazyLock;

use super::AddressRange;

/// The class of a row's addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AddressKind {
    /// Hands out credentials to whoever connects. Denied unless the administrator allows exactly this range.
    Metadata,
    /// Never a receiver. Denied unless the administrator allows a range that contains it.
    Special,
    /// A private network. A setting decides.
    Private,
    /// Anything else. Allowed.
    Public,
}
use AddressKind::{Metadata, Private, Public, Special};

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) range: AddressRange,
    pub(super) class: &'static str,
    pub(super) kind: AddressKind,
}

const LINK_LOCAL: &str = "link-local, where clouds keep their metadata";

#[rustfmt::skip]
const ROWS: &[(&str, AddressKind, &str)] = &[
    // Clouds' metadata and credentials.
    ("169.254.169.254/32", Metadata, LINK_LOCAL),               // AWS, Azure, GCP, OCI, OpenStack, DigitalOcean ...
    ("169.254.170.2/32", Metadata, LINK_LOCAL),                 // AWS ECS: task credentials
    ("169.254.170.23/32", Metadata, LINK_LOCAL),                // AWS EKS: Pod Identity Agent
    ("169.254.42.42/32", Metadata, LINK_LOCAL),                 // Scaleway
    ("169.254.0.23/32", Metadata, LINK_LOCAL),                  // Tencent Cloud
    ("fe80::a9fe:a9fe/128", Metadata, "link-local"),            // OpenStack, over IPv6
    ("192.0.0.192/32", Metadata, "cloud metadata"),             // Oracle Cloud at Customer (and Classic)
    ("100.100.100.200/32", Metadata, "cloud metadata"),         // Alibaba Cloud
    ("168.63.129.16/32", Metadata, "cloud metadata"),           // Azure: WireServer and host agent
    ("fd00:ec2::254/128", Metadata, "cloud metadata"),          // AWS EC2, over IPv6
    ("fd00:ec2::23/128", Metadata, "cloud metadata"),           // AWS EKS: Pod Identity Agent, over IPv6
    ("fd00:ec2::/32", Metadata, "cloud metadata"),              // AWS: its local services over IPv6
    ("fd20:ce::254/128", Metadata, "cloud metadata"),           // GCP, over IPv6
    ("fd00:c1::a9fe:a9fe/128", Metadata, "cloud metadata"),     // OCI, over IPv6
    ("fd00:42::42/128", Metadata, "cloud metadata"),            // Scaleway, over IPv6
    ("fd00:a9fe:a9fe::1/128", Metadata, "cloud metadata"),      // Akamai (Linode), over IPv6
    ("fd00:100::100:200/128", Metadata, "cloud metadata"),      // Alibaba Cloud, over IPv6

    // IPv4.
    ("0.0.0.0/0", Public, "public"),
    ("0.0.0.0/8", Special, "unspecified"),                      // RFC 791, section 3.2: this network
    ("10.0.0.0/8", Private, "private network"),                 // RFC 1918
    ("100.64.0.0/10", Private, "shared address space"),         // RFC 6598; pods of EKS, GKE and others have it
    ("127.0.0.0/8", Special, "loopback"),                       // RFC 1122, section 3.2.1.3
    ("169.254.0.0/16", Special, LINK_LOCAL),                    // RFC 3927
    ("172.16.0.0/12", Private, "private network"),              // RFC 1918
    ("192.0.0.0/24", Special, "for protocols"),                 // RFC 6890: IETF protocol assignments
    ("192.0.2.0/24", Special, "for documentation"),             // RFC 5737: TEST-NET-1
    ("192.88.99.0/24", Special, "6to4 relay"),                  // RFC 7526: deprecated
    ("192.168.0.0/16", Private, "private network"),             // RFC 1918
    ("198.18.0.0/15", Special, "for benchmarks"),               // RFC 2544
    ("198.51.100.0/24", Special, "for documentation"),          // RFC 5737: TEST-NET-2
    ("203.0.113.0/24", Special, "for documentation"),           // RFC 5737: TEST-NET-3
    ("224.0.0.0/4", Special, "multicast"),                      // RFC 5771
    ("240.0.0.0/4", Special, "reserved"),                       // RFC 1112, section 4
    ("255.255.255.255/32", Special, "broadcast"),               // RFC 919, section 7

    // IPv6. Only 2000::/3 is given out for hosts of the internet (RFC 4291, section 2.4; IANA IPv6 address space).
    ("::/0", Special, "reserved"),
    ("2000::/3", Public, "public"),
    ("::/128", Special, "unspecified"),                         // RFC 4291, section 2.5.2
    ("::1/128", Special, "loopback"),                           // RFC 4291, section 2.5.3
    ("::/96", Special, "IPv4 inside of IPv6"),                  // RFC 4291, section 2.5.5.1: deprecated
    ("::ffff:0:0:0/96", Special, "IPv4 inside of IPv6"),        // RFC 2765, section 2.1: deprecated
    ("64:ff9b::/96", Special, "NAT64"),                         // RFC 6052
    ("64:ff9b:1::/48", Special, "NAT64"),                       // RFC 8215
    ("100::/64", Special, "discarded"),                         // RFC 6666
    ("100:0:0:1::/64", Special, "discarded"),                   // RFC 9780: dummy prefix
    ("2001::/23", Special, "for protocols"),                    // RFC 2928, with benchmarks (RFC 5180), ORCHID (RFC 7343) ...
    ("2001::/32", Special, "Teredo"),                           // RFC 4380
    ("2001:db8::/32", Special, "for documentation"),            // RFC 3849
    ("2002::/16", Special, "6to4"),                             // RFC 3056
    ("3fff::/20", Special, "for documentation"),                // RFC 9637
    ("5f00::/16", Special, "segment routing"),                  // RFC 9602
    ("fc00::/7", Private, "private network"),                   // RFC 4193
    ("fe80::/10", Special, "link-local"),                       // RFC 4291, section 2.5.6
    ("fec0::/10", Special, "site-local"),                       // RFC 3879: deprecated
    ("ff00::/8", Special, "multicast"),                         // RFC 4291, section 2.7
];

static TABLE: LazyLock<Vec<Row>> = LazyLock::new(|| {
    let read = |(range, kind, class): &(&str, AddressKind, &'static str)| {
        Some(Row { range: range.parse().ok()?, class, kind: *kind })
    };
    ROWS.iter().filter_map(read).collect()
});

/// The row with the longest prefix that contains `address`. Every address has one.
pub(super) fn row(address: IpAddr) -> Option<&'static Row> {
    TABLE.iter().filter(|row| row.range.contains(address)).max_by_key(|row| row.range.length())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_range_has_two_rows_and_each_address_has_a_row() {
        assert_eq!(TABLE.len(), ROWS.len(), "a row's range can't be parsed");
        for (at, one) in TABLE.iter().enumerate() {
            assert!(TABLE[at + 1..].iter().all(|other| other.range != one.range), "{}", one.range);
            assert_eq!(one.range.to_string(), ROWS[at].0);
        }
        for address in ["0.0.0.0", "255.255.255.255", "8.8.8.8", "::", "4000::", "ffff:ffff::", "2600::1"] {
            assert!(row(address.parse().unwrap()).is_some(), "{address}");
        }
    }
}

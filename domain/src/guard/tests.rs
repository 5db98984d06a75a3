//! The guard decides the same for every spelling of an address.

use super::*;

fn ranges(texts: &[&str]) -> Vec<AddressRange> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn with(denied: &[&str], allowed: &[&str]) -> Guard {
    Guard::new(false).with_ranges(ranges(denied), ranges(allowed))
}

fn class(guard: Guard, address: &str) -> Option<&'static str> {
    guard.check(address.parse().unwrap()).err().map(|denied| denied.class)
}

/// All forms of an IPv4 address inside an IPv6 address.
fn wrapped(v4: Ipv4Addr) -> Vec<IpAddr> {
    let bits = v4.to_bits();
    let (high, low) = ((bits >> 16) as u16, bits as u16);
    let [a, b, c, d] = v4.octets().map(u16::from);
    [
        [0, 0, 0, 0, 0, 0xffff, high, low],
        [0, 0, 0, 0, 0, 0, high, low],
        [0, 0, 0, 0, 0xffff, 0, high, low],
        [0x64, 0xff9b, 0, 0, 0, 0, high, low],
        [0x64, 0xff9b, 1, 0, 0, 0, high, low],
        [0x64, 0xff9b, 1, high, c, d << 8, 0, 0],
        [0x64, 0xff9b, 1, a, b, c << 8 | d, 0, 0],
        [0x64, 0xff9b, 1, 0, a, b << 8 | c, d << 8, 0],
        [0x2002, high, low, 0, 0, 0, 0, 1],
        [0x2001, 0, high, low, 0, 0, !0x0808, !0x0808],
        [0x2001, 0, 0x0808, 0x0808, 0, 0, !high, !low],
    ]
    .map(IpAddr::from)
    .to_vec()
}

#[test]
fn what_is_never_a_receiver_is_denied_in_every_form() {
    for (address, expected) in [
        ("127.0.0.1", "loopback"),
        ("127.255.0.9", "loopback"),
        ("::1", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("::7f00:1", "loopback"),
        ("64:ff9b::7f00:1", "loopback"),
        ("2002:7f00:1::", "loopback"),
        ("169.254.169.254", "link-local, where clouds keep their metadata"),
        ("169.254.1.1", "link-local, where clouds keep their metadata"),
        ("::ffff:169.254.169.254", "link-local, where clouds keep their metadata"),
        ("fe80::1", "link-local"),
        ("fd00:ec2::254", "cloud metadata"),
        ("fd00:ec2::253", "cloud metadata"),
        ("fd20:ce::254", "cloud metadata"),
        ("192.0.0.192", "cloud metadata"),
        ("100.100.100.200", "cloud metadata"),
        ("168.63.129.16", "cloud metadata"),
        ("0.0.0.0", "unspecified"),
        ("0.1.2.3", "unspecified"),
        ("::", "unspecified"),
        ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"),
        ("255.255.255.255", "broadcast"),
        ("240.0.0.1", "reserved"),
        ("192.0.0.8", "for protocols"),
        ("192.0.2.1", "for documentation"),
        ("198.18.0.1", "for benchmarks"),
        ("198.19.255.255", "for benchmarks"),
        ("64:ff9b::808:808", "NAT64"),
        ("64:ff9b:1::808:808", "NAT64"),
        ("2001::1", "unspecified"),
        ("2001:0:808:808::f7f7:f7f7", "Teredo"),
        ("2001:2::1", "for protocols"),
        ("2001:db8::1", "for documentation"),
        ("2002:808:808::1", "6to4"),
        ("3fff::1", "for documentation"),
        ("5f00::1", "segment routing"),
        ("fec0::1", "site-local"),
        ("4000::1", "reserved"),
        ("100::1", "discarded"),
    ] {
        let denied = Guard::new(false).check(address.parse().unwrap()).unwrap_err();
        assert_eq!(denied.class, expected, "{address}");
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
        assert_eq!(class(Guard::new(false), address), None, "{address}");
        assert!(class(Guard::new(true), address).is_some(), "{address}");
    }
    for address in ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "192.169.0.1", "198.20.0.1"] {
        assert_eq!(class(Guard::new(true), address), None, "{address}");
    }
}

#[test]
fn an_ipv4_address_is_judged_in_whatever_ipv6_it_is_wrapped_even_where_the_wrapping_is_allowed() {
    let wrappings = ["::/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32"];
    let open = with(&[], &wrappings);
    for inner in ["127.0.0.1", "169.254.169.254", "168.63.129.16", "192.0.2.7", "224.0.0.5"] {
        for (at, address) in wrapped(inner.parse().unwrap()).into_iter().enumerate() {
            assert!(Guard::new(false).check(address).is_err(), "{inner} as {address} ({at})");
            assert!(open.check(address).is_err(), "{inner} as {address} ({at}), wrapping allowed");
        }
    }
    let (first, others) =
        wrapped(Ipv4Addr::new(8, 8, 8, 8)).split_first().map(|(a, b)| (*a, b.to_vec())).unwrap();
    assert_eq!(Guard::new(false).check(first), Ok(()), "a mapped address is the address");
    for address in others {
        assert!(Guard::new(false).check(address).is_err(), "{address}");
        assert_eq!(open.check(address), Ok(()), "{address}");
    }
    assert!(with(&["8.8.8.0/24"], &wrappings).check("64:ff9b::808:808".parse().unwrap()).is_err());
}

#[test]
fn metadata_is_opened_only_by_its_own_range() {
    for (address, around, own) in [
        ("169.254.169.254", "169.254.0.0/16", "169.254.169.254/32"),
        ("100.100.100.200", "100.64.0.0/10", "100.100.100.200"),
        ("168.63.129.16", "168.63.129.16/31", "168.63.129.16"),
        ("192.0.0.192", "0.0.0.0/0", "192.0.0.192"),
        ("fd00:ec2::254", "fd00:ec2::/32", "fd00:ec2::254/128"),
        ("fd20:ce::254", "fc00::/7", "fd20:ce::254"),
    ] {
        assert!(class(with(&[], &[around]), address).is_some(), "{address} by {around}");
        assert_eq!(class(with(&[], &[own]), address), None, "{address} by {own}");
        assert!(class(with(&[own], &[own]), address).is_some(), "refused and allowed alike is refused");
    }
    assert_eq!(class(with(&[], &["169.254.0.0/16"]), "169.254.1.1"), None);
}

#[test]
fn of_the_administrators_ranges_the_longest_counts() {
    let guard =
        with(&["10.96.0.0/12", "8.8.8.8", "fd12::/16"], &["10.96.0.50", "127.0.0.0/8", "198.18.0.0/15"]);
    for denied in
        ["10.96.0.1", "10.111.255.255", "8.8.8.8", "::ffff:8.8.8.8", "fd12:1::1", "::1", "192.0.2.1"]
    {
        assert!(class(guard, denied).is_some(), "{denied}");
    }
    for allowed in ["10.96.0.50", "10.95.0.1", "127.0.0.1", "198.19.0.1", "8.8.4.4", "fd13::1"] {
        assert_eq!(class(guard, allowed), None, "{allowed}");
    }
    let private = Guard::new(true).with_ranges(Vec::new(), ranges(&["10.2.0.0/16"]));
    assert_eq!((class(private, "10.2.3.4"), class(private, "10.3.0.1")), (None, Some("private network")));
    assert_eq!(private.allowed(), "public addresses, and names that lead to them, 10.2.0.0/16");
}

#[test]
fn a_literal_address_is_judged_in_every_spelling_and_a_name_is_left_to_the_lookup() {
    let guard = Guard::new(false);
    for host in [
        "[::1]",
        "127.0.0.1",
        "127.0.0.1.",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0X7F.1",
        "0177.0.0.1",
        "017700000001",
        "0",
        "[::FFFF:127.0.0.1]",
        "::ffff:7f00:1",
        "[FE80::1%25eth0]",
        "fe80::1%eth0",
        "[FD00:0EC2:0:0::254]",
        "0xA9FEA9FE",
        "169.254.43518",
        "2852039166",
        "0300.0.0.0300",
    ] {
        assert!(guard.check_host(host).is_err(), "{host}");
    }
    for host in ["localhost", "example.com", "10.0.0.1", "134744072", "8.8.8.8.", "[2606:4700::1111]"] {
        assert_eq!(guard.check_host(host), Ok(()), "{host}");
    }
}

#[test]
fn every_spelling_of_any_address_is_judged_like_the_address() {
    let guard = Guard::new(true).with_ranges(ranges(&["8.0.0.0/9"]), ranges(&["10.128.0.0/9"]));
    // The multiplier walks over all of IPv4, a thousand addresses of it here.
    for step in 0..1_000_u32 {
        let address = Ipv4Addr::from_bits(step.wrapping_mul(2_654_435_761));
        let [a, b, c, d] = address.octets();
        let expected = guard.check(IpAddr::V4(address)).is_ok();
        for spelling in [
            format!("{address}."),
            format!("{}", address.to_bits()),
            format!("{:#x}", address.to_bits()),
            format!("0{:o}", address.to_bits()),
            format!("0{a:o}.{b:#X}.{}", u32::from(c) << 8 | u32::from(d)).replace("0X", "0x"),
            format!("[::ffff:{address}]"),
            format!("::FFFF:{:X}:{:X}", address.to_bits() >> 16, address.to_bits() & 0xffff),
        ] {
            assert_eq!(guard.check_host(&spelling).is_ok(), expected, "{spelling} is {address}");
        }
    }
}

//! A range of addresses in the notation of RFC 4632 and RFC 4291, section 2.3: `10.0.0.0/8`, `fd00::/8`, or one address.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A range of addresses: all that share a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressRange {
    first: IpAddr,
    length: u8,
}

/// Why a text is not a range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a range of addresses: {why}")]
pub struct AddressRangeError {
    text: String,
    why: &'static str,
}

impl AddressRange {
    /// The length of the prefix in bits: 0 to 32 for IPv4, 0 to 128 for IPv6.
    pub fn length(&self) -> u8 {
        self.length
    }

    /// Whether `address` is in the range. An IPv4 range contains no IPv6 address, nor the reverse.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.first.is_ipv4() == address.is_ipv4() && self.prefix_of(bits(self.first) ^ bits(address)) == 0
    }

    /// Cuts off the bits that differ within the range.
    fn prefix_of(&self, bits: u128) -> u128 {
        bits.checked_shr(u32::from(width(self.first) - self.length)).unwrap_or(0)
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

impl FromStr for AddressRange {
    type Err = AddressRangeError;

    fn from_str(text: &str) -> Result<Self, AddressRangeError> {
        let error = |why| AddressRangeError { text: text.to_owned(), why };
        let (address, length) =
            text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
        let first: IpAddr = address.parse().map_err(|_| error("10.0.0.0/8, fd00::/8 or one address is"))?;
        if first.to_canonical() != first {
            return Err(error("IPv4 inside of IPv6 is judged as IPv4: write it so"));
        }
        let length = match length {
            None => width(first),
            Some(length) => length
                .parse()
                .ok()
                .filter(|length| *length <= width(first))
                .ok_or_else(|| error("its length is 0 to 32 bits, or to 128 for IPv6"))?,
        };
        let range = Self { first, length };
        if range.prefix_of(bits(first)).checked_shl(u32::from(width(first) - length)).unwrap_or(0)
            != bits(first)
        {
            return Err(error("there are bits behind its length"));
        }
        Ok(range)
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_contains_what_shares_its_prefix_and_prints_as_it_was_parsed() {
        for (range, inside, outside) in [
            ("10.0.0.0/8", "10.255.255.255", "11.0.0.0"),
            ("192.0.2.1/32", "192.0.2.1", "192.0.2.2"),
            ("0.0.0.0/0", "255.1.2.3", "::"),
            ("::/0", "ffff::", "1.2.3.4"),
            ("fe80::/10", "febf::1", "fec0::"),
            ("fd00:ec2::254/128", "fd00:ec2::254", "fd00:ec2::255"),
        ] {
            let read: AddressRange = range.parse().unwrap();
            assert!(read.contains(inside.parse().unwrap()), "{range}");
            assert!(!read.contains(outside.parse().unwrap()), "{range}");
            assert_eq!(read.to_string(), range);
        }
        assert_eq!("10.1.2.3".parse::<AddressRange>().unwrap().length(), 32);
    }

    #[test]
    fn an_ambiguous_text_is_not_a_range() {
        for (text, why) in [
            ("10.0.0.1/8", "bits behind"),
            ("10.0.0.0/33", "0 to 32"),
            ("::/129", "to 128"),
            ("10.0.0.0/-1", "0 to 32"),
            ("::ffff:10.0.0.0/104", "as IPv4"),
            ("example.com", "one address"),
            ("10/8", "one address"),
            ("", "one address"),
        ] {
            let error = text.parse::<AddressRange>().unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}

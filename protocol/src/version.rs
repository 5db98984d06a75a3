//! The protocol's version. Two sides work together if their minor versions differ by at most one; otherwise the hub
//! refuses with a message.
//!
//! Clause P9 of docs/semantics.md.

use std::str::FromStr;

/// The header that carries the version, in requests and answers.
pub const HEADER: &str = "belfry-protocol";

/// This build's version.
pub const VERSION: Version = Version { major: 1, minor: 0 };

/// A protocol version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    /// Changes when older sides can no longer follow.
    pub major: u32,
    /// Changes when something is added.
    pub minor: u32,
}

/// The two sides can't work together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "protocol {theirs:?} does not work with {ours}: the same major version and at most one minor version apart is needed; upgrade operator, hub and workers to the same release"
)]
pub struct VersionError {
    theirs: String,
    ours: Version,
}

impl Version {
    /// Whether the other side's header names a version that works with this one.
    pub fn check(self, header: Option<&str>) -> Result<(), VersionError> {
        let theirs = header.unwrap_or("none");
        match theirs.parse::<Self>() {
            Ok(other) if other.major == self.major && other.minor.abs_diff(self.minor) <= 1 => Ok(()),
            _ => Err(VersionError { theirs: theirs.chars().take(20).collect(), ours: self }),
        }
    }
}

impl FromStr for Version {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (major, minor) = text.split_once('.').unwrap_or((text, ""));
        Ok(Self { major: major.parse()?, minor: minor.parse()? })
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_minor_version_apart_works_and_two_do_not() {
        let ours = Version { major: 1, minor: 3 };
        for good in ["1.2", "1.3", "1.4"] {
            assert_eq!(ours.check(Some(good)), Ok(()));
        }
        for bad in [Some("1.1"), Some("1.5"), Some("2.3"), Some("junk"), None] {
            assert!(ours.check(bad).is_err(), "{bad:?}");
        }
    }
}

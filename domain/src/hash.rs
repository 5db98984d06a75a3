//! Content hashes, as users and logs see them: the first 16 bytes of SHA-256, in hex.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The hash of a value's JSON, 32 hex digits. Equal digests mean equal content.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(String);

impl Digest {
    /// Hashes the JSON of `value`. Struct fields keep their order and maps are `BTreeMap`s, so equal values hash equally.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Self {
        // Plans hold strings, numbers, lists and string-keyed maps: serialising them cannot fail.
        let json = serde_json::to_vec(value).unwrap_or_default();
        let hash = Sha256::digest(&json);
        Self(hash[..16].iter().fold(String::with_capacity(32), |mut hex, byte| {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        }))
    }

    /// The 32 hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first eight hex digits, for names of Kubernetes objects.
    pub fn short(&self) -> &str {
        self.0.get(..8).unwrap_or(&self.0)
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<String> for Digest {
    fn from(text: String) -> Self {
        Self(text)
    }
}

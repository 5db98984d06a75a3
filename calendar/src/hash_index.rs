//! Where in a list something is, by hash.
//!
//! The table holds the hashes and the list the keys, each once: the table grows without a look at the list.
//! Never: a key.

use std::hash::{BuildHasher, Hash};

use hashbrown::hash_table::OccupiedEntry;
use hashbrown::{DefaultHashBuilder, HashTable};

/// Indices of a list.
#[derive(Debug, Default)]
pub(crate) struct HashIndex {
    entries: HashTable<HashedIndex>,
    hasher: DefaultHashBuilder,
}

#[derive(Debug)]
struct HashedIndex {
    hash: u32,
    index: u32,
}

impl HashIndex {
    /// The index of `key`, which `is_its` tells from those of equal hash.
    pub(crate) fn find(&self, key: &impl Hash, is_its: impl Fn(u32) -> bool) -> Option<u32> {
        let hash = self.hash(key);
        let entry = self.entries.find(spread(hash), |entry| entry.hash == hash && is_its(entry.index));
        entry.map(|entry| entry.index)
    }

    /// Adds a key that is not there.
    pub(crate) fn insert(&mut self, key: &impl Hash, index: u32) {
        let hash = self.hash(key);
        self.entries.insert_unique(spread(hash), HashedIndex { hash, index }, |entry| spread(entry.hash));
    }

    /// False if `key` was not there with this index.
    pub(crate) fn remove(&mut self, key: &impl Hash, index: u32) -> bool {
        let entry = self.entries.find_entry(spread(self.hash(key)), |entry| entry.index == index);
        entry.map(OccupiedEntry::remove).is_ok()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    fn hash(&self, key: &impl Hash) -> u32 {
        self.hasher.hash_one(key) as u32
    }
}

/// A hash for hashbrown, which looks at the lowest and the uppermost bits.
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

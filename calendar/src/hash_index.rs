//! Finds an index of a list by the hash of its key.
//!
//! The table holds only hashes, and the list holds the keys, so each is stored once and the table grows without
//! reading the list.

use std::hash::{BuildHasher, Hash};

use hashbrown::hash_table::OccupiedEntry;
use hashbrown::{DefaultHashBuilder, HashTable};

/// A table from hashes to indices of a list.
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
    /// The index of `key`. `is_its` tells whether an index with the same hash belongs to it.
    pub(crate) fn find(&self, key: &impl Hash, is_its: impl Fn(u32) -> bool) -> Option<u32> {
        let hash = self.hash(key);
        let entry = self.entries.find(spread(hash), |entry| entry.hash == hash && is_its(entry.index));
        entry.map(|entry| entry.index)
    }

    /// Adds a key, which must not be in the table.
    pub(crate) fn insert(&mut self, key: &impl Hash, index: u32) {
        let hash = self.hash(key);
        self.entries.insert_unique(spread(hash), HashedIndex { hash, index }, |entry| spread(entry.hash));
    }

    /// Removes a key. False if it was not in the table with this index.
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

/// Widens a hash for hashbrown, which uses the lowest and the uppermost bits.
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

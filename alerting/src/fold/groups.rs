//! Counts by key, and the first and the last record of each: 32 bytes a key beyond the key itself, and the records as
//! they came.
//!
//! A key is bytes. The entries of all keys stand one after the other in one list of words, each with its key behind it, so
//! that to count once more touches one place; a table finds the place by the key's hash. What an entry holds is relative
//! to a base; where a number does not fit, the caller takes what is held and begins anew.

use std::hash::{BuildHasher, RandomState};

use foldhash::fast::FixedState;
use hashbrown::HashTable;

/// The words of an entry before its key: count and the key's length in bytes; time and offset of the first and of the last;
/// their records.
const HEAD: usize = 4;
/// No record: the last is the first.
const NONE: u32 = u32::MAX;

/// A record that may be the first or the last of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct At {
    /// Relative to what the key says.
    pub(super) time: u32,
    /// Relative to what the holder says.
    pub(super) offset: u32,
}

/// What is held of one key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group<'g> {
    pub(super) key: Key<'g>,
    pub(super) count: u32,
    pub(super) first: (At, &'g [u8]),
    /// None if it is the first.
    pub(super) last: Option<(At, &'g [u8])>,
}

/// A key's words, and how many bytes they hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key<'g> {
    words: &'g [u64],
    len: usize,
}

impl Key<'_> {
    /// Its bytes.
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.words.iter().flat_map(|word| word.to_le_bytes()).take(self.len).collect()
    }
}

/// All groups.
#[derive(Debug)]
pub(super) struct Groups {
    /// Where the entries begin in `words`.
    table: HashTable<u32>,
    words: Vec<u64>,
    records: Records,
    /// Seeded, so that nobody can choose keys that all have the same hash.
    hasher: FixedState,
    /// The key that is looked for, in words.
    wanted: Vec<u64>,
}

impl Default for Groups {
    fn default() -> Self {
        Self {
            table: HashTable::new(),
            words: Vec::new(),
            records: Records::default(),
            hasher: FixedState::with_seed(RandomState::new().hash_one(0)),
            wanted: Vec::new(),
        }
    }
}

/// What counting changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counted {
    /// The key is new.
    New,
    /// It was there.
    Again,
    /// It can't be held beside the others.
    Full,
}

impl Groups {
    pub(super) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Bytes held.
    pub(super) fn weight(&self) -> usize {
        self.table.len() * 8 + self.words.len() * 8 + self.records.bytes.len()
    }

    /// Counts a record for a key, and keeps the record if it is the first or the last of it.
    pub(super) fn count(&mut self, key: &[u8], at: At, record: &[u8]) -> Counted {
        self.want(key);
        let hash = self.hasher.hash_one(self.wanted.as_slice());
        let (words, wanted, len) = (&self.words, self.wanted.as_slice(), key.len() as u32);
        let found = self.table.find(hash, |place| {
            let place = *place as usize;
            words.get(place).is_some_and(|head| (*head >> 32) as u32 == len)
                && words.get(place + HEAD..place + HEAD + wanted.len()) == Some(wanted)
        });
        match found {
            Some(place) => self.again(*place as usize, at, record),
            None => self.insert(hash, at, record, len),
        }
    }

    fn want(&mut self, key: &[u8]) {
        self.wanted.clear();
        let (whole, rest) = key.as_chunks::<8>();
        self.wanted.extend(whole.iter().map(|word| u64::from_le_bytes(*word)));
        if !rest.is_empty() {
            let mut word = [0; 8];
            word.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            self.wanted.push(u64::from_le_bytes(word));
        }
    }

    fn insert(&mut self, hash: u64, at: At, body: &[u8], len: u32) -> Counted {
        let (Ok(place), Some(first)) = (u32::try_from(self.words.len()), self.records.put(NONE, body)) else {
            return Counted::Full;
        };
        let need = HEAD + self.wanted.len();
        if self.words.capacity() - self.words.len() < need {
            // By a quarter, not by its double: what waits unused counts too.
            self.words.reserve_exact((self.words.len() / 4).max(1 << 10).max(need));
        }
        self.words.extend([pack(1, len), at.pack(), at.pack(), pack(first, NONE)]);
        self.words.extend_from_slice(&self.wanted);
        let (words, hasher) = (&self.words, &self.hasher);
        self.table.insert_unique(hash, place, |place| {
            hasher.hash_one(entry(words, *place as usize).map_or(&[][..], |entry| entry.key.words))
        });
        Counted::New
    }

    fn again(&mut self, place: usize, at: At, body: &[u8]) -> Counted {
        let Some([head, first, last, bodies]) =
            self.words.get_mut(place..).and_then(<[u64]>::first_chunk_mut::<HEAD>)
        else {
            return Counted::Full;
        };
        let (count, len) = unpack(*head);
        let Some(count) = count.checked_add(1) else { return Counted::Full };
        let (first_body, last_body) = unpack(*bodies);
        if at < At::unpack(*first) {
            // The first becomes the last where it was both.
            let (unused, kept) = if last_body == NONE { (NONE, first_body) } else { (first_body, last_body) };
            let Some(body) = self.records.put(unused, body) else { return Counted::Full };
            (*bodies, *first) = (pack(body, kept), at.pack());
        } else if last_body == NONE || at > At::unpack(*last) {
            let Some(body) = self.records.put(last_body, body) else { return Counted::Full };
            (*bodies, *last) = (pack(first_body, body), at.pack());
        }
        *head = pack(count, len);
        Counted::Again
    }

    /// All that is held, in the order in which the keys came.
    pub(super) fn iter(&self) -> impl Iterator<Item = Group<'_>> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let entry = entry(&self.words, at)?;
            at += HEAD + entry.key.words.len();
            let (first, last) = entry.bodies;
            Some(Group {
                key: entry.key,
                count: entry.count,
                first: (entry.first, self.records.get(first)),
                last: (last != NONE).then(|| (entry.last, self.records.get(last))),
            })
        })
    }
}

struct Entry<'g> {
    key: Key<'g>,
    count: u32,
    first: At,
    last: At,
    bodies: (u32, u32),
}

fn entry(words: &[u64], at: usize) -> Option<Entry<'_>> {
    let [head, first, last, bodies] = words.get(at..)?.first_chunk::<HEAD>()?;
    let (count, len) = unpack(*head);
    let len = len as usize;
    let words = words.get(at + HEAD..at + HEAD + len.div_ceil(8))?;
    Some(Entry {
        key: Key { words, len },
        count,
        first: At::unpack(*first),
        last: At::unpack(*last),
        bodies: unpack(*bodies),
    })
}

impl At {
    fn pack(self) -> u64 {
        pack(self.time, self.offset)
    }

    fn unpack(word: u64) -> Self {
        let (time, offset) = unpack(word);
        Self { time, offset }
    }
}

fn pack(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

fn unpack(word: u64) -> (u32, u32) {
    (word as u32, (word >> 32) as u32)
}

/// Records' bytes, one after the other, each behind its room and its length.
#[derive(Debug, Default)]
struct Records {
    bytes: Vec<u8>,
}

impl Records {
    /// Keeps a record in the place of another one if it fits there.
    #[inline]
    fn put(&mut self, place: u32, record: &[u8]) -> Option<u32> {
        if let Some(at) = Self::at(place) {
            let (room, _) = self.head(at)?;
            if record.len() <= room {
                let slot = self.bytes.get_mut(at + 4..at + 8 + record.len())?;
                let (len, body) = slot.split_at_mut(4);
                len.copy_from_slice(&(record.len() as u32).to_le_bytes());
                body.copy_from_slice(record);
                return Some(place);
            }
        }
        let at = self.bytes.len();
        let place = u32::try_from(at / 8).ok().filter(|place| *place != NONE)?;
        let room = record.len().next_multiple_of(32);
        let need = 8 + room;
        if self.bytes.capacity() - at < need {
            self.bytes.reserve_exact((at / 4).max(1 << 12).max(need));
        }
        self.bytes.extend_from_slice(&(room as u32).to_le_bytes());
        self.bytes.extend_from_slice(&(record.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(record);
        self.bytes.resize(at + need, 0);
        Some(place)
    }

    fn at(place: u32) -> Option<usize> {
        (place != NONE).then_some(place as usize * 8)
    }

    /// Room and length.
    fn head(&self, at: usize) -> Option<(usize, usize)> {
        let head = self.bytes.get(at..)?.first_chunk::<8>()?;
        let (room, len) = unpack(u64::from_le_bytes(*head));
        Some((room as usize, len as usize))
    }

    fn get(&self, place: u32) -> &[u8] {
        let record = Self::at(place).and_then(|at| {
            let (_, len) = self.head(at)?;
            self.bytes.get(at + 8..at + 8 + len)
        });
        record.unwrap_or_default()
    }
}

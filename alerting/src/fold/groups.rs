//! Counts by key, and the first and the last record of each: 32 bytes a key beyond the key itself, and the records as
//! they came.
//!
//! Records wait in a short queue, so that what many of them touch is fetched from memory at the same time: with a million
//! groups that, not the counting, is what takes long.
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
/// How many records wait, and how many bytes of them.
const WAITING: usize = 48;
const WAITING_BYTES: usize = 32 << 10;

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
    queue: Queue,
}

/// Records that are not counted yet, in the order in which they came.
#[derive(Debug, Default)]
struct Queue {
    waiting: Vec<Waiting>,
    /// How many of them have been counted.
    done: usize,
    /// Their keys' words.
    keys: Vec<u64>,
    bodies: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    hash: u64,
    at: At,
    /// Where its key ends in words, and how many bytes it has.
    key_end: usize,
    key_len: u32,
    body_end: usize,
}

impl Default for Groups {
    fn default() -> Self {
        Self {
            table: HashTable::new(),
            words: Vec::new(),
            records: Records::default(),
            hasher: FixedState::with_seed(RandomState::new().hash_one(0)),
            queue: Queue::default(),
        }
    }
}

/// What is held can't hold more: it must be taken first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

impl Groups {
    pub(super) fn is_empty(&self) -> bool {
        self.table.is_empty() && self.queue.waiting.is_empty()
    }

    /// Bytes held.
    pub(super) fn weight(&self) -> usize {
        let queue = self.queue.bodies.len() + self.queue.keys.len() * 8;
        self.table.len() * 8 + self.words.len() * 8 + self.records.bytes.len() + queue
    }

    /// Counts a record for a key, and keeps the record if it is the first or the last of it; soon.
    pub(super) fn count(&mut self, key: &[u8], at: At, record: &[u8]) -> Result<(), Full> {
        let queue = &mut self.queue;
        if queue.waiting.len() >= WAITING || queue.bodies.len() >= WAITING_BYTES {
            self.settle()?;
        }
        let queue = &mut self.queue;
        let start = queue.keys.len();
        let (whole, rest) = key.as_chunks::<8>();
        queue.keys.extend(whole.iter().map(|word| u64::from_le_bytes(*word)));
        if !rest.is_empty() {
            let mut word = [0; 8];
            word.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            queue.keys.push(u64::from_le_bytes(word));
        }
        let hash = self.hasher.hash_one(queue.keys.get(start..).unwrap_or_default());
        queue.bodies.extend_from_slice(record);
        let (key_end, body_end) = (queue.keys.len(), queue.bodies.len());
        queue.waiting.push(Waiting { hash, at, key_end, key_len: key.len() as u32, body_end });
        Ok(())
    }

    /// Counts the records that wait.
    pub(super) fn settle(&mut self) -> Result<(), Full> {
        let mut queue = std::mem::take(&mut self.queue);
        self.fetch(&queue);
        let before = queue.done.checked_sub(1).and_then(|last| queue.waiting.get(last));
        let (mut key, mut body) = before.map_or((0, 0), |last| (last.key_end, last.body_end));
        while let Some(next) = queue.waiting.get(queue.done) {
            let words = queue.keys.get(key..next.key_end).unwrap_or_default();
            let record = queue.bodies.get(body..next.body_end).unwrap_or_default();
            let counted = self.count_now(next, words, record);
            if counted.is_err() {
                self.queue = queue;
                return counted;
            }
            (key, body) = (next.key_end, next.body_end);
            queue.done += 1;
        }
        queue.waiting.clear();
        queue.keys.clear();
        queue.bodies.clear();
        queue.bodies.shrink_to(2 * WAITING_BYTES);
        queue.done = 0;
        self.queue = queue;
        Ok(())
    }

    /// Reads a little of all that the waiting records touch, step by step for all of them, so that the processor waits for
    /// many places at once.
    fn fetch(&self, queue: &Queue) {
        let mut places = [0_usize; WAITING];
        for (place, waiting) in places.iter_mut().zip(&queue.waiting) {
            *place = self.table.find(waiting.hash, |_| true).map_or(0, |place| *place as usize);
        }
        let mut read = 0;
        for place in &mut places {
            let head = self.words.get(*place..).and_then(<[u64]>::first_chunk::<HEAD>);
            read ^= self.words.get(*place + HEAD + 3).copied().unwrap_or(0);
            *place = head.map_or(0, |[.., bodies]| {
                let (first, last) = unpack(*bodies);
                if last == NONE { first as usize } else { last as usize }
            });
        }
        let mut before = 0;
        for (place, waiting) in places.iter().zip(&queue.waiting) {
            // Each line of the record that it takes the place of.
            for at in (place * 8..place * 8 + waiting.body_end - before).step_by(64) {
                read ^= u64::from(self.records.bytes.get(at).copied().unwrap_or(0));
            }
            before = waiting.body_end;
        }
        std::hint::black_box(read);
    }

    fn count_now(&mut self, next: &Waiting, key: &[u64], record: &[u8]) -> Result<(), Full> {
        let words = &self.words;
        let found = self.table.find(next.hash, |place| {
            let place = *place as usize;
            words.get(place).is_some_and(|head| (*head >> 32) as u32 == next.key_len)
                && words.get(place + HEAD..place + HEAD + key.len()) == Some(key)
        });
        match found.map(|place| *place as usize) {
            Some(place) => self.again(place, next.at, record),
            None => self.insert(next, key, record),
        }
        .ok_or(Full)
    }

    /// Takes what is counted, and leaves what waits.
    pub(super) fn take_counted(&mut self) -> Self {
        let queue = std::mem::take(&mut self.queue);
        let counted = std::mem::take(self);
        // What waits has hashes of its own seed.
        self.hasher = counted.hasher.clone();
        self.queue = queue;
        counted
    }

    fn insert(&mut self, next: &Waiting, key: &[u64], record: &[u8]) -> Option<()> {
        let place = u32::try_from(self.words.len()).ok()?;
        let first = self.records.put(NONE, record)?;
        let need = HEAD + key.len();
        if self.words.capacity() - self.words.len() < need {
            // By a quarter, not by its double: what waits unused counts too.
            self.words.reserve_exact((self.words.len() / 4).max(1 << 10).max(need));
        }
        let at = next.at.pack();
        self.words.extend([pack(1, next.key_len), at, at, pack(first, NONE)]);
        self.words.extend_from_slice(key);
        let (words, hasher) = (&self.words, &self.hasher);
        self.table.insert_unique(next.hash, place, |place| {
            hasher.hash_one(entry(words, *place as usize).map_or(&[][..], |entry| entry.key.words))
        });
        Some(())
    }

    fn again(&mut self, place: usize, at: At, record: &[u8]) -> Option<()> {
        let [head, first, last, bodies] =
            self.words.get_mut(place..).and_then(<[u64]>::first_chunk_mut::<HEAD>)?;
        let (count, len) = unpack(*head);
        let count = count.checked_add(1)?;
        let (first_body, last_body) = unpack(*bodies);
        if at < At::unpack(*first) {
            // The first becomes the last where it was both.
            let (unused, kept) = if last_body == NONE { (NONE, first_body) } else { (first_body, last_body) };
            let body = self.records.put(unused, record)?;
            (*bodies, *first) = (pack(body, kept), at.pack());
        } else if last_body == NONE || at > At::unpack(*last) {
            let body = self.records.put(last_body, record)?;
            (*bodies, *last) = (pack(first_body, body), at.pack());
        }
        *head = pack(count, len);
        Some(())
    }

    /// All that is counted, in the order in which the keys came.
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
        let room = record.len().next_multiple_of(16);
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

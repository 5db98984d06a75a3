//! Counts records by key, and keeps the first and the last record of each key: less than 64 bytes per key besides the
//! key and those records.
//!
//! With a million groups, waiting for memory takes longer than counting. Therefore all that a record of a known key
//! touches is in one place, the key's entry: its numbers, the key, and its last record, which the next one overwrites.
//! And records wait in a short queue, so that the entries of many of them are fetched from memory at the same time.
//!
//! A hash table finds the entry. It stores half of each key's hash, so it skips other keys' entries without reading
//! them, and grows without reading any.
//!
//! An entry's numbers are relative to a base. If a number does not fit, the caller takes what is held and starts again.

use std::hash::{BuildHasher, Hasher, RandomState};

use foldhash::fast::FixedState;

use super::entries::{Entries, HEAD, Head, NONE, Records, UNIT};
use super::table::{Slot, Table};

pub(super) use super::entries::RecordOrder;

/// How many records may wait in the queue, and how many bytes of keys and records.
const WAITING: usize = 64;
const WAITING_BYTES: usize = 32 << 10;
/// What a commit takes for each key besides its labels and records, bytes.
const COUNT: usize = 400;

/// What is held for one key.
#[derive(Debug, Clone, Copy)]
pub(super) struct CountedGroup<'g> {
    pub(super) key: &'g [u8],
    pub(super) count: u32,
    pub(super) first: (RecordOrder, &'g [u8]),
    /// `None` if the key has had only one record.
    pub(super) last: Option<(RecordOrder, &'g [u8])>,
}

/// All groups.
#[derive(Debug)]
pub(super) struct Groups {
    table: Table,
    entries: Entries,
    /// The first records of keys that have had more than one.
    firsts: Records,
    /// Randomly seeded, so that nobody can choose keys with the same hash.
    hasher: FixedState,
    queue: CountQueue,
}

/// Records that are not counted yet, in the order in which they came.
#[derive(Debug, Default)]
struct CountQueue {
    waiting: Vec<QueuedRecord>,
    /// How many of them have already been counted.
    done: usize,
    /// Their keys and records, one after another.
    bytes: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct QueuedRecord {
    hash: u32,
    at: RecordOrder,
    /// Where in the queue's bytes its key begins, its record begins, and the record ends.
    start: u32,
    middle: u32,
    end: u32,
}

impl QueuedRecord {
    /// Its key and its record in the queue's bytes.
    fn split<'q>(&self, bytes: &'q [u8]) -> (&'q [u8], &'q [u8]) {
        let key_len = (self.middle - self.start) as usize;
        let both = bytes.get(self.start as usize..self.end as usize);
        both.and_then(|it| it.split_at_checked(key_len)).unwrap_or_default()
    }

    /// The length of its key and its record, bytes.
    fn len(&self) -> usize {
        (self.end - self.start) as usize
    }
}

/// A number or a place does not fit any more: what is held must be taken first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

impl Default for Groups {
    fn default() -> Self {
        Self {
            table: Table::default(),
            entries: Entries::default(),
            firsts: Records::default(),
            hasher: FixedState::with_seed(RandomState::new().hash_one(0)),
            queue: CountQueue::default(),
        }
    }
}

impl Groups {
    pub(super) fn is_empty(&self) -> bool {
        self.table.len == 0 && self.queue.waiting.is_empty()
    }

    /// The number of keys held, without new keys that are still queued.
    pub(super) fn len(&self) -> usize {
        self.table.len
    }

    /// The approximate size of a commit of what is held, bytes. It is more than what is held: for each key there are
    /// names, the positions of its first and last record, and its record twice if it is the only one.
    pub(super) fn weight(&self) -> usize {
        let records = 2 * self.entries.bytes.len() + self.firsts.bytes.len();
        self.table.len * COUNT + records + self.queue.bytes.len()
    }

    /// Queues a record to be counted for a key, and to be kept if it is the key's first or last.
    pub(super) fn count(&mut self, key: &[u8], at: RecordOrder, record: &[u8]) -> Result<(), Full> {
        if self.queue.waiting.len() >= WAITING || self.queue.bytes.len() >= WAITING_BYTES {
            self.count_queued()?;
        }
        let mut hasher = self.hasher.build_hasher();
        hasher.write(key);
        let CountQueue { waiting, bytes, .. } = &mut self.queue;
        let hash = (hasher.finish() >> 32) as u32;
        let start = bytes.len() as u32;
        bytes.extend_from_slice(key);
        let middle = bytes.len() as u32;
        bytes.extend_from_slice(record);
        waiting.push(QueuedRecord { hash, at, start, middle, end: bytes.len() as u32 });
        Ok(())
    }

    /// Counts the queued records.
    pub(super) fn count_queued(&mut self) -> Result<(), Full> {
        let mut queue = std::mem::take(&mut self.queue);
        let places = self.prefetch(&queue);
        while let Some(next) = queue.waiting.get(queue.done) {
            let (key, record) = next.split(&queue.bytes);
            let place = places.get(queue.done).copied().unwrap_or(NONE);
            if self.count_now(next, place, key, record).is_none() {
                self.queue = queue;
                return Err(Full);
            }
            queue.done += 1;
        }
        queue.waiting.clear();
        queue.bytes.clear();
        queue.bytes.shrink_to(2 * WAITING_BYTES);
        queue.done = 0;
        self.queue = queue;
        Ok(())
    }

    /// The places of the queued records' entries, as far as the hashes tell. Reads a little of everything that counting
    /// will touch, one step for all records before the next, so that the processor waits for many cache lines at once:
    /// first the slots, then the heads (which also resolves their pages), then every line of the entries.
    fn prefetch(&self, queue: &CountQueue) -> [u32; WAITING] {
        let slots = queue.waiting.iter().map(|waiting| self.table.at(waiting.hash, 0).hash);
        std::hint::black_box(slots.fold(0, |read, next| read ^ next));
        let mut places = [NONE; WAITING];
        for (place, waiting) in places.iter_mut().zip(&queue.waiting) {
            *place = self.table.find(waiting.hash, |_| true).unwrap_or(NONE);
        }
        let bytes = &self.entries.bytes;
        let heads = places.iter().map(|place| bytes.get(*place as usize * UNIT).copied().unwrap_or(0));
        let mut read = heads.fold(0, |read, next| read ^ next);
        for (place, waiting) in places.iter().zip(&queue.waiting) {
            let start = *place as usize * UNIT;
            let entry = bytes.get(start..start + HEAD + waiting.len()).unwrap_or_default();
            // An entry shorter than two cache lines may span three, so its end is read besides every 64th byte.
            let lines = entry.iter().skip(64).step_by(64);
            read ^= lines.fold(entry.last().copied().unwrap_or(0), |read, byte| read ^ byte);
        }
        std::hint::black_box(read);
        places
    }

    /// Counts a record whose key's entry is probably at `place`. `None` if it does not fit.
    fn count_now(&mut self, next: &QueuedRecord, place: u32, key: &[u8], record: &[u8]) -> Option<()> {
        let entries = &self.entries;
        let found = entries.head_of_key(place, key).map(|head| (place, head)).or_else(|| {
            let place = self.table.find(next.hash, |place| entries.head_of_key(place, key).is_some())?;
            Some((place, entries.head_of_key(place, key)?))
        });
        match found {
            Some((place, head)) => self.count_again(next, place, head, record),
            None => self.insert(next, key, record),
        }
    }

    /// Takes what is counted, and leaves the queued records.
    pub(super) fn take_counted(&mut self) -> Self {
        let queue = std::mem::take(&mut self.queue);
        let counted = std::mem::take(self);
        // The queued records were hashed with this seed.
        self.hasher = counted.hasher.clone();
        self.queue = queue;
        counted
    }

    fn insert(&mut self, next: &QueuedRecord, key: &[u8], record: &[u8]) -> Option<()> {
        let head = Head { count: 1, first: next.at, last: next.at, first_record: NONE, ..Head::default() };
        let place = self.entries.push(head, key, record)?;
        self.table.insert(Slot { hash: next.hash, place });
        Some(())
    }

    fn count_again(&mut self, next: &QueuedRecord, place: u32, old: Head, record: &[u8]) -> Option<()> {
        let mut new = Head { count: old.count.checked_add(1)?, ..old };
        if next.at < old.first {
            new.first = next.at;
            new.first_record = self.firsts.put(old.first_record, record)?;
        } else if next.at > old.last {
            new.last = next.at;
            if old.first_record == NONE {
                let (_, first) = self.entries.parts(place, &old)?;
                new.first_record = self.firsts.put(NONE, first)?;
            }
            if !self.entries.put(place, &mut new, record) {
                return self.move_entry(next, place, new, record);
            }
        }
        self.entries.set(place, &new)
    }

    /// Moves a key to a new entry, because a record does not fit into its old one.
    #[cold]
    fn move_entry(&mut self, next: &QueuedRecord, place: u32, new: Head, record: &[u8]) -> Option<()> {
        let old = self.entries.head(place)?;
        let key = self.entries.parts(place, &old)?.0.to_vec();
        let new_place = self.entries.push(new, &key, record)?;
        self.table.put(Slot { hash: next.hash, place: new_place }, place);
        self.entries.set(place, &Head { count: 0, ..old })
    }

    /// All keys that have been counted.
    pub(super) fn iter(&self) -> impl Iterator<Item = CountedGroup<'_>> {
        let mut place = 0;
        let all = std::iter::from_fn(move || {
            let head = self.entries.head(place)?;
            let (key, record) = self.entries.parts(place, &head)?;
            place += head.units();
            let last = (head.last, record);
            let two = head.first_record != NONE;
            let first = if two { (head.first, self.firsts.get(head.first_record)) } else { last };
            Some(CountedGroup { key, count: head.count, first, last: two.then_some(last) })
        });
        all.filter(|group| group.count > 0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Entries move as records grow, and records arrive before the first, after the last and between them.
        #[test]
        fn groups_hold_what_a_map_holds(
            records in prop::collection::vec((0..40_u8, 0..50_u32, 0..100_usize), 0..400),
        ) {
            let (mut groups, mut expected) = (Groups::default(), BTreeMap::<Vec<u8>, Vec<(RecordOrder, Vec<u8>)>>::new());
            for (offset, (key, time, len)) in (0..).zip(records) {
                let (key, at, record) = (vec![key; key.into()], RecordOrder { time, offset }, vec![offset as u8; len]);
                groups.count(&key, at, &record).unwrap();
                expected.entry(key).or_default().push((at, record));
            }
            groups.count_queued().unwrap();
            prop_assert_eq!(groups.iter().count(), expected.len());
            for group in groups.iter() {
                let records = &mut expected.get_mut(group.key).unwrap()[..];
                records.sort();
                let of = |(at, record): &(RecordOrder, Vec<u8>)| (*at, record.clone());
                prop_assert_eq!(group.count as usize, records.len());
                prop_assert_eq!((group.first.0, group.first.1.to_vec()), of(&records[0]));
                let last = group.last.unwrap_or(group.first);
                prop_assert_eq!((last.0, last.1.to_vec()), of(&records[records.len() - 1]));
            }
        }
    }
}

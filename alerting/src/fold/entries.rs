//! Stores keys, their counts and their records in one byte buffer: 36 bytes for each key besides the key itself and its
//! last record, plus padding.
//!
//! An entry is a head, the key, and the key's last record. The next record overwrites that one if it fits. A place is
//! the index of an entry's first [`UNIT`].

/// Entries are aligned to this, bytes.
pub(super) const UNIT: usize = 8;
/// The place of no entry.
pub(super) const NONE: u32 = u32::MAX;

/// A record's place in the order of records: time, then offset.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RecordOrder {
    /// Relative to the start of the key's bucket, ms.
    pub(super) time: u32,
    /// Relative to a base that the owner of the groups knows.
    pub(super) offset: u32,
}

/// The numbers at the beginning of an entry.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Head {
    /// Records counted; zero if the key has moved to another entry.
    pub(super) count: u32,
    pub(super) first: RecordOrder,
    pub(super) last: RecordOrder,
    /// The place of the first record among [`Records`]; [`NONE`] if the key has had only one record.
    pub(super) first_record: u32,
    pub(super) key_len: u32,
    /// The bytes that the entry has for its record, and the bytes that its record takes.
    pub(super) room: u32,
    pub(super) record_len: u32,
}

/// The bytes of a [`Head`].
pub(super) const HEAD: usize = 36;

impl Head {
    fn from_bytes(bytes: &[u8; HEAD]) -> Self {
        let word = |at: usize| bytes.as_chunks::<4>().0.get(at).map_or(0, |word| u32::from_le_bytes(*word));
        Self {
            count: word(0),
            first: RecordOrder { time: word(1), offset: word(2) },
            last: RecordOrder { time: word(3), offset: word(4) },
            first_record: word(5),
            key_len: word(6),
            room: word(7),
            record_len: word(8),
        }
    }

    fn bytes(&self) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        let words = [
            self.count,
            self.first.time,
            self.first.offset,
            self.last.time,
            self.last.offset,
            self.first_record,
            self.key_len,
            self.room,
            self.record_len,
        ];
        for (to, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(words) {
            *to = word.to_le_bytes();
        }
        bytes
    }

    /// The length of the whole entry in [`UNIT`]s.
    pub(super) fn units(&self) -> u32 {
        ((HEAD + self.key_len as usize + self.room as usize) / UNIT) as u32
    }
}

/// The entries one after another, each with its head, its key and its last record.
#[derive(Debug, Default)]
pub(super) struct Entries {
    pub(super) bytes: Vec<u8>,
}

impl Entries {
    pub(super) fn push(&mut self, head: Head, key: &[u8], record: &[u8]) -> Option<u32> {
        let start = self.bytes.len();
        let place = u32::try_from(start / UNIT).ok().filter(|place| *place != NONE)?;
        let len = (HEAD + key.len() + record.len()).next_multiple_of(UNIT);
        let (key_len, record_len) = (key.len() as u32, record.len() as u32);
        let head = Head { key_len, record_len, room: (len - HEAD - key.len()) as u32, ..head };
        reserve(&mut self.bytes, len);
        self.bytes.extend_from_slice(&head.bytes());
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(record);
        self.bytes.resize(start + len, 0);
        Some(place)
    }

    #[inline]
    pub(super) fn head(&self, place: u32) -> Option<Head> {
        self.bytes.get(place as usize * UNIT..)?.first_chunk().map(Head::from_bytes)
    }

    /// The head of the entry at this place, if the entry is live and belongs to the key.
    #[inline]
    pub(super) fn head_of_key(&self, place: u32, key: &[u8]) -> Option<Head> {
        let head = self.head(place)?;
        let its = head.count > 0 && head.key_len as usize == key.len() && self.parts(place, &head)?.0 == key;
        its.then_some(head)
    }

    /// The key and the record of an entry.
    #[inline]
    pub(super) fn parts(&self, place: u32, head: &Head) -> Option<(&[u8], &[u8])> {
        let start = place as usize * UNIT + HEAD;
        let len = head.key_len as usize + head.record_len as usize;
        self.bytes.get(start..start + len)?.split_at_checked(head.key_len as usize)
    }

    pub(super) fn set(&mut self, place: u32, head: &Head) -> Option<()> {
        *self.bytes.get_mut(place as usize * UNIT..)?.first_chunk_mut()? = head.bytes();
        Some(())
    }

    /// Overwrites the entry's record; false if the new one does not fit.
    pub(super) fn put(&mut self, place: u32, head: &mut Head, record: &[u8]) -> bool {
        let start = place as usize * UNIT + HEAD + head.key_len as usize;
        let slot = self.bytes.get_mut(start..start + record.len());
        let Some(slot) = slot.filter(|_| record.len() <= head.room as usize) else { return false };
        slot.copy_from_slice(record);
        head.record_len = record.len() as u32;
        true
    }
}

/// Reserves room in steps of a quarter, later of a 64th: doubling would waste memory, and reserved memory counts too.
fn reserve(bytes: &mut Vec<u8>, need: usize) {
    let len = bytes.len();
    if bytes.capacity() - len < need {
        bytes.reserve_exact((len / 4).min((len / 64).max(4 << 20)).max(4 << 10).max(need));
    }
}

/// Records' bytes one after another, each after its room and its length.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) bytes: Vec<u8>,
}

impl Records {
    /// Stores a record, in place of the one at `place` if it fits there; returns its place.
    #[inline]
    pub(super) fn put(&mut self, place: u32, record: &[u8]) -> Option<u32> {
        if let Some(at) = Self::byte_offset(place) {
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
        reserve(&mut self.bytes, need);
        self.bytes.extend_from_slice(&(room as u32).to_le_bytes());
        self.bytes.extend_from_slice(&(record.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(record);
        self.bytes.resize(at + need, 0);
        Some(place)
    }

    fn byte_offset(place: u32) -> Option<usize> {
        (place != NONE).then_some(place as usize * 8)
    }

    /// The room and the length of the record at this byte.
    fn head(&self, at: usize) -> Option<(usize, usize)> {
        let head = self.bytes.get(at..)?.first_chunk::<8>()?;
        let [room, len] = *head.as_chunks::<4>().0 else { return None };
        Some((u32::from_le_bytes(room) as usize, u32::from_le_bytes(len) as usize))
    }

    pub(super) fn get(&self, place: u32) -> &[u8] {
        let record = Self::byte_offset(place).and_then(|at| {
            let (_, len) = self.head(at)?;
            self.bytes.get(at + 8..at + 8 + len)
        });
        record.unwrap_or_default()
    }
}

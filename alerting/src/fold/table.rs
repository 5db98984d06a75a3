//! Where keys' entries are, by half of the keys' hashes.
//!
//! An entry is in the slot that the hash says, or in one of the next. So to find one reads one place of memory; a table
//! with its tags apart reads two, the second after the first. Nothing is taken out.

use super::entries::NONE;

/// The slots.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// As many as a power of two, at least a quarter of them free.
    slots: Vec<Slot>,
    pub(super) len: usize,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    pub(super) hash: u32,
    /// [`NONE`] if the slot is free.
    pub(super) place: u32,
}

const FREE: Slot = Slot { hash: 0, place: NONE };

impl Table {
    /// Which slot comes at that distance from the first of all, going round, and what it holds.
    #[inline]
    pub(super) fn at(&self, distance: u32) -> (usize, Slot) {
        let at = distance as usize & self.slots.len().wrapping_sub(1);
        (at, self.slots.get(at).copied().unwrap_or(FREE))
    }

    /// The first slot for a hash that is free or as asked.
    #[inline]
    fn probe(&self, hash: u32, is: impl Fn(Slot) -> bool) -> (usize, Slot) {
        let mut distance = hash;
        loop {
            let (at, slot) = self.at(distance);
            if slot.place == NONE || is(slot) {
                return (at, slot);
            }
            distance = distance.wrapping_add(1);
        }
    }

    #[inline]
    pub(super) fn find(&self, hash: u32, is: impl Fn(u32) -> bool) -> Option<u32> {
        let (_, slot) = self.probe(hash, |slot| slot.hash == hash && is(slot.place));
        (slot.place != NONE).then_some(slot.place)
    }

    pub(super) fn insert(&mut self, new: Slot) {
        if self.len * 4 >= self.slots.len() * 3 {
            let slots = vec![FREE; (self.slots.len() * 2).max(64)];
            for held in std::mem::replace(&mut self.slots, slots) {
                if held.place != NONE {
                    self.put(held, NONE);
                }
            }
        }
        self.put(new, NONE);
        self.len += 1;
    }

    /// Puts it where its hash has that place now.
    pub(super) fn put(&mut self, new: Slot, instead_of: u32) {
        let (at, _) = self.probe(new.hash, |slot| slot.place == instead_of);
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = new;
        }
    }
}

//! An index of bookings: who holds what, and when. A check costs only as much as the booking's own needs are held
//! for.
//!
//! For each participant and resource it keeps the single events in order of time, and runs of equally spaced
//! events, which take one addition to search however long they are. A series is expanded once, somewhat farther
//! than the horizon, and again when time has used that up. Each series is due on another day, so the work is spread
//! over time. The index has no clock: its answers hold for the instant last given to [`Occupancy::advance`].

use std::collections::BTreeMap;
use std::hash::Hash;
use std::mem;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::conflict::{Booking, Clashes};
use crate::days::DAY;
use crate::expanded::{EXPANDING, Expanded, LookAhead, most_runs};
use crate::hash_index::HashIndex;
use crate::need_index::{NeedIndex, NeedNumbers, SHORT_RUN};
use crate::recurrence::Recurrence;
use crate::spans::{Buffers, Span, runs};
use crate::steps::Steps;
use crate::zone::{floor_second, timestamp};

/// The default horizon, which is how far ahead clashes are searched for: two years.
pub const HORIZON: SignedDuration = SignedDuration::from_hours(731 * 24);
/// The longest horizon: 50 years.
pub const MAX_HORIZON: SignedDuration = SignedDuration::from_hours(50 * 366 * 24);
const NEVER_DUE: i64 = i64::MAX;
/// The room for occurrences that is kept for the next expansion.
const KEPT_SPANS: usize = 256;

/// The bookings that hold what they need.
///
/// `K` identifies a booking. Keys are in order of precedence: the smaller key is the older booking. `R` names a
/// participant or resource.
#[derive(Debug)]
pub struct Occupancy<K, R> {
    pub(crate) now: i64,
    horizon: i64,
    pub(crate) held: Vec<Option<HeldBooking<K>>>,
    vacant_slots: Vec<u32>,
    /// Finds the slot of a key in `held`.
    slots: HashIndex,
    pub(crate) needs: Vec<NeedIndex<R>>,
    vacant_needs: Vec<u32>,
    /// Finds the index of a name in `needs`.
    by_name: HashIndex,
    /// The slots of bookings that must be expanded again, by day.
    due: BTreeMap<i64, Vec<u32>>,
    /// The slots of bookings that are not expanded as far as the horizon.
    pub(crate) uncovered: Vec<u32>,
    stagger: u32,
    /// Memory for the next expansion, so that most expansions allocate nothing.
    spare_spans: Vec<Span>,
}

/// A booking that the index holds.
#[derive(Debug)]
pub(crate) struct HeldBooking<K> {
    pub(crate) key: K,
    needs: NeedNumbers,
    pub(crate) buffers: Buffers,
    /// What to expand again later. `None` if all of its events are held.
    pub(crate) rest: Option<Arc<Recurrence>>,
    /// All events that start before this are held. Without a rest: the end of the last event and its buffer.
    pub(crate) held_until: i64,
    /// The day on which it must be expanded again.
    due: i64,
}

impl<K: Clone + Ord + Hash, R: Clone + Ord + Hash> Occupancy<K, R> {
    /// An empty index. Compares the occurrences that start within `horizon` from now; at most [`MAX_HORIZON`].
    pub fn new(now: Timestamp, horizon: SignedDuration) -> Self {
        Self {
            now: floor_second(now),
            horizon: horizon.clamp(SignedDuration::ZERO, MAX_HORIZON).as_secs(),
            held: Vec::new(),
            vacant_slots: Vec::new(),
            slots: HashIndex::default(),
            needs: Vec::new(),
            vacant_needs: Vec::new(),
            by_name: HashIndex::default(),
            due: BTreeMap::new(),
            uncovered: Vec::new(),
            stagger: 0,
            spare_spans: Vec::new(),
        }
    }

    /// Sets how many bookings may hold `name` at once: 1 by default; 0 counts as 1.
    pub fn set_capacity(&mut self, name: &R, capacity: u32) {
        let need = self.number_or_new(name);
        self.needs[need as usize].capacity = capacity.max(1);
        self.drop_unused(need);
    }

    /// Holds what `booking` needs, whether or not it clashes. Replaces what `key` held before.
    pub fn insert(&mut self, key: K, booking: &Booking<R>) {
        let needs = self.take_needs(booking);
        let before = self.slot(&key);
        let own = self.expand(booking);
        self.hold(key, before, booking, needs, &own);
        self.keep_spare_spans(own);
    }

    /// How far to expand the next booking before it is inserted ([`Expanded::for_booking`]).
    pub fn far_ahead(&mut self) -> LookAhead {
        LookAhead { now: self.now, until: self.expand_until() }
    }

    /// The same as [`Occupancy::insert`] for a booking that is already expanded: only enters it.
    pub fn insert_expanded(&mut self, key: K, booking: &Booking<R>, own: &Expanded) {
        let needs = self.take_needs(booking);
        let before = self.slot(&key);
        self.hold(key, before, booking, needs, own);
    }

    /// The same as [`Occupancy::insert`] if the booking does not clash ([`Occupancy::check`]). If it does, changes
    /// nothing.
    pub fn insert_if_free(
        &mut self,
        key: K,
        booking: &Booking<R>,
        against: impl Fn(&K) -> bool,
        limit: usize,
    ) -> Clashes<K, R> {
        // First touch the memory that is not in the processor's cache, since that takes longest.
        let needs = self.take_needs(booking);
        let before = self.slot(&key);
        let own = self.expand(booking);
        let clashes = self.check_expanded(&key, booking, &needs, &own, &against, limit);
        if clashes.total == 0 {
            self.hold(key, before, booking, needs, &own);
        } else {
            self.release_needs(&needs);
        }
        self.keep_spare_spans(own);
        clashes
    }

    /// Removes what `key` held. False if it held nothing.
    pub fn remove(&mut self, key: &K) -> bool {
        let Some(slot) = self.slot(key) else { return false };
        self.slots.remove(key, slot);
        if let Some(held) = self.held[slot as usize].take() {
            self.clear_slot(slot, &held);
            self.release_needs(&held.needs);
        }
        self.vacant_slots.push(slot);
        true
    }

    /// Whether `key` holds something.
    pub fn contains(&self, key: &K) -> bool {
        self.slot(key).is_some()
    }

    /// How many bookings are held.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether no booking is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sets the time to `now`; time never goes back. Cheap if called at least once a day.
    pub fn advance(&mut self, now: Timestamp) {
        self.advance_within(now, &mut Steps::new(u64::MAX));
    }

    /// The same, but expands again only as many bookings as the steps allow, and the others in the next call. Until
    /// then those are covered less far. False if some are left.
    pub fn advance_within(&mut self, now: Timestamp, steps: &mut Steps) -> bool {
        self.now = self.now.max(floor_second(now));
        let today = self.now.div_euclid(DAY);
        while steps.left() > 0
            && let Some(mut due) = self.due.first_entry().filter(|due| *due.key() <= today)
        {
            let slot = due.get_mut().pop();
            if due.get().is_empty() {
                due.remove();
            }
            let Some(slot) = slot else { continue };
            steps.take(1);
            // The booking may be gone, or was expanded since.
            if self.held[slot as usize].as_ref().is_some_and(|held| held.due <= today)
                && let Some(held) = self.held[slot as usize].take()
            {
                self.clear_slot(slot, &held);
                let held = self.expand_again(slot, held, steps);
                self.held[slot as usize] = Some(held);
            }
        }
        self.due.first_key_value().is_none_or(|(day, _)| *day > today)
    }

    fn expand_again(&mut self, slot: u32, held: HeldBooking<K>, steps: &mut Steps) -> HeldBooking<K> {
        let Some(recurrence) = held.rest.clone() else { return HeldBooking { due: NEVER_DUE, ..held } };
        let ahead = LookAhead { until: self.expand_until(), now: self.now };
        let (most, mut own_steps) = (most_runs(held.needs.len()), Steps::new(EXPANDING));
        let own = Expanded::expand_into(Vec::new(), &recurrence, held.buffers, ahead, most, &mut own_steps);
        steps.take((EXPANDING - own_steps.left()) as usize);
        let (rest, held_until, due) =
            self.fill_slot(slot, &held.needs, held.buffers, &recurrence, &own, held.due);
        HeldBooking { rest, held_until, due, ..held }
    }

    /// Whether everything is held up to the horizon.
    pub(crate) fn is_covered(&self) -> bool {
        let today = self.now.div_euclid(DAY);
        self.uncovered.is_empty() && self.due.first_key_value().is_none_or(|(day, _)| *day > today)
    }

    /// The instant for which the answers hold.
    pub fn now(&self) -> Timestamp {
        timestamp(self.now)
    }

    /// The time that checks look at: from now to the horizon.
    pub fn ahead(&self) -> LookAhead {
        LookAhead { now: self.now, until: self.until() }
    }

    /// The horizon: checks don't look at occurrences that start here or later.
    pub(crate) fn until(&self) -> i64 {
        self.now + self.horizon
    }

    pub(crate) fn slot(&self, key: &K) -> Option<u32> {
        self.slots.find(key, |slot| self.held[slot as usize].as_ref().is_some_and(|held| held.key == *key))
    }

    pub(crate) fn find_number(&self, name: &R) -> Option<u32> {
        self.by_name.find(name, |number| self.needs[number as usize].name == *name)
    }

    pub(crate) fn find(&self, name: &R) -> Option<&NeedIndex<R>> {
        self.find_number(name).map(|number| &self.needs[number as usize])
    }

    /// Counts the booking at each of its needs. Adds those that the index does not know yet.
    fn take_needs(&mut self, booking: &Booking<R>) -> NeedNumbers {
        let mut take = |name| {
            let number = self.number_or_new(name);
            self.needs[number as usize].bookings += 1;
            number
        };
        match &booking.needs[..] {
            [name] => NeedNumbers::One(take(name)),
            names => NeedNumbers::Many(names.iter().map(take).collect()),
        }
    }

    /// Takes one booking off each of these needs.
    fn release_needs(&mut self, needs: &[u32]) {
        for number in needs {
            self.needs[*number as usize].bookings -= 1;
            self.drop_unused(*number);
        }
    }

    fn number_or_new(&mut self, name: &R) -> u32 {
        if let Some(number) = self.find_number(name) {
            return number;
        }
        let need = NeedIndex::new(name.clone());
        let number = self.vacant_needs.pop().unwrap_or(self.needs.len() as u32);
        if number as usize == self.needs.len() {
            self.needs.push(need);
        } else {
            self.needs[number as usize] = need;
        }
        self.by_name.insert(name, number);
        number
    }

    fn drop_unused(&mut self, number: u32) {
        let need = &mut self.needs[number as usize];
        if need.bookings == 0 && need.capacity == 1 && self.by_name.remove(&need.name, number) {
            (need.singles, need.repeated) = (Vec::new(), None);
            self.vacant_needs.push(number);
        }
    }

    /// How far to expand the next booking: one to two sixteenths of the horizon (and one to two days) beyond the
    /// horizon, a different distance each time.
    fn expand_until(&mut self) -> i64 {
        let slack = self.horizon / 16 + DAY;
        self.stagger = self.stagger.wrapping_add(0x9E37_79B9);
        self.until() + slack + i64::from(self.stagger >> 16) * slack / 65_536
    }

    /// Expands a booking before it is held.
    fn expand(&mut self, booking: &Booking<R>) -> Expanded {
        let (spare_spans, ahead) =
            (mem::take(&mut self.spare_spans), LookAhead { until: self.expand_until(), now: self.now });
        let (most, mut steps) = (most_runs(booking.needs.len()), Steps::new(EXPANDING));
        Expanded::expand_into(spare_spans, &booking.recurrence, booking.buffers, ahead, most, &mut steps)
    }

    fn keep_spare_spans(&mut self, own: Expanded) {
        self.spare_spans = own.spans;
        self.spare_spans.clear();
        self.spare_spans.shrink_to(KEPT_SPANS);
    }

    fn hold(
        &mut self,
        key: K,
        before: Option<u32>,
        booking: &Booking<R>,
        needs: NeedNumbers,
        own: &Expanded,
    ) {
        let slot = before.or_else(|| self.vacant_slots.pop()).unwrap_or(self.held.len() as u32);
        let held = before.and_then(|slot| self.held[slot as usize].take());
        if let Some(held) = &held {
            self.clear_slot(slot, held);
        }
        let due = held.as_ref().map_or(NEVER_DUE, |held| held.due);
        let (rest, held_until, due) =
            self.fill_slot(slot, &needs, booking.buffers, &booking.recurrence, own, due);
        if before.is_none() {
            self.slots.insert(&key, slot);
        }
        let now_held = Some(HeldBooking { key, needs, buffers: booking.buffers, rest, held_until, due });
        match self.held.get_mut(slot as usize) {
            Some(entry) => *entry = now_held,
            None => self.held.push(now_held),
        }
        if let Some(held) = held {
            self.release_needs(&held.needs);
        }
    }

    /// Enters the events of a booking. Returns what remains to expand, the instant up to which all is held, and the
    /// day on which it is due.
    fn fill_slot(
        &mut self,
        slot: u32,
        needs: &[u32],
        buffers: Buffers,
        recurrence: &Arc<Recurrence>,
        own: &Expanded,
        was_due: i64,
    ) -> (Option<Arc<Recurrence>>, i64, i64) {
        let end = own.end(buffers).unwrap_or(self.now);
        let rest = (own.covered < i64::MAX).then(|| Arc::clone(recurrence));
        let held_until = own.covered.min(if rest.is_some() { i64::MAX } else { end });
        if held_until < self.until() && rest.is_some() {
            self.uncovered.push(slot);
        }
        let due = if rest.is_some() { held_until - self.horizon } else { end + DAY };
        // Tomorrow at the earliest, so a booking that never reaches the horizon is expanded once a day.
        let due = due.div_euclid(DAY).max(self.now.div_euclid(DAY) + 1);
        if due != was_due {
            self.due.entry(due).or_default().push(slot);
        }
        let reach = own.spans.iter().map(|span| span.length()).max().unwrap_or(0) + i64::from(buffers.after);
        // So few events are kept as singles, and no runs are searched for.
        let few = own.spans.len() < SHORT_RUN as usize;
        let found = if few { Vec::new() } else { runs(&own.spans).0 };
        let singles = if few { &own.spans[..] } else { &[] };
        for number in needs {
            let need = &mut self.needs[*number as usize];
            need.lead = need.lead.max(buffers.before);
            need.reach = need.reach.max(reach);
            if rest.is_some() {
                need.repeated.get_or_insert_default().endless.push(slot);
            }
            need.enter(slot, singles, &found);
        }
        (rest, held_until, due)
    }

    /// Removes the events of a booking.
    fn clear_slot(&mut self, slot: u32, held: &HeldBooking<K>) {
        self.uncovered.retain(|other| *other != slot);
        for number in held.needs.iter() {
            let need = &mut self.needs[*number as usize];
            need.singles.retain(|single| single.slot != slot);
            if let Some(repeated) = &mut need.repeated {
                repeated.endless.retain(|other| *other != slot);
                repeated.runs.retain(|held| held.slot != slot);
            }
        }
    }
}

//! Checks a booking against the bookings that an [`Occupancy`] holds.
//!
//! Goes through the booking's events in order, so the first clashes come first and the rest need only be counted.
//! For each needed person or resource it looks at the single events nearby, and at those runs whose phase can meet
//! the phase of the booking's own run. It looks at nothing that shares no need with the booking.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hash;

use jiff::Timestamp;

use crate::conflict::{Booking, Clash, Clashes, HeldEvent, Holder, first_clash};
use crate::expanded::{EXPANDING, Expanded};
use crate::free::{Stretch, stretch};
use crate::need_index::{HeldRun, NeedIndex};
use crate::occupancy::{HeldBooking, Occupancy};
use crate::proof::StartPattern;
use crate::spans::{Buffers, Span, runs};
use crate::steps::Steps;
use crate::zone::{floor_second, timestamp};

/// Steps for each other booking named in a clash.
const STEPS_PER_HOLDER: usize = 16;

impl<K: Clone + Ord + Hash, R: Clone + Ord + Hash> Occupancy<K, R> {
    /// The clashes of `booking` with what other keys than `key` hold, as far as `against` accepts them: all, or for
    /// example only older ones. Describes the first `limit` clashes and counts the others.
    pub fn check(
        &self,
        key: &K,
        booking: &Booking<R>,
        against: impl Fn(&K) -> bool,
        limit: usize,
    ) -> Clashes<K, R> {
        let own =
            Expanded::new(&booking.recurrence, booking.buffers, self.ahead(), &mut Steps::new(EXPANDING));
        let needs: Vec<u32> = booking.needs.iter().filter_map(|name| self.find_number(name)).collect();
        self.check_expanded(key, booking, &needs, &own, &against, limit)
    }

    /// The same with at most `steps`, and without the proof beyond the horizon: `never` is always false.
    ///
    /// If the steps run out, [`Clashes::is_short`] is set, and [`Clashes::checked_until`] says how far the check
    /// came.
    pub fn check_within(
        &self,
        key: &K,
        booking: &Booking<R>,
        against: impl Fn(&K) -> bool,
        limit: usize,
        steps: &mut Steps,
    ) -> Clashes<K, R> {
        let own = Expanded::new(&booking.recurrence, booking.buffers, self.ahead(), steps);
        let needs: Vec<u32> = booking.needs.iter().filter_map(|name| self.find_number(name)).collect();
        self.find_clashes(key, booking, &needs, &own, &against, limit, steps).0
    }

    /// Checks a booking that is already expanded to the horizon or farther.
    pub(crate) fn check_expanded(
        &self,
        key: &K,
        booking: &Booking<R>,
        needs: &[u32],
        own: &Expanded,
        against: &dyn Fn(&K) -> bool,
        limit: usize,
    ) -> Clashes<K, R> {
        let mut steps = Steps::new(u64::MAX);
        let (mut clashes, others) = self.find_clashes(key, booking, needs, own, against, limit, &mut steps);
        let mut needs = needs.iter().map(|need| &self.needs[*need as usize]);
        clashes.never = clashes.total == 0
            && others.until == self.until()
            && needs.all(|need| self.never_clashes(booking, own, need, &others));
        clashes
    }

    /// The clashes up to the instant to which everything is held, and the bookings that were counted.
    #[allow(clippy::too_many_arguments, reason = "a check's parts, of two callers")]
    fn find_clashes<'a>(
        &self,
        key: &'a K,
        booking: &Booking<R>,
        needs: &[u32],
        own: &Expanded,
        against: &'a dyn Fn(&K) -> bool,
        limit: usize,
        steps: &mut Steps,
    ) -> (Clashes<K, R>, OtherBookings<'a, K>) {
        let needs = needs.iter().map(|need| &self.needs[*need as usize]);
        let mut others = OtherBookings { but: Some(key), until: self.until(), against };
        let covered = needs.clone().map(|need| self.covered_until(need, &others, steps)).min();
        others.until = others.until.min(own.covered).min(covered.unwrap_or(i64::MAX));
        let near = NearbyRuns::new(
            needs.clone(),
            &own.spans,
            booking.buffers,
            |slot| self.is_counted(slot, &others),
            steps,
        );
        let (mut first, mut total, mut holds) = (Vec::new(), 0, Vec::new());
        let mut short = (steps.left() == 0).then_some(self.now);
        let ahead = own.spans.iter().enumerate().take_while(|(_, event)| event.start < others.until);
        for (index, event) in ahead {
            if short.is_some() {
                break;
            }
            let (mut at, mut with) = (None, Vec::new());
            let told = first.len() < limit;
            for (number, need) in needs.clone().enumerate() {
                let enough = self.held_near(
                    need,
                    near.held_runs(number, index),
                    *event,
                    booking.buffers,
                    &others,
                    &mut holds,
                    steps,
                );
                if !enough {
                    short = Some(event.start);
                    break;
                }
                let found = first_clash(*event, booking.buffers, &holds, need.capacity, |index| {
                    if told {
                        with.push((holds[index], &need.name));
                    }
                    told && steps.take(STEPS_PER_HOLDER)
                });
                at = found.into_iter().chain(at).min();
            }
            let Some(at) = at else { continue };
            total += 1;
            if told && let Some(occurrence) = booking.recurrence.occurrences_from(event.start).next() {
                first.push(Clash { occurrence, at: timestamp(at), with: self.holders(&with) });
            }
        }
        let is_short = short.is_some() || own.is_short && own.covered < self.until();
        others.until = others.until.min(short.unwrap_or(i64::MAX));
        let clashes =
            Clashes { first, total, checked_until: timestamp(others.until), is_short, never: false };
        (clashes, others)
    }

    /// Groups held events by start and key, each with the needs that it shares.
    fn holders(&self, holds: &[(HeldEvent, &R)]) -> Vec<Holder<K, R>> {
        let mut found: BTreeMap<(i64, &K), (i64, BTreeSet<&R>)> = BTreeMap::new();
        for (HeldEvent { slot, event, .. }, name) in holds {
            if let Some(held) = &self.held[*slot as usize] {
                let entry = found.entry((event.start, &held.key));
                entry.or_insert((event.end, BTreeSet::new())).1.insert(name);
            }
        }
        let holders = found.into_iter().map(|((start, key), (end, needs))| Holder {
            key: key.clone(),
            start: timestamp(start),
            end: timestamp(end),
            needs: needs.into_iter().cloned().collect(),
        });
        holders.collect()
    }

    /// Collects into `holds` what `need` is held for near an event and its buffers, out of all singles and the
    /// given runs. False if the steps run out before all are found and compared.
    #[allow(clippy::too_many_arguments, reason = "a check's parts, of two callers")]
    fn held_near(
        &self,
        need: &NeedIndex<R>,
        runs: &[HeldRun],
        event: Span,
        buffers: Buffers,
        others: &OtherBookings<'_, K>,
        holds: &mut Vec<HeldEvent>,
        steps: &mut Steps,
    ) -> bool {
        holds.clear();
        let around = buffers.around(event);
        let (low, high) = (around.start - need.reach, around.end + i64::from(need.lead));
        let singles = &need.singles[need.singles_started_by(low)..];
        let singles = singles.iter().take_while(|single| single.start() < high);
        let singles = singles.map(|single| (single.slot, single.event()));
        let listed = runs.len();
        let repeated =
            runs.iter().flat_map(|held| held.run.starting_within(low, high).map(|event| (held.slot, event)));
        let mut looked_at = 1 + listed;
        for (slot, event) in singles.chain(repeated) {
            let Some(other) = self.held[slot as usize].as_ref() else { continue };
            let held = other.buffers.around(event);
            if held.start < around.end
                && around.start < held.end
                && event.start < others.until
                && held.end > self.now
                && others.includes(&other.key)
            {
                holds.push(HeldEvent { slot, event, around: held });
            }
            looked_at += 1;
            if looked_at as u64 > steps.left() {
                break;
            }
        }
        steps.take(looked_at + 4 * holds.len())
    }

    /// Everything that `need` is held for between two instants.
    pub(crate) fn held_between(&self, need: &NeedIndex<R>, window: Span, but: Option<&K>) -> Vec<HeldEvent> {
        let mut holds = Vec::new();
        let others = OtherBookings { but, until: self.until(), against: &|_: &K| true };
        let mut steps = Steps::new(u64::MAX);
        self.held_near(need, need.runs(), window, Buffers::default(), &others, &mut holds, &mut steps);
        holds
    }

    /// When `name` is taken between two instants, as far as the index knows: the keys that hold it, in order of
    /// time, and how long each does, with its buffers. `None` if the steps run out.
    pub fn taken(
        &self,
        name: &R,
        (from, until): (Timestamp, Timestamp),
        counts: &dyn Fn(&K) -> bool,
        steps: &mut Steps,
    ) -> Option<Vec<(K, Stretch)>> {
        let Some(need) = self.find(name) else { return Some(Vec::new()) };
        let window = Span { start: floor_second(from), end: floor_second(until) };
        let mut holds = Vec::new();
        let others = OtherBookings { but: None, until: self.until(), against: counts };
        if !self.held_near(need, need.runs(), window, Buffers::default(), &others, &mut holds, steps) {
            return None;
        }
        holds.sort_by_key(|hold| (hold.around.start, hold.around.end, hold.slot));
        let key = |hold: &HeldEvent| Some(self.held[hold.slot as usize].as_ref()?.key.clone());
        Some(holds.iter().filter_map(|hold| Some((key(hold)?, stretch(hold.around)))).collect())
    }

    fn is_counted(&self, slot: u32, others: &OtherBookings<'_, K>) -> bool {
        self.held[slot as usize].as_ref().is_some_and(|held| others.includes(&held.key))
    }

    /// The instant up to which all counted bookings of `need` are held.
    fn covered_until(&self, need: &NeedIndex<R>, others: &OtherBookings<'_, K>, steps: &mut Steps) -> i64 {
        if self.is_covered() || !steps.take(need.endless().len()) {
            return i64::MAX;
        }
        let here = need.endless().iter().filter(|slot| self.is_counted(**slot, others));
        let held_until = here.filter_map(|slot| Some(self.held[*slot as usize].as_ref()?.held_until));
        held_until.filter(|held_until| *held_until < others.until).min().unwrap_or(i64::MAX)
    }

    /// Whether it is proven that `booking` never clashes. It must not clash within the horizon.
    fn never_clashes(
        &self,
        booking: &Booking<R>,
        own: &Expanded,
        need: &NeedIndex<R>,
        others: &OtherBookings<'_, K>,
    ) -> bool {
        // If the booking ends by then, it was compared with everything.
        if own.covered == i64::MAX
            && own.end(booking.buffers).is_none_or(|end| end + i64::from(need.lead) <= others.until)
        {
            return true;
        }
        let pattern = StartPattern::new(&booking.recurrence, booking.buffers, self.now);
        let never_meets = |held: &HeldBooking<K>| match &held.rest {
            None => held.held_until + i64::from(booking.buffers.before) <= others.until,
            Some(rest) => pattern
                .as_ref()
                .zip(StartPattern::new(rest, held.buffers, self.now))
                .is_some_and(|(own, other)| own.never_meets(&other, need.capacity > 1)),
        };
        // Of the bookings that end, only these may end that late.
        let mut late: Vec<u32> = Vec::new();
        if need.endless().len() < need.bookings as usize {
            let low = others.until - i64::from(booking.buffers.before) - need.reach;
            late.extend(need.singles[need.singles_started_by(low)..].iter().map(|single| single.slot));
            late.extend(need.runs().iter().map(|held| held.slot));
            late.retain(|slot| self.held[*slot as usize].as_ref().is_some_and(|held| held.rest.is_none()));
            late.sort_unstable();
            late.dedup();
        }
        let counted = need.endless().iter().chain(&late).filter(|slot| self.is_counted(**slot, others));
        let may_meet =
            counted.filter_map(|slot| self.held[*slot as usize].as_ref()).filter(|held| !never_meets(held));
        may_meet.take(need.capacity as usize).count() < need.capacity as usize
    }
}

/// Which other bookings a check counts.
struct OtherBookings<'a, K> {
    but: Option<&'a K>,
    /// Events that start here or later don't count.
    until: i64,
    against: &'a dyn Fn(&K) -> bool,
}

impl<K: PartialEq> OtherBookings<'_, K> {
    fn includes(&self, key: &K) -> bool {
        self.but != Some(key) && (self.against)(key)
    }
}

/// The held runs that may meet each of the booking's own runs, for each need. Empty if nothing is held in runs.
struct NearbyRuns {
    /// How many runs the booking has.
    own_runs: usize,
    /// The run of each of the booking's spans.
    run_of: Vec<u32>,
    /// For each need, and in it for each own run.
    held_runs: Vec<Vec<HeldRun>>,
}

impl NearbyRuns {
    fn new<'a, R: 'a>(
        needs: impl Iterator<Item = &'a NeedIndex<R>> + Clone,
        spans: &[Span],
        buffers: Buffers,
        counts: impl Fn(u32) -> bool,
        steps: &mut Steps,
    ) -> Self {
        let none = Self { own_runs: 0, run_of: Vec::new(), held_runs: Vec::new() };
        if needs.clone().all(|need| need.runs().is_empty()) || !steps.take(spans.len()) {
            return none;
        }
        let (runs, run_of) = runs(spans);
        let listed: usize = needs.clone().map(|need| 1 + need.runs().len()).sum();
        if !steps.take(runs.len().saturating_mul(listed)) {
            return none;
        }
        let mut held_runs = Vec::with_capacity(needs.clone().count() * runs.len());
        for need in needs {
            for run in &runs {
                let low = -(need.reach + i64::from(buffers.before));
                let high = i64::from(run.length) + i64::from(buffers.after) + i64::from(need.lead);
                let near = |held: &&HeldRun| run.may_meet(held.run, low, high) && counts(held.slot);
                held_runs.push(need.runs().iter().filter(near).copied().collect());
            }
        }
        Self { own_runs: runs.len(), run_of, held_runs }
    }

    /// The held runs of a need that may meet the run of this span.
    fn held_runs(&self, need: usize, span: usize) -> &[HeldRun] {
        let run = self.run_of.get(span).map(|run| need * self.own_runs + *run as usize);
        run.and_then(|index| self.held_runs.get(index)).map_or(&[], Vec::as_slice)
    }
}

//! Compares schedules again whose finding may have changed, the oldest first, a bounded part each time. A comparison
//! stops at its step bound, and only namespaces that are linked with the asking one are looked at.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use calendar::Steps;
use crds::schedule::ConflictPolicy;
use jiff::Timestamp;

use super::super::{ScheduleFinding, messages};
use super::{HOLDS, Index, IndexedSchedule, Key, booking, forget, later};
use crate::status::Clash;
use crate::validate::{ValidSchedule, guarded};

/// How many clashes are shown.
const SHOWN: usize = 5;
/// The most steps of comparing one schedule with the others.
pub(in crate::conflicts) const COMPARING: u64 = 2_000_000;
/// After how many steps a caller that compares several schedules lets others have the index.
pub(in crate::conflicts) const AT_ONCE: u64 = 200_000;
/// How many ended findings are noticed in one call.
const ENDED_AT_ONCE: usize = 1_000;

/// How far a call of [`Index::recheck`] came.
#[derive(Default)]
pub(in crate::conflicts) struct RecheckProgress {
    pub(in crate::conflicts) looked_at: usize,
    pub(in crate::conflicts) steps: u64,
    /// A schedule to expand and put into the index again.
    pub(in crate::conflicts) again: Option<Arc<ValidSchedule>>,
    /// Nothing is left to do.
    pub(in crate::conflicts) is_done: bool,
}

impl Index {
    /// Compares some of the schedules whose finding may have changed: those of the namespaces that are linked with
    /// `namespace`, or of all. The others are left until their namespaces ask.
    pub(in crate::conflicts) fn recheck(
        &mut self,
        namespace: Option<&str>,
        now: Timestamp,
    ) -> RecheckProgress {
        let mut part = RecheckProgress::default();
        let is_late = !self.occupancy.advance_within(now, &mut Steps::new(AT_ONCE));
        let ended = self.notice_ends(now);
        let mut linked = self.linked(namespace);
        while part.steps < AT_ONCE && ended < ENDED_AT_ONCE {
            if let Some(again) = oldest(&self.again, linked.as_ref()) {
                part.again = self.held.get(&again).map(|held| Arc::clone(&held.schedule));
                return part;
            }
            let Some(key) = oldest(&self.stale, linked.as_ref()) else {
                // The horizon of `advance_within` covers weeks to come, so one namespace doesn't wait for it.
                part.is_done = namespace.is_some() || !is_late;
                return part;
            };
            let Some(space) = self.held.get(&key).map(|held| held.schedule.plan.namespace.clone()) else {
                self.stale.retain(|_, all| !all.remove(&key) || !all.is_empty());
                continue;
            };
            forget(&mut self.stale, &space, &key);
            part.looked_at += 1;
            part.steps += self.look_again(key, now);
            if part.looked_at.is_multiple_of(64) {
                linked = self.linked(namespace);
            }
        }
        part
    }

    fn linked(&self, namespace: Option<&str>) -> Option<BTreeSet<String>> {
        namespace.map(|namespace| self.links.linked_to(namespace))
    }

    /// Marks schedules whose finding has ended to be compared again. Returns how many there were, up to a bound.
    fn notice_ends(&mut self, now: Timestamp) -> usize {
        let mut count = 0;
        while count < ENDED_AT_ONCE {
            if let Some((until, key)) = self.ends.first().copied().filter(|(until, _)| *until <= now) {
                self.ends.remove(&(until, key));
                if let Some(held) = self.held.get(&key) {
                    self.stale.entry(held.schedule.plan.namespace.clone()).or_default().insert(key);
                }
            } else if let Some(key) = self.asks.ended(now) {
                self.ask(&key);
            } else {
                break;
            }
            count += 1;
        }
        count
    }

    /// Compares one schedule again; returns the steps that it took.
    fn look_again(&mut self, key: Key, now: Timestamp) -> u64 {
        let Some(held) = self.held.get(&key) else { return 1 };
        let mut steps = Steps::new(COMPARING);
        // A panic is our bug; it must affect this schedule alone.
        let (finding, until) = guarded(|| Ok(self.look(&key, held, now, &mut steps)))
            .unwrap_or_else(|_| (ScheduleFinding::default(), later(now, HOLDS)));
        if finding.rejected != self.rejected.contains(&key) {
            for all in held.needs.iter().filter_map(|need| self.needed.get(need)) {
                for younger in all.range((Excluded(key), Unbounded)) {
                    let Some(held) = self.held.get(younger) else { continue };
                    self.stale.entry(held.schedule.plan.namespace.clone()).or_default().insert(*younger);
                }
            }
        }
        if finding.rejected {
            self.rejected.insert(key);
        } else {
            self.rejected.remove(&key);
        }
        if let Some(held) = self.held.get_mut(&key) {
            if let Some((before, until)) = &held.found {
                self.ends.remove(&(*until, key));
                if *before != finding {
                    self.affected.insert(held.schedule.plan.namespace.clone());
                }
            }
            self.ends.insert((until, key));
            held.found = Some((finding, until));
        }
        1 + COMPARING - steps.left()
    }

    fn look(
        &self,
        key: &Key,
        held: &IndexedSchedule,
        now: Timestamp,
        steps: &mut Steps,
    ) -> (ScheduleFinding, Timestamp) {
        let schedule = &held.schedule;
        let booking = booking(schedule, &held.needs);
        let until = later(now, HOLDS);
        let (_, not_permitted) = self.permissions(schedule);
        let mut finding = ScheduleFinding { not_permitted, ..ScheduleFinding::default() };
        if schedule.policy == ConflictPolicy::Allow {
            return (finding, until);
        }
        let older = |other: &Key| other < key && !self.rejected.contains(other);
        let clashes = self.occupancy.check_within(key, &booking, older, SHOWN, steps);
        finding.compared_until = clashes.is_short.then_some(clashes.checked_until);
        if held.is_over {
            finding.compared_until = Some(now);
        }
        let over = clashes.first.first().map_or(until, |clash| {
            clash.with.iter().map(|holder| holder.end).fold(clash.occurrence.end, Timestamp::min)
        });
        let namespace = &schedule.plan.namespace;
        'told: for clash in &clashes.first {
            for holder in &clash.with {
                if finding.clashes.len() == SHOWN {
                    break 'told;
                }
                let clash = Clash {
                    start: clash.occurrence.start,
                    schedule: self.name_of(&holder.key, namespace).map(str::to_owned),
                    shared: messages::needs(&holder.needs, namespace),
                };
                // Clashes with schedules of other namespaces look the same, and one is shown.
                if !finding.clashes.contains(&clash) {
                    finding.clashes.push(clash);
                }
            }
        }
        let has_all = clashes.total == 0 && finding.not_permitted.is_empty();
        finding.rejected = schedule.policy == ConflictPolicy::Reject && !has_all;
        (finding, until.min(over))
    }
}

/// The oldest schedule of these namespaces, or of all.
fn oldest(all: &HashMap<String, BTreeSet<Key>>, of: Option<&BTreeSet<String>>) -> Option<Key> {
    let first = |keys: &BTreeSet<Key>| keys.first().copied();
    match of {
        Some(of) => of.iter().filter_map(|space| all.get(space).and_then(first)).min(),
        None => all.values().filter_map(first).min(),
    }
}

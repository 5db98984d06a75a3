//! The index behind [`super::Conflicts`]: who holds what, who must be looked at again, and who has to be told.
//!
//! Schedules are looked at from the oldest on, since only an older one can take a slot or leave it; so each is looked at once
//! after a change. Never: words.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use calendar::{Booking, Clashes, NearestInHours, Occupancy, Search, Stretch};
use crds::resource::ResourceRef;
use crds::schedule::ConflictPolicy;
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::{Finding, Found, words};
use crate::status::Clash;
use crate::validate::{Need, Suggest, ValidResource, ValidSchedule, guarded};

/// How long a finding holds: the horizon moves on meanwhile.
pub(super) const HOLDS: SignedDuration = SignedDuration::from_hours(24);
/// Clashes that are shown.
const SHOWN: usize = 5;

/// Precedence: the lesser keeps the slot.
pub(super) type Key = (Timestamp, Uuid);

pub(super) struct Index {
    occupancy: Occupancy<Key, Need>,
    held: BTreeMap<Key, Held>,
    keys: HashMap<Uuid, Key>,
    spaces: HashMap<String, BTreeSet<Key>>,
    /// Who needs it.
    needed: HashMap<Need, BTreeSet<Key>>,
    /// Who names a resource of another namespace, permitted or not.
    named: HashMap<ResourceRef, BTreeSet<Key>>,
    lent: HashMap<ResourceRef, ValidResource>,
    /// Those that hold nothing.
    rejected: HashSet<Key>,
    /// To be looked at again.
    stale: BTreeSet<Key>,
    /// When what was found ends.
    ends: BTreeSet<(Timestamp, Key)>,
    /// Namespaces for which something was found that they did not ask for.
    stirred: BTreeSet<String>,
}

struct Held {
    schedule: Arc<ValidSchedule>,
    needs: Vec<Need>,
    found: Option<(Finding, Timestamp)>,
}

pub(super) fn key(schedule: &ValidSchedule) -> Key {
    (schedule.plan.created, schedule.plan.uid)
}

fn booking(schedule: &ValidSchedule, needs: &[Need]) -> Booking<Need> {
    let (before, after) = schedule.buffers;
    Booking::new(Arc::clone(&schedule.recurrence), needs.to_vec()).with_buffers(before, after)
}

impl Index {
    pub(super) fn new(horizon: SignedDuration, now: Timestamp) -> Self {
        Self {
            occupancy: Occupancy::new(now, horizon),
            held: BTreeMap::new(),
            keys: HashMap::new(),
            spaces: HashMap::new(),
            needed: HashMap::new(),
            named: HashMap::new(),
            lent: HashMap::new(),
            rejected: HashSet::new(),
            stale: BTreeSet::new(),
            ends: BTreeSet::new(),
            stirred: BTreeSet::new(),
        }
    }

    /// Holds a schedule, in place of what it was. One that can't be compared is not held.
    pub(super) fn put(&mut self, schedule: Arc<ValidSchedule>, now: Timestamp) {
        let held = self.held.get(&key(&schedule));
        if held.is_some_and(|held| held.schedule.plan.generation == schedule.plan.generation) {
            return;
        }
        self.remove(schedule.plan.uid);
        self.occupancy.advance(now);
        self.hold(schedule);
    }

    fn hold(&mut self, schedule: Arc<ValidSchedule>) {
        let key = key(&schedule);
        let (needs, _) = self.weigh(&schedule);
        self.occupancy.insert(key, &booking(&schedule, &needs));
        self.keys.insert(schedule.plan.uid, key);
        self.spaces.entry(schedule.plan.namespace.clone()).or_default().insert(key);
        for need in &needs {
            self.needed.entry(need.clone()).or_default().insert(key);
        }
        for reference in &schedule.shared {
            self.named.entry(reference.clone()).or_default().insert(key);
        }
        self.touch(&key, &needs);
        self.stale.insert(key);
        self.held.insert(key, Held { schedule, needs, found: None });
    }

    /// Frees all that a schedule held.
    pub(super) fn remove(&mut self, uid: Uuid) {
        let Some(key) = self.keys.remove(&uid) else { return };
        let Some(held) = self.held.remove(&key) else { return };
        self.occupancy.remove(&key);
        self.rejected.remove(&key);
        self.stale.remove(&key);
        if let Some((_, until)) = held.found {
            self.ends.remove(&(until, key));
        }
        for need in &held.needs {
            forget(&mut self.needed, need, &key);
        }
        for reference in &held.schedule.shared {
            forget(&mut self.named, reference, &key);
        }
        forget(&mut self.spaces, &held.schedule.plan.namespace, &key);
        self.touch(&key, &held.needs);
    }

    /// What others may find otherwise when `key` comes or goes: the younger, and whoever asks for free times.
    fn touch(&mut self, key: &Key, needs: &[Need]) {
        for all in needs.iter().filter_map(|need| self.needed.get(need)) {
            self.stale.extend(all.range((Excluded(*key), Unbounded)));
            let asks = |key: &&Key| self.held.get(key).is_some_and(|held| held.schedule.suggest.is_some());
            self.stale.extend(all.range(..*key).filter(asks));
        }
    }

    /// Lets schedules book a resource, as it says.
    pub(super) fn lend(&mut self, resource: ValidResource) {
        let reference = resource.reference.clone();
        if self.lent.get(&reference) != Some(&resource) {
            let capacity = resource.capacity;
            self.lent.insert(reference.clone(), resource);
            self.lent_otherwise(&reference, capacity);
        }
    }

    /// Takes a resource back: what bears its name in its own namespace is one thing, as without it.
    pub(super) fn unlend(&mut self, reference: &ResourceRef) {
        if self.lent.remove(reference).is_some() {
            self.lent_otherwise(reference, 1);
        }
    }

    fn lent_otherwise(&mut self, reference: &ResourceRef, capacity: u32) {
        let need = Need::from(reference);
        self.occupancy.set_capacity(&need, capacity);
        self.stale.extend(self.needed.get(&need).into_iter().flatten());
        for key in self.named.get(reference).cloned().unwrap_or_default() {
            let Some(held) = self.held.get(&key) else { continue };
            let schedule = Arc::clone(&held.schedule);
            if self.weigh(&schedule).0 != held.needs {
                self.remove(schedule.plan.uid);
                self.stirred.insert(schedule.plan.namespace.clone());
                self.hold(schedule);
            }
        }
        let spaces = self.needed.get(&need).into_iter().flatten().filter_map(|key| self.held.get(key));
        self.stirred.extend(spaces.map(|held| held.schedule.plan.namespace.clone()));
    }

    /// What a schedule may book, and what it names and may not.
    pub(super) fn weigh(&self, schedule: &ValidSchedule) -> (Vec<Need>, Vec<ResourceRef>) {
        let mut needs = schedule.needs.clone();
        let mut not_permitted = Vec::new();
        for reference in &schedule.shared {
            if self.lent.get(reference).is_some_and(|lent| lent.serves(&schedule.plan.namespace)) {
                needs.push(Need::from(reference));
            } else {
                not_permitted.push(reference.clone());
            }
        }
        (needs, not_permitted)
    }

    /// Looks again at what may have changed; at how many.
    pub(super) fn settle(&mut self, now: Timestamp) -> usize {
        let mut looked_at = 0;
        self.occupancy.advance(now);
        while let Some((until, key)) = self.ends.first().copied().filter(|(until, _)| *until <= now) {
            self.ends.remove(&(until, key));
            self.stale.insert(key);
        }
        while let Some(key) = self.stale.pop_first() {
            let Some(held) = self.held.get(&key) else { continue };
            looked_at += 1;
            // A panic is our bug, and stays this schedule's trouble.
            let (finding, until) = guarded(|| Ok(self.look(&key, held, now)))
                .unwrap_or_else(|_| (Finding::default(), later(now, HOLDS)));
            if finding.rejected != self.rejected.contains(&key) {
                for all in held.needs.iter().filter_map(|need| self.needed.get(need)) {
                    self.stale.extend(all.range((Excluded(key), Unbounded)));
                }
            }
            if finding.rejected {
                self.rejected.insert(key);
            } else {
                self.rejected.remove(&key);
            }
            let Some(held) = self.held.get_mut(&key) else { continue };
            if let Some((before, until)) = &held.found {
                self.ends.remove(&(*until, key));
                if *before != finding {
                    self.stirred.insert(held.schedule.plan.namespace.clone());
                }
            }
            self.ends.insert((until, key));
            held.found = Some((finding, until));
        }
        looked_at
    }

    fn look(&self, key: &Key, held: &Held, now: Timestamp) -> (Finding, Timestamp) {
        let schedule = &held.schedule;
        let booking = booking(schedule, &held.needs);
        let suggestions = match &schedule.suggest {
            None => Vec::new(),
            Some(Suggest { search, people }) => {
                let found = self.occupancy.suggest(key, &booking, search, people, &NearestInHours);
                found.into_iter().map(|candidate| candidate.time.first).collect::<Vec<Stretch>>()
            }
        };
        let until = suggestions.iter().map(|time| time.start).fold(later(now, HOLDS), Timestamp::min);
        let (_, not_permitted) = self.weigh(schedule);
        let mut finding = Finding { not_permitted, suggestions, ..Finding::default() };
        if schedule.policy == ConflictPolicy::Allow {
            return (finding, until);
        }
        let older = |other: &Key| other < key && !self.rejected.contains(other);
        let clashes = self.occupancy.check(key, &booking, older, SHOWN);
        let over = clashes.first.first().map_or(until, |clash| {
            clash.with.iter().map(|holder| holder.end).fold(clash.occurrence.end, Timestamp::min)
        });
        let namespace = &schedule.plan.namespace;
        for clash in &clashes.first {
            for holder in &clash.with {
                let clash = Clash {
                    start: clash.occurrence.start,
                    schedule: self.name_of(&holder.key, namespace).map(str::to_owned),
                    shared: words::needs(&holder.needs, namespace),
                };
                // Those of other namespaces are not told apart.
                if !finding.clashes.contains(&clash) {
                    finding.clashes.push(clash);
                }
            }
        }
        finding.clashes.truncate(SHOWN);
        let has_all = clashes.total == 0 && finding.not_permitted.is_empty();
        finding.rejected = schedule.policy == ConflictPolicy::Reject && !has_all;
        (finding, until.min(over))
    }

    pub(super) fn found(&mut self, namespace: &str, now: Timestamp) -> Found {
        self.stirred.remove(namespace);
        let held = self.spaces.get(namespace).into_iter().flatten().filter_map(|key| self.held.get(key));
        let mut until = later(now, HOLDS);
        let mut findings = HashMap::new();
        for (uid, (finding, ends)) in
            held.filter_map(|held| Some((held.schedule.plan.uid, held.found.as_ref()?)))
        {
            until = until.min(*ends);
            findings.insert(uid, finding.clone());
        }
        Found { findings, until }
    }

    /// The clashes of one that gives way to all who hold something.
    pub(super) fn clashes_of_newcomer(&self, schedule: &ValidSchedule, limit: usize) -> Clashes<Key, Need> {
        let booking = booking(schedule, &self.weigh(schedule).0);
        self.occupancy.check(&key(schedule), &booking, |other| !self.rejected.contains(other), limit)
    }

    pub(super) fn nearest_free(&self, schedule: &ValidSchedule, search: &Search) -> Vec<Timestamp> {
        let booking = booking(schedule, &self.weigh(schedule).0);
        let free = self.occupancy.nearest_free(&key(schedule), &booking, search);
        free.iter().map(|free| free.first.start).collect()
    }

    /// How many schedules that have a slot would clash with older ones under the capacity of `resource`.
    pub(super) fn too_many(&mut self, resource: &ValidResource) -> usize {
        let need = resource.need();
        let before = self.lent.get(&resource.reference).map_or(1, |lent| lent.capacity);
        let Some(keys) = self.needed.get(&need).filter(|_| resource.capacity < before) else { return 0 };
        self.occupancy.set_capacity(&need, resource.capacity);
        let (mut count, mut rejected) = (0, self.rejected.clone());
        for key in keys {
            let Some(held) = self.held.get(key) else { continue };
            let has_slot = held.found.as_ref().is_none_or(|found| found.0.clashes.is_empty());
            if held.schedule.policy == ConflictPolicy::Allow || !has_slot || rejected.contains(key) {
                continue;
            }
            let older = |other: &Key| other < key && !rejected.contains(other);
            if self.occupancy.check(key, &booking(&held.schedule, &held.needs), older, 0).total > 0 {
                count += 1;
                if held.schedule.policy == ConflictPolicy::Reject {
                    rejected.insert(*key);
                }
            }
        }
        self.occupancy.set_capacity(&need, before);
        count
    }

    /// How many schedules have a resource now that it would not serve.
    pub(super) fn not_served(&self, resource: &ValidResource) -> usize {
        let held =
            self.needed.get(&resource.need()).into_iter().flatten().filter_map(|key| self.held.get(key));
        held.filter(|held| !resource.serves(&held.schedule.plan.namespace)).count()
    }

    /// What a schedule is called, told in `namespace`. None for one of another.
    pub(super) fn name_of(&self, key: &Key, namespace: &str) -> Option<&str> {
        let plan = &self.held.get(key)?.schedule.plan;
        (plan.namespace == namespace).then_some(plan.name.as_str())
    }

    pub(super) fn has_stirred(&self) -> bool {
        !self.stirred.is_empty()
    }

    pub(super) fn stirred(&mut self) -> Vec<String> {
        std::mem::take(&mut self.stirred).into_iter().collect()
    }

    #[cfg(test)]
    pub(super) fn uids(&self) -> Vec<Uuid> {
        self.keys.keys().copied().collect()
    }
}

fn later(now: Timestamp, by: SignedDuration) -> Timestamp {
    now.checked_add(by).unwrap_or(now)
}

fn forget<K: Eq + std::hash::Hash>(map: &mut HashMap<K, BTreeSet<Key>>, at: &K, key: &Key) {
    if let Some(keys) = map.get_mut(at) {
        keys.remove(key);
        if keys.is_empty() {
            map.remove(at);
        }
    }
}

//! The index behind [`super::Conflicts`]: who holds what, who must be looked at again, and who has to be told.
//!
//! Schedules are looked at from the oldest on, since only an older one can take a slot or leave it; so each is looked at once
//! after a change. Each call does a bounded part, and the next one goes on. Never: words, or a search for free times.

mod settle;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use calendar::{Booking, Clashes, Expanded, LookAhead, Occupancy, Steps, Stretch};
use crds::resource::ResourceRef;
use crds::schedule::ConflictPolicy;
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

#[cfg(test)]
pub(super) use self::settle::AT_ONCE;
pub(super) use self::settle::COMPARING;
use super::asks::{Asks, Suggested};
use super::links::Links;
use super::{Finding, Found};
use crate::validate::{Need, ValidResource, ValidSchedule};

/// Runs that the schedules of a namespace may take, of 28 bytes each. One that repeats evenly takes a few at each thing.
pub(super) const OF_A_NAMESPACE: usize = 500_000;
/// How long a finding holds: the horizon moves on meanwhile.
pub(super) const HOLDS: SignedDuration = SignedDuration::from_hours(24);
/// Precedence: the lesser keeps the slot.
pub(super) type Key = (Timestamp, Uuid);

pub(super) struct Index {
    pub(super) occupancy: Occupancy<Key, Need>,
    held: BTreeMap<Key, Held>,
    keys: HashMap<Uuid, Key>,
    spaces: HashMap<String, BTreeSet<Key>>,
    /// Who needs it.
    needed: HashMap<Need, BTreeSet<Key>>,
    /// Who names a resource of another namespace, permitted or not.
    named: HashMap<ResourceRef, BTreeSet<Key>>,
    lent: HashMap<ResourceRef, ValidResource>,
    /// What the schedules of a namespace take.
    runs: HashMap<String, usize>,
    /// Those that hold nothing.
    rejected: HashSet<Key>,
    /// To be looked at again, by namespace.
    stale: HashMap<String, BTreeSet<Key>>,
    /// To be held anew, since what they may have of others has changed, by namespace.
    again: HashMap<String, BTreeSet<Key>>,
    links: Links,
    pub(super) asks: Asks,
    /// When what was found ends.
    ends: BTreeSet<(Timestamp, Key)>,
    /// Namespaces for which something was found that they did not ask for.
    stirred: BTreeSet<String>,
}

struct Held {
    schedule: Arc<ValidSchedule>,
    needs: Vec<Need>,
    /// What it takes at all that it needs.
    runs: usize,
    /// It is not compared: its namespace takes all that it may. Then so many runs are wanted.
    is_over: bool,
    wants: usize,
    found: Option<(Finding, Timestamp)>,
}

pub(super) fn key(schedule: &ValidSchedule) -> Key {
    (schedule.plan.created, schedule.plan.uid)
}

pub(super) fn booking(schedule: &ValidSchedule, needs: &[Need]) -> Booking<Need> {
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
            runs: HashMap::new(),
            rejected: HashSet::new(),
            stale: HashMap::new(),
            again: HashMap::new(),
            links: Links::default(),
            asks: Asks::default(),
            ends: BTreeSet::new(),
            stirred: BTreeSet::new(),
        }
    }

    /// How far to expand a schedule that is to be held. None if it is held as it is.
    pub(super) fn far_ahead(&mut self, schedule: &ValidSchedule) -> Option<LookAhead> {
        let held = self.held.get(&key(schedule));
        let same = held.is_some_and(|held| held.schedule.plan.generation == schedule.plan.generation);
        (!same || self.is_again(schedule)).then(|| self.occupancy.far_ahead())
    }

    /// Holds a schedule, expanded before, in place of what it was. One that can't be compared is not held.
    pub(super) fn put(&mut self, schedule: Arc<ValidSchedule>, own: &Expanded) {
        self.free(schedule.plan.uid);
        let key = key(&schedule);
        let namespace = schedule.plan.namespace.clone();
        let (mut needs, not_permitted) = self.weigh(&schedule);
        let mut runs = own.runs() * needs.len();
        let taken = self.runs.entry(namespace.clone()).or_default();
        let (is_over, wants) = (*taken + runs > OF_A_NAMESPACE, runs);
        if is_over {
            (needs, runs) = (Vec::new(), 0);
        }
        *taken += runs;
        self.occupancy.insert_expanded(key, &booking(&schedule, &needs), own);
        self.keys.insert(schedule.plan.uid, key);
        self.spaces.entry(namespace.clone()).or_default().insert(key);
        for need in &needs {
            self.needed.entry(need.clone()).or_default().insert(key);
        }
        for reference in &schedule.shared {
            self.named.entry(reference.clone()).or_default().insert(key);
        }
        let permitted = schedule.shared.iter().filter(|reference| !not_permitted.contains(reference));
        self.links.set(key, &namespace, permitted.cloned().collect());
        self.held.insert(key, Held { schedule, needs, runs, is_over, wants, found: None });
        self.touch(&key, &namespace);
        self.mark(&key);
        self.room_appeared(&namespace);
    }

    /// Frees all that a schedule held.
    pub(super) fn remove(&mut self, uid: Uuid) {
        let held = self.keys.get(&uid).and_then(|key| self.held.get(key));
        let Some(namespace) = held.map(|held| held.schedule.plan.namespace.clone()) else { return };
        self.free(uid);
        self.room_appeared(&namespace);
    }

    /// Those that were over their namespace's share and for which there is room now are held anew, the oldest first.
    fn room_appeared(&mut self, namespace: &str) {
        let mut room = OF_A_NAMESPACE - self.runs.get(namespace).copied().unwrap_or(0);
        let held = self
            .spaces
            .get(namespace)
            .into_iter()
            .flatten()
            .filter_map(|key| Some((key, self.held.get(key)?)));
        let mut fit = Vec::new();
        for (key, held) in held.filter(|(_, held)| held.is_over) {
            if held.wants <= room {
                room -= held.wants;
                fit.push(*key);
            }
        }
        if !fit.is_empty() {
            self.stirred.insert(namespace.to_owned());
            self.again.entry(namespace.to_owned()).or_default().extend(fit);
        }
    }

    fn free(&mut self, uid: Uuid) {
        let Some(key) = self.keys.remove(&uid) else { return };
        let Some(held) = self.held.remove(&key) else { return };
        let namespace = &held.schedule.plan.namespace;
        if let Some(taken) = self.runs.get_mut(namespace) {
            *taken -= held.runs;
            if *taken == 0 {
                self.runs.remove(namespace);
            }
        }
        self.occupancy.remove(&key);
        self.rejected.remove(&key);
        forget(&mut self.stale, namespace, &key);
        forget(&mut self.again, namespace, &key);
        self.asks.forget(namespace, &key);
        if let Some((_, until)) = held.found {
            self.ends.remove(&(until, key));
        }
        for need in &held.needs {
            forget(&mut self.needed, need, &key);
        }
        for reference in &held.schedule.shared {
            forget(&mut self.named, reference, &key);
        }
        self.links.set(key, namespace, BTreeSet::new());
        forget(&mut self.spaces, namespace, &key);
        self.touched(&key, namespace, &held.needs);
    }

    fn touch(&mut self, key: &Key, namespace: &str) {
        let needs = self.held.get(key).map_or_else(Vec::new, |held| held.needs.clone());
        self.touched(key, namespace, &needs);
    }

    /// What others may find otherwise when `key` comes or goes: the younger, and whoever asks for free times. Those of other
    /// namespaces are looked at when these ask.
    fn touched(&mut self, key: &Key, namespace: &str, needs: &[Need]) {
        let all = |need| self.needed.get(need).into_iter().flatten().copied();
        let near: BTreeSet<Key> = needs.iter().flat_map(all).collect();
        for other in near {
            if other > *key {
                self.mark(&other);
                let space = self.held.get(&other).map(|held| &held.schedule.plan.namespace);
                self.stirred.extend(space.filter(|space| *space != namespace).cloned());
            } else if other < *key {
                self.ask(&other);
            }
        }
    }

    /// Is to be looked at again.
    fn mark(&mut self, key: &Key) {
        if let Some(held) = self.held.get(key) {
            self.stale.entry(held.schedule.plan.namespace.clone()).or_default().insert(*key);
        }
        self.ask(key);
    }

    fn ask(&mut self, key: &Key) {
        if let Some(held) = self.held.get(key).filter(|held| held.schedule.suggest.is_some()) {
            self.asks.ask(&held.schedule.plan.namespace, *key);
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
        let users: Vec<Key> = self.needed.get(&need).into_iter().flatten().copied().collect();
        for key in &users {
            self.mark(key);
        }
        let named = self.named.get(reference).into_iter().flatten().copied();
        for key in named.collect::<Vec<Key>>() {
            let Some(held) = self.held.get(&key) else { continue };
            let namespace = held.schedule.plan.namespace.clone();
            let (needs, not_permitted) = self.weigh(&held.schedule);
            if needs == held.needs && !held.is_over {
                forget(&mut self.again, &namespace, &key);
                continue;
            }
            let permitted =
                held.schedule.shared.iter().filter(|reference| !not_permitted.contains(reference));
            self.links.add(key, &namespace, permitted.cloned().collect());
            self.stirred.insert(namespace.clone());
            self.again.entry(namespace).or_default().insert(key);
        }
        let spaces = users.iter().filter_map(|key| self.held.get(key));
        self.stirred.extend(spaces.map(|held| held.schedule.plan.namespace.clone()));
    }

    /// Holds one anew, expanded before, unless it is otherwise by now or another look has done so: what that found must stay.
    pub(super) fn put_again(&mut self, schedule: &Arc<ValidSchedule>, own: &Expanded) {
        let held = self.held.get(&key(schedule));
        if self.is_again(schedule) && held.is_some_and(|held| Arc::ptr_eq(&held.schedule, schedule)) {
            self.put(Arc::clone(schedule), own);
        }
    }

    fn is_again(&self, schedule: &ValidSchedule) -> bool {
        self.again.get(&schedule.plan.namespace).is_some_and(|all| all.contains(&key(schedule)))
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

    pub(super) fn found(&mut self, namespace: &str, now: Timestamp) -> Found {
        // What changed since it was settled is told once it is, whoever has heard of the change meanwhile.
        if self.stale.contains_key(namespace) || self.again.contains_key(namespace) {
            self.stirred.insert(namespace.to_owned());
        } else {
            self.stirred.remove(namespace);
        }
        let held = self.spaces.get(namespace).into_iter().flatten().filter_map(|key| self.held.get(key));
        let mut until = later(now, HOLDS);
        let mut findings = HashMap::new();
        for held in held {
            let Some((finding, ends)) = &held.found else { continue };
            let mut finding = finding.clone();
            until = until.min(*ends);
            if let Some((suggested, ends)) = self.asks.found(&key(&held.schedule)) {
                until = until.min(*ends);
                finding.suggested = suggested.clone();
            }
            findings.insert(held.schedule.plan.uid, finding);
        }
        Found { findings, until }
    }

    /// The clashes of one that gives way to all who hold something.
    pub(super) fn clashes_of_newcomer(
        &self,
        schedule: &ValidSchedule,
        limit: usize,
        steps: &mut Steps,
    ) -> Clashes<Key, Need> {
        let booking = booking(schedule, &self.weigh(schedule).0);
        let holds = |other: &Key| !self.rejected.contains(other);
        self.occupancy.check_within(&key(schedule), &booking, holds, limit, steps)
    }

    /// One that asks for other times, of the namespace whose turn it is.
    pub(super) fn next_asking(&mut self) -> Option<Arc<ValidSchedule>> {
        loop {
            let key = self.asks.next()?;
            if let Some(held) = self.held.get(&key) {
                return Some(Arc::clone(&held.schedule));
            }
        }
    }

    /// Keeps what was found for one that is still there as it was.
    pub(super) fn answer(&mut self, schedule: &Arc<ValidSchedule>, found: Suggested) {
        let (key, now) = (key(schedule), self.occupancy.now());
        if self.held.get(&key).is_some_and(|held| Arc::ptr_eq(&held.schedule, schedule)) {
            let first = found.times.iter().map(|time| time.start);
            let until = first.fold(later(now, HOLDS), Timestamp::min);
            if self.asks.answer(key, found, until) {
                self.stirred.insert(schedule.plan.namespace.clone());
            }
        }
    }

    /// How many schedules that have a slot would clash with older ones under the capacity of `resource`, and whether the steps
    /// sufficed to compare them all.
    pub(super) fn too_many(&mut self, resource: &ValidResource, steps: &mut Steps) -> (usize, bool) {
        let need = resource.need();
        let before = self.lent.get(&resource.reference).map_or(1, |lent| lent.capacity);
        let Some(keys) = self.needed.get(&need).filter(|_| resource.capacity < before) else {
            return (0, true);
        };
        self.occupancy.set_capacity(&need, resource.capacity);
        let (mut count, mut rejected) = (0, HashSet::new());
        for key in keys {
            let Some(held) = self.held.get(key).filter(|_| steps.left() > 0) else { continue };
            let has_slot = held.found.as_ref().is_none_or(|found| found.0.clashes.is_empty());
            if held.schedule.policy == ConflictPolicy::Allow || !has_slot || self.rejected.contains(key) {
                continue;
            }
            let older =
                |other: &Key| other < key && !self.rejected.contains(other) && !rejected.contains(other);
            let booking = booking(&held.schedule, &held.needs);
            if self.occupancy.check_within(key, &booking, older, 0, steps).total > 0 {
                count += 1;
                if held.schedule.policy == ConflictPolicy::Reject {
                    rejected.insert(*key);
                }
            }
        }
        self.occupancy.set_capacity(&need, before);
        (count, steps.left() > 0)
    }

    /// How many schedules have a resource now that it would not serve.
    pub(super) fn not_served(&self, resource: &ValidResource) -> usize {
        let held =
            self.needed.get(&resource.need()).into_iter().flatten().filter_map(|key| self.held.get(key));
        held.filter(|held| !resource.serves(&held.schedule.plan.namespace)).count()
    }

    /// Who has a resource between two instants, in order; none when the steps don't suffice.
    pub(super) fn taken_of(
        &self,
        need: &Need,
        between: (Timestamp, Timestamp),
        steps: &mut Steps,
    ) -> Option<Vec<(Key, Stretch)>> {
        let counts = |key: &Key| !self.rejected.contains(key);
        self.occupancy.taken(need, between, &counts, steps)
    }

    /// What a schedule is called, told in `namespace`. None for one of another.
    pub(super) fn name_of(&self, key: &Key, namespace: &str) -> Option<&str> {
        let plan = &self.held.get(key)?.schedule.plan;
        (plan.namespace == namespace).then_some(plan.name.as_str())
    }

    /// Whether something was found for others, and whether somebody asks for other times.
    pub(super) fn news(&self) -> (bool, bool) {
        (!self.stirred.is_empty(), self.asks.is_due())
    }

    pub(super) fn stirred(&mut self) -> Vec<String> {
        std::mem::take(&mut self.stirred).into_iter().collect()
    }

    #[cfg(test)]
    pub(super) fn taken(&self, namespace: &str) -> usize {
        self.runs.get(namespace).copied().unwrap_or(0)
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

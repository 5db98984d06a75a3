//! The index behind [`super::Conflicts`]: which schedule holds what, which must be compared again, and which namespaces
//! have to be told.
//!
//! Schedules are compared from the oldest on. Only an older schedule can take a slot or free it, so each is compared
//! once after a change. Each call does a bounded part of the work, and the next call goes on. Texts and the search for
//! free times are elsewhere.

mod recheck;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use calendar::{Booking, Clashes, Expanded, LookAhead, Occupancy, Steps, Stretch};
use crds::resource::ResourceRef;
use crds::schedule::ConflictPolicy;
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

#[cfg(test)]
pub(super) use self::recheck::AT_ONCE;
pub(super) use self::recheck::COMPARING;
use super::links::Links;
use super::suggestions::{Suggested, Suggestions};
use super::{Found, ScheduleFinding};
use crate::validate::{Need, ValidResource, ValidSchedule};

/// How many runs the schedules of a namespace may have, of 28 bytes each. A schedule that repeats evenly has a few runs
/// for each thing it needs.
pub(super) const OF_A_NAMESPACE: usize = 500_000;
/// How long a finding is valid; afterwards the horizon has moved on.
pub(super) const HOLDS: SignedDuration = SignedDuration::from_hours(24);
/// The precedence of a schedule, (creation, uid): the lesser keeps the slot.
pub(super) type Key = (Timestamp, Uuid);

pub(super) struct Index {
    pub(super) occupancy: Occupancy<Key, Need>,
    held: BTreeMap<Key, IndexedSchedule>,
    keys: HashMap<Uuid, Key>,
    spaces: HashMap<String, BTreeSet<Key>>,
    /// Which schedules need a person or resource.
    needed: HashMap<Need, BTreeSet<Key>>,
    /// Which schedules name a resource of another namespace, permitted or not.
    named: HashMap<ResourceRef, BTreeSet<Key>>,
    lent: HashMap<ResourceRef, ValidResource>,
    /// How many runs the schedules of a namespace have.
    runs: HashMap<String, usize>,
    /// Rejected schedules, which hold nothing.
    rejected: HashSet<Key>,
    /// Schedules to compare again, by namespace.
    stale: HashMap<String, BTreeSet<Key>>,
    /// Schedules to put into the index again, by namespace, since what they may have of other namespaces has changed.
    again: HashMap<String, BTreeSet<Key>>,
    links: Links,
    pub(super) asks: Suggestions,
    /// When each finding ends.
    ends: BTreeSet<(Timestamp, Key)>,
    /// Namespaces that did not ask and have new findings.
    affected: BTreeSet<String>,
}

struct IndexedSchedule {
    schedule: Arc<ValidSchedule>,
    needs: Vec<Need>,
    /// Its runs, at everything that it needs together.
    runs: usize,
    /// It is not compared, since its namespace has all the runs that it may have. `wants` is how many this schedule
    /// would need.
    is_over: bool,
    wants: usize,
    found: Option<(ScheduleFinding, Timestamp)>,
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
            asks: Suggestions::default(),
            ends: BTreeSet::new(),
            affected: BTreeSet::new(),
        }
    }

    /// How far to expand a schedule before [`Index::put`]. `None` if this generation is in the index already.
    pub(super) fn far_ahead(&mut self, schedule: &ValidSchedule) -> Option<LookAhead> {
        let held = self.held.get(&key(schedule));
        let same = held.is_some_and(|held| held.schedule.plan.generation == schedule.plan.generation);
        (!same || self.is_again(schedule)).then(|| self.occupancy.far_ahead())
    }

    /// Puts an expanded schedule into the index, in place of its earlier version. A schedule that is too large for its
    /// namespace is kept without its runs.
    pub(super) fn put(&mut self, schedule: Arc<ValidSchedule>, own: &Expanded) {
        self.free(schedule.plan.uid);
        let key = key(&schedule);
        let namespace = schedule.plan.namespace.clone();
        let (mut needs, not_permitted) = self.permissions(&schedule);
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
        self.held.insert(key, IndexedSchedule { schedule, needs, runs, is_over, wants, found: None });
        self.mark_neighbours(&key, &namespace);
        self.mark(&key);
        self.room_appeared(&namespace);
    }

    /// Removes a schedule and frees all that it held.
    pub(super) fn remove(&mut self, uid: Uuid) {
        let held = self.keys.get(&uid).and_then(|key| self.held.get(key));
        let Some(namespace) = held.map(|held| held.schedule.plan.namespace.clone()) else { return };
        self.free(uid);
        self.room_appeared(&namespace);
    }

    /// Marks schedules that were too large for their namespace and fit now, the oldest first, to be put into the index
    /// again.
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
            self.affected.insert(namespace.to_owned());
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
        self.mark_neighbours_at(&key, namespace, &held.needs);
    }

    fn mark_neighbours(&mut self, key: &Key, namespace: &str) {
        let needs = self.held.get(key).map_or_else(Vec::new, |held| held.needs.clone());
        self.mark_neighbours_at(key, namespace, &needs);
    }

    /// Marks the schedules that are affected when `key` comes or goes: the younger ones are compared again, and the
    /// older ones search free times again. Schedules of other namespaces are compared when these ask.
    fn mark_neighbours_at(&mut self, key: &Key, namespace: &str, needs: &[Need]) {
        let all = |need| self.needed.get(need).into_iter().flatten().copied();
        let near: BTreeSet<Key> = needs.iter().flat_map(all).collect();
        for other in near {
            if other > *key {
                self.mark(&other);
                let space = self.held.get(&other).map(|held| &held.schedule.plan.namespace);
                self.affected.extend(space.filter(|space| *space != namespace).cloned());
            } else if other < *key {
                self.ask(&other);
            }
        }
    }

    /// Marks a schedule to be compared again.
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

    /// Lets schedules book a resource, as its spec says.
    pub(super) fn lend(&mut self, resource: ValidResource) {
        let reference = resource.reference.clone();
        if self.lent.get(&reference) != Some(&resource) {
            let capacity = resource.capacity;
            self.lent.insert(reference.clone(), resource);
            self.lending_changed(&reference, capacity);
        }
    }

    /// Takes a resource back. In its own namespace its name then means one thing of capacity 1, as without a
    /// BookableResource.
    pub(super) fn unlend(&mut self, reference: &ResourceRef) {
        if self.lent.remove(reference).is_some() {
            self.lending_changed(reference, 1);
        }
    }

    fn lending_changed(&mut self, reference: &ResourceRef, capacity: u32) {
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
            let (needs, not_permitted) = self.permissions(&held.schedule);
            if needs == held.needs && !held.is_over {
                forget(&mut self.again, &namespace, &key);
                continue;
            }
            let permitted =
                held.schedule.shared.iter().filter(|reference| !not_permitted.contains(reference));
            self.links.add(key, &namespace, permitted.cloned().collect());
            self.affected.insert(namespace.clone());
            self.again.entry(namespace).or_default().insert(key);
        }
        let spaces = users.iter().filter_map(|key| self.held.get(key));
        self.affected.extend(spaces.map(|held| held.schedule.plan.namespace.clone()));
    }

    /// Puts a schedule into the index again, unless it has changed meanwhile or another caller has done so: its finding
    /// must stay.
    pub(super) fn reinsert(&mut self, schedule: &Arc<ValidSchedule>, own: &Expanded) {
        let held = self.held.get(&key(schedule));
        if self.is_again(schedule) && held.is_some_and(|held| Arc::ptr_eq(&held.schedule, schedule)) {
            self.put(Arc::clone(schedule), own);
        }
    }

    fn is_again(&self, schedule: &ValidSchedule) -> bool {
        self.again.get(&schedule.plan.namespace).is_some_and(|all| all.contains(&key(schedule)))
    }

    /// What a schedule needs and may book, and the resources that it names and may not book.
    pub(super) fn permissions(&self, schedule: &ValidSchedule) -> (Vec<Need>, Vec<ResourceRef>) {
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
        // If something changed since the last comparison, the namespace is told again after the next one, whoever makes
        // that.
        if self.stale.contains_key(namespace) || self.again.contains_key(namespace) {
            self.affected.insert(namespace.to_owned());
        } else {
            self.affected.remove(namespace);
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

    /// The clashes of a schedule as the youngest of all.
    pub(super) fn clashes_of_newcomer(
        &self,
        schedule: &ValidSchedule,
        limit: usize,
        steps: &mut Steps,
    ) -> Clashes<Key, Need> {
        let booking = booking(schedule, &self.permissions(schedule).0);
        let holds = |other: &Key| !self.rejected.contains(other);
        self.occupancy.check_within(&key(schedule), &booking, holds, limit, steps)
    }

    /// The next schedule that asks for other times; namespaces take turns.
    pub(super) fn next_asking(&mut self) -> Option<Arc<ValidSchedule>> {
        loop {
            let key = self.asks.next()?;
            if let Some(held) = self.held.get(&key) {
                return Some(Arc::clone(&held.schedule));
            }
        }
    }

    /// Keeps the suggestions for a schedule, if it has not changed meanwhile.
    pub(super) fn answer(&mut self, schedule: &Arc<ValidSchedule>, found: Suggested) {
        let (key, now) = (key(schedule), self.occupancy.now());
        if self.held.get(&key).is_some_and(|held| Arc::ptr_eq(&held.schedule, schedule)) {
            let first = found.times.iter().map(|time| time.start);
            let until = first.fold(later(now, HOLDS), Timestamp::min);
            if self.asks.answer(key, found, until) {
                self.affected.insert(schedule.plan.namespace.clone());
            }
        }
    }

    /// How many schedules that have a slot would clash with older ones if `resource` had its new capacity, and whether
    /// the steps sufficed to compare them all.
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

    /// How many schedules have the resource now and may not book it any more after the change.
    pub(super) fn not_served(&self, resource: &ValidResource) -> usize {
        let held =
            self.needed.get(&resource.need()).into_iter().flatten().filter_map(|key| self.held.get(key));
        held.filter(|held| !resource.serves(&held.schedule.plan.namespace)).count()
    }

    /// Who has a resource between two instants, in order; `None` if the steps don't suffice.
    pub(super) fn taken_of(
        &self,
        need: &Need,
        between: (Timestamp, Timestamp),
        steps: &mut Steps,
    ) -> Option<Vec<(Key, Stretch)>> {
        let counts = |key: &Key| !self.rejected.contains(key);
        self.occupancy.taken(need, between, &counts, steps)
    }

    /// A schedule's name, for readers in `namespace`. `None` if it is of another namespace.
    pub(super) fn name_of(&self, key: &Key, namespace: &str) -> Option<&str> {
        let plan = &self.held.get(key)?.schedule.plan;
        (plan.namespace == namespace).then_some(plan.name.as_str())
    }

    /// Whether there are namespaces to tell, and whether a schedule asks for other times.
    pub(super) fn news(&self) -> (bool, bool) {
        (!self.affected.is_empty(), self.asks.is_due())
    }

    pub(super) fn affected(&mut self) -> Vec<String> {
        std::mem::take(&mut self.affected).into_iter().collect()
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

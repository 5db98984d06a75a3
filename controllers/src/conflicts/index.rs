//! The index behind [`super::Conflicts`]: who holds what, who must be looked at again, and who has to be told.
//!
//! Schedules are looked at from the oldest on, since only an older one can take a slot or leave it; so each is looked at once
//! after a change. Each call does a bounded part, and the next one goes on. Never: words, or a search for free times.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use calendar::{Ahead, Booking, Clashes, Expanded, Occupancy, Steps};
use crds::resource::ResourceRef;
use crds::schedule::ConflictPolicy;
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::asks::{Asks, Suggested};
use super::links::Links;
use super::{Finding, Found, words};
use crate::status::Clash;
use crate::validate::{Need, ValidResource, ValidSchedule, guarded};

/// How long a finding holds: the horizon moves on meanwhile.
pub(super) const HOLDS: SignedDuration = SignedDuration::from_hours(24);
/// Clashes that are shown.
const SHOWN: usize = 5;
/// Steps for the comparison of one schedule with the others.
pub(crate) const COMPARING: u64 = 1_000_000;
/// Steps after which one who looks at several lets others have the index.
pub(super) const AT_ONCE: u64 = 200_000;
/// What ended that is noticed at once.
const ENDED_AT_ONCE: usize = 1_000;

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
    found: Option<(Finding, Timestamp)>,
}

pub(super) fn key(schedule: &ValidSchedule) -> Key {
    (schedule.plan.created, schedule.plan.uid)
}

/// What was done of what there is to look at again.
#[derive(Default)]
pub(super) struct Part {
    pub(super) looked_at: usize,
    pub(super) steps: u64,
    /// One that is to be expanded, and held anew.
    pub(super) again: Option<Arc<ValidSchedule>>,
    /// Nothing is left.
    pub(super) is_done: bool,
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
    pub(super) fn far_ahead(&mut self, schedule: &ValidSchedule) -> Option<Ahead> {
        let held = self.held.get(&key(schedule));
        let same = held.is_some_and(|held| held.schedule.plan.generation == schedule.plan.generation);
        (!same || self.is_again(schedule)).then(|| self.occupancy.far_ahead())
    }

    /// Holds a schedule, expanded before, in place of what it was. One that can't be compared is not held.
    pub(super) fn put(&mut self, schedule: Arc<ValidSchedule>, own: &Expanded) {
        self.remove(schedule.plan.uid);
        let key = key(&schedule);
        let namespace = schedule.plan.namespace.clone();
        let (needs, not_permitted) = self.weigh(&schedule);
        self.occupancy.insert_expanded(key, &booking(&schedule, &needs), own);
        self.keys.insert(schedule.plan.uid, key);
        self.spaces.entry(namespace.clone()).or_default().insert(key);
        for need in &needs {
            self.needed.entry(need.clone()).or_default().insert(key);
        }
        for reference in &schedule.shared {
            self.named.entry(reference.clone()).or_default().insert(key);
            if !not_permitted.contains(reference) {
                self.links.add(reference, &namespace);
            }
        }
        self.held.insert(key, Held { schedule, needs, found: None });
        self.touch(&key);
        self.mark(&key);
    }

    /// Frees all that a schedule held.
    pub(super) fn remove(&mut self, uid: Uuid) {
        let Some(key) = self.keys.remove(&uid) else { return };
        let Some(held) = self.held.remove(&key) else { return };
        let namespace = &held.schedule.plan.namespace;
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
            if held.needs.contains(&Need::from(reference)) {
                self.links.remove(reference, namespace);
            }
        }
        forget(&mut self.spaces, namespace, &key);
        self.touched(&key, &held.needs);
    }

    fn touch(&mut self, key: &Key) {
        let needs = self.held.get(key).map_or_else(Vec::new, |held| held.needs.clone());
        self.touched(key, &needs);
    }

    /// What others may find otherwise when `key` comes or goes: the younger, and whoever asks for free times.
    fn touched(&mut self, key: &Key, needs: &[Need]) {
        let all = |need| self.needed.get(need).into_iter().flatten().copied();
        let near: BTreeSet<Key> = needs.iter().flat_map(all).collect();
        for other in near {
            if other > *key {
                self.mark(&other);
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
            if self.weigh(&held.schedule).0 == held.needs {
                forget(&mut self.again, &namespace, &key);
            } else {
                self.stirred.insert(namespace.clone());
                self.again.entry(namespace).or_default().insert(key);
            }
        }
        let spaces = users.iter().filter_map(|key| self.held.get(key));
        self.stirred.extend(spaces.map(|held| held.schedule.plan.namespace.clone()));
    }

    /// Holds one anew, expanded before, unless it is otherwise by now.
    pub(super) fn put_again(&mut self, schedule: &Arc<ValidSchedule>, own: &Expanded) {
        let held = self.held.get(&key(schedule));
        if held.is_some_and(|held| Arc::ptr_eq(&held.schedule, schedule)) {
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

    /// Looks again at some of what may have changed: all that can touch a namespace, or all that there is. The others' is
    /// left for when they ask.
    pub(super) fn settle(&mut self, namespace: Option<&str>, now: Timestamp) -> Part {
        let mut part = Part::default();
        let is_late = !self.occupancy.advance_within(now, &mut Steps::new(AT_ONCE));
        let ended = self.notice_ends(now);
        let mut linked = self.linked(namespace);
        while part.steps < AT_ONCE && ended < ENDED_AT_ONCE {
            if let Some(again) = oldest(&self.again, linked.as_ref()) {
                part.again = self.held.get(&again).map(|held| Arc::clone(&held.schedule));
                return part;
            }
            let Some(key) = oldest(&self.stale, linked.as_ref()) else {
                // What is late is covered far enough for long; the time that looks take it is caught up with.
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
        namespace.map(|namespace| self.links.of(namespace))
    }

    /// What ended by the passing of time is to be looked at again. How much of it, up to a bound.
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

    /// Looks at one again; what it took.
    fn look_again(&mut self, key: Key, now: Timestamp) -> u64 {
        let Some(held) = self.held.get(&key) else { return 1 };
        let mut steps = Steps::new(COMPARING);
        // A panic is our bug, and stays this schedule's trouble.
        let (finding, until) = guarded(|| Ok(self.look(&key, held, now, &mut steps)))
            .unwrap_or_else(|_| (Finding::default(), later(now, HOLDS)));
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
                    self.stirred.insert(held.schedule.plan.namespace.clone());
                }
            }
            self.ends.insert((until, key));
            held.found = Some((finding, until));
        }
        1 + COMPARING - steps.left()
    }

    fn look(&self, key: &Key, held: &Held, now: Timestamp, steps: &mut Steps) -> (Finding, Timestamp) {
        let schedule = &held.schedule;
        let booking = booking(schedule, &held.needs);
        let until = later(now, HOLDS);
        let (_, not_permitted) = self.weigh(schedule);
        let mut finding = Finding { not_permitted, ..Finding::default() };
        if schedule.policy == ConflictPolicy::Allow {
            return (finding, until);
        }
        let older = |other: &Key| other < key && !self.rejected.contains(other);
        let clashes = self.occupancy.check_within(key, &booking, older, SHOWN, steps);
        finding.compared_until = clashes.is_short.then_some(clashes.checked_until);
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
                    shared: words::needs(&holder.needs, namespace),
                };
                // Those of other namespaces are not told apart.
                if !finding.clashes.contains(&clash) {
                    finding.clashes.push(clash);
                }
            }
        }
        let has_all = clashes.total == 0 && finding.not_permitted.is_empty();
        finding.rejected = schedule.policy == ConflictPolicy::Reject && !has_all;
        (finding, until.min(over))
    }

    pub(super) fn found(&mut self, namespace: &str, now: Timestamp) -> Found {
        self.stirred.remove(namespace);
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
    pub(super) fn uids(&self) -> Vec<Uuid> {
        self.keys.keys().copied().collect()
    }
}

/// The oldest of some namespaces, or of all.
fn oldest(all: &HashMap<String, BTreeSet<Key>>, of: Option<&BTreeSet<String>>) -> Option<Key> {
    let first = |keys: &BTreeSet<Key>| keys.first().copied();
    match of {
        Some(of) => of.iter().filter_map(|space| all.get(space).and_then(first)).min(),
        None => all.values().filter_map(first).min(),
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

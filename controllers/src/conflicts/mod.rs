//! Which schedules need the same person or thing at the same time, and which may have what other namespaces share.
//!
//! The older by (creation, uid) keeps the slot; one that was rejected keeps none. One index for all namespaces, told of every
//! change by the caches of this replica, whether it leads or not: a question looks again at what shares something with what
//! changed, or at what a passing clash may have freed, and at nothing else. The index is had in turns, for a bounded part of the
//! work each time; series are expanded and free times looked for without it. A namespace does the work of those alone that it
//! shares something with. Never: a name, a title or a participant of a schedule told to another namespace, or a clock.

#[cfg(test)]
mod abuse;
mod asks;
mod index;
mod links;
#[cfg(test)]
mod tests;
mod turns;
mod words;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use calendar::{Expanded, FreeTimeQuery, FreeTimes, LookAhead, NearestInHours, Search, Steps, Stretch};
use crds::resource::ResourceRef;
use crds::{BookableResource, Schedule};
use jiff::{SignedDuration, Timestamp};
use kube::{Resource as _, ResourceExt as _};
use tokio::sync::Notify;
use uuid::Uuid;

pub use self::asks::Suggested;
use self::index::{COMPARING, Index, booking, key};
use self::turns::Turns;
pub(crate) use self::words::{NOT_NAMED, not_compared, not_permitted};
use crate::cache::Change;
use crate::guarded::Guarded;
use crate::status::Clash;
use crate::validate::{self, Invalid, Need, Suggest, ValidResource, ValidSchedule, guarded};
use crate::world::Memo;

/// Clashes that a refusal tells.
const TOLD: usize = 3;
/// Steps for a search for other times.
const SEARCHING: u64 = 2_000_000;
/// Steps for the free times that a refusal tells.
const REFUSING: u64 = 300_000;
/// Steps for what must be looked at again before a question is answered.
const BEFORE_AN_ANSWER: u64 = 20_000_000;
/// Steps for who has one resource.
const BOOKINGS: u64 = 50_000;
/// Of those who have a resource, so many are told of now and of next.
pub const SHOWN_BOOKINGS: usize = 5;
/// What holding a schedule anew counts as, in steps.
const HOLDING: u64 = 10_000;

/// The schedules of all namespaces, and what they may book.
pub struct Conflicts {
    index: Turns<Index>,
    /// Schedules that were validated, each for as long as it is there.
    memo: Memo<ValidSchedule>,
    /// That something was found anew for a namespace.
    news: Notify,
    /// That somebody asks for other times.
    questions: Notify,
    /// The most steps that somebody took in one turn.
    longest: AtomicU64,
}

/// What was found for the schedules of a namespace.
#[derive(Debug)]
pub struct Found {
    /// By uid.
    pub findings: HashMap<Uuid, Finding>,
    /// When to look again.
    pub until: Timestamp,
}

/// What was found for one schedule.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Finding {
    /// What it names of other namespaces and may not book.
    pub not_permitted: Vec<ResourceRef>,
    /// Clashes with older schedules, in order of time.
    pub clashes: Vec<Clash>,
    /// Other times, if it asks for them and they were looked for.
    pub suggested: Suggested,
    /// What starts from then on was not compared with others: there is too much of it.
    pub compared_until: Option<Timestamp>,
    /// It holds nothing and is silent: `conflictPolicy: Reject`, and it clashes or names what it may not book.
    pub rejected: bool,
}

/// Who has a resource.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bookings {
    /// How many have it now.
    pub in_use: usize,
    /// The first of them.
    pub now: Vec<Booked>,
    /// Those who have it next.
    pub next: Vec<Booked>,
    /// There was too much to look at.
    pub is_short: bool,
}

/// One who has a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Booked {
    /// The schedule's name; none of another namespace than the resource's.
    pub schedule: Option<String>,
    /// How long, with its buffers.
    pub held: Stretch,
}

/// Whether a slot can be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slot {
    /// All that is needed is free.
    Free,
    /// Something is not, in words.
    Taken(String),
    /// It can't be told, for there is too much to compare, in words.
    NotKnown(String),
}

impl Conflicts {
    /// Looks so far ahead.
    pub fn new(horizon: SignedDuration, now: Timestamp) -> Self {
        Self {
            index: Turns::new(Index::new(horizon, now)),
            memo: Memo::default(),
            news: Notify::new(),
            questions: Notify::new(),
            longest: AtomicU64::new(0),
        }
    }

    /// What a schedule says, checked once for each generation.
    pub fn valid(&self, schedule: &Guarded<Schedule>) -> Result<Arc<ValidSchedule>, Invalid> {
        self.memo.validate(schedule, validate::schedule)
    }

    /// A schedule came, changed or went.
    pub fn heard(&self, change: &Change<Guarded<Schedule>>, now: Timestamp) {
        let uid = |object: &Arc<Guarded<Schedule>>| object.meta().uid.clone().unwrap_or_default();
        let (before, after) = (change.before.as_ref().map(uid), change.after.as_ref().map(uid));
        if let Some(gone) = before.filter(|uid| after.as_ref() != Some(uid)) {
            self.memo.remove(&gone);
            self.take_out(&gone);
        }
        let Some(object) = &change.after else { return };
        match self.valid(object) {
            Ok(valid) => self.put(&valid, now),
            Err(_) => self.take_out(&after.unwrap_or_default()),
        }
    }

    /// A resource came, changed or went.
    pub fn heard_resource(&self, change: &Change<Guarded<BookableResource>>) {
        let Some(object) = change.after.as_ref().or(change.before.as_ref()) else { return };
        let reference = ResourceRef { namespace: change.namespace.clone(), name: object.name_any() };
        let there = change.after.as_ref().map(|after| match &after.0 {
            Ok(object) => validate::resource(object).map_err(|invalid| invalid.message),
            Err(error) => Err(error.error.clone()),
        });
        match there {
            Some(Ok(valid)) => return self.lend(valid),
            // What can't be read lends nothing.
            Some(Err(error)) => tracing::warn!(
                namespace = reference.namespace,
                name = reference.name,
                error,
                "a BookableResource that can't be read is taken as absent"
            ),
            None => {}
        }
        self.with(|index| index.unlend(&reference));
    }

    /// Holds a schedule, in place of what it was.
    pub fn put(&self, schedule: &Arc<ValidSchedule>, now: Timestamp) {
        let put = guarded(|| {
            let ahead = self.with(|index| {
                index.occupancy.advance_within(now, &mut Steps::new(1));
                index.far_ahead(schedule)
            });
            let Some(ahead) = ahead else { return Ok(()) };
            let own = expanded(schedule, ahead);
            self.with(|index| index.put(Arc::clone(schedule), &own));
            Ok(())
        });
        if put.is_err() {
            tracing::error!(
                namespace = schedule.plan.namespace,
                name = schedule.plan.name,
                "the schedule can't be compared with others: please report it"
            );
        }
    }

    /// Lets schedules book a resource, as it says.
    pub fn lend(&self, resource: ValidResource) {
        self.with(|index| index.lend(resource));
    }

    fn take_out(&self, uid: &str) {
        if let Ok(uid) = uid.parse() {
            self.with(|index| index.remove(uid));
        }
    }

    /// What there is to say of the schedules of a namespace. Other times are looked for apart ([`Conflicts::answer`]).
    pub fn find(&self, namespace: &str, now: Timestamp) -> Found {
        self.settle_within(Some(namespace), now, u64::MAX);
        self.with(|index| index.found(namespace, now))
    }

    /// Looks again at all that may be otherwise since somebody asked; at how many.
    pub fn settle(&self, now: Timestamp) -> usize {
        self.settle_within(None, now, u64::MAX).0
    }

    /// At how many it looked again, and whether these are all.
    fn settle_within(&self, namespace: Option<&str>, now: Timestamp, most: u64) -> (usize, bool) {
        let (mut looked_at, mut left) = (0, most);
        while left > 0 {
            let part = self.with(|index| index.settle(namespace, now));
            self.held_for(part.steps);
            looked_at += part.looked_at;
            left = left.saturating_sub(part.steps.max(1));
            if let Some(again) = part.again {
                let ahead = self.with(|index| index.occupancy.far_ahead());
                let own = expanded(&again, ahead);
                self.with(|index| index.put_again(&again, &own));
                left = left.saturating_sub(HOLDING);
            } else if part.is_done {
                return (looked_at, true);
            }
        }
        (looked_at, false)
    }

    /// Looks for other times for whoever asks for them, one schedule after the other, namespaces in turns. Never ends.
    pub async fn answer(self: Arc<Self>) {
        loop {
            let conflicts = Arc::clone(&self);
            let answered = tokio::task::spawn_blocking(move || conflicts.answer_next()).await;
            if !answered.unwrap_or(false) {
                self.questions.notified().await;
            }
        }
    }

    /// Looks for other times for one schedule. False if none asks for them.
    pub fn answer_next(&self) -> bool {
        let Some(schedule) = self.with(Index::next_asking) else { return false };
        // A panic is our bug, and stays this schedule's trouble.
        let found = guarded(|| Ok(self.search(&schedule))).unwrap_or_default();
        self.with(|index| index.answer(&schedule, found));
        true
    }

    fn search(&self, schedule: &ValidSchedule) -> Suggested {
        let Some(Suggest { search, people }) = &schedule.suggest else { return Suggested::default() };
        let mut steps = Steps::new(SEARCHING);
        let mut question = self.question(schedule, search, &mut steps);
        for name in question.names(people) {
            self.copy(&mut question, schedule, &name, &mut steps);
        }
        let answer = question.suggest(people, &NearestInHours, &mut steps);
        let times = answer.times.into_iter().map(|candidate| candidate.time.first).collect();
        Suggested { times, not_looked_at: words::not_looked_at(answer.looked, SEARCHING) }
    }

    fn question(&self, schedule: &ValidSchedule, search: &Search, steps: &mut Steps) -> FreeTimeQuery<Need> {
        let (needs, ahead) = self.with(|index| (index.weigh(schedule).0, index.occupancy.ahead()));
        FreeTimeQuery::new(booking(schedule, &needs), *search, ahead, steps)
    }

    /// What a schedule names of other namespaces and may not book.
    pub fn not_permitted(&self, schedule: &ValidSchedule) -> Vec<ResourceRef> {
        self.with(|index| index.weigh(schedule).1)
    }

    fn copy(
        &self,
        question: &mut FreeTimeQuery<Need>,
        schedule: &ValidSchedule,
        name: &Need,
        steps: &mut Steps,
    ) {
        let before = steps.left();
        self.with(|index| index.occupancy.copy(question, &key(schedule), name, steps));
        self.held_for(before - steps.left());
    }

    /// The index was not for others while somebody took so many steps.
    fn held_for(&self, steps: u64) {
        self.longest.fetch_max(steps, Ordering::Relaxed);
    }

    /// Whether `schedule` can come in beside the others, or move there, for nobody gives way to who comes last.
    pub fn refusal(&self, schedule: &ValidSchedule, now: Timestamp) -> Slot {
        if !self.settle_within(Some(&schedule.plan.namespace), now, BEFORE_AN_ANSWER).1 {
            return Slot::NotKnown(words::BUSY.to_owned());
        }
        let mut steps = Steps::new(COMPARING);
        let clashes = self.with(|index| index.clashes_of_newcomer(schedule, TOLD, &mut steps));
        self.held_for(COMPARING - steps.left());
        if clashes.total == 0 {
            let far = clashes.checked_until;
            let not_known = clashes.is_short.then(|| words::too_much(far, schedule));
            return not_known.map_or(Slot::Free, Slot::NotKnown);
        }
        let mut steps = Steps::new(REFUSING);
        // As the status would suggest them, where it is asked for that.
        let nobody = BTreeMap::new();
        let asked = schedule.suggest.as_ref();
        let (search, people) =
            asked.map_or((Search::default(), &nobody), |asked| (asked.search, &asked.people));
        let mut question = self.question(schedule, &search, &mut steps);
        for name in question.names(people) {
            self.copy(&mut question, schedule, &name, &mut steps);
        }
        let free = if asked.is_none() {
            question.nearest(&mut steps)
        } else {
            let FreeTimes { times, looked } = question.suggest(people, &NearestInHours, &mut steps);
            FreeTimes { times: times.into_iter().map(|candidate| candidate.time).collect(), looked }
        };
        let whose = self.with(|index| {
            let holders = clashes.first.iter().flat_map(|clash| &clash.with).map(|holder| holder.key);
            let named = |key| Some((key, index.name_of(&key, &schedule.plan.namespace)?.to_owned()));
            holders.filter_map(named).collect::<HashMap<_, _>>()
        });
        Slot::Taken(words::refusal(&clashes, &whose, &free, schedule))
    }

    /// What a resource as it is to be takes from those who have it, in words.
    pub fn taken_by(&self, resource: &ValidResource, now: Timestamp) -> Option<String> {
        self.settle_within(Some(&resource.reference.namespace), now, BEFORE_AN_ANSWER);
        self.with(|index| {
            let (too_many, all) = index.too_many(resource, &mut Steps::new(COMPARING));
            words::taken(too_many, all, resource.capacity, index.not_served(resource))
        })
    }

    /// Who has a resource now and next. A look takes a bounded part of the index's time.
    pub fn bookings(&self, resource: &ValidResource, now: Timestamp) -> Bookings {
        let own = &resource.reference.namespace;
        self.settle_within(Some(own), now, BEFORE_AN_ANSWER);
        let need = resource.need();
        let mut bookings = Bookings::default();
        // A busy thing is full of a day; one that is used seldom takes no more steps for a quarter.
        for days in [1, 92] {
            let until = now.checked_add(SignedDuration::from_hours(24 * days)).unwrap_or(Timestamp::MAX);
            let mut steps = Steps::new(BOOKINGS);
            let found = self.with(|index| {
                let taken = index.taken_of(&need, (now, until), &mut steps)?;
                let told = taken.into_iter().map(|(key, held)| Booked {
                    schedule: index.name_of(&key, own).map(str::to_owned),
                    held,
                });
                Some(told.collect::<Vec<_>>())
            });
            self.held_for(BOOKINGS - steps.left());
            let Some(found) = found else {
                bookings.is_short = bookings.next.is_empty() && bookings.now.is_empty();
                break;
            };
            let (now, next): (Vec<_>, Vec<_>) = found.into_iter().partition(|it| it.held.start <= now);
            bookings = Bookings { in_use: now.len(), now, next, is_short: false };
            if bookings.next.len() >= SHOWN_BOOKINGS {
                break;
            }
        }
        bookings.now.truncate(SHOWN_BOOKINGS);
        bookings.next.truncate(SHOWN_BOOKINGS);
        bookings
    }

    /// Waits until something is found anew by a look at other namespaces, and says for which ones.
    pub async fn stirred(&self) -> Vec<String> {
        loop {
            let stirred = self.with(Index::stirred);
            if !stirred.is_empty() {
                return stirred;
            }
            self.news.notified().await;
        }
    }

    /// How many schedules are known, valid or not, and how many of them are held.
    #[cfg(test)]
    pub(crate) fn known(&self) -> (usize, usize) {
        (self.memo.len(), self.with(|index| index.uids().len()))
    }

    fn with<T>(&self, act: impl FnOnce(&mut Index) -> T) -> T {
        let (result, (stirred, asked)) = self.index.with(|index| (act(index), index.news()));
        if stirred {
            self.news.notify_one();
        }
        if asked {
            self.questions.notify_one();
        }
        result
    }
}

/// A schedule's occurrences, as far as they are held.
fn expanded(schedule: &ValidSchedule, ahead: LookAhead) -> Expanded {
    let needs = schedule.needs.len() + schedule.shared.len();
    Expanded::for_booking(&booking(schedule, &[]), needs, ahead)
}

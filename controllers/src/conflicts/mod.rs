//! Finds schedules that need the same person or resource at the same time, and decides which schedules may book what
//! other namespaces share.
//!
//! The older schedule, by (creation, uid), keeps the slot; a rejected schedule holds none. There is one index for all
//! namespaces. The caches of this replica keep it up to date, whether the replica leads or not. A question compares
//! again only the schedules that share something with what changed, or that may have got a slot because a clash has
//! passed. Callers take the index in turns ([`fair_lock`]), for a bounded number of steps each time; recurrences are
//! expanded, and free times are searched, without it. A namespace does the work only of those namespaces with which it
//! shares something.
//!
//! Another namespace is never told a schedule's name, title or participants. The clock is an argument.

#[cfg(test)]
mod abuse;
mod fair_lock;
mod index;
mod links;
mod messages;
mod suggestions;
#[cfg(test)]
mod tests;

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

use self::fair_lock::FairLock;
use self::index::{COMPARING, Index, booking, key};
pub(crate) use self::messages::{NOT_NAMED, not_compared, not_permitted};
pub use self::suggestions::Suggested;
use crate::cache::ObjectChange;
use crate::context::Memo;
use crate::guarded::Guarded;
use crate::status::Clash;
use crate::validate::{self, Invalid, Need, Suggest, ValidResource, ValidSchedule, guarded};

/// How many clashes a refusal lists.
const TOLD: usize = 3;
/// The most steps of a search for other times.
const SEARCHING: u64 = 2_000_000;
/// The most steps of the search for free times that a refusal lists.
const REFUSING: u64 = 300_000;
/// The most steps of comparing again before a question is answered.
const BEFORE_AN_ANSWER: u64 = 20_000_000;
/// The most steps to find out who has one resource.
const BOOKINGS: u64 = 50_000;
/// How many bookings of a resource are shown, each of those that are current and those that come next.
pub const SHOWN_BOOKINGS: usize = 5;
/// How many steps it counts to put a schedule into the index again.
const HOLDING: u64 = 10_000;

/// The schedules of all namespaces, and the resources that they may book.
pub struct Conflicts {
    index: FairLock<Index>,
    /// Validated schedules; each is kept as long as it exists.
    memo: Memo<ValidSchedule>,
    /// Notified when there are new findings for a namespace that did not ask.
    news: Notify,
    /// Notified when a schedule asks for other times.
    questions: Notify,
    /// The most steps for which one caller held the index.
    longest: AtomicU64,
}

/// What was found for the schedules of a namespace.
#[derive(Debug)]
pub struct Found {
    /// By uid.
    pub findings: HashMap<Uuid, ScheduleFinding>,
    /// When to look again.
    pub until: Timestamp,
}

/// What was found for one schedule.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ScheduleFinding {
    /// The resources of other namespaces that it names and may not book.
    pub not_permitted: Vec<ResourceRef>,
    /// Its clashes with older schedules, in order of time.
    pub clashes: Vec<Clash>,
    /// Other times, if it asks for them and they were looked for.
    pub suggested: Suggested,
    /// From this instant on it was not compared with others, since there was too much to compare.
    pub compared_until: Option<Timestamp>,
    /// It holds no slot and sends no reminders: its `conflictPolicy` is `Reject`, and it clashes or names what it may
    /// not book.
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
    /// The list is incomplete: there was too much to look at.
    pub is_short: bool,
}

/// A booking of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Booked {
    /// The schedule's name; `None` if it is of another namespace than the resource.
    pub schedule: Option<String>,
    /// From when to when, with the schedule's buffers.
    pub held: Stretch,
}

/// Whether a slot can be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slot {
    /// Everything that is needed is free.
    Free,
    /// Something is taken; the text says what.
    Taken(String),
    /// It is not known, since there is too much to compare; the text says so.
    NotKnown(String),
}

impl Conflicts {
    /// An empty index that compares `horizon` ahead.
    pub fn new(horizon: SignedDuration, now: Timestamp) -> Self {
        Self {
            index: FairLock::new(Index::new(horizon, now)),
            memo: Memo::default(),
            news: Notify::new(),
            questions: Notify::new(),
            longest: AtomicU64::new(0),
        }
    }

    /// The validated schedule; each generation is validated once.
    pub fn valid(&self, schedule: &Guarded<Schedule>) -> Result<Arc<ValidSchedule>, Invalid> {
        self.memo.validate(schedule, validate::schedule)
    }

    /// Takes over that a schedule was created, changed or deleted.
    pub fn schedule_changed(&self, change: &ObjectChange<Guarded<Schedule>>, now: Timestamp) {
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

    /// Takes over that a resource was created, changed or deleted.
    pub fn resource_changed(&self, change: &ObjectChange<Guarded<BookableResource>>) {
        let Some(object) = change.after.as_ref().or(change.before.as_ref()) else { return };
        let reference = ResourceRef { namespace: change.namespace.clone(), name: object.name_any() };
        let there = change.after.as_ref().map(|after| match &after.0 {
            Ok(object) => validate::resource(object).map_err(|invalid| invalid.message),
            Err(error) => Err(error.error.clone()),
        });
        match there {
            Some(Ok(valid)) => return self.lend(valid),
            // A resource that can't be read is not lent.
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

    /// Puts a schedule into the index, in place of its earlier version.
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

    /// Lets schedules book a resource, as its spec says.
    pub fn lend(&self, resource: ValidResource) {
        self.with(|index| index.lend(resource));
    }

    fn take_out(&self, uid: &str) {
        if let Ok(uid) = uid.parse() {
            self.with(|index| index.remove(uid));
        }
    }

    /// The findings for the schedules of a namespace. Other times are searched separately ([`Conflicts::answer`]).
    pub fn find(&self, namespace: &str, now: Timestamp) -> Found {
        self.recheck_within(Some(namespace), now, u64::MAX);
        self.with(|index| index.found(namespace, now))
    }

    /// Compares again all schedules whose finding may have changed; returns how many.
    pub fn recheck(&self, now: Timestamp) -> usize {
        self.recheck_within(None, now, u64::MAX).0
    }

    /// Returns how many schedules it compared again, and whether these were all.
    fn recheck_within(&self, namespace: Option<&str>, now: Timestamp, most: u64) -> (usize, bool) {
        let (mut looked_at, mut left) = (0, most);
        while left > 0 {
            let part = self.with(|index| index.recheck(namespace, now));
            self.held_for(part.steps);
            looked_at += part.looked_at;
            left = left.saturating_sub(part.steps.max(1));
            if let Some(again) = part.again {
                let ahead = self.with(|index| index.occupancy.far_ahead());
                let own = expanded(&again, ahead);
                self.with(|index| index.reinsert(&again, &own));
                left = left.saturating_sub(HOLDING);
            } else if part.is_done {
                return (looked_at, true);
            }
        }
        (looked_at, false)
    }

    /// Searches other times for the schedules that ask for them, one schedule after the other; namespaces take turns.
    /// Never ends.
    pub async fn answer(self: Arc<Self>) {
        loop {
            let conflicts = Arc::clone(&self);
            let answered = tokio::task::spawn_blocking(move || conflicts.answer_next()).await;
            if !answered.unwrap_or(false) {
                self.questions.notified().await;
            }
        }
    }

    /// Searches other times for one schedule. Returns false if none asks for them.
    pub fn answer_next(&self) -> bool {
        let Some(schedule) = self.with(Index::next_asking) else { return false };
        // A panic is our bug; it must affect this schedule alone.
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
        Suggested { times, not_looked_at: messages::not_looked_at(answer.looked, SEARCHING) }
    }

    fn question(&self, schedule: &ValidSchedule, search: &Search, steps: &mut Steps) -> FreeTimeQuery<Need> {
        let (needs, ahead) = self.with(|index| (index.permissions(schedule).0, index.occupancy.ahead()));
        FreeTimeQuery::new(booking(schedule, &needs), *search, ahead, steps)
    }

    /// The resources of other namespaces that a schedule names and may not book.
    pub fn not_permitted(&self, schedule: &ValidSchedule) -> Vec<ResourceRef> {
        self.with(|index| index.permissions(schedule).1)
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

    /// Notes that a caller held the index for so many steps.
    fn held_for(&self, steps: u64) {
        self.longest.fetch_max(steps, Ordering::Relaxed);
    }

    /// Whether `schedule` can be created, or moved, beside the others. It is compared as the youngest, so that no other
    /// has to give way.
    pub fn refusal(&self, schedule: &ValidSchedule, now: Timestamp) -> Slot {
        if !self.recheck_within(Some(&schedule.plan.namespace), now, BEFORE_AN_ANSWER).1 {
            return Slot::NotKnown(messages::BUSY.to_owned());
        }
        let mut steps = Steps::new(COMPARING);
        let clashes = self.with(|index| index.clashes_of_newcomer(schedule, TOLD, &mut steps));
        self.held_for(COMPARING - steps.left());
        if clashes.total == 0 {
            let far = clashes.checked_until;
            let not_known = clashes.is_short.then(|| messages::too_much(far, schedule));
            return not_known.map_or(Slot::Free, Slot::NotKnown);
        }
        let mut steps = Steps::new(REFUSING);
        // The same times as the status would suggest, if the schedule asks for suggestions.
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
        Slot::Taken(messages::refusal(&clashes, &whose, &free, schedule))
    }

    /// What a change of a resource takes from the schedules that have it, as a text; `None` if nothing.
    pub fn taken_by(&self, resource: &ValidResource, now: Timestamp) -> Option<String> {
        self.recheck_within(Some(&resource.reference.namespace), now, BEFORE_AN_ANSWER);
        self.with(|index| {
            let (too_many, all) = index.too_many(resource, &mut Steps::new(COMPARING));
            messages::taken(too_many, all, resource.capacity, index.not_served(resource))
        })
    }

    /// Who has a resource now and next. Each look takes a bounded number of steps.
    pub fn bookings(&self, resource: &ValidResource, now: Timestamp) -> Bookings {
        let own = &resource.reference.namespace;
        self.recheck_within(Some(own), now, BEFORE_AN_ANSWER);
        let need = resource.need();
        let mut bookings = Bookings::default();
        // A busy resource has enough bookings in a day; a rarely used one takes no more steps for a quarter of a year.
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

    /// Waits until there are new findings for namespaces that did not ask, and returns these namespaces.
    pub async fn affected(&self) -> Vec<String> {
        loop {
            let affected = self.with(Index::affected);
            if !affected.is_empty() {
                return affected;
            }
            self.news.notified().await;
        }
    }

    /// How many schedules are known, valid or not, and how many are in the index.
    #[cfg(test)]
    pub(crate) fn known(&self) -> (usize, usize) {
        (self.memo.len(), self.with(|index| index.uids().len()))
    }

    fn with<T>(&self, act: impl FnOnce(&mut Index) -> T) -> T {
        let (result, (affected, asked)) = self.index.with(|index| (act(index), index.news()));
        if affected {
            self.news.notify_one();
        }
        if asked {
            self.questions.notify_one();
        }
        result
    }
}

/// Expands a schedule's occurrences as far as the index holds them.
fn expanded(schedule: &ValidSchedule, ahead: LookAhead) -> Expanded {
    let needs = schedule.needs.len() + schedule.shared.len();
    Expanded::for_booking(&booking(schedule, &[]), needs, ahead)
}

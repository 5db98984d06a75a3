//! Which schedules need the same person or thing at the same time, and which may have what other namespaces share.
//!
//! The older by (creation, uid) keeps the slot; one that was rejected keeps none. One index for all namespaces, told of every
//! change by the caches of this replica, whether it leads or not: a question looks again at what shares something with what
//! changed, or at what a passing clash may have freed, and at nothing else. Never: a name, a title or a participant of a schedule
//! told to another namespace, or a clock.

mod index;
#[cfg(test)]
mod tests;
mod words;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use calendar::{Search, Stretch};
use crds::resource::ResourceRef;
use crds::{BookableResource, Schedule};
use jiff::{SignedDuration, Timestamp};
use kube::{Resource as _, ResourceExt as _};
use tokio::sync::Notify;
use uuid::Uuid;

use self::index::Index;
pub(crate) use self::words::{NOT_NAMED, not_permitted};
use crate::cache::Change;
use crate::guarded::Guarded;
use crate::status::Clash;
use crate::validate::{self, Invalid, ValidResource, ValidSchedule, guarded};
use crate::world::Memo;

/// Clashes that a refusal tells.
const TOLD: usize = 3;

/// The schedules of all namespaces, and what they may book.
pub struct Conflicts {
    index: Mutex<Index>,
    /// Schedules that were validated, each for as long as it is there.
    memo: Memo<ValidSchedule>,
    /// That something was found anew for a namespace.
    news: Notify,
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
    /// Other times, if it asks for them: the first occurrence moved there, the best first.
    pub suggestions: Vec<Stretch>,
    /// It holds nothing and is silent: `conflictPolicy: Reject`, and it clashes or names what it may not book.
    pub rejected: bool,
}

impl Conflicts {
    /// Looks so far ahead.
    pub fn new(horizon: SignedDuration, now: Timestamp) -> Self {
        Self { index: Mutex::new(Index::new(horizon, now)), memo: Memo::default(), news: Notify::new() }
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
            Ok(valid) => self.put(valid, now),
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
    pub fn put(&self, schedule: Arc<ValidSchedule>, now: Timestamp) {
        let plan = (schedule.plan.namespace.clone(), schedule.plan.name.clone());
        let put = guarded(|| {
            self.with(|index| index.put(schedule, now));
            Ok(())
        });
        if put.is_err() {
            tracing::error!(
                namespace = plan.0,
                name = plan.1,
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

    /// What there is to say of the schedules of a namespace.
    pub fn find(&self, namespace: &str, now: Timestamp) -> Found {
        self.with(|index| {
            index.settle(now);
            index.found(namespace, now)
        })
    }

    /// Looks again at all that may be otherwise since somebody asked; at how many.
    pub fn settle(&self, now: Timestamp) -> usize {
        self.with(|index| index.settle(now))
    }

    /// What a schedule names of other namespaces and may not book.
    pub fn not_permitted(&self, schedule: &ValidSchedule) -> Vec<ResourceRef> {
        self.with(|index| index.weigh(schedule).1)
    }

    /// Why `schedule` can't come in beside the others, or move there, for nobody gives way to who comes last: in words. None
    /// when all that it needs is free.
    pub fn refusal(&self, schedule: &ValidSchedule, now: Timestamp) -> Option<String> {
        self.with(|index| {
            index.settle(now);
            let clashes = index.clashes_of_newcomer(schedule, TOLD);
            (clashes.total > 0).then(|| {
                let free = index.nearest_free(schedule, &Search::default());
                let whose = |key: &_| index.name_of(key, &schedule.plan.namespace);
                words::refusal(&clashes, whose, &free, schedule)
            })
        })
    }

    /// What a resource as it is to be takes from those who have it, in words.
    pub fn taken_by(&self, resource: &ValidResource, now: Timestamp) -> Option<String> {
        self.with(|index| {
            index.settle(now);
            words::taken(index.too_many(resource), resource.capacity, index.not_served(resource))
        })
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
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        let result = act(&mut index);
        if index.has_stirred() {
            self.news.notify_one();
        }
        result
    }
}

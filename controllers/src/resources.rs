//! The controller of `BookableResource`s. It only reports their state and who has them when.
//!
//! A status never names another namespace's schedule. Resources have no children.

use std::sync::Arc;
use std::time::Duration;

use crds::BookableResource;
use crds::resource::BookableResourceStatus;
use jiff::{SignedDuration, Timestamp};

use crate::cluster::{Cluster, Error};
use crate::conflicts::Bookings;
use crate::context::{Context, Memo};
use crate::queue::Reconciler;
use crate::status;
use crate::steps::{self, Item};
use crate::validate::{self, Invalid, ValidResource};

/// How old the bookings in a status may be. Schedules that were rejected or let in since then are not shown yet.
const AGAIN: Duration = Duration::from_mins(1);
/// For how many resources of a namespace one run looks up bookings; the next runs take the others.
const LOOKED_FOR: usize = 100;

/// The controller.
pub struct Resources {
    context: Arc<Context>,
    cluster: Cluster,
    memo: Memo<ValidResource>,
}

type ResourceItem = Item<BookableResource, ValidResource>;

impl Reconciler for Resources {
    const NAME: &'static str = "bookableresource";

    async fn reconcile(&self, namespace: String) -> Result<Option<Duration>, Error> {
        let objects = self.context.resources.in_namespace(&namespace);
        if objects.is_empty() {
            return Ok(None);
        }
        let now = (self.context.now)();
        let things: Vec<ResourceItem> = objects
            .into_iter()
            .map(|object| Item { valid: self.memo.validate(&object, validate::resource), object })
            .collect();
        let (mut errors, mut again) = (Vec::new(), AGAIN);
        // Each run takes the next ones, so that every resource is updated at some time.
        let turn = usize::try_from(now.as_second() / 60).unwrap_or(0) * LOOKED_FOR % things.len();
        for thing in things.iter().cycle().skip(turn).take(things.len().min(LOOKED_FOR)) {
            let found = self.find(thing, now).await;
            again = again.min(next(found.as_ref().ok(), now));
            errors.extend(self.report(thing, found.as_ref(), now).await.err());
        }
        steps::end(errors, Some(again))
    }
}

/// After what time the bookings change by themselves.
fn next(found: Option<&Bookings>, now: Timestamp) -> Duration {
    let Some(found) = found else { return AGAIN };
    let ends = found.now.iter().map(|it| it.held.end);
    let times = ends.chain(found.next.iter().map(|it| it.held.start)).filter(|at| *at > now);
    let wait = times.min().map_or(SignedDuration::MAX, |at| at.duration_since(now));
    Duration::try_from(wait).unwrap_or(AGAIN).saturating_add(Duration::from_secs(1))
}

impl Resources {
    /// With its own field manager in `cluster`.
    pub fn new(context: Arc<Context>, cluster: Cluster) -> Self {
        Self { context, cluster, memo: Memo::default() }
    }

    /// Looks up who has it, on a blocking thread.
    async fn find(&self, thing: &ResourceItem, now: Timestamp) -> Result<Bookings, Invalid> {
        let valid = Arc::clone(thing.valid.as_ref().map_err(Clone::clone)?);
        let context = Arc::clone(&self.context);
        let found = tokio::task::spawn_blocking(move || context.conflicts.bookings(&valid, now)).await;
        Ok(found.unwrap_or(Bookings { is_short: true, ..Bookings::default() }))
    }

    async fn report(
        &self,
        thing: &ResourceItem,
        found: Result<&Bookings, &Invalid>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let status = thing.object.0.as_ref().ok().and_then(|object| object.status.as_ref());
        let (shown, before): (_, BookableResourceStatus) = steps::shown(&self.cluster, thing.meta(), status);
        let status = status::resource(&before.conditions, thing.generation(), found, now);
        let conditions = (before.conditions.as_slice(), status.conditions.as_slice());
        steps::report::<BookableResource>(&self.cluster, thing.meta(), shown, conditions, &status, now).await
    }

    /// Forgets objects that are gone.
    pub fn forget(&self, is_alive: &impl Fn(&str) -> bool) {
        self.memo.forget(is_alive);
        self.cluster.forget(is_alive);
    }
}

//! The ledger: the only door to the database. Plans, offsets, counts, alert states, notifications, deliveries,
//! attempts and statuses, in SQLite.
//!
//! Invariants: one process has the file open; one task writes; an answer is given only after what it says is durable;
//! all that an accepted entry of a commit causes is in the same transaction as its offset. Memory holds caches only.
//!
//! Never here: a clock, randomness (both come in as arguments), the network, or SQL that is not static text.

mod api;
mod error;

pub use api::{AlertData, Counts, Options, Pruned, Render, Rendered, Topic, WorkerView, WriterMetrics};
pub use error::Error;

use std::{path::Path, sync::Arc};

use domain::{Millis, Plan};
use jiff::Timestamp;
use protocol::messages::{
    AttemptOutcome, ChannelRequest, ChannelsPlan, ClaimRequest, Claimed, Commit, CommitResult, Feed,
    NotificationList, NotificationQuery, NotificationStory, Pool, Positions, PositionsRequest, ReminderState,
    Reminders, RequestStatus, Revisions, SourcePlan,
};
use tokio::sync::watch;
use uuid::Uuid;

/// The database, as the hub uses it. Cheap to clone.
#[derive(Clone)]
pub struct Ledger {}

#[allow(unused_variables, clippy::unused_async, clippy::todo, clippy::missing_panics_doc)]
impl Ledger {
    /// Opens or creates the ledger at `path`, brings its schema up to date and checks it.
    pub async fn open(path: &Path, options: Options, render: Arc<dyn Render>) -> Result<Self, Error> {
        todo!()
    }
    /// Waits until what was sent to the writer is done, then closes the file and gives up its lock.
    pub async fn close(self) {}
    /// The ledger's own id.
    pub fn id(&self) -> Uuid {
        todo!()
    }
    /// A receiver whose value changes when what it is about may have changed.
    pub fn watch(&self, topic: &Topic) -> watch::Receiver<u64> {
        todo!()
    }
    /// The writer's numbers.
    pub fn metrics(&self) -> WriterMetrics {
        todo!()
    }

    /// Stores plans.
    pub async fn put_plans(&self, plans: Vec<Plan>, now: Timestamp) -> Result<(), Error> {
        todo!()
    }
    /// What is stored.
    pub fn revisions(&self) -> Revisions {
        todo!()
    }
    /// Takes the complete set of live objects: what is absent stops at once, and is collected after the grace.
    pub async fn put_live(&self, uids: Vec<Uuid>, now: Timestamp) -> Result<(), Error> {
        todo!()
    }
    /// Forgets what was absent for the grace; how many objects, sources and topics.
    pub async fn collect(&self, now: Timestamp) -> Result<u64, Error> {
        todo!()
    }
    /// Answers an annotation of a channel, once per value.
    pub async fn request(&self, request: ChannelRequest, now: Timestamp) -> Result<RequestStatus, Error> {
        todo!()
    }
    /// All rules that read a source; none when no rule does.
    pub fn source_plan(&self, namespace: &str, source: &str) -> Option<Arc<SourcePlan>> {
        todo!()
    }
    /// All channels of a namespace.
    pub fn channels_plan(&self, namespace: &str) -> Arc<ChannelsPlan> {
        todo!()
    }
    /// A schedule and where its reminders stand.
    pub async fn schedule(&self, namespace: &str, uid: Uuid) -> Result<Option<ReminderState>, Error> {
        todo!()
    }

    /// Where to read on; opens topics that the source has never read.
    pub async fn positions(
        &self,
        namespace: &str,
        source: &str,
        request: PositionsRequest,
        now: Timestamp,
    ) -> Result<Positions, Error> {
        todo!()
    }
    /// Takes what a consumer counted.
    pub async fn commit(
        &self,
        namespace: &str,
        source: &str,
        commit: Commit,
        now: Timestamp,
    ) -> Result<CommitResult, Error> {
        todo!()
    }
    /// Records reminders that fell due. [`Error::Conflict`] when they were found by another revision of the plan.
    pub async fn reminders(
        &self,
        namespace: &str,
        uid: Uuid,
        reminders: Reminders,
        now: Timestamp,
    ) -> Result<(), Error> {
        todo!()
    }

    /// Hands out attempts that are due now; none is an empty answer. Does not wait.
    pub async fn claim(
        &self,
        namespace: &str,
        request: ClaimRequest,
        now: Timestamp,
    ) -> Result<Claimed, Error> {
        todo!()
    }
    /// When an attempt of the pool is due next, where one waits; may be in the past.
    pub async fn next_claim_at(&self, namespace: &str, pool: Pool) -> Result<Option<Timestamp>, Error> {
        todo!()
    }
    /// Records what came of attempts, each with a chance in `0.0..1.0` for its retry's jitter.
    pub async fn outcomes(
        &self,
        namespace: &str,
        outcomes: Vec<(AttemptOutcome, f64)>,
        now: Timestamp,
    ) -> Result<(), Error> {
        todo!()
    }
    /// Ends attempts whose lease ran out; how many. `chance` is spread over them.
    pub async fn expire_leases(&self, now: Timestamp, chance: f64) -> Result<u64, Error> {
        todo!()
    }
    /// Ends deliveries that are too old; how many.
    pub async fn expire_deliveries(&self, now: Timestamp) -> Result<u64, Error> {
        todo!()
    }
    /// Removes a small batch of notifications that ended long ago.
    pub async fn prune(
        &self,
        now: Timestamp,
        keep_delivered: Millis,
        keep_dead: Millis,
    ) -> Result<Pruned, Error> {
        todo!()
    }

    /// Publishes to the feed what changed; how many objects. Call it every second and when [`Topic::Statuses`] wakes.
    pub async fn publish_statuses(&self, workers: Arc<WorkerView>, now: Timestamp) -> Result<u64, Error> {
        todo!()
    }
    /// Statuses after a version, oldest first, at most 500.
    pub async fn feed(&self, after: i64) -> Result<Feed, Error> {
        todo!()
    }
    /// One notification by its id or a delivery's.
    pub async fn notification(&self, namespace: &str, id: Uuid) -> Result<Option<NotificationStory>, Error> {
        todo!()
    }
    /// Notifications, newest first.
    pub async fn notifications(
        &self,
        namespace: &str,
        query: NotificationQuery,
    ) -> Result<NotificationList, Error> {
        todo!()
    }
    /// Numbers for metrics.
    pub async fn counts(&self) -> Result<Counts, Error> {
        todo!()
    }
    /// Bounds the file's size, in pages of 4 KiB; 0 for no bound of ours.
    pub async fn limit_pages(&self, pages: i64) -> Result<(), Error> {
        todo!()
    }
}

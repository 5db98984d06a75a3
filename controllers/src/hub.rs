//! The operator's side of the hub: which plans the hub holds, what it says of objects, and whether it answers.
//!
//! A plan is sent only if the hub's revision or generation of it differs. With a hub that has another ledger,
//! everything is compared from the beginning. The state here is a cache: if it is lost, the hub is asked again. Nothing
//! here writes to the API server.
//!
//! Clause P2 of docs/semantics.md.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::{Digest, ObjectKind, Plan};
use protocol::Client;
use protocol::messages::{ChannelRequest, LiveObjects, ObjectStatus, PutPlans};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use uuid::Uuid;

use crate::metrics::Metrics;

/// How many plans one call has; the protocol allows 500.
const BATCH: usize = 100;
/// How long a poll of the feed waits for news.
const POLL: Duration = Duration::from_secs(25);
/// After what time without an answer the hub counts as unreachable. A restart or a first start takes less.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Default)]
struct HubState {
    ledger: Option<Uuid>,
    known: HashMap<Uuid, (Digest, i64)>,
    statuses: HashMap<Uuid, ObjectStatus>,
    refused: HashMap<Uuid, (Digest, String)>,
    requested: HashSet<(Uuid, String)>,
    failing_since: Option<Instant>,
    unreachable: Option<String>,
    answering_since: Option<Instant>,
    heard: Option<Instant>,
}

/// How long a channel's plan waits until deletions are reported to the hub.
const UNTOLD: Duration = Duration::from_secs(2);

/// What is known of the hub and of one plan in it.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// Why the hub counts as unreachable; `None` if it answers.
    pub unreachable: Option<String>,
    /// Whether it did not answer the last call, even if it does not count as unreachable yet.
    pub silent: bool,
    /// Whether the hub holds this revision and generation.
    pub holds: bool,
    /// Why it refused the plan.
    pub refused: Option<String>,
    /// The object's status in the hub's feed.
    pub status: Option<ObjectStatus>,
}

/// Counts deleted objects: how many were seen, and how many of them were reported to the hub.
#[derive(Default)]
pub struct Deletions {
    seen: AtomicU64,
    told: watch::Sender<u64>,
    news: Notify,
}

impl Deletions {
    /// Counts one more deletion.
    pub fn add(&self) {
        self.seen.fetch_add(1, Ordering::AcqRel);
        self.news.notify_one();
    }

    /// Waits for a deletion.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    /// How many deletions were seen up to now.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.seen.load(Ordering::Acquire)
    }

    /// Notes that so many deletions were reported to the hub.
    pub fn mark_told(&self, seen: u64) {
        self.told.send_replace(seen);
    }

    /// Waits until all seen deletions are reported to the hub, but at most [`UNTOLD`].
    async fn all_told(&self) {
        let (seen, mut told) = (self.seen(), self.told.subscribe());
        let _ = tokio::time::timeout(UNTOLD, told.wait_for(|told| *told >= seen)).await;
    }
}

/// The hub, as the operator knows it.
pub struct Hub {
    client: Client,
    state: Mutex<HubState>,
    metrics: Metrics,
    /// Deletions that the hub has to be told of.
    pub deletions: Arc<Deletions>,
}

impl Hub {
    /// Knows nothing yet: plans wait until the hub has answered.
    pub fn new(client: Client, metrics: Metrics) -> Self {
        Self { client, state: Mutex::default(), metrics, deletions: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HubState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends the plans that differ. A plan that the hub refuses is remembered as refused and does not stop the others.
    pub async fn ensure(&self, plans: &[Plan]) -> Result<(), protocol::Error> {
        let differ: Vec<Plan> = {
            let state = self.lock();
            if !state.reachable() {
                return Ok(());
            }
            plans.iter().filter(|plan| !state.holds(plan) && !state.refuses(plan)).cloned().collect()
        };
        // Notifications that wait for a channel are sent when it appears, but not those of objects that were deleted
        // before.
        if differ.iter().any(|plan| plan.kind() == ObjectKind::NotificationChannel) {
            self.deletions.all_told().await;
        }
        for batch in differ.chunks(BATCH) {
            match self.send(batch).await {
                Err(error) if !error.is_transient() && batch.len() > 1 => {
                    for plan in batch {
                        self.send_or_remember(plan).await?;
                    }
                }
                Err(error) if !error.is_transient() => self.remember(&batch[0], &error),
                other => other?,
            }
        }
        Ok(())
    }

    async fn send_or_remember(&self, plan: &Plan) -> Result<(), protocol::Error> {
        match self.send(std::slice::from_ref(plan)).await {
            Err(error) if !error.is_transient() => {
                self.remember(plan, &error);
                Ok(())
            }
            other => other,
        }
    }

    async fn send(&self, plans: &[Plan]) -> Result<(), protocol::Error> {
        self.client.put_plans(&PutPlans { plans: plans.to_vec() }).await?;
        let mut state = self.lock();
        for plan in plans {
            state.known.insert(plan.uid, (plan.revision(), plan.generation));
            state.refused.remove(&plan.uid);
        }
        self.metrics.plans_sent(plans.len());
        Ok(())
    }

    fn remember(&self, plan: &Plan, error: &protocol::Error) {
        self.lock().refused.insert(plan.uid, (plan.revision(), error.to_string()));
    }

    /// What is known of the hub and of a plan.
    pub fn view(&self, plan: &Plan) -> View {
        let state = self.lock();
        View {
            unreachable: state.unreachable.clone(),
            silent: state.failing_since.is_some(),
            holds: state.holds(plan),
            refused: state
                .refused
                .get(&plan.uid)
                .filter(|(revision, _)| *revision == plan.revision())
                .map(|(_, why)| why.clone()),
            status: state.statuses.get(&plan.uid).cloned(),
        }
    }

    /// The same for an object without a valid plan; an earlier plan may still be in force.
    pub fn view_without_plan(&self, uid: &str) -> View {
        let status = uid.parse().ok().and_then(|uid: Uuid| self.lock().statuses.get(&uid).cloned());
        View { unreachable: None, silent: false, holds: false, refused: None, status }
    }

    /// Asks for a test or a resend, once for each value of the annotation.
    pub async fn request(&self, request: ChannelRequest) -> Result<(), protocol::Error> {
        let key = (request.channel, format!("{:?} {}", request.action, request.request));
        {
            let state = self.lock();
            if !state.reachable() || state.requested.contains(&key) {
                return Ok(());
            }
        }
        self.client.request(&request).await?;
        self.lock().requested.insert(key);
        Ok(())
    }

    /// Tells which objects live.
    pub async fn live(&self, uids: Vec<Uuid>) -> Result<(), protocol::Error> {
        let live: HashSet<Uuid> = uids.iter().copied().collect();
        self.client.put_live(&LiveObjects { uids }).await?;
        let mut state = self.lock();
        state.known.retain(|uid, _| live.contains(uid));
        state.statuses.retain(|uid, _| live.contains(uid));
        state.refused.retain(|uid, _| live.contains(uid));
        state.requested.retain(|(uid, _)| live.contains(uid));
        Ok(())
    }

    /// Follows the feed for ever. Calls `changed` with the objects that changed, and `all` when everything must be
    /// reconciled again: the hub became reachable or unreachable, or has another ledger.
    pub async fn follow(&self, changed: impl Fn(&ObjectStatus) + Send, all: impl Fn() + Send) {
        let mut failures = 0_u32;
        loop {
            if let Err(error) = self.session(&changed, &all, &mut failures).await
                && self.failed(&error, Instant::now())
            {
                all();
            }
            failures = (failures + 1).min(4);
            tokio::time::sleep(Duration::from_millis(500) * (1 << failures)).await;
        }
    }

    /// Compares revisions, then reads the feed until a call fails or the hub has another ledger.
    async fn session(
        &self,
        changed: &(impl Fn(&ObjectStatus) + Send),
        all: &(impl Fn() + Send),
        failures: &mut u32,
    ) -> Result<(), protocol::Error> {
        let revisions = self.client.revisions().await?;
        let ledger = revisions.ledger;
        self.greet(ledger, revisions.objects.into_iter().collect());
        all();
        let mut after = 0;
        loop {
            let feed = self.client.feed(after, POLL).await?;
            *failures = 0;
            if feed.ledger != ledger {
                return Ok(());
            }
            after = feed.version;
            self.hear(&feed.objects);
            feed.objects.iter().for_each(changed);
        }
    }

    /// Takes over the statuses of objects from the feed.
    pub(crate) fn hear(&self, objects: &[ObjectStatus]) {
        let mut state = self.lock();
        state.heard = Some(Instant::now());
        state.failing_since = None;
        for status in objects {
            state.statuses.insert(status.uid, status.clone());
        }
    }

    /// Takes over which plans the hub holds.
    pub(crate) fn greet(&self, ledger: Uuid, known: HashMap<Uuid, (Digest, i64)>) {
        let mut state = self.lock();
        if state.ledger != Some(ledger) {
            if let Some(before) = state.ledger {
                tracing::warn!(%before, now = %ledger, "the hub has another ledger: its database was lost or replaced; all plans are sent again");
            }
            state.statuses.clear();
            state.requested.clear();
        }
        state.refused.clear();
        let answered = state.reachable();
        state.ledger = Some(ledger);
        state.unreachable = None;
        state.answering_since.get_or_insert_with(Instant::now);
        state.known = known;
        state.failing_since = None;
        state.heard = Some(Instant::now());
        if !answered {
            tracing::info!(%ledger, "the hub answers");
        }
        self.metrics.hub_reachable(true);
    }

    /// Notes a failure. Returns true if the hub counts as unreachable from now on.
    pub(crate) fn failed(&self, error: &protocol::Error, at: Instant) -> bool {
        let mut state = self.lock();
        let since = *state.failing_since.get_or_insert(at);
        if at - since < PATIENCE {
            return false;
        }
        let why = error.to_string();
        let news = state.unreachable.as_ref() != Some(&why);
        if news {
            tracing::warn!(error = %why, "the hub does not answer; children are kept up, plans wait");
        }
        state.unreachable = Some(why);
        state.answering_since = None;
        self.metrics.hub_reachable(false);
        news
    }

    /// Whether the hub counts as reachable.
    pub fn is_reachable(&self) -> bool {
        self.lock().reachable()
    }

    /// Since when the hub has counted as reachable.
    pub(crate) fn answering_since(&self) -> Option<Instant> {
        self.lock().answering_since
    }

    /// Shows in the metrics how old the feed is.
    pub fn observe(&self) {
        if let Some(heard) = self.lock().heard {
            self.metrics.feed_age(heard.elapsed());
        }
    }
}

impl HubState {
    fn reachable(&self) -> bool {
        self.ledger.is_some() && self.unreachable.is_none()
    }

    fn holds(&self, plan: &Plan) -> bool {
        self.known.get(&plan.uid).is_some_and(|(revision, generation)| {
            *generation == plan.generation && *revision == plan.revision()
        })
    }

    fn refuses(&self, plan: &Plan) -> bool {
        self.refused.get(&plan.uid).is_some_and(|(revision, _)| *revision == plan.revision())
    }
}

//! The operator's side of the hub: which plans it holds, what it tells of objects, whether it answers.
//!
//! Invariants: a plan is sent when the hub's revision or generation of it differs, and not otherwise; a hub with another
//! ledger is compared with from the beginning. What this keeps is a cache: lost, it is asked for again. Never: a write to
//! the API server from here.
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

/// Plans in one call; the protocol allows 500.
const BATCH: usize = 100;
/// How long a poll of the feed waits for news.
const POLL: Duration = Duration::from_secs(25);
/// A hub that does not answer for so long is called unreachable; a restart, or a first start, takes less.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Default)]
struct State {
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

/// How long a channel's plan waits for the hub to be told of deletions.
const UNTOLD: Duration = Duration::from_secs(2);

/// What the hub makes of one plan.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// Why the hub does not answer, where it doesn't.
    pub unreachable: Option<String>,
    /// Whether it did not answer the last call, however short the time.
    pub silent: bool,
    /// Whether it holds this revision and generation.
    pub holds: bool,
    /// Why it refused the plan.
    pub refused: Option<String>,
    /// What it tells of the object.
    pub status: Option<ObjectStatus>,
}

/// Objects that were deleted: how many were seen to be, and of how many of them the hub has been told.
#[derive(Default)]
pub struct Deletions {
    seen: AtomicU64,
    told: watch::Sender<u64>,
    news: Notify,
}

impl Deletions {
    /// One more is seen.
    pub fn add(&self) {
        self.seen.fetch_add(1, Ordering::AcqRel);
        self.news.notify_one();
    }

    /// Until one is seen.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    /// How many were seen up to now.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.seen.load(Ordering::Acquire)
    }

    /// The hub knows of so many.
    pub fn told(&self, seen: u64) {
        self.told.send_replace(seen);
    }

    /// Until the hub knows of all that were seen, or has not been told for too long.
    async fn all_told(&self) {
        let (seen, mut told) = (self.seen(), self.told.subscribe());
        let _ = tokio::time::timeout(UNTOLD, told.wait_for(|told| *told >= seen)).await;
    }
}

/// The hub, as the operator knows it.
pub struct Hub {
    client: Client,
    state: Mutex<State>,
    metrics: Metrics,
    /// What the hub is yet to be told of.
    pub deletions: Arc<Deletions>,
}

impl Hub {
    /// Nothing is known yet: plans wait until the hub has answered.
    pub fn new(client: Client, metrics: Metrics) -> Self {
        Self { client, state: Mutex::default(), metrics, deletions: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what differs. A plan that the hub refuses is remembered as refused, and stops no other.
    pub async fn ensure(&self, plans: &[Plan]) -> Result<(), protocol::Error> {
        let differ: Vec<Plan> = {
            let state = self.lock();
            if !state.reachable() {
                return Ok(());
            }
            plans.iter().filter(|plan| !state.holds(plan) && !state.refuses(plan)).cloned().collect()
        };
        // What waits for a channel is due when it appears, but for what was deleted before.
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

    /// What the hub makes of a plan.
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

    /// The same of an object that has no valid plan now: an earlier one may still be in force.
    pub fn told(&self, uid: &str) -> View {
        let status = uid.parse().ok().and_then(|uid: Uuid| self.lock().statuses.get(&uid).cloned());
        View { unreachable: None, silent: false, holds: false, refused: None, status }
    }

    /// Asks for a test or a resend, once a value.
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

    /// Follows the feed for ever. `changed` hears of objects; `all` is called when everything must be looked at again: the
    /// hub is there, is gone, or is another one.
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

    /// Compares revisions, then reads the feed until that fails or the ledger is another one.
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

    /// Takes over what the hub tells of objects.
    pub(crate) fn hear(&self, objects: &[ObjectStatus]) {
        let mut state = self.lock();
        state.heard = Some(Instant::now());
        state.failing_since = None;
        for status in objects {
            state.statuses.insert(status.uid, status.clone());
        }
    }

    /// Takes over what the hub says that it holds.
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

    /// Notes a failure; true when the hub counts as unreachable from now on.
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

    /// Tells the metrics how old the feed is.
    pub fn observe(&self) {
        if let Some(heard) = self.lock().heard {
            self.metrics.feed_age(heard.elapsed());
        }
    }
}

impl State {
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

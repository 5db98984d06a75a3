//! Changes deliveries: ends them, puts them off or starts them again, and updates lanes, notifications and counters
//! accordingly.
//!
//! Invariants: the head of a lane is its pending delivery with the least place. A notification is settled when none
//! of its deliveries is pending. A channel's counters match the history of its deliveries. A delivery that ends
//! undelivered says so if one of its attempts may have arrived. Only this module, and `chores::send_again`, change a
//! delivery's state.

use std::collections::{HashMap, HashSet};

use domain::{DeliveryState, Verdict};
use jiff::Timestamp;
use protocol::messages::Pool;

use crate::engine::{Value, query, query_scalar};
use crate::sql::{ms, set};
use crate::writer::Tx;
use crate::{Error, Signal};

/// The state of an attempt, as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::Type)]
#[repr(i64)]
pub(crate) enum AttemptState {
    UnderWay = 0,
    Reported = 1,
    LeaseRanOut = 2,
}

impl From<AttemptState> for Value<'_> {
    fn from(state: AttemptState) -> Self {
        (state as i64).into()
    }
}

/// A delivery as stored.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct StoredDelivery {
    pub(crate) d: i64,
    pub(crate) n: i64,
    /// The channel's row; `None` while the delivery waits for a channel.
    pub(crate) c: Option<i64>,
    pub(crate) lane: i64,
    #[sqlx(try_from = "i64")]
    pub(crate) state: DeliveryState,
    pub(crate) made: i64,
    pub(crate) expires: i64,
}

/// A change of a delivery.
#[derive(Debug, Clone)]
pub(crate) struct DeliveryChange {
    pub(crate) from: StoredDelivery,
    pub(crate) verdict: Verdict,
    /// How many attempts have ended, after the change.
    pub(crate) made: i64,
    /// Whether to keep the lease: a later attempt is under way.
    pub(crate) keep_lease: bool,
    /// What it waits for, if it is tried again.
    pub(crate) reason: String,
}

/// A channel's counters of deliveries, as stored.
#[derive(Debug, Clone, Copy, sqlx::FromRow)]
pub(crate) struct ChannelCounters {
    pub(crate) pending: i64,
    pub(crate) retrying: i64,
    pub(crate) delivered: i64,
    pub(crate) dead: i64,
    pub(crate) expired: i64,
    pub(crate) suppressed: i64,
}

/// Differences to add to a channel's counters.
#[derive(Debug, Default, Clone)]
pub(crate) struct ChannelDelta {
    pub(crate) pending: i64,
    pub(crate) retrying: i64,
    pub(crate) delivered: i64,
    pub(crate) dead: i64,
    pub(crate) expired: i64,
    pub(crate) suppressed: i64,
    /// How the attempts that ended went.
    pub(crate) attempts: AttemptSummary,
    /// Until when nothing is handed out.
    pub(crate) paused: Option<i64>,
    /// A delivery that a person had sent again has ended.
    pub(crate) awaited: bool,
}

/// A summary of how a channel's attempts went.
#[derive(Debug, Default, Clone)]
pub(crate) struct AttemptSummary {
    pub(crate) last_delivery: Option<i64>,
    /// Failures since the last successful delivery, or since the beginning.
    pub(crate) failures: i64,
    pub(crate) error: Option<(String, i64)>,
}

impl AttemptSummary {
    pub(crate) fn delivered(&mut self, at: i64) {
        *self = Self { last_delivery: Some(at), failures: 0, error: None };
    }

    pub(crate) fn failed(&mut self, why: &str, at: i64) {
        self.failures += 1;
        self.error = Some((why.to_owned(), at));
    }
}

impl ChannelDelta {
    fn count(&mut self, state: DeliveryState, made: i64, by: i64) {
        *match state {
            DeliveryState::Pending if made == 0 => &mut self.pending,
            DeliveryState::Pending => &mut self.retrying,
            DeliveryState::Delivered => &mut self.delivered,
            DeliveryState::Dead => &mut self.dead,
            DeliveryState::Expired => &mut self.expired,
            DeliveryState::Suppressed => &mut self.suppressed,
        } += by;
    }

    /// Whether the change is to be published at once.
    fn is_transition(&self) -> bool {
        self.dead != 0 || self.expired != 0 || self.attempts.error.is_some() || self.awaited
    }
}

/// Makes the changes, and adds them to `tallies`.
pub(crate) async fn apply_changes(
    tx: &mut Tx,
    changes: &[DeliveryChange],
    mut tallies: HashMap<i64, ChannelDelta>,
    now: Timestamp,
) -> Result<(), Error> {
    let now_ms = ms(now);
    let mut rows = Vec::with_capacity(changes.len());
    let (mut lanes, mut notifications) = (HashSet::new(), HashSet::new());
    let unsure = possibly_arrived(tx, changes).await?;
    for DeliveryChange { from, verdict, made, keep_lease, reason } in changes {
        let (state, reason, due, ended) = match verdict {
            Verdict::End(state, reason) => {
                (*state, may_have_arrived(reason, unsure.get(&from.d)), now_ms, Some(now_ms))
            }
            Verdict::Again(at) => (DeliveryState::Pending, reason.clone(), ms(*at), None),
        };
        if state != DeliveryState::Pending || from.state != DeliveryState::Pending {
            notifications.insert(from.n);
        }
        if let Some(c) = from.c {
            if state != from.state {
                lanes.insert((c, from.lane));
            }
            let tally = tallies.entry(c).or_default();
            tally.count(from.state, from.made, -1);
            tally.count(state, *made, 1);
        }
        rows.push((from.d, i64::from(state), reason, due, made, keep_lease, ended));
    }
    if !rows.is_empty() {
        query(
            "UPDATE deliveries SET state = j.state, reason = j.reason, due = j.due, made = j.made, lease = CASE \
             WHEN j.leased THEN deliveries.lease END, ended = j.ended \
             FROM ROWS($1 AS j: d BIGINT, state BIGINT, reason TEXT, due BIGINT, made BIGINT, leased BOOLEAN, \
             ended BIGINT) WHERE deliveries.d = j.d",
        )
        .bind(set(&rows)?)
        .execute(&mut tx.conn)
        .await?;
    }
    update_heads(tx, &lanes).await?;
    if !notifications.is_empty() {
        let told: Vec<(i64, String, bool)> = query(
            "UPDATE notifications SET settled = CASE WHEN EXISTS (SELECT 1 FROM deliveries x \
             WHERE x.n = notifications.n AND x.state = 0) THEN NULL ELSE $2 END, dead = CASE \
             WHEN EXISTS (SELECT 1 FROM deliveries x WHERE x.n = notifications.n AND x.state = 2) THEN 1 \
             ELSE 0 END, bytes = CASE WHEN EXISTS (SELECT 1 FROM deliveries x WHERE x.n = notifications.n \
             AND x.state = 0) THEN bytes ELSE 512 + octet_length(body) + (SELECT CAST(coalesce(sum(256 + \
             octet_length(x.reason) + octet_length(x.recipient) + (SELECT CAST(coalesce(sum(128 + \
             octet_length(a.reason)), 0) AS BIGINT) FROM attempts a WHERE a.d = x.d)), 0) AS BIGINT) \
             FROM deliveries x WHERE x.n = notifications.n) END WHERE n IN (SELECT value \
             FROM EACH($1 AS j: BIGINT)) RETURNING n, object, NOT EXISTS (SELECT 1 FROM notifications x \
             WHERE x.object = notifications.object AND x.n > notifications.n)",
        )
        .bind(set(&notifications)?)
        .bind(now_ms)
        .fetch_all(&mut tx.conn)
        .await?;
        crate::undelivered::mark_objects(tx, changes, told)?;
    }
    for c in tallies.keys() {
        let Some(channel) = tx.catalog.channel_at(*c) else { continue };
        let namespace = channel.plan.namespace.clone();
        tx.wake(Signal::Work(namespace.clone(), Pool::Send));
        tx.wake(Signal::Work(namespace, Pool::Retry));
    }
    add_to_channels(tx, tallies).await
}

/// For each delivery that ends undelivered, its last attempt that may have arrived: it ended `Unknown`, or is under
/// way.
async fn possibly_arrived(
    tx: &mut Tx,
    changes: &[DeliveryChange],
) -> Result<HashMap<i64, (i64, AttemptState)>, Error> {
    let ends: Vec<i64> = changes
        .iter()
        .filter(
            |change| matches!(&change.verdict, Verdict::End(state, _) if *state != DeliveryState::Delivered),
        )
        .map(|change| change.from.d)
        .collect();
    if ends.is_empty() {
        return Ok(HashMap::new());
    }
    let rows: Vec<(i64, i64, AttemptState)> = query(
        "SELECT a.d, a.number, a.state FROM EACH($1 AS j: BIGINT) CROSS JOIN attempts a ON a.d = j.value \
         WHERE a.outcome = 'Unknown' OR a.state = 0 ORDER BY a.d, a.number",
    )
    .bind(set(&ends)?)
    .fetch_all(&mut tx.conn)
    .await?;
    Ok(rows.into_iter().map(|(d, number, state)| (d, (number, state))).collect())
}

/// Why a delivery ended, and which attempt, as (number, state), may have arrived.
fn may_have_arrived(reason: &str, unsure: Option<&(i64, AttemptState)>) -> String {
    match unsure {
        None => reason.to_owned(),
        Some((number, AttemptState::UnderWay)) => {
            format!("{reason}; it may have arrived: attempt {number} was under way")
        }
        Some((number, _)) => format!("{reason}; it may have arrived: attempt {number} ended unknown"),
    }
}

/// Makes the first pending delivery of each lane its head. Lanes are given as (channel's row, lane): lanes of two
/// channels are different even if their hashes are equal.
pub(crate) async fn update_heads(tx: &mut Tx, lanes: &HashSet<(i64, i64)>) -> Result<(), Error> {
    if lanes.is_empty() {
        return Ok(());
    }
    query(
        "UPDATE deliveries SET head = 1 WHERE head = 0 AND d IN (SELECT (SELECT x.d FROM deliveries x \
         WHERE x.lane = j.lane AND x.c = j.c AND x.state = 0 ORDER BY x.place LIMIT 1) \
         FROM ROWS($1 AS j: c BIGINT, lane BIGINT))",
    )
    .bind(set(lanes)?)
    .execute(&mut tx.conn)
    .await?;
    Ok(())
}

/// Adds to the counters of channels.
pub(crate) async fn add_to_channels(tx: &mut Tx, tallies: HashMap<i64, ChannelDelta>) -> Result<(), Error> {
    if tallies.is_empty() {
        return Ok(());
    }
    let mut rows = Vec::with_capacity(tallies.len());
    // Publish at once when a channel delivers for the first time, or again after failures.
    let took = tallies.iter().filter(|(_, tally)| tally.attempts.last_delivery.is_some());
    let took: Vec<i64> = took.map(|(c, _)| *c).collect();
    let heals: Vec<i64> = if took.is_empty() {
        Vec::new()
    } else {
        query_scalar(
            "SELECT c FROM channels WHERE c IN (SELECT value FROM EACH($1 AS j: BIGINT)) AND (failures > 0 \
             OR last_delivery IS NULL)",
        )
        .bind(set(&took)?)
        .fetch_all(&mut tx.conn)
        .await?
    };
    for (c, tally) in &tallies {
        if let Some(channel) = tx.catalog.channel_at(*c) {
            let uid = channel.plan.uid;
            tx.mark(uid, tally.is_transition() || heals.contains(c));
        }
        let AttemptSummary { last_delivery, failures, error } = &tally.attempts;
        let (error, error_at) = error.as_ref().map(|(why, at)| (why, at)).unzip();
        let counts =
            (tally.pending, tally.retrying, tally.delivered, tally.dead, tally.expired, tally.suppressed);
        let (pending, retrying, delivered, dead, expired, suppressed) = counts;
        rows.push((
            c,
            pending,
            retrying,
            delivered,
            dead,
            expired,
            suppressed,
            last_delivery,
            failures,
            error,
            error_at,
            tally.paused,
        ));
    }
    // A successful delivery resets the count of failures.
    query(
        "UPDATE channels SET pending = channels.pending + j.pending, retrying = channels.retrying + j.retrying, \
         delivered = channels.delivered + j.delivered, dead = channels.dead + j.dead, expired = channels.expired \
         + j.expired, suppressed = channels.suppressed + j.suppressed, last_delivery = coalesce(j.last_delivery, \
         channels.last_delivery), failures = CASE WHEN j.last_delivery IS NULL THEN channels.failures \
         ELSE 0 END + j.failures, last_error = coalesce(j.last_error, CASE \
         WHEN j.last_delivery IS NULL THEN channels.last_error END), last_error_at = coalesce(j.last_error_at, \
         CASE WHEN j.last_delivery IS NULL THEN channels.last_error_at END), paused = \
         coalesce(GREATEST(channels.paused, j.paused), j.paused, channels.paused) \
         FROM ROWS($1 AS j: c BIGINT, pending BIGINT, retrying BIGINT, delivered BIGINT, dead BIGINT, expired \
         BIGINT, suppressed BIGINT, last_delivery BIGINT, failures BIGINT, last_error TEXT, last_error_at \
         BIGINT, paused BIGINT) WHERE channels.c = j.c",
    )
    .bind(set(&rows)?)
    .execute(&mut tx.conn)
    .await?;
    Ok(())
}

/// Refuses if the namespace has too much pending. The counts are stored, so this is cheap.
pub(crate) async fn check_quota(tx: &mut Tx, namespace: &str) -> Result<(), Error> {
    let limit = tx.options.max_pending;
    let pending: i64 = query_scalar(
        "SELECT (SELECT CAST(coalesce(sum(pending + retrying), 0) AS BIGINT) FROM channels \
         WHERE namespace = $1) + (SELECT count(*) FROM deliveries WHERE namespace = $1 AND state = 0 \
         AND c IS NULL)",
    )
    .bind(namespace)
    .fetch_one(&mut tx.conn)
    .await?;
    let over = |what, limit| {
        let (namespace, retry) = (namespace.to_owned(), protocol::messages::DEFAULT_RETRY);
        Err(Error::OverQuota { namespace, what, limit, retry })
    };
    if pending >= limit {
        return over("pending deliveries", limit);
    }
    let limit = tx.options.max_pending_bytes;
    let bytes: Option<i64> =
        query_scalar("SELECT bytes FROM usage WHERE namespace = $1 AND kind = 'pending'")
            .bind(namespace)
            .fetch_optional(&mut tx.conn)
            .await?;
    if bytes.unwrap_or(0) >= limit {
        return over("bytes of pending notifications", limit);
    }
    Ok(())
}

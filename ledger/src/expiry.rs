//! Does what follows from the passing of time: ends leases that ran out and deliveries that are too old, and removes
//! what ended long ago.
//!
//! Invariant: each call does a bounded batch and returns how much it did, so that nobody waits long behind it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use domain::{DeliveryState, DropReason, Millis, ObjectKind, Outcome};
use jiff::Timestamp;
use uuid::Uuid;

use crate::deliveries::{AttemptState, ChannelDelta, DeliveryChange, StoredDelivery, apply_changes};
use crate::engine::{query, query_scalar};
use crate::outcomes::{CHANNEL_DELETED, end_without_attempt};
use crate::sql::{ms, set, time, uuid};
use crate::writer::{Command, Tx};
use crate::{Error, Ledger, Pruned, dead_letters, queries, undelivered};

/// How many rows one batch takes.
pub(crate) const BATCH: i64 = 500;

struct ExpireLeases {
    now: Timestamp,
    chance: f64,
}

#[derive(sqlx::FromRow)]
pub(crate) struct LeasedDelivery {
    #[sqlx(flatten)]
    delivery: StoredDelivery,
    numbered: i64,
}

impl Command for ExpireLeases {
    type Answer = u64;

    async fn run(&mut self, tx: &mut Tx) -> Result<u64, Error> {
        let now = ms(self.now);
        let rows: Vec<LeasedDelivery> = query(
            "SELECT d, n, c, lane, state, made, expires, numbered FROM deliveries WHERE lease <= $1 \
             ORDER BY lease LIMIT $2",
        )
        .bind(now)
        .bind(BATCH)
        .fetch_all(&mut tx.conn)
        .await?;
        end_unreported(tx, &rows, "the worker's lease ran out", self.now, self.chance).await?;
        Ok(rows.len() as u64)
    }
}

/// Ends attempts whose outcome nobody will report, as `Unknown`.
pub(crate) async fn end_unreported(
    tx: &mut Tx,
    rows: &[LeasedDelivery],
    why: &str,
    at: Timestamp,
    chance: f64,
) -> Result<(), Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let now = ms(at);
    let outcome = Outcome::Unknown { reason: why.to_owned() };
    let leased: Vec<_> = rows.iter().map(|row| (row.delivery.d, row.numbered)).collect();
    query(
        "UPDATE attempts SET state = $2, ended = $3, outcome = $4, reason = $5 \
         FROM ROWS($1 AS j: d BIGINT, number BIGINT) WHERE attempts.d = j.d AND attempts.number = j.number \
         AND attempts.state = $6",
    )
    .bind(set(&leased)?)
    .bind(AttemptState::LeaseRanOut)
    .bind(now)
    .bind(outcome.name())
    .bind(outcome.reason())
    .bind(AttemptState::UnderWay)
    .execute(&mut tx.conn)
    .await?;
    let ended: Vec<i64> = rows
        .iter()
        .filter(|row| row.delivery.state != DeliveryState::Pending)
        .map(|row| row.delivery.d)
        .collect();
    query("UPDATE deliveries SET lease = NULL WHERE d IN (SELECT value FROM EACH($1 AS j: BIGINT))")
        .bind(set(&ended)?)
        .execute(&mut tx.conn)
        .await?;
    let catalog = Arc::clone(&tx.catalog);
    let mut tallies: HashMap<i64, ChannelDelta> = HashMap::new();
    let mut changes = Vec::new();
    for row in rows.iter().filter(|row| row.delivery.state == DeliveryState::Pending) {
        let plan = row.delivery.c.and_then(|c| catalog.channel_at(c)).and_then(|channel| channel.channel());
        let Some(plan) = plan else {
            changes.push(end_without_attempt(&row.delivery, DeliveryState::Suppressed, CHANNEL_DELETED));
            continue;
        };
        if let Some(c) = row.delivery.c {
            tallies.entry(c).or_default().attempts.failed(outcome.reason(), now);
        }
        let made = row.delivery.made + 1;
        let chance = spread_chance(chance, row.delivery.d);
        let expires = time(row.delivery.expires);
        let verdict = plan.delivery.decide(&outcome, made as i32, at, expires, chance);
        let reason = outcome.reason().to_owned();
        changes.push(DeliveryChange { from: row.delivery.clone(), verdict, made, keep_lease: false, reason });
    }
    apply_changes(tx, &changes, tallies, at).await
}

/// Makes a different chance for each row from one: multiples of the golden ratio spread neighbours evenly.
fn spread_chance(chance: f64, by: i64) -> f64 {
    (chance + (by % 1_000_003) as f64 * 0.618_033_988_749_895).fract()
}

struct ExpireDeliveries {
    now: Timestamp,
}

impl Command for ExpireDeliveries {
    type Answer = u64;

    async fn run(&mut self, tx: &mut Tx) -> Result<u64, Error> {
        let rows: Vec<StoredDelivery> = query(
            "SELECT d, n, c, lane, state, made, expires FROM deliveries WHERE state = 0 AND lease IS NULL \
             AND expires <= $1 ORDER BY expires LIMIT $2",
        )
        .bind(ms(self.now))
        .bind(BATCH)
        .fetch_all(&mut tx.conn)
        .await?;
        let changes: Vec<DeliveryChange> = rows
            .iter()
            .map(|delivery| {
                let suspended = delivery
                    .c
                    .and_then(|c| tx.catalog.channel_at(c))
                    .is_some_and(|channel| channel.plan.suspended);
                let why = match (delivery.c, suspended, delivery.made) {
                    (None, ..) => "expired: ChannelNotFound",
                    (_, true, _) => "expired while its channel was suspended",
                    (.., 0) => "expired before its first attempt",
                    _ => "expired before its next attempt",
                };
                end_without_attempt(delivery, DeliveryState::Expired, why)
            })
            .collect();
        if !changes.is_empty() {
            apply_changes(tx, &changes, HashMap::new(), self.now).await?;
        }
        Ok(rows.len() as u64)
    }
}

/// How many notifications one batch looks at, and how many dead letters it removes.
const PRUNE_BATCH: i64 = 200;
/// How many deliveries one batch removes.
const DELIVERIES: i64 = 1_000;

struct PruneHistory {
    delivered_before: i64,
    dead_before: i64,
    /// The namespace over a quota whose turn it is.
    over: Option<String>,
}

impl Command for PruneHistory {
    type Answer = Pruned;

    async fn run(&mut self, tx: &mut Tx) -> Result<Pruned, Error> {
        let mut pruned = Pruned::default();
        for (dead, before) in [(0, self.delivered_before), (1, self.dead_before)] {
            let rows: Vec<i64> = query_scalar(
                "SELECT n FROM notifications WHERE dead = $1 AND settled < $2 ORDER BY settled LIMIT $3",
            )
            .bind(dead)
            .bind(before)
            .bind(PRUNE_BATCH)
            .fetch_all(&mut tx.conn)
            .await?;
            let (removed, _) = remove_notifications(tx, &rows).await?;
            pruned.notifications += removed;
            pruned.more |= rows.len() as i64 >= PRUNE_BATCH || removed < rows.len() as u64;
        }
        let letters = query(
            "DELETE FROM dead_letters WHERE l IN (SELECT l FROM dead_letters WHERE stored < $1 ORDER BY stored \
             LIMIT $2)",
        )
        .bind(self.dead_before)
        .bind(PRUNE_BATCH)
        .execute(&mut tx.conn)
        .await?;
        pruned.letters += letters;
        pruned.more |= letters as i64 >= PRUNE_BATCH;
        if let Some(namespace) = &self.over {
            pruned.notifications += remove_oldest_finished(tx, namespace).await?;
            let dropped = dead_letters::make_room(tx, namespace, 0, PRUNE_BATCH).await?;
            dead_letters::report_dropped(tx, namespace, &dropped).await?;
            pruned.letters += dropped.values().sum::<i64>().unsigned_abs();
            // The next call finds out whether this was enough.
            pruned.more = true;
        }
        Ok(pruned)
    }
}

/// Removes a batch of the oldest finished notifications of a namespace while it holds too many bytes of them. Returns
/// how many.
async fn remove_oldest_finished(tx: &mut Tx, namespace: &str) -> Result<u64, Error> {
    let held: Option<i64> =
        query_scalar("SELECT bytes FROM usage WHERE namespace = $1 AND kind = 'finished'")
            .bind(namespace)
            .fetch_optional(&mut tx.conn)
            .await?;
    let mut over = held.unwrap_or(0) - tx.options.max_finished_bytes;
    if over <= 0 {
        return Ok(0);
    }
    let oldest: Vec<(i64, String, i64)> = query(
        "SELECT n, object, CASE WHEN bytes > 0 THEN bytes ELSE CAST(512 + octet_length(body) AS BIGINT) END \
         FROM notifications WHERE namespace = $1 AND settled IS NOT NULL ORDER BY settled LIMIT $2",
    )
    .bind(namespace)
    .bind(PRUNE_BATCH)
    .fetch_all(&mut tx.conn)
    .await?;
    let mut rows = Vec::new();
    let mut objects: HashMap<i64, i64> = HashMap::new();
    let mut schedules: HashMap<Uuid, i64> = HashMap::new();
    let catalog = Arc::clone(&tx.catalog);
    for (n, object, bytes) in oldest {
        if over <= 0 {
            break;
        }
        over -= bytes;
        rows.push(n);
        let Some(object) = catalog.get(uuid(&object)?) else { continue };
        match object.plan.kind() {
            ObjectKind::AlertRule => *objects.entry(object.row).or_default() += 1,
            ObjectKind::Schedule => *schedules.entry(object.plan.uid).or_default() += 1,
            ObjectKind::NotificationChannel => continue,
        }
        tx.mark(object.plan.uid, false);
    }
    let (removed, channels) = remove_notifications(tx, &rows).await?;
    tx.counted.history_dropped += removed;
    dead_letters::add_drops(tx, DropReason::HistoryDropped, &objects).await?;
    query(
        "UPDATE schedules SET history_dropped = history_dropped + j.dropped \
         FROM ROWS($1 AS j: object TEXT, dropped BIGINT) WHERE schedules.uid = j.object",
    )
    .bind(set(&schedules.iter().collect::<Vec<_>>())?)
    .execute(&mut tx.conn)
    .await?;
    query(
        "UPDATE channels SET history_dropped = history_dropped + j.dropped \
         FROM ROWS($1 AS j: channel BIGINT, dropped BIGINT) WHERE channels.c = j.channel",
    )
    .bind(set(&channels.iter().collect::<Vec<_>>())?)
    .execute(&mut tx.conn)
    .await?;
    for channel in channels.keys().filter_map(|c| catalog.channel_at(*c)) {
        tx.mark(channel.plan.uid, false);
    }
    Ok(removed)
}

/// Removes notifications with their deliveries and attempts, at most 1,000 deliveries at once. Returns how many
/// notifications were removed, and how many deliveries of each channel. A later call finds the notifications that are
/// left.
pub(crate) async fn remove_notifications(
    tx: &mut Tx,
    rows: &[i64],
) -> Result<(u64, HashMap<i64, i64>), Error> {
    let mut channels: HashMap<i64, i64> = HashMap::new();
    if rows.is_empty() {
        return Ok((0, channels));
    }
    let which = set(rows)?;
    undelivered::mark_objects_of(tx, &which).await?;
    let found: Vec<(i64, Option<i64>)> =
        query("SELECT d.d, d.c FROM EACH($1 AS j: BIGINT) CROSS JOIN deliveries d ON d.n = j.value LIMIT $2")
            .bind(&which)
            .bind(DELIVERIES)
            .fetch_all(&mut tx.conn)
            .await?;
    for c in found.iter().filter_map(|(_, c)| *c) {
        *channels.entry(c).or_default() += 1;
    }
    let deliveries: Vec<i64> = found.into_iter().map(|(d, _)| d).collect();
    let deliveries = set(&deliveries)?;
    for sql in [
        "DELETE FROM attempts WHERE d IN (SELECT value FROM EACH($1 AS j: BIGINT))",
        "DELETE FROM deliveries WHERE d IN (SELECT value FROM EACH($1 AS j: BIGINT))",
    ] {
        query(sql).bind(&deliveries).execute(&mut tx.conn).await?;
    }
    let removed = query(
        "DELETE FROM notifications WHERE n IN (SELECT value FROM EACH($1 AS j: BIGINT)) AND NOT EXISTS (SELECT 1 \
         FROM deliveries x WHERE x.n = notifications.n)",
    )
    .bind(&which)
    .execute(&mut tx.conn)
    .await?;
    Ok((removed, channels))
}

impl Ledger {
    /// Ends attempts whose lease ran out, at most 500, and returns how many. `chance` in `0.0..1.0` is spread over
    /// their retries.
    pub async fn expire_leases(&self, now: Timestamp, chance: f64) -> Result<u64, Error> {
        // Reading first saves a transaction.
        let due = self.has_row(queries::LEASE_DUE, ms(now)).await?;
        if due { self.writer.execute(ExpireLeases { now, chance }).await } else { Ok(0) }
    }

    /// Ends deliveries that are too old and not under way, at most 500, and returns how many.
    pub async fn expire_deliveries(&self, now: Timestamp) -> Result<u64, Error> {
        let due = self.has_row(queries::EXPIRY_DUE, ms(now)).await?;
        if due { self.writer.execute(ExpireDeliveries { now }).await } else { Ok(0) }
    }

    async fn has_row(&self, sql: &'static str, at: i64) -> Result<bool, Error> {
        let mut reader = self.readers.acquire().await?;
        let due: Option<i32> = query_scalar(sql).bind(at).fetch_optional(&mut reader).await?;
        Ok(due.is_some())
    }

    /// Removes a batch, up to 200 of each: notifications whose deliveries all ended long ago, those with a dead
    /// delivery after `keep_dead`, the others after `keep_delivered`; dead letters after `keep_dead`; and the oldest
    /// of a namespace that exceeds its quota, namespaces in turn. Counters don't change.
    pub async fn prune(
        &self,
        now: Timestamp,
        keep_delivered: Millis,
        keep_dead: Millis,
    ) -> Result<Pruned, Error> {
        let before = |keep: Millis| ms(now).saturating_sub(keep.0);
        let (delivered_before, dead_before) = (before(keep_delivered), before(keep_dead));
        let over = self.over_quota().await?;
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let over = over.get(turn % over.len().max(1)).cloned();
        let mut old = self.has_row(queries::DEAD_LETTER_OLD, dead_before).await?;
        for (dead, before) in [(0, delivered_before), (1, dead_before)] {
            let mut reader = self.readers.acquire().await?;
            let found: Option<i32> = query_scalar(queries::NOTIFICATION_OLD)
                .bind(dead)
                .bind(before)
                .fetch_optional(&mut reader)
                .await?;
            old |= found.is_some();
        }
        if !old && over.is_none() {
            return Ok(Pruned::default());
        }
        self.writer.execute(PruneHistory { delivered_before, dead_before, over }).await
    }

    /// The namespaces that exceed a quota.
    async fn over_quota(&self) -> Result<Vec<String>, Error> {
        let mut over = std::collections::BTreeSet::new();
        let mut after = (String::new(), String::new());
        loop {
            let (usage, next) = self.usage_after(&after).await?;
            for (namespace, kind, bytes) in usage {
                let limit = match kind.as_str() {
                    "finished" => self.quotas.0,
                    "letters" => self.quotas.1,
                    _ => continue,
                };
                if bytes > limit {
                    over.insert(namespace);
                }
            }
            let Some(next) = next else { break };
            after = next;
        }
        Ok(over.into_iter().collect())
    }
}

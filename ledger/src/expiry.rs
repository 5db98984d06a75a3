//! What time does: leases run out, deliveries grow too old, what ended long ago is removed.
//!
//! Invariants: each call does a bounded batch and says how much, so that nobody waits long behind it.

use std::collections::HashMap;
use std::sync::Arc;

use domain::{DeliveryState, Millis, Outcome};
use jiff::Timestamp;
use sqlx::{query, query_as, query_scalar};

use crate::deliveries::{Change, Stands, Tally, apply};
use crate::outcomes::{LEASE_RAN_OUT, UNDER_WAY, end};
use crate::sql::{ms, set, time};
use crate::writer::{Command, Tx};
use crate::{Error, Ledger, Pruned};

/// Rows in one batch.
const BATCH: i64 = 1_000;

struct Leases {
    now: Timestamp,
    chance: f64,
}

#[derive(sqlx::FromRow)]
struct Leased {
    #[sqlx(flatten)]
    stands: Stands,
    numbered: i64,
}

impl Command for Leases {
    type Answer = u64;

    async fn run(&mut self, tx: &mut Tx) -> Result<u64, Error> {
        let now = ms(self.now);
        let rows: Vec<Leased> = query_as(
            "SELECT d, n, c, lane, state, made, expires, numbered FROM deliveries WHERE lease <= ?1 \
             ORDER BY lease LIMIT ?2",
        )
        .bind(now)
        .bind(BATCH)
        .fetch_all(&mut tx.conn)
        .await?;
        if rows.is_empty() {
            return Ok(0);
        }
        let outcome = Outcome::Unknown { reason: "the worker's lease ran out".to_owned() };
        let leased: Vec<_> = rows.iter().map(|row| (row.stands.d, row.numbered)).collect();
        query(
            "UPDATE attempts SET state = ?2, ended = ?3, outcome = ?4, reason = ?5 FROM jsonb_each(?1) j \
             WHERE d = j.value ->> 0 AND number = j.value ->> 1 AND state = ?6",
        )
        .bind(set(&leased)?)
        .bind(LEASE_RAN_OUT)
        .bind(now)
        .bind(outcome.name())
        .bind(outcome.reason())
        .bind(UNDER_WAY)
        .execute(&mut tx.conn)
        .await?;
        let ended: Vec<i64> =
            rows.iter().filter(|row| row.stands.state != 0).map(|row| row.stands.d).collect();
        query("UPDATE deliveries SET lease = NULL WHERE d IN (SELECT value FROM jsonb_each(?1))")
            .bind(set(&ended)?)
            .execute(&mut tx.conn)
            .await?;
        let catalog = Arc::clone(&tx.catalog);
        let mut tallies: HashMap<i64, Tally> = HashMap::new();
        let mut changes = Vec::new();
        for row in rows.iter().filter(|row| row.stands.state == 0) {
            let plan = row.stands.c.and_then(|c| catalog.channel_at(c)).and_then(|channel| channel.channel());
            let Some(plan) = plan else {
                changes.push(end(&row.stands, DeliveryState::Suppressed, "Deleted"));
                continue;
            };
            if let Some(c) = row.stands.c {
                tallies.entry(c).or_default().attempts.failed(outcome.reason(), now);
            }
            let made = row.stands.made + 1;
            let chance = spread(self.chance, row.stands.d);
            let expires = time(row.stands.expires);
            let verdict = plan.delivery.decide(&outcome, made as i32, self.now, expires, chance);
            let reason = outcome.reason().to_owned();
            changes.push(Change { from: row.stands.clone(), verdict, made, keep_lease: false, reason });
        }
        apply(tx, &changes, tallies, self.now).await?;
        Ok(rows.len() as u64)
    }
}

/// One chance for many: moved along by the golden ratio, which spreads neighbours evenly.
fn spread(chance: f64, by: i64) -> f64 {
    (chance + (by % 1_000_003) as f64 * 0.618_033_988_749_895).fract()
}

struct Old {
    now: Timestamp,
}

impl Command for Old {
    type Answer = u64;

    async fn run(&mut self, tx: &mut Tx) -> Result<u64, Error> {
        let rows: Vec<Stands> = query_as(
            "SELECT d, n, c, lane, state, made, expires FROM deliveries WHERE state = 0 AND lease IS NULL \
             AND expires <= ?1 ORDER BY expires LIMIT ?2",
        )
        .bind(ms(self.now))
        .bind(BATCH)
        .fetch_all(&mut tx.conn)
        .await?;
        let changes: Vec<Change> = rows
            .iter()
            .map(|stands| {
                let suspended = stands
                    .c
                    .and_then(|c| tx.catalog.channel_at(c))
                    .is_some_and(|channel| channel.plan.suspended);
                let why = match (stands.c, suspended, stands.made) {
                    (None, ..) => "expired: ChannelNotFound",
                    (_, true, _) => "expired while its channel was suspended",
                    (.., 0) => "expired before its first attempt",
                    _ => "expired before its next attempt",
                };
                end(stands, DeliveryState::Expired, why)
            })
            .collect();
        if !changes.is_empty() {
            apply(tx, &changes, HashMap::new(), self.now).await?;
        }
        Ok(rows.len() as u64)
    }
}

struct Prune {
    delivered_before: i64,
    dead_before: i64,
}

/// Notifications removed at once.
const PRUNED: i64 = 500;

impl Command for Prune {
    type Answer = Pruned;

    async fn run(&mut self, tx: &mut Tx) -> Result<Pruned, Error> {
        let rows: Vec<i64> = query_scalar(
            "SELECT n FROM (SELECT n FROM notifications WHERE dead = 0 AND settled < ?1 ORDER BY settled LIMIT ?3) \
             UNION ALL SELECT n FROM (SELECT n FROM notifications WHERE dead = 1 AND settled < ?2 \
             ORDER BY settled LIMIT ?3)",
        )
        .bind(self.delivered_before)
        .bind(self.dead_before)
        .bind(PRUNED)
        .fetch_all(&mut tx.conn)
        .await?;
        query(
            "DELETE FROM dead_letters WHERE (topic_id, p, position) IN \
             (SELECT topic_id, p, position FROM dead_letters WHERE stored < ?1 ORDER BY stored LIMIT ?2)",
        )
        .bind(self.dead_before)
        .bind(PRUNED)
        .execute(&mut tx.conn)
        .await?;
        if rows.is_empty() {
            return Ok(Pruned::default());
        }
        let which = set(&rows)?;
        for sql in [
            "DELETE FROM attempts WHERE d IN (SELECT d FROM deliveries WHERE n IN (SELECT value FROM jsonb_each(?1)))",
            "DELETE FROM deliveries WHERE n IN (SELECT value FROM jsonb_each(?1))",
            "DELETE FROM notifications WHERE n IN (SELECT value FROM jsonb_each(?1))",
        ] {
            query(sql).bind(&which).execute(&mut tx.conn).await?;
        }
        Ok(Pruned { notifications: rows.len() as u64, more: rows.len() as i64 >= PRUNED })
    }
}

impl Ledger {
    /// Ends attempts whose lease ran out, at most 1,000; how many. `chance` in `0.0..1.0` is spread over their retries.
    pub async fn expire_leases(&self, now: Timestamp, chance: f64) -> Result<u64, Error> {
        // A look costs no transaction.
        let due: bool = query_scalar("SELECT EXISTS (SELECT 1 FROM deliveries WHERE lease <= ?1)")
            .bind(ms(now))
            .fetch_one(&self.readers)
            .await?;
        if due { self.door.done(Leases { now, chance }).await } else { Ok(0) }
    }

    /// Ends deliveries that are too old and not under way, at most 1,000; how many.
    pub async fn expire_deliveries(&self, now: Timestamp) -> Result<u64, Error> {
        let due: bool = query_scalar(
            "SELECT EXISTS (SELECT 1 FROM deliveries WHERE state = 0 AND lease IS NULL AND expires <= ?1)",
        )
        .bind(ms(now))
        .fetch_one(&self.readers)
        .await?;
        if due { self.door.done(Old { now }).await } else { Ok(0) }
    }

    /// Removes notifications whose deliveries all ended long ago, up to 500 of each kind; those with a dead delivery
    /// after `keep_dead`, the others after `keep_delivered`. Counters don't change.
    pub async fn prune(
        &self,
        now: Timestamp,
        keep_delivered: Millis,
        keep_dead: Millis,
    ) -> Result<Pruned, Error> {
        let before = |keep: Millis| ms(now).saturating_sub(keep.0);
        self.door
            .done(Prune { delivered_before: before(keep_delivered), dead_before: before(keep_dead) })
            .await
    }
}

//! What the ledger holds, in numbers, for metrics.
//!
//! Invariant: what grows with tenants is gone through in slices, so that no reader is held for long. Never: a label
//! without a bound.

use std::collections::BTreeMap;

use domain::{DropReason, Kind};

use crate::catalog::Catalog;
use crate::engine::{query, query_scalar};
use crate::queries::{self, ROWS_PER_READ};
use crate::sql::time;
use crate::{Error, Ledger, Totals};

/// A channel's counters, and when the first of its pending notifications was made.
#[derive(sqlx::FromRow)]
struct ChannelRow {
    c: i64,
    pending: i64,
    retrying: i64,
    delivered: i64,
    dead: i64,
    expired: i64,
    suppressed: i64,
    oldest: Option<i64>,
}

/// Up to how many is counted what is only counted.
const COUNT_LIMIT: i64 = 100_000;

impl Ledger {
    /// Numbers for metrics.
    pub async fn totals(&self) -> Result<Totals, Error> {
        let catalog = self.shared.catalog();
        let mut totals = Totals::default();
        for kind in [Kind::NotificationChannel, Kind::AlertRule, Kind::Schedule] {
            totals.objects.insert(kind.name(), 0);
        }
        for object in catalog.objects.values() {
            *totals.objects.entry(object.plan.kind().name()).or_default() += 1;
        }
        self.total_channels(&catalog, &mut totals).await?;
        self.total_rules(&mut totals).await?;
        let mut after = (-1, -1);
        loop {
            let mut reader = self.readers.acquire().await?;
            let lags: Vec<(i64, i32, i64)> = query(queries::PARTITION_LAGS)
                .bind(after.0)
                .bind(after.1)
                .bind(ROWS_PER_READ)
                .fetch_all(&mut reader)
                .await?;
            totals.lag += lags.iter().map(|(.., lag)| lag).sum::<i64>();
            let Some((t, p, _)) = lags.last().filter(|_| lags.len() as i64 >= ROWS_PER_READ) else { break };
            after = (*t, *p);
        }
        let mut after = (String::new(), String::new());
        loop {
            let mut reader = self.readers.acquire().await?;
            let usage: Vec<(String, String, i64)> = query(queries::USAGE)
                .bind(&after.0)
                .bind(&after.1)
                .bind(ROWS_PER_READ)
                .fetch_all(&mut reader)
                .await?;
            for (_, kind, bytes) in &usage {
                let Some(kind) = USAGE_KINDS.into_iter().find(|name| name == kind) else { continue };
                *totals.usage.entry(kind).or_default() += bytes;
                let most = totals.most.entry(kind).or_default();
                *most = (*most).max(*bytes);
            }
            let full = usage.len() as i64 >= ROWS_PER_READ;
            let Some((namespace, kind, _)) = usage.into_iter().last().filter(|_| full) else { break };
            after = (namespace, kind);
        }
        Ok(totals)
    }

    async fn total_channels(&self, catalog: &Catalog, totals: &mut Totals) -> Result<(), Error> {
        let mut oldest: Option<i64> = None;
        let mut after = 0;
        loop {
            let mut reader = self.readers.acquire().await?;
            let channels: Vec<ChannelRow> =
                query(queries::CHANNEL_TOTALS).bind(after).bind(ROWS_PER_READ).fetch_all(&mut reader).await?;
            for row in &channels {
                oldest = oldest.into_iter().chain(row.oldest).min();
                let object = catalog.channel_at(row.c);
                let channel = object.and_then(|channel| channel.channel());
                let Some((object, kind)) = object.zip(channel.map(|channel| channel.target.name())) else {
                    continue;
                };
                let own = totals.by_namespace.entry(object.plan.namespace.clone()).or_default();
                *own = (own.0 + row.delivered, own.1 + row.dead);
                for (state, count) in [
                    ("pending", row.pending),
                    ("retrying", row.retrying),
                    ("delivered", row.delivered),
                    ("dead", row.dead),
                    ("expired", row.expired),
                    ("suppressed", row.suppressed),
                ] {
                    *totals.deliveries.entry((kind, state)).or_default() += count;
                }
            }
            let Some(last) = channels.last().filter(|_| channels.len() as i64 >= ROWS_PER_READ) else {
                break;
            };
            after = last.c;
        }
        let mut reader = self.readers.acquire().await?;
        let waits: Option<i64> = query_scalar(queries::OLDEST_WAITING).fetch_optional(&mut reader).await?;
        totals.oldest_pending = oldest.into_iter().chain(waits).min().map(time);
        totals.waiting =
            query_scalar(queries::WAITING_COUNT).bind(COUNT_LIMIT).fetch_one(&mut reader).await?;
        totals.firing = query_scalar(queries::FIRING_COUNT).bind(COUNT_LIMIT).fetch_one(&mut reader).await?;
        Ok(())
    }

    async fn total_rules(&self, totals: &mut Totals) -> Result<(), Error> {
        let mut after = 0;
        loop {
            let mut reader = self.readers.acquire().await?;
            let rules: Vec<(i64, i64, i64, i64, i64)> =
                query(queries::RULE_TOTALS).bind(after).bind(ROWS_PER_READ).fetch_all(&mut reader).await?;
            for (_, matched, late, dead_lettered, groups) in &rules {
                totals.matched += matched;
                totals.late += late;
                totals.dead_lettered += dead_lettered;
                totals.groups += groups;
            }
            let Some((r, ..)) = rules.last().filter(|_| rules.len() as i64 >= ROWS_PER_READ) else { break };
            after = *r;
        }
        let mut unmatched: BTreeMap<DropReason, i64> = BTreeMap::new();
        let mut after = (0, String::new());
        loop {
            let mut reader = self.readers.acquire().await?;
            let drops: Vec<(i64, String, i64)> = query(queries::DROPS)
                .bind(after.0)
                .bind(&after.1)
                .bind(ROWS_PER_READ)
                .fetch_all(&mut reader)
                .await?;
            for (_, reason, count) in &drops {
                *unmatched.entry(DropReason::of(reason)).or_default() += count;
            }
            let full = drops.len() as i64 >= ROWS_PER_READ;
            let Some((r, reason, _)) = drops.into_iter().last().filter(|_| full) else { break };
            after = (r, reason);
        }
        totals.unmatched = unmatched;
        Ok(())
    }
}

/// Kinds of usage.
const USAGE_KINDS: [&str; 3] = ["pending", "finished", "letters"];

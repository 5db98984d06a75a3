//! What the ledger holds, in numbers, for metrics.
//!
//! Invariant: what grows with tenants is gone through in slices, so that no reader is held for long. Never: a label
//! without a bound.

use std::collections::BTreeMap;

use domain::{DropReason, Kind};

use crate::catalog::Catalog;
use crate::db::{query, query_scalar};
use crate::reads::{self, SLICE};
use crate::sql::time;
use crate::{Counts, Error, Ledger};

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
const COUNTED: i64 = 100_000;

impl Ledger {
    /// Numbers for metrics.
    pub async fn counts(&self) -> Result<Counts, Error> {
        let catalog = self.shared.catalog();
        let mut counts = Counts::default();
        for kind in [Kind::NotificationChannel, Kind::AlertRule, Kind::Schedule] {
            counts.objects.insert(kind.name(), 0);
        }
        for object in catalog.objects.values() {
            *counts.objects.entry(object.plan.kind().name()).or_default() += 1;
        }
        self.count_channels(&catalog, &mut counts).await?;
        self.count_rules(&mut counts).await?;
        let mut after = (-1, -1);
        loop {
            let mut reader = self.readers.acquire().await?;
            let lags: Vec<(i64, i32, i64)> =
                query(reads::LAG).bind(after.0).bind(after.1).bind(SLICE).fetch_all(&mut reader).await?;
            counts.lag += lags.iter().map(|(.., lag)| lag).sum::<i64>();
            let Some((t, p, _)) = lags.last().filter(|_| lags.len() as i64 >= SLICE) else { break };
            after = (*t, *p);
        }
        let mut after = (String::new(), String::new());
        loop {
            let mut reader = self.readers.acquire().await?;
            let usage: Vec<(String, String, i64)> =
                query(reads::USAGE).bind(&after.0).bind(&after.1).bind(SLICE).fetch_all(&mut reader).await?;
            for (_, kind, bytes) in &usage {
                let Some(kind) = KINDS.into_iter().find(|name| name == kind) else { continue };
                *counts.usage.entry(kind).or_default() += bytes;
                let most = counts.most.entry(kind).or_default();
                *most = (*most).max(*bytes);
            }
            let full = usage.len() as i64 >= SLICE;
            let Some((namespace, kind, _)) = usage.into_iter().last().filter(|_| full) else { break };
            after = (namespace, kind);
        }
        Ok(counts)
    }

    async fn count_channels(&self, catalog: &Catalog, counts: &mut Counts) -> Result<(), Error> {
        let mut oldest: Option<i64> = None;
        let mut after = 0;
        loop {
            let mut reader = self.readers.acquire().await?;
            let channels: Vec<ChannelRow> =
                query(reads::CHANNELS).bind(after).bind(SLICE).fetch_all(&mut reader).await?;
            for row in &channels {
                oldest = oldest.into_iter().chain(row.oldest).min();
                let object = catalog.channel_at(row.c);
                let channel = object.and_then(|channel| channel.channel());
                let Some((object, kind)) = object.zip(channel.map(|channel| channel.target.name())) else {
                    continue;
                };
                let own = counts.by_namespace.entry(object.plan.namespace.clone()).or_default();
                *own = (own.0 + row.delivered, own.1 + row.dead);
                for (state, count) in [
                    ("pending", row.pending),
                    ("retrying", row.retrying),
                    ("delivered", row.delivered),
                    ("dead", row.dead),
                    ("expired", row.expired),
                    ("suppressed", row.suppressed),
                ] {
                    *counts.deliveries.entry((kind, state)).or_default() += count;
                }
            }
            let Some(last) = channels.last().filter(|_| channels.len() as i64 >= SLICE) else { break };
            after = last.c;
        }
        let mut reader = self.readers.acquire().await?;
        let waits: Option<i64> = query_scalar(reads::OLDEST_WAITING).fetch_optional(&mut reader).await?;
        counts.oldest_pending = oldest.into_iter().chain(waits).min().map(time);
        counts.waiting = query_scalar(reads::WAITING).bind(COUNTED).fetch_one(&mut reader).await?;
        counts.firing = query_scalar(reads::FIRING).bind(COUNTED).fetch_one(&mut reader).await?;
        Ok(())
    }

    async fn count_rules(&self, counts: &mut Counts) -> Result<(), Error> {
        let mut after = 0;
        loop {
            let mut reader = self.readers.acquire().await?;
            let rules: Vec<(i64, i64, i64, i64, i64)> =
                query(reads::RULES).bind(after).bind(SLICE).fetch_all(&mut reader).await?;
            for (_, matched, late, dead_lettered, groups) in &rules {
                counts.matched += matched;
                counts.late += late;
                counts.dead_lettered += dead_lettered;
                counts.groups += groups;
            }
            let Some((r, ..)) = rules.last().filter(|_| rules.len() as i64 >= SLICE) else { break };
            after = *r;
        }
        let mut unmatched: BTreeMap<DropReason, i64> = BTreeMap::new();
        let mut after = (0, String::new());
        loop {
            let mut reader = self.readers.acquire().await?;
            let drops: Vec<(i64, String, i64)> =
                query(reads::DROPS).bind(after.0).bind(&after.1).bind(SLICE).fetch_all(&mut reader).await?;
            for (_, reason, count) in &drops {
                *unmatched.entry(DropReason::of(reason)).or_default() += count;
            }
            let full = drops.len() as i64 >= SLICE;
            let Some((r, reason, _)) = drops.into_iter().last().filter(|_| full) else { break };
            after = (r, reason);
        }
        counts.unmatched = unmatched;
        Ok(())
    }
}

/// Kinds of usage.
const KINDS: [&str; 3] = ["pending", "finished", "letters"];

//! Sums up what the ledger holds, for metrics.
//!
//! Invariant: tables that grow with tenants are read in slices, so that no reader is held for long.

use std::collections::BTreeMap;

use domain::{DropReason, ObjectKind};

use crate::catalog::Catalog;
use crate::deliveries::ChannelCounters;
use crate::engine::{query, query_scalar};
use crate::queries::{self, ROWS_PER_READ};
use crate::sql::time;
use crate::{Error, Ledger, Totals};

/// A row of `usage`: namespace, kind, bytes.
type Usage = (String, String, i64);

/// A channel's counters, and when its oldest pending notification was made.
#[derive(sqlx::FromRow)]
struct ChannelTotalsRow {
    c: i64,
    #[sqlx(flatten)]
    counters: ChannelCounters,
    oldest: Option<i64>,
}

/// Counting stops here where no counter is stored.
const COUNT_LIMIT: i64 = 100_000;

impl Ledger {
    /// The numbers for metrics.
    pub async fn totals(&self) -> Result<Totals, Error> {
        let catalog = self.shared.catalog();
        let mut totals = Totals::default();
        for kind in [ObjectKind::NotificationChannel, ObjectKind::AlertRule, ObjectKind::Schedule] {
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
            let (usage, next) = self.usage_after(&after).await?;
            for (_, kind, bytes) in &usage {
                let Some(kind) = USAGE_KINDS.into_iter().find(|name| name == kind) else { continue };
                *totals.usage.entry(kind).or_default() += bytes;
                let most = totals.most.entry(kind).or_default();
                *most = (*most).max(*bytes);
            }
            let Some(next) = next else { break };
            after = next;
        }
        Ok(totals)
    }

    /// The next rows of what namespaces hold, as (namespace, kind, bytes), and the cursor after them; no cursor at the end.
    pub(crate) async fn usage_after(
        &self,
        (namespace, kind): &(String, String),
    ) -> Result<(Vec<Usage>, Option<(String, String)>), Error> {
        let mut reader = self.readers.acquire().await?;
        let usage: Vec<Usage> = query(queries::USAGE)
            .bind(namespace)
            .bind(kind)
            .bind(ROWS_PER_READ)
            .fetch_all(&mut reader)
            .await?;
        let last = usage.last().filter(|_| usage.len() as i64 >= ROWS_PER_READ);
        let next = last.map(|(namespace, kind, _)| (namespace.clone(), kind.clone()));
        Ok((usage, next))
    }

    async fn total_channels(&self, catalog: &Catalog, totals: &mut Totals) -> Result<(), Error> {
        let mut oldest: Option<i64> = None;
        let mut after = 0;
        loop {
            let mut reader = self.readers.acquire().await?;
            let channels: Vec<ChannelTotalsRow> =
                query(queries::CHANNEL_TOTALS).bind(after).bind(ROWS_PER_READ).fetch_all(&mut reader).await?;
            for row in &channels {
                oldest = oldest.into_iter().chain(row.oldest).min();
                let object = catalog.channel_at(row.c);
                let channel = object.and_then(|channel| channel.channel());
                let Some((object, kind)) = object.zip(channel.map(|channel| channel.target.name())) else {
                    continue;
                };
                let own = totals.by_namespace.entry(object.plan.namespace.clone()).or_default();
                *own = (own.0 + row.counters.delivered, own.1 + row.counters.dead);
                for (state, count) in [
                    ("pending", row.counters.pending),
                    ("retrying", row.counters.retrying),
                    ("delivered", row.counters.delivered),
                    ("dead", row.counters.dead),
                    ("expired", row.counters.expired),
                    ("suppressed", row.counters.suppressed),
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
                *unmatched.entry(DropReason::from_name(reason)).or_default() += count;
            }
            let full = drops.len() as i64 >= ROWS_PER_READ;
            let Some((r, reason, _)) = drops.into_iter().last().filter(|_| full) else { break };
            after = (r, reason);
        }
        totals.unmatched = unmatched;
        Ok(())
    }
}

/// The kinds of rows in `usage`.
const USAGE_KINDS: [&str; 3] = ["pending", "finished", "letters"];

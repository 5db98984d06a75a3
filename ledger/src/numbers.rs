//! What the ledger holds, in numbers, for metrics. Never: a label without a bound.

use std::collections::BTreeMap;

use domain::Kind;
use sqlx::{query_as, query_scalar};

use crate::sql::time;
use crate::{Counts, Error, Ledger};

type ChannelRow = (i64, i64, i64, i64, i64, i64, i64);

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
        let mut reader = self.readers.acquire().await?;
        let channels: Vec<ChannelRow> =
            query_as("SELECT c, pending, retrying, delivered, dead, expired, suppressed FROM channels")
                .fetch_all(&mut *reader)
                .await?;
        for (c, pending, retrying, delivered, dead, expired, suppressed) in channels {
            let channel = catalog.channel_at(c).and_then(|channel| channel.channel());
            let Some(kind) = channel.map(|channel| channel.target.name()) else { continue };
            for (state, count) in [
                ("pending", pending),
                ("retrying", retrying),
                ("delivered", delivered),
                ("dead", dead),
                ("expired", expired),
                ("suppressed", suppressed),
            ] {
                *counts.deliveries.entry((kind, state)).or_default() += count;
            }
        }
        let oldest: Option<i64> = query_scalar(
            "SELECT min(created) FROM (SELECT n.created FROM notifications n WHERE n.n = (SELECT d.n FROM \
             deliveries d WHERE d.state = 0 ORDER BY d.expires LIMIT 1) UNION ALL SELECT (SELECT n.created FROM \
             deliveries d JOIN notifications n ON n.n = d.n WHERE d.c = c.c AND d.state = 0 ORDER BY d.d LIMIT 1) \
             FROM channels c)",
        )
        .fetch_one(&mut *reader)
        .await?;
        counts.oldest_pending = oldest.map(time);
        let (waiting, lag, groups, firing): (i64, i64, i64, i64) = query_as(
            "SELECT (SELECT count(*) FROM deliveries WHERE state = 0 AND c IS NULL), \
             (SELECT coalesce(sum(max(high - position, 0)), 0) FROM partitions), \
             (SELECT count(*) FROM groups), (SELECT count(*) FROM groups WHERE firing IS NOT NULL)",
        )
        .fetch_one(&mut *reader)
        .await?;
        let (matched, late, dead_lettered): (i64, i64, i64) = query_as(
            "SELECT coalesce(sum(matched), 0), coalesce(sum(late), 0), coalesce(sum(dead_lettered), 0) FROM rules",
        )
        .fetch_one(&mut *reader)
        .await?;
        let unmatched: Vec<(String, i64)> =
            query_as("SELECT reason, sum(count) FROM drops GROUP BY reason").fetch_all(&mut *reader).await?;
        counts.unmatched = unmatched.into_iter().collect::<BTreeMap<_, _>>();
        let held = Counts { waiting, lag, groups, firing, matched, late, dead_lettered, ..counts };
        Ok(held)
    }
}

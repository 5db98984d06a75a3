//! A rule within a transaction: what is stored of it, and what the transaction adds to its numbers.

use std::collections::BTreeMap;
use std::sync::Arc;

use alerting::decide::RuleParams;
use domain::DropReason;
use jiff::Timestamp;
use protocol::messages::Entry;
use serde_json::json;
use uuid::Uuid;

use crate::Error;
use crate::catalog::Object;
use crate::engine::query;
use crate::recent_records::{self, RecentRecords, StoredDropSample};
use crate::sql::{ms, set};
use crate::writer::Tx;

/// Bytes of groups, with their counts, that one step loads. A single group may be larger.
pub(crate) const STEP_BYTES: i64 = 4 << 20;

/// About how many bytes a group's own row takes, with its index entries.
pub(crate) fn group_bytes(labels: &str, state: &str, sample: Option<&str>, window: Option<&str>) -> i64 {
    let more = sample.map_or(0, str::len) + window.map_or(0, str::len);
    (120 + 2 * labels.len() + state.len() + more) as i64
}

/// What a transaction adds to a rule's numbers.
#[derive(Debug, Default)]
pub(crate) struct RuleDelta {
    pub(crate) decided: Option<i64>,
    pub(crate) observed: Option<i64>,
    pub(crate) matched: i64,
    pub(crate) last_match: Option<i64>,
    pub(crate) last_alert: Option<i64>,
    pub(crate) late: i64,
    pub(crate) dead_lettered: i64,
    pub(crate) dropped: BTreeMap<DropReason, i64>,
    /// The change of the number of groups, and of their bytes.
    pub(crate) groups: i64,
    pub(crate) bytes: i64,
    /// What the rule made of the commit's records, and a sample of those that it could not count.
    pub(crate) recent: RecentRecords,
    pub(crate) uncounted: Option<StoredDropSample>,
}

/// A rule as stored, with what the transaction adds to it.
pub(crate) struct RuleUpdate {
    pub(crate) object: Arc<Object>,
    pub(crate) params: Option<RuleParams>,
    /// The watermark up to which it was decided before this transaction.
    pub(crate) decided: Option<i64>,
    /// Since when, by event time, it has seen all records; `None` if this was not known before this transaction.
    pub(crate) observed: Option<i64>,
    /// When a rule learns since when it has seen all records, its groups are made due in the order of their labels:
    /// up to these labels they are. `None` if all are.
    pub(crate) woken: Option<String>,
    /// Whether the commit was folded with the rule's current state hash.
    pub(crate) current: bool,
    /// Up to when all partitions that it reads are known. It is not decided beyond that.
    pub(crate) surveyed: Option<i64>,
    pub(crate) delta: RuleDelta,
}

impl RuleUpdate {
    /// A rule as stored, without a commit.
    pub(crate) fn from_stored(
        object: Arc<Object>,
        decided: Option<i64>,
        observed: Option<i64>,
        woken: Option<String>,
    ) -> Self {
        let params = object.rule().and_then(RuleParams::from_plan);
        let (current, surveyed, delta) = (false, None, RuleDelta::default());
        Self { object, params, decided, observed, woken, current, surveyed, delta }
    }

    /// The rule's watermark: a bucket that ends at or before it takes no more counts, and is decided or due.
    pub(crate) fn decided_to(&self) -> Option<i64> {
        self.delta.decided.or(self.decided)
    }

    /// Since when, by event time, the rule has seen all records.
    pub(crate) fn observed(&self) -> Option<i64> {
        self.delta.observed.or(self.observed)
    }

    pub(crate) fn reads_topic(&self, topic: &str) -> bool {
        self.object.rule().is_some_and(|rule| rule.topics.iter().any(|name| name == topic))
    }

    /// Whether the rule takes the entry's counts: it reads the topic, and the entry was folded with the rule as it is
    /// now.
    pub(crate) fn accepts(&self, entry: &Entry) -> bool {
        self.current && self.reads_topic(&entry.topic)
    }
}

/// Adds the rules' deltas to their rows, and marks the rules whose status is to be published at once.
pub(crate) async fn store_rule_deltas(
    tx: &mut Tx,
    rules: &BTreeMap<Uuid, RuleUpdate>,
    now: Timestamp,
) -> Result<(), Error> {
    let (mut rows, mut drops) = (Vec::new(), Vec::new());
    for (uid, rule) in rules {
        let RuleDelta { decided, observed, matched, last_match, last_alert, late, dead_lettered, .. } =
            &rule.delta;
        let RuleDelta { dropped, groups, bytes, recent, uncounted, .. } = &rule.delta;
        let RecentRecords { read, failed, lost, .. } = recent;
        let reason = uncounted.as_ref().map(StoredDropSample::reason);
        let sample = uncounted.as_ref().map(serde_json::to_string).transpose()?;
        // More columns than a tuple may have.
        rows.push(json!([
            rule.object.row,
            decided,
            observed,
            last_match,
            last_alert,
            matched,
            late,
            dead_lettered,
            groups,
            bytes,
            rule.woken,
            read,
            failed,
            lost,
            matched,
            reason,
            sample,
        ]));
        drops.extend(dropped.iter().map(|(reason, count)| (rule.object.row, reason, count)));
        let shown = tx.published.shown(uid);
        let fills = dropped.keys().any(|reason| reason.is_full()) && !shown.is_some_and(|it| it.full);
        tx.mark(*uid, last_alert.is_some() || fills);
    }
    let stored: Vec<StoredRecent> = query(
        "UPDATE rules SET decided = coalesce(j.decided, rules.decided), observed = coalesce(j.observed, \
         rules.observed), last_match = coalesce(GREATEST(rules.last_match, j.last_match), j.last_match, \
         rules.last_match), last_alert = coalesce(j.last_alert, rules.last_alert), matched = rules.matched + \
         j.matched, late = rules.late + j.late, dead_lettered = rules.dead_lettered + j.dead_lettered, groups = \
         GREATEST(rules.groups + j.groups, 0), bytes = GREATEST(rules.bytes + j.bytes, 0), woken = j.woken, \
         lately_read = (lately_read + j.read) / CASE WHEN lately_read + j.read > $2 THEN 2 \
         ELSE 1 END, lately_failed = (lately_failed + j.failed) / CASE WHEN lately_read + j.read > $2 THEN 2 \
         ELSE 1 END, lately_lost = (lately_lost + j.lost) / CASE \
         WHEN lately_lost + lately_counted + j.lost + j.counted > $2 THEN 2 \
         ELSE 1 END, lately_counted = (lately_counted + j.counted) / CASE \
         WHEN lately_lost + lately_counted + j.lost + j.counted > $2 THEN 2 ELSE 1 END, unmatched = CASE \
         WHEN j.reason IS NULL OR JSON_TEXT(rules.unmatched, 'reason') = j.reason THEN rules.unmatched \
         ELSE j.sample END FROM ROWS($1 AS j: r BIGINT, decided BIGINT, observed BIGINT, last_match BIGINT, \
         last_alert BIGINT, matched BIGINT, late BIGINT, dead_lettered BIGINT, groups BIGINT, bytes BIGINT, \
         woken TEXT, read BIGINT, failed BIGINT, lost BIGINT, counted BIGINT, reason TEXT, sample TEXT) \
         WHERE rules.r = j.r RETURNING uid, lately_read, lately_failed, lately_lost, lately_counted",
    )
    .bind(set(&rows)?)
    .bind(recent_records::HALVED_AFTER)
    .fetch_all(&mut tx.conn)
    .await?;
    // Publish at once when a rule becomes unable to count its records, or able again.
    for StoredRecent { uid, recent } in stored {
        let uid = crate::sql::uuid(&uid)?;
        let said = tx.published.shown(&uid).is_some_and(|shown| shown.uncountable);
        if said != recent.uncountable_share().is_some() {
            tx.mark(uid, true);
        }
    }
    store_drops(tx, &drops, now).await
}

/// Adds to the numbers of records that rules left out. Each item is (the rule's row, reason, count).
async fn store_drops(tx: &mut Tx, drops: &[(i64, &DropReason, &i64)], now: Timestamp) -> Result<(), Error> {
    if drops.is_empty() {
        return Ok(());
    }
    query(
        "INSERT INTO drops (r, reason, count, last) SELECT r, reason, count, $2 \
         FROM ROWS($1 AS j: r BIGINT, reason TEXT, count BIGINT) WHERE true ON CONFLICT (r, reason) DO UPDATE \
         SET count = drops.count + excluded.count, last = excluded.last",
    )
    .bind(set(drops)?)
    .bind(ms(now))
    .execute(&mut tx.conn)
    .await?;
    Ok(())
}

/// What a rule made of recent records, as stored.
#[derive(sqlx::FromRow)]
struct StoredRecent {
    uid: String,
    #[sqlx(flatten)]
    recent: RecentRecords,
}

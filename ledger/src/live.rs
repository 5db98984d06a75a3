//! A rule at work in a transaction: what is stored of it, and what the transaction adds to its numbers.
//!
//! Never: a count of a group, or a decision.

use std::collections::BTreeMap;
use std::sync::Arc;

use alerting::decide::RuleParams;
use domain::DropReason;
use jiff::Timestamp;
use protocol::messages::Entry;
use sqlx::{query, query_as};
use uuid::Uuid;

use crate::Error;
use crate::catalog::Object;
use crate::lately::{self, Lately, Sampled};
use crate::sql::{ms, set};
use crate::writer::Tx;

/// Bytes of groups with their counts that one step looks at; one group may be more.
pub(crate) const STEP_BYTES: i64 = 4 << 20;

/// About how many bytes a group's own row takes, with its places in indexes.
pub(crate) fn group_bytes(labels: &str, state: &str, sample: Option<&str>, window: Option<&str>) -> i64 {
    let more = sample.map_or(0, str::len) + window.map_or(0, str::len);
    (120 + 2 * labels.len() + state.len() + more) as i64
}

/// What a commit adds to a rule's numbers.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    pub(crate) decided: Option<i64>,
    pub(crate) observed: Option<i64>,
    pub(crate) matched: i64,
    pub(crate) last_match: Option<i64>,
    pub(crate) last_alert: Option<i64>,
    pub(crate) late: i64,
    pub(crate) dead_lettered: i64,
    pub(crate) dropped: BTreeMap<DropReason, i64>,
    /// Groups more or fewer, and their bytes.
    pub(crate) groups: i64,
    pub(crate) bytes: i64,
    /// What it made of the commit's records, and one that it could not count.
    pub(crate) lately: Lately,
    pub(crate) uncounted: Option<Sampled>,
}

/// A rule of the source, with what is stored of it.
pub(crate) struct Live {
    pub(crate) object: Arc<Object>,
    pub(crate) params: Option<RuleParams>,
    /// Up to where it was decided before this commit.
    pub(crate) decided: Option<i64>,
    /// Since when, by event time, it has seen all records, if that was known before this commit.
    pub(crate) observed: Option<i64>,
    /// The labels up to which groups were made due since it has been known since when it has seen all; none: all were.
    pub(crate) woken: Option<String>,
    /// Whether the commit was folded with what decides the rule now.
    pub(crate) current: bool,
    /// Up to when all partitions that it reads are known: it is decided no further.
    pub(crate) surveyed: Option<i64>,
    pub(crate) numbers: Numbers,
}

impl Live {
    /// A rule as it is stored, without a commit.
    pub(crate) fn stored(
        object: Arc<Object>,
        decided: Option<i64>,
        observed: Option<i64>,
        woken: Option<String>,
    ) -> Self {
        let params = object.rule().and_then(RuleParams::from_plan);
        let (current, surveyed, numbers) = (false, None, Numbers::default());
        Self { object, params, decided, observed, woken, current, surveyed, numbers }
    }

    /// Every bucket that ends at or before takes no more counts, and is decided or due.
    pub(crate) fn to(&self) -> Option<i64> {
        self.numbers.decided.or(self.decided)
    }

    /// Since when, by event time, it has seen all records.
    pub(crate) fn observed(&self) -> Option<i64> {
        self.numbers.observed.or(self.observed)
    }

    pub(crate) fn reads(&self, topic: &str) -> bool {
        self.object.rule().is_some_and(|rule| rule.topics.iter().any(|name| name == topic))
    }

    /// Whether what the entry counts for the rule is of the rule as it is now.
    pub(crate) fn counts(&self, entry: &Entry) -> bool {
        self.current && self.reads(&entry.topic)
    }
}

/// Adds to the rules' numbers.
pub(crate) async fn numbers(tx: &mut Tx, rules: &BTreeMap<Uuid, Live>, now: Timestamp) -> Result<(), Error> {
    let (mut rows, mut drops) = (Vec::new(), Vec::new());
    for (uid, rule) in rules {
        let Numbers { decided, observed, matched, last_match, last_alert, late, dead_lettered, .. } =
            &rule.numbers;
        let Numbers { dropped, groups, bytes, lately, uncounted, .. } = &rule.numbers;
        let Lately { read, failed, lost, .. } = lately;
        let lately = ((read, failed, lost, matched), uncounted);
        let held = (groups, bytes, &rule.woken);
        let times = (decided, observed, last_match, last_alert);
        rows.push((rule.object.row, times, (matched, late, dead_lettered), held, lately));
        drops.extend(dropped.iter().map(|(reason, count)| (rule.object.row, reason, count)));
        let shown = tx.published.shown(uid);
        let fills = dropped.keys().any(|reason| reason.is_full()) && !shown.is_some_and(|it| it.full);
        tx.mark(*uid, last_alert.is_some() || fills);
    }
    let stored: Vec<StoredLately> = query_as(
        "UPDATE rules SET decided = coalesce(j.value ->> '$[1][0]', decided), \
         observed = coalesce(j.value ->> '$[1][1]', observed), \
         last_match = coalesce(max(last_match, j.value ->> '$[1][2]'), j.value ->> '$[1][2]', last_match), \
         last_alert = coalesce(j.value ->> '$[1][3]', last_alert), matched = matched + (j.value ->> '$[2][0]'), \
         late = late + (j.value ->> '$[2][1]'), dead_lettered = dead_lettered + (j.value ->> '$[2][2]'), \
         groups = max(groups + (j.value ->> '$[3][0]'), 0), bytes = max(bytes + (j.value ->> '$[3][1]'), 0), \
         woken = j.value ->> '$[3][2]', \
         lately_read = (lately_read + (j.value ->> '$[4][0][0]')) / iif(lately_read + (j.value ->> '$[4][0][0]') > ?2, 2, 1), \
         lately_failed = (lately_failed + (j.value ->> '$[4][0][1]')) / iif(lately_read + (j.value ->> '$[4][0][0]') > ?2, 2, 1), \
         lately_lost = (lately_lost + (j.value ->> '$[4][0][2]')) / iif(lately_lost + lately_counted \
         + (j.value ->> '$[4][0][2]') + (j.value ->> '$[4][0][3]') > ?2, 2, 1), \
         lately_counted = (lately_counted + (j.value ->> '$[4][0][3]')) / iif(lately_lost + lately_counted \
         + (j.value ->> '$[4][0][2]') + (j.value ->> '$[4][0][3]') > ?2, 2, 1), \
         unmatched = iif(j.value ->> '$[4][1].reason' IS NULL OR unmatched ->> 'reason' = j.value ->> '$[4][1].reason', \
         unmatched, j.value ->> '$[4][1]') FROM jsonb_each(?1) j WHERE r = j.value ->> 0 \
         RETURNING uid, lately_read, lately_failed, lately_lost, lately_counted",
    )
    .bind(set(&rows)?)
    .bind(lately::MEMORY)
    .fetch_all(&mut tx.conn)
    .await?;
    // That a rule can't count what comes, or can again, is news.
    for StoredLately { uid, lately } in stored {
        let uid = crate::sql::uuid(&uid)?;
        let said = tx.published.shown(&uid).is_some_and(|shown| shown.uncountable);
        if said != lately.share().is_some() {
            tx.mark(uid, true);
        }
    }
    drop_more(tx, &drops, now).await
}

/// Adds to what rules dropped: the rule's row, why, how many.
async fn drop_more(tx: &mut Tx, drops: &[(i64, &DropReason, &i64)], now: Timestamp) -> Result<(), Error> {
    if drops.is_empty() {
        return Ok(());
    }
    query(
        "INSERT INTO drops (r, reason, count, last) SELECT value ->> 0, value ->> 1, value ->> 2, ?2 \
         FROM jsonb_each(?1) WHERE true ON CONFLICT (r, reason) DO UPDATE SET count = count + excluded.count, \
         last = excluded.last",
    )
    .bind(set(drops)?)
    .bind(ms(now))
    .execute(&mut tx.conn)
    .await?;
    Ok(())
}

/// What a rule made of the last records, as stored.
#[derive(sqlx::FromRow)]
struct StoredLately {
    uid: String,
    #[sqlx(flatten)]
    lately: Lately,
}

//! Chooses the due groups of a step, loads what is stored of them, and writes back what was decided.
//!
//! Invariants: a step has a bounded number of groups and bytes, shared equally among rules with due groups. A group's
//! bytes are known without reading its counts.

use std::collections::{BTreeMap, HashMap, HashSet};

use alerting::alert_data::ShownRecords;
use alerting::decide::{self, Bucket, Decision, GroupDecisions, GroupState, Reached, RuleParams};
use alerting::values::merge_top;
use domain::Values;
use jiff::Timestamp;
use protocol::messages::Sample;
use uuid::Uuid;

use crate::engine::query;
use crate::notify::NotificationDraft;
use crate::rule_updates::{RuleUpdate, STEP_BYTES, group_bytes};
use crate::rules::RuleRef;
use crate::sql::set;
use crate::texts::Remaining;
use crate::writer::Tx;
use crate::{Error, Rendered};

/// A group that is due.
pub(crate) struct DueGroup {
    pub(crate) g: i64,
    pub(crate) rule: Uuid,
    pub(crate) labels: String,
    /// Its state before, JSON.
    pub(crate) stored: String,
    pub(crate) state: GroupState,
    pub(crate) sample: Option<String>,
    pub(crate) buckets: Vec<Bucket>,
    /// The watermark up to which it was decided, if it was.
    pub(crate) decided: Option<i64>,
    pub(crate) bytes: i64,
    /// The part of `bytes` that its own row takes.
    pub(crate) row_bytes: i64,
    /// The result of the current step.
    pub(crate) step: GroupDecisions,
}

/// A row of `groups`, as read.
#[derive(sqlx::FromRow)]
struct StoredGroup {
    g: i64,
    r: i64,
    labels: String,
    state: String,
    sample: Option<String>,
    window: Option<String>,
    decided: Option<i64>,
    bytes: i64,
}

/// A row of `groups`, as written back.
struct GroupRow {
    g: i64,
    state: String,
    firing: Option<i64>,
    count: i64,
    next: Option<i64>,
    sample: Option<String>,
    pending: Option<i64>,
    window: Option<String>,
    decided: i64,
    /// How many bytes the row itself takes.
    bytes: i64,
}

impl DueGroup {
    /// Decides the group up to its rule's watermark, with at most `most` decisions.
    pub(crate) fn decide(&mut self, rule: &RuleUpdate, most: usize) {
        let (Some(params), Some(to)) = (rule.params, rule.decided_to()) else { return };
        let reached = Reached { to, observed: rule.observed() };
        self.step = decide::decide(&params, &mut self.state, &self.buckets, self.decided, reached, most);
    }

    pub(crate) fn draft(
        &self,
        rule: RuleRef<'_>,
        text: Rendered,
        decision: &Decision,
        (first, top): (&Option<String>, &BTreeMap<String, Values>),
        now: Timestamp,
    ) -> Result<NotificationDraft, Error> {
        let read = |sample: &Option<String>| -> Result<Option<Sample>, Error> {
            Ok(sample.as_deref().map(serde_json::from_str).transpose()?)
        };
        let (first, last) = (read(first)?, read(&self.sample)?);
        let labels: BTreeMap<String, String> = serde_json::from_str(&self.labels)?;
        let shown = ShownRecords { first: first.as_ref(), last: last.as_ref(), top };
        rule.alert(text, &labels, decision, (shown, None), now)
    }
}

/// Chooses the groups of one step: those of `first`, then an equal share for each rule, longest due first.
pub(crate) async fn choose_groups(
    tx: &mut Tx,
    rules: &BTreeMap<Uuid, RuleUpdate>,
    which: &HashSet<Uuid>,
    first: &[i64],
    left: &mut Remaining,
) -> Result<Vec<i64>, Error> {
    let to = rules.iter().filter(|(uid, _)| which.contains(uid));
    let to: Vec<(i64, i64)> =
        to.filter_map(|(_, rule)| Some((rule.object.row, rule.decided_to()?))).collect();
    let due: Vec<(i64, i64)> = query(
        "SELECT j.r, j.until FROM ROWS($1 AS j: r BIGINT, until BIGINT) WHERE EXISTS (SELECT 1 FROM groups x \
         WHERE x.r = j.r AND x.next <= j.until)",
    )
    .bind(set(&to)?)
    .fetch_all(&mut tx.conn)
    .await?;
    if due.is_empty() {
        return Ok(Vec::new());
    }
    let step = tx.options.groups_per_step.max(1);
    let share = (step / due.len()).max(1);
    left.more |= due.len() > step;
    let mut found: Vec<(i64, i64, i64)> = query(
        "SELECT g.g, g.r, g.bytes FROM EACH($1 AS f: BIGINT) JOIN groups g ON g.g = f.value \
         JOIN ROWS($2 AS j: r BIGINT, until BIGINT) ON g.r = j.r AND g.next <= j.until ORDER BY f.ord",
    )
    .bind(set(first)?)
    .bind(set(&due)?)
    .fetch_all(&mut tx.conn)
    .await?;
    let others: Vec<(i64, i64, i64)> = query(
        "SELECT g.g, g.r, g.bytes FROM ROWS($1 AS j: r BIGINT, until BIGINT) JOIN groups g ON g.g IN (SELECT x.g \
         FROM groups x WHERE x.r = j.r AND x.next <= j.until ORDER BY x.next, x.g LIMIT $2)",
    )
    .bind(set(&due[..due.len().min(step)])?)
    .bind(share as i64 + 1)
    .fetch_all(&mut tx.conn)
    .await?;
    found.extend(others);
    let (mut chosen, mut seen, mut each, mut bytes) =
        (Vec::new(), HashSet::new(), HashMap::<i64, usize>::new(), 0);
    for (g, r, size) in found {
        if !seen.insert(g) {
            continue;
        }
        let of_rule = each.entry(r).or_default();
        if chosen.len() >= step || *of_rule >= share || (bytes + size > STEP_BYTES && !chosen.is_empty()) {
            left.more = true;
            continue;
        }
        *of_rule += 1;
        bytes += size;
        chosen.push(g);
    }
    Ok(chosen)
}

/// Loads these groups, with their buckets.
pub(crate) async fn load_groups(
    tx: &mut Tx,
    rules: &BTreeMap<Uuid, RuleUpdate>,
    which: &[i64],
) -> Result<Vec<DueGroup>, Error> {
    let groups: Vec<StoredGroup> = query(
        "SELECT g.g, g.r, g.labels, g.state, g.sample, g.\"window\", g.decided, g.bytes \
         FROM EACH($1 AS j: BIGINT) JOIN groups g ON g.g = j.value ORDER BY g.g",
    )
    .bind(set(which)?)
    .fetch_all(&mut tx.conn)
    .await?;
    let by_row: HashMap<i64, (&Uuid, &RuleUpdate)> =
        rules.iter().map(|(uid, rule)| (rule.object.row, (uid, rule))).collect();
    let (mut due, mut which) = (Vec::with_capacity(groups.len()), Vec::with_capacity(groups.len()));
    for row in groups {
        let Some((uid, rule)) = by_row.get(&row.r) else { continue };
        let Some(params) = rule.params else { continue };
        let row_bytes = group_bytes(&row.labels, &row.state, row.sample.as_deref(), row.window.as_deref());
        let buckets = row.window.map_or(Ok(Vec::new()), |window| unpack_buckets(&params, &window))?;
        let last = buckets.last().map_or(i64::MIN, |bucket| bucket.start_ms);
        which.push((row.g, params.needs_extras(), last));
        due.push(DueGroup {
            g: row.g,
            rule: **uid,
            labels: row.labels,
            state: serde_json::from_str(&row.state)?,
            stored: row.state,
            sample: row.sample,
            buckets,
            decided: row.decided,
            bytes: row.bytes,
            row_bytes,
            step: GroupDecisions::default(),
        });
    }
    if due.is_empty() {
        return Ok(due);
    }
    let buckets: Vec<(i64, i64, i64, Option<String>)> = query(
        "SELECT b.g, b.bucket, b.count, CASE WHEN j.extras THEN b.extras END \
         FROM ROWS($1 AS j: g BIGINT, extras BOOLEAN, after BIGINT) JOIN buckets b ON b.g = j.g \
         AND b.bucket > j.after ORDER BY b.g, b.bucket",
    )
    .bind(set(&which)?)
    .fetch_all(&mut tx.conn)
    .await?;
    let mut places: HashMap<i64, usize> = due.iter().enumerate().map(|(at, group)| (group.g, at)).collect();
    for (g, start_ms, count, extras) in buckets {
        let extras = extras.map(|text| serde_json::from_str(&text)).transpose()?;
        if let Some(group) = places.get_mut(&g).and_then(|at| due.get_mut(*at)) {
            group.buckets.push(Bucket { start_ms, count, extras });
        }
    }
    Ok(due)
}

/// Loads the first and the last record of each decision's window, in the order of groups and decisions.
pub(crate) async fn load_samples(
    tx: &mut Tx,
    due: &[DueGroup],
) -> Result<Vec<(Option<String>, Option<String>)>, Error> {
    let windows: Vec<(i64, i64, i64)> = due
        .iter()
        .flat_map(|group| {
            group
                .step
                .decisions
                .iter()
                .map(|decision| (group.g, decision.window_start_ms, decision.window_end_ms))
        })
        .collect();
    if windows.is_empty() {
        return Ok(Vec::new());
    }
    let samples = query(
        "SELECT (SELECT b.first FROM buckets b WHERE b.g = j.g AND b.bucket >= j.since AND b.bucket < j.until \
         ORDER BY b.bucket LIMIT 1), (SELECT b.last FROM buckets b WHERE b.g = j.g AND b.bucket >= j.since \
         AND b.bucket < j.until ORDER BY b.bucket DESC LIMIT 1) \
         FROM ROWS($1 AS j: g BIGINT, since BIGINT, until BIGINT) ORDER BY j.ord",
    )
    .bind(set(&windows)?)
    .fetch_all(&mut tx.conn)
    .await?;
    Ok(samples)
}

/// Loads the values of `topValues` in each decision's window, by the decision's index.
pub(crate) async fn load_top_values(
    tx: &mut Tx,
    due: &[DueGroup],
    rules: &BTreeMap<Uuid, RuleUpdate>,
) -> Result<HashMap<usize, BTreeMap<String, Values>>, Error> {
    let wants = |uid: &Uuid| {
        let plan = rules.get(uid).and_then(|rule| rule.object.rule());
        plan.is_some_and(|plan| !plan.policy.top_values.is_empty())
    };
    let windows: Vec<(usize, i64, i64, i64)> = due
        .iter()
        .flat_map(|group| group.step.decisions.iter().map(move |decision| (group, decision)))
        .enumerate()
        .filter(|(_, (group, decision))| decision.notify && wants(&group.rule))
        .map(|(at, (group, decision))| (at, group.g, decision.window_start_ms, decision.window_end_ms))
        .collect();
    let mut all: HashMap<usize, BTreeMap<String, Values>> = HashMap::new();
    if windows.is_empty() {
        return Ok(all);
    }
    let stored: Vec<(i64, String)> = query(
        "SELECT j.decision, b.top FROM ROWS($1 AS j: decision BIGINT, g BIGINT, since BIGINT, until BIGINT) \
         JOIN buckets b ON b.g = j.g AND b.bucket >= j.since AND b.bucket < j.until WHERE b.top IS NOT NULL",
    )
    .bind(set(&windows)?)
    .fetch_all(&mut tx.conn)
    .await?;
    for (at, text) in stored {
        merge_top(all.entry(usize::try_from(at).unwrap_or(0)).or_default(), serde_json::from_str(&text)?);
    }
    Ok(all)
}

/// Packs the counts of decided buckets into one column, so that the next decision doesn't read a row for each; `None`
/// if the condition needs more of a bucket than its count.
fn pack_buckets<'b>(
    params: &RuleParams,
    buckets: impl Iterator<Item = &'b Bucket>,
    to: i64,
) -> Result<Option<String>, Error> {
    if params.needs_extras() {
        return Ok(None);
    }
    let width = params.buckets().width();
    let mut before = 0;
    let decided = buckets.filter(|bucket| bucket.start_ms + width <= to);
    let numbers = decided.flat_map(|bucket| {
        let number = bucket.start_ms / width;
        [number - std::mem::replace(&mut before, number), bucket.count]
    });
    Ok(Some(set(&numbers.collect::<Vec<i64>>())?))
}

/// The buckets that [`pack_buckets`] packed.
fn unpack_buckets(params: &RuleParams, window: &str) -> Result<Vec<Bucket>, Error> {
    let numbers: Vec<i64> = serde_json::from_str(window)?;
    let mut number = 0;
    let (pairs, _) = numbers.as_chunks::<2>();
    let buckets = pairs.iter().map(|[more, count]| {
        number += more;
        Bucket { start_ms: number * params.buckets().width(), count: *count, extras: None }
    });
    Ok(buckets.collect())
}

/// The group's row as it is to be stored.
fn group_row(group: &DueGroup, params: &RuleParams) -> Result<GroupRow, Error> {
    let (step, episode) = (&group.step, group.state.episode.as_ref());
    let kept = group.buckets.iter().filter(|bucket| bucket.start_ms >= step.keep_from);
    let state = serde_json::to_string(&group.state)?;
    let sample = group.sample.clone().filter(|_| episode.is_some());
    let window = pack_buckets(params, kept, step.decided_to)?;
    Ok(GroupRow {
        g: group.g,
        bytes: group_bytes(&group.labels, &state, sample.as_deref(), window.as_deref()),
        state,
        firing: episode.map(|episode| episode.since_ms),
        count: episode.map_or(0, |episode| episode.count),
        next: step.next_due,
        sample,
        pending: group.state.pending_ms,
        window,
        decided: step.decided_to,
    })
}

/// What a step is to write back.
#[derive(Default)]
pub(crate) struct GroupWrites {
    /// Rows to update, with their rule and the bytes that each took before.
    rows: Vec<(Uuid, i64, GroupRow)>,
    /// Groups to delete, because nothing of them is worth keeping, as (rule, row, bytes).
    gone: Vec<(Uuid, i64, i64)>,
    /// Buckets to delete, because no window needs them any more.
    old: Vec<(i64, i64)>,
}

impl GroupWrites {
    /// Adds a decided group. Returns when it is due next.
    pub(crate) fn add(&mut self, group: &DueGroup, rule: &RuleUpdate) -> Result<Option<i64>, Error> {
        let passed = group.buckets.iter().filter(|bucket| bucket.start_ms < group.step.keep_from);
        self.old.extend(passed.map(|bucket| (group.g, bucket.start_ms)));
        if group.step.is_over {
            self.gone.push((group.rule, group.g, group.bytes));
        } else if let Some(params) = &rule.params {
            self.rows.push((group.rule, group.row_bytes, group_row(group, params)?));
        }
        Ok(group.step.next_due)
    }
}

/// Writes back what was decided.
pub(crate) async fn store_groups(
    tx: &mut Tx,
    rules: &mut BTreeMap<Uuid, RuleUpdate>,
    GroupWrites { rows, gone, old }: GroupWrites,
) -> Result<(), Error> {
    let mut freed: HashMap<i64, i64> = HashMap::new();
    if !old.is_empty() {
        let removed: Vec<(i64, i64)> = query(
            "DELETE FROM buckets WHERE (g, bucket) IN (SELECT g, bucket \
             FROM ROWS($1 AS j: g BIGINT, bucket BIGINT)) RETURNING g, CAST(60 + octet_length(first) + \
             octet_length(last) + coalesce(octet_length(extras), 0) + coalesce(octet_length(top), 0) AS BIGINT)",
        )
        .bind(set(&old)?)
        .fetch_all(&mut tx.conn)
        .await?;
        for (g, bytes) in removed {
            *freed.entry(g).or_default() += bytes;
        }
    }
    let mut grown = Vec::with_capacity(rows.len());
    for (uid, before, row) in &rows {
        let more = row.bytes - before - freed.get(&row.g).copied().unwrap_or(0);
        if let Some(rule) = rules.get_mut(uid) {
            rule.delta.bytes += more;
        }
        grown.push((row, more));
    }
    update_groups(tx, &grown).await?;
    for (uid, _, bytes) in &gone {
        if let Some(rule) = rules.get_mut(uid) {
            rule.delta.groups -= 1;
            rule.delta.bytes -= bytes;
        }
    }
    let gone: Vec<i64> = gone.iter().map(|(_, g, _)| *g).collect();
    crate::rules::remove_groups(tx, &gone).await
}

/// Updates rows of groups, each with the change of the bytes that the group takes in all.
async fn update_groups(tx: &mut Tx, rows: &[(&GroupRow, i64)]) -> Result<(), Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = rows
        .iter()
        .map(|(GroupRow { g, state, firing, count, next, sample, pending, window, decided, .. }, more)| {
            (g, state, firing, count, next, sample, pending, window, decided, more)
        })
        .collect();
    query(
        "UPDATE groups SET state = j.state, firing = j.firing, count = j.count, next = j.next, sample = \
         j.sample, pending = j.pending, \"window\" = j.counts, decided = j.decided, bytes = \
         GREATEST(groups.bytes + j.more, 0) FROM ROWS($1 AS j: g BIGINT, state TEXT, firing BIGINT, count \
         BIGINT, next BIGINT, sample TEXT, pending BIGINT, counts TEXT, decided BIGINT, more BIGINT) \
         WHERE groups.g = j.g",
    )
    .bind(set(&rows)?)
    .execute(&mut tx.conn)
    .await?;
    Ok(())
}

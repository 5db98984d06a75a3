//! Has the alert engine decide the groups that are due, in the transaction that moved the watermark.
//!
//! Invariants: a rule's watermark is the smallest progress of the opened partitions of its topics; what is decided stays
//! decided. Never: a decision before every partition has told how far it is.

use std::collections::{BTreeMap, HashMap};

use alerting::decide::{Bucket, Decision, GroupState, RuleParams, advance, expected_groups, next_due};
use alerting::fold::{TOP_KEPT, merge_values};
use alerting::tell::Shown;
use domain::{AlertKind, Values};
use jiff::Timestamp;
use protocol::messages::Sample;
use sqlx::{query, query_as};
use uuid::Uuid;

use crate::Error;
use crate::commit::Live;
use crate::notify::Draft;
use crate::positions::Topic;
use crate::rules::{Rule, labels};
use crate::sql::set;
use crate::writer::Tx;

/// A group that is due.
struct Due {
    g: i64,
    rule: Uuid,
    labels: String,
    state: GroupState,
    sample: Option<String>,
    buckets: Vec<Bucket>,
    decisions: Vec<Decision>,
}

/// A row of `groups`, as read: itself, its rule, labels, state, sample, window.
type Stored = (i64, i64, String, String, Option<String>, Option<String>);

/// A row of `groups`, as written back.
type Row = (i64, String, Option<i64>, i64, Option<i64>, Option<String>, Option<i64>, Option<String>);

fn watermark(rule: &Live, topics: &HashMap<String, Topic>) -> Option<i64> {
    let names = &rule.object.rule()?.topics;
    let mut least: Option<i64> = None;
    for topic in names.iter().filter_map(|name| topics.get(name)) {
        for partition in topic.partitions.values() {
            let progress = partition.progress?;
            least = Some(least.map_or(progress, |least| least.min(progress)));
        }
    }
    least
}

/// Moves the rules on to their watermarks.
pub(crate) async fn decide(
    tx: &mut Tx,
    rules: &mut BTreeMap<Uuid, Live>,
    topics: &HashMap<String, Topic>,
    drafts: &mut Vec<Draft>,
    now: Timestamp,
) -> Result<(), Error> {
    let mut moved = HashMap::new();
    for (uid, rule) in rules.iter_mut() {
        let (Some(params), Some(watermark)) = (rule.params, watermark(rule, topics)) else { continue };
        let to = params.decided_to(watermark);
        if rule.decided.is_none_or(|decided| to > decided) {
            rule.numbers.decided = Some(to);
            moved.insert(rule.object.row, (*uid, to));
        }
    }
    if moved.is_empty() {
        return Ok(());
    }
    observe(tx, rules, &moved, topics).await?;
    let mut due = load(tx, rules, &moved).await?;
    let (mut rows, mut gone, mut old) = (Vec::new(), Vec::new(), Vec::new());
    for group in &mut due {
        let Some(rule) = rules.get(&group.rule) else { continue };
        let (Some(params), Some(to)) = (rule.params, rule.numbers.decided) else { continue };
        let (observed, first) = (rule.observed(), group.buckets.first().map_or(to, |it| it.start_ms));
        // A count may be for a bucket before anything was decided: whatever came before it was without records.
        let from = rule.decided.unwrap_or_else(|| first.min(observed.unwrap_or(to)).min(to));
        group.decisions = advance(&params, &mut group.state, &group.buckets, observed, from, to);
        let keep = params.keep_from(to);
        let left = group.buckets.iter().filter(|bucket| bucket.start_ms < keep);
        old.extend(left.map(|bucket| (group.g, bucket.start_ms)));
    }
    let samples = samples(tx, &due).await?;
    let mut top = top(tx, &due, rules).await?;
    let mut told = Vec::new();
    let mut at = 0;
    for group in &mut due {
        let Some(rule) = rules.get(&group.rule) else { continue };
        let (Some(params), Some(to)) = (rule.params, rule.numbers.decided) else { continue };
        for decision in &group.decisions {
            let (first, last) = &samples[at];
            let top = top.remove(&at).unwrap_or_default();
            at += 1;
            let best = decision.seen.as_ref().and_then(|seen| seen.sample.as_ref());
            if let Some(best) = best {
                group.sample = Some(serde_json::to_string(best)?);
            } else if decision.kind != AlertKind::Resolved || last.is_some() {
                group.sample.clone_from(last);
            }
            tx.mark(group.rule, true);
            if !decision.notify {
                continue;
            }
            let read = |sample: &Option<String>| -> Result<Option<Sample>, Error> {
                Ok(sample.as_deref().map(serde_json::from_str).transpose()?)
            };
            let (first, last) = (read(first)?, read(&group.sample)?);
            let labels: BTreeMap<String, String> = serde_json::from_str(&group.labels)?;
            if let Some(rule) = Rule::of(&rule.object) {
                let shown = Shown { first: first.as_ref(), last: last.as_ref(), top: &top };
                let draft = rule.alert(&*tx.render, &labels, decision, (shown, None), now)?;
                told.push(((decision.at_ms, group.rule, group.labels.clone()), draft));
            }
        }
        match row(group, &params, rule.observed(), to)? {
            Some(row) => rows.push(row),
            None => gone.push(group.g),
        }
    }
    // In event-time order; within one instant in an order that does not depend on how it was counted.
    told.sort_by(|(left, _), (right, _)| left.cmp(right));
    drafts.extend(told.into_iter().map(|(_, draft)| draft));
    store(tx, &rows, &gone, &old).await
}

/// Finds out, for rules to which absence matters, since when they have seen all records, and makes the groups that they
/// watch without having seen them.
async fn observe(
    tx: &mut Tx,
    rules: &mut BTreeMap<Uuid, Live>,
    moved: &HashMap<i64, (Uuid, i64)>,
    topics: &HashMap<String, Topic>,
) -> Result<(), Error> {
    let needs = |rule: &&mut Live| {
        let needs = rule.params.is_some_and(|params| params.needs_observed());
        needs && moved.contains_key(&rule.object.row) && (rule.observed.is_none() || rule.decided.is_none())
    };
    let mut made = Vec::new();
    let mut woken = Vec::new();
    for rule in rules.values_mut().filter(needs) {
        let (row, Some(plan)) = (rule.object.row, rule.object.rule()) else { continue };
        if rule.decided.is_none() {
            let state = serde_json::to_string(&GroupState::expected())?;
            for group in expected_groups(plan) {
                made.push((row, labels(&group)?, state.clone()));
            }
        }
        if rule.observed.is_some() {
            continue;
        }
        let since: Vec<(i64, i32, Option<i64>)> =
            query_as("SELECT t, p, since FROM activations WHERE r = ?1")
                .bind(row)
                .fetch_all(&mut tx.conn)
                .await?;
        let since: HashMap<(i64, i32), Option<i64>> =
            since.into_iter().map(|(t, p, since)| ((t, p), since)).collect();
        let read = plan.topics.iter().filter_map(|name| topics.get(name));
        let partitions = read.flat_map(|topic| topic.partitions.keys().map(|p| (topic.t, *p)));
        let all: Option<Vec<i64>> = partitions.map(|at| since.get(&at).copied().flatten()).collect();
        rule.numbers.observed = all.and_then(|all| all.into_iter().max());
        if rule.numbers.observed.is_some() {
            woken.push(row);
        }
    }
    if !made.is_empty() {
        // Before the first decision a group has counts at most.
        query(
            "INSERT INTO groups (r, labels, state, next) SELECT value ->> 0, value ->> 1, value ->> 2, 0 \
             FROM jsonb_each(?1) WHERE true ON CONFLICT (r, labels) DO UPDATE SET state = excluded.state, next = 0",
        )
        .bind(set(&made)?)
        .execute(&mut tx.conn)
        .await?;
    }
    if !woken.is_empty() {
        query("UPDATE groups SET next = 0 WHERE r IN (SELECT value FROM jsonb_each(?1))")
            .bind(set(&woken)?)
            .execute(&mut tx.conn)
            .await?;
    }
    Ok(())
}

/// The groups in which something may change up to where their rules moved, with their buckets.
async fn load(
    tx: &mut Tx,
    rules: &BTreeMap<Uuid, Live>,
    moved: &HashMap<i64, (Uuid, i64)>,
) -> Result<Vec<Due>, Error> {
    let to: Vec<(i64, i64)> = moved.iter().map(|(row, (_, to))| (*row, *to)).collect();
    let groups: Vec<Stored> = query_as(
        "SELECT g.g, g.r, g.labels, g.state, g.sample, g.window FROM jsonb_each(?1) j JOIN groups g \
         ON g.r = j.value ->> 0 AND g.next <= j.value ->> 1 ORDER BY g.g",
    )
    .bind(set(&to)?)
    .fetch_all(&mut tx.conn)
    .await?;
    let (mut due, mut which) = (Vec::with_capacity(groups.len()), Vec::with_capacity(groups.len()));
    for (g, row, labels, state, sample, window) in groups {
        let Some((rule, _)) = moved.get(&row) else { continue };
        let Some(params) = rules.get(rule).and_then(|rule| rule.params) else { continue };
        let state = serde_json::from_str(&state)?;
        let buckets = window.map_or(Ok(Vec::new()), |window| unpack(&params, &window))?;
        which.push((g, params.needs_extras(), buckets.last().map_or(i64::MIN, |bucket| bucket.start_ms)));
        due.push(Due { g, rule: *rule, labels, state, sample, buckets, decisions: Vec::new() });
    }
    if due.is_empty() {
        return Ok(due);
    }
    let buckets: Vec<(i64, i64, i64, Option<String>)> = query_as(
        "SELECT b.g, b.bucket, b.count, iif(j.value ->> 1, b.extras, NULL) FROM jsonb_each(?1) j \
         JOIN buckets b ON b.g = j.value ->> 0 AND b.bucket > j.value ->> 2 ORDER BY b.g, b.bucket",
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

/// The first and the last record of each decision's window, in the order of groups and decisions.
async fn samples(tx: &mut Tx, due: &[Due]) -> Result<Vec<(Option<String>, Option<String>)>, Error> {
    let windows: Vec<(i64, i64, i64)> = due
        .iter()
        .flat_map(|group| {
            group.decisions.iter().map(|decision| (group.g, decision.window_start_ms, decision.window_end_ms))
        })
        .collect();
    if windows.is_empty() {
        return Ok(Vec::new());
    }
    let samples = query_as(
        "SELECT (SELECT b.first FROM buckets b WHERE b.g = j.value ->> 0 AND b.bucket >= j.value ->> 1 \
         AND b.bucket < j.value ->> 2 ORDER BY b.bucket LIMIT 1), \
         (SELECT b.last FROM buckets b WHERE b.g = j.value ->> 0 AND b.bucket >= j.value ->> 1 \
         AND b.bucket < j.value ->> 2 ORDER BY b.bucket DESC LIMIT 1) FROM jsonb_each(?1) j ORDER BY j.key",
    )
    .bind(set(&windows)?)
    .fetch_all(&mut tx.conn)
    .await?;
    Ok(samples)
}

/// The values of `topValues` in each decision's window, by the decision's place.
async fn top(
    tx: &mut Tx,
    due: &[Due],
    rules: &BTreeMap<Uuid, Live>,
) -> Result<HashMap<usize, BTreeMap<String, Values>>, Error> {
    let wants = |uid: &Uuid| {
        let plan = rules.get(uid).and_then(|rule| rule.object.rule());
        plan.is_some_and(|plan| !plan.policy.top_values.is_empty())
    };
    let windows: Vec<(usize, i64, i64, i64)> = due
        .iter()
        .flat_map(|group| group.decisions.iter().map(move |decision| (group, decision)))
        .enumerate()
        .filter(|(_, (group, decision))| decision.notify && wants(&group.rule))
        .map(|(at, (group, decision))| (at, group.g, decision.window_start_ms, decision.window_end_ms))
        .collect();
    let mut all: HashMap<usize, BTreeMap<String, Values>> = HashMap::new();
    if windows.is_empty() {
        return Ok(all);
    }
    let stored: Vec<(i64, String)> = query_as(
        "SELECT j.value ->> 0, b.top FROM jsonb_each(?1) j JOIN buckets b ON b.g = j.value ->> 1 \
         AND b.bucket >= j.value ->> 2 AND b.bucket < j.value ->> 3 WHERE b.top IS NOT NULL",
    )
    .bind(set(&windows)?)
    .fetch_all(&mut tx.conn)
    .await?;
    for (at, text) in stored {
        let values: BTreeMap<String, Values> = serde_json::from_str(&text)?;
        let into = all.entry(usize::try_from(at).unwrap_or(0)).or_default();
        for (name, more) in values {
            merge_values(into.entry(name).or_default(), more, TOP_KEPT);
        }
    }
    Ok(all)
}

/// The decided buckets of a group as one text, so that the next decision reads no row of each; none where rows hold more of
/// them than a count that matters.
fn pack(params: &RuleParams, buckets: &[Bucket], to: i64) -> Result<Option<String>, Error> {
    if params.needs_extras() {
        return Ok(None);
    }
    let width = params.buckets().width();
    let mut before = 0;
    let decided = buckets.iter().filter(|bucket| bucket.start_ms + width <= to);
    let numbers = decided.flat_map(|bucket| {
        let number = bucket.start_ms / width;
        [number - std::mem::replace(&mut before, number), bucket.count]
    });
    Ok(Some(set(&numbers.collect::<Vec<i64>>())?))
}

/// What [`pack`] made a text of.
fn unpack(params: &RuleParams, window: &str) -> Result<Vec<Bucket>, Error> {
    let numbers: Vec<i64> = serde_json::from_str(window)?;
    let mut number = 0;
    let (pairs, _) = numbers.as_chunks::<2>();
    let buckets = pairs.iter().map(|[more, count]| {
        number += more;
        Bucket { start_ms: number * params.buckets().width(), count: *count, extras: None }
    });
    Ok(buckets.collect())
}

/// The group as it is stored; none when nothing of it is worth keeping.
fn row(group: &mut Due, params: &RuleParams, observed: Option<i64>, to: i64) -> Result<Option<Row>, Error> {
    let keep = params.keep_from(to);
    group.buckets.retain(|bucket| bucket.start_ms >= keep);
    let kept = &group.buckets;
    if kept.is_empty() && group.state.is_blank() {
        return Ok(None);
    }
    // When its last bucket has left the window, there is something to remove.
    let empty = kept.last().map(|bucket| params.left_at(bucket.start_ms));
    let change = next_due(params, &group.state, kept, observed, to);
    let next = [change, empty].into_iter().flatten().min();
    let episode = group.state.episode.as_ref();
    Ok(Some((
        group.g,
        serde_json::to_string(&group.state)?,
        episode.map(|episode| episode.since_ms),
        episode.map_or(0, |episode| episode.count),
        next,
        group.sample.clone().filter(|_| episode.is_some()),
        group.state.pending_ms,
        pack(params, kept, to)?,
    )))
}

async fn store(tx: &mut Tx, rows: &[Row], gone: &[i64], old: &[(i64, i64)]) -> Result<(), Error> {
    if !rows.is_empty() {
        query(
            "UPDATE groups SET state = j.value ->> 1, firing = j.value ->> 2, count = j.value ->> 3, \
             next = j.value ->> 4, sample = j.value ->> 5, pending = j.value ->> 6, \
             window = j.value ->> 7 FROM jsonb_each(?1) j WHERE g = j.value ->> 0",
        )
        .bind(set(rows)?)
        .execute(&mut tx.conn)
        .await?;
    }
    if !old.is_empty() {
        query(
            "DELETE FROM buckets WHERE (g, bucket) IN (SELECT value ->> 0, value ->> 1 FROM jsonb_each(?1))",
        )
        .bind(set(old)?)
        .execute(&mut tx.conn)
        .await?;
    }
    if !gone.is_empty() {
        query("DELETE FROM groups WHERE g IN (SELECT value FROM jsonb_each(?1))")
            .bind(set(gone)?)
            .execute(&mut tx.conn)
            .await?;
    }
    Ok(())
}

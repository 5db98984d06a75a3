//! Has the alert engine decide the groups that are due, in the transaction that moved the watermark.
//!
//! Invariants: a rule's watermark is the smallest progress of the opened partitions of its topics; what is decided stays
//! decided. Never: a decision before every partition has told how far it is.

use std::collections::{BTreeMap, HashMap};

use alerting::decide::{Decision, GroupState, RuleParams, advance, next_due};
use domain::AlertKind;
use jiff::Timestamp;
use protocol::messages::Sample;
use sqlx::{query, query_as};
use uuid::Uuid;

use crate::Error;
use crate::commit::Live;
use crate::notify::Draft;
use crate::positions::Topic;
use crate::rules::Rule;
use crate::sql::set;
use crate::writer::Tx;

/// A group that is due.
struct Due {
    g: i64,
    rule: Uuid,
    labels: String,
    state: GroupState,
    sample: Option<String>,
    buckets: Vec<(i64, i64)>,
    decisions: Vec<Decision>,
}

/// A row of `groups`, as written back.
type Row = (i64, String, Option<i64>, i64, Option<i64>, Option<String>);

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
    let mut due = load(tx, &moved).await?;
    let (mut rows, mut gone, mut old) = (Vec::new(), Vec::new(), Vec::new());
    for group in &mut due {
        let Some(rule) = rules.get(&group.rule) else { continue };
        let (Some(params), Some(to)) = (rule.params, rule.numbers.decided) else { continue };
        let first = group.buckets.first().map_or(to, |(bucket, _)| *bucket);
        // A count may be for a bucket before anything was decided: whatever came before it was without records.
        let from = rule.decided.unwrap_or_else(|| first.min(to));
        group.decisions = advance(&params, &mut group.state, &group.buckets, from, to);
        let keep = params.keep_from(to);
        old.extend(
            group.buckets.iter().filter(|(start, _)| *start < keep).map(|(start, _)| (group.g, *start)),
        );
    }
    let samples = samples(tx, &due).await?;
    let mut told = Vec::new();
    let mut at = 0;
    for group in &mut due {
        let Some(rule) = rules.get(&group.rule) else { continue };
        let (Some(params), Some(to)) = (rule.params, rule.numbers.decided) else { continue };
        for decision in &group.decisions {
            let (first, last) = &samples[at];
            at += 1;
            if decision.kind != AlertKind::Resolved || last.is_some() {
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
                let samples = (first.as_ref(), last.as_ref());
                let draft = rule.alert(&*tx.render, &labels, decision, samples, None, now)?;
                told.push(((decision.at_ms, group.rule, group.labels.clone()), draft));
            }
        }
        match row(group, &params, to)? {
            Some(row) => rows.push(row),
            None => gone.push(group.g),
        }
    }
    // In event-time order; within one instant in an order that does not depend on how it was counted.
    told.sort_by(|(left, _), (right, _)| left.cmp(right));
    drafts.extend(told.into_iter().map(|(_, draft)| draft));
    store(tx, &rows, &gone, &old).await
}

/// The groups in which something may change up to where their rules moved, with their buckets.
async fn load(tx: &mut Tx, moved: &HashMap<i64, (Uuid, i64)>) -> Result<Vec<Due>, Error> {
    let to: Vec<(i64, i64)> = moved.iter().map(|(row, (_, to))| (*row, *to)).collect();
    let groups: Vec<(i64, i64, String, String, Option<String>)> = query_as(
        "SELECT g.g, g.r, g.labels, g.state, g.sample FROM jsonb_each(?1) j JOIN groups g ON g.r = j.value ->> 0 \
         AND g.next <= j.value ->> 1 ORDER BY g.g",
    )
    .bind(set(&to)?)
    .fetch_all(&mut tx.conn)
    .await?;
    let mut due = Vec::with_capacity(groups.len());
    for (g, row, labels, state, sample) in groups {
        let Some((rule, _)) = moved.get(&row) else { continue };
        let state = serde_json::from_str(&state)?;
        let (buckets, decisions) = (Vec::new(), Vec::new());
        due.push(Due { g, rule: *rule, labels, state, sample, buckets, decisions });
    }
    if due.is_empty() {
        return Ok(due);
    }
    let which: Vec<i64> = due.iter().map(|group| group.g).collect();
    let buckets: Vec<(i64, i64, i64)> = query_as(
        "SELECT b.g, b.bucket, b.count FROM jsonb_each(?1) j JOIN buckets b ON b.g = j.value ORDER BY b.g, b.bucket",
    )
    .bind(set(&which)?)
    .fetch_all(&mut tx.conn)
    .await?;
    let mut places: HashMap<i64, usize> = due.iter().enumerate().map(|(at, group)| (group.g, at)).collect();
    for (g, bucket, count) in buckets {
        if let Some(group) = places.get_mut(&g).and_then(|at| due.get_mut(*at)) {
            group.buckets.push((bucket, count));
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

/// The group as it is stored; none when nothing of it is worth keeping.
fn row(group: &Due, params: &RuleParams, to: i64) -> Result<Option<Row>, Error> {
    let keep = params.keep_from(to);
    let kept: Vec<(i64, i64)> = group.buckets.iter().filter(|(start, _)| *start >= keep).copied().collect();
    if kept.is_empty() && group.state.is_quiet() {
        return Ok(None);
    }
    // When its last bucket has left the window, there is something to remove.
    let grid = params.buckets();
    let empty = kept.last().map(|(start, _)| start + grid.span() + grid.width());
    let change = next_due(params, &group.state, &kept, to);
    let next = [change, empty].into_iter().flatten().min();
    let episode = group.state.episode.as_ref();
    Ok(Some((
        group.g,
        serde_json::to_string(&group.state)?,
        episode.map(|episode| episode.since_ms),
        episode.map_or(0, |episode| episode.count),
        next,
        group.sample.clone().filter(|_| episode.is_some()),
    )))
}

async fn store(tx: &mut Tx, rows: &[Row], gone: &[i64], old: &[(i64, i64)]) -> Result<(), Error> {
    if !rows.is_empty() {
        query(
            "UPDATE groups SET state = j.value ->> 1, firing = j.value ->> 2, count = j.value ->> 3, \
             next = j.value ->> 4, sample = j.value ->> 5 FROM jsonb_each(?1) j WHERE g = j.value ->> 0",
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

//! Finds out since when rules to which absence matters have seen all records, and acts when that becomes known.
//!
//! Watches only groups that the plan names or that were seen, and makes a rule's groups due a few at a time.
//!
//! Clause E12 of docs/semantics.md.

use std::collections::{BTreeMap, HashMap, HashSet};

use alerting::decide::{GroupState, expected_groups, observed};
use uuid::Uuid;

use crate::Error;
use crate::engine::{query, query_scalar};
use crate::positions::StoredTopic;
use crate::rule_updates::{RuleUpdate, group_bytes};
use crate::rules::labels_json;
use crate::sql::set;
use crate::writer::Tx;

/// Finds out since when rules to which absence matters have seen all records, and inserts the groups that they watch
/// without having seen them.
pub(crate) async fn observe_rules(
    tx: &mut Tx,
    rules: &mut BTreeMap<Uuid, RuleUpdate>,
    moved: &HashSet<Uuid>,
    topics: &HashMap<String, StoredTopic>,
) -> Result<(), Error> {
    let needs = |rule: &&mut RuleUpdate| {
        let needs = rule.params.is_some_and(|params| params.needs_observed());
        needs && moved.contains(&rule.object.plan.uid) && (rule.observed.is_none() || rule.decided.is_none())
    };
    for rule in rules.values_mut().filter(needs) {
        let mut made = Vec::new();
        let (row, Some(plan)) = (rule.object.row, rule.object.rule()) else { continue };
        if rule.decided.is_none() {
            let state = serde_json::to_string(&GroupState::expected())?;
            for group in expected_groups(plan) {
                let labels = labels_json(&group)?;
                let bytes = group_bytes(&labels, &state, None, None);
                made.push((row, labels, state.clone(), bytes));
            }
        }
        let (groups, bytes) = insert_expected_groups(tx, &made).await?;
        rule.delta.groups += groups;
        rule.delta.bytes += bytes;
        if rule.observed.is_some() {
            continue;
        }
        let since: Vec<(i64, i32, Option<i64>)> = query("SELECT t, p, since FROM activations WHERE r = $1")
            .bind(row)
            .fetch_all(&mut tx.conn)
            .await?;
        let since: HashMap<(i64, i32), Option<i64>> =
            since.into_iter().map(|(t, p, since)| ((t, p), since)).collect();
        let read = plan.topics.iter().filter_map(|name| topics.get(name));
        let partitions = read.flat_map(|topic| topic.partitions.keys().map(|p| (topic.t, *p)));
        rule.delta.observed = observed(partitions.map(|at| since.get(&at).copied().flatten()));
        if rule.delta.observed.is_some() {
            rule.woken = Some(String::new());
        }
    }
    Ok(())
}

/// Inserts groups that are watched without having been seen. Returns how many are new, and their bytes.
async fn insert_expected_groups(
    tx: &mut Tx,
    made: &[(i64, String, String, i64)],
) -> Result<(i64, i64), Error> {
    if made.is_empty() {
        return Ok((0, 0));
    }
    let made = set(made)?;
    let new: Vec<i64> = query_scalar(
        "INSERT INTO groups (r, labels, state, bytes) SELECT DISTINCT r, labels, state, bytes \
         FROM ROWS($1 AS j: r BIGINT, labels TEXT, state TEXT, bytes BIGINT) WHERE NOT EXISTS (SELECT 1 \
         FROM groups g WHERE g.r = j.r AND SAME_TEXT(g.labels, j.labels)) RETURNING bytes",
    )
    .bind(&made)
    .fetch_all(&mut tx.conn)
    .await?;
    // Before the first decision a group has no state yet, at most counts.
    query(
        "UPDATE groups SET state = j.state, next = 0 FROM ROWS($1 AS j: r BIGINT, labels TEXT, state TEXT) \
         WHERE groups.r = j.r AND SAME_TEXT(groups.labels, j.labels)",
    )
    .bind(&made)
    .execute(&mut tx.conn)
    .await?;
    Ok((new.len() as i64, new.iter().sum()))
}

/// Makes due the groups of rules that have learnt since when they have seen all records, a step at a time, in the
/// order of their labels. Returns whether there are more.
pub(crate) async fn wake_groups(
    tx: &mut Tx,
    rules: &mut BTreeMap<Uuid, RuleUpdate>,
    which: &HashSet<Uuid>,
) -> Result<bool, Error> {
    let step = tx.options.groups_per_step.max(1) as i64;
    let mut more = false;
    for (_, rule) in rules.iter_mut().filter(|(uid, _)| which.contains(uid)) {
        let Some(woken) = rule.woken.take() else { continue };
        // Labels as JSON are never empty, so all of them come after the empty start.
        let up_to: Option<String> = query_scalar(
            "SELECT labels FROM groups WHERE r = $1 AND labels > $2 ORDER BY labels LIMIT 1 OFFSET $3",
        )
        .bind(rule.object.row)
        .bind(&woken)
        .bind(step - 1)
        .fetch_optional(&mut tx.conn)
        .await?;
        query("UPDATE groups SET next = 0 WHERE r = $1 AND labels > $2 AND ($3 IS NULL OR labels <= $3)")
            .bind(rule.object.row)
            .bind(&woken)
            .bind(&up_to)
            .execute(&mut tx.conn)
            .await?;
        more |= up_to.is_some();
        rule.woken = up_to;
    }
    Ok(more)
}

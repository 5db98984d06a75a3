//! Activations: from which offset and time each rule counts, by partition.
//!
//! Invariants: a namespace has a bounded number of these rows, summed over its rules. The offset never moves; only
//! its event time may become known later.
//!
//! Clause R7 of docs/semantics.md.

use std::collections::{BTreeMap, HashMap, HashSet};

use domain::DropReason;
use protocol::messages::Entry;
use uuid::Uuid;

use crate::Error;
use crate::engine::{query, query_scalar};
use crate::positions::StoredTopic;
use crate::rule_updates::RuleUpdate;
use crate::sql::set;
use crate::writer::Tx;

/// Activates rules: a rule is active in a partition from the first accepted entry that was folded with it. By event
/// time, it has seen all records from the first record of that entry on, but not from before the partition's progress
/// at that time. If the entry has no record, the time is the progress that it reports, if later than the stored one.
/// Until either is known, the time is unknown: records that were read without the rule may be later than the stored
/// progress.
pub(crate) async fn activate_rules(
    tx: &mut Tx,
    namespace: &str,
    (accepted, stood): (&[&Entry], &[Option<i64>]),
    topics: &HashMap<String, StoredTopic>,
    rules: &mut BTreeMap<Uuid, RuleUpdate>,
) -> Result<(), Error> {
    let mut rows = Vec::new();
    for rule in rules.values().filter(|rule| rule.current) {
        for (entry, stood) in accepted.iter().zip(stood).filter(|(entry, _)| rule.reads_topic(&entry.topic)) {
            if let Some(topic) = topics.get(&entry.topic) {
                let since = if entry.to > entry.from {
                    (*stood).max(entry.since_ms).or(entry.progress_ms)
                } else {
                    entry.progress_ms.filter(|told| stood.is_none_or(|stood| *told > stood))
                };
                rows.push((rule.object.row, topic.t, entry.partition, entry.from, since));
            }
        }
    }
    bound_activations(tx, namespace, &mut rows, rules).await?;
    let made = query(
        "INSERT INTO activations (r, t, p, position, since) SELECT r, t, p, position, since \
         FROM ROWS($1 AS j: r BIGINT, t BIGINT, p BIGINT, position BIGINT, since BIGINT) WHERE true \
         ON CONFLICT (r, t, p) DO UPDATE SET since = excluded.since WHERE activations.since IS NULL \
         AND excluded.since IS NOT NULL",
    )
    .bind(set(&rows)?)
    .execute(&mut tx.conn)
    .await?;
    // That a rule counts from now on is published at once.
    if made > 0 {
        for (uid, _) in rules.iter().filter(|(_, rule)| rule.current) {
            tx.mark(*uid, true);
        }
    }
    Ok(())
}

/// A row of `activations`.
type ActivationRow = (i64, i64, i32, i64, Option<i64>);

/// Leaves out new activations for which the namespace has no room. The rules report it and are not ready; the next
/// commit tries again.
async fn bound_activations(
    tx: &mut Tx,
    namespace: &str,
    rows: &mut Vec<ActivationRow>,
    rules: &mut BTreeMap<Uuid, RuleUpdate>,
) -> Result<(), Error> {
    let held: i64 =
        query_scalar("SELECT CAST(coalesce(sum(activations), 0) AS BIGINT) FROM rules WHERE namespace = $1")
            .bind(namespace)
            .fetch_one(&mut tx.conn)
            .await?;
    let mut room = tx.options.max_activations - held;
    if room >= rows.len() as i64 {
        return Ok(());
    }
    let known: Vec<i64> = query_scalar(
        "SELECT j.ord FROM ROWS($1 AS j: r BIGINT, t BIGINT, p BIGINT) JOIN activations a ON a.r = j.r \
         AND a.t = j.t AND a.p = j.p",
    )
    .bind(set(&*rows)?)
    .fetch_all(&mut tx.conn)
    .await?;
    let known: HashSet<usize> = known.into_iter().filter_map(|at| usize::try_from(at).ok()).collect();
    let mut left_out: HashMap<i64, i64> = HashMap::new();
    let mut at = 0;
    rows.retain(|(r, ..)| {
        let fits = known.contains(&at) || room > 0;
        room -= i64::from(fits && !known.contains(&at));
        at += 1;
        if !fits {
            *left_out.entry(*r).or_default() += 1;
        }
        fits
    });
    for rule in rules.values_mut() {
        if let Some(count) = left_out.get(&rule.object.row) {
            *rule.delta.dropped.entry(DropReason::ActivationsFull).or_default() += count;
        }
    }
    Ok(())
}

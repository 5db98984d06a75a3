//! Counts by (rule, group, bucket).
//!
//! Invariant: merging is the alert engine's, which does not depend on how records were split over consumers and commits.
//! Never: more groups of a rule than its bound.

use std::collections::{BTreeMap, HashMap, btree_map};

use alerting::decide::RuleParams;
use alerting::fold::Aggregate;
use sqlx::{query, query_as, query_scalar};
use uuid::Uuid;

use crate::Error;
use crate::commit::Live;
use crate::sql::set;
use crate::writer::Tx;

/// By (rule's row, labels), then bucket.
pub(crate) type Groups = HashMap<(i64, String), BTreeMap<i64, Aggregate>>;

/// Groups that went because the rule held too many: a count of groups.
const GROUPS_EVICTED: &str = "GroupsEvicted";
/// Records of groups for which there was no room: those that were held are firing, or one commit brought more than fit.
const GROUPS_FULL: &str = "GroupsFull";

/// Adds to a bucket. `kept` is how many values the rule keeps.
pub(crate) fn merge(buckets: &mut BTreeMap<i64, Aggregate>, bucket: i64, more: Aggregate, kept: usize) {
    match buckets.entry(bucket) {
        btree_map::Entry::Vacant(vacant) => {
            vacant.insert(more);
        }
        btree_map::Entry::Occupied(mut held) => held.get_mut().merge(more, kept),
    }
}

/// A row of `buckets`.
type Row = (i64, i64, i64, String, String, Option<String>, Option<String>);

/// Adds the counts to what is stored, and makes their groups due when their buckets are decided.
pub(crate) async fn store(
    tx: &mut Tx,
    namespace: &str,
    mut groups: Groups,
    rules: &mut BTreeMap<Uuid, Live>,
) -> Result<(), Error> {
    if groups.is_empty() {
        return Ok(());
    }
    let ids = ids(tx, namespace, &mut groups, rules).await?;
    let params: HashMap<i64, RuleParams> =
        rules.values().filter_map(|rule| Some((rule.object.row, rule.params?))).collect();
    let mut counted: BTreeMap<(i64, i64), (Aggregate, usize)> = BTreeMap::new();
    let mut due = Vec::new();
    for (key, buckets) in groups {
        let (Some(g), Some(params)) = (ids.get(&key), params.get(&key.0)) else { continue };
        if let (Some(first), Some(last)) = (buckets.keys().next(), buckets.keys().next_back()) {
            due.push((*g, first + params.buckets().width(), *last));
        }
        let kept = params.values_kept();
        counted.extend(buckets.into_iter().map(|(bucket, counted)| ((*g, bucket), (counted, kept))));
    }
    let keys: Vec<&(i64, i64)> = counted.keys().collect();
    let stored: Vec<Row> = query_as(
        "SELECT b.g, b.bucket, b.count, b.first, b.last, b.extras, b.top FROM jsonb_each(?1) j JOIN buckets b \
         ON b.g = j.value ->> 0 AND b.bucket = j.value ->> 1",
    )
    .bind(set(&keys)?)
    .fetch_all(&mut tx.conn)
    .await?;
    for row in stored {
        let (key, held) = read(row)?;
        if let Some((into, kept)) = counted.get_mut(&key) {
            into.merge(held, *kept);
        }
    }
    let rows: Vec<Row> =
        counted.iter().map(|(key, (held, _))| write(*key, held)).collect::<Result<_, _>>()?;
    query(
        "INSERT INTO buckets (g, bucket, count, first, last, extras, top) SELECT value ->> 0, value ->> 1, \
         value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6 FROM jsonb_each(?1) WHERE true \
         ON CONFLICT (g, bucket) DO UPDATE SET count = excluded.count, first = excluded.first, \
         last = excluded.last, extras = excluded.extras, top = excluded.top",
    )
    .bind(set(&rows)?)
    .execute(&mut tx.conn)
    .await?;
    query(
        "UPDATE groups SET next = min(coalesce(next, j.value ->> 1), j.value ->> 1), \
         recent = max(recent, j.value ->> 2) FROM jsonb_each(?1) j WHERE g = j.value ->> 0",
    )
    .bind(set(&due)?)
    .execute(&mut tx.conn)
    .await?;
    Ok(())
}

fn read((g, bucket, count, first, last, extras, top): Row) -> Result<((i64, i64), Aggregate), Error> {
    let held = Aggregate {
        count,
        first: serde_json::from_str(&first)?,
        last: serde_json::from_str(&last)?,
        extras: extras.map(|text| serde_json::from_str(&text)).transpose()?,
        top: top.map(|text| serde_json::from_str(&text)).transpose()?.unwrap_or_default(),
    };
    Ok(((g, bucket), held))
}

fn write((g, bucket): (i64, i64), held: &Aggregate) -> Result<Row, Error> {
    let extras = held.extras.as_ref().map(serde_json::to_string).transpose()?;
    let top = (!held.top.is_empty()).then(|| serde_json::to_string(&held.top)).transpose()?;
    let (first, last) = (serde_json::to_string(&held.first)?, serde_json::to_string(&held.last)?);
    Ok((g, bucket, held.count, first, last, extras, top))
}

/// The groups' rows; new ones within the namespace's quota and the rule's bound.
async fn ids(
    tx: &mut Tx,
    namespace: &str,
    groups: &mut Groups,
    rules: &mut BTreeMap<Uuid, Live>,
) -> Result<HashMap<(i64, String), i64>, Error> {
    const FIND: &str = "SELECT g.g, g.r, g.labels FROM jsonb_each(?1) j JOIN groups g ON g.r = j.value ->> 0 \
                        AND g.labels = j.value ->> 1";
    let keys: Vec<&(i64, String)> = groups.keys().collect();
    let all = set(&keys)?;
    let found: Vec<(i64, i64, String)> = query_as(FIND).bind(&all).fetch_all(&mut tx.conn).await?;
    let known = |found: Vec<(i64, i64, String)>| -> HashMap<(i64, String), i64> {
        found.into_iter().map(|(g, r, labels)| ((r, labels), g)).collect()
    };
    let mut ids = known(found);
    let mut new: Vec<(i64, String)> =
        keys.into_iter().filter(|key| !ids.contains_key(*key)).cloned().collect();
    if new.is_empty() {
        return Ok(ids);
    }
    let held: Vec<(i64, i64)> = query_as(
        "SELECT r.r, count(*) FROM rules r JOIN groups g ON g.r = r.r WHERE r.namespace = ?1 GROUP BY r.r",
    )
    .bind(namespace)
    .fetch_all(&mut tx.conn)
    .await?;
    let mut held: HashMap<i64, i64> = held.into_iter().collect();
    for rule in rules.values_mut() {
        make_room(tx, rule, &mut held, groups, &ids, &mut new).await?;
    }
    let held: i64 = held.values().sum();
    let limit = tx.options.max_groups;
    if held + new.len() as i64 > limit {
        let retry = protocol::messages::DEFAULT_RETRY;
        return Err(Error::OverQuota { namespace: namespace.to_owned(), what: "groups", limit, retry });
    }
    let new = set(&new)?;
    query("INSERT INTO groups (r, labels, state) SELECT value ->> 0, value ->> 1, '{}' FROM jsonb_each(?1)")
        .bind(&new)
        .execute(&mut tx.conn)
        .await?;
    let made: Vec<(i64, i64, String)> = query_as(FIND).bind(&new).fetch_all(&mut tx.conn).await?;
    ids.extend(known(made));
    Ok(ids)
}

/// Keeps the rule within its bound: over it the least recent quiet groups go, and where that is not enough, the least
/// recent of the new ones.
async fn make_room(
    tx: &mut Tx,
    rule: &mut Live,
    held: &mut HashMap<i64, i64>,
    groups: &mut Groups,
    known: &HashMap<(i64, String), i64>,
    new: &mut Vec<(i64, String)>,
) -> Result<(), Error> {
    let row = rule.object.row;
    let Some(most) = rule.object.rule().map(|plan| plan.policy.max_groups.max(1)) else { return Ok(()) };
    let there = held.get(&row).copied().unwrap_or(0);
    let over = there + new.iter().filter(|(of, _)| *of == row).count() as i64 - most;
    if over <= 0 {
        return Ok(());
    }
    let busy: Vec<i64> = known.iter().filter(|((of, _), _)| *of == row).map(|(_, g)| *g).collect();
    let quiet: Vec<i64> = query_scalar(
        "SELECT g FROM groups WHERE r = ?1 AND firing IS NULL AND json_extract(state, '$.expected') IS NULL \
         AND g NOT IN (SELECT value FROM jsonb_each(?2)) ORDER BY recent, g LIMIT ?3",
    )
    .bind(row)
    .bind(set(&busy)?)
    .bind(over)
    .fetch_all(&mut tx.conn)
    .await?;
    let which = set(&quiet)?;
    for sql in [
        "DELETE FROM buckets WHERE g IN (SELECT value FROM jsonb_each(?1))",
        "DELETE FROM groups WHERE g IN (SELECT value FROM jsonb_each(?1))",
    ] {
        query(sql).bind(&which).execute(&mut tx.conn).await?;
    }
    held.insert(row, there - quiet.len() as i64);
    let refused = (over - quiet.len() as i64).max(0);
    let mut ours: Vec<(i64, (i64, String))> = new
        .iter()
        .filter(|(of, _)| *of == row)
        .map(|key| (groups.get(key).and_then(|it| it.keys().next_back().copied()).unwrap_or(0), key.clone()))
        .collect();
    ours.sort_unstable();
    let no_room = ours.into_iter().take(usize::try_from(refused).unwrap_or(0));
    let records: i64 =
        no_room.filter_map(|(_, key)| groups.remove(&key)).flatten().map(|(_, counted)| counted.count).sum();
    new.retain(|key| groups.contains_key(key));
    for (reason, count) in [(GROUPS_EVICTED, quiet.len() as i64), (GROUPS_FULL, records)] {
        if count > 0 {
            *rule.numbers.dropped.entry(reason.to_owned()).or_default() += count;
        }
    }
    Ok(())
}

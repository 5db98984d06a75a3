//! Counts by (rule, group, bucket).
//!
//! Invariant: merging is associative and commutative, so that the result does not depend on how records were split over
//! consumers and commits.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use protocol::messages::Sample;
use sqlx::{query, query_as, query_scalar};
use uuid::Uuid;

use crate::Error;
use crate::commit::Live;
use crate::sql::set;
use crate::writer::Tx;

/// What is known of a bucket.
#[derive(Debug, Clone)]
pub(crate) struct Counted {
    pub(crate) count: i64,
    pub(crate) first: Sample,
    pub(crate) last: Sample,
}

/// By (rule's row, labels), then bucket.
pub(crate) type Groups = HashMap<(i64, String), BTreeMap<i64, Counted>>;

fn order(sample: &Sample) -> (Timestamp, i32, i64, &str) {
    (sample.at.time, sample.at.partition, sample.at.offset, &sample.at.topic)
}

/// Adds to a bucket.
pub(crate) fn merge(buckets: &mut BTreeMap<i64, Counted>, bucket: i64, more: Counted) {
    let Some(held) = buckets.get_mut(&bucket) else {
        buckets.insert(bucket, more);
        return;
    };
    held.count += more.count;
    if order(&more.first) < order(&held.first) {
        held.first = more.first;
    }
    if order(&more.last) > order(&held.last) {
        held.last = more.last;
    }
}

/// Adds the counts to what is stored, and makes their groups due when their buckets are decided.
pub(crate) async fn store(
    tx: &mut Tx,
    namespace: &str,
    groups: Groups,
    rules: &BTreeMap<Uuid, Live>,
) -> Result<(), Error> {
    if groups.is_empty() {
        return Ok(());
    }
    let ids = ids(tx, namespace, &groups).await?;
    let widths: HashMap<i64, i64> =
        rules.values().filter_map(|rule| Some((rule.object.row, rule.params?.buckets().width()))).collect();
    let mut counted: BTreeMap<(i64, i64), Counted> = BTreeMap::new();
    let mut due = Vec::new();
    for (key, buckets) in groups {
        let (Some(g), Some(width)) = (ids.get(&key), widths.get(&key.0)) else { continue };
        if let Some(first) = buckets.keys().next() {
            due.push((*g, first + width));
        }
        counted.extend(buckets.into_iter().map(|(bucket, counted)| ((*g, bucket), counted)));
    }
    let keys: Vec<&(i64, i64)> = counted.keys().collect();
    let stored: Vec<(i64, i64, i64, String, String)> = query_as(
        "SELECT b.g, b.bucket, b.count, b.first, b.last FROM jsonb_each(?1) j JOIN buckets b \
         ON b.g = j.value ->> 0 AND b.bucket = j.value ->> 1",
    )
    .bind(set(&keys)?)
    .fetch_all(&mut tx.conn)
    .await?;
    for (g, bucket, count, first, last) in stored {
        let held =
            Counted { count, first: serde_json::from_str(&first)?, last: serde_json::from_str(&last)? };
        if let Some(more) = counted.remove(&(g, bucket)) {
            let mut one = BTreeMap::from([(bucket, held)]);
            merge(&mut one, bucket, more);
            counted.extend(one.into_iter().map(|(bucket, counted)| ((g, bucket), counted)));
        }
    }
    let rows = counted
        .iter()
        .map(|((g, bucket), counted)| {
            let (first, last) =
                (serde_json::to_string(&counted.first)?, serde_json::to_string(&counted.last)?);
            Ok((g, bucket, counted.count, first, last))
        })
        .collect::<Result<Vec<_>, Error>>()?;
    query(
        "INSERT INTO buckets (g, bucket, count, first, last) SELECT value ->> 0, value ->> 1, value ->> 2, \
         value ->> 3, value ->> 4 FROM jsonb_each(?1) WHERE true ON CONFLICT (g, bucket) DO UPDATE SET \
         count = excluded.count, first = excluded.first, last = excluded.last",
    )
    .bind(set(&rows)?)
    .execute(&mut tx.conn)
    .await?;
    query(
        "UPDATE groups SET next = min(coalesce(next, j.value ->> 1), j.value ->> 1) FROM jsonb_each(?1) j \
         WHERE g = j.value ->> 0",
    )
    .bind(set(&due)?)
    .execute(&mut tx.conn)
    .await?;
    Ok(())
}

/// The groups' rows; new ones within the namespace's quota.
async fn ids(tx: &mut Tx, namespace: &str, groups: &Groups) -> Result<HashMap<(i64, String), i64>, Error> {
    const FIND: &str = "SELECT g.g, g.r, g.labels FROM jsonb_each(?1) j JOIN groups g ON g.r = j.value ->> 0 \
                        AND g.labels = j.value ->> 1";
    let keys: Vec<&(i64, String)> = groups.keys().collect();
    let all = set(&keys)?;
    let found: Vec<(i64, i64, String)> = query_as(FIND).bind(&all).fetch_all(&mut tx.conn).await?;
    let known = |found: Vec<(i64, i64, String)>| -> HashMap<(i64, String), i64> {
        found.into_iter().map(|(g, r, labels)| ((r, labels), g)).collect()
    };
    let mut ids = known(found);
    let new: Vec<&(i64, String)> = keys.into_iter().filter(|key| !ids.contains_key(*key)).collect();
    if new.is_empty() {
        return Ok(ids);
    }
    let held: i64 =
        query_scalar("SELECT count(*) FROM rules r JOIN groups g ON g.r = r.r WHERE r.namespace = ?1")
            .bind(namespace)
            .fetch_one(&mut tx.conn)
            .await?;
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

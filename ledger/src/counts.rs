//! Stores counts by (rule, group, bucket), within a namespace's quotas.
//!
//! Invariants: merging is the alert engine's, and doesn't depend on how records were split over consumers and
//! commits. A group's bytes are counted as its rows are written. A rule has no more groups than its bound, and a
//! namespace no more bytes than its quota. Stored counts are merged in chunks, so memory never holds all groups of a
//! commit with what is stored of them.

use std::collections::{BTreeMap, HashMap, btree_map};

use alerting::decide::RuleParams;
use alerting::fold::Aggregate;
use domain::DropReason;
use uuid::Uuid;

use crate::Error;
use crate::engine::{query, query_scalar};
use crate::rule_updates::{RuleUpdate, STEP_BYTES, group_bytes};
use crate::sql::set;
use crate::writer::Tx;

/// Counts by (rule's row, labels), then bucket.
pub(crate) type CountedGroups = HashMap<(i64, String), BTreeMap<i64, Aggregate>>;

/// Bytes that one group may take. Deciding it holds several times as much in memory.
const GROUP_BYTES: i64 = 16 << 20;
/// How many buckets are merged at once.
const MERGE_CHUNK: usize = 500;
/// Bytes of stored buckets that one transaction may merge counts with. A single record may exceed it.
const MAX_MERGE_BYTES: usize = 8 << 20;

/// Merges `more` into a bucket. `kept` is how many values the rule keeps.
pub(crate) fn merge_bucket(
    buckets: &mut BTreeMap<i64, Aggregate>,
    bucket: i64,
    more: Aggregate,
    kept: usize,
) {
    match buckets.entry(bucket) {
        btree_map::Entry::Vacant(vacant) => {
            vacant.insert(more);
        }
        btree_map::Entry::Occupied(mut held) => held.get_mut().merge(more, kept),
    }
}

/// A row of `buckets`.
#[derive(sqlx::FromRow)]
struct BucketRow {
    g: i64,
    bucket: i64,
    count: i64,
    first: String,
    last: String,
    extras: Option<String>,
    top: Option<String>,
}

impl BucketRow {
    fn new((g, bucket): (i64, i64), held: &Aggregate) -> Result<Self, Error> {
        Ok(Self {
            g,
            bucket,
            count: held.count,
            first: serde_json::to_string(&held.first)?,
            last: serde_json::to_string(&held.last)?,
            extras: held.extras.as_ref().map(serde_json::to_string).transpose()?,
            top: (!held.top.is_empty()).then(|| serde_json::to_string(&held.top)).transpose()?,
        })
    }

    fn decode(self) -> Result<Aggregate, Error> {
        Ok(Aggregate {
            count: self.count,
            first: serde_json::from_str(&self.first)?,
            last: serde_json::from_str(&self.last)?,
            extras: self.extras.map(|text| serde_json::from_str(&text)).transpose()?,
            top: self.top.map(|text| serde_json::from_str(&text)).transpose()?.unwrap_or_default(),
        })
    }

    /// About how many bytes the row takes. Migration 6 and the deletion of buckets count the same in SQL.
    fn bytes(&self) -> i64 {
        let more = self.extras.as_ref().map_or(0, String::len) + self.top.as_ref().map_or(0, String::len);
        (60 + self.first.len() + self.last.len() + more) as i64
    }
}

/// What a namespace's groups take, and how much more they may take.
struct StateQuota {
    /// Number of groups, by the rule's row.
    held: HashMap<i64, i64>,
    /// How many groups may be added.
    groups: i64,
    /// How many bytes may be added. The last quarter is reserved for existing groups.
    bytes: i64,
    quarter: i64,
}

/// The counts of one group.
struct GroupCounts {
    g: i64,
    rule: Uuid,
    params: RuleParams,
    /// How many bytes the group takes.
    bytes: i64,
    buckets: BTreeMap<i64, Aggregate>,
}

/// Adds counts to what is stored, and notes when their groups are due. `bounded` refuses a commit that must merge
/// with too many stored bytes.
pub(crate) async fn store_counts(
    tx: &mut Tx,
    namespace: &str,
    mut groups: CountedGroups,
    rules: &mut BTreeMap<Uuid, RuleUpdate>,
    bounded: bool,
) -> Result<(), Error> {
    if groups.is_empty() {
        return Ok(());
    }
    let mut room = load_quota(tx, namespace).await?;
    let ids = load_or_insert_groups(tx, &mut room, &mut groups, rules).await?;
    if bounded {
        check_merge_size(tx, &groups, &ids).await?;
    }
    let params: HashMap<i64, (Uuid, RuleParams)> =
        rules.iter().filter_map(|(uid, rule)| Some((rule.object.row, (*uid, rule.params?)))).collect();
    let (mut chunk, mut size, mut held) = (Vec::new(), 0, 0);
    for (key, buckets) in groups {
        let (Some((g, bytes)), Some((rule, params))) = (ids.get(&key), params.get(&key.0)) else { continue };
        if !chunk.is_empty() && (size + buckets.len() > MERGE_CHUNK || held + bytes > STEP_BYTES) {
            merge_stored(tx, std::mem::take(&mut chunk), rules, &mut room).await?;
            (size, held) = (0, 0);
        }
        size += buckets.len();
        held += bytes;
        chunk.push(GroupCounts { g: *g, rule: *rule, params: *params, bytes: *bytes, buckets });
    }
    merge_stored(tx, chunk, rules, &mut room).await
}

/// Refuses a commit whose counts must merge with too many stored bytes.
async fn check_merge_size(
    tx: &mut Tx,
    groups: &CountedGroups,
    ids: &HashMap<(i64, String), (i64, i64)>,
) -> Result<(), Error> {
    // Most groups are small, and need no query.
    if groups.keys().filter_map(|key| ids.get(key)).map(|(_, bytes)| *bytes).sum::<i64>()
        <= MAX_MERGE_BYTES as i64
    {
        return Ok(());
    }
    let keys = groups.iter().filter_map(|(key, buckets)| Some((ids.get(key)?.0, buckets)));
    let keys: Vec<(i64, i64)> =
        keys.flat_map(|(g, buckets)| buckets.keys().map(move |bucket| (g, *bucket))).collect();
    // SQLite reads lengths from the rows' headers.
    let stored: i64 = query_scalar(
        "SELECT CAST(coalesce(sum(octet_length(b.first) + octet_length(b.last) + \
         coalesce(octet_length(b.extras), 0) + coalesce(octet_length(b.top), 0)), 0) AS BIGINT) \
         FROM ROWS($1 AS j: g BIGINT, bucket BIGINT) JOIN buckets b ON b.g = j.g AND b.bucket = j.bucket",
    )
    .bind(set(&keys)?)
    .fetch_one(&mut tx.conn)
    .await?;
    let held = usize::try_from(stored).unwrap_or(0);
    if held <= MAX_MERGE_BYTES {
        return Ok(());
    }
    let (place, what) = ("the commit".to_owned(), "bytes of the groups that it counts for");
    Err(Error::TooLarge { place, what, held, limit: MAX_MERGE_BYTES })
}

/// Merges counts with the stored buckets, as far as there is room.
async fn merge_stored(
    tx: &mut Tx,
    chunk: Vec<GroupCounts>,
    rules: &mut BTreeMap<Uuid, RuleUpdate>,
    room: &mut StateQuota,
) -> Result<(), Error> {
    let keys: Vec<(i64, i64)> =
        chunk.iter().flat_map(|of| of.buckets.keys().map(|bucket| (of.g, *bucket))).collect();
    let stored: Vec<BucketRow> = query(
        "SELECT b.g, b.bucket, b.count, b.first, b.last, b.extras, b.top \
         FROM ROWS($1 AS j: g BIGINT, bucket BIGINT) JOIN buckets b ON b.g = j.g AND b.bucket = j.bucket",
    )
    .bind(set(&keys)?)
    .fetch_all(&mut tx.conn)
    .await?;
    let mut stored: HashMap<(i64, i64), BucketRow> =
        stored.into_iter().map(|row| ((row.g, row.bucket), row)).collect();
    let (mut rows, mut due) = (Vec::with_capacity(keys.len()), Vec::with_capacity(chunk.len()));
    for GroupCounts { g, rule, params, mut bytes, buckets } in chunk {
        let Some(rule) = rules.get_mut(&rule) else { continue };
        let (mut first, mut last, mut more) = (None, 0, 0);
        for (bucket, mut counted) in buckets {
            let records = counted.count;
            let mut before = 0;
            if let Some(row) = stored.remove(&(g, bucket)) {
                before = row.bytes();
                counted.merge(row.decode()?, params.values_kept());
            }
            let row = BucketRow::new((g, bucket), &counted)?;
            let grows = row.bytes() - before;
            if grows > 0 && (grows > room.bytes || bytes + grows > GROUP_BYTES) {
                *rule.delta.dropped.entry(DropReason::StateFull).or_default() += records;
                continue;
            }
            room.bytes -= grows;
            bytes += grows;
            more += grows;
            first = first.or(Some(bucket + params.buckets().width()));
            last = bucket;
            rows.push(row);
        }
        rule.delta.bytes += more;
        // A group that is left without counts is due at once, and then forgotten.
        due.push((g, first.unwrap_or(0), last, more));
    }
    write_buckets(tx, &rows, &due).await
}

/// Writes buckets, and notes when their groups are due. Each item of `due` is (group, end of its first bucket with
/// new counts, start of its last such bucket, bytes added).
async fn write_buckets(tx: &mut Tx, rows: &[BucketRow], due: &[(i64, i64, i64, i64)]) -> Result<(), Error> {
    let rows: Vec<_> = rows
        .iter()
        .map(|BucketRow { g, bucket, count, first, last, extras, top }| {
            (g, bucket, count, first, last, extras, top)
        })
        .collect();
    query(
        "INSERT INTO buckets (g, bucket, count, first, last, extras, top) SELECT g, bucket, count, first, last, \
         extras, top FROM ROWS($1 AS j: g BIGINT, bucket BIGINT, count BIGINT, first TEXT, last TEXT, extras \
         TEXT, top TEXT) WHERE true ON CONFLICT (g, bucket) DO UPDATE \
         SET count = excluded.count, first = excluded.first, last = excluded.last, extras = excluded.extras, top \
         = excluded.top",
    )
    .bind(set(&rows)?)
    .execute(&mut tx.conn)
    .await?;
    query(
        "UPDATE groups SET next = LEAST(coalesce(groups.next, j.next), j.next), recent = GREATEST(groups.recent, \
         j.recent), bytes = groups.bytes + j.more FROM ROWS($1 AS j: g BIGINT, next BIGINT, recent BIGINT, more \
         BIGINT) WHERE groups.g = j.g",
    )
    .bind(set(due)?)
    .execute(&mut tx.conn)
    .await?;
    Ok(())
}

/// Loads what the namespace holds and may hold.
async fn load_quota(tx: &mut Tx, namespace: &str) -> Result<StateQuota, Error> {
    let rules: Vec<(i64, i64, i64)> =
        query("SELECT r, groups, bytes FROM rules WHERE namespace = $1 AND groups > 0")
            .bind(namespace)
            .fetch_all(&mut tx.conn)
            .await?;
    let leaving: (i64, i64) = query(
        "SELECT CAST(coalesce(sum(groups), 0) AS BIGINT), CAST(coalesce(sum(bytes), 0) AS BIGINT) FROM leaving \
         WHERE namespace = $1",
    )
    .bind(namespace)
    .fetch_one(&mut tx.conn)
    .await?;
    let groups: i64 = rules.iter().map(|(_, groups, _)| groups).sum();
    let bytes: i64 = rules.iter().map(|(.., bytes)| bytes).sum();
    Ok(StateQuota {
        held: rules.iter().map(|(r, groups, _)| (*r, *groups)).collect(),
        groups: tx.options.max_groups - groups - leaving.0,
        bytes: tx.options.max_state_bytes - bytes - leaving.1,
        quarter: tx.options.max_state_bytes / 4,
    })
}

/// The groups' rows and bytes, by key. Inserts new groups, within the namespace's quotas and the rule's bound.
async fn load_or_insert_groups(
    tx: &mut Tx,
    room: &mut StateQuota,
    groups: &mut CountedGroups,
    rules: &mut BTreeMap<Uuid, RuleUpdate>,
) -> Result<HashMap<(i64, String), (i64, i64)>, Error> {
    const FIND: &str = "SELECT g.g, g.r, g.labels, g.bytes FROM ROWS($1 AS j: r BIGINT, labels TEXT) JOIN groups g ON g.r = j.r \
         AND SAME_TEXT(g.labels, j.labels)";
    let keys: Vec<&(i64, String)> = groups.keys().collect();
    let all = set(&keys)?;
    let found: Vec<(i64, i64, String, i64)> = query(FIND).bind(&all).fetch_all(&mut tx.conn).await?;
    let known = |found: Vec<(i64, i64, String, i64)>| -> HashMap<(i64, String), (i64, i64)> {
        found.into_iter().map(|(g, r, labels, bytes)| ((r, labels), (g, bytes))).collect()
    };
    let mut ids = known(found);
    let mut new: Vec<(i64, String)> =
        keys.into_iter().filter(|key| !ids.contains_key(*key)).cloned().collect();
    if new.is_empty() {
        return Ok(ids);
    }
    for rule in rules.values_mut() {
        make_room(tx, rule, room, groups, &ids, &mut new).await?;
    }
    let decided: HashMap<i64, Option<i64>> =
        rules.values().map(|rule| (rule.object.row, rule.decided)).collect();
    let mut made = Vec::with_capacity(new.len());
    for (r, labels) in &new {
        let bytes = group_bytes(labels, "{}", None, None);
        if let Some(rule) = rules.values_mut().find(|rule| rule.object.row == *r) {
            rule.delta.groups += 1;
            rule.delta.bytes += bytes;
        }
        room.bytes -= bytes;
        made.push((r, labels, decided.get(r).copied().flatten(), bytes));
    }
    query(
        "INSERT INTO groups (r, labels, state, decided, bytes) SELECT r, labels, '{}', decided, bytes \
         FROM ROWS($1 AS j: r BIGINT, labels TEXT, decided BIGINT, bytes BIGINT)",
    )
    .bind(set(&made)?)
    .execute(&mut tx.conn)
    .await?;
    let made: Vec<(i64, i64, String, i64)> = query(FIND).bind(set(&new)?).fetch_all(&mut tx.conn).await?;
    ids.extend(known(made));
    Ok(ids)
}

/// Keeps the rule within its bound and the namespace within its quotas. It first evicts the rule's least recent quiet
/// groups, then, if that isn't enough, refuses the least recent of the new groups.
async fn make_room(
    tx: &mut Tx,
    rule: &mut RuleUpdate,
    room: &mut StateQuota,
    groups: &mut CountedGroups,
    known: &HashMap<(i64, String), (i64, i64)>,
    new: &mut Vec<(i64, String)>,
) -> Result<(), Error> {
    let row = rule.object.row;
    let Some(most) = rule.object.rule().map(|plan| plan.policy.max_groups.max(1)) else { return Ok(()) };
    let there = room.held.get(&row).copied().unwrap_or(0);
    let coming = new.iter().filter(|(of, _)| *of == row).count() as i64;
    if coming == 0 {
        return Ok(());
    }
    let over = (there + coming - most).max(coming - room.groups).clamp(0, coming);
    let gone = evict_quiet_groups(tx, rule, known, over).await?;
    room.groups += gone.0;
    room.bytes += gone.1;
    // If bytes are short, new groups are refused.
    let full = room.bytes <= room.quarter;
    let refused = if full { coming } else { over - gone.0 };
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
    room.groups -= coming - refused;
    room.held.insert(row, there - gone.0 + coming - refused);
    let why = if full { DropReason::StateFull } else { DropReason::GroupsFull };
    for (reason, count) in [(DropReason::GroupsEvicted, gone.0), (why, records)] {
        if count > 0 {
            *rule.delta.dropped.entry(reason).or_default() += count;
        }
    }
    Ok(())
}

/// Forgets up to `over` quiet groups of the rule: they don't fire, nothing of them is left to decide, and this commit
/// has no counts for them. Returns their number and bytes.
async fn evict_quiet_groups(
    tx: &mut Tx,
    rule: &mut RuleUpdate,
    known: &HashMap<(i64, String), (i64, i64)>,
    over: i64,
) -> Result<(i64, i64), Error> {
    if over <= 0 {
        return Ok((0, 0));
    }
    let row = rule.object.row;
    let busy: Vec<i64> = known.iter().filter(|((of, _), _)| *of == row).map(|(_, (g, _))| *g).collect();
    let quiet: Vec<(i64, i64)> = query(
        "SELECT g, bytes FROM groups WHERE r = $1 AND firing IS NULL AND JSON_TEXT(state, 'expected') IS NULL \
         AND (next IS NULL OR $4 IS NULL OR next > $4) AND g NOT IN (SELECT value FROM EACH($2 AS j: BIGINT)) \
         ORDER BY recent, g LIMIT $3",
    )
    .bind(row)
    .bind(set(&busy)?)
    .bind(over)
    .bind(rule.decided)
    .fetch_all(&mut tx.conn)
    .await?;
    let (mut gone, mut bytes) = (Vec::new(), 0);
    for (g, size) in quiet {
        if bytes + size > STEP_BYTES && !gone.is_empty() {
            break;
        }
        gone.push(g);
        bytes += size;
    }
    crate::rules::remove_groups(tx, &gone).await?;
    rule.delta.groups -= gone.len() as i64;
    rule.delta.bytes -= bytes;
    Ok((gone.len() as i64, bytes))
}

//! The status feed: what hub and workers know of each object, with versions.
//!
//! Invariants: a status is stored only if it differs from the last one. Transitions are published at once, counters
//! at most every 30 s for each object. An object that is gone has no status.
//!
//! Clause P7 of docs/semantics.md.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use domain::{DropReason, ObjectKind, RulePlan};
use jiff::Timestamp;
use protocol::messages::{
    ChannelStatus, ClockCounts, DeliverySummary, Feed, FiringGroup, ObjectStatus, RequestStatus, RuleStatus,
    ScheduleStatus, StatusBody,
};
use uuid::Uuid;

use crate::catalog::Object;
use crate::deliveries::ChannelCounters;
use crate::engine::{query, query_scalar};
use crate::published::{LastShown, UnownedPartition};
use crate::queries;
use crate::recent_records::{self, RecentRecords};
use crate::sql::{ms, set, time, uuid};
use crate::undelivered;
use crate::writer::{Command, Tx, next_id};
use crate::{Error, Ledger, Signal, WorkerView};

/// How long a partition is without an owner before the status says so, ms.
const UNOWNED_MS: i64 = 60_000;
/// How many partitions one publication looks at.
const LOOKED_AT: i64 = 2_000;
/// How many objects are published at once.
const PUBLISH_BATCH: usize = 200;
/// How many activations a rule's status shows.
const ACTIVATIONS: i64 = 100;
/// How many objects one answer of the feed has.
const FEED_PAGE: i64 = 500;
/// How many bytes they may take.
const FEED_BYTES: i64 = 4 * 1024 * 1024;

struct PublishStatuses {
    workers: Arc<WorkerView>,
    now: Timestamp,
}

/// A topic of a source, with the numbers that rules show of it.
struct RuleTopic {
    namespace: String,
    source: String,
    topic: String,
    t: i64,
    partitions: i32,
    lag: i64,
}

/// A partition, as (topic's row, number, namespace, source, topic, topic id).
type PartitionRow = (i64, i32, String, String, String, String);

impl Command for PublishStatuses {
    type Answer = u64;

    async fn run(&mut self, tx: &mut Tx) -> Result<u64, Error> {
        let now = ms(self.now);
        self.mark_worker_changes(tx);
        self.mark_unowned_changes(tx, now).await?;
        let interval = tx.options.status_interval.0;
        let mut due: Vec<(bool, Uuid)> = tx
            .dirty
            .iter()
            .filter(|(uid, urgent)| {
                *urgent || tx.dirty.published(uid).is_none_or(|at| now - at >= interval || at > now)
            })
            .map(|(uid, urgent)| (!urgent, uid))
            .collect();
        due.sort_unstable();
        let more = due.len() > PUBLISH_BATCH;
        due.truncate(PUBLISH_BATCH);
        let uids: BTreeSet<Uuid> = due.into_iter().map(|(_, uid)| uid).collect();
        let count = if uids.is_empty() { 0 } else { self.publish(tx, &uids).await? };
        for uid in uids {
            let there = tx.catalog.get(uid).is_some();
            if !there {
                tx.published.shown.remove(&uid);
            }
            tx.dirty.clear(uid, there.then_some(now));
        }
        if count > 0 || more {
            tx.wake(Signal::Statuses);
        }
        Ok(count)
    }
}

impl PublishStatuses {
    /// Marks the objects for which workers report something new.
    fn mark_worker_changes(&self, tx: &mut Tx) {
        let (old, new) =
            (std::mem::replace(&mut tx.published.workers, Arc::clone(&self.workers)), &self.workers);
        if old == *new {
            return;
        }
        let running = old.running.keys().chain(new.running.keys());
        let running = running.filter(|uid| old.running.get(uid) != new.running.get(uid));
        let problems = old.problems.keys().chain(new.problems.keys());
        let problems = problems.filter(|uid| old.problems.get(uid) != new.problems.get(uid));
        for uid in running.chain(problems).copied().collect::<BTreeSet<_>>() {
            tx.dirty.mark(uid, true);
        }
    }

    /// Looks at the next slice of all partitions. Marks the rules that read a partition if the status begins or
    /// ceases to say that nobody owns it.
    async fn mark_unowned_changes(&self, tx: &mut Tx, now: i64) -> Result<(), Error> {
        let after = tx.published.looked_up_to.unwrap_or((-1, -1));
        let rows: Vec<PartitionRow> = query(
            "SELECT p.t, p.p, s.namespace, s.key, t.name, t.topic_id FROM partitions p CROSS JOIN topics t \
             ON t.t = p.t CROSS JOIN sources s ON s.s = t.s WHERE (p.t, p.p) > ($1, $2) ORDER BY p.t, p.p \
             LIMIT $3",
        )
        .bind(after.0)
        .bind(after.1)
        .bind(LOOKED_AT)
        .fetch_all(&mut tx.conn)
        .await?;
        let last = rows.last().filter(|_| rows.len() as i64 >= LOOKED_AT).map(|(t, p, ..)| (*t, *p));
        tx.published.looked_up_to = last;
        // A partition in the range that isn't found again is owned, or gone.
        let until = last.unwrap_or((i64::MAX, i32::MAX));
        let range = (Bound::Excluded(after), Bound::Included(until));
        let before: Vec<(i64, i32)> = tx.published.unowned.range(range).map(|(key, _)| *key).collect();
        let mut before: BTreeMap<(i64, i32), UnownedPartition> =
            before.into_iter().filter_map(|key| Some((key, tx.published.unowned.remove(&key)?))).collect();
        let mut news = BTreeSet::new();
        for (t, p, namespace, source, topic, topic_id) in rows {
            let owned = self.workers.owned.get(&(namespace.clone(), source.clone()));
            if owned.is_some_and(|owned| owned.contains(&(topic.clone(), topic_id, p))) {
                continue;
            }
            let held = before.remove(&(t, p));
            let (since, said) = held.map_or((now, false), |held| (held.since, held.said));
            let unowned =
                UnownedPartition { namespace, source, topic, since, said: now - since >= UNOWNED_MS };
            if unowned.said != said {
                news.insert((unowned.namespace.clone(), unowned.source.clone(), unowned.topic.clone()));
            }
            tx.published.unowned.insert((t, p), unowned);
        }
        for UnownedPartition { namespace, source, topic, .. } in before.into_values().filter(|held| held.said)
        {
            news.insert((namespace, source, topic));
        }
        let catalog = Arc::clone(&tx.catalog);
        for (namespace, source, topic) in &news {
            for object in catalog.rules_of(namespace, source) {
                if object.rule().is_some_and(|rule| rule.topics.contains(topic)) {
                    tx.dirty.mark(object.plan.uid, true);
                }
            }
        }
        Ok(())
    }

    async fn publish(&self, tx: &mut Tx, uids: &BTreeSet<Uuid>) -> Result<u64, Error> {
        let catalog = Arc::clone(&tx.catalog);
        let objects: Vec<&Arc<Object>> = uids.iter().filter_map(|uid| catalog.get(*uid)).collect();
        let rows = |kind: ObjectKind| -> Vec<i64> {
            objects.iter().filter(|object| object.plan.kind() == kind).map(|object| object.row).collect()
        };
        let channels = channel_statuses(tx, &rows(ObjectKind::NotificationChannel)).await?;
        let rules = rule_statuses(tx, &rows(ObjectKind::AlertRule), self.now).await?;
        let schedules = schedule_statuses(tx, uids).await?;
        let speaks: Vec<Arc<Object>> =
            objects.iter().filter(|object| object.channel().is_none()).map(|it| Arc::clone(it)).collect();
        let mut told = undelivered::load_told(tx, &speaks).await?;
        let topics = load_topics(tx, &objects).await?;
        let stored: Vec<(String, String)> =
            query("SELECT uid, body FROM statuses WHERE uid IN (SELECT value FROM EACH($1 AS j: TEXT))")
                .bind(set(uids)?)
                .fetch_all(&mut tx.conn)
                .await?;
        let stored: HashMap<String, String> = stored.into_iter().collect();
        let mut changed = Vec::new();
        for object in objects {
            let uid = object.plan.uid;
            let told = told.remove(&uid).unwrap_or_default();
            let body = match object.plan.kind() {
                ObjectKind::NotificationChannel => {
                    StatusBody::NotificationChannel(channels.get(&object.row).cloned().unwrap_or_default())
                }
                ObjectKind::AlertRule => {
                    let mut status = rules.get(&object.row).cloned().unwrap_or_default();
                    if let Some(rule) = object.rule() {
                        add_partitions(&mut status, object, rule, &topics, &tx.published.unowned);
                    }
                    status.told = told;
                    StatusBody::AlertRule(status)
                }
                ObjectKind::Schedule => {
                    let status = schedules.get(&uid).cloned().unwrap_or_default();
                    StatusBody::Schedule(ScheduleStatus { told, ..status })
                }
            };
            tx.published.shown.insert(uid, LastShown::from_status(&body));
            let running = self.workers.running.get(&uid).and_then(|running| running.get(&object.revision));
            let problems = self.workers.problems.get(&uid);
            let status = ObjectStatus {
                uid,
                namespace: object.plan.namespace.clone(),
                name: object.plan.name.clone(),
                revision: object.revision.clone(),
                generation: object.plan.generation,
                running: running.copied().unwrap_or(0),
                problems: problems.into_iter().flatten().cloned().collect(),
                body,
            };
            let json = serde_json::to_string(&status)?;
            if stored.get(&uid.to_string()) != Some(&json) {
                changed.push((uid, next_id(&mut tx.ids.status), json));
            }
        }
        store_statuses(tx, &changed, self.now).await?;
        Ok(changed.len() as u64)
    }
}

/// Stores statuses, as (uid, version, JSON).
async fn store_statuses(tx: &mut Tx, changed: &[(Uuid, i64, String)], now: Timestamp) -> Result<(), Error> {
    if changed.is_empty() {
        return Ok(());
    }
    query(
        "INSERT INTO statuses (uid, version, published, body) SELECT uid, version, $2, body \
         FROM ROWS($1 AS j: uid TEXT, version BIGINT, body TEXT) WHERE true ON CONFLICT (uid) DO UPDATE \
         SET version = excluded.version, published = excluded.published, body = excluded.body",
    )
    .bind(set(changed)?)
    .bind(ms(now))
    .execute(&mut tx.conn)
    .await?;
    query(
        "INSERT INTO meta (key, value) VALUES ('feed', $1) ON CONFLICT (key) DO UPDATE \
         SET value = excluded.value",
    )
    .bind(tx.ids.status.to_string())
    .execute(&mut tx.conn)
    .await?;
    Ok(())
}

/// Loads the topics of the sources that these objects read, sorted by name.
async fn load_topics(tx: &mut Tx, objects: &[&Arc<Object>]) -> Result<Vec<RuleTopic>, Error> {
    let read =
        objects.iter().filter_map(|object| Some((&object.plan.namespace, object.source.as_ref()?.as_str())));
    let sources: BTreeSet<(&String, &str)> = read.collect();
    if sources.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<(String, String, String, i64, i32, i64)> = query(
        "SELECT s.namespace, s.key, t.name, t.t, (SELECT CAST(count(*) AS INTEGER) \
         FROM partitions p WHERE p.t = t.t), (SELECT CAST(coalesce(sum(GREATEST(p.high - p.position, 0)), 0) AS BIGINT) \
         FROM partitions p WHERE p.t = t.t) FROM ROWS($1 AS j: namespace TEXT, key TEXT) CROSS JOIN sources s \
         ON s.namespace = j.namespace AND s.key = j.key CROSS JOIN topics t ON t.s = s.s",
    )
    .bind(set(&sources)?)
    .fetch_all(&mut tx.conn)
    .await?;
    let mut topics: Vec<RuleTopic> = rows
        .into_iter()
        .map(|(namespace, source, topic, t, partitions, lag)| RuleTopic {
            namespace,
            source,
            topic,
            t,
            partitions,
            lag,
        })
        .collect();
    topics.sort_unstable_by(|left, right| left.topic.cmp(&right.topic));
    Ok(topics)
}

/// Adds to a rule's status what its partitions say.
fn add_partitions(
    status: &mut RuleStatus,
    object: &Object,
    rule: &RulePlan,
    topics: &[RuleTopic],
    unowned: &BTreeMap<(i64, i32), UnownedPartition>,
) {
    let source = object.source.as_ref().map_or("", |source| source.as_str());
    let ours = topics.iter().filter(|topic| {
        topic.namespace == object.plan.namespace
            && topic.source == source
            && rule.topics.contains(&topic.topic)
    });
    for RuleTopic { topic, t, partitions, lag, .. } in ours {
        status.partitions += partitions;
        status.lag += lag;
        let said = unowned.range((*t, i32::MIN)..=(*t, i32::MAX)).filter(|(_, unowned)| unowned.said);
        let room = 10_usize.saturating_sub(status.unowned.len());
        status.unowned.extend(said.take(room).map(|((_, p), _)| format!("{topic}/{p}")));
    }
}

#[derive(sqlx::FromRow)]
struct ChannelRow {
    c: i64,
    #[sqlx(flatten)]
    counters: ChannelCounters,
    last_delivery: Option<i64>,
    last_error: Option<String>,
    last_error_at: Option<i64>,
    failures: i64,
    test: Option<String>,
    resend: Option<String>,
    oldest: Option<i64>,
    history_dropped: i64,
}

async fn channel_statuses(tx: &mut Tx, which: &[i64]) -> Result<HashMap<i64, ChannelStatus>, Error> {
    if which.is_empty() {
        return Ok(HashMap::new());
    }
    let which = set(which)?;
    let rows: Vec<ChannelRow> = query(
        "SELECT c.c, c.pending, c.retrying, c.delivered, c.dead, c.expired, c.suppressed, c.last_delivery, \
         c.last_error, c.last_error_at, c.failures, c.test, c.resend, c.history_dropped, (SELECT n.created \
         FROM deliveries d JOIN notifications n ON n.n = d.n WHERE d.c = c.c AND d.state = 0 ORDER BY d.d \
         LIMIT 1) AS oldest FROM EACH($1 AS j: BIGINT) JOIN channels c ON c.c = j.value",
    )
    .bind(&which)
    .fetch_all(&mut tx.conn)
    .await?;
    let tests: Vec<(i64, i64, String)> = query(
        "SELECT c.c, d.state, d.reason FROM EACH($1 AS j: BIGINT) JOIN channels c ON c.c = j.value \
         JOIN notifications n ON n.id = c.test_id JOIN deliveries d ON d.n = n.n ORDER BY c.c, d.d",
    )
    .bind(&which)
    .fetch_all(&mut tx.conn)
    .await?;
    let read = |json: Option<String>| -> Result<Option<RequestStatus>, Error> {
        Ok(json.map(|json| serde_json::from_str(&json)).transpose()?)
    };
    let mut statuses = HashMap::new();
    for row in rows {
        let mut last_test = read(row.test)?;
        let result = undelivered::worst_result(tests.iter().filter(|(c, ..)| *c == row.c));
        if let (Some(test), Some(result)) = (&mut last_test, result) {
            test.result = result;
        }
        let status = ChannelStatus {
            pending: row.counters.pending,
            retrying: row.counters.retrying,
            delivered: row.counters.delivered,
            dead: row.counters.dead,
            expired: row.counters.expired,
            suppressed: row.counters.suppressed,
            last_delivery: row.last_delivery.map(time),
            last_error: row.last_error,
            last_error_time: row.last_error_at.map(time),
            consecutive_failures: row.failures,
            oldest_pending: row.oldest.map(time),
            history_dropped: row.history_dropped,
            last_test,
            last_resend: read(row.resend)?,
        };
        statuses.insert(row.c, status);
    }
    Ok(statuses)
}

#[derive(sqlx::FromRow)]
struct RuleRow {
    r: i64,
    matched: i64,
    last_match: Option<i64>,
    last_alert: Option<i64>,
    late: i64,
    dead_lettered: i64,
    groups: i64,
    firing: i64,
    pending: i64,
    #[sqlx(flatten)]
    recent: RecentRecords,
    unmatched: Option<String>,
}

async fn rule_statuses(
    tx: &mut Tx,
    which: &[i64],
    now: Timestamp,
) -> Result<HashMap<i64, RuleStatus>, Error> {
    if which.is_empty() {
        return Ok(HashMap::new());
    }
    let which = set(which)?;
    let rows: Vec<RuleRow> = query(
        "SELECT r.r, r.matched, r.last_match, r.last_alert, r.late, r.dead_lettered, r.groups, r.lately_read, \
         r.lately_failed, r.lately_lost, r.lately_counted, r.unmatched, (SELECT count(*) FROM groups g \
         WHERE g.r = r.r AND g.firing IS NOT NULL) AS firing, (SELECT count(*) FROM groups g WHERE g.r = r.r \
         AND g.pending IS NOT NULL) AS pending FROM EACH($1 AS j: BIGINT) JOIN rules r ON r.r = j.value",
    )
    .bind(&which)
    .fetch_all(&mut tx.conn)
    .await?;
    let drops: Vec<(i64, String, i64, i64)> = query(
        "SELECT d.r, d.reason, d.count, d.last FROM EACH($1 AS j: BIGINT) JOIN drops d ON d.r = j.value",
    )
    .bind(&which)
    .fetch_all(&mut tx.conn)
    .await?;
    let activations: Vec<(i64, String, i32, i64)> = query(
        "SELECT a.r, t.name, a.p, a.position FROM EACH($1 AS j: BIGINT) CROSS JOIN activations a \
         ON (a.r, a.t, a.p) IN (SELECT r, t, p FROM activations WHERE r = j.value LIMIT $2) CROSS JOIN topics t \
         ON t.t = a.t",
    )
    .bind(&which)
    .bind(ACTIVATIONS)
    .fetch_all(&mut tx.conn)
    .await?;
    let mut statuses = HashMap::new();
    for row in rows {
        let firing = if row.firing == 0 { Vec::new() } else { firing_groups(tx, row.r).await? };
        let status = RuleStatus {
            firing_count: row.firing,
            firing,
            pending_count: row.pending,
            matched: row.matched,
            last_match: row.last_match.map(time),
            last_alert: row.last_alert.map(time),
            late: row.late,
            dead_lettered: row.dead_lettered,
            groups: row.groups,
            uncountable: recent_records::uncountable_status(row.recent, row.unmatched.as_deref())?,
            ..RuleStatus::default()
        };
        statuses.insert(row.r, status);
    }
    for (r, reason, count, last) in drops {
        if let Some(status) = statuses.get_mut(&r) {
            let reason = DropReason::from_name(&reason);
            let recent = last > ms(now).saturating_sub(recent_records::QUOTA_MET_MS);
            if recent && reason.is_full() {
                // A quota that loses records is shown rather than one that loses groups.
                status.full = status.full.max(Some(reason));
            }
            *status.unmatched.entry(reason).or_default() += count;
        }
    }
    for (r, topic, p, position) in activations {
        if let Some(status) =
            statuses.get_mut(&r).filter(|status| (status.activation.len() as i64) < ACTIVATIONS)
        {
            status.activation.insert(format!("{topic}/{p}"), position);
        }
    }
    Ok(statuses)
}

/// The ten groups that have been firing longest.
async fn firing_groups(tx: &mut Tx, rule: i64) -> Result<Vec<FiringGroup>, Error> {
    let rows: Vec<(String, i64, i64)> = query(
        "SELECT labels, firing, count FROM groups WHERE r = $1 AND firing IS NOT NULL ORDER BY firing, labels \
         LIMIT 10",
    )
    .bind(rule)
    .fetch_all(&mut tx.conn)
    .await?;
    rows.into_iter()
        .map(|(labels, since, count)| {
            let group: BTreeMap<String, String> = serde_json::from_str(&labels)?;
            Ok(FiringGroup { group, since: time(since), count })
        })
        .collect()
}

async fn schedule_statuses(
    tx: &mut Tx,
    uids: &BTreeSet<Uuid>,
) -> Result<HashMap<Uuid, ScheduleStatus>, Error> {
    type ScheduleRow = (String, i64, Option<i64>, i64, i64, i64, i64, i64, i64);
    let rows: Vec<ScheduleRow> = query(
        "SELECT uid, through, last, recorded, skipped, clock_shifted, clock_skipped, clock_doubled, \
         history_dropped FROM schedules WHERE uid IN (SELECT value FROM EACH($1 AS j: TEXT))",
    )
    .bind(set(uids)?)
    .fetch_all(&mut tx.conn)
    .await?;
    rows.into_iter()
        .map(|(id, through, last, reminders, skipped, shifted, left_out, doubled, history_dropped)| {
            let (last_reminder, through) = (last.map(time), Some(time(through)));
            let clock = ClockCounts { shifted, skipped: left_out, doubled };
            let told = DeliverySummary::default();
            let status =
                ScheduleStatus { last_reminder, reminders, skipped, clock, history_dropped, through, told };
            Ok((uuid(&id)?, status))
        })
        .collect()
}

impl Ledger {
    /// Publishes changed statuses to the feed, at most 200 objects, and returns how many. Call it every second, and
    /// when [`Signal::Statuses`] wakes.
    pub async fn publish_statuses(&self, workers: Arc<WorkerView>, now: Timestamp) -> Result<u64, Error> {
        self.writer.execute(PublishStatuses { workers, now }).await
    }

    /// The statuses after a version, oldest first, at most 500 and about 4 MiB.
    pub async fn feed(&self, after: i64) -> Result<Feed, Error> {
        let mut reader = self.readers.acquire().await?;
        let sizes: Vec<(i64, i64)> =
            query(queries::FEED_SIZES).bind(after).bind(FEED_PAGE).fetch_all(&mut reader).await?;
        let mut bytes = 0;
        let fits = sizes.iter().take_while(|(_, size)| {
            let first = bytes == 0;
            bytes += size;
            first || bytes <= FEED_BYTES
        });
        let Some((version, _)) = fits.last() else {
            let newest: Option<i64> = query_scalar(queries::FEED_NEWEST).fetch_optional(&mut reader).await?;
            let version = newest.unwrap_or(0).max(after);
            return Ok(Feed { ledger: self.shared.id, version, objects: Vec::new() });
        };
        // A status that was published again meanwhile comes with its later version.
        let rows: Vec<(i64, String)> =
            query(queries::FEED).bind(after).bind(*version).bind(FEED_PAGE).fetch_all(&mut reader).await?;
        let version = *version;
        let objects = rows.iter().map(|(_, body)| serde_json::from_str(body)).collect::<Result<_, _>>()?;
        Ok(Feed { ledger: self.shared.id, version, objects })
    }
}

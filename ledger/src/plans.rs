//! Stores plans, and forgets objects that are gone.
//!
//! Invariants: an older generation never replaces a newer one. An absent object stops at once, and is forgotten after
//! the grace, or earlier if its namespace's absent objects take too many bytes. Forgetting an object ends its pending
//! deliveries with the reason, and removes its state.
//!
//! Clauses of docs/semantics.md: P1, P3, P4.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use domain::{Digest, ObjectKind, Plan};
use jiff::Timestamp;
use protocol::messages::{ChannelsPlan, Pool, ReminderState, Revisions, SourcePlan};
use uuid::Uuid;

use crate::catalog::{Catalog, Object};
use crate::engine::{query, query_scalar};
use crate::sql::{ms, set, time};
use crate::writer::{Command, Tx};
use crate::{Error, Ledger, Signal, chores, queries, rules, undelivered};

struct PutPlans {
    plans: Vec<Plan>,
    now: Timestamp,
}

impl Command for PutPlans {
    type Answer = ();

    async fn run(&mut self, tx: &mut Tx) -> Result<(), Error> {
        let mut catalog = Catalog::clone(&tx.catalog);
        let mut stored = Vec::new();
        let mut put = Vec::new();
        for plan in &self.plans {
            let known = catalog.get(plan.uid).cloned();
            if let Some(known) = &known
                && (known.plan.generation > plan.generation
                    || known.plan.kind() != plan.kind()
                    || (known.plan == *plan && known.absent.is_none()))
            {
                continue;
            }
            let resumed = known.as_ref().and_then(|known| {
                if known.plan.suspended && !plan.suspended { Some(ms(self.now)) } else { known.resumed }
            });
            let row = match &known {
                Some(known) => known.row,
                None => state_row(tx, plan).await?,
            };
            stored.push((plan.uid, serde_json::to_string(plan)?, resumed));
            let mut object = Object::new(plan.clone(), row, resumed, None);
            if let Some(known) = &known
                && known.state != object.state
                && object.rule().is_some()
            {
                object.row = rules::restart_rule(tx, &object, known.state.as_ref(), self.now).await?;
            }
            catalog.put(object);
            put.push((plan.uid, known));
        }
        query(
            "INSERT INTO plans (uid, body, resumed, absent) SELECT uid, body, resumed, NULL \
             FROM ROWS($1 AS j: uid TEXT, body TEXT, resumed BIGINT) WHERE true ON CONFLICT (uid) DO UPDATE \
             SET body = excluded.body, resumed = excluded.resumed, absent = NULL",
        )
        .bind(set(&stored)?)
        .execute(&mut tx.conn)
        .await?;
        replace_catalog(tx, catalog, put.iter().map(|(uid, _)| *uid));
        for (uid, known) in put {
            let Some(object) = tx.catalog.get(uid).cloned() else { continue };
            let went_on = known.as_ref().is_some_and(|known| known.plan.suspended && !object.plan.suspended);
            if went_on && object.rule().is_some() {
                rules::resume_rule(tx, &object).await?;
            }
        }
        Ok(())
    }
}

/// Makes the row that keeps a new object's state.
async fn state_row(tx: &mut Tx, plan: &Plan) -> Result<i64, Error> {
    let (sql, row) = match plan.kind() {
        ObjectKind::NotificationChannel => (
            "INSERT INTO channels (uid, namespace) VALUES ($1, $2) ON CONFLICT (uid) DO UPDATE \
             SET namespace = excluded.namespace RETURNING c",
            None,
        ),
        ObjectKind::AlertRule => (
            "INSERT INTO rules (r, uid, namespace) VALUES ($3, $1, $2) ON CONFLICT (uid) DO UPDATE \
             SET namespace = excluded.namespace RETURNING r",
            Some(rules::next_row(tx).await?),
        ),
        ObjectKind::Schedule => return Ok(0),
    };
    let uid = plan.uid.to_string();
    let insert = query_scalar(sql).bind(uid).bind(&plan.namespace);
    let insert = if let Some(row) = row { insert.bind(row) } else { insert };
    insert.fetch_one(&mut tx.conn).await
}

/// Replaces the catalog by one in which these objects changed, and wakes those who wait for them.
fn replace_catalog(tx: &mut Tx, mut catalog: Catalog, uids: impl Iterator<Item = Uuid>) {
    let mut namespaces = BTreeSet::new();
    for uid in uids {
        if let Some(object) = catalog.get(uid) {
            namespaces.insert(object.plan.namespace.clone());
        }
        tx.mark(uid, true);
    }
    rebuild_and_wake(tx, &mut catalog, namespaces);
    tx.catalog = Arc::new(catalog);
}

fn rebuild_and_wake(tx: &mut Tx, catalog: &mut Catalog, namespaces: BTreeSet<String>) {
    for namespace in namespaces {
        catalog.rebuild(&namespace);
        tx.wake(Signal::Work(namespace.clone(), Pool::Send));
        tx.wake(Signal::Work(namespace.clone(), Pool::Retry));
        tx.wake(Signal::Plans(namespace));
    }
}

struct PutLiveSet {
    uids: BTreeSet<Uuid>,
    now: Timestamp,
}

impl Command for PutLiveSet {
    type Answer = ();

    async fn run(&mut self, tx: &mut Tx) -> Result<(), Error> {
        let (mut gone, mut back) = (Vec::new(), Vec::new());
        for (uid, object) in &tx.catalog.objects {
            match (self.uids.contains(uid), object.absent) {
                (false, None) => gone.push(*uid),
                (true, Some(_)) => back.push(*uid),
                _ => {}
            }
        }
        if gone.is_empty() && back.is_empty() {
            return Ok(());
        }
        let mut catalog = Catalog::clone(&tx.catalog);
        for (uids, absent) in [(&gone, Some(ms(self.now))), (&back, None)] {
            query("UPDATE plans SET absent = $2 WHERE uid IN (SELECT value FROM EACH($1 AS j: TEXT))")
                .bind(set(uids)?)
                .bind(absent)
                .execute(&mut tx.conn)
                .await?;
            for uid in uids {
                if let Some(object) = catalog.get(*uid) {
                    let object = Object { absent, ..Object::clone(object) };
                    catalog.put(object);
                }
            }
        }
        replace_catalog(tx, catalog, gone.into_iter().chain(back));
        let over = over_absent_quota(&tx.catalog, tx.options.max_absent_bytes);
        if !over.is_empty() {
            forget_objects(tx, &over).await?;
        }
        Ok(())
    }
}

/// Of each namespace whose absent objects take too many bytes, those absent longest that are too many. Returns at
/// most a batch.
fn over_absent_quota(catalog: &Catalog, most: usize) -> Vec<Arc<Object>> {
    let mut absent: BTreeMap<&str, Vec<&Arc<Object>>> = BTreeMap::new();
    for object in catalog.objects.values().filter(|object| object.absent.is_some()) {
        absent.entry(&object.plan.namespace).or_default().push(object);
    }
    let mut over = Vec::new();
    for mut objects in absent.into_values() {
        objects.sort_by_key(|object| std::cmp::Reverse(object.absent));
        let mut held = 0;
        over.extend(objects.into_iter().filter(|object| {
            held += object.weight;
            held > most
        }));
    }
    over.truncate(FORGET_BATCH);
    over.into_iter().cloned().collect()
}

struct CollectAbsent {
    now: Timestamp,
}

/// How long a change waits for finding what it left to decide.
const RESUME_TIMEOUT: Duration = Duration::from_secs(1);
/// How many objects are forgotten at once.
const FORGET_BATCH: usize = 100;

impl Command for CollectAbsent {
    /// How many objects and topics were forgotten, and whether there are more.
    type Answer = (u64, bool);

    async fn run(&mut self, tx: &mut Tx) -> Result<(u64, bool), Error> {
        let before = ms(self.now).saturating_sub(tx.options.grace.0);
        let gone: Vec<Arc<Object>> = tx
            .catalog
            .objects
            .values()
            .filter(|object| object.absent.is_some_and(|since| since <= before))
            .take(FORGET_BATCH)
            .cloned()
            .collect();
        let gone =
            if gone.is_empty() { over_absent_quota(&tx.catalog, tx.options.max_absent_bytes) } else { gone };
        let mut count = gone.len() as u64;
        if !gone.is_empty() {
            forget_objects(tx, &gone).await?;
        }
        crate::namespaces::forget_unused(tx).await?;
        let more = gone.len() >= FORGET_BATCH;
        count += forget_unread_topics(tx, ms(self.now), before).await?;
        Ok((count, more))
    }
}

/// Forgets objects, in the database and in the catalog.
async fn forget_objects(tx: &mut Tx, gone: &[Arc<Object>]) -> Result<(), Error> {
    delete_object_rows(tx, gone).await?;
    let mut catalog = Catalog::clone(&tx.catalog);
    let mut namespaces = BTreeSet::new();
    for object in gone {
        catalog.remove(object.plan.uid);
        namespaces.insert(object.plan.namespace.clone());
    }
    rebuild_and_wake(tx, &mut catalog, namespaces);
    tx.catalog = Arc::new(catalog);
    tx.wake(Signal::Statuses);
    Ok(())
}

/// Forgets all objects of a namespace.
pub(crate) async fn forget_namespace(tx: &mut Tx, namespace: &str) -> Result<(), Error> {
    let gone: Vec<Arc<Object>> = tx.catalog.objects_of(namespace).cloned().collect();
    if gone.is_empty() { Ok(()) } else { forget_objects(tx, &gone).await }
}

/// Deletes what is stored of objects, except what people were told. What may be many rows becomes chores.
async fn delete_object_rows(tx: &mut Tx, gone: &[Arc<Object>]) -> Result<(), Error> {
    for object in gone {
        let (uid, namespace) = (object.plan.uid.to_string(), &object.plan.namespace);
        chores::add_chore(tx, namespace, chores::kind::OBJECT, (&uid, 0), 0).await?;
        if object.channel().is_some() {
            chores::release_channel_row(tx, object).await?;
        }
    }
    undelivered::forget_counts(tx, gone).await?;
    let uids: Vec<Uuid> = gone.iter().map(|object| object.plan.uid).collect();
    let rules: Vec<i64> =
        gone.iter().filter(|object| object.rule().is_some()).map(|object| object.row).collect();
    rules::forget_rules(tx, &rules).await?;
    let (uids, rules) = (set(&uids)?, set(&rules)?);
    for (sql, which) in [
        ("DELETE FROM plans WHERE uid IN (SELECT value FROM EACH($1 AS j: TEXT))", &uids),
        ("DELETE FROM statuses WHERE uid IN (SELECT value FROM EACH($1 AS j: TEXT))", &uids),
        ("DELETE FROM schedules WHERE uid IN (SELECT value FROM EACH($1 AS j: TEXT))", &uids),
        ("DELETE FROM requests WHERE channel IN (SELECT value FROM EACH($1 AS j: TEXT))", &uids),
        ("DELETE FROM drops WHERE r IN (SELECT value FROM EACH($1 AS j: BIGINT))", &rules),
        ("DELETE FROM rules WHERE r IN (SELECT value FROM EACH($1 AS j: BIGINT))", &rules),
    ] {
        query(sql).bind(which).execute(&mut tx.conn).await?;
    }
    Ok(())
}

/// Forgets topics that no rule has read for the grace, and sources without topics. Returns how many topics.
async fn forget_unread_topics(tx: &mut Tx, now: i64, before: i64) -> Result<u64, Error> {
    let stored: Vec<(i64, String, String, String, Option<i64>)> =
        query("SELECT t.t, s.namespace, s.key, t.name, t.unread FROM topics t JOIN sources s ON s.s = t.s")
            .fetch_all(&mut tx.conn)
            .await?;
    let (mut marked, mut read, mut forgotten) = (Vec::new(), Vec::new(), Vec::new());
    let mut letters = BTreeSet::new();
    for (t, namespace, key, name, unread) in stored {
        let is_read = tx
            .catalog
            .rules_of(&namespace, &key)
            .any(|object| object.rule().is_some_and(|rule| rule.topics.contains(&name)));
        match (is_read, unread) {
            (true, Some(_)) => read.push(t),
            (false, None) => marked.push(t),
            (false, Some(since)) if since <= before => {
                forgotten.push(t);
                letters.insert((namespace, name));
            }
            _ => {}
        }
    }
    // The chore keeps the dead letters of a topic that another source of the namespace reads.
    for (namespace, topic) in letters {
        chores::add_chore(tx, &namespace, chores::kind::LETTERS, (&topic, 0), 0).await?;
    }
    let count = forgotten.len() as u64;
    for (topics, unread) in [(marked, Some(now)), (read, None)] {
        if !topics.is_empty() {
            query("UPDATE topics SET unread = $2 WHERE t IN (SELECT value FROM EACH($1 AS j: BIGINT))")
                .bind(set(&topics)?)
                .bind(unread)
                .execute(&mut tx.conn)
                .await?;
        }
    }
    if count > 0 {
        let which = set(&forgotten)?;
        for sql in [
            "DELETE FROM partitions WHERE t IN (SELECT value FROM EACH($1 AS j: BIGINT))",
            "DELETE FROM activations WHERE t IN (SELECT value FROM EACH($1 AS j: BIGINT))",
            "DELETE FROM topics WHERE t IN (SELECT value FROM EACH($1 AS j: BIGINT))",
        ] {
            query(sql).bind(&which).execute(&mut tx.conn).await?;
        }
        query("DELETE FROM sources WHERE s NOT IN (SELECT s FROM topics)").execute(&mut tx.conn).await?;
    }
    Ok(count)
}

impl Ledger {
    /// Stores plans. A plan of an older generation than the stored one is skipped.
    pub async fn put_plans(&self, plans: Vec<Plan>, now: Timestamp) -> Result<(), Error> {
        let namespaces: BTreeSet<String> = plans.iter().map(|plan| plan.namespace.clone()).collect();
        self.writer.execute(PutPlans { plans, now }).await?;
        // The steps clean up after changed rules and release deliveries that waited for channels.
        for namespace in namespaces {
            self.decider.start(&namespace, Vec::new(), now);
        }
        Ok(())
    }

    /// The revisions and generations of all stored objects.
    pub fn revisions(&self) -> Revisions {
        let catalog = self.shared.catalog();
        let objects: BTreeMap<Uuid, (Digest, i64)> = catalog
            .objects
            .iter()
            .map(|(uid, object)| (*uid, (object.revision.clone(), object.plan.generation)))
            .collect();
        Revisions { ledger: self.shared.id, objects }
    }

    /// Takes the complete set of live objects. Absent objects stop at once, and are collected after the grace.
    pub async fn put_live(&self, uids: Vec<Uuid>, now: Timestamp) -> Result<(), Error> {
        self.writer.execute(PutLiveSet { uids: uids.into_iter().collect(), now }).await?;
        self.resume_after_change(now).await;
        Ok(())
    }

    /// Forgets objects that were absent, and topics that were unread, for the grace. Returns how many.
    /// [`Self::run_chore`] does the rest.
    pub async fn collect(&self, now: Timestamp) -> Result<u64, Error> {
        let mut count = 0;
        loop {
            let (some, more) = self.writer.execute(CollectAbsent { now }).await?;
            count += some;
            if !more {
                break;
            }
        }
        self.resume_after_change(now).await;
        Ok(count)
    }

    /// Resumes what a change left to decide.
    async fn resume_after_change(&self, now: Timestamp) {
        // Finding it needs a reader, which others may hold. What isn't found now is found later.
        let found = tokio::time::timeout(RESUME_TIMEOUT, self.resume_deciding(now)).await;
        if !matches!(found, Ok(Ok(()))) {
            tracing::warn!("what is left to do is looked for later");
        }
    }

    /// The plan of a source; `None` if no rule reads it.
    pub fn source_plan(&self, namespace: &str, source: &str) -> Option<Arc<SourcePlan>> {
        self.shared.catalog().namespace(namespace)?.sources.get(source).cloned()
    }

    /// Whether the namespace has any plan, also of an object that is absent within the grace.
    pub fn has_plans(&self, namespace: &str) -> bool {
        self.shared.catalog().namespace(namespace).is_some()
    }

    /// The plan of all channels of a namespace.
    pub fn channels_plan(&self, namespace: &str) -> Arc<ChannelsPlan> {
        match self.shared.catalog().namespace(namespace) {
            Some(space) => Arc::clone(&space.channels),
            None => Arc::new(ChannelsPlan { revision: Digest::of(&()), channels: BTreeMap::new() }),
        }
    }

    /// A schedule, and up to when its reminders are settled.
    pub async fn reminder_state(&self, namespace: &str, uid: Uuid) -> Result<Option<ReminderState>, Error> {
        let catalog = self.shared.catalog();
        let Some(object) = catalog
            .in_namespace(uid, namespace)
            .filter(|object| object.absent.is_none() && object.plan.kind() == ObjectKind::Schedule)
        else {
            return Ok(None);
        };
        let mut reader = self.readers.acquire().await?;
        let stored: Option<i64> =
            query_scalar(queries::SCHEDULE_THROUGH).bind(uid.to_string()).fetch_optional(&mut reader).await?;
        let through = crate::reminders::settled_until(object, stored);
        Ok(Some(ReminderState { plan: object.plan.clone(), through: time(through) }))
    }
}

//! Says, for an object's status, what became of its notifications: of the last one, and of those that nobody got.
//!
//! Invariants: deliveries that ended dead or expired are counted by channel and recipient, until a later one of the
//! same object arrives there, or they are sent again or removed. Triggers keep these counts (migration 0008), so that
//! no path can forget them. What is read for one object is bounded. Paths that every delivery takes don't read these
//! counts, beyond whether a namespace has any.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use domain::{DeliveryState, Verdict};
use protocol::messages::{DeliverySummary, LastNotification, Undelivered};
use uuid::Uuid;

use crate::Error;
use crate::catalog::{Catalog, Object};
use crate::deliveries::DeliveryChange;
use crate::engine::{query, query_scalar};
use crate::sql::{set, time, uuid};
use crate::writer::Tx;

/// How many counts of one object are read.
const LOOKED_AT: i64 = 200;
/// How many deliveries of a last notification are read.
const DELIVERIES: i64 = 100;
/// How many channels the status names.
const TOLD: usize = 5;

/// Marks the objects whose deliveries ended or started again. Publishes at once if an object's last notification has
/// ended, if a channel starts or stops failing, or if a person waits for a test.
pub(crate) fn mark_objects(
    tx: &mut Tx,
    changes: &[DeliveryChange],
    told: Vec<(i64, String, bool)>,
) -> Result<(), Error> {
    let mut objects = HashMap::with_capacity(told.len());
    for (n, object, is_last) in told {
        objects.insert(n, (uuid(&object)?, is_last));
    }
    let catalog = Arc::clone(&tx.catalog);
    for DeliveryChange { from, verdict, .. } in changes {
        let Some((uid, is_last)) = objects.get(&from.n) else { continue };
        let channel = from.c.and_then(|c| catalog.channel_at(c)).map(|channel| channel.plan.name.as_str());
        let fails = channel.is_some_and(|name| tx.published.fails(*uid, name));
        let news = match verdict {
            Verdict::End(DeliveryState::Dead | DeliveryState::Expired, _) => !fails,
            Verdict::End(DeliveryState::Delivered, _) => fails,
            Verdict::End(..) | Verdict::Again(_) => false,
        };
        let ended = *is_last && matches!(verdict, Verdict::End(..));
        let is_test = catalog.get(*uid).is_some_and(|object| object.channel().is_some());
        tx.mark(*uid, news || ended || is_test);
    }
    Ok(())
}

/// Marks the objects that have undelivered notifications among those about to be removed.
pub(crate) async fn mark_objects_of(tx: &mut Tx, notifications: &str) -> Result<(), Error> {
    let objects: Vec<String> = query_scalar(
        "SELECT DISTINCT n.object FROM EACH($1 AS j: BIGINT) JOIN notifications n ON n.n = j.value \
         JOIN undelivered u ON u.namespace = n.namespace AND u.object = n.object",
    )
    .bind(notifications)
    .fetch_all(&mut tx.conn)
    .await?;
    for object in objects {
        tx.mark(uuid(&object)?, true);
    }
    Ok(())
}

/// Forgets the counts of deleted objects.
pub(crate) async fn forget_counts(tx: &mut Tx, gone: &[Arc<Object>]) -> Result<(), Error> {
    query(
        "DELETE FROM undelivered WHERE (namespace, object) IN (SELECT namespace, object \
         FROM ROWS($1 AS j: namespace TEXT, object TEXT))",
    )
    .bind(object_keys(gone)?)
    .execute(&mut tx.conn)
    .await?;
    Ok(())
}

fn object_keys(objects: &[Arc<Object>]) -> Result<String, Error> {
    let keys: Vec<(&str, Uuid)> =
        objects.iter().map(|object| (object.plan.namespace.as_str(), object.plan.uid)).collect();
    set(&keys)
}

/// A row of `undelivered`.
#[derive(sqlx::FromRow)]
struct UndeliveredRow {
    object: String,
    channel: String,
    recipient: String,
    count: i64,
    since: i64,
    #[sqlx(try_from = "i64")]
    state: DeliveryState,
    reason: String,
}

/// Loads what became of the notifications of these rules and schedules.
pub(crate) async fn load_told(
    tx: &mut Tx,
    objects: &[Arc<Object>],
) -> Result<HashMap<Uuid, DeliverySummary>, Error> {
    let mut told: HashMap<Uuid, DeliverySummary> = HashMap::new();
    if objects.is_empty() {
        return Ok(told);
    }
    let keys = object_keys(objects)?;
    for (uid, last) in last_notifications(tx, &keys).await? {
        told.entry(uid).or_default().last = Some(last);
    }
    let rows: Vec<UndeliveredRow> = query(
        "SELECT u.object, u.channel, u.recipient, u.count, u.since, u.state, u.reason \
         FROM ROWS($1 AS j: namespace TEXT, object TEXT) CROSS JOIN undelivered u ON u.namespace = j.namespace \
         AND u.object = j.object AND (u.channel, u.recipient) IN (SELECT x.channel, x.recipient \
         FROM undelivered x WHERE x.namespace = j.namespace AND x.object = j.object LIMIT $2) \
         ORDER BY u.channel, u.since",
    )
    .bind(&keys)
    .bind(LOOKED_AT)
    .fetch_all(&mut tx.conn)
    .await?;
    for UndeliveredRow { object, channel, recipient, count, since, state, reason } in rows {
        let uid = uuid(&object)?;
        if !concerns(&tx.catalog, uid, &channel, &recipient) {
            continue;
        }
        let (undelivered, since) = (&mut told.entry(uid).or_default().undelivered, time(since));
        if let Some(last) = undelivered.last_mut().filter(|last| last.channel == channel) {
            last.count += count;
        } else if undelivered.len() < TOLD {
            undelivered.push(Undelivered { channel, count, since, state, reason });
        }
    }
    Ok(told)
}

/// Whether the object still notifies this recipient. One that was removed says nothing about future notifications.
fn concerns(catalog: &Catalog, uid: Uuid, channel: &str, recipient: &str) -> bool {
    let Some(object) = catalog.get(uid) else { return false };
    let names: BTreeSet<&str> = match &object.plan.body {
        domain::PlanBody::AlertRule(rule) => rule.notify.iter().map(String::as_str).collect(),
        domain::PlanBody::Schedule(schedule) => {
            schedule.reminders.iter().flat_map(|it| &it.notify).map(String::as_str).collect()
        }
        domain::PlanBody::NotificationChannel(_) => return false,
    };
    let there = catalog.channel_named(&object.plan.namespace, channel).and_then(|channel| channel.channel());
    names.contains(channel)
        && (recipient.is_empty() || there.is_none_or(|there| there.target.recipients().contains(&recipient)))
}

/// The last notification of each object, with its result.
async fn last_notifications(tx: &mut Tx, keys: &str) -> Result<Vec<(Uuid, LastNotification)>, Error> {
    let rows: Vec<(i64, String, String, i64)> = query(
        "SELECT n.n, n.object, n.id, n.created FROM ROWS($1 AS j: namespace TEXT, object TEXT) \
         CROSS JOIN notifications n ON n.n = (SELECT max(x.n) FROM notifications x WHERE x.object = j.object)",
    )
    .bind(keys)
    .fetch_all(&mut tx.conn)
    .await?;
    let which: Vec<i64> = rows.iter().map(|(n, ..)| *n).collect();
    let deliveries: Vec<(i64, i64, String)> = query(
        "SELECT d.n, d.state, substr(d.reason, 1, 300) FROM EACH($1 AS j: BIGINT) CROSS JOIN deliveries d \
         ON d.d IN (SELECT d FROM deliveries WHERE n = j.value ORDER BY d LIMIT $2) ORDER BY d.d",
    )
    .bind(set(&which)?)
    .bind(DELIVERIES)
    .fetch_all(&mut tx.conn)
    .await?;
    let mut of: HashMap<i64, Vec<(i64, i64, String)>> = HashMap::new();
    for row in deliveries {
        of.entry(row.0).or_default().push(row);
    }
    rows.into_iter()
        .map(|(n, object, id, created)| {
            let outcome = worst_result(of.get(&n).into_iter().flatten());
            let outcome = outcome.unwrap_or_else(|| DeliveryState::Pending.name().to_owned());
            let last = LastNotification { id: uuid(&id)?, time: time(created), outcome };
            Ok((uuid(&object)?, last))
        })
        .collect()
}

/// The worst state among several recipients, with its reason.
pub(crate) fn worst_result<'a>(deliveries: impl Iterator<Item = &'a (i64, i64, String)>) -> Option<String> {
    let worst = deliveries.map(|(_, state, reason)| (DeliveryState::from(*state), reason));
    let (state, reason) = worst.max_by_key(|(state, _)| match state {
        DeliveryState::Delivered => 0,
        DeliveryState::Pending => 1,
        DeliveryState::Suppressed => 2,
        DeliveryState::Expired => 3,
        DeliveryState::Dead => 4,
    })?;
    let name = state.name();
    Some(if reason.is_empty() { name.to_owned() } else { format!("{name}: {reason}") })
}

//! Makes notifications and their deliveries, in sets.
//!
//! Invariants: an id that comes twice is one notification. Every channel that a notification names has a delivery for
//! each of its recipients, or one delivery that waits for a channel of that name.
//!
//! Clauses of docs/semantics.md: D1, D2, D12.

use std::collections::{HashMap, HashSet};

use domain::{Notification, ids};
use jiff::Timestamp;
use protocol::messages::Pool;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::catalog::{Catalog, Object};
use crate::deliveries::ChannelDelta;
use crate::engine::{query, query_scalar};
use crate::sql::{ms, set, time, uuid};
use crate::writer::{Tx, next_id};
use crate::{Error, Signal};

/// How long a delivery waits for a channel that doesn't exist, ms.
const WAIT_FOR_CHANNEL_MS: i64 = 24 * 3_600_000;

/// A notification that is to be made.
pub(crate) struct NotificationDraft {
    /// The rule, schedule or tested channel.
    pub(crate) object: Uuid,
    pub(crate) notification: Notification,
    pub(crate) to: ToChannels,
}

/// The channels that a notification goes to.
pub(crate) enum ToChannels {
    /// Channels by name, in the notification's namespace.
    Names(Vec<String>),
    /// One channel.
    Channel(Uuid),
}

/// How many deliveries a notification of the rule makes. A channel that doesn't exist counts as one.
pub(crate) fn count_deliveries(catalog: &Catalog, rule: &Object) -> usize {
    let Some(plan) = rule.rule() else { return 0 };
    let of = |name: &String| {
        let channel = catalog.channel_named(&rule.plan.namespace, name).and_then(|object| object.channel());
        channel.map_or(1, |channel| channel.target.recipients().len())
    };
    plan.notify.iter().map(of).sum()
}

/// The hash that is the lane of deliveries that must arrive in order. A collision only joins two lanes.
pub(crate) fn lane_of(channel: Uuid, recipient: &str, ordering_key: &str) -> i64 {
    let mut hash = Sha256::new();
    hash.update(channel.as_bytes());
    hash.update((recipient.len() as u64).to_be_bytes());
    hash.update(recipient.as_bytes());
    hash.update(ordering_key.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hash.finalize()[..8]);
    i64::from_be_bytes(first)
}

/// A delivery that is to be made.
struct NewDelivery<'a> {
    d: i64,
    /// `None`, like the channel's row, while it waits for its channel.
    id: Option<Uuid>,
    n: i64,
    c: Option<i64>,
    namespace: &'a str,
    channel: &'a str,
    recipient: &'a str,
    lane: i64,
    /// Whether it is the first of its lane in this set.
    first: bool,
    reason: &'static str,
    due: i64,
    expires: i64,
}

/// A set of deliveries that are to be made.
#[derive(Default)]
struct NewDeliveries<'a> {
    all: Vec<NewDelivery<'a>>,
    lanes: HashSet<i64>,
    tallies: HashMap<i64, ChannelDelta>,
}

impl<'a> NewDeliveries<'a> {
    /// Adds a delivery that waits for a channel of that name.
    fn add_waiting(&mut self, id: &mut i64, n: i64, (namespace, channel): (&'a str, &'a str), now: i64) {
        self.all.push(NewDelivery {
            d: next_id(id),
            id: None,
            n,
            c: None,
            namespace,
            channel,
            recipient: "",
            lane: 0,
            first: false,
            reason: WAIT_REASON,
            due: now,
            expires: now + WAIT_FOR_CHANNEL_MS,
        });
    }

    /// Adds a delivery for each recipient of the channel. `decided` is when the notification was decided, `due` when
    /// the deliveries are.
    fn add(
        &mut self,
        id: &mut i64,
        n: i64,
        said: &Notification,
        channel: &'a Object,
        (decided, due): (i64, i64),
    ) {
        let Some(plan) = channel.channel() else { return };
        let uid = channel.plan.uid;
        let mut recipients = HashSet::new();
        for recipient in plan.target.recipients() {
            if !recipients.insert(recipient) {
                continue;
            }
            let lane = lane_of(uid, recipient, &said.ordering_key);
            self.all.push(NewDelivery {
                d: next_id(id),
                id: Some(ids::delivery(said.id, uid, recipient)),
                n,
                c: Some(channel.row),
                namespace: &channel.plan.namespace,
                channel: &channel.plan.name,
                recipient,
                lane,
                first: self.lanes.insert(lane),
                reason: "",
                due,
                expires: decided.saturating_add(plan.delivery.expires_after.0),
            });
            self.tallies.entry(channel.row).or_default().pending += 1;
        }
    }

    /// Inserts the deliveries and returns their number. Their place is their order. A delivery is its lane's head if
    /// nothing of the lane is pending, neither in the database nor before it in the set.
    async fn insert(self, tx: &mut Tx) -> Result<u64, Error> {
        let rows: Vec<_> = self
            .all
            .iter()
            .map(
                |NewDelivery {
                     d,
                     id,
                     n,
                     c,
                     namespace,
                     channel,
                     recipient,
                     lane,
                     first,
                     reason,
                     due,
                     expires,
                 }| {
                    (d, id, n, c, namespace, channel, recipient, lane, first, reason, due, expires)
                },
            )
            .collect();
        query(
            "INSERT INTO deliveries (d, id, n, c, namespace, channel, recipient, lane, place, head, state, \
             reason, made, numbered, due, expires) SELECT d, id, n, c, namespace, channel, recipient, lane, $2 + \
             ord, CASE WHEN first AND NOT EXISTS (SELECT 1 FROM deliveries x WHERE x.lane = j.lane AND x.c = j.c \
             AND x.state = 0) THEN 1 ELSE 0 END, 0, reason, 0, 0, due, expires \
             FROM ROWS($1 AS j: d BIGINT, id TEXT, n BIGINT, c BIGINT, namespace TEXT, channel TEXT, recipient \
             TEXT, lane BIGINT, first BOOLEAN, reason TEXT, due BIGINT, expires BIGINT)",
        )
        .bind(set(&rows)?)
        .bind(tx.ids.place + 1)
        .execute(&mut tx.conn)
        .await?;
        tx.ids.place += rows.len() as i64;
        crate::deliveries::add_to_channels(tx, self.tallies).await?;
        Ok(self.all.len() as u64)
    }
}

/// Makes the notifications that don't exist yet, with their deliveries. Returns how many it made.
pub(crate) async fn make_notifications(
    tx: &mut Tx,
    drafts: Vec<NotificationDraft>,
    now: Timestamp,
) -> Result<usize, Error> {
    if drafts.is_empty() {
        return Ok(0);
    }
    let drafts = only_new(tx, drafts).await?;
    let behind = channels_with_waiting(tx, &drafts).await?;
    let now = ms(now);
    let catalog = std::sync::Arc::clone(&tx.catalog);
    let mut notifications = Vec::with_capacity(drafts.len());
    let mut rows = NewDeliveries::default();
    for draft in &drafts {
        let said = &draft.notification;
        let n = next_id(&mut tx.ids.notification);
        let before = rows.all.len();
        match &draft.to {
            ToChannels::Names(names) => {
                let mut seen = HashSet::new();
                for name in names.iter().filter(|name| seen.insert(name.as_str())) {
                    let waits =
                        !behind.is_empty() && behind.contains(&(said.namespace.clone(), name.clone()));
                    let channel = catalog.channel_named(&said.namespace, name).filter(|_| !waits);
                    match channel.filter(|channel| channel.channel().is_some()) {
                        Some(channel) => rows.add(&mut tx.ids.delivery, n, said, channel, (now, now)),
                        None => rows.add_waiting(&mut tx.ids.delivery, n, (&said.namespace, name), now),
                    }
                }
            }
            ToChannels::Channel(uid) => {
                if let Some(channel) = catalog.get(*uid) {
                    rows.add(&mut tx.ids.delivery, n, said, channel, (now, now));
                }
            }
        }
        let settled = (rows.all.len() == before).then_some(now);
        let body = serde_json::to_string(said)?;
        notifications.push((n, said.id, &said.namespace, draft.object, now, settled, body));
    }
    query(
        "INSERT INTO notifications (n, id, namespace, object, created, settled, body) SELECT n, id, namespace, \
         object, created, settled, body FROM ROWS($1 AS j: n BIGINT, id TEXT, namespace TEXT, object TEXT, \
         created BIGINT, settled BIGINT, body TEXT)",
    )
    .bind(set(&notifications)?)
    .execute(&mut tx.conn)
    .await?;
    tx.counted.notifications += notifications.len() as u64;
    tx.counted.deliveries += rows.insert(tx).await?;
    for draft in &drafts {
        tx.wake(Signal::Work(draft.notification.namespace.clone(), Pool::Send));
        tx.mark(draft.object, false);
    }
    Ok(drafts.len())
}

/// The reason of a delivery whose channel doesn't exist.
const WAIT_REASON: &str = "ChannelNotFound";

/// Drops notifications that are stored already, and repetitions.
async fn only_new(tx: &mut Tx, drafts: Vec<NotificationDraft>) -> Result<Vec<NotificationDraft>, Error> {
    let wanted: Vec<Uuid> = drafts.iter().map(|draft| draft.notification.id).collect();
    let stored: Vec<String> =
        query_scalar("SELECT id FROM notifications WHERE id IN (SELECT value FROM EACH($1 AS j: TEXT))")
            .bind(set(&wanted)?)
            .fetch_all(&mut tx.conn)
            .await?;
    let mut known: HashSet<Uuid> = stored.iter().map(|id| uuid(id)).collect::<Result<_, _>>()?;
    Ok(drafts.into_iter().filter(|draft| known.insert(draft.notification.id)).collect())
}

/// How many waiting deliveries are released at once, and how many deliveries to recipients they may become.
const RELEASED: i64 = 200;
const RELEASED_DELIVERIES: i64 = 1_000;

/// Releases a batch of deliveries that waited for a channel of the namespace that exists by now, in the order in
/// which they were decided: each becomes one for every recipient. Returns whether there may be more. Deliveries that
/// are decided meanwhile wait behind them ([`make_notifications`]).
pub(crate) async fn release_waiting(tx: &mut Tx, namespace: &str, now: Timestamp) -> Result<bool, Error> {
    let catalog = std::sync::Arc::clone(&tx.catalog);
    let Some(space) = catalog.namespace(namespace) else { return Ok(false) };
    let names: Vec<&String> = space.names.keys().collect();
    let before = catalog.deliveries_before(namespace);
    let name: Option<String> = query_scalar(
        "SELECT j.value FROM EACH($2 AS j: TEXT) WHERE EXISTS (SELECT 1 FROM deliveries d WHERE d.namespace = $1 \
         AND d.channel = j.value AND d.d > $3 AND d.state = 0 AND d.c IS NULL) LIMIT 1",
    )
    .bind(namespace)
    .bind(set(&names)?)
    .bind(before)
    .fetch_optional(&mut tx.conn)
    .await?;
    let channel = name.and_then(|name| catalog.channel_named(namespace, &name));
    let Some((channel, plan)) = channel.and_then(|channel| Some((channel, channel.channel()?))) else {
        return Ok(false);
    };
    // A waiting delivery counts as one, but may become many.
    let pending: i64 = query_scalar(
        "SELECT CAST(coalesce(sum(pending + retrying), 0) AS BIGINT) FROM channels WHERE namespace = $1",
    )
    .bind(namespace)
    .fetch_one(&mut tx.conn)
    .await?;
    if pending >= tx.options.max_pending {
        return Ok(false);
    }
    let each = plan.target.recipients().len().max(1) as i64;
    let waiting: Vec<(i64, i64, i64, String)> = query(
        "SELECT d.d, d.n, n.created, n.body FROM deliveries d JOIN notifications n ON n.n = d.n \
         WHERE d.namespace = $1 AND d.channel = $2 AND d.d > $4 AND d.state = 0 AND d.c IS NULL ORDER BY d.d \
         LIMIT $3",
    )
    .bind(namespace)
    .bind(&channel.plan.name)
    .bind((RELEASED_DELIVERIES / each).clamp(1, RELEASED))
    .bind(before)
    .fetch_all(&mut tx.conn)
    .await?;
    let Some(oldest) = waiting.first().map(|(_, _, created, _)| *created) else { return Ok(false) };
    let mut rows = NewDeliveries::default();
    for (_, n, created, body) in &waiting {
        let said: Notification = serde_json::from_str(body)?;
        rows.add(&mut tx.ids.delivery, *n, &said, channel, (*created, ms(now)));
    }
    let replaced: Vec<i64> = waiting.iter().map(|(d, ..)| *d).collect();
    query("DELETE FROM deliveries WHERE d IN (SELECT value FROM EACH($1 AS j: BIGINT))")
        .bind(set(&replaced)?)
        .execute(&mut tx.conn)
        .await?;
    let deliveries = rows.insert(tx).await?;
    tracing::info!(
        namespace,
        channel = channel.plan.name,
        deliveries,
        oldest = %time(oldest),
        "deliveries that waited for this channel are due"
    );
    tx.wake(Signal::Work(namespace.to_owned(), Pool::Send));
    Ok(true)
}

/// Channels, as (namespace, name), for which deliveries still wait to be released. New deliveries to them wait behind
/// those.
async fn channels_with_waiting(
    tx: &mut Tx,
    drafts: &[NotificationDraft],
) -> Result<HashSet<(String, String)>, Error> {
    let mut named = HashSet::new();
    for draft in drafts {
        if let ToChannels::Names(names) = &draft.to {
            let namespace = draft.notification.namespace.as_str();
            let before = tx.catalog.deliveries_before(namespace);
            named.extend(names.iter().map(|name| (namespace, name.as_str(), before)));
        }
    }
    let rows: Vec<(String, String)> = query(
        "SELECT j.namespace, j.channel FROM ROWS($1 AS j: namespace TEXT, channel TEXT, after BIGINT) \
         WHERE EXISTS (SELECT 1 FROM deliveries d WHERE d.namespace = j.namespace AND d.channel = j.channel \
         AND d.d > j.after AND d.state = 0 AND d.c IS NULL)",
    )
    .bind(set(&named)?)
    .fetch_all(&mut tx.conn)
    .await?;
    Ok(rows.into_iter().collect())
}

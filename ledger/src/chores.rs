//! Does in batches what concerns more rows than one command should touch: sending dead deliveries again, and removing
//! what a deleted object leaves behind. Each batch is a command of its own. (The decider's steps remove a rule's
//! groups and release deliveries that waited for a channel.)
//!
//! Invariants: a chore is stored in the transaction that causes it, and its progress in the transaction of each
//! batch, so it goes on after a crash. A batch touches at most some hundred rows of one namespace, and namespaces
//! take turns. A row of `channels` stays until nothing is pending for it.

use std::collections::{HashMap, HashSet};

use domain::DeliveryState;
use jiff::Timestamp;
use protocol::messages::{Pool, RequestStatus};
use uuid::Uuid;

use crate::catalog::Object;
use crate::deliveries::{
    ChannelDelta, DeliveryChange, StoredDelivery, add_to_channels, apply_changes, update_heads,
};
use crate::engine::{query, query_scalar};
use crate::expiry::remove_notifications;
use crate::outcomes::{CAUSE_DELETED, CHANNEL_DELETED, end_without_attempt};
use crate::sql::{ms, set, uuid};
use crate::writer::{Command, Tx};
use crate::{Error, Ledger, Signal, queries};

/// How many deliveries, notifications or dead letters one batch takes.
pub(crate) const BATCH: i64 = 250;

/// The kinds of chores, as stored. The chores of a namespace are done in this order.
pub(crate) mod kind {
    /// A channel is deleted: ends what is pending for it. `row`: its row.
    pub(crate) const CHANNEL: &str = "channel";
    /// No rule reads a topic any more: removes its dead letters. `name`: the topic; `upto`: the last dead letter
    /// looked at.
    pub(crate) const LETTERS: &str = "letters";
    /// Another namespace has taken the name: removes what was recorded for earlier ones.
    pub(crate) const NAMESPACE: &str = "namespace";
    /// An object is deleted: ends the pending deliveries that it caused. `name`: its uid; `upto`: the last
    /// notification looked at.
    pub(crate) const OBJECT: &str = "object";
    /// Sends a channel's dead deliveries again. `name`: its uid; `row`: its row; `upto`: the last place that is
    /// included.
    pub(crate) const RESEND: &str = "resend";
}

/// Stores a chore. If it exists already, it starts anew.
pub(crate) async fn add_chore(
    tx: &mut Tx,
    namespace: &str,
    kind: &str,
    (name, row): (&str, i64),
    upto: i64,
) -> Result<(), Error> {
    query(
        "INSERT INTO chores (namespace, kind, name, row, upto) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (namespace, kind, name, row) DO UPDATE SET upto = excluded.upto",
    )
    .bind(namespace)
    .bind(kind)
    .bind(name)
    .bind(row)
    .bind(upto)
    .execute(&mut tx.conn)
    .await?;
    Ok(())
}

/// Removes the uid from a deleted channel's row. The row stays until nothing is pending for it.
pub(crate) async fn release_channel_row(tx: &mut Tx, channel: &Object) -> Result<(), Error> {
    query("UPDATE channels SET uid = 'gone/' || c WHERE c = $1")
        .bind(channel.row)
        .execute(&mut tx.conn)
        .await?;
    add_chore(tx, &channel.plan.namespace, kind::CHANNEL, ("", channel.row), 0).await
}

#[derive(Debug, sqlx::FromRow)]
struct Chore {
    namespace: String,
    kind: String,
    name: String,
    row: i64,
    upto: i64,
}

struct RunChore {
    after: String,
    now: Timestamp,
}

impl Command for RunChore {
    type Answer = Option<String>;

    async fn run(&mut self, tx: &mut Tx) -> Result<Option<String>, Error> {
        // Start after the namespace that had its turn last, then from the beginning.
        for after in [self.after.as_str(), ""] {
            let chore: Option<Chore> = query(
                "SELECT namespace, kind, name, row, upto FROM chores WHERE namespace > $1 \
                 ORDER BY namespace, kind, name, row LIMIT 1",
            )
            .bind(after)
            .fetch_optional(&mut tx.conn)
            .await?;
            let Some(chore) = chore else { continue };
            let upto = match chore.kind.as_str() {
                kind::CHANNEL => end_channel(tx, &chore, self.now).await?,
                kind::LETTERS => remove_dead_letters(tx, &chore).await?,
                kind::NAMESPACE => end_namespace(tx, &chore, self.now).await?,
                kind::OBJECT => end_object(tx, &chore, self.now).await?,
                kind::RESEND => resend_channel(tx, &chore, self.now).await?,
                other => return Err(Error::Corrupt(format!("{other:?} is stored as a chore"))),
            };
            chore.store_progress(tx, upto).await?;
            return Ok(Some(chore.namespace));
        }
        Ok(None)
    }
}

impl Chore {
    /// Stores how far the chore is; `None` deletes it, since it is done.
    async fn store_progress(&self, tx: &mut Tx, upto: Option<i64>) -> Result<(), Error> {
        let sql = match upto {
            Some(upto) if upto == self.upto => return Ok(()),
            Some(_) => {
                "UPDATE chores SET upto = $5 WHERE namespace = $1 AND kind = $2 AND name = $3 AND row = $4"
            }
            None => {
                "DELETE FROM chores WHERE namespace = $1 AND kind = $2 AND name = $3 AND row = $4 AND $5 IS NULL"
            }
        };
        query(sql)
            .bind(&self.namespace)
            .bind(&self.kind)
            .bind(&self.name)
            .bind(self.row)
            .bind(upto)
            .execute(&mut tx.conn)
            .await?;
        Ok(())
    }

    /// The chore's channel, if it still exists.
    fn channel(&self, tx: &Tx) -> Option<std::sync::Arc<Object>> {
        let uid = Uuid::try_parse(&self.name).ok()?;
        let object = tx.catalog.in_namespace(uid, &self.namespace)?;
        object.channel().is_some().then(|| std::sync::Arc::clone(object))
    }
}

/// Ends a batch of the deliveries that are pending for a deleted channel. Deletes the channel's row at the end.
async fn end_channel(tx: &mut Tx, chore: &Chore, now: Timestamp) -> Result<Option<i64>, Error> {
    let pending: Vec<StoredDelivery> = query(
        "SELECT d, n, c, lane, state, made, expires FROM deliveries WHERE c = $1 AND state = 0 ORDER BY d \
         LIMIT $2",
    )
    .bind(chore.row)
    .bind(BATCH)
    .fetch_all(&mut tx.conn)
    .await?;
    suppress(tx, &pending, CHANNEL_DELETED, now).await?;
    if pending.len() as i64 >= BATCH {
        return Ok(Some(chore.upto));
    }
    query("DELETE FROM channels WHERE c = $1").bind(chore.row).execute(&mut tx.conn).await?;
    Ok(None)
}

async fn suppress(tx: &mut Tx, pending: &[StoredDelivery], why: &str, now: Timestamp) -> Result<(), Error> {
    if pending.is_empty() {
        return Ok(());
    }
    let changes: Vec<DeliveryChange> = pending
        .iter()
        .map(|delivery| end_without_attempt(delivery, DeliveryState::Suppressed, why))
        .collect();
    apply_changes(tx, &changes, HashMap::new(), now).await
}

/// Ends a batch of the pending deliveries that a deleted object caused.
async fn end_object(tx: &mut Tx, chore: &Chore, now: Timestamp) -> Result<Option<i64>, Error> {
    let looked: Vec<(i64, bool)> = query(
        "SELECT n, settled IS NULL FROM notifications WHERE object = $1 AND n > $2 ORDER BY n LIMIT $3",
    )
    .bind(&chore.name)
    .bind(chore.upto)
    .bind(BATCH)
    .fetch_all(&mut tx.conn)
    .await?;
    let Some((last, _)) = looked.last() else { return Ok(None) };
    let open: Vec<i64> = looked.iter().filter(|(_, open)| *open).map(|(n, _)| *n).collect();
    let pending: Vec<StoredDelivery> = query(
        "SELECT d.d, d.n, d.c, d.lane, d.state, d.made, d.expires FROM EACH($1 AS j: BIGINT) \
         CROSS JOIN deliveries d ON d.n = j.value AND d.state = 0 AND d.namespace = $2 LIMIT $3",
    )
    .bind(set(&open)?)
    .bind(&chore.namespace)
    .bind(2 * BATCH)
    .fetch_all(&mut tx.conn)
    .await?;
    suppress(tx, &pending, CAUSE_DELETED, now).await?;
    Ok(Some(if pending.len() as i64 >= 2 * BATCH { chore.upto } else { *last }))
}

/// Removes a batch of what was recorded for earlier namespaces of this name.
async fn end_namespace(tx: &mut Tx, chore: &Chore, now: Timestamp) -> Result<Option<i64>, Error> {
    let Some(origin) = tx.catalog.known_namespaces.get(&chore.namespace).copied() else { return Ok(None) };
    let rows: Vec<i64> =
        query_scalar("SELECT n FROM notifications WHERE namespace = $1 AND n <= $2 ORDER BY n LIMIT $3")
            .bind(&chore.namespace)
            .bind(origin.n)
            .bind(BATCH)
            .fetch_all(&mut tx.conn)
            .await?;
    if !rows.is_empty() {
        let pending: Vec<StoredDelivery> = query(
            "SELECT d.d, d.n, d.c, d.lane, d.state, d.made, d.expires FROM EACH($1 AS j: BIGINT) \
             CROSS JOIN deliveries d ON d.n = j.value AND d.state = 0 LIMIT $2",
        )
        .bind(set(&rows)?)
        .bind(2 * BATCH)
        .fetch_all(&mut tx.conn)
        .await?;
        suppress(tx, &pending, CAUSE_DELETED, now).await?;
        if (pending.len() as i64) < 2 * BATCH {
            remove_notifications(tx, &rows).await?;
        }
        return Ok(Some(chore.upto));
    }
    let gone = query(
        "DELETE FROM dead_letters WHERE l IN (SELECT l FROM dead_letters WHERE namespace = $1 AND l <= $2 \
         ORDER BY l LIMIT $3)",
    )
    .bind(&chore.namespace)
    .bind(origin.l)
    .bind(BATCH)
    .execute(&mut tx.conn)
    .await?;
    Ok((gone as i64 >= BATCH).then_some(chore.upto))
}

/// Removes a batch of a topic's dead letters, unless a rule reads the topic again.
async fn remove_dead_letters(tx: &mut Tx, chore: &Chore) -> Result<Option<i64>, Error> {
    let read: bool = query_scalar(
        "SELECT EXISTS (SELECT 1 FROM sources s JOIN topics t ON t.s = s.s WHERE s.namespace = $1 \
         AND t.name = $2)",
    )
    .bind(&chore.namespace)
    .bind(&chore.name)
    .fetch_one(&mut tx.conn)
    .await?;
    if read {
        return Ok(None);
    }
    let looked: Vec<(i64, String)> =
        query("SELECT l, topic FROM dead_letters WHERE namespace = $1 AND l > $2 ORDER BY l LIMIT $3")
            .bind(&chore.namespace)
            .bind(chore.upto)
            .bind(BATCH)
            .fetch_all(&mut tx.conn)
            .await?;
    let Some((last, _)) = looked.last() else { return Ok(None) };
    let gone: Vec<i64> = looked.iter().filter(|(_, topic)| *topic == chore.name).map(|(l, _)| *l).collect();
    query("DELETE FROM dead_letters WHERE l IN (SELECT value FROM EACH($1 AS j: BIGINT))")
        .bind(set(&gone)?)
        .execute(&mut tx.conn)
        .await?;
    Ok(Some(*last))
}

/// Sends a batch of a channel's dead deliveries again.
async fn resend_channel(tx: &mut Tx, chore: &Chore, now: Timestamp) -> Result<Option<i64>, Error> {
    let Some(channel) = chore.channel(tx) else { return Ok(None) };
    let more = resend_batch(tx, &channel, chore.upto, now).await? >= BATCH;
    Ok(more.then_some(chore.upto))
}

/// Sends a batch of a channel's dead deliveries again, oldest first, up to the place `upto`. Returns how many.
pub(crate) async fn resend_batch(
    tx: &mut Tx,
    channel: &Object,
    upto: i64,
    now: Timestamp,
) -> Result<i64, Error> {
    let dead: Vec<StoredDelivery> = query(
        "SELECT d, n, c, lane, state, made, expires FROM deliveries WHERE c = $1 AND state = 2 \
         AND namespace = $2 AND place <= $3 ORDER BY place LIMIT $4",
    )
    .bind(channel.row)
    .bind(&channel.plan.namespace)
    .bind(upto)
    .bind(BATCH)
    .fetch_all(&mut tx.conn)
    .await?;
    send_again(tx, channel, &dead, now).await?;
    Ok(dead.len() as i64)
}

/// Starts dead deliveries again, at the ends of their lanes. The numbers of their attempts go on.
pub(crate) async fn send_again(
    tx: &mut Tx,
    channel: &Object,
    dead: &[StoredDelivery],
    now: Timestamp,
) -> Result<(), Error> {
    if dead.is_empty() {
        return Ok(());
    }
    let lives = channel.channel().map_or(0, |plan| plan.delivery.expires_after.0);
    let rows: Vec<i64> = dead.iter().map(|delivery| delivery.d).collect();
    query(
        "UPDATE deliveries SET state = 0, reason = '', made = 0, due = $2, expires = $3, ended = NULL, head = 0, \
         place = $4 + j.ord FROM EACH($1 AS j: BIGINT) WHERE deliveries.d = j.value",
    )
    .bind(set(&rows)?)
    .bind(ms(now))
    .bind(ms(now).saturating_add(lives))
    .bind(tx.ids.place + 1)
    .execute(&mut tx.conn)
    .await?;
    tx.ids.place += rows.len() as i64;
    let notifications: Vec<i64> = dead.iter().map(|delivery| delivery.n).collect();
    let objects: Vec<String> = query_scalar(
        "UPDATE notifications SET settled = NULL WHERE n IN (SELECT value FROM EACH($1 AS j: BIGINT)) \
         RETURNING object",
    )
    .bind(set(&notifications)?)
    .fetch_all(&mut tx.conn)
    .await?;
    for object in objects {
        tx.mark(uuid(&object)?, true);
    }
    let lanes: HashSet<(i64, i64)> = dead.iter().map(|delivery| (channel.row, delivery.lane)).collect();
    update_heads(tx, &lanes).await?;
    let count = dead.len() as i64;
    let difference = ChannelDelta { pending: count, dead: -count, ..ChannelDelta::default() };
    add_to_channels(tx, HashMap::from([(channel.row, difference)])).await?;
    tx.wake(Signal::Work(channel.plan.namespace.clone(), Pool::Send));
    Ok(())
}

/// The answer to a request to send dead deliveries again.
pub(crate) fn resend_status(status: impl Fn(i64, String) -> RequestStatus, count: i64) -> RequestStatus {
    let word = if count == 1 { "dead delivery is" } else { "dead deliveries are" };
    status(count, format!("{count} {word} sent again"))
}

impl Ledger {
    /// Does one batch of the chores that commands left. Returns the namespace that had its turn, to be passed as
    /// `after` next time; `None` if nothing is left.
    pub async fn run_chore(&self, after: &str, now: Timestamp) -> Result<Option<String>, Error> {
        // Reading first saves a transaction.
        let mut reader = self.readers.acquire().await?;
        let left: Option<String> = query_scalar(queries::CHORE).bind("").fetch_optional(&mut reader).await?;
        drop(reader);
        if left.is_none() {
            return Ok(None);
        }
        self.writer.execute(RunChore { after: after.to_owned(), now }).await
    }
}

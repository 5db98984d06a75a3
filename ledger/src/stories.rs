//! Answers for people: was somebody told, when, and if not, why not?
//!
//! Invariants: one story is in memory at a time and is bounded; it says how much is left out. A list is a page,
//! bounded by rows read and by bytes, with a cursor for the next page. A page always makes progress.

use std::collections::HashMap;

use domain::{AttemptRecord, DeliveryRecord, DeliveryState, ObjectKind};
use protocol::messages::{NotificationList, NotificationQuery, NotificationStory};
use uuid::Uuid;

use crate::catalog::Catalog;
use crate::engine::{Conn, query, query_scalar};
use crate::queries::{self, PAGE_BYTES};
use crate::sql::{ms, set, time, uuid};
use crate::{Error, Ledger};

/// How many deliveries a story has.
const DELIVERIES: usize = 500;
/// Up to how many deliveries of a story are counted.
const COUNT_LIMIT: i64 = 100_000;
/// How many attempts of a delivery a story has, if it has few deliveries.
const ATTEMPTS: usize = 50;
/// How many attempts a story has in all.
const ALL_ATTEMPTS: usize = 2_000;
/// The reason of a pending delivery whose cause was deleted.
const CAUSE_IS_DELETED: &str =
    "what caused it was deleted: it is not sent, and ends as Suppressed (Deleted) within minutes";
/// The reason of a pending delivery whose channel was deleted.
const CHANNEL_IS_DELETED: &str =
    "its channel was deleted: it is not sent, and ends as Suppressed (Deleted) within minutes";
/// How many notifications one page reads.
const ROWS_PER_PAGE: i64 = 500;

#[derive(sqlx::FromRow)]
struct DeliveryRow {
    d: i64,
    id: Option<String>,
    c: Option<i64>,
    channel: String,
    recipient: String,
    head: bool,
    #[sqlx(try_from = "i64")]
    state: DeliveryState,
    reason: String,
    numbered: i64,
    due: i64,
    lease: Option<i64>,
    expires: i64,
    paused: Option<i64>,
    /// The rule, schedule or tested channel.
    object: String,
    /// The object is deleted, and what it caused is being ended.
    leaving: bool,
}

#[derive(sqlx::FromRow)]
struct AttemptRow {
    d: i64,
    number: i32,
    started: i64,
    ended: Option<i64>,
    outcome: Option<String>,
    reason: String,
}

impl DeliveryRow {
    fn record(&self, catalog: &Catalog, attempts: Vec<AttemptRecord>) -> Result<DeliveryRecord, Error> {
        let state = self.state;
        let waits = state == DeliveryState::Pending && self.lease.is_none();
        let paused = self.paused.filter(|until| *until > self.due);
        let leaves = if waits { self.leaves(catalog)? } else { None };
        // Show no time for an attempt that won't happen.
        let goes_on = self.head && leaves.is_none() && !self.is_suspended(catalog);
        Ok(DeliveryRecord {
            id: self.id.as_deref().map(uuid).transpose()?,
            channel: self.channel.clone(),
            recipient: self.recipient.clone(),
            state,
            reason: if let Some(why) = leaves {
                why.to_owned()
            } else if state == DeliveryState::Pending {
                self.waits_for(catalog)
            } else {
                self.reason.clone()
            },
            next_attempt: waits.then(|| time(paused.unwrap_or(self.due))).filter(|_| goes_on),
            expires: time(self.expires),
            attempts_left_out: (self.numbered - attempts.len() as i64).max(0),
            attempts,
        })
    }

    /// Why it is not sent any more and soon ended: its cause or its channel was deleted.
    fn leaves(&self, catalog: &Catalog) -> Result<Option<&'static str>, Error> {
        let object = catalog.get(uuid(&self.object)?);
        if self.leaving || object.is_some_and(|object| object.absent.is_some()) {
            return Ok(Some(CAUSE_IS_DELETED));
        }
        let is_there = |c| catalog.channel_at(c).is_some_and(|channel| channel.absent.is_none());
        Ok(self.c.filter(|c| !is_there(*c)).map(|_| CHANNEL_IS_DELETED))
    }

    fn is_suspended(&self, catalog: &Catalog) -> bool {
        self.c.and_then(|c| catalog.channel_at(c)).is_some_and(|channel| channel.plan.suspended)
    }

    /// What a pending delivery waits for.
    fn waits_for(&self, catalog: &Catalog) -> String {
        if self.lease.is_some() {
            "under way".to_owned()
        } else if self.is_suspended(catalog) {
            "its channel is suspended".to_owned()
        } else if self.c.is_some() && !self.head {
            "waits for an earlier message with the same ordering key".to_owned()
        } else {
            self.reason.clone()
        }
    }
}

/// About how many bytes a story takes in an answer.
fn estimated_bytes(story: &NotificationStory) -> i64 {
    let delivery = |delivery: &DeliveryRecord| {
        let attempts = delivery.attempts.iter().map(|attempt| 160 + attempt.reason.len());
        let texts = delivery.channel.len() + delivery.recipient.len() + delivery.reason.len();
        300 + texts + attempts.sum::<usize>()
    };
    let said = &story.notification;
    let labels = said.group.iter().map(|(name, value)| name.len() + value.len() + 8);
    let own = 600 + said.title.len() + said.summary.len() + labels.sum::<usize>();
    (own + story.deliveries.iter().map(delivery).sum::<usize>()) as i64
}

impl Ledger {
    /// Finds one notification by its id, or by the id of one of its deliveries.
    pub async fn notification(&self, namespace: &str, id: Uuid) -> Result<Option<NotificationStory>, Error> {
        let mut reader = self.people_readers.acquire().await?;
        let id = id.to_string();
        for sql in [queries::NOTIFICATION, queries::NOTIFICATION_OF] {
            let n: Option<i64> =
                query_scalar(sql).bind(&id).bind(namespace).fetch_optional(&mut reader).await?;
            if let Some(n) = n.filter(|n| *n > last_before_namespace(&self.shared.catalog(), namespace)) {
                return load_story(&mut reader, n, &self.shared.catalog()).await;
            }
        }
        Ok(None)
    }

    /// Lists notifications, newest first: those that match among 500, as many as fit into an answer of about 1 MiB.
    /// `next` is the cursor of the next page. [`Error::NotFound`] if the notification at the cursor is gone, or if
    /// the query names something that doesn't exist.
    pub async fn notifications(
        &self,
        namespace: &str,
        asked: NotificationQuery,
    ) -> Result<NotificationList, Error> {
        let catalog = self.shared.catalog();
        let wanted = NotificationFilter::new(&asked, namespace, &catalog)?;
        let mut reader = self.people_readers.acquire().await?;
        let before = match asked.after {
            None => i64::MAX,
            Some(id) => query_scalar(queries::NOTIFICATION)
                .bind(id.to_string())
                .bind(namespace)
                .fetch_optional(&mut reader)
                .await?
                .ok_or_else(|| Error::NotFound(format!("notification {id} to go on from (begin anew)")))?,
        };
        let mut looked = load_page(&mut reader, namespace, &wanted, before).await?;
        let full = looked.len() as i64 >= ROWS_PER_PAGE;
        let of_before = last_before_namespace(&catalog, namespace);
        // Rows at or before this one belong to an earlier namespace of this name.
        looked.retain(|(n, _)| *n > of_before);
        let chosen = matching_rows(&mut reader, namespace, &looked, &wanted).await?;
        let limit = asked.limit.unwrap_or(100).clamp(1, 500) as usize;
        let mut list = NotificationList { items: Vec::new(), next: None };
        let mut bytes = 0;
        for n in &chosen {
            // A notification that was removed meanwhile is skipped.
            if let Some(story) = load_story(&mut reader, *n, &catalog).await? {
                bytes += estimated_bytes(&story);
                list.items.push(story);
            }
            if list.items.len() >= limit || bytes >= PAGE_BYTES {
                list.next = list.items.last().map(|story| story.notification.id);
                return Ok(list);
            }
        }
        // Everything that was read is listed. There is more if the page was full.
        if let (Some((end, _)), true) = (looked.last(), full) {
            let end: Option<(String, i64)> =
                query(queries::NOTIFICATION_ID).bind(*end).fetch_optional(&mut reader).await?;
            // The next page would only have older ones.
            let end = end.filter(|(_, created)| wanted.since.is_none_or(|since| *created >= since));
            list.next = end.map(|(id, _)| uuid(&id)).transpose()?;
        }
        Ok(list)
    }
}

/// The row of the last notification that belongs to an earlier namespace of this name; 0 for none.
fn last_before_namespace(catalog: &Catalog, namespace: &str) -> i64 {
    catalog.known_namespaces.get(namespace).map_or(0, |origin| origin.n)
}

/// What a query asks for, by rows and uids.
#[derive(Default)]
struct NotificationFilter {
    /// The object that caused the notification.
    object: Option<Uuid>,
    /// The row of a delivery's channel.
    channel: Option<i64>,
    since: Option<i64>,
    state: Option<i64>,
    /// Nothing can match, or the object belongs to another namespace.
    nothing: bool,
}

impl NotificationFilter {
    fn new(query: &NotificationQuery, namespace: &str, catalog: &Catalog) -> Result<Self, Error> {
        let mut wanted =
            Self { since: query.since.map(ms), state: query.state.map(i64::from), ..Self::default() };
        let named = |kind: ObjectKind, name: &str| {
            catalog.named(namespace, kind, name).ok_or_else(|| {
                let kind = kind.name();
                Error::NotFound(format!("{kind} {name:?} of namespace {namespace}"))
            })
        };
        for (kind, name) in [(ObjectKind::AlertRule, &query.rule), (ObjectKind::Schedule, &query.schedule)] {
            if let Some(name) = name {
                wanted.caused_by(named(kind, name)?.plan.uid);
            }
        }
        if let Some(name) = &query.channel {
            wanted.channel = Some(named(ObjectKind::NotificationChannel, name)?.row);
        }
        if let Some(uid) = query.object {
            let known = catalog.get(uid);
            wanted.nothing |= known.is_some_and(|object| object.plan.namespace != namespace);
            // A channel's notifications are those sent to it, whatever caused them.
            match known.filter(|object| object.channel().is_some()) {
                Some(channel) => {
                    wanted.nothing |= wanted.channel.is_some_and(|other| other != channel.row);
                    wanted.channel = Some(channel.row);
                }
                None => wanted.caused_by(uid),
            }
        }
        Ok(wanted)
    }

    /// A notification has one cause, so two different ones match nothing.
    fn caused_by(&mut self, uid: Uuid) {
        self.nothing |= self.object.is_some_and(|other| other != uid);
        self.object = Some(uid);
    }
}

/// Loads the rows to look at next, with their namespaces.
async fn load_page(
    reader: &mut Conn,
    namespace: &str,
    wanted: &NotificationFilter,
    before: i64,
) -> Result<Vec<(i64, String)>, Error> {
    if wanted.nothing {
        return Ok(Vec::new());
    }
    if let Some(uid) = wanted.object {
        let sql = query(queries::PAGE_OF_OBJECT).bind(uid.to_string()).bind(before).bind(ROWS_PER_PAGE);
        return sql.fetch_all(reader).await;
    }
    let rows: Vec<i64> = query_scalar(queries::PAGE_OF_NAMESPACE)
        .bind(namespace)
        .bind(before)
        .bind(ROWS_PER_PAGE)
        .fetch_all(reader)
        .await?;
    Ok(rows.into_iter().map(|n| (n, namespace.to_owned())).collect())
}

/// The rows that match the filter, newest first.
async fn matching_rows(
    reader: &mut Conn,
    namespace: &str,
    looked: &[(i64, String)],
    wanted: &NotificationFilter,
) -> Result<Vec<i64>, Error> {
    let rows: Vec<i64> = looked.iter().filter(|(_, of)| of == namespace).map(|(n, _)| *n).collect();
    let NotificationFilter { object, channel, since, state, .. } = wanted;
    if rows.is_empty() || (object.is_none() && channel.is_none() && since.is_none() && state.is_none()) {
        return Ok(rows);
    }
    let mut chosen: Vec<i64> = query_scalar(queries::MATCHING_ROWS)
        .bind(set(&rows)?)
        .bind(object.map(|uid| uid.to_string()))
        .bind(*since)
        .bind(*channel)
        .bind(*state)
        .fetch_all(reader)
        .await?;
    chosen.sort_unstable_by_key(|n| std::cmp::Reverse(*n));
    Ok(chosen)
}

/// Loads a notification with its deliveries and attempts, within bounds; `None` if it doesn't exist.
async fn load_story(
    reader: &mut Conn,
    n: i64,
    catalog: &Catalog,
) -> Result<Option<NotificationStory>, Error> {
    let body: Option<String> =
        query_scalar(queries::NOTIFICATION_BODY).bind(n).fetch_optional(reader).await?;
    let Some(body) = body else { return Ok(None) };
    let deliveries: Vec<DeliveryRow> =
        query(queries::DELIVERIES).bind(n).bind(DELIVERIES as i64).fetch_all(reader).await?;
    let deliveries_left_out = if deliveries.len() < DELIVERIES {
        0
    } else {
        let all: i64 =
            query_scalar(queries::DELIVERY_COUNT).bind(n).bind(COUNT_LIMIT).fetch_one(reader).await?;
        (all - deliveries.len() as i64).max(0)
    };
    let each = (ALL_ATTEMPTS / deliveries.len().max(1)).clamp(1, ATTEMPTS);
    let rows: Vec<AttemptRow> =
        query(queries::ATTEMPTS).bind(n).bind(DELIVERIES as i64).bind(each as i64).fetch_all(reader).await?;
    let mut attempts: HashMap<i64, Vec<AttemptRecord>> = HashMap::new();
    for row in rows {
        attempts.entry(row.d).or_default().push(AttemptRecord {
            number: row.number,
            started: time(row.started),
            ended: row.ended.map(time),
            outcome: row.outcome,
            reason: row.reason,
        });
    }
    let mut records = Vec::with_capacity(deliveries.len());
    for delivery in deliveries {
        let mut attempts = attempts.remove(&delivery.d).unwrap_or_default();
        attempts.sort_unstable_by_key(|attempt| attempt.number);
        records.push(delivery.record(catalog, attempts)?);
    }
    let notification = serde_json::from_str(&body)?;
    Ok(Some(NotificationStory { notification, deliveries: records, deliveries_left_out }))
}

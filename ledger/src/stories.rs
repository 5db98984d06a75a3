//! Was the person told, when, and if not, why not?

use std::collections::HashMap;

use domain::{AttemptRecord, DeliveryRecord, DeliveryState};
use protocol::messages::{
    DeadLetterList, DeadLetterQuery, HeldLetter, NotificationList, NotificationQuery, NotificationStory,
};
use sqlx::query_as;
use uuid::Uuid;

use crate::catalog::Catalog;
use crate::deliveries::{code, state};
use crate::sql::{set, time, uuid};
use crate::{Error, Ledger};

#[derive(sqlx::FromRow)]
struct Delivery {
    d: i64,
    id: Option<String>,
    n: i64,
    c: Option<i64>,
    channel: String,
    recipient: String,
    head: bool,
    state: i64,
    reason: String,
    due: i64,
    lease: Option<i64>,
    expires: i64,
    paused: Option<i64>,
}

#[derive(sqlx::FromRow)]
struct Attempt {
    d: i64,
    number: i32,
    started: i64,
    ended: Option<i64>,
    outcome: Option<String>,
    reason: String,
}

impl Delivery {
    fn record(&self, catalog: &Catalog, attempts: Vec<AttemptRecord>) -> Result<DeliveryRecord, Error> {
        let state = state(self.state);
        let waits = state == DeliveryState::Pending && self.lease.is_none();
        let paused = self.paused.filter(|until| *until > self.due);
        Ok(DeliveryRecord {
            id: self.id.as_deref().map(uuid).transpose()?,
            channel: self.channel.clone(),
            recipient: self.recipient.clone(),
            state,
            reason: if state == DeliveryState::Pending {
                self.waits_for(catalog)
            } else {
                self.reason.clone()
            },
            next_attempt: waits.then(|| time(paused.unwrap_or(self.due))).filter(|_| self.head),
            expires: time(self.expires),
            attempts,
        })
    }

    /// What a pending delivery waits for.
    fn waits_for(&self, catalog: &Catalog) -> String {
        let suspended =
            self.c.and_then(|c| catalog.channel_at(c)).is_some_and(|channel| !channel.is_active());
        if self.lease.is_some() {
            "under way".to_owned()
        } else if suspended {
            "its channel is suspended".to_owned()
        } else if self.c.is_some() && !self.head {
            "waits for an earlier message with the same ordering key".to_owned()
        } else {
            self.reason.clone()
        }
    }
}

impl Ledger {
    /// One notification by its id or a delivery's.
    pub async fn notification(&self, namespace: &str, id: Uuid) -> Result<Option<NotificationStory>, Error> {
        let found: Option<(i64, String)> = query_as(
            "SELECT n, body FROM notifications WHERE namespace = ?1 AND (id = ?2 OR n = (SELECT n FROM deliveries \
             WHERE id = ?2))",
        )
        .bind(namespace)
        .bind(id.to_string())
        .fetch_optional(&self.readers)
        .await?;
        Ok(self.stories(found.into_iter().collect()).await?.pop())
    }

    /// Notifications, newest first.
    pub async fn notifications(
        &self,
        namespace: &str,
        query: NotificationQuery,
    ) -> Result<NotificationList, Error> {
        let found: Vec<(i64, String)> = query_as(
            "SELECT n.n, n.body FROM notifications n WHERE n.namespace = ?1 AND (?2 IS NULL OR n.object = ?2 \
             OR EXISTS (SELECT 1 FROM deliveries d JOIN channels c ON c.c = d.c WHERE d.n = n.n AND c.uid = ?2)) \
             AND (?3 IS NULL OR EXISTS (SELECT 1 FROM deliveries d WHERE d.n = n.n AND d.state = ?3)) \
             ORDER BY n.n DESC LIMIT ?4",
        )
        .bind(namespace)
        .bind(query.object.map(|uid| uid.to_string()))
        .bind(query.state.map(code))
        .bind(query.limit.unwrap_or(100).clamp(1, 500))
        .fetch_all(&self.readers)
        .await?;
        Ok(NotificationList { items: self.stories(found).await? })
    }

    /// Records that could not be decoded and that no dead-letter topic took, newest first.
    pub async fn dead_letters(
        &self,
        namespace: &str,
        query: DeadLetterQuery,
    ) -> Result<DeadLetterList, Error> {
        let found: Vec<(String, i32, i64, String)> = query_as(
            "SELECT topic, p, stored, body FROM dead_letters WHERE namespace = ?1 \
             ORDER BY stored DESC, topic, p, position DESC LIMIT ?2",
        )
        .bind(namespace)
        .bind(query.limit.unwrap_or(100).clamp(1, 500))
        .fetch_all(&self.readers)
        .await?;
        let items = found.into_iter().map(|(topic, partition, stored, body)| {
            let letter = serde_json::from_str(&body)?;
            Ok(HeldLetter { topic, partition, stored: time(stored), letter })
        });
        Ok(DeadLetterList { items: items.collect::<Result<_, Error>>()? })
    }

    async fn stories(&self, found: Vec<(i64, String)>) -> Result<Vec<NotificationStory>, Error> {
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let which = set(&found.iter().map(|(n, _)| *n).collect::<Vec<_>>())?;
        let deliveries: Vec<Delivery> = query_as(
            "SELECT d.d, d.id, d.n, d.c, d.channel, d.recipient, d.head, d.state, d.reason, d.due, d.lease, \
             d.expires, c.paused FROM jsonb_each(?1) j JOIN deliveries d ON d.n = j.value \
             LEFT JOIN channels c ON c.c = d.c ORDER BY d.d",
        )
        .bind(&which)
        .fetch_all(&self.readers)
        .await?;
        let rows: Vec<Attempt> = query_as(
            "SELECT a.d, a.number, a.started, a.ended, a.outcome, a.reason FROM jsonb_each(?1) j \
             JOIN deliveries d ON d.n = j.value JOIN attempts a ON a.d = d.d ORDER BY a.d, a.number",
        )
        .bind(&which)
        .fetch_all(&self.readers)
        .await?;
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
        let catalog = self.shared.catalog();
        let mut records: HashMap<i64, Vec<DeliveryRecord>> = HashMap::new();
        for delivery in deliveries {
            let attempts = attempts.remove(&delivery.d).unwrap_or_default();
            records.entry(delivery.n).or_default().push(delivery.record(&catalog, attempts)?);
        }
        found
            .into_iter()
            .map(|(n, body)| {
                let notification = serde_json::from_str(&body)?;
                Ok(NotificationStory { notification, deliveries: records.remove(&n).unwrap_or_default() })
            })
            .collect()
    }
}

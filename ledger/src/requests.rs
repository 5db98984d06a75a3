//! What a channel's annotations ask for: send a test, send dead letters again. Each value is handled once.

use std::collections::{BTreeMap, HashMap, HashSet};

use domain::{Cause, Notification, Severity, ids};
use jiff::Timestamp;
use protocol::messages::{ChannelAction, ChannelRequest, Pool, RequestStatus};
use sqlx::{query, query_as, query_scalar};
use uuid::Uuid;

use crate::catalog::Object;
use crate::deliveries::{Stands, Tally, heads, tally};
use crate::notify::{Draft, To, make};
use crate::sql::{ms, set, time};
use crate::writer::{Command, Tx};
use crate::{Error, Ledger, Topic};

struct Handle {
    request: ChannelRequest,
    now: Timestamp,
}

impl Command for Handle {
    type Answer = RequestStatus;

    async fn run(&mut self, tx: &mut Tx) -> Result<RequestStatus, Error> {
        let uid = self.request.channel;
        let channel = tx.catalog.get(uid).filter(|object| object.channel().is_some()).cloned();
        let channel = channel.ok_or_else(|| Error::NotFound(format!("channel {uid}")))?;
        let action = match self.request.action {
            ChannelAction::SendTest => "send-test",
            ChannelAction::Resend => "resend",
        };
        let stored: Option<String> =
            query_scalar("SELECT answer FROM requests WHERE channel = ?1 AND action = ?2 AND request = ?3")
                .bind(uid.to_string())
                .bind(action)
                .bind(&self.request.request)
                .fetch_optional(&mut tx.conn)
                .await?;
        if let Some(stored) = stored {
            return Ok(serde_json::from_str(&stored)?);
        }
        let status = match self.request.action {
            ChannelAction::SendTest => self.test(tx, &channel).await?,
            ChannelAction::Resend => self.resend(tx, &channel).await?,
        };
        let answer = serde_json::to_string(&status)?;
        query("INSERT INTO requests (channel, action, request, answer) VALUES (?1, ?2, ?3, ?4)")
            .bind(uid.to_string())
            .bind(action)
            .bind(&self.request.request)
            .bind(&answer)
            .execute(&mut tx.conn)
            .await?;
        let keep = match self.request.action {
            ChannelAction::SendTest => "UPDATE channels SET test = ?2, test_id = ?3 WHERE c = ?1",
            ChannelAction::Resend => "UPDATE channels SET resend = ?2 WHERE c = ?1 AND ?3 IS NOT NULL",
        };
        let test = ids::test_notification(uid, &self.request.request).to_string();
        query(keep).bind(channel.row).bind(&answer).bind(test).execute(&mut tx.conn).await?;
        tx.mark(uid, true);
        Ok(status)
    }
}

impl Handle {
    fn status(&self, count: i64, result: String) -> RequestStatus {
        RequestStatus { request: self.request.request.clone(), time: time(ms(self.now)), count, result }
    }

    async fn test(&self, tx: &mut Tx, channel: &Object) -> Result<RequestStatus, Error> {
        let (uid, name) = (channel.plan.uid, &channel.plan.name);
        let notification = Notification {
            id: ids::test_notification(uid, &self.request.request),
            namespace: channel.plan.namespace.clone(),
            cause: Cause::Test { channel: uid, name: name.clone(), request: self.request.request.clone() },
            severity: Severity::Info,
            title: format!("Test of channel {name}"),
            summary: format!(
                "This is a test, asked for by the annotation belfry.dev/send-test on NotificationChannel {}/{name}.",
                channel.plan.namespace
            ),
            group: BTreeMap::new(),
            ordering_key: format!("test/{uid}"),
            created: time(ms(self.now)),
        };
        let recipients = channel.channel().map_or(0, |plan| plan.target.recipients().len()) as i64;
        make(tx, vec![Draft { object: uid, notification, to: To::Channel(uid) }], self.now).await?;
        Ok(self.status(recipients, "Pending".to_owned()))
    }

    async fn resend(&self, tx: &mut Tx, channel: &Object) -> Result<RequestStatus, Error> {
        let which = match self.request.request.split_once('@').map(|(which, _)| which) {
            Some("all") => None,
            Some(id) if Uuid::try_parse(id).is_ok() => Some(id.to_ascii_lowercase()),
            _ => {
                let allowed = "not understood: write all@<anything>, or <delivery id>@<anything>";
                return Ok(self.status(0, allowed.to_owned()));
            }
        };
        let dead: Vec<Stands> = query_as(
            "SELECT d, n, c, lane, state, made, expires FROM deliveries WHERE c = ?1 AND state = 2 \
             AND (?2 IS NULL OR id = ?2) ORDER BY place",
        )
        .bind(channel.row)
        .bind(&which)
        .fetch_all(&mut tx.conn)
        .await?;
        if dead.is_empty() {
            let why = match which {
                None => "there is no dead letter".to_owned(),
                Some(id) => format!("{id} is not a dead letter of this channel"),
            };
            return Ok(self.status(0, why));
        }
        self.revive(tx, channel, &dead).await?;
        let count = dead.len() as i64;
        let word = if count == 1 { "dead letter is" } else { "dead letters are" };
        Ok(self.status(count, format!("{count} {word} sent again")))
    }

    /// Dead deliveries begin again, at the ends of their lanes. Attempts go on being numbered.
    async fn revive(&self, tx: &mut Tx, channel: &Object, dead: &[Stands]) -> Result<(), Error> {
        let lives = channel.channel().map_or(0, |plan| plan.delivery.expires_after.0);
        let rows: Vec<i64> = dead.iter().map(|stands| stands.d).collect();
        query(
            "UPDATE deliveries SET state = 0, reason = '', made = 0, due = ?2, expires = ?3, ended = NULL, \
             head = 0, place = ?4 + j.key FROM jsonb_each(?1) j WHERE d = j.value",
        )
        .bind(set(&rows)?)
        .bind(ms(self.now))
        .bind(ms(self.now).saturating_add(lives))
        .bind(tx.ids.place + 1)
        .execute(&mut tx.conn)
        .await?;
        tx.ids.place += rows.len() as i64;
        let notifications: Vec<i64> = dead.iter().map(|stands| stands.n).collect();
        query("UPDATE notifications SET settled = NULL WHERE n IN (SELECT value FROM jsonb_each(?1))")
            .bind(set(&notifications)?)
            .execute(&mut tx.conn)
            .await?;
        let lanes: HashSet<i64> = dead.iter().map(|stands| stands.lane).collect();
        heads(tx, &lanes).await?;
        let count = dead.len() as i64;
        let difference = Tally { pending: count, dead: -count, ..Tally::default() };
        tally(tx, HashMap::from([(channel.row, difference)])).await?;
        tx.wake(Topic::Work(channel.plan.namespace.clone(), Pool::Send));
        Ok(())
    }
}

impl Ledger {
    /// Does what a channel's annotation asks, once per value; a repeated value answers what was said then.
    pub async fn request(&self, request: ChannelRequest, now: Timestamp) -> Result<RequestStatus, Error> {
        self.door.done(Handle { request, now }).await
    }
}

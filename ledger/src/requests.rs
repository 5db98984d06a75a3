//! Does what a channel's annotations ask for: sends a test, or sends dead deliveries again. Each value is handled
//! once.
//!
//! Clause D14 of docs/semantics.md.

use std::collections::BTreeMap;

use domain::{Cause, Notification, Severity, ids};
use jiff::Timestamp;
use protocol::messages::{ChannelAction, ChannelRequest, RequestStatus};
use uuid::Uuid;

use crate::catalog::Object;
use crate::deliveries::StoredDelivery;
use crate::engine::{query, query_scalar};
use crate::notify::{NotificationDraft, ToChannels, make_notifications};
use crate::sql::{ms, time};
use crate::writer::{Command, Tx};
use crate::{Error, Ledger, chores};

struct HandleRequest {
    request: ChannelRequest,
    now: Timestamp,
}

impl Command for HandleRequest {
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
            query_scalar("SELECT answer FROM requests WHERE channel = $1 AND action = $2 AND request = $3")
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
        query("INSERT INTO requests (channel, action, request, answer, at) VALUES ($1, $2, $3, $4, $5)")
            .bind(uid.to_string())
            .bind(action)
            .bind(&self.request.request)
            .bind(&answer)
            .bind(ms(self.now))
            .execute(&mut tx.conn)
            .await?;
        query(
            "DELETE FROM requests WHERE channel = $1 AND action = $2 AND request NOT IN (SELECT request \
             FROM requests WHERE channel = $1 AND action = $2 ORDER BY at DESC LIMIT $3)",
        )
        .bind(uid.to_string())
        .bind(action)
        .bind(HANDLED_KEPT)
        .execute(&mut tx.conn)
        .await?;
        let keep = match self.request.action {
            ChannelAction::SendTest => "UPDATE channels SET test = $2, test_id = $3 WHERE c = $1",
            ChannelAction::Resend => "UPDATE channels SET resend = $2 WHERE c = $1 AND $3 IS NOT NULL",
        };
        let test = ids::test_notification(uid, &self.request.request).to_string();
        query(keep).bind(channel.row).bind(&answer).bind(test).execute(&mut tx.conn).await?;
        tx.mark(uid, true);
        Ok(status)
    }
}

impl HandleRequest {
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
        make_notifications(
            tx,
            vec![NotificationDraft { object: uid, notification, to: ToChannels::Channel(uid) }],
            self.now,
        )
        .await?;
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
        let again = |count| chores::resend_status(|count, said| self.status(count, said), count);
        if let Some(id) = which {
            let dead: Vec<StoredDelivery> = query(
                "SELECT d, n, c, lane, state, made, expires FROM deliveries WHERE id = $1 AND c = $2 \
                 AND state = 2 AND namespace = $3",
            )
            .bind(&id)
            .bind(channel.row)
            .bind(&channel.plan.namespace)
            .fetch_all(&mut tx.conn)
            .await?;
            if dead.is_empty() {
                return Ok(self.status(0, format!("{id} is not a dead delivery of this channel")));
            }
            chores::send_again(tx, channel, &dead, self.now).await?;
            return Ok(again(1));
        }
        let all: i64 = query_scalar(
            "SELECT count(*) FROM (SELECT 1 FROM deliveries WHERE c = $1 AND state = 2 LIMIT $2) x",
        )
        .bind(channel.row)
        .bind(COUNT_LIMIT)
        .fetch_one(&mut tx.conn)
        .await?;
        if all == 0 {
            return Ok(self.status(0, "there is no dead delivery".to_owned()));
        }
        // Deliveries that become dead from now on have a later place.
        let upto = tx.ids.place;
        let first = chores::resend_batch(tx, channel, upto, self.now).await?;
        if all > first {
            let (namespace, uid) = (&channel.plan.namespace, channel.plan.uid.to_string());
            chores::add_chore(tx, namespace, chores::kind::RESEND, (&uid, channel.row), upto).await?;
        }
        Ok(again(all))
    }
}

/// How many handled values of an annotation are remembered.
const HANDLED_KEPT: i64 = 200;
/// Up to how many dead deliveries are counted.
const COUNT_LIMIT: i64 = 1_000_000;

impl Ledger {
    /// Does what a channel's annotation asks for, once per value. A repeated value gets the first answer.
    pub async fn handle_request(
        &self,
        request: ChannelRequest,
        now: Timestamp,
    ) -> Result<RequestStatus, Error> {
        self.writer.execute(HandleRequest { request, now }).await
    }
}

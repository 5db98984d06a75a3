//! Turns a rule's decisions into notifications, and forgets the state of rules.
//!
//! Invariant: a rule that is changed or deleted gives up its row at once; its groups are removed in bounded steps.
//! Decisions are the alert engine's.
//!
//! Clause E11 of docs/semantics.md.

use std::collections::BTreeMap;

use alerting::alert_data::{ShownRecords, Subject};
use alerting::decide::Decision;
use domain::{Alert, Cause, Digest, Notification, Plan, RulePlan, ids};
use jiff::Timestamp;
use protocol::messages::Matched;
use uuid::Uuid;

use crate::catalog::Object;
use crate::engine::{query, query_scalar};
use crate::notify::{NotificationDraft, ToChannels};
use crate::sql::{ms, set, time};
use crate::writer::Tx;
use crate::{Error, Rendered};

/// A group's labels as stored and compared: JSON with sorted keys.
pub(crate) fn labels_json(group: &BTreeMap<String, String>) -> Result<String, Error> {
    Ok(serde_json::to_string(group)?)
}

/// A rule's object, with its plan and state hash.
#[derive(Clone, Copy)]
pub(crate) struct RuleRef<'a> {
    pub(crate) object: &'a Object,
    pub(crate) plan: &'a RulePlan,
    pub(crate) state: &'a Digest,
}

impl<'a> RuleRef<'a> {
    pub(crate) fn new(object: &'a Object) -> Option<Self> {
        Some(Self { object, plan: object.rule()?, state: object.state.as_ref()? })
    }

    fn draft(
        self,
        id: Uuid,
        group: &BTreeMap<String, String>,
        cause: Cause,
        rendered: Rendered,
        now: Timestamp,
    ) -> Result<NotificationDraft, Error> {
        let uid = self.object.plan.uid;
        let notification = Notification {
            id,
            namespace: self.object.plan.namespace.clone(),
            cause,
            severity: self.plan.severity,
            title: rendered.title,
            summary: rendered.summary,
            group: group.clone(),
            ordering_key: format!("{uid}/{}", labels_json(group)?),
            created: time(ms(now)),
        };
        Ok(NotificationDraft { object: uid, notification, to: ToChannels::Names(self.plan.notify.clone()) })
    }

    pub(crate) fn subject(self) -> Subject<'a> {
        let Plan { namespace, name, uid, .. } = &self.object.plan;
        Subject { namespace, name, uid: *uid, plan: self.plan }
    }

    /// The id of the notification of a record.
    pub(crate) fn record_id(self, topic_id: &str, matched: &Matched) -> Uuid {
        let at = &matched.sample.at;
        ids::record_notification(self.object.plan.uid, topic_id, at.partition, at.offset)
    }

    /// The notification of one record.
    pub(crate) fn record(
        self,
        rendered: Rendered,
        topic_id: &str,
        matched: &Matched,
        now: Timestamp,
    ) -> Result<NotificationDraft, Error> {
        let record = matched.sample.at.clone();
        let cause = Cause::Record { rule: self.object.plan.uid, name: self.object.plan.name.clone(), record };
        self.draft(self.record_id(topic_id, matched), &matched.group, cause, rendered, now)
    }

    /// The id of the notification of a decision about the group with these labels.
    pub(crate) fn alert_id(self, labels: &str, decision: &Decision) -> Uuid {
        let episode = ids::episode(self.object.plan.uid, self.state, labels, decision.first_bucket_ms);
        ids::alert_notification(episode, decision.kind)
    }

    /// The notification of a decision. `closed` is the reason if the alert was closed for another reason than its
    /// condition.
    pub(crate) fn alert(
        self,
        rendered: Rendered,
        group: &BTreeMap<String, String>,
        decision: &Decision,
        (shown, closed): (ShownRecords<'_>, Option<&str>),
        now: Timestamp,
    ) -> Result<NotificationDraft, Error> {
        let data = self.subject().alert(group, decision, shown);
        let uid = self.object.plan.uid;
        let episode = ids::episode(uid, self.state, &labels_json(group)?, decision.first_bucket_ms);
        // A window without records shows an earlier record, which did not cause the alert.
        let caused = shown.first.into_iter().chain(shown.last).map(|sample| &sample.at);
        let within = caused.filter(|at| (data.window_start..data.window_end).contains(&at.time));
        let mut records: Vec<_> = within.cloned().collect();
        records.dedup();
        let alert = Alert {
            episode,
            kind: decision.kind,
            since: data.since,
            count: decision.count,
            value: data.value.map(str::to_owned),
            previous: data.previous.map(str::to_owned),
            values: data.values.to_vec(),
            window_start: data.window_start,
            window_end: data.window_end,
            closed: closed.map(str::to_owned),
            records,
        };
        let cause = Cause::Alert { rule: uid, name: self.object.plan.name.clone(), alert };
        self.draft(ids::alert_notification(episode, decision.kind), group, cause, rendered, now)
    }
}

/// Restarts a rule whose state hash changed. It starts at its source's position in a new row, which is returned. Its
/// groups are removed and their open alerts closed in steps ([`clean_up_step`](crate::rule_cleanup::clean_up_step)).
/// `object` has the new plan and the old row; `old` is the hash under which the open episodes fired.
pub(crate) async fn restart_rule(
    tx: &mut Tx,
    object: &Object,
    old: Option<&Digest>,
    now: Timestamp,
) -> Result<i64, Error> {
    let wanted = object.rule().and_then(|rule| rule.resolve).is_some_and(|resolve| resolve.notify);
    let old = old.filter(|_| wanted).map(serde_json::to_string).transpose()?;
    let row = next_row(tx).await?;
    query(
        "INSERT INTO leaving (r, namespace, uid, state, since, groups, bytes) SELECT r, namespace, uid, $2, $3, \
         groups, bytes FROM rules WHERE r = $1 AND EXISTS (SELECT 1 FROM groups g WHERE g.r = $1)",
    )
    .bind(object.row)
    .bind(old)
    .bind(ms(now))
    .execute(&mut tx.conn)
    .await?;
    query("DELETE FROM activations WHERE r = $1").bind(object.row).execute(&mut tx.conn).await?;
    for sql in [
        "UPDATE drops SET r = $2 WHERE r = $1",
        "UPDATE rules SET r = $2, decided = NULL, observed = NULL, woken = NULL, groups = 0, bytes = 0, \
         lately_read = 0, lately_failed = 0, lately_lost = 0, lately_counted = 0, unmatched = NULL WHERE r = $1",
    ] {
        query(sql).bind(object.row).bind(row).execute(&mut tx.conn).await?;
    }
    Ok(row)
}

/// A number for a rule's row to which nothing refers.
pub(crate) async fn next_row(tx: &mut Tx) -> Result<i64, Error> {
    let row = query_scalar(
        "SELECT 1 + GREATEST((SELECT coalesce(max(r), 0) FROM rules), (SELECT coalesce(max(r), 0) FROM leaving))",
    )
    .fetch_one(&mut tx.conn)
    .await?;
    Ok(row)
}

/// Resumes a suspended rule. It has not seen the records of the meantime, so its activation starts anew.
pub(crate) async fn resume_rule(tx: &mut Tx, object: &Object) -> Result<(), Error> {
    for sql in ["DELETE FROM activations WHERE r = $1", "UPDATE rules SET observed = NULL WHERE r = $1"] {
        query(sql).bind(object.row).execute(&mut tx.conn).await?;
    }
    Ok(())
}

/// Forgets the counts and states of deleted rules: their groups are removed in steps.
pub(crate) async fn forget_rules(tx: &mut Tx, rules: &[i64]) -> Result<(), Error> {
    if rules.is_empty() {
        return Ok(());
    }
    let which = set(rules)?;
    for sql in [
        "INSERT INTO leaving (r, namespace, uid, since, groups, bytes) SELECT r, namespace, uid, 0, groups, \
         bytes FROM rules WHERE r IN (SELECT value FROM EACH($1 AS j: BIGINT)) AND EXISTS (SELECT 1 \
         FROM groups g WHERE g.r = rules.r)",
        "DELETE FROM activations WHERE r IN (SELECT value FROM EACH($1 AS j: BIGINT))",
    ] {
        query(sql).bind(&which).execute(&mut tx.conn).await?;
    }
    Ok(())
}

/// Deletes groups with their counts.
pub(crate) async fn remove_groups(tx: &mut Tx, groups: &[i64]) -> Result<(), Error> {
    if groups.is_empty() {
        return Ok(());
    }
    let which = set(groups)?;
    for sql in [
        "DELETE FROM buckets WHERE g IN (SELECT value FROM EACH($1 AS j: BIGINT))",
        "DELETE FROM groups WHERE g IN (SELECT value FROM EACH($1 AS j: BIGINT))",
    ] {
        query(sql).bind(&which).execute(&mut tx.conn).await?;
    }
    Ok(())
}

//! What a rule's decisions become: notifications; and how its state is forgotten.
//!
//! Invariant: a rule that changes or goes gives up its row at once, and its groups leave in bounded steps. Never: a
//! decision. Those are the alert engine's.

use std::collections::BTreeMap;
use std::sync::Arc;

use alerting::decide::{Decision, GroupState};
use alerting::tell::{Shown, Subject};
use domain::{Alert, Cause, Digest, Notification, Plan, RulePlan, ids};
use jiff::Timestamp;
use protocol::messages::{Matched, Sample};
use sqlx::{query, query_as, query_scalar};
use uuid::Uuid;

use crate::catalog::Object;
use crate::decisions::Left;
use crate::due::STEP_BYTES;
use crate::notify::{Draft, To, targets};
use crate::sql::{ms, set, time};
use crate::texts::{Ask, Of, Ready, Told};
use crate::writer::Tx;
use crate::{Error, Rendered};

/// A group's labels as stored and compared: JSON with sorted keys.
pub(crate) fn labels(group: &BTreeMap<String, String>) -> Result<String, Error> {
    Ok(serde_json::to_string(group)?)
}

/// A rule with its parts at hand.
#[derive(Clone, Copy)]
pub(crate) struct Rule<'a> {
    pub(crate) object: &'a Object,
    pub(crate) plan: &'a RulePlan,
    pub(crate) state: &'a Digest,
}

impl<'a> Rule<'a> {
    pub(crate) fn of(object: &'a Object) -> Option<Self> {
        Some(Self { object, plan: object.rule()?, state: object.state.as_ref()? })
    }

    fn draft(
        self,
        id: Uuid,
        group: &BTreeMap<String, String>,
        cause: Cause,
        rendered: Rendered,
        now: Timestamp,
    ) -> Result<Draft, Error> {
        let uid = self.object.plan.uid;
        let notification = Notification {
            id,
            namespace: self.object.plan.namespace.clone(),
            cause,
            severity: self.plan.severity,
            title: rendered.title,
            summary: rendered.summary,
            group: group.clone(),
            ordering_key: format!("{uid}/{}", labels(group)?),
            created: time(ms(now)),
        };
        Ok(Draft { object: uid, notification, to: To::Names(self.plan.notify.clone()) })
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
    ) -> Result<Draft, Error> {
        let record = matched.sample.at.clone();
        let cause = Cause::Record { rule: self.object.plan.uid, name: self.object.plan.name.clone(), record };
        self.draft(self.record_id(topic_id, matched), &matched.group, cause, rendered, now)
    }

    /// The id of the notification of a decision of the group with these labels.
    pub(crate) fn alert_id(self, labels: &str, decision: &Decision) -> Uuid {
        let episode = ids::episode(self.object.plan.uid, self.state, labels, decision.first_bucket_ms);
        ids::alert_notification(episode, decision.kind)
    }

    /// The notification of a decision, and why it was closed where that is not the condition.
    pub(crate) fn alert(
        self,
        rendered: Rendered,
        group: &BTreeMap<String, String>,
        decision: &Decision,
        (shown, closed): (Shown<'_>, Option<&str>),
        now: Timestamp,
    ) -> Result<Draft, Error> {
        let data = self.subject().alert(group, decision, shown);
        let uid = self.object.plan.uid;
        let episode = ids::episode(uid, self.state, &labels(group)?, decision.first_bucket_ms);
        // A window without records is told of by the text of an earlier one, which did not cause it.
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

/// What decides the rule is another now: it starts where its source stands, in another row, which is returned; its groups
/// leave, and their open alerts are closed, in steps ([`leave`]). `object` has the new plan and the old row; `old` decided
/// the episodes that are open.
pub(crate) async fn changed(
    tx: &mut Tx,
    object: &Object,
    old: Option<&Digest>,
    now: Timestamp,
) -> Result<i64, Error> {
    let wanted = object.rule().and_then(|rule| rule.resolve).is_some_and(|resolve| resolve.notify);
    let old = old.filter(|_| wanted).map(serde_json::to_string).transpose()?;
    let row = next_row(tx).await?;
    query(
        "INSERT INTO leaving (r, namespace, uid, state, since, groups, bytes) SELECT r, namespace, uid, ?2, ?3, \
         groups, bytes FROM rules WHERE r = ?1 AND EXISTS (SELECT 1 FROM groups g WHERE g.r = ?1)",
    )
    .bind(object.row)
    .bind(old)
    .bind(ms(now))
    .execute(&mut tx.conn)
    .await?;
    query("DELETE FROM activations WHERE r = ?1").bind(object.row).execute(&mut tx.conn).await?;
    for sql in [
        "UPDATE drops SET r = ?2 WHERE r = ?1",
        "UPDATE rules SET r = ?2, decided = NULL, observed = NULL, woken = NULL, groups = 0, bytes = 0, \
         lately_read = 0, lately_failed = 0, lately_lost = 0, lately_counted = 0, unmatched = NULL WHERE r = ?1",
    ] {
        query(sql).bind(object.row).bind(row).execute(&mut tx.conn).await?;
    }
    Ok(row)
}

/// A row for a rule that nothing refers to.
pub(crate) async fn next_row(tx: &mut Tx) -> Result<i64, Error> {
    let row = query_scalar(
        "SELECT 1 + max((SELECT coalesce(max(r), 0) FROM rules), (SELECT coalesce(max(r), 0) FROM leaving))",
    )
    .fetch_one(&mut tx.conn)
    .await?;
    Ok(row)
}

/// The rule goes on after it was suspended: what came meanwhile it has not seen, so it is active anew.
pub(crate) async fn resumed(tx: &mut Tx, object: &Object) -> Result<(), Error> {
    for sql in ["DELETE FROM activations WHERE r = ?1", "UPDATE rules SET observed = NULL WHERE r = ?1"] {
        query(sql).bind(object.row).execute(&mut tx.conn).await?;
    }
    Ok(())
}

/// Forgets the counts and states of rules that are going: their groups leave in steps.
pub(crate) async fn forget(tx: &mut Tx, rules: &[i64]) -> Result<(), Error> {
    if rules.is_empty() {
        return Ok(());
    }
    let which = set(rules)?;
    for sql in [
        "INSERT INTO leaving (r, namespace, uid, since, groups, bytes) SELECT r, namespace, uid, 0, groups, bytes \
         FROM rules WHERE r IN (SELECT value FROM jsonb_each(?1)) \
         AND EXISTS (SELECT 1 FROM groups g WHERE g.r = rules.r)",
        "DELETE FROM activations WHERE r IN (SELECT value FROM jsonb_each(?1))",
    ] {
        query(sql).bind(&which).execute(&mut tx.conn).await?;
    }
    Ok(())
}

/// A group that leaves: row, labels, state, sample, bytes.
type Leaving = (i64, String, String, Option<String>, i64);

/// One step of forgetting what rules left behind: first open alerts are closed, then the rest goes.
pub(crate) async fn leave(
    tx: &mut Tx,
    namespace: &str,
    texts: &Ready,
    drafts: &mut Vec<Draft>,
    now: Timestamp,
) -> Result<Left, Error> {
    let first: Option<(i64, String, Option<String>, i64)> = query_as(
        "SELECT r, uid, state, since FROM leaving WHERE namespace = ?1 ORDER BY state IS NULL, r LIMIT 1",
    )
    .bind(namespace)
    .fetch_optional(&mut tx.conn)
    .await?;
    let Some((row, uid, state, since)) = first else { return Ok(Left::default()) };
    let mut left = Left { more: true, ..Left::default() };
    let object = tx.catalog.get(crate::sql::uuid(&uid)?).filter(|object| object.absent.is_none()).cloned();
    let state: Option<Digest> = state.map(|state| serde_json::from_str(&state)).transpose()?;
    let step = tx.options.step.max(1) as i64;
    let groups: Vec<Leaving> = query_as(if state.is_some() {
        "SELECT g, labels, state, sample, bytes FROM groups WHERE r = ?1 AND firing IS NOT NULL \
         ORDER BY firing, g LIMIT ?2"
    } else {
        "SELECT g, labels, '', NULL, bytes FROM groups WHERE r = ?1 LIMIT ?2"
    })
    .bind(row)
    .bind(step)
    .fetch_all(&mut tx.conn)
    .await?;
    if groups.is_empty() {
        // Of the ones whose alerts were closed the others follow; after those the row goes.
        let sql = match state {
            Some(_) => "UPDATE leaving SET state = NULL WHERE r = ?1",
            None => "DELETE FROM leaving WHERE r = ?1",
        };
        query(sql).bind(row).execute(&mut tx.conn).await?;
        return Ok(left);
    }
    let (mut gone, mut bytes) = (Vec::new(), 0);
    for (g, labels, stored, sample, size) in groups {
        if bytes + size > STEP_BYTES && !gone.is_empty() {
            break;
        }
        if let (Some(state), Some(object)) = (&state, &object) {
            let mut closed: GroupState = serde_json::from_str(&stored)?;
            let (Some(rule), Some(decision)) = (Rule::of(object), closed.close(since)) else {
                gone.push(g);
                bytes += size;
                continue;
            };
            // The episode keeps the id under which it fired.
            let rule = Rule { state, ..rule };
            let id = rule.alert_id(&labels, &decision);
            let Some(rendered) = texts.get(&id).cloned() else {
                if left.room() {
                    let (top, closed) = (BTreeMap::new(), true);
                    let told = Told { labels, decision, first: None, last: sample, top, closed };
                    let of = Of::Alert(Box::new(told));
                    left.ask(
                        targets(&tx.catalog, object),
                        Ask { id, object: Arc::clone(object), group: None, of },
                    );
                }
                continue;
            };
            let group: BTreeMap<String, String> = serde_json::from_str(&labels)?;
            let sample: Option<Sample> = sample.map(|sample| serde_json::from_str(&sample)).transpose()?;
            let shown = (Shown::only(sample.as_ref()), Some("RuleChanged"));
            drafts.push(rule.alert(rendered, &group, &decision, shown, now)?);
        }
        gone.push(g);
        bytes += size;
    }
    remove(tx, &gone).await?;
    query("UPDATE leaving SET groups = groups - ?2, bytes = bytes - ?3 WHERE r = ?1")
        .bind(row)
        .bind(gone.len() as i64)
        .bind(bytes)
        .execute(&mut tx.conn)
        .await?;
    Ok(left)
}

/// Deletes groups with their counts.
pub(crate) async fn remove(tx: &mut Tx, groups: &[i64]) -> Result<(), Error> {
    if groups.is_empty() {
        return Ok(());
    }
    let which = set(groups)?;
    for sql in [
        "DELETE FROM buckets WHERE g IN (SELECT value FROM jsonb_each(?1))",
        "DELETE FROM groups WHERE g IN (SELECT value FROM jsonb_each(?1))",
    ] {
        query(sql).bind(&which).execute(&mut tx.conn).await?;
    }
    Ok(())
}

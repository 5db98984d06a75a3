//! What a rule's decisions become: notifications; and how its state is forgotten.
//!
//! Never: a decision. Those are the alert engine's.

use std::collections::BTreeMap;

use alerting::decide::{Decision, GroupState};
use alerting::tell::{Shown, Subject};
use domain::{Alert, Cause, Digest, Notification, Plan, RulePlan, ids};
use jiff::Timestamp;
use protocol::messages::{Matched, Sample};
use sqlx::{query, query_as};

use crate::catalog::Object;
use crate::notify::{Draft, To, make};
use crate::sql::{ms, time};
use crate::writer::Tx;
use crate::{Error, Render, chores};

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
        id: uuid::Uuid,
        group: &BTreeMap<String, String>,
        cause: Cause,
        rendered: crate::Rendered,
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

    fn subject(self) -> Subject<'a> {
        let Plan { namespace, name, uid, .. } = &self.object.plan;
        Subject { namespace, name, uid: *uid, plan: self.plan }
    }

    /// The notification of one record.
    pub(crate) fn record(
        self,
        render: &dyn Render,
        topic_id: &str,
        matched: &Matched,
        now: Timestamp,
    ) -> Result<Draft, Error> {
        let at = &matched.sample.at;
        let rendered = render.alert(&self.subject().record(&matched.group, &matched.sample));
        let uid = self.object.plan.uid;
        let id = ids::record_notification(uid, topic_id, at.partition, at.offset);
        let cause = Cause::Record { rule: uid, name: self.object.plan.name.clone(), record: at.clone() };
        self.draft(id, &matched.group, cause, rendered, now)
    }

    /// The notification of a decision, and why it was closed where that is not the condition.
    pub(crate) fn alert(
        self,
        render: &dyn Render,
        group: &BTreeMap<String, String>,
        decision: &Decision,
        (shown, closed): (Shown<'_>, Option<&str>),
        now: Timestamp,
    ) -> Result<Draft, Error> {
        let data = self.subject().alert(group, decision, shown);
        let rendered = render.alert(&data);
        let uid = self.object.plan.uid;
        let episode = ids::episode(uid, self.state, &labels(group)?, decision.first_bucket_ms);
        let mut records: Vec<_> =
            shown.first.into_iter().chain(shown.last).map(|sample| sample.at.clone()).collect();
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

/// What decides the rule is another now: open alerts are closed, counts forgotten, and it starts where its source stands.
/// `old` decided the episodes that are open.
pub(crate) async fn changed(
    tx: &mut Tx,
    object: &Object,
    old: Option<&Digest>,
    now: Timestamp,
) -> Result<(), Error> {
    let Some(rule) = Rule::of(object) else { return Ok(()) };
    let open: Vec<(String, String, Option<String>)> = query_as(
        "SELECT labels, state, sample FROM groups WHERE r = ?1 AND firing IS NOT NULL ORDER BY firing, g",
    )
    .bind(object.row)
    .fetch_all(&mut tx.conn)
    .await?;
    let wanted = rule.plan.resolve.is_some_and(|resolve| resolve.notify);
    let mut drafts = Vec::new();
    for (group, state, sample) in open.into_iter().filter(|_| wanted) {
        let group: BTreeMap<String, String> = serde_json::from_str(&group)?;
        let mut state: GroupState = serde_json::from_str(&state)?;
        let Some(decision) = state.close(ms(now)) else { continue };
        let sample: Option<Sample> = sample.map(|sample| serde_json::from_str(&sample)).transpose()?;
        // The episode keeps the id under which it fired.
        let rule = Rule { state: old.unwrap_or(rule.state), ..rule };
        let shown = (Shown::only(sample.as_ref()), Some("RuleChanged"));
        drafts.push(rule.alert(&*tx.render, &group, &decision, shown, now)?);
    }
    chores::begin_anew(tx, object).await?;
    make(tx, drafts, now).await?;
    Ok(())
}

/// The rule goes on after it was suspended: what came meanwhile it has not seen, so it is active anew.
pub(crate) async fn resumed(tx: &mut Tx, object: &Object) -> Result<(), Error> {
    for sql in ["DELETE FROM activations WHERE r = ?1", "UPDATE rules SET observed = NULL WHERE r = ?1"] {
        query(sql).bind(object.row).execute(&mut tx.conn).await?;
    }
    Ok(())
}

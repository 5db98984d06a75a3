//! Removes, in bounded steps, what changed and deleted rules left behind: first it closes their open alerts, then it
//! deletes counts and states.
//!
//! An alert is closed under the id of the episode in which it fired.

use std::collections::BTreeMap;
use std::sync::Arc;

use alerting::alert_data::ShownRecords;
use alerting::decide::GroupState;
use domain::{Digest, Sample};
use jiff::Timestamp;

use crate::Error;
use crate::catalog::Object;
use crate::engine::query;
use crate::notify::{NotificationDraft, count_deliveries};
use crate::rule_updates::STEP_BYTES;
use crate::rules::{RuleRef, remove_groups};
use crate::texts::{DecidedAlert, Remaining, RenderedTexts, TextRequest, TextSubject};
use crate::writer::Tx;

/// A group that is to be removed.
#[derive(sqlx::FromRow)]
struct LeavingGroup {
    g: i64,
    labels: String,
    state: String,
    sample: Option<String>,
    bytes: i64,
}

/// Does one step for a namespace. It adds the notifications of closed alerts to `drafts`.
pub(crate) async fn clean_up_step(
    tx: &mut Tx,
    namespace: &str,
    texts: &RenderedTexts,
    drafts: &mut Vec<NotificationDraft>,
    now: Timestamp,
) -> Result<Remaining, Error> {
    let first: Option<(i64, String, Option<String>, i64)> = query(
        "SELECT r, uid, state, since FROM leaving WHERE namespace = $1 ORDER BY state IS NULL, r LIMIT 1",
    )
    .bind(namespace)
    .fetch_optional(&mut tx.conn)
    .await?;
    let Some((row, uid, state, since)) = first else { return Ok(Remaining::default()) };
    let mut left = Remaining { more: true, ..Remaining::default() };
    let object = tx.catalog.get(crate::sql::uuid(&uid)?).filter(|object| object.absent.is_none()).cloned();
    let state: Option<Digest> = state.map(|state| serde_json::from_str(&state)).transpose()?;
    let groups: Vec<LeavingGroup> = query(if state.is_some() {
        "SELECT g, labels, state, sample, bytes FROM groups WHERE r = $1 AND firing IS NOT NULL \
         ORDER BY firing, g LIMIT $2"
    } else {
        "SELECT g, labels, '' AS state, NULL AS sample, bytes FROM groups WHERE r = $1 LIMIT $2"
    })
    .bind(row)
    .bind(tx.options.groups_per_step.max(1) as i64)
    .fetch_all(&mut tx.conn)
    .await?;
    if groups.is_empty() {
        // Once all open alerts are closed, the other groups follow; once there are none, the row is deleted.
        let sql = match state {
            Some(_) => "UPDATE leaving SET state = NULL WHERE r = $1",
            None => "DELETE FROM leaving WHERE r = $1",
        };
        query(sql).bind(row).execute(&mut tx.conn).await?;
        return Ok(left);
    }
    let (mut gone, mut bytes) = (Vec::new(), 0);
    for group in groups {
        if bytes + group.bytes > STEP_BYTES && !gone.is_empty() {
            break;
        }
        let (g, size) = (group.g, group.bytes);
        let closed = match (&state, &object) {
            (Some(state), Some(object)) => close_alert(group, (object, state, since), texts, now)?,
            _ => ClosedAlert::Silently,
        };
        match closed {
            ClosedAlert::Waits(request) => {
                if left.has_room() {
                    left.request(count_deliveries(&tx.catalog, &request.object), request);
                }
                continue;
            }
            ClosedAlert::DecidedAlert(draft) => drafts.push(*draft),
            ClosedAlert::Silently => {}
        }
        gone.push(g);
        bytes += size;
    }
    remove_groups(tx, &gone).await?;
    query("UPDATE leaving SET groups = groups - $2, bytes = bytes - $3 WHERE r = $1")
        .bind(row)
        .bind(gone.len() as i64)
        .bind(bytes)
        .execute(&mut tx.conn)
        .await?;
    Ok(left)
}

/// What closing a group's alert comes to.
enum ClosedAlert {
    Silently,
    DecidedAlert(Box<NotificationDraft>),
    /// Its text is not rendered yet.
    Waits(TextRequest),
}

/// Closes the open alert of a group. `state` is the rule's hash under which it fired, `since` when the rule was
/// changed.
fn close_alert(
    LeavingGroup { labels, state: stored, sample, .. }: LeavingGroup,
    (object, state, since): (&Arc<Object>, &Digest, i64),
    texts: &RenderedTexts,
    now: Timestamp,
) -> Result<ClosedAlert, Error> {
    let mut closed: GroupState = serde_json::from_str(&stored)?;
    let (Some(rule), Some(decision)) = (RuleRef::new(object), closed.close(since)) else {
        return Ok(ClosedAlert::Silently);
    };
    // The episode's id depends on the state under which it fired.
    let rule = RuleRef { state, ..rule };
    let id = rule.alert_id(&labels, &decision);
    let Some(rendered) = texts.get(&id).cloned() else {
        let (top, closed) = (BTreeMap::new(), true);
        let told = DecidedAlert { labels, decision, first: None, last: sample, top, closed };
        let (object, of) = (Arc::clone(object), TextSubject::Alert(Box::new(told)));
        return Ok(ClosedAlert::Waits(TextRequest { id, object, group: None, of }));
    };
    let group: BTreeMap<String, String> = serde_json::from_str(&labels)?;
    let sample: Option<Sample> = sample.map(|sample| serde_json::from_str(&sample)).transpose()?;
    let shown = (ShownRecords::last_only(sample.as_ref()), Some("RuleChanged"));
    Ok(ClosedAlert::DecidedAlert(Box::new(rule.alert(rendered, &group, &decision, shown, now)?)))
}

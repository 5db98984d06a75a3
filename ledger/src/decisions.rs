//! Has the alert engine decide due groups in bounded steps: the first in the transaction that moved the watermark,
//! the others in later ones.
//!
//! Invariants: a rule's watermark is the smallest progress of the known partitions of its topics, but not later than
//! the time up to which it is known that there are no others. A bucket that it has passed takes no more counts,
//! whether or not it is decided yet, so the result doesn't depend on when a group is decided. Each group stores up to
//! where it is decided; its decisions and their notifications are in one transaction, and `groups.next` finds what is
//! left. Nothing is decided before every partition has reported its progress, memory never holds all due groups, and
//! no text is rendered here.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use domain::Values;
use jiff::Timestamp;
use uuid::Uuid;

use crate::Error;
use crate::catalog::Catalog;
use crate::due::{
    DueGroup, GroupWrites, choose_groups, load_groups, load_samples, load_top_values, store_groups,
};
use crate::notify::{NotificationDraft, count_deliveries};
use crate::observe::{observe_rules, wake_groups};
use crate::positions::StoredTopic;
use crate::rule_updates::RuleUpdate;
use crate::rules::RuleRef;
use crate::texts::{DecidedAlert, Remaining, RenderedTexts, TextRequest, TextSubject};
use crate::writer::Tx;

/// At most how many decisions one group makes in one step.
const MAX_DECISIONS: usize = 16;

/// Advances the rules' watermarks. Buckets behind them take no more counts, and groups are due up to there. Returns
/// the rules whose watermark moved.
pub(crate) async fn advance_watermarks(
    tx: &mut Tx,
    rules: &mut BTreeMap<Uuid, RuleUpdate>,
    topics: &HashMap<String, StoredTopic>,
) -> Result<HashSet<Uuid>, Error> {
    let mut moved = HashSet::new();
    for (uid, rule) in rules.iter_mut() {
        let (Some(params), Some(plan)) = (rule.params, rule.object.rule()) else { continue };
        let read = plan.topics.iter().filter_map(|name| topics.get(name));
        let progress = read.flat_map(|topic| topic.partitions.values()).map(|partition| partition.progress);
        let Some(surveyed) = rule.surveyed else { continue };
        if let Some(to) = params.next_decided_to(rule.decided, progress, surveyed) {
            rule.delta.decided = Some(to);
            moved.insert(*uid);
        }
    }
    if !moved.is_empty() {
        observe_rules(tx, rules, &moved, topics).await?;
    }
    Ok(moved)
}

/// Decides one step of due groups of the rules in `which`, first those of `first`, whose texts are rendered. Groups
/// that it leaves stay due.
pub(crate) async fn decide_step(
    tx: &mut Tx,
    rules: &mut BTreeMap<Uuid, RuleUpdate>,
    which: &HashSet<Uuid>,
    (first, texts): (&[i64], &RenderedTexts),
    drafts: &mut Vec<NotificationDraft>,
    now: Timestamp,
) -> Result<Remaining, Error> {
    let mut left = Remaining { more: wake_groups(tx, rules, which).await?, ..Remaining::default() };
    let chosen = choose_groups(tx, rules, which, first, &mut left).await?;
    if chosen.is_empty() {
        return Ok(left);
    }
    let mut due = load_groups(tx, rules, &chosen).await?;
    for group in &mut due {
        if let Some(rule) = rules.get(&group.rule) {
            group.decide(rule, MAX_DECISIONS);
        }
    }
    let mut samples = load_samples(tx, &due).await?.into_iter();
    let mut top = load_top_values(tx, &due, rules).await?;
    let catalog = Arc::clone(&tx.catalog);
    let (mut writes, mut told, mut at) = (GroupWrites::default(), Vec::new(), 0);
    for group in &mut due {
        let shown: Vec<StoredWindow> = (0..group.step.decisions.len())
            .map(|place| {
                let (first, last) = samples.next().unwrap_or_default();
                StoredWindow { first, last, top: top.remove(&(at + place)).unwrap_or_default() }
            })
            .collect();
        at += shown.len();
        let Some(rule) = rules.get(&group.rule) else { continue };
        let Some(tells) = draft_alerts(group, rule, shown, (&catalog, texts), &mut left, now)? else {
            continue;
        };
        if !group.step.decisions.is_empty() {
            tx.mark(group.rule, true);
        }
        told.extend(tells.into_iter().map(|(at, draft)| ((at, group.rule, group.labels.clone()), draft)));
        let next = writes.add(group, rule)?;
        left.more |= rule.decided_to().is_some_and(|to| next.is_some_and(|next| next <= to));
    }
    // In the order of event time; within one instant, in an order that doesn't depend on how records were counted.
    told.sort_by(|(left, _), (right, _)| left.cmp(right));
    drafts.extend(told.into_iter().map(|(_, draft)| draft));
    store_groups(tx, rules, writes).await?;
    Ok(left)
}

/// What is stored of a decision's window.
struct StoredWindow {
    /// The first and the last record, JSON.
    first: Option<String>,
    last: Option<String>,
    top: BTreeMap<String, Values>,
}

/// The notifications of a group's decisions, with their boundaries. If a text is missing, requests it and decides the
/// group only up to the decision before; `None` if there is no such decision.
fn draft_alerts(
    group: &mut DueGroup,
    rule: &RuleUpdate,
    shown: Vec<StoredWindow>,
    (catalog, texts): (&Catalog, &RenderedTexts),
    left: &mut Remaining,
    now: Timestamp,
) -> Result<Option<Vec<(i64, NotificationDraft)>>, Error> {
    let (mut tells, mut waits) = (Vec::new(), None);
    let mut kept = group.sample.clone();
    for (place, (decision, window)) in group.step.decisions.iter().zip(shown).enumerate() {
        let own = decision.own_sample().map(serde_json::to_string).transpose()?;
        group.sample = decision.shown_record(own, window.last, group.sample.take());
        if let Some(speaks) = RuleRef::new(&rule.object).filter(|_| decision.notify) {
            let id = speaks.alert_id(&group.labels, decision);
            let StoredWindow { first, top, .. } = window;
            if let Some(text) = texts.get(&id).filter(|_| waits.is_none()) {
                let draft = group.draft(speaks, text.clone(), decision, (&first, &top), now)?;
                tells.push((decision.at_ms, draft));
            } else {
                waits = waits.or(Some(place));
                if left.has_room() {
                    let (labels, last) = (group.labels.clone(), group.sample.clone());
                    let told =
                        DecidedAlert { labels, decision: decision.clone(), first, last, top, closed: false };
                    let (object, of) = (Arc::clone(&rule.object), TextSubject::Alert(Box::new(told)));
                    left.request(
                        count_deliveries(catalog, &object),
                        TextRequest { id, object, group: Some(group.g), of },
                    );
                }
            }
        }
        if waits.is_none() {
            kept.clone_from(&group.sample);
        }
    }
    let Some(most) = waits else { return Ok(Some(tells)) };
    left.more = true;
    if most == 0 {
        return Ok(None);
    }
    group.sample = kept;
    group.state = serde_json::from_str(&group.stored)?;
    group.decide(rule, most);
    Ok(Some(tells))
}

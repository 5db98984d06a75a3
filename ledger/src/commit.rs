//! The transaction that takes what a consumer counted.
//!
//! Invariants: an entry is accepted only if the stored position equals its `from`, so no record counts twice. What it
//! counts, and the notifications of single records, are in the same transaction as its new position. What becomes due
//! is decided in that transaction too, as far as one step goes and needs no text; the rest is durably due
//! (`decider.rs`). A commit that holds more than a transaction takes is taken entry by entry, and an entry that does
//! is refused, unless it is of one record. Counts are taken only for rules in the plan, and only for their current
//! state hash.
//!
//! Clauses of docs/semantics.md: R2, R3, R8.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use alerting::fold::Aggregate;
use domain::DropReason;
use jiff::Timestamp;
use protocol::messages::{Commit, CommitResult, Count, Dropped, Entry, EntryResult, Matched, SourcePlan};
use uuid::Uuid;

use crate::activations::activate_rules;
use crate::counts::CountedGroups;
use crate::engine::query;
use crate::notify::{NotificationDraft, make_notifications};
use crate::positions::{StoredTopic, load_topics};
use crate::recent_records::StoredDropSample;
use crate::rule_updates::{RuleUpdate, store_rule_deltas};
use crate::rules::{RuleRef, labels_json};
use crate::sql::{ms, set};
use crate::texts::{Remaining, RenderedTexts};
use crate::writer::{Command, Tx};
use crate::{Error, Rendered, counts, decider, decisions};

/// The error if texts are missing, because the entry did not look as if it would be accepted.
pub(crate) const UNRENDERED: &str = "texts are not rendered yet";

pub(crate) struct TakePart {
    pub(crate) namespace: String,
    pub(crate) source: String,
    pub(crate) commit: Arc<Commit>,
    /// The texts of its records.
    pub(crate) texts: RenderedTexts,
    /// Whether a record without a rendered text gets one without a template. If not, nothing is taken.
    pub(crate) plain: bool,
    pub(crate) now: Timestamp,
}

/// The result for a part of a commit, and what is left to decide.
pub(crate) struct TakenPart {
    pub(crate) result: CommitResult,
    pub(crate) left: Remaining,
}

impl Command for TakePart {
    type Answer = TakenPart;
    // If the caller has left, it sends the commit again.
    const NEEDS_CALLER: bool = true;

    fn namespace(&self) -> Option<&str> {
        Some(&self.namespace)
    }

    async fn run(&mut self, tx: &mut Tx) -> Result<TakenPart, Error> {
        let catalog = Arc::clone(&tx.catalog);
        let plan =
            catalog.namespace(&self.namespace).and_then(|space| space.sources.get(&self.source)).ok_or_else(
                || Error::NotFound(format!("source {} of namespace {}", self.source, self.namespace)),
            )?;
        crate::deliveries::check_quota(tx, &self.namespace).await?;
        let mut topics = load_topics(tx, &self.namespace, &self.source).await?;
        let (results, accepted, stood) = accept_entries(&mut topics, &self.commit.entries);
        let mut left = Remaining::default();
        if !accepted.is_empty() {
            let mut rules = self.load_rules(tx, plan).await?;
            store_positions(tx, &accepted, &topics).await?;
            activate_rules(tx, &self.namespace, (&accepted, &stood), &topics, &mut rules).await?;
            let mut drafts = Vec::new();
            let groups = self.merge_counts(&accepted, &mut rules, &mut drafts)?;
            let several = accepted.len() > 1 || accepted.iter().any(|entry| entry.to - entry.from > 1);
            counts::store_counts(tx, &self.namespace, groups, &mut rules, several).await?;
            let mut moved = decisions::advance_watermarks(tx, &mut rules, &topics).await?;
            for uid in decider::closing_rules(tx, &self.namespace).await? {
                left.more |= moved.remove(&uid);
            }
            left.add(
                decisions::decide_step(
                    tx,
                    &mut rules,
                    &moved,
                    (&[], &RenderedTexts::new()),
                    &mut drafts,
                    self.now,
                )
                .await?,
            );
            for draft in &drafts {
                if let Some(rule) = rules.get_mut(&draft.object) {
                    rule.delta.last_alert = Some(ms(self.now));
                }
            }
            make_notifications(tx, drafts, self.now).await?;
            store_rule_deltas(tx, &rules, self.now).await?;
            crate::dead_letters::store(tx, &self.namespace, &accepted, self.now).await?;
        }
        Ok(TakenPart { result: CommitResult { entries: results, revision: plan.revision.clone() }, left })
    }
}

/// Refuses entries that can't be right; accepting them could count a record twice.
pub(crate) fn check_entries(commit: &Commit) -> Result<(), Error> {
    for entry in &commit.entries {
        let place = || format!("{}/{}", entry.topic, entry.partition);
        if entry.to < entry.from {
            return Err(Error::Invalid(format!("{}: to is before from", place())));
        }
        let holds = !entry.counts.is_empty()
            || !entry.records.is_empty()
            || !entry.dropped.is_empty()
            || !entry.dead_letters.is_empty();
        if entry.to == entry.from && holds {
            return Err(Error::Invalid(format!("{}: an entry that reads nothing holds counts", place())));
        }
        if entry.counts.iter().any(|count| count.count < 0) || entry.dropped.iter().any(|drop| drop.count < 0)
        {
            return Err(Error::Invalid(format!("{}: a count is negative", place())));
        }
    }
    Ok(())
}

/// Accepts or refuses each entry, and moves the positions of accepted ones in `topics`. Returns the results, the
/// accepted entries, and the partition's progress before each accepted entry.
fn accept_entries<'a>(
    topics: &mut HashMap<String, StoredTopic>,
    entries: &'a [Entry],
) -> (Vec<EntryResult>, Vec<&'a Entry>, Vec<Option<i64>>) {
    let (mut accepted, mut stood) = (Vec::new(), Vec::new());
    let results = entries.iter().map(|entry| {
        let partition = topics
            .get_mut(&entry.topic)
            .filter(|topic| topic.id == entry.topic_id)
            .and_then(|topic| topic.partitions.get_mut(&entry.partition));
        let Some(partition) = partition else { return EntryResult::Unknown };
        if partition.position != entry.from {
            return EntryResult::Elsewhere(partition.position);
        }
        stood.push(partition.progress);
        partition.position = entry.to;
        partition.progress = partition.progress.max(entry.progress_ms);
        accepted.push(entry);
        EntryResult::Accepted(entry.to)
    });
    let results = results.collect();
    (results, accepted, stood)
}

/// Stores the new positions of accepted entries.
async fn store_positions(
    tx: &mut Tx,
    accepted: &[&Entry],
    topics: &HashMap<String, StoredTopic>,
) -> Result<(), Error> {
    let rows: Vec<_> = accepted
        .iter()
        .filter_map(|entry| {
            let topic = topics.get(&entry.topic)?;
            let partition = topic.partitions.get(&entry.partition)?;
            Some((topic.t, entry.partition, partition.position, partition.progress, entry.end))
        })
        .collect();
    query(
        "UPDATE partitions SET position = j.position, progress = j.progress, high = j.high \
         FROM ROWS($1 AS j: t BIGINT, p BIGINT, position BIGINT, progress BIGINT, high BIGINT) \
         WHERE partitions.t = j.t AND partitions.p = j.p",
    )
    .bind(set(&rows)?)
    .execute(&mut tx.conn)
    .await?;
    Ok(())
}

/// A rule as stored, as (row, decided, observed, woken).
type StoredRule = (i64, Option<i64>, Option<i64>, Option<String>);

impl TakePart {
    /// Loads the rules of the plan. It has no suspended ones.
    async fn load_rules(&self, tx: &mut Tx, plan: &SourcePlan) -> Result<BTreeMap<Uuid, RuleUpdate>, Error> {
        let mut rules = BTreeMap::new();
        let mut rows = HashMap::new();
        for (uid, rule) in &plan.rules {
            let Some(object) = tx.catalog.get(*uid).cloned() else { continue };
            rows.insert(object.row, *uid);
            let current = self.commit.rules.get(uid) == Some(&rule.state);
            let surveyed = match &self.commit.survey {
                Some(survey) => survey.known_until(&rule.plan.topics),
                None => Some(i64::MAX),
            };
            rules.insert(
                *uid,
                RuleUpdate { current, surveyed, ..RuleUpdate::from_stored(object, None, None, None) },
            );
        }
        let which: Vec<i64> = rows.keys().copied().collect();
        let stored: Vec<StoredRule> = query(
            "SELECT r, decided, observed, woken FROM rules WHERE r IN (SELECT value FROM EACH($1 AS j: BIGINT))",
        )
        .bind(set(&which)?)
        .fetch_all(&mut tx.conn)
        .await?;
        for (row, decided, observed, woken) in stored {
            if let Some(rule) = rows.get(&row).and_then(|uid| rules.get_mut(uid)) {
                (rule.decided, rule.observed, rule.woken) = (decided, observed, woken);
            }
        }
        Ok(rules)
    }

    /// Merges the counts of all accepted entries, and makes notifications of single records.
    fn merge_counts(
        &self,
        accepted: &[&Entry],
        rules: &mut BTreeMap<Uuid, RuleUpdate>,
        drafts: &mut Vec<NotificationDraft>,
    ) -> Result<CountedGroups, Error> {
        let mut groups = CountedGroups::new();
        for entry in accepted {
            for rule in rules.values_mut().filter(|rule| rule.accepts(entry)) {
                rule.delta.recent.read += entry.to - entry.from;
            }
            for count in &entry.counts {
                if let Some(rule) = rules.get_mut(&count.rule).filter(|rule| rule.accepts(entry)) {
                    add_count(rule, count, &mut groups)?;
                }
            }
            for matched in &entry.records {
                if let Some(rule) = rules.get_mut(&matched.rule).filter(|rule| rule.accepts(entry)) {
                    drafts.extend(self.record_draft(rule, &entry.topic_id, matched)?);
                }
            }
            for dropped in &entry.dropped {
                let concerned = rules
                    .iter_mut()
                    .filter(|(uid, rule)| rule.accepts(entry) && dropped.rule.is_none_or(|of| of == **uid));
                for (_, rule) in concerned {
                    add_dropped(rule, entry, dropped);
                }
            }
        }
        Ok(groups)
    }

    /// The notification of a record, if the rule notifies of each record.
    fn record_draft(
        &self,
        rule: &mut RuleUpdate,
        topic_id: &str,
        matched: &Matched,
    ) -> Result<Option<NotificationDraft>, Error> {
        if rule.params.is_some() {
            return Ok(None);
        }
        rule.delta.matched += 1;
        rule.delta.last_match = rule.delta.last_match.max(Some(ms(matched.sample.at.time)));
        let Some(speaks) = RuleRef::new(&rule.object) else { return Ok(None) };
        let text = self.texts.get(&speaks.record_id(topic_id, matched)).cloned().or_else(|| {
            let data = speaks.subject().record(&matched.group, &matched.sample);
            let why = "the rule came while the record was taken";
            self.plain.then(|| Rendered::plain(&data, why))
        });
        let Some(text) = text else { return Err(Error::Conflict(UNRENDERED.to_owned())) };
        speaks.record(text, topic_id, matched, self.now).map(Some)
    }
}

/// Adds a count to its group's bucket, unless it is late.
fn add_count(rule: &mut RuleUpdate, count: &Count, groups: &mut CountedGroups) -> Result<(), Error> {
    let Some(params) = rule.params else { return Ok(()) };
    rule.delta.matched += count.count;
    rule.delta.last_match = rule.delta.last_match.max(Some(ms(count.last.at.time)));
    let bucket = params.buckets().start_of(count.bucket_ms);
    if params.is_late(bucket, rule.decided) {
        rule.delta.late += count.count;
        return Ok(());
    }
    let key = (rule.object.row, labels_json(&count.group)?);
    let counted = Aggregate::from(count.clone());
    counts::merge_bucket(groups.entry(key).or_default(), bucket, counted, params.values_kept());
    Ok(())
}

/// Adds records that the rule left out.
fn add_dropped(rule: &mut RuleUpdate, entry: &Entry, dropped: &Dropped) {
    let Dropped { reason, count, sample, .. } = dropped;
    if rule.delta.recent.add_dropped(*reason, *count) {
        rule.delta.uncounted = Some(StoredDropSample::new(*reason, entry, sample.as_ref()));
    }
    if *reason == DropReason::Undecodable {
        rule.delta.dead_lettered += count;
    } else {
        *rule.delta.dropped.entry(*reason).or_default() += count;
    }
}

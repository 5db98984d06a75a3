//! Taking what a consumer counted.
//!
//! Invariants: an entry is accepted only if the stored position equals its `from`, so that no record counts twice; what it
//! counts, and the notifications of records that speak for themselves, are in the same transaction as its new position;
//! what is then due is decided there too as far as one step goes and needs no text, and is durable as due otherwise
//! (`decider.rs`). A commit that holds more than a transaction does is taken entry by entry, and an entry that does is
//! refused, unless it is of one record. Never: a count for a rule, or a state of a rule, that is not in the plan.
//!
//! Clauses of docs/semantics.md: R2, R3, R8.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use alerting::decide::RuleParams;
use alerting::fold::Aggregate;
use jiff::Timestamp;
use protocol::messages::{Commit, CommitResult, Entry, EntryResult, SourcePlan};
use sqlx::{query, query_as};
use uuid::Uuid;

use crate::activations::activate;
use crate::catalog::Object;
use crate::counts::Groups;
use crate::decisions::Left;
use crate::lately::{self, Lately, Sampled};
use crate::notify::{Draft, make};
use crate::positions::{Topic, topics};
use crate::rules::{Rule, labels};
use crate::sql::{ms, set};
use crate::texts::Ready;
use crate::writer::{Command, Tx};
use crate::{Error, Rendered, counts, decider, decisions};

/// Why nothing is taken where texts are missing: the entry did not look as if it would be accepted.
pub(crate) const UNRENDERED: &str = "texts are not rendered yet";
/// Reasons of a rule that are told apart; a worker of ours has far fewer. The others are one.
const REASONS: usize = 40;
const OTHER: &str = "Other";

pub(crate) struct Take {
    pub(crate) namespace: String,
    pub(crate) source: String,
    pub(crate) commit: Arc<Commit>,
    /// Texts of its records.
    pub(crate) texts: Ready,
    /// Whether a record whose text is missing gets one without a template; else nothing is taken.
    pub(crate) plain: bool,
    pub(crate) now: Timestamp,
}

/// What a commit adds to a rule's numbers.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    pub(crate) decided: Option<i64>,
    pub(crate) observed: Option<i64>,
    pub(crate) matched: i64,
    pub(crate) last_match: Option<i64>,
    pub(crate) last_alert: Option<i64>,
    pub(crate) late: i64,
    pub(crate) dead_lettered: i64,
    pub(crate) dropped: BTreeMap<String, i64>,
    /// Groups more or fewer, and their bytes.
    pub(crate) groups: i64,
    pub(crate) bytes: i64,
    /// What it made of the commit's records, and one that it could not count.
    pub(crate) lately: Lately,
    pub(crate) uncounted: Option<Sampled>,
}

/// A rule of the source, with what is stored of it.
pub(crate) struct Live {
    pub(crate) object: Arc<Object>,
    pub(crate) params: Option<RuleParams>,
    /// Up to where it was decided before this commit.
    pub(crate) decided: Option<i64>,
    /// Since when, by event time, it has seen all records, if that was known before this commit.
    pub(crate) observed: Option<i64>,
    /// The labels up to which groups were made due since it has been known since when it has seen all; none: all were.
    pub(crate) woken: Option<String>,
    /// Whether the commit was folded with what decides the rule now.
    pub(crate) current: bool,
    /// Up to when all partitions that it reads are known: it is decided no further.
    pub(crate) surveyed: Option<i64>,
    pub(crate) numbers: Numbers,
}

impl Live {
    /// A rule as it is stored, without a commit.
    pub(crate) fn stored(
        object: Arc<Object>,
        decided: Option<i64>,
        observed: Option<i64>,
        woken: Option<String>,
    ) -> Self {
        let params = object.rule().and_then(RuleParams::of);
        Self {
            object,
            params,
            decided,
            observed,
            woken,
            current: false,
            surveyed: None,
            numbers: Numbers::default(),
        }
    }

    /// Every bucket that ends at or before takes no more counts, and is decided or due.
    pub(crate) fn to(&self) -> Option<i64> {
        self.numbers.decided.or(self.decided)
    }

    /// Since when, by event time, it has seen all records.
    pub(crate) fn observed(&self) -> Option<i64> {
        self.numbers.observed.or(self.observed)
    }

    pub(crate) fn reads(&self, topic: &str) -> bool {
        self.object.rule().is_some_and(|rule| rule.topics.iter().any(|name| name == topic))
    }
}

/// What became of a commit, and what is left to decide.
pub(crate) struct Taken {
    pub(crate) result: CommitResult,
    pub(crate) left: Left,
}

impl Command for Take {
    type Answer = Taken;
    // Its caller sends it again.
    const NEEDS_CALLER: bool = true;

    fn namespace(&self) -> Option<&str> {
        Some(&self.namespace)
    }

    async fn run(&mut self, tx: &mut Tx) -> Result<Taken, Error> {
        let catalog = Arc::clone(&tx.catalog);
        let plan =
            catalog.space(&self.namespace).and_then(|space| space.sources.get(&self.source)).ok_or_else(
                || Error::NotFound(format!("source {} of namespace {}", self.source, self.namespace)),
            )?;
        crate::deliveries::check_quota(tx, &self.namespace).await?;
        let mut topics = topics(tx, &self.namespace, &self.source).await?;
        let (results, accepted, stood) = accept(&mut topics, &self.commit.entries);
        let mut left = Left::default();
        if !accepted.is_empty() {
            let mut rules = self.rules(tx, plan).await?;
            advance(tx, &accepted, &topics).await?;
            activate(tx, &self.namespace, (&accepted, &stood), &topics, &mut rules).await?;
            let mut drafts = Vec::new();
            let groups = self.count(&accepted, &mut rules, &mut drafts)?;
            let several = accepted.len() > 1 || accepted.iter().any(|entry| entry.to - entry.from > 1);
            counts::store(tx, &self.namespace, groups, &mut rules, several).await?;
            let mut moved = decisions::moved(tx, &mut rules, &topics).await?;
            for uid in decider::closing(tx, &self.namespace).await? {
                left.more |= moved.remove(&uid);
            }
            left.add(
                decisions::decide(tx, &mut rules, &moved, (&[], &Ready::new()), &mut drafts, self.now)
                    .await?,
            );
            for draft in &drafts {
                if let Some(rule) = rules.get_mut(&draft.object) {
                    rule.numbers.last_alert = Some(ms(self.now));
                }
            }
            make(tx, drafts, self.now).await?;
            numbers(tx, &rules, self.now).await?;
            crate::letters::keep(tx, &self.namespace, &accepted, self.now).await?;
        }
        Ok(Taken { result: CommitResult { entries: results, revision: plan.revision.clone() }, left })
    }
}

/// Refuses what can't be right, because accepting it would count a record twice.
pub(crate) fn check(commit: &Commit) -> Result<(), Error> {
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

/// Decides each entry, and moves the accepted ones in `topics`; and how far event time stood before each accepted one.
fn accept<'a>(
    topics: &mut HashMap<String, Topic>,
    entries: &'a [Entry],
) -> (Vec<EntryResult>, Vec<&'a Entry>, Vec<Option<i64>>) {
    let (mut accepted, mut stood) = (Vec::new(), Vec::new());
    let results = entries.iter().map(|entry| {
        let partition = topics
            .get_mut(&entry.topic)
            .filter(|topic| topic.id == entry.topic_id)
            .and_then(|topic| topic.partitions.get_mut(&entry.partition));
        let Some(partition) = partition else { return EntryResult { status: 404, offset: 0 } };
        if partition.position != entry.from {
            return EntryResult { status: 409, offset: partition.position };
        }
        stood.push(partition.progress);
        partition.position = entry.to;
        partition.progress = partition.progress.max(entry.progress_ms);
        accepted.push(entry);
        EntryResult { status: 200, offset: entry.to }
    });
    let results = results.collect();
    (results, accepted, stood)
}

/// Stores the new positions.
async fn advance(tx: &mut Tx, accepted: &[&Entry], topics: &HashMap<String, Topic>) -> Result<(), Error> {
    let rows: Vec<_> = accepted
        .iter()
        .filter_map(|entry| {
            let topic = topics.get(&entry.topic)?;
            let partition = topic.partitions.get(&entry.partition)?;
            Some((topic.t, entry.partition, partition.position, partition.progress, entry.end))
        })
        .collect();
    query(
        "UPDATE partitions SET position = j.value ->> 2, progress = j.value ->> 3, high = j.value ->> 4 \
         FROM jsonb_each(?1) j WHERE t = j.value ->> 0 AND p = j.value ->> 1",
    )
    .bind(set(&rows)?)
    .execute(&mut tx.conn)
    .await?;
    Ok(())
}

/// Adds to the rules' numbers.
pub(crate) async fn numbers(tx: &mut Tx, rules: &BTreeMap<Uuid, Live>, now: Timestamp) -> Result<(), Error> {
    let (mut rows, mut drops) = (Vec::new(), Vec::new());
    for (uid, rule) in rules {
        let Numbers { decided, observed, matched, last_match, last_alert, late, dead_lettered, .. } =
            &rule.numbers;
        let Numbers { dropped, groups, bytes, lately, uncounted, .. } = &rule.numbers;
        let Lately { read, failed, lost, .. } = lately;
        let lately = ((read, failed, lost, matched), uncounted);
        let held = (groups, bytes, &rule.woken);
        let times = (decided, observed, last_match, last_alert);
        rows.push((rule.object.row, times, (matched, late, dead_lettered), held, lately));
        drops.extend(dropped.iter().map(|(reason, count)| (rule.object.row, reason, count)));
        let shown = tx.published.shown(uid);
        let fills = dropped.keys().any(|reason| lately::is_full(reason)) && !shown.is_some_and(|it| it.full);
        tx.mark(*uid, last_alert.is_some() || fills);
    }
    let stored: Vec<StoredLately> = query_as(
        "UPDATE rules SET decided = coalesce(j.value ->> '$[1][0]', decided), \
         observed = coalesce(j.value ->> '$[1][1]', observed), \
         last_match = coalesce(max(last_match, j.value ->> '$[1][2]'), j.value ->> '$[1][2]', last_match), \
         last_alert = coalesce(j.value ->> '$[1][3]', last_alert), matched = matched + (j.value ->> '$[2][0]'), \
         late = late + (j.value ->> '$[2][1]'), dead_lettered = dead_lettered + (j.value ->> '$[2][2]'), \
         groups = max(groups + (j.value ->> '$[3][0]'), 0), bytes = max(bytes + (j.value ->> '$[3][1]'), 0), \
         woken = j.value ->> '$[3][2]', \
         lately_read = (lately_read + (j.value ->> '$[4][0][0]')) / iif(lately_read + (j.value ->> '$[4][0][0]') > ?2, 2, 1), \
         lately_failed = (lately_failed + (j.value ->> '$[4][0][1]')) / iif(lately_read + (j.value ->> '$[4][0][0]') > ?2, 2, 1), \
         lately_lost = (lately_lost + (j.value ->> '$[4][0][2]')) / iif(lately_lost + lately_counted \
         + (j.value ->> '$[4][0][2]') + (j.value ->> '$[4][0][3]') > ?2, 2, 1), \
         lately_counted = (lately_counted + (j.value ->> '$[4][0][3]')) / iif(lately_lost + lately_counted \
         + (j.value ->> '$[4][0][2]') + (j.value ->> '$[4][0][3]') > ?2, 2, 1), \
         unmatched = iif(j.value ->> '$[4][1].reason' IS NULL OR unmatched ->> 'reason' = j.value ->> '$[4][1].reason', \
         unmatched, j.value ->> '$[4][1]') FROM jsonb_each(?1) j WHERE r = j.value ->> 0 \
         RETURNING uid, lately_read, lately_failed, lately_lost, lately_counted",
    )
    .bind(set(&rows)?)
    .bind(lately::MEMORY)
    .fetch_all(&mut tx.conn)
    .await?;
    // That a rule can't count what comes, or can again, is news.
    for StoredLately { uid, lately } in stored {
        let uid = crate::sql::uuid(&uid)?;
        let said = tx.published.shown(&uid).is_some_and(|shown| shown.uncountable);
        if said != lately.share().is_some() {
            tx.mark(uid, true);
        }
    }
    if !drops.is_empty() {
        query(
            "INSERT INTO drops (r, reason, count, last) SELECT value ->> 0, \
             iif((SELECT count(*) FROM drops d WHERE d.r = value ->> 0) < ?2 OR EXISTS (SELECT 1 FROM drops d \
             WHERE d.r = value ->> 0 AND d.reason = value ->> 1), value ->> 1, ?3), value ->> 2, ?4 \
             FROM jsonb_each(?1) WHERE true ON CONFLICT (r, reason) DO UPDATE SET count = count + excluded.count, \
             last = excluded.last",
        )
        .bind(set(&drops)?)
        .bind(REASONS as i64)
        .bind(OTHER)
        .bind(ms(now))
        .execute(&mut tx.conn)
        .await?;
    }
    Ok(())
}

/// What a rule made of the last records, as stored.
#[derive(sqlx::FromRow)]
struct StoredLately {
    uid: String,
    #[sqlx(flatten)]
    lately: Lately,
}

/// A rule as stored: row, decided, observed, woken.
type Stored = (i64, Option<i64>, Option<i64>, Option<String>);

impl Take {
    /// The rules of the plan. Suspended ones are not among them.
    async fn rules(&self, tx: &mut Tx, plan: &SourcePlan) -> Result<BTreeMap<Uuid, Live>, Error> {
        let mut rules = BTreeMap::new();
        let mut rows = HashMap::new();
        for (uid, rule) in &plan.rules {
            let Some(object) = tx.catalog.get(*uid).cloned() else { continue };
            rows.insert(object.row, *uid);
            let current = self.commit.rules.get(uid) == Some(&rule.state);
            let surveyed = match &self.commit.survey {
                Some(survey) => survey.of(&rule.plan.topics),
                None => Some(i64::MAX),
            };
            rules.insert(*uid, Live { current, surveyed, ..Live::stored(object, None, None, None) });
        }
        let which: Vec<i64> = rows.keys().copied().collect();
        let stored: Vec<Stored> = query_as(
            "SELECT r, decided, observed, woken FROM rules WHERE r IN (SELECT value FROM jsonb_each(?1))",
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

    /// Merges the counts of all accepted entries; records that speak for themselves become notifications.
    fn count(
        &self,
        accepted: &[&Entry],
        rules: &mut BTreeMap<Uuid, Live>,
        drafts: &mut Vec<Draft>,
    ) -> Result<Groups, Error> {
        let mut groups = Groups::new();
        for entry in accepted {
            for rule in rules.values_mut().filter(|rule| rule.current && rule.reads(&entry.topic)) {
                rule.numbers.lately.read += entry.to - entry.from;
            }
            for count in &entry.counts {
                let rule = rules.get_mut(&count.rule).filter(|rule| rule.current && rule.reads(&entry.topic));
                let Some((rule, params)) = rule.and_then(|rule| rule.params.map(|params| (rule, params)))
                else {
                    continue;
                };
                rule.numbers.matched += count.count;
                rule.numbers.last_match = rule.numbers.last_match.max(Some(ms(count.last.at.time)));
                let bucket = params.buckets().start_of(count.bucket_ms);
                if rule.decided.is_some_and(|decided| params.is_late(bucket, decided)) {
                    rule.numbers.late += count.count;
                    continue;
                }
                let key = (rule.object.row, labels(&count.group)?);
                let counted = Aggregate::from(count.clone());
                counts::merge(groups.entry(key).or_default(), bucket, counted, params.values_kept());
            }
            for matched in &entry.records {
                let rule =
                    rules.get_mut(&matched.rule).filter(|rule| rule.current && rule.reads(&entry.topic));
                let Some(rule) = rule.filter(|rule| rule.params.is_none()) else { continue };
                rule.numbers.matched += 1;
                rule.numbers.last_match = rule.numbers.last_match.max(Some(ms(matched.sample.at.time)));
                if let Some(speaks) = Rule::of(&rule.object) {
                    let id = speaks.record_id(&entry.topic_id, matched);
                    let text = self.texts.get(&id).cloned().or_else(|| {
                        let data = speaks.subject().record(&matched.group, &matched.sample);
                        let why = "the rule came while the record was taken";
                        self.plain.then(|| Rendered::plain(&data, why))
                    });
                    let Some(text) = text else { return Err(Error::Conflict(UNRENDERED.to_owned())) };
                    drafts.push(speaks.record(text, &entry.topic_id, matched, self.now)?);
                }
            }
            for dropped in &entry.dropped {
                let concerned = rules.iter_mut().filter(|(uid, rule)| {
                    rule.current && rule.reads(&entry.topic) && dropped.rule.is_none_or(|of| of == **uid)
                });
                for (_, rule) in concerned {
                    if rule.numbers.lately.drop(&dropped.reason, dropped.count) {
                        let sampled = Sampled::of(&dropped.reason, entry, dropped.sample.as_ref());
                        rule.numbers.uncounted = Some(sampled);
                    }
                    if dropped.reason == lately::UNDECODABLE {
                        rule.numbers.dead_lettered += dropped.count;
                    } else {
                        let mut reason: String = dropped.reason.chars().take(40).collect();
                        let known = &rule.numbers.dropped;
                        if known.len() >= REASONS && !known.contains_key(&reason) {
                            OTHER.clone_into(&mut reason);
                        }
                        *rule.numbers.dropped.entry(reason).or_default() += dropped.count;
                    }
                }
            }
        }
        Ok(groups)
    }
}

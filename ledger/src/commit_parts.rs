//! Takes a commit as its consumer sends it: checks its bounds, splits it into parts that each fit into a transaction,
//! and renders the texts of its records.
//!
//! Invariants: a part is one transaction, in which each entry is accepted or refused. An entry of one record is never
//! too large. Texts are rendered only for entries that begin at the ledger's position.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;
use protocol::messages::{Commit, CommitResult, Entry};
use uuid::Uuid;

use crate::catalog::Catalog;
use crate::commit::{TakePart, TakenPart, UNRENDERED, check_entries};
use crate::engine::query_scalar;
use crate::notify::count_deliveries;
use crate::rules::RuleRef;
use crate::texts::{Remaining, TextRequest, TextSubject};
use crate::{Error, Ledger};

/// How many deliveries the records of one transaction may make.
const MAX_DELIVERIES: usize = 2_000;
/// How many counts and records one transaction takes, over all its entries.
const MAX_ITEMS: usize = 1_000;
/// What an entry costs a transaction, as (counts and records, deliveries of its records).
fn entry_cost(catalog: &Catalog, entry: &Entry) -> (usize, usize) {
    let mut each: HashMap<Uuid, usize> = HashMap::new();
    let of = |rule: &Uuid| catalog.get(*rule).map_or(0, |object| count_deliveries(catalog, object));
    let deliveries =
        entry.records.iter().map(|it| *each.entry(it.rule).or_insert_with(|| of(&it.rule))).sum();
    (entry.counts.len() + entry.records.len(), deliveries)
}

/// Splits a commit into parts, each for one transaction.
fn split(catalog: &Catalog, commit: Commit) -> Result<Vec<Commit>, Error> {
    let Commit { revision, rules, survey, entries } = commit;
    let mut parts: Vec<Vec<Entry>> = Vec::new();
    let mut held = (0, 0);
    for entry in entries {
        let (items, deliveries) = entry_cost(catalog, &entry);
        // What one record causes can't be split.
        if entry.to - entry.from > 1 {
            let place = format!("{}/{}", entry.topic, entry.partition);
            for (what, held, limit) in
                [("counts and records", items, MAX_ITEMS), ("deliveries", deliveries, MAX_DELIVERIES)]
            {
                if held > limit {
                    return Err(Error::TooLarge { place, what, held, limit });
                }
            }
        }
        // The transaction looks at each entry for each rule.
        let items = items + entry.dropped.len() + rules.len();
        held = (held.0 + items, held.1 + deliveries);
        match parts.last_mut() {
            Some(part) if held.0 <= MAX_ITEMS && held.1 <= MAX_DELIVERIES => part.push(entry),
            _ => {
                parts.push(vec![entry]);
                held = (items, deliveries);
            }
        }
    }
    let part = |entries| Commit {
        revision: revision.clone(),
        rules: rules.clone(),
        survey: survey.clone(),
        entries,
    };
    Ok(parts.into_iter().map(part).collect())
}

/// The commit without its entries.
fn without_entries(commit: &Commit) -> Commit {
    let Commit { revision, rules, survey, .. } = commit;
    Commit { revision: revision.clone(), rules: rules.clone(), survey: survey.clone(), entries: Vec::new() }
}

/// The requests for the texts of the records in a commit's entries, in those of `only` or in all.
fn text_requests(
    catalog: &Catalog,
    namespace: &str,
    commit: &Arc<Commit>,
    only: Option<&HashSet<usize>>,
) -> Vec<TextRequest> {
    let mut requests = Vec::new();
    for (at, entry) in commit.entries.iter().enumerate() {
        if only.is_some_and(|only| !only.contains(&at)) {
            continue;
        }
        for (place, matched) in entry.records.iter().enumerate() {
            // A consumer can't speak for a rule of another namespace.
            let Some(object) = catalog.in_namespace(matched.rule, namespace) else { continue };
            let Some(rule) = RuleRef::new(object) else { continue };
            let id = rule.record_id(&entry.topic_id, matched);
            let of = TextSubject::Record(Arc::clone(commit), at, place);
            requests.push(TextRequest { id, object: Arc::clone(object), group: None, of });
        }
    }
    requests
}

impl Ledger {
    /// Takes what a consumer counted. Each entry is accepted or refused by itself. [`Error::TooLarge`] if an entry of
    /// more than one record holds more than one transaction takes; then nothing of the commit is taken.
    ///
    /// The commit is durable before this returns. What it made due is decided by then too, unless that takes longer
    /// than [`Options::decide_wait`](crate::Options::decide_wait).
    pub async fn commit(
        &self,
        namespace: &str,
        source: &str,
        commit: Commit,
        now: Timestamp,
    ) -> Result<CommitResult, Error> {
        check_entries(&commit)?;
        let catalog = self.shared.catalog();
        let known = catalog.namespace(namespace).and_then(|space| space.sources.get(source));
        let revision = known
            .map(|plan| plan.revision.clone())
            .ok_or_else(|| Error::NotFound(format!("source {source} of namespace {namespace}")))?;
        let mut result = CommitResult { entries: Vec::with_capacity(commit.entries.len()), revision };
        let mut left = Remaining::default();
        let mut parts: VecDeque<_> = split(&catalog, commit)?.into_iter().map(Arc::new).collect();
        while let Some(commit) = parts.pop_front() {
            let likely = self.likely_accepted(namespace, source, &commit).await;
            let taken = match self.take_part(namespace, source, &commit, Some(&likely), now).await {
                Err(Error::Conflict(why)) if why == UNRENDERED => {
                    self.take_part(namespace, source, &commit, None, now).await?
                }
                Err(Error::TooLarge { .. }) if commit.entries.len() > 1 => {
                    let entries = commit.entries.iter().rev();
                    let one =
                        |entry: &Entry| Commit { entries: vec![entry.clone()], ..without_entries(&commit) };
                    entries.for_each(|entry| parts.push_front(Arc::new(one(entry))));
                    continue;
                }
                taken => taken?,
            };
            result.entries.extend(taken.result.entries);
            result.revision = taken.result.revision;
            left.add(taken.left);
        }
        self.wait_for_decisions(namespace, left, now).await;
        Ok(result)
    }

    /// Takes a part, with texts rendered for the entries of `only`, or for all.
    async fn take_part(
        &self,
        namespace: &str,
        source: &str,
        commit: &Arc<Commit>,
        only: Option<&HashSet<usize>>,
        now: Timestamp,
    ) -> Result<TakenPart, Error> {
        let requests = text_requests(&self.shared.catalog(), namespace, commit, only);
        let texts = self.decider.texts.render_all(namespace, requests).await;
        let (namespace, source, plain) = (namespace.to_owned(), source.to_owned(), only.is_none());
        let commit = Arc::clone(commit);
        self.writer.execute(TakePart { namespace, source, commit, texts, plain, now }).await
    }

    /// The entries with records that begin at the ledger's position. Other entries will be refused, so their texts
    /// aren't worth rendering. Returns all entries with records if no reader is free.
    async fn likely_accepted(&self, namespace: &str, source: &str, commit: &Commit) -> HashSet<usize> {
        let mut likely = HashSet::new();
        // People who read must not delay a commit.
        let mut reader = self.readers.try_acquire().await;
        for (at, entry) in commit.entries.iter().enumerate().filter(|(_, entry)| !entry.records.is_empty()) {
            let Some(reader) = &mut reader else {
                likely.insert(at);
                continue;
            };
            let position: Result<Option<i64>, _> = query_scalar(crate::queries::POSITION)
                .bind(namespace)
                .bind(source)
                .bind(&entry.topic)
                .bind(&entry.topic_id)
                .bind(entry.partition)
                .fetch_optional(reader)
                .await;
            if position.map_or(true, |position| position == Some(entry.from)) {
                likely.insert(at);
            }
        }
        likely
    }
}

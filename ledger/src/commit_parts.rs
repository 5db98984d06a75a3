//! A commit as its consumer sends it: bounded, in parts that each fit into a transaction, with the texts of its records.
//!
//! Invariants: a part is taken or refused as a whole, entry by entry; an entry of one record is never too large. Never: a
//! text for an entry that does not begin where the ledger stands.

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

/// Deliveries that the records of one transaction may make.
const MAX_DELIVERIES: usize = 2_000;
/// Counts and records that one transaction takes, in the entries of a commit together.
const MAX_ITEMS: usize = 1_000;
/// What an entry asks of a transaction: counts and records, and deliveries of its records.
fn entry_cost(catalog: &Catalog, entry: &Entry) -> (usize, usize) {
    let mut each: HashMap<Uuid, usize> = HashMap::new();
    let of = |rule: &Uuid| catalog.get(*rule).map_or(0, |object| count_deliveries(catalog, object));
    let deliveries =
        entry.records.iter().map(|it| *each.entry(it.rule).or_insert_with(|| of(&it.rule))).sum();
    (entry.counts.len() + entry.records.len(), deliveries)
}

/// The entries in parts, each for one transaction.
fn split(catalog: &Catalog, commit: Commit) -> Result<Vec<Commit>, Error> {
    let Commit { revision, rules, survey, entries } = commit;
    let mut parts: Vec<Vec<Entry>> = Vec::new();
    let mut held = (0, 0);
    for entry in entries {
        let (items, deliveries) = entry_cost(catalog, &entry);
        // What one record causes can't be taken in parts.
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
        // Each entry is looked at for each rule.
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

/// The texts of the records of a commit's entries, of these or of all.
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
            // A rule of another namespace has no say here.
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
    /// Takes what a consumer counted: each entry is accepted or refused by itself. [`Error::TooLarge`] when an entry of more
    /// than one record holds more than is taken at once; nothing of the commit is taken then.
    ///
    /// It is durable before this answers. What is due then is decided before too, unless that takes longer than some seconds.
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

    /// Takes a part, with the texts of these of its entries, or of all.
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

    /// Entries that hold records and begin where the ledger stands, as far as can be seen without waiting: the texts of the
    /// others, which are refused, are not worth rendering. All, where nothing can be seen.
    async fn likely_accepted(&self, namespace: &str, source: &str, commit: &Commit) -> HashSet<usize> {
        let mut likely = HashSet::new();
        // Whoever reads must not hold up a commit.
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

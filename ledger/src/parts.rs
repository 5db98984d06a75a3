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
use crate::commit::{Take, Taken, UNRENDERED, check};
use crate::db::query_scalar;
use crate::notify::targets;
use crate::rules::Rule;
use crate::texts::{Ask, Left, Of};
use crate::{Error, Ledger};

/// Deliveries that the records of one transaction may make.
const DELIVERIES: usize = 2_000;
/// Counts and records that one transaction takes, in the entries of a commit together.
const ITEMS: usize = 1_000;
/// What an entry asks of a transaction: counts and records, and deliveries of its records.
fn cost(catalog: &Catalog, entry: &Entry) -> (usize, usize) {
    let mut each: HashMap<Uuid, usize> = HashMap::new();
    let of = |rule: &Uuid| catalog.get(*rule).map_or(0, |object| targets(catalog, object));
    let deliveries =
        entry.records.iter().map(|it| *each.entry(it.rule).or_insert_with(|| of(&it.rule))).sum();
    (entry.counts.len() + entry.records.len(), deliveries)
}

/// The entries in parts, each for one transaction.
fn parts(catalog: &Catalog, commit: Commit) -> Result<Vec<Commit>, Error> {
    let Commit { revision, rules, survey, entries } = commit;
    let mut parts: Vec<Vec<Entry>> = Vec::new();
    let mut held = (0, 0);
    for entry in entries {
        let (items, deliveries) = cost(catalog, &entry);
        // What one record causes can't be taken in parts.
        if entry.to - entry.from > 1 {
            let place = format!("{}/{}", entry.topic, entry.partition);
            for (what, held, limit) in
                [("counts and records", items, ITEMS), ("deliveries", deliveries, DELIVERIES)]
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
            Some(part) if held.0 <= ITEMS && held.1 <= DELIVERIES => part.push(entry),
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
fn emptied(commit: &Commit) -> Commit {
    let Commit { revision, rules, survey, .. } = commit;
    Commit { revision: revision.clone(), rules: rules.clone(), survey: survey.clone(), entries: Vec::new() }
}

/// The texts of the records of a commit's entries, of these or of all.
fn asks(catalog: &Catalog, namespace: &str, commit: &Arc<Commit>, only: Option<&HashSet<usize>>) -> Vec<Ask> {
    let mut asks = Vec::new();
    for (at, entry) in commit.entries.iter().enumerate() {
        if only.is_some_and(|only| !only.contains(&at)) {
            continue;
        }
        for (place, matched) in entry.records.iter().enumerate() {
            // A rule of another namespace has no say here.
            let Some(object) = catalog.in_namespace(matched.rule, namespace) else { continue };
            let Some(rule) = Rule::of(object) else { continue };
            let id = rule.record_id(&entry.topic_id, matched);
            let of = Of::Record(Arc::clone(commit), at, place);
            asks.push(Ask { id, object: Arc::clone(object), group: None, of });
        }
    }
    asks
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
        check(&commit)?;
        let catalog = self.shared.catalog();
        let known = catalog.space(namespace).and_then(|space| space.sources.get(source));
        let revision = known
            .map(|plan| plan.revision.clone())
            .ok_or_else(|| Error::NotFound(format!("source {source} of namespace {namespace}")))?;
        let mut result = CommitResult { entries: Vec::with_capacity(commit.entries.len()), revision };
        let mut left = Left::default();
        let mut parts: VecDeque<_> = parts(&catalog, commit)?.into_iter().map(Arc::new).collect();
        while let Some(commit) = parts.pop_front() {
            let likely = self.likely(namespace, source, &commit).await;
            let taken = match self.take(namespace, source, &commit, Some(&likely), now).await {
                Err(Error::Conflict(why)) if why == UNRENDERED => {
                    self.take(namespace, source, &commit, None, now).await?
                }
                Err(Error::TooLarge { .. }) if commit.entries.len() > 1 => {
                    let entries = commit.entries.iter().rev();
                    let one = |entry: &Entry| Commit { entries: vec![entry.clone()], ..emptied(&commit) };
                    entries.for_each(|entry| parts.push_front(Arc::new(one(entry))));
                    continue;
                }
                taken => taken?,
            };
            result.entries.extend(taken.result.entries);
            result.revision = taken.result.revision;
            left.add(taken.left);
        }
        self.go_on(namespace, left, now).await;
        Ok(result)
    }

    /// Takes a part, with the texts of these of its entries, or of all.
    async fn take(
        &self,
        namespace: &str,
        source: &str,
        commit: &Arc<Commit>,
        only: Option<&HashSet<usize>>,
        now: Timestamp,
    ) -> Result<Taken, Error> {
        let asks = asks(&self.shared.catalog(), namespace, commit, only);
        let texts = self.decider.texts.ready(namespace, asks).await;
        let (namespace, source, plain) = (namespace.to_owned(), source.to_owned(), only.is_none());
        let commit = Arc::clone(commit);
        self.door.done(Take { namespace, source, commit, texts, plain, now }).await
    }

    /// Entries that hold records and begin where the ledger stands, as far as can be seen without waiting: the texts of the
    /// others, which are refused, are not worth rendering. All, where nothing can be seen.
    async fn likely(&self, namespace: &str, source: &str, commit: &Commit) -> HashSet<usize> {
        let mut likely = HashSet::new();
        // Whoever reads must not hold up a commit.
        let mut reader = self.readers.try_acquire().await;
        for (at, entry) in commit.entries.iter().enumerate().filter(|(_, entry)| !entry.records.is_empty()) {
            let Some(reader) = &mut reader else {
                likely.insert(at);
                continue;
            };
            let position: Result<Option<i64>, _> = query_scalar(crate::reads::POSITION)
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

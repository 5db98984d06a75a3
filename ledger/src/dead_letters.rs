//! Keeps dead letters, records that could not be decoded, if no dead-letter topic took them.
//!
//! Invariants: dead letters are keyed by namespace, so what one namespace says of a record doesn't concern another. A
//! namespace stays within its bytes in the same transaction that adds to them: the oldest dead letters are removed,
//! and the rules that read their topics report it. The number removed is in proportion to the number added.

use std::collections::{BTreeMap, HashMap};

use domain::DropReason;
use jiff::Timestamp;
use protocol::messages::{
    DeadLetter, DeadLetterList, DeadLetterQuery, DeadLetterTopic, Entry, StoredDeadLetter,
};

use crate::catalog::Catalog;
use crate::engine::{query, query_scalar};
use crate::queries::{self, PAGE_BYTES};
use crate::sql::{ms, set, time};
use crate::writer::Tx;
use crate::{Error, Ledger};

/// Bytes that a row counts in addition to its body.
const ROW_BYTES: i64 = 256;
/// Longest value and key, as Base64, and longest reason. Workers send no longer ones.
const MAX_VALUE: usize = 21_848;
const MAX_KEY: usize = 1_368;
const MAX_REASON: usize = 1_000;

/// At most how many dead-letter topics a list names.
const MAX_TOPICS: usize = 100;

/// A dead letter to be stored: (topic id, partition, offset, topic, body, bytes).
type NewDeadLetter<'a> = (&'a str, i32, i64, &'a str, String, i64);

/// Stores the dead letters of a commit's entries.
pub(crate) async fn store(
    tx: &mut Tx,
    namespace: &str,
    entries: &[&Entry],
    now: Timestamp,
) -> Result<(), Error> {
    let limit = tx.options.max_dead_letter_bytes;
    let (mut rows, mut bytes): (Vec<NewDeadLetter<'_>>, i64) = (Vec::new(), 0);
    let mut dropped: BTreeMap<String, i64> = BTreeMap::new();
    // If not all fit, keep the newest.
    for entry in entries.iter().rev() {
        for letter in entry.dead_letters.iter().rev() {
            let body = serde_json::to_string(&within_bounds(letter))?;
            let counts = body.len() as i64 + ROW_BYTES;
            if bytes + counts > limit {
                *dropped.entry(entry.topic.clone()).or_default() += 1;
                continue;
            }
            bytes += counts;
            rows.push((&entry.topic_id, entry.partition, letter.offset, &entry.topic, body, counts));
        }
    }
    rows.reverse();
    if !rows.is_empty() {
        let most = rows.len() as i64 * 2 + 64;
        for (topic, count) in make_room(tx, namespace, bytes, most).await? {
            *dropped.entry(topic).or_default() += count;
        }
        query(
            "INSERT INTO dead_letters (topic_id, p, position, topic, body, bytes, namespace, stored) SELECT \
             topic_id, p, position, topic, body, bytes, $2, $3 \
             FROM ROWS($1 AS j: topic_id TEXT, p BIGINT, position BIGINT, topic TEXT, body TEXT, bytes BIGINT) \
             WHERE true ON CONFLICT (namespace, topic_id, p, position) DO NOTHING",
        )
        .bind(set(&rows)?)
        .bind(namespace)
        .bind(ms(now))
        .execute(&mut tx.conn)
        .await?;
    }
    report_dropped(tx, namespace, &dropped).await
}

/// Cuts a dead letter to its bounds, whatever a worker sent.
fn within_bounds(letter: &DeadLetter) -> DeadLetter {
    let within = |text: &str, most: usize| -> String {
        if text.len() <= most { text.to_owned() } else { text.chars().take(most).collect() }
    };
    DeadLetter {
        reason: within(&letter.reason, MAX_REASON),
        key: letter.key.as_ref().map(|key| within(key, MAX_KEY)),
        value: within(&letter.value, MAX_VALUE),
        ..*letter
    }
}

/// Removes the oldest dead letters of a namespace, at most `most`, until `more` bytes fit. Returns how many it
/// removed, by topic.
pub(crate) async fn make_room(
    tx: &mut Tx,
    namespace: &str,
    more: i64,
    most: i64,
) -> Result<BTreeMap<String, i64>, Error> {
    let held: Option<i64> = query_scalar("SELECT bytes FROM usage WHERE namespace = $1 AND kind = 'letters'")
        .bind(namespace)
        .fetch_optional(&mut tx.conn)
        .await?;
    let mut over = held.unwrap_or(0) + more - tx.options.max_dead_letter_bytes;
    let mut dropped = BTreeMap::new();
    if over <= 0 {
        return Ok(dropped);
    }
    let oldest: Vec<(i64, i64, String)> =
        query("SELECT l, bytes, topic FROM dead_letters WHERE namespace = $1 ORDER BY l LIMIT $2")
            .bind(namespace)
            .bind(most)
            .fetch_all(&mut tx.conn)
            .await?;
    let mut gone = Vec::new();
    for (l, bytes, topic) in oldest {
        if over <= 0 {
            break;
        }
        over -= bytes;
        gone.push(l);
        *dropped.entry(topic).or_default() += 1;
    }
    query("DELETE FROM dead_letters WHERE l IN (SELECT value FROM EACH($1 AS j: BIGINT))")
        .bind(set(&gone)?)
        .execute(&mut tx.conn)
        .await?;
    Ok(dropped)
}

/// Adds removed dead letters, by topic, to the numbers of the rules that read the topics, and to the metrics.
pub(crate) async fn report_dropped(
    tx: &mut Tx,
    namespace: &str,
    dropped: &BTreeMap<String, i64>,
) -> Result<(), Error> {
    if dropped.is_empty() {
        return Ok(());
    }
    tx.counted.letters_dropped += dropped.values().sum::<i64>().unsigned_abs();
    let catalog = std::sync::Arc::clone(&tx.catalog);
    let mut rows: HashMap<i64, i64> = HashMap::new();
    for source in catalog.namespace(namespace).into_iter().flat_map(|space| space.sources.values()) {
        for (uid, rule) in &source.rules {
            let count: i64 = rule.plan.topics.iter().filter_map(|topic| dropped.get(topic)).sum();
            if let Some(object) = catalog.get(*uid).filter(|_| count > 0) {
                rows.insert(object.row, count);
                tx.mark(*uid, false);
            }
        }
    }
    add_drops(tx, DropReason::LettersDropped, &rows).await
}

/// Adds to rules' numbers of what was dropped for `reason`; `rows` has a count by the rule's row.
pub(crate) async fn add_drops(
    tx: &mut Tx,
    reason: DropReason,
    rows: &HashMap<i64, i64>,
) -> Result<(), Error> {
    if rows.is_empty() {
        return Ok(());
    }
    query(
        "INSERT INTO drops (r, reason, count) SELECT r, $2, count FROM ROWS($1 AS j: r BIGINT, count BIGINT) \
         WHERE true ON CONFLICT (r, reason) DO UPDATE SET count = drops.count + excluded.count",
    )
    .bind(set(&rows.iter().collect::<Vec<_>>())?)
    .bind(reason.name())
    .execute(&mut tx.conn)
    .await?;
    Ok(())
}

impl Ledger {
    /// Lists a namespace's dead letters that no dead-letter topic took, newest first, as many as fit into an answer
    /// of 1 MiB; `next` is the cursor of the next page. [`Error::NotFound`] if the dead letter at the cursor is gone.
    pub async fn dead_letters(
        &self,
        namespace: &str,
        asked: DeadLetterQuery,
    ) -> Result<DeadLetterList, Error> {
        let gone = || Error::NotFound("the dead letter to go on from (begin anew)".to_owned());
        let of_before = self.shared.catalog().known_namespaces.get(namespace).map_or(0, |origin| origin.l);
        let mut reader = self.people_readers.acquire().await?;
        let before = match &asked.after {
            None => i64::MAX,
            Some(after) => {
                let (p, position, topic_id) = parse_cursor(after).ok_or_else(gone)?;
                query_scalar(queries::DEAD_LETTER_ROW)
                    .bind(namespace)
                    .bind(topic_id)
                    .bind(p)
                    .bind(position)
                    .fetch_optional(&mut reader)
                    .await?
                    .ok_or_else(gone)?
            }
        };
        let topics = dead_letter_topics(&self.shared.catalog(), namespace);
        let limit = asked.limit.unwrap_or(100).clamp(1, 500);
        let sizes: Vec<(i64, i64)> = query(queries::DEAD_LETTER_SIZES)
            .bind(namespace)
            .bind(before)
            .bind(limit + 1)
            .fetch_all(&mut reader)
            .await?;
        let mut bytes = 0;
        let sizes: Vec<(i64, i64)> = sizes.into_iter().filter(|(l, _)| *l > of_before).collect();
        let fits = sizes.iter().take(limit as usize).take_while(|(_, size)| {
            let first = bytes == 0;
            bytes += size;
            first || bytes <= PAGE_BYTES
        });
        let mut list = DeadLetterList { topics, ..DeadLetterList::default() };
        let Some((end, _)) = fits.last() else { return Ok(list) };
        let found: Vec<(String, i32, i64, String, String)> = query(queries::DEAD_LETTERS)
            .bind(namespace)
            .bind(before)
            .bind(*end)
            .bind(limit)
            .fetch_all(&mut reader)
            .await?;
        drop(reader);
        let more = sizes.last().is_some_and(|(l, _)| l != end);
        let mut at = String::new();
        for (topic, partition, stored, body, topic_id) in found {
            let letter: DeadLetter = serde_json::from_str(&body)?;
            at = format!("{partition}.{}.{topic_id}", letter.offset);
            list.items.push(StoredDeadLetter { topic, partition, stored: time(stored), letter });
        }
        list.next = Some(at).filter(|at| more && !at.is_empty());
        Ok(list)
    }
}

/// The dead-letter topics that a namespace's rules name.
fn dead_letter_topics(catalog: &Catalog, namespace: &str) -> Vec<DeadLetterTopic> {
    let sources = catalog.namespace(namespace).into_iter().flat_map(|space| space.sources.values());
    let rules = sources.flat_map(|source| source.rules.values());
    let topics = rules.flat_map(|rule| {
        let topics = rule.plan.dead_letter_topics().into_iter();
        topics.map(|topic| DeadLetterTopic { rule: rule.name.clone(), topic })
    });
    let mut topics: Vec<DeadLetterTopic> = topics.take(MAX_TOPICS).collect();
    topics.sort();
    topics
}

/// Parses the cursor that a list's `next` was: (partition, offset, topic id).
fn parse_cursor(after: &str) -> Option<(i32, i64, &str)> {
    let (p, rest) = after.split_once('.')?;
    let (position, topic_id) = rest.split_once('.')?;
    Some((p.parse().ok()?, position.parse().ok()?, topic_id))
}

//! The positions at which consumers read on.
//!
//! Invariants: a topic is opened once, by the first request that names it, and is durable before the answer. A topic
//! that was made again, and a partition that appears later, are read from the first record. A topic that no rule
//! reads has no position.
//!
//! Clauses of docs/semantics.md: R5, R6.

use std::collections::{BTreeMap, HashMap};

use domain::StartFrom;
use protocol::messages::{Positions, PositionsRequest, TopicEnds};

use crate::engine::{query, query_scalar};
use crate::sql::set;
use crate::writer::{Command, Tx};
use crate::{Error, Ledger};

/// A topic as stored.
#[derive(Debug)]
pub(crate) struct StoredTopic {
    pub(crate) t: i64,
    pub(crate) id: String,
    pub(crate) partitions: BTreeMap<i32, StoredPartition>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct StoredPartition {
    pub(crate) position: i64,
    pub(crate) progress: Option<i64>,
}

/// Loads all topics of a source, by name.
pub(crate) async fn load_topics(
    tx: &mut Tx,
    namespace: &str,
    source: &str,
) -> Result<HashMap<String, StoredTopic>, Error> {
    let rows: Vec<(i64, String, String, i32, i64, Option<i64>)> = query(
        "SELECT t.t, t.name, t.topic_id, p.p, p.position, p.progress FROM sources s JOIN topics t ON t.s = s.s \
         JOIN partitions p ON p.t = t.t WHERE s.namespace = $1 AND s.key = $2",
    )
    .bind(namespace)
    .bind(source)
    .fetch_all(&mut tx.conn)
    .await?;
    let mut topics: HashMap<String, StoredTopic> = HashMap::new();
    for (t, name, id, p, position, progress) in rows {
        let topic = topics.entry(name).or_insert_with(|| StoredTopic { t, id, partitions: BTreeMap::new() });
        topic.partitions.insert(p, StoredPartition { position, progress });
    }
    Ok(topics)
}

/// Longest id of a topic, bytes. Kafka's have 22.
const TOPIC_ID: usize = 100;

struct OpenTopics {
    namespace: String,
    source: String,
    request: PositionsRequest,
}

impl Command for OpenTopics {
    type Answer = Positions;

    fn namespace(&self) -> Option<&str> {
        Some(&self.namespace)
    }

    async fn run(&mut self, tx: &mut Tx) -> Result<Positions, Error> {
        let catalog = std::sync::Arc::clone(&tx.catalog);
        let rules: Vec<_> =
            catalog.rules_of(&self.namespace, &self.source).filter_map(|object| object.rule()).collect();
        if rules.is_empty() {
            return Err(Error::NotFound(format!("source {} of namespace {}", self.source, self.namespace)));
        }
        let known = load_topics(tx, &self.namespace, &self.source).await?;
        self.check_request(&known)?;
        let mut positions = Positions { topics: BTreeMap::new() };
        let mut opened = Vec::new();
        for ends in &self.request.topics {
            let readers: Vec<_> = rules.iter().filter(|rule| rule.topics.contains(&ends.topic)).collect();
            if readers.is_empty() {
                continue;
            }
            let earliest = readers.iter().any(|rule| rule.start_from == StartFrom::Earliest);
            let known = known.get(&ends.topic);
            let same = known.filter(|topic| topic.id == ends.topic_id);
            let t = match (same, known) {
                (Some(topic), _) => topic.t,
                (None, Some(old)) => {
                    replace_topic(tx, old.t, ends).await?;
                    old.t
                }
                (None, None) => self.insert_topic(tx, ends).await?,
            };
            // Nobody has read the records of a topic that was made again.
            let earliest = earliest || known.is_some();
            let mut list = Vec::with_capacity(ends.partitions.len());
            for (p, (low, high)) in ends.partitions.iter().enumerate() {
                let stored = same.and_then(|topic| topic.partitions.get(&(p as i32)));
                let position = match stored {
                    Some(partition) => partition.position,
                    None if same.is_some() => 0,
                    None if earliest => *low,
                    None => *high,
                };
                if stored.is_none() {
                    opened.push((t, p, position, high));
                }
                list.push(position);
            }
            positions.topics.insert(ends.topic.clone(), list);
        }
        if !opened.is_empty() {
            self.check_room(tx, opened.len()).await?;
            query(
                "INSERT INTO partitions (t, p, position, high) SELECT t, p, position, high \
                 FROM ROWS($1 AS j: t BIGINT, p BIGINT, position BIGINT, high BIGINT)",
            )
            .bind(set(&opened)?)
            .execute(&mut tx.conn)
            .await?;
            for object in catalog.rules_of(&self.namespace, &self.source) {
                tx.mark(object.plan.uid, true);
            }
        }
        Ok(positions)
    }
}

/// Replaces a topic: another one has taken its name.
async fn replace_topic(tx: &mut Tx, t: i64, ends: &TopicEnds) -> Result<(), Error> {
    for sql in ["DELETE FROM partitions WHERE t = $1", "DELETE FROM activations WHERE t = $1"] {
        query(sql).bind(t).execute(&mut tx.conn).await?;
    }
    query("UPDATE topics SET topic_id = $2 WHERE t = $1")
        .bind(t)
        .bind(&ends.topic_id)
        .execute(&mut tx.conn)
        .await?;
    Ok(())
}

/// How many partitions one source may have, over all its topics. Each commit looks at all of them.
const PARTITIONS: usize = 5_000;

impl OpenTopics {
    /// Refuses more partitions than a source may have, and ids that are too long.
    fn check_request(&self, known: &HashMap<String, StoredTopic>) -> Result<(), Error> {
        if self.request.topics.iter().any(|ends| ends.topic_id.len() > TOPIC_ID) {
            return Err(Error::Invalid(format!("a topic's id has at most {TOPIC_ID} bytes")));
        }
        let asked: HashMap<&str, usize> =
            self.request.topics.iter().map(|ends| (ends.topic.as_str(), ends.partitions.len())).collect();
        let others = known.iter().filter(|(name, _)| !asked.contains_key(name.as_str()));
        let held = asked.values().sum::<usize>() + others.map(|(_, it)| it.partitions.len()).sum::<usize>();
        if held <= PARTITIONS {
            return Ok(());
        }
        let (place, what) = (format!("source {}", self.source), "partitions");
        Err(Error::TooLarge { place, what, held, limit: PARTITIONS })
    }

    /// Refuses more partitions than a namespace may have.
    async fn check_room(&self, tx: &mut Tx, more: usize) -> Result<(), Error> {
        let held: i64 = query_scalar(
            "SELECT count(*) FROM sources s CROSS JOIN topics t ON t.s = s.s CROSS JOIN partitions p \
             ON p.t = t.t WHERE s.namespace = $1",
        )
        .bind(&self.namespace)
        .fetch_one(&mut tx.conn)
        .await?;
        let limit = tx.options.max_partitions;
        if held + more as i64 <= limit {
            return Ok(());
        }
        let (namespace, retry) = (self.namespace.clone(), protocol::messages::DEFAULT_RETRY);
        Err(Error::OverQuota { namespace, what: "partitions that its rules read", limit, retry })
    }

    async fn insert_topic(&self, tx: &mut Tx, ends: &TopicEnds) -> Result<i64, Error> {
        query("INSERT INTO sources (namespace, key) VALUES ($1, $2) ON CONFLICT DO NOTHING")
            .bind(&self.namespace)
            .bind(&self.source)
            .execute(&mut tx.conn)
            .await?;
        // The topic may exist already, without partitions.
        let t = query_scalar(
            "INSERT INTO topics (s, name, topic_id) SELECT s, $3, $4 FROM sources WHERE namespace = $1 \
             AND key = $2 ON CONFLICT (s, name) DO UPDATE SET topic_id = excluded.topic_id RETURNING t",
        )
        .bind(&self.namespace)
        .bind(&self.source)
        .bind(&ends.topic)
        .bind(&ends.topic_id)
        .fetch_one(&mut tx.conn)
        .await?;
        Ok(t)
    }
}

impl Ledger {
    /// Where to read on. Opens topics that the source has never read. Leaves out topics that no rule reads.
    pub async fn positions(
        &self,
        namespace: &str,
        source: &str,
        request: PositionsRequest,
    ) -> Result<Positions, Error> {
        let (namespace, source) = (namespace.to_owned(), source.to_owned());
        self.writer.execute(OpenTopics { namespace, source, request }).await
    }
}

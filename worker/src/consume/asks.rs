//! Questions of the reader that take time: positions, the ends of partitions, and whether the topics are there.
//!
//! Each question is answered once, with an event. Never here: what the answers lead to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc;
use std::time::Duration;

use protocol::messages::{ObjectProblem, PositionsRequest, TopicEnds};
use tokio::sync::mpsc::UnboundedReceiver;

use super::events::{Event, Look, Looked, Opened, now_ms};
use super::problems::Standing;
use super::survey::{self, Compared};
use crate::context::Context;
use crate::kafka::{Broker, Ends, Fault, FaultKind, Topic};

/// How often the broker is asked about the topics.
const PROBE: Duration = Duration::from_secs(5);

/// Asks broker and hub where to read on.
pub async fn positions(
    context: Context,
    source: String,
    broker: Broker,
    mut asked: UnboundedReceiver<BTreeSet<String>>,
    events: mpsc::Sender<Event>,
) {
    while let Some(topics) = asked.recv().await {
        let names: Vec<String> = topics.into_iter().collect();
        let answer = ask_positions(&context, &source, &broker, names).await;
        if let Err(why) = &answer {
            tracing::warn!(why, "positions are not known yet");
        }
        if events.send(Event::Positions(answer)).is_err() {
            return;
        }
    }
}

async fn ask_positions(
    context: &Context,
    source: &str,
    broker: &Broker,
    names: Vec<String>,
) -> Result<BTreeMap<String, Opened>, String> {
    let asker = broker.clone();
    let known = blocking(move || look_at(&asker, &names)).await?;
    let topics = known
        .iter()
        .map(|(topic, (id, ends))| TopicEnds {
            topic: topic.clone(),
            topic_id: id.clone(),
            partitions: ends.clone(),
        })
        .collect::<Vec<_>>();
    if topics.is_empty() {
        return Err("the broker does not know the topics, or a partition has no leader".to_owned());
    }
    let request = PositionsRequest { topics };
    let mut positions = match context.hub.positions(&context.config.namespace, source, &request).await {
        Ok(positions) => positions,
        Err(error) => {
            context.health.missing("hub", Some(error.to_string()));
            return Err(error.to_string());
        }
    };
    Ok(known
        .into_iter()
        .filter_map(|(topic, (id, ends))| {
            let next = positions.topics.remove(&topic)?;
            let partitions =
                next.into_iter().zip(ends).map(|(next, (first, last))| (next, first, last)).collect();
            Some((topic, Opened { id, partitions }))
        })
        .collect())
}

type Known = BTreeMap<String, (String, Vec<(i64, i64)>)>;

/// Ids and ends of topics; those of which an end is not known are left out.
fn look_at(broker: &Broker, names: &[String]) -> Result<Known, String> {
    let there: Vec<(String, String, i32)> = broker
        .topics(names)
        .map_err(|fault| fault.why)?
        .into_iter()
        .filter_map(|(name, topic)| match topic {
            Topic::There { id, partitions } => Some((name, id, partitions)),
            Topic::Missing | Topic::Barred(_) | Topic::Failed(_) => None,
        })
        .collect();
    let all: Vec<(String, i32)> = there
        .iter()
        .flat_map(|(name, _, partitions)| (0..*partitions).map(|partition| (name.clone(), partition)))
        .collect();
    let ends: Ends = broker.ends(&all)?;
    Ok(there
        .into_iter()
        .filter_map(|(name, id, partitions)| {
            let of_topic: Option<Vec<_>> =
                (0..partitions).map(|partition| ends.get(&(name.clone(), partition)).copied()).collect();
            Some((name, (id, of_topic?)))
        })
        .collect())
}

/// Looks at the log; the answer carries the clock from before.
pub async fn looks(
    context: Context,
    source: String,
    broker: Broker,
    mut asked: UnboundedReceiver<Look>,
    events: mpsc::Sender<Event>,
) {
    while let Some(look) = asked.recv().await {
        let clock_ms = now_ms();
        let answer = look_now(&context, &source, &broker, look).await;
        if let Err(why) = &answer {
            tracing::debug!(why, "the ends are not known");
        }
        if events.send(Event::Looked(clock_ms, answer)).is_err() {
            return;
        }
    }
}

async fn look_now(context: &Context, source: &str, broker: &Broker, look: Look) -> Result<Looked, String> {
    let Look { topics, mut open, partitions } = look;
    let asker = broker.clone();
    let told = blocking(move || asker.topics(&topics)).await.map_err(|fault| fault.why)?;
    let mut compared = survey::compare(&open, &told);
    let mut opened = BTreeMap::new();
    if !compared.missing.is_empty() {
        tracing::info!(topics = ?compared.missing, "topics or partitions that are new: opening them");
        opened = open_all(context, source, broker, compared.missing).await;
        survey::add(&mut open, &opened);
        compared = survey::compare(&open, &told);
    }
    let Compared { known, ids, .. } = compared;
    let asker = broker.clone();
    let ends = blocking(move || asker.ends(&partitions)).await?;
    Ok(Looked { known, ids, opened, ends })
}

/// Opens topics at the hub; one that can't be opened keeps no other from it.
async fn open_all(
    context: &Context,
    source: &str,
    broker: &Broker,
    names: Vec<String>,
) -> BTreeMap<String, Opened> {
    match ask_positions(context, source, broker, names.clone()).await {
        Ok(opened) => return opened,
        Err(why) => tracing::warn!(why, topics = ?names, "they can't be opened yet"),
    }
    let mut opened = BTreeMap::new();
    for name in names.iter().filter(|_| names.len() > 1) {
        if let Ok(one) = ask_positions(context, source, broker, vec![name.clone()]).await {
            opened.extend(one);
        }
    }
    opened
}

/// Looks after the topics: are they there, and still the same ones.
pub async fn topics(broker: Broker, standing: Standing, servers: String, events: mpsc::Sender<Event>) {
    loop {
        let (asker, names) = (broker.clone(), standing.topics());
        match blocking(move || asker.topics(&names)).await {
            Ok(topics) => {
                standing.broker(None);
                let mut ids = BTreeMap::new();
                for (name, topic) in topics {
                    standing.topic(&name, problem(&name, &topic));
                    if let Topic::There { id, .. } = topic {
                        ids.insert(name, id);
                    }
                }
                if events.send(Event::Topics(ids)).is_err() {
                    return;
                }
            }
            Err(fault) => {
                tracing::warn!(why = fault.why, reason = fault.kind.reason(), "no broker answers");
                standing.broker(Some(unreached(&servers, &fault)));
            }
        }
        tokio::time::sleep(PROBE).await;
    }
}

/// Why nothing is read, and what it waits for.
fn unreached(servers: &str, Fault { kind, why }: &Fault) -> ObjectProblem {
    let message = match kind {
        FaultKind::Unreachable => {
            format!("no broker of {servers} answers: {why}; reading starts when one does")
        }
        FaultKind::Tls => {
            format!(
                "no TLS connection to {servers}: {why}; reading starts when source.kafka.tls or the broker is mended"
            )
        }
        FaultKind::Authentication => format!(
            "the brokers of {servers} do not accept the credentials: {why}; reading starts when the Secret or the broker's user is mended"
        ),
    };
    ObjectProblem { reason: kind.reason().to_owned(), message }
}

fn problem(name: &str, topic: &Topic) -> Option<ObjectProblem> {
    let (reason, message) = match topic {
        Topic::There { .. } => return None,
        Topic::Missing => {
            ("TopicNotFound", format!("topic {name:?} does not exist; reading starts when it does"))
        }
        Topic::Barred(why) | Topic::Failed(why) => {
            ("TopicUnavailable", format!("topic {name:?} can't be read: {why}"))
        }
    };
    Some(ObjectProblem { reason: reason.to_owned(), message })
}

/// Runs what blocks beside the runtime. It ends only with the process when it panics.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        // Cancelled: the runtime is going down, and nobody waits for an answer.
        Err(_) => std::future::pending().await,
    }
}

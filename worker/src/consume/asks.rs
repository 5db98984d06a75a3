//! Questions of the reader that take time: positions, the ends of partitions, and whether the topics are there.
//!
//! Each question is answered once, with an event. Never here: what the answers lead to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc;
use std::time::Duration;

use protocol::messages::{ObjectProblem, PositionsRequest, TopicEnds};
use tokio::sync::mpsc::UnboundedReceiver;

use super::events::{Event, Opened, now_ms};
use super::problems::Standing;
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
            Topic::Missing | Topic::Failed(_) => None,
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

/// Asks the broker where partitions end; the answer carries the clock from before it was asked.
pub async fn ends(
    broker: Broker,
    mut asked: UnboundedReceiver<Vec<(String, i32)>>,
    events: mpsc::Sender<Event>,
) {
    while let Some(partitions) = asked.recv().await {
        let broker = broker.clone();
        let (clock_ms, answer) = blocking(move || (now_ms(), broker.ends(&partitions))).await;
        if let Err(why) = &answer {
            tracing::debug!(why, "the ends are not known");
        }
        if events.send(Event::Ends(clock_ms, answer)).is_err() {
            return;
        }
    }
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
        Topic::Failed(why) => ("TopicUnavailable", format!("topic {name:?} can't be read: {why}")),
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

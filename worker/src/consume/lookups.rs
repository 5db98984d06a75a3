//! Tasks that ask hub and broker for the reader, which must not wait: positions, partitions and their ends, and whether the
//! topics exist.
//!
//! Each request is answered once, by a [`ReaderEvent`]; the reader decides what follows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc;
use std::time::Duration;

use protocol::messages::{ObjectProblem, PositionsRequest, TopicEnds};
use tokio::sync::mpsc::UnboundedReceiver;

use super::events::{OpenedTopic, ReaderEvent, SurveyAnswer, SurveyRequest, now_ms};
use super::status::ConsumerStatus;
use super::survey::{self, TopicComparison};
use crate::context::Context;
use crate::kafka::{Broker, BrokerFault, FaultKind, PartitionEnds, TopicState};

/// How often the broker is asked whether the topics exist.
const PROBE: Duration = Duration::from_secs(5);

/// Answers requests for positions: asks the broker for topic ids and ends, then the hub where to read on.
pub async fn answer_position_requests(
    context: Context,
    source: String,
    broker: Broker,
    mut asked: UnboundedReceiver<BTreeSet<String>>,
    events: mpsc::Sender<ReaderEvent>,
) {
    while let Some(topics) = asked.recv().await {
        let names: Vec<String> = topics.into_iter().collect();
        let answer = ask_positions(&context, &source, &broker, names).await;
        if let Err(why) = &answer {
            tracing::warn!(why, "positions are not known yet");
        }
        if events.send(ReaderEvent::Positions(answer)).is_err() {
            return;
        }
    }
}

async fn ask_positions(
    context: &Context,
    source: &str,
    broker: &Broker,
    names: Vec<String>,
) -> Result<BTreeMap<String, OpenedTopic>, String> {
    let asker = broker.clone();
    let known = run_blocking(move || topics_with_ends(&asker, &names)).await?;
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
            Some((topic, OpenedTopic { id, partitions }))
        })
        .collect())
}

type TopicsWithEnds = BTreeMap<String, (String, Vec<(i64, i64)>)>;

/// Ids and ends of topics. Leaves out a topic if the end of one of its partitions is not known.
fn topics_with_ends(broker: &Broker, names: &[String]) -> Result<TopicsWithEnds, String> {
    let there: Vec<(String, String, i32)> = broker
        .topics(names)
        .map_err(|fault| fault.why)?
        .into_iter()
        .filter_map(|(name, topic)| match topic {
            TopicState::Exists { id, partitions } => Some((name, id, partitions)),
            TopicState::Missing | TopicState::Forbidden(_) | TopicState::Unknown(_) => None,
        })
        .collect();
    let all: Vec<(String, i32)> = there
        .iter()
        .flat_map(|(name, _, partitions)| (0..*partitions).map(|partition| (name.clone(), partition)))
        .collect();
    let ends: PartitionEnds = broker.ends(&all)?;
    Ok(there
        .into_iter()
        .filter_map(|(name, id, partitions)| {
            let of_topic: Option<Vec<_>> =
                (0..partitions).map(|partition| ends.get(&(name.clone(), partition)).copied()).collect();
            Some((name, (id, of_topic?)))
        })
        .collect())
}

/// Answers survey requests. Each answer carries the clock from before the broker was asked.
pub async fn answer_survey_requests(
    context: Context,
    source: String,
    broker: Broker,
    mut asked: UnboundedReceiver<SurveyRequest>,
    events: mpsc::Sender<ReaderEvent>,
) {
    while let Some(request) = asked.recv().await {
        let clock_ms = now_ms();
        let answer = survey_topics(&context, &source, &broker, request).await;
        if let Err(why) = &answer {
            tracing::debug!(why, "the ends are not known");
        }
        if events.send(ReaderEvent::Surveyed(clock_ms, answer)).is_err() {
            return;
        }
    }
}

async fn survey_topics(
    context: &Context,
    source: &str,
    broker: &Broker,
    request: SurveyRequest,
) -> Result<SurveyAnswer, String> {
    let SurveyRequest { topics, mut open, partitions } = request;
    let asker = broker.clone();
    let told = run_blocking(move || asker.topics(&topics)).await.map_err(|fault| fault.why)?;
    let mut compared = survey::compare(&open, &told);
    let mut opened = BTreeMap::new();
    if !compared.missing.is_empty() {
        tracing::info!(topics = ?compared.missing, "topics or partitions that are new: opening them");
        opened = open_all(context, source, broker, compared.missing).await;
        survey::extend_open(&mut open, &opened);
        compared = survey::compare(&open, &told);
    }
    let TopicComparison { known, ids, .. } = compared;
    let asker = broker.clone();
    let ends = run_blocking(move || asker.ends(&partitions)).await?;
    Ok(SurveyAnswer { known, ids, opened, ends })
}

/// Opens topics at the hub; if one can't be opened, the others still are.
async fn open_all(
    context: &Context,
    source: &str,
    broker: &Broker,
    names: Vec<String>,
) -> BTreeMap<String, OpenedTopic> {
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

/// Asks every 5 s whether the topics exist, and with which ids.
pub async fn watch_topics(
    broker: Broker,
    status: ConsumerStatus,
    servers: String,
    events: mpsc::Sender<ReaderEvent>,
) {
    loop {
        let (asker, names) = (broker.clone(), status.topics());
        match run_blocking(move || asker.topics(&names)).await {
            Ok(topics) => {
                status.set_broker(None);
                let mut ids = BTreeMap::new();
                for (name, topic) in topics {
                    status.set_topic(&name, topic_problem(&name, &topic));
                    if let TopicState::Exists { id, .. } = topic {
                        ids.insert(name, id);
                    }
                }
                if events.send(ReaderEvent::Topics(ids)).is_err() {
                    return;
                }
            }
            Err(fault) => {
                tracing::warn!(why = fault.why, reason = fault.kind.reason(), "no broker answers");
                status.set_broker(Some(broker_problem(&servers, &fault)));
            }
        }
        tokio::time::sleep(PROBE).await;
    }
}

/// The problem to report while no broker can be used: why, and what must happen.
fn broker_problem(servers: &str, BrokerFault { kind, why }: &BrokerFault) -> ObjectProblem {
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

fn topic_problem(name: &str, topic: &TopicState) -> Option<ObjectProblem> {
    let (reason, message) = match topic {
        TopicState::Exists { .. } => return None,
        TopicState::Missing => {
            ("TopicNotFound", format!("topic {name:?} does not exist; reading starts when it does"))
        }
        TopicState::Forbidden(why) | TopicState::Unknown(why) => {
            ("TopicUnavailable", format!("topic {name:?} can't be read: {why}"))
        }
    };
    Some(ObjectProblem { reason: reason.to_owned(), message })
}

/// Runs blocking `work` on another thread. Never returns if the work panics or the runtime stops.
async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        // The runtime stops: nobody waits for an answer.
        Err(_) => std::future::pending().await,
    }
}

//! Sends commits to the hub, one at a time, each unchanged until it is answered.
//!
//! Invariants: dead letters are written, or put into their entry, before the entry that passes over them is sent; a
//! commit whose answer was lost is sent again as it was, and the ledger tells it from a new one. Never here: a decision
//! about what an answer means.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use protocol::Error;
use protocol::messages::{Commit, DEFAULT_RETRY, DeadLetter};
use tokio::sync::mpsc::UnboundedReceiver;

use super::books::Answer;
use super::metrics::{Metrics, Outcome};
use super::reader::Event;
use crate::context::Context;
use crate::kafka::{Letter, Letters};

/// The longest value and key that the ledger keeps of a dead letter, bytes.
const LEDGER_VALUE: usize = 16 * 1024;
const LEDGER_KEY: usize = 1024;
/// Waits between tries: from, to.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));

/// A commit to send.
pub struct Outgoing {
    /// Tells its answer from an earlier one's.
    pub id: u64,
    /// What to say.
    pub commit: Commit,
    /// Dead letters, with the index of the entry that passes over each.
    pub letters: Vec<(usize, Letter)>,
}

/// Sends until the queue ends.
pub async fn run(
    context: Context,
    source: String,
    mut queue: UnboundedReceiver<Outgoing>,
    events: mpsc::Sender<Event>,
    mut letters: Letters,
    metrics: Metrics,
) {
    loop {
        let outgoing = match tokio::time::timeout(Duration::from_secs(30), queue.recv()).await {
            Ok(Some(outgoing)) => outgoing,
            Ok(None) => return,
            Err(_) => {
                letters.rest();
                continue;
            }
        };
        let begun = Instant::now();
        let id = outgoing.id;
        let commit = bury(outgoing, &mut letters, &metrics).await;
        let answered = send(&context, &source, &commit, &metrics).await;
        metrics.commit_seconds.observe(begun.elapsed().as_secs_f64());
        if events.send(Event::Answered(id, answered)).is_err() {
            return;
        }
    }
}

/// Writes the dead letters; those that can't be written go into their entry.
async fn bury(outgoing: Outgoing, letters: &mut Letters, metrics: &Metrics) -> Commit {
    let Outgoing { mut commit, letters: list, .. } = outgoing;
    if list.is_empty() {
        return commit;
    }
    let whole: Vec<&Letter> = list.iter().map(|(_, letter)| letter).collect();
    let failures = letters.write(&whole).await;
    for ((entry, letter), failure) in list.iter().zip(failures) {
        let result = if failure.is_none() { "topic" } else { "ledger" };
        metrics.letters.get_or_create(&Outcome { result }).inc();
        if let (Some(why), Some(entry)) = (failure, commit.entries.get_mut(*entry)) {
            tracing::warn!(
                topic = letter.topic,
                partition = letter.partition,
                offset = letter.offset,
                why,
                "a dead letter goes into the ledger"
            );
            entry.dead_letters.push(for_ledger(letter));
        }
    }
    commit
}

fn for_ledger(letter: &Letter) -> DeadLetter {
    let cut = |bytes: &[u8], limit: usize| STANDARD.encode(&bytes[..bytes.len().min(limit)]);
    DeadLetter {
        offset: letter.offset,
        reason: letter.reason.clone(),
        key: letter.key.as_ref().map(|key| cut(key, LEDGER_KEY)),
        value: cut(&letter.value, LEDGER_VALUE),
        length: letter.value.len() as i64,
    }
}

/// One answer for each entry; none at all when the hub knows of no rule that reads the source.
async fn send(context: &Context, source: &str, commit: &Commit, metrics: &Metrics) -> Vec<Answer> {
    let mut backoff = BACKOFF.0;
    loop {
        let count = |result| metrics.commits.get_or_create(&Outcome { result }).inc();
        let error = match context.hub.commit(&context.config.namespace, source, commit).await {
            Ok(result) => {
                count("answered");
                context.health.missing("hub", None);
                let answers = result.entries.iter().map(|entry| match entry.status {
                    200 => Answer::Accepted,
                    409 => Answer::Elsewhere(entry.offset),
                    _ => Answer::Unknown,
                });
                return answers.collect();
            }
            Err(error) => error,
        };
        if error.status().is_some_and(|status| status.as_u16() == 404) {
            count("gone");
            return Vec::new();
        }
        let wait = match &error {
            Error::Refused { status, retry_after, .. } if matches!(status.as_u16(), 429 | 503) => {
                count("told to wait");
                retry_after.unwrap_or_else(|| DEFAULT_RETRY.std()).min(Duration::from_mins(1))
            }
            Error::Unreachable(_) | Error::Token(_) => {
                count("unreachable");
                backoff
            }
            _ => {
                count("refused");
                backoff.max(Duration::from_secs(1))
            }
        };
        context.health.missing("hub", Some(error.to_string()));
        tracing::warn!(%error, ?wait, "commit not answered; the same is sent again");
        tokio::time::sleep(wait).await;
        backoff = (backoff * 2).min(BACKOFF.1);
    }
}

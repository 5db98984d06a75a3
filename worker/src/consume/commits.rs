//! Sends commits to the hub, one at a time, each unchanged until it is answered. One that is too large is not sent again.
//!
//! Invariants: before an entry that passes over dead letters is sent, these are written to their topic, put into the entry,
//! or reported as more than the ledger takes. A commit whose answer was lost is sent again as it was; the ledger recognises
//! it. The reader decides what an answer means.

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use protocol::Error;
use protocol::messages::{Commit, DEFAULT_RETRY, DeadLetter, EntryResult};
use tokio::sync::mpsc::UnboundedReceiver;

use super::events::{OutgoingCommit, ReaderEvent};
use super::metrics::{ByResult, ConsumerMetrics};
use super::status::ConsumerStatus;
use crate::context::Context;
use crate::kafka::{DeadLetterRecord, DeadLetterWriter};

/// The longest value and key that the ledger keeps of a dead letter, bytes.
const LEDGER_VALUE: usize = 16 * 1024;
const LEDGER_KEY: usize = 1024;
/// How many dead letters of a source the ledger takes in a minute, and how many bytes of key and value. What is more is
/// reported and stays in its topic.
const LEDGER_LETTERS: usize = 256;
const LEDGER_BYTES: usize = 2 * 1024 * 1024;
const LEDGER_EVERY: Duration = Duration::from_mins(1);
/// The shortest and the longest wait between tries.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));

/// Sends commits from `queue`, and their answers to `events`, until one of them is closed.
pub async fn send_commits(
    context: Context,
    source: String,
    mut queue: UnboundedReceiver<OutgoingCommit>,
    events: mpsc::Sender<ReaderEvent>,
    mut dead_letters: DeadLetterWriter,
    (metrics, status): (ConsumerMetrics, ConsumerStatus),
) {
    let mut allowance = LedgerAllowance::new();
    loop {
        let outgoing = match tokio::time::timeout(Duration::from_secs(30), queue.recv()).await {
            Ok(Some(outgoing)) => outgoing,
            Ok(None) => return,
            Err(_) => {
                dead_letters.drop_idle_producer();
                continue;
            }
        };
        let begun = Instant::now();
        let id = outgoing.id;
        let failures = write_dead_letters(&outgoing.dead_letters, &mut dead_letters).await;
        let commit = put_unwritten_into_entries(outgoing, failures, &mut allowance, &metrics, &status);
        let answered = match send_until_answered(&context, &source, &commit, &metrics).await {
            SendResult::Answered(answers) => answers,
            SendResult::TooLarge => {
                if events.send(ReaderEvent::TooLarge).is_err() {
                    return;
                }
                // The reader drops these records and reads them again in smaller parts.
                commit.entries.iter().map(|entry| EntryResult::Elsewhere(entry.from)).collect()
            }
        };
        metrics.commit_seconds.observe(begun.elapsed().as_secs_f64());
        if events.send(ReaderEvent::Answered(id, answered)).is_err() {
            return;
        }
    }
}

/// How much of a source's dead letters the ledger still takes in this minute.
struct LedgerAllowance {
    since: Instant,
    dead_letters: usize,
    bytes: usize,
}

impl LedgerAllowance {
    fn new() -> Self {
        Self { since: Instant::now(), dead_letters: LEDGER_LETTERS, bytes: LEDGER_BYTES }
    }

    fn takes(&mut self, bytes: usize) -> bool {
        if self.since.elapsed() >= LEDGER_EVERY {
            *self = Self::new();
        }
        let fits = self.dead_letters > 0 && bytes <= self.bytes;
        if fits {
            self.dead_letters -= 1;
            self.bytes -= bytes;
        }
        fits
    }
}

/// Writes the dead letters to their topics; returns for each why it was not written, or `None` if it was.
async fn write_dead_letters(
    list: &[(usize, DeadLetterRecord)],
    dead_letters: &mut DeadLetterWriter,
) -> Vec<Option<String>> {
    if list.is_empty() {
        return Vec::new();
    }
    let whole: Vec<&DeadLetterRecord> = list.iter().map(|(_, letter)| letter).collect();
    dead_letters.write(&whole).await
}

/// Puts the dead letters that could not be written into their entries, as far as the ledger takes them, and reports the
/// rest.
fn put_unwritten_into_entries(
    outgoing: OutgoingCommit,
    failures: Vec<Option<String>>,
    allowance: &mut LedgerAllowance,
    metrics: &ConsumerMetrics,
    status: &ConsumerStatus,
) -> Commit {
    let OutgoingCommit { mut commit, dead_letters, .. } = outgoing;
    let count = |result| metrics.dead_letters.get_or_create(&ByResult { result }).inc();
    let mut unwritten = BTreeMap::new();
    for ((entry, letter), failure) in dead_letters.iter().zip(failures) {
        let Some(why) = failure else {
            count("topic");
            continue;
        };
        let told = unwritten.entry(&letter.topic).or_insert((why, 0, 0));
        let key = letter.key.as_ref().map_or(0, Vec::len).min(LEDGER_KEY);
        if allowance.takes(key + letter.value.len().min(LEDGER_VALUE)) {
            count("ledger");
            told.1 += 1;
            if let Some(entry) = commit.entries.get_mut(*entry) {
                entry.dead_letters.push(for_ledger(letter));
            }
        } else {
            count("stays");
            told.2 += 1;
        }
    }
    for (topic, (why, ledger, stay)) in unwritten {
        tracing::warn!(
            topic,
            why,
            ledger,
            stay,
            "dead letters go into the ledger, or stay in their topic alone"
        );
        if stay > 0 {
            status.add_unkept(topic, stay, &why);
        }
    }
    commit
}

fn for_ledger(letter: &DeadLetterRecord) -> DeadLetter {
    let cut = |bytes: &[u8], limit: usize| STANDARD.encode(&bytes[..bytes.len().min(limit)]);
    DeadLetter {
        offset: letter.offset,
        reason: letter.reason.clone(),
        key: letter.key.as_ref().map(|key| cut(key, LEDGER_KEY)),
        value: cut(&letter.value, LEDGER_VALUE),
        length: letter.value.len() as i64,
    }
}

/// The result of sending a commit.
enum SendResult {
    /// One answer for each entry; none at all if no rule reads the source.
    Answered(Vec<EntryResult>),
    /// It holds more than the hub takes in one request: sending it again is useless.
    TooLarge,
}

async fn send_until_answered(
    context: &Context,
    source: &str,
    commit: &Commit,
    metrics: &ConsumerMetrics,
) -> SendResult {
    let mut backoff = BACKOFF.0;
    loop {
        let count = |result| metrics.commits.get_or_create(&ByResult { result }).inc();
        let error = match context.hub.commit(&context.config.namespace, source, commit).await {
            Ok(result) => {
                count("answered");
                context.health.missing("hub", None);
                return SendResult::Answered(result.entries);
            }
            Err(error) => error,
        };
        if error.status().is_some_and(|status| status.as_u16() == 404) {
            count("gone");
            return SendResult::Answered(Vec::new());
        }
        if error.status().is_some_and(|status| status.as_u16() == 413) {
            count("too large");
            tracing::warn!(%error, "commit not taken; its records are read again in smaller parts");
            return SendResult::TooLarge;
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

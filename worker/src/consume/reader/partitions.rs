//! Decides which partitions are read, and from where.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{REVOKED_WAIT, SURVEY_HOT, SURVEY_IDLE, SourceReader};
use crate::consume::events::{OpenedTopic, SurveyAnswer, SurveyRequest, now_ms};
use crate::consume::offsets::PartitionKey;
use crate::kafka::{PartitionEnds, Rebalance};

/// How soon the reader asks for the ends after a position was out of range.
const SURVEY_AFTER_LOSS: Duration = Duration::from_millis(200);
/// How soon the reader asks for missing positions again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

fn key((topic, partition): &(String, i32)) -> PartitionKey {
    PartitionKey { topic: Arc::from(topic.as_str()), partition: *partition }
}

impl SourceReader {
    /// Follows the group's rebalances: wants positions of assigned partitions, commits and releases revoked ones.
    pub(super) fn follow_rebalances(&mut self) {
        for rebalance in self.consumer.rebalances() {
            self.metrics.rebalances.inc();
            let done = match rebalance {
                Rebalance::Assigned(assigned) => {
                    self.status.set_group_allowed(true);
                    tracing::info!(partitions = assigned.len(), "given");
                    self.wanted.extend(assigned.iter().map(key));
                    self.ask_after = Instant::now();
                    self.consumer.acknowledge()
                }
                Rebalance::Revoked(revoked) => {
                    tracing::info!(partitions = revoked.len(), "taken");
                    let keys: Vec<PartitionKey> = revoked.iter().map(key).collect();
                    for key in &keys {
                        self.wanted.remove(key);
                    }
                    self.commit_and_wait(Instant::now() + REVOKED_WAIT, Some(&keys));
                    for key in &keys {
                        self.wanted.remove(key);
                        self.tracker.close(key);
                        self.untold.remove(key);
                    }
                    self.update_weight();
                    self.publish_partitions();
                    self.consumer.release(&revoked)
                }
            };
            if let Err(error) = done {
                tracing::warn!(%error, "the group's change can't be followed; it will be shared out again");
            }
        }
    }

    /// Stops reading the partition until its position is known.
    pub(super) fn wait_for_position(&mut self, key: PartitionKey) {
        self.tracker.close(&key);
        let _ = self.consumer.stop(&key.topic, key.partition);
        self.wanted.insert(key);
        self.publish_partitions();
    }

    /// Sends the requests that are due: for positions of new partitions, and for ends.
    pub(super) fn send_requests(&mut self) {
        let now = Instant::now();
        let Some(plan) = &self.plan else { return };
        if !self.awaiting_positions && !self.wanted.is_empty() && now >= self.ask_after {
            self.awaiting_positions = true;
            let topics = self.wanted.iter().map(|key| key.topic.to_string()).collect();
            let _ = self.requests.positions.send(topics);
        }
        let hot = now_ms() - self.last_activity_ms < plan.horizon_ms;
        let every = if hot { SURVEY_HOT } else { SURVEY_IDLE };
        if !self.awaiting_survey
            && (self.last_survey.elapsed() >= if self.offset_lost { SURVEY_AFTER_LOSS } else { every })
        {
            let partitions: Vec<(String, i32)> =
                self.tracker.partitions().map(|(key, _)| (key.topic.to_string(), key.partition)).collect();
            if !partitions.is_empty() {
                self.awaiting_survey = true;
                self.last_survey = now;
                let (topics, open) = (plan.topics.clone(), self.survey.open().clone());
                let _ = self.requests.surveys.send(SurveyRequest { topics, open, partitions });
            }
        }
    }

    /// Opens the wanted partitions whose positions the answer has.
    pub(super) fn open_partitions(&mut self, answer: Result<BTreeMap<String, OpenedTopic>, String>) {
        self.awaiting_positions = false;
        self.ask_after = Instant::now() + ASK_AGAIN;
        let Ok(topics) = answer else { return };
        self.survey.add_opened(&topics);
        for key in std::mem::take(&mut self.wanted) {
            let opened = topics.get(&*key.topic);
            let index = usize::try_from(key.partition).ok();
            let at =
                opened.zip(index).and_then(|(topic, index)| Some((topic, *topic.partitions.get(index)?)));
            let Some((topic, (next, first, last))) = at else {
                self.wanted.insert(key);
                continue;
            };
            if next > last {
                tracing::error!(%key, next, last, "the partition ends before what was read already; waiting for it");
                self.wanted.insert(key);
                continue;
            }
            let mut read = next;
            if next < first {
                read = self.after_removal(&key, first, last);
                self.report_removed(&key, read - next);
            }
            tracing::info!(%key, offset = read, end = last, "reading");
            self.tracker.open(key.clone(), Arc::from(topic.id.as_str()), next, read);
            self.tracker.saw_end(&key, last, None);
            self.announce_plan = true;
            if let Err(error) = self.consumer.read(&key.topic, key.partition, read) {
                tracing::warn!(%key, %error, "can't read; asking again");
                self.wait_for_position(key);
            }
        }
        self.last_activity_ms = now_ms();
        self.publish_partitions();
    }

    /// Where to go on if the next record was removed: where `startFrom` begins a topic that was never read.
    fn after_removal(&self, key: &PartitionKey, first: i64, last: i64) -> i64 {
        if self.reads_what_is_kept(key) { first } else { last.max(first) }
    }

    fn reads_what_is_kept(&self, key: &PartitionKey) -> bool {
        self.plan.as_ref().is_none_or(|plan| plan.earliest.contains(&*key.topic))
    }

    fn report_removed(&self, key: &PartitionKey, missed: i64) {
        tracing::error!(%key, missed, "records were removed by retention before they were read");
        let goes_on = if self.reads_what_is_kept(key) {
            "at the first that is kept (startFrom Earliest)"
        } else {
            "at the end (startFrom Latest)"
        };
        self.status.add_removed(&key.topic, key.partition, missed, goes_on);
    }

    /// Applies a survey: which partitions there are, and where they begin and end. Once a partition is read to that end, its
    /// event time has come as far as `clock_ms`, the clock from before the question. All partitions up to that clock are
    /// known.
    pub(super) fn apply_survey(&mut self, clock_ms: i64, answer: Result<SurveyAnswer, String>) {
        self.awaiting_survey = false;
        let Ok(SurveyAnswer { known, ids, opened, ends }) = answer else {
            self.stalls.clear();
            return;
        };
        self.survey.add_opened(&opened);
        self.close_recreated_topics(&ids);
        self.survey.complete(clock_ms, known, &ids);
        self.tracker.surveyed_up_to(clock_ms);
        let lost = std::mem::take(&mut self.offset_lost);
        for (partition, (first, last)) in &ends {
            let key = key(partition);
            let Some(read) = self.tracker.next_offset(&key) else { continue };
            let mut from = read;
            if read < *first {
                from = self.after_removal(&key, *first, *last);
                let missed = self.tracker.skip_to(&key, from);
                self.report_removed(&key, missed);
            } else {
                self.tracker.saw_end(&key, *last, Some(clock_ms));
            }
            if (read < *first || lost)
                && let Err(error) = self.consumer.read(&key.topic, key.partition, from)
            {
                tracing::warn!(%key, %error, "can't read; asking again");
                self.wait_for_position(key);
            }
        }
        self.due.clock_moved = true;
        self.metrics.lag.set(self.tracker.lag());
        self.check_for_stall(&ends);
    }

    /// Ends the reader if a partition stalls although its leader has more records. Topics that the user may not read don't
    /// count: a new client would get the same refusal.
    fn check_for_stall(&mut self, ends: &PartitionEnds) {
        if self.consumer.paused() {
            return self.stalls.clear();
        }
        let (tracker, forbidden_topics) = (&self.tracker, &self.forbidden_topics);
        let partitions = ends.iter().filter_map(|(partition, (_, last))| {
            let key = key(partition);
            let read = tracker.next_offset(&key).filter(|_| !forbidden_topics.contains(&partition.0))?;
            Some((key, read, *last))
        });
        if let Some(key) = self.stalls.find_stalled(Instant::now(), partitions) {
            tracing::warn!(%key, "records lie in the partition and none comes: going on with a new Kafka client");
            self.stalled = true;
        }
    }

    /// Commits and closes the partitions of topics that were deleted and created again, and waits for new positions.
    pub(super) fn close_recreated_topics(&mut self, ids: &BTreeMap<String, String>) {
        let other: Vec<PartitionKey> = self
            .tracker
            .partitions()
            .filter(|(key, id)| ids.get(&*key.topic).is_some_and(|now| **now != ***id))
            .map(|(key, _)| key.clone())
            .collect();
        if other.is_empty() {
            self.survey.close_recreated(ids);
            return;
        }
        // What is uncommitted is of the deleted topic: it counts as well.
        self.commit_and_wait(Instant::now() + REVOKED_WAIT, Some(&other));
        for key in other {
            tracing::warn!(%key, "the topic was made again; reading the new one");
            self.wait_for_position(key);
        }
        self.survey.close_recreated(ids);
    }

    /// Publishes which partitions are read, in status and metrics.
    pub(super) fn publish_partitions(&self) {
        let owned: BTreeMap<(String, i32), String> = self
            .tracker
            .partitions()
            .map(|(key, id)| ((key.topic.to_string(), key.partition), id.to_string()))
            .collect();
        self.metrics.owned.set(owned.len() as i64);
        self.status.set_owned(owned);
    }
}

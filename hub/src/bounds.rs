//! Bounds on how long and how many the parts of a message may be. Every body passes here before a handler sees it:
//! the extractor takes only types that are [`Bounded`].
//!
//! A worker runs in a tenant's namespace, so the tenant controls what it says. Texts for people are cut, with a
//! mark that says so; names and numbers that are longer or larger than real ones can be are refused. So no other
//! part of Belfry holds, stores or shows a worker's text at a length that the worker chose.

use domain::{Extras, Outcome, RecordRef, RecordValue, Values};
use protocol::messages::{
    Alive, ChannelRequest, ClaimRequest, Commit, Count, DeadLetter, Entry, LiveObjects, Matched, Outcomes,
    PositionsRequest, PutPlans, Reminders, Report, Sample,
};
use serde_json::Value;

/// Plans of one request.
const MOST_PLANS: usize = 500;
/// Outcomes of one request.
const MOST_OUTCOMES: usize = 1_000;
/// Rules, channels, objects, entries, partitions, reminders of one request.
const MOST: usize = 10_000;
/// Distinct values that a count may carry under one name.
const MOST_VALUES: usize = 10_000;
/// Labels of a group, and names of values.
const MOST_LABELS: usize = 100;
/// A pod's name, bytes.
const INSTANCE: usize = 253;
/// A topic's name, bytes.
const TOPIC: usize = 249;
/// A topic's id, bytes.
const TOPIC_ID: usize = 64;
/// A digest, bytes.
const DIGEST: usize = 64;
/// A label's name or value, or a counted value, bytes. Workers cut values at 256.
const LABEL: usize = 1_024;
/// Why an attempt failed or a record can't be decoded, bytes.
const REASON: usize = 1_024;
/// A reminder's text, bytes.
const TEXT: usize = 4 * 1_024;
/// A dead letter's key, bytes of base64: 1 KiB before encoding.
const LETTER_KEY: usize = 1_368;
/// A dead letter's value, bytes of base64: 16 KiB before encoding.
const LETTER_VALUE: usize = 21_848;
/// A sample as JSON, about, bytes. Workers cut it at 16 KiB.
const SAMPLE: usize = 20 * 1_024;
/// Marks where a text was cut.
const CUT: &str = "…";

/// A message whose parts are bounded.
pub(crate) trait Bounded {
    /// Cuts what may be cut; otherwise says in words which bound is exceeded.
    fn bound(&mut self) -> Result<(), String>;
}

fn at_most(what: &str, number: usize, most: usize) -> Result<(), String> {
    if number <= most { Ok(()) } else { Err(format!("{number} {what}: at most {most}")) }
}

fn short(what: &str, text: &str, most: usize) -> Result<(), String> {
    if text.len() <= most {
        return Ok(());
    }
    Err(format!("{what} has {} bytes: at most {most}", text.len()))
}

fn cut(text: &mut String, most: usize) {
    if text.len() > most {
        let end = text.floor_char_boundary(most - CUT.len());
        text.truncate(end);
        text.push_str(CUT);
        text.shrink_to_fit();
    }
}

/// The operator is trusted, and the API server bounded what tenants wrote when it stored their objects.
impl Bounded for PutPlans {
    fn bound(&mut self) -> Result<(), String> {
        at_most("plans", self.plans.len(), MOST_PLANS)
    }
}

impl Bounded for LiveObjects {
    fn bound(&mut self) -> Result<(), String> {
        Ok(())
    }
}

impl Bounded for ChannelRequest {
    fn bound(&mut self) -> Result<(), String> {
        Ok(())
    }
}

impl Bounded for PositionsRequest {
    fn bound(&mut self) -> Result<(), String> {
        let partitions = self.topics.iter().map(|topic| topic.partitions.len()).sum();
        at_most("topics", self.topics.len(), MOST)?;
        at_most("partitions", partitions, MOST)?;
        self.topics.iter().try_for_each(|topic| this_topic(&topic.topic, &topic.topic_id))
    }
}

fn this_topic(name: &str, id: &str) -> Result<(), String> {
    short("a topic's name", name, TOPIC)?;
    short("a topic's id", id, TOPIC_ID)
}

impl Bounded for ClaimRequest {
    fn bound(&mut self) -> Result<(), String> {
        at_most("channels", self.without.len(), MOST)?;
        short("the instance's name", &self.instance, INSTANCE)
    }
}

impl Bounded for Alive {
    fn bound(&mut self) -> Result<(), String> {
        short("the instance's name", &self.instance, INSTANCE)
    }
}

impl Bounded for Outcomes {
    fn bound(&mut self) -> Result<(), String> {
        at_most("outcomes", self.outcomes.len(), MOST_OUTCOMES)?;
        for told in &mut self.outcomes {
            match &mut told.outcome {
                Outcome::Delivered => {}
                Outcome::Later { reason, .. }
                | Outcome::NotSent { reason }
                | Outcome::Refused { reason }
                | Outcome::Unknown { reason } => {
                    cut(reason, REASON);
                }
            }
        }
        Ok(())
    }
}

impl Bounded for Reminders {
    fn bound(&mut self) -> Result<(), String> {
        short("the revision", self.revision.as_str(), DIGEST)?;
        at_most("reminders", self.reminders.len(), MOST)?;
        for due in &mut self.reminders {
            cut(&mut due.title, TEXT);
            cut(&mut due.summary, TEXT);
        }
        Ok(())
    }
}

/// Problems are cut where they are remembered, because only that place knows which ones count.
impl Bounded for Report {
    fn bound(&mut self) -> Result<(), String> {
        short("the instance's name", &self.instance, INSTANCE)?;
        at_most("objects that run", self.running.len(), MOST)?;
        at_most("objects with problems", self.problems.len(), MOST)?;
        at_most("partitions", self.owned.len(), MOST)?;
        for revision in self.running.values().chain(&self.source) {
            short("a revision", revision.as_str(), DIGEST)?;
        }
        self.owned.iter().try_for_each(|(topic, id, _)| this_topic(topic, id))
    }
}

impl Bounded for Commit {
    fn bound(&mut self) -> Result<(), String> {
        short("the revision", self.revision.as_str(), DIGEST)?;
        at_most("rules", self.rules.len(), MOST)?;
        at_most("entries", self.entries.len(), MOST)?;
        let surveyed = self.survey.iter().flat_map(|survey| &survey.topics);
        at_most("topics", surveyed.clone().count(), MOST)?;
        surveyed.into_iter().try_for_each(|topic| short("a topic's name", topic, TOPIC))?;
        self.rules.values().try_for_each(|state| short("a rule's state", state.as_str(), DIGEST))?;
        self.entries.iter_mut().try_for_each(entry)
    }
}

fn entry(entry: &mut Entry) -> Result<(), String> {
    this_topic(&entry.topic, &entry.topic_id)?;
    at_most("reasons of an entry", entry.dropped.len(), MOST)?;
    for dropped in &mut entry.dropped {
        dropped.reason = dropped.reason.as_reported_by_worker();
    }
    entry.dead_letters.iter_mut().for_each(letter);
    for Matched { group, sample, .. } in &mut entry.records {
        labels(group)?;
        this_sample(sample)?;
    }
    entry.counts.iter_mut().try_for_each(count)
}

fn letter(letter: &mut DeadLetter) {
    cut(&mut letter.reason, REASON);
    // Both lengths are whole base64 groups, so what is left can still be decoded.
    letter.value.truncate(letter.value.floor_char_boundary(LETTER_VALUE));
    if let Some(key) = &mut letter.key {
        key.truncate(key.floor_char_boundary(LETTER_KEY));
    }
}

fn count(count: &mut Count) -> Result<(), String> {
    labels(&count.group)?;
    this_sample(&mut count.first)?;
    this_sample(&mut count.last)?;
    at_most("names of values", count.top.len(), MOST_LABELS)?;
    count.top.values().try_for_each(values)?;
    match count.extras.as_deref_mut() {
        None | Some(Extras::Of(_)) => Ok(()),
        Some(Extras::Values(found)) => values(found),
        Some(Extras::Ends(ends)) => value(&ends.first).and_then(|()| value(&ends.last)),
        Some(Extras::Highest(best) | Extras::Lowest(best)) => {
            value(&best.first)?;
            short("a number", &best.value, LABEL)?;
            this_sample(&mut best.sample)
        }
    }
}

fn labels(group: &std::collections::BTreeMap<String, String>) -> Result<(), String> {
    at_most("labels", group.len(), MOST_LABELS)?;
    group.iter().try_for_each(|(name, value)| {
        short("a label's name", name, LABEL)?;
        short("a label", value, LABEL)
    })
}

fn values(values: &Values) -> Result<(), String> {
    at_most("values", values.counts.len(), MOST_VALUES)?;
    values.counts.keys().try_for_each(|value| short("a value", value, LABEL))
}

fn value(valued: &RecordValue) -> Result<(), String> {
    short("a value", &valued.value, LABEL)?;
    place(&valued.at)
}

fn place(at: &RecordRef) -> Result<(), String> {
    short("a topic's name", &at.topic, TOPIC)
}

fn this_sample(sample: &mut Sample) -> Result<(), String> {
    place(&sample.at)?;
    let mut room = SAMPLE;
    if !fits(&sample.value, &mut room) {
        sample.value = Value::from(format!("{CUT} (longer than the {SAMPLE} bytes that a sample may have)"));
    }
    Ok(())
}

/// Whether the value's JSON is about as long as `room` or shorter. Subtracts its length from `room`.
fn fits(value: &Value, room: &mut usize) -> bool {
    let own = match value {
        Value::Null | Value::Bool(_) => 5,
        Value::Number(_) => 8,
        Value::String(text) => text.len() + 2,
        Value::Array(items) => items.len() + 2,
        Value::Object(fields) => fields.keys().map(|name| name.len() + 4).sum::<usize>() + 2,
    };
    let Some(left) = room.checked_sub(own) else { return false };
    *room = left;
    match value {
        Value::Array(items) => items.iter().all(|item| fits(item, room)),
        Value::Object(fields) => fields.values().all(|field| fits(field, room)),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use domain::DropReason;
    use protocol::messages::AttemptOutcome;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_reason_of_a_megabyte_is_cut_and_says_so() {
        let reasons = || "é".repeat(500_000);
        for outcome in [
            Outcome::Later { reason: reasons(), wait: None, channel_wide: false },
            Outcome::Refused { reason: reasons() },
            Outcome::Unknown { reason: reasons() },
        ] {
            let mut told =
                Outcomes { outcomes: vec![AttemptOutcome { delivery: Uuid::nil(), attempt: 1, outcome }] };
            told.bound().expect("cut");
            let reason = told.outcomes[0].outcome.reason();
            assert!(reason.len() <= REASON && reason.ends_with('…'), "{}", reason.len());
        }
    }

    fn commit(change: impl Fn(&mut serde_json::Value)) -> Result<Commit, String> {
        let at = json!({"time": "2026-11-21T00:00:00Z", "topic": "t", "partition": 0, "offset": 0});
        let sample = json!({"at": at, "value": {"a": 1}});
        let rule = Uuid::nil();
        let count = json!({"rule": rule, "group": {"a": "b"}, "bucketMs": 0, "count": 1, "first": sample, "last": sample});
        let mut commit = json!({"revision": "r", "rules": {}, "entries": [{
            "topic": "t", "topicId": "id", "partition": 0, "from": 0, "to": 1, "progressMs": null, "end": 1,
            "counts": [count], "records": [], "dropped": [{"rule": null, "reason": "Tombstone", "count": 1}],
            "deadLetters": [{"offset": 0, "reason": "r", "key": null, "value": "", "length": 0}],
        }]});
        change(&mut commit);
        let mut commit: Commit = serde_json::from_value(commit).expect("a commit");
        commit.bound().map(|()| commit)
    }

    #[test]
    fn what_a_worker_counts_is_bounded_in_each_of_its_parts() {
        let long = "x".repeat(LABEL + 1);
        commit(|_| {}).expect("an honest commit");
        for place in [
            "/revision",
            "/entries/0/topic",
            "/entries/0/topicId",
            "/entries/0/counts/0/group/a",
            "/entries/0/counts/0/first/at/topic",
            "/entries/0/counts/0/last/at/topic",
        ] {
            let told = commit(|commit| *commit.pointer_mut(place).expect("a place") = json!(long));
            let told = told.expect_err(place);
            assert!(told.contains("bytes: at most"), "{told}");
        }
        let cut = commit(|commit| {
            let entry = &mut commit["entries"][0];
            entry["dropped"][0]["reason"] = json!("Mine");
            entry["deadLetters"][0]["reason"] = json!("x".repeat(1 << 20));
            entry["deadLetters"][0]["value"] = json!("A".repeat(1 << 20));
            entry["deadLetters"][0]["key"] = json!("A".repeat(1 << 20));
            entry["counts"][0]["first"]["value"] = json!(vec![0; 100_000]);
        })
        .expect("cut");
        let entry = &cut.entries[0];
        assert_eq!(entry.dropped[0].reason, DropReason::Other);
        let letter = &entry.dead_letters[0];
        assert!(letter.reason.len() <= REASON && letter.value.len() == LETTER_VALUE);
        assert_eq!(letter.key.as_ref().map(String::len), Some(LETTER_KEY));
        assert!(entry.counts[0].first.value.is_string());
        assert_eq!(entry.counts[0].last.value, json!({"a": 1}));
    }

    #[test]
    fn partitions_that_no_topic_has_are_refused() {
        let partitions = vec![(0, 0); MOST + 1];
        let topic =
            protocol::messages::TopicEnds { topic: "t".to_owned(), topic_id: String::new(), partitions };
        let told = PositionsRequest { topics: vec![topic] }.bound().expect_err("too many");
        assert_eq!(told, "10001 partitions: at most 10000");
    }
}

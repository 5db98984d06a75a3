//! Splits commits to the size that the hub takes.
//!
//! A commit that is too large by its bytes, its memory or its nesting is split between its entries, each of which
//! the hub accepts or refuses by itself. An entry that is too large alone loses its samples first, then its counts,
//! which it then reports as dropped with [`DropReason::TooLarge`].
//!
//! Invariant: every entry is sent once, in order, with its offsets, so nothing that can't be sent stops a
//! partition.

use std::collections::BTreeMap;

use domain::{Count, DropReason, Extras, Sample};
use serde_json::Value;
use uuid::Uuid;

use crate::messages::{Commit, Dropped, Entry};
use crate::weight;

/// What a sample may take in an entry that is too large: bytes of JSON, and of memory.
const SAMPLE: (usize, usize) = (512, 4_096);
/// How deep such a sample may be nested.
const SAMPLE_DEPTH: usize = 16;
/// What a dead letter's value may take in such an entry, bytes of base64.
const LETTER: usize = 1_024;
/// Replaces a sample that was left out.
const LEFT_OUT: &str = "… (left out: the commit is too large)";

/// The request bodies for a commit, in the order of its entries.
pub(crate) fn bodies(commit: &Commit) -> Result<Vec<Vec<u8>>, serde_json::Error> {
    let whole = serde_json::to_vec(commit)?;
    if weight::fits(&whole) {
        return Ok(vec![whole]);
    }
    let (mut bodies, mut left) = (Vec::new(), smaller(commit.clone()));
    left.reverse();
    while let Some(part) = left.pop() {
        let body = serde_json::to_vec(&part)?;
        // If nothing more can be left out, it is sent as it is, and the hub decides.
        if weight::fits(&body) || is_bare(&part) {
            bodies.push(body);
        } else {
            left.extend(smaller(part).into_iter().rev());
        }
    }
    Ok(bodies)
}

/// The same commit in smaller parts: halves it, or shortens its only entry.
fn smaller(mut commit: Commit) -> Vec<Commit> {
    if commit.entries.len() > 1 {
        let later = commit.entries.split_off(commit.entries.len() / 2);
        let (revision, rules, survey) =
            (commit.revision.clone(), commit.rules.clone(), commit.survey.clone());
        return vec![commit, Commit { revision, rules, survey, entries: later }];
    }
    if let Some(entry) = commit.entries.first_mut()
        && !shorten(entry)
    {
        empty(entry);
    }
    vec![commit]
}

/// Whether nothing more can be left out.
fn is_bare(commit: &Commit) -> bool {
    commit.entries.len() <= 1
        && commit
            .entries
            .iter()
            .all(|entry| entry.counts.is_empty() && entry.records.is_empty() && entry.dead_letters.is_empty())
}

/// Leaves out large samples, and shortens large values of dead letters; returns whether there were any.
fn shorten(entry: &mut Entry) -> bool {
    let mut any = false;
    for count in &mut entry.counts {
        let Count { first, last, extras, .. } = count;
        let best = match extras.as_deref_mut() {
            Some(Extras::Highest(best) | Extras::Lowest(best)) => Some(&mut best.sample),
            _ => None,
        };
        for sample in [first, last].into_iter().chain(best) {
            any |= leave_out(sample);
        }
    }
    for matched in &mut entry.records {
        any |= leave_out(&mut matched.sample);
    }
    for letter in &mut entry.dead_letters {
        if letter.value.len() > LETTER {
            letter.value.truncate(LETTER);
            any = true;
        }
    }
    any
}

fn leave_out(sample: &mut Sample) -> bool {
    let json = serde_json::to_vec(&sample.value).unwrap_or_default();
    let weight = weight::weigh(&json);
    let is_small = json.len() <= SAMPLE.0 && weight.memory <= SAMPLE.1 && weight.depth <= SAMPLE_DEPTH;
    if !is_small {
        sample.value = Value::from(LEFT_OUT);
    }
    !is_small
}

/// Leaves out the counts, and reports how much that was, by rule.
fn empty(entry: &mut Entry) {
    let mut lost: BTreeMap<Uuid, i64> = BTreeMap::new();
    for count in entry.counts.drain(..) {
        *lost.entry(count.rule).or_default() += count.count;
    }
    for matched in entry.records.drain(..) {
        *lost.entry(matched.rule).or_default() += 1;
    }
    entry.dead_letters.clear();
    let dropped =
        |(rule, count)| Dropped { rule: Some(rule), reason: DropReason::TooLarge, count, sample: None };
    entry.dropped.extend(lost.into_iter().map(dropped));
}

#[cfg(test)]
mod tests {
    use domain::RecordRef;
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::messages::{DeadLetter, Matched};

    const RULE: Uuid = Uuid::from_u128(7);

    fn sample(value: Value) -> Sample {
        let at = RecordRef { time: Timestamp::UNIX_EPOCH, topic: "t".to_owned(), partition: 0, offset: 0 };
        Sample { at, value }
    }

    fn count(group: String, value: &Value) -> Count {
        Count {
            rule: RULE,
            group: BTreeMap::from([("g".to_owned(), group)]),
            bucket_ms: 0,
            count: 3,
            first: sample(value.clone()),
            last: sample(value.clone()),
            extras: None,
            top: BTreeMap::new(),
        }
    }

    fn entry(partition: i32, counts: Vec<Count>) -> Entry {
        Entry {
            topic: "t".to_owned(),
            topic_id: "id".to_owned(),
            partition,
            from: 10,
            to: 20,
            progress_ms: None,
            since_ms: None,
            end: 20,
            counts,
            records: vec![],
            dropped: vec![],
            dead_letters: vec![],
        }
    }

    fn commit(entries: Vec<Entry>) -> Commit {
        Commit { revision: "r".to_owned().into(), rules: BTreeMap::new(), survey: None, entries }
    }

    fn parts(commit: &Commit) -> Vec<Commit> {
        let bodies = bodies(commit).expect("JSON");
        bodies.iter().map(|body| serde_json::from_slice(body).expect("a commit")).collect()
    }

    fn fits(commit: &Commit) -> bool {
        weight::fits(&serde_json::to_vec(commit).expect("JSON"))
    }

    fn all(parts: &[Commit]) -> Vec<(i32, i64, i64)> {
        parts.iter().flat_map(|it| &it.entries).map(|it| (it.partition, it.from, it.to)).collect()
    }

    #[test]
    fn what_fits_goes_as_it_is() {
        let whole = commit(vec![entry(0, vec![count("a".to_owned(), &json!(1))]), entry(1, vec![])]);
        let parts = parts(&whole);
        assert_eq!(parts.len(), 1);
        assert_eq!(json!(parts[0]), json!(whole));
    }

    #[test]
    fn entries_that_are_too_large_together_go_one_after_the_other() {
        let value = json!("x".repeat(16_000));
        let counts = || (0..60).map(|n| count(n.to_string(), &value)).collect();
        let whole = commit((0..9).map(|partition| entry(partition, counts())).collect());
        let parts = parts(&whole);
        assert!(parts.len() > 1, "{}", parts.len());
        assert!(parts.iter().all(fits));
        assert_eq!(all(&parts), all(std::slice::from_ref(&whole)));
        let kept: Vec<_> = parts.iter().flat_map(|part| &part.entries).flat_map(|it| &it.counts).collect();
        assert_eq!(json!(kept), json!(whole.entries.iter().flat_map(|it| &it.counts).collect::<Vec<_>>()));
    }

    #[test]
    fn an_entry_that_alone_is_too_large_gives_up_its_examples_and_keeps_its_counts() {
        let heavy = json!(vec![json!({"": 0}); 2_000]);
        let deep = (0..120).fold(json!(1), |inner, _| json!([inner]));
        let large = json!("x".repeat(16_000));
        for (value, groups) in [(heavy, 100), (deep, 1), (large, 400)] {
            let counts = (0..groups).map(|n| count(n.to_string(), &value)).collect();
            let parts = parts(&commit(vec![entry(0, counts)]));
            assert_eq!(all(&parts), [(0, 10, 20)]);
            assert!(fits(&parts[0]));
            let entry = &parts[0].entries[0];
            assert_eq!(entry.counts.iter().map(|it| it.count).sum::<i64>(), 3 * groups);
            assert_eq!(entry.counts[0].first.value, json!(LEFT_OUT));
            assert!(entry.dropped.is_empty());
        }
    }

    #[test]
    fn what_can_not_be_told_at_all_is_counted_by_rule_under_its_reason_and_offsets_go_on() {
        let counts = (0..20_000).map(|n| count(format!("{n}{}", "g".repeat(500)), &json!(1))).collect();
        let mut large = entry(0, counts);
        large.records = vec![Matched { rule: RULE, group: BTreeMap::new(), sample: sample(json!(1)) }];
        let letter = || DeadLetter {
            offset: 1,
            reason: "r".to_owned(),
            key: None,
            value: "A".repeat(20_000),
            length: 1,
        };
        large.dead_letters = vec![letter()];
        let parts = parts(&commit(vec![large]));
        assert_eq!(all(&parts), [(0, 10, 20)]);
        let entry = &parts[0].entries[0];
        let dropped: Vec<_> = entry.dropped.iter().map(|it| (it.rule, it.reason, it.count)).collect();
        assert_eq!(dropped, [(Some(RULE), DropReason::TooLarge, 60_001)]);
        assert!(fits(&parts[0]) && is_bare(&parts[0]));
    }
}

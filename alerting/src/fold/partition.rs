//! What one partition's records came to since the last commit, by (rule, group, bucket).

use std::collections::{BTreeMap, HashMap, hash_map};
use std::sync::Arc;

use domain::{Count, Dropped, Matched, Sample};
use uuid::Uuid;

use super::Rule;
use super::aggregate::{Counted, Measures, Reading, settle};
use crate::{reason::DropReason, record::Record, sample};

/// What one partition's records came to since the last commit.
#[derive(Debug, Default)]
pub struct Partition {
    counts: HashMap<Key, Held>,
    records: Vec<Matched>,
    dropped: BTreeMap<(Option<Uuid>, DropReason), i64>,
    weight: usize,
}

/// (rule's index, group's values, bucket).
type Key = (usize, Box<[String]>, i64);

/// The aggregate of one key.
#[derive(Debug)]
struct Held {
    rule: Uuid,
    labels: BTreeMap<String, String>,
    count: i64,
    first: Sample,
    /// None while it is the first.
    last: Option<Sample>,
    /// None where only records are counted.
    more: Option<Box<(Arc<Measures>, Counted)>>,
}

/// The aggregates of one entry of a commit.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Aggregates {
    /// Counts by (rule, group, bucket), sorted.
    pub counts: Vec<Count>,
    /// Matched records of rules that speak for each record, in the order in which they came.
    pub records: Vec<Matched>,
    /// Records that were not counted, sorted.
    pub dropped: Vec<Dropped>,
}

impl Partition {
    /// About how many bytes are held: commit early when it grows.
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty() && self.records.is_empty() && self.dropped.is_empty()
    }

    /// What was held; nothing is afterwards.
    pub fn take(&mut self) -> Aggregates {
        let held = std::mem::take(self);
        let mut counts: Vec<Count> = held
            .counts
            .into_iter()
            .map(|((_, _, bucket_ms), held)| {
                let Counted { extras, top } = held.more.map_or_else(Counted::default, |more| settle(*more));
                Count {
                    rule: held.rule,
                    group: held.labels,
                    bucket_ms,
                    count: held.count,
                    last: held.last.unwrap_or_else(|| held.first.clone()),
                    first: held.first,
                    extras,
                    top,
                }
            })
            .collect();
        counts.sort_by(|a, b| (a.rule, &a.group, a.bucket_ms).cmp(&(b.rule, &b.group, b.bucket_ms)));
        let dropped = held
            .dropped
            .into_iter()
            .map(|((rule, reason), count)| Dropped { rule, reason: reason.name().to_owned(), count })
            .collect();
        Aggregates { counts, records: held.records, dropped }
    }

    pub(super) fn drop_record(&mut self, rule: Option<Uuid>, reason: DropReason) {
        *self.dropped.entry((rule, reason)).or_insert_with(|| {
            self.weight += 64;
            0
        }) += 1;
    }

    pub(super) fn matched(&mut self, rule: &Rule, values: &[String], record: &Record<'_>) {
        let group = rule.group_by.labels(values);
        let sample = sample::sample(record);
        self.weight += 64 + label_weight(&group) + sample::weight(&sample);
        self.records.push(Matched { rule: rule.uid, group, sample });
    }

    pub(super) fn count(
        &mut self,
        rule: &Rule,
        index: usize,
        values: Box<[String]>,
        bucket: i64,
        record: &Record<'_>,
        reading: Option<Reading>,
    ) {
        let held = match self.counts.entry((index, values, bucket)) {
            hash_map::Entry::Vacant(vacant) => {
                let labels = rule.group_by.labels(&vacant.key().1);
                let first = sample::sample(record);
                self.weight += 256 + 2 * label_weight(&labels) + sample::weight(&first);
                let more = rule.measures.as_ref().map(|it| Box::new((Arc::clone(it), Counted::default())));
                vacant.insert(Held { rule: rule.uid, labels, count: 1, first, last: None, more })
            }
            hash_map::Entry::Occupied(occupied) => {
                let held = occupied.into_mut();
                held.count += 1;
                let at = record.raw.at();
                if at < held.first.at {
                    let before = std::mem::replace(&mut held.first, sample::sample(record));
                    self.weight += sample::weight(&held.first);
                    match held.last {
                        None => held.last = Some(before),
                        Some(_) => self.weight = self.weight.saturating_sub(sample::weight(&before)),
                    }
                } else if held.last.as_ref().is_none_or(|last| at > last.at) {
                    let after = sample::sample(record);
                    self.weight += sample::weight(&after);
                    if let Some(before) = held.last.replace(after) {
                        self.weight = self.weight.saturating_sub(sample::weight(&before));
                    }
                }
                held
            }
        };
        if let (Some(more), Some(reading)) = (&mut held.more, reading) {
            let (measures, counted) = &mut **more;
            self.weight += measures.add(counted, reading, record);
        }
    }
}

fn label_weight(labels: &BTreeMap<String, String>) -> usize {
    labels.iter().map(|(name, value)| name.len() + value.len() + 64).sum()
}

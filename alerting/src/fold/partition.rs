//! What one partition's records came to since the last commit, by (rule, group, bucket).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use domain::{Count, DropReason, DropSample, Dropped, Matched, RecordRef, Sample};
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use super::CompiledRule;
use super::aggregate::{Aggregate, BucketExtras, Measurement, Measures, trim_to_bounds};
use super::groups::{Full, Groups, RecordOrder};
use crate::{
    decode::{Decoded, Decoder},
    document::Document,
    matching::Memory,
    paths,
    record::{RawRecord, Record},
    sample::{self, MAX_SAMPLE},
};

/// The bytes of a key before its labels: the rule's index and the bucket.
const KEY_HEAD: usize = 12;
/// Characters of what is said of a record that was not counted.
const MAX_DETAIL: usize = 160;

/// What one partition's records came to since the last commit.
#[derive(Debug, Default)]
pub struct PartitionFold {
    pub(super) uncommitted: Uncommitted,
    pub(super) scratch: Scratch,
}

/// Buffers that are used again for each record.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub(super) document: Document,
    pub(super) memory: Memory,
    pub(super) candidates: Vec<u32>,
}

/// What is held.
#[derive(Debug, Default)]
pub(super) struct Uncommitted {
    groups: Groups,
    /// Where the groups' records are from.
    base: OffsetBase,
    /// Counts of groups that could not be held together with later ones.
    flushed: Vec<Count>,
    records: Vec<Matched>,
    dropped: BTreeMap<(Option<Uuid>, DropReason), (i64, DropSample)>,
    /// The rules that have groups, by their index.
    rules: Vec<Option<RuleInfo>>,
    /// By a group's key, what its rule counts beyond records; most rules count nothing more.
    more: HashMap<Box<[u8]>, BucketExtras>,
    /// Bytes of what is not in groups.
    weight: usize,
    /// The key of the record at hand.
    key: Vec<u8>,
}

/// What of a rule is needed to tell of its groups.
#[derive(Debug, Clone)]
struct RuleInfo {
    uid: Uuid,
    /// The labels' names.
    names: Arc<[String]>,
    measures: Option<Arc<Measures>>,
}

impl From<&CompiledRule> for RuleInfo {
    fn from(rule: &CompiledRule) -> Self {
        Self { uid: rule.uid, names: rule.group_by.names().clone(), measures: rule.measures.clone() }
    }
}

impl RuleInfo {
    /// A count of a bucket of the group with these labels' values.
    fn count(
        &self,
        values: &[u8],
        bucket_ms: i64,
        records: (i64, Sample, Sample),
        more: BucketExtras,
    ) -> Count {
        let (count, first, last) = records;
        let BucketExtras { extras, top } = match &self.measures {
            Some(measures) => trim_to_bounds(measures, more),
            None => more,
        };
        let group = paths::labels(&self.names, values);
        Count { rule: self.uid, group, bucket_ms, count, first, last, extras, top }
    }
}

/// Where the records of some groups are from.
#[derive(Debug, Default)]
struct OffsetBase {
    topic: String,
    partition: i32,
    /// Offsets are held relative to it.
    offset: i64,
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

impl PartitionFold {
    /// About how many bytes a commit of what is held has: commit early when it grows.
    pub fn weight(&self) -> usize {
        self.uncommitted.weight + self.uncommitted.groups.weight()
    }

    /// How many counts and records are held, but for the last few dozens: commit early when there are many.
    pub fn items(&self) -> usize {
        self.uncommitted.groups.len() + self.uncommitted.flushed.len() + self.uncommitted.records.len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        let uncommitted = &self.uncommitted;
        uncommitted.groups.is_empty()
            && uncommitted.flushed.is_empty()
            && uncommitted.records.is_empty()
            && uncommitted.dropped.is_empty()
    }

    /// What was held; nothing is afterwards.
    pub fn take(&mut self) -> Aggregates {
        let mut uncommitted = std::mem::take(&mut self.uncommitted);
        uncommitted.flush();
        let mut counts = uncommitted.flushed;
        counts.sort_by(|a, b| (a.rule, &a.group, a.bucket_ms).cmp(&(b.rule, &b.group, b.bucket_ms)));
        let measured = uncommitted.rules.iter().flatten();
        let kept: HashMap<Uuid, usize> =
            measured.filter_map(|rule| Some((rule.uid, rule.measures.as_ref()?.kept()))).collect();
        counts.dedup_by(|later, count| {
            let same =
                (later.rule, &later.group, later.bucket_ms) == (count.rule, &count.group, count.bucket_ms);
            if same {
                let mut merged = Aggregate::from(count.clone());
                let kept = kept.get(&count.rule).copied().unwrap_or_default();
                merged.merge(Aggregate::from(later.clone()), kept);
                (count.count, count.first, count.last) = (merged.count, merged.first, merged.last);
                (count.extras, count.top) = (merged.extras, merged.top);
            }
            same
        });
        let dropped = uncommitted
            .dropped
            .into_iter()
            .map(|((rule, reason), (count, sample))| {
                let sample = (reason != DropReason::Tombstone).then_some(sample);
                Dropped { rule, reason, count, sample }
            })
            .collect();
        Aggregates { counts, records: uncommitted.records, dropped }
    }
}

impl Uncommitted {
    /// Counts a record as not counted. `detail` is asked for of the first only, and cut.
    pub(super) fn drop_record(
        &mut self,
        rule: Option<Uuid>,
        reason: DropReason,
        offset: i64,
        detail: impl FnOnce() -> String,
    ) {
        let (count, _) = self.dropped.entry((rule, reason)).or_insert_with(|| {
            let detail: String = detail().chars().take(MAX_DETAIL).collect();
            self.weight += 128 + detail.len();
            (0, DropSample { offset, detail })
        });
        *count += 1;
    }

    /// Finds the group of a record; false where it has none. It is that of the record at hand until the next call.
    pub(super) fn group(&mut self, rule: &CompiledRule, index: u32, record: &Record<'_>) -> bool {
        self.key.clear();
        self.key.extend_from_slice(&index.to_le_bytes());
        self.key.extend_from_slice(&[0; KEY_HEAD - 4]);
        rule.group_by.append(record, &mut self.key)
    }

    /// Keeps the record at hand for a rule that speaks for each record.
    pub(super) fn matched(&mut self, rule: &CompiledRule, record: &Record<'_>) {
        let values = self.key.get(KEY_HEAD..).unwrap_or_default();
        let group = paths::labels(rule.group_by.names(), values);
        let sample = sample::sample(record);
        let labels: usize = group.iter().map(|(name, value)| name.len() + value.len() + 64).sum();
        self.weight += 64 + labels + sample::weight(&sample);
        self.records.push(Matched { rule: rule.uid, group, sample });
    }

    /// Counts the record at hand for its group and bucket, and what was read of it beyond.
    pub(super) fn count(
        &mut self,
        rule: &CompiledRule,
        index: u32,
        bucket: i64,
        record: &Record<'_>,
        measurement: Option<Measurement>,
    ) {
        if let Some(place) = self.key.get_mut(4..KEY_HEAD) {
            place.copy_from_slice(&bucket.to_le_bytes());
        }
        let time = record.raw.time_ms();
        let made;
        let body = match record.raw.value {
            Some(value) if rule.is_json && value.len() <= MAX_SAMPLE => value,
            _ => {
                made = json(record);
                &made
            }
        };
        self.remember_rule(rule, index);
        if let (Some(measures), Some(measurement)) = (&rule.measures, measurement) {
            self.measure(measures, measurement, record);
        }
        if self.try_count(record, time - bucket, body).is_ok() {
            return;
        }
        self.flush();
        self.base = OffsetBase {
            topic: record.raw.topic.to_owned(),
            partition: record.raw.partition,
            offset: record.raw.offset,
        };
        if self.try_count(record, time - bucket, body).is_err() {
            // A bucket of months: its records are counted one by one.
            let sample = sample::sample(record);
            let more = self.more.remove(self.key.as_slice()).unwrap_or_default();
            let values = self.key.get(KEY_HEAD..).unwrap_or_default();
            let count = RuleInfo::from(rule).count(values, bucket, (1, sample.clone(), sample), more);
            self.push(count);
        }
    }

    /// Adds what was read of the record at hand to its group.
    fn measure(&mut self, measures: &Measures, measurement: Measurement, record: &Record<'_>) {
        self.weight += if let Some(more) = self.more.get_mut(self.key.as_slice()) {
            measures.add(more, measurement, record)
        } else {
            let mut more = BucketExtras::default();
            let weight = measures.add(&mut more, measurement, record);
            self.more.insert(self.key.as_slice().into(), more);
            weight + self.key.len() + 64
        };
    }

    /// Remembers what the rule's groups are called.
    fn remember_rule(&mut self, rule: &CompiledRule, index: u32) {
        let index = index as usize;
        if self.rules.get(index).is_none_or(Option::is_none) {
            if self.rules.len() <= index {
                self.rules.resize(index + 1, None);
            }
            if let Some(known) = self.rules.get_mut(index) {
                *known = Some(RuleInfo::from(rule));
            }
        }
    }

    fn try_count(&mut self, record: &Record<'_>, time: i64, body: &[u8]) -> Result<(), Full> {
        let (base, raw) = (&self.base, &record.raw);
        if base.partition != raw.partition || base.topic != raw.topic {
            return Err(Full);
        }
        let offset = raw.offset.checked_sub(base.offset).and_then(|it| u32::try_from(it).ok()).ok_or(Full)?;
        let time = u32::try_from(time).map_err(|_| Full)?;
        self.groups.count(&self.key, RecordOrder { time, offset }, body)
    }

    fn push(&mut self, count: Count) {
        let labels: usize = count.group.iter().map(|(name, value)| name.len() + value.len() + 64).sum();
        self.weight += 256 + labels + sample::weight(&count.first) + sample::weight(&count.last);
        self.flushed.push(count);
    }

    /// Makes counts of the groups.
    fn flush(&mut self) {
        while self.groups.settle().is_err() {
            self.flush_counted();
        }
        self.flush_counted();
    }

    /// Makes counts of the groups, without the records that wait.
    fn flush_counted(&mut self) {
        let groups = self.groups.take_counted();
        let mut document = Document::default();
        for group in groups.iter() {
            let Some((head, values)) = group.key.split_first_chunk::<KEY_HEAD>() else { continue };
            let [a, b, c, d, bucket @ ..] = *head;
            let bucket_ms = i64::from_le_bytes(bucket);
            let rule = u32::from_le_bytes([a, b, c, d]) as usize;
            let Some(rule) = self.rules.get(rule).and_then(Option::as_ref) else { continue };
            let mut sample = |(at, body): (RecordOrder, &[u8])| Sample {
                at: self.base.record(bucket_ms, at),
                value: value(body, &mut document),
            };
            let first = sample(group.first);
            let last = group.last.map_or_else(|| first.clone(), sample);
            let more = self.more.remove(group.key).unwrap_or_default();
            let count = rule.count(values, bucket_ms, (i64::from(group.count), first, last), more);
            self.push(count);
        }
    }
}

impl OffsetBase {
    fn record(&self, bucket_ms: i64, at: RecordOrder) -> RecordRef {
        // Both were taken from an instant that there is.
        let time = Timestamp::from_millisecond(bucket_ms + i64::from(at.time)).unwrap_or_default();
        let offset = self.offset + i64::from(at.offset);
        RecordRef { time, topic: self.topic.clone(), partition: self.partition, offset }
    }
}

/// The record's value as JSON, cut to a sample's size.
fn json(record: &Record<'_>) -> Vec<u8> {
    let whole = serde_json::to_vec(&record.value).unwrap_or_default();
    if whole.len() <= MAX_SAMPLE {
        return whole;
    }
    serde_json::to_vec(&sample::cut(&record.value.to_json())).unwrap_or_default()
}

/// The value of a sample that was kept as JSON.
fn value(body: &[u8], document: &mut Document) -> Value {
    let record = RawRecord { value: Some(body), ..RawRecord::default() };
    match Decoder::Json.decode(&record, document) {
        Ok(Decoded::Value(view)) => sample::cut(&view.root().to_json()),
        _ => Value::Null,
    }
}

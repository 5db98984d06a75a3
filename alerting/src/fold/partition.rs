//! The counts of one partition's records since the last commit, by (rule, group, bucket).

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

/// The length of a key before its labels: the rule's index (4 bytes) and the bucket's start (8 bytes).
const KEY_HEAD: usize = 12;
/// The most characters of the detail about a dropped record.
const MAX_DETAIL: usize = 160;

/// Holds the counts of one partition's records since the last commit.
#[derive(Debug, Default)]
pub struct PartitionFold {
    pub(super) uncommitted: Uncommitted,
    pub(super) scratch: Scratch,
}

/// Buffers that are reused for each record.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub(super) document: Document,
    pub(super) memory: Memory,
    pub(super) candidates: Vec<u32>,
}

/// What has been counted and not been taken for a commit yet.
#[derive(Debug, Default)]
pub(super) struct Uncommitted {
    groups: Groups,
    /// What the records of `groups` are stored relative to.
    base: OffsetBase,
    /// Counts that were moved out of `groups` because later records did not fit there.
    flushed: Vec<Count>,
    records: Vec<Matched>,
    dropped: BTreeMap<(Option<Uuid>, DropReason), (i64, DropSample)>,
    /// What counts need of the rules, by the rule's index; filled when a rule counts its first record.
    rules: Vec<Option<RuleInfo>>,
    /// By the key of a (rule, group, bucket), what is counted beyond records. Most rules count nothing more.
    more: HashMap<Box<[u8]>, BucketExtras>,
    /// The approximate size of all but `groups`, bytes.
    weight: usize,
    /// The key of the current record.
    key: Vec<u8>,
}

/// What is needed of a rule to make counts of its groups.
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
    /// Makes the count of a bucket; `values` are the labels' values of its group.
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

/// The topic and partition of all records in `groups`, and the offset that theirs are stored relative to.
#[derive(Debug, Default)]
struct OffsetBase {
    topic: String,
    partition: i32,
    /// Offsets are stored relative to this one.
    offset: i64,
}

/// What one entry of a commit carries.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Aggregates {
    /// Counts by (rule, group, bucket), sorted.
    pub counts: Vec<Count>,
    /// Matched records of rules that notify of each record, in the order in which they came.
    pub records: Vec<Matched>,
    /// Dropped records, sorted.
    pub dropped: Vec<Dropped>,
}

impl PartitionFold {
    /// The approximate size of a commit of what is held, bytes. Commit early if it grows large.
    pub fn weight(&self) -> usize {
        self.uncommitted.weight + self.uncommitted.groups.weight()
    }

    /// How many counts and records are held, without the last few dozen. Commit early if there are many.
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

    /// Takes all that was counted, and leaves nothing.
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
    /// Counts a record as dropped. `detail` is called for the first one only, and its text is cut.
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

    /// Makes the current record's key for the rule, without its bucket; false if the record has no group. The key stays
    /// until the next call.
    pub(super) fn make_key(&mut self, rule: &CompiledRule, index: u32, record: &Record<'_>) -> bool {
        self.key.clear();
        self.key.extend_from_slice(&index.to_le_bytes());
        self.key.extend_from_slice(&[0; KEY_HEAD - 4]);
        rule.group_by.append(record, &mut self.key)
    }

    /// Keeps the current record for a rule that notifies of each record.
    pub(super) fn keep_matched(&mut self, rule: &CompiledRule, record: &Record<'_>) {
        let values = self.key.get(KEY_HEAD..).unwrap_or_default();
        let group = paths::labels(rule.group_by.names(), values);
        let sample = sample::sample(record);
        let labels: usize = group.iter().map(|(name, value)| name.len() + value.len() + 64).sum();
        self.weight += 64 + labels + sample::weight(&sample);
        self.records.push(Matched { rule: rule.uid, group, sample });
    }

    /// Counts the current record for its group and bucket, and what was measured in it.
    pub(super) fn count(
        &mut self,
        rule: &CompiledRule,
        index: u32,
        bucket: i64,
        record: &Record<'_>,
        measurement: Option<Measurement>,
    ) {
        if let Some(bucket_bytes) = self.key.get_mut(4..KEY_HEAD) {
            bucket_bytes.copy_from_slice(&bucket.to_le_bytes());
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
            // The bucket is months wide: each of its records becomes a count of its own.
            let sample = sample::sample(record);
            let more = self.more.remove(self.key.as_slice()).unwrap_or_default();
            let values = self.key.get(KEY_HEAD..).unwrap_or_default();
            let count = RuleInfo::from(rule).count(values, bucket, (1, sample.clone(), sample), more);
            self.push(count);
        }
    }

    /// Adds what was measured in the current record to its group.
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

    /// Remembers what counts need of the rule.
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

    /// Turns all groups into counts.
    fn flush(&mut self) {
        while self.groups.count_queued().is_err() {
            self.flush_counted();
        }
        self.flush_counted();
    }

    /// Turns the groups into counts, without the records that are still queued.
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
        // Both numbers were taken from a valid instant.
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

/// Reads back the value of a sample that was kept as JSON.
fn value(body: &[u8], document: &mut Document) -> Value {
    let record = RawRecord { value: Some(body), ..RawRecord::default() };
    match Decoder::Json.decode(&record, document) {
        Ok(Decoded::Value(view)) => sample::cut(&view.root().to_json()),
        _ => Value::Null,
    }
}

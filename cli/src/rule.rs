//! The engine behind `belfry rule`: runs rules over records and renders the notifications.
//!
//! It runs the same code as worker and hub, without the database and the network.

pub(crate) mod backtest;
mod junit;
pub(crate) mod test;
mod times;
pub(crate) mod trial;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use alerting::alert_data::{ShownRecords, Subject};
use alerting::decode::{DecodeError, Decoder};
use alerting::document::Document;
use alerting::record::RawRecord;
use alerting::replay::{Replay, ReplayEvent};
use anyhow::{Context as _, bail};
use domain::{DropReason, EventTime, Format, Plan, PlanBody, RulePlan};
use jiff::Timestamp;
use serde::Serialize;
use templates::rule_texts::{CompiledText, RuleText, RuleTextData, compile_text};
use uuid::Uuid;

use crate::records::{self, RecordLine};

/// A notification, as it is printed.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Notice {
    /// The rule's name.
    pub(crate) rule: String,
    /// `firing`, `repeat`, `resolved` or `record`.
    pub(crate) kind: &'static str,
    /// Label name to value.
    pub(crate) group: BTreeMap<String, String>,
    /// Matched records in the window.
    pub(crate) count: i64,
    pub(crate) window_start: Timestamp,
    pub(crate) window_end: Timestamp,
    /// When it was decided, by event time; for one record its time.
    pub(crate) time: Timestamp,
    pub(crate) severity: &'static str,
    pub(crate) title: String,
    pub(crate) summary: String,
}

struct Texts {
    title: CompiledText,
    summary: CompiledText,
}

/// A run of rules over records.
pub(crate) struct RuleRun {
    plans: BTreeMap<Uuid, (Plan, Texts)>,
    replay: Replay,
    offsets: HashMap<(String, i32), i64>,
    decoders: Vec<Decoder>,
    /// How many records were read.
    pub(crate) read: u64,
    /// How many of them can't be decoded, by reason.
    undecodable: BTreeMap<&'static str, u64>,
    /// How many of these have no time, by topic. They are not part of the replay.
    undecodable_untimed: BTreeMap<String, i64>,
    /// Decodable records without a time, which decide nothing.
    untimed: u64,
}

/// The result of reading one record.
#[derive(Debug, Default)]
pub(crate) struct RecordResult {
    /// How many rules counted it.
    pub(crate) matched: usize,
    /// Why the record is a dead letter; `None` if it is none.
    pub(crate) undecodable: Option<DecodeError>,
}

fn rule_plan(plan: &Plan) -> Option<&RulePlan> {
    match &plan.body {
        PlanBody::AlertRule(rule) => Some(rule),
        _ => None,
    }
}

impl RuleRun {
    /// Prepares a run of valid rules.
    pub(crate) fn new(plans: Vec<Plan>) -> anyhow::Result<Self> {
        let rules: Vec<(Uuid, &RulePlan)> =
            plans.iter().filter_map(|plan| Some((plan.uid, rule_plan(plan)?))).collect();
        let (replay, problems) = Replay::new(rules.iter().copied());
        if let Some(problem) = problems.first() {
            let errors: Vec<String> = problem.errors.iter().map(ToString::to_string).collect();
            bail!("{}", errors.join("; "));
        }
        let texts = |rule: &RulePlan| Texts {
            title: compile_text(&rule.title),
            summary: compile_text(&rule.summary),
        };
        let compiled: Vec<Texts> = rules.iter().map(|(_, rule)| texts(rule)).collect();
        let plans = plans.into_iter().zip(compiled).map(|(plan, texts)| (plan.uid, (plan, texts))).collect();
        let mut run = Self {
            plans,
            replay,
            offsets: HashMap::new(),
            decoders: Vec::new(),
            read: 0,
            undecodable: BTreeMap::new(),
            undecodable_untimed: BTreeMap::new(),
            untimed: 0,
        };
        let mut formats: Vec<&Format> = Vec::new();
        for plan in run.plans.values().filter_map(|(plan, _)| rule_plan(plan)) {
            let format = &plan.source.reading.format;
            if !formats.contains(&format) {
                formats.push(format);
                // The replay has compiled it already.
                run.decoders.extend(Decoder::new(format).ok());
            }
        }
        Ok(run)
    }

    /// The rules, by uid.
    pub(crate) fn rules(&self) -> impl Iterator<Item = (Uuid, &Plan)> {
        self.plans.iter().map(|(uid, (plan, _))| (*uid, plan))
    }

    /// The topic of records that name none: the only topic of the rules. An error if they read several.
    pub(crate) fn default_topic(&self) -> anyhow::Result<String> {
        let mut topics: Vec<&String> =
            self.rules().filter_map(|(_, plan)| rule_plan(plan)).flat_map(|rule| &rule.topics).collect();
        topics.sort();
        topics.dedup();
        match topics.as_slice() {
            [topic] => Ok((*topic).clone()),
            _ => bail!("the rules read {} topics, so a record must name its topic", topics.len()),
        }
    }

    /// Whether no rule needs the records' timestamps: each notifies about single records, or finds the time in the value.
    pub(crate) fn needs_no_time(&self) -> bool {
        let mut rules = self.rules().filter_map(|(_, plan)| rule_plan(plan));
        rules.all(|rule| {
            rule.source.reading.event_time.is_some()
                || alerting::decide::RuleParams::from_plan(rule).is_none()
        })
    }

    /// The decoders of the rules' formats, each format once.
    pub(crate) fn decoders(&self) -> &[Decoder] {
        &self.decoders
    }

    /// Reads the record of a line.
    pub(crate) fn push_line(
        &mut self,
        line: &RecordLine,
        default_topic: Option<&str>,
    ) -> anyhow::Result<RecordResult> {
        let topic = line.topic.as_deref().or(default_topic);
        let topic = topic.context("the record must name its topic: the rules read several")?;
        let time = match line.time_ms {
            Some(time) => time,
            None if self.needs_no_time() => 0,
            None => return Ok(self.push_untimed(line, topic)),
        };
        let next = self.offsets.entry((topic.to_owned(), line.partition)).or_default();
        let offset = line.offset.unwrap_or(*next);
        *next = offset + 1;
        Ok(line.with_raw((topic, offset, time), |raw| self.push_record(raw, None)))
    }

    /// The names of the rules that count this record, each rule run alone.
    pub(crate) fn counting(&self, line: &RecordLine, default_topic: Option<&str>) -> Vec<&str> {
        let topic = line.topic.as_deref().or(default_topic).unwrap_or_default();
        let counts = |uid: Uuid, plan: &Plan| {
            let alone = rule_plan(plan).map(|rule| Replay::new([(uid, rule)]).0);
            let record = (topic, line.offset.unwrap_or(0), line.time_ms.unwrap_or(0));
            alone.is_some_and(|mut alone| line.with_raw(record, |raw| alone.push(raw).matched > 0))
        };
        self.rules().filter(|(uid, plan)| counts(*uid, plan)).map(|(_, plan)| plan.name.as_str()).collect()
    }

    /// The rules' settings for event times within values.
    pub(crate) fn event_times(&self) -> BTreeSet<&EventTime> {
        let rules = self.rules().filter_map(|(_, plan)| rule_plan(plan));
        rules.filter_map(|rule| rule.source.reading.event_time.as_ref()).collect()
    }

    /// Reads a record without a time. If it can't be decoded it is a dead letter; otherwise it decides nothing.
    fn push_untimed(&mut self, line: &RecordLine, topic: &str) -> RecordResult {
        self.read += 1;
        let mut document = Document::default();
        let mut failed = None;
        for decoder in &self.decoders {
            match line.with_raw((topic, 0, 0), |raw| decoder.decode(raw, &mut document).err()) {
                None => {
                    self.untimed += 1;
                    return RecordResult::default();
                }
                error => failed = error,
            }
        }
        *self.undecodable_untimed.entry(topic.to_owned()).or_default() += 1;
        self.count_undecodable(failed)
    }

    fn count_undecodable(&mut self, undecodable: Option<DecodeError>) -> RecordResult {
        if let Some(error) = &undecodable {
            *self.undecodable.entry(error.reason.name()).or_default() += 1;
        }
        RecordResult { matched: 0, undecodable }
    }

    /// Reads a Kafka record. `appended_ms`: when the broker appended it, if that is known.
    pub(crate) fn push_record(&mut self, record: &RawRecord<'_>, appended_ms: Option<i64>) -> RecordResult {
        self.read += 1;
        let folded = self.replay.push_appended(record, appended_ms);
        RecordResult { matched: folded.matched, ..self.count_undecodable(folded.undecodable) }
    }

    /// Returns an error that says what to do if no record had a time.
    pub(crate) fn require_times(&self) -> anyhow::Result<()> {
        if self.untimed == 0 || self.untimed + self.undecodable.values().sum::<u64>() < self.read {
            return Ok(());
        }
        bail!(
            "no record has a time. Where it is in the records, say so: --time-path record.time for this run, or the source's \
             eventTime for the rule. Otherwise give records with \"timestamp\" and \"value\" (or \"raw\", a line of text)"
        )
    }

    /// Decides what is due; returns the new notifications.
    pub(crate) fn decide(&mut self) -> Vec<Notice> {
        let events = self.replay.decide();
        events.iter().filter_map(|event| self.notice(event)).collect()
    }

    /// Decides everything that is left; with `until_ms`, up to that time, as if no more records came.
    pub(crate) fn finish(&mut self, until_ms: Option<i64>) -> Vec<Notice> {
        let events = self.replay.finish(until_ms);
        events.iter().filter_map(|event| self.notice(event)).collect()
    }

    fn notice(&self, event: &ReplayEvent) -> Option<Notice> {
        let (plan, texts) = self.plans.get(&event.rule)?;
        let subject =
            Subject { namespace: &plan.namespace, name: &plan.name, uid: plan.uid, plan: rule_plan(plan)? };
        let data = match (&event.decision, &event.last) {
            (Some(decision), last) => {
                let shown =
                    ShownRecords { first: event.first.as_ref(), last: last.as_ref(), top: &event.top };
                subject.alert(&event.group, decision, shown)
            }
            (None, Some(record)) => subject.record(&event.group, record),
            (None, None) => return None,
        };
        let texts_of = RuleTextData::new(&data);
        Some(Notice {
            rule: plan.name.clone(),
            kind: data.word(),
            group: event.group.clone(),
            count: data.count,
            window_start: data.window_start,
            window_end: data.window_end,
            time: Timestamp::from_millisecond(event.time_ms).unwrap_or_default(),
            severity: data.severity.name(),
            title: texts_of.render(RuleText::Title, &texts.title, &|| None).0,
            summary: texts_of.render(RuleText::Summary, &texts.summary, &|| None).0,
        })
    }

    /// The counts of records in words, one line each.
    pub(crate) fn record_counts(&self) -> Vec<String> {
        let mut lines =
            vec![format!("{} records read, {}", self.read, records::describe_undecodable(&self.undecodable))];
        if self.untimed > 0 {
            lines.push(format!("{} without a time, so not counted", self.untimed));
        }
        for (uid, plan) in self.rules() {
            let tally = self.replay.tally(uid).unwrap_or_default();
            lines.push(format!("{}: {} counted, {} of them late", plan.name, tally.matched, tally.late));
            let dropped = self.replay.dropped().iter().filter(|((of, _), _)| *of == uid);
            let mut dropped: BTreeMap<DropReason, i64> =
                dropped.map(|((_, reason), count)| (*reason, *count)).collect();
            let reads = |topic: &String| rule_plan(plan).is_some_and(|rule| rule.topics.contains(topic));
            let untimed: i64 = self
                .undecodable_untimed
                .iter()
                .filter(|(topic, _)| reads(topic))
                .map(|(_, count)| count)
                .sum();
            if untimed > 0 {
                *dropped.entry(DropReason::Undecodable).or_default() += untimed;
            }
            lines.extend(
                dropped
                    .iter()
                    .map(|(reason, count)| format!("{}: {count} not counted: {}", plan.name, reason.name())),
            );
        }
        lines
    }
}

impl Notice {
    /// The text for people: one line, and one for each line of the summary. No value in them can end a line.
    pub(crate) fn lines(&self) -> Vec<String> {
        let group: Vec<String> = self.group.iter().map(|(label, value)| format!("{label}={value}")).collect();
        let group = if group.is_empty() { String::new() } else { format!(" ({})", group.join(", ")) };
        let first =
            format!("{} {} {}{group} {}: {}", self.time, self.kind, self.rule, self.severity, self.title);
        let summary = self.summary.lines().map(|line| format!("    {line}"));
        std::iter::once(first).chain(summary).map(|line| domain::plain(&line).into_owned()).collect()
    }
}

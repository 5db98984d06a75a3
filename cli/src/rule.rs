//! The engine behind `belfry rule`: rules over records, to notifications with their texts.
//!
//! It is the code that runs behind a cluster, of worker and hub; only the database and the wire are left out.

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

use crate::records::{self, Line};

/// A notification, as it is written.
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
    /// When it was decided, by event time; a record's time.
    pub(crate) time: Timestamp,
    pub(crate) severity: &'static str,
    pub(crate) title: String,
    pub(crate) summary: String,
}

struct Texts {
    title: CompiledText,
    summary: CompiledText,
}

/// Rules over records.
pub(crate) struct Run {
    plans: BTreeMap<Uuid, (Plan, Texts)>,
    replay: Replay,
    offsets: HashMap<(String, i32), i64>,
    decoders: Vec<Decoder>,
    /// Records taken.
    pub(crate) read: u64,
    /// Those that can't be decoded, by reason.
    undecodable: BTreeMap<&'static str, u64>,
    /// Those of them that have no time, so that they are no part of the replay, by topic.
    apart: BTreeMap<String, i64>,
    /// Records whose time is not known, which nothing is decided by.
    untimed: u64,
}

/// What became of a record.
#[derive(Debug, Default)]
pub(crate) struct Pushed {
    /// By how many rules it was counted.
    pub(crate) matched: usize,
    /// Why it is a dead letter.
    pub(crate) undecodable: Option<DecodeError>,
}

fn rule(plan: &Plan) -> Option<&RulePlan> {
    match &plan.body {
        PlanBody::AlertRule(rule) => Some(rule),
        _ => None,
    }
}

impl Run {
    /// Of rules that are valid.
    pub(crate) fn new(plans: Vec<Plan>) -> anyhow::Result<Self> {
        let rules: Vec<(Uuid, &RulePlan)> =
            plans.iter().filter_map(|plan| Some((plan.uid, rule(plan)?))).collect();
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
            apart: BTreeMap::new(),
            untimed: 0,
        };
        let mut formats: Vec<&Format> = Vec::new();
        for plan in run.plans.values().filter_map(|(plan, _)| rule(plan)) {
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

    /// The topic of records that name none: the only one that the rules read.
    pub(crate) fn default_topic(&self) -> anyhow::Result<String> {
        let mut topics: Vec<&String> =
            self.rules().filter_map(|(_, plan)| rule(plan)).flat_map(|rule| &rule.topics).collect();
        topics.sort();
        topics.dedup();
        match topics.as_slice() {
            [topic] => Ok((*topic).clone()),
            _ => bail!("the rules read {} topics, so a record must name its topic", topics.len()),
        }
    }

    /// Whether every rule tells of each record by itself, or has its time in it, so that a timestamp does not matter.
    pub(crate) fn needs_no_time(&self) -> bool {
        let mut rules = self.rules().filter_map(|(_, plan)| rule(plan));
        rules.all(|rule| {
            rule.source.reading.event_time.is_some()
                || alerting::decide::RuleParams::from_plan(rule).is_none()
        })
    }

    /// What the rules' records are taken apart by, each format once.
    pub(crate) fn decoders(&self) -> &[Decoder] {
        &self.decoders
    }

    /// Takes a record.
    pub(crate) fn push(&mut self, line: &Line, default_topic: Option<&str>) -> anyhow::Result<Pushed> {
        let topic = line.topic.as_deref().or(default_topic);
        let topic = topic.context("the record must name its topic: the rules read several")?;
        let time = match line.time_ms {
            Some(time) => time,
            None if self.needs_no_time() => 0,
            None => return Ok(self.without_time(line, topic)),
        };
        let next = self.offsets.entry((topic.to_owned(), line.partition)).or_default();
        let offset = line.offset.unwrap_or(*next);
        *next = offset + 1;
        Ok(line.with_raw((topic, offset, time), |raw| self.take(raw, None)))
    }

    /// The names of the rules that count a record, by itself.
    pub(crate) fn counting(&self, line: &Line, default_topic: Option<&str>) -> Vec<&str> {
        let topic = line.topic.as_deref().or(default_topic).unwrap_or_default();
        let counts = |uid: Uuid, plan: &Plan| {
            let alone = rule(plan).map(|rule| Replay::new([(uid, rule)]).0);
            let record = (topic, line.offset.unwrap_or(0), line.time_ms.unwrap_or(0));
            alone.is_some_and(|mut alone| line.with_raw(record, |raw| alone.push(raw).matched > 0))
        };
        self.rules().filter(|(uid, plan)| counts(*uid, plan)).map(|(_, plan)| plan.name.as_str()).collect()
    }

    /// Where rules find the time of records within their values.
    pub(crate) fn event_times(&self) -> BTreeSet<&EventTime> {
        let rules = self.rules().filter_map(|(_, plan)| rule(plan));
        rules.filter_map(|rule| rule.source.reading.event_time.as_ref()).collect()
    }

    /// A record without a time is a dead letter all the same if it can't be decoded; otherwise nothing is decided by it.
    fn without_time(&mut self, line: &Line, topic: &str) -> Pushed {
        self.read += 1;
        let mut document = Document::default();
        let mut failed = None;
        for decoder in &self.decoders {
            match line.with_raw((topic, 0, 0), |raw| decoder.decode(raw, &mut document).err()) {
                None => {
                    self.untimed += 1;
                    return Pushed::default();
                }
                error => failed = error,
            }
        }
        *self.apart.entry(topic.to_owned()).or_default() += 1;
        self.dead(failed)
    }

    fn dead(&mut self, undecodable: Option<DecodeError>) -> Pushed {
        if let Some(error) = &undecodable {
            *self.undecodable.entry(error.reason.name()).or_default() += 1;
        }
        Pushed { matched: 0, undecodable }
    }

    /// Takes a record as Kafka has it, and when the broker appended it, where it says so.
    pub(crate) fn take(&mut self, record: &RawRecord<'_>, appended_ms: Option<i64>) -> Pushed {
        self.read += 1;
        let folded = self.replay.push_appended(record, appended_ms);
        Pushed { matched: folded.matched, ..self.dead(folded.undecodable) }
    }

    /// What to do where no record has a time.
    pub(crate) fn timed(&self) -> anyhow::Result<()> {
        if self.untimed == 0 || self.untimed + self.undecodable.values().sum::<u64>() < self.read {
            return Ok(());
        }
        bail!(
            "no record has a time. Where it is in the records, say so: --time-path record.time for this run, or the source's \
             eventTime for the rule. Otherwise give records with \"timestamp\" and \"value\" (or \"raw\", a line of text)"
        )
    }

    /// Decides what is due.
    pub(crate) fn decide(&mut self) -> Vec<Notice> {
        let events = self.replay.decide();
        events.iter().filter_map(|event| self.notice(event)).collect()
    }

    /// Decides all there is to decide; with `until_ms`, up to there.
    pub(crate) fn finish(&mut self, until_ms: Option<i64>) -> Vec<Notice> {
        let events = self.replay.finish(until_ms);
        events.iter().filter_map(|event| self.notice(event)).collect()
    }

    fn notice(&self, event: &ReplayEvent) -> Option<Notice> {
        let (plan, texts) = self.plans.get(&event.rule)?;
        let subject =
            Subject { namespace: &plan.namespace, name: &plan.name, uid: plan.uid, plan: rule(plan)? };
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

    /// What became of the records, in words, a line each.
    pub(crate) fn summary(&self) -> Vec<String> {
        let mut lines = vec![format!("{} records read, {}", self.read, records::counted(&self.undecodable))];
        if self.untimed > 0 {
            lines.push(format!("{} without a time, so not counted", self.untimed));
        }
        for (uid, plan) in self.rules() {
            let tally = self.replay.tally(uid).unwrap_or_default();
            lines.push(format!("{}: {} counted, {} of them late", plan.name, tally.matched, tally.late));
            let dropped = self.replay.dropped().iter().filter(|((of, _), _)| *of == uid);
            let mut dropped: BTreeMap<DropReason, i64> =
                dropped.map(|((_, reason), count)| (*reason, *count)).collect();
            let reads = |topic: &String| rule(plan).is_some_and(|rule| rule.topics.contains(topic));
            let apart: i64 =
                self.apart.iter().filter(|(topic, _)| reads(topic)).map(|(_, count)| count).sum();
            if apart > 0 {
                *dropped.entry(DropReason::Undecodable).or_default() += apart;
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
    /// For people: a line, and one for each of its summary. What is in them ends none.
    pub(crate) fn lines(&self) -> Vec<String> {
        let group: Vec<String> = self.group.iter().map(|(label, value)| format!("{label}={value}")).collect();
        let group = if group.is_empty() { String::new() } else { format!(" ({})", group.join(", ")) };
        let first =
            format!("{} {} {}{group} {}: {}", self.time, self.kind, self.rule, self.severity, self.title);
        let summary = self.summary.lines().map(|line| format!("    {line}"));
        std::iter::once(first).chain(summary).map(|line| domain::plain(&line).into_owned()).collect()
    }
}

//! `AlertRule` → [`Plan`].

use std::collections::BTreeMap;

use alerting::paths::Path;
use crds::rule::{self as wire, AlertRule};
use domain::{
    EventTime, Format, Isolation, Millis, Plan, PlanBody, Reading, RulePlan, Severity, Source, StartFrom,
    TimeForm,
};
use templates::names::{Names, RuleFields};

use super::kafka::{self, topic};
use super::{Faults, HOUR, Identity, Invalid, SECOND, WEEK, condition, duration, duration_or, text};
use crate::conditions::reasons;

/// Validates a rule; reports all faults.
pub fn rule(object: &AlertRule) -> Result<Plan, Invalid> {
    let identity = Identity::from_metadata(&object.metadata)?;
    let spec = &object.spec;
    let kafka = &spec.source.kafka;
    let mut faults = Faults::default();
    faults.take(super::expression("match", &spec.matches));
    faults.take(grouped(&spec.group_by));
    if spec.notify.is_empty() {
        faults.take::<()>(Err(Invalid::spec("notify: at least one channel is needed")));
    }
    let source = faults.take(source_of(object));
    let topics = faults.take(topics(&kafka.topics));
    let dead_letter_topic = faults.take(dead_letter_topic(kafka));
    let condition = faults.take(condition::condition(&spec.condition, &spec.group_by));
    let repeat = |text| duration("repeatInterval", text, SECOND, WEEK);
    let repeat_interval = faults.take(spec.repeat_interval.as_ref().map(repeat).transpose());
    let resolve = faults.take(condition::resolve(spec));
    let allowed_lateness = faults.take(duration_or(
        "allowedLateness",
        spec.allowed_lateness.as_ref(),
        (Millis(0), Millis::from_secs(2), HOUR),
    ));
    let policy = faults.take(condition::policy(spec));
    texts(spec, condition.as_ref().unwrap_or(&WITH_ALL_NAMES), &mut faults);
    let body = (|| {
        Some(RulePlan {
            source: source?,
            topics: topics?,
            start_from: match kafka.start_from {
                wire::StartFrom::Latest => StartFrom::Latest,
                wire::StartFrom::Earliest => StartFrom::Earliest,
            },
            dead_letter_topic: dead_letter_topic?,
            matches: spec.matches.clone(),
            group_by: spec.group_by.clone(),
            condition: condition?,
            severity: match spec.severity {
                wire::Severity::Info => Severity::Info,
                wire::Severity::Warning => Severity::Warning,
                wire::Severity::Critical => Severity::Critical,
            },
            title: spec.title.clone(),
            summary: spec.summary.clone().unwrap_or_default(),
            notify: super::channels(&spec.notify),
            repeat_interval: repeat_interval?,
            resolve: resolve?,
            allowed_lateness: allowed_lateness?,
            policy: policy?,
        })
    })();
    let body = faults.end(body)?;
    Ok(identity.plan(spec.suspend, PlanBody::AlertRule(body)))
}

/// Paths of labels.
fn grouped(group_by: &BTreeMap<String, String>) -> Result<(), Invalid> {
    let mut faults = Faults::default();
    for (label, path) in group_by {
        faults.take(
            Path::compile(path).map_err(|error| {
                Invalid::new(reasons::INVALID_GROUP_BY, format!("groupBy.{label}: {error}"))
            }),
        );
    }
    faults.end(Some(()))
}

/// Stands for a condition that is wrong: its messages have all names, so the templates can still be checked.
const WITH_ALL_NAMES: domain::Condition = domain::Condition::Spike {
    ratio: 2_000,
    window: SECOND,
    min_count: 1,
    direction: domain::SpikeDirection::Up,
};

/// Checks that its texts use only the names that its messages have.
fn texts(spec: &wire::AlertRuleSpec, condition: &domain::Condition, faults: &mut Faults) {
    let of = RuleFields { group_by: &spec.group_by, top_values: &spec.top_values, condition };
    let names = Names::for_rule(of);
    faults.take(text("title", &spec.title, &names));
    faults.take(text("summary", spec.summary.as_deref().unwrap_or_default(), &names));
}

/// The source that a rule reads, even if the rule is invalid otherwise.
pub fn source_of(object: &AlertRule) -> Result<Source, Invalid> {
    let wire = &object.spec.source.kafka;
    let mut faults = Faults::default();
    let servers = faults.take(kafka::servers("source.kafka.bootstrapServers", &wire.bootstrap_servers));
    let security = kafka::security("source.kafka", wire.tls.as_ref(), wire.sasl.as_ref());
    let security = faults.take(security);
    let reading = faults.take(reading(wire));
    let source = (|| {
        Some(Source {
            bootstrap_servers: servers?,
            security: Box::new(security?),
            isolation: match wire.isolation {
                wire::Isolation::ReadCommitted => Isolation::ReadCommitted,
                wire::Isolation::ReadUncommitted => Isolation::ReadUncommitted,
            },
            reading: Box::new(reading?),
        })
    })();
    faults.end(source)
}

fn reading(kafka: &wire::KafkaSource) -> Result<Reading, Invalid> {
    let mut faults = Faults::default();
    let format = faults.take(format(kafka));
    let event_time = faults.take(kafka.event_time.as_ref().map(event_time).transpose());
    faults.end(format.zip(event_time).map(|(format, event_time)| Reading { format, event_time }))
}

fn format(kafka: &wire::KafkaSource) -> Result<Format, Invalid> {
    let format = match (kafka.format, &kafka.text) {
        (wire::Format::Text, Some(text)) => Format::Text { pattern: text.pattern.clone() },
        (wire::Format::Text, None) => {
            return Err(Invalid::spec("source.kafka.text: format Text needs its pattern".to_owned()));
        }
        (_, Some(_)) => {
            return Err(Invalid::spec("source.kafka.text: only format Text has a pattern".to_owned()));
        }
        (wire::Format::Json, None) => Format::Json,
        (wire::Format::Logfmt, None) => Format::Logfmt,
        (wire::Format::CloudEvents, None) => Format::CloudEvents,
    };
    alerting::decode::Decoder::new(&format).map_err(|error| {
        Invalid::new(reasons::INVALID_FORMAT, format!("source.kafka.text.pattern: {error}"))
    })?;
    Ok(format)
}

fn event_time(wire: &wire::EventTime) -> Result<EventTime, Invalid> {
    let place = "source.kafka.eventTime";
    let form = match (wire.format, &wire.pattern) {
        (wire::TimeFormat::Pattern, Some(pattern)) => {
            TimeForm::Pattern { pattern: pattern.clone(), time_zone: wire.time_zone.clone() }
        }
        (wire::TimeFormat::Pattern, None) => {
            return Err(Invalid::spec(format!("{place}.pattern: format Pattern needs one")));
        }
        (_, Some(_)) => return Err(Invalid::spec(format!("{place}.pattern: only format Pattern has one"))),
        (_, None) if wire.time_zone.is_some() => {
            return Err(Invalid::spec(format!("{place}.timeZone: only format Pattern has one")));
        }
        (wire::TimeFormat::Rfc3339, None) => TimeForm::Rfc3339,
        (wire::TimeFormat::UnixSeconds, None) => TimeForm::UnixSeconds,
        (wire::TimeFormat::UnixMilliseconds, None) => TimeForm::UnixMilliseconds,
    };
    let event_time = EventTime { path: wire.path.clone(), form };
    alerting::event_time::CompiledEventTime::compile(&event_time)
        .map_err(|error| Invalid::new(reasons::INVALID_EVENT_TIME, format!("{place}.{error}")))?;
    Ok(event_time)
}

/// Reading one's own dead-letter topic would loop.
fn dead_letter_topic(kafka: &wire::KafkaSource) -> Result<Option<String>, Invalid> {
    let place = "source.kafka.deadLetterTopic";
    let name = kafka.dead_letter_topic.as_ref().map(|name| topic(place, name)).transpose()?;
    match name {
        Some(name) if kafka.topics.contains(&name) => {
            Err(Invalid::spec(format!("{place}: {name:?} is one of the topics that are read: name another")))
        }
        name => Ok(name),
    }
}

fn topics(names: &[String]) -> Result<Vec<String>, Invalid> {
    let mut faults = Faults::default();
    let mut topics: Vec<String> = names
        .iter()
        .enumerate()
        .filter_map(|(at, name)| faults.take(topic(&format!("source.kafka.topics[{at}]"), name)))
        .collect();
    if names.is_empty() {
        faults.add(Invalid::spec("source.kafka.topics: at least one topic is needed"));
    }
    topics.sort();
    topics.dedup();
    faults.end(Some(topics))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_or_an_event_time_that_can_not_be_read_is_refused_with_its_place() {
        let said = |more: serde_json::Value| {
            let mut kafka = serde_json::json!({"bootstrapServers": ["a:1"], "topics": ["t"]});
            kafka.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let error = reading(&serde_json::from_value(kafka).unwrap()).unwrap_err();
            format!("{} {}", error.reason, error.message)
        };
        for (more, part) in [
            (serde_json::json!({"format": "Text"}), "source.kafka.text: format Text needs its pattern"),
            (serde_json::json!({"text": {"pattern": "(?<a>.)"}}), "only format Text has a pattern"),
            (
                serde_json::json!({"format": "Text", "text": {"pattern": "^(.*)$"}}),
                "InvalidFormat source.kafka.text.pattern: no group has a name",
            ),
            (
                serde_json::json!({"eventTime": {"path": "time"}}),
                "InvalidEventTime source.kafka.eventTime.path: ",
            ),
            (
                serde_json::json!({"eventTime": {"path": "record.t", "format": "Pattern", "pattern": "%H:%M"}}),
                "InvalidEventTime source.kafka.eventTime.pattern \"%H:%M\": a time needs at least its year",
            ),
            (
                serde_json::json!({"eventTime": {"path": "record.t", "timeZone": "Asia/Tokyo"}}),
                "source.kafka.eventTime.timeZone: only format Pattern has one",
            ),
        ] {
            let said = said(more);
            assert!(said.contains(part), "{said}");
        }
    }
}

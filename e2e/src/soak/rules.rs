//! The rules and channels of a run: what is applied to the cluster, and beside each CEL text the same condition in Rust
//! for the recount.
//!
//! Never here: code of the engine. What a rule means is said twice on purpose.

use serde_json::{Value, json};

use super::Settings;

/// When matching records are an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Each is.
    Any,
    /// At least `count` within `window_ms`.
    Frequency {
        /// At least this many.
        count: i64,
        /// Length of the window.
        window_ms: i64,
    },
}

/// When an alert is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resolve {
    /// How long the condition must have been false; absent: the default.
    pub after_ms: Option<i64>,
    /// Whether to say so.
    pub notify: bool,
}

/// A rule of the run.
#[derive(Clone)]
pub struct Rule {
    /// Its name.
    pub name: &'static str,
    /// `spec.match`.
    pub cel: &'static str,
    /// The same, for the recount.
    pub matches: fn(&Value) -> bool,
    /// Names of the fields by which it groups; labels are named alike.
    pub group: &'static [&'static str],
    /// When it is an alert.
    pub condition: Condition,
    /// How often a firing group speaks again.
    pub repeat_ms: Option<i64>,
    /// When it is over.
    pub resolve: Option<Resolve>,
    /// Names of its channels.
    pub channels: &'static [&'static str],
}

/// The rule whose one alert is the last of a run.
pub const LAST: &str = "last-word";

fn number(record: &Value, field: &str) -> f64 {
    record[field].as_f64().unwrap_or(0.0)
}

/// The rules, for records that come at this rate.
pub fn rules(settings: &Settings) -> Vec<Rule> {
    let per_second = |share: f64| ((settings.rate as f64 * share) as i64).max(2);
    let (medium, long) = if settings.short { (20_000, 30_000) } else { (60_000, 120_000) };
    vec![
        Rule {
            name: "each-fatal",
            cel: r#"record.level == "FATAL""#,
            matches: |record| record["level"] == "FATAL",
            group: &["service"],
            condition: Condition::Any,
            repeat_ms: None,
            resolve: None,
            channels: &["steady", "flaky"],
        },
        Rule {
            name: "failed-probes",
            cel: r#"record.kind == "probe" && !record.ok"#,
            matches: |record| record["kind"] == "probe" && record["ok"] == false,
            group: &["host"],
            condition: Condition::Any,
            repeat_ms: Some(7_000),
            resolve: Some(Resolve { after_ms: Some(4_000), notify: true }),
            channels: &["busy"],
        },
        Rule {
            name: "user-bursts",
            cel: r#"record.level == "WARN""#,
            matches: |record| record["level"] == "WARN",
            group: &["user"],
            condition: Condition::Frequency { count: 5, window_ms: 5_000 },
            repeat_ms: None,
            resolve: None,
            channels: &["hanging"],
        },
        Rule {
            name: "service-errors",
            cel: r#"record.level in ["ERROR", "FATAL"] && has(record.service)"#,
            matches: |record| record["level"] == "ERROR" || record["level"] == "FATAL",
            group: &["service", "zone"],
            condition: Condition::Frequency {
                // A hot place has a third of its records as errors, for 20 s.
                count: per_second(20.0 * 0.3 / 36.0 * 0.6),
                window_ms: medium,
            },
            repeat_ms: Some(10_000),
            resolve: Some(Resolve { after_ms: Some(5_000), notify: true }),
            channels: &["flaky", "hanging"],
        },
        Rule {
            name: "dear-payments",
            cel: r#"record.amount >= 100.0 && record.service.startsWith("pay")"#,
            matches: |record| {
                number(record, "amount") >= 100.0
                    && record["service"].as_str().is_some_and(|service| service.starts_with("pay"))
            },
            group: &[],
            condition: Condition::Frequency {
                count: per_second(long as f64 / 1000.0 * 0.25 * 0.25),
                window_ms: long,
            },
            repeat_ms: Some(9_000),
            resolve: Some(Resolve { after_ms: None, notify: true }),
            channels: &["steady", "busy", "hanging"],
        },
        Rule {
            name: LAST,
            cel: r#"record.kind == "end""#,
            matches: |record| record["kind"] == "end",
            group: &[],
            condition: Condition::Frequency { count: 6, window_ms: 1_000 },
            repeat_ms: None,
            resolve: None,
            channels: &["steady"],
        },
    ]
}

fn duration(ms: i64) -> String {
    format!("{}s{}ms", ms / 1000, ms % 1000)
}

impl Rule {
    /// The AlertRule that says so.
    pub fn manifest(&self, ns: &str, topic: &str, lateness_ms: i64) -> Value {
        let group: serde_json::Map<String, Value> =
            self.group.iter().map(|field| ((*field).to_owned(), json!(format!("record.{field}")))).collect();
        let notify: Vec<Value> =
            self.channels.iter().map(|name| json!({"channelRef": {"name": name}})).collect();
        let each = self.speaks_for_each_record();
        let mut spec = json!({
            "source": {"kafka": {
                "bootstrapServers": [format!("kafka.{ns}.svc:9092")], "topics": [topic], "startFrom": "Earliest",
            }},
            "consumers": {"replicas": 2},
            "match": self.cel,
            "groupBy": group,
            "severity": "warning",
            "title": if each { "record {{ record.n }}" } else { "{{ kind }} {{ count }}" },
            "notify": notify,
            "allowedLateness": duration(lateness_ms),
            "condition": match self.condition {
                Condition::Any => json!({"type": "Any"}),
                Condition::Frequency { count, window_ms } => {
                    json!({"type": "Frequency", "frequency": {"count": count, "window": duration(window_ms)}})
                }
            },
        });
        if let Some(repeat) = self.repeat_ms {
            spec["repeatInterval"] = json!(duration(repeat));
        }
        if let Some(resolve) = self.resolve {
            spec["resolve"] = json!({"notify": resolve.notify});
            if let Some(after) = resolve.after_ms {
                spec["resolve"]["after"] = json!(duration(after));
            }
        }
        json!({
            "apiVersion": "belfry.dev/v1alpha1", "kind": "AlertRule",
            "metadata": {"name": self.name, "namespace": ns}, "spec": spec,
        })
    }

    /// Whether each matching record is a notification of its own.
    pub fn speaks_for_each_record(&self) -> bool {
        self.condition == Condition::Any && self.repeat_ms.is_none() && self.resolve.is_none()
    }
}

/// The channels: always fine; fails now and then; asks to wait; hangs beyond its timeout. Names are the sink's paths.
pub fn channels(ns: &str) -> Vec<Value> {
    let formats = [
        ("steady", "Json"),
        ("flaky", "CloudEventsStructured"),
        ("busy", "CloudEventsBinary"),
        ("hanging", "Json"),
    ];
    formats
        .iter()
        .map(|(name, format)| {
            json!({
                "apiVersion": "belfry.dev/v1alpha1", "kind": "NotificationChannel",
                "metadata": {"name": name, "namespace": ns},
                "spec": {
                    "type": "Webhook",
                    "webhook": {"url": format!("http://sink.{ns}.svc:8080/{ns}/{name}"), "format": format},
                    "delivery": {
                        "retry": {"maxAttempts": 100, "initialDelay": "500ms", "maxDelay": "3s"},
                        "timeout": "2s", "expiresAfter": "24h", "onUnknown": "Resend",
                    },
                },
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_of_both_conditions_with_and_without_repeats_resolutions_and_groups_are_there() {
        let all = rules(&Settings::short(1));
        assert!(all.iter().any(Rule::speaks_for_each_record));
        assert!(all.iter().any(|rule| rule.condition == Condition::Any && rule.repeat_ms.is_some()));
        assert!(all.iter().any(|rule| rule.group.is_empty()) && all.iter().any(|rule| rule.group.len() == 2));
        for channel in channels("ns") {
            let name = channel["metadata"]["name"].as_str().unwrap().to_owned();
            assert!(all.iter().any(|rule| rule.channels.contains(&name.as_str())), "{name} is told");
        }
    }

    #[test]
    fn a_manifest_says_what_the_rule_says() {
        let all = rules(&Settings::short(1));
        let probes =
            all.iter().find(|rule| rule.name == "failed-probes").unwrap().manifest("ns", "t", 45_000);
        assert_eq!(probes["spec"]["repeatInterval"], "7s0ms");
        assert_eq!(probes["spec"]["resolve"], json!({"notify": true, "after": "4s0ms"}));
        assert_eq!(probes["spec"]["groupBy"], json!({"host": "record.host"}));
        assert_eq!(probes["spec"]["allowedLateness"], "45s0ms");
    }
}

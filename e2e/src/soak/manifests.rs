//! What is applied to the cluster: the AlertRules that say what [`super::rules`] says, and the channels.
//!
//! Never here: what comes of it.

use serde_json::{Map, Value, json};

use super::rules::{Condition, FIRST, SoakRule};

fn duration(ms: i64) -> String {
    format!("{}s{}ms", ms / 1000, ms % 1000)
}

fn path(field: &str) -> String {
    format!("record.{field}")
}

impl SoakRule {
    /// The AlertRule that says so.
    pub fn manifest(&self, ns: &str, topics: &[String], lateness_ms: i64, replicas: i32) -> Value {
        let group: Map<String, Value> =
            self.group.iter().map(|field| ((*field).to_owned(), json!(path(field)))).collect();
        let notify: Vec<Value> =
            self.channels.iter().map(|name| json!({"channelRef": {"name": name}})).collect();
        let topics: Vec<&String> = self.topics.iter().map(|topic| &topics[*topic]).collect();
        let mut spec = json!({
            "source": {"kafka": {
                "bootstrapServers": [format!("kafka.{ns}.svc:9092")], "topics": topics, "startFrom": "Earliest",
            }},
            "match": self.cel,
            "groupBy": group,
            "severity": "warning",
            "title": self.title(),
            "notify": notify,
            "allowedLateness": duration(lateness_ms),
            "condition": self.condition(),
        });
        // The largest number of all rules holds: only this one says one.
        if self.name == FIRST {
            spec["consumers"] = json!({"replicas": replicas});
        }
        if self.hold_ms > 0 {
            spec["for"] = json!(duration(self.hold_ms));
        }
        if let Some(repeat) = self.repeat_ms {
            spec["repeatInterval"] = json!(duration(repeat));
        }
        if self.repeat_factor > 1 {
            spec["repeatFactor"] = json!(self.repeat_factor.to_string());
        }
        if let Some(resolve) = self.resolve {
            spec["resolve"] = json!({"notify": resolve.notify});
            if let Some(after) = resolve.after_ms {
                spec["resolve"]["after"] = json!(duration(after));
            }
            if let Some(below) = resolve.below {
                let percent = if matches!(self.condition, Condition::Ratio { .. }) { "%" } else { "" };
                spec["resolve"]["below"] = json!(format!("{below}{percent}"));
            }
        }
        json!({
            "apiVersion": "belfry.dev/v1alpha1", "kind": "AlertRule",
            "metadata": {"name": self.name, "namespace": ns}, "spec": spec,
        })
    }

    /// What the text shows of what was measured; of the end of an alert only the count.
    fn title(&self) -> String {
        let measured = match self.condition {
            _ if self.speaks_for_each_record() => return "record {{ record.n }}".to_owned(),
            Condition::Any | Condition::Frequency { .. } | Condition::Flatline { .. } => "",
            Condition::NewValue { .. } => "{{ values | join(' ') }}",
            Condition::Cardinality { .. } | Condition::Ratio { .. } => "{{ value }}",
            Condition::Spike { .. } | Condition::Change { .. } => "{{ value }} after {{ previous }}",
            Condition::Extreme { .. } => "{{ value }} after {{ previous }} in {{ record.n }}",
        };
        if measured.is_empty() {
            "{{ kind }} {{ count }}".to_owned()
        } else {
            format!("{{{{ kind }}}} {{{{ count }}}}{{% if kind != 'resolved' %}}: {measured}{{% endif %}}")
        }
    }

    fn condition(&self) -> Value {
        match self.condition {
            Condition::Any => json!({"type": "Any"}),
            Condition::Frequency { count, window_ms } => {
                json!({"type": "Frequency", "frequency": {"count": count, "window": duration(window_ms)}})
            }
            Condition::Spike { ratio, window_ms, min_count } => json!({"type": "Spike", "spike": {
                "ratio": ratio.to_string(), "window": duration(window_ms), "minCount": min_count, "direction": "Both",
            }}),
            Condition::Flatline { below, window_ms, named } => {
                let label = self.group.first().copied().unwrap_or_default();
                let groups: Vec<Value> = named.iter().map(|name| json!({label: name})).collect();
                json!({"type": "Flatline", "flatline": {
                    "below": below, "window": duration(window_ms), "groups": groups,
                }})
            }
            Condition::NewValue { field, learn_ms } => json!({"type": "NewValue", "newValue": {
                "path": path(field), "learnFor": duration(learn_ms),
            }}),
            Condition::Cardinality { field, window_ms, above } => {
                json!({"type": "Cardinality", "cardinality": {
                    "path": path(field), "window": duration(window_ms), "above": above,
                }})
            }
            Condition::Change { field } => json!({"type": "Change", "change": {"path": path(field)}}),
            Condition::Extreme { field } => {
                json!({"type": "Extreme", "extreme": {"path": path(field), "direction": "Highest"}})
            }
            Condition::Ratio { cel, window_ms, min_count, above_percent, .. } => {
                json!({"type": "Ratio", "ratio": {
                    "of": cel, "window": duration(window_ms), "minCount": min_count,
                    "above": format!("{above_percent}%"),
                }})
            }
        }
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
    use crate::soak::Settings;
    use crate::soak::rules::rules;

    fn manifest(name: &str) -> Value {
        let all = rules(&Settings::short(1));
        let topics = ["t0", "t1", "t2"].map(str::to_owned);
        let rule = all.iter().find(|rule| rule.name == name).unwrap();
        rule.manifest("ns", &topics, 45_000, 3)["spec"].clone()
    }

    #[test]
    fn a_manifest_says_what_the_rule_says() {
        let probes = manifest("failed-probes");
        assert_eq!(probes["repeatInterval"], "7s0ms");
        assert_eq!(probes["resolve"], json!({"notify": true, "after": "4s0ms"}));
        assert_eq!(probes["groupBy"], json!({"host": "record.host"}));
        assert_eq!(probes["allowedLateness"], "45s0ms");
        assert_eq!(probes["source"]["kafka"]["topics"], json!(["t0", "t1", "t2"]));
        let share = manifest("error-share");
        assert_eq!(share["resolve"]["below"], "8%");
        assert_eq!((&share["for"], &share["repeatFactor"]), (&json!("1s0ms"), &json!("2")));
        assert_eq!(share["source"]["kafka"]["topics"], json!(["t0", "t2"]));
        let silent = manifest(FIRST);
        assert_eq!(silent["condition"]["flatline"]["groups"][2], json!({"terminal": "till-never"}));
        assert_eq!(silent["consumers"], json!({"replicas": 3}));
    }

    #[test]
    fn all_nine_conditions_are_there() {
        let all: std::collections::BTreeSet<String> = rules(&Settings::short(1))
            .iter()
            .map(|rule| rule.condition()["type"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(all.len(), 9, "{all:?}");
    }
}

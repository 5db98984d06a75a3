//! The rules and channels of a run: all nine conditions, and beside each CEL text the same condition in Rust for the
//! recount.
//!
//! Never here: code of the engine. What a rule means is said twice on purpose.

use serde_json::Value;

use super::{Settings, records};

/// When matching records are an alert. Fields are of the record; windows are in ms.
#[derive(Debug, Clone, Copy)]
pub enum Condition {
    /// Each is.
    Any,
    /// At least `count` within the window.
    Frequency {
        /// At least this many.
        count: i64,
        /// Length of the window.
        window_ms: i64,
    },
    /// One of the window and the one before it has `ratio` times as many as the other, and at least `min_count`.
    Spike {
        /// How many times as many.
        ratio: i64,
        /// Length of each window.
        window_ms: i64,
        /// In the larger one.
        min_count: i64,
    },
    /// Fewer than `below` within the window.
    Flatline {
        /// Fewer than this many.
        below: i64,
        /// Length of the window.
        window_ms: i64,
        /// Groups that are watched though they were never seen, by the value of the one label.
        named: &'static [&'static str],
    },
    /// A value that the group has not had.
    NewValue {
        /// Where it is.
        field: &'static str,
        /// How long values are only remembered.
        learn_ms: i64,
    },
    /// More than `above` distinct values within the window.
    Cardinality {
        /// Where they are.
        field: &'static str,
        /// Length of the window.
        window_ms: i64,
        /// More than this many.
        above: i64,
    },
    /// A value that differs from the one before.
    Change {
        /// Where it is.
        field: &'static str,
    },
    /// A number higher than all before.
    Extreme {
        /// Where it is.
        field: &'static str,
    },
    /// More than `above_percent` of at least `min_count` records.
    Ratio {
        /// Which ones are meant, in CEL.
        cel: &'static str,
        /// The same, for the recount.
        of: fn(&Value) -> bool,
        /// Length of the window.
        window_ms: i64,
        /// At least this many in it.
        min_count: i64,
        /// More than this share.
        above_percent: i64,
    },
}

impl Condition {
    /// Length of the window, of those that have one.
    pub fn window_ms(&self) -> Option<i64> {
        match *self {
            Self::Frequency { window_ms, .. }
            | Self::Spike { window_ms, .. }
            | Self::Flatline { window_ms, .. }
            | Self::Cardinality { window_ms, .. }
            | Self::Ratio { window_ms, .. } => Some(window_ms),
            Self::Any | Self::NewValue { .. } | Self::Change { .. } | Self::Extreme { .. } => None,
        }
    }

    /// The field without which a record is not counted.
    pub fn field(&self) -> Option<&'static str> {
        match *self {
            Self::NewValue { field, .. }
            | Self::Cardinality { field, .. }
            | Self::Change { field }
            | Self::Extreme { field } => Some(field),
            _ => None,
        }
    }
}

/// When an alert is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resolve {
    /// How long the condition must have been false; absent: the default.
    pub after_ms: Option<i64>,
    /// Whether to say so.
    pub notify: bool,
    /// An open alert goes on until what is measured is below this; percent for `Ratio`.
    pub below: Option<i64>,
}

/// A rule of the run.
#[derive(Debug, Clone, Copy)]
pub struct SoakRule {
    /// Its name.
    pub name: &'static str,
    /// Which of the topics it reads.
    pub topics: &'static [usize],
    /// `spec.match`.
    pub cel: &'static str,
    /// The same, for the recount.
    pub matches: fn(&Value) -> bool,
    /// Names of the fields by which it groups; labels are named alike.
    pub group: &'static [&'static str],
    /// When it is an alert.
    pub condition: Condition,
    /// How long the condition must hold first.
    pub hold_ms: i64,
    /// How often a firing group speaks again.
    pub repeat_ms: Option<i64>,
    /// How many times longer each repeat waits.
    pub repeat_factor: i64,
    /// When it is over.
    pub resolve: Option<Resolve>,
    /// Names of its channels.
    pub channels: &'static [&'static str],
}

/// The rule whose one alert is the last of a run.
pub const LAST: &str = "last-word";
/// The rule that counts the first words, and that says how many consumers there are.
pub const FIRST: &str = "silent-terminals";
/// All topics.
const ALL: &[usize] = &[0, 1, 2];

fn number(record: &Value, field: &str) -> f64 {
    record[field].as_f64().unwrap_or(0.0)
}

fn is_error(record: &Value) -> bool {
    record["level"] == "ERROR" || record["level"] == "FATAL"
}

/// What most rules have in common.
fn rule(
    name: &'static str,
    cel: &'static str,
    matches: fn(&Value) -> bool,
    condition: Condition,
) -> SoakRule {
    SoakRule {
        name,
        topics: ALL,
        cel,
        matches,
        group: &[],
        condition,
        hold_ms: 0,
        repeat_ms: None,
        repeat_factor: 1,
        resolve: None,
        channels: &["steady"],
    }
}

fn told_after(after_ms: i64, below: Option<i64>) -> Resolve {
    Resolve { after_ms: Some(after_ms), notify: true, below }
}

/// The rules, for records that come at this rate.
pub fn rules(settings: &Settings) -> Vec<SoakRule> {
    let mut all = of_counts(settings);
    all.extend(of_change(settings));
    all.extend(of_values(settings));
    let end = places(settings);
    let whole = Condition::Frequency { count: end, window_ms: 1_000 };
    all.push(rule(LAST, r#"record.kind == "end""#, |record| record["kind"] == "end", whole));
    all
}

fn places(settings: &Settings) -> i64 {
    records::places(settings).len() as i64
}

/// So many records as come in a second of this share of them all.
fn per_second(settings: &Settings, share: f64) -> i64 {
    ((settings.rate as f64 * share) as i64).max(2)
}

/// `Any` and `Frequency`.
fn of_counts(settings: &Settings) -> Vec<SoakRule> {
    let (medium, long) = if settings.short { (20_000, 30_000) } else { (60_000, 120_000) };
    let fatal = |record: &Value| record["level"] == "FATAL";
    // A hot place has a third of its records as errors, for 20 s.
    let errors = per_second(settings, 20.0 * 0.3 / 36.0 * 0.6);
    vec![
        SoakRule {
            group: &["service"],
            channels: &["steady", "flaky"],
            ..rule("each-fatal", r#"record.level == "FATAL""#, fatal, Condition::Any)
        },
        SoakRule {
            group: &["host"],
            repeat_ms: Some(7_000),
            resolve: Some(told_after(4_000, None)),
            channels: &["busy"],
            ..rule(
                "failed-probes",
                r#"record.kind == "probe" && !record.ok"#,
                |record| record["kind"] == "probe" && record["ok"] == false,
                Condition::Any,
            )
        },
        SoakRule {
            topics: &[0, 1],
            group: &["user"],
            channels: &["hanging"],
            ..rule(
                "user-bursts",
                r#"record.level == "WARN""#,
                |record| record["level"] == "WARN",
                Condition::Frequency { count: 4, window_ms: 5_000 },
            )
        },
        SoakRule {
            group: &["service", "zone"],
            repeat_ms: Some(8_000),
            repeat_factor: 2,
            resolve: Some(told_after(5_000, Some(errors * 3 / 4))),
            channels: &["flaky", "hanging"],
            ..rule(
                "service-errors",
                r#"record.level in ["ERROR", "FATAL"] && has(record.service)"#,
                is_error,
                Condition::Frequency { count: errors, window_ms: medium },
            )
        },
        SoakRule {
            hold_ms: 4_000,
            repeat_ms: Some(9_000),
            resolve: Some(Resolve { after_ms: None, notify: true, below: None }),
            channels: &["steady", "busy", "hanging"],
            ..rule(
                "dear-payments",
                r#"record.amount >= 100.0 && record.service.startsWith("pay")"#,
                |record| {
                    number(record, "amount") >= 100.0
                        && record["service"].as_str().is_some_and(|service| service.starts_with("pay"))
                },
                Condition::Frequency {
                    count: per_second(settings, long as f64 / 1000.0 * 0.25 * 0.3),
                    window_ms: long,
                },
            )
        },
    ]
}

/// `Spike`, `Flatline` and `Ratio`.
fn of_change(settings: &Settings) -> Vec<SoakRule> {
    vec![
        SoakRule {
            group: &["zone"],
            hold_ms: 1_000,
            resolve: Some(told_after(2_000, None)),
            channels: &["busy", "steady"],
            ..rule(
                "retry-spikes",
                "record.retry",
                |record| record["retry"] == true,
                Condition::Spike {
                    ratio: 3,
                    window_ms: 6_000,
                    min_count: per_second(settings, 6.0 * 0.7 / 3.0 * 0.1),
                },
            )
        },
        SoakRule {
            group: &["terminal"],
            hold_ms: 2_000,
            resolve: Some(told_after(1_000, None)),
            channels: &["flaky"],
            ..rule(
                FIRST,
                r#"record.kind == "beat""#,
                |record| record["kind"] == "beat",
                Condition::Flatline {
                    below: 2,
                    window_ms: 5_000,
                    named: &["till-0", "till-1", "till-never"],
                },
            )
        },
        SoakRule {
            topics: &[0, 2],
            group: &["service"],
            hold_ms: 1_000,
            repeat_ms: Some(6_000),
            repeat_factor: 2,
            resolve: Some(told_after(2_000, Some(8))),
            channels: &["hanging"],
            ..rule(
                "error-share",
                r#"record.kind == "log""#,
                |record| record["kind"] == "log",
                Condition::Ratio {
                    cel: r#"record.level in ["ERROR", "FATAL"]"#,
                    of: is_error,
                    window_ms: 10_000,
                    min_count: per_second(settings, 10.0 * 0.7 / 12.0 * 2.0 / 3.0 * 0.5),
                    above_percent: 14,
                },
            )
        },
    ]
}

/// `NewValue`, `Cardinality`, `Change` and `Extreme`.
fn of_values(_: &Settings) -> Vec<SoakRule> {
    let login = |record: &Value| record["kind"] == "login";
    vec![
        SoakRule {
            group: &["service"],
            channels: &["steady"],
            ..rule(
                "new-countries",
                r#"record.kind == "login""#,
                login,
                Condition::NewValue { field: "country", learn_ms: 10_000 },
            )
        },
        SoakRule {
            group: &["zone"],
            hold_ms: 2_000,
            repeat_ms: Some(7_000),
            resolve: Some(told_after(2_000, Some(10))),
            channels: &["busy"],
            ..rule(
                "many-devices",
                r#"record.kind == "login""#,
                login,
                Condition::Cardinality { field: "device", window_ms: 8_000, above: 25 },
            )
        },
        SoakRule {
            group: &["cluster"],
            channels: &["flaky"],
            ..rule(
                "leader-changes",
                r#"record.kind == "vote""#,
                |record| record["kind"] == "vote",
                Condition::Change { field: "leader" },
            )
        },
        SoakRule {
            topics: &[1, 2],
            group: &["auction"],
            repeat_ms: Some(4_000),
            resolve: Some(told_after(3_000, None)),
            channels: &["hanging"],
            ..rule(
                "highest-bids",
                r#"record.kind == "bid""#,
                |record| record["kind"] == "bid",
                Condition::Extreme { field: "bid" },
            )
        },
    ]
}

impl SoakRule {
    /// Whether each matching record is a notification of its own.
    pub fn speaks_for_each_record(&self) -> bool {
        matches!(self.condition, Condition::Any) && self.has_no_state()
    }

    /// Whether each bucket in which it holds is a notification of its own.
    pub fn speaks_for_each_bucket(&self) -> bool {
        self.condition.window_ms().is_none()
            && !matches!(self.condition, Condition::Any)
            && self.has_no_state()
    }

    fn has_no_state(&self) -> bool {
        self.repeat_ms.is_none() && self.resolve.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::soak::manifests::channels;

    #[test]
    fn rules_with_and_without_repeats_resolutions_holds_and_groups_over_one_or_all_topics_are_there() {
        let all = rules(&Settings::short(1));
        assert!(
            all.iter().any(SoakRule::speaks_for_each_record)
                && all.iter().any(SoakRule::speaks_for_each_bucket)
        );
        assert!(all.iter().any(|rule| rule.group.is_empty()) && all.iter().any(|rule| rule.group.len() == 2));
        assert!(
            all.iter().any(|rule| rule.topics.len() == 3) && all.iter().any(|rule| rule.topics.len() == 2)
        );
        assert!(all.iter().any(|rule| rule.hold_ms > 0) && all.iter().any(|rule| rule.repeat_factor == 2));
        let below = |rule: &&SoakRule| rule.resolve.is_some_and(|resolve| resolve.below.is_some());
        assert_eq!(all.iter().filter(below).count(), 3);
        for channel in channels("ns") {
            let name = channel["metadata"]["name"].as_str().unwrap().to_owned();
            assert!(all.iter().any(|rule| rule.channels.contains(&name.as_str())), "{name} is told");
        }
    }

    #[test]
    fn a_rule_that_speaks_of_silence_does_not_repeat_or_the_run_would_never_end() {
        for rule in rules(&Settings::short(1)) {
            assert!(!matches!(rule.condition, Condition::Flatline { .. }) || rule.repeat_ms.is_none());
        }
    }
}

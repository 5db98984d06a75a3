//! When an alert fires, repeats and is over: what is told of one group.
//!
//! - A quiet group in which the condition has held at every boundary since `P`, for `for` or longer, fires; its alert began
//!   at `P`.
//! - While it goes on, it speaks again at the first boundary `repeatInterval` after it last spoke, and `repeatFactor` times
//!   longer after each repeat.
//! - Once the condition has been false for `resolve.after` (one window where absent; without a window `repeatInterval`, or 5
//!   minutes) since the first boundary at which it was, the alert is over; it is told only where the rule wants that.
//! - `NewValue`, `Change` and `Extreme` without a repeat and a resolution tell of each boundary at which they hold.
//!
//! Never here: what a condition asks.

use super::Lengths;
use super::looks::{Group, Saw};

/// What is told.
pub(super) struct GroupEvent {
    /// `firing`, `repeat 1`, `repeat 2`, ..., `resolved`.
    pub(super) kind: String,
    pub(super) end_ms: i64,
    pub(super) since_ms: i64,
    pub(super) saw: Saw,
}

/// An alert that goes on.
struct OpenAlert {
    since: i64,
    spoke: i64,
    repeats: i64,
    /// How long after it last spoke it speaks again.
    wait: Option<i64>,
    false_from: Option<i64>,
}

/// All that is told of a group, in order.
pub(super) fn group_events(group: &Group<'_>) -> Vec<GroupEvent> {
    let rule = group.rule;
    let lengths = Lengths::from_rule(rule);
    let (first, last) = if group.is_named {
        (group.observed_ms, group.records.last().map_or(group.observed_ms, |record| record.time_ms))
    } else {
        let (Some(first), Some(last)) = (group.records.first(), group.records.last()) else {
            return Vec::new();
        };
        (first.time_ms, last.time_ms)
    };
    let mut told = Vec::new();
    let mut pending: Option<i64> = None;
    let mut open: Option<OpenAlert> = None;
    let mut boundary = first.div_euclid(lengths.width) * lengths.width + lengths.width;
    while boundary <= last + lengths.tail(rule) {
        let saw = group.look(boundary);
        match &mut open {
            None if saw.holds => {
                let since = *pending.get_or_insert(boundary);
                if boundary - since >= rule.hold_ms {
                    pending = None;
                    told.push(GroupEvent {
                        kind: "firing".to_owned(),
                        end_ms: boundary,
                        since_ms: since,
                        saw,
                    });
                    if !rule.speaks_for_each_bucket() {
                        let wait = rule.repeat_ms;
                        open = Some(OpenAlert { since, spoke: boundary, repeats: 0, wait, false_from: None });
                    }
                }
            }
            None => pending = None,
            Some(alert) if saw.stays => {
                alert.false_from = None;
                if alert.wait.is_some_and(|wait| boundary - alert.spoke >= wait) {
                    alert.spoke = boundary;
                    alert.repeats += 1;
                    alert.wait = alert.wait.map(|wait| wait * rule.repeat_factor);
                    let kind = format!("repeat {}", alert.repeats);
                    told.push(GroupEvent { kind, end_ms: boundary, since_ms: alert.since, saw });
                }
            }
            Some(alert) => {
                let from = *alert.false_from.get_or_insert(boundary);
                if boundary - from >= lengths.resolve_after {
                    if rule.resolve.is_some_and(|resolve| resolve.notify) {
                        let kind = "resolved".to_owned();
                        told.push(GroupEvent { kind, end_ms: boundary, since_ms: alert.since, saw });
                    }
                    open = None;
                }
            }
        }
        boundary += lengths.width;
    }
    told
}

//! What the ledger keeps of a group between decisions.
//!
//! Invariant: small, bounded, and deserialises to what was serialised. Counts are kept in the buckets, not here.

use std::collections::BTreeMap;

use domain::AlertKind;
use serde::{Deserialize, Serialize};

use super::Decision;

/// What the ledger keeps of a group between decisions. A state that equals [`GroupState::default`], of a group without
/// buckets, is not worth keeping.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GroupState {
    /// The open episode; `None` while quiet or pending.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub episode: Option<Episode>,
    /// The first boundary since which the condition holds, while that is not as long as `for` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_ms: Option<i64>,
    /// The rule names the group: it is watched even if it was never seen.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub expected: bool,
    /// Start of its first bucket, for conditions that need it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_ms: Option<i64>,
    /// The last value (`Change`), or the most extreme number (`Extreme`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The values seen (`NewValue`), each with the start of the last bucket that had it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub values: BTreeMap<String, i64>,
}

/// An alert that has not been resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Episode {
    /// Start of the bucket in which it began; part of the episode's id.
    pub first_bucket_ms: i64,
    /// The boundary at which it began.
    pub since_ms: i64,
    /// The boundary of its last notification.
    pub notified_ms: i64,
    /// Its repeats so far.
    pub repeats: i64,
    /// The window's count at its last notification.
    pub count: i64,
    /// The first boundary since which the condition has not held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub false_since_ms: Option<i64>,
}

impl GroupState {
    /// The state of a group that the rule names.
    pub fn expected() -> Self {
        Self { expected: true, ..Self::default() }
    }

    /// Whether no episode is open.
    pub fn is_quiet(&self) -> bool {
        self.episode.is_none()
    }

    /// Whether it equals the state of a new group.
    pub fn is_blank(&self) -> bool {
        *self == Self::default()
    }

    /// Ends an open episode for another reason than its condition (the rule changed, or is gone). The decision's
    /// `notify` is true; the caller knows whether the rule wants to hear of it.
    pub fn close(&mut self, at_ms: i64) -> Option<Decision> {
        let episode = self.episode.take()?;
        Some(Decision {
            kind: AlertKind::Resolved,
            at_ms,
            first_bucket_ms: episode.first_bucket_ms,
            since_ms: episode.since_ms,
            count: episode.count,
            window_start_ms: episode.first_bucket_ms,
            window_end_ms: at_ms.max(episode.since_ms),
            notify: true,
            seen: None,
        })
    }
}

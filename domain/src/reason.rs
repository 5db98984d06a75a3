//! Why something was not counted: the closed set that commits, metrics, statuses and messages share.
//!
//! Clauses of docs/semantics.md: R11, R12, E7.
//!
//! A reason that this program doesn't know, because a newer one sent it, becomes [`DropReason::Other`]; so what is kept by reason
//! stays bounded. The reasons are in alphabetical order, because statuses show them in order of their names.

use serde::{Deserialize, Serialize};

/// Declares the reasons with their names.
macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// Why something was not counted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(from = "String", into = "&'static str")]
        pub enum DropReason { $($(#[$doc])* $name,)+ }

        impl DropReason {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The name: a label of metrics, a key of statuses and a column of the ledger.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }
        }
    };
}

reasons! {
    /// There was no room for an activation offset: the namespace's rules have as many as the ledger keeps.
    ActivationsFull,
    /// The record has no value, null, or several values at a `groupBy` path.
    GroupMissing,
    /// Quiet groups that were removed because there were too many. Counts groups, not records.
    GroupsEvicted,
    /// Records of groups for which there was no room: all groups held were firing, or one commit brought more than fit.
    GroupsFull,
    /// Notifications that were removed early because the namespace keeps too many bytes of them.
    HistoryDropped,
    /// Dead letters that were removed early because the namespace keeps too many bytes of them.
    LettersDropped,
    /// `match` divided by zero or exceeded the range of its numbers.
    MatchArithmetic,
    /// `match` failed in another way.
    MatchFailed,
    /// `match` gave neither true nor false for this record.
    MatchNotBoolean,
    /// `match` took more steps than one record may cost.
    MatchTooCostly,
    /// `match` compared or called something with a wrong type.
    MatchWrongType,
    /// A reason that this program doesn't know.
    Other,
    /// Records that were not counted because the group, or all groups of the namespace, take too many bytes.
    StateFull,
    /// The event time is too far in the future. Only for rules that count in windows.
    TimeAhead,
    /// The record has no time at the path of the source's `eventTime`. Only for rules that count in windows.
    TimeMissing,
    /// The value is null; concerns all rules of the topic.
    Tombstone,
    /// Records that matched but were not counted, because their entry would be larger than the hub takes.
    TooLarge,
    /// The value can't be decoded; concerns all rules of the topic.
    Undecodable,
    /// The record has no value, null or several values at the condition's `path`, or a value that is not a number where the
    /// condition needs one.
    ValueMissing,
}

impl DropReason {
    /// The reason with this name, or [`DropReason::Other`].
    pub fn from_name(name: &str) -> Self {
        Self::ALL.iter().copied().find(|reason| reason.name() == name).unwrap_or(Self::Other)
    }

    /// The reason as the hub accepts it from a worker: [`DropReason::Other`] in place of reasons that only the hub may give.
    #[must_use]
    pub fn as_reported_by_worker(self) -> Self {
        match self {
            Self::ActivationsFull | Self::HistoryDropped | Self::LettersDropped => Self::Other,
            other if other.is_full() => Self::Other,
            other => other,
        }
    }

    /// Whether records or groups were left out because of a quota.
    pub fn is_full(self) -> bool {
        matches!(self, Self::GroupsEvicted | Self::GroupsFull | Self::StateFull)
    }

    /// Whether `match` gave no answer for the record.
    pub fn is_of_match(self) -> bool {
        matches!(
            self,
            Self::MatchArithmetic
                | Self::MatchFailed
                | Self::MatchNotBoolean
                | Self::MatchTooCostly
                | Self::MatchWrongType
        )
    }

    /// Whether the record matched but lacks something that is needed to count it.
    pub fn is_after_match(self) -> bool {
        matches!(self, Self::GroupMissing | Self::TimeAhead | Self::TimeMissing | Self::ValueMissing)
    }
}

impl From<String> for DropReason {
    fn from(name: String) -> Self {
        Self::from_name(&name)
    }
}

impl From<DropReason> for &'static str {
    fn from(reason: DropReason) -> Self {
        reason.name()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_reads_back_as_it_is_written_and_an_unknown_one_is_other() {
        for reason in DropReason::ALL {
            let written = serde_json::to_string(reason).unwrap();
            assert_eq!(written, format!("{:?}", reason.name()));
            assert_eq!(serde_json::from_str::<DropReason>(&written).unwrap(), *reason);
        }
        assert_eq!(serde_json::from_str::<DropReason>("\"x\\\"evil\"").unwrap(), DropReason::Other);
        assert!(DropReason::ALL.is_sorted_by_key(|reason| reason.name()), "statuses show them by name");
    }

    #[test]
    fn a_worker_can_not_report_the_reasons_of_the_hubs_quotas() {
        assert_eq!(DropReason::StateFull.as_reported_by_worker(), DropReason::Other);
        assert_eq!(DropReason::TimeMissing.as_reported_by_worker(), DropReason::TimeMissing);
    }
}

//! Why something was not counted: the closed set that commits, metrics, statuses and messages share.
//!
//! Clauses of docs/semantics.md: R11, R12, E7.
//!
//! Invariant: a reason that this program does not know, of a newer one, is [`DropReason::Other`], so that what is kept by
//! reason stays bounded. In alphabetical order, which is the order of the names.

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
    /// No room for an activation offset: a namespace's rules have as many as the ledger keeps.
    ActivationsFull,
    /// A `groupBy` path leads to nothing, to null or to more than one value.
    GroupMissing,
    /// Quiet groups that went because there were too many: a count of groups.
    GroupsEvicted,
    /// Records of groups for which there was no room: those that were held are firing, or one commit brought more than fit.
    GroupsFull,
    /// Notifications that went before their time, because the namespace keeps too much.
    HistoryDropped,
    /// Dead letters that went before their time, because the namespace keeps too many.
    LettersDropped,
    /// `match` divided by zero or left the range of its numbers.
    MatchArithmetic,
    /// `match` failed in another way.
    MatchFailed,
    /// `match` is not true or false for this record.
    MatchNotBoolean,
    /// `match` took more steps than a record may cost.
    MatchTooCostly,
    /// `match` compared or called something with a type that it does not take.
    MatchWrongType,
    /// One that this program does not know.
    Other,
    /// Records for which there was no room because the namespace's groups, or the group, take too many bytes.
    StateFull,
    /// Event time is too far ahead; only for rules that count in windows.
    TimeAhead,
    /// The source's event time leads to nothing or not to a time; only for rules that count in windows.
    TimeMissing,
    /// The value is null; concerns all rules of the topic.
    Tombstone,
    /// Records that were matched and not counted, since what is told of them together is larger than the hub takes.
    TooLarge,
    /// The value can't be decoded; concerns all rules of the topic.
    Undecodable,
    /// The condition's `path` leads to nothing, to null, to more than one value, or not to a number where it needs one.
    ValueMissing,
}

impl DropReason {
    /// The reason of that name, or [`DropReason::Other`].
    pub fn of(name: &str) -> Self {
        Self::ALL.iter().copied().find(|reason| reason.name() == name).unwrap_or(Self::Other)
    }

    /// The same, or [`DropReason::Other`] where it is the hub's own to say: a worker speaks of records alone.
    #[must_use]
    pub fn of_worker(self) -> Self {
        match self {
            Self::ActivationsFull | Self::HistoryDropped | Self::LettersDropped => Self::Other,
            other if other.is_full() => Self::Other,
            other => other,
        }
    }

    /// Whether records or groups were left out for a quota.
    pub fn is_full(self) -> bool {
        matches!(self, Self::GroupsEvicted | Self::GroupsFull | Self::StateFull)
    }

    /// Whether `match` had no answer for the record.
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

    /// Whether the record matched, and what it lacks is needed to count it.
    pub fn is_after_match(self) -> bool {
        matches!(self, Self::GroupMissing | Self::TimeAhead | Self::TimeMissing | Self::ValueMissing)
    }
}

impl From<String> for DropReason {
    fn from(name: String) -> Self {
        Self::of(&name)
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
    fn a_worker_does_not_speak_of_the_hubs_quotas() {
        assert_eq!(DropReason::StateFull.of_worker(), DropReason::Other);
        assert_eq!(DropReason::TimeMissing.of_worker(), DropReason::TimeMissing);
    }
}

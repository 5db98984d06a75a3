//! Why a record was not counted: the closed set shared by commits, metrics and messages.
//!
//! Clauses of docs/semantics.md: R11, R12, E7.

/// Why a record was not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropReason {
    /// The value is null; concerns all rules of the topic.
    Tombstone,
    /// The value can't be decoded; concerns all rules of the topic.
    Undecodable,
    /// A `groupBy` path leads to nothing, to null or to more than one value.
    GroupMissing,
    /// The condition's `path` leads to nothing, to null, to more than one value, or not to a number where it needs one.
    ValueMissing,
    /// The source's event time leads to nothing or not to a time; only for rules that count in windows.
    TimeMissing,
    /// Event time is too far ahead ([`crate::record::MAX_AHEAD`]); only for rules that count in windows.
    TimeAhead,
    /// `match` compared or called something with a type that it does not take.
    MatchWrongType,
    /// `match` is not true or false for this record.
    MatchNotBoolean,
    /// `match` divided by zero or left the range of its numbers.
    MatchArithmetic,
    /// `match` took more steps than a record may cost.
    MatchTooCostly,
    /// `match` failed in another way.
    MatchFailed,
}

impl DropReason {
    /// The reason's name, as in [`domain::Dropped::reason`].
    pub fn name(self) -> &'static str {
        match self {
            Self::Tombstone => "Tombstone",
            Self::Undecodable => "Undecodable",
            Self::GroupMissing => "GroupMissing",
            Self::ValueMissing => "ValueMissing",
            Self::TimeMissing => "TimeMissing",
            Self::TimeAhead => "TimeAhead",
            Self::MatchWrongType => "MatchWrongType",
            Self::MatchNotBoolean => "MatchNotBoolean",
            Self::MatchArithmetic => "MatchArithmetic",
            Self::MatchTooCostly => "MatchTooCostly",
            Self::MatchFailed => "MatchFailed",
        }
    }
}

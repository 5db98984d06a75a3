//! All types and reasons of conditions, and the one place that sets them.
//!
//! `lastTransitionTime` changes only when a condition's status flips. `Reconciling` and `Stalled` are present only
//! while they are true, as kstatus requires. A message holds no secret and no number that changes all the time.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Types of conditions.
pub mod types {
    /// The children do the job, for this generation.
    pub const READY: &str = "Ready";
    /// Work on this generation is under way. Present only while true.
    pub const RECONCILING: &str = "Reconciling";
    /// Only a change of the manifest (or of an older schedule) can help. Present only while true.
    pub const STALLED: &str = "Stalled";
    /// A channel's receiver takes what is sent.
    pub const HEALTHY: &str = "Healthy";
    /// A rule has groups that are firing.
    pub const FIRING: &str = "Firing";
    /// An older schedule has a participant or resource at the same time.
    pub const CONFLICTING: &str = "Conflicting";
    /// The last messages of a rule or schedule arrived.
    pub const DELIVERED: &str = "Delivered";
    /// A rule can't look into or count at least half of the records that come.
    pub const UNMATCHED: &str = "Unmatched";
}

/// Reasons of conditions and events. Workers add theirs, such as `SecretKeyNotFound`, `TopicNotFound`, `BrokerUnreachable`.
pub mod reasons {
    /// All is well.
    pub const READY: &str = "Ready";
    /// A schedule has no further occurrence.
    pub const ENDED: &str = "Ended";
    /// `spec.suspend` is set.
    pub const SUSPENDED: &str = "Suspended";
    /// The hub does not hold this generation yet.
    pub const PROGRESSING: &str = "Progressing";
    /// The hub does not answer the operator, or can't store anything.
    pub const HUB_UNREACHABLE: &str = "HubUnreachable";
    /// An event: the hub has lost what it knew.
    pub const LEDGER_LOST: &str = "LedgerLost";
    /// Reminders were left out by the catch-up policy (an event).
    pub const REMINDERS_SKIPPED: &str = "RemindersSkipped";
    /// No pod has told the hub of a reminder that fell due.
    pub const REMINDER_OVERDUE: &str = "ReminderOverdue";
    /// A change of the clocks moved, left out or doubled an occurrence (an event).
    pub const CLOCKS_CHANGED: &str = "ClocksChanged";
    /// All works, but a text could not be rendered lately: a fallback that names the fault was sent.
    pub const TEMPLATE_FAILED: &str = "TemplateFailed";
    /// The hub refused the plan.
    pub const HUB_REFUSED: &str = "HubRefused";
    /// A Deployment has no available pod.
    pub const WORKER_UNAVAILABLE: &str = "WorkerUnavailable";
    /// No worker has said yet that it runs this revision.
    pub const WORKER_BEHIND: &str = "WorkerBehind";
    /// Children could not be written.
    pub const APPLY_FAILED: &str = "ApplyFailed";
    /// Somebody else's object has the name of a child, and is left alone.
    pub const NAME_TAKEN: &str = "NameTaken";
    /// A channel that is named does not exist.
    pub const CHANNEL_NOT_FOUND: &str = "ChannelNotFound";
    /// Partitions have had no consumer for a minute.
    pub const PARTITIONS_UNOWNED: &str = "PartitionsUnowned";
    /// The object can't be read as its kind.
    pub const UNREADABLE: &str = "Unreadable";
    /// A field is wrong, and no other reason is more exact.
    pub const INVALID_SPEC: &str = "InvalidSpec";
    /// `match` does not compile.
    pub const INVALID_MATCH: &str = "InvalidMatch";
    /// A path of `groupBy` does not compile.
    pub const INVALID_GROUP_BY: &str = "InvalidGroupBy";
    /// The source's format can't be used.
    pub const INVALID_FORMAT: &str = "InvalidFormat";
    /// The source's event time can't be used.
    pub const INVALID_EVENT_TIME: &str = "InvalidEventTime";
    /// An address that no worker may connect to.
    pub const FORBIDDEN_ADDRESS: &str = "ForbiddenAddress";
    /// A template does not compile.
    pub const INVALID_TEMPLATE: &str = "InvalidTemplate";
    /// The recurrence is wrong or never happens.
    pub const INVALID_RECURRENCE: &str = "InvalidRecurrence";
    /// A reminder is wrong.
    pub const INVALID_REMINDER: &str = "InvalidReminder";
    /// The checks themselves broke: a bug of Belfry's.
    pub const INTERNAL_ERROR: &str = "InternalError";
    /// An older schedule has the slot.
    pub const CONFLICTING: &str = "Conflicting";
    /// A resource of another namespace is not shared with this one, or not there.
    pub const REF_NOT_PERMITTED: &str = "RefNotPermitted";
    /// No older schedule has a participant or resource at the same time.
    pub const NO_CONFLICT: &str = "NoConflict";
    /// The last attempts failed.
    pub const FAILING: &str = "Failing";
    /// The last attempt succeeded.
    pub const DELIVERING: &str = "Delivering";
    /// Nothing was sent yet.
    pub const NOTHING_SENT: &str = "NothingSent";
    /// The last message arrived.
    pub const DELIVERED: &str = "Delivered";
    /// The last message is on its way.
    pub const PENDING: &str = "Pending";
    /// The last message was not wanted any more.
    pub const SUPPRESSED: &str = "Suppressed";
    /// Messages were given up: refused, out of attempts, or held.
    pub const DEAD: &str = "Dead";
    /// Messages grew too old before anybody took them.
    pub const EXPIRED: &str = "Expired";
    /// Most of the records that come can be counted.
    pub const COUNTED: &str = "Counted";
    /// All works, but at least half of the records that came lately can't be looked into or counted.
    pub const UNMATCHED: &str = "Unmatched";
    /// All works, but a channel that is named can't send now.
    pub const CHANNEL_NOT_READY: &str = "ChannelNotReady";
    /// Records of new groups are left out: there are as many as maxGroups or the hub allows.
    pub const GROUPS_FULL: &str = "GroupsFull";
    /// Quiet groups are forgotten to make room for new ones.
    pub const GROUPS_EVICTED: &str = "GroupsEvicted";
    /// Records are left out: the groups take as many bytes as the hub allows.
    pub const STATE_FULL: &str = "StateFull";
    /// Groups are firing.
    pub const GROUPS_FIRING: &str = "GroupsFiring";
    /// No group is firing.
    pub const QUIET: &str = "Quiet";
}

/// A condition's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Is {
    /// It is so.
    True,
    /// It is not so.
    False,
    /// Nobody can say.
    Unknown,
}

impl Is {
    fn text(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// The state of an object, which the conditions Ready, Reconciling and Stalled show together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// The children do the job.
    Ready { reason: &'static str, message: String },
    /// It will be ready by itself; the operator or Kubernetes is working on it.
    UnderWay { reason: String, message: String },
    /// Something that it needs is missing, and it will be ready when that appears; or it is suspended.
    Waiting { reason: String, message: String },
    /// Only a change of a manifest can help.
    Stalled { reason: String, message: String },
}

impl Standing {
    /// The reason of `Ready`.
    pub fn reason(&self) -> &str {
        match self {
            Self::Ready { reason, .. } => reason,
            Self::UnderWay { reason, .. } | Self::Waiting { reason, .. } | Self::Stalled { reason, .. } => {
                reason
            }
        }
    }

    /// The message of `Ready`.
    pub fn message(&self) -> &str {
        match self {
            Self::Ready { message, .. }
            | Self::UnderWay { message, .. }
            | Self::Waiting { message, .. }
            | Self::Stalled { message, .. } => message,
        }
    }
}

/// Builds the conditions of one object from those that it shows now.
pub struct Conditions {
    before: Vec<Condition>,
    after: Vec<Condition>,
    generation: i64,
    now: Timestamp,
}

/// The longest message, characters; Kubernetes allows 32,768.
const MAX_MESSAGE: usize = 2_000;

impl Conditions {
    /// Starts from what the object shows now.
    pub fn new(before: &[Condition], generation: i64, now: Timestamp) -> Self {
        Self { before: before.to_vec(), after: Vec::new(), generation, now }
    }

    /// Sets a condition. Conditions that are not set are removed. Control characters in the message are made visible,
    /// since it may quote a receiver or a broker and people read it in a terminal.
    pub fn set(&mut self, type_: &str, is: Is, reason: &str, message: &str) {
        let since = self
            .before
            .iter()
            .find(|condition| condition.type_ == type_ && condition.status == is.text())
            .map_or(self.now, |condition| condition.last_transition_time.0);
        self.after.retain(|condition| condition.type_ != type_);
        self.after.push(Condition {
            type_: type_.to_owned(),
            status: is.text().to_owned(),
            reason: reason.to_owned(),
            message: cut(&domain::plain_document(message), MAX_MESSAGE),
            observed_generation: Some(self.generation),
            last_transition_time: Time(since),
        });
    }

    /// Keeps a condition as it is shown, for when nothing new is known.
    pub fn keep(&mut self, type_: &str) {
        if let Some(held) = self.before.iter().find(|condition| condition.type_ == type_).cloned() {
            self.after.retain(|condition| condition.type_ != type_);
            self.after.push(Condition { observed_generation: Some(self.generation), ..held });
        }
    }

    /// Sets `Ready`, and `Reconciling` or `Stalled` where they are true.
    pub fn stand(&mut self, standing: &Standing) {
        let (reason, message) = (standing.reason(), standing.message());
        match standing {
            Standing::Ready { .. } => self.set(types::READY, Is::True, reason, message),
            Standing::UnderWay { .. } => {
                self.set(types::READY, Is::False, reason, message);
                self.set(types::RECONCILING, Is::True, reason, message);
            }
            Standing::Waiting { .. } => self.set(types::READY, Is::False, reason, message),
            Standing::Stalled { .. } => {
                self.set(types::READY, Is::False, reason, message);
                self.set(types::STALLED, Is::True, reason, message);
            }
        }
    }

    /// The finished conditions, sorted by type.
    pub fn finish(mut self) -> Vec<Condition> {
        self.after.sort_by(|a, b| a.type_.cmp(&b.type_));
        self.after
    }
}

/// At most the first `most` characters, with `…` if the text was longer.
pub(crate) fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}…", &text[..at]),
    }
}

/// The condition of a type.
pub(crate) fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

#[cfg(test)]
mod tests {
    use super::*;

    const THEN: Timestamp = Timestamp::constant(1_800_000_000, 0);
    const NOW: Timestamp = Timestamp::constant(1_800_000_060, 0);

    fn stand(before: &[Condition], standing: &Standing, now: Timestamp) -> Vec<Condition> {
        let mut conditions = Conditions::new(before, 3, now);
        conditions.stand(standing);
        conditions.finish()
    }

    fn ready() -> Standing {
        Standing::Ready { reason: reasons::READY, message: String::new() }
    }

    fn stalled(message: &str) -> Standing {
        Standing::Stalled { reason: reasons::INVALID_MATCH.to_owned(), message: message.to_owned() }
    }

    #[test]
    fn the_transition_time_moves_only_when_the_status_flips() {
        let first = stand(&[], &stalled("a"), THEN);
        let same = stand(&first, &stalled("b"), NOW);
        assert!(same.iter().all(|condition| condition.last_transition_time.0 == THEN), "{same:?}");
        let flipped = stand(&same, &ready(), NOW);
        assert_eq!(flipped[0].last_transition_time.0, NOW);
    }

    #[test]
    fn a_message_with_a_terminals_controls_shows_them() {
        let shown = stand(&[], &stalled("550 \u{1b}[2J\u{202e}no\nsuch mailbox"), NOW);
        assert_eq!(shown[0].message, "550 ␛[2J\\u{202e}no\nsuch mailbox");
    }

    #[test]
    fn reconciling_and_stalled_are_gone_when_they_are_not_true() {
        let names = |conditions: &[Condition]| -> Vec<String> {
            conditions.iter().map(|condition| condition.type_.clone()).collect()
        };
        let stalled = stand(&[], &stalled("a"), THEN);
        assert_eq!(names(&stalled), ["Ready", "Stalled"]);
        let under_way =
            Standing::UnderWay { reason: reasons::PROGRESSING.to_owned(), message: String::new() };
        let under_way = stand(&stalled, &under_way, NOW);
        assert_eq!(names(&under_way), ["Ready", "Reconciling"]);
        assert_eq!(names(&stand(&under_way, &ready(), NOW)), ["Ready"]);
    }
}

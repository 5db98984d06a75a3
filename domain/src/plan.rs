//! Plans: everything that the hub and the workers must know of one object. Secrets are references.
//!
//! The operator validates an object before it makes the plan, so readers trust its values. No plan holds a secret's value.

use std::collections::{BTreeMap, BTreeSet};

use calendar::{RecurrenceSpec, ReminderTime};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{ChannelPlan, Condition, Digest, Millis, Resolve, ScheduleDetails, Severity, Source};

/// The kinds that have plans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ObjectKind {
    /// Where a message goes.
    NotificationChannel,
    /// Which records matter.
    AlertRule,
    /// A recurring event.
    Schedule,
}

impl ObjectKind {
    /// The kind's name, as in a manifest.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotificationChannel => "NotificationChannel",
            Self::AlertRule => "AlertRule",
            Self::Schedule => "Schedule",
        }
    }
}

/// One object's plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// The object's namespace. A plan refers to nothing outside it.
    pub namespace: String,
    /// The object's name.
    pub name: String,
    /// The object's uid.
    pub uid: Uuid,
    /// `metadata.generation` of the spec that the plan was made from. Not part of the revision.
    pub generation: i64,
    /// `metadata.creationTimestamp`.
    pub created: Timestamp,
    /// `spec.suspend`.
    pub suspended: bool,
    /// The part that depends on the kind.
    pub body: PlanBody,
}

/// The part of a plan that depends on the kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "spec")]
pub enum PlanBody {
    /// A `NotificationChannel`'s.
    NotificationChannel(ChannelPlan),
    /// An `AlertRule`'s.
    AlertRule(RulePlan),
    /// A `Schedule`'s.
    Schedule(SchedulePlan),
}

impl Plan {
    /// The hash of the whole plan except its generation.
    pub fn revision(&self) -> Digest {
        Digest::of(&(&self.namespace, &self.name, self.uid, self.created, self.suspended, &self.body))
    }

    /// The kind of the object.
    pub fn kind(&self) -> ObjectKind {
        match self.body {
            PlanBody::NotificationChannel(_) => ObjectKind::NotificationChannel,
            PlanBody::AlertRule(_) => ObjectKind::AlertRule,
            PlanBody::Schedule(_) => ObjectKind::Schedule,
        }
    }
}

/// A key of a Secret or ConfigMap in the object's namespace, mounted in the worker's pod as
/// `<root>/<secrets|configmaps>/<name>/<key>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FileRef {
    /// Secret or ConfigMap.
    pub kind: FileKind,
    /// Its name.
    pub name: String,
    /// The key in it.
    pub key: String,
}

/// The kind of object that holds a referenced file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum FileKind {
    /// A Secret.
    Secret,
    /// A ConfigMap.
    ConfigMap,
}

impl FileRef {
    /// The path below the root of mounted files.
    pub fn path(&self) -> String {
        let folder = match self.kind {
            FileKind::Secret => "secrets",
            FileKind::ConfigMap => "configmaps",
        };
        format!("{folder}/{}/{}", self.name, self.key)
    }
}

impl std::fmt::Display for FileRef {
    /// `key "signing" of Secret "payments-notify"`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "key {:?} of {:?} {:?}", self.key, self.kind, self.name)
    }
}

/// An alert rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RulePlan {
    /// What the rule's consumer reads. Rules of a namespace with equal sources share one consumer.
    pub source: Source,
    /// The topics of the source that this rule reads.
    pub topics: Vec<String>,
    /// Where to begin in a topic that the source has never read before.
    pub start_from: StartFrom,
    /// The topic for records that can't be decoded; `<topic>.DLT` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter_topic: Option<String>,
    /// The CEL expression `match`: true for the records that count.
    #[serde(rename = "match")]
    pub matches: String,
    /// Label name to path.
    pub group_by: BTreeMap<String, String>,
    /// When matched records are an alert.
    pub condition: Condition,
    /// How bad an alert of this rule is.
    pub severity: Severity,
    /// Template of the title.
    pub title: String,
    /// Template of the summary; empty if the user gave none.
    pub summary: String,
    /// Names of the channels, in the rule's namespace.
    pub notify: Vec<String>,
    /// How often the alert of a firing group is repeated; never if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat_interval: Option<Millis>,
    /// When an alert is over, and whether that is notified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolve: Option<Resolve>,
    /// How long a bucket waits for late records.
    pub allowed_lateness: Millis,
    /// The settings of alerts that don't change what is counted.
    #[serde(default)]
    pub policy: AlertPolicy,
}

impl RulePlan {
    /// The dead-letter topic of `topic`. `None` if `topic` is itself named like a dead-letter topic (`*.DLT`) and the
    /// rule names no other.
    pub fn dead_letter_topic_of(&self, topic: &str) -> Option<String> {
        let default = || topic.strip_suffix(".DLT").is_none().then(|| format!("{topic}.DLT"));
        self.dead_letter_topic.clone().or_else(default)
    }

    /// The dead-letter topics of all topics that the rule reads.
    pub fn dead_letter_topics(&self) -> BTreeSet<String> {
        self.topics.iter().filter_map(|topic| self.dead_letter_topic_of(topic)).collect()
    }
}

/// The settings of a rule's alerts that don't change what is counted, so the rule keeps its state if they change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AlertPolicy {
    /// How long the condition must hold before there is an alert; 0 means at once.
    #[serde(rename = "for")]
    pub hold: Millis,
    /// The factor by which each repeat waits longer than the one before, in thousandths; at least 1,000.
    pub repeat_factor: i64,
    /// Name to path: notifications can show the most frequent values at that path.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub top_values: BTreeMap<String, String>,
    /// How many groups the rule holds at once; at least 1.
    pub max_groups: i64,
}

impl AlertPolicy {
    /// The default of [`AlertPolicy::max_groups`].
    pub const MAX_GROUPS: i64 = 10_000;
}

impl Default for AlertPolicy {
    fn default() -> Self {
        Self {
            hold: Millis(0),
            repeat_factor: 1_000,
            top_values: BTreeMap::new(),
            max_groups: Self::MAX_GROUPS,
        }
    }
}

impl RulePlan {
    /// The hash of what decides the rule's counts and episodes. A rule whose hash changes starts anew.
    pub fn counting_hash(&self) -> Digest {
        Digest::of(&(&self.matches, &self.group_by, &self.condition, &self.source.reading))
    }
}

/// Where to begin in a topic that the source has never read before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum StartFrom {
    /// At the oldest record that the broker still has.
    Earliest,
    /// After the last record.
    Latest,
}

/// A recurring event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SchedulePlan {
    /// The event's title.
    pub title: String,
    /// Its description, location, link and resources.
    #[serde(default, skip_serializing_if = "ScheduleDetails::is_nothing")]
    pub about: ScheduleDetails,
    /// Template of the text that reminders show below the title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// When it happens.
    pub recurrence: RecurrenceSpec,
    /// The reminders of each occurrence.
    pub reminders: Vec<ReminderPlan>,
    /// Participants' IANA zones by lower-case address. Only those that differ from the schedule's.
    #[serde(default)]
    pub time_zones: BTreeMap<String, String>,
    /// By how many minutes all reminders fall due later, so that not all schedules remind in the same minute.
    #[serde(default)]
    pub delay_minutes: u16,
    /// What happens to reminders that were missed, for example while the cluster was down.
    pub catch_up: CatchUp,
}

/// One reminder of a schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReminderPlan {
    /// When it is due.
    #[serde(flatten)]
    pub time: ReminderTime,
    /// Names of the channels, in the schedule's namespace.
    pub notify: Vec<String>,
}

/// What happens to missed reminders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatchUp {
    /// Which of them are sent.
    pub policy: CatchUpPolicy,
    /// The longest delay after which a missed reminder is still sent.
    pub window: Millis,
}

/// Which missed reminders are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CatchUpPolicy {
    /// All that are not older than the window.
    All,
    /// Of each reminder the latest one, if it is not older than the window.
    Latest,
    /// None.
    None,
}

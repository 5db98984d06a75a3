//! Plans: all that hub and workers must know of one object, secrets only by reference.
//!
//! The operator validates before it makes a plan, so readers trust its values. Never here: a secret's value.

use std::collections::{BTreeMap, BTreeSet};

use calendar::{RecurrenceSpec, ReminderTime};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{About, ChannelPlan, Condition, Digest, Millis, Resolve, Severity, Source};

/// The three kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// Where a message goes.
    NotificationChannel,
    /// Which records matter.
    AlertRule,
    /// A recurring event.
    Schedule,
}

impl Kind {
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
    /// The object's namespace: no plan reaches beyond it.
    pub namespace: String,
    /// The object's name.
    pub name: String,
    /// The object's uid.
    pub uid: Uuid,
    /// `metadata.generation` of the spec that this plan says. Not part of the revision.
    pub generation: i64,
    /// `metadata.creationTimestamp`.
    pub created: Timestamp,
    /// `spec.suspend`.
    pub suspended: bool,
    /// What the kind says.
    pub body: PlanBody,
}

/// What each kind's plan says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "spec")]
pub enum PlanBody {
    /// Of a `NotificationChannel`.
    NotificationChannel(ChannelPlan),
    /// Of an `AlertRule`.
    AlertRule(RulePlan),
    /// Of a `Schedule`.
    Schedule(SchedulePlan),
}

impl Plan {
    /// The hash of what the plan says: everything but the generation.
    pub fn revision(&self) -> Digest {
        Digest::of(&(&self.namespace, &self.name, self.uid, self.created, self.suspended, &self.body))
    }

    /// Which kind it is of.
    pub fn kind(&self) -> Kind {
        match self.body {
            PlanBody::NotificationChannel(_) => Kind::NotificationChannel,
            PlanBody::AlertRule(_) => Kind::AlertRule,
            PlanBody::Schedule(_) => Kind::Schedule,
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

/// Which kind of object holds a referenced file.
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
    /// What its consumer reads; shared by the rules that name the same.
    pub source: Source,
    /// The topics of the source that this rule reads.
    pub topics: Vec<String>,
    /// Where to begin in a topic that the source has never read.
    pub start_from: StartFrom,
    /// Where records go that can't be decoded; `<topic>.DLT` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter_topic: Option<String>,
    /// CEL.
    #[serde(rename = "match")]
    pub matches: String,
    /// Label name to path.
    pub group_by: BTreeMap<String, String>,
    /// When it is an alert.
    pub condition: Condition,
    /// How bad it is.
    pub severity: Severity,
    /// Template of the title.
    pub title: String,
    /// Template of the summary; empty where the user gave none.
    pub summary: String,
    /// Names of the channels, in the rule's namespace.
    pub notify: Vec<String>,
    /// How often a firing group speaks again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat_interval: Option<Millis>,
    /// When it is over and whether to say so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolve: Option<Resolve>,
    /// How long a bucket waits for late records.
    pub allowed_lateness: Millis,
    /// How its alerts behave beyond that.
    #[serde(default)]
    pub policy: AlertPolicy,
}

impl RulePlan {
    /// Where records of a topic go that can't be decoded; none of one that is itself named like such a topic, unless the
    /// rule says where.
    pub fn dead_letter_topic_of(&self, topic: &str) -> Option<String> {
        let default = || topic.strip_suffix(".DLT").is_none().then(|| format!("{topic}.DLT"));
        self.dead_letter_topic.clone().or_else(default)
    }

    /// Where records of all of its topics go that can't be decoded.
    pub fn dead_letter_topics(&self) -> BTreeSet<String> {
        self.topics.iter().filter_map(|topic| self.dead_letter_topic_of(topic)).collect()
    }
}

/// How a rule's alerts behave beyond their condition. Not part of what decides its counts: a change keeps the state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AlertPolicy {
    /// How long the condition must hold before it is an alert; 0 for at once.
    #[serde(rename = "for")]
    pub hold: Millis,
    /// How much longer each repeat waits than the one before, in thousandths; from 1,000.
    pub repeat_factor: i64,
    /// Label name to the path whose most frequent values a notification shows.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub top_values: BTreeMap<String, String>,
    /// Groups held at once; from 1.
    pub max_groups: i64,
}

impl AlertPolicy {
    /// Groups of a rule that are held at once unless it says otherwise.
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

/// Where to begin in a topic that the source has never read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum StartFrom {
    /// At the first record that is kept.
    Earliest,
    /// After the last record.
    Latest,
}

/// A recurring event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SchedulePlan {
    /// What it is.
    pub title: String,
    /// What else it says of itself.
    #[serde(default, skip_serializing_if = "About::is_nothing")]
    pub about: About,
    /// Template of what its reminders say below the title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// When it is.
    pub recurrence: RecurrenceSpec,
    /// What to say before it.
    pub reminders: Vec<ReminderPlan>,
    /// IANA zones of participants by their lower-case address, where they are not the schedule's.
    #[serde(default)]
    pub time_zones: BTreeMap<String, String>,
    /// Minutes by which all of them fall due later, so that not all schedules remind in the same minute.
    #[serde(default)]
    pub delay_minutes: u16,
    /// What to do about reminders missed while the cluster was down.
    pub catch_up: CatchUp,
}

/// One reminder of a schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReminderPlan {
    /// When.
    #[serde(flatten)]
    pub time: ReminderTime,
    /// Names of the channels, in the schedule's namespace.
    pub notify: Vec<String>,
}

/// What to do about missed reminders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatchUp {
    /// Which of them are sent.
    pub policy: CatchUpPolicy,
    /// How late a reminder may come.
    pub window: Millis,
}

/// Which missed reminders are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CatchUpPolicy {
    /// All within the window.
    All,
    /// The latest of each reminder within the window.
    Latest,
    /// None.
    None,
}

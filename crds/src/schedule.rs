//! `Schedule`: a recurring event with its participants, resources and reminders.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::{self, Duration, LastNotification, Moment, Notify, SignedMinutes, Undelivered};
use crate::resource::ResourceRef;

/// A recurring event with its participants, resources and reminders.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "belfry.dev",
    version = "v1alpha1",
    kind = "Schedule",
    plural = "schedules",
    shortname = "sch",
    category = "belfry",
    namespaced,
    status = "ScheduleStatus",
    derive = "PartialEq",
    doc = "A recurring event with its participants, resources and reminders.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Whether reminders will be sent"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#,
        description = "Why it is ready or not"
    ),
    printcolumn(
        name = "Conflicting",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Conflicting")].status"#,
        description = "Whether an older schedule has a participant or resource at the same time"
    ),
    printcolumn(
        name = "Next",
        type_ = "string",
        json_path = ".status.nextOccurrences[0].start",
        description = "Start of the next occurrence, in the schedule's zone"
    ),
    printcolumn(
        name = "Next Reminder",
        type_ = "string",
        json_path = ".status.nextReminderTime",
        description = "When the next reminder is due, in the schedule's zone"
    ),
    printcolumn(
        name = "Last Reminder",
        type_ = "date",
        json_path = ".status.lastReminderTime",
        description = "When the last reminder was due"
    ),
    printcolumn(
        name = "Delivered",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Delivered")].status"#,
        description = "Whether its last reminders arrived; False while some did not"
    ),
    printcolumn(
        name = "Title",
        type_ = "string",
        json_path = ".spec.title",
        description = "What it is",
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        description = "What to do about it",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Since when it exists"
    )
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    common::cel(
        "has(self.duration) != (has(self.allDay) && self.allDay)",
        "exactly one of duration and allDay: true is needed",
    ),
    common::cel(
        "(has(self.allDay) && self.allDay) ? !self.start.contains('T') : self.start.contains('T')",
        "start is a local date and time such as 2026-01-05T10:00:00; with allDay: true a date such as 2026-01-05",
    ),
]))]
pub struct ScheduleSpec {
    /// The event's title.
    #[schemars(length(min = 1, max = 256))]
    pub title: String,
    /// A description of the event. Reminders end with its first 1,000 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub description: Option<String>,
    /// Where the event takes place, in words. List what can be double-booked in resources.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub location: Option<String>,
    /// A link to the meeting or to more information, such as an https URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 2048), regex(pattern = r"^[A-Za-z][A-Za-z0-9+.-]*:[!-~]+$"))]
    pub url: Option<String>,
    /// Template of the text that reminders show below the title (MiniJinja over text, title, description, location, url,
    /// resources, start, end and more). When absent, they show the start, the location, the link and the description.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub summary: Option<String>,
    /// Local start of the first occurrence, such as 2026-01-05T10:00:00; with allDay a date, such as 2026-01-05.
    #[schemars(
        length(min = 10, max = 40),
        regex(pattern = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}(:[0-9]{2})?)?$")
    )]
    pub start: String,
    /// IANA time zone of the event, such as Europe/Berlin. It follows the local clock through daylight saving time.
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z][A-Za-z0-9_+/-]*$"))]
    pub time_zone: String,
    /// How long an occurrence lasts, 1m to 720h.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = common::between("1m", "720h")))]
    pub duration: Option<Duration>,
    /// Whether an occurrence takes the whole local day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub all_day: Option<bool>,
    /// How the event recurs; it happens once when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recurrence: Option<Recurrence>,
    /// Who takes part. Nobody can be in two schedules of the namespace at the same time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), extend("x-kubernetes-list-type" = "atomic"))]
    pub participants: Vec<Participant>,
    /// Rooms, machines, anything that can be double-booked. The same name in the same namespace is the same resource. One schedule
    /// may have it at a time, or as many as the capacity of the BookableResource of that name in this namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 128)), extend("x-kubernetes-list-type" = "set"))]
    pub resources: Vec<String>,
    /// BookableResources of other namespaces, whose owners have shared them with this one by spec.sharedWith.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "atomic"))]
    pub shared_resources: Vec<ResourceRef>,
    /// Whether participants and resources are busy during the event (RFC 5545: TRANSP). Opaque: they are busy. Transparent: they
    /// are free, and nothing clashes with the event.
    #[serde(default)]
    pub transparency: Transparency,
    /// Time before and after each occurrence in which its participants and resources are busy too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub buffer: Option<Buffer>,
    /// Asks for other times at which all participants and resources are free. They are shown in status.suggestions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggest: Option<Suggest>,
    /// What happens when an older schedule has a participant or resource at the same time.
    /// Reject: this schedule sends no reminders until the conflict is solved. Warn: a status condition says so. Allow: nothing.
    #[serde(default)]
    pub conflict_policy: ConflictPolicy,
    /// The reminders of each occurrence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub reminders: Vec<Reminder>,
    /// Reminders fall due up to this much later, in whole minutes, 0m to 60m. The delay of a schedule is always the same; it
    /// differs between schedules, so that not all of them remind in the same minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = common::minutes("0m", "60m")))]
    pub jitter: Option<Duration>,
    /// What happens to reminders that were missed, for example while the cluster was down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catch_up: Option<CatchUp>,
    /// Sends no reminders; the status says so. Reminders that fall due meanwhile are not sent later.
    #[serde(default)]
    pub suspend: bool,
}

/// How an event recurs (RFC 5545).
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    common::cel(
        "has(self.rrule) || has(self.rrules) || (has(self.dates) && self.dates.size() > 0) || has(self.dst)",
        "rrule, rrules, dates or dst is needed; leave recurrence out for an event that happens once",
    ),
    common::cel(
        "!(has(self.rrule) && has(self.rrules))",
        "either rrule or rrules: put one rule in rrule, 2 to 8 rules in rrules",
    ),
]))]
pub struct Recurrence {
    /// An RRULE without its prefix, such as FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 10, max = 512), regex(pattern = r"^[A-Za-z0-9=;,+-]+$"))]
    pub rrule: Option<String>,
    /// 2 to 8 rules in place of rrule. The event happens when any of them says so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(min = 2, max = 8),
        inner(length(min = 10, max = 512), regex(pattern = r"^[A-Za-z0-9=;,+-]+$")),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub rrules: Vec<String>,
    /// Rules whose times do not happen (EXRULE of RFC 2445), at most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 8),
        inner(length(min = 10, max = 512), regex(pattern = r"^[A-Za-z0-9=;,+-]+$")),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub except_rrules: Vec<String>,
    /// Further occurrences: local dates and times, or dates, which mean the time of start on that day.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 366),
        inner(length(min = 10, max = 40), regex(pattern = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}(:[0-9]{2})?)?$")),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub dates: Vec<String>,
    /// Occurrences that do not happen: local dates and times, or dates, which mean all occurrences of that day.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 366),
        inner(length(min = 10, max = 40), regex(pattern = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}(:[0-9]{2})?)?$")),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub except_dates: Vec<String>,
    /// Occurrences that differ from what rrule and dates say (RFC 5545: RECURRENCE-ID).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), extend("x-kubernetes-list-type" = "atomic"))]
    pub overrides: Vec<Override>,
    /// What to do with local times that do not exist, or exist twice, because clocks change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dst: Option<Dst>,
}

/// A change of one occurrence, or of all from one on: moved, of another length, or cancelled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [common::cel(
    "(has(self.cancelled) && self.cancelled) != (has(self.start) || has(self.duration))",
    "either cancelled: true, or start or duration or both",
)]))]
pub struct Override {
    /// Which occurrence: the local time or date that rrule and dates give it.
    #[schemars(
        length(min = 10, max = 40),
        regex(pattern = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}(:[0-9]{2})?)?$")
    )]
    pub recurrence_id: String,
    /// This: only that occurrence. ThisAndFuture: it and all later ones, up to the next such override; all move by the same time.
    #[serde(default)]
    pub range: OverrideRange,
    /// Whether the occurrence does not happen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancelled: Option<bool>,
    /// When it begins instead, in the form of the schedule's start.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 10, max = 40),
        regex(pattern = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}(:[0-9]{2})?)?$")
    )]
    pub start: Option<String>,
    /// How long it lasts instead, 1m to 720h; whole days when allDay.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = common::between("1m", "720h")))]
    pub duration: Option<Duration>,
}

/// Which occurrences an override changes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum OverrideRange {
    #[default]
    This,
    ThisAndFuture,
}

/// What happens when clocks change. Rules with a frequency above DAILY, such as HOURLY, count in real time and have neither case.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Dst {
    /// For a local time that does not exist. ShiftForward: 02:30 becomes 03:30. Skip: the occurrence does not happen.
    #[serde(default)]
    pub gap: Gap,
    /// For a local time that exists twice: the First, the Last, or an occurrence at Both.
    #[serde(default)]
    pub fold: Fold,
}

/// What happens to an occurrence whose local time does not exist.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum Gap {
    #[default]
    ShiftForward,
    Skip,
}

/// What happens to an occurrence whose local time exists twice.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum Fold {
    #[default]
    First,
    Last,
    Both,
}

/// A person who takes part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Participant {
    /// The person's name.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
    /// The person's address, which identifies them; when absent, the name does.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 254), regex(pattern = r"^[^\s@]+@[^\s@]+$"))]
    pub email: Option<String>,
    /// When the person works, for spec.suggest; when absent, 09:00 to 18:00 from Monday to Friday in the schedule's zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_hours: Option<WorkingHours>,
}

/// When a person works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkingHours {
    /// The person's IANA time zone; the schedule's when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z][A-Za-z0-9_+/-]*$"))]
    pub time_zone: Option<String>,
    /// Local time at which the day begins, such as 09:00.
    #[serde(default = "nine")]
    #[schemars(length(min = 5, max = 24), regex(pattern = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"))]
    pub from: String,
    /// Local time at which the day ends, such as 18:00. If not later than from, it is on the next day.
    #[serde(default = "six")]
    #[schemars(length(min = 5, max = 24), regex(pattern = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"))]
    pub to: String,
    /// The days on which working hours begin.
    #[serde(default = "weekdays")]
    #[schemars(length(min = 1, max = 7), extend("x-kubernetes-list-type" = "set"))]
    pub days: Vec<Weekday>,
}

fn nine() -> String {
    "09:00".to_owned()
}

fn six() -> String {
    "18:00".to_owned()
}

fn weekdays() -> Vec<Weekday> {
    vec![Weekday::MO, Weekday::TU, Weekday::WE, Weekday::TH, Weekday::FR]
}

/// A day of the week, as RFC 5545 writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum Weekday {
    MO,
    TU,
    WE,
    TH,
    FR,
    SA,
    SU,
}

/// Whether participants and resources are busy during the event.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum Transparency {
    #[default]
    Opaque,
    Transparent,
}

/// Time before and after each occurrence.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Buffer {
    /// Before it, in whole minutes, 0m to 24h.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = common::minutes("0m", "24h")))]
    pub before: Option<Duration>,
    /// After it, in whole minutes, 0m to 24h.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = common::minutes("0m", "24h")))]
    pub after: Option<Duration>,
}

/// Which other times are suggested. The whole series moves by the same time on the clock.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Suggest {
    /// How many, 1 to 10; 3 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10))]
    pub count: Option<i32>,
    /// How far from the event's own time, earlier or later, 1h to 720h; 336h when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = common::minutes("1h", "720h")))]
    pub within: Option<Duration>,
    /// Suggested starts are whole multiples of this after midnight, in whole minutes, 1m to 24h; 15m when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = common::minutes("1m", "24h")))]
    pub grid: Option<Duration>,
}

/// What happens when an older schedule has a participant or resource at the same time.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum ConflictPolicy {
    Reject,
    #[default]
    Warn,
    Allow,
}

/// One reminder of each occurrence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    common::cel("has(self.before) != has(self.at)", "exactly one of before and at is needed"),
    common::cel("has(self.at) || !has(self.daysBefore)", "daysBefore belongs to at"),
]))]
pub struct Reminder {
    /// How long before the start, in whole minutes, up to 720h; negative means after the start, such as -10m.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<SignedMinutes>,
    /// Alternatively, a time of day, such as 09:00, in the schedule's zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 5, max = 24), regex(pattern = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"))]
    pub at: Option<String>,
    /// With at: how many days before the day of the start, 0 to 30; 1 (the day before) when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 30))]
    pub days_before: Option<i32>,
    /// The channels that get the reminder.
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub notify: Vec<Notify>,
}

/// What happens to missed reminders.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CatchUp {
    /// Which of them are sent late: All, the Latest of each reminder, or None.
    #[serde(default)]
    pub policy: CatchUpPolicy,
    /// How late a reminder may be sent, 1m to 168h; 1h when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = common::between("1m", "168h")))]
    pub window: Option<Duration>,
}

/// Which missed reminders are sent.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum CatchUpPolicy {
    #[default]
    All,
    Latest,
    None,
}

/// The status of a schedule.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ScheduleStatus {
    /// The metadata.generation that the operator last acted on; -1 before it has seen the object.
    #[schemars(range(min = -1))]
    pub observed_generation: i64,
    /// The object's status conditions.
    #[schemars(schema_with = "common::conditions")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The next five occurrences.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5), extend("x-kubernetes-list-type" = "atomic"))]
    pub next_occurrences: Vec<Occurrence>,
    /// When the next reminder is due, in the schedule's zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub next_reminder_time: Option<String>,
    /// When the last reminder was due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_reminder_time: Option<Moment>,
    /// Times at which the whole series would clash with nothing, the best first: near its own time, in the working hours of all
    /// participants, with few events back to back. Each is the first occurrence at the suggested time.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), extend("x-kubernetes-list-type" = "atomic"))]
    pub suggestions: Vec<Occurrence>,
    /// The last notification that the schedule caused, and its outcome.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_notification: Option<LastNotification>,
    /// Deliveries that did not arrive, by channel, at most 5.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5), extend("x-kubernetes-list-type" = "atomic"))]
    pub undelivered: Vec<Undelivered>,
    /// Missed reminders that catchUp left out, ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub skipped_reminders: Option<i64>,
    /// How many occurrences clock changes affected, ever; absent if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_changes: Option<ClockChanges>,
    /// The first occurrences at which an older schedule has a participant or resource, at most 5.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5), extend("x-kubernetes-list-type" = "atomic"))]
    pub conflicts: Vec<Conflict>,
}

/// How many occurrences clock changes moved, skipped or doubled.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ClockChanges {
    /// Occurrences whose local time did not exist and that happened later.
    #[schemars(range(min = 0))]
    pub shifted: i64,
    /// Occurrences whose local time did not exist and that did not happen.
    #[schemars(range(min = 0))]
    pub skipped: i64,
    /// Occurrences whose local time existed twice and that happened at both.
    #[schemars(range(min = 0))]
    pub doubled: i64,
}

/// One occurrence, RFC 3339 in the schedule's zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Occurrence {
    /// When it begins.
    #[schemars(length(max = 40))]
    pub start: String,
    /// When it ends.
    #[schemars(length(max = 40))]
    pub end: String,
}

/// One occurrence that clashes with one of an older schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Conflict {
    /// When this schedule's occurrence begins.
    #[schemars(length(max = 40))]
    pub start: String,
    /// The older schedule; a name of another namespace is not shown.
    #[schemars(length(max = 253))]
    pub schedule: String,
    /// Participants and resources that both need, at most 5; a resource of another namespace as namespace/name.
    #[schemars(length(max = 5), inner(length(max = 254)), extend("x-kubernetes-list-type" = "atomic"))]
    pub shared: Vec<String>,
}

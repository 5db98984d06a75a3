//! Values and decisions that all processes share: plans, notifications, deliveries, outcomes, ids and the retry policy.
//!
//! Everything here is data or a pure function of its arguments. Every id is a UUID v5 of what it names. The crate uses no clock,
//! no randomness, no I/O of its own, no Kubernetes and no database.
#![warn(missing_docs)]

mod alert_data;
mod channel;
mod condition;
mod counts;
mod duration;
mod guard;
mod hash;
pub mod ids;
mod kafka;
mod notification;
mod outcome;
mod plain;
mod plan;
mod reading;
mod reason;
mod retry;

pub use alert_data::{AlertData, CLOSED, RESOLVED};
/// The recurrence and reminder times that plans carry.
pub use calendar::{RecurrenceSpec, ReminderTime};
pub use channel::{
    ChannelPlan, DeliveryPolicy, EmailPlan, KafkaPlan, OnUnknown, PayloadText, RateLimit, SlackPlan, SmtpTls,
    Target, TemplateText, WebhookAuth, WebhookFormat, WebhookHeader, WebhookMethod, WebhookPlan, WebhookUrl,
    WebhookValue,
};
pub use condition::{Condition, ExtremeDirection, Limit, Resolve, SHARE, SpikeDirection};
pub use counts::{
    Count, DropSample, Dropped, Extras, ExtremeValue, FirstAndLast, Matched, RecordValue, Sample, Values,
};
pub use duration::{DurationError, Millis};
pub use guard::{AddressRange, AddressRangeError, Denied, Guard};
pub use hash::Digest;
pub use kafka::{
    ClientCertificate, Isolation, KafkaSecurity, KafkaTls, OAuth, PasswordLogin, PasswordMechanism, Sasl,
    Source, Username,
};
pub use notification::{
    Alert, AlertKind, AttemptRecord, Cause, DeliveryRecord, DeliveryState, Notification, RecordRef,
    ScheduleDetails, Severity,
};
pub use outcome::Outcome;
pub use plain::{Plain, PlainLog, hides, hides_in_document, plain, plain_document, plain_json, plain_yaml};
pub use plan::{
    AlertPolicy, CatchUp, CatchUpPolicy, FileKind, FileRef, ObjectKind, Plan, PlanBody, ReminderPlan,
    RulePlan, SchedulePlan, StartFrom,
};
pub use reading::{EventTime, Format, Reading, TimeForm};
pub use reason::DropReason;
pub use retry::{RetryPolicy, Verdict};

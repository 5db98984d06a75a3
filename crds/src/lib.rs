//! The types of Belfry's four kinds as manifests write them, and the CustomResourceDefinitions made from these types.
//!
//! Every string, number and list is bounded. A union is `type` plus exactly the member of that name. Whatever the schema can
//! refuse, it refuses, with a message in words. The controllers check the rest: whether an expression compiles, whether a
//! recurrence ever happens.
//!
//! Doc comments of fields are what `kubectl explain` and docs/fields.md show. Each field is read by some part of Belfry.

#![allow(
    clippy::duplicated_attributes,
    reason = "the columns of kube's derive look like duplicates to clippy"
)]

pub mod channel;
pub mod common;
mod condition;
mod definition;
mod field_reference;
pub mod kafka;
pub mod resource;
pub mod rule;
pub mod schedule;

pub use channel::NotificationChannel;
pub use definition::{Definition, definitions};
pub use field_reference::field_reference;
pub use resource::BookableResource;
pub use rule::AlertRule;
pub use schedule::Schedule;

/// The API group of all kinds.
pub const GROUP: &str = "belfry.dev";
/// Annotation of a channel: each new value sends one test message.
pub const SEND_TEST: &str = "belfry.dev/send-test";
/// Annotation of a channel: each new value `all@<anything>` or `<delivery id>@<anything>` sends all dead deliveries, or that one,
/// again.
pub const RESEND: &str = "belfry.dev/resend";

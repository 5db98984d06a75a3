//! Wire types of Belfry's four kinds, and the definitions that a cluster learns them from.
//!
//! What is said here is what a manifest may say: every string, number and list is bounded, unions are `type` plus
//! exactly that member, and whatever the schema can refuse it refuses, in words. Meanings (does the expression compile,
//! does the recurrence ever happen) are the controllers' to check.
//!
//! Never here: domain values, I/O, or a field that nothing reads.

#![allow(
    clippy::duplicated_attributes,
    reason = "the columns of kube's derive look like duplicates to clippy"
)]

pub mod channel;
pub mod common;
mod condition;
mod definition;
pub mod kafka;
mod reference;
pub mod resource;
pub mod rule;
pub mod schedule;

pub use channel::NotificationChannel;
pub use definition::{Definition, definitions};
pub use reference::reference;
pub use resource::BookableResource;
pub use rule::AlertRule;
pub use schedule::Schedule;

/// The group of all kinds.
pub const GROUP: &str = "belfry.dev";
/// A channel's annotation: any value sends one test message, once per value.
pub const SEND_TEST: &str = "belfry.dev/send-test";
/// A channel's annotation: `all@<anything>` or `<delivery id>@<anything>` sends dead deliveries again, once per value.
pub const RESEND: &str = "belfry.dev/resend";

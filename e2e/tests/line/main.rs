//! The whole line on a real cluster: what a user applies, what arrives, and what they are told.
//!
//! Each test has a namespace and topics of its own. Run by `make test`, which brings up the cluster and the receivers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panics")]

mod admission;
mod ask;
mod bad_input;
mod bounds;
mod channels;
mod chart;
mod docs;
mod example;
mod formats;
mod golden;
mod kafka;
mod leave;
mod names;
mod rules;
mod schedules;
mod shared;
mod support;
mod truth;

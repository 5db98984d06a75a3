//! End-to-end tests on a real cluster, with nothing broken: what users apply, what arrives, and what statuses and messages say.
//!
//! Each test has its own namespace and topics. `make test` runs them: it starts the cluster and the receivers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panics")]

mod admission;
mod ask;
mod bad_input;
mod bounds;
mod channels;
mod chart;
mod delete_and_suspend;
mod docs;
mod example;
mod foreign_objects;
mod formats;
mod golden;
mod kafka;
mod rules;
mod schedules;
mod shared_rooms;
mod support;
mod undelivered;

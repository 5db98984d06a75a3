//! Fault tests: each breaks a part of the system for as long as outages last at users', and counts what arrived.
//! They run one at a time, and only on a cluster of the test bed. `make test` runs them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panics")]

mod abuse;
mod certificates;
mod outages;
mod quiet;
mod schedules;
mod storage;
mod support;

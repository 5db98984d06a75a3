//! What the ledger promises, on real files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod bed;
mod conditions;
mod counting;
mod deciding;
mod delivering;
mod ending;
mod objects;
mod property;
mod reporting;
mod storing;

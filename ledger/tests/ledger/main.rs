//! What the ledger promises, on real files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod bed;
mod chores;
mod conditions;
mod counting;
mod deciding;
mod delivering;
mod ending;
mod namespaces;
mod objects;
mod property;
mod reading;
mod replicas;
mod reporting;
mod storing;
mod tenants;
mod transfer;
mod workers;

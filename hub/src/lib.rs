//! The hub: the HTTP API over the ledger. It authenticates callers, passes their requests to the ledger, wakes long
//! polls, and runs the background loops, which own the clock.
//!
//! Invariants: correctness needs nothing that is only in memory; a caller is told "done" only after the ledger has
//! committed; every path checks its caller. Not here: decisions that the ledger can make, SQL, secrets in logs.

mod app;
mod attempts;
pub mod auth;
mod bounds;
mod chance;
mod clock;
mod config;
mod denials;
mod extract;
mod faults;
mod health;
mod limits;
pub mod logs;
mod loops;
mod memory;
mod metrics;
mod middleware;
mod peers;
mod reader_slots;
mod reading;
mod refusal;
mod render;
mod reports;
mod routes;
mod sessions;
mod startup;
mod tls;
mod wait;
mod wakeups;

pub use chance::Chance;
pub use config::{Command, Config, LogFormat};
pub use refusal::Refusal;
pub use startup::{Hub, Start};

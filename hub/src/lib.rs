//! The hub: the HTTP API over the ledger. It knows who calls, hands the ledger what they say, wakes those who wait, and
//! runs the loops that own the clock.
//!
//! Invariants: it keeps nothing in memory that correctness needs; "done" is said after the ledger said so; every path
//! checks its caller. Never here: a decision that the ledger could make, SQL, or a secret in a log.

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

pub use chance::Chance;
pub use config::{Config, LogFormat};
pub use refusal::Refusal;
pub use startup::{Hub, Start};

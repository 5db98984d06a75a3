//! A real cluster and real brokers for tests, and the tests that need them.
//!
//! `testbed/` brings up Kubernetes and Kafka; [`sink`] is the receiver; [`cluster`] is how a test talks to all of it.
//! Never here: a mock of something that the test bed has for real.
#![allow(clippy::missing_panics_doc, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod abuse;
pub mod bench;
pub mod cluster;
pub mod kafka;
pub mod sink;
pub mod soak;
pub mod tenant;

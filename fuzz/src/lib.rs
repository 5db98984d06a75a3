//! Fuzz targets for the code that reads untrusted bytes and texts: each decoder, the matcher's compiler and the plan
//! reader.
//!
//! `cargo fuzz run json` runs a target where nightly and cargo-fuzz are installed;
//! `cargo run -p belfry-fuzz --bin json -- 1000000` runs it in a plain loop over mutated seeds. Invariant: a target is
//! a function of its bytes; no check depends on the seed from which they came.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a target fails by a panic"
)]

pub mod mutation;
pub mod seeds;
pub mod targets;

//! Fuzz targets for what reads bytes and texts of strangers: each decoder, the matcher's compiler and the plan reader.
//!
//! `cargo fuzz run json` finds them where nightly and cargo-fuzz are; `cargo run -p belfry-fuzz --bin json -- 1000000` runs the
//! same target in a plain loop over mutated seeds. Invariant: a target is a function of its bytes. Never here: a check that
//! depends on what a seed was.
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

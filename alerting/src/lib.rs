//! The alert engine: decodes, matches and folds records in `worker consume`; merges and decides in the hub; all of it
//! unchanged in the command line.
//!
//! # The law
//!
//! **The alerts are a function of the set of records, not of how they came.** For records that are not late, any split over
//! partitions and consumers, any order across partitions, any size of batches, any crash or rebalance gives the same
//! alerts with the same counts: a count is a sum over (rule, group, bucket), first and last are by (time, topic,
//! partition, offset), and a bucket is decided once, in order of event time, when the watermark has passed its end by
//! `allowedLateness`. Only what comes later than that changes nothing but the number of late records.
//!
//! # The conditions
//!
//! - `Any` with neither `repeatInterval` nor `resolve`: each matched record is a notification of its own, at once.
//! - `Frequency {count, window}`: the condition holds at a bucket's end when the window before it has `count` matched
//!   records or more. [`decide`] says exactly when it fires, repeats and resolves; [`window`] what buckets and windows are.
//! - `Any` otherwise: an alert per group, as `Frequency` with a count of 1 and a window of 1 s; it resolves after
//!   `repeatInterval`, or 5 min, unless `resolve.after` says otherwise.
//!
//! # The parts
//!
//! [`decode`] bytes → [`document`]; [`matching`] value → true or false; [`paths`] value → group; [`fold`] records → counts (and
//! [`sample`]s of them); [`decide`] counts → decisions. [`reason`] is why a record was not counted. A further format is a
//! variant of `domain::Format` and an arm in [`decode`]; a further condition is one of `domain::Condition` and an arm in
//! [`decide::RuleParams`]. The index in [`fold`] asks, of many rules, only those that a record may concern.
//!
//! Invariants: pure, bounded in memory and in work for each record, total: no input panics. Never here: a clock, I/O,
//! randomness, or a text's rendering.
#![warn(missing_docs)]

pub mod decide;
pub mod decode;
pub mod document;
pub mod fold;
pub mod matching;
pub mod paths;
pub mod reason;
pub mod record;
pub mod sample;
pub mod window;

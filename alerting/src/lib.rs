//! The alert engine: decodes, matches and folds records in `worker consume`; merges and decides in the hub; all of it
//! unchanged in the command line.
//!
//! # The law
//!
//! docs/semantics.md has it as E1, with what goes with it.
//!
//! **The alerts are a function of the set of records, not of how they came.** For records that are not late, any split over
//! partitions and consumers, any order across partitions, any size of batches, any crash or rebalance gives the same
//! alerts with the same counts: a count is a sum over (rule, group, bucket), first and last are by (time, topic,
//! partition, offset), and a bucket is decided once, in order of event time, when the watermark has passed its end by
//! `allowedLateness`. Only what comes later than that changes nothing but the number of late records. A record whose event time
//! is not further behind than that when the broker appends it is never late, whatever others say and whenever it is read
//! ([`progress`]).
//!
//! # The conditions
//!
//! Each is a question at the boundary `E` at which a bucket ends, about one group; a window of length `W` is the whole
//! buckets in `[E - W, E)`, and `n` the matched records in it.
//!
//! - `Any` with neither `repeatInterval` nor `resolve`: each matched record is a notification of its own, at once.
//! - `Any` otherwise: `n >= 1` in a window of 1 s.
//! - `Frequency {count, window}`: `n >= count`.
//! - `Spike {ratio, window, minCount, direction}`, with `m` the records in `[E - 2W, E - W)`: up `n >= minCount` and
//!   `n >= ratio * m`; down `m >= minCount` and `m >= ratio * n`. Only where `E - 2W` is not before the rule has *observed*.
//! - `Flatline {below, window, groups}`: `n < below`, for a group that is *watched*. Only where `E - W` is not before the
//!   rule has observed, and not before the start of the first bucket of a group that the rule does not name.
//! - `NewValue {path, learnFor}`: the bucket that ends at `E` has a value that no earlier bucket of the group has; and `E` is
//!   later than `learnFor` after the start of the group's first bucket.
//! - `Cardinality {path, window, above | below}`, with `d` the distinct values in the window: `d > above`; `d < below` for a
//!   group that is watched, as by `Flatline`.
//! - `Change {path}`: with the group's records in the order of (time, topic, partition, offset), one in the bucket that ends
//!   at `E` has another value than the one before it.
//! - `Extreme {path, direction}`: in that order, one in the bucket that ends at `E` is beyond all before it, of which there
//!   is at least one.
//! - `Ratio {of, window, minCount, above | below}`, with `k` the records for which `of` is true: `n >= minCount`, and
//!   `k / n > above` or `k / n < below`. A field that is not there makes `of` false.
//!
//! A rule has *observed* from the latest of the instants at which it began with each of its partitions: the time of the first
//! record that it read there, but not before where the partition's event time stood then; where there is none to read, the
//! clock. Time in which the rule was suspended is not observed. So absence is told by the watermark alone:
//! a consumer that is down holds it, an idle partition does not.
//!
//! A group is *watched* from its first bucket on, or always where the rule names it; a rule without `groupBy` names its one
//! group. [`decide`] says when an alert fires, repeats and resolves; [`window`] what buckets and windows are.
//!
//! # Bounds
//!
//! Of more values in a bucket than a bound, which ones are kept depends on the values alone ([`values`]), so merging
//! stays exact for those. `Cardinality` keeps one more than its limit, so that crossing it is exact. `NewValue` remembers
//! [`decide::SEEN_KEPT`] values of a group; over that, those not seen for longest are forgotten, in event-time order. The
//! hub holds `maxGroups` groups of a rule, and a number and bytes of groups of a namespace: those bounds are on what is held at a
//! time, and depend on when records come.
//!
//! # The parts
//!
//! [`decode`] bytes → [`document`]; [`event_time`] when it was, where the record says so; [`progress`] how far a partition is; [`matching`] value → true or false; [`paths`] value → group; [`fold`] records → counts
//! (and [`sample`]s of them, and bounded [`values`]); [`decide`] counts → decisions; [`alert_data`] decisions → what texts speak of; [`replay`] all of it in
//! memory. [`domain::DropReason`] is why a record was not counted. A further format is a variant of `domain::Format` and a file in
//! [`decode`]; a further condition is one of `domain::Condition`, what it counts in `fold::aggregate`, and what it asks in
//! [`decide::WindowTest`]. The index in [`fold`] asks, of many rules, only those that a record may concern.
//!
//! Invariants: pure, bounded in memory and in work for each record, total: no input panics. Never here: a clock, I/O,
//! randomness, or a text's rendering.
#![warn(missing_docs)]

pub mod alert_data;
pub mod decide;
pub mod decode;
pub mod document;
pub mod event_time;
pub mod fold;
pub mod matching;
pub mod paths;
pub mod patterns;
pub mod progress;
pub mod record;
pub mod replay;
pub mod sample;
pub mod values;
pub mod window;

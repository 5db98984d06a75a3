//! The alert engine. `worker consume` decodes, matches and folds records with it; the hub merges and decides with it;
//! the command line runs all of it in one process.
//!
//! # The law
//!
//! Clause E1 of docs/semantics.md states it.
//!
//! **The alerts are a function of the set of records, not of the order in which they arrive.** For records that are not
//! late, any split over partitions and consumers, any order across partitions, any batch size, and any crash or
//! rebalance give the same alerts with the same counts: a count is a sum over (rule, group, bucket), "first" and "last"
//! are by (time, topic, partition, offset), and a bucket is decided once, in order of event time, when the watermark
//! has passed its end by `allowedLateness`. A record that arrives later than that only raises the number of late
//! records. A record is never late if its event time is at most `allowedLateness` before the broker appends it,
//! whatever other producers' clocks say and whenever it is read ([`progress`]).
//!
//! # The conditions
//!
//! Each condition is a question about one group at the boundary `E`, the end of a bucket. A window of length `W` is the
//! whole buckets in `[E - W, E)`, and `n` is the number of matched records in it.
//!
//! - `Any` with neither `repeatInterval` nor `resolve`: each matched record is at once a notification of its own.
//! - `Any` otherwise: `n >= 1` in a window of 1 s.
//! - `Frequency {count, window}`: `n >= count`.
//! - `Spike {ratio, window, minCount, direction}`, with `m` the records in `[E - 2W, E - W)`: up `n >= minCount` and
//!   `n >= ratio * m`; down `m >= minCount` and `m >= ratio * n`. Asked only if the rule has *observed* since `E - 2W`.
//! - `Flatline {below, window, groups}`: `n < below`, for a group that is *watched*. Asked only if the rule has
//!   observed since `E - W` and, for a group that the rule does not name, if the group's first bucket does not start
//!   after `E - W`.
//! - `NewValue {path, learnFor}`: the bucket that ends at `E` has a value that no earlier bucket of the group has, and
//!   `E` is more than `learnFor` after the start of the group's first bucket.
//! - `Cardinality {path, window, above | below}`, with `d` the distinct values in the window: `d > above`, or
//!   `d < below` for a watched group, under the same terms as `Flatline`.
//! - `Change {path}`: with the group's records ordered by (time, topic, partition, offset), a record in the bucket that
//!   ends at `E` has another value than the record before it.
//! - `Extreme {path, direction}`: in that order, a record in the bucket that ends at `E` is beyond all records before
//!   it, and there is at least one before it.
//! - `Ratio {of, window, minCount, above | below}`, with `k` the records for which `of` is true: `n >= minCount`, and
//!   `k / n > above` or `k / n < below`. A missing field makes `of` false.
//!
//! A rule has *observed* since the latest of the instants at which it began to read its partitions. For one partition
//! that instant is the time of the first record that the rule read there, or the partition's event time at that moment
//! if that is later; with no record to read, it is the clock. Time during which the rule was suspended is not observed.
//! So only the watermark decides on absence: a consumer that is down holds the watermark back, an idle partition does
//! not.
//!
//! A group is *watched* from its first bucket on, or always if the rule names it; a rule without `groupBy` names its
//! one group. [`decide`] says when an alert fires, repeats and resolves; [`window`] says what buckets and windows are.
//!
//! # Bounds
//!
//! If a bucket has more values than the bound, which ones are kept depends on the values alone ([`values`]), so merging
//! stays exact for those. `Cardinality` keeps one value more than its limit, so that crossing the limit is exact.
//! `NewValue` remembers [`decide::SEEN_KEPT`] values of a group; above that it forgets the values not seen for longest,
//! in event-time order. The hub holds at most `maxGroups` groups of a rule, and a bounded number and size of groups of
//! a namespace. Those bounds apply to what is held at one time, so their effect depends on when records arrive.
//!
//! # The modules
//!
//! [`decode`] turns bytes into a [`document`]; [`event_time`] reads the time that the record states; [`progress`]
//! tracks how far a partition has come; [`matching`] answers true or false for a record; [`paths`] finds its group;
//! [`fold`] counts records, with [`sample`]s and bounded [`values`]; [`decide`] turns counts into decisions;
//! [`alert_data`] collects what texts may use of a decision; [`replay`] runs all of it in memory.
//!
//! [`domain::DropReason`] says why a record was not counted. A new format is a variant of `domain::Format` and a file
//! in [`decode`]. A new condition is a variant of [`domain::Condition`], what it counts in `fold::aggregate`, and its
//! question in [`decide::WindowTest`]. The index in [`fold`] asks only the rules that a record may concern.
//!
//! Invariants: the crate is pure and total (no input panics), and bounds its memory and its work per record. It has no
//! clock, no I/O and no randomness, and renders no text.
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

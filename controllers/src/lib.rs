//! The three controllers: from what users declare to plans in the hub, children in their namespace, and a status that tells
//! the truth.
//!
//! Each reconcile reads as five steps: dereference, validate, build, apply, report. `validate` gives a type that cannot be
//! wrong, `build` is pure and cannot fail, `apply` is server-side apply and pruning by owner, `report` writes what differs.
//! The key of a reconcile is a namespace ([`queue`] says why).
//!
//! Never here: Kafka, a database, a Secret's value, or a finalizer.

pub mod admission;
pub mod cache;
mod calls;
pub mod channels;
pub mod children;
pub mod cluster;
pub mod conditions;
pub mod conflicts;
pub mod context;
pub mod guarded;
pub mod hub;
pub mod lint;
pub mod metrics;
pub mod queue;
pub mod rbac;
pub mod resources;
pub mod rules;
pub mod run;
pub mod schedules;
mod schema_check;
pub mod status;
mod steps;
#[cfg(test)]
mod tests;
pub mod validate;

//! The controllers: they turn the objects that users declare into plans for the hub, children in the users' namespaces,
//! and a status that is true.
//!
//! Each reconcile reads as five steps: dereference, validate, build, apply, report. `validate` returns a type that
//! cannot be wrong. `build` is pure and cannot fail. `apply` is server-side apply, and prunes by owner. `report` writes
//! only what differs. The key of a reconcile is a namespace; [`queue`] says why.
//!
//! The controllers don't use Kafka or a database, read no Secret, and set no finalizer.

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

//! The protocol between the hub and its callers (operator, workers, command line), versioned, and its client.
//!
//! Read [`messages`] first: one type for each request and answer; [`paths`] says which path each belongs to.
//! Nothing here knows Kubernetes, the database, or what an answer leads to.
#![warn(missing_docs)]

#[cfg(feature = "client")]
mod client;
pub mod messages;
pub mod paths;
#[cfg(feature = "client")]
mod split;
mod version;
pub mod weight;

#[cfg(feature = "client")]
pub use client::{Client, ClientConfig, Error, TokenSource};
pub use version::{HEADER, VERSION, Version, VersionError};

//! What operator and workers say to the hub, versioned, and the client they say it with.
//!
//! Read [`messages`] first: one type per request and answer, with the path it belongs to in [`paths`].
//! Never here: Kubernetes, a database, or what an answer leads to.
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

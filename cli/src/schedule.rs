//! The calendar behind `belfry schedule`, without a cluster.

pub(crate) mod expand;
pub(crate) mod export;
pub(crate) mod free;
pub(crate) mod import;
mod manifest;
mod names;
mod output;
pub(crate) mod preview;
mod read;
mod shifts;
mod text;

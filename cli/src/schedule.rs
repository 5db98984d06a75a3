//! `belfry schedule`: works with Schedules and calendars without a cluster.

mod checked;
mod clock_shifts;
pub(crate) mod expand;
pub(crate) mod export;
pub(crate) mod free;
pub(crate) mod import;
mod manifest;
mod names;
mod output;
pub(crate) mod preview;
mod text;

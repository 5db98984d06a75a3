//! The calendar behind `belfry schedule`, without a cluster.

pub(crate) mod expand;
mod text;

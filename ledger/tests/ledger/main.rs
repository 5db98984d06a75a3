//! What the ledger promises, on real files.

mod bed;
mod counting;
mod delivering;
mod ending;
mod objects;
mod property;
mod reporting;
mod storing;

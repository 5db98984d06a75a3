//! The alert engine: decodes, matches and folds records in `worker consume`; merges and decides in the hub.
#![warn(missing_docs)]

pub mod decide;
pub mod decode;
pub mod fold;
pub mod matching;
pub mod paths;
pub mod reason;
pub mod record;
pub mod sample;
pub mod window;

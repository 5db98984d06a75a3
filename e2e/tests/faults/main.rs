//! What happens when things break: each test breaks one of them for as long as users have seen it broken, and counts
//! what arrived. One at a time; needs the test bed's own cluster. Run by `make test`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panics")]

mod abuse;
mod certificates;
mod outages;
mod quiet;
mod schedules;
mod storage;
mod support;

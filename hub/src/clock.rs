//! The one place where the hub reads the clock. Requests and loops take the time from here once and hand it on; nothing
//! below them asks again.

use jiff::Timestamp;

/// Now, to the millisecond, which is what the ledger keeps.
#[allow(
    clippy::disallowed_methods,
    reason = "requests and background loops begin here; all below take the time as an argument"
)]
pub(crate) fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
}

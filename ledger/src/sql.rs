//! Converts between rows and values.

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use crate::Error;

/// Writes rows as one JSON parameter for `jsonb_each(?)`.
pub(crate) fn set<T: Serialize + ?Sized>(rows: &T) -> Result<String, Error> {
    Ok(serde_json::to_string(rows)?)
}

pub(crate) fn uuid(text: &str) -> Result<Uuid, Error> {
    Uuid::try_parse(text).map_err(|_| Error::Corrupt(format!("{text:?} is stored as an id")))
}

/// Converts Unix milliseconds to a time; out of range, the nearest time.
pub(crate) fn time(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(if ms < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

pub(crate) fn ms(time: Timestamp) -> i64 {
    time.as_millisecond()
}

//! Small helpers between rows and values.

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use crate::Error;

/// A set as one parameter for `jsonb_each(?)`.
pub(crate) fn set<T: Serialize + ?Sized>(rows: &T) -> Result<String, Error> {
    Ok(serde_json::to_string(rows)?)
}

pub(crate) fn uuid(text: &str) -> Result<Uuid, Error> {
    Uuid::try_parse(text).map_err(|_| Error::Corrupt(format!("{text:?} is stored as an id")))
}

/// Unix milliseconds to a time; beyond what a time can be, the nearest one.
pub(crate) fn time(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(if ms < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

pub(crate) fn ms(time: Timestamp) -> i64 {
    time.as_millisecond()
}

//! Reads a record's event time from the record itself, for rules with `eventTime`.
//!
//! Invariant: times are whole milliseconds, rounded down, within the years -9999 to 9999. A text that is not of the
//! given form has no time; nothing is guessed.

use domain::{EventTime, TimeForm};
use jiff::fmt::strtime::{self, BrokenDownTime};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, Zoned};

use crate::document::NodeData;
use crate::paths::{Path, PathError};
use crate::record::Record;

/// A compiled path, and the form in which the time is written there.
#[derive(Debug, Clone)]
pub struct CompiledEventTime {
    path: Path,
    form: CompiledForm,
}

#[derive(Debug, Clone)]
enum CompiledForm {
    Rfc3339,
    /// A number; this many are a second.
    Unix(i64),
    Pattern {
        pattern: String,
        zone: TimeZone,
    },
}

/// Why an `eventTime` is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventTimeError {
    /// Not a path.
    #[error("path: {0}")]
    Path(#[from] PathError),
    /// Not a pattern, or one that does not determine a time.
    #[error("pattern {pattern:?}: {message}; such as %Y-%m-%dT%H:%M:%S%.f%z")]
    Pattern {
        /// The pattern as written.
        pattern: String,
        /// What is wrong, in words.
        message: String,
    },
    /// No such time zone.
    #[error("timeZone {0:?} is not in the IANA database; such as Europe/Berlin")]
    TimeZone(String),
}

impl CompiledEventTime {
    /// Compiles a plan's `eventTime`.
    pub fn compile(plan: &EventTime) -> Result<Self, EventTimeError> {
        let path = Path::compile(&plan.path)?;
        let form = match &plan.form {
            TimeForm::Rfc3339 => CompiledForm::Rfc3339,
            TimeForm::UnixSeconds => CompiledForm::Unix(1),
            TimeForm::UnixMilliseconds => CompiledForm::Unix(1_000),
            TimeForm::Pattern { pattern, time_zone } => CompiledForm::Pattern {
                pattern: checked(pattern)?,
                zone: match time_zone {
                    None => TimeZone::UTC,
                    Some(name) => TimeZoneDatabase::bundled()
                        .get(name)
                        .map_err(|_| EventTimeError::TimeZone(name.clone()))?,
                },
            },
        };
        Ok(Self { path, form })
    }

    /// The record's event time, Unix ms; `None` if the path leads to nothing or to no time of this form.
    pub fn time_ms(&self, record: &Record<'_>) -> Option<i64> {
        let data = self.path.data(record)?;
        let time = match (&self.form, data) {
            (CompiledForm::Rfc3339, NodeData::Text(text)) => text.parse::<Timestamp>().ok()?,
            (CompiledForm::Unix(unit), data) => unix(*unit, data)?,
            (CompiledForm::Pattern { pattern, zone }, NodeData::Text(text)) => parse(pattern, zone, text)?,
            _ => return None,
        };
        // Rounded down, before 1970 too.
        Some(time.as_nanosecond().div_euclid(1_000_000) as i64)
    }
}

/// Reads a number, or a text that is a number; `unit` of them are a second.
fn unix(unit: i64, data: NodeData<'_>) -> Option<Timestamp> {
    match data {
        NodeData::Int(it) => whole(unit, it),
        NodeData::Double(it) => fractional(unit, it),
        NodeData::Text(text) => match text.parse::<i64>() {
            Ok(it) => whole(unit, it),
            Err(_) => fractional(unit, text.parse().ok()?),
        },
        _ => None,
    }
}

fn whole(unit: i64, it: i64) -> Option<Timestamp> {
    Timestamp::from_millisecond(it.checked_mul(1_000 / unit)?).ok()
}

/// A double of this size holds microseconds at best; rounding to them removes its error.
fn fractional(unit: i64, it: f64) -> Option<Timestamp> {
    let micros = (it * (1_000_000 / unit) as f64).round();
    // Every representable instant is far below 2^63 µs.
    (micros.abs() < 1e18).then(|| Timestamp::from_microsecond(micros as i64).ok())?
}

fn parse(pattern: &str, zone: &TimeZone, text: &str) -> Option<Timestamp> {
    let parsed = BrokenDownTime::parse(pattern, text).ok()?;
    if parsed.offset().is_some() || parsed.timestamp().is_some() {
        return parsed.to_timestamp().ok();
    }
    if parsed.iana_time_zone().is_some() {
        // A zone's name in each record would have to be looked up for each record.
        return None;
    }
    let civil = parsed.to_datetime().ok()?;
    // An ambiguous local time means the first of the two; a skipped one is moved forward by the gap.
    zone.to_ambiguous_timestamp(civil).compatible().ok()
}

/// Checks that a time written with the pattern can be read again.
fn checked(pattern: &str) -> Result<String, EventTimeError> {
    let wrong = |message: String| EventTimeError::Pattern { pattern: pattern.to_owned(), message };
    let sample = Zoned::new(Timestamp::UNIX_EPOCH, TimeZone::UTC);
    let text = strtime::format(pattern, &sample).map_err(|error| wrong(error.to_string()))?;
    match parse(pattern, &TimeZone::UTC, &text) {
        Some(_) => Ok(pattern.to_owned()),
        None => Err(wrong(
            "a time needs at least its year, month, day, hour and minute, and no name of a zone".to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::document::Document;
    use crate::record::RawRecord;

    fn time(form: TimeForm, value: &Value) -> Option<String> {
        let document = Document::from_json(&json!({"at": value}));
        let view = document.view("");
        let raw = RawRecord { topic: "logs", ..RawRecord::default() };
        let plan = EventTime { path: "record.at".to_owned(), form };
        let ms = CompiledEventTime::compile(&plan).unwrap().time_ms(&Record { raw, value: view.root() })?;
        Some(Timestamp::from_millisecond(ms).unwrap().to_string())
    }

    fn pattern(pattern: &str, zone: Option<&str>) -> TimeForm {
        TimeForm::Pattern { pattern: pattern.to_owned(), time_zone: zone.map(str::to_owned) }
    }

    #[test]
    fn each_form_is_read_to_the_millisecond() {
        let told = "2026-01-05T10:00:00.123Z";
        for (form, value) in [
            (TimeForm::Rfc3339, json!("2026-01-05T10:00:00.123Z")),
            (TimeForm::Rfc3339, json!("2026-01-05T11:00:00.123999+01:00")),
            (TimeForm::UnixSeconds, json!(1_767_607_200.123)),
            (TimeForm::UnixSeconds, json!("1767607200.123")),
            (TimeForm::UnixMilliseconds, json!(1_767_607_200_123_i64)),
            (TimeForm::UnixMilliseconds, json!("1767607200123")),
            (TimeForm::UnixMilliseconds, json!(1_767_607_200_123.75)),
            (pattern("%Y-%m-%d %H:%M:%S%.f", None), json!("2026-01-05 10:00:00.123")),
            (pattern("%Y-%m-%d %H:%M:%S,%3f %z", None), json!("2026-01-05 09:00:00,123 -0100")),
            (pattern("%d/%b/%Y:%H:%M:%S%.f", Some("Europe/Berlin")), json!("05/Jan/2026:11:00:00.123")),
        ] {
            assert_eq!(time(form.clone(), &value).as_deref(), Some(told), "{form:?} {value}");
        }
        assert_eq!(time(TimeForm::UnixSeconds, &json!(7)).as_deref(), Some("1970-01-01T00:00:07Z"));
        assert_eq!(time(TimeForm::UnixSeconds, &json!(-0.0005)).as_deref(), Some("1969-12-31T23:59:59.999Z"));
    }

    #[test]
    fn a_civil_time_across_a_change_of_the_clock_has_one_reading() {
        let berlin = || pattern("%F %T", Some("Europe/Berlin"));
        let of = |text: &str| time(berlin(), &json!(text)).unwrap();
        assert_eq!(of("2026-10-25 02:30:00"), "2026-10-25T00:30:00Z", "twice: the first");
        assert_eq!(of("2026-03-29 02:30:00"), "2026-03-29T01:30:00Z", "never: as much later");
    }

    #[test]
    fn what_is_no_time_of_the_form_is_none() {
        for (form, value) in [
            (TimeForm::Rfc3339, json!("2026-01-05 10:00")),
            (TimeForm::Rfc3339, json!("2026-01-05T10:00:00")),
            (TimeForm::Rfc3339, json!(1_767_607_200)),
            (TimeForm::Rfc3339, Value::Null),
            (TimeForm::UnixSeconds, json!("soon")),
            (TimeForm::UnixSeconds, json!("NaN")),
            (TimeForm::UnixSeconds, json!(1e300)),
            (TimeForm::UnixSeconds, json!(i64::MAX)),
            (TimeForm::UnixMilliseconds, json!(true)),
            (TimeForm::UnixMilliseconds, json!(u64::MAX)),
            (pattern("%F %T", None), json!("2026-02-30 10:00:00")),
            (pattern("%F %T", None), json!("")),
        ] {
            assert_eq!(time(form.clone(), &value), None, "{form:?} {value}");
        }
    }

    #[test]
    fn a_pattern_that_says_too_little_or_nothing_is_refused() {
        let compile = |form| CompiledEventTime::compile(&EventTime { path: "record.at".to_owned(), form });
        for (text, part) in [
            ("%H:%M", "at least its year"),
            ("%b %d %H:%M:%S", "at least its year"),
            ("%Q:%", "%"),
            ("", "at least its year"),
        ] {
            let error = compile(pattern(text, None)).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("such as %Y"), "{text}: {error}");
        }
        let error = compile(pattern("%F %T", Some("Europe/Atlantis"))).unwrap_err().to_string();
        assert!(error.contains("Europe/Atlantis") && error.contains("Europe/Berlin"), "{error}");
    }
}

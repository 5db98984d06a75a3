//! Shifts the time within a record's value, for `repeat` in tests of rules that read the time from there (`eventTime`).

use anyhow::{Context as _, bail};
use domain::{EventTime, TimeForm};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};

/// The record with the time at the path `by_ms` milliseconds later. A record without a time there stays as it is.
pub(crate) fn shift_time(
    record: &Map<String, Value>,
    to: &EventTime,
    by_ms: i64,
) -> anyhow::Result<Map<String, Value>> {
    let Some(path) = parse_path(&to.path) else {
        bail!("repeat can't move the time at {}: write the records one by one", to.path);
    };
    let mut record = record.clone();
    let Some(value) = record.get_mut("value") else {
        bail!("repeat can't move the time within a raw text: write the records one by one");
    };
    if value.is_string() {
        bail!("repeat can't move the time within a text: write the records one by one");
    }
    let Some(place) = path.iter().try_fold(value, |value, name| value.get_mut(name)) else {
        return Ok(record);
    };
    if !place.is_null() {
        let time = later(place, &to.form, by_ms);
        *place = time.with_context(|| format!("repeat can't move the time at {}, {place}", to.path))?;
    }
    Ok(record)
}

/// Parses a path into the value: `record.a.b`, `record["@timestamp"]`.
fn parse_path(path: &str) -> Option<Vec<String>> {
    let mut rest = path.strip_prefix("record")?;
    let mut names = Vec::new();
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix('[') {
            let quote = quoted.chars().next().filter(|char| ['"', '\''].contains(char))?;
            let (name, after) = quoted[1..].split_once(quote)?;
            names.push(name.to_owned());
            rest = after.strip_prefix(']')?;
        } else {
            let bare = rest.strip_prefix('.')?;
            let end = bare.find(['.', '[']).unwrap_or(bare.len());
            names.push(bare[..end].to_owned());
            rest = &bare[end..];
        }
    }
    (!names.is_empty() && names.iter().all(|name| !name.is_empty() && !name.contains(['\\', '`', '?'])))
        .then_some(names)
}

fn later(value: &Value, form: &TimeForm, by_ms: i64) -> anyhow::Result<Value> {
    let moved =
        |time: Timestamp| Ok::<_, anyhow::Error>(time.checked_add(SignedDuration::from_millis(by_ms))?);
    let text = value.as_str();
    // A number stays a number, and a text a text.
    let number = |unit: i64| {
        let read = text.map_or_else(|| value.to_string(), str::to_owned);
        if let (Ok(whole), 0) = (read.parse::<i64>(), by_ms % unit) {
            let moved = whole.checked_add(by_ms / unit).context("too late")?;
            return Ok(if text.is_some() { Value::from(moved.to_string()) } else { Value::from(moved) });
        }
        let moved = read.parse::<f64>().context("not a number")? + by_ms as f64 / unit as f64;
        Ok::<_, anyhow::Error>(if text.is_some() {
            Value::from(moved.to_string())
        } else {
            Value::from(moved)
        })
    };
    Ok(match form {
        TimeForm::UnixSeconds => number(1_000)?,
        TimeForm::UnixMilliseconds => number(1)?,
        TimeForm::Rfc3339 => Value::from(moved(text.context("not a text")?.parse()?)?.to_string()),
        TimeForm::Pattern { pattern, time_zone } => {
            let zone = time_zone.as_deref().map_or(Ok(TimeZone::UTC), TimeZone::get)?;
            let parsed = jiff::fmt::strtime::parse(pattern, text.context("not a text")?)?;
            let time = match parsed.to_timestamp() {
                Ok(time) => time,
                Err(_) => parsed.to_datetime()?.to_zoned(zone.clone())?.timestamp(),
            };
            Value::from(jiff::fmt::strtime::format(pattern, &moved(time)?.to_zoned(zone))?)
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_time_is_moved_in_the_form_that_it_has() {
        let pattern = TimeForm::Pattern { pattern: "%d.%m.%Y %H:%M:%S".to_owned(), time_zone: None };
        for (form, from, to) in [
            (TimeForm::Rfc3339, json!("2026-01-05T11:00:00+01:00"), json!("2026-01-05T10:00:02Z")),
            (TimeForm::UnixSeconds, json!(1_767_607_200), json!(1_767_607_202)),
            (TimeForm::UnixSeconds, json!("1767607200"), json!("1767607202")),
            (TimeForm::UnixSeconds, json!(1_767_607_200.5), json!(1_767_607_202.5)),
            (TimeForm::UnixMilliseconds, json!(1_767_607_200_000_i64), json!(1_767_607_202_000_i64)),
            (pattern, json!("05.01.2026 23:59:59"), json!("06.01.2026 00:00:01")),
        ] {
            let given = json!({"value": {"a": {"b": from}}, "key": "k"});
            let to_move = EventTime { path: "record.a.b".to_owned(), form };
            let moved = shift_time(given.as_object().unwrap(), &to_move, 2_000).unwrap();
            assert_eq!(moved["value"]["a"]["b"], to);
            assert_eq!(moved["key"], "k");
        }
    }

    #[test]
    fn a_path_may_have_names_in_brackets() {
        let path = |text: &str| parse_path(text).map(|names| names.join("|"));
        assert_eq!(path("record.a.b").as_deref(), Some("a|b"));
        assert_eq!(path("record[\"@timestamp\"]").as_deref(), Some("@timestamp"));
        assert_eq!(path("record['a.b'].c").as_deref(), Some("a.b|c"));
        for other in ["headers.time", "record", "record.a[0]", "record[\"a", "record..a", "timestamp"] {
            assert_eq!(parse_path(other), None, "{other}");
        }
    }

    #[test]
    fn a_record_without_a_time_stays_and_an_error_says_what_can_not_be_moved() {
        let to_move = EventTime { path: "record.t".to_owned(), form: TimeForm::Rfc3339 };
        let none = json!({"value": {"a": 1}});
        assert_eq!(Some(&shift_time(none.as_object().unwrap(), &to_move, 1).unwrap()), none.as_object());
        for bad in [json!({"raw": "t=1"}), json!({"value": "t=1"}), json!({"value": {"t": "soon"}})] {
            let error = shift_time(bad.as_object().unwrap(), &to_move, 1).unwrap_err();
            assert!(error.to_string().starts_with("repeat can't move"), "{error}");
        }
    }
}

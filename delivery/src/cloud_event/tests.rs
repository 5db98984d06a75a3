//! Checks that what is sent matches the documented schema, and that the schema has no field that is never sent.

use std::collections::BTreeSet;

use domain::{AlertKind, Cause, ReminderTime};
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::CloudEvent;
use crate::fixtures::{all, later, message, reminder};

fn schema() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/schemas/notification.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Checks values against the part of JSON Schema that the file uses. Any other keyword in it fails.
struct Check<'a> {
    root: &'a Value,
}

/// Properties that were found, as paths in the schema.
type Seen = BTreeSet<String>;

impl Check<'_> {
    #[allow(clippy::match_same_arms, reason = "an arm for each word")]
    fn at(&self, path: &str, value: &Value, seen: &mut Seen) -> Result<(), String> {
        let schema = self.root.pointer(path).unwrap_or_else(|| panic!("{path}"));
        let wrong = |why: &str| Err(format!("{path}: {value} {why}"));
        for (word, says) in schema.as_object().unwrap() {
            match word.as_str() {
                "$schema"
                | "$id"
                | "$defs"
                | "title"
                | "description"
                | "required"
                | "additionalProperties" => {}
                "$ref" => self.at(says.as_str().unwrap().strip_prefix('#').unwrap(), value, seen)?,
                "const" if says != value => return wrong("is another value"),
                "enum" if !says.as_array().unwrap().contains(value) => return wrong("is none of them"),
                "const" | "enum" => {}
                "type" => {
                    let fits = match says.as_str().unwrap() {
                        "string" => value.is_string(),
                        "integer" => value.is_i64(),
                        "boolean" => value.is_boolean(),
                        "array" => value.is_array(),
                        "object" => value.is_object(),
                        other => panic!("{path}: {other}"),
                    };
                    if !fits {
                        return wrong("is of another type");
                    }
                }
                "minimum" if value.as_i64() < says.as_i64() => return wrong("is too small"),
                "minimum" => {}
                "format" => {
                    let text = value.as_str().unwrap_or_default();
                    let fits = match says.as_str().unwrap() {
                        "uuid" => uuid::Uuid::try_parse(text).is_ok(),
                        "date-time" => text.parse::<Timestamp>().is_ok(),
                        other => panic!("{path}: {other}"),
                    };
                    if !fits {
                        return wrong("is of another form");
                    }
                }
                "items" => {
                    for item in value.as_array().into_iter().flatten() {
                        self.at(&format!("{path}/items"), item, seen)?;
                    }
                }
                "properties" => self.properties(path, schema, value, seen)?,
                "oneOf" => {
                    let fits = |at: usize| {
                        let mut own = Seen::new();
                        self.at(&format!("{path}/oneOf/{at}"), value, &mut own).map(|()| own)
                    };
                    let all: Vec<_> = (0..says.as_array().unwrap().len()).map(fits).collect();
                    let mut fitting = all.iter().flatten();
                    let (Some(own), None) = (fitting.next(), fitting.next()) else {
                        return Err(format!("{path}: not exactly one fits: {all:?}"));
                    };
                    seen.extend(own.iter().cloned());
                }
                other => panic!("{path}: {other} is not known to this test"),
            }
        }
        let more = &schema["additionalProperties"];
        if more.is_object() {
            for item in value.as_object().into_iter().flat_map(Map::values) {
                self.at(&format!("{path}/additionalProperties"), item, seen)?;
            }
        }
        Ok(())
    }

    fn properties(&self, path: &str, schema: &Value, value: &Value, seen: &mut Seen) -> Result<(), String> {
        let (known, value) = (schema["properties"].as_object().unwrap(), value.as_object().ok_or(path)?);
        assert_eq!(schema["additionalProperties"], false, "{path}: it must be exact");
        for needed in schema["required"].as_array().unwrap() {
            value.get(needed.as_str().unwrap()).ok_or_else(|| format!("{path}: {needed} is missing"))?;
        }
        for (name, value) in value {
            known.get(name).ok_or_else(|| format!("{path}: {name} is not documented"))?;
            self.at(&format!("{path}/properties/{name}"), value, seen)?;
            seen.insert(format!("{path}/properties/{name}"));
        }
        Ok(())
    }
}

fn documented(path: &str, schema: &Value, all: &mut Seen) {
    for (name, child) in schema.as_object().into_iter().flatten() {
        if name == "properties" {
            all.extend(child.as_object().unwrap().keys().map(|name| format!("{path}/properties/{name}")));
        }
        documented(&format!("{path}/{name}"), child, all);
    }
}

#[test]
fn every_body_is_as_documented_and_every_documented_field_is_sent() {
    let mut notifications: Vec<_> = all().into_iter().map(|(_, notification)| notification).collect();
    let mut full = later(AlertKind::Firing, None);
    if let Cause::Alert { alert, .. } = &mut full.cause {
        (alert.value, alert.previous) = (Some("7".to_owned()), Some("3".to_owned()));
        alert.values = vec!["a".to_owned()];
    }
    let mut day = reminder();
    if let Cause::Reminder { all_day, about, time, .. } = &mut day.cause {
        (*all_day, *about) = (true, domain::ScheduleDetails::default());
        *time = ReminderTime::At { at: jiff::civil::time(9, 0, 0, 0), days_before: 1 };
    }
    notifications.extend([full, day]);
    let schema = schema();
    let check = Check { root: &schema };
    let mut seen = Seen::new();
    for notification in notifications {
        let event = CloudEvent::new(&message(notification, ""));
        let data: Value = serde_json::from_str(event.data.get()).unwrap();
        check.at("/$defs/data", &data, &mut seen).unwrap();
        for body in [event.plain(), event.structured()] {
            check.at("", &serde_json::from_str(&body).unwrap(), &mut seen).unwrap();
        }
    }
    let mut known = Seen::new();
    documented("", &schema, &mut known);
    let never: Vec<_> = known.difference(&seen).collect();
    assert!(never.is_empty(), "documented and never sent: {never:#?}");
}

#[test]
fn a_field_that_is_not_documented_or_missing_is_found() {
    let schema = schema();
    let check = Check { root: &schema };
    let event = CloudEvent::new(&message(reminder(), ""));
    let data: Value = serde_json::from_str(event.data.get()).unwrap();
    for (path, name) in [("", "extra"), ("/cause", "extra"), ("/object", "extra")] {
        let mut wrong = data.clone();
        wrong.pointer_mut(path).unwrap()[name] = "x".into();
        assert!(check.at("/$defs/data", &wrong, &mut Seen::new()).is_err(), "{path}/{name}");
    }
    for name in ["delivery", "ask", "cause"] {
        let mut wrong = data.clone();
        wrong.as_object_mut().unwrap().remove(name);
        assert!(check.at("/$defs/data", &wrong, &mut Seen::new()).is_err(), "{name}");
    }
}

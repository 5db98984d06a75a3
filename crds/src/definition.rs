//! The CustomResourceDefinitions. This module corrects what the derive makes of the types.
//!
//! The derive writes `nullable` for every `Option`, formats of unsigned integers, and no default for status. Names of objects are
//! bounded here too, because names of child objects contain them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;
use serde_json::{Map, Value, json};

use crate::{AlertRule, BookableResource, NotificationChannel, Schedule};

/// One definition and the file that it is kept in.
pub struct Definition {
    /// File name under `crds/yaml`.
    pub file: &'static str,
    /// The whole definition, as JSON in the order that a reader expects.
    pub json: Value,
}

/// All four definitions, corrected.
pub fn definitions() -> [Definition; 4] {
    [
        Definition { file: "notificationchannels.yaml", json: corrected(&NotificationChannel::crd()) },
        Definition { file: "alertrules.yaml", json: corrected(&AlertRule::crd()) },
        Definition { file: "schedules.yaml", json: corrected(&Schedule::crd()) },
        Definition { file: "bookableresources.yaml", json: corrected(&BookableResource::crd()) },
    ]
}

fn corrected(crd: &CustomResourceDefinition) -> Value {
    // A definition is plain data: strings, numbers, lists and maps.
    let mut crd = serde_json::to_value(crd).unwrap_or_default();
    for version in crd.pointer_mut("/spec/versions").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(root) = version.pointer_mut("/schema/openAPIV3Schema") {
            correct_schema(root);
            root["x-kubernetes-validations"] = json!([{
                "rule": "self.metadata.name.size() <= 63",
                "message": "metadata.name must have at most 63 characters",
            }]);
            if let Some(status) = root.pointer_mut("/properties/status") {
                status["default"] = json!({"observedGeneration": -1});
                status["description"] =
                    json!("What operator, hub and workers know. Only the operator writes it.");
            }
            root["properties"]["spec"]["description"] = json!("What is wanted.");
        }
    }
    crd
}

/// For each pattern a message in words, because the API server would show only the pattern.
const WORDS: [(&str, &str); 24] = [
    (
        r"^https?://[^\s/@?#]+([/?#]\S*)?$",
        "must be an http or https URL without a user name or password, such as https://receiver.example.com/belfry",
    ),
    (r"^[A-Za-z0-9.\[\]:_-]+:[0-9]{1,5}$", "must be host:port, such as kafka.streams.svc:9092"),
    (r"^[a-zA-Z0-9._-]+$", "must be the name of a Kafka topic: letters, digits, '.', '_' and '-'"),
    (
        r"^[A-Za-z0-9]([A-Za-z0-9.:-]*[A-Za-z0-9])?$",
        "must be a host name or address, such as smtp.example.com; the port has a field of its own",
    ),
    (r"^[^\r\n]*@[^\r\n]*$", "must be a mailbox in one line, such as Belfry <belfry@example.com>"),
    (r"^[^\s@]+@[^\s@]+$", "must be an address such as minji@example.com"),
    (
        r"^[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}(:[0-9]{2})?)?$",
        "must be a local date and time without an offset, such as 2026-01-05T10:00:00 (its zone is in timeZone), or a date such as 2026-01-05",
    ),
    (r"^[A-Za-z][A-Za-z0-9_+/-]*$", "must be the IANA name of a time zone, such as Europe/Berlin or UTC"),
    (
        r"^[A-Za-z0-9=;,+-]+$",
        "must be an RRULE of RFC 5545 without its prefix and without spaces, such as FREQ=WEEKLY;BYDAY=MO,WE",
    ),
    (
        r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
        "must be the name of a Kubernetes object: lower-case letters, digits, '-' and '.'",
    ),
    (
        r"^(\.?[-_a-zA-Z0-9])[-._a-zA-Z0-9]*$",
        "must be a key of a Secret or ConfigMap: letters, digits, '-', '_' and '.'",
    ),
    (r"^[0-9]{1,4}(\.[0-9]{1,3})?$", "must be a number such as 2 or 2.5, with at most three decimals"),
    (
        r"^[0-9]{1,3}(\.[0-9]{1,3})?%$",
        "must be a percentage such as 5% or 99.9%, with at most three decimals",
    ),
    (
        r"^([0-9]{1,10}|[0-9]{1,3}(\.[0-9]{1,3})?%)$",
        "must be a number such as 10, or a percentage such as 2.5%",
    ),
    (r"^[^\x00-\x1f\x7f]+$", "must be a login name without control characters"),
    // A duration has a rule of its own, with its bounds.
    ("^([0-9]{1,5}(h|m|s|ms)){1,4}$", ""),
    (r"^([01][0-9]|2[0-3]):[0-5][0-9]$", "must be a time of day such as 09:00, from 00:00 to 23:59"),
    (r"^https://[^\s#]+$", "must be an https URL, such as https://id.example.com/token"),
    (r"^[\x20-\x7e]+$", "must be printable ASCII characters"),
    (r"^[A-Za-z0-9!#$%&*+.^_|~-]+$", "must be the name of a header, such as X-Api-Key"),
    (
        r"^([!-~]([ -~]*[!-~])?)?$",
        "must be printable ASCII characters without blanks around; what is secret goes into secretKeyRef",
    ),
    (
        r"^[A-Za-z0-9.+-]+/[A-Za-z0-9.+-]+(; *[A-Za-z0-9.+-]+=[A-Za-z0-9.+-]+)*$",
        "must be a content type, such as application/json or text/plain; charset=utf-8",
    ),
    (
        r"^[A-Za-z][A-Za-z0-9+.-]*:[!-~]+$",
        "must be a URL with its scheme, of ASCII characters, such as https://meet.example.com/standup",
    ),
    (
        r"^(\*|[a-z0-9]([-a-z0-9]*[a-z0-9])?)$",
        "must be the name of a namespace (lower-case letters, digits and '-'), or * for all",
    ),
];

/// Adds the validation rule with the pattern's message in words.
fn add_words(object: &mut Map<String, Value>) {
    let pattern = object.get("pattern").and_then(Value::as_str);
    let Some((pattern, words)) = WORDS.into_iter().find(|(known, _)| Some(*known) == pattern) else { return };
    if words.is_empty() {
        return;
    }
    let rule = json!({"rule": format!("self.matches(r'{pattern}')"), "message": words});
    match object.get_mut("x-kubernetes-validations") {
        Some(Value::Array(rules)) => rules.push(rule),
        _ => drop(object.insert("x-kubernetes-validations".to_owned(), json!([rule]))),
    }
}

/// Corrects a schema and everything below it.
fn correct_schema(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else { return };
    object.remove("nullable");
    object.remove("title");
    if object.get("default") == Some(&Value::Null) {
        object.remove("default");
    }
    if matches!(object.get("format").and_then(Value::as_str), Some(format) if format.starts_with("uint") || format == "double" || format == "float")
    {
        object.remove("format");
    }
    if object.get("type") == Some(&json!("integer")) && !object.contains_key("maximum") {
        object.insert("maximum".to_owned(), json!(i64::from(i32::MAX).max(widest(object))));
    }
    add_words(object);
    if let Some(text) = object.get_mut("description").and_then(|text| text.as_str().map(unwrapped)) {
        object.insert("description".to_owned(), Value::String(text));
    }
    for key in ["minimum", "maximum", "default"] {
        if let Some(whole) = object.get(key).and_then(Value::as_f64).filter(|number| number.fract() == 0.0) {
            object.insert(key.to_owned(), json!(whole as i64));
        }
    }
    if let Some(Value::Object(children)) = object.get_mut("properties") {
        children.values_mut().for_each(correct_schema);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(child) = object.get_mut(key) {
            correct_schema(child);
        }
    }
}

/// The largest integer of the format that all JSON parsers read exactly (2^53 for int64).
fn widest(object: &Map<String, Value>) -> i64 {
    if object.get("format") == Some(&json!("int64")) { 1 << 53 } else { 0 }
}

/// A doc comment's lines as one paragraph.
fn unwrapped(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

//! Checks a manifest's spec against the schema of its kind, and finds all violations at once.
//!
//! serde stops at the first value that it can't read. Here the spec is compared with the schema in the definition. Each
//! value that can't be read is replaced by a blank of the right type in a copy, so that the rest can still be
//! validated; what validation says about a blank, or about something that depends on one, is dropped. The schema's
//! expressions (CEL) are not evaluated, since validation checks the same. A message quotes at most a few words of a
//! value.

use std::collections::BTreeSet;
use std::fmt;

use regex::Regex;
use serde_json::{Map, Number, Value, json};

/// The result: the readable part of a spec, and what is wrong with it.
#[derive(Debug, Default)]
pub(crate) struct CheckedSpec {
    /// Values that can't be read, fields that are missing, and fields that don't exist.
    pub(crate) unreadable: Vec<Violation>,
    /// Values that can be read and are not allowed; validation may explain them better.
    pub(crate) refused: Vec<Violation>,
    /// The spec with blanks for what can't be read.
    pub(crate) readable: Value,
    /// The places of the blanks.
    blanks: BTreeSet<String>,
}

/// One violation, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    /// Such as `condition.frequency.window`.
    pub(crate) place: String,
    pub(crate) message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_sentence = ["is ", "has "].iter().any(|begin| self.message.starts_with(begin));
        write!(f, "{}{} {}", self.place, if is_sentence { "" } else { ":" }, self.message)
    }
}

/// A message about the first field may be caused by a blank in one of the others.
const DEPENDS: [(&str, &[&str]); 8] = [
    ("slack", &["type"]),
    ("title", &["groupBy", "topValues", "condition", "condition.type"]),
    ("summary", &["groupBy", "topValues", "condition", "condition.type"]),
    ("condition.flatline.groups", &["groupBy"]),
    (
        "resolve",
        &[
            "condition",
            "condition.type",
            "condition.frequency.count",
            "condition.cardinality.above",
            "condition.ratio.above",
        ],
    ),
    ("for", &["condition", "condition.type"]),
    ("repeatFactor", &["repeatInterval"]),
    ("start", &["allDay"]),
];

/// The longest quotation of a value, characters.
const MAX_QUOTE: usize = 60;

impl CheckedSpec {
    /// Checks `spec` against `schema`, the schema of this kind's spec.
    pub(crate) fn new(schema: &Value, spec: &Value) -> Self {
        let mut shape = Self { readable: spec.clone(), ..Self::default() };
        let mut readable = std::mem::take(&mut shape.readable);
        shape.value("", schema, &mut readable);
        shape.readable = readable;
        shape
    }

    /// Whether a message of validation may be caused by a blank.
    pub(crate) fn is_of_a_blank(&self, message: &str) -> bool {
        // A message without a place is about several fields together.
        let place = message.split([' ', ':']).next().unwrap_or_default();
        let is_place = message.get(place.len()..).is_some_and(|rest| rest.starts_with(':'))
            || self.blanks.contains(place);
        self.blanks.iter().any(|blank| {
            (is_place && (is_within(place, blank) || is_within(blank, place)))
                || starts_with_place(message, blank)
                || DEPENDS
                    .iter()
                    .any(|(of, on)| starts_with_place(message, of) && on.contains(&blank.as_str()))
        })
    }

    fn value(&mut self, place: &str, schema: &Value, value: &mut Value) {
        let kind = schema["type"].as_str().unwrap_or_default();
        let fits = match (kind, &*value) {
            ("object", Value::Object(_))
            | ("array", Value::Array(_))
            | ("string", Value::String(_))
            | ("boolean", Value::Bool(_))
            | ("number", Value::Number(_)) => true,
            ("integer", Value::Number(number)) => number.is_i64() || number.is_u64(),
            ("object" | "array" | "string" | "boolean" | "number" | "integer", _) => false,
            _ => return,
        };
        if !fits {
            let message = format!("{} is {}; {}", quoted(value), is(value), needed(kind, schema, value));
            self.unreadable(place, message);
            return self.blank(place, schema, value);
        }
        match value {
            Value::Object(fields) => self.fields(place, schema, fields),
            Value::Array(items) => self.items(place, schema, items),
            Value::String(text) => self.text(place, schema, text),
            Value::Number(number) => self.number(place, schema, number),
            Value::Null | Value::Bool(_) => {}
        }
    }

    fn fields(&mut self, place: &str, schema: &Value, fields: &mut Map<String, Value>) {
        // For the API server, null means absent.
        fields.retain(|_, value| !value.is_null());
        let names = schema["properties"].as_object();
        fields.retain(|name, value| {
            let field = join(place, name);
            match (&schema["properties"][name], &schema["additionalProperties"]) {
                (known @ Value::Object(_), _) | (_, known @ Value::Object(_)) => {
                    self.value(&field, known, value);
                    true
                }
                _ => {
                    let known: Vec<&str> =
                        names.into_iter().flat_map(Map::keys).map(String::as_str).collect();
                    let here = if place.is_empty() { "spec" } else { place };
                    let meant = known.iter().find(|known| known.eq_ignore_ascii_case(name));
                    let meant = meant.map_or(String::new(), |meant| format!("; is {meant} meant?"));
                    self.unreadable(
                        &field,
                        format!("there is no such field; {here} has {}{meant}", known.join(", ")),
                    );
                    false
                }
            }
        });
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if fields.contains_key(name) {
                continue;
            }
            let field = join(place, name);
            let of = &schema["properties"][name];
            let what = of["description"].as_str().unwrap_or_default();
            let what = what.split_once(". ").map_or(what, |(first, _)| first).trim_end_matches('.');
            self.unreadable(&field, format!("is missing: {what}"));
            let mut value = Value::Null;
            self.blank(&field, of, &mut value);
            fields.insert(name.to_owned(), value);
        }
        self.guess_type(place, schema, fields);
        self.count(place, schema, fields.len(), ["minProperties", "maxProperties"], "entries");
    }

    /// If the type is a blank, guesses it from the member that is there.
    fn guess_type(&self, place: &str, schema: &Value, fields: &mut Map<String, Value>) {
        if !self.blanks.contains(&join(place, "type")) {
            return;
        }
        let known = schema["properties"]["type"]["enum"].as_array().into_iter().flatten();
        let is_there = |name: &&Value| {
            let mut letters = name.as_str().unwrap_or_default().chars();
            let first = letters.next().map(|letter| letter.to_ascii_lowercase());
            fields.contains_key(&first.into_iter().chain(letters).collect::<String>())
        };
        if let Some(guess) = known.into_iter().find(is_there) {
            fields.insert("type".to_owned(), guess.clone());
        }
    }

    fn items(&mut self, place: &str, schema: &Value, items: &mut [Value]) {
        for (at, item) in items.iter_mut().enumerate() {
            self.value(&format!("{place}[{at}]"), &schema["items"], item);
        }
        self.count(place, schema, items.len(), ["minItems", "maxItems"], "values");
        if schema["x-kubernetes-list-type"] == "set" {
            for (at, item) in items.iter().enumerate().filter(|(at, item)| items[..*at].contains(item)) {
                self.refuse(&format!("{place}[{at}]"), format!("{} is there twice", quoted(item)));
            }
        }
    }

    fn text(&mut self, place: &str, schema: &Value, text: &mut String) {
        if let Some(allowed) = schema["enum"].as_array() {
            let allowed: Vec<&str> = allowed.iter().filter_map(Value::as_str).collect();
            if allowed.contains(&text.as_str()) {
                return;
            }
            let meant = allowed.iter().find(|allowed| allowed.eq_ignore_ascii_case(text));
            let hint = meant.map_or(String::new(), |meant| format!("; write {meant}"));
            let quoted = quoted(&json!(&*text));
            self.unreadable(place, format!("{quoted} is not one of {}{hint}", allowed.join(", ")));
            // The value that was probably meant lets the rest be judged properly.
            if meant.is_none() {
                self.blanks.insert(place.to_owned());
            }
            *text = meant.or(allowed.first()).map_or(String::new(), |it| (*it).to_owned());
            return;
        }
        if let Some(pattern) = schema["pattern"].as_str()
            && Regex::new(pattern).is_ok_and(|pattern| !pattern.is_match(text))
        {
            let words = words(schema).unwrap_or_else(|| format!("must match {pattern}"));
            return self.refuse(place, format!("{} is not allowed: it {words}", quoted(&json!(&*text))));
        }
        self.count(place, schema, text.chars().count(), ["minLength", "maxLength"], "characters");
    }

    fn number(&mut self, place: &str, schema: &Value, number: &Number) {
        let (least, most) = (schema["minimum"].as_i64(), schema["maximum"].as_i64());
        let Some(value) = number.as_i64() else { return };
        if least.is_some_and(|least| value < least) || most.is_some_and(|most| value > most) {
            let from = least.map_or(String::new(), |least| format!(" from {least}"));
            let to = most.map_or(String::new(), |most| format!(" to {most}"));
            self.refuse(place, format!("{value} is not{from}{to}"));
        }
    }

    fn count(&mut self, place: &str, schema: &Value, count: usize, bounds: [&str; 2], what: &str) {
        let [least, most] =
            bounds.map(|name| schema[name].as_u64().and_then(|bound| usize::try_from(bound).ok()));
        if let Some(least) = least.filter(|least| count < *least) {
            let at_least = format!("at least {least} are needed");
            let told = if count == 0 { "is empty".to_owned() } else { format!("has {count} {what}") };
            let needed = if count == 0 && least == 1 { String::new() } else { format!("; {at_least}") };
            self.refuse(place, format!("{told}{needed}"));
        }
        if let Some(most) = most.filter(|most| count > *most) {
            self.refuse(place, format!("has {count} {what}; at most {most} are allowed"));
        }
    }

    fn unreadable(&mut self, place: &str, message: String) {
        self.unreadable.push(Violation { place: place.to_owned(), message });
    }

    fn refuse(&mut self, place: &str, message: String) {
        self.refused.push(Violation { place: place.to_owned(), message });
    }

    /// Puts a value of the right type in place of one that can't be read.
    fn blank(&mut self, place: &str, schema: &Value, value: &mut Value) {
        self.blanks.insert(place.to_owned());
        *value = blank(schema);
    }
}

fn blank(schema: &Value) -> Value {
    if let Some(first) = schema["enum"].as_array().and_then(|allowed| allowed.first()) {
        return first.clone();
    }
    match schema["type"].as_str().unwrap_or_default() {
        "object" => {
            let needed = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let fields = needed.map(|name| (name.to_owned(), blank(&schema["properties"][name])));
            Value::Object(fields.collect())
        }
        "array" => json!([]),
        "boolean" => json!(false),
        "integer" | "number" => schema["minimum"].as_i64().map_or_else(|| json!(1), |least| json!(least)),
        _ => json!(""),
    }
}

fn join(place: &str, name: &str) -> String {
    if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") }
}

/// Whether a place is the same as another or within it.
fn is_within(place: &str, of: &str) -> bool {
    place.strip_prefix(of).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Whether a message is about a place or something within it.
pub(crate) fn starts_with_place(message: &str, place: &str) -> bool {
    message.strip_prefix(place).is_some_and(|rest| rest.starts_with(['.', '[', ':', ' ']))
}

fn quoted(value: &Value) -> String {
    let text = match value {
        Value::Object(_) => "{...}".to_owned(),
        Value::Array(_) => "[...]".to_owned(),
        other => other.to_string(),
    };
    if text.chars().count() <= MAX_QUOTE {
        return text;
    }
    text.chars().take(MAX_QUOTE).chain(" ...".chars()).collect()
}

fn is(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

/// What is needed instead.
fn needed(kind: &str, schema: &Value, value: &Value) -> String {
    let what = match kind {
        "object" => "a map of fields is needed",
        "array" => "a list is needed",
        "boolean" => "true or false is needed",
        "integer" => "a whole number is needed",
        "number" => "a number is needed",
        _ => "a text is needed",
    };
    let more = match (kind, value) {
        ("string", _) if words(schema).is_some() => words(schema).map(|words| {
            let words = words.strip_prefix("must be ").unwrap_or(&words);
            words.to_owned()
        }),
        ("string", Value::Number(_) | Value::Bool(_)) => {
            Some(format!("such as \"{value}\" in quotation marks"))
        }
        ("array", Value::String(text)) if text.len() <= MAX_QUOTE => Some(format!("such as [{text}]")),
        ("integer" | "boolean", Value::String(text))
            if text.parse::<i64>().is_ok() || text.parse::<bool>().is_ok() =>
        {
            Some("without quotation marks".to_owned())
        }
        _ => None,
    };
    more.map_or_else(|| what.to_owned(), |more| format!("{what}: {more}"))
}

/// The requirement in the schema's own words: `must be ...`.
fn words(schema: &Value) -> Option<String> {
    let rules = schema["x-kubernetes-validations"].as_array()?;
    let words = rules.iter().filter_map(|rule| rule["message"].as_str());
    words.into_iter().find(|words| words.starts_with("must be ")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_a_blank_or_of_what_depends_on_it_is_known() {
        let schema = json!({"type": "object", "properties": {
            "groupBy": {"type": "object", "additionalProperties": {"type": "string"}},
            "condition": {"type": "object", "required": ["type"], "properties": {
                "type": {"type": "string", "enum": ["Any", "Spike"]},
                "spike": {"type": "object", "properties": {"window": {"type": "string"}}},
            }},
        }});
        let shape =
            CheckedSpec::new(&schema, &json!({"condition": {"spike": {"window": 60}}, "groupBy": []}));
        let told: Vec<&str> = shape.unreadable.iter().map(|fault| fault.place.as_str()).collect();
        assert_eq!(told, ["condition.spike.window", "condition.type", "groupBy"]);
        for (message, hidden) in [
            ("condition: anything", true),
            ("condition.spike.window: is empty", true),
            ("condition.spike: exactly one", true),
            ("groupBy.a: \"\" is no path", true),
            ("title: there is no `group.a`", true),
            ("titles: there is", false),
            ("summaries", false),
            ("match: wrong", false),
            ("exactly one of duration and allDay: true is needed", false),
            ("condition.spike.windows: x", false),
        ] {
            assert_eq!(shape.is_of_a_blank(message), hidden, "{message}");
        }
        assert_eq!(shape.readable["condition"], json!({"type": "Spike", "spike": {"window": ""}}));
    }

    #[test]
    fn every_pattern_of_the_definitions_is_one() {
        fn patterns(schema: &Value, found: &mut usize) {
            if let Some(pattern) = schema["pattern"].as_str() {
                Regex::new(pattern).unwrap();
                *found += 1;
            }
            match schema {
                Value::Object(fields) => fields.values().for_each(|it| patterns(it, found)),
                Value::Array(items) => items.iter().for_each(|it| patterns(it, found)),
                _ => {}
            }
        }
        let mut found = 0;
        for definition in crds::definitions() {
            patterns(&definition.json, &mut found);
        }
        assert!(found > 50, "{found}");
    }
}

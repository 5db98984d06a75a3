//! Records kept to be shown, cut to a bounded size.
//!
//! Invariants: a sample's value takes at most about [`MAX_SAMPLE`] bytes as JSON; a `…` marks every cut, and no cut
//! splits a character.

use domain::Sample;
use serde_json::{Map, Value};

use crate::record::Record;

/// The approximate maximum size of a sample's value, bytes of JSON.
pub const MAX_SAMPLE: usize = 16 << 10;
/// The longest text in a sample that must be cut, bytes.
const MAX_TEXT: usize = 1 << 10;
/// How deep a sample that must be cut is kept.
const MAX_DEPTH: usize = 8;
/// Marks what was cut.
const CUT: &str = "…";

/// Takes a sample of the record.
pub fn sample(record: &Record<'_>) -> Sample {
    Sample { at: record.raw.record_ref(), value: cut(&record.value.to_json()) }
}

/// The approximate memory of a sample, bytes.
pub(crate) fn weight(sample: &Sample) -> usize {
    160 + size(&sample.value, usize::MAX)
}

/// The value if it fits. Otherwise long texts are cut, deep parts are left out, and as many elements and fields as fit
/// are kept.
pub(crate) fn cut(value: &Value) -> Value {
    if size(value, MAX_SAMPLE) <= MAX_SAMPLE {
        return value.clone();
    }
    let mut room = MAX_SAMPLE - 64;
    bounded(value, &mut room, MAX_DEPTH)
}

/// The approximate length of the value as JSON, bytes; stops counting beyond `enough`.
fn size(value: &Value, enough: usize) -> usize {
    let mut total: usize = 2;
    match value {
        Value::Null | Value::Bool(_) => total += 3,
        Value::Number(_) => total += 8,
        Value::String(text) => total += text.len(),
        Value::Array(items) => {
            for item in items {
                total += 1 + size(item, enough);
                if total > enough {
                    break;
                }
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                total += name.len() + 4 + size(field, enough);
                if total > enough {
                    break;
                }
            }
        }
    }
    total
}

fn bounded(value: &Value, room: &mut usize, depth: usize) -> Value {
    if depth == 0 && matches!(value, Value::Array(_) | Value::Object(_)) {
        *room = room.saturating_sub(8);
        return Value::from(CUT);
    }
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => {
            *room = room.saturating_sub(size(value, usize::MAX));
            value.clone()
        }
        Value::String(text) => {
            let text = short(text, MAX_TEXT.min(*room));
            *room = room.saturating_sub(text.len() + 2);
            Value::from(text)
        }
        Value::Array(items) => {
            let mut kept = Vec::new();
            for item in items {
                if *room < 16 {
                    kept.push(Value::from(CUT));
                    break;
                }
                *room = room.saturating_sub(3);
                kept.push(bounded(item, room, depth - 1));
            }
            Value::Array(kept)
        }
        Value::Object(fields) => {
            let mut kept = Map::new();
            for (name, field) in fields {
                if *room < 16 + name.len() {
                    kept.insert(CUT.to_owned(), Value::from(CUT));
                    continue;
                }
                *room = room.saturating_sub(name.len() + 6);
                kept.insert(name.clone(), bounded(field, room, depth - 1));
            }
            Value::Object(kept)
        }
    }
}

fn short(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = (0..=most.saturating_sub(CUT.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}{CUT}", &text[..end])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_fits_is_kept_whole() {
        let value = json!({"text": "x".repeat(15_000), "list": [1, null, true]});
        assert_eq!(cut(&value), value);
    }

    #[test]
    fn long_texts_are_cut_and_say_so_and_the_rest_stays() {
        let value = json!({"level": "WARN", "stack": "é".repeat(20_000), "z": 1});
        let kept = cut(&value);
        assert_eq!((&kept["level"], &kept["z"]), (&json!("WARN"), &json!(1)));
        let stack = kept["stack"].as_str().unwrap();
        assert!(stack.ends_with('…') && stack.len() <= MAX_TEXT, "{}", stack.len());
    }

    #[test]
    fn whatever_comes_is_bounded() {
        let deep = (0..100).fold(json!("x".repeat(20_000)), |inner, _| json!({"a": [inner]}));
        let many: Map<_, _> = (0..50_000).map(|n| (format!("field{n}"), json!(n))).collect();
        let texts: Vec<_> = (0..100).map(|_| "y".repeat(1_000)).collect();
        let names: Map<_, _> = (0..20).map(|n| (format!("{n}{}", "n".repeat(3_000)), json!(n))).collect();
        let list = vec![json!([]); 100_000];
        for value in
            [deep, json!("x".repeat(1 << 20)), Value::from(many), json!(texts), json!(names), json!(list)]
        {
            let kept = serde_json::to_string(&cut(&value)).unwrap();
            assert!(kept.len() <= MAX_SAMPLE + 1024, "{}", kept.len());
            assert!(kept.contains('…'));
        }
    }
}

//! The `cel` crate's interpreter, with a record's values as its variables.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use alerting::record::RawRecord;
use cel::objects::{Key, Map};
use cel::{Context, Env, ExecutionError, Program, Value};
use domain::DropReason;
use serde_json::Value as Json;

static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// An expression.
pub(crate) struct Interpreter(Program);

impl Interpreter {
    pub(crate) fn compile(expression: &str) -> Self {
        Self(ENV.compile(expression).unwrap())
    }

    pub(crate) fn answer(&self, raw: &RawRecord<'_>, value: &Json) -> Result<bool, DropReason> {
        let mut context = Context::with_env(ENV.clone());
        let headers: HashMap<Key, Value> =
            raw.headers.iter().map(|(name, value)| (Key::from(*name), text(*value))).collect();
        for (name, value) in [
            ("record", convert(value)),
            ("key", text(raw.key)),
            ("headers", Value::Map(Map { map: Arc::new(headers) })),
            ("topic", Value::from(raw.topic)),
            ("partition", Value::Int(i64::from(raw.partition))),
            (
                "timestamp",
                Value::Timestamp(
                    chrono::DateTime::from_timestamp_millis(raw.timestamp_ms).unwrap().fixed_offset(),
                ),
            ),
        ] {
            context.add_variable_from_value(name, value);
        }
        match self.0.execute(&context) {
            Ok(Value::Bool(answer)) => Ok(answer),
            Ok(_) => Err(DropReason::MatchNotBoolean),
            Err(error) => reason(&error).map_or(Ok(false), Err),
        }
    }
}

fn text(bytes: Option<&[u8]>) -> Value {
    bytes.and_then(|bytes| std::str::from_utf8(bytes).ok()).map_or(Value::Null, Value::from)
}

fn convert(value: &Json) -> Value {
    match value {
        Json::Null => Value::Null,
        Json::Bool(it) => Value::Bool(*it),
        Json::Number(it) => match (it.as_i64(), it.as_u64()) {
            (Some(int), _) => Value::Int(int),
            (None, Some(uint)) => Value::UInt(uint),
            (None, None) => Value::Float(it.as_f64().unwrap()),
        },
        Json::String(it) => Value::from(it.as_str()),
        Json::Array(items) => Value::List(Arc::new(items.iter().map(convert).collect())),
        Json::Object(fields) => {
            let fields =
                fields.iter().map(|(name, value)| (Key::from(name.as_str()), convert(value))).collect();
            Value::Map(Map { map: Arc::new(fields) })
        }
    }
}

/// The reason of an error; `None` if something is missing.
fn reason(error: &ExecutionError) -> Option<DropReason> {
    use ExecutionError as E;
    Some(match error {
        E::NoSuchKey(_) | E::IndexOutOfBounds(_) => return None,
        E::NoSuchOverload(overload)
            if matches!(overload.function(), "_._" | "_[_]")
                && overload.argument_types().first().is_some_and(|name| name == "null_type") =>
        {
            return None;
        }
        E::NoSuchOverload(_)
        | E::UnsupportedBinaryOperator(..)
        | E::UnexpectedType { .. }
        | E::ValuesNotComparable(..)
        | E::UnsupportedTargetType { .. }
        | E::NotSupportedAsMethod { .. }
        | E::UnsupportedKeyType(_)
        | E::UnsupportedIndex(..) => DropReason::MatchWrongType,
        E::DivisionByZero(_) | E::RemainderByZero(_) | E::Overflow(..) => DropReason::MatchArithmetic,
        _ => DropReason::MatchFailed,
    })
}

//! Records as CEL values, without copying text.
//!
//! Two forms of the same value: *lazy*, in which an object looks its fields up when they are asked for, and *whole*, in
//! which all is converted to cel's own lists and maps. The whole form serves expressions that build maps or iterate,
//! because cel's own maps only compare equal to cel's own maps. Never: another answer in one form than in the other.

use std::{any::Any, collections::HashMap};

use cel::{
    Env, ExecutionError,
    common::{
        traits::{Container, Indexer, Sizer},
        types::{
            self, CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelTimestamp,
            CelUInt, Type,
        },
        value::{CowVal, StaticVal, Val},
    },
};
use regex::Regex;
use serde_json::{Map, Value};

use crate::record::Header;

/// A value whose objects look their fields up when asked.
pub(super) fn lazy(value: &Value) -> Box<dyn Val + '_> {
    convert(value, false)
}

/// A value converted as a whole.
pub(super) fn whole(value: &Value) -> Box<dyn Val + '_> {
    convert(value, true)
}

fn convert(value: &Value, whole: bool) -> Box<dyn Val + '_> {
    match value {
        Value::Null => Box::new(CelNull),
        Value::Bool(it) => Box::new(CelBool::from(*it)),
        Value::Number(it) => match (it.as_i64(), it.as_u64()) {
            (Some(int), _) => Box::new(CelInt::from(int)),
            (None, Some(uint)) => Box::new(CelUInt::from(uint)),
            (None, None) => Box::new(CelDouble::from(it.as_f64().unwrap_or(f64::NAN))),
        },
        Value::String(it) => Box::new(CelString::from(it.as_str())),
        Value::Array(items) => {
            Box::new(CelList::from(items.iter().map(|item| convert(item, whole)).collect::<Vec<_>>()))
        }
        Value::Object(fields) if whole => Box::new(map(fields)),
        Value::Object(fields) => Box::new(Object(fields)),
    }
}

fn map(fields: &Map<String, Value>) -> CelMap<'_> {
    CelMap::from(
        fields
            .iter()
            .map(|(name, value)| (CelMapKey::from(name.as_str()), whole(value)))
            .collect::<HashMap<_, _>>(),
    )
}

/// A header map: of those with the same name the last.
pub(super) fn headers<'r>(headers: &'r [Header<'r>]) -> Box<dyn Val + 'r> {
    Box::new(CelMap::from(
        headers
            .iter()
            .map(|(name, value)| {
                let text = value.and_then(|value| std::str::from_utf8(value).ok());
                (CelMapKey::from(*name), text_or_null(text))
            })
            .collect::<HashMap<_, _>>(),
    ))
}

pub(super) fn text_or_null(text: Option<&str>) -> Box<dyn Val + '_> {
    match text {
        Some(text) => Box::new(CelString::from(text)),
        None => Box::new(CelNull),
    }
}

pub(super) fn int(number: i64) -> Box<dyn Val> {
    Box::new(CelInt::from(number))
}

/// An instant; null where CEL can't hold it.
pub(super) fn timestamp(at_ms: i64) -> Box<dyn Val> {
    match chrono::DateTime::from_timestamp_millis(at_ms) {
        Some(at) => Box::new(CelTimestamp::from(at.fixed_offset())),
        None => Box::new(CelNull),
    }
}

/// A JSON object that looks its fields up when asked.
#[derive(Debug, Clone, Copy)]
struct Object<'r>(&'r Map<String, Value>);

impl Val for Object<'_> {
    fn get_type(&self) -> &Type {
        <Self as Val>::cel_type()
    }

    fn cel_type() -> &'static Type {
        &types::MAP_TYPE
    }

    fn as_container(&self) -> Option<&dyn Container> {
        Some(self)
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_sizer(&self) -> Option<&dyn Sizer> {
        Some(self)
    }

    fn equals(&self, other: &dyn Val) -> bool {
        // In a lazy evaluation the other side is lazy too, and gives no access to its fields but one by one.
        other.get_type() == self.get_type()
            && other.as_sizer().is_some_and(|sizer| sizer.size() == self.size())
            && other.as_indexer().is_some_and(|fields| {
                self.0.iter().all(|(name, value)| {
                    fields
                        .get(&CelString::from(name.as_str()))
                        .is_ok_and(|theirs| lazy(value).equals(theirs.as_ref()))
                })
            })
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(*self)
    }
}

impl Indexer for Object<'_> {
    fn get<'b, 'v>(&'b self, index: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let Some(name) = index.downcast_ref::<CelString>() else {
            return Err(if is_key(index) {
                ExecutionError::no_such_key("")
            } else {
                ExecutionError::UnexpectedType {
                    got: index.get_type().name().to_owned(),
                    want: "map key".to_owned(),
                }
            });
        };
        match self.0.get(name.inner()) {
            Some(value) => Ok(CowVal::Owned(lazy(value))),
            None => Err(ExecutionError::no_such_key(name.inner())),
        }
    }

    fn steal<'v>(self: Box<Self>, index: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.get(index).map(CowVal::into_owned)
    }
}

impl Container for Object<'_> {
    fn contains(&self, key: &dyn Val) -> Result<bool, ExecutionError> {
        match key.downcast_ref::<CelString>() {
            Some(name) => Ok(self.0.contains_key(name.inner())),
            None if is_key(key) => Ok(false),
            None => Err(ExecutionError::UnsupportedKeyType(cel::Value::Null)),
        }
    }
}

impl Sizer for Object<'_> {
    fn size(&self) -> CelInt {
        CelInt::from(self.0.len() as i64)
    }
}

/// Whether a map can be asked for such a key, though an object's are strings.
fn is_key(value: &dyn Val) -> bool {
    [&types::BOOL_TYPE, &types::INT_TYPE, &types::UINT_TYPE, &types::DOUBLE_TYPE]
        .into_iter()
        .any(|it| it == value.get_type())
}

static REGEX: Type = Type::new_unspecified_type("belfry.Regex");

/// A pattern of `matches`, compiled once. An automaton: linear in the text.
#[derive(Debug, Clone)]
pub(super) struct CompiledRegex(pub(super) Regex);

impl Val for CompiledRegex {
    fn get_type(&self) -> &Type {
        <Self as Val>::cel_type()
    }

    fn cel_type() -> &'static Type {
        &REGEX
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for CompiledRegex {}

/// Declares `text.matches(pattern)` and `matches(text, pattern)` for compiled patterns.
pub(super) fn declare(env: &mut Env) {
    let arguments = || vec![types::STRING_TYPE, REGEX.to_owned()];
    // The standard library has `matches` for two strings; this signature is free, so neither can fail.
    let global = env.add_overload("matches", "belfry_matches", arguments(), is_match);
    let member = env.add_member_overload(
        "matches",
        "belfry_string_matches",
        types::STRING_TYPE,
        vec![REGEX.to_owned()],
        is_match,
    );
    debug_assert!(global.is_ok() && member.is_ok(), "{global:?} {member:?}");
}

#[expect(clippy::needless_pass_by_value, reason = "cel's type of functions")]
fn is_match<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let [text, pattern] = arguments.as_slice() else {
        return Err(ExecutionError::missing_argument_or_target());
    };
    match (text.downcast_ref::<CelString>(), pattern.downcast_ref::<CompiledRegex>()) {
        (Some(text), Some(pattern)) => Ok(CowVal::owned(CelBool::from(pattern.0.is_match(text.inner())))),
        _ => Err(ExecutionError::missing_argument_or_target()),
    }
}

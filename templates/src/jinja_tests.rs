//! The template language's tests (`x is divisibleby(3)`), and the meaning of `in`.

use crate::filters::CallArguments;
use crate::meter::{Meter, Stop, fault};
use crate::render::TemplateRenderer;
use crate::value::{Value, equal, order};

/// A test of the template language.
pub(crate) struct TemplateTest {
    pub(crate) name: &'static str,
    /// The most arguments that it takes.
    pub(crate) most: usize,
    pub(crate) holds: fn(&mut TemplateRenderer<'_>, &Value, &CallArguments) -> Result<bool, Stop>,
}

const fn test(
    name: &'static str,
    most: usize,
    holds: fn(&mut TemplateRenderer<'_>, &Value, &CallArguments) -> Result<bool, Stop>,
) -> TemplateTest {
    TemplateTest { name, most, holds }
}

static TESTS: [TemplateTest; 39] = [
    test("undefined", 0, |_, it, _| Ok(it.is_undefined())),
    test("defined", 0, |_, it, _| Ok(!it.is_undefined())),
    test("none", 0, |_, it, _| Ok(matches!(it, Value::None))),
    test("safe", 0, |_, it, _| Ok(matches!(it, Value::Text(_, true)))),
    test("escaped", 0, |_, it, _| Ok(matches!(it, Value::Text(_, true)))),
    test("boolean", 0, |_, it, _| Ok(matches!(it, Value::Bool(_)))),
    test("odd", 0, |_, it, _| Ok(it.int().is_some_and(|it| it % 2 != 0))),
    test("even", 0, |_, it, _| Ok(it.int().is_some_and(|it| it % 2 == 0))),
    test("divisibleby", 1, |_, it, given| {
        let by = given.required(0)?.int();
        Ok(it.int().zip(by).is_some_and(|(it, by)| it.checked_rem(by) == Some(0)))
    }),
    test("number", 0, |_, it, _| Ok(it.number().is_some())),
    test("integer", 0, |_, it, _| Ok(matches!(it, Value::Int(_)))),
    test("int", 0, |_, it, _| Ok(matches!(it, Value::Int(_)))),
    test("float", 0, |_, it, _| Ok(matches!(it, Value::Float(_)))),
    test("string", 0, |_, it, _| Ok(it.text().is_some())),
    test("sequence", 0, |_, it, _| Ok(matches!(it, Value::List(_)))),
    test("iterable", 0, |_, it, _| Ok(matches!(it, Value::List(_) | Value::Map(_) | Value::Text(..)))),
    test("mapping", 0, |_, it, _| Ok(matches!(it, Value::Map(_)))),
    test("startingwith", 1, |renderer, it, given| {
        let (text, start) =
            (it.to_text(&mut renderer.meter)?, given.required(0)?.to_text(&mut renderer.meter)?);
        renderer.meter.bytes(start.len())?;
        Ok(text.starts_with(&*start))
    }),
    test("endingwith", 1, |renderer, it, given| {
        let (text, end) =
            (it.to_text(&mut renderer.meter)?, given.required(0)?.to_text(&mut renderer.meter)?);
        renderer.meter.bytes(end.len())?;
        Ok(text.ends_with(&*end))
    }),
    test("lower", 0, |renderer, it, _| of_case(renderer, it, char::is_lowercase, char::is_uppercase)),
    test("upper", 0, |renderer, it, _| of_case(renderer, it, char::is_uppercase, char::is_lowercase)),
    test("eq", 1, is_equal),
    test("equalto", 1, is_equal),
    test("==", 1, is_equal),
    test("ne", 1, |renderer, it, given| is_equal(renderer, it, given).map(|it| !it)),
    test("!=", 1, |renderer, it, given| is_equal(renderer, it, given).map(|it| !it)),
    test("lt", 1, |renderer, it, given| Ok(ordered(renderer, it, given)?.is_lt())),
    test("lessthan", 1, |renderer, it, given| Ok(ordered(renderer, it, given)?.is_lt())),
    test("<", 1, |renderer, it, given| Ok(ordered(renderer, it, given)?.is_lt())),
    test("le", 1, |renderer, it, given| Ok(ordered(renderer, it, given)?.is_le())),
    test("<=", 1, |renderer, it, given| Ok(ordered(renderer, it, given)?.is_le())),
    test("gt", 1, |renderer, it, given| Ok(ordered(renderer, it, given)?.is_gt())),
    test("greaterthan", 1, |renderer, it, given| Ok(ordered(renderer, it, given)?.is_gt())),
    test(">", 1, |renderer, it, given| Ok(ordered(renderer, it, given)?.is_gt())),
    test("ge", 1, |renderer, it, given| Ok(ordered(renderer, it, given)?.is_ge())),
    test(">=", 1, |renderer, it, given| Ok(ordered(renderer, it, given)?.is_ge())),
    test("in", 1, |renderer, it, given| contains(&mut renderer.meter, given.required(0)?, it)),
    test("true", 0, |_, it, _| Ok(matches!(it, Value::Bool(true)))),
    test("false", 0, |_, it, _| Ok(matches!(it, Value::Bool(false)))),
];

/// The test of this name.
pub(crate) fn find(name: &str) -> Option<&'static TemplateTest> {
    TESTS.iter().find(|test| test.name == name)
}

fn is_equal(renderer: &mut TemplateRenderer<'_>, it: &Value, given: &CallArguments) -> Result<bool, Stop> {
    equal(&mut renderer.meter, it, given.required(0)?)
}

fn ordered(
    renderer: &mut TemplateRenderer<'_>,
    it: &Value,
    given: &CallArguments,
) -> Result<std::cmp::Ordering, Stop> {
    order(&mut renderer.meter, it, given.required(0)?, false)
}

fn of_case(
    renderer: &mut TemplateRenderer<'_>,
    it: &Value,
    of: fn(char) -> bool,
    not: fn(char) -> bool,
) -> Result<bool, Stop> {
    let Some(text) = it.text() else { return Ok(false) };
    renderer.meter.bytes(4 * text.len())?;
    Ok(text.chars().any(of) && !text.chars().any(not))
}

/// Whether a text contains this part, a list this element, or a map this key.
pub(crate) fn contains(meter: &mut Meter<'_>, of: &Value, what: &Value) -> Result<bool, Stop> {
    match of {
        Value::Undefined { .. } => Ok(false),
        Value::Text(text, _) => {
            let part = what.to_text(meter)?;
            meter.bytes(4 * (text.len() + part.len()))?;
            Ok(text.contains(&*part))
        }
        Value::List(items) => {
            for item in items.iter() {
                if equal(meter, item, what)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        Value::Map(_) => Ok(!of.item(meter, what)?.is_undefined()),
        other => fault(format!("`in` does not look into a {}", other.kind())),
    }
}

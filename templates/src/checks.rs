//! Tests (`x is divisibleby(3)`), and what `in` means.

use crate::filters::Given;
use crate::meter::{Meter, Stop, fault};
use crate::run::Run;
use crate::value::{Value, equal, order};

/// A test.
pub(crate) struct Test {
    pub(crate) name: &'static str,
    /// The most arguments.
    pub(crate) most: usize,
    pub(crate) run: fn(&mut Run<'_>, &Value, &Given) -> Result<bool, Stop>,
}

const fn test(
    name: &'static str,
    most: usize,
    run: fn(&mut Run<'_>, &Value, &Given) -> Result<bool, Stop>,
) -> Test {
    Test { name, most, run }
}

static TESTS: [Test; 39] = [
    test("undefined", 0, |_, it, _| Ok(it.is_undefined())),
    test("defined", 0, |_, it, _| Ok(!it.is_undefined())),
    test("none", 0, |_, it, _| Ok(matches!(it, Value::None))),
    test("safe", 0, |_, it, _| Ok(matches!(it, Value::Text(_, true)))),
    test("escaped", 0, |_, it, _| Ok(matches!(it, Value::Text(_, true)))),
    test("boolean", 0, |_, it, _| Ok(matches!(it, Value::Bool(_)))),
    test("odd", 0, |_, it, _| Ok(it.int().is_some_and(|it| it % 2 != 0))),
    test("even", 0, |_, it, _| Ok(it.int().is_some_and(|it| it % 2 == 0))),
    test("divisibleby", 1, |_, it, given| {
        let by = given.needed(0)?.int();
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
    test("startingwith", 1, |run, it, given| {
        let (text, start) = (it.to_text(&mut run.meter)?, given.needed(0)?.to_text(&mut run.meter)?);
        run.meter.bytes(start.len())?;
        Ok(text.starts_with(&*start))
    }),
    test("endingwith", 1, |run, it, given| {
        let (text, end) = (it.to_text(&mut run.meter)?, given.needed(0)?.to_text(&mut run.meter)?);
        run.meter.bytes(end.len())?;
        Ok(text.ends_with(&*end))
    }),
    test("lower", 0, |run, it, _| of_case(run, it, char::is_lowercase, char::is_uppercase)),
    test("upper", 0, |run, it, _| of_case(run, it, char::is_uppercase, char::is_lowercase)),
    test("eq", 1, is_equal),
    test("equalto", 1, is_equal),
    test("==", 1, is_equal),
    test("ne", 1, |run, it, given| is_equal(run, it, given).map(|it| !it)),
    test("!=", 1, |run, it, given| is_equal(run, it, given).map(|it| !it)),
    test("lt", 1, |run, it, given| Ok(ordered(run, it, given)?.is_lt())),
    test("lessthan", 1, |run, it, given| Ok(ordered(run, it, given)?.is_lt())),
    test("<", 1, |run, it, given| Ok(ordered(run, it, given)?.is_lt())),
    test("le", 1, |run, it, given| Ok(ordered(run, it, given)?.is_le())),
    test("<=", 1, |run, it, given| Ok(ordered(run, it, given)?.is_le())),
    test("gt", 1, |run, it, given| Ok(ordered(run, it, given)?.is_gt())),
    test("greaterthan", 1, |run, it, given| Ok(ordered(run, it, given)?.is_gt())),
    test(">", 1, |run, it, given| Ok(ordered(run, it, given)?.is_gt())),
    test("ge", 1, |run, it, given| Ok(ordered(run, it, given)?.is_ge())),
    test(">=", 1, |run, it, given| Ok(ordered(run, it, given)?.is_ge())),
    test("in", 1, |run, it, given| contains(&mut run.meter, given.needed(0)?, it)),
    test("true", 0, |_, it, _| Ok(matches!(it, Value::Bool(true)))),
    test("false", 0, |_, it, _| Ok(matches!(it, Value::Bool(false)))),
];

/// The test of this name.
pub(crate) fn find(name: &str) -> Option<&'static Test> {
    TESTS.iter().find(|test| test.name == name)
}

fn is_equal(run: &mut Run<'_>, it: &Value, given: &Given) -> Result<bool, Stop> {
    equal(&mut run.meter, it, given.needed(0)?)
}

fn ordered(run: &mut Run<'_>, it: &Value, given: &Given) -> Result<std::cmp::Ordering, Stop> {
    order(&mut run.meter, it, given.needed(0)?, false)
}

fn of_case(run: &mut Run<'_>, it: &Value, of: fn(char) -> bool, not: fn(char) -> bool) -> Result<bool, Stop> {
    let Some(text) = it.text() else { return Ok(false) };
    run.meter.bytes(4 * text.len())?;
    Ok(text.chars().any(of) && !text.chars().any(not))
}

/// Whether a text has this part, a list this element, a map this key.
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

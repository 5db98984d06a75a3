//! MiniJinja's filters, each charged by the size of what it reads and builds.
//!
//! Filters whose results may be far larger than their input, and which texts of alerts don't need, are left out:
//! `indent`, `format`, `batch`, `slice`, `groupby`, `chain`, `zip`, `pprint`, `urlencode`.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::jinja_tests;
use crate::meter::{BoundedText, MAX_TEXT, Meter, Stop, fault};
use crate::render::{TemplateRenderer, escaped};
use crate::tree::{Arithmetic, Name};
use crate::value::{Number, UNDEFINED, Value, order, sorted};

type Apply = fn(&mut TemplateRenderer<'_>, &Value, &CallArguments) -> Result<Value, Stop>;

/// A filter.
pub(crate) struct Filter {
    pub(crate) name: &'static str,
    /// The most positional arguments.
    pub(crate) most: usize,
    /// The names of named arguments.
    pub(crate) named: &'static [&'static str],
    /// Whether it accepts an undefined value.
    pub(crate) lenient: bool,
    pub(crate) apply: Apply,
}

/// The arguments of a call.
#[derive(Default)]
pub(crate) struct CallArguments {
    pub(crate) positional: Vec<Value>,
    pub(crate) named: Vec<(Name, Value)>,
}

impl CallArguments {
    /// The argument at this position.
    fn at(&self, position: usize) -> Option<&Value> {
        self.positional.get(position)
    }

    /// The argument of this name.
    fn by_name(&self, name: &str) -> Option<&Value> {
        self.named.iter().find(|(known, _)| &**known == name).map(|(_, value)| value)
    }

    /// The argument at this position or of this name; `None` if it is none.
    fn either(&self, position: usize, name: &str) -> Option<&Value> {
        self.at(position).or_else(|| self.by_name(name)).filter(|it| !matches!(it, Value::None))
    }

    /// The argument at this position, which is required.
    pub(crate) fn required(&self, position: usize) -> Result<&Value, Stop> {
        match self.at(position) {
            Some(value) if value.is_missing() => Err(Stop::Undefined(String::new())),
            Some(value) => Ok(value),
            None => fault("an argument is missing"),
        }
    }

    fn is(&self, name: &str) -> bool {
        self.by_name(name).is_some_and(Value::is_true)
    }
}

const fn filter(name: &'static str, most: usize, named: &'static [&'static str], apply: Apply) -> Filter {
    Filter { name, most, named, lenient: false, apply }
}

const fn lenient(name: &'static str, most: usize, apply: Apply) -> Filter {
    Filter { name, most, named: &[], lenient: true, apply }
}

const ANY: usize = usize::MAX;
const SORTED: &[&str] = &["attribute", "case_sensitive", "reverse"];
const PICKED: &[&str] = &["attribute", "case_sensitive"];

static FILTERS: [Filter; 41] = [
    filter("safe", 0, &[], |renderer, it, _| Ok(Value::Text(it.to_text(&mut renderer.meter)?, true))),
    filter("escape", 0, &[], escape),
    filter("e", 0, &[], escape),
    filter("lower", 0, &[], |renderer, it, _| mapped(renderer, it, str::to_lowercase)),
    filter("upper", 0, &[], |renderer, it, _| mapped(renderer, it, str::to_uppercase)),
    filter("title", 0, &[], |renderer, it, _| mapped(renderer, it, title)),
    filter("capitalize", 0, &[], |renderer, it, _| mapped(renderer, it, capitalize)),
    filter("replace", 2, &[], replace),
    filter("length", 0, &[], length),
    filter("count", 0, &[], length),
    filter("dictsort", 0, &["by", "case_sensitive", "reverse"], dictsort),
    filter("items", 0, &[], |renderer, it, _| Ok(pairs(renderer, it)?.into())),
    filter("reverse", 0, &[], reverse),
    filter("trim", 1, &[], trim),
    filter("join", 2, &["d", "attribute"], join),
    filter("split", 2, &[], split),
    filter("truncate", 3, &["length", "killwords", "end"], truncate),
    filter("tojson", 0, &[], |renderer, it, _| {
        let mut json = BoundedText::value();
        it.write_json(&mut renderer.meter, &mut json)?;
        Ok(Value::Text(json.text.into(), true))
    }),
    filter("lines", 0, &[], lines),
    lenient("default", 2, default),
    lenient("d", 2, default),
    filter("round", 2, &["precision", "method"], round),
    filter("abs", 0, &[], |_, it, _| match it {
        Value::Int(it) => {
            it.checked_abs().map_or_else(|| fault("a number too large"), |it| Ok(Value::Int(it)))
        }
        Value::Float(it) => Ok(Value::Float(it.abs())),
        _ => fault("`abs` is for numbers"),
    }),
    filter("int", 2, &["default", "base"], int),
    filter("float", 1, &["default"], float),
    filter("attr", 1, &[], |renderer, it, given| it.item(&mut renderer.meter, given.required(0)?)),
    filter("first", 0, &[], |renderer, it, _| match it {
        Value::Text(text, _) => {
            Ok(text.chars().next().map_or(UNDEFINED, |it| it.to_string().as_str().into()))
        }
        _ => Ok(it.items(&mut renderer.meter)?.first().cloned().unwrap_or(UNDEFINED)),
    }),
    filter("last", 0, &[], |renderer, it, _| match it {
        Value::Text(text, _) => {
            Ok(text.chars().next_back().map_or(UNDEFINED, |it| it.to_string().as_str().into()))
        }
        _ => Ok(it.items(&mut renderer.meter)?.last().cloned().unwrap_or(UNDEFINED)),
    }),
    filter("min", 0, PICKED, |renderer, it, given| extreme(renderer, it, given, std::cmp::Ordering::is_lt)),
    filter("max", 0, PICKED, |renderer, it, given| extreme(renderer, it, given, std::cmp::Ordering::is_ge)),
    filter("sort", 0, SORTED, sort),
    filter("unique", 0, PICKED, unique),
    filter("list", 0, &[], |renderer, it, _| Ok(Value::List(it.items(&mut renderer.meter)?))),
    filter("string", 0, &[], |renderer, it, _| match it {
        Value::Text(..) => Ok(it.clone()),
        it => Ok(Value::Text(it.to_text(&mut renderer.meter)?, false)),
    }),
    lenient("bool", 0, |_, it, _| Ok(Value::Bool(it.is_true()))),
    filter("sum", 2, &["attribute", "start"], sum),
    filter("select", ANY, &[], |renderer, it, given| select(renderer, it, given, None, true)),
    filter("reject", ANY, &[], |renderer, it, given| select(renderer, it, given, None, false)),
    filter("selectattr", ANY, &[], |renderer, it, given| select(renderer, it, given, Some(()), true)),
    filter("rejectattr", ANY, &[], |renderer, it, given| select(renderer, it, given, Some(()), false)),
    filter("map", ANY, &["attribute", "default"], map),
];

/// The filter of this name.
pub(crate) fn find(name: &str) -> Option<&'static Filter> {
    FILTERS.iter().find(|filter| filter.name == name)
}

fn escape(renderer: &mut TemplateRenderer<'_>, it: &Value, _: &CallArguments) -> Result<Value, Stop> {
    match it {
        Value::Text(_, true) => Ok(it.clone()),
        it => Ok(Value::Text(escaped(&mut renderer.meter, it)?, true)),
    }
}

/// A text that a filter builds: bounded, and charged.
fn made(meter: &mut Meter<'_>, text: String) -> Result<Value, Stop> {
    meter.bytes(text.len())?;
    if text.len() > MAX_TEXT {
        return fault(format!("an expression's text is longer than {MAX_TEXT} bytes"));
    }
    Ok(Value::Text(text.into(), false))
}

/// Maps a text's letters; a letter becomes at most three.
fn mapped(renderer: &mut TemplateRenderer<'_>, it: &Value, by: fn(&str) -> String) -> Result<Value, Stop> {
    let text = it.to_text(&mut renderer.meter)?;
    renderer.meter.bytes(4 * text.len())?;
    made(&mut renderer.meter, by(&text))
}

fn title(text: &str) -> String {
    let mut begins = true;
    text.chars().fold(String::with_capacity(text.len()), |mut made, char| {
        if matches!(char, '-' | '(' | '{' | '[' | '<') || char.is_whitespace() {
            made.push(char);
            begins = true;
        } else if std::mem::take(&mut begins) {
            made.extend(char.to_uppercase());
        } else {
            made.extend(char.to_lowercase());
        }
        made
    })
}

fn capitalize(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_uppercase().collect::<String>() + &chars.as_str().to_lowercase()
    })
}

fn replace(renderer: &mut TemplateRenderer<'_>, it: &Value, given: &CallArguments) -> Result<Value, Stop> {
    let meter = &mut renderer.meter;
    let text = it.to_text(meter)?;
    let (from, to) = (given.required(0)?.to_text(meter)?, given.required(1)?.to_text(meter)?);
    meter.bytes(4 * (text.len() + from.len()))?;
    let mut whole = BoundedText::value();
    let mut last = 0;
    for (at, found) in text.match_indices(&*from) {
        whole.push(meter, &text[last..at])?;
        whole.push(meter, &to)?;
        last = at + found.len();
    }
    whole.push(meter, &text[last..])?;
    Ok(Value::Text(whole.text.into(), false))
}

fn length(renderer: &mut TemplateRenderer<'_>, it: &Value, _: &CallArguments) -> Result<Value, Stop> {
    match it {
        Value::Text(text, _) => {
            renderer.meter.bytes(text.len())?;
            Ok(Value::from(text.chars().count()))
        }
        Value::List(items) => Ok(Value::from(items.len())),
        Value::Map(map) => Ok(Value::from(map.len())),
        other => fault(format!("a {} has no length", other.kind())),
    }
}

fn pairs(renderer: &mut TemplateRenderer<'_>, it: &Value) -> Result<Vec<Value>, Stop> {
    let Value::Map(map) = it else { return fault(format!("a {} has no pairs", it.kind())) };
    let mut pairs = Vec::new();
    for (key, value) in map.iter() {
        renderer.meter.element(pairs.len())?;
        pairs.push(vec![Value::Text(Arc::clone(key), false), value.clone()].into());
    }
    Ok(pairs)
}

fn dictsort(renderer: &mut TemplateRenderer<'_>, it: &Value, given: &CallArguments) -> Result<Value, Stop> {
    let place = usize::from(given.by_name("by").and_then(Value::text) == Some("value"));
    let mut keyed = Vec::new();
    for pair in pairs(renderer, it)? {
        let key = pair.item(&mut renderer.meter, &Value::from(place))?;
        keyed.push((key, pair));
    }
    by_key(renderer, keyed, given)
}

fn reverse(renderer: &mut TemplateRenderer<'_>, it: &Value, _: &CallArguments) -> Result<Value, Stop> {
    if let Value::Text(text, _) = it {
        renderer.meter.bytes(4 * text.len())?;
        return made(&mut renderer.meter, text.chars().rev().collect());
    }
    let items = it.items(&mut renderer.meter)?;
    renderer.meter.steps(items.len())?;
    Ok(items.iter().rev().cloned().collect::<Vec<_>>().into())
}

fn trim(renderer: &mut TemplateRenderer<'_>, it: &Value, given: &CallArguments) -> Result<Value, Stop> {
    let text = it.to_text(&mut renderer.meter)?;
    renderer.meter.bytes(text.len())?;
    let Some(chars) = given.at(0) else { return made(&mut renderer.meter, text.trim().to_owned()) };
    let chars = chars.to_text(&mut renderer.meter)?;
    renderer.meter.bytes(16 * (chars.len() + text.len()))?;
    let chars: BTreeSet<char> = chars.chars().collect();
    made(&mut renderer.meter, text.trim_matches(|it| chars.contains(&it)).to_owned())
}

/// The item, or the value at its path `attribute`.
fn part(meter: &mut Meter<'_>, item: &Value, attribute: Option<&Value>) -> Result<Value, Stop> {
    match attribute {
        None => Ok(item.clone()),
        Some(Value::Text(path, _)) => item.path(meter, path),
        Some(key) => item.item(meter, key),
    }
}

fn join(renderer: &mut TemplateRenderer<'_>, it: &Value, given: &CallArguments) -> Result<Value, Stop> {
    let meter = &mut renderer.meter;
    let between = match given.either(0, "d") {
        Some(between) => between.to_text(meter)?,
        None => "".into(),
    };
    let mut whole = BoundedText::value();
    for (at, item) in it.items(meter)?.iter().enumerate() {
        let item = part(meter, item, given.either(1, "attribute"))?;
        if item.is_missing() {
            return Err(Stop::Undefined(String::new()));
        }
        if at > 0 {
            whole.push(meter, &between)?;
        }
        item.write(meter, &mut whole, false)?;
    }
    Ok(Value::Text(whole.text.into(), false))
}

fn listed<'t>(
    renderer: &mut TemplateRenderer<'_>,
    parts: impl Iterator<Item = &'t str>,
) -> Result<Value, Stop> {
    let mut list = Vec::new();
    for part in parts {
        renderer.meter.element(list.len())?;
        renderer.meter.bytes(4 * part.len())?;
        list.push(Value::from(part));
    }
    Ok(list.into())
}

fn split(renderer: &mut TemplateRenderer<'_>, it: &Value, given: &CallArguments) -> Result<Value, Stop> {
    let text = it.to_text(&mut renderer.meter)?;
    renderer.meter.bytes(4 * text.len())?;
    let most = given.at(1).and_then(Value::int).and_then(|it| usize::try_from(it).ok());
    let most = most.map_or(usize::MAX, |it| it.saturating_add(1));
    match given.either(0, "") {
        Some(by) => {
            let by = by.to_text(&mut renderer.meter)?;
            renderer.meter.bytes(by.len())?;
            listed(renderer, text.splitn(most, &*by))
        }
        None if most == usize::MAX => listed(renderer, text.split_whitespace()),
        None => listed(renderer, text.trim_start().splitn(most, char::is_whitespace)),
    }
}

/// Shortens to at most so many characters, including the end mark; between words, unless `killwords`.
fn truncate(renderer: &mut TemplateRenderer<'_>, it: &Value, given: &CallArguments) -> Result<Value, Stop> {
    let text = it.to_text(&mut renderer.meter)?;
    renderer.meter.bytes(2 * text.len())?;
    let most = given.either(0, "length").map_or(Some(255), Value::int);
    let Some(most) = most.and_then(|it| usize::try_from(it).ok()) else {
        return fault("`truncate` counts characters by an integer that is not below 0");
    };
    if text.chars().count() <= most {
        return Ok(Value::Text(text, false));
    }
    let end = match given.either(2, "end") {
        Some(end) => end.to_text(&mut renderer.meter)?,
        None => "…".into(),
    };
    renderer.meter.bytes(end.len())?;
    let room = most.saturating_sub(end.chars().count());
    let kept: String = text.chars().take(room).collect();
    let whole = given.either(1, "killwords").is_some_and(Value::is_true);
    let kept = match kept.rfind(' ') {
        Some(at) if !whole && !text[kept.len()..].starts_with(' ') => &kept[..at],
        _ => &*kept,
    };
    let end: String = end.chars().take(most).collect();
    made(&mut renderer.meter, format!("{kept}{end}"))
}

fn lines(renderer: &mut TemplateRenderer<'_>, it: &Value, _: &CallArguments) -> Result<Value, Stop> {
    let text = it.to_text(&mut renderer.meter)?;
    listed(renderer, text.lines())
}

#[allow(clippy::unnecessary_wraps, reason = "as all filters are")]
fn default(_: &mut TemplateRenderer<'_>, it: &Value, given: &CallArguments) -> Result<Value, Stop> {
    let lax = given.at(1).is_some_and(Value::is_true);
    if it.is_undefined() || lax && !it.is_true() {
        Ok(given.at(0).cloned().unwrap_or_else(|| Value::from("")))
    } else {
        Ok(it.clone())
    }
}

#[allow(clippy::cast_possible_truncation, reason = "checked before")]
fn round(_: &mut TemplateRenderer<'_>, it: &Value, given: &CallArguments) -> Result<Value, Stop> {
    let digits = given.either(0, "precision").map_or(Some(0), Value::int);
    let Some(digits) = digits.and_then(|it| i32::try_from(it.clamp(-40, 40)).ok()) else {
        return fault("`round` counts digits by an integer");
    };
    let method = given.either(1, "method").map_or(Some("common"), Value::text);
    let factor = 10f64.powi(digits);
    match (it.number(), method) {
        (Some(Number::Int(it)), _) if digits >= 0 => Ok(Value::Int(it)),
        (Some(Number::Int(it)), Some(method)) => {
            let step = 10i128.checked_pow(digits.unsigned_abs()).unwrap_or(i128::MAX);
            let (whole, rest) = (it.div_euclid(step), it.rem_euclid(step));
            let up = match method {
                "ceil" => rest > 0,
                "floor" => false,
                _ => rest > step - rest || rest == step - rest && whole % 2 != 0,
            };
            let rounded = (whole + i128::from(up)).checked_mul(step);
            rounded.map_or_else(|| fault("a number too large"), |it| Ok(Value::Int(it)))
        }
        (Some(Number::Float(it)), Some("common")) if digits >= 0 => {
            let digits = usize::try_from(digits).unwrap_or_default();
            Ok(Value::Float(format!("{it:.digits$}").parse().unwrap_or(it)))
        }
        (Some(Number::Float(it)), Some(method @ ("common" | "ceil" | "floor"))) => {
            let scaled = it * factor;
            let rounded = match method {
                "ceil" => scaled.ceil(),
                "floor" => scaled.floor(),
                _ => scaled.round(),
            };
            Ok(Value::Float(if scaled.is_finite() { rounded / factor } else { it }))
        }
        _ => fault("`round` is for numbers, by common, ceil or floor"),
    }
}

#[allow(clippy::cast_possible_truncation, reason = "as Rust casts: to the nearest that there is")]
fn int(renderer: &mut TemplateRenderer<'_>, it: &Value, given: &CallArguments) -> Result<Value, Stop> {
    let base = given.either(1, "base").map_or(Some(10), Value::int);
    let base = base.and_then(|it| u32::try_from(it).ok()).filter(|it| (2..=36).contains(it));
    let Some(base) = base else { return fault("`int` has a base from 2 to 36") };
    let found = match it {
        Value::None => Some(0),
        Value::Text(text, _) => {
            renderer.meter.bytes(4 * text.len())?;
            let text = text.trim();
            let digits = match base {
                2 => text.strip_prefix("0b"),
                8 => text.strip_prefix("0o"),
                16 => text.strip_prefix("0x"),
                _ => None,
            };
            let whole = i128::from_str_radix(digits.unwrap_or(text), base).ok();
            whole.or_else(|| text.parse::<f64>().ok().map(|it| it as i128))
        }
        it => it.number().map(|it| match it {
            Number::Int(it) => it,
            Number::Float(it) => it as i128,
        }),
    };
    match (found, given.either(0, "default")) {
        (Some(0), Some(default)) if matches!(it, Value::None) => Ok(default.clone()),
        (Some(it), _) => Ok(Value::Int(it)),
        (None, Some(default)) => Ok(default.clone()),
        (None, None) => fault("not an integer"),
    }
}

#[allow(clippy::cast_precision_loss, reason = "that is what a float is")]
fn float(renderer: &mut TemplateRenderer<'_>, it: &Value, given: &CallArguments) -> Result<Value, Stop> {
    let found = match it {
        Value::Text(text, _) => {
            renderer.meter.bytes(4 * text.len())?;
            text.trim().parse().ok()
        }
        it => it.number().map(|it| match it {
            Number::Int(it) => it as f64,
            Number::Float(it) => it,
        }),
    };
    match (found, given.either(0, "default")) {
        (Some(it), _) => Ok(Value::Float(it)),
        (None, Some(default)) => Ok(default.clone()),
        (None, None) if matches!(it, Value::None) => Ok(Value::Float(0.0)),
        (None, None) => fault("not a number"),
    }
}

fn extreme(
    renderer: &mut TemplateRenderer<'_>,
    it: &Value,
    given: &CallArguments,
    replaces: fn(std::cmp::Ordering) -> bool,
) -> Result<Value, Stop> {
    let meter = &mut renderer.meter;
    let mut best: Option<(Value, &Value)> = None;
    let items = it.items(meter)?;
    for item in items.iter() {
        let key = part(meter, item, given.by_name("attribute"))?;
        let better = match &best {
            Some((most, _)) => replaces(order(meter, &key, most, !given.is("case_sensitive"))?),
            None => true,
        };
        if better {
            best = Some((key, item));
        }
    }
    Ok(best.map_or(UNDEFINED, |(_, item)| item.clone()))
}

/// Sorts by key, as the arguments say.
fn by_key(
    renderer: &mut TemplateRenderer<'_>,
    keyed: Vec<(Value, Value)>,
    given: &CallArguments,
) -> Result<Value, Stop> {
    let (folded, reverse) = (!given.is("case_sensitive"), given.is("reverse"));
    let meter = &mut renderer.meter;
    let items = sorted(keyed, &mut |(a, _), (b, _)| {
        let found = order(meter, a, b, folded)?;
        Ok(if reverse { found.reverse() } else { found })
    })?;
    Ok(items.into_iter().map(|(_, item)| item).collect::<Vec<_>>().into())
}

fn sort(renderer: &mut TemplateRenderer<'_>, it: &Value, given: &CallArguments) -> Result<Value, Stop> {
    let paths = given.by_name("attribute").and_then(Value::text).unwrap_or_default();
    let several = paths.contains(',');
    let mut keyed = Vec::new();
    for item in it.items(&mut renderer.meter)?.iter() {
        renderer.meter.element(keyed.len())?;
        let key = if several {
            let mut key = Vec::new();
            for path in paths.split(',').map(str::trim).filter(|path| !path.is_empty()) {
                let found = item.path(&mut renderer.meter, path)?;
                key.push(match found.text() {
                    Some(_) if !given.is("case_sensitive") => {
                        mapped(renderer, &found, str::to_ascii_lowercase)?
                    }
                    _ => found,
                });
            }
            key.into()
        } else {
            part(&mut renderer.meter, item, given.by_name("attribute"))?
        };
        keyed.push((key, item.clone()));
    }
    by_key(renderer, keyed, given)
}

fn unique(renderer: &mut TemplateRenderer<'_>, it: &Value, given: &CallArguments) -> Result<Value, Stop> {
    let folded = !given.is("case_sensitive");
    let meter = &mut renderer.meter;
    let items = it.items(meter)?;
    let mut keyed = Vec::new();
    for (at, item) in items.iter().enumerate() {
        meter.element(keyed.len())?;
        keyed.push((part(meter, item, given.by_name("attribute"))?, at));
    }
    let keyed = sorted(keyed, &mut |(a, _), (b, _)| order(meter, a, b, folded))?;
    // The sort is stable, so the first of equal items comes first.
    let mut kept = vec![true; items.len()];
    for two in keyed.windows(2) {
        if let [(a, _), (b, at)] = two {
            kept[*at] = order(meter, a, b, folded)?.is_ne();
        }
    }
    let kept = items.iter().zip(kept).filter(|(_, kept)| *kept).map(|(item, _)| item.clone());
    Ok(kept.collect::<Vec<_>>().into())
}

fn sum(renderer: &mut TemplateRenderer<'_>, it: &Value, given: &CallArguments) -> Result<Value, Stop> {
    let mut sum = given.either(1, "start").cloned().unwrap_or(Value::Int(0));
    for item in it.items(&mut renderer.meter)?.iter() {
        renderer.meter.steps(1)?;
        let item = part(&mut renderer.meter, item, given.either(0, "attribute"))?;
        if item.is_undefined() {
            continue;
        }
        if item.number().is_none() || sum.number().is_none() {
            return fault(format!("`sum` is of numbers, not of a {}", item.kind()));
        }
        sum = renderer.arithmetic(Arithmetic::Add, &sum, &item)?;
    }
    Ok(sum)
}

/// The elements that pass a test (without one: that are true). With `of`, the first argument names the attribute that
/// is tested.
fn select(
    renderer: &mut TemplateRenderer<'_>,
    it: &Value,
    given: &CallArguments,
    of: Option<()>,
    wanted: bool,
) -> Result<Value, Stop> {
    let of = of.map(|()| given.required(0)).transpose()?;
    let first = usize::from(of.is_some());
    let test = match given.at(first) {
        None => None,
        Some(name) => match name.text().and_then(jinja_tests::find) {
            Some(test) => Some(test),
            None => return fault("there is no test of this name"),
        },
    };
    let rest = given.positional.iter().skip(first + 1).cloned().collect();
    let given = CallArguments { positional: rest, named: Vec::new() };
    let mut kept = Vec::new();
    for item in it.items(&mut renderer.meter)?.iter() {
        renderer.meter.steps(1)?;
        let value = part(&mut renderer.meter, item, of)?;
        let passed = match test {
            Some(test) => (test.holds)(renderer, &value, &given)?,
            None => value.is_true(),
        };
        if passed == wanted {
            renderer.meter.element(kept.len())?;
            kept.push(item.clone());
        }
    }
    Ok(kept.into())
}

fn map(renderer: &mut TemplateRenderer<'_>, it: &Value, given: &CallArguments) -> Result<Value, Stop> {
    let items = it.items(&mut renderer.meter)?;
    let mut made = Vec::new();
    if let Some(attribute) = given.by_name("attribute") {
        for item in items.iter() {
            renderer.meter.element(made.len())?;
            let found = part(&mut renderer.meter, item, Some(attribute))?;
            made.push(match given.by_name("default") {
                Some(default) if found.is_undefined() => default.clone(),
                _ => found,
            });
        }
        return Ok(made.into());
    }
    let Some(filter) = given.required(0)?.text().and_then(find) else {
        return fault("there is no filter of this name");
    };
    let rest: Vec<_> = given.positional.iter().skip(1).cloned().collect();
    if rest.len() > filter.most {
        return fault(format!("`{}` has at most {} arguments", filter.name, filter.most));
    }
    let given = CallArguments { positional: rest, named: Vec::new() };
    for item in items.iter() {
        renderer.meter.element(made.len())?;
        if item.is_missing() && !filter.lenient {
            return Err(Stop::Undefined(String::new()));
        }
        made.push((filter.apply)(renderer, item, &given)?);
    }
    Ok(made.into())
}

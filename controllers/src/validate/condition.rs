//! An `AlertRule`'s condition, and the fields that depend on it.
//!
//! The alert engine reads every accepted condition as it is written.

use std::collections::BTreeMap;

use alerting::paths::Path;
use alerting::values::MAX_CARDINALITY;
use crds::rule::{self as wire, AlertRuleSpec, ConditionType as Type};
use domain::{AlertPolicy, Condition, ExtremeDirection, Limit, Millis, Resolve, SHARE, SpikeDirection};

use super::{DAY, Faults, Invalid, SECOND, WEEK, duration, duration_or};

/// The condition of a rule.
pub(super) fn condition(
    wire: &wire::Condition,
    group_by: &BTreeMap<String, String>,
) -> Result<Condition, Invalid> {
    members(wire)?;
    match wire.type_ {
        Type::Any => Some(Ok(Condition::Any)),
        Type::Frequency => wire.frequency.as_ref().map(frequency),
        Type::Spike => wire.spike.as_ref().map(spike),
        Type::Flatline => wire.flatline.as_ref().map(|it| flatline(it, group_by)),
        Type::NewValue => wire.new_value.as_ref().map(new_value),
        Type::Cardinality => wire.cardinality.as_ref().map(cardinality),
        Type::Change => wire
            .change
            .as_ref()
            .map(|it| Ok(Condition::Change { path: path("condition.change.path", &it.path)? })),
        Type::Extreme => wire.extreme.as_ref().map(extreme),
        Type::Ratio => wire.ratio.as_ref().map(ratio),
    }
    .unwrap_or_else(|| Err(Invalid::spec(format!("condition: type {:?} lacks its member", wire.type_))))
}

/// Checks that the member named like the type is present, and no other.
fn members(wire: &wire::Condition) -> Result<(), Invalid> {
    let members = [
        (Type::Frequency, "frequency", wire.frequency.is_some()),
        (Type::Spike, "spike", wire.spike.is_some()),
        (Type::Flatline, "flatline", wire.flatline.is_some()),
        (Type::NewValue, "newValue", wire.new_value.is_some()),
        (Type::Cardinality, "cardinality", wire.cardinality.is_some()),
        (Type::Change, "change", wire.change.is_some()),
        (Type::Extreme, "extreme", wire.extreme.is_some()),
        (Type::Ratio, "ratio", wire.ratio.is_some()),
    ];
    let missing = members.iter().find(|(type_, _, there)| *type_ == wire.type_ && !there);
    let others: Vec<String> = members
        .iter()
        .filter(|(type_, _, there)| *type_ != wire.type_ && *there)
        .map(|(_, name, _)| format!("condition.{name}"))
        .collect();
    let mut faults = Faults::default();
    if let Some((type_, name, _)) = missing {
        faults.add(Invalid::spec(format!("condition.{name} is missing: type {type_:?} needs it")));
    }
    if !others.is_empty() {
        let which = members.iter().find(|(type_, ..)| *type_ == wire.type_);
        let has = which.map_or("none".to_owned(), |(_, name, _)| format!("condition.{name} alone"));
        let others = others.join(" and ");
        faults.add(Invalid::spec(format!("{others}: type {:?} has {has}; leave out {others}", wire.type_)));
    }
    faults.end(Some(()))
}

fn frequency(wire: &wire::Frequency) -> Result<Condition, Invalid> {
    Ok(Condition::Frequency {
        count: wire.count.max(1),
        window: duration("condition.frequency.window", &wire.window, SECOND, WEEK)?,
    })
}

fn spike(wire: &wire::Spike) -> Result<Condition, Invalid> {
    let mut faults = Faults::default();
    let ratio = thousandths("condition.spike.ratio", &wire.ratio).and_then(|ratio| {
        if ratio <= 1_000 {
            return Err(Invalid::spec(format!(
                "condition.spike.ratio: {} is not above 1: say how many times as many records, such as 2.5",
                wire.ratio
            )));
        }
        Ok(ratio)
    });
    let ratio = faults.take(ratio);
    let window = faults.take(duration("condition.spike.window", &wire.window, SECOND, Millis(WEEK.0 / 2)));
    faults.end(ratio.zip(window).map(|(ratio, window)| Condition::Spike {
        ratio,
        window,
        min_count: wire.min_count.max(1),
        direction: match wire.direction {
            wire::SpikeDirection::Up => SpikeDirection::Up,
            wire::SpikeDirection::Down => SpikeDirection::Down,
            wire::SpikeDirection::Both => SpikeDirection::Both,
        },
    }))
}

fn flatline(wire: &wire::Flatline, group_by: &BTreeMap<String, String>) -> Result<Condition, Invalid> {
    let mut faults = Faults::default();
    for (at, group) in wire.groups.iter().enumerate() {
        if !group.keys().eq(group_by.keys()) {
            let labels: Vec<&str> = group_by.keys().map(String::as_str).collect();
            let needs = if labels.is_empty() {
                "a rule without groupBy has one group, which is watched without being named".to_owned()
            } else {
                format!("it needs exactly the labels of groupBy: {}", labels.join(", "))
            };
            faults.add(Invalid::spec(format!("condition.flatline.groups[{at}]: {needs}")));
        }
        for (label, _) in group.iter().filter(|(_, value)| value.len() > alerting::paths::MAX_LABEL) {
            faults.add(Invalid::spec(format!(
                "condition.flatline.groups[{at}].{label}: longer than {} bytes",
                alerting::paths::MAX_LABEL
            )));
        }
    }
    let window = faults.take(duration("condition.flatline.window", &wire.window, SECOND, WEEK));
    let mut groups = wire.groups.clone();
    groups.sort();
    groups.dedup();
    faults.end(window.map(|window| Condition::Flatline { below: wire.below.max(1), window, groups }))
}

fn new_value(wire: &wire::NewValue) -> Result<Condition, Invalid> {
    let mut faults = Faults::default();
    let path = faults.take(path("condition.newValue.path", &wire.path));
    let bounds = (Millis(0), Millis(0), WEEK);
    let learn = faults.take(duration_or("condition.newValue.learnFor", wire.learn_for.as_ref(), bounds));
    faults.end(path.zip(learn).map(|(path, learn_for)| Condition::NewValue { path, learn_for }))
}

fn cardinality(wire: &wire::Cardinality) -> Result<Condition, Invalid> {
    let place = "condition.cardinality";
    let mut faults = Faults::default();
    let limit = faults.take(one_of(place, wire.above, wire.below).and_then(|limit| {
        let (at, least, name) = match limit {
            Limit::Above(at) => (at, 0, "above"),
            Limit::Below(at) => (at, 1, "below"),
        };
        if !(least..=MAX_CARDINALITY).contains(&at) {
            let message = format!("{place}.{name}: {at} is not from {least} to {MAX_CARDINALITY}");
            return Err(Invalid::spec(message));
        }
        Ok(limit)
    }));
    let path = faults.take(path("condition.cardinality.path", &wire.path));
    let window = faults.take(duration("condition.cardinality.window", &wire.window, SECOND, WEEK));
    faults.end((|| Some(Condition::Cardinality { path: path?, window: window?, limit: limit? }))())
}

fn extreme(wire: &wire::Extreme) -> Result<Condition, Invalid> {
    Ok(Condition::Extreme {
        path: path("condition.extreme.path", &wire.path)?,
        direction: match wire.direction {
            wire::ExtremeDirection::Highest => ExtremeDirection::Highest,
            wire::ExtremeDirection::Lowest => ExtremeDirection::Lowest,
        },
    })
}

fn ratio(wire: &wire::Ratio) -> Result<Condition, Invalid> {
    let mut faults = Faults::default();
    faults.take(super::expression("condition.ratio.of", &wire.of));
    let limit = faults.take(share_limit(wire));
    let window = faults.take(duration("condition.ratio.window", &wire.window, SECOND, WEEK));
    faults.end(limit.zip(window).map(|(limit, window)| Condition::Ratio {
        of: wire.of.clone(),
        window,
        min_count: wire.min_count.max(1),
        limit,
    }))
}

fn share_limit(wire: &wire::Ratio) -> Result<Limit, Invalid> {
    let place = "condition.ratio";
    let share = |name: &str, text: Option<&str>| {
        text.map(|text| percentage(&format!("{place}.{name}"), text)).transpose()
    };
    let mut faults = Faults::default();
    let above = faults.take(share("above", wire.above.as_deref()));
    let below = faults.take(share("below", wire.below.as_deref()));
    let (above, below) = faults.end(above.zip(below))?;
    match one_of(place, above, below)? {
        Limit::Above(SHARE) => {
            Err(Invalid::spec(format!("{place}.above: no share is above 100%; use below 100%")))
        }
        Limit::Below(0) => Err(Invalid::spec(format!("{place}.below: no share is below 0%"))),
        limit => Ok(limit),
    }
}

fn one_of(place: &str, above: Option<i64>, below: Option<i64>) -> Result<Limit, Invalid> {
    match (above, below) {
        (Some(at), None) => Ok(Limit::Above(at)),
        (None, Some(at)) => Ok(Limit::Below(at)),
        _ => Err(Invalid::spec(format!("{place}: exactly one of above and below is needed"))),
    }
}

fn path(place: &str, text: &str) -> Result<String, Invalid> {
    Path::compile(text).map_err(|error| Invalid::spec(format!("{place}: {error}")))?;
    Ok(text.to_owned())
}

/// `2.5` → 2,500.
fn thousandths(place: &str, text: &str) -> Result<i64, Invalid> {
    let (whole, rest) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str, most: usize| {
        (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    if !digits(whole, 4) || !digits(rest, 3) {
        return Err(Invalid::spec(format!(
            "{place}: {text:?} is not a number such as 2 or 2.5, with at most four digits before the point and three after it"
        )));
    }
    let read = |text: &str| text.parse::<i64>().unwrap_or(0);
    Ok(read(whole) * 1_000 + read(&format!("{rest:0<3}")))
}

/// `5%` → 5,000: thousandths of a percent.
fn percentage(place: &str, text: &str) -> Result<i64, Invalid> {
    let share = text.strip_suffix('%').and_then(|number| thousandths(place, number).ok());
    share.filter(|share| *share <= SHARE).ok_or_else(|| {
        Invalid::spec(format!("{place}: {text:?} is not a percentage from 0% to 100%, such as 5% or 99.9%"))
    })
}

/// When an alert of the rule is resolved.
pub(super) fn resolve(spec: &AlertRuleSpec) -> Result<Option<Resolve>, Invalid> {
    let Some(wire) = &spec.resolve else { return Ok(None) };
    let mut faults = Faults::default();
    let after = wire.after.as_ref().map(|text| duration("resolve.after", text, SECOND, WEEK)).transpose();
    let after = faults.take(after);
    let below = faults.take(wire.below.as_ref().map(|text| below(&spec.condition, text)).transpose());
    faults.end((|| Some(Some(Resolve { after: after?, notify: wire.notify, below: below? })))())
}

/// Hysteresis, in the unit of the condition, and not beyond the bound at which it fires.
fn below(condition: &wire::Condition, text: &str) -> Result<i64, Invalid> {
    let count = || {
        text.parse::<i64>().ok().filter(|number| *number >= 0).ok_or_else(|| {
            Invalid::spec(format!("resolve.below: {text:?} is not a number of records or values such as 10"))
        })
    };
    let (below, most) = if let Some(frequency) = &condition.frequency {
        (count()?, Some(frequency.count))
    } else if let Some(above) = condition.cardinality.as_ref().and_then(|it| it.above) {
        (count()?, Some(above + 1))
    } else if let Some(above) = condition.ratio.as_ref().and_then(|it| it.above.as_ref()) {
        (percentage("resolve.below", text)?, percentage("condition.ratio.above", above).ok())
    } else {
        return Err(Invalid::spec(
            "resolve.below: only Frequency, and Cardinality and Ratio with above, go on until they are below something",
        ));
    };
    if most.is_some_and(|most| below > most) {
        return Err(Invalid::spec(
            "resolve.below: an alert must not end while its condition holds; make it at most the bound at which it fires",
        ));
    }
    Ok(below)
}

/// The other settings of the rule's alerts.
pub(super) fn policy(spec: &AlertRuleSpec) -> Result<AlertPolicy, Invalid> {
    let mut faults = Faults::default();
    let hold = faults.take(duration_or("for", spec.for_.as_ref(), (SECOND, Millis(0), DAY)));
    let windowless =
        matches!(spec.condition.type_, Type::Any | Type::NewValue | Type::Change | Type::Extreme);
    if spec.for_.is_some() && windowless {
        faults.add(Invalid::spec(format!(
            "for: {:?} is about single records and can't hold for a time; leave it out, or use Frequency, Spike, Flatline, \
             Cardinality or Ratio",
            spec.condition.type_
        )));
    }
    let repeat_factor = faults.take(repeat_factor(spec));
    for (name, text) in &spec.top_values {
        faults.take(path(&format!("topValues.{name}"), text));
    }
    let max_groups = spec.max_groups.unwrap_or(AlertPolicy::MAX_GROUPS);
    if !(1..=100_000).contains(&max_groups) {
        faults.add(Invalid::spec(format!("maxGroups: {max_groups} is not from 1 to 100000")));
    }
    faults.end(hold.zip(repeat_factor).map(|(hold, repeat_factor)| AlertPolicy {
        hold,
        repeat_factor,
        top_values: spec.top_values.clone(),
        max_groups,
    }))
}

/// By what factor each repeat waits longer, in thousandths.
fn repeat_factor(spec: &AlertRuleSpec) -> Result<i64, Invalid> {
    let Some(text) = &spec.repeat_factor else { return Ok(1_000) };
    let factor = thousandths("repeatFactor", text)?;
    if spec.repeat_interval.is_none() {
        return Err(Invalid::spec("repeatFactor: it makes repeatInterval grow, which is missing"));
    }
    if !(1_000..=10_000).contains(&factor) {
        return Err(Invalid::spec(format!("repeatFactor: {text} is not from 1 to 10")));
    }
    Ok(factor)
}

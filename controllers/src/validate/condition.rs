//! An `AlertRule`'s condition, and what goes with it.
//!
//! Never: a condition that the alert engine would read otherwise than it is written.

use std::collections::BTreeMap;

use alerting::values::MAX_CARDINALITY;
use alerting::matching::Matcher;
use alerting::paths::Path;
use crds::rule::{self as wire, AlertRuleSpec, ConditionType as Type};
use domain::{AlertPolicy, Condition, ExtremeDirection, Limit, Millis, Resolve, SHARE, SpikeDirection};

use super::{DAY, Invalid, SECOND, WEEK, duration, duration_or};
use crate::conditions::reasons;

/// What each type needs, in words.
const ALLOWED: &str = "Any has no member; Frequency, Spike, Flatline, NewValue, Cardinality, Change, Extreme and Ratio \
                       have the one named like the type (frequency, spike, flatline, newValue, cardinality, change, \
                       extreme, ratio), and no other";

/// The condition of a rule.
pub(super) fn condition(
    wire: &wire::Condition,
    group_by: &BTreeMap<String, String>,
) -> Result<Condition, Invalid> {
    let members = [
        wire.frequency.is_some(),
        wire.spike.is_some(),
        wire.flatline.is_some(),
        wire.new_value.is_some(),
        wire.cardinality.is_some(),
        wire.change.is_some(),
        wire.extreme.is_some(),
        wire.ratio.is_some(),
    ];
    let count = members.into_iter().filter(|there| *there).count();
    let wrong = || {
        Invalid::spec(format!("condition: type {:?} does not go with these members: {ALLOWED}", wire.type_))
    };
    if count > 1 || (count == 1) != (wire.type_ != Type::Any) {
        return Err(wrong());
    }
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
    .ok_or_else(wrong)?
}

fn frequency(wire: &wire::Frequency) -> Result<Condition, Invalid> {
    Ok(Condition::Frequency {
        count: wire.count.max(1),
        window: duration("condition.frequency.window", &wire.window, SECOND, WEEK)?,
    })
}

fn spike(wire: &wire::Spike) -> Result<Condition, Invalid> {
    let ratio = thousandths("condition.spike.ratio", &wire.ratio)?;
    if ratio <= 1_000 {
        return Err(Invalid::spec(format!(
            "condition.spike.ratio: {} is not above 1: say how many times as many records, such as 2.5",
            wire.ratio
        )));
    }
    Ok(Condition::Spike {
        ratio,
        window: duration("condition.spike.window", &wire.window, SECOND, Millis(WEEK.0 / 2))?,
        min_count: wire.min_count.max(1),
        direction: match wire.direction {
            wire::SpikeDirection::Up => SpikeDirection::Up,
            wire::SpikeDirection::Down => SpikeDirection::Down,
            wire::SpikeDirection::Both => SpikeDirection::Both,
        },
    })
}

fn flatline(wire: &wire::Flatline, group_by: &BTreeMap<String, String>) -> Result<Condition, Invalid> {
    for (at, group) in wire.groups.iter().enumerate() {
        if !group.keys().eq(group_by.keys()) {
            let labels: Vec<&str> = group_by.keys().map(String::as_str).collect();
            let needs = if labels.is_empty() {
                "a rule without groupBy has one group, which is watched without being named".to_owned()
            } else {
                format!("it needs exactly the labels of groupBy: {}", labels.join(", "))
            };
            return Err(Invalid::spec(format!("condition.flatline.groups[{at}]: {needs}")));
        }
        if let Some((label, _)) = group.iter().find(|(_, value)| value.len() > alerting::paths::MAX_LABEL) {
            return Err(Invalid::spec(format!(
                "condition.flatline.groups[{at}].{label}: longer than {} bytes",
                alerting::paths::MAX_LABEL
            )));
        }
    }
    let mut groups = wire.groups.clone();
    groups.sort();
    groups.dedup();
    Ok(Condition::Flatline {
        below: wire.below.max(1),
        window: duration("condition.flatline.window", &wire.window, SECOND, WEEK)?,
        groups,
    })
}

fn new_value(wire: &wire::NewValue) -> Result<Condition, Invalid> {
    let learn = wire.learn_for.as_ref();
    Ok(Condition::NewValue {
        path: path("condition.newValue.path", &wire.path)?,
        learn_for: duration_or("condition.newValue.learnFor", learn, (Millis(0), Millis(0), WEEK))?,
    })
}

fn cardinality(wire: &wire::Cardinality) -> Result<Condition, Invalid> {
    let place = "condition.cardinality";
    let limit = one_of(place, wire.above, wire.below)?;
    let (Limit::Above(at) | Limit::Below(at)) = limit;
    let least = i64::from(matches!(limit, Limit::Below(_)));
    if !(least..=MAX_CARDINALITY).contains(&at) {
        return Err(Invalid::spec(format!("{place}: {at} is not from {least} to {MAX_CARDINALITY}")));
    }
    Ok(Condition::Cardinality {
        path: path("condition.cardinality.path", &wire.path)?,
        window: duration("condition.cardinality.window", &wire.window, SECOND, WEEK)?,
        limit,
    })
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
    let place = "condition.ratio";
    Matcher::compile(&wire.of)
        .map_err(|error| Invalid::new(reasons::INVALID_MATCH, format!("{place}.of: {error}")))?;
    let share = |name: &str, text: Option<&str>| {
        text.map(|text| percentage(&format!("{place}.{name}"), text)).transpose()
    };
    let limit =
        one_of(place, share("above", wire.above.as_deref())?, share("below", wire.below.as_deref())?)?;
    match limit {
        Limit::Above(SHARE) => {
            return Err(Invalid::spec(format!("{place}.above: no share is above 100%; use below 100%")));
        }
        Limit::Below(0) => return Err(Invalid::spec(format!("{place}.below: no share is below 0%"))),
        _ => {}
    }
    Ok(Condition::Ratio {
        of: wire.of.clone(),
        window: duration("condition.ratio.window", &wire.window, SECOND, WEEK)?,
        min_count: wire.min_count.max(1),
        limit,
    })
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

/// When an alert of the rule is over.
pub(super) fn resolve(spec: &AlertRuleSpec) -> Result<Option<Resolve>, Invalid> {
    let Some(wire) = &spec.resolve else { return Ok(None) };
    let after = wire.after.as_ref().map(|text| duration("resolve.after", text, SECOND, WEEK)).transpose()?;
    let below = wire.below.as_ref().map(|text| below(&spec.condition, text)).transpose()?;
    Ok(Some(Resolve { after, notify: wire.notify, below }))
}

/// Hysteresis, in the measure of the condition, and not beyond the bound at which it fires.
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

/// How the rule's alerts behave beyond that.
pub(super) fn policy(spec: &AlertRuleSpec) -> Result<AlertPolicy, Invalid> {
    let hold = duration_or("for", spec.for_.as_ref(), (SECOND, Millis(0), DAY))?;
    let windowless =
        matches!(spec.condition.type_, Type::Any | Type::NewValue | Type::Change | Type::Extreme);
    if spec.for_.is_some() && windowless {
        return Err(Invalid::spec(format!(
            "for: {:?} is about single records and can't hold for a time; leave it out, or use Frequency, Spike, Flatline, \
             Cardinality or Ratio",
            spec.condition.type_
        )));
    }
    let repeat_factor = match &spec.repeat_factor {
        None => 1_000,
        Some(text) => {
            let factor = thousandths("repeatFactor", text)?;
            if spec.repeat_interval.is_none() {
                return Err(Invalid::spec("repeatFactor: it makes repeatInterval grow, which is missing"));
            }
            if !(1_000..=10_000).contains(&factor) {
                return Err(Invalid::spec(format!("repeatFactor: {text} is not from 1 to 10")));
            }
            factor
        }
    };
    for (name, text) in &spec.top_values {
        path(&format!("topValues.{name}"), text)?;
    }
    let max_groups = spec.max_groups.unwrap_or(AlertPolicy::MAX_GROUPS);
    if !(1..=100_000).contains(&max_groups) {
        return Err(Invalid::spec(format!("maxGroups: {max_groups} is not from 1 to 100000")));
    }
    Ok(AlertPolicy { hold, repeat_factor, top_values: spec.top_values.clone(), max_groups })
}

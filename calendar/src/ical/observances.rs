//! The UTC offsets of a VTIMEZONE (RFC 5545, section 3.6.5), and the IANA zone that has the same ones.
//!
//! A zone matches only if every change in the compared stretch of time is the same. The block's own offsets are
//! never extrapolated: before the first onset, TZOFFSETFROM applies.

use std::collections::BTreeSet;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{TimeZone, TimeZoneDatabase};

use super::component::Component;
use super::value::{IcalTime, offset, when};
use super::windows;
use crate::recurrence::Recurrence;
use crate::rule::{End, RecurrenceRule, Until};
use crate::spec::RecurrenceSpec;
use crate::steps::Steps;
use crate::zone::{civil, find_zone, local_seconds, timestamp};

/// The most observances of a VTIMEZONE. No exported file has more than a few dozen.
const MAX_OBSERVANCES: usize = 200;
/// The most onsets of one observance in the compared stretch.
const MAX_ONSETS: usize = 500;
/// Steps for finding the position in an observance, and for looking up a zone.
const LOOKUP: usize = 20;

/// The steps of the file ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OutOfSteps;

/// STANDARD or DAYLIGHT: its onsets on the clock before the change, and the offsets before and after.
struct Observance {
    onsets: Recurrence,
    from: i32,
    to: i32,
}

/// A VTIMEZONE.
pub(super) struct ZoneBlock {
    observances: Vec<Observance>,
    /// The offset before the first onset of all: the TZOFFSETFROM of that one.
    before: i32,
    /// X-LIC-LOCATION, which libical and programs like it write.
    location: Option<String>,
}

impl ZoneBlock {
    pub(super) fn from_component(component: &Component) -> Result<Self, String> {
        let parts =
            component.children.iter().filter(|it| matches!(it.kind.as_str(), "STANDARD" | "DAYLIGHT"));
        let observances: Vec<Observance> =
            parts.take(MAX_OBSERVANCES + 1).map(read_observance).collect::<Result<_, _>>()?;
        if observances.len() > MAX_OBSERVANCES {
            return Err(format!("it has more than {MAX_OBSERVANCES} of STANDARD and DAYLIGHT"));
        }
        let first = observances.iter().filter_map(|it| {
            let onset = it.onsets.all().next()?.start.as_second();
            Some((onset - i64::from(it.from), it.from))
        });
        let Some((_, before)) = first.min() else {
            return Err("it has neither STANDARD nor DAYLIGHT".to_owned());
        };
        let location = component.first("X-LIC-LOCATION").map(|line| line.value.trim().to_owned());
        Ok(Self { observances, before, location })
    }

    /// The offset at `from`, and each change up to `to`.
    fn changes(&self, from: i64, to: i64, steps: &mut Steps) -> Result<Vec<(i64, i32)>, OutOfSteps> {
        let mut onsets: Vec<(i64, i32)> = Vec::new();
        for it in &self.observances {
            let clock = |at: i64| timestamp(at.saturating_add(it.from.into()));
            let last = it.onsets.before(clock(from.saturating_add(1)));
            let next = it.onsets.occurrences(clock(from)).take_while(|onset| onset.start <= clock(to));
            let instants = last.into_iter().chain(next.take(MAX_ONSETS));
            onsets.extend(instants.map(|onset| (onset.start.as_second() - i64::from(it.from), it.to)));
            if !steps.take(LOOKUP) {
                return Err(OutOfSteps);
            }
        }
        if !steps.take(onsets.len()) {
            return Err(OutOfSteps);
        }
        onsets.sort_unstable();
        let begun = onsets.partition_point(|(at, _)| *at <= from);
        let first = begun.checked_sub(1).map_or(self.before, |last| onsets[last].1);
        let mut list = vec![(from, first)];
        for (at, to) in &onsets[begun..] {
            if list.last().is_none_or(|(_, offset)| offset != to) {
                list.push((*at, *to));
            }
        }
        Ok(list)
    }

    /// The first local time (on the zone's clock) of a stretch at which the block and the zone have different
    /// offsets.
    pub(super) fn first_difference(
        &self,
        tz: &TimeZone,
        span: (DateTime, DateTime),
        steps: &mut Steps,
    ) -> Result<Option<DateTime>, OutOfSteps> {
        let at = |local: DateTime| tz.to_timestamp(local).map(|at: Timestamp| at.as_second()).ok();
        let Some((from, to)) = at(span.0).zip(at(span.1)) else { return Ok(None) };
        let theirs = self.changes(from, to, steps)?;
        let ours = zone_changes(tz, from, to);
        if !steps.take(ours.len()) {
            return Err(OutOfSteps);
        }
        let of = |list: &[(i64, i32)], at: i64| list[list.partition_point(|change| change.0 <= at) - 1].1;
        let instants: BTreeSet<i64> = theirs.iter().chain(&ours).map(|change| change.0).collect();
        let first = instants.into_iter().find(|at| of(&theirs, *at) != of(&ours, *at));
        Ok(first.map(|at| tz.to_datetime(timestamp(at))))
    }

    /// A zone with the same offsets during a stretch of local time, and a day before and after it. Tries those in
    /// `known` first, then the block's own name, then the best known zones, then all zones.
    pub(super) fn matching_zone(
        &self,
        span: (DateTime, DateTime),
        known: &[String],
        steps: &mut Steps,
    ) -> Result<Option<String>, OutOfSteps> {
        let day = 86_400;
        let (from, to) = (local_seconds(span.0) - day, local_seconds(span.1) + day);
        let wanted = self.changes(from, to, steps)?;
        let mut fits = |name: &str| {
            // The comparison ends at the first difference.
            if !steps.take(LOOKUP + wanted.len()) {
                return Err(OutOfSteps);
            }
            Ok(find_zone(name).is_some_and(|tz| has_changes(&tz, &wanted, to)))
        };
        let named = known.iter().map(String::as_str).chain(self.location.as_deref());
        let famous = windows::ZONES.iter().map(|(_, zone)| *zone);
        for name in named.chain(famous) {
            if fits(name)? {
                return Ok(Some(name.to_owned()));
            }
        }
        let mut all: Vec<String> =
            TimeZoneDatabase::bundled().available().map(|name| name.as_str().to_owned()).collect();
        all.sort_unstable();
        for name in all.into_iter().filter(|name| name.contains('/')) {
            if fits(&name)? {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }
}

/// The offset of a zone at `from`, and each change up to `to`.
fn zone_changes(tz: &TimeZone, from: i64, to: i64) -> Vec<(i64, i32)> {
    let mut list = vec![(from, tz.to_offset(timestamp(from)).seconds())];
    for change in tz.following(timestamp(from)) {
        let (at, offset) = (change.timestamp().as_second(), change.offset().seconds());
        if at > to {
            break;
        }
        if list.last().is_none_or(|(_, before)| *before != offset) {
            list.push((at, offset));
        }
    }
    list
}

fn has_changes(tz: &TimeZone, wanted: &[(i64, i32)], to: i64) -> bool {
    let (from, first) = wanted[0];
    let mut offset = tz.to_offset(timestamp(from)).seconds();
    if offset != first {
        return false;
    }
    let mut expected = wanted[1..].iter();
    for change in tz.following(timestamp(from)) {
        let at = change.timestamp().as_second();
        if at > to {
            break;
        }
        if change.offset().seconds() == offset {
            continue;
        }
        offset = change.offset().seconds();
        if expected.next() != Some(&(at, offset)) {
            return false;
        }
    }
    expected.next().is_none()
}

fn read_observance(component: &Component) -> Result<Observance, String> {
    let kind = component.kind.as_str();
    let value = |name: &str| component.first(name).map(|line| line.value.as_str());
    let wrong = |name: &str| format!("its {kind} of line {} has no {name} that can be read", component.line);
    let [from, to] =
        ["TZOFFSETFROM", "TZOFFSETTO"].map(|name| value(name).and_then(offset).ok_or_else(|| wrong(name)));
    let (from, to) = (from?, to?);
    let Some(IcalTime::Local(start)) = value("DTSTART").and_then(when) else { return Err(wrong("DTSTART")) };
    // .NET programs write the year 1. The rules are yearly, so a later beginning means the same.
    let start = match start.year() {
        ..1600 => start.with().year(1600).build().map_err(|_| wrong("DTSTART"))?,
        _ => start,
    };
    let mut rules = Vec::new();
    for line in component.all("RRULE") {
        let mut rule: RecurrenceRule =
            line.value.trim().trim_end_matches(';').parse().map_err(|_| wrong("RRULE"))?;
        // UNTIL is UTC, but onsets are counted on the clock before the change.
        if let End::Until(Until::Utc(at)) = rule.end {
            rule.end = End::Until(Until::Local(at + i64::from(from)));
        }
        let ended = match rule.end {
            End::Until(Until::Local(at)) => at < local_seconds(start),
            End::Until(Until::Date(day)) => i64::from(day) < local_seconds(start).div_euclid(86_400),
            _ => false,
        };
        if rule.frequency().is_sub_daily() {
            return Err(wrong("RRULE"));
        }
        if !ended {
            rules.push(rule.to_string());
        }
    }
    let mut dates = vec![start.to_string()];
    for line in component.all("RDATE") {
        for text in line.value.split(',') {
            let local = match when(text) {
                Some(IcalTime::Local(local)) => local,
                Some(IcalTime::Utc(at)) => civil(at.as_second() + i64::from(from)),
                Some(IcalTime::Day(day)) => day.to_datetime(start.time()),
                None => return Err(wrong("RDATE")),
            };
            dates.push(local.to_string());
        }
    }
    let spec = RecurrenceSpec {
        start: start.to_string(),
        time_zone: "UTC".to_owned(),
        rule: (!rules.is_empty()).then(|| rules.remove(0)),
        more_rules: rules,
        dates,
        ..RecurrenceSpec::default()
    };
    Ok(Observance { onsets: Recurrence::new(&spec).map_err(|_| wrong("RRULE"))?, from, to })
}

/// The local time some years later. A zone that agrees for years is more likely the one that was meant.
pub(super) fn years_from(start: DateTime, years: i16) -> DateTime {
    start.checked_add(jiff::Span::new().years(years)).unwrap_or(DateTime::MAX)
}

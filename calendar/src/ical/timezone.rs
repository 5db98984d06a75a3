//! Writes a VTIMEZONE from the bundled zone data, correct for all years that the events span.
//!
//! Past changes are listed one by one. If a zone follows one rule from some year on, a yearly RRULE says it for
//! ever; before that, the rule is compared with the data up to the year 2200. Today's rule is never applied to the
//! past.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{Dst, TimeZone};

use super::line_writer::LineWriter;
use super::value::{write_local, write_offset};
use crate::days::{DAY, month_length};
use crate::zone::{civil, timestamp};

/// The comparison with a rule ends here, and so does the list of changes of a zone without rule.
const LAST: i64 = 230 * 365 * DAY;

/// A change of a zone's offset.
#[derive(Debug, Clone, PartialEq, Eq)]
struct OffsetChange {
    at: i64,
    from: i32,
    to: i32,
    daylight: bool,
    name: String,
}

/// A day of each year: the `nth` weekday (negative: from the end) of a month, at a time on the clock before the
/// change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Yearly {
    month: i8,
    nth: i8,
    weekday: i8,
    seconds: i64,
}

/// Writes the zone for events between `from` and `until`; `None` if they have no end.
pub(super) fn write_vtimezone(
    lines: &mut LineWriter,
    tz: &TimeZone,
    name: &str,
    from: Timestamp,
    until: Option<Timestamp>,
) {
    lines.raw("BEGIN", "VTIMEZONE");
    lines.raw("TZID", name);
    lines.raw("X-LIC-LOCATION", name);
    let end = until.map_or(LAST, |until| until.as_second().saturating_add(DAY)).min(LAST);
    let changes = changes(tz, from.as_second().saturating_sub(DAY), end);
    // The last changes, which one rule each describes for daylight and for standard time.
    let tails = if until.is_none() { yearly_tails(&changes) } else { YearlyTails::default() };
    let listed = changes.len() - tails.len;
    let mut alike: BTreeMap<(bool, i32, i32, &str), Vec<&OffsetChange>> = BTreeMap::new();
    for change in &changes[..listed] {
        alike.entry((change.daylight, change.from, change.to, &change.name)).or_default().push(change);
    }
    for same in alike.values() {
        write_observance(lines, same, None);
    }
    for (first, rule) in &tails.rules {
        write_observance(lines, &[&changes[*first]], Some(*rule));
    }
    lines.raw("END", "VTIMEZONE");
}

fn write_observance(lines: &mut LineWriter, same: &[&OffsetChange], rule: Option<Yearly>) {
    let kind = if same[0].daylight { "DAYLIGHT" } else { "STANDARD" };
    let onset = |change: &OffsetChange| write_local(civil(change.at + i64::from(change.from)));
    lines.raw("BEGIN", kind);
    lines.raw("DTSTART", &onset(same[0]));
    lines.raw("TZOFFSETFROM", &write_offset(same[0].from));
    lines.raw("TZOFFSETTO", &write_offset(same[0].to));
    lines.text("TZNAME", &same[0].name);
    if let Some(Yearly { month, nth, weekday, .. }) = rule {
        let day = crate::rule::WEEKDAYS[usize::try_from(weekday).unwrap_or(0) % 7];
        lines.raw("RRULE", &format!("FREQ=YEARLY;BYMONTH={month};BYDAY={nth}{day}"));
    }
    for change in &same[1..] {
        lines.raw("RDATE", &onset(change));
    }
    lines.raw("END", kind);
}

/// The change in force at `from`, and all changes up to `end`. Changes of the zone's abbreviation alone don't
/// count.
fn changes(tz: &TimeZone, from: i64, end: i64) -> Vec<OffsetChange> {
    let make = |at: i64, before: i32, info: &jiff::tz::TimeZoneOffsetInfo<'_>| OffsetChange {
        at,
        from: before,
        to: info.offset().seconds(),
        daylight: info.dst() == Dst::Yes,
        name: info.abbreviation().to_owned(),
    };
    let begin = tz.preceding(timestamp(from.saturating_add(1))).next().map(|it| it.timestamp());
    let first = if let Some(begin) = begin {
        let before = tz.to_offset(timestamp(begin.as_second() - 1)).seconds();
        make(begin.as_second(), before, &tz.to_offset_info(begin))
    } else {
        // It never changed before: use an onset long before all events.
        let info = tz.to_offset_info(timestamp(from));
        let local = crate::zone::local_seconds(jiff::civil::date(1601, 1, 1).at(0, 0, 0, 0));
        make((local - i64::from(info.offset().seconds())).min(from), info.offset().seconds(), &info)
    };
    let mut offset = first.to;
    let mut list = vec![first];
    for it in tz.following(timestamp(from)) {
        let at = it.timestamp();
        if at.as_second() > end {
            break;
        }
        let info = tz.to_offset_info(at);
        if info.offset().seconds() != offset {
            list.push(make(at.as_second(), offset, &info));
            offset = info.offset().seconds();
        }
    }
    list
}

/// The last changes of a zone, as far as yearly rules describe them.
#[derive(Default)]
struct YearlyTails {
    len: usize,
    /// For each rule, the index of its first change.
    rules: Vec<(usize, Yearly)>,
}

/// Two changes a year up to the end of the list, each by its own rule. Covers as many changes as possible, from the
/// end.
fn yearly_tails(changes: &[OffsetChange]) -> YearlyTails {
    let count = changes.len();
    let (Some(last), Some(other)) = (changes.last(), count.checked_sub(2).map(|at| &changes[at])) else {
        return YearlyTails::default();
    };
    // The last change of a zone without further changes lies long before the end.
    if last.at < LAST - 366 * DAY {
        return YearlyTails::default();
    }
    let mut best = YearlyTails::default();
    for one in candidate_rules(last) {
        for two in candidate_rules(other) {
            let fits = |at: usize| {
                let (model, rule) = if (count - at) % 2 == 1 { (last, one) } else { (other, two) };
                let it = &changes[at];
                let same = (it.from, it.to, it.daylight, &it.name)
                    == (model.from, model.to, model.daylight, &model.name);
                same && rule.includes(it)
                    && (at + 2 >= count || local(&changes[at + 2]).year() == local(it).year() + 1)
            };
            let len = (0..count).rev().take_while(|at| fits(*at)).count();
            if len > best.len && len > 4 {
                let first = count - len;
                let rule = |at: usize| if (count - at) % 2 == 1 { one } else { two };
                best = YearlyTails { len, rules: vec![(first, rule(first)), (first + 1, rule(first + 1))] };
            }
        }
    }
    best
}

fn local(change: &OffsetChange) -> DateTime {
    civil(change.at + i64::from(change.from))
}

/// The rules that a change may follow: its weekday counted from the beginning and from the end of the month.
fn candidate_rules(change: &OffsetChange) -> Vec<Yearly> {
    let local = local(change);
    let length = month_length(local.year().into(), local.month().into()) as i8;
    let of = |nth| Yearly {
        month: local.month(),
        nth,
        weekday: local.weekday().to_monday_zero_offset(),
        seconds: crate::zone::local_seconds(local).rem_euclid(DAY),
    };
    vec![of(-((length - local.day()) / 7 + 1)), of((local.day() - 1) / 7 + 1)]
}

impl Yearly {
    fn includes(self, change: &OffsetChange) -> bool {
        candidate_rules(change).contains(&self)
    }
}

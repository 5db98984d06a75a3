//! Proves that two series never meet, for all time, if their patterns show it.
//!
//! A pattern is a repeating set of local starts. It contains every start of the series, and perhaps more: DAILY and
//! WEEKLY rules have their own period; MONTHLY and YEARLY rules become the weekdays and times of day on which they
//! can fall; HOURLY and shorter rules repeat in real time. A pattern ignores what only takes occurrences away
//! (COUNT, UNTIL, exceptions, other BY-parts), so what holds for patterns holds for the series.
//! Samples prove nothing, so every change of the clocks is considered: those that the zone data list, and for the
//! time after, 400 years of the zone's rule, in which the Gregorian calendar repeats.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use jiff::tz::TimeZone;

use crate::days::{DAY, day_number};
use crate::local::LocalSeries;
use crate::recurrence::Recurrence;
use crate::rule::{End, Frequency, OrdinalDay, RecurrenceRule};
use crate::spans::{Buffers, gcd, meets_in_phase};
use crate::spec::Length;
use crate::zone::{local_seconds, timestamp};

const WEEK: i64 = 7 * DAY;
/// The most starts in one period. A series with more gets no pattern.
const MAX_PHASES: usize = 500;
/// The zone data list changes up to 2087 at most. 400 years later, everything that a rule can bring has come.
const LAST_CHANGE_YEAR: i32 = 2490;

/// All possible starts of a series, from some instant on.
#[derive(Debug)]
pub(crate) struct StartPattern {
    /// The starts repeat after this many seconds, on the local clock or in real time.
    period: i64,
    phases: Vec<i64>,
    clock: PatternClock,
    length: i64,
    buffers: Buffers,
    all_day: bool,
}

/// The clock on which a pattern's starts are read.
#[derive(Debug)]
struct PatternClock {
    /// The zone's name; empty for real time.
    zone: String,
    offsets: BTreeSet<i64>,
    /// When the clocks change: seconds into the week, on the clock before the change.
    changes: BTreeSet<i64>,
}

impl StartPattern {
    /// The pattern of a series from the instant `from` on. `None` if it has none, or too large a one.
    pub(crate) fn new(recurrence: &Recurrence, buffers: Buffers, from: i64) -> Option<Self> {
        // With several rules, or with overrides of all future occurrences, there are several segments.
        let ([rule], [_]) = (recurrence.rules(), &recurrence.segments[..]) else { return None };
        let Length { days, seconds } = recurrence.length;
        if days > 0 && !recurrence.is_all_day() {
            // The exact length of such days depends on the time of year.
            return None;
        }
        let length = i64::from(days) * DAY + seconds;
        // What began earlier may not have ended yet.
        let from = from - length - i64::from(buffers.after) - 2 * DAY;
        // A pattern cannot contain dates beside the rule.
        if recurrence.singles.last().is_some_and(|single| single.moment.at >= from) {
            return None;
        }
        let start = local_seconds(recurrence.start());
        let (period, phases, clock) = if rule.frequency.is_sub_daily() {
            let at = recurrence.zone.resolve(start).first?.at;
            (real_period(rule)?, vec![at], PatternClock::real_time())
        } else {
            let rule = widen(rule);
            let period = match rule.frequency {
                Frequency::Daily if rule.days.is_empty() => DAY * i64::from(rule.interval),
                Frequency::Daily => WEEK * i64::from(rule.interval) / gcd(7, rule.interval.into()),
                _ => WEEK * i64::from(rule.interval),
            };
            let series = LocalSeries::new(&rule, start);
            let starts = series.iter_from(start).take_while(|local| *local < start + period);
            let phases: Vec<i64> = starts.take(MAX_PHASES + 1).collect();
            (period, phases, PatternClock::new(recurrence, from))
        };
        let all_day = recurrence.is_all_day();
        let fits = phases.len() <= MAX_PHASES;
        fits.then_some(Self { period, phases, clock, length, buffers, all_day })
    }

    /// Whether no event of one series ever lies in an event or buffer of the other. With `apart`, the buffers of
    /// the two must not overlap either.
    pub(crate) fn never_meets(&self, other: &Self, apart: bool) -> bool {
        if self.phases.len() * other.phases.len() > MAX_PHASES * 20 {
            return false;
        }
        let gap = |after: u32, before: u32| {
            let (after, before) = (i64::from(after), i64::from(before));
            if apart { after + before } else { after.max(before) }
        };
        let (behind, ahead) =
            (gap(other.buffers.after, self.buffers.before), gap(self.buffers.after, other.buffers.before));
        let buffers = [self.buffers, other.buffers];
        let unbuffered = buffers.iter().all(|buffers| *buffers == Buffers::default());
        // All-day events of one clock follow each other, whatever the clock does. Times do so if no change is near.
        let one_clock = self.clock.zone == other.clock.zone;
        let near = self.length + other.length + behind + ahead + self.clock.swing();
        let in_step = one_clock
            && (self.all_day && other.all_day && unbuffered
                || !self.is_near_a_change(near) && !other.is_near_a_change(near));
        let swing = |pattern: &Self| if in_step || !pattern.all_day { 0 } else { pattern.clock.swing() };
        let low = -(other.length + swing(other) + behind);
        let high = self.length + swing(self) + ahead;
        let period = gcd(self.period, other.period);
        let apart_by = |shift: i64| {
            self.phases.iter().all(|own| {
                other.phases.iter().all(|phase| !meets_in_phase(phase - own - shift, period, low, high))
            })
        };
        if in_step {
            return apart_by(0);
        }
        self.clock.offsets.iter().all(|own| other.clock.offsets.iter().all(|offset| apart_by(offset - own)))
    }

    fn is_near_a_change(&self, distance: i64) -> bool {
        let period = gcd(self.period, WEEK);
        let mut changes = self.clock.changes.iter();
        changes.any(|change| {
            self.phases
                .iter()
                .any(|phase| meets_in_phase(change - phase, period, -distance - 1, distance + 1))
        })
    }
}

impl PatternClock {
    fn real_time() -> Self {
        Self { zone: String::new(), offsets: BTreeSet::from([0]), changes: BTreeSet::new() }
    }

    fn new(recurrence: &Recurrence, from: i64) -> Self {
        let zone = recurrence.time_zone().to_owned();
        let mut clock = Self {
            offsets: BTreeSet::from([recurrence.zone.offset_at(from)]),
            changes: BTreeSet::new(),
            zone,
        };
        for (change, last) in last_changes(&clock.zone, recurrence.zone()).iter() {
            if *last > from {
                clock.offsets.insert(change.after);
                clock.changes.insert(change.into_week);
            }
        }
        clock
    }

    /// The largest difference between two offsets of this clock.
    fn swing(&self) -> i64 {
        self.offsets.last().zip(self.offsets.first()).map_or(0, |(last, first)| last - first)
    }
}

/// A change of a zone's clock, as it recurs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct WeeklyChange {
    into_week: i64,
    after: i64,
}

type LastChanges = BTreeMap<WeeklyChange, i64>;

/// The changes of a zone since 1970, each with its last instant. Computed once for each zone.
fn last_changes(name: &str, zone: &TimeZone) -> Arc<LastChanges> {
    static FOUND: OnceLock<Mutex<HashMap<String, Arc<LastChanges>>>> = OnceLock::new();
    let mut found = FOUND.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(changes) = found.get(name) {
        return Arc::clone(changes);
    }
    let end = i64::from(day_number(LAST_CHANGE_YEAR, 1, 1)) * DAY;
    let mut changes = BTreeMap::new();
    let mut before = i64::from(zone.to_offset(timestamp(0)).seconds());
    for change in zone.following(timestamp(0)) {
        let (at, after) = (change.timestamp().as_second(), i64::from(change.offset().seconds()));
        if at > end {
            break;
        }
        if after != before {
            changes.insert(WeeklyChange { into_week: (at + before).rem_euclid(WEEK), after }, at);
        }
        before = after;
    }
    let changes = Arc::new(changes);
    found.insert(name.to_owned(), Arc::clone(&changes));
    changes
}

/// The distance between the starts of a rule that counts in real time. `None` if BY-parts add further starts.
fn real_period(rule: &RecurrenceRule) -> Option<i64> {
    let plain = match rule.frequency {
        Frequency::Hourly => rule.minutes == 0 && rule.seconds == 0,
        Frequency::Minutely => rule.seconds == 0,
        _ => true,
    };
    let unit = match rule.frequency {
        Frequency::Hourly => 3600,
        Frequency::Minutely => 60,
        _ => 1,
    };
    plain.then_some(unit * i64::from(rule.interval))
}

/// A DAILY or WEEKLY rule that contains all starts of `rule` and repeats after some weeks. Drops what only takes
/// starts away.
fn widen(rule: &RecurrenceRule) -> RecurrenceRule {
    let mut wide = RecurrenceRule {
        end: End::Never,
        months: 0,
        weeks: Vec::new(),
        year_days: Vec::new(),
        month_days: Vec::new(),
        positions: Vec::new(),
        ..rule.clone()
    };
    for day in &mut wide.days {
        day.ordinal = 0;
    }
    if rule.frequency > Frequency::Weekly {
        wide.frequency = Frequency::Weekly;
        wide.interval = 1;
        if wide.days.is_empty() {
            wide.days = (0..7).map(|weekday| OrdinalDay { ordinal: 0, weekday }).collect();
        }
    }
    wide
}

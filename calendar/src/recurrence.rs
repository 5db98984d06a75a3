//! When something happens: checked once, here, into a [`Recurrence`] that cannot be wrong.
//!
//! Never happens, ends before it starts, unknown zone: found out here, in bounded time, and never again.

use jiff::civil::{Date, DateTime};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::days::DAY;
use crate::exact::ExactSeries;
use crate::local::LocalSeries;
use crate::parse::RuleError;
use crate::rule::{End, Rule, Until};
use crate::zone::{self, Dst, Moment, Zone, civil, local_seconds};

/// The longest duration of an occurrence: 366 days.
pub const MAX_DURATION: SignedDuration = SignedDuration::from_hours(366 * 24);
/// The most `dates`, and the most `except_dates`.
pub const MAX_DATES: usize = 1000;

/// A recurrence as a user writes it. All texts are read by [`Recurrence::new`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecurrenceSpec {
    /// Local time in `time_zone` of the first occurrence, `2026-01-05T10:00:00`, whole seconds; or a date,
    /// `2026-01-05`, which makes the recurrence all-day (RFC 5545: DTSTART).
    pub start: String,
    /// IANA name, such as `Asia/Seoul`.
    pub time_zone: String,
    /// How long an occurrence lasts: 0 to 366 days, whole seconds; whole days when all-day. Left out: no time
    /// at all, or one day when all-day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<SignedDuration>,
    /// Text of the rule without `RRULE:`. Left out: `start` alone, and `dates`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Further occurrences (RDATE): local date-times, dates (at the start's time of day), or UTC with `Z`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dates: Vec<String>,
    /// Occurrences left out (EXDATE): a date takes out all of that day, a date-time that local time, one with
    /// `Z` that instant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub except_dates: Vec<String>,
    /// What a local time means that does not exist, or exists twice.
    #[serde(default)]
    pub dst: Dst,
}

/// Why a [`RecurrenceSpec`] is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecurrenceError {
    /// The start can't be read.
    #[error(
        "start \"{0}\" is not allowed; allowed is a local time such as 2026-01-05T10:00:00, or a date such as \
         2026-01-05 for all day, from the year 1583 to 9000"
    )]
    Start(String),
    /// No such zone.
    #[error("timeZone \"{0}\" is unknown; allowed are IANA names such as Europe/Berlin or UTC")]
    TimeZone(String),
    /// The duration is negative, too long or has fractions of a second.
    #[error("duration is not allowed; allowed are whole seconds from 0 to 366 days")]
    Duration,
    /// An all-day duration that isn't whole days.
    #[error("duration is not allowed with a start that is a date; allowed are whole days from 24h to 8784h")]
    AllDayDuration,
    /// The rule's text is wrong.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// A rule that speaks of times on an all-day start.
    #[error(
        "rrule: a start that is a date allows FREQ=DAILY, WEEKLY, MONTHLY or YEARLY without BYHOUR, BYMINUTE and \
         BYSECOND; give start a time, such as 2026-01-05T10:00:00"
    )]
    AllDayRule,
    /// UNTIL lies before the start.
    #[error("rrule: UNTIL lies before start; allowed is UNTIL at or after {start}")]
    UntilBeforeStart {
        /// The start, local.
        start: DateTime,
    },
    /// A value of `dates` or `exceptDates` can't be read.
    #[error("{list}[{index}] \"{found}\" is not allowed; allowed is {allowed}")]
    Date {
        /// `dates` or `exceptDates`.
        list: &'static str,
        /// Place in the list, from 0.
        index: usize,
        /// The value as written, cut to 40 characters.
        found: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// Too many dates.
    #[error("{list} has more than {MAX_DATES} values")]
    TooManyDates {
        /// `dates` or `exceptDates`.
        list: &'static str,
    },
    /// COUNT of a rule shorter than DAILY whose occurrences lie too far apart to find the last.
    #[error("rrule: the occurrences lie too far apart to count them; allowed is UNTIL in place of COUNT")]
    CountOutOfReach,
    /// There is no occurrence at all.
    #[error(
        "it never happens: from start on, rule and dates less exceptDates give no occurrence; \
         a date such as 31 February does not exist"
    )]
    NeverHappens,
}

/// How long an occurrence lasts: exact seconds, or days by the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    Seconds(i64),
    Days(i32),
}

/// What a rule generates.
#[derive(Debug, Clone)]
pub(crate) enum Series {
    Local(Box<LocalSeries>),
    Exact(Box<ExactSeries>),
}

/// When something happens (RFC 5545, section 3.8.5). It happens at least once.
#[derive(Debug, Clone)]
pub struct Recurrence {
    start: i64,
    rule: Option<Rule>,
    pub(crate) zone: Zone,
    pub(crate) length: Length,
    pub(crate) series: Option<Series>,
    /// UNTIL as an instant, where it was given as one; the series knows the others.
    pub(crate) until: i64,
    /// Moments beside the rule, ascending.
    pub(crate) singles: Vec<Moment>,
    except_days: Vec<i64>,
    except_locals: Vec<i64>,
    except_instants: Vec<i64>,
}

/// A date or date-time as a user writes it.
enum When {
    Day(i64),
    Local(i64),
    Instant(i64),
}

impl Recurrence {
    /// Checks a spec. Takes bounded time, also for rules that never happen or only once in centuries; a COUNT
    /// of [`crate::MAX_COUNT`] takes some milliseconds.
    pub fn new(spec: &RecurrenceSpec) -> Result<Self, RecurrenceError> {
        let (start, all_day) = match read(&spec.start) {
            Some(When::Day(start)) => (start, true),
            Some(When::Local(start)) => (start, false),
            _ => return Err(RecurrenceError::Start(short(&spec.start))),
        };
        if !(1583..=9000).contains(&civil(start).year()) {
            return Err(RecurrenceError::Start(short(&spec.start)));
        }
        let tz =
            zone::find(&spec.time_zone).ok_or_else(|| RecurrenceError::TimeZone(short(&spec.time_zone)))?;
        let zone = Zone { tz, dst: spec.dst, all_day };
        let length = length(spec.duration, all_day)?;
        let rule: Option<Rule> = spec.rule.as_deref().map(str::parse).transpose()?;
        if all_day && rule.as_ref().is_some_and(Rule::needs_time) {
            return Err(RecurrenceError::AllDayRule);
        }
        if rule.as_ref().is_some_and(|rule| ends_before(rule, &zone, start)) {
            return Err(RecurrenceError::UntilBeforeStart { start: civil(start) });
        }
        let mut recurrence = Self {
            start,
            series: rule.as_ref().map(|rule| series(rule, &zone, start)).transpose()?,
            until: rule.as_ref().map_or(i64::MAX, until),
            rule,
            zone,
            length,
            singles: Vec::new(),
            except_days: Vec::new(),
            except_locals: Vec::new(),
            except_instants: Vec::new(),
        };
        recurrence.add_dates(&spec.dates)?;
        recurrence.add_exceptions(&spec.except_dates)?;
        if recurrence.all().next().is_none() {
            return Err(RecurrenceError::NeverHappens);
        }
        Ok(recurrence)
    }

    /// The local start.
    pub fn start(&self) -> DateTime {
        civil(self.start)
    }

    /// The zone's IANA name, written as the database writes it.
    pub fn time_zone(&self) -> &str {
        self.zone.tz.iana_name().unwrap_or("UTC")
    }

    /// The zone, to show instants in.
    pub fn zone(&self) -> &jiff::tz::TimeZone {
        &self.zone.tz
    }

    /// Whether occurrences are whole days.
    pub fn is_all_day(&self) -> bool {
        self.zone.all_day
    }

    /// The rule, if there is one.
    pub fn rule(&self) -> Option<&Rule> {
        self.rule.as_ref()
    }

    /// The daylight-saving policy.
    pub fn dst(&self) -> Dst {
        self.zone.dst
    }

    /// The occurrence with this identity ([`crate::Occurrence::id`]), if there is one.
    pub fn find(&self, id: &str) -> Option<crate::Occurrence> {
        let local: DateTime = id.strip_suffix("/2").unwrap_or(id).parse().ok()?;
        let resolved = self.zone.resolve(local_seconds(local));
        let near = self.occurrences_from(resolved.low.saturating_sub(1));
        near.take_while(|it| it.start.as_second() <= resolved.high).find(|it| it.id() == id)
    }

    pub(crate) fn excepts(&self, moment: Moment) -> bool {
        self.except_locals.binary_search(&moment.local).is_ok()
            || self.except_instants.binary_search(&moment.at).is_ok()
            || self.excepts_day(moment)
    }

    pub(crate) fn excepts_day(&self, moment: Moment) -> bool {
        self.except_days.binary_search(&moment.local.div_euclid(DAY)).is_ok()
    }

    fn add_dates(&mut self, dates: &[String]) -> Result<(), RecurrenceError> {
        let allowed = if self.zone.all_day {
            "a date such as 2026-02-17"
        } else {
            "a local time such as 2026-02-17T10:00:00, a date for start's time of day, or UTC with Z"
        };
        let alone = self.series.is_none().then_some(self.start);
        let mut moments: Vec<Moment> =
            alone.into_iter().flat_map(|local| self.zone.resolve(local).moments()).collect();
        for when in read_all("dates", dates, allowed) {
            let (error, when) = when?;
            let local = match when {
                When::Day(midnight) => midnight + self.start.rem_euclid(DAY),
                _ if self.zone.all_day => return Err(error),
                When::Local(local) => local,
                When::Instant(at) => {
                    let local = self.zone.local_of(at);
                    moments.push(Moment { at, local, repeated: self.zone.resolve(local).low < at });
                    continue;
                }
            };
            moments.extend(self.zone.resolve(local).moments());
        }
        moments.sort_unstable();
        moments.dedup_by_key(|moment| moment.at);
        self.singles = moments;
        Ok(())
    }

    fn add_exceptions(&mut self, dates: &[String]) -> Result<(), RecurrenceError> {
        let allowed = "a date such as 2026-02-17, a local time such as 2026-02-17T10:00:00, or UTC with Z";
        for when in read_all("exceptDates", dates, allowed) {
            match when?.1 {
                When::Day(midnight) => self.except_days.push(midnight.div_euclid(DAY)),
                When::Local(local) => self.except_locals.push(local),
                When::Instant(at) => self.except_instants.push(at),
            }
        }
        self.except_days.sort_unstable();
        self.except_locals.sort_unstable();
        self.except_instants.sort_unstable();
        Ok(())
    }
}

fn length(duration: Option<SignedDuration>, all_day: bool) -> Result<Length, RecurrenceError> {
    let Some(duration) = duration else {
        return Ok(if all_day { Length::Days(1) } else { Length::Seconds(0) });
    };
    let seconds = duration.as_secs();
    let whole = duration.subsec_nanos() == 0 && !duration.is_negative() && duration <= MAX_DURATION;
    match (all_day, whole) {
        (false, true) => Ok(Length::Seconds(seconds)),
        (false, false) => Err(RecurrenceError::Duration),
        (true, true) if seconds > 0 && seconds % DAY == 0 => Ok(Length::Days((seconds / DAY) as i32)),
        (true, _) => Err(RecurrenceError::AllDayDuration),
    }
}

fn series(rule: &Rule, zone: &Zone, start: i64) -> Result<Series, RecurrenceError> {
    if rule.frequency.is_sub_daily() {
        let resolved = zone.resolve(start);
        let at = resolved.first.map_or(resolved.high, |moment| moment.at);
        let series = ExactSeries::new(rule, zone, at).ok_or(RecurrenceError::CountOutOfReach)?;
        Ok(Series::Exact(Box::new(series)))
    } else {
        Ok(Series::Local(Box::new(LocalSeries::new(rule, start))))
    }
}

fn until(rule: &Rule) -> i64 {
    match rule.end {
        End::Until(Until::Utc(at)) => at,
        _ => i64::MAX,
    }
}

fn ends_before(rule: &Rule, zone: &Zone, start: i64) -> bool {
    match rule.end {
        End::Until(Until::Date(day)) => i64::from(day) < start.div_euclid(DAY),
        End::Until(Until::Local(local)) => local < start,
        End::Until(Until::Utc(at)) => at < zone.resolve(start).low,
        End::Never | End::Count(_) => false,
    }
}

/// Reads a list; with each value comes the error to give should it not fit after all.
fn read_all<'a>(
    list: &'static str,
    texts: &'a [String],
    allowed: &'static str,
) -> impl Iterator<Item = Result<(RecurrenceError, When), RecurrenceError>> + 'a {
    let too_many = (texts.len() > MAX_DATES).then_some(Err(RecurrenceError::TooManyDates { list }));
    too_many.into_iter().chain(texts.iter().enumerate().map(move |(index, text)| {
        let error = RecurrenceError::Date { list, index, found: short(text), allowed };
        match read(text) {
            Some(when) => Ok((error, when)),
            None => Err(error),
        }
    }))
}

/// `2026-01-05`, `2026-01-05T10:00:00` or `2026-01-05T10:00:00Z`; nothing else that jiff would take.
fn read(text: &str) -> Option<When> {
    match text.len() {
        10 => {
            let date: Date = text.parse().ok()?;
            Some(When::Day(local_seconds(date.to_datetime(jiff::civil::Time::midnight()))))
        }
        19 if text.as_bytes()[10] == b'T' => {
            let time: DateTime = text.parse().ok()?;
            Some(When::Local(local_seconds(time)))
        }
        20 if text.as_bytes()[10] == b'T' && text.ends_with('Z') => {
            let at: Timestamp = text.parse().ok()?;
            Some(When::Instant(at.as_second()))
        }
        _ => None,
    }
}

fn short(text: &str) -> String {
    text.chars().take(40).collect()
}

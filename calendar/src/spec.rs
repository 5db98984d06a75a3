//! A recurrence as a user writes it, and the reasons to refuse it. Reads texts of times; expands nothing.

use jiff::civil::{Date, DateTime};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::days::DAY;
use crate::rule_parser::RruleError;
use crate::zone::{Dst, local_seconds};

/// The longest duration of an occurrence: 366 days.
pub const MAX_DURATION: SignedDuration = SignedDuration::from_hours(366 * 24);
/// The most `dates`, the most `except_dates`, and the most `overrides`.
pub const MAX_DATES: usize = 1000;
/// Steps for finding the occurrences that all overrides name.
pub(crate) const MAX_OVERRIDE_STEPS: u64 = 10_000_000;
/// The most rules beside the first, and the most `except_rules`.
pub const MAX_RULES: usize = 20;

/// A recurrence as a user writes it. [`crate::Recurrence::new`] reads all texts.
///
/// A floating event (RFC 5545, section 3.3.5) is the same spec in the time zone of the person who looks at it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecurrenceSpec {
    /// The local time of the first occurrence in `time_zone`, in whole seconds, such as `2026-01-05T10:00:00`. Or a
    /// date, such as `2026-01-05`, which makes the recurrence all-day (DTSTART of RFC 5545).
    pub start: String,
    /// The IANA name, such as `Asia/Seoul`.
    pub time_zone: String,
    /// How long an occurrence lasts: 0 to 366 days in whole seconds, or whole days if all-day. If absent: no time
    /// at all, or one day if all-day. The duration is exact (PT24H, not P1D), except for all-day occurrences.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<SignedDuration>,
    /// Calendar days that an occurrence lasts before `duration` is added (the nominal P1D of RFC 5545): together 0
    /// to 366 days. The occurrence ends at the same time of day, whatever the clocks do. Not allowed for all-day
    /// recurrences.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub nominal_days: u16,
    /// The text of the rule without `RRULE:`. If absent, there are only `start` and `dates`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Further rules from the same start. RFC 5545 advises against several rules, but calendars contain them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more_rules: Vec<String>,
    /// Rules whose times are left out, from the same start (EXRULE of RFC 2445).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub except_rules: Vec<String>,
    /// Further occurrences (RDATE): local date-times, dates (meaning the start's time of day), or UTC with `Z`. One
    /// with its own length has `/` and an end or an RFC 5545 duration behind it: `2026-01-05T10:00:00/PT2H`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dates: Vec<String>,
    /// Occurrences to leave out (EXDATE). A date takes out that whole day, a date-time that local time, and one
    /// with `Z` that instant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub except_dates: Vec<String>,
    /// Occurrences that differ from rules and dates (components with a RECURRENCE-ID).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<Override>,
    /// What a local time means that does not exist or exists twice.
    #[serde(default)]
    pub dst: Dst,
}

/// Changes one occurrence, or all from one on (RFC 5545, section 3.8.4.4).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Override {
    /// Which occurrence: the local time, date or UTC time that rules and dates give it, in the form of
    /// [`crate::Occurrence::id`]. Not the time to which an earlier override moved it.
    pub recurrence_id: String,
    /// RANGE=THISANDFUTURE: this occurrence and all later ones, up to the next such override. All move as far as
    /// this one: on the local clock, or in real time for rules shorter than DAILY.
    #[serde(default)]
    pub this_and_future: bool,
    /// The occurrence does not happen.
    #[serde(default)]
    pub cancelled: bool,
    /// When it begins instead, in the form of [`RecurrenceSpec::start`]. If absent, the start stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// How long it lasts instead, as in [`RecurrenceSpec::duration`]. If this is absent and the nominal days are 0,
    /// the length stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<SignedDuration>,
    /// As [`RecurrenceSpec::nominal_days`].
    #[serde(default, skip_serializing_if = "is_zero")]
    pub nominal_days: u16,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
fn is_zero(days: &u16) -> bool {
    *days == 0
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
    Rule(#[from] RruleError),
    /// A rule shorter than DAILY on an all-day start.
    #[error(
        "rrule: a start that is a date allows FREQ=DAILY, WEEKLY, MONTHLY or YEARLY; give start a time, such as \
         2026-01-05T10:00:00"
    )]
    AllDayRule,
    /// UNTIL lies before the start.
    #[error("rrule: UNTIL lies before start; allowed is UNTIL at or after {start}")]
    UntilBeforeStart {
        /// The start, local.
        start: DateTime,
    },
    /// A value of `dates` or `exceptDates`, or a time of an override, can't be read.
    #[error("{list}[{index}] \"{found}\" is not allowed; allowed is {allowed}")]
    Date {
        /// `dates`, `exceptDates` or `overrides`.
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
        /// `dates`, `exceptDates` or `overrides`.
        list: &'static str,
    },
    /// Too many rules.
    #[error("{list} has more than {MAX_RULES} values")]
    TooManyRules {
        /// `moreRules` or `exceptRules`.
        list: &'static str,
    },
    /// It takes too long to find the occurrences that the overrides name.
    #[error(
        "overrides: to find what they name takes more than {MAX_OVERRIDE_STEPS} steps; allowed are fewer overrides, or fewer \
         with range ThisAndFuture, or rules that are not shorter than DAILY"
    )]
    OverridesTooCostly,
    /// An override names an occurrence that does not exist.
    #[error(
        "overrides[{index}] \"{found}\": there is no such occurrence; allowed is the time that rule or dates give it"
    )]
    NoSuchOccurrence {
        /// Place in the list, from 0.
        index: usize,
        /// The recurrence id as written, cut to 40 characters.
        found: String,
    },
    /// The occurrences of a COUNT rule shorter than DAILY lie too far apart to find the last one.
    #[error("rrule: the occurrences lie too far apart to count them; allowed is UNTIL in place of COUNT")]
    CountOutOfReach,
    /// There is no occurrence at all.
    #[error(
        "it never happens: from start on, rule and dates less exceptDates give no occurrence; \
         a date such as 31 February does not exist"
    )]
    NeverHappens,
}

/// How long an occurrence lasts: days by the calendar, then exact seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Length {
    pub(crate) days: i32,
    pub(crate) seconds: i64,
}

impl Length {
    pub(crate) fn new(
        duration: Option<SignedDuration>,
        days: u16,
        all_day: bool,
    ) -> Result<Self, RecurrenceError> {
        let refused = if all_day { RecurrenceError::AllDayDuration } else { RecurrenceError::Duration };
        let Some(duration) = duration else {
            return match (all_day, days) {
                (true, 0) => Ok(Self { days: 1, seconds: 0 }),
                _ => Self { days: days.into(), seconds: 0 }.checked(all_day).ok_or(refused),
            };
        };
        if duration.subsec_nanos() != 0 || duration.is_negative() || duration > MAX_DURATION {
            return Err(refused);
        }
        Self { days: days.into(), seconds: duration.as_secs() }.checked(all_day).ok_or(refused)
    }

    /// The length if it is within the bounds. For all-day occurrences it is converted to days.
    pub(crate) fn checked(mut self, all_day: bool) -> Option<Self> {
        if all_day {
            self.days += i32::try_from(self.seconds / DAY).ok()?;
            self.seconds %= DAY;
            if self.seconds != 0 || self.days == 0 {
                return None;
            }
        }
        let total = i64::from(self.days) * DAY + self.seconds;
        (0..=MAX_DURATION.as_secs()).contains(&total).then_some(self)
    }

    /// Reads `P1W`, `P1DT2H` or `PT15M` (RFC 5545, section 3.3.6), not negative.
    fn read(text: &str, all_day: bool) -> Option<Self> {
        let mut rest = text.strip_prefix('+').unwrap_or(text).strip_prefix('P')?;
        let mut length = Self::default();
        let mut units: &[(char, i64, bool)] = &[('W', 7, true), ('D', 1, true)];
        if rest.is_empty() || rest.ends_with('T') {
            return None;
        }
        while !rest.is_empty() {
            if let Some(time) = rest.strip_prefix('T') {
                units = &[('H', 3600, false), ('M', 60, false), ('S', 1, false)];
                rest = time;
            }
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let number: i64 = rest.get(..digits).filter(|it| it.len() <= 9)?.parse().ok()?;
            let unit = rest[digits..].chars().next()?;
            let place = units.iter().position(|(name, ..)| *name == unit)?;
            let (_, factor, nominal) = units[place];
            if nominal {
                length.days = length.days.checked_add(i32::try_from(number * factor).ok()?)?;
            } else {
                length.seconds += number * factor;
            }
            units = &units[place + 1..];
            rest = &rest[digits + 1..];
        }
        length.checked(all_day)
    }
}

/// A date or date-time as a user writes it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SpecTime {
    Day(i64),
    Local(i64),
    Instant(i64),
}

/// What follows the `/` of a period.
#[derive(Debug, Clone, Copy)]
pub(crate) enum PeriodEnd {
    Length(Length),
    End(SpecTime),
}

/// Iterates over a list. Each value comes with the error to report if it turns out to be wrong.
pub(crate) fn read_list<'a>(
    list: &'static str,
    texts: &'a [String],
    allowed: &'static str,
) -> impl Iterator<Item = Result<(RecurrenceError, &'a str), RecurrenceError>> + 'a {
    let too_many = (texts.len() > MAX_DATES).then_some(Err(RecurrenceError::TooManyDates { list }));
    too_many.into_iter().chain(texts.iter().enumerate().map(move |(index, text)| {
        Ok((RecurrenceError::Date { list, index, found: short(text), allowed }, text.as_str()))
    }))
}

/// Reads `2026-01-05`, `2026-01-05T10:00:00` or `2026-01-05T10:00:00Z`, and no other form that jiff accepts.
pub(crate) fn read_time(text: &str) -> Option<SpecTime> {
    match text.len() {
        10 => {
            let date: Date = text.parse().ok()?;
            Some(SpecTime::Day(local_seconds(date.to_datetime(jiff::civil::Time::midnight()))))
        }
        19 if text.as_bytes()[10] == b'T' => {
            let time: DateTime = text.parse().ok()?;
            Some(SpecTime::Local(local_seconds(time)))
        }
        20 if text.as_bytes()[10] == b'T' && text.ends_with('Z') => {
            let at: Timestamp = text.parse().ok()?;
            Some(SpecTime::Instant(at.as_second()))
        }
        _ => None,
    }
}

/// Reads a time, or a time, `/`, and an end or a duration.
pub(crate) fn read_period(text: &str, all_day: bool) -> Option<(SpecTime, Option<PeriodEnd>)> {
    let Some((from, till)) = text.split_once('/') else {
        return Some((read_time(text)?, None));
    };
    let till = match Length::read(till, all_day) {
        Some(length) => PeriodEnd::Length(length),
        None => PeriodEnd::End(read_time(till)?),
    };
    Some((read_time(from)?, Some(till)))
}

pub(crate) fn short(text: &str) -> String {
    text.chars().take(40).collect()
}

//! A recurrence rule (RFC 5545, section 3.3.10), already checked.
//!
//! Only the parser makes one. `local` and `exact` expand it.

use std::fmt;

/// The largest INTERVAL accepted. Even in seconds it is 31 years; in longer units it exceeds the calendar.
pub const MAX_INTERVAL: u32 = 999_999_999;
/// The largest COUNT accepted. The last occurrence is found when the recurrence is made, so later searches don't
/// count.
pub const MAX_COUNT: u32 = 999_999_999;

/// FREQ: the length of a rule's period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Frequency {
    /// A period of one second of real time.
    Secondly,
    /// A period of one minute of real time.
    Minutely,
    /// A period of one hour of real time.
    Hourly,
    /// A period of one calendar day.
    Daily,
    /// A period of seven days beginning on WKST.
    Weekly,
    /// A period of one calendar month.
    Monthly,
    /// A period of one calendar year.
    Yearly,
}

impl Frequency {
    /// Whether it is HOURLY, MINUTELY or SECONDLY: these count in real time.
    pub fn is_sub_daily(self) -> bool {
        self < Self::Daily
    }

    pub(crate) const NAMES: [(&'static str, Self); 7] = [
        ("SECONDLY", Self::Secondly),
        ("MINUTELY", Self::Minutely),
        ("HOURLY", Self::Hourly),
        ("DAILY", Self::Daily),
        ("WEEKLY", Self::Weekly),
        ("MONTHLY", Self::Monthly),
        ("YEARLY", Self::Yearly),
    ];
}

/// The weekdays' names in rules, Monday first.
pub(crate) const WEEKDAYS: [&str; 7] = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"];

/// One BYDAY value: a weekday (Monday = 0) and its ordinal; 0 means every such weekday.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OrdinalDay {
    pub(crate) ordinal: i32,
    pub(crate) weekday: i32,
}

/// UNTIL, inclusive. Local values count seconds from 1970-01-01T00:00:00 on the local clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// A day number.
    Date(i32),
    /// A local date-time.
    Local(i64),
    /// An instant, Unix seconds.
    Utc(i64),
}

/// How a rule ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Never,
    Count(u32),
    Until(Until),
}

/// A recurrence rule (RRULE of RFC 5545, section 3.3.10).
///
/// Parse one with [`str::parse`] from the text after `RRULE:`; upper and lower case are the same. [`fmt::Display`]
/// gives the canonical text, which parses to an equal rule.
///
/// Bounds: INTERVAL 1 to [`MAX_INTERVAL`], COUNT 1 to [`MAX_COUNT`], 2,000 bytes of text, 400 values in a list.
/// BYSECOND=60 is read as 59, as the RFC asks of systems without leap seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecurrenceRule {
    pub(crate) frequency: Frequency,
    pub(crate) interval: u32,
    pub(crate) end: End,
    /// Bit `n` is set for value `n`; 0 if the part is absent. The same holds for hours, minutes and seconds.
    pub(crate) months: u16,
    pub(crate) hours: u32,
    pub(crate) minutes: u64,
    pub(crate) seconds: u64,
    pub(crate) weeks: Vec<i32>,
    pub(crate) year_days: Vec<i32>,
    pub(crate) month_days: Vec<i32>,
    pub(crate) days: Vec<OrdinalDay>,
    pub(crate) positions: Vec<i32>,
    /// Monday = 0.
    pub(crate) week_start: i32,
}

impl RecurrenceRule {
    /// FREQ.
    pub fn frequency(&self) -> Frequency {
        self.frequency
    }

    /// INTERVAL, 1 unless given.
    pub fn interval(&self) -> u32 {
        self.interval
    }

    /// COUNT, if given.
    pub fn count(&self) -> Option<u32> {
        match self.end {
            End::Count(count) => Some(count),
            _ => None,
        }
    }

    /// Whether the rule ends by COUNT or UNTIL.
    pub fn is_bounded(&self) -> bool {
        self.end != End::Never
    }

    /// Whether FREQ, INTERVAL and the start alone say when it happens.
    pub(crate) fn has_no_by_parts(&self) -> bool {
        self.months == 0
            && self.hours == 0
            && self.minutes == 0
            && self.seconds == 0
            && self.weeks.is_empty()
            && self.year_days.is_empty()
            && self.month_days.is_empty()
            && self.days.is_empty()
    }
}

fn bits(mask: u64) -> impl Iterator<Item = i32> {
    (0..64).filter(move |bit| mask >> bit & 1 == 1)
}

impl fmt::Display for RecurrenceRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, name: &str, values: &mut dyn Iterator<Item = i32>| {
            for (index, value) in values.enumerate() {
                if index == 0 {
                    write!(f, ";{name}={value}")?;
                } else {
                    write!(f, ",{value}")?;
                }
            }
            Ok(())
        };
        let name = Frequency::NAMES.iter().find(|(_, it)| *it == self.frequency).map_or("", |(name, _)| name);
        write!(f, "FREQ={name}")?;
        match self.end {
            End::Never => {}
            End::Count(count) => write!(f, ";COUNT={count}")?,
            End::Until(Until::Date(day)) => {
                let (year, month, day) = crate::days::date_of(day);
                write!(f, ";UNTIL={year:04}{month:02}{day:02}")?;
            }
            End::Until(Until::Local(seconds)) => write_until(f, seconds, "")?,
            End::Until(Until::Utc(seconds)) => write_until(f, seconds, "Z")?,
        }
        if self.interval != 1 {
            write!(f, ";INTERVAL={}", self.interval)?;
        }
        list(f, "BYMONTH", &mut bits(u64::from(self.months)))?;
        list(f, "BYWEEKNO", &mut self.weeks.iter().copied())?;
        list(f, "BYYEARDAY", &mut self.year_days.iter().copied())?;
        list(f, "BYMONTHDAY", &mut self.month_days.iter().copied())?;
        for (index, day) in self.days.iter().enumerate() {
            f.write_str(if index == 0 { ";BYDAY=" } else { "," })?;
            if day.ordinal != 0 {
                write!(f, "{}", day.ordinal)?;
            }
            f.write_str(WEEKDAYS[day.weekday as usize])?;
        }
        list(f, "BYHOUR", &mut bits(u64::from(self.hours)))?;
        list(f, "BYMINUTE", &mut bits(self.minutes))?;
        list(f, "BYSECOND", &mut bits(self.seconds))?;
        list(f, "BYSETPOS", &mut self.positions.iter().copied())?;
        if self.week_start != 0 {
            write!(f, ";WKST={}", WEEKDAYS[self.week_start as usize])?;
        }
        Ok(())
    }
}

fn write_until(f: &mut fmt::Formatter<'_>, seconds: i64, suffix: &str) -> fmt::Result {
    use crate::days::{DAY, date_of};
    let (year, month, day) = date_of(seconds.div_euclid(DAY) as i32);
    let rest = seconds.rem_euclid(DAY);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    write!(f, ";UNTIL={year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}{suffix}")
}

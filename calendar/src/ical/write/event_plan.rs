//! What is written for one series, with its times in the form that the event uses.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::days::DAY;
use crate::occurrences::Occurrence;
use crate::recurrence::Recurrence;
use crate::rule::{End, RecurrenceRule, Until};
use crate::zone::{local_seconds, timestamp};

/// The most dates, and the most exceptions, that are written for one series.
pub(super) const MAX_WRITTEN: usize = 2_000;

/// The form of an event's times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IcalTimeForm {
    Day,
    Utc,
    Local,
}

/// A time in the form in which it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum WrittenTime {
    Day(Date),
    Local(DateTime),
    Utc(Timestamp),
}

/// An override.
pub(in crate::ical) struct OverrideEvent {
    pub(super) id: WrittenTime,
    pub(super) this_and_future: bool,
    pub(super) cancelled: bool,
    pub(super) start: WrittenTime,
    pub(super) length: (i64, SignedDuration),
}

/// One series, ready to be written.
pub(in crate::ical) struct EventPlan {
    pub(super) form: IcalTimeForm,
    pub(super) zone: String,
    pub(super) tz: TimeZone,
    pub(super) start: WrittenTime,
    /// Calendar days, and an exact time.
    pub(super) length: (i64, SignedDuration),
    pub(super) rules: Vec<String>,
    pub(super) except_rules: Vec<String>,
    pub(super) dates: Vec<WrittenTime>,
    pub(super) except: Vec<WrittenTime>,
    pub(super) changes: Vec<OverrideEvent>,
    /// From the first to the last time; `None` without an end.
    pub(super) span: (Timestamp, Option<Timestamp>),
    pub(super) remarks: Vec<String>,
}

impl EventPlan {
    pub(super) fn remark(&mut self, text: &str) {
        if self.remarks.iter().all(|it| it != text) {
            self.remarks.push(text.to_owned());
        }
    }

    /// The text of a rule. UNTIL is in UTC, or a date if the start is one (RFC 5545, section 3.3.10).
    pub(super) fn rule_text(&self, plain: &Recurrence, rule: &RecurrenceRule) -> String {
        let mut rule = rule.clone();
        let high = |local: i64| plain.zone.resolve(local).high;
        rule.end = match (rule.end, self.form) {
            (End::Until(Until::Local(local)), IcalTimeForm::Day) => {
                End::Until(Until::Date(local.div_euclid(DAY) as i32))
            }
            (End::Until(Until::Utc(at)), IcalTimeForm::Day) => {
                End::Until(Until::Date(plain.zone.local_of(at).div_euclid(DAY) as i32))
            }
            (End::Until(Until::Date(day)), IcalTimeForm::Utc | IcalTimeForm::Local) => {
                End::Until(Until::Utc(high(i64::from(day) * DAY + DAY - 1)))
            }
            (End::Until(Until::Local(local)), _) => End::Until(Until::Utc(high(local))),
            (end, _) => end,
        };
        rule.to_string()
    }

    /// A local time in the event's form.
    pub(super) fn written_time(&self, plain: &Recurrence, local: DateTime) -> WrittenTime {
        match self.form {
            IcalTimeForm::Day => WrittenTime::Day(local.date()),
            IcalTimeForm::Local => WrittenTime::Local(local),
            IcalTimeForm::Utc => {
                let resolved = plain.zone.resolve(local_seconds(local));
                // A time that does not exist is moved later, not earlier (RFC 5545, section 3.3.5).
                WrittenTime::Utc(timestamp(resolved.first.map_or(resolved.high, |moment| moment.at)))
            }
        }
    }

    /// An occurrence by its name, or by its instant if the name belongs to another occurrence.
    pub(super) fn named_time(&self, it: &Occurrence) -> WrittenTime {
        match self.form {
            IcalTimeForm::Day => WrittenTime::Day(it.local_start.date()),
            IcalTimeForm::Local if !it.repeated => WrittenTime::Local(it.local_start),
            IcalTimeForm::Local | IcalTimeForm::Utc => WrittenTime::Utc(it.start),
        }
    }

    pub(super) fn instant(&self, stamp: WrittenTime) -> Option<Timestamp> {
        match stamp {
            WrittenTime::Day(day) => self.tz.to_timestamp(day.at(0, 0, 0, 0)).ok(),
            WrittenTime::Local(local) => self.tz.to_timestamp(local).ok(),
            WrittenTime::Utc(at) => Some(at),
        }
    }

    /// A value of RDATE: in UTC, since libical ignores its TZID. A time that does not exist keeps its name.
    pub(super) fn rdate_time(&self, stamp: WrittenTime) -> WrittenTime {
        match stamp {
            WrittenTime::Local(local) => match self.tz.to_timestamp(local) {
                Ok(at) if self.tz.to_datetime(at) == local => WrittenTime::Utc(at),
                _ => stamp,
            },
            _ => stamp,
        }
    }
}

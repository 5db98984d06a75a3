//! The days of one period of a rule of DAILY or longer, by RFC 5545's table of which BY-parts expand and which
//! limit.
//!
//! Months are bit masks, so a limiting part is one `&`. Times of day, BYSETPOS and zones are handled elsewhere.

use crate::days::{
    self, YearMask, add_weeks, add_year_day, add_year_weekdays, date_of, day_number, month_length,
    month_mask, month_offset, weekday, weekday_mask,
};
use crate::rule::RecurrenceRule;

/// A rule, and what its start supplies.
#[derive(Debug, Clone)]
pub(crate) struct PeriodDays {
    pub(crate) rule: RecurrenceRule,
    pub(crate) start_day: i32,
    /// Year, month and day of the start.
    pub(crate) start_date: (i32, i32, i32),
}

impl PeriodDays {
    pub(crate) fn new(rule: &RecurrenceRule, start_day: i32) -> Self {
        Self { rule: rule.clone(), start_day, start_date: date_of(start_day) }
    }

    /// The first day of the week that contains `day`.
    pub(crate) fn week_of(&self, day: i32) -> i32 {
        day - (weekday(day) - self.rule.week_start).rem_euclid(7)
    }

    /// RFC 5545's table for YEARLY: BYMONTH, BYWEEKNO, BYYEARDAY and BYMONTHDAY expand, BYDAY by its note 2.
    pub(crate) fn year(&self, year: i32, out: &mut Vec<i32>) {
        let rule = &self.rule;
        let (_, start_month, start_day) = self.start_date;
        let bare = rule.weeks.is_empty() && rule.year_days.is_empty() && rule.month_days.is_empty();
        let months =
            if rule.months == 0 && bare && rule.days.is_empty() { 1 << start_month } else { rule.months };
        let mut mask: YearMask = [0; 12];
        for month in (1..=12).filter(|month| months == 0 || months >> month & 1 == 1) {
            mask[(month - 1) as usize] = month_mask(year, month);
        }
        let mut keep = |fill: &mut dyn FnMut(&mut YearMask)| {
            let mut part: YearMask = [0; 12];
            fill(&mut part);
            mask.iter_mut().zip(part).for_each(|(all, part)| *all &= part);
        };
        if !rule.weeks.is_empty() {
            keep(&mut |part| add_weeks(part, year, &rule.weeks, rule.week_start));
        }
        if !rule.year_days.is_empty() {
            let length = days::year_length(year);
            keep(&mut |part| {
                for &day in &rule.year_days {
                    add_year_day(part, year, if day > 0 { day - 1 } else { length + day });
                }
            });
        }
        if !rule.month_days.is_empty() {
            keep(&mut |part| {
                for month in 1..=12 {
                    part[(month - 1) as usize] = rule.month_day_mask(month_length(year, month));
                }
            });
        }
        if !rule.days.is_empty() {
            keep(&mut |part| {
                for day in &rule.days {
                    if rule.months == 0 {
                        add_year_weekdays(part, year, day.weekday, day.ordinal);
                    } else {
                        for month in 1..=12 {
                            let first = weekday(day_number(year, month, 1));
                            part[(month - 1) as usize] |=
                                weekday_mask(first, month_length(year, month), day.weekday, day.ordinal);
                        }
                    }
                }
            });
        } else if bare {
            keep(&mut |part| *part = [1 << (start_day - 1); 12]);
        } else if rule.year_days.is_empty() && rule.month_days.is_empty() {
            // BYWEEKNO alone: the start supplies the weekday.
            keep(&mut |part| add_year_weekdays(part, year, weekday(self.start_day), 0));
        }
        for month in 1..=12 {
            push_month(day_number(year, month, 1), mask[(month - 1) as usize], out);
        }
    }

    /// MONTHLY: BYMONTH limits and BYMONTHDAY expands. BYDAY limits if BYMONTHDAY is present, otherwise it expands.
    pub(crate) fn month(&self, year: i32, month: i32, out: &mut Vec<i32>) {
        let rule = &self.rule;
        if rule.months != 0 && rule.months >> month & 1 == 0 {
            return;
        }
        let (first, length) = (day_number(year, month, 1), month_length(year, month));
        let mut mask = u32::MAX >> (32 - length);
        if !rule.month_days.is_empty() {
            mask &= rule.month_day_mask(length);
        }
        if !rule.days.is_empty() {
            let weekday = weekday(first);
            let days = rule.days.iter();
            mask &= days.fold(0, |all, day| all | weekday_mask(weekday, length, day.weekday, day.ordinal));
        } else if rule.month_days.is_empty() {
            mask &= 1 << (self.start_date.2 - 1);
        }
        push_month(first, mask, out);
    }

    /// WEEKLY: BYDAY expands, BYMONTH limits.
    pub(crate) fn week(&self, first: i32, out: &mut Vec<i32>) {
        let rule = &self.rule;
        for day in first..first + 7 {
            let wanted = if rule.days.is_empty() {
                weekday(day) == weekday(self.start_day)
            } else {
                rule.days.iter().any(|it| it.weekday == weekday(day))
            };
            if wanted && (rule.months == 0 || rule.months >> date_of(day).1 & 1 == 1) {
                out.push(day);
            }
        }
    }
}

fn push_month(first: i32, mut mask: u32, out: &mut Vec<i32>) {
    while mask != 0 {
        out.push(first + mask.trailing_zeros() as i32);
        mask &= mask - 1;
    }
}

impl RecurrenceRule {
    fn month_day_mask(&self, length: i32) -> u32 {
        let days = self.month_days.iter().map(|&day| if day > 0 { day } else { length + 1 + day });
        days.filter(|day| (1..=length).contains(day)).fold(0, |mask, day| mask | 1 << (day - 1))
    }

    /// Whether the limiting BY-parts allow this day, for rules of DAILY and shorter (RFC 5545's table).
    pub(crate) fn allows_day(&self, day: i32) -> bool {
        let (year, month, day_of_month) = date_of(day);
        let of_year = || {
            let day_of_year = month_offset(year, month) + day_of_month;
            let length = days::year_length(year);
            self.year_days.iter().any(|&it| it == day_of_year || it == day_of_year - length - 1)
        };
        (self.months == 0 || self.months >> month & 1 == 1)
            && (self.month_days.is_empty() || {
                let from_end = day_of_month - month_length(year, month) - 1;
                self.month_days.iter().any(|&it| it == day_of_month || it == from_end)
            })
            && (self.days.is_empty() || self.days.iter().any(|it| it.weekday == weekday(day)))
            && (self.year_days.is_empty() || of_year())
    }
}

//! Day arithmetic on plain integers in the proleptic Gregorian calendar.
//!
//! Days count from 1970-01-01, weekdays from Monday = 0. The days of a month are a bit mask (bit 0 is the 1st), and
//! those of a year are twelve masks, so BY-parts intersect with a few `&`.

/// Seconds in a day without a change of the clocks.
pub(crate) const DAY: i64 = 86_400;
/// The last year of the calendar.
pub(crate) const LAST_YEAR: i32 = 9998;
/// Days in the 400 years after which the Gregorian calendar repeats, weekdays included.
pub(crate) const CYCLE_DAYS: i64 = 146_097;

const BEFORE_MONTH: [i32; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
/// Days 1, 8, 15, 22 and 29 of a month.
const WEEKLY: u32 = 1 | 1 << 7 | 1 << 14 | 1 << 21 | 1 << 28;

/// The days of a year, one mask for each month.
pub(crate) type YearMask = [u32; 12];

pub(crate) fn is_leap(year: i32) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

pub(crate) fn year_length(year: i32) -> i32 {
    if is_leap(year) { 366 } else { 365 }
}

/// Days in `month`, 1 to 12.
pub(crate) fn month_length(year: i32, month: i32) -> i32 {
    match month {
        2 => 28 + i32::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// All days of `month` as a mask.
pub(crate) fn month_mask(year: i32, month: i32) -> u32 {
    u32::MAX >> (32 - month_length(year, month))
}

/// Zero-based day of the year on which `month` begins.
pub(crate) fn month_offset(year: i32, month: i32) -> i32 {
    BEFORE_MONTH[(month - 1) as usize] + i32::from(month > 2 && is_leap(year))
}

/// Day number of a date.
pub(crate) fn day_number(year: i32, month: i32, day: i32) -> i32 {
    let y = year - 1;
    let before_year = 365 * y + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400);
    before_year + month_offset(year, month) + day - 1 - 719_162
}

/// Year, month and day of a day number.
pub(crate) fn date_of(number: i32) -> (i32, i32, i32) {
    // Hinnant's algorithm: years begin in March, so that the leap day is the last.
    let z = number + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i32::from(month <= 2), month, day)
}

/// Weekday of a day number, Monday = 0.
pub(crate) fn weekday(number: i32) -> i32 {
    (number + 3).rem_euclid(7)
}

/// The days of a month that fall on a weekday. The month has `length` days and begins on the weekday `first`. An
/// `ordinal` other than 0 picks only the nth, counted from the end if negative.
pub(crate) fn weekday_mask(first: i32, length: i32, weekday_wanted: i32, ordinal: i32) -> u32 {
    let into = (weekday_wanted - first).rem_euclid(7);
    match nth(into, length, ordinal) {
        None => 0,
        Some(None) => (WEEKLY << into) & (u32::MAX >> (32 - length)),
        Some(Some(day)) => 1 << day,
    }
}

/// Adds the days of a year that fall on a weekday. An `ordinal` other than 0 picks only the nth of the year.
pub(crate) fn add_year_weekdays(mask: &mut YearMask, year: i32, weekday_wanted: i32, ordinal: i32) {
    let first = (weekday_wanted - weekday(day_number(year, 1, 1))).rem_euclid(7);
    match nth(first, year_length(year), ordinal) {
        None => {}
        Some(None) => {
            for month in 1..=12 {
                let first = weekday(day_number(year, month, 1));
                mask[(month - 1) as usize] |=
                    weekday_mask(first, month_length(year, month), weekday_wanted, 0);
            }
        }
        Some(Some(day)) => add_year_day(mask, year, day),
    }
}

/// The nth of a weekday in `length` days, of which day `first` is the first with that weekday: none, all, or one.
#[allow(clippy::option_option)]
fn nth(first: i32, length: i32, ordinal: i32) -> Option<Option<i32>> {
    if ordinal == 0 {
        return Some(None);
    }
    let last = first + (length - 1 - first) / 7 * 7;
    let day = if ordinal > 0 { first + 7 * (ordinal - 1) } else { last + 7 * (ordinal + 1) };
    (0..length).contains(&day).then_some(Some(day))
}

/// Adds a zero-based day of the year. Ignores one outside the year.
pub(crate) fn add_year_day(mask: &mut YearMask, year: i32, day_of_year: i32) {
    if !(0..year_length(year)).contains(&day_of_year) {
        return;
    }
    let month = (1..=12).rev().find(|m| month_offset(year, *m) <= day_of_year).unwrap_or(1);
    mask[(month - 1) as usize] |= 1 << (day_of_year - month_offset(year, month));
}

/// Day number of the first day of week 1 of `year`, if weeks begin on `week_start`: the first week with four days
/// in the year.
pub(crate) fn first_week(year: i32, week_start: i32) -> i32 {
    let new_year = day_number(year, 1, 1);
    let into_week = (weekday(new_year) - week_start).rem_euclid(7);
    if into_week <= 3 { new_year - into_week } else { new_year - into_week + 7 }
}

/// Adds the days of the calendar `year` that lie in the given weeks (negative: from the end), of whichever
/// week-numbering year.
pub(crate) fn add_weeks(mask: &mut YearMask, year: i32, weeks: &[i32], week_start: i32) {
    let new_year = day_number(year, 1, 1);
    for week_year in year - 1..=year + 1 {
        let first = first_week(week_year, week_start);
        let count = (first_week(week_year + 1, week_start) - first) / 7;
        for &week in weeks {
            let index = if week > 0 { week - 1 } else { count + week };
            if (0..count).contains(&index) {
                for day in 0..7 {
                    add_year_day(mask, year, first + 7 * index + day - new_year);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    #[test]
    fn day_numbers_agree_with_jiff_and_round_trip() {
        let epoch = date(1970, 1, 1);
        for number in (-200_000..2_900_000).step_by(97) {
            let (y, m, d) = date_of(number);
            assert_eq!(day_number(y, m, d), number);
            let there = date(y as i16, m as i8, d as i8);
            assert_eq!(epoch.until(there).unwrap().get_days(), number);
            assert_eq!(i32::from(there.weekday().to_monday_zero_offset()), weekday(number));
        }
    }

    #[test]
    fn iso_weeks_agree_with_jiff() {
        for year in 1990..2050 {
            let week_one = first_week(year, 0);
            let (y, m, d) = date_of(week_one);
            let iso = date(y as i16, m as i8, d as i8).iso_week_date();
            assert_eq!((i32::from(iso.year()), iso.week()), (year, 1));
        }
    }
}

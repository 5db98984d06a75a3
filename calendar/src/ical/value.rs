//! Reads and writes property values: dates, times, durations and offsets (RFC 5545, section 3.3).
//!
//! It looks up no time zone: a time with a TZID is a local time here.

use jiff::civil::{Date, DateTime, Time};
use jiff::{SignedDuration, Timestamp};

/// Calendar days, then seconds.
pub(super) type DaysAndSeconds = (i64, i64);

/// Writes a length into the fields of a spec.
pub(super) fn set_length(
    duration: &mut Option<SignedDuration>,
    nominal: &mut u16,
    (days, seconds): DaysAndSeconds,
    all_day: bool,
) {
    if all_day {
        *duration = Some(SignedDuration::from_secs(days * 86_400 + seconds));
    } else {
        *nominal = u16::try_from(days).unwrap_or(u16::MAX);
        *duration = (seconds != 0 || days == 0).then(|| SignedDuration::from_secs(seconds));
    }
}

/// A date, a local time or an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IcalTime {
    Day(Date),
    Local(DateTime),
    Utc(Timestamp),
}

/// Reads `20260105`, `20260105T100000` or `20260105T100000Z`. Seconds may be absent, and dashes and colons may be
/// present: files have both, and neither is ambiguous.
pub(super) fn when(text: &str) -> Option<IcalTime> {
    let text = text.trim();
    let (day, time) = match text.find(['T', 't']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let date = digits(day, '-', &[4, 2, 2])?;
    let date = Date::new(date[0], date[1] as i8, date[2] as i8).ok()?;
    let Some(time) = time else { return Some(IcalTime::Day(date)) };
    let (time, utc) = match time.strip_suffix(['Z', 'z']) {
        Some(time) => (time, true),
        None => (time, false),
    };
    let time = digits(time, ':', &[2, 2, 2]).or_else(|| digits(time, ':', &[2, 2]))?;
    // A leap second counts as the second before it (3.3.12).
    let second = time.get(2).copied().unwrap_or(0).min(if time.get(2) == Some(&60) { 59 } else { 60 });
    let time = Time::new(time[0] as i8, time[1] as i8, second as i8, 0).ok()?;
    let local = date.to_datetime(time);
    if utc {
        return jiff::tz::Offset::UTC.to_timestamp(local).ok().map(IcalTime::Utc);
    }
    Some(IcalTime::Local(local))
}

/// Numbers with these counts of digits, with the separator either between all of them or nowhere.
fn digits(text: &str, separator: char, lengths: &[usize]) -> Option<Vec<i16>> {
    let mut rest = text;
    let separated = text.contains(separator);
    let mut numbers = Vec::with_capacity(lengths.len());
    for (index, length) in lengths.iter().enumerate() {
        if separated && index > 0 {
            rest = rest.strip_prefix(separator)?;
        }
        let (number, behind) = rest.split_at_checked(*length)?;
        if !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        numbers.push(number.parse().ok()?);
        rest = behind;
    }
    rest.is_empty().then_some(numbers)
}

/// A duration: calendar days, then exact seconds, both with the same sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct IcalDuration {
    pub(super) days: i32,
    pub(super) seconds: i64,
}

impl IcalDuration {
    /// Reads `-PT15M`, `P1DT2H` or `P2W`, also Outlook's `PT0S` and Google's `P0DT0H10M0S`. At most 1,000 days.
    pub(super) fn read(text: &str) -> Option<Self> {
        let text = text.trim();
        let (sign, text) = match text.strip_prefix('-') {
            Some(text) => (-1, text),
            None => (1, text.strip_prefix('+').unwrap_or(text)),
        };
        let mut rest = text.strip_prefix(['P', 'p'])?;
        let mut span = Self::default();
        let mut units: &[(char, i64, bool)] = &[('W', 7, true), ('D', 1, true)];
        if rest.is_empty() || rest.ends_with(['T', 't']) {
            return None;
        }
        while !rest.is_empty() {
            if let Some(time) = rest.strip_prefix(['T', 't']) {
                units = &[('H', 3600, false), ('M', 60, false), ('S', 1, false)];
                rest = time;
            }
            let count = rest.bytes().take_while(u8::is_ascii_digit).count();
            let number: i64 = rest.get(..count).filter(|it| it.len() <= 9)?.parse().ok()?;
            let unit = rest[count..].chars().next()?.to_ascii_uppercase();
            let place = units.iter().position(|(name, ..)| *name == unit)?;
            let (_, factor, nominal) = units[place];
            if nominal {
                span.days = span.days.checked_add(i32::try_from(number * factor).ok()?)?;
            } else {
                span.seconds += number * factor;
            }
            units = &units[place + 1..];
            rest = &rest[count + 1..];
        }
        let longest = 1_000;
        let fits = span.days <= longest && span.seconds <= i64::from(longest) * 86_400;
        fits.then_some(Self { days: sign * span.days, seconds: i64::from(sign) * span.seconds })
    }

    /// The seconds, if each day had 24 hours.
    pub(super) fn total(self) -> i64 {
        i64::from(self.days) * 86_400 + self.seconds
    }
}

/// Reads the seconds of `+0100`, `-0330` or `+001730`.
pub(super) fn offset(text: &str) -> Option<i32> {
    let text = text.trim();
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let text = text.strip_prefix(['+', '-'])?;
    let parts = digits(text, ':', &[2, 2, 2]).or_else(|| digits(text, ':', &[2, 2]))?;
    let [hours, minutes] = [parts[0], parts[1]].map(i32::from);
    let seconds = parts.get(2).map_or(0, |it| i32::from(*it));
    (hours < 24 && minutes < 60 && seconds < 60).then_some(sign * (hours * 3600 + minutes * 60 + seconds))
}

pub(super) fn write_date(date: Date) -> String {
    date.strftime("%Y%m%d").to_string()
}

pub(super) fn write_local(time: DateTime) -> String {
    time.strftime("%Y%m%dT%H%M%S").to_string()
}

pub(super) fn write_utc(at: Timestamp) -> String {
    at.strftime("%Y%m%dT%H%M%SZ").to_string()
}

pub(super) fn write_offset(seconds: i32) -> String {
    let (sign, all) = (if seconds < 0 { '-' } else { '+' }, seconds.abs());
    let rest = if all % 60 == 0 { String::new() } else { format!("{:02}", all % 60) };
    format!("{sign}{:02}{:02}{rest}", all / 3600, all / 60 % 60)
}

/// Writes calendar days and an exact time: `P1D`, `PT24H`, `P1DT30M`, `PT0S`.
pub(super) fn write_span(days: i64, exact: SignedDuration) -> String {
    let all = exact.as_secs();
    let sign = if days < 0 || all < 0 { "-" } else { "" };
    let (days, all) = (days.abs(), all.abs());
    let mut text = format!("{sign}P");
    if days > 0 {
        text.push_str(&days.to_string());
        text.push('D');
    }
    if all > 0 || days == 0 {
        text.push('T');
        for (unit, count) in [('H', all / 3600), ('M', all / 60 % 60), ('S', all % 60)] {
            if count > 0 {
                text.push_str(&count.to_string());
                text.push(unit);
            }
        }
        if all == 0 {
            text += "0S";
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_where_they_can_be_read_in_one_way() {
        let day =
            |text| matches!(when(text), Some(IcalTime::Day(day)) if day == jiff::civil::date(2026, 1, 5));
        assert!(day("20260105") && day("2026-01-05"));
        let ten = jiff::civil::date(2026, 1, 5).at(10, 0, 0, 0);
        for text in ["20260105T100000", "20260105T1000", "2026-01-05T10:00:00", " 20260105t100000 "] {
            assert_eq!(when(text), Some(IcalTime::Local(ten)), "{text}");
        }
        assert_eq!(when("20260105T100000Z"), Some(IcalTime::Utc("2026-01-05T10:00:00Z".parse().unwrap())));
        assert!(
            matches!(when("20161231T235960Z"), Some(IcalTime::Utc(at)) if at.to_string() == "2016-12-31T23:59:59Z")
        );
        for text in
            ["", "2026", "20260132", "20260105T", "20260105T25", "20260105T1000000", "2026-0105", "soon"]
        {
            assert_eq!(when(text), None, "{text}");
        }
    }

    #[test]
    fn durations_and_offsets_are_read_and_written() {
        let read = |text| IcalDuration::read(text).map(|span| (span.days, span.seconds));
        assert_eq!(read("-PT15M"), Some((0, -900)));
        assert_eq!(read("P1DT2H"), Some((1, 7200)));
        assert_eq!(read("P2W"), Some((14, 0)));
        assert_eq!(read("-P0DT0H10M0S"), Some((0, -600)));
        for text in ["", "P", "PT", "15M", "PT15", "P1H", "PT1M2H", "P1001D", "P9999999999D", "P1é"] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(offset("+0530"), Some(19_800));
        assert_eq!(offset("-001730"), Some(-1_050));
        assert_eq!((offset("0100"), offset("+2500")), (None, None));
        assert_eq!((write_offset(-1_050), write_offset(3_600)), ("-001730".to_owned(), "+0100".to_owned()));
        for text in ["P1D", "PT24H", "P1DT30M", "PT0S", "PT1H1M1S"] {
            let span = IcalDuration::read(text).unwrap();
            assert_eq!(write_span(span.days.into(), SignedDuration::from_secs(span.seconds)), text);
        }
    }
}

//! Parses times and property lines as other programs write them, in the forms of RFC 5545 and ISO 8601.
//!
//! Ambiguous texts are refused. The crate `calendar` parses the rules themselves.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::{Offset, TimeZone};

/// What error messages say about times.
pub(crate) const ALLOWED_TIMES: &str = "a local time 2026-01-05T10:00:00 or 20260105T100000, the same with Z or an offset, or a \
                                date 2026-01-05 or 20260105";

/// A date, a local time or an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ParsedTime {
    Day(Date),
    Local(DateTime),
    Instant(Timestamp),
}

impl ParsedTime {
    /// Parses a time in whole seconds.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let time = Self::parse_exact(text)?;
        let whole = match time {
            Self::Day(_) => true,
            Self::Local(local) => local.subsec_nanosecond() == 0,
            Self::Instant(at) => at.subsec_nanosecond() == 0,
        };
        whole.then_some(time)
    }

    /// Parses a time that may have fractions of a second, as in RFC 3339. Digits beyond nanoseconds are cut off.
    pub(crate) fn parse_exact(text: &str) -> Option<Self> {
        let (date, rest) = date(text.trim())?;
        if rest.is_empty() {
            return Some(Self::Day(date));
        }
        let (time, zone) = time(rest.strip_prefix(['T', 't', ' '])?)?;
        let local = date.to_datetime(time);
        if zone.is_empty() {
            return Some(Self::Local(local));
        }
        offset(zone)?.to_timestamp(local).ok().map(Self::Instant)
    }

    /// The text in the calendar's form. A local time of another zone becomes an instant.
    pub(crate) fn write(self, other: Option<&TimeZone>) -> Option<String> {
        Some(match (self, other) {
            (Self::Day(date), _) => date.to_string(),
            (Self::Local(local), None) => local.to_string(),
            (Self::Local(local), Some(zone)) => zone.to_timestamp(local).ok()?.to_string(),
            (Self::Instant(at), _) => at.to_string(),
        })
    }

    /// The instant in `zone`; for a date its midnight.
    pub(crate) fn instant(self, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Self::Day(date) => zone.to_timestamp(date.at(0, 0, 0, 0)).ok(),
            Self::Local(local) => zone.to_timestamp(local).ok(),
            Self::Instant(at) => Some(at),
        }
    }
}

/// Splits off a number of `count` digits.
fn digits(text: &str, count: usize) -> Option<(i16, &str)> {
    let (digits, rest) = text.split_at_checked(count)?;
    let all = digits.bytes().all(|b| b.is_ascii_digit());
    all.then(|| digits.parse().ok()).flatten().map(|number| (number, rest))
}

fn date(text: &str) -> Option<(Date, &str)> {
    let (year, rest) = digits(text, 4)?;
    let dash = if rest.starts_with('-') { "-" } else { "" };
    let (month, rest) = digits(rest.strip_prefix(dash)?, 2)?;
    let (day, rest) = digits(rest.strip_prefix(dash)?, 2)?;
    Some((Date::new(year, month as i8, day as i8).ok()?, rest))
}

fn time(text: &str) -> Option<(jiff::civil::Time, &str)> {
    let (hour, rest) = digits(text, 2)?;
    let colon = if rest.starts_with(':') { ":" } else { "" };
    let (minute, mut rest) = digits(rest.strip_prefix(colon)?, 2)?;
    let (mut second, mut nanosecond) = (0, 0);
    if let Some((number, behind)) = rest.strip_prefix(colon).and_then(|rest| digits(rest, 2)) {
        (second, rest) = (number, behind);
        if let Some(fraction) = rest.strip_prefix('.') {
            // RFC 3339: one digit or more.
            let count = fraction.bytes().take_while(u8::is_ascii_digit).count();
            let (digits, behind) = fraction.split_at_checked(count).filter(|_| count > 0)?;
            nanosecond = format!("{:0<9}", &digits[..count.min(9)]).parse().ok()?;
            rest = behind;
        }
    }
    // A leap second is read as the second before it (RFC 5545, section 3.3.12).
    let second = if second == 60 { 59 } else { second };
    Some((jiff::civil::Time::new(hour as i8, minute as i8, second as i8, nanosecond).ok()?, rest))
}

fn offset(text: &str) -> Option<Offset> {
    if text.eq_ignore_ascii_case("Z") {
        return Some(Offset::UTC);
    }
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let (hours, rest) = digits(text.strip_prefix(['+', '-'])?, 2)?;
    let (minutes, rest) = digits(rest.strip_prefix(':').unwrap_or(rest), 2)?;
    let seconds = i32::from(hours) * 3600 + i32::from(minutes) * 60;
    if rest.is_empty() { Offset::from_seconds(sign * seconds).ok() } else { None }
}

/// Parses a line of iCalendar: the property's name, its TZID, and its value. `None` if the line is not a known property.
pub(crate) fn property(line: &str) -> Option<(String, Option<&str>, &str)> {
    let (head, value) = line.split_once(':')?;
    let mut parts = head.split(';');
    let name = parts.next()?.trim().to_ascii_uppercase();
    let known = ["RRULE", "EXRULE", "RDATE", "EXDATE", "DTSTART"];
    if !known.contains(&name.as_str()) {
        return None;
    }
    let zone =
        parts.filter_map(|part| part.split_once('=')).find(|(key, _)| key.eq_ignore_ascii_case("TZID"));
    Some((name, zone.map(|(_, zone)| zone.trim_matches('"')), value.trim()))
}

/// Splits iCalendar text into lines; joins folded lines and drops blank ones.
pub(crate) fn unfolded_lines(text: &str) -> Vec<String> {
    let whole = text.replace("\r\n", "\n").replace("\n ", "").replace("\n\t", "");
    whole.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_parsed_in_the_forms_of_the_rfc_and_of_iso() {
        let read = |text| ParsedTime::parse(text).and_then(|time| time.write(None));
        for text in ["2026-01-05", "20260105"] {
            assert_eq!(read(text).as_deref(), Some("2026-01-05"), "{text}");
        }
        for text in [
            "2026-01-05T10:00:00",
            "20260105T100000",
            "2026-01-05 10:00",
            "20260105T1000",
            "2026-01-05T10:00:00.000",
        ] {
            assert_eq!(read(text).as_deref(), Some("2026-01-05T10:00:00"), "{text}");
        }
        for text in
            ["2026-01-05T10:00:00Z", "20260105T100000Z", "2026-01-05T19:00:00+09:00", "20260105T050000-0500"]
        {
            assert_eq!(read(text).as_deref(), Some("2026-01-05T10:00:00Z"), "{text}");
        }
        for text in [
            "",
            "2026-01-32",
            "202601",
            "20260105T10",
            "20260105T100000.5",
            "20260105T100000X",
            "20260105T250000",
            "soon",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}

//! CEL's timestamps (years 1 to 9999) and durations (an `i64` of nanoseconds).

use std::fmt::Write;
use std::sync::LazyLock;

use jiff::{
    Timestamp,
    civil::DateTime,
    tz::{TimeZone, TimeZoneDatabase},
};

use super::fault::Op;

const SECOND: i64 = 1_000_000_000;
/// 0001-01-01T00:00:00Z, Unix seconds.
const FIRST: i64 = -62_135_596_800;
/// 9999-12-31T23:59:59Z, Unix seconds.
const LAST: i64 = 253_402_300_799;

/// The bundled time zones: the same everywhere, without reading files.
static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// An instant, and the UTC offset with which it was written. Getters without a zone use that offset.
#[derive(Debug, Clone, Copy)]
pub(super) struct Time {
    seconds: i64,
    nanos: u32,
    offset: i32,
}

impl Time {
    pub(super) fn from_millis(millis: i64) -> Self {
        let nanos = millis.rem_euclid(1_000) as u32 * 1_000_000;
        Self { seconds: millis.div_euclid(1_000), nanos, offset: 0 }
    }

    fn at(seconds: i64, nanos: u32, offset: i32) -> Option<Self> {
        (FIRST..=LAST).contains(&seconds).then_some(Self { seconds, nanos, offset })
    }

    pub(super) fn from_seconds(seconds: i64) -> Option<Self> {
        Self::at(seconds, 0, 0)
    }

    pub(super) fn seconds(self) -> i64 {
        self.seconds
    }

    pub(super) fn instant(self) -> (i64, u32) {
        (self.seconds, self.nanos)
    }

    /// Parses an RFC 3339 timestamp.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let digits = |from: usize, to: usize| {
            let part = text.get(from..to)?;
            part.bytes().all(|it| it.is_ascii_digit()).then(|| part.parse::<i16>().ok()).flatten()
        };
        let byte = |at: usize| text.as_bytes().get(at).copied();
        let separated =
            [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')].iter().all(|(at, it)| byte(*at) == Some(*it));
        if !separated || !matches!(byte(10)?, b'T' | b't' | b' ') {
            return None;
        }
        let (mut at, mut nanos) = (19, 0_u32);
        if byte(at)? == b'.' {
            at += 1;
            let start = at;
            let mut unit = 100_000_000;
            while let Some(digit @ b'0'..=b'9') = byte(at) {
                nanos += u32::from(digit - b'0') * unit;
                unit /= 10;
                at += 1;
            }
            if at == start {
                return None;
            }
        }
        let offset = match byte(at)? {
            b'Z' | b'z' if text.len() == at + 1 => 0,
            sign @ (b'+' | b'-') if text.len() == at + 6 && byte(at + 3)? == b':' => {
                let (hours, minutes) = (digits(at + 1, at + 3)?, digits(at + 4, at + 6)?);
                if hours > 23 || minutes > 59 {
                    return None;
                }
                let seconds = i32::from(hours) * 3_600 + i32::from(minutes) * 60;
                if sign == b'-' { -seconds } else { seconds }
            }
            _ => return None,
        };
        let (month, day) = (digits(5, 7)? as i8, digits(8, 10)? as i8);
        let (hour, minute, second) = (digits(11, 13)? as i8, digits(14, 16)? as i8, digits(17, 19)? as i8);
        let civil = DateTime::new(digits(0, 4)?, month, day, hour, minute, second, 0).ok()?;
        let days = i64::from(civil.date().since(EPOCH).ok()?.get_days());
        let clock = i64::from(hour) * 3_600 + i64::from(minute) * 60 + i64::from(second);
        Self::at(days * 86_400 + clock - i64::from(offset), nanos, offset)
    }

    pub(super) fn plus(self, span: i64) -> Option<Self> {
        let nanos = i64::from(self.nanos) + span.rem_euclid(SECOND);
        let seconds = self.seconds.checked_add(span.div_euclid(SECOND) + nanos / SECOND)?;
        Self::at(seconds, (nanos % SECOND) as u32, self.offset)
    }

    pub(super) fn minus(self, span: i64) -> Option<Self> {
        // The smallest span cannot be negated.
        span.checked_neg().map_or_else(|| self.plus(i64::MAX)?.plus(1), |span| self.plus(span))
    }

    /// The duration from `other` to `self`.
    pub(super) fn since(self, other: Self) -> Option<i64> {
        let seconds = i128::from(self.seconds) - i128::from(other.seconds);
        let nanos = seconds * i128::from(SECOND) + i128::from(self.nanos) - i128::from(other.nanos);
        i64::try_from(nanos).ok()
    }

    /// The same instant with a zone's offset; the zone is an IANA name or `[+-]HH:MM`.
    pub(super) fn in_zone(self, zone: &str) -> Option<Self> {
        let offset = match zone.split_once(':') {
            Some((hours, minutes)) => {
                let (hour, minute) = (hours.parse::<i32>().ok()?, minutes.parse::<i32>().ok()?);
                if !(-23..=23).contains(&hour) || !(0..=59).contains(&minute) {
                    return None;
                }
                (if hours.starts_with('-') { hour * 60 - minute } else { hour * 60 + minute }) * 60
            }
            None if zone.is_empty() => 0,
            None => {
                let nearest = if self.seconds < 0 { Timestamp::MIN } else { Timestamp::MAX };
                let at = Timestamp::new(self.seconds, 0).unwrap_or(nearest);
                let zone: TimeZone = ZONES.get(zone).ok()?;
                zone.to_offset(at).seconds()
            }
        };
        Some(Self { offset, ..self })
    }

    /// The civil time at its offset.
    fn civil(self) -> DateTime {
        let local = self.seconds.saturating_add(i64::from(self.offset));
        let days = local.div_euclid(86_400).clamp(-4_000_000, 4_000_000);
        let second = local.rem_euclid(86_400) as i32;
        let clock =
            jiff::civil::Time::midnight().wrapping_add(jiff::SignedDuration::from_secs(second.into()));
        EPOCH.saturating_add(jiff::SignedDuration::from_hours(days * 24)).to_datetime(clock)
    }

    /// The part that a getter returns.
    pub(super) fn part(self, getter: Op) -> Option<i64> {
        let civil = self.civil();
        Some(match getter {
            Op::FullYear => i64::from(civil.year()),
            Op::Month => i64::from(civil.month()) - 1,
            Op::DayOfYear => i64::from(civil.day_of_year()) - 1,
            Op::DayOfMonth => i64::from(civil.day()) - 1,
            Op::Date => i64::from(civil.day()),
            Op::DayOfWeek => i64::from(civil.weekday().to_sunday_zero_offset()),
            Op::Hours => i64::from(civil.hour()),
            Op::Minutes => i64::from(civil.minute()),
            Op::Seconds => i64::from(civil.second()),
            Op::Milliseconds => i64::from(self.nanos / 1_000_000),
            _ => return None,
        })
    }

    /// Writes it as `string()` does.
    pub(super) fn write(self, into: &mut impl Write) {
        let civil = Self { offset: 0, ..self }.civil();
        let (date, time) = (civil.date(), civil.time());
        let _ = write!(
            into,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
            date.year(),
            date.month(),
            date.day(),
            time.hour(),
            time.minute(),
            time.second()
        );
        fraction(into, self.nanos);
        let _ = into.write_char('Z');
    }
}

const EPOCH: jiff::civil::Date = jiff::civil::date(1970, 1, 1);

fn fraction(into: &mut impl Write, mut nanos: u32) {
    if nanos == 0 {
        return;
    }
    let mut digits = 9;
    while nanos.is_multiple_of(10) {
        nanos /= 10;
        digits -= 1;
    }
    let _ = write!(into, ".{nanos:0digits$}");
}

/// Writes a duration as `string()` does.
pub(super) fn write_span(into: &mut impl Write, span: i64) {
    let _ = write!(into, "{}{}", if span < 0 { "-" } else { "" }, span.unsigned_abs() / SECOND as u64);
    fraction(into, (span.unsigned_abs() % SECOND as u64) as u32);
    let _ = into.write_char('s');
}

/// Parses a duration such as `1h30m`, `-1.5s`, `10ms` or `0` into nanoseconds.
pub(super) fn parse_span(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut sum = 0_i64;
    loop {
        let digits = rest.find(|it: char| !(it.is_ascii_digit() || it == '.')).unwrap_or(rest.len());
        let number: f64 = rest.get(..digits)?.parse().ok()?;
        rest = rest.get(digits..)?;
        let units = [("ms", 1e6), ("us", 1e3), ("ns", 1.0), ("h", 3_600e9), ("m", 60e9), ("s", 1e9)];
        let (unit, nanos) = units.into_iter().find(|(unit, _)| rest.starts_with(unit))?;
        rest = rest.get(unit.len()..)?;
        let nanos = number * nanos;
        if nanos > i64::MAX as f64 {
            return None;
        }
        sum = sum.checked_add(nanos as i64)?;
        if rest.is_empty() {
            return Some(if negative { -sum } else { sum });
        }
    }
}

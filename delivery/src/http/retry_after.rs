//! `Retry-After` (RFC 9110, 10.2.3): seconds, or a date in any of the three forms of RFC 9110, 5.6.7.

use domain::Millis;
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

/// The longest wait that counts.
const LONGEST: Millis = Millis::from_secs(24 * 3600);

/// How long to wait from `now`, at most 24 h; `None` if the header can't be read.
pub(super) fn wait(header: &str, now: Timestamp) -> Option<Millis> {
    let header = header.trim();
    if !header.is_empty() && header.bytes().all(|byte| byte.is_ascii_digit()) {
        // Digits that overflow ask for longer than the longest wait.
        let seconds = header.parse::<i64>().unwrap_or(i64::MAX).min(LONGEST.0 / 1000);
        return Some(Millis::from_secs(seconds));
    }
    let at = date(header)?;
    Some(Millis((at.as_millisecond() - now.as_millisecond()).max(0)).min(LONGEST))
}

fn date(text: &str) -> Option<Timestamp> {
    if let Ok(date) = jiff::fmt::rfc2822::parse(text) {
        return Some(date.timestamp());
    }
    let civil = ["%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"]
        .iter()
        .find_map(|format| DateTime::strptime(format, text).ok())?;
    Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_all_three_forms_of_a_date_are_read() {
        let now: Timestamp = "2026-11-21T08:49:07Z".parse().unwrap();
        for (header, seconds) in [
            ("30", 30),
            (" 0 ", 0),
            ("99999999999999999999", 86_400),
            ("Sat, 21 Nov 2026 08:49:37 GMT", 30),
            ("Saturday, 21-Nov-26 08:49:37 GMT", 30),
            ("Sat Nov 21 08:49:37 2026", 30),
            ("Sat, 21 Nov 2026 08:48:00 GMT", 0),
            ("Sat, 21 Nov 2099 08:48:00 GMT", 86_400),
        ] {
            assert_eq!(wait(header, now), Some(Millis::from_secs(seconds)), "{header}");
        }
        for header in ["", "soon", "-3", "1.5"] {
            assert_eq!(wait(header, now), None, "{header}");
        }
    }
}

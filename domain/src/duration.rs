//! Durations as users write them (Gateway API form, GEP-2257) and as the program holds them (whole milliseconds).

use serde::{Deserialize, Serialize};

/// A duration in whole milliseconds, never negative. In JSON a number.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(pub i64);

/// Why a text is not a duration in Gateway API form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a duration: write one to four of <number>h, <number>m, <number>s, <number>ms in this order, numbers of up to five digits, such as 1h30m, 15m or 500ms"
)]
pub struct DurationError {
    text: String,
}

const UNITS: [(&str, i64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl Millis {
    /// `n` seconds.
    pub const fn from_secs(n: i64) -> Self {
        Self(n * 1_000)
    }

    /// Parses the Gateway API form: `^([0-9]{1,5}(h|m|s|ms)){1,4}$`, each unit at most once and larger units first.
    pub fn parse(text: &str) -> Result<Self, DurationError> {
        let bad = || DurationError { text: text.chars().take(40).collect() };
        let (mut rest, mut next, mut total) = (text, 0, 0_i64);
        if text.is_empty() {
            return Err(bad());
        }
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            if !(1..=5).contains(&digits) {
                return Err(bad());
            }
            let number: i64 = rest[..digits].parse().map_err(|_| bad())?;
            rest = &rest[digits..];
            let unit_len = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
            let unit = &rest[..unit_len];
            rest = &rest[unit_len..];
            let place =
                UNITS.iter().position(|(name, _)| *name == unit).filter(|at| *at >= next).ok_or_else(bad)?;
            next = place + 1;
            total += number * UNITS[place].1;
        }
        Ok(Self(total))
    }

    /// As a [`std::time::Duration`].
    pub fn std(self) -> std::time::Duration {
        std::time::Duration::from_millis(u64::try_from(self.0).unwrap_or(0))
    }
}

impl std::fmt::Display for Millis {
    /// The shortest Gateway API form: `1h30m`, `500ms`, `0s`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut rest = self.0.max(0);
        if rest == 0 {
            return f.write_str("0s");
        }
        for (name, size) in UNITS {
            if rest >= size {
                write!(f, "{}{name}", rest / size)?;
                rest %= size;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_api_form_is_parsed_and_printed_back() {
        for (text, ms) in
            [("15m", 900_000), ("1h30m", 5_400_000), ("500ms", 500), ("0s", 0), ("1h2m3s4ms", 3_723_004)]
        {
            assert_eq!(Millis::parse(text), Ok(Millis(ms)), "{text}");
            assert_eq!(Millis(ms).to_string(), text);
        }
    }

    #[test]
    fn any_other_form_is_refused_with_what_is_allowed() {
        for text in ["", "15", "m", "1m1h", "1m1m", "123456s", "-1s", "1.5h", "1 h", "1d", "1h30m ", "é"] {
            let error = Millis::parse(text).unwrap_err();
            assert!(error.to_string().contains("1h30m"), "{error}");
        }
    }
}

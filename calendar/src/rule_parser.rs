//! Parses the text of a recurrence rule. Errors say where the text is wrong and what is allowed there.
//!
//! It never guesses: a part that the RFC forbids beside another is refused, not ignored.

use std::str::FromStr;

use crate::days::{DAY, LAST_YEAR, day_number, month_length};
use crate::rule::{End, Frequency, MAX_COUNT, MAX_INTERVAL, OrdinalDay, RecurrenceRule, Until, WEEKDAYS};

const MAX_TEXT: usize = 2000;
const MAX_LIST: usize = 400;
const PARTS: [&str; 14] = [
    "FREQ",
    "INTERVAL",
    "COUNT",
    "UNTIL",
    "BYMONTH",
    "BYWEEKNO",
    "BYYEARDAY",
    "BYMONTHDAY",
    "BYDAY",
    "BYHOUR",
    "BYMINUTE",
    "BYSECOND",
    "BYSETPOS",
    "WKST",
];
const UNTIL: &str = "a date 20261231, a local time 20261231T235959, or UTC 20261231T235959Z";
const BYDAY: &str =
    "MO, TU, WE, TH, FR, SA, SU, each with an optional ordinal from -53 to 53 but 0, such as 1MO or -1FR";

/// Why the text of a rule is refused, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("rrule at byte {at}, {part}: {problem}")]
pub struct RruleError {
    /// Where the error is: offset in bytes, from 0.
    pub at: usize,
    /// The name of the wrong part, such as `BYDAY`.
    pub part: String,
    /// What is wrong and what is allowed.
    pub problem: RruleProblem,
}

/// What is wrong with a part of a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RruleProblem {
    /// The text is longer than 2,000 bytes.
    #[error("the text is longer than {MAX_TEXT} bytes")]
    TooLong,
    /// There is no such part, or the text isn't `NAME=value`.
    #[error(
        "not a part of a rule; allowed are {}, each as NAME=value, separated by \";\", without \"RRULE:\"",
        PARTS.join(", ")
    )]
    UnknownPart,
    /// The part is given twice.
    #[error("given twice; each part may be given once")]
    Twice,
    /// A required part is absent.
    #[error("missing; every rule needs FREQ, such as FREQ=WEEKLY")]
    Missing,
    /// The value is not allowed.
    #[error("\"{found}\" is not allowed; allowed is {allowed}")]
    Value {
        /// The value as written, cut to 40 characters.
        found: String,
        /// What is allowed instead.
        allowed: String,
    },
    /// More than 400 values in a list.
    #[error("more than {MAX_LIST} values in the list")]
    TooMany,
    /// The parts may not be used together.
    #[error("{0}")]
    NotTogether(&'static str),
}

struct RulePart<'a> {
    at: usize,
    name: &'a str,
    value_at: usize,
    value: &'a str,
}

impl RulePart<'_> {
    fn error(&self, at: usize, problem: RruleProblem) -> RruleError {
        RruleError { at, part: short(self.name), problem }
    }

    fn refuse(&self, at: usize, found: &str, allowed: impl Into<String>) -> RruleError {
        self.error(at, RruleProblem::Value { found: short(found), allowed: allowed.into() })
    }

    /// The values of a list, each with its offset.
    fn values(&self) -> Result<Vec<(usize, &str)>, RruleError> {
        let mut at = self.value_at;
        let mut values = Vec::new();
        for value in self.value.split(',') {
            if values.len() == MAX_LIST {
                return Err(self.error(at, RruleProblem::TooMany));
            }
            values.push((at, value));
            at += value.len() + 1;
        }
        Ok(values)
    }

    fn numbers(&self, low: i32, high: i32, negative: bool) -> Result<Vec<i32>, RruleError> {
        let mut numbers = Vec::new();
        for (at, text) in self.values()? {
            let number = integer(text)
                .filter(|n| (low..=high).contains(n) || (negative && (-high..=-low).contains(n)))
                .ok_or_else(|| {
                    let also = if negative { format!(" or -{high} to -{low}") } else { String::new() };
                    self.refuse(at, text, format!("a number from {low} to {high}{also}"))
                })?;
            numbers.push(number);
        }
        numbers.sort_unstable();
        numbers.dedup();
        Ok(numbers)
    }

    fn mask(&self, low: i32, high: i32) -> Result<u64, RruleError> {
        Ok(self.numbers(low, high, false)?.into_iter().fold(0, |mask, n| mask | 1 << n))
    }

    fn number(&self, high: u32) -> Result<u32, RruleError> {
        let digits = self.value.len() <= 9 && self.value.bytes().all(|b| b.is_ascii_digit());
        let number = digits.then(|| self.value.parse::<u32>().ok()).flatten();
        number
            .filter(|n| (1..=high).contains(n))
            .ok_or_else(|| self.refuse(self.value_at, self.value, format!("a number from 1 to {high}")))
    }

    fn weekday(&self) -> Result<i32, RruleError> {
        weekday(self.value).ok_or_else(|| self.refuse(self.value_at, self.value, WEEKDAYS.join(", ")))
    }

    fn days(&self) -> Result<Vec<OrdinalDay>, RruleError> {
        let mut days = Vec::new();
        for (at, text) in self.values()? {
            let cut = text.len().saturating_sub(2);
            let read = || {
                let (ordinal, name) = (text.get(..cut)?, text.get(cut..)?);
                let ordinal = if ordinal.is_empty() {
                    0
                } else {
                    integer(ordinal).filter(|n| *n != 0 && (-53..=53).contains(n))?
                };
                Some(OrdinalDay { ordinal, weekday: weekday(name)? })
            };
            let day = read().ok_or_else(|| self.refuse(at, text, BYDAY))?;
            if !days.contains(&day) {
                days.push(day);
            }
        }
        Ok(days)
    }

    fn frequency(&self) -> Result<Frequency, RruleError> {
        let known = Frequency::NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(self.value));
        known.map(|(_, frequency)| *frequency).ok_or_else(|| {
            let names: Vec<&str> = Frequency::NAMES.iter().map(|(name, _)| *name).collect();
            self.refuse(self.value_at, self.value, names.join(", "))
        })
    }

    fn until(&self) -> Result<Until, RruleError> {
        read_until(self.value).ok_or_else(|| self.refuse(self.value_at, self.value, UNTIL))
    }
}

impl FromStr for RecurrenceRule {
    type Err = RruleError;

    fn from_str(text: &str) -> Result<Self, RruleError> {
        Self::parse(text).map_err(|all| {
            let none =
                || RruleError { at: 0, part: "the rule".to_owned(), problem: RruleProblem::UnknownPart };
            all.into_iter().next().unwrap_or_else(none)
        })
    }
}

impl RecurrenceRule {
    /// Parses the text of a rule, and reports all errors: the first one of each part.
    pub fn parse(text: &str) -> Result<Self, Vec<RruleError>> {
        let whole = |at, part: &str, problem| RruleError { at, part: part.to_owned(), problem };
        if text.len() > MAX_TEXT {
            return Err(vec![whole(MAX_TEXT, "the rule", RruleProblem::TooLong)]);
        }
        let (parts, mut faults) = split_parts(text);
        let frequency = match parts.iter().find(|part| part.name.eq_ignore_ascii_case("FREQ")) {
            // A text that is no known part may have been meant as FREQ.
            None if faults.is_empty() => Err(whole(text.len(), "FREQ", RruleProblem::Missing)),
            None => Ok(Frequency::Daily),
            Some(part) => part.frequency(),
        };
        let mut rule = Self {
            frequency: Frequency::Daily,
            interval: 1,
            end: End::Never,
            months: 0,
            hours: 0,
            minutes: 0,
            seconds: 0,
            weeks: Vec::new(),
            year_days: Vec::new(),
            month_days: Vec::new(),
            days: Vec::new(),
            positions: Vec::new(),
            week_start: 0,
        };
        match frequency {
            Ok(frequency) => rule.frequency = frequency,
            Err(error) => faults.push(error),
        }
        let mut seen: Vec<String> = Vec::new();
        for part in &parts {
            let name = part.name.to_ascii_uppercase();
            if seen.contains(&name) {
                faults.push(part.error(part.at, RruleProblem::Twice));
                continue;
            }
            faults.extend(rule.set_part(&name, part).err());
            seen.push(name);
        }
        if faults.is_empty() {
            for part in &parts {
                let why = rule.why_forbidden(&part.name.to_ascii_uppercase());
                faults.extend(why.map(|why| part.error(part.at, RruleProblem::NotTogether(why))));
            }
        }
        if faults.is_empty() { Ok(rule) } else { Err(faults) }
    }

    fn set_part(&mut self, name: &str, part: &RulePart<'_>) -> Result<(), RruleError> {
        match name {
            "FREQ" => {}
            "INTERVAL" => self.interval = part.number(MAX_INTERVAL)?,
            "COUNT" | "UNTIL" if self.end != End::Never => {
                let why = "COUNT and UNTIL may not stand in the same rule; keep one";
                return Err(part.error(part.at, RruleProblem::NotTogether(why)));
            }
            "COUNT" => self.end = End::Count(part.number(MAX_COUNT)?),
            "UNTIL" => self.end = End::Until(part.until()?),
            "BYMONTH" => self.months = part.mask(1, 12)? as u16,
            "BYWEEKNO" => self.weeks = part.numbers(1, 53, true)?,
            "BYYEARDAY" => self.year_days = part.numbers(1, 366, true)?,
            "BYMONTHDAY" => self.month_days = part.numbers(1, 31, true)?,
            "BYDAY" => self.days = part.days()?,
            "BYHOUR" => self.hours = part.mask(0, 23)? as u32,
            "BYMINUTE" => self.minutes = part.mask(0, 59)?,
            "BYSECOND" => {
                let seconds = part.mask(0, 60)?;
                // A leap second is read as the second before it (RFC 5545, 3.3.10).
                self.seconds = (seconds | (seconds >> 60 & 1) << 59) & ((1 << 60) - 1);
            }
            "BYSETPOS" => self.positions = part.numbers(1, 366, true)?,
            "WKST" => self.week_start = part.weekday()?,
            _ => return Err(part.error(part.at, RruleProblem::UnknownPart)),
        }
        Ok(())
    }

    /// Why the RFC forbids the part `name` in this rule. `None` if it is allowed.
    fn why_forbidden(&self, name: &str) -> Option<&'static str> {
        use Frequency::{Daily, Monthly, Weekly, Yearly};
        let f = self.frequency;
        match name {
            "BYWEEKNO" if f != Yearly => Some("allowed only with FREQ=YEARLY"),
            "BYYEARDAY" if matches!(f, Daily | Weekly | Monthly) => {
                Some("not allowed with FREQ=DAILY, WEEKLY or MONTHLY; use BYMONTH and BYMONTHDAY")
            }
            "BYMONTHDAY" if f == Weekly => Some("not allowed with FREQ=WEEKLY; use FREQ=DAILY or MONTHLY"),
            "BYDAY" if self.days.iter().any(|day| day.ordinal != 0) => {
                if !matches!(f, Monthly | Yearly) {
                    Some(
                        "an ordinal such as 1MO is allowed only with FREQ=MONTHLY or YEARLY; leave out the number",
                    )
                } else if !self.weeks.is_empty() {
                    Some("an ordinal such as 1MO is not allowed beside BYWEEKNO; leave out the number")
                } else {
                    None
                }
            }
            "BYSETPOS" if self.has_no_by_parts() => {
                Some("allowed only beside another BY-part, from whose set it picks")
            }
            _ => None,
        }
    }
}

/// Splits the text into its known parts, with an error for each text that is none.
fn split_parts(text: &str) -> (Vec<RulePart<'_>>, Vec<RruleError>) {
    let (mut parts, mut faults) = (Vec::new(), Vec::new());
    // For an empty text the error is the missing part.
    if text.is_empty() {
        return (parts, faults);
    }
    let mut at = 0;
    for piece in text.split(';') {
        let (name, value) = piece.split_once('=').map_or((piece, None), |(name, value)| (name, Some(value)));
        let is_known = |name: &str| PARTS.iter().any(|known| known.eq_ignore_ascii_case(name));
        let bare = if at == 0 { name.find(':').and_then(|colon| name.get(colon + 1..)) } else { None };
        let named = [Some(name), bare].into_iter().flatten().find(|name| is_known(name));
        if named != Some(name) || value.is_none() {
            faults.push(RruleError { at, part: short(name), problem: RruleProblem::UnknownPart });
        }
        if let (Some(known), Some(value)) = (named, value) {
            let before = name.len() - known.len();
            parts.push(RulePart { at: at + before, name: known, value_at: at + name.len() + 1, value });
        }
        at += piece.len() + 1;
    }
    (parts, faults)
}

/// A number with an optional sign and at most four digits.
fn integer(text: &str) -> Option<i32> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || digits.len() > 4 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

fn weekday(text: &str) -> Option<i32> {
    WEEKDAYS.iter().position(|name| name.eq_ignore_ascii_case(text)).map(|index| index as i32)
}

fn short(text: &str) -> String {
    text.chars().take(40).collect()
}

fn read_until(text: &str) -> Option<Until> {
    let field = |text: &str, from: usize, to: usize| {
        let digits = text.get(from..to)?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<i32>().ok()).flatten()
    };
    let (year, month, day) = (field(text, 0, 4)?, field(text, 4, 6)?, field(text, 6, 8)?);
    if !(1..=LAST_YEAR).contains(&year)
        || !(1..=12).contains(&month)
        || !(1..=month_length(year, month)).contains(&day)
    {
        return None;
    }
    let number = day_number(year, month, day);
    if text.len() == 8 {
        return Some(Until::Date(number));
    }
    let rest = text.get(8..)?;
    let (rest, utc) = match rest.strip_suffix(['Z', 'z']) {
        Some(rest) => (rest, true),
        None => (rest, false),
    };
    if rest.len() != 7 || !rest.starts_with(['T', 't']) {
        return None;
    }
    let (hour, minute, second) = (field(rest, 1, 3)?, field(rest, 3, 5)?, field(rest, 5, 7)?);
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = i64::from(number) * DAY + i64::from(hour * 3600 + minute * 60 + second.min(59));
    Some(if utc { Until::Utc(seconds) } else { Until::Local(seconds) })
}

//! Checks a spec once into a [`Recurrence`] that cannot be wrong.
//!
//! Never happens, ends before it starts, unknown zone: found out here, in bounded time, and never again.

use crate::days::DAY;
use crate::exact::MAX_COUNT_WORK;
use crate::overrides;
use crate::recurrence::{Found, Recurrence};
use crate::rule::{End, Rule, Until};
use crate::series::Part;
use crate::spec::{
    Length, MAX_RULES, RecurrenceError, RecurrenceSpec, Till, When, read, read_all, read_period, short,
};
use crate::steps::Steps;
use crate::zone::{self, Moment, Zone, civil};

impl Recurrence {
    /// Checks a spec. Takes bounded time, also for rules that never happen or only once in centuries, and for a
    /// large COUNT: a fraction of a second at most, as a rule microseconds.
    pub fn new(spec: &RecurrenceSpec) -> Result<Self, RecurrenceError> {
        let (start, all_day) = match read(&spec.start) {
            Some(When::Day(start)) => (start, true),
            Some(When::Local(start)) => (start, false),
            _ => return Err(RecurrenceError::Start(short(&spec.start))),
        };
        if !(1583..=9000).contains(&civil(start).year()) {
            return Err(RecurrenceError::Start(short(&spec.start)));
        }
        let tz = zone::find_zone(&spec.time_zone)
            .ok_or_else(|| RecurrenceError::TimeZone(short(&spec.time_zone)))?;
        let mut recurrence = Self {
            start,
            rules: Vec::new(),
            zone: Zone::new(tz, spec.dst, all_day),
            length: Length::new(spec.duration, spec.nominal_days, all_day)?,
            parts: Vec::new(),
            singles: Vec::new(),
            except_days: Vec::new(),
            except_locals: Vec::new(),
            except_instants: Vec::new(),
            except_parts: Vec::new(),
            replaced: Vec::new(),
            whole: false,
            reach: 0,
        };
        recurrence.add_rules(spec)?;
        recurrence.add_dates(&spec.dates)?;
        recurrence.add_exceptions(&spec.except_dates)?;
        overrides::apply(&mut recurrence, &spec.overrides)?;
        let lengths =
            recurrence.parts.iter().map(|it| it.length).chain(recurrence.singles.iter().map(|it| it.length));
        // A day may be two longer or shorter than its hours say where a zone crosses the date line.
        let reach = |it: Length| it.seconds + if it.days == 0 { 0 } else { (i64::from(it.days) + 2) * DAY };
        recurrence.reach = lengths.map(reach).max().unwrap_or(0);
        recurrence.whole = recurrence.except_days.is_empty()
            && recurrence.except_locals.is_empty()
            && recurrence.except_instants.is_empty()
            && recurrence.except_parts.is_empty()
            && recurrence.replaced.is_empty();
        if recurrence.all().next().is_none() {
            return Err(RecurrenceError::NeverHappens);
        }
        Ok(recurrence)
    }

    fn add_rules(&mut self, spec: &RecurrenceSpec) -> Result<(), RecurrenceError> {
        let all_rules = [("moreRules", &spec.more_rules), ("exceptRules", &spec.except_rules)];
        if let Some((list, _)) = all_rules.into_iter().find(|(_, rules)| rules.len() > MAX_RULES) {
            return Err(RecurrenceError::TooManyRules { list });
        }
        let mut work = Steps::new(MAX_COUNT_WORK);
        for text in spec.rule.iter().chain(&spec.more_rules) {
            let rule: Rule = text.parse()?;
            let part = self.part(&rule, &mut work)?;
            if ends_before(&rule, &self.zone, self.start) {
                return Err(RecurrenceError::UntilBeforeStart { start: self.start() });
            }
            self.parts.push(part);
            self.rules.push(rule);
        }
        for text in &spec.except_rules {
            let part = self.part(&text.parse()?, &mut work)?;
            self.except_parts.push(part);
        }
        Ok(())
    }

    fn part(&self, rule: &Rule, work: &mut Steps) -> Result<Part, RecurrenceError> {
        if self.zone.all_day {
            if rule.frequency.is_sub_daily() {
                return Err(RecurrenceError::AllDayRule);
            }
            // RFC 5545, section 3.3.10: these must be ignored beside a date.
            let rule = Rule { hours: 0, minutes: 0, seconds: 0, ..rule.clone() };
            return Part::new(&rule, &self.zone, self.start, self.length, work);
        }
        Part::new(rule, &self.zone, self.start, self.length, work)
    }

    fn add_dates(&mut self, dates: &[String]) -> Result<(), RecurrenceError> {
        let all_day = self.zone.all_day;
        let allowed = if all_day {
            "a date such as 2026-02-17"
        } else {
            "a local time such as 2026-02-17T10:00:00, a date for start's time of day, or UTC with Z; each also \
             with /PT2H or / and its end"
        };
        let single = |moment: Moment, length: Option<Length>| Found {
            moment,
            wall: moment.local,
            length: length.unwrap_or(self.length),
            own: length.is_some(),
            fixed: false,
        };
        let mut singles = Vec::new();
        if self.parts.is_empty() {
            singles.extend(self.moments(When::Local(self.start)).map(|moment| single(moment, None)));
        }
        for value in read_all("dates", dates, allowed) {
            let (error, text) = value?;
            let Some((when, till)) = read_period(text, all_day) else { return Err(error) };
            if all_day && !matches!(when, When::Day(_)) {
                return Err(error);
            }
            for moment in self.moments(when) {
                let length = match till {
                    None => None,
                    Some(Till::Length(length)) => Some(length),
                    Some(Till::End(end)) => Some(self.until(moment, end).ok_or_else(|| error.clone())?),
                };
                singles.push(single(moment, length));
            }
        }
        // Of two on one instant the one with its own length stays.
        singles.sort_by_key(|it| (it.moment.at, !it.own));
        singles.dedup_by_key(|it| it.moment.at);
        self.singles = singles;
        Ok(())
    }

    /// The length from `moment` to a period's end.
    fn until(&self, moment: Moment, end: When) -> Option<Length> {
        let length = match end {
            When::Day(midnight) if self.zone.all_day => {
                Length { days: i32::try_from((midnight - moment.local) / DAY).ok()?, seconds: 0 }
            }
            When::Day(_) => return None,
            _ if self.zone.all_day => return None,
            _ => Length { days: 0, seconds: self.moments(end).last()?.at - moment.at },
        };
        length.held(self.zone.all_day)
    }

    fn add_exceptions(&mut self, dates: &[String]) -> Result<(), RecurrenceError> {
        let allowed = "a date such as 2026-02-17, a local time such as 2026-02-17T10:00:00, or UTC with Z";
        for value in read_all("exceptDates", dates, allowed) {
            let (error, text) = value?;
            match read(text).ok_or(error)? {
                When::Day(midnight) => self.except_days.push(midnight.div_euclid(DAY)),
                When::Local(local) => self.except_locals.push(local),
                When::Instant(at) => self.except_instants.push(at),
            }
        }
        self.except_days.sort_unstable();
        self.except_locals.sort_unstable();
        self.except_instants.sort_unstable();
        Ok(())
    }
}

fn ends_before(rule: &Rule, zone: &Zone, start: i64) -> bool {
    match rule.end {
        End::Until(Until::Date(day)) => i64::from(day) < start.div_euclid(DAY),
        End::Until(Until::Local(local)) => local < start,
        End::Until(Until::Utc(at)) => at < zone.resolve(start).low,
        End::Never | End::Count(_) => false,
    }
}

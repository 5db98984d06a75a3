//! Checks a [`RecurrenceSpec`] once and makes a [`Recurrence`] of it.
//!
//! Whether it never happens, ends before it starts, or names an unknown zone is found here, in bounded time.

use crate::days::DAY;
use crate::exact::MAX_COUNT_WORK;
use crate::overrides;
use crate::recurrence::{RawOccurrence, Recurrence};
use crate::rule::{End, RecurrenceRule, Until};
use crate::segment::RuleSegment;
use crate::spec::{
    Length, MAX_RULES, PeriodEnd, RecurrenceError, RecurrenceSpec, SpecTime, read_list, read_period,
    read_time, short,
};
use crate::spec_problem::{SpecProblem, SpecProblems, WhichRule};
use crate::steps::Steps;
use crate::zone::{self, Moment, Zone, civil};

impl Recurrence {
    /// Checks a spec. The time is bounded, also for a large COUNT and for rules that never happen or only once in
    /// centuries: usually microseconds, at most a fraction of a second. The error is the first of
    /// [`Self::checked`].
    pub fn new(spec: &RecurrenceSpec) -> Result<Self, RecurrenceError> {
        Self::checked(spec).map_err(|problems| {
            problems
                .into_iter()
                .next()
                .map_or(RecurrenceError::NeverHappens, |SpecProblem { error, .. }| error)
        })
    }

    /// The same, but reports everything that is wrong. Omits what another problem makes undecidable: for instance,
    /// whether it ever happens if a rule can't be read.
    pub fn checked(spec: &RecurrenceSpec) -> Result<Self, Vec<SpecProblem>> {
        let mut problems = SpecProblems::default();
        let (start, all_day) = problems.take(start(&spec.start)).unwrap_or_else(|| likely_start(&spec.start));
        let tz =
            zone::find_zone(&spec.time_zone).ok_or_else(|| RecurrenceError::TimeZone(short(&spec.time_zone)));
        let tz = problems.take(tz).unwrap_or(jiff::tz::TimeZone::UTC);
        // Without a known beginning, check only the texts.
        let is_known = problems.is_empty();
        let length = problems.take(Length::new(spec.duration, spec.nominal_days, all_day));
        let mut recurrence = Self {
            start,
            rules: Vec::new(),
            zone: Zone::new(tz, spec.dst, all_day),
            length: length.unwrap_or(Length { days: i32::from(all_day), seconds: 0 }),
            segments: Vec::new(),
            singles: Vec::new(),
            except_days: Vec::new(),
            except_locals: Vec::new(),
            except_instants: Vec::new(),
            except_segments: Vec::new(),
            replaced: Vec::new(),
            no_exceptions: false,
            reach: 0,
        };
        let before = problems.len();
        recurrence.add_rules(spec, is_known, &mut problems);
        recurrence.add_dates(&spec.dates, &mut problems);
        recurrence.add_exceptions(&spec.except_dates, &mut problems);
        let is_read = is_known && problems.len() == before;
        overrides::apply(&mut recurrence, &spec.overrides, is_read, &mut problems);
        if problems.is_empty() {
            recurrence.finish();
            if recurrence.all().next().is_none() {
                problems.add(RecurrenceError::NeverHappens);
            }
        }
        problems.into_result(recurrence)
    }

    /// Computes what depends on everything else.
    fn finish(&mut self) {
        let lengths = self.segments.iter().map(|it| it.length).chain(self.singles.iter().map(|it| it.length));
        // Where a zone crosses the date line, the days may be two days longer or shorter than their hours.
        let reach = |it: Length| it.seconds + if it.days == 0 { 0 } else { (i64::from(it.days) + 2) * DAY };
        self.reach = lengths.map(reach).max().unwrap_or(0);
        self.no_exceptions = self.except_days.is_empty()
            && self.except_locals.is_empty()
            && self.except_instants.is_empty()
            && self.except_segments.is_empty()
            && self.replaced.is_empty();
    }

    /// `judged`: the start is known, so the rules can be checked against it.
    fn add_rules(&mut self, spec: &RecurrenceSpec, judged: bool, problems: &mut SpecProblems) {
        let all_rules = [("moreRules", &spec.more_rules), ("exceptRules", &spec.except_rules)];
        if let Some((list, _)) = all_rules.into_iter().find(|(_, rules)| rules.len() > MAX_RULES) {
            return problems.add(RecurrenceError::TooManyRules { list });
        }
        let mut work = Steps::new(MAX_COUNT_WORK);
        for (at, text) in spec.rule.iter().chain(&spec.more_rules).enumerate() {
            let Some(rule) = self.rule(text, WhichRule::Rule(at), problems) else { continue };
            if !judged {
                continue;
            }
            let segment = self.segment(&rule, &mut work).and_then(|segment| {
                if ends_before(&rule, &self.zone, self.start) {
                    return Err(RecurrenceError::UntilBeforeStart { start: self.start() });
                }
                Ok(segment)
            });
            if let Some(segment) = problems.take_for_rule(WhichRule::Rule(at), segment) {
                self.segments.push(segment);
                self.rules.push(rule);
            }
        }
        for (at, text) in spec.except_rules.iter().enumerate() {
            let Some(rule) = self.rule(text, WhichRule::Except(at), problems).filter(|_| judged) else {
                continue;
            };
            let segment = self.segment(&rule, &mut work);
            self.except_segments.extend(problems.take_for_rule(WhichRule::Except(at), segment));
        }
    }

    fn rule(&self, text: &str, which: WhichRule, problems: &mut SpecProblems) -> Option<RecurrenceRule> {
        match RecurrenceRule::parse(text) {
            Ok(rule) if self.zone.all_day && rule.frequency.is_sub_daily() => {
                problems.take_for_rule(which, Err(RecurrenceError::AllDayRule))
            }
            Ok(rule) => Some(rule),
            Err(all) => {
                for error in all {
                    problems.take_for_rule::<()>(which, Err(error.into()));
                }
                None
            }
        }
    }

    fn segment(&self, rule: &RecurrenceRule, work: &mut Steps) -> Result<RuleSegment, RecurrenceError> {
        if self.zone.all_day {
            // RFC 5545, section 3.3.10: these must be ignored if DTSTART is a date.
            let rule = RecurrenceRule { hours: 0, minutes: 0, seconds: 0, ..rule.clone() };
            return RuleSegment::new(&rule, &self.zone, self.start, self.length, work);
        }
        RuleSegment::new(rule, &self.zone, self.start, self.length, work)
    }

    fn add_dates(&mut self, dates: &[String], problems: &mut SpecProblems) {
        let all_day = self.zone.all_day;
        let allowed = if all_day {
            "a date such as 2026-02-17"
        } else {
            "a local time such as 2026-02-17T10:00:00, a date for start's time of day, or UTC with Z; each also \
             with /PT2H or / and its end"
        };
        let single = |moment: Moment, length: Option<Length>| RawOccurrence {
            moment,
            wall: moment.local,
            length: length.unwrap_or(self.length),
            own_length: length.is_some(),
            is_override: false,
        };
        let mut singles = Vec::new();
        if self.segments.is_empty() {
            singles.extend(self.moments(SpecTime::Local(self.start)).map(|moment| single(moment, None)));
        }
        for value in read_list("dates", dates, allowed) {
            let Some((error, text)) = problems.take(value) else { return };
            let Some((when, till)) =
                read_period(text, all_day).filter(|(when, _)| !all_day || matches!(when, SpecTime::Day(_)))
            else {
                problems.add(error);
                continue;
            };
            for moment in self.moments(when) {
                let length = match till {
                    None => Ok(None),
                    Some(PeriodEnd::Length(length)) => Ok(Some(length)),
                    Some(PeriodEnd::End(end)) => {
                        self.until(moment, end).map(Some).ok_or_else(|| error.clone())
                    }
                };
                singles.extend(problems.take(length).map(|length| single(moment, length)));
            }
        }
        // Of two at the same instant, keep the one with its own length.
        singles.sort_by_key(|it| (it.moment.at, !it.own_length));
        singles.dedup_by_key(|it| it.moment.at);
        self.singles = singles;
    }

    /// The length from `moment` to a period's end.
    fn until(&self, moment: Moment, end: SpecTime) -> Option<Length> {
        let length = match end {
            SpecTime::Day(midnight) if self.zone.all_day => {
                Length { days: i32::try_from((midnight - moment.local) / DAY).ok()?, seconds: 0 }
            }
            SpecTime::Day(_) => return None,
            _ if self.zone.all_day => return None,
            _ => Length { days: 0, seconds: self.moments(end).last()?.at - moment.at },
        };
        length.checked(self.zone.all_day)
    }

    fn add_exceptions(&mut self, dates: &[String], problems: &mut SpecProblems) {
        let allowed = "a date such as 2026-02-17, a local time such as 2026-02-17T10:00:00, or UTC with Z";
        for value in read_list("exceptDates", dates, allowed) {
            let Some((error, text)) = problems.take(value) else { return };
            match read_time(text) {
                Some(SpecTime::Day(midnight)) => self.except_days.push(midnight.div_euclid(DAY)),
                Some(SpecTime::Local(local)) => self.except_locals.push(local),
                Some(SpecTime::Instant(at)) => self.except_instants.push(at),
                None => problems.add(error),
            }
        }
        self.except_days.sort_unstable();
        self.except_locals.sort_unstable();
        self.except_instants.sort_unstable();
    }
}

/// The start in local seconds, and whether it is a date.
fn start(text: &str) -> Result<(i64, bool), RecurrenceError> {
    let start = match read_time(text) {
        Some(SpecTime::Day(start)) => Some((start, true)),
        Some(SpecTime::Local(start)) => Some((start, false)),
        _ => None,
    };
    start
        .filter(|(start, _)| (1583..=9000).contains(&civil(*start).year()))
        .ok_or_else(|| RecurrenceError::Start(short(text)))
}

/// A start to check the rest with if the real one can't be read: of the form that was probably meant.
fn likely_start(text: &str) -> (i64, bool) {
    (0, text.len() == 10 && !text.contains('T'))
}

fn ends_before(rule: &RecurrenceRule, zone: &Zone, start: i64) -> bool {
    match rule.end {
        End::Until(Until::Date(day)) => i64::from(day) < start.div_euclid(DAY),
        End::Until(Until::Local(local)) => local < start,
        End::Until(Until::Utc(at)) => at < zone.resolve(start).low,
        End::Never | End::Count(_) => false,
    }
}

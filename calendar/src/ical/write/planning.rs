//! Plans how a series is written: its times in one form, UNTIL as RFC 5545 requires, and its overrides.
//!
//! A series that cannot be expressed exactly is refused.

use std::collections::BTreeSet;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::event_plan::{EventPlan, IcalTimeForm, MAX_WRITTEN, OverrideEvent, WrittenTime};
use crate::days::DAY;
use crate::ical::Series;
use crate::ical::instants::MAX_SHARING_STEPS;
use crate::occurrences::Occurrence;
use crate::recurrence::Recurrence;
use crate::rule::RecurrenceRule;
use crate::spec::{MAX_DATES, Override, RecurrenceError, RecurrenceSpec, SpecTime, read_time};
use crate::steps::Steps;
use crate::zone::{Dst, civil, floor_second, timestamp};

/// Policies are written out for this many years if a series has no end.
const YEARS: i64 = 10;
/// A series with a moved start must agree with the original in this many occurrences.
const COMPARED: usize = 500;

impl EventPlan {
    pub(super) fn new(series: &Series, stamp: Timestamp) -> Result<Self, String> {
        let spec = &series.spec;
        let make = |spec: &RecurrenceSpec| Recurrence::new(spec).map_err(|error| error.to_string());
        let full = make(spec)?;
        let bare = RecurrenceSpec { overrides: Vec::new(), ..spec.clone() };
        let usual = RecurrenceSpec { except_dates: Vec::new(), except_rules: Vec::new(), ..bare.clone() };
        let usual = make(&RecurrenceSpec { dst: Dst::default(), ..usual })?;
        let rules: Vec<RecurrenceRule> = usual.rules().to_vec();
        let is_bounded = rules.iter().all(RecurrenceRule::is_bounded);
        let last = is_bounded.then(|| full.before(Timestamp::MAX).map_or(stamp, |it| it.end.max(it.start)));
        let mut plan = Self {
            form: time_form(spec, &full)?,
            zone: full.time_zone().to_owned(),
            tz: full.zone().clone(),
            start: WrittenTime::Utc(stamp),
            length: length(spec, &full),
            rules: Vec::new(),
            except_rules: Vec::new(),
            dates: Vec::new(),
            except: Vec::new(),
            changes: Vec::new(),
            span: (stamp, last),
            remarks: Vec::new(),
        };
        if plan.zone == "Etc/UTC" {
            "UTC".clone_into(&mut plan.zone);
        }
        let (start, skipped) = plan.written_start(spec, &usual);
        plan.start = plan.written_time(&usual, start);
        plan.rules = rules.iter().map(|rule| plan.rule_text(&usual, rule)).collect();
        if plan.form == IcalTimeForm::Local && rules.iter().any(|rule| rule.frequency().is_sub_daily()) {
            plan.remark(
                "rules shorter than DAILY count in real time here; others may count on the local clock",
            );
        }
        let by_rules = plan.excepted_by_rules(spec, &usual, is_bounded);
        if by_rules.is_none() {
            for text in &spec.except_rules {
                let rule: RecurrenceRule = text.parse().map_err(|error| format!("exceptRrules: {error}"))?;
                plan.except_rules.push(plan.rule_text(&usual, &rule));
            }
            plan.remark("EXRULE is of RFC 2445: readers that know only RFC 5545 overlook it");
        }
        plan.add_exceptions(spec, &usual, skipped.then_some(start))?;
        let known: BTreeSet<WrittenTime> = plan.except.iter().copied().collect();
        plan.except.extend(by_rules.into_iter().flatten().filter(|it| !known.contains(it)));
        plan.write_out_policy(
            &usual,
            &bare,
            last.unwrap_or_else(|| policy_end(stamp, full.start(), &plan.tz)),
        )?;
        plan.add_overrides(spec, &usual, &full)?;
        let zone_start = plan.tz.to_timestamp(start).map_err(|error| error.to_string())?;
        let moved = plan.changes.iter().filter_map(|it| plan.instant(it.start));
        plan.span.0 = moved.chain([zone_start]).min().unwrap_or(zone_start);
        if plan.dates.len() > MAX_WRITTEN || plan.except.len() > MAX_WRITTEN {
            return Err(format!("more than {MAX_WRITTEN} dates or exceptions would be needed"));
        }
        Ok(plan)
    }

    /// DTSTART, and whether it needs an EXDATE: readers count it as an occurrence even if no rule has it.
    fn written_start(&self, spec: &RecurrenceSpec, plain: &Recurrence) -> (DateTime, bool) {
        let start = plain.start();
        let rules = RecurrenceSpec {
            dates: Vec::new(),
            except_dates: Vec::new(),
            except_rules: Vec::new(),
            overrides: Vec::new(),
            dst: Dst::default(),
            ..spec.clone()
        };
        if spec.rule.is_none() || plain.find(&start.to_string()).is_some() {
            return (start, false);
        }
        let Ok(by_rules) = Recurrence::new(&rules) else { return (start, true) };
        let Some(first) = by_rules.all().next().filter(|first| !first.repeated) else { return (start, true) };
        let text = match self.form {
            IcalTimeForm::Day => first.local_start.date().to_string(),
            _ => first.local_start.to_string(),
        };
        // Moving the start must not move an exception either.
        let wanted = RecurrenceSpec { except_rules: spec.except_rules.clone(), ..rules };
        let moved = RecurrenceSpec { start: text, ..wanted.clone() };
        let is_same = match (Recurrence::new(&wanted), Recurrence::new(&moved)) {
            (Ok(wanted), Ok(moved)) => {
                let last = |it: &Recurrence| it.before(Timestamp::MAX).map(|it| it.start);
                moved.all().take(COMPARED).eq(wanted.all().take(COMPARED))
                    && (!moved.rules().iter().all(RecurrenceRule::is_bounded)
                        || last(&moved) == last(&wanted))
            }
            _ => false,
        };
        if is_same { (first.local_start, false) } else { (start, true) }
    }

    fn add_overrides(
        &mut self,
        spec: &RecurrenceSpec,
        plain: &Recurrence,
        full: &Recurrence,
    ) -> Result<(), String> {
        let is_of_one = |it: &Override| !it.this_and_future && !it.cancelled;
        let rest = spec.overrides.iter().any(is_of_one).then(|| full.without_moved());
        let mut steps = Steps::new(MAX_SHARING_STEPS);
        for it in &spec.overrides {
            let id = &it.recurrence_id;
            let wrong = || format!("overrides: {id} can't be written");
            let name = match read_time(id).ok_or_else(wrong)? {
                SpecTime::Day(midnight) if !plain.is_all_day() => civil(plain.at_start_time(midnight)),
                SpecTime::Day(local) | SpecTime::Local(local) => civil(local),
                SpecTime::Instant(at) => civil(plain.zone.local_of(at)),
            };
            let own = plain.find(&name.to_string());
            let id = own.map_or_else(|| self.written_time(plain, name), |it| self.named_time(&it));
            let (mut start, mut length) = (id, self.length);
            if it.cancelled && !it.this_and_future {
                // EXDATE means the same, and more readers know it.
                if !self.except.contains(&id) {
                    self.except.push(id);
                }
                continue;
            }
            if it.this_and_future {
                self.remark("RANGE=THISANDFUTURE: Google and Outlook read it as that one occurrence alone");
                if let Some(text) = &it.start {
                    let (SpecTime::Day(local) | SpecTime::Local(local)) =
                        read_time(text).ok_or_else(wrong)?
                    else {
                        return Err(wrong());
                    };
                    start = self.written_time(plain, civil(local));
                }
                if it.duration.is_some() || it.nominal_days > 0 {
                    length = exact(it.duration, it.nominal_days, plain.is_all_day());
                }
            } else {
                let found = full.find(&name.to_string()).ok_or_else(wrong)?;
                (start, length) = self.visible(plain, full, &found);
                if let Some(rest) = &rest {
                    let hidden = occurrence_at(rest, &found, &mut steps);
                    if steps.left() == 0 {
                        return Err(RecurrenceError::OverridesTooCostly.to_string());
                    }
                    if let Some(hidden) = hidden {
                        self.cover_hidden(plain, rest, (start, length), &hidden).ok_or_else(wrong)?;
                    }
                }
            }
            let (this_and_future, cancelled) = (it.this_and_future, it.cancelled);
            self.changes.push(OverrideEvent { id, this_and_future, cancelled, start, length });
        }
        if self.changes.len() > MAX_DATES {
            return Err(format!("overrides: more than {MAX_DATES} would be needed"));
        }
        Ok(())
    }

    /// When an occurrence begins, and how long the visible one lasts: of several at the same instant only one is
    /// visible.
    fn visible(
        &self,
        plain: &Recurrence,
        full: &Recurrence,
        found: &Occurrence,
    ) -> (WrittenTime, (i64, SignedDuration)) {
        let seen = occurrence_at(full, found, &mut Steps::new(MAX_SHARING_STEPS)).unwrap_or(*found);
        let zoned = |at: Timestamp| self.tz.to_datetime(at);
        if plain.is_all_day() {
            let (from, to) = (zoned(found.start).date(), zoned(seen.end).date());
            let days = from.until(to).map_or(1, |span| i64::from(span.get_days()));
            return (WrittenTime::Day(from), (days, SignedDuration::ZERO));
        }
        let local = zoned(found.start);
        let is_first = self.tz.to_timestamp(local).is_ok_and(|at| at == found.start);
        let local = (self.form == IcalTimeForm::Local && is_first).then_some(WrittenTime::Local(local));
        (local.unwrap_or(WrittenTime::Utc(found.start)), (0, seen.end.duration_since(found.start)))
    }

    /// Handles an occurrence of `rest` that an override hides. Readers that show the longest of those at one
    /// instant, as ours does, are told that it is as long as the visible one. `None` if it has no name.
    fn cover_hidden(
        &mut self,
        plain: &Recurrence,
        rest: &Recurrence,
        (start, length): (WrittenTime, (i64, SignedDuration)),
        hidden: &Occurrence,
    ) -> Option<()> {
        if self.visible(plain, rest, hidden).1 <= length {
            return Some(());
        }
        let name = plain.find(&hidden.id()).filter(|it| !it.repeated)?;
        let (id, this_and_future, cancelled) = (self.named_time(&name), false, false);
        if self.changes.iter().all(|it| it.this_and_future || it.id != id) {
            self.changes.push(OverrideEvent { id, this_and_future, cancelled, start, length });
        }
        Some(())
    }
}

/// The occurrence of `recurrence` that begins when `found` does.
fn occurrence_at(recurrence: &Recurrence, found: &Occurrence, steps: &mut Steps) -> Option<Occurrence> {
    let at = floor_second(found.start);
    let near = recurrence.occurrences_from(at).next_found_within(steps).filter(|it| it.moment.at == at);
    near.map(|near| recurrence.occurrence(&near))
}

/// Dates for all-day events. UTC if that is the zone, or if all rules count in real time without BY-parts: with a
/// TZID, other readers would count them on its clock. Otherwise local times.
fn time_form(spec: &RecurrenceSpec, full: &Recurrence) -> Result<IcalTimeForm, String> {
    if full.is_all_day() {
        return Ok(IcalTimeForm::Day);
    }
    let rules = spec.rule.iter().chain(&spec.more_rules).chain(&spec.except_rules);
    let rules: Vec<RecurrenceRule> =
        rules.map(|it| it.parse()).collect::<Result<_, _>>().map_err(|error| format!("{error}"))?;
    let is_plain = |rule: &RecurrenceRule| rule.frequency().is_sub_daily() && rule.has_no_by_parts();
    let is_real = !rules.is_empty() && rules.iter().all(is_plain);
    let is_utc = matches!(full.time_zone(), "UTC" | "Etc/UTC") || is_real;
    Ok(if is_utc { IcalTimeForm::Utc } else { IcalTimeForm::Local })
}

fn length(spec: &RecurrenceSpec, full: &Recurrence) -> (i64, SignedDuration) {
    match (spec.duration, spec.nominal_days) {
        (None, 0) => (i64::from(full.is_all_day()), SignedDuration::ZERO),
        (duration, days) => exact(duration, days, full.is_all_day()),
    }
}

fn exact(duration: Option<SignedDuration>, days: u16, all_day: bool) -> (i64, SignedDuration) {
    let seconds = duration.unwrap_or_default();
    if all_day {
        return (i64::from(days) + seconds.as_secs() / DAY, SignedDuration::ZERO);
    }
    (days.into(), seconds)
}

fn policy_end(stamp: Timestamp, start: DateTime, tz: &TimeZone) -> Timestamp {
    let from = tz.to_timestamp(start).map_or(stamp, |start| start.max(stamp));
    timestamp(from.as_second().saturating_add(YEARS * 366 * DAY))
}

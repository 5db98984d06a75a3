//! RDATE and EXDATE of a series, by the names of its occurrences.
//!
//! A daylight-saving policy other than RFC 5545's is written out at each change of the clocks: EXDATE for
//! occurrences that only RFC 5545 has, RDATE for those that only the policy has. A series that needs more than
//! [`MAX_WRITTEN`] of them is refused.

use std::collections::BTreeSet;

use jiff::civil::DateTime;
use jiff::{SignedDuration, Timestamp};

use super::event_plan::{EventPlan, IcalTimeForm, MAX_WRITTEN, WrittenTime};
use crate::days::DAY;
use crate::occurrences::Occurrence;
use crate::recurrence::Recurrence;
use crate::rule::{End, RecurrenceRule};
use crate::spec::{RecurrenceSpec, SpecTime, read_time};
use crate::zone::{Dst, civil, floor_second, timestamp};

/// The most occurrences taken out by EXRULE that are written as EXDATE.
const MAX_EXCEPTED: usize = 366;
/// The most occurrences that are compared near one change of the clocks, or at the end of a COUNT.
const MAX_COMPARED: usize = 20_000;

impl EventPlan {
    /// The occurrences that EXRULE takes out of a series, to be written as EXDATE, which more readers know. `None`
    /// if the series has no end, or if they are too many.
    pub(super) fn excepted_by_rules(
        &self,
        spec: &RecurrenceSpec,
        plain: &Recurrence,
        is_bounded: bool,
    ) -> Option<Vec<WrittenTime>> {
        if spec.except_rules.is_empty() {
            return Some(Vec::new());
        }
        let less = RecurrenceSpec {
            except_dates: Vec::new(),
            overrides: Vec::new(),
            dst: Dst::default(),
            ..spec.clone()
        };
        let less = Recurrence::new(&less).ok().filter(|_| is_bounded)?;
        let all: Vec<Occurrence> = plain.all().take(MAX_WRITTEN + 1).collect();
        if all.len() > MAX_WRITTEN {
            return None;
        }
        let kept: BTreeSet<Timestamp> = less.all().take(MAX_WRITTEN).map(|it| it.start).collect();
        let gone: Vec<WrittenTime> =
            all.iter().filter(|it| !kept.contains(&it.start)).map(|it| self.named_time(it)).collect();
        (gone.len() <= MAX_EXCEPTED).then_some(gone)
    }

    /// Collects RDATE and EXDATE, by the names of occurrences.
    pub(super) fn add_exceptions(
        &mut self,
        spec: &RecurrenceSpec,
        plain: &Recurrence,
        skipped: Option<DateTime>,
    ) -> Result<(), String> {
        for text in &spec.dates {
            let stamp = match read_time(text).ok_or_else(|| format!("dates: {text} can't be written"))? {
                SpecTime::Day(midnight) => self.written_time(
                    plain,
                    civil(if plain.is_all_day() { midnight } else { plain.at_start_time(midnight) }),
                ),
                SpecTime::Local(local) => self.written_time(plain, civil(local)),
                SpecTime::Instant(at) => WrittenTime::Utc(timestamp(at)),
            };
            self.dates.push(self.rdate_time(stamp));
        }
        let mut except = BTreeSet::new();
        except.extend(skipped.map(|start| self.written_time(plain, start)));
        for text in &spec.except_dates {
            let second = SignedDuration::from_secs(1);
            match read_time(text).ok_or_else(|| format!("exceptDates: {text} can't be written"))? {
                SpecTime::Day(midnight) => {
                    let low = plain.zone.resolve(midnight).low.saturating_sub(DAY);
                    let day = civil(midnight).date();
                    let near = plain.occurrences(timestamp(low)).take(MAX_WRITTEN * 2);
                    let of_day = near.take_while(|it| it.local_start.date() <= day);
                    except.extend(
                        of_day.filter(|it| it.local_start.date() == day).map(|it| self.named_time(&it)),
                    );
                    if except.len() > MAX_WRITTEN {
                        return Err(format!(
                            "exceptDates: {text} takes out more than {MAX_WRITTEN} occurrences"
                        ));
                    }
                }
                SpecTime::Local(local) => {
                    let local = civil(local);
                    let named =
                        ["", "/2"].into_iter().filter_map(|turn| plain.find(&format!("{local}{turn}")));
                    except.extend(named.map(|it| self.named_time(&it)));
                }
                SpecTime::Instant(at) => {
                    let before = timestamp(at).checked_sub(second).unwrap_or(Timestamp::MIN);
                    let found = plain.after(before).filter(|it| it.start == timestamp(at));
                    except.extend(found.map(|it| self.named_time(&it)));
                }
            }
        }
        self.except = except.into_iter().collect();
        Ok(())
    }

    /// Writes out where the policy differs from RFC 5545: at each change of the clocks, and at the end of COUNT.
    pub(super) fn write_out_policy(
        &mut self,
        plain: &Recurrence,
        bare: &RecurrenceSpec,
        until: Timestamp,
    ) -> Result<(), String> {
        if bare.dst == Dst::default() {
            return Ok(());
        }
        let wanted = Recurrence::new(bare).map_err(|error| error.to_string())?;
        let first = plain.all().next().map_or(until, |it| it.start);
        let changes = self.tz.following(first).map(|it| it.timestamp()).take_while(|at| *at <= until);
        let near = |at: Timestamp| (floor_second(at) - 2 * DAY, floor_second(at) + 2 * DAY);
        let (mut more, mut less) = (BTreeSet::new(), BTreeSet::new());
        for (low, high) in changes.map(near).chain(count_tails(bare)) {
            let within = |it: &Recurrence| -> Result<Vec<Occurrence>, String> {
                let all = it.occurrences(timestamp(low)).take_while(|it| it.start < timestamp(high));
                let all: Vec<Occurrence> = all.take(MAX_COMPARED + 1).collect();
                let most =
                    || format!("recurrence.dst: more than {MAX_COMPARED} occurrences are near a change");
                (all.len() <= MAX_COMPARED).then_some(all).ok_or_else(most)
            };
            let (theirs, ours) = (within(plain)?, within(&wanted)?);
            let starts = |list: &[Occurrence]| list.iter().map(|it| it.start).collect::<BTreeSet<_>>();
            let (of_theirs, of_ours) = (starts(&theirs), starts(&ours));
            more.extend(ours.iter().filter(|it| !of_theirs.contains(&it.start)).map(|it| match self.form {
                IcalTimeForm::Day => WrittenTime::Day(it.local_start.date()),
                _ => WrittenTime::Utc(it.start),
            }));
            for it in theirs.iter().filter(|it| !of_ours.contains(&it.start)) {
                less.insert(self.named_time(it));
                // Readers that compare instants don't find a local time that does not exist.
                if self.form == IcalTimeForm::Local && it.is_shifted(&self.tz) {
                    less.insert(WrittenTime::Utc(it.start));
                }
            }
            if more.len() + less.len() > MAX_WRITTEN {
                return Err(format!(
                    "recurrence.dst: more than {MAX_WRITTEN} dates would be needed to write it out"
                ));
            }
        }
        if !plain.rules().iter().all(RecurrenceRule::is_bounded) {
            let words = format!(
                "recurrence.dst is written out until {}: behind it others read RFC 5545",
                until.strftime("%Y-%m-%d")
            );
            self.remark(&words);
        }
        self.dates.extend(more);
        let known: BTreeSet<WrittenTime> = self.except.iter().copied().collect();
        self.except.extend(less.into_iter().filter(|it| !known.contains(it)));
        Ok(())
    }
}

/// For each rule whose COUNT ends later under the policy than under RFC 5545: the time between these two ends.
fn count_tails(bare: &RecurrenceSpec) -> Vec<(i64, i64)> {
    let rules = bare.rule.iter().chain(&bare.more_rules).chain(&bare.except_rules);
    let counted = rules
        .filter(|rule| rule.parse::<RecurrenceRule>().is_ok_and(|rule| matches!(rule.end, End::Count(_))));
    let last = |rule: &String, dst: Dst| {
        let alone = RecurrenceSpec {
            start: bare.start.clone(),
            time_zone: bare.time_zone.clone(),
            rule: Some(rule.clone()),
            dst,
            ..RecurrenceSpec::default()
        };
        Some(floor_second(Recurrence::new(&alone).ok()?.before(Timestamp::MAX)?.start))
    };
    let tail = |rule: &String| Some((last(rule, Dst::default())?, last(rule, bare.dst)? + 1));
    counted.filter_map(tail).filter(|(theirs, ours)| theirs + 1 < *ours).collect()
}

//! `belfry schedule preview`: shows what Schedules will do, computed as the operator and the worker do it.
//!
//! It doesn't know which reminders were sent already; only the hub does.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use calendar::{DueReminder, Occurrence, ReminderTime, find_zone};
use domain::PlanBody;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::checked::{self, CheckedSchedule};
use super::clock_shifts::{ClockShift, clock_shifts};
use super::manifest::minutes;
use super::text::{ALLOWED_TIMES, ParsedTime};
use crate::Output;
use crate::terminal::{self, Page};

/// How far ahead clock changes are shown if there is no --to.
const DEFAULT_SPAN: SignedDuration = SignedDuration::from_hours(366 * 24);

#[derive(clap::Args)]
pub(crate) struct Flags {
    /// Files or folders with Schedules, or - for standard input.
    #[arg(short, long = "filename", required = true, num_args = 1..)]
    filename: Vec<PathBuf>,
    /// From when on: an instant, or a local time or date in --zone or else the schedule's zone; now when absent.
    #[arg(long)]
    from: Option<String>,
    /// Until when, not included. Without it the next occurrences are shown, and the clock changes of 366 days.
    #[arg(long)]
    to: Option<String>,
    /// A zone to show times in, beside the schedule's own.
    #[arg(long, value_parser = zone)]
    zone: Option<TimeZone>,
    /// How many occurrences, and how many reminders.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// The output format.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

pub(super) fn zone(name: &str) -> Result<TimeZone, String> {
    find_zone(name).ok_or_else(|| "allowed are IANA names such as Europe/Berlin or UTC".to_owned())
}

/// Parses a time of the command line; a local time is in `zone`.
pub(super) fn parse_instant(flag: &str, text: &str, zone: &TimeZone) -> anyhow::Result<Timestamp> {
    let at = ParsedTime::parse_exact(text).and_then(|time| time.instant(zone));
    at.with_context(|| format!("{flag} {text:?} is not allowed; allowed is {ALLOWED_TIMES}"))
}

/// Prints the previews; returns whether no Schedule was refused.
pub(crate) fn run(flags: &Flags, now: Timestamp) -> anyhow::Result<bool> {
    let read = checked::read_schedules(&flags.filename)?;
    let mut out = Page::default();
    for it in &read.valid {
        let preview = Preview::new(flags, it, now)?;
        match flags.output {
            Output::Json => out.json(&preview.json()),
            Output::Text => {
                if !out.is_empty() {
                    out.line("");
                }
                preview.text(&mut out);
            }
        }
    }
    terminal::page(&out);
    Ok(read.refused == 0)
}

/// The preview of one Schedule.
struct Preview<'a> {
    of: &'a CheckedSchedule,
    title: String,
    zone: TimeZone,
    other: Option<TimeZone>,
    occurrences: Vec<Occurrence>,
    reminders: Vec<DueReminder>,
    cron_lines: Vec<String>,
    shifts: Vec<ClockShift>,
}

impl<'a> Preview<'a> {
    fn new(flags: &Flags, of: &'a CheckedSchedule, now: Timestamp) -> anyhow::Result<Self> {
        let valid = &of.valid;
        let zone = valid.recurrence.zone().clone();
        let at = |flag: &str, text: &Option<String>| {
            let zone = flags.zone.as_ref().unwrap_or(&zone);
            text.as_deref().map(|text| parse_instant(flag, text, zone)).transpose()
        };
        let from = at("--from", &flags.from)?.unwrap_or(now);
        let to = at("--to", &flags.to)?;
        if to.is_some_and(|to| to <= from) {
            bail!("--to lies before --from");
        }
        let PlanBody::Schedule(plan) = &valid.plan.body else { bail!("no Schedule") };
        let limit = flags.limit as usize;
        let until = to.unwrap_or(Timestamp::MAX);
        let current = valid.recurrence.current(from).take_while(|it| it.start < until);
        // A reminder that is due at --from is shown.
        let just_before = from.checked_sub(SignedDuration::from_secs(1)).unwrap_or(from);
        let last = until.checked_sub(SignedDuration::from_secs(1)).unwrap_or(until);
        let end = to.unwrap_or_else(|| from.checked_add(DEFAULT_SPAN).unwrap_or(Timestamp::MAX));
        Ok(Self {
            title: plan.title.clone(),
            occurrences: current.take(limit).collect(),
            reminders: calendar::due(&valid.recurrence, &valid.reminders, just_before, last, limit),
            cron_lines: controllers::schedules::cron_lines(valid, from)
                .iter()
                .map(ToString::to_string)
                .collect(),
            shifts: clock_shifts(&plan.recurrence, &valid.recurrence, from, end)?,
            other: flags.zone.clone().filter(|other| other.iana_name() != zone.iana_name()),
            zone,
            of,
        })
    }

    fn zones(&self) -> impl Iterator<Item = &TimeZone> {
        std::iter::once(&self.zone).chain(&self.other)
    }

    fn json(&self) -> Value {
        let zoned = |at: Timestamp, zone: &TimeZone| {
            at.to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
        };
        let show = |at: Timestamp| zoned(at, &self.zone);
        let occurrences = self.occurrences.iter().map(|it| {
            let mut value = json!({"id": it.id(), "start": show(it.start), "end": show(it.end)});
            if let Some(other) = &self.other {
                value["startInZone"] = json!(zoned(it.start, other));
            }
            value
        });
        let reminders = self.reminders.iter().map(|it| {
            let before = lead_time(it);
            json!({"due": show(it.due), "before": before, "start": show(it.occurrence.start), "notify": self.channels(it)})
        });
        let shifts = self.shifts.iter().map(|it| {
            json!({"change": show(it.at), "kind": it.kind, "localTime": it.local.to_string(), "text": it.text})
        });
        json!({
            "schedule": super::manifest::qualified_name(&self.of.valid),
            "title": self.title,
            "timeZone": self.zone.iana_name(),
            "suspended": self.of.valid.plan.suspended,
            "occurrences": occurrences.collect::<Vec<_>>(),
            "reminders": reminders.collect::<Vec<_>>(),
            "cronLines": self.cron_lines,
            "shifts": shifts.collect::<Vec<_>>(),
        })
    }

    fn channels(&self, it: &DueReminder) -> Vec<String> {
        let PlanBody::Schedule(plan) = &self.of.valid.plan.body else { return Vec::new() };
        plan.reminders.get(it.index).map(|it| it.notify.clone()).unwrap_or_default()
    }

    fn text(&self, out: &mut Page) {
        let suspended = if self.of.valid.plan.suspended { " (suspended: no reminders are sent)" } else { "" };
        let name = super::manifest::qualified_name(&self.of.valid);
        out.line(format_args!("Schedule {name}: {}{suspended}", self.title));
        let names = self.zones().map(|zone| format!("START ({})", zone.iana_name().unwrap_or("UTC")));
        let mut rows = vec![names.chain(["LASTS".to_owned(), "ID".to_owned()]).collect::<Vec<_>>()];
        for it in &self.occurrences {
            let starts = self.zones().map(|zone| shown(it.start, zone));
            let moved = self.zone.to_datetime(it.start) != it.local_start || it.repeated;
            let id = if moved { it.id() } else { String::new() };
            let lasts = lasts(it.end.duration_since(it.start));
            rows.push(starts.chain([lasts, id]).collect());
        }
        print_table(out, &rows);
        if self.occurrences.is_empty() {
            out.line("  no occurrence");
        }
        if !self.reminders.is_empty() {
            let mut rows = vec![["REMINDER", "BEFORE", "OF", "TO"].map(str::to_owned).to_vec()];
            for it in &self.reminders {
                let start = shown(it.occurrence.start, &self.zone);
                let before = lead_time(it);
                rows.push(vec![shown(it.due, &self.zone), before, start, self.channels(it).join(", ")]);
            }
            print_table(out, &rows);
        }
        for line in &self.cron_lines {
            out.line(format_args!("  CronJob (UTC): {line}"));
        }
        for ClockShift { at, text, .. } in &self.shifts {
            out.line(format_args!("  clocks change at {}: {text}", shown(*at, &self.zone)));
        }
    }
}

/// Formats a time as `Mon 2026-03-30 10:00 +02:00`; with seconds unless they are 0.
pub(super) fn shown(at: Timestamp, zone: &TimeZone) -> String {
    let zoned = at.to_zoned(zone.clone());
    let form = if zoned.second() == 0 { "%a %Y-%m-%d %H:%M %:z" } else { "%a %Y-%m-%d %H:%M:%S %:z" };
    zoned.strftime(form).to_string()
}

/// When a reminder is due: `10m`, or `09:00 1 days before`.
fn lead_time(it: &DueReminder) -> String {
    match it.reminder.time() {
        ReminderTime::Before { before_minutes } => minutes(before_minutes),
        ReminderTime::At { at, days_before } => {
            format!("{} {days_before} days before", at.strftime("%H:%M"))
        }
    }
}

fn lasts(length: SignedDuration) -> String {
    domain::Millis(length.as_millis().try_into().unwrap_or(0)).to_string()
}

/// Prints rows in columns that are as wide as their widest cells.
pub(super) fn print_table(out: &mut Page, rows: &[Vec<String>]) {
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|it| it.chars().count()).max();
    for row in rows {
        let cells = row.iter().enumerate().map(|(at, cell)| format!("{cell:0$}", width(at).unwrap_or(0)));
        out.line(format_args!("  {}", cells.collect::<Vec<_>>().join("  ").trim_end()));
    }
}

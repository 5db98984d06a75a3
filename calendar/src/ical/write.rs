//! Writes series into one calendar (RFC 5545): VTIMEZONEs, and a VEVENT for each series and each override.
//!
//! The time stamp is an argument, so no clock is read. No two series get the same UID, since a reader would keep
//! only one.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::line_writer::{LineWriter, escaped, quoted};
use super::value::{write_date, write_local, write_span, write_utc};
use super::{Series, details, policy, reminders, timezone};

mod event_plan;
mod exceptions;
mod planning;

use event_plan::{EventPlan, IcalTimeForm, OverrideEvent, WrittenTime};

/// The written calendar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// The text of the calendar.
    pub text: String,
    /// For each series, in order: remarks on what other readers may read differently, or why the series is not in
    /// the text.
    pub series: Vec<Result<Vec<String>, String>>,
}

/// Writes series. `stamp` becomes DTSTAMP. Daylight-saving policies that iCalendar cannot express are written out
/// as dates for ten years from `stamp` on.
pub fn write(series: &[Series], stamp: Timestamp) -> Export {
    let mut plans: Vec<Result<EventPlan, String>> =
        series.iter().map(|it| EventPlan::new(it, stamp)).collect();
    let uids = unique_uids(series, &mut plans);
    let mut lines = LineWriter::default();
    lines.raw("BEGIN", "VCALENDAR");
    lines.raw("VERSION", "2.0");
    lines.raw("PRODID", "-//Belfry//belfry schedule export//EN");
    lines.raw("CALSCALE", "GREGORIAN");
    let mut zones: BTreeMap<&str, (&TimeZone, Timestamp, Option<Timestamp>)> = BTreeMap::new();
    for plan in plans.iter().flatten().filter(|plan| matches!(plan.form, IcalTimeForm::Local)) {
        let (from, until) = plan.span;
        let known = zones.entry(&plan.zone).or_insert((&plan.tz, from, until));
        known.1 = known.1.min(from);
        known.2 = known.2.zip(until).map(|(one, other)| one.max(other));
    }
    for (name, (tz, from, until)) in zones {
        timezone::write_vtimezone(&mut lines, tz, name, from, until);
    }
    for ((series, plan), uid) in series.iter().zip(&plans).zip(&uids) {
        if let Ok(plan) = plan {
            write_event(&mut lines, uid, series, plan, stamp);
        }
    }
    lines.raw("END", "VCALENDAR");
    Export { text: lines.text, series: plans.into_iter().map(|plan| plan.map(|plan| plan.remarks)).collect() }
}

/// A UID for each series: its own, or a new one with a remark if another series has the same (RFC 5545, section
/// 3.8.4.7).
fn unique_uids(series: &[Series], plans: &mut [Result<EventPlan, String>]) -> Vec<String> {
    let written = |uid: &str| escaped(uid.trim());
    let (mut given, own): (HashSet<String>, HashSet<String>) =
        (HashSet::new(), series.iter().map(|it| written(&it.uid)).collect());
    let mut uids = Vec::new();
    for (it, plan) in series.iter().zip(plans) {
        let mut uid = it.uid.clone();
        if let Ok(plan) = plan
            && !given.insert(written(&uid))
        {
            let base = format!("{}/{}", it.uid.trim(), it.name.as_deref().unwrap_or("again"));
            let mut other = (1..).map(|number| match number {
                1 => base.clone(),
                _ => format!("{base}-{number}"),
            });
            uid =
                other.find(|uid| !own.contains(&written(uid)) && given.insert(written(uid))).unwrap_or(base);
            plan.remark(&format!("UID: another has \"{}\" too; this one is written with \"{uid}\"", it.uid));
        }
        uids.push(uid);
    }
    uids
}

fn write_event(lines: &mut LineWriter, uid: &str, series: &Series, plan: &EventPlan, stamp: Timestamp) {
    lines.raw("BEGIN", "VEVENT");
    write_head(lines, uid, series, stamp);
    plan.write_time(lines, "DTSTART", "", plan.start);
    lines.raw("DURATION", &write_span(plan.length.0, plan.length.1));
    for rule in &plan.rules {
        lines.raw("RRULE", rule);
    }
    for rule in &plan.except_rules {
        lines.raw("EXRULE", rule);
    }
    plan.dates.iter().for_each(|date| plan.write_time(lines, "RDATE", "", *date));
    plan.except.iter().for_each(|date| plan.write_time(lines, "EXDATE", "", *date));
    if let Some(name) = &series.name {
        lines.text("X-BELFRY-NAME", name);
    }
    if plan.form == IcalTimeForm::Day || (plan.form == IcalTimeForm::Utc && plan.zone != "UTC") {
        lines.text("X-BELFRY-TIMEZONE", &plan.zone);
    }
    if let Some(dst) = policy::write_policy(series.spec.dst) {
        lines.raw(policy::PROPERTY, &dst);
    }
    write_tail(lines, series);
    lines.raw("END", "VEVENT");
    for OverrideEvent { id, this_and_future, cancelled, start, length } in &plan.changes {
        lines.raw("BEGIN", "VEVENT");
        write_head(lines, uid, series, stamp);
        plan.write_time(
            lines,
            "RECURRENCE-ID",
            if *this_and_future { ";RANGE=THISANDFUTURE" } else { "" },
            *id,
        );
        plan.write_time(lines, "DTSTART", "", *start);
        lines.raw("DURATION", &write_span(length.0, length.1));
        if *cancelled {
            lines.raw("STATUS", "CANCELLED");
        }
        write_tail(lines, series);
        lines.raw("END", "VEVENT");
    }
}

fn write_head(lines: &mut LineWriter, uid: &str, series: &Series, stamp: Timestamp) {
    lines.text("UID", uid);
    lines.raw("DTSTAMP", &write_utc(stamp));
    if let Some(sequence) = series.sequence {
        lines.raw("SEQUENCE", &sequence.to_string());
    }
    lines.text("SUMMARY", &series.title);
    details::write_details(lines, series);
}

/// What each VEVENT must repeat, since an override describes the whole occurrence.
fn write_tail(lines: &mut LineWriter, series: &Series) {
    lines.raw("TRANSP", if series.transparent { "TRANSPARENT" } else { "OPAQUE" });
    for person in &series.people {
        // An address is required; calendars write this one for none.
        let address =
            person.address.as_ref().map_or("invalid:nomail".to_owned(), |it| format!("mailto:{it}"));
        lines.raw(&format!("ATTENDEE;CN={}", quoted(&person.name)), &address);
    }
    if !series.resources.is_empty() {
        let names: Vec<String> = series.resources.iter().map(|name| escaped(name)).collect();
        lines.raw("RESOURCES", &names.join(","));
    }
    reminders::write_alarms(lines, &series.title, &series.spec.start, &series.reminders);
}

impl EventPlan {
    fn write_time(&self, lines: &mut LineWriter, name: &str, parameters: &str, stamp: WrittenTime) {
        match stamp {
            WrittenTime::Day(day) => lines.raw(&format!("{name};VALUE=DATE{parameters}"), &write_date(day)),
            WrittenTime::Utc(at) => lines.raw(&format!("{name}{parameters}"), &write_utc(at)),
            WrittenTime::Local(local) => {
                lines.raw(&format!("{name};TZID={}{parameters}", self.zone), &write_local(local));
            }
        }
    }
}

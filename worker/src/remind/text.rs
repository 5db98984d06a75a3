//! The texts of a reminder: its title, and what it says below that.
//!
//! Invariant: every reminder has a text. It says when the occurrence is, unless the schedule's own template says something
//! else. A template that fails never keeps a reminder back.

use std::time::{Duration, Instant};

use calendar::Occurrence;
use domain::{Plan, ScheduleDetails, SchedulePlan};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use templates::rule_texts::{CompiledText, compile_text};
use templates::{OutputLimit, TemplateData};

/// A reminder that comes later than this says that it is late.
const LATE: SignedDuration = SignedDuration::from_mins(2);

/// The longest text, bytes: the hub cuts what is longer.
const MAX_TEXT: usize = 4 * 1_024;
/// The most characters of the description, and the most resources, that a text has.
const MAX_DESCRIPTION: usize = 1_000;
const MAX_RESOURCES: usize = 8;
/// How long rendering may take: one text, and all texts of a round.
const TIME: Duration = Duration::from_millis(50);
const TIME_OF_ALL: Duration = Duration::from_secs(2);

/// The texts of a schedule's reminders.
pub struct ReminderTexts<'a> {
    plan: &'a Plan,
    schedule: &'a SchedulePlan,
    now: Timestamp,
    /// The schedule's own template, if it has one.
    compiled: Option<CompiledText>,
    begun: Instant,
}

impl<'a> ReminderTexts<'a> {
    /// The texts as they are at the instant `now`.
    pub fn new(plan: &'a Plan, schedule: &'a SchedulePlan, now: Timestamp) -> Self {
        let compiled = schedule.summary.as_deref().map(compile_text);
        Self { plan, schedule, now, compiled, begun: Instant::now() }
    }

    /// Such as `Reminder: Payments stand-up, 2026-11-23 10:00 (Asia/Seoul)`: the subject alone says what is when.
    pub fn title(&self, occurrence: &Occurrence) -> String {
        let name = &self.schedule.recurrence.time_zone;
        format!("Reminder: {}, {} ({name})", self.schedule.title, self.start(occurrence))
    }

    /// The start in the schedule's time zone; for an all-day event only its date.
    fn start(&self, occurrence: &Occurrence) -> String {
        let zone = TimeZone::get(&self.schedule.recurrence.time_zone).unwrap_or(TimeZone::UTC);
        let form = if self.schedule.recurrence.start.contains('T') { "%Y-%m-%d %H:%M" } else { "%Y-%m-%d" };
        occurrence.start.to_zoned(zone).strftime(form).to_string()
    }

    /// What a reminder says below its title: the text of the schedule's template, or else when it is, where, the link and the
    /// description. If the template fails, this usual text ends with the fault.
    pub fn summary(&self, occurrence: &Occurrence, due: Timestamp) -> String {
        let when = when_it_is(self.schedule, occurrence, due, self.now);
        let text = format!("{when}{}", about(&self.schedule.about));
        let Some(compiled) = &self.compiled else { return text };
        match compiled.as_ref().map_err(Clone::clone).and_then(|template| {
            let data = TemplateData::new(&self.data(occurrence, due, (&when, &text)));
            let begun = Instant::now();
            let clock = || match (begun.elapsed() > TIME, self.begun.elapsed() > TIME_OF_ALL) {
                (_, true) => Some("2s for all reminders at once"),
                (true, _) => Some("50ms for a text"),
                _ => None,
            };
            template.render(&data, OutputLimit { bytes: MAX_TEXT }, &clock)
        }) {
            Ok(text) => text,
            Err(error) => format!("{text}\n\n{}", templates::fallback("summary", &self.plan.name, &error)),
        }
    }

    fn data(&self, occurrence: &Occurrence, due: Timestamp, (when, text): (&str, &str)) -> serde_json::Value {
        let ScheduleDetails { description, location, url, resources } = &self.schedule.about;
        let name = &self.schedule.recurrence.time_zone;
        serde_json::json!({
            "text": text,
            "when": when,
            "title": self.schedule.title,
            "description": description.as_deref().unwrap_or_default(),
            "location": location.as_deref().unwrap_or_default(),
            "url": url.as_deref().unwrap_or_default(),
            "resources": resources,
            "namespace": self.plan.namespace,
            "name": self.plan.name,
            "start": self.start(occurrence),
            "occurrence": occurrence.start,
            "end": occurrence.end,
            "timeZone": name,
            "beforeMinutes": occurrence.start.duration_since(due).as_mins(),
            "due": due,
        })
    }
}

/// The lines after the first: where it is, the link, and the description.
fn about(about: &ScheduleDetails) -> String {
    let mut text = String::new();
    let place = about.location.as_deref().map(str::trim).filter(|place| !place.is_empty());
    // A calendar may name a room both as the location and as a resource: it is told once.
    let rooms: Vec<&str> =
        about.resources.iter().map(String::as_str).filter(|room| Some(*room) != place).collect();
    let named = &rooms[..rooms.len().min(MAX_RESOURCES)];
    let more = rooms.len() - named.len();
    let rooms = match more {
        0 => named.join(", "),
        _ => format!("{} and {more} more", named.join(", ")),
    };
    let places: Vec<&str> =
        place.into_iter().chain(Some(rooms.as_str()).filter(|it| !it.is_empty())).collect();
    if !places.is_empty() {
        text.push_str("\nWhere: ");
        text.push_str(&places.join("; "));
    }
    if let Some(url) = &about.url {
        text.push_str("\nLink: ");
        text.push_str(url);
    }
    if let Some(said) = about.description.as_deref().map(str::trim).filter(|said| !said.is_empty()) {
        text.push_str("\n\n");
        text.extend(said.chars().take(MAX_DESCRIPTION));
        if said.chars().nth(MAX_DESCRIPTION).is_some() {
            text.push('…');
        }
    }
    text
}

/// The first line, such as `Starts at 2026-11-23 10:00 (Asia/Seoul), in 10 minutes.`
fn when_it_is(schedule: &SchedulePlan, occurrence: &Occurrence, due: Timestamp, now: Timestamp) -> String {
    let name = &schedule.recurrence.time_zone;
    // The operator has checked the name, and both have the same time zone database.
    let zone = TimeZone::get(name).unwrap_or(TimeZone::UTC);
    let all_day = !schedule.recurrence.start.contains('T');
    let mut text =
        if all_day { day(occurrence, name, &zone, now) } else { instant(occurrence, name, &zone, now) };
    if now.duration_since(due) > LATE {
        let due = due.to_zoned(zone).strftime("%Y-%m-%d %H:%M").to_string();
        text = format!("{text} This reminder is late: it was due at {due}.");
    }
    text
}

fn instant(occurrence: &Occurrence, name: &str, zone: &TimeZone, now: Timestamp) -> String {
    let start = occurrence.start.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M").to_string();
    let minutes = minutes(occurrence.start.duration_since(now));
    let text = when(occurrence, &start, name, minutes, now);
    if occurrence.is_shifted(zone) {
        let usual = occurrence.local_start.strftime("%H:%M").to_string();
        return format!("{text} {usual} does not exist on that day: clocks go forward.");
    }
    text
}

fn when(occurrence: &Occurrence, start: &str, name: &str, minutes: i64, now: Timestamp) -> String {
    match minutes {
        1.. => format!("Starts at {start} ({name}), in {}.", length(minutes)),
        0 => format!("Starts now, at {start} ({name})."),
        _ if occurrence.end > occurrence.start && occurrence.end <= now => {
            format!("Started at {start} ({name}), {} ago, and is over.", length(-minutes))
        }
        _ => format!("Started at {start} ({name}), {} ago.", length(-minutes)),
    }
}

fn day(occurrence: &Occurrence, name: &str, zone: &TimeZone, now: Timestamp) -> String {
    let date = |time: Timestamp| time.to_zoned(zone.clone()).date();
    let (first, today) = (date(occurrence.start), date(now));
    // The end is the midnight after the last day.
    let last = date(occurrence.end - SignedDuration::from_secs(1)).max(first);
    let when = match days(today, first) {
        0 => "today".to_owned(),
        1 => "tomorrow".to_owned(),
        -1 => "yesterday".to_owned(),
        n if n > 0 => format!("in {n} days"),
        n => format!("{} days ago", -n),
    };
    if last == first {
        format!("All day on {first} ({name}), {when}.")
    } else {
        format!("From {first} to {last} ({name}), beginning {when}.")
            .replace("beginning yesterday", "begun yesterday")
    }
}

fn days(from: Date, to: Date) -> i32 {
    from.until(to).map_or(0, |span| span.get_days())
}

/// The duration in minutes, rounded to the nearest.
fn minutes(duration: SignedDuration) -> i64 {
    (duration.as_secs() + 30).div_euclid(60)
}

/// Minutes in words, by their two largest units: `1 hour 30 minutes`.
fn length(minutes: i64) -> String {
    let units = [(minutes / 1440, "day"), (minutes / 60 % 24, "hour"), (minutes % 60, "minute")];
    units
        .iter()
        .skip_while(|(count, _)| *count == 0)
        .take(2)
        .filter(|(count, _)| *count > 0)
        .map(|(count, unit)| format!("{count} {unit}{}", if *count == 1 { "" } else { "s" }))
        .collect::<Vec<_>>()
        .join(" ")
}

//! What a reminder says below its title.
//!
//! Invariant: there is always a text, which says when it is or, where the schedule's own template does not, what that says. Never:
//! a reminder kept back by a template.

use std::time::{Duration, Instant};

use calendar::Occurrence;
use domain::{About, Plan, SchedulePlan};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use templates::rule_texts::{CompiledText, compile_text};
use templates::{OutputLimit, TemplateData};

/// A reminder that comes later than this says so.
const LATE: SignedDuration = SignedDuration::from_mins(2);

/// The longest text, bytes: the hub cuts what is longer.
const MAX_TEXT: usize = 4 * 1_024;
/// Characters of the description that are said, and resources that are named.
const MAX_DESCRIPTION: usize = 1_000;
const MAX_RESOURCES: usize = 8;
/// How long one text may take, and all of a round.
const TIME: Duration = Duration::from_millis(50);
const TIME_OF_ALL: Duration = Duration::from_secs(2);

/// The texts of a schedule's reminders.
pub struct Texts<'a> {
    plan: &'a Plan,
    schedule: &'a SchedulePlan,
    now: Timestamp,
    /// Of the schedule's own template.
    compiled: Option<CompiledText>,
    begun: Instant,
}

impl<'a> Texts<'a> {
    /// At this instant.
    pub fn of(plan: &'a Plan, schedule: &'a SchedulePlan, now: Timestamp) -> Self {
        let compiled = schedule.summary.as_deref().map(compile_text);
        Self { plan, schedule, now, compiled, begun: Instant::now() }
    }

    /// Such as `Reminder: Payments stand-up, 2026-11-23 10:00 (Asia/Seoul)`: who reads the subject alone knows what comes
    /// when.
    pub fn title(&self, occurrence: &Occurrence) -> String {
        let name = &self.schedule.recurrence.time_zone;
        format!("Reminder: {}, {} ({name})", self.schedule.title, self.start(occurrence))
    }

    /// The start by the clock where the schedule is kept; the date of a whole day.
    fn start(&self, occurrence: &Occurrence) -> String {
        let zone = TimeZone::get(&self.schedule.recurrence.time_zone).unwrap_or(TimeZone::UTC);
        let form = if self.schedule.recurrence.start.contains('T') { "%Y-%m-%d %H:%M" } else { "%Y-%m-%d" };
        occurrence.start.to_zoned(zone).strftime(form).to_string()
    }

    /// What a reminder says below its title: by the schedule's template, or when it is, where, the link and what it is about.
    /// A template that fails is named behind that.
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
        let About { description, location, url, resources } = &self.schedule.about;
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

/// Lines behind when it is: where, the link, and what it is about.
fn about(about: &About) -> String {
    let mut text = String::new();
    let place = about.location.as_deref().map(str::trim).filter(|place| !place.is_empty());
    // Calendars name a room that takes part as the place too.
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

/// Such as `Starts at 2026-11-23 10:00 (Asia/Seoul), in 10 minutes.`
fn when_it_is(schedule: &SchedulePlan, occurrence: &Occurrence, due: Timestamp, now: Timestamp) -> String {
    let name = &schedule.recurrence.time_zone;
    // The operator has checked the name, and both have the same database of zones.
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

/// Rounded to the nearest.
fn minutes(duration: SignedDuration) -> i64 {
    (duration.as_secs() + 30).div_euclid(60)
}

/// `1 hour 30 minutes`; its two largest units.
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

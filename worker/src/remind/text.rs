//! What a reminder says below its title.

use calendar::Occurrence;
use domain::SchedulePlan;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// A reminder that comes later than this says so.
const LATE: SignedDuration = SignedDuration::from_mins(2);

/// Such as `Starts at 2026-11-23 10:00 (Asia/Seoul), in 10 minutes.`
pub fn summary(schedule: &SchedulePlan, occurrence: &Occurrence, due: Timestamp, now: Timestamp) -> String {
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

//! Converts a series of iCalendar to an equivalent Schedule, and back.
//!
//! A remark says what a Schedule has no field for. The bounds of the definition hold: text that is too long is cut, with a remark;
//! too many or too long rules and dates are refused.

mod to_series;

use std::collections::BTreeSet;

use calendar::ical::{Person, Series};
use calendar::{RecurrenceSpec, ReminderTime};
use crds::common::{ChannelRef, Duration, Notify, SignedMinutes};
use crds::schedule as wire;
use domain::Millis;
use serde::Serialize;

pub(crate) use to_series::{qualified_name, series};

/// Annotation: the UID of the imported event. An export writes it again.
pub(crate) const UID: &str = "belfry.dev/ical-uid";
/// Annotation: the SEQUENCE of the imported event.
pub(crate) const SEQUENCE: &str = "belfry.dev/ical-sequence";

/// Bounds of the definition.
const MAX_TITLE: usize = 256;
const MAX_DESCRIPTION: usize = 4096;
const MAX_LOCATION: usize = 512;
const MAX_URL: usize = 2048;
const MAX_NAME: usize = 128;
const MAX_ADDRESS: usize = 254;
const MAX_PEOPLE: usize = 100;
const MAX_RESOURCES: usize = 32;
const MAX_REMINDERS: usize = 16;
const MAX_RULES: usize = 8;
const MAX_RULE: usize = 512;
const MAX_DATES: usize = 366;
const MAX_OVERRIDES: usize = 100;
const DAY: i64 = 86_400;

/// The manifest of an imported Schedule.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ScheduleManifest {
    api_version: &'static str,
    kind: &'static str,
    metadata: Metadata,
    spec: wire::ScheduleSpec,
}

#[derive(Debug, Serialize)]
struct Metadata {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    annotations: std::collections::BTreeMap<&'static str, String>,
}

/// Makes the Schedule of a series, and remarks on what it doesn't contain; or says why there is none.
pub(crate) fn manifest(
    series: &Series,
    name: String,
    namespace: Option<&str>,
    notify: &[String],
) -> Result<(ScheduleManifest, Vec<String>), String> {
    let mut remarks = Vec::new();
    let mut spec = spec(&series.spec, &mut remarks)?;
    spec.title = cut(&series.title, MAX_TITLE, "SUMMARY", &mut remarks);
    set_details(&mut spec, series, &mut remarks);
    if series.transparent {
        spec.transparency = wire::Transparency::Transparent;
    }
    spec.participants = participants(&series.people, &mut remarks);
    spec.resources = resources(&series.resources, &mut remarks);
    spec.reminders = reminders(&series.reminders, notify, &mut remarks);
    let mut annotations = std::collections::BTreeMap::from([(UID, series.uid.clone())]);
    annotations.extend(series.sequence.map(|sequence| (SEQUENCE, sequence.to_string())));
    let metadata = Metadata { name, namespace: namespace.map(str::to_owned), annotations };
    Ok((ScheduleManifest { api_version: "belfry.dev/v1alpha1", kind: "Schedule", metadata, spec }, remarks))
}

/// Makes the spec, without texts, people and reminders.
fn spec(from: &RecurrenceSpec, remarks: &mut Vec<String>) -> Result<wire::ScheduleSpec, String> {
    let all_day = from.start.len() == 10;
    let seconds = from.duration.unwrap_or_default().as_secs();
    if from.nominal_days > 0 {
        remarks.push(format!(
            "DURATION: P{}D is taken as {}h: where clocks change meanwhile, it ends at another time of day",
            from.nominal_days,
            i64::from(from.nominal_days) * 24
        ));
    }
    for it in from.overrides.iter().filter(|it| it.nominal_days > 0) {
        let (id, days) = (&it.recurrence_id, it.nominal_days);
        let hours = i64::from(days) * 24;
        remarks.push(format!(
            "DURATION: P{days}D of the occurrence {id} is taken as {hours}h: where clocks change meanwhile, it ends at another \
             time of day"
        ));
    }
    let total = seconds + i64::from(from.nominal_days) * DAY;
    if total == 0 {
        remarks.push("it takes no time: taken as 1m, the least that a Schedule lasts".to_owned());
    }
    for it in
        from.overrides.iter().filter(|it| it.duration.is_some_and(|it| it.is_zero()) && it.nominal_days == 0)
    {
        let id = &it.recurrence_id;
        remarks
            .push(format!("the occurrence {id} takes no time: taken as 1m, the least that a Schedule lasts"));
    }
    let mut recurrence = recurrence(from)?;
    if all_day && total > DAY {
        // A Schedule's all-day event lasts one day. A longer one needs an override from its first occurrence on.
        recurrence.overrides.insert(0, length_override(from, total)?);
    }
    let says_when =
        recurrence.rrule.is_some() || !recurrence.rrules.is_empty() || !recurrence.dates.is_empty();
    let nothing = recurrence == wire::Recurrence::default();
    if !says_when && !nothing && recurrence.dst.is_none() {
        recurrence.dst = Some(wire::Dst::default());
    }
    Ok(wire::ScheduleSpec {
        title: String::new(),
        description: None,
        location: None,
        url: None,
        summary: None,
        start: from.start.clone(),
        time_zone: from.time_zone.clone(),
        duration: (!all_day).then(|| length(total)),
        all_day: all_day.then_some(true),
        recurrence: (!nothing).then_some(recurrence),
        participants: Vec::new(),
        resources: Vec::new(),
        shared_resources: Vec::new(),
        transparency: wire::Transparency::Opaque,
        buffer: None,
        suggest: None,
        conflict_policy: wire::ConflictPolicy::Warn,
        reminders: Vec::new(),
        jitter: None,
        catch_up: None,
        suspend: false,
    })
}

/// Sets description, location and link.
fn set_details(spec: &mut wire::ScheduleSpec, series: &Series, remarks: &mut Vec<String>) {
    let mut description = series.description.clone();
    spec.url.clone_from(&series.url);
    // A link that a Schedule doesn't accept is kept in the description.
    if let Some(url) = spec.url.take_if(|url| !is_url(url)) {
        remarks.push(
            "URL: not printable ASCII of at most 2048 characters with a scheme: taken into the description"
                .to_owned(),
        );
        let said = description.get_or_insert_default();
        let gap = if said.is_empty() { "" } else { "\n" };
        *said = format!("{said}{gap}{url}");
    }
    let mut cut =
        |text: &Option<String>, most, what| text.as_ref().map(|text| cut(text, most, what, remarks));
    spec.location = cut(&series.location, MAX_LOCATION, "LOCATION");
    spec.description = cut(&description, MAX_DESCRIPTION, "DESCRIPTION");
}

/// Whether a Schedule accepts it as `url`.
fn is_url(url: &str) -> bool {
    let scheme = |scheme: &str| {
        scheme.starts_with(|it: char| it.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+.-".contains(&byte))
    };
    (3..=MAX_URL).contains(&url.len())
        && url.bytes().all(|byte| byte.is_ascii_graphic())
        && url.split_once(':').is_some_and(|(before, behind)| scheme(before) && !behind.is_empty())
}

/// A duration of at least a minute, the shortest that a Schedule accepts.
fn length(seconds: i64) -> Duration {
    Duration(Millis(seconds.max(60) * 1_000).to_string())
}

fn recurrence(from: &RecurrenceSpec) -> Result<wire::Recurrence, String> {
    let within = |what: &str, count: usize, most: usize| {
        (count <= most)
            .then_some(())
            .ok_or_else(|| format!("{what}: {count}, where a Schedule takes at most {most}"))
    };
    let rules: Vec<String> = from.rule.iter().chain(&from.more_rules).cloned().collect();
    within("RRULE", rules.len(), MAX_RULES)?;
    within("EXRULE", from.except_rules.len(), MAX_RULES)?;
    if let Some(long) = rules.iter().chain(&from.except_rules).find(|rule| rule.len() > MAX_RULE) {
        return Err(format!("RRULE: {} characters, where a Schedule takes at most {MAX_RULE}", long.len()));
    }
    let mut except: BTreeSet<String> = from.except_dates.iter().cloned().collect();
    let mut overrides = from.overrides.clone();
    if overrides.len() > MAX_OVERRIDES {
        // A single cancelled occurrence can be an excepted date instead.
        let (plain, others): (Vec<_>, _) =
            overrides.into_iter().partition(|it| it.cancelled && !it.this_and_future);
        except.extend(plain.into_iter().map(|it| it.recurrence_id));
        overrides = others;
    }
    within("RECURRENCE-ID", overrides.len(), MAX_OVERRIDES - 1)?;
    within("RDATE", from.dates.len(), MAX_DATES)?;
    within("EXDATE", except.len(), MAX_DATES)?;
    let dst = from.dst;
    let dst = (dst != calendar::Dst::default()).then_some(wire::Dst {
        gap: match dst.gap {
            calendar::Gap::ShiftForward => wire::Gap::ShiftForward,
            calendar::Gap::Skip => wire::Gap::Skip,
        },
        fold: match dst.fold {
            calendar::Fold::First => wire::Fold::First,
            calendar::Fold::Last => wire::Fold::Last,
            calendar::Fold::Both => wire::Fold::Both,
        },
    });
    let rules: Vec<String> = rules.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
    let single = rules.len() < 2;
    Ok(wire::Recurrence {
        rrule: rules.first().cloned().filter(|_| single),
        rrules: if single { Vec::new() } else { rules },
        except_rrules: from.except_rules.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect(),
        dates: from.dates.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect(),
        except_dates: except.into_iter().collect(),
        overrides: overrides.iter().map(changed).collect(),
        dst,
    })
}

fn changed(from: &calendar::Override) -> wire::Override {
    let has_length = from.duration.is_some() || from.nominal_days > 0;
    let seconds = from.duration.unwrap_or_default().as_secs() + i64::from(from.nominal_days) * DAY;
    wire::Override {
        recurrence_id: from.recurrence_id.clone(),
        range: if from.this_and_future {
            wire::OverrideRange::ThisAndFuture
        } else {
            wire::OverrideRange::This
        },
        cancelled: from.cancelled.then_some(true),
        start: from.start.clone(),
        duration: has_length.then(|| length(seconds)),
    }
}

/// An override that gives all occurrences of an all-day series this length.
fn length_override(from: &RecurrenceSpec, seconds: i64) -> Result<wire::Override, String> {
    let plain = RecurrenceSpec { overrides: Vec::new(), ..from.clone() };
    let recurrence = calendar::Recurrence::new(&plain).map_err(|error| error.to_string())?;
    let first = recurrence.all().next().map_or(from.start.clone(), |it| it.local_start.date().to_string());
    Ok(wire::Override {
        recurrence_id: first,
        range: wire::OverrideRange::ThisAndFuture,
        cancelled: None,
        start: None,
        duration: Some(length(seconds)),
    })
}

/// Cuts a text to `most` characters, with a remark.
fn cut(text: &str, most: usize, what: &str, remarks: &mut Vec<String>) -> String {
    let short: String = text.chars().take(most).collect();
    if short.len() < text.len() {
        remarks.push(format!("{what}: cut to {most} characters"));
    }
    short
}

fn participants(people: &[Person], remarks: &mut Vec<String>) -> Vec<wire::Participant> {
    if people.len() > MAX_PEOPLE {
        remarks.push(format!("ATTENDEE: only the first {MAX_PEOPLE} of {} are taken", people.len()));
    }
    let one = |person: &Person| {
        let name = cut(&person.name, MAX_NAME, "ATTENDEE", remarks);
        let email = person.address.clone().filter(|it| (3..=MAX_ADDRESS).contains(&it.chars().count()));
        if email != person.address {
            remarks.push(format!("ATTENDEE: the address of {name} is too long: not taken"));
        }
        wire::Participant { name, email, working_hours: None }
    };
    people.iter().take(MAX_PEOPLE).map(one).collect()
}

fn resources(names: &[String], remarks: &mut Vec<String>) -> Vec<String> {
    let mut list: Vec<String> = Vec::new();
    for name in names {
        let name = cut(name, MAX_NAME, "RESOURCES", remarks);
        if !list.contains(&name) {
            list.push(name);
        }
    }
    if list.len() > MAX_RESOURCES {
        remarks.push(format!("RESOURCES: only the first {MAX_RESOURCES} of {} are taken", list.len()));
        list.truncate(MAX_RESOURCES);
    }
    list
}

fn reminders(all: &[ReminderTime], notify: &[String], remarks: &mut Vec<String>) -> Vec<wire::Reminder> {
    if !all.is_empty() && notify.is_empty() {
        let what =
            format!("VALARM: {} not taken: a reminder needs a channel; say which with --notify", all.len());
        remarks.push(what);
        return Vec::new();
    }
    if all.len() > MAX_REMINDERS {
        remarks.push(format!("VALARM: only the first {MAX_REMINDERS} of {} are taken", all.len()));
    }
    let channel = |name: &String| Notify { channel_ref: ChannelRef { name: name.clone() } };
    let one = |it: &ReminderTime| {
        let (before, at, days_before) = match *it {
            ReminderTime::Before { before_minutes } => {
                (Some(SignedMinutes(minutes(before_minutes))), None, None)
            }
            ReminderTime::At { at, days_before } => {
                (None, Some(at.strftime("%H:%M").to_string()), Some(days_before.into()))
            }
        };
        wire::Reminder { before, at, days_before, notify: notify.iter().map(channel).collect() }
    };
    all.iter().take(MAX_REMINDERS).map(one).collect()
}

/// Formats minutes: `1h30m`, `0m`, `-10m`.
pub(crate) fn minutes(minutes: i64) -> String {
    let sign = if minutes < 0 { "-" } else { "" };
    match minutes {
        0 => "0m".to_owned(),
        _ => format!("{sign}{}", Millis(minutes.abs() * 60_000)),
    }
}

//! `belfry schedule free`: shows when people and resources of Schedules are busy, and when all of them are free.
//!
//! Busy times come from the index that finds conflicts: occurrences with their buffers, of Schedules that are not transparent. The
//! same address or name is the same person in all manifests, whatever the namespace.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::bail;
use calendar::{Booking, Occupancy, Stretch, WorkingHours};
use controllers::validate::{self, Need, ValidSchedule, What};
use crds::schedule::Schedule;
use domain::{Millis, PlanBody};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::checked::{self, CheckedSchedule};
use super::manifest::qualified_name;
use super::preview::{parse_instant, print_table, shown, zone};
use crate::Output;
use crate::terminal::{self, Page};

/// The longest time that can be searched.
const MAX_SPAN: SignedDuration = SignedDuration::from_hours(10 * 366 * 24);
/// How many busy times of one person or resource are listed.
const MAX_BUSY: usize = 10_000;

#[derive(clap::Args)]
pub(crate) struct Flags {
    /// Files or folders with Schedules, or - for standard input.
    #[arg(short, long = "filename", required = true, num_args = 1..)]
    filename: Vec<PathBuf>,
    /// From when on: an instant, or a local time or date in --zone.
    #[arg(long)]
    from: String,
    /// Until when, not included; at most ten years on.
    #[arg(long)]
    to: String,
    /// The least length of a free time.
    #[arg(long, default_value = "1m", value_parser = Millis::parse)]
    duration: Millis,
    /// Only within the working hours of everybody: participants[].workingHours, or 09:00 to 18:00 from Monday to Friday
    /// in the zone of the first Schedule that names them.
    #[arg(long)]
    within_working_hours: bool,
    /// The zone of times.
    #[arg(long, default_value = "UTC", value_parser = zone)]
    zone: TimeZone,
    /// Only these: addresses, names or resources.
    #[arg(long = "for", num_args = 1..)]
    only: Vec<String>,
    /// How it is written.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

/// A time at which a person or resource is busy, and the event.
struct BusyTime {
    at: Stretch,
    with: String,
}

/// Prints busy and free times; returns whether no Schedule was refused.
pub(crate) fn run(flags: &Flags) -> anyhow::Result<bool> {
    let read = checked::read_schedules(&flags.filename)?;
    let from = parse_instant("--from", &flags.from, &flags.zone)?;
    let to = parse_instant("--to", &flags.to, &flags.zone)?;
    if to <= from || to.duration_since(from) > MAX_SPAN {
        bail!("--to must lie behind --from, at most ten years");
    }
    let home = read.valid.first().map_or("", |it| it.valid.plan.namespace.as_str());
    let hours = working_hours(&read.valid, home)?;
    let needs = selected_needs(flags, &read.valid, home)?;
    let mut index: Occupancy<usize, Need> = Occupancy::new(from, to.duration_since(from));
    for resource in &read.resources {
        index.set_capacity(&resource.need(), resource.capacity);
    }
    for (at, CheckedSchedule { valid, .. }) in read.valid.iter().enumerate() {
        let needs = needs_of(valid, home).collect();
        let booking = Booking::new(Arc::clone(&valid.recurrence), needs);
        index.insert(at, &booking.with_buffers(valid.buffers.0, valid.buffers.1));
    }
    let all: Vec<Need> = needs.iter().cloned().collect();
    let mut free = index.free(&all, from, to);
    if flags.within_working_hours {
        for hours in needs.iter().filter_map(|need| hours.get(need)) {
            free = intersection(&free, &hours.within(from, to));
        }
    }
    free.retain(|it| it.end.duration_since(it.start).as_millis() >= i128::from(flags.duration.0));
    let busy = needs.iter().map(|need| (need, busy_times(&read.valid, (need, home), from, to)));
    let busy: Vec<(String, Vec<BusyTime>)> = busy.map(|(need, busy)| (need.seen_from(home), busy)).collect();
    match flags.output {
        Output::Json => terminal::json(&as_json(flags, &busy, &free)),
        Output::Text => terminal::page(&as_text(flags, &busy, &free)),
    }
    Ok(read.refused == 0)
}

/// The people and resources that a Schedule keeps busy.
fn needs_of<'a>(schedule: &'a ValidSchedule, home: &'a str) -> impl Iterator<Item = Need> + 'a {
    let own = schedule.needs.iter().cloned().map(|need| in_one_namespace(need, home));
    own.chain(schedule.shared.iter().map(Need::from))
}

/// Moves a person into the namespace of the first Schedule, so that they are the same person in all manifests. A resource keeps its
/// namespace.
fn in_one_namespace(need: Need, home: &str) -> Need {
    match need.what {
        What::Resource(_) => need,
        what => Need { namespace: home.to_owned(), what },
    }
}

/// The working hours of each person, from the first Schedule that states them, or else from the first that names the person.
fn working_hours(schedules: &[CheckedSchedule], home: &str) -> anyhow::Result<BTreeMap<Need, WorkingHours>> {
    let (mut said, mut assumed) = (BTreeMap::new(), BTreeMap::new());
    for CheckedSchedule { value, .. } in schedules {
        let object: Schedule = serde_json::from_value(value.clone())?;
        for participant in &object.spec.participants {
            let alone = crds::schedule::ScheduleSpec {
                participants: vec![participant.clone()],
                ..object.spec.clone()
            };
            let list = if participant.working_hours.is_some() { &mut said } else { &mut assumed };
            for (need, hours) in validate::people(&alone, home)? {
                list.entry(need).or_insert(hours);
            }
        }
    }
    for (need, hours) in assumed {
        said.entry(need).or_insert(hours);
    }
    Ok(said)
}

/// The people and resources that the command is about.
fn selected_needs(
    flags: &Flags,
    schedules: &[CheckedSchedule],
    home: &str,
) -> anyhow::Result<BTreeSet<Need>> {
    let mut names: BTreeMap<String, Need> = BTreeMap::new();
    let mut all = BTreeSet::new();
    for CheckedSchedule { value, valid } in schedules {
        // A transparent Schedule keeps nobody busy, but the people that it names can be selected.
        let object: Schedule = serde_json::from_value(value.clone())?;
        for it in &object.spec.participants {
            let address = it.email.as_ref().map(|it| What::Address(it.to_lowercase()));
            let what = address.unwrap_or_else(|| What::Person(it.name.clone()));
            let need = Need { namespace: home.to_owned(), what };
            names.insert(it.name.clone(), need.clone());
            all.insert(need);
        }
        let namespace = &valid.plan.namespace;
        let own = object.spec.resources.iter().cloned();
        all.extend(own.map(|it| Need { namespace: namespace.clone(), what: What::Resource(it) }));
        all.extend(valid.shared.iter().map(Need::from));
    }
    names.extend(all.iter().map(|need| (need.seen_from(home), need.clone())));
    if flags.only.is_empty() {
        return Ok(all);
    }
    let find = |name: &String| {
        let found = names.get(name).or_else(|| names.get(&name.to_lowercase()));
        found.cloned().ok_or_else(|| {
            let known: Vec<String> = all.iter().map(|need| need.seen_from(home)).collect();
            anyhow::anyhow!("--for {name}: no Schedule names them; they name {}", known.join(", "))
        })
    };
    flags.only.iter().map(find).collect()
}

/// The busy times of a person or resource between two instants, buffers included.
fn busy_times(
    schedules: &[CheckedSchedule],
    (need, home): (&Need, &str),
    from: Timestamp,
    to: Timestamp,
) -> Vec<BusyTime> {
    let mut list = Vec::new();
    for CheckedSchedule { valid, .. } in
        schedules.iter().filter(|it| needs_of(&it.valid, home).any(|it| it == *need))
    {
        let (before, after) = valid.buffers;
        let PlanBody::Schedule(plan) = &valid.plan.body else { continue };
        let until = to.checked_add(before).unwrap_or(to);
        let since = from.checked_sub(after).unwrap_or(from);
        let occurrences = valid.recurrence.current(since).take_while(|it| it.start < until).take(MAX_BUSY);
        list.extend(occurrences.filter(|it| it.start < it.end).filter_map(|it| {
            let start = it.start.checked_sub(before).ok()?.max(from);
            let end = it.end.checked_add(after).ok()?.min(to);
            let with = format!("{} ({})", plan.title, qualified_name(valid));
            (start < end).then_some(BusyTime { at: Stretch { start, end }, with })
        }));
    }
    list.sort_by(|a, b| (a.at.start, a.at.end, &a.with).cmp(&(b.at.start, b.at.end, &b.with)));
    list.truncate(MAX_BUSY);
    list
}

/// The intersection of two sorted lists.
fn intersection(one: &[Stretch], other: &[Stretch]) -> Vec<Stretch> {
    let (mut found, mut a, mut b) = (Vec::new(), 0, 0);
    while let (Some(x), Some(y)) = (one.get(a), other.get(b)) {
        let (start, end) = (x.start.max(y.start), x.end.min(y.end));
        if start < end {
            found.push(Stretch { start, end });
        }
        if x.end < y.end { a += 1 } else { b += 1 }
    }
    found
}

fn as_json(flags: &Flags, busy: &[(String, Vec<BusyTime>)], free: &[Stretch]) -> Value {
    let show = |at: Timestamp| at.to_zoned(flags.zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
    let stretch = |it: &Stretch| json!({"start": show(it.start), "end": show(it.end)});
    let busy = busy.iter().map(|(need, list)| {
        let list = list.iter().map(|it| {
            let mut value = stretch(&it.at);
            value["with"] = json!(it.with);
            value
        });
        json!({"name": need, "busy": list.collect::<Vec<_>>()})
    });
    json!({"all": busy.collect::<Vec<_>>(), "free": free.iter().map(stretch).collect::<Vec<_>>()})
}

fn as_text(flags: &Flags, busy: &[(String, Vec<BusyTime>)], free: &[Stretch]) -> Page {
    let mut out = Page::default();
    for (need, list) in busy {
        out.line(format_args!("{need}: busy"));
        let row = |it: &BusyTime| {
            vec![shown(it.at.start, &flags.zone), shown(it.at.end, &flags.zone), it.with.clone()]
        };
        let rows: Vec<Vec<String>> = list.iter().map(row).collect();
        print_table(&mut out, &rows);
        if rows.is_empty() {
            out.line("  never in this time");
        }
    }
    out.line("all free");
    let lasts = |it: &Stretch| {
        Millis(it.end.duration_since(it.start).as_millis().try_into().unwrap_or(0)).to_string()
    };
    let row = |it: &Stretch| vec![shown(it.start, &flags.zone), shown(it.end, &flags.zone), lasts(it)];
    print_table(&mut out, &free.iter().map(row).collect::<Vec<_>>());
    if free.is_empty() {
        out.line("  never in this time");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_intersection_of_two_lists_is_in_order() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let list = |all: &[(i64, i64)]| -> Vec<Stretch> {
            all.iter().map(|(start, end)| Stretch { start: at(*start), end: at(*end) }).collect()
        };
        let found = intersection(&list(&[(0, 10), (20, 30)]), &list(&[(5, 22), (25, 26), (29, 40)]));
        assert_eq!(found, list(&[(5, 10), (20, 22), (25, 26), (29, 30)]));
    }
}

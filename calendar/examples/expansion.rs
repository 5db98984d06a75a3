//! Measures the recurrence engine on this machine, as ratios within one run:
//! `cargo run --release -p belfry-calendar --example expansion`.
//!
//! The `rrule` crate and our engine take turns in this process, and the median turn counts. If python-dateutil is
//! installed, it is measured separately in its own process. First, the expansions are compared.
#![expect(clippy::unwrap_used, reason = "a program that measures ends where something is wrong")]

use std::hint::black_box;
use std::process::Command;
use std::time::Instant;

use calendar::{Occurrence, Recurrence, RecurrenceSpec};
use jiff::Timestamp;

const COUNT: usize = 1_000;
const TURNS: usize = 100;
const RULES: [(&str, &str, &str); 5] = [
    ("daily, UTC", "UTC", "FREQ=DAILY"),
    ("Monday, Wednesday, Friday, Berlin", "Europe/Berlin", "FREQ=WEEKLY;BYDAY=MO,WE,FR"),
    ("last Friday of the month, Berlin", "Europe/Berlin", "FREQ=MONTHLY;BYDAY=-1FR"),
    ("last working day, Berlin", "Europe/Berlin", "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1"),
    ("every 15 minutes, Berlin", "Europe/Berlin", "FREQ=MINUTELY;INTERVAL=15"),
];
/// The local start of all rules, and of what is searched for.
const START: &str = "2016-01-29T10:00:00";
const DATEUTIL: &str = r"
import datetime, itertools, sys, time
from zoneinfo import ZoneInfo
from dateutil.rrule import rrulestr
start = datetime.datetime.fromisoformat(sys.argv[1]).replace(tzinfo=ZoneInfo(sys.argv[2]))
count, times = int(sys.argv[4]), []
for _ in range(15):
    rule = rrulestr(sys.argv[3], dtstart=start)
    begin = time.perf_counter_ns()
    found = list(itertools.islice(rule, count))
    times.append((time.perf_counter_ns() - begin) / count)
print(sorted(times)[7], *(int(it.timestamp()) for it in found))
";

fn main() {
    println!(
        "| {COUNT} occurrences | ours | the `rrule` crate | python-dateutil |\n| --- | --- | --- | --- |"
    );
    for (name, zone, rule) in RULES {
        expansion(name, zone, rule);
    }
    println!("\n| one occurrence | rule of this year | rule of ten years ago |\n| --- | --- | --- |");
    for (name, zone, rule) in RULES {
        next(name, zone, rule);
    }
    let counted = "FREQ=WEEKLY;BYDAY=MO,WE,FR;COUNT=90000";
    next("the same with COUNT", "Europe/Berlin", counted);
}

fn recurrence(start: &str, zone: &str, rule: &str) -> Recurrence {
    let spec = RecurrenceSpec {
        start: start.to_owned(),
        time_zone: zone.to_owned(),
        rule: Some(rule.to_owned()),
        ..RecurrenceSpec::default()
    };
    Recurrence::new(&spec).unwrap()
}

fn expansion(name: &str, zone: &str, rule: &str) {
    let ours = recurrence(START, zone, rule);
    let start = START.replace(['-', ':'], "");
    let theirs: rrule::RRuleSet = format!("DTSTART;TZID={zone}:{start}\nRRULE:{rule}").parse().unwrap();
    let instants: Vec<i64> = ours.all().take(COUNT).map(|it| it.start.as_second()).collect();
    let of_rrule: Vec<i64> = theirs.into_iter().take(COUNT).map(|it| it.timestamp()).collect();
    let count = of_rrule.len();
    let mut expand_ours = || _ = black_box(ours.all().take(count).map(black_box).count());
    let mut expand_theirs = || _ = black_box(theirs.into_iter().take(count).map(black_box).count());
    let [own, peer] = medians([&mut expand_ours, &mut expand_theirs]);
    let python =
        Command::new("python3").args(["-c", DATEUTIL, START, zone, rule, &COUNT.to_string()]).output();
    let python = python.ok().and_then(|it| String::from_utf8(it.stdout).ok()).unwrap_or_default();
    let mut python = python.split_whitespace();
    let dateutil =
        python.next().and_then(|it| it.parse::<f64>().ok()).map_or("not installed".to_owned(), |time| {
            let of_dateutil: Vec<i64> = python.map(|it| it.parse().unwrap()).collect();
            format!("{time:.0} ns, {:.0} times{}", time / own, differ(&instants, &of_dateutil))
        });
    let of_crate = format!("{peer:.0} ns, {:.1} times{}", peer / own, differ(&instants, &of_rrule));
    println!("| {name} | {own:.1} ns | {of_crate} | {dateutil} |");
}

fn differ(ours: &[i64], theirs: &[i64]) -> String {
    let different = ours.iter().zip(theirs).filter(|(ours, theirs)| ours != theirs).count();
    let ended =
        if theirs.len() < ours.len() { format!(", ends after {}", theirs.len()) } else { String::new() };
    if different == 0 { ended } else { format!(", {different} differ{ended}") }
}

fn next(name: &str, zone: &str, rule: &str) {
    let now: Timestamp = "2026-06-17T12:34:56Z".parse().unwrap();
    let (young, old) = (recurrence("2026-01-30T10:00:00", zone, rule), recurrence(START, zone, rule));
    let many = |find: &dyn Fn() -> Option<Occurrence>| (0..COUNT).for_each(|_| _ = black_box(find()));
    let [after_young, after_old, before_young, before_old] = medians([
        &mut || many(&|| young.after(black_box(now))),
        &mut || many(&|| old.after(black_box(now))),
        &mut || many(&|| young.before(black_box(now))),
        &mut || many(&|| old.before(black_box(now))),
    ]);
    println!("| after, {name} | {after_young:.0} ns | {after_old:.0} ns |");
    println!("| before, {name} | {before_young:.0} ns | {before_old:.0} ns |");
}

/// Nanoseconds of each task for one of its `COUNT` repetitions: the median over the turns.
fn medians<const N: usize>(mut tasks: [&mut dyn FnMut(); N]) -> [f64; N] {
    let mut times = [const { Vec::new() }; N];
    for _ in 0..=TURNS {
        for (task, times) in tasks.iter_mut().zip(&mut times) {
            let start = Instant::now();
            task();
            times.push(start.elapsed().as_secs_f64() * 1e9 / COUNT as f64);
        }
    }
    times.map(|mut times| {
        // The first turn only warms up.
        let mut times = times.split_off(1);
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    })
}

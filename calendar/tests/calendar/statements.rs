//! What a file says of one series, in any order, notation and container. A model of five lines decides what
//! applies, by RFC 5546, section 2.1.5.

use calendar::ical::{self, ImportResult, ReadOptions};
use jiff::civil::date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use proptest::collection::vec;
use proptest::prelude::*;

const BERLIN: &str = "Europe/Berlin";
const COUNT: i64 = 6;

/// The revision with the higher SEQUENCE is newer, then the one with the later DTSTAMP. No two have both the same.
type Rank = (i64, usize);

#[derive(Debug, Clone)]
struct SeriesRevision {
    rank: Rank,
    hour: i8,
    except: Vec<(i64, Spelling)>,
    cancelled: bool,
}

#[derive(Debug, Clone)]
struct OccurrenceOverride {
    rank: Rank,
    of: i64,
    /// Moved by this many hours; `None` if cancelled.
    by: Option<i64>,
    spelling: Spelling,
}

#[derive(Debug, Clone, Copy)]
enum Spelling {
    Own,
    Utc,
    Other,
    Date,
}

impl Spelling {
    fn write(self, name: &str, at: Timestamp) -> String {
        let local =
            |zone: &str| at.to_zoned(TimeZone::get(zone).unwrap()).strftime("%Y%m%dT%H%M%S").to_string();
        match self {
            Self::Own => format!("{name};TZID={BERLIN}:{}\n", local(BERLIN)),
            Self::Utc => format!("{name}:{}Z\n", local("UTC")),
            Self::Other => format!("{name};TZID=America/New_York:{}\n", local("America/New_York")),
            Self::Date => format!("{name};VALUE=DATE:{}\n", &local(BERLIN)[..8]),
        }
    }
}

/// An occurrence of the weekly series, which spans the change of the clocks on 28 March.
fn occurrence(hour: i8, week: i64) -> Timestamp {
    let day = date(2027, 3, 9).checked_add(week.weeks()).unwrap();
    day.at(hour, 0, 0, 0).to_zoned(TimeZone::get(BERLIN).unwrap()).unwrap().timestamp()
}

fn component(rank: Rank, lines: &str) -> String {
    let stamp = date(2027, 1, 1).checked_add((rank.1 as i64).days()).unwrap().strftime("%Y%m%dT080000Z");
    format!("BEGIN:VEVENT\nUID:1\nSUMMARY:t\n{lines}SEQUENCE:{}\nDTSTAMP:{stamp}\nEND:VEVENT\n", rank.0)
}

impl SeriesRevision {
    fn write(&self) -> String {
        let start = Spelling::Own.write("DTSTART", occurrence(self.hour, 0));
        let except: String =
            self.except.iter().map(|(week, how)| how.write("EXDATE", occurrence(self.hour, *week))).collect();
        let status = if self.cancelled { "STATUS:CANCELLED\n" } else { "" };
        let lines = format!("{start}DURATION:PT1H\nRRULE:FREQ=WEEKLY;COUNT={COUNT}\n{except}{status}");
        component(self.rank, &lines)
    }
}

impl OccurrenceOverride {
    fn write(&self, hour: i8) -> String {
        let at = occurrence(hour, self.of);
        let id = self.spelling.write("RECURRENCE-ID", at);
        let by = SignedDuration::from_hours(self.by.unwrap_or(0));
        let start = Spelling::Utc.write("DTSTART", at + by);
        let status = if self.by.is_none() { "STATUS:CANCELLED\n" } else { "" };
        component(self.rank, &format!("{id}{start}DURATION:PT1H\n{status}"))
    }
}

/// The expected starts.
fn model(all: &[SeriesRevision], changes: &[OccurrenceOverride], hour: i8) -> Vec<Timestamp> {
    let series = all.iter().max_by_key(|it| it.rank);
    let start = |week: i64| {
        let change = changes.iter().filter(|it| it.of == week).max_by_key(|it| it.rank);
        let in_series =
            series.filter(|it| !it.cancelled && it.except.iter().all(|(other, _)| *other != week));
        match (change, in_series) {
            (Some(change), None) if series.is_some_and(|series| series.rank > change.rank) => None,
            (Some(change), _) => change.by.map(|by| occurrence(hour, week) + SignedDuration::from_hours(by)),
            (None, in_series) => in_series.map(|_| occurrence(hour, week)),
        }
    };
    (0..COUNT).filter_map(start).collect()
}

fn spelling() -> impl Strategy<Value = Spelling> {
    prop::sample::select(vec![Spelling::Own, Spelling::Utc, Spelling::Other, Spelling::Date])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn order_spelling_and_container_of_statements_do_not_matter(
        series in vec((0..3i64, vec((0..COUNT, spelling()), 0..3), prop::bool::weighted(0.15)), 0..4),
        changes in vec((0..3i64, 0..COUNT, prop::option::weighted(0.7, 1..4i64), spelling()), 0..8),
        stamps in Just((0..12usize).collect::<Vec<_>>()).prop_shuffle(),
        order in Just((0..12usize).collect::<Vec<_>>()).prop_shuffle(),
        containers in vec(0..4usize, 12),
    ) {
        let hour = 10;
        let mut stamps = stamps.into_iter();
        let series: Vec<SeriesRevision> = series.into_iter().map(|(sequence, mut except, cancelled)| {
            // A cancelled series says nothing about its occurrences.
            except.retain(|_| !cancelled);
            SeriesRevision { rank: (sequence, stamps.next().unwrap()), hour, except, cancelled }
        }).collect();
        let changes: Vec<OccurrenceOverride> = changes.into_iter().map(|(sequence, of, by, spelling)| {
            // Without its series, a date names no occurrence of a series with times.
            let newest = series.iter().max_by_key(|it| it.rank);
            let alone = newest.is_none_or(|it| it.cancelled);
            let spelling = if alone && matches!(spelling, Spelling::Date) { Spelling::Own } else { spelling };
            OccurrenceOverride { rank: (sequence, stamps.next().unwrap()), of, by, spelling }
        }).collect();
        let mut components: Vec<String> =
            series.iter().map(SeriesRevision::write).chain(changes.iter().map(|it| it.write(hour))).collect();
        prop_assume!(!components.is_empty());
        let mut calendars = vec![String::new(); 4];
        let places: Vec<usize> = order.into_iter().filter(|at| *at < components.len()).collect();
        for (at, container) in places.into_iter().zip(containers) {
            calendars[container] += &std::mem::take(&mut components[at]);
        }
        let text: Vec<String> =
            calendars.iter().map(|events| format!("BEGIN:VCALENDAR\n{events}END:VCALENDAR\n")).collect();
        let text = text.concat();
        let mut found = Vec::new();
        for event in ical::read(text.as_bytes(), &ReadOptions::default()).events {
            match event.result {
                ImportResult::Taken(series) => {
                    found.extend(series.recurrence().unwrap().all().map(|it| (it.start, it.end)));
                }
                ImportResult::LeftOut(_) => {}
                // All occurrences of a series may be taken out; then there is none.
                ImportResult::Refused(why) if why.text.contains("it never happens") => {}
                ImportResult::Refused(why) => prop_assert!(false, "{:?}\n{}", why, text),
            }
        }
        found.sort_unstable();
        let hour_long = |start: Timestamp| (start, start + SignedDuration::from_hours(1));
        let wanted: Vec<_> = model(&series, &changes, hour).into_iter().map(hour_long).collect();
        prop_assert_eq!(found, wanted, "{}", text);
    }
}

//! Every change of every zone's clocks from 2020 to 2040, under every policy. Zones with the same change at the
//! same instant are tested once.

use calendar::{Dst, Fold, Gap, Recurrence, RecurrenceSpec};
use jiff::tz::{Offset, TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};

use crate::{at, spec};

struct ZoneChange {
    zone: String,
    tz: TimeZone,
    at: Timestamp,
    /// The offsets, in seconds.
    before: i64,
    after: i64,
}

fn zone_changes() -> Vec<ZoneChange> {
    let (from, to) = (at("2020-01-01T00:00:00Z"), at("2040-01-01T00:00:00Z"));
    let seconds = |offset: Offset| i64::from(offset.seconds());
    let (mut changes, mut seen) = (Vec::new(), std::collections::HashSet::new());
    for zone in TimeZoneDatabase::bundled().available() {
        let tz = TimeZoneDatabase::bundled().get(zone.as_str()).unwrap();
        for change in tz.following(from).take_while(|change| change.timestamp() < to) {
            let at = change.timestamp();
            let before = seconds(tz.to_offset(at - SignedDuration::from_secs(1)));
            let after = seconds(tz.to_offset(at));
            if before != after && seen.insert((at, before, after)) {
                changes.push(ZoneChange { zone: zone.to_string(), tz: tz.clone(), at, before, after });
            }
        }
    }
    assert!(changes.len() > 500, "{}", changes.len());
    changes
}

fn local(seconds: i64) -> String {
    Offset::UTC.to_datetime(Timestamp::from_second(seconds).unwrap()).to_string()
}

fn policies() -> impl Iterator<Item = Dst> {
    let gaps = [Gap::ShiftForward, Gap::Skip].into_iter();
    gaps.flat_map(|gap| [Fold::First, Fold::Last, Fold::Both].into_iter().map(move |fold| Dst { gap, fold }))
}

#[test]
fn a_daily_rule_through_every_gap_and_fold_follows_its_policy() {
    for ZoneChange { zone, tz, at, before, after } in zone_changes() {
        let change = at.as_second();
        // In the middle of the time that is missing or exists twice.
        let time = change + i64::midpoint(before, after);
        let start = local(time - 20 * 86_400);
        for dst in policies() {
            let wanted = match (after > before, dst) {
                (true, Dst { gap: Gap::Skip, .. }) => Vec::new(),
                (true, _) | (false, Dst { fold: Fold::First, .. }) => vec![time - before],
                (false, Dst { fold: Fold::Last, .. }) => vec![time - after],
                (false, Dst { fold: Fold::Both, .. }) => vec![time - before, time - after],
            };
            let daily =
                Recurrence::new(&RecurrenceSpec { dst, ..spec(&start, &zone, "FREQ=DAILY") }).unwrap();
            let name = Offset::UTC.to_datetime(Timestamp::from_second(time).unwrap());
            let near: Vec<_> = daily
                .occurrences(at - SignedDuration::from_hours(60))
                .take_while(|it| it.start < at + SignedDuration::from_hours(60))
                .collect();
            let here: Vec<i64> =
                near.iter().filter(|it| it.local_start == name).map(|it| it.start.as_second()).collect();
            assert_eq!(here, wanted, "{zone} {at} {dst:?}");
            assert!(near.windows(2).all(|pair| pair[0].start < pair[1].start), "{zone} {at} {dst:?}");
            for it in near.iter().filter(|it| it.local_start != name) {
                assert_eq!(tz.to_datetime(it.start), it.local_start, "{zone} {at}: the days around stay");
            }
            for pair in near.windows(2) {
                assert_eq!(daily.after(pair[0].start).unwrap(), pair[1], "{zone} {at} {dst:?}");
                assert_eq!(daily.before(pair[1].start).unwrap(), pair[0], "{zone} {at} {dst:?}");
            }
        }
    }
}

#[test]
fn an_hourly_rule_stays_hourly_through_every_change() {
    for ZoneChange { zone, tz, at, .. } in zone_changes() {
        let start = tz.to_datetime(at - SignedDuration::from_hours(30)).to_string();
        let hourly = Recurrence::new(&spec(&start, &zone, "FREQ=HOURLY;COUNT=60")).unwrap();
        let starts: Vec<i64> = hourly.all().map(|it| it.start.as_second()).collect();
        assert_eq!(starts.len(), 60);
        assert!(starts.windows(2).all(|pair| pair[1] - pair[0] == 3600), "{zone} {at}");
    }
}

#[test]
fn an_all_day_rule_begins_every_day_once_through_every_change() {
    for ZoneChange { zone, tz, at, .. } in zone_changes() {
        let first = tz.to_datetime(at).date().checked_sub(jiff::Span::new().days(3)).unwrap();
        let days = Recurrence::new(&spec(&first.to_string(), &zone, "FREQ=DAILY;COUNT=6")).unwrap();
        let days: Vec<_> = days.all().collect();
        assert_eq!(days.len(), 6, "{zone} {at}");
        for pair in days.windows(2) {
            assert_eq!(pair[0].end, pair[1].start, "{zone} {at}: without a break");
        }
        for day in days {
            let before = day.start - SignedDuration::from_secs(1);
            let name = day.local_start.date();
            assert_eq!(tz.to_datetime(day.start).date(), name, "{zone} {at}");
            assert!(tz.to_datetime(before).date() < name, "{zone} {at}: the first instant of its day");
        }
    }
}

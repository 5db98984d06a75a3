//! Compares the index with a simple model that looks at each minute, over random bookings that are added, changed,
//! removed, and grow old.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use calendar::{Booking, Occupancy, Recurrence, RecurrenceSpec};
use jiff::{SignedDuration, Timestamp};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use crate::{at, spec};

pub(crate) const MINUTE: i64 = 60;
pub(crate) const HORIZON: SignedDuration = SignedDuration::from_hours(12 * 24);
pub(crate) const NEEDS: [&str; 3] = ["ann", "hall", "pool"];
pub(crate) const CAPACITIES: [u32; 3] = [1, 2, 3];

#[derive(Debug, Clone)]
pub(crate) struct GivenBooking {
    pub(crate) recurrence: Arc<Recurrence>,
    pub(crate) needs: Vec<&'static str>,
    pub(crate) before: u64,
    pub(crate) after: u64,
}

impl GivenBooking {
    pub(crate) fn booking(&self) -> Booking<&'static str> {
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        Booking::new(Arc::clone(&self.recurrence), self.needs.clone())
            .with_buffers(minutes(self.before), minutes(self.after))
    }

    /// The events that have not ended at `now` and start before `until`, in minutes: the event, then the event with
    /// its buffers.
    fn events(&self, now: Timestamp, until: Timestamp) -> Vec<[i64; 4]> {
        let minute = |t: Timestamp| t.as_second().div_euclid(MINUTE);
        let all = self.recurrence.all().take_while(|it| it.start < until).filter(|it| it.start < it.end);
        all.map(|it| [minute(it.start), minute(it.end)])
            .map(|[start, end]| [start, end, start - self.before as i64, end + self.after as i64])
            .filter(|[.., held_to]| *held_to * MINUTE > now.as_second())
            .collect()
    }
}

pub(crate) fn given() -> impl Strategy<Value = GivenBooking> {
    let rule = select(vec![
        "",
        "FREQ=DAILY",
        "FREQ=DAILY;INTERVAL=2;COUNT=9",
        "FREQ=WEEKLY;BYDAY=MO,WE,FR",
        "FREQ=WEEKLY;INTERVAL=2;BYDAY=TU,SU;BYHOUR=2,14",
        "FREQ=MONTHLY;BYDAY=1MO,-1SU",
        "FREQ=MONTHLY;BYMONTHDAY=1,15,29",
        "FREQ=HOURLY;INTERVAL=7",
        "FREQ=YEARLY;BYMONTH=3,4;BYDAY=TH",
    ]);
    let zone = select(vec!["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]);
    let minutes = prop_oneof![3 => 1..120i64, 1 => 0..2000i64, 1 => Just(1440)];
    let buffer = || prop_oneof![2 => Just(0u64), 1 => 0..90u64];
    let needs = subsequence(NEEDS.to_vec(), 0..=3);
    (rule, zone, 0..36i64, 0..96i64, minutes, buffer(), buffer(), needs, any::<bool>()).prop_map(
        |(rule, zone, day, quarter, minutes, before, after, needs, all_day)| {
            let date =
                jiff::civil::date(2026, 3, 10).checked_add(SignedDuration::from_hours(24 * day)).unwrap();
            let all_day = all_day && minutes % 1440 == 0 && minutes > 0 && !rule.contains("HOUR");
            let start = if all_day {
                date.to_string()
            } else {
                format!("{date}T{:02}:{:02}:00", quarter / 4, quarter % 4 * 15)
            };
            let duration = Some(SignedDuration::from_mins(minutes));
            let spec = RecurrenceSpec { duration, ..spec(&start, zone, rule) };
            GivenBooking { recurrence: Arc::new(Recurrence::new(&spec).unwrap()), needs, before, after }
        },
    )
}

/// A clash: its start, its first minute, and which bookings clash with which events over which needs.
pub(crate) type FoundClash = (i64, i64, BTreeMap<(i64, u32), BTreeSet<&'static str>>);

/// For each need and minute: who holds it with which event, and whether that event is under way.
pub(crate) type Minutes = BTreeMap<(&'static str, i64), Vec<(u32, i64, bool)>>;

pub(crate) struct Twin {
    pub(crate) now: Timestamp,
    pub(crate) capacities: [u32; 3],
    pub(crate) held: BTreeMap<u32, GivenBooking>,
}

impl Twin {
    pub(crate) fn new() -> Self {
        Self { now: at("2026-03-20T00:00:00Z"), capacities: CAPACITIES, held: BTreeMap::new() }
    }

    pub(crate) fn until(&self) -> Timestamp {
        self.now + HORIZON
    }

    pub(crate) fn minutes(&self, against: impl Fn(u32) -> bool) -> Minutes {
        let mut minutes = Minutes::new();
        for (key, given) in self.held.iter().filter(|(key, _)| against(**key)) {
            for [start, end, from, to] in given.events(self.now, self.until()) {
                for (minute, need) in
                    (from..to).flat_map(|minute| given.needs.iter().map(move |n| (minute, *n)))
                {
                    let under_way = start <= minute && minute < end;
                    minutes.entry((need, minute)).or_default().push((*key, start, under_way));
                }
            }
        }
        minutes
    }

    fn clashes(&self, given: &GivenBooking, against: impl Fn(u32) -> bool) -> Vec<FoundClash> {
        clashes(given, &given.events(self.now, self.until()), &self.minutes(against), self.capacities)
    }
}

/// The `events` that clash with what is held, by need and minute.
pub(crate) fn clashes(
    given: &GivenBooking,
    events: &[[i64; 4]],
    minutes: &Minutes,
    capacities: [u32; 3],
) -> Vec<FoundClash> {
    let mut told = Vec::new();
    for [start, end, from, to] in events.iter().copied() {
        let mut first = None;
        let mut with: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for minute in from..to {
            for (need, capacity) in NEEDS.iter().zip(capacities).filter(|it| given.needs.contains(it.0)) {
                let Some(holders) = minutes.get(&(*need, minute)) else { continue };
                let keys: BTreeSet<u32> = holders.iter().map(|it| it.0).collect();
                let own = start <= minute && minute < end;
                let under_way = own || holders.iter().any(|it| it.2);
                if keys.len() < capacity as usize || !under_way {
                    continue;
                }
                first = first.or(Some(minute));
                for (key, start, _) in holders {
                    with.entry((*start, *key)).or_default().insert(*need);
                }
            }
        }
        told.extend(first.map(|first| (start, first, with)));
    }
    told
}

#[derive(Debug, Clone)]
enum IndexStep {
    Insert(u32, GivenBooking),
    InsertIfFree(u32, GivenBooking),
    Remove(u32),
    Advance(i64),
    Capacity(usize, u32),
    Check(u32, GivenBooking, bool),
}

fn index_step() -> impl Strategy<Value = IndexStep> {
    prop_oneof![
        4 => (0..8u32, given()).prop_map(|(key, given)| IndexStep::Insert(key, given)),
        2 => (0..8u32, given()).prop_map(|(key, given)| IndexStep::InsertIfFree(key, given)),
        1 => (0..8u32).prop_map(IndexStep::Remove),
        1 => (0..6000i64).prop_map(IndexStep::Advance),
        1 => (0..3usize, 1..4u32).prop_map(|(need, capacity)| IndexStep::Capacity(need, capacity)),
        3 => (0..8u32, given(), any::<bool>()).prop_map(|(key, given, older)| IndexStep::Check(key, given, older)),
    ]
}

pub(crate) fn index(now: Timestamp) -> Occupancy<u32, &'static str> {
    let mut index = Occupancy::new(now, HORIZON);
    for (need, capacity) in NEEDS.iter().zip(CAPACITIES) {
        index.set_capacity(need, capacity);
    }
    index
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_index_finds_what_a_look_at_each_minute_finds(steps in vec(index_step(), 1..40)) {
        let mut twin = Twin::new();
        let mut index = index(twin.now);
        for step in steps {
            match step {
                IndexStep::Insert(key, given) => {
                    index.insert(key, &given.booking());
                    twin.held.insert(key, given);
                }
                IndexStep::InsertIfFree(key, given) => {
                    let clashes = twin.clashes(&given, |other| other != key).len();
                    let found = index.insert_if_free(key, &given.booking(), |_| true, 0).total;
                    prop_assert_eq!(found, clashes);
                    if clashes == 0 {
                        twin.held.insert(key, given);
                    }
                }
                IndexStep::Remove(key) => {
                    prop_assert_eq!(index.remove(&key), twin.held.remove(&key).is_some());
                }
                IndexStep::Advance(minutes) => {
                    twin.now += SignedDuration::from_mins(minutes);
                    index.advance(twin.now);
                }
                IndexStep::Capacity(need, capacity) => {
                    twin.capacities[need] = capacity;
                    index.set_capacity(&NEEDS[need], capacity);
                }
                IndexStep::Check(key, given, only_older) => {
                    let against = |other: u32| other != key && (other < key || !only_older);
                    let want = twin.clashes(&given, against);
                    let found = index.check(&key, &given.booking(), |other| against(*other), 5);
                    prop_assert_eq!(found.total, want.len());
                    prop_assert_eq!(found.checked_until, twin.until());
                    prop_assert!(!found.never || want.is_empty());
                    let minute = |t: Timestamp| t.as_second() / MINUTE;
                    let first: Vec<FoundClash> = found.first.into_iter().map(|clash| {
                        let with = clash.with.into_iter().map(|it| {
                            ((minute(it.start), it.key), it.needs.into_iter().collect())
                        });
                        (minute(clash.occurrence.start), minute(clash.at), with.collect())
                    }).collect();
                    prop_assert_eq!(first, want.into_iter().take(5).collect::<Vec<_>>());
                }
            }
        }
        prop_assert_eq!(index.len(), twin.held.len());
    }
}

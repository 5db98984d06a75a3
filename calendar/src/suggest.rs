//! Times to suggest: free ones, the best first.
//!
//! What is good is for a [`Ranking`] to say; here is what it may look at, and a ranking of our own. Never: chance. The
//! same question has the same answer, and of two times as good the earlier comes first.

use std::collections::BTreeMap;
use std::hash::Hash;

use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

use crate::conflict::Booking;
use crate::free::{FreeTime, Search, Stretch};
use crate::occupancy::Occupancy;
use crate::place::Place;
use crate::spans::Span;
use crate::zone::{self, timestamp};

/// Free times that are ranked: so many in everyone's hours, and so many others, the nearest of both.
const CONSIDERED: usize = 32;
/// Two events with less between them are back to back.
const BREAK: SignedDuration = SignedDuration::from_mins(10);

/// When somebody works.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkingHours {
    zone: TimeZone,
    days: Vec<Weekday>,
    from: Time,
    to: Time,
}

/// No such zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("timeZone \"{0}\" is unknown; allowed are IANA names such as Europe/Berlin or UTC")]
pub struct UnknownZone(pub String);

impl WorkingHours {
    /// From `from` to `to` on the clock of `time_zone` (an IANA name), beginning on each of `days`. A `to` that is not
    /// after `from` is of the day after: 00:00 to 00:00 is the whole day.
    pub fn new(time_zone: &str, days: &[Weekday], from: Time, to: Time) -> Result<Self, UnknownZone> {
        let zone =
            zone::find_zone(time_zone).ok_or_else(|| UnknownZone(time_zone.chars().take(40).collect()))?;
        Ok(Self { zone, days: days.to_vec(), from, to })
    }

    /// The working time between two instants, in order: at most so much as lies in ten years.
    pub fn within(&self, from: Timestamp, until: Timestamp) -> Vec<Stretch> {
        const MOST: usize = 10 * 366;
        let Ok(first) = self.zone.to_datetime(from).date().yesterday() else { return Vec::new() };
        let days =
            first.series(1.day()).take_while(|day| self.zone.to_datetime(until).date() >= *day).take(MOST);
        let at = |day: jiff::civil::Date, time| self.zone.to_timestamp(day.to_datetime(time)).ok();
        let stretch = |day: jiff::civil::Date| {
            let last = if self.to > self.from { day } else { day.tomorrow().ok()? };
            let (start, end) = (at(day, self.from)?.max(from), at(last, self.to)?.min(until));
            (start < end).then_some(Stretch { start, end })
        };
        days.filter(|day| self.days.contains(&day.weekday())).filter_map(stretch).collect()
    }

    /// Whether an event lies in one working day's hours whole.
    fn cover(&self, event: Span) -> bool {
        let local = |at: i64| self.zone.to_datetime(timestamp(at));
        let (start, end) = (local(event.start), local(event.end));
        let covers = |back: i64| {
            let day = start.date().checked_sub(back.days()).ok()?;
            let last = if self.to > self.from { day } else { day.tomorrow().ok()? };
            let inside = start >= day.to_datetime(self.from) && end <= last.to_datetime(self.to);
            Some(inside && self.days.contains(&day.weekday()))
        };
        [0, 1].into_iter().any(|back| covers(back) == Some(true))
    }
}

/// A free time with what a ranking may look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The time.
    pub time: FreeTime,
    /// Occurrences that were looked at.
    pub occurrences: usize,
    /// Summed over occurrences, for how many people it is outside their working hours.
    pub outside_hours: usize,
    /// Summed over occurrences and people, how often another event ends less than 10 minutes before, or starts less
    /// than 10 minutes after.
    pub back_to_back: usize,
}

/// Says how good free times are.
pub trait Ranking {
    /// A cost for each candidate, in their order: the least is the best. One that is missing comes last.
    fn costs(&self, candidates: &[Candidate]) -> Vec<u64>;
}

/// Nearest first, where a time outside somebody's hours counts as a day farther away, and one back to back as half an
/// hour; both as averages over the occurrences.
#[derive(Debug, Clone, Copy, Default)]
pub struct NearestInHours;

impl Ranking for NearestInHours {
    fn costs(&self, candidates: &[Candidate]) -> Vec<u64> {
        let cost = |candidate: &Candidate| {
            let worse = 24 * 3600 * candidate.outside_hours + 1800 * candidate.back_to_back;
            candidate.time.shift.as_secs().unsigned_abs() + (worse / candidate.occurrences.max(1)) as u64
        };
        candidates.iter().map(cost).collect()
    }
}

impl<K: Clone + Ord + Hash, R: Clone + Ord + Hash> Occupancy<K, R> {
    /// The best `search.count` free times for `booking`, of those within `search.reach` of its own
    /// ([`Occupancy::nearest_free`] says what is free). `people` are those whose hours and breaks count.
    pub fn suggest(
        &self,
        key: &K,
        booking: &Booking<R>,
        search: &Search,
        people: &BTreeMap<R, WorkingHours>,
        ranking: &dyn Ranking,
    ) -> Vec<Candidate> {
        let (mut inside, mut outside) = (Vec::new(), Vec::new());
        for time in self.free_moves(key, booking, search) {
            let outside_hours = time
                .spans
                .iter()
                .map(|event| people.values().filter(|hours| !hours.cover(*event)).count())
                .sum();
            let list = if outside_hours == 0 { &mut inside } else { &mut outside };
            if list.len() < CONSIDERED {
                let back_to_back = self.back_to_back(key, &time.spans, people.keys());
                list.push(Candidate { occurrences: time.spans.len(), outside_hours, back_to_back, time });
            }
            if inside.len() == CONSIDERED {
                break;
            }
        }
        let mut candidates = inside;
        candidates.append(&mut outside);
        let costs = ranking.costs(&candidates).into_iter().chain(std::iter::repeat(u64::MAX));
        let mut ranked: Vec<(u64, Candidate)> = costs.zip(candidates).collect();
        ranked.sort_by_key(|(cost, candidate)| (*cost, candidate.time.first.start));
        ranked.into_iter().map(|(_, candidate)| candidate).take(search.count).collect()
    }

    fn back_to_back<'a>(&self, key: &K, events: &[Span], people: impl Iterator<Item = &'a R>) -> usize
    where
        R: 'a,
    {
        let places: Vec<&Place<R>> = people.filter_map(|name| self.find(name)).collect();
        let near = BREAK.as_secs();
        let sides = events.iter().flat_map(|event| {
            [
                Span { start: event.start - near, end: event.start },
                Span { start: event.end, end: event.end + near },
            ]
        });
        sides
            .map(|side| {
                let busy = |place: &&&Place<R>| {
                    let mut holds = self.holds_between(place, side, Some(key)).into_iter();
                    holds.any(|hold| hold.event.start < side.end && side.start < hold.event.end)
                };
                places.iter().filter(busy).count()
            })
            .sum()
    }
}

//! Suggests free times, the best first.
//!
//! A [`Ranking`] decides which are best; here are the data that it may look at, and our own ranking. Chance plays
//! no part: the same question has the same answer, and of two equally good times the earlier comes first.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hash;

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use crate::conflict::Booking;
use crate::free::{FreeTime, FreeTimes, Search, SearchExtent, Stretch};
use crate::free_time_query::{BREAK, EVER, FreeTimeQuery, SearchControl, free_time, merge};
use crate::occupancy::Occupancy;
use crate::spans::Span;
use crate::steps::Steps;
use crate::zone::{self, timestamp};

/// How many free times in everyone's hours are ranked, and how many others; the nearest of each.
const CONSIDERED: usize = 32;

/// Steps for computing the working hours of one day.
const STEPS_A_DAY: usize = 8;

/// When somebody works.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkingHours {
    zone: TimeZone,
    days: Vec<Weekday>,
    from: Time,
    to: Time,
}

/// There is no such zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("timeZone \"{0}\" is unknown; allowed are IANA names such as Europe/Berlin or UTC")]
pub struct UnknownZone(pub String);

impl WorkingHours {
    /// From `from` to `to` on the clock of `time_zone` (an IANA name), beginning on each of `days`. If `to` is not
    /// after `from`, it lies on the next day: 00:00 to 00:00 is the whole day.
    pub fn new(time_zone: &str, days: &[Weekday], from: Time, to: Time) -> Result<Self, UnknownZone> {
        let zone =
            zone::find_zone(time_zone).ok_or_else(|| UnknownZone(time_zone.chars().take(40).collect()))?;
        Ok(Self { zone, days: days.to_vec(), from, to })
    }

    /// The working time between two instants, in order; days that touch are merged. Looks at ten years at most.
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
        let mut found: Vec<Stretch> = Vec::new();
        for next in days.filter(|day| self.days.contains(&day.weekday())).filter_map(stretch) {
            match found.last_mut() {
                Some(last) if next.start <= last.end => last.end = last.end.max(next.end),
                _ => found.push(next),
            }
        }
        found
    }

    /// The whole hours of the working days that touch a window, in order; days that touch are merged. `None` if the
    /// steps run out.
    fn days_within(&self, window: Span, steps: &mut Steps) -> Option<Vec<Span>> {
        let date = |at: i64| self.zone.to_datetime(timestamp(at)).date();
        let Ok(first) = date(window.start).yesterday() else { return Some(Vec::new()) };
        let (last, mut days) = (date(window.end), Vec::new());
        for day in first.series(1.day()).take_while(|day| *day <= last) {
            if !steps.take(STEPS_A_DAY) {
                return None;
            }
            days.extend(self.day(day).filter(|day| day.end > window.start && day.start < window.end));
        }
        merge(&mut days);
        Some(days)
    }

    /// The hours of the working day that begins on `day`.
    pub(crate) fn day(&self, day: Date) -> Option<Span> {
        let at = |day: Date, time| Some(self.zone.to_timestamp(day.to_datetime(time)).ok()?.as_second());
        let last = if self.to > self.from { day } else { day.tomorrow().ok()? };
        let span = Span { start: at(day, self.from)?, end: at(last, self.to)? };
        (self.days.contains(&day.weekday()) && span.start < span.end).then_some(span)
    }
}

/// A free time, and what a ranking may look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The free time.
    pub time: FreeTime,
    /// How many occurrences were looked at.
    pub occurrences: usize,
    /// For how many people it is outside their working hours, summed over the occurrences.
    pub outside_hours: usize,
    /// How often another event ends less than 10 minutes before, or starts less than 10 minutes after, summed over
    /// occurrences and people.
    pub back_to_back: usize,
}

/// Decides how good free times are.
pub trait Ranking {
    /// The cost of each candidate, in the same order. The lowest cost is the best; candidates without a cost come
    /// last.
    fn costs(&self, candidates: &[Candidate]) -> Vec<u64>;
}

/// The nearest first. A time outside somebody's hours counts as a day farther away, and one back to back as half an
/// hour; both are averages over the occurrences.
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
    /// Runs [`FreeTimeQuery::suggest`] for `booking`, which belongs to `key`.
    pub fn suggest(
        &self,
        key: &K,
        booking: &Booking<R>,
        search: &Search,
        people: &BTreeMap<R, WorkingHours>,
        ranking: &dyn Ranking,
        steps: &mut Steps,
    ) -> FreeTimes<Candidate> {
        let mut query = FreeTimeQuery::new(booking.clone(), *search, self.ahead(), steps);
        for name in query.names(people) {
            self.copy(&mut query, key, &name, steps);
        }
        query.suggest(people, ranking, steps)
    }
}

impl<R: Clone + Ord + Hash> FreeTimeQuery<R> {
    /// The participants and resources whose events have to be copied.
    pub fn names(&self, people: &BTreeMap<R, WorkingHours>) -> Vec<R> {
        let names: BTreeSet<&R> = self.booking.needs.iter().chain(people.keys()).collect();
        names.into_iter().cloned().collect()
    }

    /// The best `search.count` free times within `search.reach` of the booking's own time
    /// ([`FreeTimeQuery::nearest`] says what is free). Ranks the nearest 32 in everyone's hours, and the nearest 32
    /// others found on the way. `people` are those whose hours and breaks count.
    pub fn suggest(
        &self,
        people: &BTreeMap<R, WorkingHours>,
        ranking: &dyn Ranking,
        steps: &mut Steps,
    ) -> FreeTimes<Candidate> {
        let nothing = FreeTimes { times: Vec::new(), looked: SearchExtent::nowhere() };
        let Some(hours) = HoursAndBreaks::new(self, people, steps) else { return nothing };
        let (mut inside, mut outside) = (Vec::new(), Vec::new());
        let mut events = Vec::new();
        let looked = self.for_each_free_move(&hours.off_hours, steps, |steps, series, shift, is_inside| {
            let list = if is_inside { &mut inside } else { &mut outside };
            if list.len() == CONSIDERED {
                return SearchControl::Continue;
            }
            if !steps.take(series.len() * (3 + if is_inside { 0 } else { hours.days.len() })) {
                return SearchControl::OutOfSteps;
            }
            series.events(shift, &mut events);
            list.extend(free_time(shift, &events).map(|time| Candidate {
                time,
                occurrences: events.len(),
                outside_hours: if is_inside { 0 } else { hours.outside_hours(&events) },
                back_to_back: hours.back_to_back(&events),
            }));
            if inside.len() == CONSIDERED { SearchControl::Done } else { SearchControl::Continue }
        });
        let mut candidates = inside;
        candidates.append(&mut outside);
        let costs = ranking.costs(&candidates).into_iter().chain(std::iter::repeat(u64::MAX));
        let mut ranked: Vec<(u64, Candidate)> = costs.zip(candidates).collect();
        ranked.sort_by_key(|(cost, candidate)| (*cost, candidate.time.first.start));
        let times = ranked.into_iter().map(|(_, candidate)| candidate).take(self.search.count).collect();
        FreeTimes { times, looked }
    }
}

/// Working hours and other events of all people, prepared once for all moves.
struct HoursAndBreaks {
    /// The working time of people with the same hours, in order and apart, and how many they are.
    days: Vec<(Vec<Span>, usize)>,
    /// The time outside the hours that all share. An event that is not completely within those hours touches it.
    off_hours: Vec<Span>,
    /// How many people have another event shortly before an event that begins at an instant.
    before: OverlapCounts,
    /// How many people have another event shortly after an event that ends at an instant.
    after: OverlapCounts,
}

impl HoursAndBreaks {
    fn new<R: Clone + Ord + Hash>(
        query: &FreeTimeQuery<R>,
        people: &BTreeMap<R, WorkingHours>,
        steps: &mut Steps,
    ) -> Option<Self> {
        let series = query.series.as_ref()?;
        let window = series.window(query.search.reach.as_secs().max(0));
        let mut alike: Vec<(&WorkingHours, usize)> = Vec::new();
        for hours in people.values() {
            match alike.iter_mut().find(|(other, _)| *other == hours) {
                Some((_, count)) => *count += 1,
                None => alike.push((hours, 1)),
            }
        }
        let mut days = Vec::new();
        let mut all: Option<Vec<Span>> = None;
        for (hours, count) in alike {
            let own = hours.days_within(window, steps)?;
            all = Some(all.map_or_else(|| own.clone(), |all| intersect(&all, &own)));
            days.push((own, count));
        }
        let near = BREAK.as_secs();
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for copied in query.copies.iter().filter(|copied| people.contains_key(&copied.name)) {
            let mut events: Vec<Span> = copied.events(query.ahead, steps)?.map(|held| held.event).collect();
            let mut ends = events.clone();
            for event in &mut events {
                *event = Span { start: event.start + 1, end: event.end + near };
            }
            for event in &mut ends {
                event.start += 1 - near;
            }
            merge(&mut events);
            merge(&mut ends);
            before.append(&mut events);
            after.append(&mut ends);
        }
        let off_hours = all.map_or_else(Vec::new, |all| gaps(&all));
        (steps.left() > 0).then(|| Self {
            days,
            off_hours,
            before: OverlapCounts::new(&before),
            after: OverlapCounts::new(&after),
        })
    }

    fn outside_hours(&self, events: &[Span]) -> usize {
        let inside = |days: &[Span], event: &Span| {
            let next = days.partition_point(|day| day.start <= event.start);
            next > 0 && days[next - 1].end >= event.end
        };
        let outside =
            |(days, count): &(Vec<Span>, usize)| count * events.iter().filter(|it| !inside(days, it)).count();
        self.days.iter().map(outside).sum()
    }

    fn back_to_back(&self, events: &[Span]) -> usize {
        events.iter().map(|event| self.before.count_at(event.start) + self.after.count_at(event.end)).sum()
    }
}

/// In how many of some spans an instant lies.
struct OverlapCounts(Vec<(i64, usize)>);

impl OverlapCounts {
    fn new(spans: &[Span]) -> Self {
        let mut edges: Vec<(i64, isize)> =
            spans.iter().flat_map(|span| [(span.start, 1), (span.end, -1)]).collect();
        edges.sort_unstable();
        let mut count = 0;
        let counts = edges.into_iter().map(|(at, by)| {
            count += by;
            (at, count.unsigned_abs())
        });
        Self(counts.collect())
    }

    fn count_at(&self, instant: i64) -> usize {
        let next = self.0.partition_point(|(at, _)| *at <= instant);
        next.checked_sub(1).map_or(0, |last| self.0[last].1)
    }
}

/// The intersection of two lists of spans, each in order and apart.
fn intersect(one: &[Span], other: &[Span]) -> Vec<Span> {
    let (mut found, mut a, mut b) = (Vec::new(), 0, 0);
    while let (Some(x), Some(y)) = (one.get(a), other.get(b)) {
        let (start, end) = (x.start.max(y.start), x.end.min(y.end));
        if start < end {
            found.push(Span { start, end });
        }
        if x.end < y.end { a += 1 } else { b += 1 }
    }
    found
}

/// The gaps between spans, and the time before and after them all. The spans must be in order and apart.
fn gaps(spans: &[Span]) -> Vec<Span> {
    let starts = std::iter::once(-EVER).chain(spans.iter().map(|span| span.end));
    let ends = spans.iter().map(|span| span.start).chain([EVER]);
    starts.zip(ends).map(|(start, end)| Span { start, end }).collect()
}

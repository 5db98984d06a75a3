//! Moves a series as a whole, and removes the moves under which one of its events touches blocked time.
//!
//! Moves lie on a grid. For each occurrence, blocked stretches of time become ranges of moves, and those are
//! removed from the ranges that are left. So the cost depends on what is blocked nearby, not on the number of
//! moves. Near a change of the clocks, each move is tried by itself. No remaining move lets an event begin before
//! now or touch blocked time.

use std::sync::Arc;

use crate::days::DAY;
use crate::expanded::LookAhead;
use crate::free::Search;
use crate::recurrence::{RawOccurrence, Recurrence};
use crate::spans::Span;
use crate::spec::Length;
use crate::steps::Steps;
use crate::zone::{FixedOffsetRange, Zone};

/// A search looks at this many moves, nearest first.
pub(crate) const MAX_MOVES: i64 = 20_000;
/// A search moves this many occurrences; it ignores later ones.
const MAX_MOVED: usize = 20_000;

/// The moves of a search: whole multiples of `step`, counted from `base`, which leads to the grid point at or
/// before the first start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grid {
    base: i64,
    step: i64,
    /// The longest distance, in seconds.
    pub(crate) reach: i64,
    /// Whether moves beyond `reach` were asked for.
    pub(crate) is_cut: bool,
}

/// A range of consecutive moves of a grid: the first and the last.
pub(crate) type MoveRange = (i64, i64);

impl Grid {
    /// The moves of a series whose first occurrence starts at the local time `first`.
    pub(crate) fn new(search: &Search, first: i64, all_day: bool) -> Self {
        let minutes = (search.grid.as_secs() / 60).clamp(1, DAY / 60);
        let step = if all_day { DAY } else { minutes * 60 };
        let (asked, most) = (search.reach.as_secs().max(0), step * (MAX_MOVES / 2));
        // Leads from the first start back to the grid point at or before it.
        let base = -first.rem_euclid(DAY).rem_euclid(step);
        Self { base, step, reach: asked.min(most), is_cut: asked > most }
    }

    pub(crate) fn shift(self, number: i64) -> i64 {
        self.base + number * self.step
    }

    /// The distance that contains all moves nearer than `shift`. `None` if there is no such move.
    pub(crate) fn nearer(self, shift: i64) -> Option<i64> {
        Some(shift.abs() - self.step).filter(|within| *within >= 0)
    }

    /// The number of the last move that is at most `shift`.
    fn last(self, shift: i64) -> i64 {
        shift.saturating_sub(self.base).div_euclid(self.step)
    }

    /// The number of the first move that is at least `shift`.
    fn first(self, shift: i64) -> i64 {
        self.last(shift - 1) + 1
    }

    /// The distances up to which to search, one after the other. The first is small, so that free times nearby end
    /// the search early.
    pub(crate) fn rings(self) -> impl Iterator<Item = i64> {
        let mut ring = Some((16 * self.step).min(self.reach));
        std::iter::from_fn(move || {
            let now = ring?;
            ring = (now < self.reach).then(|| (now * 4).min(self.reach));
            Some(now)
        })
    }

    /// The moves beyond the distance `inner`, up to the distance `outer`.
    pub(crate) fn ring(self, inner: Option<i64>, outer: i64) -> Vec<MoveRange> {
        let sides = match inner {
            None => [(-outer, outer), (1, 0)],
            Some(inner) => [(-outer, -inner - 1), (inner + 1, outer)],
        };
        let moves = sides.map(|(low, high)| (self.first(low), self.last(high)));
        moves.into_iter().filter(|(first, last)| first <= last).collect()
    }
}

/// The occurrences of a series that is to be moved.
#[derive(Debug)]
pub(crate) struct MovableSeries {
    recurrence: Arc<Recurrence>,
    /// The occurrences ahead; each local time is there once.
    starts: Vec<RawOccurrence>,
    /// Whether the series counts in real time.
    is_real: bool,
    /// Whether there are more occurrences than these.
    pub(crate) is_cut: bool,
}

/// How one occurrence follows its moves as long as no clock change interferes: moved by `shift`,
/// it begins at `from` plus `shift`. Holds for shifts up to `last`.
struct SteadyMove {
    from: i64,
    length: i64,
    last: i64,
}

impl MovableSeries {
    /// The occurrences from now on. `None` if the steps run out.
    pub(crate) fn new(recurrence: &Arc<Recurrence>, ahead: LookAhead, steps: &mut Steps) -> Option<Self> {
        let is_real = recurrence.rules().iter().any(|rule| rule.frequency().is_sub_daily());
        let mut found = recurrence.occurrences_from(ahead.now);
        let mut starts: Vec<RawOccurrence> = Vec::new();
        let mut is_cut = false;
        while let Some(found) = found.next_found_within(steps).filter(|it| it.moment.at < ahead.until) {
            if found.length == Length::default() {
                continue;
            }
            if starts.len() == MAX_MOVED {
                is_cut = true;
                break;
            }
            starts.push(found);
        }
        if steps.left() == 0 {
            return None;
        }
        if !is_real {
            starts.dedup_by_key(|found| found.wall);
        }
        Some(Self { recurrence: Arc::clone(recurrence), starts, is_real, is_cut })
    }

    pub(crate) fn len(&self) -> usize {
        self.starts.len()
    }

    /// The local start of the first occurrence.
    pub(crate) fn first(&self) -> Option<i64> {
        self.starts.first().map(|found| found.wall)
    }

    /// The span that contains all events under all moves up to `reach`.
    pub(crate) fn window(&self, reach: i64) -> Span {
        let (Some(first), Some(last)) = (self.starts.first(), self.starts.last()) else {
            return Span { start: 0, end: 0 };
        };
        let length = |length: Length| i64::from(length.days) * DAY + length.seconds;
        let longest = self.starts.iter().map(|found| length(found.length)).max().unwrap_or(0);
        // Room for a change of the clocks, at the start and at the end.
        let margin = reach + 2 * DAY;
        Span { start: first.moment.at - margin, end: last.moment.at + longest + margin }
    }

    /// Removes from `moves` those under which an event touches one of `blocked`. False if the steps run out.
    pub(crate) fn remove_blocked(
        &self,
        grid: Grid,
        moves: &mut Vec<MoveRange>,
        blocked: &[Span],
        steps: &mut Steps,
    ) -> bool {
        let mut cache = OffsetCache::new(&self.recurrence.zone);
        let mut left = Vec::new();
        for index in 0..self.starts.len() {
            if moves.is_empty() {
                break;
            }
            left.clear();
            for (first, last) in moves.iter().copied() {
                let mut number = first;
                while number <= last {
                    let shift = grid.shift(number);
                    let end = if let Some(steady) = self.steady_move(index, shift, &mut cache) {
                        let end = last.min(grid.last(steady.last));
                        if !remove_blocked_steady(grid, &steady, (number, end), blocked, &mut left, steps) {
                            return false;
                        }
                        end
                    } else {
                        if !self.moved(index, shift).any(|event| touches(blocked, event)) {
                            push(&mut left, number, number);
                        }
                        number
                    };
                    number = end + 1;
                    if !steps.take(1) {
                        return false;
                    }
                }
            }
            std::mem::swap(moves, &mut left);
        }
        true
    }

    /// Writes the events of all occurrences under a move into `events`.
    pub(crate) fn events(&self, shift: i64, events: &mut Vec<Span>) {
        events.clear();
        let mut cache = OffsetCache::new(&self.recurrence.zone);
        for index in 0..self.starts.len() {
            match self.steady_move(index, shift, &mut cache) {
                Some(SteadyMove { from, length, .. }) => {
                    events.push(Span { start: from + shift, end: from + shift + length });
                }
                None => events.extend(self.moved(index, shift)),
            }
        }
    }

    /// The events of one occurrence under one move: two if its local time exists twice, none if it doesn't exist
    /// and is skipped.
    pub(crate) fn moved(&self, index: usize, shift: i64) -> impl Iterator<Item = Span> {
        let RawOccurrence { moment, wall, length, .. } = self.starts[index];
        let starts = if self.is_real {
            [Some(moment.at + shift), None]
        } else {
            let resolved = self.recurrence.zone.resolve(wall + shift);
            [resolved.first, resolved.second].map(|moment| moment.map(|moment| moment.at))
        };
        let end = move |start| self.recurrence.end_of(start, wall + shift, length);
        starts.into_iter().flatten().map(move |start| Span { start, end: end(start) })
    }

    /// How an occurrence follows the moves from `shift` on. `None` near a change of the clocks.
    #[inline]
    fn steady_move(&self, index: usize, shift: i64, cache: &mut OffsetCache<'_>) -> Option<SteadyMove> {
        let RawOccurrence { moment, wall, length, .. } = self.starts[index];
        let (from, mut last) = if self.is_real {
            (moment.at, i64::MAX)
        } else {
            let fixed = cache.fixed_offset(0, wall + shift)?;
            (wall - fixed.offset, fixed.last().saturating_sub(wall))
        };
        let mut seconds = length.seconds;
        if length.days != 0 {
            let day = wall + i64::from(length.days) * DAY;
            let fixed = cache.fixed_offset(1, day + shift)?;
            last = last.min(fixed.last().saturating_sub(day));
            seconds += (day - fixed.offset - from).max(0);
        }
        Some(SteadyMove { from, length: seconds, last })
    }
}

/// Finds the range of one UTC offset that contains a start or an end; usually it is the same as for the one before.
struct OffsetCache<'a> {
    zone: &'a Zone,
    fixed: [FixedOffsetRange; 2],
}

impl<'a> OffsetCache<'a> {
    fn new(zone: &'a Zone) -> Self {
        Self { zone, fixed: [zone.fixed_offset_around(0); 2] }
    }

    #[inline]
    fn fixed_offset(&mut self, which: usize, local: i64) -> Option<FixedOffsetRange> {
        let fixed = self.fixed[which];
        if fixed.contains(local) {
            return Some(fixed);
        }
        let near = self.zone.fixed_offset_around(local - fixed.offset);
        self.fixed[which] = if near.contains(local) {
            near
        } else {
            self.zone.fixed_offset_around(self.zone.resolve(local).low)
        };
        Some(self.fixed[which]).filter(|fixed| fixed.contains(local))
    }
}

/// Adds to `left` the moves from `number` to `end` under which one occurrence touches none of `blocked`. False if
/// the steps run out.
fn remove_blocked_steady(
    grid: Grid,
    steady: &SteadyMove,
    (mut number, end): MoveRange,
    blocked: &[Span],
    left: &mut Vec<MoveRange>,
    steps: &mut Steps,
) -> bool {
    let start = steady.from + grid.shift(number);
    for span in &blocked[blocked.partition_point(|span| span.end <= start)..] {
        let first = grid.first(span.start - steady.length + 1 - steady.from);
        if number > end || first > end {
            break;
        }
        if !steps.take(1) {
            return false;
        }
        if first > number {
            push(left, number, first - 1);
        }
        number = number.max(grid.last(span.end - 1 - steady.from) + 1);
    }
    if number <= end {
        push(left, number, end);
    }
    true
}

fn push(left: &mut Vec<MoveRange>, first: i64, last: i64) {
    match left.last_mut() {
        Some(before) if before.1 == first - 1 => before.1 = last,
        _ => left.push((first, last)),
    }
}

/// Whether an event touches one of `blocked`, which must be in order and apart.
pub(crate) fn touches(blocked: &[Span], event: Span) -> bool {
    blocked
        .get(blocked.partition_point(|span| span.end <= event.start))
        .is_some_and(|span| span.start < event.end)
}

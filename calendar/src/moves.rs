//! A series that is moved as a whole, and the moves under which none of its events touches what is taken.
//!
//! Moves lie on a grid. Of each occurrence the stretches that are taken are turned into stretches of moves, and these
//! are cut out of those that are left: what that costs depends on what is taken nearby, not on how many moves there
//! are. Where clocks change near an occurrence its moves are looked at one by one.
//! Never: a move left under which an event begins before now or touches something.

use std::sync::Arc;

use crate::days::DAY;
use crate::expanded::Ahead;
use crate::free::Search;
use crate::recurrence::{Found, Recurrence};
use crate::spans::Span;
use crate::spec::Length;
use crate::steps::Steps;
use crate::zone::{Calm, Zone};

/// Moves that are looked at in one search, nearest first.
pub(crate) const MAX_MOVES: i64 = 20_000;
/// Occurrences of a series that is moved; later ones are left out of account.
const MAX_MOVED: usize = 20_000;

/// The moves of a search: whole multiples of the grid, and what leads to the first of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grid {
    base: i64,
    step: i64,
    /// The farthest, in seconds.
    pub(crate) reach: i64,
    /// Farther ones were asked for.
    pub(crate) is_cut: bool,
}

/// Moves of a grid that follow each other, the last included.
pub(crate) type Stretch = (i64, i64);

impl Grid {
    /// The moves of a series whose first local start is `first`.
    pub(crate) fn new(search: &Search, first: i64, all_day: bool) -> Self {
        let minutes = (search.grid.as_secs() / 60).clamp(1, DAY / 60);
        let step = if all_day { DAY } else { minutes * 60 };
        let (asked, most) = (search.reach.as_secs().max(0), step * (MAX_MOVES / 2));
        // From the grid's start at or before the first.
        let base = -first.rem_euclid(DAY).rem_euclid(step);
        Self { base, step, reach: asked.min(most), is_cut: asked > most }
    }

    pub(crate) fn shift(self, number: i64) -> i64 {
        self.base + number * self.step
    }

    /// How far the moves lie that are nearer than `shift`, at most. None if there is none.
    pub(crate) fn nearer(self, shift: i64) -> Option<i64> {
        Some(shift.abs() - self.step).filter(|within| *within >= 0)
    }

    /// The last move that is at most `shift`.
    fn last(self, shift: i64) -> i64 {
        shift.saturating_sub(self.base).div_euclid(self.step)
    }

    /// The first move that is at least `shift`.
    fn first(self, shift: i64) -> i64 {
        self.last(shift - 1) + 1
    }

    /// How far to look at first, and then: so few that what is found near ends the search early.
    pub(crate) fn rings(self) -> impl Iterator<Item = i64> {
        let mut ring = Some((16 * self.step).min(self.reach));
        std::iter::from_fn(move || {
            let now = ring?;
            ring = (now < self.reach).then(|| (now * 4).min(self.reach));
            Some(now)
        })
    }

    /// The moves farther than `inner` and at most as far as `outer`.
    pub(crate) fn ring(self, inner: Option<i64>, outer: i64) -> Vec<Stretch> {
        let sides = match inner {
            None => [(-outer, outer), (1, 0)],
            Some(inner) => [(-outer, -inner - 1), (inner + 1, outer)],
        };
        let moves = sides.map(|(low, high)| (self.first(low), self.last(high)));
        moves.into_iter().filter(|(first, last)| first <= last).collect()
    }
}

/// The occurrences of a series that are moved.
#[derive(Debug)]
pub(crate) struct Movable {
    recurrence: Arc<Recurrence>,
    /// What is ahead, no local time twice.
    starts: Vec<Found>,
    /// It counts in real time.
    is_real: bool,
    /// There are more than these.
    pub(crate) is_cut: bool,
}

/// How one occurrence follows its move, up to the `last` one: it begins at `from` and the move.
struct Line {
    from: i64,
    length: i64,
    last: i64,
}

impl Movable {
    /// Those from now on. None when the steps don't suffice.
    pub(crate) fn new(recurrence: &Arc<Recurrence>, ahead: Ahead, steps: &mut Steps) -> Option<Self> {
        let is_real = recurrence.rules().iter().any(|rule| rule.frequency().is_sub_daily());
        let mut found = recurrence.occurrences_from(ahead.now);
        let mut starts: Vec<Found> = Vec::new();
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

    /// The first local start.
    pub(crate) fn first(&self) -> Option<i64> {
        self.starts.first().map(|found| found.wall)
    }

    /// No moved event lies outside of it.
    pub(crate) fn window(&self, reach: i64) -> Span {
        let (Some(first), Some(last)) = (self.starts.first(), self.starts.last()) else {
            return Span { start: 0, end: 0 };
        };
        let length = |length: Length| i64::from(length.days) * DAY + length.seconds;
        let longest = self.starts.iter().map(|found| length(found.length)).max().unwrap_or(0);
        // A change of the clocks, at the start and at the end.
        let margin = reach + 2 * DAY;
        Span { start: first.moment.at - margin, end: last.moment.at + longest + margin }
    }

    /// Takes from `moves` those under which an event touches one of `walls`. False when the steps don't suffice.
    pub(crate) fn cut(
        &self,
        grid: Grid,
        moves: &mut Vec<Stretch>,
        walls: &[Span],
        steps: &mut Steps,
    ) -> bool {
        let mut quick = Quick::of(&self.recurrence.zone);
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
                    let end = if let Some(line) = self.line(index, shift, &mut quick) {
                        let end = last.min(grid.last(line.last));
                        if !cut_line(grid, &line, (number, end), walls, &mut left, steps) {
                            return false;
                        }
                        end
                    } else {
                        if !self.moved(index, shift).any(|event| touches(walls, event)) {
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

    /// The events of all occurrences under a move.
    pub(crate) fn events(&self, shift: i64, events: &mut Vec<Span>) {
        events.clear();
        let mut quick = Quick::of(&self.recurrence.zone);
        for index in 0..self.starts.len() {
            match self.line(index, shift, &mut quick) {
                Some(Line { from, length, .. }) => {
                    events.push(Span { start: from + shift, end: from + shift + length });
                }
                None => events.extend(self.moved(index, shift)),
            }
        }
    }

    /// One occurrence under one move: twice where its local time exists twice, never where it doesn't and is left out.
    pub(crate) fn moved(&self, index: usize, shift: i64) -> impl Iterator<Item = Span> {
        let Found { moment, wall, length, .. } = self.starts[index];
        let starts = if self.is_real {
            [Some(moment.at + shift), None]
        } else {
            let resolved = self.recurrence.zone.resolve(wall + shift);
            [resolved.first, resolved.second].map(|moment| moment.map(|moment| moment.at))
        };
        let end = move |start| self.recurrence.end_of(start, wall + shift, length);
        starts.into_iter().flatten().map(move |start| Span { start, end: end(start) })
    }

    /// How an occurrence follows the moves from `shift` on. None near a change of the clocks.
    #[inline]
    fn line(&self, index: usize, shift: i64, quick: &mut Quick<'_>) -> Option<Line> {
        let Found { moment, wall, length, .. } = self.starts[index];
        let (from, mut last) = if self.is_real {
            (moment.at, i64::MAX)
        } else {
            let calm = quick.calm(0, wall + shift)?;
            (wall - calm.offset, calm.last().saturating_sub(wall))
        };
        let mut seconds = length.seconds;
        if length.days != 0 {
            let day = wall + i64::from(length.days) * DAY;
            let calm = quick.calm(1, day + shift)?;
            last = last.min(calm.last().saturating_sub(day));
            seconds += (day - calm.offset - from).max(0);
        }
        Some(Line { from, length: seconds, last })
    }
}

/// Finds the stretch without a change of the clocks that a start or an end is in, which is mostly that of the one before.
struct Quick<'a> {
    zone: &'a Zone,
    calm: [Calm; 2],
}

impl<'a> Quick<'a> {
    fn of(zone: &'a Zone) -> Self {
        Self { zone, calm: [zone.calm(0); 2] }
    }

    #[inline]
    fn calm(&mut self, which: usize, local: i64) -> Option<Calm> {
        let calm = self.calm[which];
        if calm.holds(local) {
            return Some(calm);
        }
        let near = self.zone.calm(local - calm.offset);
        self.calm[which] =
            if near.holds(local) { near } else { self.zone.calm(self.zone.resolve(local).low) };
        Some(self.calm[which]).filter(|calm| calm.holds(local))
    }
}

/// Adds to `left` those of the moves from `number` to `end` under which one occurrence touches none of `walls`.
fn cut_line(
    grid: Grid,
    line: &Line,
    (mut number, end): Stretch,
    walls: &[Span],
    left: &mut Vec<Stretch>,
    steps: &mut Steps,
) -> bool {
    let start = line.from + grid.shift(number);
    for wall in &walls[walls.partition_point(|wall| wall.end <= start)..] {
        let first = grid.first(wall.start - line.length + 1 - line.from);
        if number > end || first > end {
            break;
        }
        if !steps.take(1) {
            return false;
        }
        if first > number {
            push(left, number, first - 1);
        }
        number = number.max(grid.last(wall.end - 1 - line.from) + 1);
    }
    if number <= end {
        push(left, number, end);
    }
    true
}

fn push(left: &mut Vec<Stretch>, first: i64, last: i64) {
    match left.last_mut() {
        Some(before) if before.1 == first - 1 => before.1 = last,
        _ => left.push((first, last)),
    }
}

/// Whether an event touches one of `walls`, which are in order and apart.
pub(crate) fn touches(walls: &[Span], event: Span) -> bool {
    walls
        .get(walls.partition_point(|wall| wall.end <= event.start))
        .is_some_and(|wall| wall.start < event.end)
}

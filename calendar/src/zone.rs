//! Converts local times to instants and back, and says what a missing or repeated local time means.
//!
//! Local times are seconds from 1970-01-01T00:00:00 on the local clock; instants are Unix seconds. Zones come only
//! from the bundled database, never from files of the host.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone, TimeZoneDatabase};
use serde::{Deserialize, Serialize};

use crate::days::DAY;

/// What happens to a local time that does not exist because the clocks were moved forward over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum Gap {
    /// It is read with the offset before the change (RFC 5545, section 3.3.5): 02:30 becomes 03:30.
    #[default]
    ShiftForward,
    /// There is no occurrence, and COUNT does not count it (RFC 5545, section 3.3.10).
    Skip,
}

/// What happens to a local time that exists twice because the clocks were moved back over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum Fold {
    /// The first of the two (RFC 5545, section 3.3.5).
    #[default]
    First,
    /// The second of the two.
    Last,
    /// Both of them: two occurrences.
    Both,
}

/// The daylight-saving policy of a recurrence.
///
/// It applies to local times: starts, `dates`, and rules of DAILY and longer. HOURLY and shorter rules count in
/// real time, so they meet neither gap nor fold. An all-day occurrence begins at the first instant of its day,
/// whatever the policy; only if a whole day is missing (Samoa, 30 December 2011), `gap` applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Dst {
    /// For local times that do not exist.
    pub gap: Gap,
    /// For local times that exist twice.
    pub fold: Fold,
}

/// Which of the two instants of a local time that exists twice; `First` if it exists once. It is as wide as the
/// fields beside it: a moment is copied right after it was written, and reading a byte back as part of a word would
/// cost as much as all the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u64)]
pub(crate) enum FoldSide {
    First,
    Second,
}

impl FoldSide {
    pub(crate) fn second_if(second: bool) -> Self {
        if second { Self::Second } else { Self::First }
    }
}

/// An instant, the local time that names it, and which of that time's two instants it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment {
    pub(crate) at: i64,
    pub(crate) local: i64,
    pub(crate) side: FoldSide,
}

/// The instants of one local time. No later local time has an instant before `low`, and no earlier one has an
/// instant after `high`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resolved {
    pub(crate) low: i64,
    pub(crate) high: i64,
    pub(crate) first: Option<Moment>,
    pub(crate) second: Option<Moment>,
}

impl Resolved {
    pub(crate) fn moments(self) -> impl DoubleEndedIterator<Item = Moment> {
        [self.first, self.second].into_iter().flatten()
    }
}

/// A stretch of time with one UTC offset: `from` inclusive, `to` exclusive.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OffsetSegment {
    pub(crate) from: i64,
    pub(crate) to: i64,
    pub(crate) offset: i64,
}

/// Local times far from any change of the clocks: each exists once and has this offset.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FixedOffsetRange {
    /// The first one, and the end (exclusive).
    low: i64,
    high: i64,
    pub(crate) offset: i64,
}

impl FixedOffsetRange {
    pub(crate) fn contains(&self, local: i64) -> bool {
        self.low <= local && local < self.high
    }

    /// The last of these local times.
    pub(crate) fn last(&self) -> i64 {
        self.high.saturating_sub(1)
    }

    pub(crate) fn contains_instant(&self, at: i64) -> bool {
        self.contains(at.saturating_add(self.offset))
    }
}

/// The changes of a zone's offset. The first entry is the beginning of time.
#[derive(Debug)]
struct ZoneChanges {
    /// The instant of each change, and the offset from then on.
    list: Vec<(i64, i64)>,
    /// All changes before this instant are in the list.
    end: i64,
}

impl ZoneChanges {
    /// The changes of a zone, computed once and kept: there are a few hundred zones, and looking changes up takes
    /// long.
    fn cached(tz: &TimeZone) -> Arc<Self> {
        static KNOWN: Mutex<Option<HashMap<String, Arc<ZoneChanges>>>> = Mutex::new(None);
        let name = tz.iana_name().unwrap_or("UTC").to_owned();
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get_or_insert_default();
        Arc::clone(known.entry(name).or_insert_with(|| Arc::new(Self::collect(tz))))
    }

    fn collect(tz: &TimeZone) -> Self {
        let offset = |offset: Offset| i64::from(offset.seconds());
        let mut list = vec![(i64::MIN, offset(tz.to_offset(Timestamp::MIN)))];
        for change in tz.following(Timestamp::MIN) {
            let at = change.timestamp().as_second();
            if at > LISTED {
                return Self { list, end: at };
            }
            list.push((at, offset(change.offset())));
        }
        Self { list, end: i64::MAX }
    }

    /// The last change at or before an instant, and the instant of the next change. `None` after the end of the
    /// list.
    fn around(&self, at: i64) -> Option<((i64, i64), i64)> {
        let next = self.list.partition_point(|change| change.0 <= at);
        let end = self.list.get(next).map_or(self.end, |change| change.0);
        (at < end).then(|| (self.list[next - 1], end))
    }

    /// The offsets before and after the one in force at an instant. `None` if one of them is not in the list.
    fn beside(&self, at: i64) -> Option<(i64, i64)> {
        let next = self.list.partition_point(|change| change.0 <= at);
        Some((self.list.get(next.checked_sub(2)?)?.1, self.list.get(next)?.1))
    }
}

/// A zone with the policy of one recurrence.
#[derive(Debug, Clone)]
pub(crate) struct Zone {
    pub(crate) tz: TimeZone,
    changes: Arc<ZoneChanges>,
    pub(crate) dst: Dst,
    pub(crate) all_day: bool,
}

/// Changes up to this instant, in the year 2200, are kept in a list; later ones are computed.
const LISTED: i64 = 230 * 365 * DAY;

/// A zone of the bundled database by its IANA name, in upper or lower case.
pub fn find_zone(name: &str) -> Option<TimeZone> {
    static BUNDLED: OnceLock<TimeZoneDatabase> = OnceLock::new();
    BUNDLED.get_or_init(TimeZoneDatabase::bundled).get(name).ok()
}

pub(crate) fn civil(local: i64) -> DateTime {
    Timestamp::from_second(local).map_or(DateTime::MAX, |t| Offset::UTC.to_datetime(t))
}

/// Local seconds of a civil time; fractions of a second are dropped.
pub(crate) fn local_seconds(time: DateTime) -> i64 {
    let day = crate::days::day_number(time.year().into(), time.month().into(), time.day().into());
    i64::from(day) * DAY
        + i64::from(time.hour()) * 3600
        + i64::from(time.minute()) * 60
        + i64::from(time.second())
}

/// The last whole second that is not after `t`.
pub(crate) fn floor_second(t: Timestamp) -> i64 {
    t.as_second() - i64::from(t.subsec_nanosecond() < 0)
}

/// The first whole second that is not before `t`.
pub(crate) fn ceil_second(t: Timestamp) -> i64 {
    t.as_second() + i64::from(t.subsec_nanosecond() > 0)
}

/// The instant of Unix `seconds`, clamped to what can be represented.
pub(crate) fn timestamp(seconds: i64) -> Timestamp {
    let (low, high) = (Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
    Timestamp::from_second(seconds.clamp(low, high)).unwrap_or(Timestamp::MAX)
}

impl Zone {
    pub(crate) fn new(tz: TimeZone, dst: Dst, all_day: bool) -> Self {
        Self { changes: ZoneChanges::cached(&tz), tz, dst, all_day }
    }

    pub(crate) fn offset_at(&self, at: i64) -> i64 {
        self.segment(at).offset
    }

    pub(crate) fn local_of(&self, at: i64) -> i64 {
        at + self.offset_at(at)
    }

    /// The stretch of one offset that contains `at`. It may be shorter than the real one, never longer.
    pub(crate) fn segment(&self, at: i64) -> OffsetSegment {
        if let Some(((from, offset), to)) = self.changes.around(at) {
            return OffsetSegment { from, to, offset };
        }
        let t = timestamp(at);
        let from = self.tz.preceding(timestamp(at.saturating_add(1))).next();
        let to = self.tz.following(t).next();
        OffsetSegment {
            from: from.map_or(i64::MIN, |change| change.timestamp().as_second()),
            to: to.map_or(i64::MAX, |change| change.timestamp().as_second()),
            offset: i64::from(self.tz.to_offset(t).seconds()),
        }
    }

    /// The local times around the instant `at` that are far from any change; the range may be empty.
    ///
    /// A change affects the local times that it skips or repeats, and what it shifts comes after it.
    pub(crate) fn fixed_offset_around(&self, at: i64) -> FixedOffsetRange {
        let OffsetSegment { from, to, offset } = self.segment(at);
        // No change moves the clocks by two days.
        let (mut behind, mut before) = (2 * DAY, 2 * DAY);
        if let Some((earlier, later)) = self.changes.beside(at) {
            behind = (offset - earlier).abs();
            before = (offset - later).max(0);
        }
        FixedOffsetRange {
            low: from.saturating_add(offset + behind),
            high: to.saturating_add(offset - before),
            offset,
        }
    }

    /// The instants of a local time, by the policy.
    pub(crate) fn resolve(&self, local: i64) -> Resolved {
        let moment = |offset: Offset, side| Moment { at: local - i64::from(offset.seconds()), local, side };
        match self.tz.to_ambiguous_timestamp(civil(local)).offset() {
            AmbiguousOffset::Unambiguous { offset } => {
                let only = moment(offset, FoldSide::First);
                Resolved { low: only.at, high: only.at, first: Some(only), second: None }
            }
            AmbiguousOffset::Fold { before, after } => {
                let (early, late) = (moment(before, FoldSide::First), moment(after, FoldSide::Second));
                let fold = if self.all_day { Fold::First } else { self.dst.fold };
                let (first, second) = match fold {
                    Fold::First => (Some(early), None),
                    Fold::Last => (Some(late), None),
                    Fold::Both => (Some(early), Some(late)),
                };
                Resolved { low: early.at, high: late.at, first, second }
            }
            AmbiguousOffset::Gap { before, after } => {
                let shifted = moment(before, FoldSide::First);
                let low = local - i64::from(after.seconds());
                let first = if self.all_day { self.first_of_day(shifted) } else { Some(shifted) };
                let first = match self.dst.gap {
                    Gap::Skip
                        if !self.all_day || first.is_some_and(|m| self.local_of(m.at) >= local + DAY) =>
                    {
                        None
                    }
                    _ => first,
                };
                Resolved { low, high: shifted.at, first, second: None }
            }
        }
    }

    /// The instant of the change: if midnight lies in a gap, the day begins when the gap ends.
    fn first_of_day(&self, shifted: Moment) -> Option<Moment> {
        let change = self.tz.preceding(timestamp(shifted.at + 1)).next()?;
        Some(Moment { at: change.timestamp().as_second(), ..shifted })
    }
}

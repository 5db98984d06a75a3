//! [`Recurrence`]: when something happens, already checked by `from_spec`.

use jiff::civil::DateTime;

use crate::days::DAY;
use crate::rule::RecurrenceRule;
use crate::segment::RuleSegment;
use crate::spec::{Length, SpecTime};
use crate::zone::{Dst, FoldSide, Moment, Zone, civil};

/// An occurrence whose end is not computed yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawOccurrence {
    pub(crate) moment: Moment,
    /// Where it begins on the local clock. Differs from the name in `moment` if an override moved it.
    pub(crate) wall: i64,
    pub(crate) length: Length,
    /// Whether a date or an override gave it a length of its own.
    pub(crate) own_length: bool,
    /// Whether an override put it here. Exceptions don't apply to it any more.
    pub(crate) is_override: bool,
}

/// When something happens (RFC 5545, section 3.8.5). It happens at least once.
#[derive(Debug, Clone)]
pub struct Recurrence {
    pub(crate) start: i64,
    pub(crate) rules: Vec<RecurrenceRule>,
    pub(crate) zone: Zone,
    pub(crate) length: Length,
    pub(crate) segments: Vec<RuleSegment>,
    /// Occurrences that no rule gives, ascending.
    pub(crate) singles: Vec<RawOccurrence>,
    pub(crate) except_days: Vec<i64>,
    pub(crate) except_locals: Vec<i64>,
    pub(crate) except_instants: Vec<i64>,
    pub(crate) except_segments: Vec<RuleSegment>,
    /// Names of the occurrences that overrides moved or cancelled.
    pub(crate) replaced: Vec<(i64, FoldSide)>,
    /// Whether no exception or override takes anything out.
    pub(crate) no_exceptions: bool,
    /// The longest length of an occurrence, in seconds.
    pub(crate) reach: i64,
}

impl Recurrence {
    /// The local start.
    pub fn start(&self) -> DateTime {
        civil(self.start)
    }

    /// The zone's IANA name, spelled as in the database.
    pub fn time_zone(&self) -> &str {
        self.zone.tz.iana_name().unwrap_or("UTC")
    }

    /// The zone, for showing instants.
    pub fn zone(&self) -> &jiff::tz::TimeZone {
        &self.zone.tz
    }

    /// Whether occurrences are whole days.
    pub fn is_all_day(&self) -> bool {
        self.zone.all_day
    }

    /// The rules, the first one first.
    pub fn rules(&self) -> &[RecurrenceRule] {
        &self.rules
    }

    /// The daylight-saving policy.
    pub fn dst(&self) -> Dst {
        self.zone.dst
    }

    /// This recurrence without the occurrences that overrides of one put in place. They don't return to where they
    /// were.
    pub(crate) fn without_moved(&self) -> Self {
        let mut rest = self.clone();
        rest.singles.retain(|it| !it.is_override);
        rest
    }

    pub(crate) fn excepts(&self, moment: Moment) -> bool {
        let name = (moment.local, moment.side);
        self.except_locals.binary_search(&moment.local).is_ok()
            || self.except_instants.binary_search(&moment.at).is_ok()
            || self.replaced.binary_search(&name).is_ok()
            || self.excepts_day(moment)
    }

    pub(crate) fn excepts_by_rule(&self, found: &RawOccurrence) -> bool {
        !found.is_override && self.except_segments.iter().any(|segment| segment.contains(found.moment))
    }

    /// Whether no further occurrence is possible on the moment's day.
    pub(crate) fn may_step_over(&self, moment: Moment) -> bool {
        self.excepts_day(moment)
            && self.segments.iter().all(|segment| segment.shift == 0)
            && self.singles.iter().all(|it| !it.is_override)
    }

    fn excepts_day(&self, moment: Moment) -> bool {
        self.except_days.binary_search(&moment.local.div_euclid(DAY)).is_ok()
    }

    /// The start's time of day, on the day that begins at `midnight`.
    pub(crate) fn at_start_time(&self, midnight: i64) -> i64 {
        midnight + self.start.rem_euclid(DAY)
    }

    /// The moments that `when` names in this recurrence. A date means the start's time of day on that date.
    pub(crate) fn moments(&self, when: SpecTime) -> impl Iterator<Item = Moment> + use<> {
        let local = match when {
            SpecTime::Day(midnight) => self.at_start_time(midnight),
            SpecTime::Local(local) => local,
            SpecTime::Instant(at) => {
                let local = self.zone.local_of(at);
                let side = FoldSide::second_if(self.zone.resolve(local).low < at);
                return [Some(Moment { at, local, side }), None].into_iter().flatten();
            }
        };
        let resolved = self.zone.resolve(local);
        [resolved.first, resolved.second].into_iter().flatten()
    }
}

//! Which schedules of a namespace need the same person or thing at the same time.
//!
//! The older by (creation, uid) keeps the slot; one that was rejected keeps none. Looked for a year ahead, again every day
//! or when the first clash is over. Never: a comparison of two schedules that share nothing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use calendar::first_clashes;
use crds::schedule::ConflictPolicy;
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::status::Clash;
use crate::validate::{Need, ValidSchedule};

/// How far ahead clashes are looked for.
const HORIZON: SignedDuration = SignedDuration::from_hours(366 * 24);
/// How long a finding holds.
const HOLDS: SignedDuration = SignedDuration::from_hours(24);
/// Clashes that are shown.
const SHOWN: usize = 5;

type Pair = (Uuid, i64, Uuid, i64);

/// Findings, so that two unchanged schedules are not compared again.
#[derive(Default)]
pub struct Conflicts {
    found: Mutex<HashMap<Pair, (Timestamp, Vec<Timestamp>)>>,
}

/// What was found for the schedules of a namespace.
pub struct Found {
    /// Clashes with older schedules, by uid, in order of time.
    pub clashes: HashMap<Uuid, Vec<Clash>>,
    /// When to look again.
    pub until: Timestamp,
}

impl Conflicts {
    /// Finds the clashes of all schedules of a namespace.
    pub fn find<'a>(&self, schedules: impl IntoIterator<Item = &'a ValidSchedule>, now: Timestamp) -> Found {
        let mut ordered: Vec<&ValidSchedule> = schedules.into_iter().collect();
        ordered.sort_by_key(|schedule| (schedule.plan.created, schedule.plan.uid));
        let mut holders: BTreeMap<&Need, Vec<&ValidSchedule>> = BTreeMap::new();
        let mut clashes = HashMap::new();
        let mut until = now.checked_add(HOLDS).unwrap_or(now);
        for schedule in ordered {
            if schedule.policy != ConflictPolicy::Allow {
                let own = self.of(schedule, &holders, now, &mut until);
                let rejected = schedule.policy == ConflictPolicy::Reject && !own.is_empty();
                clashes.insert(schedule.plan.uid, own);
                if rejected {
                    continue;
                }
            }
            for need in &schedule.needs {
                holders.entry(need).or_default().push(schedule);
            }
        }
        Found { clashes, until }
    }

    fn of(
        &self,
        schedule: &ValidSchedule,
        holders: &BTreeMap<&Need, Vec<&ValidSchedule>>,
        now: Timestamp,
        until: &mut Timestamp,
    ) -> Vec<Clash> {
        let mut compared = HashSet::new();
        let mut clashes = Vec::new();
        for older in schedule.needs.iter().filter_map(|need| holders.get(need)).flatten() {
            if !compared.insert(older.plan.uid) {
                continue;
            }
            let (holds, starts) = self.pair(schedule, older, now);
            *until = holds.min(*until);
            if starts.is_empty() {
                continue;
            }
            let shared: Vec<String> =
                schedule.needs.intersection(&older.needs).take(SHOWN).map(ToString::to_string).collect();
            clashes.extend(starts.into_iter().map(|start| Clash {
                start,
                schedule: older.plan.name.clone(),
                shared: shared.clone(),
            }));
        }
        clashes.sort_by(|a, b| (a.start, &a.schedule).cmp(&(b.start, &b.schedule)));
        clashes.truncate(SHOWN);
        clashes
    }

    /// Starts of the younger's occurrences that clash, and how long that holds.
    fn pair(
        &self,
        younger: &ValidSchedule,
        older: &ValidSchedule,
        now: Timestamp,
    ) -> (Timestamp, Vec<Timestamp>) {
        let key = (younger.plan.uid, younger.plan.generation, older.plan.uid, older.plan.generation);
        let held = self.found.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(held) = held
            && now < held.0
        {
            return held;
        }
        let horizon = now.checked_add(HORIZON).unwrap_or(Timestamp::MAX);
        let found = first_clashes(&younger.recurrence, &older.recurrence, now, horizon, SHOWN);
        let over = found.first.first().map(|clash| clash.a.end.min(clash.b.end));
        let holds = now.checked_add(HOLDS).unwrap_or(now);
        let mut starts: Vec<Timestamp> = found.first.iter().map(|clash| clash.a.start).collect();
        starts.dedup();
        let entry = (over.map_or(holds, |over| over.min(holds)), starts);
        self.found.lock().unwrap_or_else(PoisonError::into_inner).insert(key, entry.clone());
        entry
    }

    /// Forgets schedules that are gone or changed.
    pub fn forget(&self, is_current: impl Fn(&str) -> bool) {
        self.found
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|(a, _, b, _), _| is_current(&a.to_string()) && is_current(&b.to_string()));
    }
}

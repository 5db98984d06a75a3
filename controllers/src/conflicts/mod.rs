//! Which schedules of a namespace need the same person or thing at the same time.
//!
//! The older by (creation, uid) keeps the slot; one that was rejected keeps none. One index a namespace, brought up to date
//! with what is asked about: only what shares something with what changed is looked at again, or what a passing clash may
//! have freed. Never: a schedule of another namespace, or a clock.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use calendar::{Booking, Clashes, Holder, NearestInHours, Occupancy, Search, Stretch};
use crds::schedule::ConflictPolicy;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::status::{Clash, local};
use crate::validate::{Need, Suggest, ValidSchedule};

/// How long a finding holds: the horizon moves on meanwhile.
const HOLDS: SignedDuration = SignedDuration::from_hours(24);
/// Clashes that are shown.
const SHOWN: usize = 5;
/// Clashes that a refusal tells.
const TOLD: usize = 3;

/// Precedence: the lesser keeps the slot.
type Key = (Timestamp, Uuid);

/// The schedules of all namespaces that were asked about.
pub struct Conflicts {
    horizon: SignedDuration,
    spaces: Mutex<HashMap<String, Space>>,
}

/// What was found for the schedules of a namespace.
pub struct Found {
    /// Clashes with older schedules, by uid, in order of time.
    pub clashes: HashMap<Uuid, Vec<Clash>>,
    /// Other times, by uid, of those that ask for them: the first occurrence moved there, the best first.
    pub suggestions: HashMap<Uuid, Vec<Stretch>>,
    /// When to look again.
    pub until: Timestamp,
}

impl Default for Conflicts {
    fn default() -> Self {
        Self::new(calendar::HORIZON)
    }
}

impl Conflicts {
    /// Looks so far ahead.
    pub fn new(horizon: SignedDuration) -> Self {
        Self { horizon, spaces: Mutex::default() }
    }

    /// The clashes of all schedules of a namespace.
    pub fn find(&self, namespace: &str, schedules: &[&ValidSchedule], now: Timestamp) -> Found {
        let mut spaces = self.lock();
        let space = self.space(&mut spaces, namespace, schedules, now);
        let looked_at = space.held.values().filter_map(|held| Some((held, held.found.as_ref()?)));
        let until = now.checked_add(HOLDS).unwrap_or(now);
        let until = looked_at.clone().map(|(_, finding)| finding.until).min().unwrap_or(until);
        let clashes = looked_at.clone().map(|(held, finding)| (held.uid, finding.clashes.clone())).collect();
        let suggestions = looked_at.map(|(held, finding)| (held.uid, finding.suggestions.clone())).collect();
        Found { clashes, suggestions, until }
    }

    /// Why `schedule` can't come into its namespace beside `others`, or move in it, for nobody gives way to who comes last:
    /// in words. None when all that it needs is free.
    pub fn refusal(
        &self,
        schedule: &ValidSchedule,
        others: &[&ValidSchedule],
        now: Timestamp,
    ) -> Option<String> {
        let mut spaces = self.lock();
        let space = self.space(&mut spaces, &schedule.plan.namespace, others, now);
        let rejected = space.rejected();
        let (key, booking) = (key(schedule), booking(schedule));
        let counts = |other: &Key| !rejected.contains(other);
        let clashes = space.index.check(&key, &booking, counts, TOLD);
        (clashes.total > 0).then(|| {
            let free = space.index.nearest_free(&key, &booking, &Search::default());
            let free: Vec<Timestamp> = free.iter().map(|free| free.first.start).collect();
            space.told(&clashes, &free, schedule.recurrence.zone())
        })
    }

    /// Forgets namespaces without schedules.
    pub fn forget(&self, is_alive: impl Fn(&str) -> bool) {
        self.lock().retain(|_, space| space.held.values().any(|held| is_alive(&held.uid.to_string())));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Space>> {
        self.spaces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The namespace's index, brought up to date.
    fn space<'a>(
        &self,
        spaces: &'a mut HashMap<String, Space>,
        namespace: &str,
        schedules: &[&ValidSchedule],
        now: Timestamp,
    ) -> &'a mut Space {
        let space = spaces.entry(namespace.to_owned()).or_insert_with(|| Space {
            index: Occupancy::new(now, self.horizon),
            held: BTreeMap::new(),
            touched: BTreeSet::new(),
        });
        space.index.advance(now);
        space.take(schedules);
        space.settle(now);
        space
    }
}

/// The schedules of one namespace.
struct Space {
    index: Occupancy<Key, Need>,
    held: BTreeMap<Key, Held>,
    /// What those need that came, went or changed since the last look.
    touched: BTreeSet<Need>,
}

struct Held {
    uid: Uuid,
    name: String,
    generation: i64,
    policy: ConflictPolicy,
    needs: BTreeSet<Need>,
    booking: Booking<Need>,
    suggest: Option<Suggest>,
    found: Option<Finding>,
}

/// What was found for one schedule.
struct Finding {
    clashes: Vec<Clash>,
    suggestions: Vec<Stretch>,
    until: Timestamp,
    rejected: bool,
}

fn key(schedule: &ValidSchedule) -> Key {
    (schedule.plan.created, schedule.plan.uid)
}

fn booking(schedule: &ValidSchedule) -> Booking<Need> {
    let (before, after) = schedule.buffers;
    Booking::new(Arc::clone(&schedule.recurrence), schedule.needs.iter().cloned().collect())
        .with_buffers(before, after)
}

impl Space {
    /// Holds these schedules and no others.
    fn take(&mut self, schedules: &[&ValidSchedule]) {
        let there: HashSet<Key> = schedules.iter().map(|schedule| key(schedule)).collect();
        let (index, touched) = (&mut self.index, &mut self.touched);
        self.held.retain(|key, held| {
            let stays = there.contains(key);
            if !stays {
                index.remove(key);
                touched.append(&mut held.needs);
            }
            stays
        });
        for schedule in schedules {
            let key = key(schedule);
            let before = self.held.get(&key);
            if before.is_some_and(|held| held.generation == schedule.plan.generation) {
                continue;
            }
            touched.extend(before.iter().flat_map(|held| held.needs.clone()));
            touched.extend(schedule.needs.iter().cloned());
            let held = Held {
                uid: schedule.plan.uid,
                name: schedule.plan.name.clone(),
                generation: schedule.plan.generation,
                policy: schedule.policy,
                needs: schedule.needs.clone(),
                booking: booking(schedule),
                suggest: schedule.suggest.clone(),
                found: None,
            };
            index.insert(key, &held.booking);
            self.held.insert(key, held);
        }
    }

    /// Looks again at what may have changed, from the oldest on: only an older one can take a slot or leave it.
    fn settle(&mut self, now: Timestamp) {
        let mut touched = std::mem::take(&mut self.touched);
        let mut rejected = BTreeSet::new();
        let keys: Vec<Key> = self.held.keys().copied().collect();
        for key in keys {
            let Some(held) = self.held.get(&key) else { continue };
            let before = held.found.as_ref();
            let fresh = before.is_some_and(|finding| now < finding.until) && held.needs.is_disjoint(&touched);
            let is_rejected = if fresh {
                before.is_some_and(|finding| finding.rejected)
            } else {
                let finding = self.look(key, held, &rejected, now);
                let is_rejected = finding.rejected;
                if before.is_some_and(|finding| finding.rejected) != is_rejected {
                    touched.extend(held.needs.iter().cloned());
                }
                if let Some(held) = self.held.get_mut(&key) {
                    held.found = Some(finding);
                }
                is_rejected
            };
            if is_rejected {
                rejected.insert(key);
            }
        }
    }

    fn look(&self, key: Key, held: &Held, rejected: &BTreeSet<Key>, now: Timestamp) -> Finding {
        let holds = now.checked_add(HOLDS).unwrap_or(now);
        let suggestions = self.suggestions(key, held);
        let holds = suggestions.iter().map(|time| time.start).chain([holds]).min().unwrap_or(holds);
        if held.policy == ConflictPolicy::Allow {
            return Finding { clashes: Vec::new(), suggestions, until: holds, rejected: false };
        }
        let older = |other: &Key| *other < key && !rejected.contains(other);
        let clashes = self.index.check(&key, &held.booking, older, SHOWN);
        let over = clashes.first.first().map(|clash| {
            let holder = clash.with.iter().map(|holder| holder.end).min();
            holder.map_or(clash.occurrence.end, |end| end.min(clash.occurrence.end))
        });
        let mut shown: Vec<Clash> = Vec::new();
        for clash in &clashes.first {
            shown.extend(clash.with.iter().map(|holder| Clash {
                start: clash.occurrence.start,
                schedule: self.name(holder),
                shared: holder.needs.iter().take(SHOWN).map(ToString::to_string).collect(),
            }));
        }
        shown.truncate(SHOWN);
        Finding {
            rejected: held.policy == ConflictPolicy::Reject && clashes.total > 0,
            clashes: shown,
            suggestions,
            until: over.map_or(holds, |over| over.min(holds)),
        }
    }

    fn suggestions(&self, key: Key, held: &Held) -> Vec<Stretch> {
        let Some(Suggest { search, people }) = &held.suggest else { return Vec::new() };
        let found = self.index.suggest(&key, &held.booking, search, people, &NearestInHours);
        found.into_iter().map(|candidate| candidate.time.first).collect()
    }

    fn rejected(&self) -> BTreeSet<Key> {
        let is_rejected = |held: &Held| held.found.as_ref().is_some_and(|finding| finding.rejected);
        self.held.iter().filter(|(_, held)| is_rejected(held)).map(|(key, _)| *key).collect()
    }

    fn name(&self, holder: &Holder<Key, Need>) -> String {
        self.held.get(&holder.key).map(|held| held.name.clone()).unwrap_or_default()
    }

    fn told(&self, clashes: &Clashes<Key, Need>, free: &[Timestamp], zone: &TimeZone) -> String {
        let first: Vec<String> = clashes
            .first
            .iter()
            .map(|clash| {
                let with: Vec<String> = clash
                    .with
                    .iter()
                    .map(|holder| {
                        let needs: Vec<String> =
                            holder.needs.iter().take(SHOWN).map(ToString::to_string).collect();
                        format!("schedule {} has {}", self.name(holder), needs.join(", "))
                    })
                    .collect();
                format!("{}: {}", local(clash.occurrence.start, zone), with.join(" and "))
            })
            .collect();
        let until = local(clashes.checked_until, zone);
        let free: Vec<String> = free.iter().map(|start| local(*start, zone)).collect();
        let free = if free.is_empty() {
            "no time within 14 days is free for all of it".to_owned()
        } else {
            format!("free for all of it, nearest first: {}", free.join(", "))
        };
        let of = if clashes.total == 1 { "occurrence clashes" } else { "occurrences clash" };
        format!("{} {of} before {until}; {}; {free}", clashes.total, first.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::validate;

    fn schedule(number: u128, changes: &Value) -> ValidSchedule {
        let mut object = json!({
            "apiVersion": "belfry.dev/v1alpha1", "kind": "Schedule",
            "metadata": {
                "name": format!("s{number}"), "namespace": "a", "uid": Uuid::from_u128(number).to_string(),
                "generation": 1, "creationTimestamp": format!("2026-01-01T00:00:{number:02}Z"),
            },
            "spec": {
                "title": "t", "timeZone": "Asia/Seoul", "start": "2026-02-02T10:00:00", "duration": "1h",
                "recurrence": {"rrule": "FREQ=WEEKLY;COUNT=10"}, "resources": ["room"], "conflictPolicy": "Reject",
            },
        });
        for (name, value) in changes.as_object().unwrap() {
            object["spec"][name] = value.clone();
        }
        validate::schedule(&serde_json::from_value(object).unwrap()).unwrap()
    }

    fn now() -> Timestamp {
        "2026-02-01T00:00:00Z".parse().unwrap()
    }

    fn clashing(conflicts: &Conflicts, schedules: &[&ValidSchedule], now: Timestamp) -> Vec<u128> {
        let found = conflicts.find("a", schedules, now);
        let mut clashing: Vec<u128> = found
            .clashes
            .iter()
            .filter(|(_, clashes)| !clashes.is_empty())
            .map(|(uid, _)| uid.as_u128())
            .collect();
        clashing.sort_unstable();
        clashing
    }

    #[test]
    fn a_refusal_tells_when_whose_how_many_and_what_is_free() {
        let conflicts = Conflicts::default();
        let (first, second) =
            (schedule(1, &json!({})), schedule(2, &json!({"start": "2026-02-02T11:00:00"})));
        let asked = schedule(
            3,
            &json!({"start": "2026-02-02T10:30:00", "recurrence": {"rrule": "FREQ=WEEKLY;COUNT=2"}}),
        );
        let refusal = conflicts.refusal(&asked, &[&first, &second], now()).unwrap();
        assert_eq!(
            refusal,
            "2 occurrences clash before 2028-02-02T09:00:00+09:00; \
             2026-02-02T10:30:00+09:00: schedule s1 has room and schedule s2 has room; \
             2026-02-09T10:30:00+09:00: schedule s1 has room and schedule s2 has room; \
             free for all of it, nearest first: 2026-02-02T09:00:00+09:00, 2026-02-02T12:00:00+09:00, \
             2026-02-02T08:45:00+09:00"
        );
        let elsewhere = schedule(3, &json!({"start": "2026-02-02T12:00:00"}));
        assert_eq!(conflicts.refusal(&elsewhere, &[&first, &second], now()), None);
    }

    #[test]
    fn one_that_moves_does_not_clash_with_itself_and_gives_way_to_younger_ones() {
        let conflicts = Conflicts::default();
        let (old, young) = (schedule(1, &json!({})), schedule(2, &json!({"start": "2026-02-02T12:00:00"})));
        let both = [&old, &young];
        let shifted = schedule(1, &json!({"start": "2026-02-02T10:30:00"}));
        assert_eq!(conflicts.refusal(&shifted, &both, now()), None);
        let taken = schedule(1, &json!({"start": "2026-02-02T12:30:00"}));
        assert!(conflicts.refusal(&taken, &both, now()).is_some());
    }

    #[test]
    fn who_was_rejected_holds_nothing_and_what_is_freed_goes_to_the_next() {
        let conflicts = Conflicts::default();
        // 2 overlaps 1 and 3, which do not overlap each other.
        let one = schedule(1, &json!({}));
        let two = schedule(2, &json!({"start": "2026-02-02T10:30:00"}));
        let three = schedule(3, &json!({"start": "2026-02-02T11:00:00"}));
        assert_eq!(clashing(&conflicts, &[&one, &two, &three], now()), [2]);
        assert_eq!(clashing(&conflicts, &[&two, &three], now()), [3]);
        let moved = ValidSchedule {
            plan: domain::Plan { generation: 2, ..two.plan.clone() },
            ..schedule(2, &json!({"start": "2026-02-02T12:00:00"}))
        };
        assert_eq!(clashing(&conflicts, &[&moved, &three], now()), [] as [u128; 0]);
    }

    #[test]
    fn a_clash_that_is_over_is_looked_at_again() {
        let conflicts = Conflicts::default();
        let (one, two) = (schedule(1, &json!({})), schedule(2, &json!({"recurrence": Value::Null})));
        let found = conflicts.find("a", &[&one, &two], now());
        assert_eq!(clashing(&conflicts, &[&one, &two], now()), [2]);
        let over: Timestamp = "2026-02-02T02:00:00Z".parse().unwrap();
        assert_eq!(found.until, now() + HOLDS);
        assert_eq!(clashing(&conflicts, &[&one, &two], over), [] as [u128; 0]);
    }

    #[test]
    fn buffers_keep_others_away_and_who_is_left_free_meets_nobody() {
        let conflicts = Conflicts::default();
        let first = schedule(1, &json!({}));
        let close = json!({"start": "2026-02-02T11:00:00", "buffer": {"before": "15m"}});
        let close = schedule(2, &close);
        assert_eq!(clashing(&conflicts, &[&first, &close], now()), [2]);
        let free = schedule(3, &json!({"transparency": "Transparent"}));
        assert_eq!(clashing(&conflicts, &[&first, &free], now()), [] as [u128; 0]);
    }

    #[test]
    fn who_asks_for_other_times_is_told_those_in_working_hours_first_until_they_are_taken() {
        let conflicts = Conflicts::default();
        let asks = json!({
            "suggest": {"count": 2, "grid": "30m", "within": "12h"}, "start": "2026-02-02T10:00:00",
            "participants": [{"name": "Minji", "workingHours": {"from": "10:00", "to": "13:00"}}],
        });
        let (first, asking) = (schedule(1, &json!({})), schedule(2, &asks));
        let told = |schedules: &[&ValidSchedule]| -> Vec<String> {
            let found = conflicts.find("a", schedules, now());
            let zone = asking.recurrence.zone();
            found.suggestions[&asking.plan.uid].iter().map(|time| local(time.start, zone)).collect()
        };
        assert_eq!(told(&[&first, &asking]), ["2026-02-02T11:00:00+09:00", "2026-02-02T11:30:00+09:00"]);
        let taken = schedule(3, &json!({"start": "2026-02-02T11:00:00"}));
        assert_eq!(
            told(&[&first, &asking, &taken]),
            ["2026-02-02T12:00:00+09:00", "2026-02-02T09:00:00+09:00"]
        );
    }

    #[test]
    fn the_index_kept_up_to_date_says_what_a_new_one_says() {
        let mut seed = 7_u64;
        let mut random = move |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        let kept = Conflicts::default();
        let mut there: BTreeMap<u128, ValidSchedule> = BTreeMap::new();
        let mut clashed = 0;
        for generation in 0..300 {
            let number = u128::from(random(12)) + 1;
            if random(4) == 0 {
                there.remove(&number);
            } else {
                let policy = ["Reject", "Warn", "Allow"][random(3) as usize];
                let rooms: Vec<String> = (0..=random(2)).map(|_| format!("room-{}", random(3))).collect();
                let start = format!("2026-02-0{}T1{}:{}0:00", random(5) + 1, random(4), random(6));
                let mut changed =
                    schedule(number, &json!({"conflictPolicy": policy, "resources": rooms, "start": start}));
                changed.plan.generation = generation;
                there.insert(number, changed);
            }
            let schedules: Vec<&ValidSchedule> = there.values().collect();
            let one = clashing(&kept, &schedules, now());
            assert_eq!(one, clashing(&Conflicts::default(), &schedules, now()), "after {generation} changes");
            clashed += one.len();
        }
        assert!(clashed > 100, "{clashed}: too few to tell");
    }
}

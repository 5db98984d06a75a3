//! Who keeps what, and what is said of it.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};

use super::index::HOLDS;
use super::*;
use crate::status::local;
use crate::validate::Need;

pub(super) fn schedule_of(namespace: &str, number: u128, changes: &Value) -> ValidSchedule {
    let mut object = json!({
        "apiVersion": "belfry.dev/v1alpha1", "kind": "Schedule",
        "metadata": {
            "name": format!("s{number}"), "namespace": namespace, "uid": Uuid::from_u128(number).to_string(),
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

fn schedule(number: u128, changes: &Value) -> ValidSchedule {
    schedule_of("a", number, changes)
}

/// One that needs a room of another namespace and nothing else.
fn guest(namespace: &str, number: u128, changes: &Value) -> ValidSchedule {
    let mut spec = json!({"resources": [], "sharedResources": [{"namespace": "rooms", "name": "hall"}]});
    spec.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    schedule_of(namespace, number, &spec)
}

fn hall(capacity: u32, shared_with: &[&str]) -> ValidResource {
    let object = json!({
        "apiVersion": "belfry.dev/v1alpha1", "kind": "BookableResource",
        "metadata": {"name": "hall", "namespace": "rooms"},
        "spec": {"capacity": capacity, "sharedWith": shared_with},
    });
    validate::resource(&serde_json::from_value(object).unwrap()).unwrap()
}

pub(super) fn now() -> Timestamp {
    "2026-02-01T00:00:00Z".parse().unwrap()
}

pub(super) fn conflicts() -> Conflicts {
    Conflicts::new(calendar::HORIZON, now())
}

/// Holds these and no others.
fn hold(conflicts: &Conflicts, schedules: &[&ValidSchedule]) {
    let there: Vec<Uuid> = schedules.iter().map(|schedule| schedule.plan.uid).collect();
    let gone = conflicts.with(|index| index.uids()).into_iter().filter(|uid| !there.contains(uid));
    gone.for_each(|uid| conflicts.take_out(&uid.to_string()));
    for schedule in schedules {
        conflicts.put(&Arc::new((*schedule).clone()), now());
    }
}

fn holding(schedules: &[&ValidSchedule]) -> Conflicts {
    let conflicts = conflicts();
    hold(&conflicts, schedules);
    conflicts
}

/// Why it is not let in.
fn refused(conflicts: &Conflicts, schedule: &ValidSchedule) -> Option<String> {
    match conflicts.refusal(schedule, now()) {
        Slot::Free => None,
        Slot::Taken(why) => Some(why),
        Slot::NotKnown(why) => panic!("{why}"),
    }
}

fn those(
    conflicts: &Conflicts,
    spaces: &[&str],
    such: impl Fn(&Finding) -> bool,
    now: Timestamp,
) -> Vec<u128> {
    let findings = spaces.iter().flat_map(|space| conflicts.find(space, now).findings);
    let mut found: Vec<u128> =
        findings.filter(|(_, finding)| such(finding)).map(|(uid, _)| uid.as_u128()).collect();
    found.sort_unstable();
    found
}

fn clashing(conflicts: &Conflicts, schedules: &[&ValidSchedule], now: Timestamp) -> Vec<u128> {
    hold(conflicts, schedules);
    those(conflicts, &["a"], |finding| !finding.clashes.is_empty(), now)
}

fn rejected(conflicts: &Conflicts) -> Vec<u128> {
    those(conflicts, &["a", "b", "rooms"], |finding| finding.rejected, now())
}

#[test]
fn a_refusal_tells_when_whose_how_many_and_what_is_free() {
    let (first, second) = (schedule(1, &json!({})), schedule(2, &json!({"start": "2026-02-02T11:00:00"})));
    let asked =
        schedule(3, &json!({"start": "2026-02-02T10:30:00", "recurrence": {"rrule": "FREQ=WEEKLY;COUNT=2"}}));
    let conflicts = holding(&[&first, &second]);
    let refusal = refused(&conflicts, &asked).unwrap();
    assert_eq!(
        refusal,
        "2 occurrences clash before 2028-02-02T09:00:00+09:00; \
         2026-02-02T10:30:00+09:00: schedule s1 has room and schedule s2 has room; \
         2026-02-09T10:30:00+09:00: schedule s1 has room and schedule s2 has room; \
         free for all of it, nearest first: 2026-02-02T09:00:00+09:00, 2026-02-02T12:00:00+09:00, \
         2026-02-02T08:45:00+09:00"
    );
    let elsewhere = schedule(3, &json!({"start": "2026-02-02T12:00:00"}));
    assert_eq!(refused(&conflicts, &elsewhere), None);
}

#[test]
fn one_that_moves_does_not_clash_with_itself_and_gives_way_to_younger_ones() {
    let (old, young) = (schedule(1, &json!({})), schedule(2, &json!({"start": "2026-02-02T12:00:00"})));
    let conflicts = holding(&[&old, &young]);
    let shifted = schedule(1, &json!({"start": "2026-02-02T10:30:00"}));
    assert_eq!(refused(&conflicts, &shifted), None);
    let taken = schedule(1, &json!({"start": "2026-02-02T12:30:00"}));
    assert!(refused(&conflicts, &taken).is_some());
}

#[test]
fn who_was_rejected_holds_nothing_and_what_is_freed_goes_to_the_next() {
    let conflicts = conflicts();
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
    let conflicts = conflicts();
    let (one, two) = (schedule(1, &json!({})), schedule(2, &json!({"recurrence": Value::Null})));
    assert_eq!(clashing(&conflicts, &[&one, &two], now()), [2]);
    let over: Timestamp = "2026-02-02T02:00:00Z".parse().unwrap();
    assert_eq!(conflicts.find("a", now()).until, now() + HOLDS);
    assert_eq!(clashing(&conflicts, &[&one, &two], over), [] as [u128; 0]);
}

#[test]
fn buffers_keep_others_away_and_who_is_left_free_meets_nobody() {
    let conflicts = conflicts();
    let first = schedule(1, &json!({}));
    let close = json!({"start": "2026-02-02T11:00:00", "buffer": {"before": "15m"}});
    let close = schedule(2, &close);
    assert_eq!(clashing(&conflicts, &[&first, &close], now()), [2]);
    let free = schedule(3, &json!({"transparency": "Transparent"}));
    assert_eq!(clashing(&conflicts, &[&first, &free], now()), [] as [u128; 0]);
}

#[test]
fn who_asks_for_other_times_is_told_those_in_working_hours_first_until_they_are_taken() {
    let conflicts = conflicts();
    let asks = json!({
        "suggest": {"count": 2, "grid": "30m", "within": "12h"}, "start": "2026-02-02T10:00:00",
        "participants": [{"name": "Minji", "workingHours": {"from": "10:00", "to": "13:00"}}],
    });
    let (first, asking) = (schedule(1, &json!({})), schedule(2, &asks));
    let told = |schedules: &[&ValidSchedule]| -> Vec<String> {
        hold(&conflicts, schedules);
        conflicts.find("a", now());
        while conflicts.answer_next() {}
        let found = conflicts.find("a", now());
        let zone = asking.recurrence.zone();
        let times = &found.findings[&asking.plan.uid].suggested.times;
        times.iter().map(|time| local(time.start, zone)).collect()
    };
    assert_eq!(told(&[&first, &asking]), ["2026-02-02T11:00:00+09:00", "2026-02-02T11:30:00+09:00"]);
    let taken = schedule(3, &json!({"start": "2026-02-02T11:00:00"}));
    assert_eq!(told(&[&first, &asking, &taken]), ["2026-02-02T12:00:00+09:00", "2026-02-02T09:00:00+09:00"]);
}

#[test]
fn a_refusal_tells_the_times_that_the_status_would_suggest() {
    let asks =
        json!({"suggest": {"count": 2, "grid": "1h", "within": "12h"}, "start": "2026-02-02T10:00:00"});
    let first = schedule(1, &json!({"start": "2026-02-02T10:15:00"}));
    let conflicts = holding(&[&first]);
    let refusal = refused(&conflicts, &schedule(2, &asks)).unwrap();
    let free = "free for all of it, best first: 2026-02-02T09:00:00+09:00, 2026-02-02T08:00:00+09:00";
    assert!(refusal.ends_with(free), "{refusal}");
    let tight =
        json!({"suggest": {"grid": "1h", "within": "1h"}, "start": "2026-02-02T10:30:00", "duration": "3h"});
    let refusal = refused(&conflicts, &schedule(2, &tight)).unwrap();
    assert!(refusal.ends_with("no time within 1h is free for all of it"), "{refusal}");
}

#[test]
fn a_room_of_another_namespace_is_booked_only_while_its_owner_shares_it_and_the_words_tell_nothing_more() {
    let conflicts = conflicts();
    let one = guest("a", 1, &json!({}));
    conflicts.put(&Arc::new(one.clone()), now());
    let absent_or_not = |conflicts: &Conflicts| not_permitted(&conflicts.not_permitted(&one), "a");
    let absent = absent_or_not(&conflicts).unwrap();
    assert_eq!(rejected(&conflicts), [1]);
    conflicts.lend(hall(1, &["b"]));
    assert_eq!(absent_or_not(&conflicts), Some(absent), "there and not there are told alike");
    for shared_with in [&["b", "a"][..], &["*"]] {
        conflicts.lend(hall(1, shared_with));
        assert_eq!((absent_or_not(&conflicts), rejected(&conflicts)), (None, vec![]), "{shared_with:?}");
        conflicts.lend(hall(1, &[]));
        assert_eq!(rejected(&conflicts), [1], "withdrawn");
    }
    conflicts.lend(hall(1, &["*"]));
    conflicts.with(|index| index.unlend(&hall(1, &[]).reference));
    assert_eq!(rejected(&conflicts), [1], "gone");
}

#[test]
fn who_may_not_book_a_room_keeps_nobody_out_of_it_nor_of_what_else_they_need() {
    let conflicts = conflicts();
    conflicts.lend(hall(1, &["b"]));
    // The older one holds the lamp too, as long as it may have the hall.
    let both = guest("a", 1, &json!({"resources": ["lamp"]}));
    let other = schedule(2, &json!({"resources": ["lamp"]}));
    let others_hall = guest("b", 3, &json!({}));
    hold(&conflicts, &[&both, &other, &others_hall]);
    assert_eq!(rejected(&conflicts), [1]);
    conflicts.lend(hall(1, &["a", "b"]));
    assert_eq!(rejected(&conflicts), [2, 3]);
}

#[test]
fn the_owners_own_name_and_a_guests_reference_are_the_same_room() {
    let conflicts = conflicts();
    conflicts.lend(hall(1, &["a"]));
    let owner = schedule_of("rooms", 1, &json!({"resources": ["hall"]}));
    hold(&conflicts, &[&owner, &guest("a", 2, &json!({})), &guest("rooms", 3, &json!({}))]);
    assert_eq!(rejected(&conflicts), [2, 3]);
    // A room of that name in the guest's own namespace is another.
    hold(&conflicts, &[&owner, &schedule(4, &json!({"resources": ["hall"]}))]);
    assert_eq!(rejected(&conflicts), [] as [u128; 0]);
}

#[test]
fn no_name_of_another_namespaces_schedule_is_told() {
    let conflicts = conflicts();
    conflicts.lend(hall(2, &["*"]));
    let secret = json!({"title": "Layoffs", "participants": [{"name": "Ceo", "email": "ceo@example.com"}]});
    let mut first = guest("b", 1, &secret);
    "project-x".clone_into(&mut first.plan.name);
    let asked = guest("a", 3, &json!({"participants": [{"name": "Ceo", "email": "ceo@example.com"}]}));
    hold(&conflicts, &[&first, &guest("b", 2, &json!({})), &asked]);
    let finding = conflicts.find("a", now()).findings.remove(&asked.plan.uid).unwrap();
    assert_eq!(finding.clashes[0].schedule, None);
    assert_eq!(finding.clashes[0].shared, ["rooms/hall"]);
    let starts: Vec<Timestamp> = finding.clashes.iter().map(|clash| clash.start).collect();
    assert!(starts.is_sorted_by(|a, b| a < b), "who they are is not told by telling each: {starts:?}");
    let said = refused(&conflicts, &asked).unwrap();
    assert!(said.contains("+09:00: a schedule of another namespace has rooms/hall; "), "{said}");
    for hidden in ["project-x", "s2", "Layoffs", "Ceo", "ceo@"] {
        assert!(
            !said.contains(hidden) && !format!("{:?}", finding.clashes).contains(hidden),
            "{hidden}: {said}"
        );
    }
}

#[test]
fn as_many_as_the_capacity_keep_the_slot_and_the_others_take_it_as_they_go_across_namespaces() {
    let conflicts = conflicts();
    conflicts.lend(hall(2, &["*"]));
    // Created in the same second: then the lesser uid is the older.
    let same = |namespace: &str, number: u128| {
        let mut schedule = guest(namespace, number, &json!({}));
        schedule.plan.created = now();
        schedule
    };
    let all = [same("b", 4), same("a", 2), same("a", 3), same("b", 1)];
    let with = |but: &[u128]| -> Vec<&ValidSchedule> {
        all.iter().filter(|schedule| !but.contains(&schedule.plan.uid.as_u128())).collect()
    };
    hold(&conflicts, &with(&[]));
    assert_eq!(rejected(&conflicts), [3, 4]);
    hold(&conflicts, &with(&[1]));
    assert_eq!(rejected(&conflicts), [4]);
    conflicts.lend(hall(1, &["*"]));
    assert_eq!(rejected(&conflicts), [3, 4]);
    conflicts.lend(hall(3, &["*"]));
    assert_eq!(rejected(&conflicts), [] as [u128; 0]);
}

#[tokio::test]
async fn a_change_between_settling_and_reading_what_was_found_is_still_told() {
    let (one, two) = (guest("a", 1, &json!({})), guest("b", 2, &json!({})));
    let conflicts = conflicts();
    conflicts.lend(hall(2, &["a", "b"]));
    hold(&conflicts, &[&one, &two]);
    let clashes =
        |found: &Found| found.findings.get(&two.plan.uid).is_some_and(|found| !found.clashes.is_empty());
    assert!(!clashes(&conflicts.find("b", now())));
    conflicts.lend(hall(1, &["a", "b"]));
    assert!(conflicts.stirred().await.contains(&"b".to_owned()), "somebody else hears of the change");
    // One that settled before reads now.
    assert!(!clashes(&conflicts.with(|index| index.found("b", now()))));
    assert!(conflicts.stirred().await.contains(&"b".to_owned()));
    assert!(clashes(&conflicts.find("b", now())));
}

#[test]
fn what_one_look_found_stays_when_another_look_that_began_before_goes_on() {
    let one = guest("a", 1, &json!({}));
    let conflicts = conflicts();
    conflicts.lend(hall(1, &["a"]));
    hold(&conflicts, &[&one]);
    conflicts.find("a", now());
    conflicts.lend(hall(1, &[]));
    // The owner's look has taken up the guest to hold it anew, and the guest's own look comes before it.
    let again = conflicts.with(|index| index.settle(Some("rooms"), now())).again.expect("the guest");
    let own = expanded(&again, conflicts.with(|index| index.occupancy.far_ahead()));
    conflicts.settle_within(Some("a"), now(), u64::MAX);
    conflicts.with(|index| index.put_again(&again, &own));
    let found = conflicts.with(|index| index.found("a", now()));
    assert_eq!(found.findings[&one.plan.uid].not_permitted, [hall(1, &[]).reference]);
}

#[test]
fn a_smaller_capacity_and_a_withdrawn_grant_tell_how_many_lose_it() {
    let conflicts = conflicts();
    conflicts.lend(hall(3, &["*"]));
    let guests = [guest("a", 1, &json!({})), guest("b", 2, &json!({})), guest("b", 3, &json!({}))];
    let apart = guest("a", 4, &json!({"start": "2026-02-02T20:00:00"}));
    hold(&conflicts, &[&guests[0], &guests[1], &guests[2], &apart]);
    let told = |capacity, shared_with: &[&str]| conflicts.taken_by(&hall(capacity, shared_with), now());
    assert_eq!(told(3, &["*"]), None);
    assert_eq!(told(9, &["a", "b"]), None);
    let less =
        "capacity 1 is less than what is booked: 2 schedules that had a slot will clash with older ones";
    assert_eq!(told(1, &["*"]).as_deref(), Some(less));
    let fewer = "2 schedules of namespaces that sharedWith does not list any more will not have it";
    assert_eq!(told(3, &["a"]).as_deref(), Some(fewer));
    assert_eq!(rejected(&conflicts), [] as [u128; 0], "it was only asked");
}

#[tokio::test]
async fn who_finds_something_new_in_another_namespace_has_it_told_there() {
    let conflicts = conflicts();
    conflicts.lend(hall(1, &["*"]));
    hold(&conflicts, &[&guest("a", 1, &json!({})), &guest("b", 2, &json!({}))]);
    assert_eq!(rejected(&conflicts), [2]);
    conflicts.take_out(&Uuid::from_u128(1).to_string());
    conflicts.find("a", now());
    assert_eq!(conflicts.stirred().await, ["b"]);
    conflicts.lend(hall(1, &[]));
    conflicts.find("rooms", now());
    assert_eq!(conflicts.stirred().await, ["b"]);
}

#[test]
fn a_change_is_a_look_at_those_who_share_something_with_it_and_at_nobody_else() {
    let room =
        |number: u128| json!({"resources": [format!("room-{}", number % 20)], "conflictPolicy": "Warn"});
    let all: Vec<ValidSchedule> = (0..200)
        .map(|number| {
            let mut schedule = schedule(number % 60, &room(number));
            schedule.plan.uid = Uuid::from_u128(number);
            schedule
        })
        .collect();
    let conflicts = holding(&all.iter().collect::<Vec<_>>());
    assert_eq!(conflicts.settle(now()), 200);
    assert_eq!(conflicts.settle(now()), 0);
    let mut youngest = schedule(59, &room(7));
    youngest.plan.uid = Uuid::from_u128(1_000);
    assert!(refused(&conflicts, &youngest).is_some());
    conflicts.put(&Arc::new(youngest), now());
    assert_eq!(conflicts.settle(now()), 1, "itself");
    conflicts.take_out(&Uuid::from_u128(7).to_string());
    assert_eq!(conflicts.settle(now()), 10, "the younger ones of its room");
}

const SPACES: [&str; 3] = ["a", "b", "rooms"];

#[derive(Debug, Clone)]
enum Step {
    /// Number, namespace, policy, minutes after nine, whether it needs the hall and a desk of its own.
    Put(u128, &'static str, &'static str, i64, bool, bool),
    Remove(u128),
    Lend(u32, Vec<&'static str>),
    Unlend,
}

fn step() -> impl Strategy<Value = Step> {
    let policy = select(vec!["Reject", "Reject", "Warn", "Allow"]);
    let minutes = (0..12i64).prop_map(|ten| ten * 10);
    let put = (1..12u128, select(SPACES.to_vec()), policy, minutes, any::<bool>(), any::<bool>());
    prop_oneof![
        6 => put.prop_map(|(number, space, policy, at, hall, desk)| Step::Put(number, space, policy, at, hall, desk)),
        2 => (1..12u128).prop_map(Step::Remove),
        2 => (1..4u32, subsequence(vec!["a", "b", "*"], 0..=3)).prop_map(|(n, with)| Step::Lend(n, with)),
        1 => Just(Step::Unlend),
    ]
}

/// Who clashes, and who holds nothing: each minute of each looked at, the oldest first.
fn twin(
    there: &BTreeMap<u128, (ValidSchedule, i64)>,
    lent: Option<&ValidResource>,
) -> (Vec<u128>, Vec<u128>) {
    let (mut clashing, mut rejected) = (Vec::new(), Vec::new());
    let mut holding: Vec<(Vec<Need>, i64)> = Vec::new();
    for (number, (schedule, at)) in there {
        let may = |reference: &&ResourceRef| {
            lent.is_some_and(|lent| lent.reference == **reference && lent.serves(&schedule.plan.namespace))
        };
        let needs: Vec<Need> = schedule
            .needs
            .iter()
            .cloned()
            .chain(schedule.shared.iter().filter(may).map(Need::from))
            .collect();
        let capacity =
            |need: &Need| lent.filter(|lent| lent.need() == *need).map_or(1, |lent| lent.capacity as usize);
        let full = |need: &Need, minute: i64| {
            let has = |(needs, from): &&(Vec<Need>, i64)| {
                needs.contains(need) && (*from..from + 60).contains(&minute)
            };
            holding.iter().filter(has).count() >= capacity(need)
        };
        let policy = schedule.policy;
        let clashes = policy != crds::schedule::ConflictPolicy::Allow
            && needs.iter().any(|need| (*at..at + 60).any(|minute| full(need, minute)));
        let lacks = schedule.shared.iter().any(|reference| !may(&reference));
        clashing.extend(clashes.then_some(*number));
        if policy == crds::schedule::ConflictPolicy::Reject && (clashes || lacks) {
            rejected.push(*number);
        } else {
            holding.push((needs, *at));
        }
    }
    (clashing, rejected)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_index_kept_up_to_date_says_what_a_look_at_each_minute_says(steps in vec(step(), 1..40)) {
        let conflicts = conflicts();
        let (mut there, mut lent) = (BTreeMap::new(), None);
        for (generation, step) in (1..).zip(steps) {
            match step {
                Step::Put(number, space, policy, at, hall, desk) => {
                    // One that is there stays in its namespace.
                    let space = there.get(&number).map_or(space.to_owned(), |(schedule, _): &(ValidSchedule, i64)| schedule.plan.namespace.clone());
                    let start = format!("2026-02-02T{:02}:{:02}:00", 9 + at / 60, at % 60);
                    let needs = json!({
                        "start": start, "conflictPolicy": policy, "recurrence": null,
                        "resources": if desk { vec!["desk"] } else { vec![] },
                        "sharedResources": if hall { json!([{"namespace": "rooms", "name": "hall"}]) } else { json!([]) },
                    });
                    let mut schedule = schedule_of(&space, number, &needs);
                    schedule.plan.generation = generation;
                    conflicts.put(&Arc::new(schedule.clone()), now());
                    there.insert(number, (schedule, at));
                }
                Step::Remove(number) => {
                    there.remove(&number);
                    conflicts.take_out(&Uuid::from_u128(number).to_string());
                }
                Step::Lend(capacity, with) => {
                    lent = Some(hall(capacity, &with));
                    conflicts.lend(hall(capacity, &with));
                }
                Step::Unlend => {
                    lent = None;
                    conflicts.with(|index| index.unlend(&hall(1, &[]).reference));
                }
            }
            let (clashing, rejects) = twin(&there, lent.as_ref());
            let found = those(&conflicts, &SPACES, |finding| !finding.clashes.is_empty(), now());
            prop_assert_eq!(found, clashing);
            prop_assert_eq!(rejected(&conflicts), rejects);
        }
    }
}

#[test]
fn a_namespace_that_takes_all_the_runs_that_it_may_is_told_and_others_are_compared() {
    let things: Vec<String> = (0..8).map(|n| format!("thing-{n}")).collect();
    let irregular = |number: u128| {
        let minutes: Vec<String> = (0..25).map(|n| (n * 7 % 59).to_string()).collect();
        let rrule = format!(
            "FREQ=DAILY;INTERVAL={};BYHOUR=1,2,4,7,11,13,17,19;BYMINUTE={}",
            2 + number % 5,
            minutes.join(",")
        );
        let spec = json!({"resources": things, "recurrence": {"rrule": rrule}, "duration": "1m", "conflictPolicy": "Warn"});
        schedule_of("greedy", number, &spec)
    };
    let conflicts = conflicts();
    for number in 1..40 {
        conflicts.put(&Arc::new(irregular(number)), now());
    }
    let taken = conflicts.with(|index| index.taken("greedy"));
    assert!(taken > 400_000 && taken <= super::index::OF_A_NAMESPACE, "{taken}");
    let found = conflicts.find("greedy", now());
    assert_eq!(found.findings.len(), 39);
    let last = &found.findings[&Uuid::from_u128(39)];
    assert_eq!(last.compared_until, Some(now()), "{last:?}");
    // Another namespace has its own, and what goes makes room.
    let (one, two) = (schedule(41, &json!({})), schedule(42, &json!({})));
    for schedule in [&one, &two] {
        conflicts.put(&Arc::new(schedule.clone()), now());
    }
    assert!(conflicts.find("a", now()).findings[&two.plan.uid].rejected);
    // Those for which there is room then are compared without being applied again.
    let over = |found: &Found| found.findings.values().filter(|it| it.compared_until == Some(now())).count();
    let before = over(&conflicts.find("greedy", now()));
    conflicts.take_out(&Uuid::from_u128(1).to_string());
    assert!(conflicts.with(Index::stirred).contains(&"greedy".to_owned()));
    let found = conflicts.find("greedy", now());
    assert!(over(&found) < before, "{} of {before}", over(&found));
    for number in 2..39 {
        conflicts.take_out(&Uuid::from_u128(number).to_string());
    }
    // The last one, which held nothing before.
    conflicts.find("greedy", now());
    assert!(conflicts.with(|index| index.taken("greedy")) > 0);
    conflicts.take_out(&Uuid::from_u128(39).to_string());
    assert_eq!(conflicts.with(|index| index.taken("greedy")), 0);
}

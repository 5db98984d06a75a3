//! One namespace asks for all that it may, and its neighbour is not delayed. Counted in steps: times would depend on
//! what else the machine does.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use super::index::{AT_ONCE, COMPARING};
use super::tests::{conflicts, now, schedule_of};
use super::*;

/// The most steps for which a caller may hold the index: one comparison after others, or a copy of what holds one
/// thing.
const LONGEST: u64 = COMPARING + AT_ONCE;

/// A schedule whose people and resources no other crowd shares.
fn crowd(crowd: &str, people: usize, resources: usize, rule: &str, suggest: &Value) -> Value {
    let person = |number: usize| {
        let hours =
            json!({"from": format!("{:02}:00", 6 + number % 6), "to": format!("{:02}:30", 15 + number % 8)});
        json!({"name": format!("p{number}"), "email": format!("{crowd}{number}@example.com"), "workingHours": hours})
    };
    json!({
        "recurrence": {"rrule": rule}, "suggest": suggest, "duration": "30m", "conflictPolicy": "Warn",
        "participants": (0..people).map(person).collect::<Vec<_>>(),
        "resources": (0..resources).map(|number| format!("{crowd}-r{number}")).collect::<Vec<_>>(),
    })
}

fn attacks() -> Vec<ValidSchedule> {
    let fine = json!({"within": "720h", "grid": "1m", "count": 10});
    [
        crowd("a", 100, 32, "FREQ=DAILY", &fine),
        crowd("b", 5, 0, "FREQ=DAILY", &fine),
        // These two share all people.
        crowd("c", 100, 32, "FREQ=HOURLY", &fine),
        crowd("c", 100, 32, "FREQ=MINUTELY", &fine),
        crowd("d", 8, 2, "FREQ=DAILY", &json!({})),
    ]
    .iter()
    .zip(1..)
    .map(|(spec, number)| schedule_of("attacker", number, spec))
    .collect()
}

#[test]
fn a_neighbour_goes_on_while_searches_over_the_budget_are_made_and_nobody_has_the_index_for_long() {
    let conflicts = conflicts();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for attack in attacks() {
                conflicts.put(&Arc::new(attack), now());
            }
            conflicts.find("attacker", now());
            while conflicts.answer_next() {}
            over.store(true, Ordering::Release);
        });
        let mut rounds = 0i64;
        while rounds < 20 || !over.load(Ordering::Acquire) {
            rounds += 1;
            let mut mine = schedule_of("neighbour", 10, &json!({"conflictPolicy": "Warn"}));
            mine.plan.generation = rounds;
            conflicts.put(&Arc::new(mine), now());
            assert_eq!(conflicts.find("neighbour", now()).findings.len(), 1);
            let late = schedule_of("neighbour", 11, &json!({}));
            assert!(matches!(conflicts.refusal(&late, now()), Slot::Taken(_)));
            let apart = schedule_of("neighbour", 12, &json!({"resources": ["another"]}));
            assert_eq!(conflicts.refusal(&apart, now()), Slot::Free);
        }
    });
    let longest = conflicts.longest.load(Ordering::Relaxed);
    assert!(longest <= LONGEST, "{longest} steps at once");
    let found = conflicts.find("attacker", now()).findings;
    let of = |number: u128| &found[&Uuid::from_u128(number)];
    // A daily series is never in the hours of all, so all starts are looked at, as many as there may be.
    for number in [1, 2] {
        let Suggested { times, not_looked_at } = &of(number).suggested;
        assert_eq!(times.len(), 10, "{not_looked_at:?}");
        let why = not_looked_at.clone().unwrap_or_default();
        assert!(why.contains("only starts up to 166h40m away") && why.contains("20000 starts"), "{why}");
    }
    assert_eq!((of(5).suggested.times.len(), &of(5).suggested.not_looked_at), (3, &None));
    let why = |number| of(number).suggested.not_looked_at.clone().unwrap_or_default();
    assert!(why(3).contains("no start was looked at") && why(3).contains("2000000 steps"), "{}", why(3));
    assert!(why(4).contains("only its first 20000 occurrences were looked at"), "{}", why(4));
    assert!(of(4).compared_until.is_some(), "{:?}", of(4));
    assert!(!conflicts.answer_next(), "what was over the budget is not begun again");
    conflicts.recheck(now());
    assert!(!conflicts.answer_next());
}

#[test]
fn the_work_of_a_namespace_is_not_done_by_one_that_shares_nothing_with_it() {
    let conflicts = conflicts();
    for attack in attacks() {
        conflicts.put(&Arc::new(attack), now());
    }
    let mine = schedule_of("neighbour", 10, &json!({}));
    conflicts.put(&Arc::new(mine), now());
    assert_eq!(conflicts.recheck_within(Some("neighbour"), now(), u64::MAX), (1, true));
    assert_eq!(conflicts.recheck_within(Some("attacker"), now(), u64::MAX), (5, true));
}

#[test]
fn namespaces_take_turns_with_their_searches() {
    let conflicts = conflicts();
    let asks = json!({"suggest": {"within": "1h"}, "recurrence": null});
    for (number, namespace) in (1..).zip(["a", "a", "a", "b", "c"]) {
        let spec =
            if namespace == "a" { &asks } else { &json!({"suggest": {"within": "2h"}, "recurrence": null}) };
        conflicts.put(&Arc::new(schedule_of(namespace, number, spec)), now());
    }
    let mut order = Vec::new();
    while let Some(next) = conflicts.with(Index::next_asking) {
        order.push(next.plan.namespace.clone());
    }
    assert_eq!(order, ["a", "b", "c", "a", "a"]);
}

#[test]
fn an_hourly_series_that_clashes_is_refused_within_the_steps_of_a_question() {
    let conflicts = conflicts();
    let all = json!({"recurrence": {"rrule": "FREQ=DAILY"}, "resources": ["room", "r1", "r2"]});
    conflicts.put(&Arc::new(schedule_of("a", 1, &all)), now());
    let hourly =
        json!({"recurrence": {"rrule": "FREQ=HOURLY"}, "duration": "30m", "resources": ["room", "r1", "r2"]});
    let Slot::Taken(why) = conflicts.refusal(&schedule_of("a", 2, &hourly), now()) else {
        panic!("let through");
    };
    assert!(why.starts_with("730 occurrences clash before 2028-"), "{why}");
    assert!(why.contains("is free for all of it"), "{why}");
    let longest = conflicts.longest.load(Ordering::Relaxed);
    assert!(longest <= LONGEST, "{longest} steps at once");
}

#[test]
fn one_with_more_to_compare_than_is_allowed_is_told_so_and_is_not_let_in() {
    let conflicts = conflicts();
    // Their rooms are held, at another time.
    let mut rooms = crowd("a", 0, 32, "FREQ=DAILY;BYHOUR=3;BYMINUTE=40", &Value::Null);
    rooms["duration"] = json!("1m");
    conflicts.put(&Arc::new(schedule_of("a", 1, &rooms)), now());
    let mut asked =
        crowd("a", 0, 32, "FREQ=MINUTELY;INTERVAL=2;BYHOUR=4,5,6,7,8,9,10,11,12,13,14,15,16", &Value::Null);
    asked["duration"] = json!("1m");
    asked["conflictPolicy"] = json!("Reject");
    let Slot::NotKnown(why) = conflicts.refusal(&schedule_of("a", 2, &asked), now()) else {
        panic!("let through");
    };
    assert!(
        why.contains("a comparison ends after 2000000 steps") && why.contains("allowed are fewer"),
        "{why}"
    );
}

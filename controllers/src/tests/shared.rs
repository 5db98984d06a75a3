//! Rooms that one namespace lends to others, against a mock of the API server and in admission.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use wiremock::matchers::any;
use wiremock::{Mock, ResponseTemplate};

use super::admission::{Asking, asked, value};
use super::support::{Bed, condition, hall, moved, object, ready, schedule, slack, written};
use crate::queue::Reconciler as _;
use crate::resources::Resources;
use crate::schedules::Schedules;

/// Needs the hall and nothing else.
fn guest(changes: &Value) -> Value {
    let mut spec = json!({
        "resources": [], "participants": [], "sharedResources": [{"namespace": "rooms", "name": "hall"}],
    });
    spec.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    spec
}

const NAMESPACES: [&str; 3] = ["payments", "shop", "rooms"];

/// A bed with a hall that holds one, an older schedule in `shop` and a younger one in `payments`.
async fn bed() -> (Bed, Schedules) {
    let bed = Bed::new().await;
    for namespace in NAMESPACES {
        bed.context.channels.insert(moved(slack("slack", 1), namespace));
    }
    bed.context.resources.insert(hall(json!({"sharedWith": ["payments", "shop"]})));
    let older = schedule("takeover", 5, &guest(&json!({"title": "Merger", "start": "2026-01-05T10:05:00"})));
    bed.context.schedules.insert(moved(older, "shop"));
    bed.context.schedules.insert(schedule("younger", 6, &guest(&json!({}))));
    let schedules = Schedules::new(Arc::clone(&bed.context), bed.cluster("test"));
    (bed, schedules)
}

async fn look(bed: &Bed, schedules: &Schedules) -> Value {
    for namespace in NAMESPACES {
        schedules.reconcile(namespace.to_owned()).await.unwrap();
    }
    bed.settle();
    written(&bed.asked(), "younger")
}

#[tokio::test]
async fn the_older_keeps_the_slot_in_whatever_namespace_it_is_and_is_not_named_to_the_other() {
    let (bed, schedules) = bed().await;
    for namespace in NAMESPACES {
        schedules.reconcile(namespace.to_owned()).await.unwrap();
    }
    let asked = bed.asked();
    let status = written(&asked, "younger");
    assert_eq!(ready(&status), "False/Conflicting");
    assert_eq!(
        status["conflicts"][0],
        json!({
            "start": "2026-11-20T10:00:00+09:00", "schedule": "a schedule of another namespace", "shared": ["rooms/hall"],
        })
    );
    let said = condition(&status, "Conflicting")["message"].to_string();
    assert!(said.contains("an older schedule of another namespace needs rooms/hall"), "{said}");
    assert_eq!(ready(&written(&asked, "takeover")), "True/Ready");
    // Everything that is written into the namespace, events and children too.
    for asked in asked.iter().filter(|asked| asked.path.contains("/namespaces/payments/")) {
        let text = asked.body.to_string();
        assert!(!text.contains("takeover") && !text.contains("Merger"), "{} {text}", asked.path);
    }
    let sent = bed.plans().await;
    assert_eq!(sent.iter().find(|plan| plan["name"] == "younger").unwrap()["suspended"], true);

    bed.context.schedules.remove("shop", "takeover");
    schedules.reconcile("shop".to_owned()).await.unwrap();
    assert_eq!(bed.context.conflicts.affected().await, ["payments"]);
    schedules.reconcile("payments".to_owned()).await.unwrap();
    assert_eq!(ready(&written(&bed.asked(), "younger")), "True/Ready");
}

#[tokio::test]
async fn a_resource_says_that_it_can_be_booked_and_when_it_is_taken_but_by_whom_only_of_its_own_namespace() {
    let (bed, schedules) = bed().await;
    // It holds the hall from nine in Seoul, which is now, to ten, with what it needs before and after.
    let own = json!({
        "resources": ["hall"], "participants": [], "start": "2026-01-05T09:00:00", "duration": "45m",
        "buffer": {"before": "10m", "after": "15m"},
    });
    bed.context.schedules.insert(moved(schedule("cleaning", 3, &own), "rooms"));
    look(&bed, &schedules).await;
    let resources = Resources::new(Arc::clone(&bed.context), bed.cluster("test"));
    let again = resources.reconcile("rooms".to_owned()).await.unwrap();
    assert!(again.is_some_and(|again| again <= std::time::Duration::from_mins(1)), "{again:?}");
    let asked = bed.asked();
    let status = written(&asked, "hall");
    assert_eq!(ready(&status), "True/Ready");
    assert_eq!(status["observedGeneration"], 1);
    assert_eq!(status["inUse"], 1);
    let held = |start: &str, end: &str| json!({"start": start, "end": end});
    let mut now = held("2026-11-19T23:50:00Z", "2026-11-20T01:00:00Z");
    now["schedule"] = json!("cleaning");
    assert_eq!(status["now"], json!([now]));
    assert_eq!(status["next"][0], held("2026-11-20T01:05:00Z", "2026-11-20T01:20:00Z"), "not by whom");
    assert_eq!(status["next"].as_array().unwrap().len(), 5);
    assert!(!asked.iter().any(|asked| asked.body.to_string().contains("takeover")), "{asked:#?}");
    bed.settle();
    resources.reconcile("rooms".to_owned()).await.unwrap();
    assert!(bed.asked().is_empty(), "nothing changed");

    let mut wrong = hall(json!({"capacity": 0}));
    wrong.0.as_mut().unwrap().metadata.generation = Some(2);
    bed.context.resources.insert(wrong);
    resources.reconcile("rooms".to_owned()).await.unwrap();
    let status = written(&bed.asked(), "hall");
    assert_eq!(ready(&status), "False/InvalidSpec");
    assert_eq!((&status["now"], &status["inUse"]), (&Value::Null, &Value::Null));
}

#[tokio::test]
async fn a_capacity_and_a_grant_count_as_soon_as_they_change() {
    let (bed, schedules) = bed().await;
    assert_eq!(ready(&look(&bed, &schedules).await), "False/Conflicting");
    let lend = |spec: Value| {
        bed.context.resources.insert(hall(spec));
    };
    lend(json!({"sharedWith": ["payments", "shop"], "capacity": 2}));
    assert_eq!(ready(&look(&bed, &schedules).await), "True/Ready");

    lend(json!({"sharedWith": ["shop"], "capacity": 2}));
    let withdrawn = look(&bed, &schedules).await;
    assert_eq!(ready(&withdrawn), "False/RefNotPermitted");
    assert_eq!(condition(&withdrawn, "Stalled")["reason"], "RefNotPermitted");
    assert!(withdrawn["nextReminderTime"].is_null());
    lend(json!({"sharedWith": ["*"], "capacity": 2}));
    assert_eq!(ready(&look(&bed, &schedules).await), "True/Ready");

    bed.context.resources.remove("rooms", "hall");
    let gone = look(&bed, &schedules).await;
    let message = |status: &Value| condition(status, "Ready")["message"].clone();
    assert_eq!((ready(&gone), message(&gone)), (ready(&withdrawn), message(&withdrawn)));
}

#[tokio::test]
async fn what_becomes_of_a_room_shows_while_the_hub_is_slow_and_the_hub_is_asked_once_at_a_time() {
    let (bed, schedules) = bed().await;
    look(&bed, &schedules).await;
    bed.hub_server.reset().await;
    let slow = ResponseTemplate::new(200).set_delay(Duration::from_mins(10));
    Mock::given(any()).respond_with(slow).mount(&bed.hub_server).await;
    bed.context.resources.insert(hall(json!({"sharedWith": ["payments", "shop"], "capacity": 2})));
    let shown = look(&bed, &schedules).await;
    assert_eq!(condition(&shown, "Conflicting")["status"], "False");
    assert_eq!(ready(&shown), "False/Progressing", "the hub has not said that it took the plan");

    bed.context.resources.remove("rooms", "hall");
    assert_eq!(ready(&look(&bed, &schedules).await), "False/RefNotPermitted");
    let sent = bed.plans().await;
    let younger: Vec<&Value> = sent.iter().filter(|plan| plan["name"] == "younger").collect();
    assert_eq!(younger.len(), 1, "the first call goes on: {younger:#?}");
    let again = schedules.reconcile("payments".to_owned()).await.unwrap();
    assert!(again.is_some_and(|again| again <= Duration::from_secs(1)), "{again:?}");
}

#[tokio::test]
async fn one_that_may_not_have_its_room_goes_on_reminding_unless_it_rejects_conflicts() {
    let (bed, schedules) = bed().await;
    bed.context.schedules.insert(schedule("warned", 7, &guest(&json!({"conflictPolicy": "Warn"}))));
    bed.context.resources.remove("rooms", "hall");
    schedules.reconcile("payments".to_owned()).await.unwrap();
    let status = written(&bed.asked(), "warned");
    assert_eq!(ready(&status), "False/RefNotPermitted");
    assert!(status["nextReminderTime"].is_string());
    let plans = bed.plans().await;
    let suspended = |name: &str| plans.iter().find(|plan| plan["name"] == name).unwrap()["suspended"].clone();
    assert_eq!((suspended("warned"), suspended("younger")), (json!(false), json!(true)));
}

#[tokio::test]
async fn what_may_not_be_booked_is_denied_in_the_same_words_whether_it_is_there_or_not() {
    let asking = Asking::new().await;
    let ask = || asking.create(&value(schedule("a", 3, &guest(&json!({"conflictPolicy": "Allow"})))));
    let absent = ask();
    assert!(!absent.allowed);
    assert_eq!(
        absent.message,
        "RefNotPermitted: sharedResources: rooms/hall can't be booked from namespace payments: there is no such \
         BookableResource, or its sharedWith does not list payments"
    );
    asking.0.context.resources.insert(hall(json!({"sharedWith": ["shop"]})));
    assert_eq!(ask().message, absent.message);
    asking.0.context.resources.insert(hall(json!({"sharedWith": ["payments"]})));
    assert!(ask().allowed);
}

#[tokio::test]
async fn a_resource_is_checked_and_who_loses_it_is_a_warning() {
    let asking = Asking::new().await;
    let before = hall(json!({"capacity": 2, "sharedWith": ["*"]}));
    asking.0.context.resources.insert(before.clone());
    for (number, namespace) in [(5, "shop"), (6, "payments")] {
        let booked = schedule("s", number, &guest(&json!({})));
        asking.0.context.schedules.insert(moved(booked, namespace));
    }
    let answer = |spec: Value| {
        let request = asked("UPDATE", &value(hall(spec)), &value(before.clone()));
        let answer = asking.1.review(&request);
        assert!(answer.allowed);
        answer.warnings.concat()
    };
    assert_eq!(answer(json!({"capacity": 3, "sharedWith": ["*"]})), "");
    assert!(
        answer(json!({"capacity": 1, "sharedWith": ["*"]})).contains("1 schedule that had a slot will clash")
    );
    assert!(
        answer(json!({"capacity": 2})).contains("2 schedules of namespaces that sharedWith does not list")
    );
    let none = asking.create(&value(hall(json!({"capacity": 0}))));
    assert!(!none.allowed && none.message.contains("capacity: 0 is not from 1 to 10000"));
}

#[tokio::test]
async fn a_replica_that_does_not_lead_forgets_what_is_gone() {
    let asking = Asking::new().await;
    let cache = &asking.0.context.schedules;
    let known = || asking.0.context.conflicts.known();
    cache.insert(schedule("one", 5, &json!({})));
    cache.insert(schedule("broken", 6, &json!({"timeZone": "Asia/Soul"})));
    assert!(!asking.create(&value(schedule("two", 7, &json!({})))).allowed);
    assert_eq!(known(), (2, 1));
    // Another of the same name, before the end of the first was told.
    cache.insert(schedule("one", 8, &json!({"resources": ["elsewhere"], "participants": []})));
    assert_eq!(known(), (2, 1));
    assert!(asking.create(&value(schedule("two", 7, &json!({})))).allowed);
    // One that became unreadable holds nothing any more.
    cache.insert(object("one", 8, json!({"title": 7})));
    assert_eq!(known().1, 0);
    cache.remove("payments", "one");
    cache.remove("payments", "broken");
    assert_eq!(known(), (0, 0));
}

/// Two replicas, each of which lets in what the other was not shown yet.
#[tokio::test]
async fn of_those_let_in_by_two_replicas_at_once_as_many_as_there_is_room_for_stay_and_the_others_heal() {
    let (one, other) = (Asking::new().await, Asking::new().await);
    let replicas = [&one, &other];
    for replica in replicas {
        replica.0.context.resources.insert(hall(json!({"capacity": 2, "sharedWith": ["*"]})));
    }
    // Created in one second: the lesser uid is the older.
    let bookings: Vec<_> = (1..=4_u128)
        .map(|number| {
            let mut booked = schedule(&format!("s{number}"), number, &guest(&json!({})));
            let meta = &mut booked.0.as_mut().unwrap().metadata;
            meta.creation_timestamp = schedule("any", 60, &json!({})).0.unwrap().metadata.creation_timestamp;
            moved(booked, if number % 2 == 0 { "shop" } else { "payments" })
        })
        .collect();
    for (at, booked) in bookings.iter().enumerate() {
        let replica = replicas[at % 2];
        assert!(replica.create(&value(booked.clone())).allowed, "{at}");
        replica.0.context.schedules.insert(booked.clone());
    }
    // Then each is shown all, in another order, and both find the same.
    for replica in replicas {
        bookings.iter().rev().for_each(|booked| drop(replica.0.context.schedules.insert(booked.clone())));
        let ready_of = async |names: &[&str]| {
            let schedules = Schedules::new(Arc::clone(&replica.0.context), replica.0.cluster("test"));
            for namespace in NAMESPACES {
                replica.0.context.channels.insert(moved(slack("slack", 1), namespace));
                schedules.reconcile(namespace.to_owned()).await.unwrap();
            }
            let asked = replica.0.asked();
            names.iter().map(|name| ready(&written(&asked, name))).collect::<Vec<_>>()
        };
        let names = ["s1", "s2", "s3", "s4"];
        let (yes, no) = ("True/Ready", "False/Conflicting");
        assert_eq!(ready_of(&names).await, [yes, yes, no, no]);
        replica.0.context.schedules.remove("shop", "s2");
        assert_eq!(ready_of(&["s1", "s3", "s4"]).await, [yes, yes, no]);
    }
}

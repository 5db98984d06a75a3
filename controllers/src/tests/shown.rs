//! Statuses of objects, as kstatus reads them; one bad object does not hide the others.

use std::sync::{Arc, Mutex};

use crate::guarded::Guarded;
use crds::AlertRule;
use crds::channel::NotificationChannelStatus;
use crds::rule::AlertRuleStatus;
use domain::DropReason;
use http::{Request, Response};
use kube::client::Body;
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt as _};
use protocol::messages::{
    ChannelStatus, DeliverySummary, LastNotification, ObjectStatus, RuleStatus, StatusBody, Uncountable,
    Undelivered,
};
use serde_json::json;

use super::support::{digest, now, rule};
use crate::cache::{Cache, follow};
use crate::conditions::{Standing, find, reasons, types};
use crate::hub::View;
use crate::status::{self, Facts, Stuck, Workers};
use crate::validate;

fn plan() -> domain::Plan {
    validate::rule(rule("r", 1, &json!({})).0.as_ref().unwrap()).unwrap()
}

fn active() -> RuleStatus {
    let activation = [("service-logs/0".to_owned(), 7)].into();
    RuleStatus { partitions: 1, activation, ..RuleStatus::default() }
}

fn view(plan: &domain::Plan) -> View {
    View {
        unreachable: None,
        silent: false,
        holds: true,
        refused: None,
        status: Some(ObjectStatus {
            uid: plan.uid,
            namespace: plan.namespace.clone(),
            name: plan.name.clone(),
            revision: plan.revision(),
            generation: 1,
            running: 1,
            problems: Vec::new(),
            body: StatusBody::AlertRule(active()),
        }),
    }
}

fn shown(plan: &domain::Plan, change: impl FnOnce(&mut Facts<'_>)) -> AlertRuleStatus {
    let mut facts = Facts {
        generation: 1,
        before: &[],
        plan: Ok(plan),
        hub: Some(view(plan)),
        apply_error: None,
        workers: vec![Workers { name: "belfry-consume-1".to_owned(), available: 1, trouble: None }],
        wants_running: true,
        missing_channels: Vec::new(),
        stuck_channels: Vec::new(),
        hub_url: "https://belfry-hub:8443",
        now: now(),
    };
    change(&mut facts);
    status::rule(&facts, &AlertRuleStatus::default())
}

/// As kstatus decides, once the generation is observed.
fn kstatus(status: &AlertRuleStatus) -> &'static str {
    let is = |type_| find(&status.conditions, type_).map(|condition| condition.status == "True");
    match (is(types::RECONCILING), is(types::STALLED), is(types::READY)) {
        (Some(true), ..) => "InProgress",
        (_, Some(true), _) => "Failed",
        (_, _, Some(false)) => "InProgress",
        _ => "Current",
    }
}

/// The reason expected, what kstatus makes of it, and what is broken.
type Break = (&'static str, &'static str, fn(&mut Facts<'_>));

#[test]
fn ready_is_true_only_when_every_part_does_its_job() {
    let plan = plan();
    let reason = |status: &AlertRuleStatus| find(&status.conditions, types::READY).unwrap().reason.clone();
    assert_eq!(reason(&shown(&plan, |_| ())), "Ready");
    assert_eq!(kstatus(&shown(&plan, |_| ())), "Current");
    let breaks: [Break; 8] = [
        ("HubUnreachable", "InProgress", |facts| {
            facts.hub.as_mut().unwrap().unreachable = Some("refused".to_owned());
        }),
        ("HubRefused", "Failed", |facts| facts.hub.as_mut().unwrap().refused = Some("no".to_owned())),
        ("Progressing", "InProgress", |facts| facts.hub.as_mut().unwrap().holds = false),
        ("WorkerUnavailable", "InProgress", |facts| facts.workers[0].available = 0),
        ("WorkerBehind", "InProgress", |facts| {
            facts.hub.as_mut().unwrap().status.as_mut().unwrap().revision = digest();
        }),
        ("WorkerBehind", "InProgress", |facts| {
            facts.hub.as_mut().unwrap().status.as_mut().unwrap().body =
                StatusBody::AlertRule(RuleStatus { partitions: 2, ..active() });
        }),
        ("ApplyFailed", "InProgress", |facts| {
            facts.apply_error = Some(Standing::UnderWay {
                reason: reasons::APPLY_FAILED.to_owned(),
                message: "forbidden".to_owned(),
            });
        }),
        ("ChannelNotFound", "InProgress", |facts| facts.missing_channels = vec!["x".to_owned()]),
    ];
    for (expected, read_as, change) in breaks {
        let status = shown(&plan, change);
        assert_eq!(reason(&status), expected);
        assert_eq!(kstatus(&status), read_as, "{expected}");
    }
}

#[test]
fn partitions_that_nobody_reads_are_named() {
    let plan = plan();
    let status = shown(&plan, |facts| {
        let told = RuleStatus { unowned: vec!["service-logs/3".to_owned()], ..active() };
        facts.hub.as_mut().unwrap().status.as_mut().unwrap().body = StatusBody::AlertRule(told);
    });
    let ready = find(&status.conditions, types::READY).unwrap();
    assert_eq!(ready.reason, "PartitionsUnowned");
    assert!(ready.message.contains("service-logs/3"), "{}", ready.message);
}

#[test]
fn records_without_room_are_told_with_the_bound_that_they_met() {
    let plan = plan();
    for (reason, bounds) in [
        (DropReason::GroupsFull, ["maxGroups", "hub.quotas.groups"]),
        (DropReason::StateFull, ["hub.quotas.stateBytes", "16 MiB"]),
    ] {
        let status = shown(&plan, |facts| {
            let unmatched = [(reason, 3)].into();
            let told = RuleStatus { unmatched, full: Some(reason), ..active() };
            facts.hub.as_mut().unwrap().status.as_mut().unwrap().body = StatusBody::AlertRule(told);
        });
        let ready = find(&status.conditions, types::READY).unwrap();
        assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("True", reason.name()));
        let message = &ready.message;
        assert!(bounds.iter().all(|bound| message.contains(bound)), "{message}");
        assert_eq!(status.unmatched.get(reason.name()), Some(&3));
    }
}

/// What the rule shows when the hub tells this of it.
fn told(told: RuleStatus) -> AlertRuleStatus {
    shown(&plan(), |facts| {
        facts.hub.as_mut().unwrap().status.as_mut().unwrap().body = StatusBody::AlertRule(told);
    })
}

#[test]
fn what_nobody_got_is_a_condition_that_names_the_channel_how_many_and_since_when() {
    let last = |outcome: &str| {
        let (id, time) = (uuid::Uuid::from_u128(5), now());
        Some(LastNotification { id, time, outcome: outcome.to_owned() })
    };
    let undelivered = vec![Undelivered {
        channel: "hook".to_owned(),
        count: 2,
        since: now(),
        state: domain::DeliveryState::Dead,
        reason: "410 Gone".to_owned(),
    }];
    let dead = DeliverySummary { last: last("Dead: 410 Gone"), undelivered };
    let status = told(RuleStatus { told: dead, ..active() });
    let condition = find(&status.conditions, types::DELIVERED).unwrap();
    assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("False", "Dead"));
    let said = "nobody got 2 messages by channel hook since 2026-11-20T00:00:00Z: Dead: 410 Gone";
    assert!(condition.message.starts_with(said), "{}", condition.message);
    assert!(condition.message.contains("belfry ask 00000000-0000-0000-0000-000000000005"));
    let shown = status.last_notification.unwrap();
    assert_eq!(
        (shown.id.as_str(), shown.outcome.as_str()),
        ("00000000-0000-0000-0000-000000000005", "Dead: 410 Gone")
    );
    assert_eq!((status.undelivered[0].channel.as_str(), status.undelivered[0].count), ("hook", 2));
    for (last, expected) in [
        (None, ("Unknown", "NothingSent")),
        (last("Delivered"), ("True", "Delivered")),
        (last("Pending: 503"), ("Unknown", "Pending")),
        (last("Suppressed: Deleted"), ("Unknown", "Suppressed")),
    ] {
        let status = told(RuleStatus { told: DeliverySummary { last, undelivered: vec![] }, ..active() });
        let condition = find(&status.conditions, types::DELIVERED).unwrap();
        assert_eq!((condition.status.as_str(), condition.reason.as_str()), expected);
    }
}

#[test]
fn a_rule_that_can_count_nothing_says_why_how_much_and_where() {
    let why = |reason, share, matched, detail: &str| Uncountable {
        reason,
        share,
        matched,
        partition: "service-logs/0".to_owned(),
        offset: 17,
        detail: detail.to_owned(),
    };
    let condition = |why: Option<Uncountable>| {
        let unmatched = [(DropReason::MatchWrongType, 3), (DropReason::Tombstone, 9)].into();
        let status = told(RuleStatus { uncountable: why, unmatched, ..active() });
        assert_eq!(status.unmatched_total, Some(3));
        let condition = find(&status.conditions, types::UNMATCHED).unwrap();
        (condition.status.clone(), condition.reason.clone(), condition.message.clone())
    };
    let (is, reason, message) =
        condition(Some(why(DropReason::MatchWrongType, 100, false, "`>=` does not take int and string")));
    assert_eq!((is.as_str(), reason.as_str()), ("True", "MatchWrongType"));
    let said = "100% of the records that came lately can't be decided by match: `>=` does not take int and string; such as \
                the one at service-logs/0 offset 17";
    assert!(message.starts_with(said), "{message}");
    let (_, reason, message) = condition(Some(why(DropReason::Undecodable, 90, false, "")));
    assert_eq!(reason, "Undecodable");
    assert!(
        message.starts_with("at least 90% of the records that came lately can't be decoded"),
        "{message}"
    );
    let (_, _, message) = condition(Some(why(DropReason::GroupMissing, 100, true, "")));
    assert!(message.contains("that matched lately have no single value at a path of groupBy"), "{message}");
    assert_eq!(condition(None).0, "False");
}

#[test]
fn a_rule_that_can_count_nothing_does_not_look_healthy_where_people_look_first() {
    let why = |reason: &str, detail: &str| Uncountable {
        reason: reason.to_owned().into(),
        share: 100,
        matched: false,
        partition: "service-logs/0".to_owned(),
        offset: 17,
        detail: detail.to_owned(),
    };
    let ready = |told_of: RuleStatus| {
        let status = told(told_of);
        let ready = find(&status.conditions, types::READY).unwrap().clone();
        (ready.status, ready.reason, ready.message, status.unmatched, status.unmatched_total)
    };
    let mismatch = Some(why("MatchWrongType", "`>` does not take text and int"));
    let unmatched = [(domain::DropReason::MatchWrongType, 5)].into();
    let (is, reason, message, ..) = ready(RuleStatus { uncountable: mismatch, unmatched, ..active() });
    assert_eq!((is.as_str(), reason.as_str()), ("True", "Unmatched"));
    let said = "records are read and matched; but 100% of the records that came lately can't be decided by match: `>` does \
                not take text and int; such as the one at service-logs/0 offset 17";
    assert!(message.starts_with(said), "{message}");
    let told_of = RuleStatus {
        uncountable: Some(why("Undecodable", "not JSON")),
        dead_lettered: 4,
        unmatched: [(domain::DropReason::Tombstone, 2)].into(),
        ..active()
    };
    let (_, reason, message, unmatched, total) = ready(told_of);
    assert_eq!(reason, "Unmatched");
    let said = "records are read and matched; but 100% of the records that came lately can't be decoded, and go to the \
                dead-letter topic service-logs.DLT: not JSON";
    assert!(message.starts_with(said), "{message}");
    let counted = [("Tombstone".to_owned(), 2), ("Undecodable".to_owned(), 4)];
    assert_eq!(unmatched, std::collections::BTreeMap::from(counted));
    assert_eq!(total, Some(4), "what the column shows");
}

#[test]
fn where_undecodable_records_are_is_said_by_the_topic_that_the_rule_names() {
    let mut plan = plan();
    let dead = RuleStatus { dead_lettered: 1, ..active() };
    let messages = |plan: &domain::Plan| {
        let status = shown(plan, |facts| {
            facts.hub.as_mut().unwrap().status.as_mut().unwrap().body = StatusBody::AlertRule(dead.clone());
        });
        let message = |type_| find(&status.conditions, type_).unwrap().message.clone();
        (message(types::READY), message(types::UNMATCHED))
    };
    let (ready, counted) = messages(&plan);
    let said = "records are read and matched; those that can't be decoded go to the dead-letter topic ";
    assert_eq!(ready, format!("{said}service-logs.DLT"));
    assert!(counted.starts_with("fewer than three, or less than half, of the records"), "{counted}");
    let domain::PlanBody::AlertRule(rule) = &mut plan.body else { panic!("a rule") };
    rule.dead_letter_topic = Some("my-graves".to_owned());
    assert_eq!(messages(&plan).0, format!("{said}my-graves"));
    let none = told(active());
    let counted = &find(&none.conditions, types::UNMATCHED).unwrap().message;
    assert_eq!(counted, "no record has come that can't be looked into or counted");
}

#[test]
fn a_channel_that_can_not_send_shows_at_who_names_it() {
    let stuck = |reason: &str, stalled| {
        let (name, message) = ("slack".to_owned(), "somebody else's".to_owned());
        Stuck { name, reason: reason.to_owned(), message, stalled }
    };
    let ready = |stuck: Stuck| {
        let status = shown(&plan(), |facts| facts.stuck_channels = vec![stuck]);
        let ready = find(&status.conditions, types::READY).unwrap().clone();
        assert_eq!(ready.reason, "ChannelNotReady");
        assert!(ready.message.contains("NotificationChannel slack can't send now"), "{}", ready.message);
        ready.status
    };
    assert_eq!(ready(stuck("NameTaken", true)), "False");
    assert_eq!(ready(stuck("Suspended", false)), "True");
}

#[test]
fn a_worker_that_is_not_there_yet_is_told_with_the_hub_that_it_needs() {
    let status = shown(&plan(), |facts| {
        facts.workers[0].available = 0;
        facts.hub.as_mut().unwrap().silent = true;
    });
    let message = &find(&status.conditions, types::READY).unwrap().message;
    let said = "once it has reached the hub at https://belfry-hub:8443, which does not answer the operator now either";
    assert!(message.contains(said), "{message}");
}

#[test]
fn a_rule_that_is_not_active_for_want_of_room_says_so() {
    let plan = plan();
    let status = shown(&plan, |facts| {
        let unmatched = [(DropReason::ActivationsFull, 3)].into();
        let told = RuleStatus { unmatched, partitions: 2, ..active() };
        facts.hub.as_mut().unwrap().status.as_mut().unwrap().body = StatusBody::AlertRule(told);
    });
    let ready = find(&status.conditions, types::READY).unwrap();
    assert_eq!((ready.reason.as_str(), ready.status.as_str()), ("WorkerBehind", "False"));
    assert!(ready.message.contains("100000"), "{}", ready.message);
}

#[test]
fn a_channel_says_that_history_went_before_its_time() {
    let plan = plan();
    let mut view = view(&plan);
    for (dropped, told) in [(0, false), (7, true)] {
        let channel = ChannelStatus { history_dropped: dropped, ..ChannelStatus::default() };
        view.status.as_mut().unwrap().body = StatusBody::NotificationChannel(channel);
        let facts = Facts {
            generation: 1,
            before: &[],
            plan: Ok(&plan),
            hub: Some(view.clone()),
            apply_error: None,
            workers: Vec::new(),
            wants_running: false,
            missing_channels: Vec::new(),
            stuck_channels: Vec::new(),
            hub_url: "https://belfry-hub:8443",
            now: now(),
        };
        let status = status::channel(&facts, &NotificationChannelStatus::default());
        let message = &find(&status.conditions, types::READY).unwrap().message;
        let says = "(hub.quotas.finishedBytes), so the history of 7 went before its time (HistoryDropped)";
        assert_eq!(message.contains(says), told, "{message}");
    }
}

#[test]
fn what_the_hub_told_stays_shown_while_it_is_away() {
    let plan = plan();
    let before = AlertRuleStatus { matched: Some(7), ..AlertRuleStatus::default() };
    let facts = Facts {
        generation: 1,
        before: &[],
        plan: Ok(&plan),
        hub: Some(View {
            unreachable: Some("refused".to_owned()),
            silent: true,
            holds: false,
            refused: None,
            status: None,
        }),
        apply_error: None,
        workers: Vec::new(),
        wants_running: true,
        missing_channels: Vec::new(),
        stuck_channels: Vec::new(),
        hub_url: "https://belfry-hub:8443",
        now: now(),
    };
    assert_eq!(status::rule(&facts, &before).matched, Some(7));
}

#[tokio::test]
async fn two_hundred_objects_with_the_largest_annotations_take_little_memory_once_they_are_cached() {
    let one = serde_json::to_value(rule("r", 1, &json!({})).0.unwrap()).unwrap();
    let service = tower::service_fn(move |request: Request<Body>| {
        let query = request.uri().query().unwrap_or_default().to_owned();
        let from: usize = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("continue="))
            .map_or(0, |from| from.parse().unwrap());
        let items: Vec<_> = (from..from + 20)
            .map(|number| {
                let mut object = one.clone();
                object["metadata"]["name"] = json!(format!("r{number}"));
                let config = "x".repeat(255 << 10);
                object["metadata"]["annotations"] =
                    json!({"kubectl.kubernetes.io/last-applied-configuration": config});
                object
            })
            .collect();
        let next = if from + 20 < 200 { (from + 20).to_string() } else { String::new() };
        let list = json!({
            "apiVersion": "belfry.dev/v1alpha1", "kind": "AlertRuleList",
            "metadata": {"resourceVersion": "1", "continue": next}, "items": items,
        });
        let body = if query.contains("watch=true") { Vec::new() } else { serde_json::to_vec(&list).unwrap() };
        let paged = query.contains("watch=true") || query.contains("limit=20");
        async move {
            assert!(paged, "{query}");
            Ok::<_, std::convert::Infallible>(Response::new(Body::from(body)))
        }
    });
    let api = Api::<Guarded<AlertRule>>::all(Client::new(service, "default"));
    let cache = Cache::new(1);
    let config = watcher::Config::default();
    let following = tokio::spawn(follow(api, config, None, Arc::clone(&cache), |_| (), |_| ()));
    cache.synced().await;
    following.abort();
    let held = cache.in_namespace("payments");
    assert_eq!(held.len(), 200);
    let bytes: usize =
        held.iter().map(|held| serde_json::to_vec(held.0.as_ref().unwrap()).unwrap().len()).sum();
    assert!(bytes < 200 * 2_000, "{bytes} bytes");
}

#[tokio::test]
async fn an_object_for_which_there_was_no_room_is_read_and_told_of_once_there_is() {
    let large = |name: &str, bytes: usize| {
        let mut object = serde_json::to_value(rule(name, 1, &json!({})).0.unwrap()).unwrap();
        object["spec"]["title"] = json!("t".repeat(bytes));
        object
    };
    let (big, small) = (large("big", 6 << 20), large("small", 3 << 20));
    let list = json!({
        "apiVersion": "belfry.dev/v1alpha1", "kind": "AlertRuleList",
        "metadata": {"resourceVersion": "1"}, "items": [big, small],
    });
    let service = tower::service_fn(move |request: Request<Body>| {
        let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
        let body = if path.ends_with("/namespaces/payments/alertrules/small") {
            serde_json::to_vec(&small).unwrap()
        } else if query.contains("watch=true") {
            Vec::new()
        } else {
            serde_json::to_vec(&list).unwrap()
        };
        async move { Ok::<_, std::convert::Infallible>(Response::new(Body::from(body))) }
    });
    let api = Api::<Guarded<AlertRule>>::all(Client::new(service, "default"));
    let cache = Cache::new(1);
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let changed = move |change: &crate::cache::ObjectChange<Guarded<AlertRule>>| {
        let is_new = change.before.is_none();
        let _ = told.send((is_new, change.after.clone().unwrap()));
    };
    let following =
        tokio::spawn(follow(api, watcher::Config::default(), None, Arc::clone(&cache), |_| (), changed));
    cache.synced().await;
    let whole = || cache.get("payments", "small").unwrap().0.is_ok();
    assert!(!whole());
    cache.remove("payments", "big");
    let waited = async {
        loop {
            let (is_new, object) = heard.recv().await.unwrap();
            if object.name_any() == "small" && object.0.is_ok() {
                return is_new;
            }
        }
    };
    let is_new = tokio::time::timeout(std::time::Duration::from_mins(1), waited).await.expect("it is read");
    assert!(is_new && whole(), "it is told as one that is new");
    following.abort();
}

#[tokio::test]
async fn an_object_that_can_not_be_read_is_kept_beside_those_that_can() {
    let good = serde_json::to_value(rule("good", 1, &json!({})).0.unwrap()).unwrap();
    let mut bad = good.clone();
    bad["metadata"]["name"] = json!("bad");
    bad["spec"] = json!({"source": 7});
    let list = json!({
        "apiVersion": "belfry.dev/v1alpha1", "kind": "AlertRuleList",
        "metadata": {"resourceVersion": "1"}, "items": [bad, good],
    });
    let service = tower::service_fn(move |request: Request<Body>| {
        let watch = request.uri().query().unwrap_or_default().contains("watch=true");
        let body = if watch { Vec::new() } else { serde_json::to_vec(&list).unwrap() };
        async move { Ok::<_, std::convert::Infallible>(Response::new(Body::from(body))) }
    });
    let api = Api::<Guarded<AlertRule>>::all(Client::new(service, "default"));
    let cache = Cache::new(1);
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let record = Arc::clone(&heard);
    let following = tokio::spawn(follow(
        api,
        watcher::Config::default(),
        None,
        Arc::clone(&cache),
        |_| (),
        move |change| {
            record.lock().unwrap().push(change.after.as_ref().unwrap().name_any());
        },
    ));
    cache.synced().await;
    following.abort();
    assert_eq!(*heard.lock().unwrap(), ["bad", "good"]);
    assert!(cache.get("payments", "bad").unwrap().0.is_err());
    assert!(cache.get("payments", "good").unwrap().0.is_ok());
}

//! Clauses of docs/semantics.md: D2, D6, D7, D8, D9, D13.

use domain::{DeliveryState, Millis, OnUnknown, Outcome, RateLimit};
use protocol::messages::{ClaimRequest, Pool};
use uuid::Uuid;

use crate::bed::*;

fn offsets(tasks: &[protocol::messages::Task]) -> Vec<i64> {
    let offset = |task: &protocol::messages::Task| match &task.notification.cause {
        domain::Cause::Record { record, .. } => record.offset,
        other => panic!("{other:?}"),
    };
    tasks.iter().map(offset).collect()
}

async fn records(bed: &Bed, services: &[&str]) {
    let records = services.iter().enumerate().map(|(at, service)| matched(at as i64, service)).collect();
    let to = services.len() as i64;
    bed.commit(vec![protocol::messages::Entry { records, ..entry(0, 0, to) }], 0).await;
}

async fn ready(change: impl FnOnce(&mut domain::ChannelPlan)) -> Bed {
    let bed = Bed::new().await;
    bed.put(vec![channel(HOOK, "hook", change), any()]).await;
    bed.open(1).await;
    bed
}

#[tokio::test]
async fn one_key_arrives_in_order_retries_included_and_other_keys_do_not_wait() {
    let bed = ready(|_| {}).await;
    records(&bed, &["pay", "pay", "mail", "pay"]).await;
    let first = bed.claim(Pool::Send, 1).await;
    assert_eq!(offsets(&first), [0, 2]);
    assert!(bed.claim(Pool::Send, 1).await.is_empty(), "what is handed out is not handed out again");
    bed.told(&first[..1], &later(), 1).await;
    bed.told(&first[1..], &Outcome::Delivered, 1).await;
    assert!(bed.claim(Pool::Send, 2).await.is_empty(), "the second waits for the first's retry");
    assert!(bed.claim(Pool::Retry, 10).await.is_empty(), "the retry is not due");
    assert_eq!(bed.next_claim(Pool::Retry).await, Some(at(11)));
    assert_eq!(bed.next_claim(Pool::Send).await, None);
    let retried = bed.claim(Pool::Retry, 11).await;
    assert_eq!((offsets(&retried), retried[0].attempt), (vec![0], 2));
    assert_eq!(retried[0].delivery, first[0].delivery);
    bed.told(&retried, &Outcome::Delivered, 12).await;
    let second = bed.claim(Pool::Send, 12).await;
    assert_eq!(offsets(&second), [1]);
    bed.told(&second, &Outcome::Refused { reason: "410".into() }, 12).await;
    assert_eq!(offsets(&bed.claim(Pool::Send, 12).await), [3], "a dead one lets the key move on");
}

#[tokio::test]
async fn the_outcome_of_an_attempt_is_recorded_once() {
    let bed = ready(|_| {}).await;
    records(&bed, &["pay"]).await;
    let tasks = bed.claim(Pool::Send, 1).await;
    for _ in 0..3 {
        bed.told(&tasks, &later(), 2).await;
    }
    bed.told(&tasks, &Outcome::Delivered, 3).await;
    let delivery = bed.stories().await.remove(0).deliveries.remove(0);
    assert_eq!((delivery.state, delivery.attempts.len()), (DeliveryState::Pending, 1));
    assert_eq!(delivery.attempts[0].outcome.as_deref(), Some("Later"));
    assert_eq!(delivery.next_attempt, Some(at(12)));
    let both = [tasks.clone(), tasks].concat();
    let retry = bed.claim(Pool::Retry, 12).await;
    bed.told(&both, &Outcome::Delivered, 12).await;
    bed.told(&[retry.clone(), retry].concat(), &Outcome::Delivered, 13).await;
    let counts = bed.ledger.totals().await.unwrap();
    assert_eq!(
        (counts.deliveries[&("Webhook", "delivered")], counts.deliveries[&("Webhook", "retrying")]),
        (1, 0)
    );
}

#[tokio::test]
async fn an_outcome_told_by_another_namespace_changes_nothing() {
    let bed = ready(|_| {}).await;
    records(&bed, &["pay"]).await;
    let task = bed.claim(Pool::Send, 1).await.remove(0);
    let outcome = protocol::messages::AttemptOutcome {
        delivery: task.delivery,
        attempt: task.attempt,
        outcome: Outcome::Delivered,
    };
    bed.ledger.record_outcomes("other", vec![(outcome, 0.5)], at(2)).await.unwrap();
    assert_eq!(bed.stories().await[0].deliveries[0].state, DeliveryState::Pending);
}

#[tokio::test]
async fn a_worker_that_dies_leaves_an_unknown_attempt_that_is_tried_again() {
    let bed = ready(|_| {}).await;
    records(&bed, &["pay"]).await;
    let first = bed.claim(Pool::Send, 0).await;
    assert_eq!(first[0].lease, Millis::from_secs(25), "timeout and 15 s more");
    assert_eq!(bed.ledger.expire_leases(at(24), 1.0).await.unwrap(), 0);
    assert_eq!(bed.ledger.expire_leases(at(25), 1.0).await.unwrap(), 1);
    let delivery = bed.stories().await.remove(0).deliveries.remove(0);
    assert_eq!(delivery.attempts[0].outcome.as_deref(), Some("Unknown"));
    assert!(delivery.attempts[0].reason.contains("lease ran out"));
    let second = bed.claim(Pool::Retry, 60).await;
    assert_eq!((second[0].delivery, second[0].attempt), (first[0].delivery, 2));
    bed.told(&first, &later(), 61).await;
    let delivery = bed.stories().await.remove(0).deliveries.remove(0);
    assert_eq!(delivery.attempts[0].outcome.as_deref(), Some("Later"), "recorded in its row");
    assert_eq!(delivery.reason, "under way", "and nowhere else");
    bed.told(&first, &Outcome::Delivered, 62).await;
    assert_eq!(bed.stories().await[0].deliveries[0].state, DeliveryState::Pending, "it was told already");
    bed.told(&second, &Outcome::Delivered, 63).await;
    assert_eq!(bed.stories().await[0].deliveries[0].state, DeliveryState::Delivered);
}

#[tokio::test]
async fn what_ends_undelivered_says_that_it_may_have_arrived_where_an_attempt_ended_unknown() {
    let bed = ready(|channel| channel.delivery.expires_after = Millis::from_secs(100)).await;
    records(&bed, &["lost", "clear", "refused", "deleted"]).await;
    let first = bed.claim(Pool::Send, 0).await;
    bed.told(&first[1..2], &later(), 1).await;
    bed.ledger.expire_leases(at(25), 1.0).await.unwrap();
    let retried = bed.claim(Pool::Retry, 40).await;
    let of = |service: &str| {
        retried.iter().find(|task| task.notification.group["service"] == service).unwrap().clone()
    };
    bed.told(&[of("lost"), of("clear")], &later(), 95).await;
    bed.told(&[of("refused")], &Outcome::Refused { reason: "410".into() }, 41).await;
    bed.ledger.put_live(vec![RULE], at(50)).await.unwrap();
    bed.ledger.expire_deliveries(at(100)).await.unwrap();
    bed.collect(50 + 121).await;
    let ends: Vec<_> = bed.stories().await.into_iter().map(|mut story| story.deliveries.remove(0)).collect();
    let said: Vec<_> = ends.iter().map(|end| (end.state, end.reason.as_str())).collect();
    assert_eq!(
        said,
        [
            (
                DeliveryState::Expired,
                "expired before the next attempt: 503; it may have arrived: attempt 1 ended unknown"
            ),
            (DeliveryState::Expired, "expired before the next attempt: 503"),
            (DeliveryState::Dead, "410; it may have arrived: attempt 1 ended unknown"),
            (
                DeliveryState::Suppressed,
                "its channel was deleted, so it is not sent any more (Deleted); it may have arrived: attempt 2 was under way"
            ),
        ]
    );
}

#[tokio::test]
async fn a_late_delivered_outcome_counts() {
    let bed = ready(|channel| channel.delivery.on_unknown = OnUnknown::Hold).await;
    records(&bed, &["pay", "pay"]).await;
    let first = bed.claim(Pool::Send, 0).await;
    bed.ledger.expire_leases(at(25), 1.0).await.unwrap();
    let held = bed.stories().await.remove(0).deliveries.remove(0);
    assert_eq!(held.state, DeliveryState::Dead);
    assert!(held.reason.contains("held"), "{}", held.reason);
    assert_eq!(offsets(&bed.claim(Pool::Send, 26).await), [1], "the key moves on");
    bed.told(&first, &Outcome::Delivered, 30).await;
    assert_eq!(bed.stories().await[0].deliveries[0].state, DeliveryState::Delivered);
    let counts = bed.ledger.totals().await.unwrap();
    assert_eq!(
        (counts.deliveries[&("Webhook", "delivered")], counts.deliveries[&("Webhook", "dead")]),
        (1, 0)
    );
}

#[tokio::test]
async fn the_last_attempt_that_fails_ends_it_dead_with_every_attempt_told() {
    let bed = ready(|_| {}).await;
    records(&bed, &["pay"]).await;
    let tasks = bed.claim(Pool::Send, 0).await;
    bed.told(&tasks, &later(), 1).await;
    for now in [100, 200] {
        let tasks = bed.claim(Pool::Retry, now).await;
        bed.told(&tasks, &later(), now).await;
    }
    let delivery = bed.stories().await.remove(0).deliveries.remove(0);
    assert_eq!(
        (delivery.state, delivery.reason.as_str()),
        (DeliveryState::Dead, "gave up after 3 attempts: 503")
    );
    assert_eq!(delivery.attempts.iter().map(|attempt| attempt.number).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(bed.claim(Pool::Retry, 5_000).await.is_empty());
}

#[tokio::test]
async fn the_channels_budget_holds_over_both_pools_and_waiting_for_it_is_no_attempt() {
    let bed = ready(|channel| {
        channel.delivery.rate_limit = Some(RateLimit { per_minute: 60, burst: 2 });
    })
    .await;
    records(&bed, &["a", "b", "c", "d", "e"]).await;
    let first = bed.claim(Pool::Send, 0).await;
    assert_eq!(offsets(&first), [0, 1]);
    assert!(bed.claim(Pool::Send, 0).await.is_empty());
    assert_eq!(bed.next_claim(Pool::Send).await, Some(at(1)));
    bed.told(&first, &later(), 0).await;
    assert_eq!(offsets(&bed.claim(Pool::Send, 1).await), [2]);
    assert_eq!(offsets(&bed.claim_up_to(Pool::Retry, 30, 1).await), [0]);
    assert_eq!(offsets(&bed.claim(Pool::Send, 30).await), [3], "the burst is two, for both pools");
    assert!(bed.claim(Pool::Retry, 30).await.is_empty());
    assert_eq!(offsets(&bed.claim(Pool::Retry, 31).await), [1]);
}

#[tokio::test]
async fn too_many_requests_pauses_the_channel_and_503_only_the_delivery() {
    let bed = ready(|_| {}).await;
    records(&bed, &["a", "b"]).await;
    let one = bed.claim_up_to(Pool::Send, 0, 1).await;
    bed.told(&one, &later(), 0).await;
    let two = bed.claim(Pool::Send, 0).await;
    assert_eq!(offsets(&two), [1]);
    let wait = Some(Millis::from_secs(30));
    let outcome = Outcome::Later { reason: "429".into(), wait, channel_wide: true };
    bed.told(&two, &outcome, 0).await;
    assert!(bed.claim(Pool::Retry, 29).await.is_empty(), "the other one was due at 10");
    assert_eq!(bed.next_claim(Pool::Retry).await, Some(at(30)));
    assert_eq!(bed.claim(Pool::Retry, 30).await.len(), 2);
}

#[tokio::test]
async fn each_mailbox_is_a_delivery_of_its_own_with_its_own_order() {
    let mail = channel(HOOK, "hook", |channel| {
        let mail = domain::EmailPlan {
            host: "smtp".into(),
            port: 25,
            tls: domain::SmtpTls::None,
            username: Some(secret("user")),
            password: None,
            from: "a@b".into(),
            to: vec!["one@b".into(), "two@b".into(), "one@b".into()],
        };
        channel.target = mail.into();
    });
    let bed = Bed::new().await;
    bed.put(vec![mail, any()]).await;
    bed.open(1).await;
    records(&bed, &["pay", "pay"]).await;
    let tasks = bed.claim(Pool::Send, 0).await;
    assert_eq!(tasks.iter().map(|task| task.recipient.as_str()).collect::<Vec<_>>(), ["one@b", "two@b"]);
    bed.told(&tasks[..1], &Outcome::Refused { reason: "no such mailbox".into() }, 1).await;
    let next = bed.claim(Pool::Send, 1).await;
    assert_eq!((next.len(), next[0].recipient.as_str()), (1, "one@b"));
}

#[tokio::test]
async fn what_could_not_be_sent_is_no_attempt_and_is_kept_from_whoever_can_not_send_it() {
    let bed = ready(|_| {}).await;
    records(&bed, &["pay"]).await;
    let not_sent = Outcome::NotSent { reason: "SecretKeyNotFound: no key".into() };
    let mut now = 0;
    for attempt in 1..=20 {
        let claimed = bed.claim(Pool::Send, now).await;
        assert_eq!((claimed.len(), claimed[0].attempt), (1, attempt), "it stays among the first attempts");
        bed.told(&claimed, &not_sent, now).await;
        assert_eq!(bed.next_claim(Pool::Send).await, Some(at(now + 5)));
        now += 5;
    }
    let story = bed.stories().await.remove(0);
    assert_eq!(story.deliveries[0].state, DeliveryState::Pending);
    let kept: Vec<_> =
        story.deliveries[0].attempts.iter().map(|it| (it.number, it.outcome.as_deref())).collect();
    assert_eq!(kept, [(20, Some("NotSent"))], "the last one says why");
    let lacking = ClaimRequest { without: [HOOK].into(), ..ClaimRequest::new(Pool::Send, "send-1", 10) };
    assert!(bed.ledger.claim(NS, lacking.clone(), at(now)).await.unwrap().tasks.is_empty());
    assert_eq!(bed.ledger.next_claim_at(NS, &lacking).await.unwrap(), None);
    let sent = bed.claim(Pool::Send, now).await;
    bed.told(&sent, &Outcome::Delivered, now).await;
    assert_eq!(bed.stories().await.remove(0).deliveries[0].state, DeliveryState::Delivered);
}

#[tokio::test]
async fn what_waits_for_a_channel_that_was_deleted_says_so_and_names_no_time_of_an_attempt() {
    let bed = ready(|_| {}).await;
    records(&bed, &["pay"]).await;
    bed.ledger.put_live(vec![RULE], at(10)).await.unwrap();
    let delivery = bed.stories().await.remove(0).deliveries.remove(0);
    assert_eq!((delivery.state, delivery.next_attempt), (DeliveryState::Pending, None));
    assert!(delivery.reason.starts_with("its channel was deleted: it is not sent"), "{}", delivery.reason);
    bed.collect(10 + 121).await;
    let delivery = bed.stories().await.remove(0).deliveries.remove(0);
    let why = "its channel was deleted, so it is not sent any more (Deleted)";
    assert_eq!((delivery.state, delivery.reason.as_str()), (DeliveryState::Suppressed, why));
}

#[tokio::test]
async fn a_suspended_channel_holds_its_deliveries_until_they_expire() {
    let bed = ready(|_| {}).await;
    records(&bed, &["pay"]).await;
    let mut plan = hook();
    (plan.suspended, plan.generation) = (true, 2);
    bed.put(vec![plan.clone()]).await;
    assert!(bed.claim(Pool::Send, 1).await.is_empty());
    assert_eq!(bed.next_claim(Pool::Send).await, None);
    let story = bed.stories().await.remove(0);
    assert_eq!(story.deliveries[0].reason, "its channel is suspended");
    assert_eq!(story.deliveries[0].next_attempt, None, "there is no time at which it is sent");
    (plan.suspended, plan.generation) = (false, 3);
    bed.put(vec![plan.clone()]).await;
    let tasks = bed.claim(Pool::Send, 2).await;
    bed.told(&tasks, &later(), 2).await;
    (plan.suspended, plan.generation) = (true, 4);
    bed.put(vec![plan]).await;
    assert_eq!(bed.ledger.expire_deliveries(at(86_399)).await.unwrap(), 0);
    assert_eq!(bed.ledger.expire_deliveries(at(86_400)).await.unwrap(), 1);
    let delivery = bed.stories().await.remove(0).deliveries.remove(0);
    assert_eq!(delivery.state, DeliveryState::Expired);
    assert!(delivery.reason.contains("suspended"), "{}", delivery.reason);
}

#[tokio::test]
async fn a_due_delivery_wakes_those_who_wait_for_work() {
    let bed = ready(|_| {}).await;
    let mut work = bed.ledger.watch(&ledger::Signal::Work(NS.into(), Pool::Send));
    assert!(!work.has_changed().unwrap());
    records(&bed, &["pay"]).await;
    work.changed().await.unwrap();
    assert_eq!(bed.claim(Pool::Send, 1).await.len(), 1);
}

#[tokio::test]
async fn work_is_handed_out_once_to_many_who_ask_at_once() {
    let bed = ready(|_| {}).await;
    let services: Vec<String> = (0..200).map(|n| format!("s{n}")).collect();
    records(&bed, &services.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let asks = (0..20).map(|_| {
        let ledger = bed.ledger.clone();
        tokio::spawn(async move {
            let request = ClaimRequest::new(Pool::Send, "i", 15);
            ledger.claim(NS, request, at(1)).await.unwrap().tasks
        })
    });
    let mut seen: Vec<Uuid> = Vec::new();
    for ask in asks.collect::<Vec<_>>() {
        seen.extend(ask.await.unwrap().into_iter().map(|task| task.delivery));
    }
    let all = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!((all, seen.len()), (200, 200));
}

use domain::{CatchUpPolicy as Policy, Millis, RecurrenceSpec, ReminderPlan, ReminderTime};
use wiremock::matchers::{method, path_regex};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::*;
use crate::config::Config;

fn plan(start: &str, rrule: &str, policy: Policy) -> Plan {
    Plan {
        namespace: "payments".to_owned(),
        name: "standup".to_owned(),
        uid: Uuid::nil(),
        generation: 1,
        created: "2026-01-01T00:00:00Z".parse().unwrap(),
        suspended: false,
        body: PlanBody::Schedule(SchedulePlan {
            title: "Payments stand-up".to_owned(),
            about: domain::ScheduleDetails::default(),
            summary: None,
            recurrence: RecurrenceSpec {
                start: start.to_owned(),
                time_zone: "Asia/Seoul".to_owned(),
                duration: Some(SignedDuration::from_mins(if start.contains('T') { 15 } else { 1440 })),
                rule: Some(rrule.to_owned()).filter(|rule| !rule.is_empty()),
                ..RecurrenceSpec::default()
            },
            reminders: vec![
                ReminderPlan {
                    time: ReminderTime::Before { before_minutes: 10 },
                    notify: vec!["slack".to_owned()],
                },
                ReminderPlan {
                    time: ReminderTime::Before { before_minutes: 0 },
                    notify: vec!["slack".to_owned()],
                },
            ],
            time_zones: std::collections::BTreeMap::new(),
            delay_minutes: 0,
            catch_up: domain::CatchUp { policy, window: Millis::from_secs(3600) },
        }),
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn summaries(plan: Plan, through: &str, now: &str) -> (Vec<String>, i64) {
    let state = ReminderState { plan, through: at(through) };
    let (reminders, whole) = find_due_reminders(&state, at(now), &mut WINDOW.clone()).unwrap();
    assert!(whole);
    assert_eq!(reminders.through, at(now));
    assert_eq!(reminders.revision, state.plan.revision());
    (reminders.reminders.into_iter().map(|reminder| reminder.summary).collect(), reminders.skipped)
}

#[test]
fn the_title_alone_says_that_it_is_a_reminder_of_what_and_when() {
    let title = |start: &str| {
        let plan = plan(start, "FREQ=DAILY", Policy::All);
        let state = ReminderState { plan, through: at("2026-11-23T00:00:00Z") };
        let (reminders, _) =
            find_due_reminders(&state, at("2026-11-23T01:00:00Z"), &mut WINDOW.clone()).unwrap();
        reminders.reminders.first().map(|reminder| reminder.title.clone())
    };
    let said = "Reminder: Payments stand-up, 2026-11-23 10:00 (Asia/Seoul)";
    assert_eq!(title("2026-11-23T10:00:00").as_deref(), Some(said));
}

#[test]
fn a_reminder_in_time_says_when_it_starts_in_the_schedules_zone() {
    let standup = || plan("2026-11-23T10:00:00", "FREQ=DAILY", Policy::All);
    assert_eq!(
        summaries(standup(), "2026-11-23T00:49:03Z", "2026-11-23T00:50:04Z"),
        (vec!["Starts at 2026-11-23 10:00 (Asia/Seoul), in 10 minutes.".to_owned()], 0)
    );
    assert_eq!(
        summaries(standup(), "2026-11-23T00:50:04Z", "2026-11-23T01:00:02Z").0,
        ["Starts now, at 2026-11-23 10:00 (Asia/Seoul)."]
    );
    assert_eq!(summaries(standup(), "2026-11-23T00:50:04Z", "2026-11-23T00:59:59Z"), (Vec::new(), 0));
}

#[test]
fn an_occurrence_that_the_clocks_shift_says_so_and_is_counted() {
    let mut nightly = plan("2026-03-01T02:30:00", "FREQ=DAILY", Policy::All);
    let PlanBody::Schedule(schedule) = &mut nightly.body else { panic!("a schedule") };
    schedule.recurrence.time_zone = "Europe/Berlin".to_owned();
    let state = ReminderState { plan: nightly, through: at("2026-03-29T00:00:00Z") };
    let (reminders, _) = find_due_reminders(&state, at("2026-03-29T01:20:05Z"), &mut WINDOW.clone()).unwrap();
    assert_eq!(
        reminders.reminders[0].summary,
        "Starts at 2026-03-29 03:30 (Europe/Berlin), in 10 minutes. 02:30 does not exist on that day: clocks go forward."
    );
    assert_eq!(reminders.clock, ClockCounts { shifted: 1, ..ClockCounts::default() });
    let state = ReminderState { through: reminders.through, ..state };
    let (reminders, _) = find_due_reminders(&state, at("2026-03-29T01:30:05Z"), &mut WINDOW.clone()).unwrap();
    assert_eq!(reminders.clock, ClockCounts::default(), "once");
}

#[test]
fn a_late_reminder_says_that_it_is_late_and_what_became_of_the_event() {
    let standup = || plan("2026-11-23T10:00:00", "FREQ=DAILY", Policy::All);
    assert_eq!(
        summaries(standup(), "2026-11-23T00:49:00Z", "2026-11-23T01:05:00Z").0,
        [
            "Started at 2026-11-23 10:00 (Asia/Seoul), 5 minutes ago. This reminder is late: it was due at 2026-11-23 09:50.",
            "Started at 2026-11-23 10:00 (Asia/Seoul), 5 minutes ago. This reminder is late: it was due at 2026-11-23 10:00.",
        ]
    );
    let (late, skipped) = summaries(standup(), "2026-11-23T00:49:00Z", "2026-11-23T01:55:00Z");
    assert_eq!(
        late,
        [
            "Started at 2026-11-23 10:00 (Asia/Seoul), 55 minutes ago, and is over. This reminder is late: it was due at 2026-11-23 10:00."
        ]
    );
    assert_eq!(skipped, 1, "the other is older than the window");
}

#[test]
fn an_all_day_event_speaks_of_days() {
    let holiday = plan("2026-11-24", "", Policy::All);
    assert_eq!(
        summaries(holiday, "2026-11-23T14:49:00Z", "2026-11-23T15:00:30Z").0,
        [
            "All day on 2026-11-24 (Asia/Seoul), today. This reminder is late: it was due at 2026-11-23 23:50.",
            "All day on 2026-11-24 (Asia/Seoul), today.",
        ]
    );
    let holiday = plan("2026-11-24", "", Policy::All);
    assert_eq!(
        summaries(holiday, "2026-11-23T14:49:00Z", "2026-11-23T14:50:30Z").0,
        ["All day on 2026-11-24 (Asia/Seoul), tomorrow."]
    );
}

#[test]
fn latest_leaves_out_all_but_the_last_of_each_and_counts_them() {
    let often = plan("2026-11-23T10:00:00", "FREQ=DAILY", Policy::Latest);
    let (sent, skipped) = summaries(often, "2026-11-20T00:00:00Z", "2026-11-23T01:00:30Z");
    assert_eq!((sent.len(), skipped), (2, 0), "the series begins on the 23rd");
}

#[test]
fn more_reminders_than_one_round_takes_are_all_found_in_several_rounds() {
    let often = plan("2000-01-01T10:00:00", "FREQ=DAILY", Policy::None);
    let now = at("2026-11-23T01:00:30Z");
    let mut through = at("2000-01-01T00:00:00Z");
    let mut total = 0;
    loop {
        let state = ReminderState { plan: often.clone(), through };
        let (reminders, whole) = find_due_reminders(&state, now, &mut WINDOW.clone()).unwrap();
        total += reminders.reminders.len() as i64 + reminders.skipped;
        through = reminders.through;
        if whole {
            break;
        }
    }
    // Two a day, 2000-01-01 to 2026-11-23.
    assert_eq!(total, 2 * 9824);
}

fn context(hub: &str) -> Context {
    use clap::Parser as _;
    let _ = rustls::crypto::ring::default_provider().install_default();
    Context::new(Config::parse_from([
        "belfry-worker",
        "remind",
        "--schedule",
        "00000000-0000-0000-0000-000000000000",
        "--hub-url",
        hub,
        "--namespace",
        "payments",
        "--token-file",
        concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/token"),
    ]))
    .unwrap()
}

async fn hub_with(plan: &Plan, through: &str) -> MockServer {
    let hub = MockServer::start().await;
    let state = ReminderState { plan: plan.clone(), through: at(through) };
    Mock::given(method("GET"))
        .and(path_regex("/v1/namespaces/payments/schedules/.*"))
        .respond_with(ResponseTemplate::new(200).set_body_json(state))
        .mount(&hub)
        .await;
    hub
}

#[tokio::test]
async fn a_hub_that_fails_first_and_a_plan_that_changes_are_asked_again() {
    let hub = hub_with(&plan("2026-01-05T10:00:00", "FREQ=DAILY", Policy::All), "2026-01-05T00:49:00Z").await;
    for status in [503, 409] {
        Mock::given(method("POST"))
            .respond_with(ResponseTemplate::new(status))
            .up_to_n_times(1)
            .mount(&hub)
            .await;
    }
    Mock::given(method("POST")).respond_with(ResponseTemplate::new(204)).expect(1).mount(&hub).await;
    run(context(&hub.uri()), Uuid::nil()).await.unwrap();
}

#[tokio::test]
async fn a_suspended_schedule_or_one_that_is_gone_says_nothing() {
    let mut suspended = plan("2026-01-05T10:00:00", "FREQ=DAILY", Policy::All);
    suspended.suspended = true;
    let hub = hub_with(&suspended, "2026-01-05T00:49:00Z").await;
    Mock::given(method("POST")).respond_with(ResponseTemplate::new(204)).expect(0).mount(&hub).await;
    run(context(&hub.uri()), Uuid::nil()).await.unwrap();
    let empty = MockServer::start().await;
    run(context(&empty.uri()), Uuid::nil()).await.unwrap();
}

#[tokio::test]
async fn a_permanent_refusal_fails_at_once() {
    let hub = MockServer::start().await;
    Mock::given(method("GET")).respond_with(ResponseTemplate::new(403)).mount(&hub).await;
    let error = run(context(&hub.uri()), Uuid::nil()).await.unwrap_err();
    assert!(error.to_string().contains("403"), "{error}");
}

/// The text of a reminder of a stand-up in 10 minutes.
fn said(change: impl FnOnce(&mut SchedulePlan)) -> String {
    let mut plan = plan("2026-11-23T10:00:00", "FREQ=DAILY", Policy::All);
    let PlanBody::Schedule(schedule) = &mut plan.body else { panic!("a schedule") };
    schedule.about = domain::ScheduleDetails {
        description: Some(" Blockers first.\nThen the rest. ".to_owned()),
        location: Some("3rd floor".to_owned()),
        url: Some("https://meet.example.com/x".to_owned()),
        resources: vec!["room-3f-a".to_owned(), "office/beamer".to_owned()],
    };
    change(schedule);
    summaries(plan, "2026-11-23T00:49:03Z", "2026-11-23T00:50:04Z").0.remove(0)
}

#[test]
fn a_reminder_names_the_place_the_rooms_the_link_and_what_it_is_about() {
    let when = "Starts at 2026-11-23 10:00 (Asia/Seoul), in 10 minutes.";
    let about = "Blockers first.\nThen the rest.";
    assert_eq!(
        said(|_| {}),
        format!(
            "{when}\nWhere: 3rd floor; room-3f-a, office/beamer\nLink: https://meet.example.com/x\n\n{about}"
        )
    );
    let room = said(|schedule| {
        schedule.about.location = Some("room-3f-a".to_owned());
        schedule.about.resources.truncate(1);
        (schedule.about.url, schedule.about.description) = (None, None);
    });
    assert_eq!(room, format!("{when}\nWhere: room-3f-a"), "once");
    let long = said(|schedule| schedule.about.description = Some("é".repeat(4_096)));
    assert!(long.ends_with(&format!("\n\n{}…", "é".repeat(1_000))), "{long}");
    let many = said(|schedule| schedule.about.resources = (0..10).map(|n| format!("r{n}")).collect());
    assert!(many.contains("Where: 3rd floor; r0, r1, r2, r3, r4, r5, r6, r7 and 2 more\n"), "{many}");
}

#[test]
fn a_schedules_own_template_says_it_and_one_that_fails_keeps_nothing_back() {
    let template =
        "{{ title }} at {{ start }}: {{ location }}, {{ resources | first }} {{ url }}\n{{ when }}";
    assert_eq!(
        said(|schedule| schedule.summary = Some(template.to_owned())),
        "Payments stand-up at 2026-11-23 10:00: 3rd floor, room-3f-a https://meet.example.com/x\n\
         Starts at 2026-11-23 10:00 (Asia/Seoul), in 10 minutes."
    );
    assert_eq!(said(|schedule| schedule.summary = Some("{{ text }}".to_owned())), said(|_| {}));
    for (wrong, why) in [
        ("{{ nothing }}", "undefined value \"nothing\""),
        (
            "{% for a in range(9999) %}{% if text|list|sort == a %}{% endif %}{% endfor %}",
            "more than 100000 steps",
        ),
    ] {
        let text = said(|schedule| schedule.summary = Some(wrong.to_owned()));
        assert_eq!(text, format!("{}\n\nstandup: summary template failed: {why}", said(|_| {})));
    }
}

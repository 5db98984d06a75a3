//! Which reminders are due when, and which are sent after a pause.
//!
//! Clauses of docs/semantics.md: S5, S6.

use calendar::{
    CatchUp, CatchUpPolicy, Recurrence, RecurrenceSpec, Reminder, ReminderError, ReminderTime, due,
    next_reminder, plan_catch_up,
};
use jiff::SignedDuration;
use jiff::civil::time;

use crate::{at, recurrence, spec};

pub(crate) fn before(minutes: &[i64]) -> Vec<Reminder> {
    minutes.iter().map(|it| Reminder::new(SignedDuration::from_mins(*it)).unwrap()).collect()
}

fn close() -> Recurrence {
    recurrence("2026-01-30T17:00:00", "Asia/Seoul", "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1")
}

#[test]
fn a_reminder_with_seconds_is_refused() {
    let refuse = |seconds| Reminder::new(SignedDuration::from_secs(seconds)).unwrap_err();
    assert_eq!(refuse(90), ReminderError::Seconds);
    assert_eq!(refuse(-30), ReminderError::Seconds);
    assert_eq!(Reminder::new(SignedDuration::from_millis(60_500)).unwrap_err(), ReminderError::Seconds);
    assert_eq!(refuse(367 * 86_400), ReminderError::TooLong);
    assert_eq!(refuse(90).to_string(), "before has seconds; allowed are whole minutes, such as 10m or 1h30m");
}

#[test]
fn a_reminder_at_a_time_of_the_clock_is_kept_in_the_schedules_zone_across_changes_of_clocks() {
    let nine = |days_before| {
        let time = ReminderTime::At { at: time(9, 0, 0, 0), days_before };
        [Reminder::from_time(time).unwrap()]
    };
    let days = recurrence("2026-03-28", "Europe/Berlin", "FREQ=DAILY;COUNT=3");
    let told = |reminders: &[Reminder]| -> Vec<String> {
        let got = due(&days, reminders, at("2026-01-01T00:00:00Z"), at("2027-01-01T00:00:00Z"), 99);
        got.iter().map(|it| format!("{} of {}", it.due, &it.occurrence.id()[..10])).collect()
    };
    // Clocks go forward on the 29th.
    let before = [
        "2026-03-27T08:00:00Z of 2026-03-28",
        "2026-03-28T08:00:00Z of 2026-03-29",
        "2026-03-29T07:00:00Z of 2026-03-30",
    ];
    assert_eq!(told(&nine(1)), before);
    assert_eq!(
        told(&nine(0))[1..],
        ["2026-03-29T07:00:00Z of 2026-03-29", "2026-03-30T07:00:00Z of 2026-03-30"]
    );
    assert_eq!(told(&nine(30)).len(), 3);
    // 02:30 does not exist on the 29th: it is read with the offset before the change.
    let night = ReminderTime::At { at: time(2, 30, 0, 0), days_before: 0 };
    assert_eq!(told(&[Reminder::from_time(night).unwrap()])[1], "2026-03-29T01:30:00Z of 2026-03-29");
    let later = [nine(1)[0].delayed(7)];
    assert_eq!(told(&later)[0], "2026-03-27T08:07:00Z of 2026-03-28");
    let refused = |time| Reminder::from_time(time).unwrap_err();
    assert_eq!(refused(ReminderTime::At { at: time(9, 0, 1, 0), days_before: 0 }), ReminderError::AtSeconds);
    assert_eq!(
        refused(ReminderTime::At { at: time(9, 0, 0, 0), days_before: 367 }),
        ReminderError::TooManyDays
    );
}

#[test]
fn a_delay_moves_every_reminder_and_loses_none() {
    let daily = recurrence("2026-01-05T10:00:00", "UTC", "FREQ=DAILY");
    let delayed: Vec<Reminder> = before(&[10]).into_iter().map(|it| it.delayed(25)).collect();
    let first = next_reminder(&daily, &delayed, at("2026-01-05T09:55:00Z")).unwrap();
    assert_eq!(
        (first.due, first.occurrence.id()),
        (at("2026-01-05T10:15:00Z"), "2026-01-05T10:00:00".to_owned())
    );
    assert_eq!(next_reminder(&daily, &delayed, first.due).unwrap().due, at("2026-01-06T10:15:00Z"));
}

#[test]
fn reminders_come_in_order_of_time_and_name_their_occurrence() {
    let (from, to) = (at("2026-02-01T00:00:00Z"), at("2026-03-31T07:45:00Z"));
    let got = due(&close(), &before(&[24 * 60, 15]), from, to, 100);
    let got: Vec<(String, usize, String)> =
        got.iter().map(|it| (it.due.to_string(), it.index, it.occurrence.id())).collect();
    let is = |due: &str, index, id: &str| (due.to_owned(), index, id.to_owned());
    assert_eq!(
        got,
        [
            is("2026-02-26T08:00:00Z", 0, "2026-02-27T17:00:00"),
            is("2026-02-27T07:45:00Z", 1, "2026-02-27T17:00:00"),
            is("2026-03-30T08:00:00Z", 0, "2026-03-31T17:00:00"),
            is("2026-03-31T07:45:00Z", 1, "2026-03-31T17:00:00"),
        ]
    );
}

#[test]
fn the_lower_end_is_exclusive_the_upper_inclusive_and_the_limit_holds() {
    let daily = recurrence("2026-01-05T10:00:00", "UTC", "FREQ=DAILY");
    let ten = before(&[10]);
    let (one, two) = (at("2026-01-06T09:50:00Z"), at("2026-01-07T09:50:00Z"));
    assert_eq!(due(&daily, &ten, one, two, 9).iter().map(|it| it.due).collect::<Vec<_>>(), [two]);
    assert_eq!(due(&daily, &ten, one, at("2030-01-01T00:00:00Z"), 3).len(), 3);
    assert_eq!(next_reminder(&daily, &ten, one).unwrap().due, two);
}

#[test]
fn a_negative_reminder_comes_after_the_start_also_when_the_start_is_past() {
    let once = recurrence("2026-01-05T10:00:00", "UTC", "");
    let late = next_reminder(&once, &before(&[-30]), at("2026-01-05T10:15:00Z")).unwrap();
    assert_eq!(late.due, at("2026-01-05T10:30:00Z"));
    assert_eq!(next_reminder(&once, &before(&[-30]), late.due), None);
    assert_eq!(next_reminder(&once, &[], at("2026-01-01T00:00:00Z")), None);
}

#[test]
fn a_start_within_a_minute_reminds_on_the_whole_minute() {
    let odd = recurrence("2026-01-05T10:00:30", "UTC", "FREQ=DAILY");
    let ten = before(&[10]);
    let first = next_reminder(&odd, &ten, at("2026-01-05T09:49:59Z")).unwrap();
    assert_eq!(first.due, at("2026-01-05T09:50:00Z"));
    assert_eq!(next_reminder(&odd, &ten, first.due).unwrap().due, at("2026-01-06T09:50:00Z"));
}

#[test]
fn a_reminder_keeps_its_distance_across_a_change_of_clocks() {
    let spec = RecurrenceSpec { ..spec("2026-03-07T02:30:00", "America/New_York", "FREQ=DAILY") };
    let daily = Recurrence::new(&spec).unwrap();
    let got = due(&daily, &before(&[60]), at("2026-03-08T00:00:00Z"), at("2026-03-09T23:00:00Z"), 9);
    let got: Vec<String> = got.iter().map(|it| it.due.to_string()).collect();
    assert_eq!(got, ["2026-03-08T06:30:00Z", "2026-03-09T05:30:00Z"]);
}

fn plan(policy: CatchUpPolicy, minutes: i64, now: &str) -> (Vec<String>, usize) {
    let hourly = recurrence("2026-01-05T00:00:00", "UTC", "FREQ=HOURLY");
    let now = at(now);
    let due = due(&hourly, &before(&[10, 5]), at("2026-01-05T06:00:00Z"), now, 100);
    let all = due.len();
    let plan = plan_catch_up(due, now, CatchUp { policy, window: SignedDuration::from_mins(minutes) });
    assert_eq!(plan.to_send.len() + plan.skipped.len(), all, "each is sent or counted");
    (plan.to_send.iter().map(|it| it.due.strftime("%H:%M").to_string()).collect(), plan.skipped.len())
}

#[test]
fn catch_up_all_sends_what_the_window_holds() {
    let sent = |it: &[&str]| it.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(plan(CatchUpPolicy::All, 60, "2026-01-05T09:50:00Z"), (sent(&["08:50", "08:55", "09:50"]), 4));
    assert_eq!(plan(CatchUpPolicy::All, 59, "2026-01-05T09:50:00Z"), (sent(&["08:55", "09:50"]), 5));
    assert_eq!(plan(CatchUpPolicy::All, 0, "2026-01-05T09:51:59Z"), (sent(&["09:50"]), 6));
    assert_eq!(
        CatchUp::default(),
        CatchUp { policy: CatchUpPolicy::All, window: SignedDuration::from_hours(1) }
    );
}

#[test]
fn catch_up_latest_sends_the_last_of_each_reminder() {
    let sent = |it: &[&str]| it.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(plan(CatchUpPolicy::Latest, 600, "2026-01-05T09:52:00Z"), (sent(&["08:55", "09:50"]), 5));
    assert_eq!(plan(CatchUpPolicy::Latest, 30, "2026-01-05T09:52:00Z"), (sent(&["09:50"]), 6));
}

#[test]
fn catch_up_none_sends_only_what_is_due_now() {
    let sent = |it: &[&str]| it.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(plan(CatchUpPolicy::None, 600, "2026-01-05T09:52:00Z"), (sent(&["09:50"]), 6));
    assert_eq!(plan(CatchUpPolicy::None, 600, "2026-01-05T09:52:01Z"), (sent(&[]), 7));
}

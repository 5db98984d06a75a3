//! What is refused, and with which message.

use calendar::{Override, Recurrence, RecurrenceError, RecurrenceRule, RecurrenceSpec, WhichRule};

use crate::spec;

fn rule_error(text: &str) -> String {
    text.parse::<RecurrenceRule>().unwrap_err().to_string()
}

fn refusal(rule: &str) -> RecurrenceError {
    Recurrence::new(&spec("2026-01-05T10:00:00", "Asia/Seoul", rule)).unwrap_err()
}

#[test]
fn a_rule_says_where_it_is_wrong_and_what_is_allowed() {
    assert_eq!(
        rule_error("FREQ=WEEKLY;BYDAY=MO,XX"),
        "rrule at byte 21, BYDAY: \"XX\" is not allowed; allowed is MO, TU, WE, TH, FR, SA, SU, each with an \
         optional ordinal from -53 to 53 but 0, such as 1MO or -1FR"
    );
    assert_eq!(
        rule_error("FREQ=FORTNIGHTLY"),
        "rrule at byte 5, FREQ: \"FORTNIGHTLY\" is not allowed; allowed is SECONDLY, MINUTELY, HOURLY, DAILY, \
         WEEKLY, MONTHLY, YEARLY"
    );
    assert_eq!(
        rule_error("FREQ=MONTHLY;BYMONTHDAY=32"),
        "rrule at byte 24, BYMONTHDAY: \"32\" is not allowed; allowed is a number from 1 to 31 or -31 to -1"
    );
    assert_eq!(
        rule_error("FREQ=DAILY;INTERVAL=0"),
        "rrule at byte 20, INTERVAL: \"0\" is not allowed; allowed is a number from 1 to 999999999"
    );
    assert_eq!(
        rule_error("FREQ=DAILY;COUNT=3;UNTIL=20261231"),
        "rrule at byte 19, UNTIL: COUNT and UNTIL may not stand in the same rule; keep one"
    );
    assert_eq!(
        rule_error("FREQ=WEEKLY;BYDAY=1MO"),
        "rrule at byte 12, BYDAY: an ordinal such as 1MO is allowed only with FREQ=MONTHLY or YEARLY; leave out the \
         number"
    );
    assert!(rule_error("").starts_with("rrule at byte 0, FREQ: missing; every rule needs FREQ"));
    assert!(rule_error("RRULE:FREQ=DAILY").contains("without \"RRULE:\""));
    assert!(rule_error("FREQ=DAILY;").contains("not a part of a rule"));
    assert!(rule_error("FREQ=DAILY;BYWEEKNO=1").contains("allowed only with FREQ=YEARLY"));
    assert!(rule_error("FREQ=DAILY;FREQ=DAILY").contains("given twice"));
    assert!(rule_error("FREQ=DAILY;UNTIL=20260230").contains("a date 20261231"));
    assert!(rule_error("FREQ=DAILY;BYSETPOS=1").contains("beside another BY-part"));
    assert!(rule_error("FREQ=DAILY;BYDAY=é").contains("BYDAY"));
    assert!(rule_error(&format!("FREQ=DAILY;BYHOUR={}0", "0,".repeat(500))).contains("more than 400 values"));
    assert!(rule_error(&"A".repeat(2001)).contains("longer than 2000 bytes"));
}

#[test]
fn names_and_values_are_read_in_any_case() {
    assert_eq!("freq=weekly;byday=mo".parse::<RecurrenceRule>(), "FREQ=WEEKLY;BYDAY=MO".parse());
}

#[test]
fn what_never_happens_is_refused_in_words() {
    for rule in [
        "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=31",
        "FREQ=MONTHLY;BYMONTH=2;BYMONTHDAY=31",
        "FREQ=MONTHLY;BYMONTH=2;BYMONTHDAY=30,31",
        "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=31",
        "FREQ=HOURLY;BYMONTH=2;BYMONTHDAY=31",
        "FREQ=MINUTELY;BYMONTH=2;BYMONTHDAY=31",
        "FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=31",
        "FREQ=MINUTELY;INTERVAL=60;BYMINUTE=30",
        "FREQ=YEARLY;BYWEEKNO=1;BYMONTH=6",
        "FREQ=MONTHLY;INTERVAL=12;BYMONTH=2",
        "FREQ=DAILY;INTERVAL=7;BYDAY=TU",
        "FREQ=MONTHLY;BYDAY=MO;BYSETPOS=6",
        "FREQ=YEARLY;UNTIL=20260301;BYMONTH=5",
    ] {
        assert_eq!(refusal(rule), RecurrenceError::NeverHappens, "{rule}");
    }
    assert!(refusal("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=31").to_string().contains("never happens"));
    let once =
        RecurrenceSpec { except_dates: vec!["2026-01-05".into()], ..spec("2026-01-05T10:00:00", "UTC", "") };
    assert_eq!(Recurrence::new(&once).unwrap_err(), RecurrenceError::NeverHappens);
}

#[test]
fn until_before_start_is_refused() {
    for until in ["20260104", "20260105T095959", "20260105T005959Z"] {
        let error = refusal(&format!("FREQ=DAILY;UNTIL={until}")).to_string();
        assert_eq!(error, "rrule: UNTIL lies before start; allowed is UNTIL at or after 2026-01-05T10:00:00");
    }
}

#[test]
fn starts_zones_durations_and_dates_say_what_is_allowed() {
    let refuse = |spec: RecurrenceSpec| Recurrence::new(&spec).unwrap_err().to_string();
    let good = || spec("2026-01-05T10:00:00", "Asia/Seoul", "");
    let with_start = |start: &str| RecurrenceSpec { start: start.into(), ..good() };
    for start in
        ["", "tomorrow", "2026-02-30", "2026-01-05T10:00", "2026-01-05T10:00:00Z", "2026-01-05 10:00:00"]
    {
        assert!(
            refuse(with_start(start)).contains("allowed is a local time such as 2026-01-05T10:00:00"),
            "{start}"
        );
    }
    let zone = refuse(RecurrenceSpec { time_zone: "Mars/Olympus".into(), ..good() });
    assert_eq!(
        zone,
        "timeZone \"Mars/Olympus\" is unknown; allowed are IANA names such as Europe/Berlin or UTC"
    );
    for seconds in [-1, 367 * 86_400] {
        let duration = Some(jiff::SignedDuration::from_secs(seconds));
        assert!(refuse(RecurrenceSpec { duration, ..good() }).contains("from 0 to 366 days"));
    }
    let all_day = || with_start("2026-01-05");
    let hour = Some(jiff::SignedDuration::from_hours(1));
    assert!(refuse(RecurrenceSpec { duration: hour, ..all_day() }).contains("whole days"));
    let hourly = Some("FREQ=HOURLY".to_owned());
    assert!(refuse(RecurrenceSpec { rule: hourly, ..all_day() }).contains("give start a time"));
    let dates = vec!["2026-01-06".to_owned(), "soon".to_owned()];
    assert!(
        refuse(RecurrenceSpec { dates: dates.clone(), ..good() })
            .starts_with("dates[1] \"soon\" is not allowed")
    );
    assert!(refuse(RecurrenceSpec { except_dates: dates, ..good() }).starts_with("exceptDates[1] \"soon\""));
    let many = vec!["2026-01-06".to_owned(); 1001];
    assert!(refuse(RecurrenceSpec { dates: many, ..good() }).contains("more than 1000"));
}

#[test]
fn a_count_out_of_reach_is_refused() {
    let all = (0..60).map(|it| it.to_string()).collect::<Vec<_>>().join(",");
    let error = refusal(&format!("FREQ=HOURLY;BYMINUTE={all};BYSECOND={all};BYSETPOS=1;COUNT=100000"));
    assert_eq!(error, RecurrenceError::CountOutOfReach);
    assert!(error.to_string().contains("allowed is UNTIL"));
}

#[test]
fn overrides_that_take_too_long_to_find_are_refused_with_what_is_allowed() {
    let minute = |minute: usize| {
        format!("2026-01-{:02}T{:02}:{:02}:00", 5 + minute / 1440, minute / 60 % 24, minute % 60)
    };
    let spec = |count: usize| {
        let overrides = (0..count).map(|index| {
            let own = minute(10 * index + 5);
            Override {
                recurrence_id: minute(10 * index),
                this_and_future: index % 2 == 0,
                start: Some(format!("{}{:02}", &own[..17], index % 60)),
                ..Override::default()
            }
        });
        RecurrenceSpec {
            overrides: overrides.collect(),
            ..spec("2026-01-05T00:00:00", "UTC", "FREQ=MINUTELY")
        }
    };
    assert!(Recurrence::new(&spec(20)).is_ok());
    let error = Recurrence::new(&spec(1000)).unwrap_err();
    assert_eq!(error, RecurrenceError::OverridesTooCostly);
    assert!(error.to_string().contains("allowed are fewer overrides"), "{error}");
}

#[test]
fn exceptions_that_seldom_match_cost_a_look_at_one_period_each() {
    // Each is compared with a rule that next happens in 2048.
    let spec = RecurrenceSpec {
        except_rules: vec![
            "FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=29;BYDAY=SA;BYHOUR=3;BYMINUTE=3;BYSECOND=3".to_owned(),
        ],
        ..spec("2026-01-05T00:00:00", "UTC", "FREQ=SECONDLY")
    };
    assert_eq!(Recurrence::new(&spec).unwrap().all().take(100_000).count(), 100_000);
}

#[test]
fn all_that_is_wrong_is_told_at_once_and_nothing_that_comes_of_it() {
    let told = |spec: &RecurrenceSpec| -> Vec<String> {
        let all = Recurrence::checked(spec).unwrap_err();
        assert_eq!(Recurrence::new(spec).unwrap_err(), all[0].error);
        let which = |rule: Option<WhichRule>| rule.map_or(String::new(), |rule| format!("{rule:?} "));
        all.iter().map(|it| format!("{}{}", which(it.rule), it.error)).collect()
    };
    let begins = |told: &[String], expected: &[&str]| {
        assert_eq!(told.len(), expected.len(), "{told:#?}");
        for (told, expected) in told.iter().zip(expected) {
            assert!(told.starts_with(expected), "{told} does not begin with {expected}");
        }
    };
    let moved = |id: &str, start: Option<&str>| Override {
        recurrence_id: id.to_owned(),
        start: start.map(str::to_owned),
        ..Override::default()
    };
    let wrong = RecurrenceSpec {
        more_rules: vec!["FREQ=DAILY;COUNT=2;COUNT=3;BYDAI=MO".to_owned(), "FREQ=WEEKLY".to_owned()],
        except_rules: vec!["FREQ=NEVER".to_owned()],
        dates: vec!["2026-01-06".to_owned(), "soon".to_owned()],
        except_dates: vec!["x".to_owned(), "y".to_owned()],
        overrides: vec![moved("2026-01-09", Some("later")), moved("then", None)],
        ..spec("2026-01-05T10:00:00Z", "Mars/Olympus", "RRULE:FREQ=WEEKLY;INTERVAL=0;BYDAY=MON,TU")
    };
    begins(
        &told(&wrong),
        &[
            "start \"2026-01-05T10:00:00Z\"",
            "timeZone \"Mars/Olympus\"",
            "Rule(0) rrule at byte 0, RRULE:FREQ: not a part of a rule",
            "Rule(0) rrule at byte 27, INTERVAL: \"0\"",
            "Rule(0) rrule at byte 35, BYDAY: \"MON\"",
            "Rule(1) rrule at byte 27, BYDAI: not a part",
            "Rule(1) rrule at byte 19, COUNT: given twice",
            "Except(0) rrule at byte 5, FREQ: \"NEVER\"",
            "dates[1] \"soon\"",
            "exceptDates[0] \"x\"",
            "exceptDates[1] \"y\"",
            "overrides[0] \"later\"",
            "overrides[1] \"then\"",
        ],
    );
    // If the start is good, the rest is checked against it.
    let judged = RecurrenceSpec {
        more_rules: vec!["FREQ=DAILY;UNTIL=20250101".to_owned()],
        ..spec("2026-01-05T10:00:00", "UTC", "FREQ=WEEKLY;UNTIL=20250101")
    };
    begins(&told(&judged), &["Rule(0) rrule: UNTIL lies before start", "Rule(1) rrule: UNTIL lies"]);
    let overrides = RecurrenceSpec {
        overrides: vec![moved("2026-01-06", None), moved("2026-01-05", Some("x")), moved("2026-01-07", None)],
        ..spec("2026-01-05T10:00:00", "UTC", "FREQ=WEEKLY")
    };
    let expected = ["overrides[0] \"2026-01-06\": there is no such", "overrides[1] \"x\"", "overrides[2]"];
    begins(&told(&overrides), &expected);
}

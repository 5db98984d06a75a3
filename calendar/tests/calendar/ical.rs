//! Reading iCalendar gives what the text says; what is written reads back with the same meaning.

use calendar::ical::{self, ImportResult, Person, ReadOptions, Series};
use calendar::{Dst, Fold, Gap, Override, Recurrence, RecurrenceSpec, ReminderTime, find_zone};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::at;

fn read(text: &str) -> Vec<ical::ImportedEvent> {
    ical::read(text.as_bytes(), &ReadOptions::default()).events
}

fn event(lines: &str) -> String {
    format!("BEGIN:VCALENDAR\nBEGIN:VEVENT\nUID:1\nSUMMARY:t\n{lines}\nEND:VEVENT\nEND:VCALENDAR\n")
}

fn taken(text: &str) -> Series {
    match read(text).remove(0).result {
        ImportResult::Taken(series) => *series,
        other => panic!("{text}: {other:?}"),
    }
}

fn refused(text: &str) -> String {
    match read(text).remove(0).result {
        ImportResult::Refused(why) => format!("{}: {}", why.line, why.text),
        other => panic!("{text}: {other:?}"),
    }
}

fn starts(series: &Series, most: usize) -> Vec<String> {
    series.recurrence().unwrap().all().take(most).map(|it| it.start.to_string()).collect()
}

fn written(series: &Series) -> String {
    let written = ical::write(std::slice::from_ref(series), at("2026-01-01T00:00:00Z"));
    assert!(written.series[0].is_ok(), "{:?} {series:?}", written.series);
    written.text
}

/// The times that a reader sees of a series.
fn seen(series: &Series, from: Timestamp, most: usize) -> Vec<(Timestamp, Timestamp)> {
    let recurrence = series.recurrence().unwrap();
    recurrence.occurrences(from).take(most).map(|it| (it.start, it.end)).collect()
}

#[test]
fn a_start_is_utc_of_a_zone_floating_or_a_date() {
    let one = |line: &str| taken(&event(&format!("{line}\nDURATION:PT1H")));
    let utc = one("DTSTART:20260105T100000Z");
    assert_eq!((utc.spec.start.as_str(), utc.spec.time_zone.as_str()), ("2026-01-05T10:00:00", "UTC"));
    let berlin = one("DTSTART;TZID=\"W. Europe Standard Time\":20260105T100000");
    assert_eq!(
        (berlin.spec.time_zone.as_str(), starts(&berlin, 2)),
        ("Europe/Berlin", vec!["2026-01-05T09:00:00Z".to_owned()])
    );
    let why = refused(&event("DTSTART:20260105T100000\nDURATION:PT1H"));
    assert!(why.starts_with("5: DTSTART: floating") && why.contains("--time-zone"), "{why}");
    let options = ReadOptions { time_zone: Some("Asia/Seoul".to_owned()), ..ReadOptions::default() };
    let text = event("DTSTART;VALUE=DATE:20260105\nDTEND;VALUE=DATE:20260108");
    let ImportResult::Taken(days) = ical::read(text.as_bytes(), &options).events.remove(0).result else {
        panic!()
    };
    assert_eq!(
        (days.spec.start.as_str(), days.spec.duration),
        ("2026-01-05", Some(SignedDuration::from_hours(72)))
    );
}

#[test]
fn the_calendars_own_zone_is_that_of_floating_times() {
    let text = event("DTSTART:20260105T100000\nDURATION:PT1H")
        .replace("BEGIN:VEVENT", "X-WR-TIMEZONE:Asia/Seoul\nBEGIN:VEVENT");
    assert_eq!(taken(&text).spec.time_zone, "Asia/Seoul");
}

#[test]
fn exceptions_in_utc_and_of_other_zones_take_out_what_they_name() {
    let series = taken(&event(
        "DTSTART;TZID=Europe/Berlin:20260105T100000\nDURATION:PT1H\nRRULE:FREQ=DAILY;COUNT=5\n\
         EXDATE:20260106T090000Z\nEXDATE;TZID=Asia/Seoul:20260107T180000\nEXDATE;VALUE=DATE:20260108",
    ));
    assert_eq!(series.spec.except_dates, ["2026-01-06T10:00:00", "2026-01-07T10:00:00", "2026-01-08"]);
    assert_eq!(starts(&series, 9), ["2026-01-05T09:00:00Z", "2026-01-09T09:00:00Z"]);
}

#[test]
fn an_exception_names_an_occurrence_that_a_gap_moved_by_its_instant() {
    let series = taken(&event(
        "DTSTART;TZID=Europe/Berlin:20260328T023000\nDURATION:PT1H\nRRULE:FREQ=DAILY;COUNT=3\nEXDATE:20260329T013000Z",
    ));
    assert_eq!(series.spec.except_dates, ["2026-03-29T02:30:00"]);
}

#[test]
fn a_start_that_no_rule_has_counts_as_calendars_count_it() {
    let series = taken(&event("DTSTART:20260105T100000Z\nDURATION:PT1H\nRRULE:FREQ=WEEKLY;BYDAY=FR;COUNT=3"));
    assert_eq!(starts(&series, 9), ["2026-01-05T10:00:00Z", "2026-01-09T10:00:00Z", "2026-01-16T10:00:00Z"]);
    assert!(series.remarks[0].text.starts_with("DTSTART: not a time of RRULE"), "{:?}", series.remarks);
}

#[test]
fn overrides_move_cancel_and_change_from_one_on() {
    let text = event("DTSTART;TZID=Europe/Berlin:20260105T100000\nDURATION:PT1H\nRRULE:FREQ=WEEKLY;COUNT=6");
    let change =
        |lines: &str| format!("BEGIN:VEVENT\nUID:1\nSUMMARY:t\n{lines}\nEND:VEVENT\nEND:VCALENDAR\n");
    let moved = "RECURRENCE-ID:20260112T090000Z\nDTSTART;TZID=Asia/Seoul:20260112T220000\nDURATION:PT30M";
    let gone = "RECURRENCE-ID;TZID=Europe/Berlin:20260119T100000\nSTATUS:CANCELLED";
    let later = "RECURRENCE-ID;RANGE=THISANDFUTURE;TZID=Europe/Berlin:20260202T100000\n\
                 DTSTART;TZID=Europe/Berlin:20260203T120000\nDTEND;TZID=Europe/Berlin:20260203T140000";
    let mut all = text;
    for lines in [moved, gone, later] {
        all = all.replace("END:VCALENDAR\n", &change(lines));
    }
    let series = taken(&all);
    let expected = [
        ("2026-01-05T09:00:00Z", "2026-01-05T10:00:00Z"),
        ("2026-01-12T13:00:00Z", "2026-01-12T13:30:00Z"),
        ("2026-01-26T09:00:00Z", "2026-01-26T10:00:00Z"),
        ("2026-02-03T11:00:00Z", "2026-02-03T13:00:00Z"),
        ("2026-02-10T11:00:00Z", "2026-02-10T13:00:00Z"),
    ]
    .map(|(start, end)| (at(start), at(end)));
    assert_eq!(seen(&series, Timestamp::MIN, 9), expected);
    assert_eq!(seen(&taken(&written(&series)), Timestamp::MIN, 9), expected);
}

#[test]
fn a_date_with_its_own_length_is_an_override_of_that_length() {
    let series = taken(&event(
        "DTSTART:20260105T100000Z\nDURATION:PT1H\nRDATE;VALUE=PERIOD:20260107T100000Z/PT3H,20260108T100000Z/20260108T110000Z",
    ));
    let lengths: Vec<i64> =
        series.recurrence().unwrap().all().map(|it| it.end.duration_since(it.start).as_hours()).collect();
    assert_eq!(lengths, [1, 3, 1]);
    assert_eq!(series.spec.overrides.len(), 1);
}

#[test]
fn the_newer_revision_of_an_event_holds() {
    let one = event("DTSTART:20260105T100000Z\nSEQUENCE:1").replace("END:VCALENDAR\n", "");
    let two =
        "BEGIN:VEVENT\nUID:1\nSUMMARY:new\nDTSTART:20260106T100000Z\nSEQUENCE:2\nEND:VEVENT\nEND:VCALENDAR\n";
    let events = read(&(one + two));
    assert!(
        matches!(&events[0].result, ImportResult::LeftOut(why) if why.contains("older revision")),
        "{events:?}"
    );
    assert!(matches!(&events[1].result, ImportResult::Taken(series) if series.title == "new"));
}

#[test]
fn an_override_without_its_series_is_an_event_of_its_own() {
    let series = taken(&event("RECURRENCE-ID:20260105T100000Z\nDTSTART:20260105T120000Z\nDURATION:PT1H"));
    assert_eq!(
        (starts(&series, 3), series.uid.as_str()),
        (vec!["2026-01-05T12:00:00Z".to_owned()], "1/20260105T100000Z")
    );
}

#[test]
fn reminders_are_before_the_start_whatever_they_are_written_from() {
    let alarm = |trigger: &str| format!("BEGIN:VALARM\nACTION:DISPLAY\n{trigger}\nEND:VALARM\n");
    let all: String = [
        "TRIGGER:-PT15M",
        "TRIGGER;RELATED=END:-PT10M",
        "TRIGGER;VALUE=DATE-TIME:20260105T080000Z",
        "TRIGGER:PT5M",
        "TRIGGER:-PT90S",
        "TRIGGER:-PT30M\nREPEAT:2\nDURATION:PT5M",
        // One of ours: at nine on the day before. And one whose alarm somebody has moved since.
        "TRIGGER:-PT25H\nX-BELFRY-AT:09:00\nX-BELFRY-DAYS-BEFORE:1",
        "TRIGGER:-PT24H\nX-BELFRY-AT:09:00\nX-BELFRY-DAYS-BEFORE:1",
    ]
    .map(alarm)
    .concat();
    let series = taken(&event(&format!("DTSTART:20260105T100000Z\nDURATION:PT1H\n{all}X-A:1")));
    let before = |before_minutes| ReminderTime::Before { before_minutes };
    let nine = ReminderTime::At { at: jiff::civil::time(9, 0, 0, 0), days_before: 1 };
    let expected: Vec<_> =
        [1_440, 120, 30, 25, 20, 15, -5, -50].map(before).into_iter().chain([nine]).collect();
    assert_eq!(series.reminders, expected);
    let told: Vec<&str> = series.remarks.iter().map(|it| it.text.as_str()).collect();
    assert_eq!(told, ["TRIGGER: not whole minutes: not taken", "not taken: X-A"]);
}

#[test]
fn a_policy_that_icalendar_has_no_words_for_is_written_out_and_read_back() {
    for (gap, fold) in [(Gap::Skip, Fold::First), (Gap::ShiftForward, Fold::Last), (Gap::Skip, Fold::Both)] {
        let spec = RecurrenceSpec {
            start: "2026-03-01T02:30:00".to_owned(),
            time_zone: "Europe/Berlin".to_owned(),
            duration: Some(SignedDuration::from_mins(30)),
            rule: Some("FREQ=DAILY;UNTIL=20271201T000000Z".to_owned()),
            except_dates: vec!["2027-10-31".to_owned()],
            dst: Dst { gap, fold },
            ..RecurrenceSpec::default()
        };
        let series = Series { uid: "1".to_owned(), title: "t".to_owned(), spec, ..Series::default() };
        let text = written(&series);
        // Readers that don't know the policy see the same instants.
        let foreign = text.replace("X-BELFRY-DST", "X-OTHER");
        let plain = |text: &str| {
            let lines: Vec<&str> = text
                .lines()
                .filter(|line| line.starts_with("RDATE:2") || line.starts_with("EXDATE;"))
                .collect();
            lines.len()
        };
        assert!(plain(&foreign) >= 2, "{foreign}");
        assert_eq!(
            seen(&taken(&text), Timestamp::MIN, 1000),
            seen(&series, Timestamp::MIN, 1000),
            "{gap:?} {fold:?}"
        );
    }
}

#[test]
fn a_count_that_skips_a_gap_is_the_same_to_those_who_do_not_know_the_policy() {
    for (start, zone) in [("2026-03-01T02:30:00", "Europe/Berlin"), ("2011-12-01", "Pacific/Apia")] {
        let length = if start.len() == 10 { 24 } else { 1 };
        let spec = RecurrenceSpec {
            start: start.to_owned(),
            time_zone: zone.to_owned(),
            duration: Some(SignedDuration::from_hours(length)),
            rule: Some("FREQ=DAILY;COUNT=60".to_owned()),
            dst: Dst { gap: Gap::Skip, fold: Fold::First },
            ..RecurrenceSpec::default()
        };
        let series = Series { uid: "1".to_owned(), title: "t".to_owned(), spec, ..Series::default() };
        let wanted = seen(&series, Timestamp::MIN, 99);
        assert_eq!(wanted.len(), 60);
        let text = written(&series);
        assert_eq!(seen(&taken(&text), Timestamp::MIN, 99), wanted, "{text}");
        let foreign = taken(&text.replace("X-BELFRY-DST", "X-OTHER"));
        assert_eq!(seen(&foreign, Timestamp::MIN, 99), wanted, "{text}");
    }
}

#[test]
fn a_rule_in_real_time_is_written_in_utc_and_keeps_its_zone() {
    let spec = RecurrenceSpec {
        start: "2026-10-24T22:30:00".to_owned(),
        time_zone: "Europe/Berlin".to_owned(),
        duration: Some(SignedDuration::from_mins(30)),
        rule: Some("FREQ=HOURLY;COUNT=30".to_owned()),
        ..RecurrenceSpec::default()
    };
    let series = Series { uid: "1".to_owned(), title: "t".to_owned(), spec, ..Series::default() };
    let text = written(&series);
    assert!(text.contains("DTSTART:20261024T203000Z\r\n") && !text.contains("VTIMEZONE\r\n"), "{text}");
    let back = taken(&text);
    assert_eq!(
        (back.spec.time_zone.as_str(), seen(&back, Timestamp::MIN, 99)),
        ("Europe/Berlin", seen(&series, Timestamp::MIN, 99))
    );
}

#[test]
fn a_start_that_is_no_occurrence_is_none_for_others_either() {
    let spec = RecurrenceSpec {
        start: "2026-01-05T10:00:00".to_owned(),
        time_zone: "Europe/Berlin".to_owned(),
        duration: Some(SignedDuration::from_hours(1)),
        rule: Some("FREQ=MONTHLY;INTERVAL=2;BYDAY=-1FR;COUNT=3".to_owned()),
        ..RecurrenceSpec::default()
    };
    let series = Series { uid: "1".to_owned(), title: "t".to_owned(), spec, ..Series::default() };
    assert!(
        written(&series).contains("DTSTART;TZID=Europe/Berlin:20260130T100000\r\n"),
        "{}",
        written(&series)
    );
    // If the start can't move later, it gets an EXDATE.
    let spec = RecurrenceSpec {
        rule: Some("FREQ=WEEKLY;BYMONTH=3".to_owned()),
        more_rules: vec!["FREQ=MONTHLY;BYMONTHDAY=7".to_owned()],
        ..series.spec.clone()
    };
    let series = Series { spec, ..series };
    assert!(
        written(&series).contains("EXDATE;TZID=Europe/Berlin:20260105T100000\r\n"),
        "{}",
        written(&series)
    );
    assert_eq!(seen(&taken(&written(&series)), Timestamp::MIN, 50), seen(&series, Timestamp::MIN, 50));
}

#[test]
fn a_timezone_is_right_for_every_year_that_an_event_spans() {
    // The United States changed their rule in 2007; Samoa skipped a day in 2011; Morocco follows no yearly rule.
    for (zone, start, rule) in [
        ("America/New_York", "2003-01-05T12:00:00", "FREQ=MONTHLY"),
        ("Pacific/Apia", "2010-01-05T12:00:00", "FREQ=MONTHLY;COUNT=60"),
        ("Africa/Casablanca", "2015-01-05T12:00:00", "FREQ=MONTHLY;UNTIL=20351231T000000Z"),
        ("Australia/Lord_Howe", "1980-01-05T12:00:00", "FREQ=MONTHLY"),
        ("Asia/Seoul", "1985-01-05T12:00:00", "FREQ=MONTHLY"),
        ("Europe/Dublin", "1960-06-05T12:00:00", "FREQ=MONTHLY"),
    ] {
        let spec = RecurrenceSpec {
            start: start.to_owned(),
            time_zone: zone.to_owned(),
            duration: Some(SignedDuration::from_hours(1)),
            rule: Some(rule.to_owned()),
            ..RecurrenceSpec::default()
        };
        let series = Series { uid: "1".to_owned(), title: "t".to_owned(), spec, ..Series::default() };
        // With a name that no database has, only the offsets of the block remain.
        let text = written(&series).replace(zone, "Nowhere/Known");
        let back = taken(&text);
        let (ours, theirs) = (find_zone(zone).unwrap(), find_zone(&back.spec.time_zone).unwrap());
        let offsets = |tz: &jiff::tz::TimeZone| {
            let all = series.recurrence().unwrap();
            all.all()
                .take_while(|it| it.start < at("2040-01-01T00:00:00Z"))
                .map(|it| tz.to_offset(it.start))
                .collect::<Vec<_>>()
        };
        if rule == "FREQ=MONTHLY" {
            // For an event without end, ten years are compared.
            assert_eq!(offsets(&ours)[..100], offsets(&theirs)[..100], "{zone} {}", back.spec.time_zone);
        } else {
            assert_eq!(offsets(&ours), offsets(&theirs), "{zone} {}", back.spec.time_zone);
        }
    }
}

#[test]
fn ten_thousand_events_with_every_tenth_broken_are_each_told_of() {
    let event = |number: usize| {
        let zone = ["Europe/Berlin", "Asia/Seoul", "America/New_York"][number % 3];
        let rule = if number % 10 == 7 { "FREQ=NEVER" } else { "FREQ=WEEKLY;BYDAY=MO,WE" };
        format!(
            "BEGIN:VEVENT\nUID:{number}\nSUMMARY:Event {number}\nDTSTART;TZID={zone}:20260105T100000\nDURATION:PT1H\n\
             RRULE:{rule}\nEND:VEVENT\n"
        )
    };
    let text = (0..10_000).map(event).collect::<Vec<_>>().concat();
    let text = format!("BEGIN:VCALENDAR\n{text}");
    let events = read(&(text + "END:VCALENDAR\n"));
    let refused = events
        .iter()
        .filter(|it| matches!(&it.result, ImportResult::Refused(why) if why.text.starts_with("RRULE")))
        .count();
    let taken = events.iter().filter(|it| matches!(it.result, ImportResult::Taken(_))).count();
    assert_eq!((events.len(), taken, refused), (10_000, 9_000, 1_000));
}

#[test]
fn a_zone_that_is_known_costs_no_search_and_searches_are_bounded() {
    let zone = |name: usize, offset: &str| {
        format!(
            "BEGIN:VTIMEZONE\nTZID:Own {name}\nBEGIN:STANDARD\nDTSTART:19700101T000000\nTZOFFSETFROM:{offset}\n\
             TZOFFSETTO:{offset}\nEND:STANDARD\nEND:VTIMEZONE\n"
        )
    };
    let event = |number: usize, zone: usize| {
        let at = |hour: usize| format!(";TZID=Own {zone}:2026{:02}05T{hour:02}0000", number % 12 + 1);
        format!(
            "BEGIN:VEVENT\nUID:{number}\nSUMMARY:t\nDTSTART{}\nDTEND{}\nRRULE:FREQ=WEEKLY;COUNT=3\nEXDATE{}\nEND:VEVENT\n",
            at(9),
            at(10),
            at(9)
        )
    };
    let file = |zones: String, events: String| format!("BEGIN:VCALENDAR\n{zones}{events}END:VCALENDAR\n");
    let taken = |text: &str| {
        let events = read(text);
        (events.len(), events.iter().filter(|it| matches!(it.result, ImportResult::Taken(_))).count())
    };
    let one = file(zone(1, "-0500"), (0..5_000).map(|number| event(number, 1)).collect());
    assert_eq!(taken(&one), (5_000, 5_000));
    // Zones that don't exist, each a different one. When no more searches are allowed, events are refused, and told
    // why.
    let many = file(
        (0..3_000).map(|number| zone(number, "-0517")).collect(),
        (0..3_000).map(|number| event(number, number)).collect(),
    );
    assert_eq!(taken(&many), (3_000, 0));
    let spent = |it: &ical::ImportedEvent| matches!(&it.result, ImportResult::Refused(why) if why.text.contains("take more than"));
    assert!(read(&many).iter().filter(|it| spent(it)).count() > 1_000);
}

#[test]
fn a_zone_that_the_calendar_does_not_name_is_told_as_it_is() {
    let text = |zone: &str| {
        event("DTSTART:20260105T100000\nDURATION:PT1H")
            .replace("BEGIN:VEVENT", &format!("X-WR-TIMEZONE:{zone}\nBEGIN:VEVENT"))
    };
    let why = refused(&text("Mars"));
    assert!(why.contains("X-WR-TIMEZONE does not say") && why.contains("\"Mars\" is unknown"), "{why}");
    let own = text("Home").replace(
        "BEGIN:VEVENT",
        "BEGIN:VTIMEZONE\nTZID:Home\nBEGIN:STANDARD\nDTSTART:19700101T000000\nTZOFFSETFROM:+0900\nTZOFFSETTO:+0900\n\
         END:STANDARD\nEND:VTIMEZONE\nBEGIN:VEVENT",
    );
    assert_eq!(starts(&taken(&own), 1), ["2026-01-05T01:00:00Z"]);
}

#[test]
fn hostile_files_end_with_an_outcome_for_each_event() {
    let long = |unit: &str| unit.repeat(20_000);
    let hostile = [
        event(&format!("DTSTART:20260105T100000Z\nRDATE:{}20260105T100000Z", long("20260105T100000Z,"))),
        event(&format!("DTSTART:20260105T100000Z\nRRULE:FREQ=SECONDLY;BYSECOND={}1", long("1,"))),
        event("DTSTART:20260105T100000Z\nRRULE:FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=30"),
        event("DTSTART:20260105T100000Z\nRRULE:FREQ=SECONDLY;COUNT=999999999;INTERVAL=999999999"),
        event("DTSTART:99991231T235959Z\nDURATION:P1000D"),
        event("DTSTART:00010101T000000Z\nRRULE:FREQ=YEARLY"),
        event("DTSTART;TZID=:20260105T100000"),
        event(&format!("DTSTART;X={}:20260105T100000Z", long("\"a\","))),
        event(&long("BEGIN:VALARM\nTRIGGER:-PT1M\nEND:VALARM\n")),
        event(&long("RRULE:FREQ=DAILY\n")),
    ];
    for text in hostile {
        assert_eq!(read(&text).len(), 1, "{}", &text[..80.min(text.len())]);
    }
}

fn zones() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "Asia/Seoul",
        "Australia/Lord_Howe",
        "Africa/Casablanca",
    ])
}

fn rules() -> impl Strategy<Value = Option<String>> {
    let end = prop_oneof![
        Just(String::new()),
        (1u32..40).prop_map(|count| format!(";COUNT={count}")),
        (1u32..28, 0u32..24).prop_map(|(day, hour)| format!(";UNTIL=202711{day:02}T{hour:02}0000")),
        (1u32..28).prop_map(|day| format!(";UNTIL=202711{day:02}")),
        (1u32..28, 0u32..24).prop_map(|(day, hour)| format!(";UNTIL=202711{day:02}T{hour:02}0000Z")),
    ];
    let base = prop::sample::select(vec![
        "FREQ=DAILY",
        "FREQ=DAILY;INTERVAL=3",
        "FREQ=WEEKLY;BYDAY=MO,WE,FR",
        "FREQ=WEEKLY;INTERVAL=2;BYDAY=TU;WKST=SU",
        "FREQ=MONTHLY;BYDAY=-1FR",
        "FREQ=MONTHLY;BYMONTHDAY=-1",
        "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1",
        "FREQ=YEARLY;BYMONTH=3,10;BYDAY=-1SU",
        "FREQ=YEARLY;BYWEEKNO=20",
        "FREQ=HOURLY;INTERVAL=7",
        "FREQ=DAILY;BYHOUR=2,9",
    ]);
    prop::option::weighted(0.85, (base, end).prop_map(|(base, end)| format!("{base}{end}")))
}

prop_compose! {
    fn specs()(
        zone in zones(),
        rule in rules(),
        (day, hour, minute) in (1i16..300, 0i8..24, prop::sample::select(vec![0i8, 15, 30])),
        length in prop::sample::select(vec![1i64, 15, 60, 25 * 60]),
        all_day in prop::bool::weighted(0.2),
        (gap, fold) in (prop::sample::select(vec![Gap::ShiftForward, Gap::Skip]), prop::sample::select(vec![Fold::First, Fold::Last, Fold::Both])),
        policy in prop::bool::weighted(0.3),
        dates in prop::collection::vec((1i16..600, any::<bool>()), 0..3),
        except in prop::collection::vec((0usize..12, any::<bool>()), 0..3),
        except_rule in prop::bool::weighted(0.1),
        overrides in prop::collection::vec((0usize..12, 0u8..4, -3i64..4, 0i64..3), 0..3),
    ) -> Option<RecurrenceSpec> {
        let date = jiff::civil::date(2026, 1, 1).checked_add(jiff::Span::new().days(day)).unwrap();
        let time = |days: i16| date.checked_add(jiff::Span::new().days(days)).unwrap().at(hour, minute, 0, 0);
        let text = |time: jiff::civil::DateTime| if all_day { time.date().to_string() } else { time.to_string() };
        let dst = if policy { Dst { gap, fold } } else { Dst::default() };
        let mut spec = RecurrenceSpec {
            start: text(time(0)),
            time_zone: zone.to_owned(),
            duration: Some(if all_day { SignedDuration::from_hours(24 * (1 + length % 3)) } else { SignedDuration::from_mins(length) }),
            rule,
            dates: dates.iter().map(|(days, whole)| if *whole { time(*days).date().to_string() } else { text(time(*days)) }).collect(),
            except_rules: if except_rule { vec!["FREQ=MONTHLY;INTERVAL=2".to_owned()] } else { Vec::new() },
            dst,
            ..RecurrenceSpec::default()
        };
        let found: Vec<_> = Recurrence::new(&spec).ok()?.all().take(12).filter(|it| !it.repeated).collect();
        let pick = |index: usize| found.get(index % found.len().max(1)).map(|it| it.local_start);
        for (index, whole) in except {
            let local = pick(index)?;
            spec.except_dates.push(if whole { local.date().to_string() } else { text(local) });
        }
        for (index, kind, days, hours) in overrides {
            let local = pick(index)?;
            let moved = local.checked_add(jiff::Span::new().days(days).hours(if all_day { 0 } else { hours })).unwrap();
            let mut it = Override { recurrence_id: text(local), ..Override::default() };
            match kind {
                0 => it.cancelled = true,
                1 => it.start = Some(text(moved)),
                2 => it.duration = Some(SignedDuration::from_hours(if all_day { 48 } else { 3 })),
                _ => {
                    it.this_and_future = true;
                    it.start = Some(text(moved));
                }
            }
            if spec.overrides.iter().all(|other: &Override| other.recurrence_id != it.recurrence_id) {
                spec.overrides.push(it);
            }
        }
        Recurrence::new(&spec).ok().map(|_| spec)
    }
}

#[test]
fn what_an_event_says_of_itself_is_kept_and_no_link_is_dropped() {
    let when = "DTSTART:20260105T100000Z\nDURATION:PT15M";
    let said = |lines: &str| {
        let series = taken(&event(&format!("{when}\n{lines}")));
        assert_eq!(series.remarks, [], "{lines}");
        (series.description, series.location, series.url)
    };
    let some = |text: &str| Some(text.to_owned());
    let meet = some("https://meet.google.com/abc-defg-hij");
    // Google.
    assert_eq!(
        said(
            "DESCRIPTION:Bring\\, if you can\\; notes\\nAgenda\nLOCATION:3rd floor\\, east\nX-GOOGLE-CONFERENCE:https://meet.google.com/abc-defg-hij"
        ),
        (some("Bring, if you can; notes\nAgenda"), some("3rd floor, east"), meet.clone())
    );
    // RFC 7986: a web page comes before a telephone number, and neither is lost; URL is for reading.
    assert_eq!(
        said(
            "CONFERENCE;VALUE=URI;FEATURE=PHONE;LABEL=Dial in:tel:+1-412-555-0123\n\
             CONFERENCE;VALUE=URI;FEATURE=VIDEO:https://meet.google.com/abc-defg-hij\nURL:https://wiki.example.com/standup;a,b"
        ),
        (some("URL: https://wiki.example.com/standup;a,b\nDial in: tel:+1-412-555-0123"), None, meet.clone())
    );
    // Outlook and Zoom: the link is in more than one place.
    let teams = "https://teams.microsoft.com/l/meetup-join/19%3ameeting_x%40thread.v2/0";
    assert_eq!(
        said(&format!(
            "DESCRIPTION:Join: {teams}\nLOCATION:Microsoft Teams Meeting\nX-MICROSOFT-SKYPETEAMSMEETINGURL:{teams}\nURL:{teams}"
        )),
        (some(&format!("Join: {teams}")), some("Microsoft Teams Meeting"), some(teams))
    );
    let zoom = "https://zoom.us/j/123?pwd=x";
    assert_eq!(said(&format!("LOCATION:{zoom}")), (None, None, some(zoom)));
    assert_eq!(said("DESCRIPTION:\nLOCATION:  \nURL:"), (None, None, None));
}

#[test]
fn a_place_that_is_a_resource_is_not_said_twice() {
    let text = event("DTSTART:20260105T100000Z\nDURATION:PT15M\nLOCATION:Room 1");
    let options = ReadOptions { location_is_resource: true, ..ReadOptions::default() };
    let ImportResult::Taken(series) = ical::read(text.as_bytes(), &options).events.remove(0).result else {
        panic!("{text}")
    };
    assert_eq!((series.resources, series.location), (vec!["Room 1".to_owned()], None));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_file_is_read_to_its_end_and_what_is_taken_of_it_is_valid(
        file in prop::sample::select(vec![
            include_bytes!("../../../cli/testdata/ical/google.ics").to_vec(),
            include_bytes!("../../../cli/testdata/ical/outlook.ics").to_vec(),
            include_bytes!("../../../cli/testdata/ical/apple.ics").to_vec(),
        ]),
        damage in prop::collection::vec((any::<prop::sample::Index>(), 0u8..5, any::<u8>()), 1..12),
    ) {
        let mut bytes = file;
        for (at, kind, byte) in damage {
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            let line_end = bytes[at..].iter().position(|it| *it == b'\n').map_or(bytes.len(), |end| at + end + 1);
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 => drop(bytes.drain(at..line_end)),
                3 => {
                    let line = bytes[at..line_end].to_vec();
                    bytes.splice(at..at, line);
                }
                _ if byte < 20 => bytes.truncate(at.max(1)),
                _ => bytes[at] = b"0123456789-;:,TZP\r\n "[usize::from(byte) % 20],
            }
        }
        let options = ReadOptions { time_zone: Some("Asia/Seoul".to_owned()), location_is_resource: true };
        let import = ical::read(&bytes, &options);
        for event in import.events {
            if let ImportResult::Taken(series) = event.result {
                prop_assert!(series.recurrence().is_ok(), "{:?}", series);
                let written = ical::write(std::slice::from_ref(&series), at("2026-01-01T00:00:00Z"));
                prop_assert!(written.series[0].is_ok(), "{:?} {:?}", written.series, series);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_back_with_the_same_meaning(
        spec in specs().prop_filter_map("the calendar refuses it", |spec| spec),
        title in "[a-zA-Z0-9 ,;:\\\\äß€\"'^-]{1,60}",
        person in "[a-zA-Z ,;:\"'^ü]{1,20}",
        about in "d[a-zA-Z0-9 ,;:\\\\€]{0,60}n",
        minutes in prop::collection::btree_set(-100i64..2000, 0..3),
        clock in prop::option::of((0..24i8, 0..60i8, 0..3u16)),
        transparent in any::<bool>(),
    ) {
        let clean = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let (title, person) = (clean(&format!("t{title}")), clean(&format!("p{person}p")));
        let series = Series {
            uid: "belfry/1, 2".to_owned(),
            name: Some("standup".to_owned()),
            sequence: Some(3),
            title,
            description: Some(format!("{about}\n\n{about}")),
            location: Some(clean(&format!("l{about}"))),
            url: Some("https://meet.example.com/a;b,c?d=1".to_owned()),
            spec,
            transparent,
            people: vec![
                Person { name: person, address: None },
                Person { name: "m".to_owned(), address: Some("m@example.com".to_owned()) },
            ],
            resources: vec!["Beamer, 4K".to_owned(), "room".to_owned()],
            reminders: minutes
                .iter()
                .rev()
                .map(|minutes| ReminderTime::Before { before_minutes: *minutes })
                .chain(clock.map(|(hour, minute, days_before)| {
                    ReminderTime::At { at: jiff::civil::time(hour, minute, 0, 0), days_before }
                }))
                .collect(),
            remarks: Vec::new(),
        };
        let text = written(&series);
        prop_assert!(text.split("\r\n").all(|line| line.len() <= 75), "{}", text);
        let back = taken(&text);
        let (ours, theirs) = (seen(&series, Timestamp::MIN, 60), seen(&back, Timestamp::MIN, 60));
        prop_assert_eq!(ours, theirs, "{}\n{:?}\n{:?}", text, series.spec, back.spec);
        let far = at("2033-01-01T00:00:00Z");
        prop_assert_eq!(seen(&series, far, 20), seen(&back, far, 20), "{}\n{:?}\n{:?}", text, series.spec, back.spec);
        prop_assert_eq!(
            (&back.uid, &back.name, back.sequence, &back.title, back.transparent, &back.people, &back.resources),
            (&series.uid, &series.name, series.sequence, &series.title, series.transparent, &series.people, &series.resources)
        );
        prop_assert_eq!(
            (&back.description, &back.location, &back.url),
            (&series.description, &series.location, &series.url)
        );
        // If no rule has the start, the file may have another start, at another time of day.
        let of_day = |spec: &RecurrenceSpec| spec.start.split_once('T').map(|(_, time)| time.to_owned());
        if of_day(&series.spec) == of_day(&back.spec) {
            prop_assert_eq!(&back.reminders, &series.reminders, "{}", text);
        }
        if back.spec.time_zone != series.spec.time_zone {
            prop_assert!(false, "{}", text);
        }
    }
}

#[test]
fn no_uid_is_written_twice() {
    let series = |uid: &str, name: &str, start: &str| Series {
        uid: uid.to_owned(),
        name: Some(name.to_owned()),
        title: name.to_owned(),
        spec: RecurrenceSpec {
            start: start.to_owned(),
            time_zone: "UTC".to_owned(),
            duration: Some(SignedDuration::from_hours(1)),
            ..RecurrenceSpec::default()
        },
        ..Series::default()
    };
    // A manifest that was copied with its annotations, and one whose own UID is the one that would be made for the
    // copy.
    let all = [
        series("a", "standup", "2026-01-05T10:00:00"),
        series("a", "copy", "2026-01-05T11:00:00"),
        series("a", "copy", "2026-01-05T12:00:00"),
        series("a/copy", "other", "2026-01-05T13:00:00"),
    ];
    let written = ical::write(&all, at("2026-01-01T00:00:00Z"));
    let mut uids: Vec<&str> = written.text.split("\r\n").filter(|it| it.starts_with("UID:")).collect();
    assert_eq!(uids, ["UID:a", "UID:a/copy-2", "UID:a/copy-3", "UID:a/copy"]);
    uids.dedup();
    assert_eq!(uids.len(), 4);
    let told = written.series[1].as_ref().unwrap();
    assert_eq!(told, &["UID: another has \"a\" too; this one is written with \"a/copy-2\""]);
    let back = read(&written.text);
    assert_eq!(back.iter().filter(|it| matches!(it.result, ImportResult::Taken(_))).count(), 4);
}

#[test]
fn occurrences_on_one_instant_are_one_as_long_as_the_longest() {
    let series = "DTSTART:20260105T100000Z\nDURATION:PT2H\nRRULE:FREQ=DAILY;COUNT=3";
    let change = |lines: &str| format!("BEGIN:VEVENT\nUID:1\nSUMMARY:t\n{lines}\nEND:VEVENT\n");
    let with = |changes: &[&str]| {
        let changes: String = changes.iter().map(|lines| change(lines)).collect();
        taken(&event(series).replace("END:VCALENDAR\n", &format!("{changes}END:VCALENDAR\n")))
    };
    let hours = |series: &Series| -> Vec<i64> {
        let all = series.recurrence().unwrap();
        all.all().map(|it| it.end.duration_since(it.start).as_mins()).collect()
    };
    // Moved onto the next occurrence, and shorter than it.
    let moved = with(&["RECURRENCE-ID:20260105T100000Z\nDTSTART:20260106T100000Z\nDURATION:PT30M"]);
    assert_eq!((starts(&moved, 9).len(), hours(&moved)), (2, vec![120, 120]));
    let told: Vec<String> = moved.remarks.iter().map(|it| format!("{}: {}", it.line, it.text)).collect();
    assert_eq!(
        told,
        [
            "12: RECURRENCE-ID: at 2026-01-06T10:00:00Z is another occurrence: they are one, as long as the longer"
        ]
    );
    // Two occurrences moved to the same time.
    let both = with(&[
        "RECURRENCE-ID:20260105T100000Z\nDTSTART:20260108T100000Z\nDURATION:PT30M",
        "RECURRENCE-ID:20260106T100000Z\nDTSTART:20260108T100000Z\nDURATION:PT90M",
    ]);
    assert_eq!((starts(&both, 9)[1].as_str(), hours(&both)), ("2026-01-08T10:00:00Z", vec![120, 90]));
    // A further occurrence where there is one already.
    let more = with(&["RECURRENCE-ID:20260120T100000Z\nDTSTART:20260106T100000Z\nDURATION:PT30M"]);
    assert_eq!(hours(&more), [120, 120, 120]);
    assert!(more.remarks.iter().any(|it| it.text.contains("is an occurrence already")), "{:?}", more.remarks);
    // Periods that begin at the same time.
    let periods = taken(&event(
        "DTSTART:20260105T100000Z\nDURATION:PT1H\nRDATE;VALUE=PERIOD:20260107T100000Z/PT3H,20260107T100000Z/PT2H",
    ));
    assert_eq!(hours(&periods), [60, 180]);
}

#[test]
fn what_a_change_of_all_that_follows_moved_away_shares_no_instant_and_what_it_moved_there_does() {
    let daily = |length: &str, to: &str, one: &str| {
        let change = |lines: &str| format!("BEGIN:VEVENT\nUID:1\nSUMMARY:t\n{lines}\nEND:VEVENT\n");
        let changes = change(&format!(
            "RECURRENCE-ID;RANGE=THISANDFUTURE:20260107T100000Z\nDTSTART:{to}\nDURATION:{length}"
        )) + &change(&format!("RECURRENCE-ID:20260109T100000Z\nDTSTART:{one}\nDURATION:PT30M"));
        let series = event("DTSTART:20260105T100000Z\nDURATION:PT1H\nRRULE:FREQ=DAILY;COUNT=6");
        let series = taken(&series.replace("END:VCALENDAR\n", &format!("{changes}END:VCALENDAR\n")));
        let all = series.recurrence().unwrap();
        let all: Vec<(String, i64)> =
            all.all().map(|it| (it.start.to_string(), it.end.duration_since(it.start).as_mins())).collect();
        let is_told = series.remarks.iter().any(|it| it.text.contains("they are one, as long as the longer"));
        let of_one =
            all.iter().filter(|(start, _)| *start == at(one).to_string()).map(|(_, minutes)| *minutes);
        (all.len(), of_one.collect::<Vec<_>>(), is_told)
    };
    // From the 7th on at 11:00. One of these is moved to 10:00, where no occurrence is any more.
    assert_eq!(daily("PT1H", "20260107T110000Z", "20260108T100000Z"), (6, vec![30], false));
    // At 9:00, and one of these is moved to where the first of them would have been.
    assert_eq!(daily("PT1H", "20260107T090000Z", "20260107T100000Z"), (6, vec![30], false));
    // One is moved to 11:00, where the override of the future put another.
    assert_eq!(daily("PT1H", "20260107T110000Z", "20260108T110000Z"), (5, vec![60], true));
    assert_eq!(daily("PT2H", "20260107T110000Z", "20260108T110000Z"), (5, vec![120], true));
    // Before that override, the occurrence is still where it was.
    assert_eq!(daily("PT2H", "20260107T110000Z", "20260106T100000Z"), (5, vec![60], true));
}

#[test]
fn of_several_on_one_instant_what_is_seen_is_written() {
    let moved = |id: &str, start: Option<&str>, minutes: i64| Override {
        recurrence_id: id.to_owned(),
        start: start.map(str::to_owned),
        duration: Some(SignedDuration::from_mins(minutes)),
        ..Override::default()
    };
    let later = |id: &str, start: &str| Override {
        recurrence_id: id.to_owned(),
        this_and_future: true,
        start: Some(start.to_owned()),
        ..Override::default()
    };
    for overrides in [
        // Moved onto a longer occurrence, and onto one that the rule gives.
        vec![
            moved("2026-01-08T10:00:00", None, 180),
            moved("2026-01-06T10:00:00", Some("2026-01-08T10:00:00"), 60),
        ],
        vec![moved("2026-01-06T10:00:00", Some("2026-01-08T10:00:00"), 60)],
        // All future occurrences are moved to earlier times, and one of them is shorter.
        vec![later("2026-01-09T10:00:00", "2026-01-07T10:00:00"), moved("2026-01-10T10:00:00", None, 60)],
        // One occurrence is moved onto the first of the future ones.
        vec![
            later("2026-01-09T10:00:00", "2026-01-09T11:00:00"),
            moved("2026-01-07T10:00:00", Some("2026-01-09T11:00:00"), 60),
        ],
    ] {
        for (time_zone, all_day) in [("UTC", false), ("Europe/Berlin", false), ("Europe/Berlin", true)] {
            let date = |text: &str| if all_day { text[..10].to_owned() } else { text.to_owned() };
            let minutes = |it: SignedDuration| {
                if all_day { SignedDuration::from_hours(24 * it.as_hours()) } else { it }
            };
            let overrides = overrides.iter().map(|it| Override {
                recurrence_id: date(&it.recurrence_id),
                start: it.start.as_deref().map(date),
                duration: it.duration.map(minutes),
                ..it.clone()
            });
            let series = Series {
                uid: "1".to_owned(),
                title: "t".to_owned(),
                spec: RecurrenceSpec {
                    start: date("2026-01-05T10:00:00"),
                    time_zone: time_zone.to_owned(),
                    duration: Some(minutes(SignedDuration::from_hours(2))),
                    rule: Some("FREQ=DAILY;COUNT=9".to_owned()),
                    overrides: overrides.collect(),
                    ..RecurrenceSpec::default()
                },
                ..Series::default()
            };
            let text = written(&series);
            let (ours, theirs) = (seen(&series, Timestamp::MIN, 20), seen(&taken(&text), Timestamp::MIN, 20));
            assert_eq!(ours, theirs, "{text}");
        }
    }
}

#[test]
fn a_date_that_does_not_exist_is_written_in_utc_as_the_later_time_that_it_is() {
    let series = Series {
        uid: "1".to_owned(),
        title: "t".to_owned(),
        spec: RecurrenceSpec {
            start: "2026-03-01T02:00:00".to_owned(),
            time_zone: "Europe/Berlin".to_owned(),
            duration: Some(SignedDuration::from_mins(1)),
            rule: Some("FREQ=HOURLY;INTERVAL=7;COUNT=2".to_owned()),
            dates: vec!["2026-03-29T02:30:00".to_owned()],
            ..RecurrenceSpec::default()
        },
        ..Series::default()
    };
    let text = written(&series);
    assert!(text.contains("RDATE:20260329T013000Z"), "{text}");
    assert_eq!(starts(&taken(&text), 9), starts(&series, 9));
}

#[test]
fn what_costs_much_to_name_is_bounded() {
    let dates: Vec<String> = (1..=28).map(|day| format!("EXDATE;VALUE=DATE:202601{day:02}\n")).collect();
    for rule in [
        "FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=29;BYHOUR=3;BYMINUTE=4;BYSECOND=5",
        "FREQ=SECONDLY;INTERVAL=999983",
        "FREQ=MINUTELY;BYMONTH=2;BYMONTHDAY=29",
    ] {
        let text = event(&format!("DTSTART:20260105T100000Z\nRRULE:{rule}\n{}", dates.concat().repeat(30)));
        assert_eq!(read(&text).len(), 1, "{rule}");
    }
}

#[test]
fn of_two_that_nothing_decides_one_that_does_not_cancel_holds() {
    let series = event("DTSTART:20260105T100000Z\nDURATION:PT1H\nRRULE:FREQ=DAILY;COUNT=2");
    let change = |lines: &str| {
        format!("BEGIN:VEVENT\nUID:1\nSUMMARY:t\nRECURRENCE-ID:20260106T100000Z\n{lines}\nEND:VEVENT\n")
    };
    let moved = change("DTSTART:20260106T120000Z\nDURATION:PT1H");
    let gone = change("DTSTART:20260106T100000Z\nSTATUS:CANCELLED");
    for changes in [format!("{moved}{gone}"), format!("{gone}{moved}")] {
        let series = taken(&series.replace("END:VCALENDAR\n", &format!("{changes}END:VCALENDAR\n")));
        assert_eq!(starts(&series, 9), ["2026-01-05T10:00:00Z", "2026-01-06T12:00:00Z"]);
        let told: Vec<&str> = series.remarks.iter().map(|it| it.text.as_str()).collect();
        assert!(told.iter().any(|it| it.contains("is no newer: not cancelled")), "{told:?}");
    }
    // Nor does any order of them decide if the series itself is there twice.
    let again = event("DTSTART:20260107T100000Z\nDURATION:PT1H").replace("BEGIN:VCALENDAR\n", "");
    let both = event("DTSTART:20260105T100000Z\nDURATION:PT1H").replace("END:VCALENDAR\n", &again);
    let events = read(&both);
    assert!(matches!(&events[0].result, ImportResult::Taken(_)), "{events:?}");
    assert!(
        matches!(&events[1].result, ImportResult::Refused(why) if why.text.contains("has the same")),
        "{events:?}"
    );
}

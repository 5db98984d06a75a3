//! The examples that RFC 5545 prints in section 3.8.5.3. All start at 1997-09-02T09:00:00 in New York, unless
//! stated.

use crate::{locals, recurrence};

/// Checks that the rule begins with these times. Each word is a day such as `1997-09-02`, or a month and its days
/// such as `1997-09:2,9,16`, at 09:00. With `ends`, the rule must have no others.
fn expect_from(start: &str, rule: &str, ends: bool, days: &str) {
    let mut wanted = Vec::new();
    for word in days.split_whitespace() {
        let (month, list) = word.split_once(':').unwrap();
        for day in list.split(',') {
            match day.split_once("..") {
                Some((from, to)) => {
                    for day in from.parse::<i32>().unwrap()..=to.parse().unwrap() {
                        wanted.push(format!("{month}-{day:02} 09:00"));
                    }
                }
                None => wanted.push(format!("{month}-{:02} 09:00", day.parse::<i32>().unwrap())),
            }
        }
    }
    let got = locals(&recurrence(start, "America/New_York", rule), wanted.len() + usize::from(ends));
    assert_eq!(got, wanted, "{rule}");
}

fn begins(rule: &str, days: &str) {
    expect_from("1997-09-02T09:00:00", rule, false, days);
}

fn is_exactly(rule: &str, days: &str) {
    expect_from("1997-09-02T09:00:00", rule, true, days);
}

fn times(start: &str, rule: &str, wanted: &[&str]) {
    let got = locals(&recurrence(start, "America/New_York", rule), wanted.len());
    assert_eq!(got, wanted, "{rule}");
}

#[test]
fn daily_for_10_occurrences() {
    is_exactly("FREQ=DAILY;COUNT=10", "1997-09:2..11");
}

#[test]
fn daily_until_december_24() {
    is_exactly(
        "FREQ=DAILY;UNTIL=19971224T000000Z",
        "1997-09:2..30 1997-10:1..31 1997-11:1..30 1997-12:1..23",
    );
}

#[test]
fn every_other_day_forever() {
    begins("FREQ=DAILY;INTERVAL=2", "1997-09:2,4,6,8,10,12,14,16,18,20,22,24,26,28,30 1997-10:2,4,6");
}

#[test]
fn every_10_days_5_occurrences() {
    is_exactly("FREQ=DAILY;INTERVAL=10;COUNT=5", "1997-09:2,12,22 1997-10:2,12");
}

#[test]
fn every_day_in_january_for_3_years_said_in_two_ways() {
    for rule in [
        "FREQ=YEARLY;UNTIL=20000131T140000Z;BYMONTH=1;BYDAY=SU,MO,TU,WE,TH,FR,SA",
        "FREQ=DAILY;UNTIL=20000131T140000Z;BYMONTH=1",
    ] {
        expect_from("1998-01-01T09:00:00", rule, true, "1998-01:1..31 1999-01:1..31 2000-01:1..31");
    }
}

#[test]
fn weekly_for_10_occurrences_and_until_december_24() {
    let ten = "1997-09:2,9,16,23,30 1997-10:7,14,21,28 1997-11:4";
    is_exactly("FREQ=WEEKLY;COUNT=10", ten);
    is_exactly("FREQ=WEEKLY;UNTIL=19971224T000000Z", &format!("{ten},11,18,25 1997-12:2,9,16,23"));
}

#[test]
fn every_other_week_forever() {
    begins(
        "FREQ=WEEKLY;INTERVAL=2;WKST=SU",
        "1997-09:2,16,30 1997-10:14,28 1997-11:11,25 1997-12:9,23 1998-01:6,20 1998-02:3,17",
    );
}

#[test]
fn weekly_on_tuesday_and_thursday_for_five_weeks() {
    for rule in
        ["FREQ=WEEKLY;UNTIL=19971007T000000Z;WKST=SU;BYDAY=TU,TH", "FREQ=WEEKLY;COUNT=10;WKST=SU;BYDAY=TU,TH"]
    {
        is_exactly(rule, "1997-09:2,4,9,11,16,18,23,25,30 1997-10:2");
    }
}

#[test]
fn every_other_week_on_monday_wednesday_and_friday_until_december_24() {
    expect_from(
        "1997-09-01T09:00:00",
        "FREQ=WEEKLY;INTERVAL=2;UNTIL=19971224T000000Z;WKST=SU;BYDAY=MO,WE,FR",
        true,
        "1997-09:1,3,5,15,17,19,29 1997-10:1,3,13,15,17,27,29,31 1997-11:10,12,14,24,26,28 1997-12:8,10,12,22",
    );
}

#[test]
fn every_other_week_on_tuesday_and_thursday_8_occurrences() {
    is_exactly("FREQ=WEEKLY;INTERVAL=2;COUNT=8;WKST=SU;BYDAY=TU,TH", "1997-09:2,4,16,18,30 1997-10:2,14,16");
}

#[test]
fn monthly_on_the_first_friday() {
    let ten =
        "1997-09:5 1997-10:3 1997-11:7 1997-12:5 1998-01:2 1998-02:6 1998-03:6 1998-04:3 1998-05:1 1998-06:5";
    expect_from("1997-09-05T09:00:00", "FREQ=MONTHLY;COUNT=10;BYDAY=1FR", true, ten);
    let four = "1997-09:5 1997-10:3 1997-11:7 1997-12:5";
    expect_from("1997-09-05T09:00:00", "FREQ=MONTHLY;UNTIL=19971224T000000Z;BYDAY=1FR", true, four);
}

#[test]
fn every_other_month_on_the_first_and_last_sunday() {
    expect_from(
        "1997-09-07T09:00:00",
        "FREQ=MONTHLY;INTERVAL=2;COUNT=10;BYDAY=1SU,-1SU",
        true,
        "1997-09:7,28 1997-11:2,30 1998-01:4,25 1998-03:1,29 1998-05:3,31",
    );
}

#[test]
fn monthly_on_the_second_to_last_monday_for_6_months() {
    expect_from(
        "1997-09-22T09:00:00",
        "FREQ=MONTHLY;COUNT=6;BYDAY=-2MO",
        true,
        "1997-09:22 1997-10:20 1997-11:17 1997-12:22 1998-01:19 1998-02:16",
    );
}

#[test]
fn monthly_on_the_third_to_last_day() {
    expect_from(
        "1997-09-28T09:00:00",
        "FREQ=MONTHLY;BYMONTHDAY=-3",
        false,
        "1997-09:28 1997-10:29 1997-11:28 1997-12:29 1998-01:29 1998-02:26",
    );
}

#[test]
fn monthly_on_the_2nd_and_15th_and_on_the_first_and_last_day() {
    is_exactly(
        "FREQ=MONTHLY;COUNT=10;BYMONTHDAY=2,15",
        "1997-09:2,15 1997-10:2,15 1997-11:2,15 1997-12:2,15 1998-01:2,15",
    );
    expect_from(
        "1997-09-30T09:00:00",
        "FREQ=MONTHLY;COUNT=10;BYMONTHDAY=1,-1",
        true,
        "1997-09:30 1997-10:1,31 1997-11:1,30 1997-12:1,31 1998-01:1,31 1998-02:1",
    );
}

#[test]
fn every_18_months_on_the_10th_to_15th() {
    expect_from(
        "1997-09-10T09:00:00",
        "FREQ=MONTHLY;INTERVAL=18;COUNT=10;BYMONTHDAY=10,11,12,13,14,15",
        true,
        "1997-09:10..15 1999-03:10..13",
    );
}

#[test]
fn every_tuesday_every_other_month() {
    begins(
        "FREQ=MONTHLY;INTERVAL=2;BYDAY=TU",
        "1997-09:2,9,16,23,30 1997-11:4,11,18,25 1998-01:6,13,20,27 1998-03:3,10,17,24,31",
    );
}

#[test]
fn yearly_in_june_and_july() {
    expect_from(
        "1997-06-10T09:00:00",
        "FREQ=YEARLY;COUNT=10;BYMONTH=6,7",
        true,
        "1997-06:10 1997-07:10 1998-06:10 1998-07:10 1999-06:10 1999-07:10 2000-06:10 2000-07:10 2001-06:10 \
         2001-07:10",
    );
}

#[test]
fn every_other_year_in_january_february_and_march() {
    expect_from(
        "1997-03-10T09:00:00",
        "FREQ=YEARLY;INTERVAL=2;COUNT=10;BYMONTH=1,2,3",
        true,
        "1997-03:10 1999-01:10 1999-02:10 1999-03:10 2001-01:10 2001-02:10 2001-03:10 2003-01:10 2003-02:10 \
         2003-03:10",
    );
}

#[test]
fn every_third_year_on_the_1st_100th_and_200th_day() {
    expect_from(
        "1997-01-01T09:00:00",
        "FREQ=YEARLY;INTERVAL=3;COUNT=10;BYYEARDAY=1,100,200",
        true,
        "1997-01:1 1997-04:10 1997-07:19 2000-01:1 2000-04:9 2000-07:18 2003-01:1 2003-04:10 2003-07:19 2006-01:1",
    );
}

#[test]
fn every_20th_monday_of_the_year_and_monday_of_week_20() {
    expect_from("1997-05-19T09:00:00", "FREQ=YEARLY;BYDAY=20MO", false, "1997-05:19 1998-05:18 1999-05:17");
    expect_from(
        "1997-05-12T09:00:00",
        "FREQ=YEARLY;BYWEEKNO=20;BYDAY=MO",
        false,
        "1997-05:12 1998-05:11 1999-05:17",
    );
}

#[test]
fn every_thursday_in_march_and_in_summer() {
    expect_from(
        "1997-03-13T09:00:00",
        "FREQ=YEARLY;BYMONTH=3;BYDAY=TH",
        false,
        "1997-03:13,20,27 1998-03:5,12,19,26 1999-03:4,11,18,25",
    );
    expect_from(
        "1997-06-05T09:00:00",
        "FREQ=YEARLY;BYDAY=TH;BYMONTH=6,7,8",
        false,
        "1997-06:5,12,19,26 1997-07:3,10,17,24,31 1997-08:7,14,21,28 1998-06:4,11,18,25 1998-07:2,9,16,23,30 \
         1998-08:6,13,20,27 1999-06:3",
    );
}

#[test]
fn every_friday_the_13th() {
    begins("FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13", "1998-02:13 1998-03:13 1998-11:13 1999-08:13 2000-10:13");
}

#[test]
fn every_friday_the_13th_without_the_start() {
    // As the RFC prints it. For us the start is no occurrence anyway.
    let spec = calendar::RecurrenceSpec {
        except_dates: vec!["1997-09-02T09:00:00".into()],
        ..crate::spec("1997-09-02T09:00:00", "America/New_York", "FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13")
    };
    let found = calendar::Recurrence::new(&spec).unwrap();
    let days = ["1998-02-13", "1998-03-13", "1998-11-13", "1999-08-13", "2000-10-13"];
    assert_eq!(locals(&found, 5), days.map(|day| format!("{day} 09:00")));
}

#[test]
fn the_examples_of_section_3_3_10() {
    // The order in which the parts apply does not depend on their order in the text.
    let rule = "FREQ=YEARLY;INTERVAL=2;BYMONTH=1;BYDAY=SU;BYHOUR=8,9;BYMINUTE=30";
    times(
        "1997-01-05T08:30:00",
        rule,
        &["1997-01-05 08:30", "1997-01-05 09:30", "1997-01-12 08:30", "1997-01-12 09:30", "1997-01-19 08:30"],
    );
    is_exactly("FREQ=DAILY;COUNT=10;INTERVAL=2", "1997-09:2,4,6,8,10,12,14,16,18,20");
    begins(
        "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1",
        "1997-09:30 1997-10:31 1997-11:28 1997-12:31 1998-01:30",
    );
    begins("FREQ=YEARLY;BYMONTH=1", "1998-01:2 1999-01:2 2000-01:2");
}

#[test]
fn the_first_saturday_that_follows_the_first_sunday() {
    expect_from(
        "1997-09-13T09:00:00",
        "FREQ=MONTHLY;BYDAY=SA;BYMONTHDAY=7,8,9,10,11,12,13",
        false,
        "1997-09:13 1997-10:11 1997-11:8 1997-12:13 1998-01:10 1998-02:7 1998-03:7 1998-04:11 1998-05:9 1998-06:13",
    );
}

#[test]
fn us_presidential_election_day() {
    expect_from(
        "1996-11-05T09:00:00",
        "FREQ=YEARLY;INTERVAL=4;BYMONTH=11;BYDAY=TU;BYMONTHDAY=2,3,4,5,6,7,8",
        false,
        "1996-11:5 2000-11:7 2004-11:2",
    );
}

#[test]
fn positions_in_the_set_of_a_month() {
    expect_from(
        "1997-09-04T09:00:00",
        "FREQ=MONTHLY;COUNT=3;BYDAY=TU,WE,TH;BYSETPOS=3",
        true,
        "1997-09:4 1997-10:7 1997-11:6",
    );
    expect_from(
        "1997-09-29T09:00:00",
        "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-2",
        false,
        "1997-09:29 1997-10:30 1997-11:27 1997-12:30 1998-01:29 1998-02:26 1998-03:30",
    );
}

#[test]
fn every_3_hours_from_9_to_17_on_one_day() {
    // The RFC's UNTIL of 17:00 was meant as local time (errata 3883); UTC 21:00 is that.
    let rule = "FREQ=HOURLY;INTERVAL=3;UNTIL=19970902T210000Z";
    let got = locals(&recurrence("1997-09-02T09:00:00", "America/New_York", rule), 9);
    assert_eq!(got, ["1997-09-02 09:00", "1997-09-02 12:00", "1997-09-02 15:00"]);
}

#[test]
fn every_15_minutes_6_times_and_every_90_minutes_4_times() {
    times(
        "1997-09-02T09:00:00",
        "FREQ=MINUTELY;INTERVAL=15;COUNT=6",
        &[
            "1997-09-02 09:00",
            "1997-09-02 09:15",
            "1997-09-02 09:30",
            "1997-09-02 09:45",
            "1997-09-02 10:00",
            "1997-09-02 10:15",
        ],
    );
    times(
        "1997-09-02T09:00:00",
        "FREQ=MINUTELY;INTERVAL=90;COUNT=4",
        &["1997-09-02 09:00", "1997-09-02 10:30", "1997-09-02 12:00", "1997-09-02 13:30"],
    );
}

#[test]
fn every_20_minutes_from_9_to_1640_every_day_said_in_two_ways() {
    let of = |rule| locals(&recurrence("1997-09-02T09:00:00", "America/New_York", rule), 200);
    let daily = of("FREQ=DAILY;BYHOUR=9,10,11,12,13,14,15,16;BYMINUTE=0,20,40");
    assert_eq!(daily, of("FREQ=MINUTELY;INTERVAL=20;BYHOUR=9,10,11,12,13,14,15,16"));
    assert_eq!(daily[0], "1997-09-02 09:00");
    assert_eq!(daily[23], "1997-09-02 16:40");
    assert_eq!(daily[24], "1997-09-03 09:00");
}

#[test]
fn the_week_start_makes_a_difference() {
    expect_from(
        "1997-08-05T09:00:00",
        "FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=MO",
        true,
        "1997-08:5,10,19,24",
    );
    expect_from(
        "1997-08-05T09:00:00",
        "FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=SU",
        true,
        "1997-08:5,17,19,31",
    );
}

#[test]
fn an_invalid_date_is_left_out_and_not_counted() {
    expect_from(
        "2007-01-15T09:00:00",
        "FREQ=MONTHLY;BYMONTHDAY=15,30;COUNT=5",
        true,
        "2007-01:15,30 2007-02:15 2007-03:15,30",
    );
}

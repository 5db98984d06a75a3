//! Files as other programs write them: of each event of `corpus/*.ics` the outcome, the instants by the text of RFC 5545,
//! 5546 and 7986, and every remark that the import makes, word by word.
//!
//! `corpus/*.txt` have them in the order of the file; comments name the clause. Nothing is made from what the import says.

use std::fmt::Write as _;

use calendar::ical::{self, ImportResult, ImportedEvent, ReadOptions};

const FILES: [(&str, &str, &str); 7] = [
    ("exchange", include_str!("corpus/exchange.ics"), include_str!("corpus/exchange.txt")),
    ("outlook", include_str!("corpus/outlook.ics"), include_str!("corpus/outlook.txt")),
    ("apple", include_str!("corpus/apple.ics"), include_str!("corpus/apple.txt")),
    ("google", include_str!("corpus/google.ics"), include_str!("corpus/google.txt")),
    ("thunderbird", include_str!("corpus/thunderbird.ics"), include_str!("corpus/thunderbird.txt")),
    ("zimbra", include_str!("corpus/zimbra.ics"), include_str!("corpus/zimbra.txt")),
    ("lotus", include_str!("corpus/lotus.ics"), include_str!("corpus/lotus.txt")),
];

fn told(event: &ImportedEvent) -> String {
    let uid = event.uid.as_deref().unwrap_or("-");
    match &event.result {
        ImportResult::LeftOut(why) => format!("left {uid}\n  {}: {why}\n", event.line),
        ImportResult::Refused(why) => format!("refused {uid}\n  {}: {}\n", why.line, why.text),
        ImportResult::Taken(series) => {
            let mut text = format!("taken {uid}\n");
            for it in series.recurrence().unwrap().all().take(20) {
                writeln!(text, "  {} {}", it.start, it.end).unwrap();
            }
            for it in &series.remarks {
                writeln!(text, "  {}: {}", it.line, it.text).unwrap();
            }
            text
        }
    }
}

fn read(text: &str, expected: &str) -> Vec<ImportedEvent> {
    let zone = expected.lines().find_map(|line| line.strip_prefix("time-zone "));
    let options = ReadOptions { time_zone: zone.map(str::to_owned), ..ReadOptions::default() };
    let import = ical::read(text.as_bytes(), &options);
    assert_eq!(import.notes, []);
    import.events
}

#[test]
fn what_other_programs_write_is_when_the_rfc_says_and_every_remark_is_as_expected() {
    let mut wrong = String::new();
    for (name, text, expected) in FILES {
        let of_text = |line: &&str| !line.starts_with('#') && !line.starts_with("time-zone ");
        let wanted: String = expected.lines().filter(of_text).flat_map(|line| [line, "\n"]).collect();
        let found: String = read(text, expected).iter().map(told).collect();
        if found != wanted {
            write!(wrong, "{name} is\n{found}and should be\n{wanted}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn the_order_of_components_and_their_containers_do_not_matter() {
    for (name, text, expected) in FILES {
        let instants = |text: &str| {
            let mut all: Vec<(String, Vec<String>)> = Vec::new();
            for event in read(text, expected) {
                if let ImportResult::Taken(series) = event.result {
                    let recurrence = series.recurrence().unwrap();
                    let starts = recurrence.all().take(20).map(|it| format!("{} {}", it.start, it.end));
                    all.push((series.uid, starts.collect()));
                }
            }
            all.sort();
            all
        };
        let wanted = instants(text);
        assert!(!wanted.is_empty());
        for (each_alone, what) in [(false, "turned around"), (true, "each in a calendar of its own")] {
            let turned = turned(text, each_alone);
            assert_eq!(instants(&turned), wanted, "{name}, {what}:\n{turned}");
        }
    }
}

/// All components of each calendar in the opposite order, and the calendars too.
fn turned(text: &str, each_alone: bool) -> String {
    let mut calendars = Vec::new();
    for calendar in text.split("BEGIN:VCALENDAR\n").skip(1) {
        let calendar = calendar.strip_suffix("END:VCALENDAR\n").unwrap();
        let (mut head, mut zones, mut events) = (String::new(), String::new(), Vec::new());
        let mut lines = calendar.lines().peekable();
        while let Some(line) = lines.next() {
            if let Some(kind) = line.strip_prefix("BEGIN:") {
                let mut whole = format!("{line}\n");
                let end = format!("END:{kind}");
                for line in lines.by_ref() {
                    whole.extend([line, "\n"]);
                    if line == end {
                        break;
                    }
                }
                if kind == "VTIMEZONE" { zones += &whole } else { events.push(whole) }
            } else {
                head.extend([line, "\n"]);
            }
        }
        events.reverse();
        let wrap = |events: &str| format!("BEGIN:VCALENDAR\n{head}{zones}{events}END:VCALENDAR\n");
        if each_alone {
            calendars.extend(events.iter().map(|event| wrap(event)));
        } else {
            calendars.push(wrap(&events.concat()));
        }
    }
    calendars.reverse();
    calendars.concat()
}

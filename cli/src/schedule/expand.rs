//! `belfry schedule expand`: expands recurrence rules to instants, one JSON object per line, so that test vectors of other
//! libraries can be run.
//!
//! It accepts what the RFC allows, even where a Schedule refuses it. A rule that never happens gives an empty list.

use std::io::BufRead;

use calendar::{Dst, Fold, Gap, Recurrence, RecurrenceError, RecurrenceSpec, find_zone};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use super::text::{ALLOWED_TIMES, ParsedTime, property, unfolded_lines};

/// How many instants of an endless rule are returned if neither `to` nor `limit` is given.
const DEFAULT_LIMIT: usize = 1_000;
/// The most instants of one answer.
const MAX_INSTANTS: usize = 1_000_000;

/// One line. Other keys are ignored: test vectors contain names and expectations.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Request {
    rrule: Option<Texts>,
    exrule: Option<Texts>,
    dtstart: Option<String>,
    tzid: Option<String>,
    exdate: Option<Texts>,
    rdate: Option<Texts>,
    from: Option<String>,
    to: Option<String>,
    limit: Option<usize>,
    dst: Option<DstPolicy>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Texts {
    One(String),
    Many(Vec<String>),
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct DstPolicy {
    gap: Option<Gap>,
    fold: Option<Fold>,
}

/// The properties of all keys of a request.
#[derive(Default)]
struct Properties {
    rules: Vec<String>,
    except_rules: Vec<String>,
    dates: Vec<(Option<String>, String)>,
    except_dates: Vec<(Option<String>, String)>,
    starts: Vec<(Option<String>, String)>,
}

/// Answers each line of `input`; always returns true.
pub(crate) fn run(input: impl BufRead, mut tell: impl FnMut(&Value)) -> anyhow::Result<bool> {
    for line in input.lines() {
        let line = line?;
        if !line.trim().is_empty() {
            tell(&answer(&line));
        }
    }
    Ok(true)
}

/// The answer to a line: a JSON list of instants, or an object with `error`.
pub(crate) fn answer(line: &str) -> Value {
    let answer =
        serde_json::from_str(line).map_err(|error| error.to_string()).and_then(|request| expand(&request));
    match answer {
        Ok(instants) => json!(instants),
        Err(error) => json!({ "error": error }),
    }
}

fn expand(request: &Request) -> Result<Vec<Timestamp>, String> {
    let lines = Properties::from_request(request);
    let (spec, zone) = spec(&lines, request)?;
    let instant = |name: &str, text: &Option<String>| match text {
        None => Ok(None),
        Some(text) => {
            let at = ParsedTime::parse_exact(text).and_then(|time| time.instant(&zone));
            at.map(Some).ok_or_else(|| refused(name, text))
        }
    };
    let (from, to) = (instant("from", &request.from)?, instant("to", &request.to)?);
    if request.limit.is_some_and(|limit| limit > MAX_INSTANTS) {
        return Err(format!("limit: allowed is a number from 0 to {MAX_INSTANTS}"));
    }
    let Some(recurrence) = recurrence(spec)? else { return Ok(Vec::new()) };
    let second = SignedDuration::from_secs(1);
    let after = from.map_or(Timestamp::MIN, |from| from.saturating_sub(second).unwrap_or(Timestamp::MIN));
    let starts = recurrence.occurrences(after).map(|it| it.start);
    let mut starts = starts.skip_while(|start| from.is_some_and(|from| *start < from));
    let endless = to.is_none() && recurrence.rules().iter().any(|rule| !rule.is_bounded());
    let most = request.limit.unwrap_or(if endless { DEFAULT_LIMIT } else { MAX_INSTANTS });
    let instants: Vec<Timestamp> =
        starts.by_ref().take_while(|start| to.is_none_or(|to| *start < to)).take(most).collect();
    if request.limit.is_none() && !endless && instants.len() == MAX_INSTANTS {
        return Err(format!("more than {MAX_INSTANTS} instants; give limit, or from and to"));
    }
    Ok(instants)
}

/// Makes the recurrence; `None` if it has no instant at all.
fn recurrence(mut spec: RecurrenceSpec) -> Result<Option<Recurrence>, String> {
    // Drop rules that end before the start: they add nothing to the others.
    let mut rules: Vec<String> =
        spec.rule.take().into_iter().chain(std::mem::take(&mut spec.more_rules)).collect();
    let had_rules = !rules.is_empty();
    if rules.len() > 1 || !spec.dates.is_empty() {
        rules.retain(|rule| {
            let alone = RecurrenceSpec { rule: Some(rule.clone()), dates: Vec::new(), ..spec.clone() };
            !matches!(Recurrence::new(&alone), Err(RecurrenceError::UntilBeforeStart { .. }))
        });
    }
    if had_rules && rules.is_empty() {
        // A recurrence without a rule would have the start as its only occurrence, which is wrong here.
        return if spec.dates.is_empty() {
            Ok(None)
        } else {
            Err("rdate: allowed beside a rule whose UNTIL is at or after dtstart".to_owned())
        };
    }
    let mut rules = rules.into_iter();
    spec.rule = rules.next();
    spec.more_rules = rules.collect();
    match Recurrence::new(&spec) {
        Ok(recurrence) => Ok(Some(recurrence)),
        Err(RecurrenceError::NeverHappens | RecurrenceError::UntilBeforeStart { .. }) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

fn spec(lines: &Properties, request: &Request) -> Result<(RecurrenceSpec, TimeZone), String> {
    let (of_start, text) = match lines.starts.as_slice() {
        [] => return Err(format!("dtstart: missing; allowed is {ALLOWED_TIMES}")),
        [start] => start,
        [start, rest @ ..]
            if rest.iter().all(|it| ParsedTime::parse(&it.1) == ParsedTime::parse(&start.1)) =>
        {
            start
        }
        _ => return Err("dtstart: given twice, and not the same".to_owned()),
    };
    let given = request.tzid.as_deref().map(str::trim).filter(|name| !name.is_empty());
    let name = given.or(of_start.as_deref()).unwrap_or("UTC");
    let zone = zone(name)?;
    let start = ParsedTime::parse(text).ok_or_else(|| refused("dtstart", text))?;
    let start = match (start, of_start) {
        (ParsedTime::Instant(at), _) => ParsedTime::Local(zone.to_datetime(at)),
        (ParsedTime::Local(local), Some(other)) if other.as_str() != name => {
            let at = self::zone(other)?.to_timestamp(local).map_err(|error| error.to_string())?;
            ParsedTime::Local(zone.to_datetime(at))
        }
        (start, _) => start,
    };
    let policy = request.dst.as_ref();
    let mut rules = lines.rules.iter().cloned();
    let spec = RecurrenceSpec {
        start: start.write(None).unwrap_or_default(),
        time_zone: name.to_owned(),
        rule: rules.next(),
        more_rules: rules.collect(),
        except_rules: lines.except_rules.clone(),
        dates: times("rdate", &lines.dates, name)?,
        except_dates: times("exdate", &lines.except_dates, name)?,
        dst: Dst {
            gap: policy.and_then(|it| it.gap).unwrap_or_default(),
            fold: policy.and_then(|it| it.fold).unwrap_or_default(),
        },
        ..RecurrenceSpec::default()
    };
    Ok((spec, zone))
}

fn zone(name: &str) -> Result<TimeZone, String> {
    find_zone(name).ok_or_else(|| {
        format!("tzid \"{name}\" is unknown; allowed are IANA names such as Europe/Berlin or UTC")
    })
}

fn refused(name: &str, text: &str) -> String {
    let text: String = text.chars().take(40).collect();
    format!("{name} \"{text}\" is not allowed; allowed is {ALLOWED_TIMES}")
}

/// Converts times to the calendar's form; each may be a period.
fn times(list: &str, texts: &[(Option<String>, String)], name: &str) -> Result<Vec<String>, String> {
    let mut times = Vec::new();
    for (of, text) in texts {
        let other = of.as_deref().filter(|of| *of != name).map(zone).transpose()?;
        let write = |text: &str| ParsedTime::parse(text).and_then(|time| time.write(other.as_ref()));
        let written = match text.split_once('/') {
            None => write(text),
            Some((from, till)) if till.starts_with('P') => write(from).map(|from| format!("{from}/{till}")),
            Some((from, till)) => write(from).zip(write(till)).map(|(from, till)| format!("{from}/{till}")),
        };
        times.push(written.ok_or_else(|| refused(list, text))?);
    }
    Ok(times)
}

impl Properties {
    fn from_request(request: &Request) -> Self {
        let mut all = Self::default();
        if let Some(start) = &request.dtstart {
            all.add("DTSTART", start);
        }
        for (name, texts) in [
            ("RRULE", &request.rrule),
            ("EXRULE", &request.exrule),
            ("RDATE", &request.rdate),
            ("EXDATE", &request.exdate),
        ] {
            match texts {
                None => {}
                Some(Texts::One(text)) => all.add(name, text),
                Some(Texts::Many(texts)) => texts.iter().for_each(|text| all.add(name, text)),
            }
        }
        all
    }

    /// Adds a text of one or more lines. A line that names no property belongs to `name`.
    fn add(&mut self, name: &str, text: &str) {
        for line in unfolded_lines(text) {
            let (name, zone, value) = match property(&line) {
                Some((name, zone, value)) => (name, zone.map(str::to_owned), value),
                None => (name.to_owned(), None, line.as_str()),
            };
            let split = || {
                value.split(',').map(|it| (zone.clone(), it.trim().to_owned())).filter(|it| !it.1.is_empty())
            };
            match name.as_str() {
                // Google's rules may end in a semicolon.
                "RRULE" => self.rules.push(value.strip_suffix(';').unwrap_or(value).to_owned()),
                "EXRULE" => self.except_rules.push(value.to_owned()),
                "RDATE" => self.dates.extend(split()),
                "EXDATE" => self.except_dates.extend(split()),
                _ => self.starts.push((zone, value.to_owned())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(request: &str, wanted: &[&str]) {
        assert_eq!(answer(request), json!(wanted), "{request}");
    }

    fn is_refused(request: &str, part: &str) {
        let answer = answer(request).to_string();
        assert!(answer.starts_with("{\"error\":") && answer.contains(part), "{request}: {answer}");
    }

    #[test]
    fn a_rule_is_expanded_in_its_zone_with_exceptions_and_dates() {
        is(
            r#"{"rrule":"FREQ=DAILY;COUNT=4","dtstart":"2026-03-28T10:00:00","tzid":"Europe/Berlin",
                "exdate":["20260329T100000"],"rdate":"20260401T060000Z,2026-04-02T09:00:00","name":"not looked at"}"#,
            &[
                "2026-03-28T09:00:00Z",
                "2026-03-30T08:00:00Z",
                "2026-03-31T08:00:00Z",
                "2026-04-01T06:00:00Z",
                "2026-04-02T07:00:00Z",
            ],
        );
        is(r#"{"dtstart":"20260105"}"#, &["2026-01-05T00:00:00Z"]);
    }

    #[test]
    fn a_start_is_local_a_date_or_utc() {
        let rule = |start: &str, zone: &str| {
            format!(r#"{{"rrule":"FREQ=DAILY;COUNT=1","dtstart":"{start}","tzid":{zone}}}"#)
        };
        is(&rule("2026-01-05T10:00:00", "null"), &["2026-01-05T10:00:00Z"]);
        is(&rule("2026-01-05T10:00:00", "\"Asia/Seoul\""), &["2026-01-05T01:00:00Z"]);
        is(&rule("2026-01-05", "\"Asia/Seoul\""), &["2026-01-04T15:00:00Z"]);
        is(&rule("2026-01-05T10:00:00Z", "\"Asia/Seoul\""), &["2026-01-05T10:00:00Z"]);
        is(&rule("DTSTART;TZID=America/New_York:19970902T090000", "null"), &["1997-09-02T13:00:00Z"]);
    }

    #[test]
    fn a_rule_from_utc_follows_the_clock_of_the_zone() {
        is(
            r#"{"rrule":"FREQ=DAILY;COUNT=2","dtstart":"2026-03-28T09:00:00Z","tzid":"Europe/Berlin"}"#,
            &["2026-03-28T09:00:00Z", "2026-03-29T08:00:00Z"],
        );
    }

    #[test]
    fn a_whole_text_of_lines_is_read() {
        is(
            r#"{"rrule":"DTSTART:19970902T090000Z\nRRULE:FREQ=DAILY;COUNT=2\r\nRRULE:FREQ=WEEKLY;\n COUNT=2\nEXDATE:19970903T090000Z"}"#,
            &["1997-09-02T09:00:00Z", "1997-09-09T09:00:00Z"],
        );
        is(r#"{"rrule":"FREQ=DAILY;COUNT=1;","dtstart":"19970902"}"#, &["1997-09-02T00:00:00Z"]);
        is(
            r#"{"rrule":["RRULE:FREQ=DAILY;COUNT=1","EXRULE:FREQ=DAILY;COUNT=1"],"dtstart":"1997-09-02T09:00:00","rdate":"19970904T090000/PT1H"}"#,
            &["1997-09-04T09:00:00Z"],
        );
        is(
            r#"{"dtstart":"2026-01-05T10:00:00","tzid":"UTC","exdate":"EXDATE;TZID=Asia/Seoul:20260105T190000","rdate":["20260106"]}"#,
            &["2026-01-06T10:00:00Z"],
        );
    }

    #[test]
    fn from_is_part_of_the_window_and_to_is_not() {
        let rule = r#""rrule":"FREQ=DAILY","dtstart":"2020-01-01T10:00:00""#;
        is(
            &format!(r#"{{{rule},"from":"2026-01-05T10:00:00Z","to":"20260106T100000"}}"#),
            &["2026-01-05T10:00:00Z"],
        );
        is(&format!(r#"{{{rule},"from":"2026-01-05","limit":1}}"#), &["2026-01-05T10:00:00Z"]);
        is(&format!(r#"{{{rule},"limit":0}}"#), &[]);
    }

    #[test]
    fn a_window_may_begin_and_end_within_a_second() {
        let within = |from: &str, to: &str| {
            format!(r#"{{"rrule":"FREQ=DAILY","dtstart":"2020-01-01T10:00:00","from":"{from}","to":"{to}"}}"#)
        };
        let (fifth, sixth) = ("2026-01-05T10:00:00Z", "2026-01-06T10:00:00Z");
        is(&within("2026-01-05T10:00:00.000Z", "2026-01-06T10:00:00.000000Z"), &[fifth]);
        is(&within("2026-01-05T10:00:00.001Z", "2026-01-06T10:00:00.5Z"), &[sixth]);
        is(&within("2026-01-05T09:59:59.999999999999Z", "2026-01-06T12:00:00.25+02:00"), &[fifth, sixth]);
        is(&within("2026-01-05T10:00:00.5", "2026-01-06 10:00:00.5"), &[sixth]);
        is_refused(&within("2026-01-05T10:00:00.Z", "2026-01-06"), "from");
        is_refused(r#"{"dtstart":"2026-01-05T10:00:00.5"}"#, "dtstart");
    }

    #[test]
    fn an_endless_rule_gives_a_thousand_instants() {
        let instants: Vec<Timestamp> =
            serde_json::from_value(answer(r#"{"rrule":"FREQ=DAILY","dtstart":"2020-01-01"}"#)).unwrap();
        assert_eq!(instants.len(), 1_000);
        is_refused(
            r#"{"rrule":"FREQ=SECONDLY;UNTIL=20270101T000000Z","dtstart":"2026-01-01T00:00:00Z"}"#,
            "more than 1000000 instants",
        );
    }

    #[test]
    fn a_rule_that_never_happens_has_no_instants() {
        is(r#"{"rrule":"FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30","dtstart":"2026-01-01T00:00:00"}"#, &[]);
        is(r#"{"rrule":"FREQ=DAILY;UNTIL=20250101","dtstart":"2026-01-01T00:00:00"}"#, &[]);
        is(
            r#"{"rrule":["FREQ=DAILY;UNTIL=20250101","FREQ=DAILY;COUNT=1"],"dtstart":"2026-01-01T00:00:00"}"#,
            &["2026-01-01T00:00:00Z"],
        );
    }

    #[test]
    fn the_policy_of_gaps_and_folds_is_applied() {
        is(
            r#"{"rrule":"FREQ=DAILY;COUNT=2","dtstart":"2026-03-28T02:30:00","tzid":"Europe/Berlin","dst":{"gap":"Skip","fold":null}}"#,
            &["2026-03-28T01:30:00Z", "2026-03-30T00:30:00Z"],
        );
        is(
            r#"{"rrule":"FREQ=DAILY;COUNT=1","dtstart":"2026-10-25T02:30:00","tzid":"Europe/Berlin","dst":{"fold":"Both"}}"#,
            &["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"],
        );
    }

    #[test]
    fn a_bad_request_is_refused_with_what_is_allowed() {
        is_refused("{", "EOF");
        is_refused("{}", "dtstart: missing; allowed is a local time 2026-01-05T10:00:00");
        is_refused(r#"{"dtstart":"soon"}"#, "dtstart \\\"soon\\\" is not allowed; allowed is");
        is_refused(r#"{"dtstart":"2026-01-05","tzid":"Mars"}"#, "allowed are IANA names");
        is_refused(r#"{"dtstart":"2026-01-05","exdate":"x"}"#, "exdate \\\"x\\\" is not allowed");
        is_refused(r#"{"dtstart":"2026-01-05","from":"x"}"#, "from \\\"x\\\" is not allowed");
        is_refused(
            r#"{"dtstart":"2026-01-05","rrule":"FREQ=WEEKLY;BYMONTHDAY=1"}"#,
            "use FREQ=DAILY or MONTHLY",
        );
        is_refused(r#"{"dtstart":"2026-01-05","rrule":"FREQ=DAILY;BYEASTER=0"}"#, "not a part of a rule");
        is_refused(r#"{"dtstart":"2026-01-05","dst":{"gap":"x"}}"#, "ShiftForward");
        is_refused(r#"{"dtstart":["2026-01-05"]}"#, "expected a string");
    }

    #[test]
    fn every_line_is_answered() {
        let mut answers = 0;
        run("{\"dtstart\":\"2026-01-05\"}\n\nx\n".as_bytes(), |_| answers += 1).unwrap();
        assert_eq!(answers, 2);
    }
}

//! Resolves a TZID: an IANA name, one with a prefix, a Windows name, or a name that only its VTIMEZONE explains.
//!
//! A TZID that is no zone's name resolves only to a zone that has the offsets of its VTIMEZONE during the event.

use std::collections::HashMap;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::component::Component;
use super::observances::{OutOfSteps, ZoneBlock, years_from};
use super::windows;
use crate::steps::Steps;
use crate::zone::find_zone;

/// Steps for finding zones in one file. Looking at a zone takes 20, and at a change of its offset 1. An event in
/// the zone of an earlier event takes about 100.
const MAX_STEPS: u64 = 40_000_000;

/// The zone of a TZID.
#[derive(Debug, Clone)]
pub(super) struct ResolvedZone {
    /// The name as the database spells it.
    pub(super) name: String,
    pub(super) tz: TimeZone,
    /// A remark for the reader.
    pub(super) remark: Option<String>,
}

/// A stretch of local time: from, to.
pub(super) type LocalSpan = (DateTime, DateTime);

/// The time zones of a file. Each VCALENDAR has its own; `at` is the one in use.
pub(super) struct FileZones<'a> {
    calendars: Vec<CalendarZones<'a>>,
    at: usize,
    given: Option<ResolvedZone>,
    steps: Steps,
    /// The answers so far for the stretch in `asked`.
    answers: HashMap<String, Result<ResolvedZone, String>>,
    asked: Option<(usize, LocalSpan)>,
}

/// The time zones of one VCALENDAR.
struct CalendarZones<'a> {
    components: HashMap<&'a str, Vec<&'a Component>>,
    blocks: HashMap<String, Result<ZoneBlock, String>>,
    /// For each TZID, the zones of earlier events.
    found: HashMap<String, Vec<String>>,
    /// X-WR-TIMEZONE.
    own: Option<&'a str>,
}

impl<'a> CalendarZones<'a> {
    fn new(calendar: &'a Component) -> Self {
        let mut components: HashMap<&str, Vec<&Component>> = HashMap::new();
        for it in calendar.children.iter().filter(|it| it.kind == "VTIMEZONE") {
            if let Some(line) = it.first("TZID") {
                components.entry(line.value.trim()).or_default().push(it);
            }
        }
        let own = calendar.first("X-WR-TIMEZONE").map(|line| line.value.trim());
        let own = own.filter(|it| !it.is_empty());
        Self { components, blocks: HashMap::new(), found: HashMap::new(), own }
    }
}

/// The VTIMEZONE of a name. There may be several if they are the same.
fn read_vtimezone(components: &[&Component]) -> Result<ZoneBlock, String> {
    let is_same = components.windows(2).all(|pair| says_the_same(pair[0], pair[1]));
    let first = components.first().filter(|_| is_same).ok_or("there are several, and they differ")?;
    ZoneBlock::from_component(first)
}

/// Whether two components have the same properties and children.
fn says_the_same(one: &Component, other: &Component) -> bool {
    let lines = |it: &Component| -> Vec<(String, String)> {
        it.properties.iter().map(|line| (line.name.clone(), line.value.clone())).collect()
    };
    lines(one) == lines(other)
        && one.children.len() == other.children.len()
        && one.children.iter().zip(&other.children).all(|(one, other)| says_the_same(one, other))
}

impl<'a> FileZones<'a> {
    /// `given` is the zone of floating times and dates. If absent: X-WR-TIMEZONE.
    pub(super) fn new(calendars: &'a [Component], given: Option<&str>) -> Self {
        Self {
            calendars: calendars.iter().map(CalendarZones::new).collect(),
            at: 0,
            given: given.and_then(by_name),
            steps: Steps::new(MAX_STEPS),
            answers: HashMap::new(),
            asked: None,
        }
    }

    /// Uses the zones of this VCALENDAR from now on; `calendar` is its index in the file.
    pub(super) fn enter(&mut self, calendar: usize) {
        self.at = calendar;
    }

    /// The zone of dates and floating times during a stretch of local time.
    pub(super) fn floating(&mut self, span: LocalSpan) -> Result<ResolvedZone, String> {
        if let Some(given) = &self.given {
            return Ok(given.clone());
        }
        match self.calendars.get(self.at).and_then(|it| it.own) {
            None => Err("the file does not say in which time zone; say it with --time-zone".to_owned()),
            Some(own) => self.resolve(own, span).map_err(|why| {
                format!("X-WR-TIMEZONE does not say in which time zone ({why}); say it with --time-zone")
            }),
        }
    }

    /// The zone of a TZID for an event during a stretch of local time.
    pub(super) fn resolve(&mut self, tzid: &str, span: LocalSpan) -> Result<ResolvedZone, String> {
        let tzid = tzid.trim();
        if self.asked != Some((self.at, span)) {
            self.answers.clear();
            self.asked = Some((self.at, span));
        }
        if let Some(answer) = self.answers.get(tzid) {
            return answer.clone();
        }
        let answer = self.search(tzid, span);
        self.answers.insert(tzid.to_owned(), answer.clone());
        answer
    }

    fn search(&mut self, tzid: &str, span: LocalSpan) -> Result<ResolvedZone, String> {
        // The VTIMEZONE of its own calendar, or else that of another calendar with the same name.
        let has = |at: &usize| self.calendars.get(*at).is_some_and(|it| it.components.contains_key(tzid));
        let home = std::iter::once(self.at).chain(0..self.calendars.len()).find(has);
        let steps = &mut self.steps;
        let calendar = home.and_then(|at| self.calendars.get_mut(at));
        let Some(calendar) = calendar else {
            return by_name(tzid).ok_or_else(|| unknown(tzid, "the file has no VTIMEZONE for it"));
        };
        let CalendarZones { components, blocks, found, .. } = calendar;
        let block = blocks
            .entry(tzid.to_owned())
            .or_insert_with(|| read_vtimezone(components.get(tzid).map_or(&[], Vec::as_slice)));
        let found = found.entry(tzid.to_owned()).or_default();
        let Some(mut known) = by_name(tzid) else {
            return match block {
                Err(why) => Err(unknown(tzid, &format!("its VTIMEZONE can't be read: {why}"))),
                Ok(block) => find_by_block(tzid, block, span, found, steps),
            };
        };
        known.remark = match block {
            Err(why) => {
                Some(format!("its VTIMEZONE for {tzid} can't be read ({why}): {} is taken", known.name))
            }
            Ok(block) => match block.first_difference(&known.tz, span, steps) {
                Ok(None) => None,
                Err(OutOfSteps) => Some(format!(
                    "its VTIMEZONE for {tzid} is not compared with {}, which is taken",
                    known.name
                )),
                Ok(Some(at)) => {
                    // Some programs write `EST` or `GMT` for zones with summer time.
                    if !known.name.contains('/')
                        && let Ok(other) = find_by_block(tzid, block, span, found, steps)
                    {
                        return Ok(other);
                    }
                    Some(format!(
                        "its VTIMEZONE for {tzid} has another offset at {at} than {} has: the zone's own is taken",
                        known.name
                    ))
                }
            },
        };
        Ok(known)
    }
}

fn unknown(tzid: &str, why: &str) -> String {
    let shown: String = tzid.chars().take(80).collect();
    format!(
        "TZID \"{shown}\" is unknown, and {why}; allowed are IANA names such as Europe/Berlin, names of Windows, \
         and what has a VTIMEZONE with the offsets of an IANA zone"
    )
}

/// The zone with the offsets of a block: over ten years, else over one year, else over the stretch alone.
fn find_by_block(
    tzid: &str,
    block: &ZoneBlock,
    span: LocalSpan,
    found: &mut Vec<String>,
    steps: &mut Steps,
) -> Result<ResolvedZone, String> {
    let mut stretches = [10, 1, 0].map(|years| (span.0, span.1.max(years_from(span.0, years)))).to_vec();
    stretches.dedup();
    for stretch in stretches {
        let name = block.matching_zone(stretch, found, steps).map_err(|OutOfSteps| {
            unknown(tzid, "the searches for zones of this file take more than they may: split the file")
        })?;
        let Some(name) = name else { continue };
        if !found.contains(&name) {
            found.push(name.clone());
        }
        let mut known = by_name(&name).ok_or_else(|| unknown(tzid, "the zone found is gone"))?;
        known.remark = Some(format!(
            "TZID \"{tzid}\" is taken as {}, which has the offsets of its VTIMEZONE from {} to {}",
            known.name,
            stretch.0.date(),
            stretch.1.date()
        ));
        return Ok(known);
    }
    let (from, to) = (span.0.date(), span.1.date());
    Err(unknown(tzid, &format!("no IANA zone has the offsets of its VTIMEZONE from {from} to {to}")))
}

/// A zone by its name alone: of IANA, of Windows, or of IANA behind a prefix such as `/mozilla.org/20050126_1/`.
pub(super) fn by_name(tzid: &str) -> Option<ResolvedZone> {
    let tzid = tzid.trim().trim_matches('"');
    let behind = tzid.match_indices('/').map(|(at, _)| &tzid[at + 1..]);
    let names =
        std::iter::once(tzid).chain(windows::zone(tzid)).chain(behind.filter(|_| tzid.starts_with('/')));
    let tz = names.filter(|name| name.len() <= 64).find_map(find_zone)?;
    let name = tz.iana_name().unwrap_or("UTC").to_owned();
    Some(ResolvedZone { name, tz, remark: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ical::component;

    fn resolve(text: &str, tzid: &str, from: &str, to: &str) -> Result<(String, bool), String> {
        let file = component::parse_file(text.as_bytes());
        let mut zones = FileZones::new(&file.calendars, None);
        let span = (from.parse().unwrap(), to.parse().unwrap());
        zones.resolve(tzid, span).map(|known| (known.name, known.remark.is_some()))
    }

    fn block(tzid: &str, observances: &str) -> String {
        format!("BEGIN:VCALENDAR\nBEGIN:VTIMEZONE\nTZID:{tzid}\n{observances}END:VTIMEZONE\nEND:VCALENDAR\n")
    }

    const BERLIN: &str = "BEGIN:STANDARD\nDTSTART:16010101T030000\nTZOFFSETFROM:+0200\nTZOFFSETTO:+0100\n\
                          RRULE:FREQ=YEARLY;BYDAY=-1SU;BYMONTH=10\nEND:STANDARD\nBEGIN:DAYLIGHT\nDTSTART:16010101T020000\n\
                          TZOFFSETFROM:+0100\nTZOFFSETTO:+0200\nRRULE:FREQ=YEARLY;BYDAY=-1SU;BYMONTH=3\nEND:DAYLIGHT\n";

    #[test]
    fn names_of_iana_of_windows_and_behind_prefixes_are_known() {
        let name = |tzid| by_name(tzid).map(|known| known.name);
        assert_eq!(name("europe/berlin").as_deref(), Some("Europe/Berlin"));
        assert_eq!(name("W. Europe Standard Time").as_deref(), Some("Europe/Berlin"));
        assert_eq!(name("/mozilla.org/20050126_1/Europe/Berlin").as_deref(), Some("Europe/Berlin"));
        assert_eq!(
            name("/freeassociation.sourceforge.net/America/Argentina/Buenos_Aires").as_deref(),
            Some("America/Argentina/Buenos_Aires")
        );
        assert_eq!(name("Office/Europe/Berlin"), None, "a prefix begins with a slash");
        assert_eq!(name("Customized Time Zone"), None);
    }

    #[test]
    fn a_zone_known_by_its_block_alone_is_one_with_the_same_offsets() {
        let text = block("Team time", BERLIN);
        let found = resolve(&text, "Team time", "2026-01-05T10:00:00", "2036-01-05T10:00:00").unwrap();
        let (tz, berlin) = (find_zone(&found.0).unwrap(), find_zone("Europe/Berlin").unwrap());
        let changes = |tz: &TimeZone| {
            let from = "2026-01-01T00:00:00Z".parse().unwrap();
            tz.following(from).take(20).map(|it| (it.timestamp(), it.offset())).collect::<Vec<_>>()
        };
        assert_eq!(changes(&tz), changes(&berlin), "{found:?}");
        assert!(found.1, "and it is told");
    }

    #[test]
    fn the_name_that_a_block_gives_itself_comes_first_if_it_fits() {
        let named = |zone: &str| block("x", &format!("X-LIC-LOCATION:{zone}\n{BERLIN}"));
        let found =
            |zone| resolve(&named(zone), "x", "2026-01-05T10:00:00", "2027-01-05T10:00:00").unwrap().0;
        assert_eq!(found("Europe/Madrid"), "Europe/Madrid");
        assert_ne!(found("America/New_York"), "America/New_York");
    }

    #[test]
    fn what_no_zone_agrees_with_is_refused_with_the_stretch() {
        let odd = BERLIN
            .replace("TZOFFSETTO:+0200", "TZOFFSETTO:+0217")
            .replace("TZOFFSETFROM:+0200", "TZOFFSETFROM:+0217");
        let why = resolve(&block("x", &odd), "x", "2026-01-05T10:00:00", "2027-01-05T10:00:00").unwrap_err();
        assert!(
            why.contains("no IANA zone has the offsets of its VTIMEZONE from 2026-01-05 to 2027-01-05"),
            "{why}"
        );
        let why = resolve(
            &block("x", "BEGIN:STANDARD\nEND:STANDARD\n"),
            "x",
            "2026-01-05T10:00:00",
            "2026-01-05T10:00:00",
        );
        assert!(why.unwrap_err().contains("its STANDARD of line 4 has no TZOFFSETFROM that can be read"));
        let why = resolve(&block("x", ""), "y", "2026-01-05T10:00:00", "2026-01-05T10:00:00").unwrap_err();
        assert!(why.contains("the file has no VTIMEZONE for it"), "{why}");
    }

    #[test]
    fn a_block_that_differs_only_outside_the_events_time_fits() {
        // The rule of the United States up to 2006.
        let old = "BEGIN:STANDARD\nDTSTART:19671029T020000\nTZOFFSETFROM:-0400\nTZOFFSETTO:-0500\n\
                   RRULE:FREQ=YEARLY;BYDAY=-1SU;BYMONTH=10\nEND:STANDARD\nBEGIN:DAYLIGHT\nDTSTART:19870405T020000\n\
                   TZOFFSETFROM:-0500\nTZOFFSETTO:-0400\nRRULE:FREQ=YEARLY;BYDAY=1SU;BYMONTH=4\nEND:DAYLIGHT\n";
        let text = block("East", old);
        assert_eq!(
            resolve(&text, "East", "1999-01-05T10:00:00", "2005-12-31T10:00:00").unwrap().0,
            "America/New_York"
        );
        let summer = resolve(&text, "East", "2026-07-01T10:00:00", "2026-07-01T11:00:00").unwrap().0;
        let summer = find_zone(&summer).unwrap();
        assert_eq!(summer.to_offset("2026-07-01T14:00:00Z".parse().unwrap()).seconds(), -4 * 3600);
        assert_eq!(
            resolve(
                &block("America/New_York", BERLIN),
                "America/New_York",
                "2026-01-05T10:00:00",
                "2026-01-05T10:00:00"
            ),
            Ok(("America/New_York".to_owned(), true))
        );
    }
}

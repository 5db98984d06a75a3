//! Which zone a TZID is: an IANA name, one behind a prefix, a name of Windows, or one that only its VTIMEZONE knows.
//!
//! Never: a zone whose offsets are not those of the event.

use std::collections::HashMap;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::component::Component;
use super::observances::{Block, years_from, zone_offset};
use super::windows;
use crate::zone::find_zone;

/// Searches through all zones in one calendar; each takes milliseconds.
const MAX_SEARCHES: usize = 2_000;

/// A zone that a TZID turned out to be.
#[derive(Debug, Clone)]
pub(super) struct Known {
    /// As the database writes it.
    pub(super) name: String,
    pub(super) tz: TimeZone,
    /// What a reader should know.
    pub(super) remark: Option<String>,
}

/// The time zones of one VCALENDAR.
pub(super) struct Zones<'a> {
    components: HashMap<&'a str, &'a Component>,
    blocks: HashMap<String, Result<Block, String>>,
    /// Zones that earlier events turned out to be in.
    found: HashMap<String, Vec<String>>,
    searches: usize,
    /// For dates and floating times.
    pub(super) default: Option<Known>,
}

impl<'a> Zones<'a> {
    /// `default` is the zone of floating times and dates; X-WR-TIMEZONE where it is absent.
    pub(super) fn new(calendar: &'a Component, default: Option<&str>) -> Self {
        let blocks = calendar.children.iter().filter(|it| it.kind == "VTIMEZONE");
        let named = blocks.filter_map(|it| Some((it.first("TZID")?.value.trim(), it)));
        let own = calendar.first("X-WR-TIMEZONE").map(|line| line.value.trim());
        let default = default.or(own).and_then(by_name);
        Self {
            components: named.collect(),
            blocks: HashMap::new(),
            found: HashMap::new(),
            searches: 0,
            default,
        }
    }

    /// The zone of a TZID for an event between two local times.
    pub(super) fn resolve(&mut self, tzid: &str, span: (DateTime, DateTime)) -> Result<Known, String> {
        let tzid = tzid.trim();
        self.read(tzid);
        if let Some(mut known) = by_name(tzid) {
            if let Some(Ok(block)) = self.blocks.get(tzid)
                && block.offset_at(span.0) != zone_offset(&known.tz, span.0)
            {
                known.remark = Some(format!(
                    "its VTIMEZONE for {tzid} has another offset at {} than {} has: the zone's own is taken",
                    span.0, known.name
                ));
            }
            return Ok(known);
        }
        let refused = |why: &str| {
            let shown: String = tzid.chars().take(80).collect();
            format!(
                "TZID \"{shown}\" is unknown, and {why}; allowed are IANA names such as Europe/Berlin, names of Windows, \
                 and what has a VTIMEZONE with the offsets of an IANA zone"
            )
        };
        let block = match self.blocks.get(tzid) {
            None => return Err(refused("the file has no VTIMEZONE for it")),
            Some(Err(why)) => return Err(refused(&format!("its VTIMEZONE can't be read: {why}"))),
            Some(Ok(block)) => block,
        };
        let known = self.found.entry(tzid.to_owned()).or_default();
        if self.searches >= MAX_SEARCHES {
            return Err(refused(&format!("more than {MAX_SEARCHES} searches for zones were needed before")));
        }
        self.searches += 1;
        let wide = (span.0, span.1.max(years_from(span.0, 10)));
        let name = block.zone(wide, known).or_else(|| block.zone(span, known));
        let Some(name) = name else {
            return Err(refused(&format!(
                "no IANA zone has the offsets of its VTIMEZONE from {} to {}",
                span.0.date(),
                span.1.date()
            )));
        };
        if !known.contains(&name) {
            known.push(name.clone());
        }
        let mut known = by_name(&name).ok_or_else(|| refused("the zone found is gone"))?;
        known.remark = Some(format!(
            "TZID \"{tzid}\" is taken as {}, which has the offsets of its VTIMEZONE",
            known.name
        ));
        Ok(known)
    }

    fn read(&mut self, tzid: &str) {
        if let Some(component) = self.components.get(tzid)
            && !self.blocks.contains_key(tzid)
        {
            self.blocks.insert(tzid.to_owned(), Block::read(component));
        }
    }
}

/// A zone by a name alone: IANA's, Windows', or IANA's behind a prefix such as `/mozilla.org/20050126_1/`.
pub(super) fn by_name(tzid: &str) -> Option<Known> {
    let tzid = tzid.trim().trim_matches('"');
    let behind = tzid.match_indices('/').map(|(at, _)| &tzid[at + 1..]);
    let names =
        std::iter::once(tzid).chain(windows::zone(tzid)).chain(behind.filter(|_| tzid.starts_with('/')));
    let tz = names.filter(|name| name.len() <= 64).find_map(find_zone)?;
    let name = tz.iana_name().unwrap_or("UTC").to_owned();
    Some(Known { name, tz, remark: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ical::component;

    fn resolve(text: &str, tzid: &str, from: &str, to: &str) -> Result<(String, bool), String> {
        let file = component::read(text.as_bytes());
        let mut zones = Zones::new(&file.calendars[0], None);
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
        // The rule of the United States as it was up to 2006.
        let old = "BEGIN:STANDARD\nDTSTART:19671029T020000\nTZOFFSETFROM:-0400\nTZOFFSETTO:-0500\n\
                   RRULE:FREQ=YEARLY;BYDAY=-1SU;BYMONTH=10\nEND:STANDARD\nBEGIN:DAYLIGHT\nDTSTART:19870405T020000\n\
                   TZOFFSETFROM:-0500\nTZOFFSETTO:-0400\nRRULE:FREQ=YEARLY;BYDAY=1SU;BYMONTH=4\nEND:DAYLIGHT\n";
        let text = block("East", old);
        assert_eq!(
            resolve(&text, "East", "1999-01-05T10:00:00", "2005-12-31T10:00:00").unwrap().0,
            "America/New_York"
        );
        let summer = resolve(&text, "East", "2026-07-01T10:00:00", "2026-07-01T11:00:00").unwrap().0;
        assert_eq!(
            zone_offset(&find_zone(&summer).unwrap(), "2026-07-01T10:00:00".parse().unwrap()),
            -4 * 3600
        );
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

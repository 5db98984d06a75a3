//! What an event says about itself for people: DESCRIPTION, LOCATION, URL, CONFERENCE (RFC 5545, RFC 7986), and the
//! properties in which Google and Microsoft put a meeting's link.
//!
//! The best link becomes the event's URL; the others are appended to its description. No link is dropped.

use super::Series;
use super::component::Component;
use super::line_writer::LineWriter;
use super::lines::ContentLine;

/// Properties whose value is a link, the best first: links for taking part come before links for reading.
pub(super) const LINKS: [&str; 5] = [
    "CONFERENCE",
    "X-GOOGLE-CONFERENCE",
    "X-MICROSOFT-SKYPETEAMSMEETINGURL",
    "X-MICROSOFT-ONLINEMEETINGEXTERNALLINK",
    "URL",
];

/// Texts and link of an event.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct EventDetails {
    pub(super) description: Option<String>,
    pub(super) location: Option<String>,
    pub(super) url: Option<String>,
}

pub(super) fn read_details(event: &Component) -> EventDetails {
    let text =
        |name: &str| event.first(name).map(|line| clean_text(&line.text())).filter(|text| !text.is_empty());
    let mut links: Vec<(&ContentLine, &str)> = Vec::new();
    for line in LINKS.iter().flat_map(|name| event.all(name)) {
        let value = line.value.trim();
        if !value.is_empty() && !links.iter().any(|(_, known)| *known == value) {
            links.push((line, value));
        }
    }
    // A web page comes before a telephone number.
    links.sort_by_key(|(_, value)| !is_web_page(value));
    let mut location = text("LOCATION").map(|place| place.split_whitespace().collect::<Vec<_>>().join(" "));
    let mut links = links.into_iter();
    let mut url = links.next().map(|(_, value)| value.to_owned());
    if let Some(place) = location.take_if(|place| url.is_none() && is_web_page(place) && !place.contains(' '))
    {
        url = Some(place);
    }
    let mut description = text("DESCRIPTION");
    for (line, value) in links {
        if description.as_ref().is_some_and(|said| said.contains(value)) {
            continue;
        }
        let name = line.parameter("LABEL").unwrap_or(&line.name);
        let said = description.get_or_insert_default();
        let gap = if said.is_empty() { "" } else { "\n" };
        said.extend([gap, name, ": ", value]);
    }
    EventDetails { description, location, url }
}

fn is_web_page(link: &str) -> bool {
    let begins = |with: &str| link.get(..with.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(with));
    begins("https://") || begins("http://")
}

/// Normalizes line ends, removes control characters, and trims.
fn clean_text(text: &str) -> String {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    text.chars()
        .filter(|it| matches!(it, '\n' | '\t') || !it.is_control())
        .collect::<String>()
        .trim()
        .to_owned()
}

pub(super) fn write_details(lines: &mut LineWriter, series: &Series) {
    for (name, text) in [("DESCRIPTION", &series.description), ("LOCATION", &series.location)] {
        if let Some(text) = text {
            lines.text(name, text);
        }
    }
    // The value is a URI, not TEXT: it is not escaped.
    if let Some(url) = series.url.as_ref().filter(|url| !url.contains(char::is_control)) {
        lines.raw("URL", url);
    }
}

//! Parses content lines into components (RFC 5545, section 3.6), whatever is broken in the file.
//!
//! A component without END is closed where the next one begins, and marked. An END that ends nothing is ignored. So
//! a broken component damages no other.

use super::lines::{self, BadLine, ContentLine};

/// Deepest nesting of components; deeper ones are skipped.
const MAX_DEPTH: usize = 8;
/// The most components of a file that are kept. A single note tells about the others.
pub(super) const MAX_COMPONENTS: usize = 100_000;
/// The most properties of a component that are kept.
pub(super) const MAX_PROPERTIES: usize = 5_000;

/// A component with its properties and the components in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Component {
    /// In upper case, such as `VEVENT`.
    pub(super) kind: String,
    /// The line of its BEGIN.
    pub(super) line: u32,
    pub(super) properties: Vec<ContentLine>,
    pub(super) children: Vec<Component>,
    /// Lines in it that are no properties, each with the name of the property before it.
    pub(super) bad: Vec<(BadLine, String)>,
    /// The line at which its END was missed, if it has none.
    pub(super) open: Option<u32>,
    /// Whether it had more than [`MAX_PROPERTIES`].
    pub(super) full: bool,
}

impl Component {
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a ContentLine> {
        self.properties.iter().filter(move |line| line.name == name)
    }

    pub(super) fn first(&self, name: &str) -> Option<&ContentLine> {
        self.properties.iter().find(|line| line.name == name)
    }
}

/// The components of a file.
#[derive(Debug, Default)]
pub(super) struct ParsedFile {
    /// The VCALENDARs. Components outside a VCALENDAR are in one of their own, with an empty kind.
    pub(super) calendars: Vec<Component>,
    /// What is wrong outside events: line and text.
    pub(super) notes: Vec<(u32, String)>,
}

/// Parses a file.
pub(super) fn parse_file(bytes: &[u8]) -> ParsedFile {
    let mut reader = ComponentParser::default();
    let mut last = 0;
    for line in lines::read_lines(bytes) {
        match line {
            Ok(line) => {
                last = line.number;
                reader.line(line);
            }
            Err(bad) => {
                last = bad.number;
                reader.bad(bad);
            }
        }
    }
    while !reader.open.is_empty() {
        reader.close(Some(last));
    }
    reader.file
}

#[derive(Default)]
struct ComponentParser {
    file: ParsedFile,
    /// The components that are open, the outermost first.
    open: Vec<Component>,
    count: usize,
    /// How many components are open and not kept.
    skipped: usize,
}

impl ComponentParser {
    fn line(&mut self, line: ContentLine) {
        match line.name.as_str() {
            "BEGIN" => self.begin(&line),
            "END" => self.end(&line),
            _ if self.skipped > 0 => {}
            _ => match self.open.last_mut() {
                Some(component) if component.properties.len() < MAX_PROPERTIES => {
                    component.properties.push(line);
                }
                Some(component) => component.full = true,
                None => self.note(line.number, format!("{} stands outside any component", line.name)),
            },
        }
    }

    fn bad(&mut self, bad: BadLine) {
        match self.open.last_mut() {
            _ if self.skipped > 0 => {}
            Some(component) if component.bad.len() < MAX_PROPERTIES => {
                let before = component.properties.last().map_or("", |line| line.name.as_str()).to_owned();
                component.bad.push((bad, before));
            }
            Some(component) => component.full = true,
            None => self.note(bad.number, format!("\"{}\" is no line of iCalendar", bad.text)),
        }
    }

    fn begin(&mut self, line: &ContentLine) {
        let kind = line.value.trim().to_ascii_uppercase();
        // A VCALENDAR can't lie in another, nor an event in anything but a calendar. So what is still open was not
        // ended.
        let ends_others = match kind.as_str() {
            "VCALENDAR" => self.open.len(),
            "VEVENT" | "VTODO" | "VJOURNAL" | "VFREEBUSY" | "VTIMEZONE" => {
                self.open.len() - usize::from(self.open.first().is_some_and(|it| it.kind == "VCALENDAR"))
            }
            _ => 0,
        };
        if ends_others > 0 {
            self.skipped = 0;
        }
        for _ in 0..ends_others {
            self.close(Some(line.number));
        }
        if self.skipped > 0 || self.open.len() == MAX_DEPTH || self.count == MAX_COMPONENTS {
            if self.count == MAX_COMPONENTS && self.skipped == 0 {
                self.count += 1;
                let text = format!("components behind the {MAX_COMPONENTS}th are not looked at");
                self.note(line.number, text);
            }
            self.skipped += 1;
            return;
        }
        self.count += usize::from(self.count < MAX_COMPONENTS);
        self.open.push(Component { kind, line: line.number, ..Component::default() });
    }

    fn end(&mut self, line: &ContentLine) {
        if self.skipped > 0 {
            self.skipped -= 1;
            return;
        }
        let kind = line.value.trim().to_ascii_uppercase();
        let Some(at) = self.open.iter().rposition(|it| it.kind == kind) else {
            self.note(line.number, format!("END:{kind} ends nothing"));
            return;
        };
        while self.open.len() > at + 1 {
            self.close(Some(line.number));
        }
        self.close(None);
    }

    /// Closes the innermost component. `by` is the line that showed that its END is missing.
    fn close(&mut self, by: Option<u32>) {
        let Some(mut component) = self.open.pop() else { return };
        component.open = by;
        if component.kind == "VCALENDAR"
            && let Some(line) = by
        {
            self.note(line, format!("the VCALENDAR of line {} does not end", component.line));
        }
        match self.open.last_mut() {
            Some(parent) => parent.children.push(component),
            None if component.kind == "VCALENDAR" => self.file.calendars.push(component),
            None => {
                let needs_new = self.file.calendars.last().is_none_or(|it| !it.kind.is_empty());
                if needs_new {
                    self.note(component.line, format!("{} stands outside a VCALENDAR", component.kind));
                    self.file.calendars.push(Component::default());
                }
                if let Some(calendar) = self.file.calendars.last_mut() {
                    calendar.children.push(component);
                }
            }
        }
    }

    fn note(&mut self, line: u32, text: String) {
        /// The most notes that are kept: in a file of another format every line is wrong.
        const MOST: usize = 100;
        if self.file.notes.len() < MOST {
            self.file.notes.push((line, text));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> (Vec<String>, Vec<String>) {
        let file = parse_file(text.as_bytes());
        let told = |it: &Component| {
            format!(
                "{} {}{}",
                it.kind,
                it.line,
                it.open.map_or(String::new(), |line| format!(" open at {line}"))
            )
        };
        let children = file.calendars.iter().flat_map(|it| it.children.iter().map(told)).collect();
        (children, file.notes.into_iter().map(|(line, text)| format!("{line}: {text}")).collect())
    }

    #[test]
    fn an_event_that_does_not_end_ends_where_the_next_begins() {
        let text =
            "BEGIN:VCALENDAR\nBEGIN:VEVENT\nBEGIN:VALARM\nBEGIN:VEVENT\nUID:2\nEND:VEVENT\nEND:VCALENDAR\n";
        assert_eq!(kinds(text).0, ["VEVENT 2 open at 4", "VEVENT 4"]);
    }

    #[test]
    fn a_file_that_breaks_off_leaves_what_was_whole() {
        let text = "BEGIN:VCALENDAR\nBEGIN:VEVENT\nEND:VEVENT\nBEGIN:VEVENT\nUID:2";
        let (events, notes) = kinds(text);
        assert_eq!(events, ["VEVENT 2", "VEVENT 4 open at 5"]);
        assert_eq!(notes, ["5: the VCALENDAR of line 1 does not end"]);
    }

    #[test]
    fn an_end_of_nothing_and_lines_outside_are_told() {
        let text = "hello\nX:1\nEND:VEVENT\nBEGIN:VEVENT\nEND:VEVENT\n";
        let (events, notes) = kinds(text);
        assert_eq!(events, ["VEVENT 4"]);
        let expected = [
            "1: \"hello\" is no line of iCalendar",
            "2: X stands outside any component",
            "3: END:VEVENT ends nothing",
            "4: VEVENT stands outside a VCALENDAR",
        ];
        assert_eq!(notes, expected);
    }

    #[test]
    fn what_is_nested_too_deep_is_passed_over_and_stops_nothing() {
        let deep = "BEGIN:X\n".repeat(100_000);
        let text = format!("BEGIN:VCALENDAR\n{deep}BEGIN:VEVENT\nEND:VEVENT\nEND:VCALENDAR\n");
        let (events, _) = kinds(&text);
        assert_eq!(events.last().unwrap(), "VEVENT 100002");
    }
}

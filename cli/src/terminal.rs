//! Where every command prints: the one door to the terminal.
//!
//! Invariant: nothing that is printed holds a character that terminals act on or hide (see [`domain::hides`]), and what is
//! printed as a line is one: no title, group or refusal ends it. Only a document in a format of its own goes as it is, into
//! a file or a pipe; and colours are ours, around what was made plain, on a terminal alone. Whoever reads may have had enough,
//! as `head` does: then the process ends quietly.
//!
//! Never: standard output or error by another way. Clippy holds it: `print_stdout`, `print_stderr`, and the methods that
//! `clippy.toml` bans.
#![allow(clippy::disallowed_methods, reason = "the one place that prints")]

use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal as _, StderrLock, StdoutLock, Write};

use domain::{Plain, plain_document, plain_json};
use serde::Serialize;

/// Standard output, whose end is no fault.
pub(crate) struct Out(StdoutLock<'static>);

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        enough(self.0.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        enough(self.0.flush())
    }
}

fn out() -> Out {
    Out(io::stdout().lock())
}

fn enough<T>(written: io::Result<T>) -> io::Result<T> {
    if matches!(&written, Err(error) if error.kind() == io::ErrorKind::BrokenPipe) {
        std::process::exit(0);
    }
    written
}

/// What colours are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colour {
    None,
    Good,
    Bad,
    Waits,
    Faint,
}

impl Colour {
    fn code(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Good => "32",
            Self::Bad => "31",
            Self::Waits => "33",
            Self::Faint => "2",
        }
    }
}

/// Whether standard output takes colours: a terminal, where neither NO_COLOR (<https://no-color.org>) nor TERM says otherwise.
pub(crate) fn takes_colours() -> bool {
    let var = |name: &str| std::env::var(name).unwrap_or_default();
    colours(io::stdout().is_terminal(), &var("NO_COLOR"), &var("TERM"))
}

fn colours(is_terminal: bool, no_color: &str, term: &str) -> bool {
    is_terminal && no_color.is_empty() && term != "dumb"
}

/// A text with the colour that it has on a terminal.
#[derive(Debug, Clone)]
pub(crate) struct Painted(pub(crate) String, pub(crate) Colour);

impl From<String> for Painted {
    fn from(text: String) -> Self {
        Self(text, Colour::None)
    }
}

/// Lines on their way to a place.
pub(crate) struct Lines<W: Write>(W);

impl<W: Write> Lines<W> {
    /// A line, whatever its text holds.
    pub(crate) fn line(&mut self, line: impl Display) -> io::Result<()> {
        writeln!(self.0, "{}", Plain(line))
    }

    /// A value in a line.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        let json = serde_json::to_string(value)?;
        writeln!(self.0, "{}", plain_json(&json))
    }

    /// Has them all printed.
    pub(crate) fn end(mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Many lines to standard output.
pub(crate) fn lines() -> Lines<BufWriter<Out>> {
    Lines(BufWriter::new(out()))
}

/// Many lines to standard error.
pub(crate) fn notes() -> Lines<BufWriter<StderrLock<'static>>> {
    Lines(BufWriter::new(io::stderr().lock()))
}

/// A line to standard output.
pub(crate) fn line(line: impl Display) {
    done(Lines(out()).line(line));
}

/// A value in a line, to standard output.
pub(crate) fn json(value: &impl Serialize) {
    done(Lines(out()).json(value));
}

/// A line to standard error.
pub(crate) fn note(line: impl Display) {
    // Where that can't be told, nothing can.
    let _ = Lines(io::stderr().lock()).line(line);
}

/// The lines of a page to standard output.
pub(crate) fn page(page: &Page) {
    done(out().write_all(page.text.as_bytes()));
}

/// A document in a format of its own, such as a calendar's, to standard output: as it is, unless somebody looks at it.
pub(crate) fn document(text: &str) -> io::Result<()> {
    let mut out = out();
    if io::stdout().is_terminal() {
        out.write_all(plain_document(&text.replace("\r\n", "\n")).as_bytes())?;
    } else {
        out.write_all(text.as_bytes())?;
    }
    out.flush()
}

/// What went wrong, to standard error. Its further lines are indented, so that none of them passes for another message.
pub(crate) fn error(text: &str) {
    indented(&format!("belfry: {text}")).for_each(note);
}

/// The lines of a text, all but the first indented.
pub(crate) fn indented(text: &str) -> impl Iterator<Item = String> {
    let indent = |(at, line): (usize, &str)| if at == 0 { line.to_owned() } else { format!("    {line}") };
    text.split('\n').enumerate().map(indent)
}

/// What can't be written is told.
fn done(written: io::Result<()>) {
    if let Err(error) = written {
        note(format_args!("belfry: writing to standard output: {error}"));
        std::process::exit(2);
    }
}

/// Lines that are gathered before they are printed.
#[derive(Debug, Default)]
pub(crate) struct Page {
    text: String,
    colours: bool,
}

impl Page {
    /// For standard output as it is.
    pub(crate) fn coloured() -> Self {
        Self { colours: takes_colours(), ..Self::default() }
    }

    /// A line, whatever its text holds.
    pub(crate) fn line(&mut self, line: impl Display) {
        self.text.push_str(&Plain(line).to_string());
        self.text.push('\n');
    }

    /// A line of parts.
    pub(crate) fn painted(&mut self, parts: &[Painted]) {
        for part in parts {
            self.paint(part, 0);
        }
        self.text.push('\n');
    }

    /// Rows below a header, their columns wide enough for all but the last.
    pub(crate) fn table(&mut self, header: &[&str], rows: &[Vec<Painted>]) {
        let header = header.iter().map(|name| Painted((*name).to_owned(), Colour::Faint)).collect::<Vec<_>>();
        let shown = |text: &str| domain::plain(text).chars().count();
        let width = |column: usize| {
            let cells = rows.iter().chain([&header]).filter_map(|row| row.get(column));
            cells.map(|cell| shown(&cell.0)).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..header.len()).map(width).collect();
        for row in [&header].into_iter().chain(rows) {
            let last = row.len().saturating_sub(1);
            for (at, cell) in row.iter().enumerate() {
                if at > 0 {
                    self.text.push_str("  ");
                }
                let width = if at == last { 0 } else { widths.get(at).copied().unwrap_or(0) };
                self.paint(cell, width);
            }
            self.text.truncate(self.text.trim_end_matches(' ').len());
            self.text.push('\n');
        }
    }

    fn paint(&mut self, Painted(text, colour): &Painted, width: usize) {
        let text = domain::plain(text);
        let paints = self.colours && *colour != Colour::None;
        if paints {
            self.text.push_str("\u{1b}[");
            self.text.push_str(colour.code());
            self.text.push('m');
        }
        self.text.push_str(&text);
        if paints {
            self.text.push_str("\u{1b}[0m");
        }
        self.text.extend(std::iter::repeat_n(' ', width.saturating_sub(text.chars().count())));
    }

    /// A value in a line.
    pub(crate) fn json(&mut self, value: &serde_json::Value) {
        self.text.push_str(&plain_json(&value.to_string()));
        self.text.push('\n');
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    #[cfg(test)]
    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_a_terminal_whose_owner_wants_them() {
        assert!(colours(true, "", "xterm"));
        for (is_terminal, no_color, term) in [(false, "", "xterm"), (true, "1", "xterm"), (true, "", "dumb")]
        {
            assert!(!colours(is_terminal, no_color, term));
        }
    }

    #[test]
    fn a_tables_columns_are_as_wide_as_what_is_shown_and_colours_stand_around_what_was_made_plain() {
        let rows = [
            vec![
                Painted("a\u{1b}[31m".to_owned(), Colour::Bad),
                "x".to_owned().into(),
                "the end".to_owned().into(),
            ],
            vec![Painted("b".to_owned(), Colour::Good), "yy".to_owned().into(), String::new().into()],
        ];
        let mut page = Page::default();
        page.table(&["ONE", "2", "REST"], &rows);
        assert_eq!(page.text(), "ONE     2   REST\na␛[31m  x   the end\nb       yy\n");
        let mut page = Page { colours: true, ..Page::default() };
        page.painted(&rows[0]);
        assert_eq!(page.text(), "\u{1b}[31ma␛[31m\u{1b}[0mxthe end\n");
    }
}

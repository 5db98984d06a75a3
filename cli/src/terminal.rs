//! All output of all commands goes through this module.
//!
//! Nothing that is printed contains a character that terminals act on or hide (see [`domain::hides`]), and no title, group or refusal
//! can end a line. Only a document in a format of its own is written unchanged, to a file or a pipe. On a terminal we add colours
//! around text that was made plain. If the reader closes the pipe early, as `head` does, the process ends quietly.
//!
//! Clippy forbids every other way to print: `print_stdout`, `print_stderr`, and the methods that `clippy.toml` bans.
#![allow(clippy::disallowed_methods, reason = "the one place that prints")]

use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal as _, StderrLock, StdoutLock, Write};

use domain::{Plain, plain_document, plain_json};
use serde::Serialize;

/// Standard output. A closed pipe ends the process without an error.
pub(crate) struct Out(StdoutLock<'static>);

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        exit_on_closed_pipe(self.0.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        exit_on_closed_pipe(self.0.flush())
    }
}

fn out() -> Out {
    Out(io::stdout().lock())
}

fn exit_on_closed_pipe<T>(written: io::Result<T>) -> io::Result<T> {
    if matches!(&written, Err(error) if error.kind() == io::ErrorKind::BrokenPipe) {
        std::process::exit(0);
    }
    written
}

/// Colours by meaning.
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

/// Whether to print colours: standard output is a terminal, and neither NO_COLOR (<https://no-color.org>) nor TERM forbids them.
pub(crate) fn takes_colours() -> bool {
    let var = |name: &str| std::env::var(name).unwrap_or_default();
    wants_colours(io::stdout().is_terminal(), &var("NO_COLOR"), &var("TERM"))
}

fn wants_colours(is_terminal: bool, no_color: &str, term: &str) -> bool {
    is_terminal && no_color.is_empty() && term != "dumb"
}

/// A text and its colour on a terminal.
#[derive(Debug, Clone)]
pub(crate) struct Painted(pub(crate) String, pub(crate) Colour);

impl From<String> for Painted {
    fn from(text: String) -> Self {
        Self(text, Colour::None)
    }
}

/// Writes many lines.
pub(crate) struct LineWriter<W: Write>(W);

impl<W: Write> LineWriter<W> {
    /// Writes a text as one line, made plain.
    pub(crate) fn line(&mut self, line: impl Display) -> io::Result<()> {
        writeln!(self.0, "{}", Plain(line))
    }

    /// Writes a value as JSON in one line.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        let json = serde_json::to_string(value)?;
        writeln!(self.0, "{}", plain_json(&json))
    }

    /// Flushes all lines.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// A writer of many lines to standard output.
pub(crate) fn lines() -> LineWriter<BufWriter<Out>> {
    LineWriter(BufWriter::new(out()))
}

/// A writer of many lines to standard error.
pub(crate) fn notes() -> LineWriter<BufWriter<StderrLock<'static>>> {
    LineWriter(BufWriter::new(io::stderr().lock()))
}

/// Prints a line to standard output.
pub(crate) fn line(line: impl Display) {
    exit_on_error(LineWriter(out()).line(line));
}

/// Prints a value as JSON in one line to standard output.
pub(crate) fn json(value: &impl Serialize) {
    exit_on_error(LineWriter(out()).json(value));
}

/// Prints a line to standard error.
pub(crate) fn note(line: impl Display) {
    // If standard error can't be written, there is nowhere to report that.
    let _ = LineWriter(io::stderr().lock()).line(line);
}

/// Prints a page to standard output.
pub(crate) fn page(page: &Page) {
    exit_on_error(out().write_all(page.text.as_bytes()));
}

/// Writes a document in a format of its own, such as iCalendar, to standard output: unchanged, or made plain on a terminal.
pub(crate) fn document(text: &str) -> io::Result<()> {
    let mut out = out();
    if io::stdout().is_terminal() {
        out.write_all(plain_document(&text.replace("\r\n", "\n")).as_bytes())?;
    } else {
        out.write_all(text.as_bytes())?;
    }
    out.flush()
}

/// Prints an error to standard error. Its further lines are indented, so that none of them looks like another message.
pub(crate) fn error(text: &str) {
    indented(&format!("belfry: {text}")).for_each(note);
}

/// The lines of a text, all but the first indented.
pub(crate) fn indented(text: &str) -> impl Iterator<Item = String> {
    let indent = |(at, line): (usize, &str)| if at == 0 { line.to_owned() } else { format!("    {line}") };
    text.split('\n').enumerate().map(indent)
}

/// If writing failed, prints the error and exits with code 2.
fn exit_on_error(written: io::Result<()>) {
    if let Err(error) = written {
        note(format_args!("belfry: writing to standard output: {error}"));
        std::process::exit(2);
    }
}

/// Lines that are collected before they are printed.
#[derive(Debug, Default)]
pub(crate) struct Page {
    text: String,
    colours: bool,
}

impl Page {
    /// A page for standard output, with colours if it takes them.
    pub(crate) fn coloured() -> Self {
        Self { colours: takes_colours(), ..Self::default() }
    }

    /// Writes a text as one line, made plain.
    pub(crate) fn line(&mut self, line: impl Display) {
        self.text.push_str(&Plain(line).to_string());
        self.text.push('\n');
    }

    /// Adds a line of several parts.
    pub(crate) fn painted(&mut self, parts: &[Painted]) {
        for part in parts {
            self.paint(part, 0);
        }
        self.text.push('\n');
    }

    /// Adds a table. Each column but the last is as wide as its widest cell.
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

    /// Writes a value as JSON in one line.
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
    fn colours_need_a_terminal_and_no_veto() {
        assert!(wants_colours(true, "", "xterm"));
        for (is_terminal, no_color, term) in [(false, "", "xterm"), (true, "1", "xterm"), (true, "", "dumb")]
        {
            assert!(!wants_colours(is_terminal, no_color, term));
        }
    }

    #[test]
    fn columns_are_as_wide_as_the_plain_text_and_colours_surround_it() {
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

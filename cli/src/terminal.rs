//! Where every command prints: the one door to the terminal.
//!
//! Invariant: nothing that is printed holds a character that terminals act on or hide (see [`domain::hides`]), and what is
//! printed as a line is one: no title, group or refusal ends it. Only a document in a format of its own goes as it is, into
//! a file or a pipe.
//!
//! Never: standard output or error by another way. Clippy holds it: `print_stdout`, `print_stderr`, and the methods that
//! `clippy.toml` bans.
#![allow(clippy::disallowed_methods, reason = "the one place that prints")]

use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal as _, StderrLock, StdoutLock, Write};

use domain::{Plain, plain_document, plain_json};
use serde::Serialize;

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
pub(crate) fn lines() -> Lines<BufWriter<StdoutLock<'static>>> {
    Lines(BufWriter::new(io::stdout().lock()))
}

/// Many lines to standard error.
pub(crate) fn notes() -> Lines<BufWriter<StderrLock<'static>>> {
    Lines(BufWriter::new(io::stderr().lock()))
}

/// A line to standard output.
pub(crate) fn line(line: impl Display) {
    done(Lines(io::stdout().lock()).line(line));
}

/// A value in a line, to standard output.
pub(crate) fn json(value: &impl Serialize) {
    done(Lines(io::stdout().lock()).json(value));
}

/// A line to standard error.
pub(crate) fn note(line: impl Display) {
    // Where that can't be told, nothing can.
    let _ = Lines(io::stderr().lock()).line(line);
}

/// The lines of a page to standard output.
pub(crate) fn page(page: &Page) {
    done(io::stdout().lock().write_all(page.0.as_bytes()));
}

/// A document in a format of its own, such as a calendar's, to standard output: as it is, unless somebody looks at it.
pub(crate) fn document(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if out.is_terminal() {
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

/// Whoever reads has had enough, as `head` does: that is no fault.
fn done(written: io::Result<()>) {
    if let Err(error) = written {
        if error.kind() == io::ErrorKind::BrokenPipe {
            std::process::exit(0);
        }
        note(format_args!("belfry: writing to standard output: {error}"));
        std::process::exit(2);
    }
}

/// Lines that are gathered before they are printed.
#[derive(Debug, Default)]
pub(crate) struct Page(String);

impl Page {
    /// A line, whatever its text holds.
    pub(crate) fn line(&mut self, line: impl Display) {
        self.0.push_str(&Plain(line).to_string());
        self.0.push('\n');
    }

    /// A value in a line.
    pub(crate) fn json(&mut self, value: &serde_json::Value) {
        self.0.push_str(&plain_json(&value.to_string()));
        self.0.push('\n');
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[cfg(test)]
    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

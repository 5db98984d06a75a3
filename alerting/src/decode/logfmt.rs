//! logfmt into a document: `level=error msg="no such file" retried`.
//!
//! A name is bytes above the space but `=` and `"`; its value is nothing, a run of bytes above the space but `"` (so `a=b=c`
//! is `a` with `b=c`), or a text in quotes with the escapes of JSON. Every value is a text, since the format has no types; a
//! name without `=` is true. Of names that come again the last counts. Never: several lines.

use super::DecodeError;
use crate::document::{Builder, Document, View};

/// Decodes one line.
pub(super) fn decode<'d>(line: &'d str, into: &'d mut Document) -> Result<View<'d>, DecodeError> {
    let mut scratch = std::mem::take(&mut into.scratch);
    let done = Line { text: line, bytes: line.as_bytes(), at: 0 }.pairs(&mut into.build(), &mut scratch);
    into.scratch = scratch;
    done?;
    Ok(into.view(line))
}

struct Line<'l> {
    text: &'l str,
    bytes: &'l [u8],
    at: usize,
}

impl Line<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn wrong(&self, what: &str) -> DecodeError {
        DecodeError::malformed(format!("not logfmt: {what} at byte {}", self.at))
    }

    fn pairs(&mut self, into: &mut Builder<'_>, scratch: &mut String) -> Result<(), DecodeError> {
        let mut map = into.open_map();
        loop {
            while let Some(b' ' | b'\t') = self.peek() {
                self.at += 1;
            }
            let Some(first) = self.peek() else { break };
            match first {
                b'\n' | b'\r' => return Err(self.wrong("a second line")),
                b'=' => return Err(self.wrong("a = without a name before it")),
                _ => {}
            }
            let start = self.at;
            let end = self.run(|byte| byte == b'=');
            if self.peek() == Some(b'"') {
                return Err(self.wrong("a quote in a name"));
            }
            if end == start {
                return Err(self.wrong("a control character"));
            }
            into.source_name(&mut map, self.bytes.get(start..end).unwrap_or_default(), start);
            if self.peek() == Some(b'=') {
                self.at += 1;
                self.value(into, scratch)?;
            } else {
                into.bool(true);
            }
        }
        into.close_map(&map, self.text);
        Ok(())
    }

    /// To the end of a run of bytes above the space, before a quote or what stops it.
    fn run(&mut self, stops: impl Fn(u8) -> bool) -> usize {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let ends = |byte: &u8| *byte <= b' ' || *byte == b'"' || stops(*byte);
        self.at += rest.iter().position(ends).unwrap_or(rest.len());
        self.at
    }

    fn value(&mut self, into: &mut Builder<'_>, scratch: &mut String) -> Result<(), DecodeError> {
        if self.peek() == Some(b'"') {
            return self.quoted(into, scratch);
        }
        let start = self.at;
        let end = self.run(|_| false);
        if self.peek() == Some(b'"') {
            return Err(self.wrong("a quote in a value that does not begin with one"));
        }
        into.source_text(start, end - start);
        Ok(())
    }

    fn quoted(&mut self, into: &mut Builder<'_>, scratch: &mut String) -> Result<(), DecodeError> {
        self.at += 1;
        let (start, mut from, mut plain) = (self.at, self.at, true);
        scratch.clear();
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let Some(length) = memchr::memchr2(b'"', b'\\', rest) else {
                return Err(DecodeError::truncated("not logfmt: a quote is not closed"));
            };
            self.at += length;
            if self.peek() == Some(b'"') {
                break;
            }
            plain = false;
            scratch.push_str(self.text.get(from..self.at).unwrap_or_default());
            self.at += 1;
            let escaped = super::json::escape(self.bytes, &mut self.at);
            scratch.push(escaped.ok_or_else(|| self.wrong("an escape that there is not"))?);
            from = self.at;
        }
        if plain {
            into.source_text(start, self.at - start);
        } else {
            scratch.push_str(self.text.get(from..self.at).unwrap_or_default());
            into.text(scratch);
        }
        self.at += 1;
        match self.peek() {
            None | Some(b' ' | b'\t') => Ok(()),
            Some(_) => Err(self.wrong("something right behind a closing quote")),
        }
    }
}

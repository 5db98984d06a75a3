//! Decodes logfmt into a document: `level=error msg="no such file" retried`.
//!
//! A name consists of bytes above the space except `=` and `"`. A value is empty, or a run of bytes above the space
//! except `"` (so `a=b=c` is `a` with `b=c`), or a text in quotes with the escapes of JSON and of Go's `%q` (`\x1b`,
//! `\a`, `\U0001f600`; bytes that are not UTF-8, which Go writes as `\xff`, become U+FFFD). Every value is a text,
//! because the format has no types; a name without `=` is true. If a name occurs twice, the last one counts. A second
//! line is an error.

use super::DecodeError;
use crate::document::{Builder, Document, DocumentView};

/// Decodes one line.
pub(super) fn decode<'d>(line: &'d str, into: &'d mut Document) -> Result<DocumentView<'d>, DecodeError> {
    let mut scratch = std::mem::take(&mut into.scratch);
    let done =
        LineParser { text: line, bytes: line.as_bytes(), at: 0 }.pairs(&mut into.build(), &mut scratch);
    into.scratch = scratch;
    done?;
    Ok(into.view(line))
}

struct LineParser<'l> {
    text: &'l str,
    bytes: &'l [u8],
    at: usize,
}

impl LineParser<'_> {
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
            let end = self.skip_word(|byte| byte == b'=');
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

    /// Skips bytes above the space, up to a quote or a byte that `stops`; returns the index of the first byte after
    /// them.
    fn skip_word(&mut self, stops: impl Fn(u8) -> bool) -> usize {
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
        let end = self.skip_word(|_| false);
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
            let escaped = escape(self.bytes, &mut self.at);
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

/// The character of the escape at `at`, which is just after the backslash; moves `at` behind it.
fn escape(bytes: &[u8], at: &mut usize) -> Option<char> {
    let plain = match bytes.get(*at)? {
        b'a' => '\x07',
        b'v' => '\x0b',
        b'\'' => '\'',
        b'x' => return byte(bytes, at),
        b'U' => {
            let code = hex(bytes, *at + 1, 8)?;
            *at += 9;
            return char::from_u32(code);
        }
        _ => return super::json::escape(bytes, at),
    };
    *at += 1;
    Some(plain)
}

/// The character of a byte written as `xff`, together with the escaped bytes that continue it.
fn byte(bytes: &[u8], at: &mut usize) -> Option<char> {
    let first = hex(bytes, *at + 1, 2)? as u8;
    *at += 3;
    let len = match first {
        0..0x80 => return Some(char::from(first)),
        0xC2..0xE0 => 2,
        0xE0..0xF0 => 3,
        0xF0..0xF5 => 4,
        _ => return Some(char::REPLACEMENT_CHARACTER),
    };
    let (mut all, mut end) = ([first, 0, 0, 0], *at);
    for byte in all.iter_mut().take(len).skip(1) {
        // If no escaped byte follows, the byte stays zero, which belongs to no multi-byte character.
        if bytes.get(end..).is_some_and(|rest| rest.starts_with(b"\\x")) {
            *byte = hex(bytes, end + 2, 2)? as u8;
            end += 4;
        }
    }
    match std::str::from_utf8(&all[..len]).ok().and_then(|text| text.chars().next()) {
        Some(char) if char.len_utf8() == len => {
            *at = end;
            Some(char)
        }
        _ => Some(char::REPLACEMENT_CHARACTER),
    }
}

fn hex(bytes: &[u8], from: usize, digits: usize) -> Option<u32> {
    let digits = bytes.get(from..from + digits)?;
    digits.iter().try_fold(0_u32, |sum, digit| Some(sum.checked_mul(16)? + char::from(*digit).to_digit(16)?))
}

//! Decodes JSON (RFC 8259) into a document, in one pass.
//!
//! Invariant: it accepts exactly what serde_json accepts, with the same values, except that it rounds numbers with a
//! fraction to the nearest double. It yields no error message; callers parse again with serde_json to get one.

use serde_json::Value;

use super::{DecodeError, DecodeReason};
use crate::document::{Builder, Document, DocumentView, OpenMap};

/// Lists and maps nested this deep are refused.
const MAX_DEPTH: u32 = 128;

/// Decodes one JSON text.
pub(super) fn decode<'d>(bytes: &'d [u8], into: &'d mut Document) -> Result<DocumentView<'d>, DecodeError> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let mut scratch = std::mem::take(&mut into.scratch);
        let parsed = parse(text, &mut into.build(), &mut scratch);
        into.scratch = scratch;
        if parsed {
            return Ok(into.view(text));
        }
    }
    // serde_json says where and why; both parsers accept the same texts.
    let value = parse_with_serde(bytes)?;
    into.build().value(&value);
    Ok(into.view(""))
}

/// Parses a text that [`parse`] refused with serde_json, for its error.
#[cold]
pub(super) fn parse_with_serde(bytes: &[u8]) -> Result<Value, DecodeError> {
    if bytes.is_empty() {
        let message = "an empty value is not a JSON text; only null is a tombstone".to_owned();
        return Err(DecodeError { reason: DecodeReason::Empty, message });
    }
    serde_json::from_slice(bytes).map_err(|error| {
        // serde_json has no kind for its nesting limit, only this message.
        let reason = if error.to_string().starts_with("recursion limit exceeded") {
            DecodeReason::TooDeep
        } else if error.is_eof() {
            DecodeReason::Truncated
        } else {
            DecodeReason::Malformed
        };
        DecodeError { reason, message: format!("not a JSON text: {error}") }
    })
}

/// Whether the bytes are one JSON text; builds no value.
pub(super) fn accepts(bytes: &[u8], scratch: &mut String) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| parse(text, &mut Discard, scratch))
}

/// Appends the text's value to `into`. False if it is not one JSON text; `into` then holds nothing usable.
pub(super) fn parse(text: &str, into: &mut impl ValueSink, scratch: &mut String) -> bool {
    let mut parser = Parser { text, bytes: text.as_bytes(), at: 0, depth: 0, into, scratch };
    parser.space();
    parser.value().is_some() && {
        parser.space();
        parser.at == parser.bytes.len()
    }
}

/// Receives the parsed values.
pub(super) trait ValueSink {
    /// A map that is not closed yet.
    type Map;
    fn null(&mut self);
    fn bool(&mut self, it: bool);
    fn int(&mut self, it: i64);
    fn uint(&mut self, it: u64);
    fn double(&mut self, it: f64);
    fn text(&mut self, text: &str);
    fn source_text(&mut self, start: usize, len: usize);
    fn open_list(&mut self) -> usize;
    fn close_list(&mut self, open: usize, len: u32);
    fn open_map(&mut self) -> Self::Map;
    fn name(&mut self, map: &mut Self::Map, name: &str);
    fn source_name(&mut self, map: &mut Self::Map, name: &[u8], start: usize);
    fn close_map(&mut self, map: &Self::Map, source: &str);
}

/// Discards all values.
struct Discard;

impl ValueSink for Discard {
    type Map = ();
    #[inline]
    fn null(&mut self) {}
    #[inline]
    fn bool(&mut self, _: bool) {}
    #[inline]
    fn int(&mut self, _: i64) {}
    #[inline]
    fn uint(&mut self, _: u64) {}
    #[inline]
    fn double(&mut self, _: f64) {}
    #[inline]
    fn text(&mut self, _: &str) {}
    #[inline]
    fn source_text(&mut self, _: usize, _: usize) {}
    #[inline]
    fn open_list(&mut self) -> usize {
        0
    }
    #[inline]
    fn close_list(&mut self, _: usize, _: u32) {}
    #[inline]
    fn open_map(&mut self) {}
    #[inline]
    fn name(&mut self, (): &mut (), _: &str) {}
    #[inline]
    fn source_name(&mut self, (): &mut (), _: &[u8], _: usize) {}
    #[inline]
    fn close_map(&mut self, (): &(), _: &str) {}
}

impl ValueSink for Builder<'_> {
    type Map = OpenMap;
    #[inline]
    fn null(&mut self) {
        Builder::null(self);
    }
    #[inline]
    fn bool(&mut self, it: bool) {
        Builder::bool(self, it);
    }
    #[inline]
    fn int(&mut self, it: i64) {
        Builder::int(self, it);
    }
    #[inline]
    fn uint(&mut self, it: u64) {
        Builder::uint(self, it);
    }
    #[inline]
    fn double(&mut self, it: f64) {
        Builder::double(self, it);
    }
    #[inline]
    fn text(&mut self, text: &str) {
        Builder::text(self, text);
    }
    #[inline]
    fn source_text(&mut self, start: usize, len: usize) {
        Builder::source_text(self, start, len);
    }
    #[inline]
    fn open_list(&mut self) -> usize {
        Builder::open_list(self)
    }
    #[inline]
    fn close_list(&mut self, open: usize, len: u32) {
        Builder::close_list(self, open, len);
    }
    #[inline]
    fn open_map(&mut self) -> OpenMap {
        Builder::open_map(self)
    }
    #[inline]
    fn name(&mut self, map: &mut OpenMap, name: &str) {
        Builder::name(self, map, name);
    }
    #[inline]
    fn source_name(&mut self, map: &mut OpenMap, name: &[u8], start: usize) {
        Builder::source_name(self, map, name, start);
    }
    #[inline]
    fn close_map(&mut self, map: &OpenMap, source: &str) {
        Builder::close_map(self, map, source);
    }
}

struct Parser<'p, B> {
    text: &'p str,
    bytes: &'p [u8],
    at: usize,
    depth: u32,
    into: &'p mut B,
    scratch: &'p mut String,
}

/// Where a string's text is: a range of the source, or the scratch buffer if it had escapes.
enum TextLocation {
    Source { start: usize, len: usize },
    Scratch,
}

impl<B: ValueSink> Parser<'_, B> {
    #[inline]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline]
    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    #[inline]
    fn value(&mut self) -> Option<()> {
        match self.peek()? {
            b'"' => {
                match self.string()? {
                    TextLocation::Source { start, len } => self.into.source_text(start, len),
                    TextLocation::Scratch => self.into.text(self.scratch),
                }
                Some(())
            }
            b'{' => self.map(),
            b'[' => self.list(),
            b't' => self.word(b"true").map(|()| self.into.bool(true)),
            b'f' => self.word(b"false").map(|()| self.into.bool(false)),
            b'n' => self.word(b"null").map(|()| self.into.null()),
            _ => self.number(),
        }
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        self.bytes.get(self.at..)?.starts_with(word).then(|| self.at += word.len())
    }

    fn deeper(&mut self) -> Option<()> {
        self.at += 1;
        self.depth += 1;
        // As serde_json counts: the 128th level is refused.
        (self.depth < MAX_DEPTH).then_some(())?;
        self.space();
        Some(())
    }

    /// Reads what follows an element: true after a comma, false after the closing bracket.
    #[inline]
    fn follows(&mut self, close: u8) -> Option<bool> {
        self.space();
        match self.peek()? {
            b',' => {
                self.at += 1;
                self.space();
                Some(true)
            }
            byte if byte == close => {
                self.at += 1;
                self.depth -= 1;
                Some(false)
            }
            _ => None,
        }
    }

    fn list(&mut self) -> Option<()> {
        let (open, mut len) = (self.into.open_list(), 0);
        self.deeper()?;
        if self.peek()? == b']' {
            self.at += 1;
            self.depth -= 1;
        } else {
            loop {
                self.value()?;
                len += 1;
                if !self.follows(b']')? {
                    break;
                }
            }
        }
        self.into.close_list(open, len);
        Some(())
    }

    fn map(&mut self) -> Option<()> {
        let mut open = self.into.open_map();
        self.deeper()?;
        if self.peek()? == b'}' {
            self.at += 1;
            self.depth -= 1;
        } else {
            loop {
                if self.peek()? != b'"' {
                    return None;
                }
                match self.string()? {
                    TextLocation::Source { start, len } => {
                        self.into.source_name(&mut open, self.bytes.get(start..start + len)?, start);
                    }
                    TextLocation::Scratch => self.into.name(&mut open, self.scratch),
                }
                self.space();
                if self.peek()? != b':' {
                    return None;
                }
                self.at += 1;
                self.space();
                self.value()?;
                if !self.follows(b'}')? {
                    break;
                }
            }
        }
        self.into.close_map(&open, self.text);
        Some(())
    }

    /// Parses a string; `at` is at its opening quote.
    #[inline]
    fn string(&mut self) -> Option<TextLocation> {
        let start = self.at + 1;
        self.at = self.plain_until(start)?;
        if self.bytes.get(self.at) == Some(&b'"') {
            let len = self.at - start;
            self.at += 1;
            return Some(TextLocation::Source { start, len });
        }
        self.escaped(start)
    }

    /// The index of the next quote, backslash or control character.
    #[inline]
    fn plain_until(&self, mut at: usize) -> Option<usize> {
        while let Some(chunk) = self.bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
            let found = special(u64::from_le_bytes(*chunk));
            if found != 0 {
                return Some(at + (found.trailing_zeros() / 8) as usize);
            }
            at += 8;
        }
        loop {
            match self.bytes.get(at)? {
                b'"' | b'\\' | 0..0x20 => return Some(at),
                _ => at += 1,
            }
        }
    }

    #[cold]
    fn escaped(&mut self, mut start: usize) -> Option<TextLocation> {
        self.scratch.clear();
        loop {
            self.scratch.push_str(self.text.get(start..self.at)?);
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Some(TextLocation::Scratch);
                }
                b'\\' => {
                    self.at += 1;
                    let char = escape(self.bytes, &mut self.at)?;
                    self.scratch.push(char);
                    start = self.at;
                    self.at = self.plain_until(start)?;
                }
                _ => return None,
            }
        }
    }

    fn digits(&mut self, sum: &mut u64) -> usize {
        let start = self.at;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            *sum = sum.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
            self.at += 1;
        }
        self.at - start
    }

    fn number(&mut self) -> Option<()> {
        let start = self.at;
        let negative = self.peek()? == b'-';
        self.at += usize::from(negative);
        let leading_zero = self.peek()? == b'0';
        let mut sum = 0;
        let whole = self.digits(&mut sum);
        if whole == 0 || (leading_zero && whole > 1) {
            return None;
        }
        let (mut fraction, mut exponent) = (0, false);
        if self.peek() == Some(b'.') {
            self.at += 1;
            fraction = self.digits(&mut sum);
            if fraction == 0 {
                return None;
            }
        }
        if let Some(b'e' | b'E') = self.peek() {
            exponent = true;
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            if self.digits(&mut 0) == 0 {
                return None;
            }
        }
        if fraction == 0 && !exponent && whole <= 19 {
            match i64::try_from(sum) {
                // As in serde_json, minus zero is not an integer.
                Ok(0) if negative => self.into.double(-0.0),
                Ok(int) => self.into.int(if negative { -int } else { int }),
                Err(_) if !negative => self.into.uint(sum),
                Err(_) => return self.wide(start),
            }
            return Some(());
        }
        match EXACT.get(fraction) {
            // Both operands are exact, so only the division rounds.
            Some(power) if !exponent && whole + fraction <= 15 => {
                let value = sum as f64 / power;
                self.into.double(if negative { -value } else { value });
                Some(())
            }
            _ => self.wide(start),
        }
    }

    /// Parses a number of many digits or with an exponent.
    #[cold]
    fn wide(&mut self, start: usize) -> Option<()> {
        let text = self.text.get(start..self.at)?;
        if let Ok(int) = text.parse::<i64>() {
            self.into.int(int);
        } else if let Ok(uint) = text.parse::<u64>() {
            self.into.uint(uint);
        } else {
            let value = text.parse::<f64>().ok().filter(|it| it.is_finite())?;
            self.into.double(value);
        }
        Some(())
    }
}

/// The character of the escape at `at`, which is just after the backslash; moves `at` behind it.
pub(super) fn escape(bytes: &[u8], at: &mut usize) -> Option<char> {
    let byte = *bytes.get(*at)?;
    *at += 1;
    Some(match byte {
        b'"' | b'\\' | b'/' => char::from(byte),
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => {
            let high = hex(bytes, at)?;
            if !(0xD800..0xDC00).contains(&high) {
                return char::from_u32(high);
            }
            if !bytes.get(*at..)?.starts_with(b"\\u") {
                return None;
            }
            *at += 2;
            let low = hex(bytes, at)?;
            if !(0xDC00..0xE000).contains(&low) {
                return None;
            }
            return char::from_u32(0x1_0000 + ((high - 0xD800) << 10) + (low - 0xDC00));
        }
        _ => return None,
    })
}

fn hex(bytes: &[u8], at: &mut usize) -> Option<u32> {
    let digits = bytes.get(*at..*at + 4)?;
    *at += 4;
    digits.iter().try_fold(0, |sum, digit| Some(sum * 16 + char::from(*digit).to_digit(16)?))
}

const EXACT: [f64; 16] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];

/// Sets the high bit of each byte that is a quote, a backslash or a control character. Exact up to the first such byte;
/// borrows may set more bits behind it.
#[inline]
fn special(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = ONES << 7;
    let quote = word ^ (ONES * 0x22);
    let backslash = word ^ (ONES * 0x5C);
    let below = word.wrapping_sub(ONES * 0x20) & !word;
    ((quote.wrapping_sub(ONES) & !quote) | (backslash.wrapping_sub(ONES) & !backslash) | below) & HIGH
}

//! The functions of the strings extension. Indices into a text count characters.
//!
//! Invariant: a function's reads and allocations are charged before it makes them.

use bumpalo::collections::{String as Text, Vec as Made};
use memchr::memmem;

use super::eval::Eval;
use super::fault::{EvalFault, Op};
use super::value::Val;

impl<'a> Eval<'a> {
    /// Applies a function of texts to its target and its arguments.
    #[inline(never)]
    pub(super) fn on_text(&mut self, op: Op, given: &[Val<'a>]) -> Result<Val<'a>, EvalFault> {
        if op == Op::Join {
            return self.join(given);
        }
        let Some((Val::Text(text), arguments)) = given.split_first().map(|(it, rest)| (*it, rest)) else {
            return Err(wrong(op, given));
        };
        self.charge_read(text.len())?;
        match (op, arguments) {
            (Op::LowerAscii | Op::UpperAscii | Op::Reverse | Op::Quote, []) => self.rewritten(op, text),
            (Op::Trim, []) => Ok(Val::Text(text.trim())),
            (Op::CharAt, [Val::Int(at)]) => {
                let start = byte_index(op, text, *at)?;
                let end = text[start..].chars().next().map_or(start, |it| start + it.len_utf8());
                Ok(Val::Text(&text[start..end]))
            }
            (Op::Substring, [Val::Int(from)]) => Ok(Val::Text(&text[byte_index(op, text, *from)?..])),
            (Op::Substring, [Val::Int(from), Val::Int(to)]) => {
                let (from, to) = (byte_index(op, text, *from)?, byte_index(op, text, *to)?);
                text.get(from..to).map(Val::Text).ok_or(EvalFault::Value(op))
            }
            (Op::IndexOf | Op::LastIndexOf, [Val::Text(part)]) => {
                let found = if op == Op::IndexOf {
                    memmem::find(text.as_bytes(), part.as_bytes())
                } else {
                    memmem::rfind(text.as_bytes(), part.as_bytes())
                };
                Ok(Val::Int(found.map_or(-1, |at| characters(text, at))))
            }
            (Op::IndexOf | Op::LastIndexOf, [Val::Text(part), Val::Int(at)]) => {
                index(op, text, part, *at).map(Val::Int)
            }
            (Op::Replace, [Val::Text(old), Val::Text(new)]) => self.replace(text, old, new, usize::MAX),
            (Op::Replace, [Val::Text(old), Val::Text(new), Val::Int(times)]) => {
                self.replace(text, old, new, usize::try_from(*times).unwrap_or(usize::MAX))
            }
            (Op::Split, [Val::Text(by)]) => self.split(text, by, usize::MAX),
            (Op::Split, [Val::Text(by), Val::Int(times)]) => {
                self.split(text, by, usize::try_from(*times).unwrap_or(usize::MAX))
            }
            _ => Err(wrong(op, given)),
        }
    }

    fn rewritten(&mut self, op: Op, text: &str) -> Result<Val<'a>, EvalFault> {
        // A quoted text is at most twice as long, plus two quotes.
        let room = if op == Op::Quote { 2 * text.len() + 2 } else { text.len() };
        self.charge_memory(room)?;
        let mut made = Text::with_capacity_in(room, self.memory());
        match op {
            Op::LowerAscii => made.extend(text.chars().map(|it| it.to_ascii_lowercase())),
            Op::UpperAscii => made.extend(text.chars().map(|it| it.to_ascii_uppercase())),
            Op::Reverse => made.extend(text.chars().rev()),
            _ => {
                made.push('"');
                for it in text.chars() {
                    match it {
                        '\x07' => made.push_str("\\a"),
                        '\x08' => made.push_str("\\b"),
                        '\x0c' => made.push_str("\\f"),
                        '\n' => made.push_str("\\n"),
                        '\r' => made.push_str("\\r"),
                        '\t' => made.push_str("\\t"),
                        '\x0b' => made.push_str("\\v"),
                        '\\' => made.push_str("\\\\"),
                        '"' => made.push_str("\\\""),
                        it => made.push(it),
                    }
                }
                made.push('"');
            }
        }
        Ok(Val::Text(made.into_bump_str()))
    }

    fn replace(&mut self, text: &'a str, old: &str, new: &str, times: usize) -> Result<Val<'a>, EvalFault> {
        let count = text.matches(old).take(times).count();
        if count == 0 {
            return Ok(Val::Text(text));
        }
        let room =
            text.len().saturating_add(count.saturating_mul(new.len())).saturating_sub(count * old.len());
        self.charge_memory(room)?;
        let mut made = Text::with_capacity_in(room, self.memory());
        let mut after = 0;
        for (at, found) in text.match_indices(old).take(count) {
            made.push_str(&text[after..at]);
            made.push_str(new);
            after = at + found.len();
        }
        made.push_str(&text[after..]);
        Ok(Val::Text(made.into_bump_str()))
    }

    /// Splits into at most `times` parts; the last one has all that follows.
    fn split(&mut self, text: &'a str, by: &str, times: usize) -> Result<Val<'a>, EvalFault> {
        let mut parts = Made::new_in(self.memory());
        let mut rest = (times > 0).then_some(text);
        while let Some(text) = rest {
            let found = match text.chars().next() {
                _ if parts.len() + 1 == times => None,
                // An empty separator splits between all characters.
                Some(first) if by.is_empty() => Some(first.len_utf8()).filter(|at| *at < text.len()),
                _ if by.is_empty() => break,
                _ => memmem::find(text.as_bytes(), by.as_bytes()),
            };
            self.charge_memory(2 * size_of::<Val<'_>>())?;
            parts.push(Val::Text(found.map_or(text, |at| &text[..at])));
            rest = found.map(|at| &text[at + by.len()..]);
        }
        Ok(Val::List(parts.into_bump_slice()))
    }

    fn join(&mut self, given: &[Val<'a>]) -> Result<Val<'a>, EvalFault> {
        let (list, between) = match given {
            [list] => (list, ""),
            [list, Val::Text(between)] => (list, *between),
            _ => return Err(wrong(Op::Join, given)),
        };
        let texts = || list.items().ok_or_else(|| wrong(Op::Join, given));
        let mut room = 0_usize;
        for item in texts()? {
            let Val::Text(text) = item else {
                return Err(EvalFault::Types(Op::Join, list.kind(), item.kind()));
            };
            room = room.saturating_add(text.len()).saturating_add(between.len());
        }
        self.charge_memory(room)?;
        let mut made = Text::with_capacity_in(room, self.memory());
        for (at, item) in texts()?.enumerate() {
            if at > 0 {
                made.push_str(between);
            }
            if let Val::Text(text) = item {
                made.push_str(text);
            }
        }
        Ok(Val::Text(made.into_bump_str()))
    }
}

/// The error for wrong arguments: the types that the function does not take, or their number.
fn wrong(op: Op, given: &[Val<'_>]) -> EvalFault {
    let most = match op {
        Op::LowerAscii | Op::UpperAscii | Op::Trim | Op::Reverse | Op::Quote => 1,
        Op::CharAt | Op::Join => 2,
        Op::Replace => 4,
        _ => 3,
    };
    match given {
        [of] if most == 1 || !matches!(of, Val::Text(_)) => EvalFault::Type(op, of.kind()),
        [of, with, ..] if most > 1 && given.len() <= most => EvalFault::Types(op, of.kind(), with.kind()),
        _ => EvalFault::Arguments(op),
    }
}

/// The byte at which the character with this index begins, or the text's end.
fn byte_index(op: Op, text: &str, number: i64) -> Result<usize, EvalFault> {
    let number = usize::try_from(number).map_err(|_| EvalFault::Value(op))?;
    let mut indices = text.char_indices().map(|(at, _)| at).chain([text.len()]);
    indices.nth(number).ok_or(EvalFault::Value(op))
}

/// The number of characters before the byte.
fn characters(text: &str, at: usize) -> i64 {
    text.get(..at).map_or(0, |before| before.chars().count()) as i64
}

/// The character index of the part: its first occurrence from `at` on (`indexOf`), or its last up to `at`
/// (`lastIndexOf`); -1 if there is none.
fn index(op: Op, text: &str, part: &str, at: i64) -> Result<i64, EvalFault> {
    if part.is_empty() && at >= 0 {
        return Ok(at.min(text.chars().count() as i64));
    }
    let start = byte_index(op, text, at)?;
    if start == text.len() {
        return Err(EvalFault::Value(op));
    }
    let found = if op == Op::IndexOf {
        memmem::find(&text.as_bytes()[start..], part.as_bytes()).map(|found| start + found)
    } else {
        let end = start.saturating_add(part.len()).min(text.len());
        memmem::rfind(&text.as_bytes()[..end], part.as_bytes())
    };
    Ok(found.map_or(-1, |at| characters(text, at)))
}

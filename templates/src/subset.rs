//! The subset of MiniJinja that templates may use: `{{ }}`, `if`, `for`, comments, filters and tests.
//!
//! The text is split into tags as MiniJinja does it, before MiniJinja's parser sees it. That parser recurses along a
//! chain of operators and of `elif`, so the length of a tag and the number of `elif` are bounded here. What would make
//! the split ambiguous (`raw`, braces inside of a tag) is refused. Only `for` binds a name: with `set` or `macro` every
//! bound would have to be considered again.

use std::ops::Range;

use crate::{TemplateError, filters, jinja_tests, position};

/// The longest `{{ ... }}` or `{% ... %}`, bytes: MiniJinja recurses along a chain of operators.
pub(crate) const MAX_TAG: usize = 512;
/// The most `elif` in a template: MiniJinja recurses for each.
const MAX_ELIF: usize = 100;
/// Words before a bracket that are no function call.
const OPERATORS: [&str; 9] = ["if", "elif", "else", "for", "in", "is", "not", "and", "or"];
const STATEMENTS: [&str; 6] = ["if", "elif", "else", "endif", "for", "endfor"];
/// The most faults reported for one text.
pub(crate) const MAX_FAULTS: usize = 20;

/// What is wrong with a tag.
pub(crate) struct TagFault {
    /// The byte at which it is.
    pub(crate) at: usize,
    /// The bytes of its tag.
    pub(crate) tag: Range<usize>,
    pub(crate) message: String,
    /// Whether it is an unknown name: the parser can read the tag all the same.
    pub(crate) is_name: bool,
}

/// Refuses a text that uses more than the subset, or names an unknown filter, test or function.
pub(crate) fn check(text: &str) -> Result<(), TemplateError> {
    match faults(text, 1).into_iter().next() {
        None => Ok(()),
        Some(fault) => Err(fault.error(text)),
    }
}

/// All faults, in the text's order.
pub(crate) fn find_faults(text: &str) -> Vec<TagFault> {
    faults(text, MAX_FAULTS)
}

impl TagFault {
    pub(crate) fn error(self, text: &str) -> TemplateError {
        let (line, column) = position(text, self.at);
        TemplateError { line: Some(line), column: Some(column), message: self.message }
    }
}

fn faults(text: &str, most: usize) -> Vec<TagFault> {
    let (mut at, mut elifs, mut faults) = (0, 0, Vec::new());
    while let Some(found) = next(text, at).filter(|_| faults.len() < most) {
        let Tag { open, after, code, is_statement, missing } = found;
        at = after;
        elifs += usize::from(is_statement && word_of(&code) == "elif");
        let allowed = if let Some(missing) = missing {
            Err(missing)
        } else if elifs > MAX_ELIF {
            Err(format!("more than {MAX_ELIF} `elif` are not allowed"))
        } else {
            tag_is_allowed(&code, is_statement, after - open)
        };
        let fault = |at, message, is_name| TagFault { at, tag: open..after, message, is_name };
        if let Err(message) = allowed {
            faults.push(fault(open, message, false));
            continue;
        }
        let named = unknown_names(&code).into_iter().take(most - faults.len());
        faults.extend(named.map(|(at, message)| fault(open + 2 + at, message, true)));
    }
    faults
}

/// A tag that is not a comment.
struct Tag {
    open: usize,
    after: usize,
    /// What is between its braces, with strings replaced by blanks.
    code: String,
    is_statement: bool,
    /// What is missing to close it, in words.
    missing: Option<String>,
}

fn next(text: &str, mut at: usize) -> Option<Tag> {
    while let Some(open) = text.get(at..).and_then(|rest| rest.find('{')).map(|found| at + found) {
        at = match text.as_bytes().get(open + 1) {
            Some(b'#') => text[open..].find("#}").map_or(text.len(), |end| open + end + 2),
            Some(kind @ (b'{' | b'%')) => {
                let is_statement = *kind == b'%';
                let end = if is_statement { "%}" } else { "}}" };
                let (code, after, missing) = tag(text, open + 2, end);
                return Some(Tag { open, after, code, is_statement, missing });
            }
            _ => open + 1,
        };
    }
    None
}

/// The tag that contains this byte.
pub(crate) fn tag_around(text: &str, place: usize) -> Option<Range<usize>> {
    let mut at = 0;
    while let Some(tag) = next(text, at) {
        if (tag.open..tag.after).contains(&place) {
            return Some(tag.open..tag.after);
        }
        at = tag.after;
    }
    None
}

/// Reads a tag: its code with strings replaced by blanks, the index after its end, and, if it is not closed, what is
/// missing.
fn tag(text: &str, start: usize, end: &str) -> (String, usize, Option<String>) {
    let (mut code, mut quote, mut escaped) = (String::new(), None, false);
    for (index, char) in text[start..].char_indices() {
        match quote {
            None if text[start + index..].starts_with(end) => {
                let braces = code.contains(['{', '}']);
                return (code, start + index + end.len(), braces.then(|| unclosed(end)));
            }
            None if !matches!(char, '"' | '\'') => {
                code.push(char);
                continue;
            }
            None => quote = Some(char),
            Some(_) if escaped => escaped = false,
            Some(_) if char == '\\' => escaped = true,
            Some(open) if char == open => quote = None,
            Some(_) => {}
        }
        // As many blanks as bytes, so that places stay the same.
        code.extend(std::iter::repeat_n(' ', char.len_utf8()));
    }
    let missing = quote.map_or_else(
        || unclosed(end),
        |quote| format!("a string in the tag isn't closed: {quote} is missing"),
    );
    (code, text.len(), Some(missing))
}

fn unclosed(end: &str) -> String {
    format!("the tag isn't closed by `{end}`; braces inside of a tag are not allowed")
}

/// The unknown filters, tests and functions that a tag names, with their places in it.
fn unknown_names(code: &str) -> Vec<(usize, String)> {
    let mut unknown = Vec::new();
    let of_word = |it: char| it.is_ascii_alphanumeric() || it == '_';
    let (mut before, mut words) = (String::new(), Vec::new());
    let mut rest = code;
    while let Some(start) = rest.find(of_word) {
        before.push_str(rest[..start].trim());
        let end = rest[start..].find(|it| !of_word(it)).map_or(rest.len(), |end| start + end);
        let place = code.len() - rest.len() + start;
        words.push((std::mem::take(&mut before), &rest[start..end], rest[end..].starts_with('('), place));
        rest = &rest[end..];
    }
    for (at, (before, word, called, place)) in words.iter().enumerate() {
        let previous = |steps: usize| at.checked_sub(steps).map_or("", |at| words[at].1);
        let is_test = before.is_empty()
            && *word != "not"
            && (previous(1) == "is" || previous(1) == "not" && previous(2) == "is");
        let (kind, known) = if before.ends_with('|') {
            ("filter", filters::find(word).is_some())
        } else if is_test {
            ("test", jinja_tests::find(word).is_some())
        } else if *called && !before.ends_with('.') && !OPERATORS.contains(word) {
            ("function", *word == "range")
        } else {
            continue;
        };
        if !known {
            unknown.push((*place, format!("there is no {kind} `{word}`")));
        }
    }
    unknown
}

/// A statement's first word.
fn word_of(code: &str) -> &str {
    let code = code.trim_start_matches(['-', '+']).trim_start();
    &code[..code.find(|it: char| !it.is_ascii_alphabetic()).unwrap_or(code.len())]
}

fn tag_is_allowed(code: &str, statement: bool, length: usize) -> Result<(), String> {
    if length > MAX_TAG {
        return Err(format!("{length} bytes between the braces; not more than {MAX_TAG}"));
    }
    if code.contains('*') {
        return Err("`*` is not allowed".to_owned());
    }
    if !statement {
        return Ok(());
    }
    let word = word_of(code);
    let rest = code.split_once(word).map_or("", |(_, rest)| rest);
    if !STATEMENTS.contains(&word) {
        return Err(format!(
            "`{word}` is not allowed; a template stands alone and has {}",
            STATEMENTS.join(", ")
        ));
    }
    if word == "for" {
        let source = rest.split_once(" in ").map_or(rest, |(_, source)| source);
        if source.contains([',', '~', '+']) || source.split_whitespace().any(|word| word == "recursive") {
            return Err("what `for` goes through is not put together in its tag".to_owned());
        }
    }
    Ok(())
}

//! What of MiniJinja templates may use: `{{ }}`, `if`, `for`, comments, filters and tests.
//!
//! The text is cut into tags as MiniJinja cuts it, before its parser sees it: the parser recurses along a chain of operators
//! and of `elif`, so a tag's length and their number are bounded here. What would make the cut ambiguous (`raw`, braces
//! inside of a tag) is refused. No value is bound to a name but by `for`: with `set` or `macro` every bound would have to be
//! thought of again. Never: a text that the parser can't hold.

use crate::{TemplateError, checks, filters, position};

/// The longest `{{ ... }}` or `{% ... %}`, bytes: MiniJinja recurses along a chain of operators.
pub(crate) const MAX_TAG: usize = 512;
/// The most `elif` in a template: MiniJinja recurses for each.
const MAX_ELIF: usize = 100;
/// Words that may stand right before a bracket and call nothing.
const OPERATORS: [&str; 9] = ["if", "elif", "else", "for", "in", "is", "not", "and", "or"];
const STATEMENTS: [&str; 6] = ["if", "elif", "else", "endif", "for", "endfor"];
/// Refuses a text that uses more than the subset, and what is there in no template.
pub(crate) fn check(text: &str) -> Result<(), TemplateError> {
    let (mut at, mut elifs) = (0, 0);
    while let Some(open) = text.get(at..).and_then(|rest| rest.find('{')).map(|found| at + found) {
        at = match text.as_bytes().get(open + 1) {
            Some(b'#') => text[open..].find("#}").map_or(text.len(), |end| open + end + 2),
            Some(kind @ (b'{' | b'%')) => {
                let end = if *kind == b'{' { "}}" } else { "%}" };
                let (code, after, missing) = tag(text, open + 2, end);
                let statement = *kind == b'%';
                elifs += usize::from(statement && word_of(&code) == "elif");
                let allowed = if let Some(missing) = missing {
                    Err(missing)
                } else if elifs > MAX_ELIF {
                    Err(format!("more than {MAX_ELIF} `elif` are not allowed"))
                } else {
                    tag_is_allowed(&code, statement, after - open)
                };
                allowed.and_then(|()| names_are_known(&code)).map_err(|message| {
                    let (line, column) = position(text, open);
                    TemplateError { line: Some(line), column: Some(column), message }
                })?;
                after
            }
            _ => open + 1,
        };
    }
    Ok(())
}

/// The tag's code with its strings left out, the index after its end, and in words what is missing where it has none.
fn tag(text: &str, start: usize, end: &str) -> (String, usize, Option<String>) {
    let (mut code, mut quote, mut escaped) = (String::new(), None, false);
    for (index, char) in text[start..].char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if char == '\\' => escaped = true,
            Some(open) if char == open => quote = None,
            Some(_) => {}
            None if text[start + index..].starts_with(end) => {
                let braces = code.contains(['{', '}']);
                return (code, start + index + end.len(), braces.then(|| unclosed(end)));
            }
            None if matches!(char, '"' | '\'') => quote = Some(char),
            None => code.push(char),
        }
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

/// Each filter, test and function that the tag names is there.
fn names_are_known(code: &str) -> Result<(), String> {
    let of_word = |it: char| it.is_ascii_alphanumeric() || it == '_';
    let (mut before, mut words) = (String::new(), Vec::new());
    let mut rest = code;
    while let Some(start) = rest.find(of_word) {
        before.push_str(rest[..start].trim());
        let end = rest[start..].find(|it| !of_word(it)).map_or(rest.len(), |end| start + end);
        words.push((std::mem::take(&mut before), &rest[start..end], rest[end..].starts_with('(')));
        rest = &rest[end..];
    }
    for (at, (before, word, called)) in words.iter().enumerate() {
        let previous = |steps: usize| at.checked_sub(steps).map_or("", |at| words[at].1);
        let is_test = before.is_empty()
            && *word != "not"
            && (previous(1) == "is" || previous(1) == "not" && previous(2) == "is");
        let (kind, known) = if before.ends_with('|') {
            ("filter", filters::find(word).is_some())
        } else if is_test {
            ("test", checks::find(word).is_some())
        } else if *called && !before.ends_with('.') && !OPERATORS.contains(word) {
            ("function", *word == "range")
        } else {
            continue;
        };
        if !known {
            return Err(format!("there is no {kind} `{word}`"));
        }
    }
    Ok(())
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

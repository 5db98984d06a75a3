//! What of MiniJinja templates may use: `{{ }}`, `if`, `for`, comments, and filters whose results are bounded.
//!
//! Fuel bounds instructions, not memory: a text that is joined to itself and bound to a name again and again doubles at
//! every step. So there is no way to bind what grew: no `set`, `with`, `macro` or `*`, and what `for` goes through is not
//! put together in its tag. The text is cut into tags as MiniJinja cuts it; what would make that ambiguous (`raw`, braces
//! inside of a tag) is refused. Never: a growing result that is not bounded by the length of one tag.

use minijinja::{Environment, Error, ErrorKind, value::Value};

use crate::{TemplateError, position};

/// The longest `{{ ... }}` or `{% ... %}`, bytes: MiniJinja recurses along a chain of operators.
pub(crate) const MAX_TAG: usize = 512;
/// The longest text that a filter makes, bytes.
const MAX_TEXT: usize = 64 << 10;
/// Words that may stand right before a bracket and call nothing.
const OPERATORS: [&str; 9] = ["if", "elif", "else", "for", "in", "is", "not", "and", "or"];
const STATEMENTS: [&str; 6] = ["if", "elif", "else", "endif", "for", "endfor"];
/// Filters whose results may be far larger than what they are given.
const LARGE: [&str; 9] =
    ["indent", "format", "batch", "slice", "groupby", "chain", "zip", "pprint", "urlencode"];

/// Takes out of the environment what does not belong to the subset.
pub(crate) fn restrict(env: &mut Environment<'static>) {
    env.set_recursion_limit(32);
    for filter in LARGE {
        env.remove_filter(filter);
    }
    for global in ["debug", "namespace", "dict"] {
        env.remove_global(global);
    }
    env.add_filter("replace", replace);
    env.add_filter("join", join);
}

fn too_long() -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("the result is longer than {MAX_TEXT} bytes"))
}

fn replace(text: &str, from: &str, to: &str) -> Result<String, Error> {
    let places = text.matches(from).count();
    if text.len().saturating_add(places.saturating_mul(to.len())) > MAX_TEXT {
        return Err(too_long());
    }
    Ok(text.replace(from, to))
}

fn join(items: &Value, separator: Option<&str>) -> Result<String, Error> {
    let mut joined = String::new();
    for (index, item) in items.try_iter()?.enumerate() {
        if item.is_undefined() {
            return Err(Error::from(ErrorKind::UndefinedError));
        }
        if index > 0 {
            joined.push_str(separator.unwrap_or_default());
        }
        match item.as_str() {
            Some(text) if joined.len() + text.len() > MAX_TEXT => return Err(too_long()),
            Some(text) => joined.push_str(text),
            None => joined.push_str(&item.to_string()),
        }
        if joined.len() > MAX_TEXT {
            return Err(too_long());
        }
    }
    Ok(joined)
}

/// Refuses a text that uses more than the subset, or what the environment does not have: MiniJinja would say that only
/// when it renders.
pub(crate) fn check(env: &Environment<'_>, text: &str) -> Result<(), TemplateError> {
    let mut at = 0;
    while let Some(open) = text.get(at..).and_then(|rest| rest.find('{')).map(|found| at + found) {
        at = match text.as_bytes().get(open + 1) {
            Some(b'#') => text[open..].find("#}").map_or(text.len(), |end| open + end + 2),
            Some(kind @ (b'{' | b'%')) => {
                let end = if *kind == b'{' { "}}" } else { "%}" };
                let (code, after) = tag(text, open + 2, end);
                let allowed = tag_is_allowed(&code, *kind == b'%', after - open);
                allowed.and_then(|()| names_are_known(env, &code)).map_err(|message| {
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

/// The tag's code with its strings left out, and the index after its end.
fn tag(text: &str, start: usize, end: &str) -> (String, usize) {
    let (mut code, mut quote, mut escaped) = (String::new(), None, false);
    for (index, char) in text[start..].char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if char == '\\' => escaped = true,
            Some(open) if char == open => quote = None,
            Some(_) => {}
            None if text[start + index..].starts_with(end) => return (code, start + index + end.len()),
            None if matches!(char, '"' | '\'') => quote = Some(char),
            None => code.push(char),
        }
    }
    (code, text.len())
}

/// Each filter, test and function that the tag names is there.
fn names_are_known(env: &Environment<'_>, code: &str) -> Result<(), String> {
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
        let (kind, try_out) = if before.ends_with('|') {
            ("filter", format!("none|{word}"))
        } else if is_test {
            ("test", format!("none is {word}"))
        } else if *called && !before.ends_with('.') && !OPERATORS.contains(word) {
            ("function", format!("{word}()"))
        } else {
            continue;
        };
        let error = env.compile_expression(&try_out).and_then(|it| it.eval(())).err();
        let unknown = [ErrorKind::UnknownFilter, ErrorKind::UnknownTest, ErrorKind::UnknownFunction];
        if error.is_some_and(|error| unknown.contains(&error.kind())) {
            return Err(format!("there is no {kind} `{word}`"));
        }
    }
    Ok(())
}

fn tag_is_allowed(code: &str, statement: bool, length: usize) -> Result<(), String> {
    if length > MAX_TAG {
        return Err(format!("{length} bytes between the braces; not more than {MAX_TAG}"));
    }
    if code.contains(['{', '}']) {
        return Err("braces inside of a tag are not allowed".to_owned());
    }
    if code.contains('*') {
        return Err("`*` is not allowed".to_owned());
    }
    if !statement {
        return Ok(());
    }
    let code = code.trim_start_matches(['-', '+']).trim_start();
    let end = code.find(|it: char| !it.is_ascii_alphabetic()).unwrap_or(code.len());
    let (word, rest) = code.split_at(end);
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

//! Rewrites the parser's errors for people who write texts: what stands there, and what to write instead.
//!
//! MiniJinja's names for the parts of a tag do not appear, nor the place, which the caller knows.

use minijinja::{Error, ErrorKind};

/// The parser's error for this source, in words.
pub(crate) fn in_words(error: &Error, source: &str) -> String {
    let range = error.range();
    let said = range.clone().and_then(|range| source.get(range));
    let said = said.map(|it| it.trim().chars().take(80).collect()).filter(|it: &String| !it.is_empty());
    match (error.kind(), error.detail(), said) {
        (ErrorKind::SyntaxError, Some(detail), said) => {
            let rest = range.and_then(|range| source.get(range.start..)).unwrap_or_default();
            syntax(detail, said.as_deref(), rest)
        }
        (kind, Some(detail), _) => format!("{kind}: {detail}"),
        (kind, None, Some(said)) => format!("{kind} {said:?}"),
        (kind, None, None) => kind.to_string(),
    }
}

/// A syntax error in words; `rest` is the source from the error's place on.
fn syntax(detail: &str, said: Option<&str>, rest: &str) -> String {
    let (unexpected, expected) = detail.split_once(", expected ").unwrap_or((detail, ""));
    match unexpected {
        "unexpected end of input" => {
            "an `if` or `for` isn't closed: `{% endif %}` or `{% endfor %}` is missing".to_owned()
        }
        "unexpected end of block" | "unexpected end of variable block" => match expected {
            "in" => "`for` needs what it goes through: `{% for x in xs %}`".to_owned(),
            "" => "something is missing before the end of the tag: a name or a value".to_owned(),
            expected => format!("something is missing before the end of the tag: {}", named(expected)),
        },
        "unexpected `}`" if expected == "`)`" => "a bracket isn't closed: `)` is missing".to_owned(),
        "unexpected `}`" => "a bracket isn't closed: `]` is missing".to_owned(),
        "unknown statement else" | "unknown statement elif" | "unknown statement endif" => {
            let word = unexpected.rsplit(' ').next().unwrap_or_default();
            format!("`{word}` has no `if` that is open here")
        }
        "unknown statement endfor" => "`endfor` has no `for` that is open here".to_owned(),
        _ if unexpected.starts_with("unexpected ") => {
            let sign = rest.chars().next().map(String::from).unwrap_or_default();
            let said = said.filter(|_| unexpected != "unexpected character").unwrap_or(&sign);
            let hint = match (said, expected) {
                ("=", _) => "; equality is `==`".to_owned(),
                ("&", _) => "; write `and`".to_owned(),
                ("!", _) => "; write `not`".to_owned(),
                ("?", _) => "; write `x if condition else y`".to_owned(),
                (_, "" | "end of block" | "end of variable block") => String::new(),
                (_, expected) => format!("; expected is {}", named(expected)),
            };
            format!("`{said}` is not expected here{hint}")
        }
        _ => format!("syntax error: {detail}"),
    }
}

fn named(expected: &str) -> &str {
    match expected {
        "identifier" => "a name",
        "identifier or integer" => "a name or a number",
        "in" => "`in`",
        expected => expected,
    }
}

//! Finds words and signs of other languages that CEL writes differently: common mistakes in a first rule.
//!
//! They are looked for only in an expression that the parser refuses, so a field may have any name.

use super::CompileError;

/// The most that are reported.
const MOST: usize = 10;

/// What other languages write, and what CEL has instead.
const SIGNS: [(&str, &str); 4] =
    [("=", "equality is `==`"), ("&", "and is `&&`"), ("|", "or is `||`"), ("<>", "unequal is `!=`")];
const WORDS: [(&str, &str); 7] = [
    ("and", "and is `&&`"),
    ("or", "or is `||`"),
    ("not", "not is `!`"),
    ("is", "equality is `==`"),
    ("like", "a part of a text is found by `x.contains(\"part\")`"),
    ("contains", "a part of a text is found by `x.contains(\"part\")`"),
    ("matches", "a pattern is found by `x.matches(\"pattern\")`"),
];

/// Finds all of them, outside of strings and comments.
pub(super) fn find_all(expression: &str) -> Vec<CompileError> {
    let text: Vec<char> = expression.chars().collect();
    let (mut found, mut at) = (Vec::new(), 0);
    while at < text.len() && found.len() < MOST {
        let from = at;
        at = match text[at] {
            '/' if text.get(at + 1) == Some(&'/') => {
                at + text[at..].iter().take_while(|it| **it != '\n').count()
            }
            '`' => end(&text, at + 1, &['`'], true),
            quote @ ('"' | '\'') => {
                let raw = at > 0 && matches!(text[at - 1], 'r' | 'R');
                let marks = if text[at..].starts_with(&[quote; 3]) { 3 } else { 1 };
                end(&text, at + marks, &[quote; 3][..marks], raw)
            }
            first if is_of_word(first) => at + text[at..].iter().take_while(|it| is_of_word(**it)).count(),
            first if "=&|<>!".contains(first) => {
                at + text[at..].iter().take_while(|it| "=&|<>!".contains(**it)).count()
            }
            _ => at + 1,
        };
        let token: String = text[from..at.min(text.len())].iter().collect();
        let before = text[..from].iter().rev().find(|it| !it.is_whitespace());
        let after = text[at.min(text.len())..].iter().find(|it| !it.is_whitespace());
        // A field's or a function's name is no mistake.
        let is_name = before == Some(&'.')
            || matches!(after, Some('.' | '(')) && !matches!(&*token, "and" | "or" | "not");
        let known = SIGNS.iter().chain(WORDS.iter().filter(|_| !is_name)).find(|(it, _)| *it == token);
        if let Some((token, hint)) = known {
            let line = 1 + text[..from].iter().filter(|it| **it == '\n').count();
            let column = 1 + text[..from].iter().rev().take_while(|it| **it != '\n').count();
            let message = format!("`{token}` is not expected here; {hint}");
            found.push(CompileError { line, column, message });
        }
    }
    found
}

fn is_of_word(it: char) -> bool {
    it.is_alphanumeric() || it == '_'
}

/// The index after the end of a string.
fn end(text: &[char], from: usize, mark: &[char], raw: bool) -> usize {
    let mut at = from;
    while at < text.len() && !text[at..].starts_with(mark) {
        at += if text[at] == '\\' && !raw { 2 } else { 1 };
    }
    (at + mark.len()).min(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_slip_is_told_with_its_place_and_what_to_write() {
        for (text, told) in [
            ("record.a = 1 and record.b <> 2", &["1, 10: =", "1, 14: and", "1, 27: <>"][..]),
            ("not record.a\n or record.b like 'x and y'", &["1, 1: not", "2, 2: or", "2, 14: like"]),
            ("record.and == 'a = b' // a = b\n & x", &["2, 2: &"]),
            ("record.a.contains('x') && a <= b != c", &[]),
            ("r'\\' = `a = b`", &["1, 6: ="]),
        ] {
            let all: Vec<String> = find_all(text)
                .iter()
                .map(|it| format!("{}, {}: {}", it.line, it.column, it.message.split('`').nth(1).unwrap()))
                .collect();
            assert_eq!(all, told, "{text}");
        }
        assert!(find_all("a and b")[0].message.contains("and is `&&`"));
    }
}

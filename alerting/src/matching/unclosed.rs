//! Finds a string that is not closed; the parser's own error names what follows it.

/// Line and column (from 1) and the quotation mark of the first string that is not closed.
pub(super) fn string(expression: &str) -> Option<(usize, usize, char)> {
    let text: Vec<char> = expression.chars().collect();
    let mut at = 0;
    while at < text.len() {
        let quote = text[at];
        if text[at..].starts_with(&['/', '/']) {
            at += text[at..].iter().take_while(|it| **it != '\n').count();
        } else if quote == '"' || quote == '\'' {
            let begun = at;
            let raw = begun > 0 && matches!(text[begun - 1], 'r' | 'R');
            let marks = if text[at..].starts_with(&[quote; 3]) { 3 } else { 1 };
            at += marks;
            loop {
                match text.get(at) {
                    None => return Some(line_and_column(&text[..begun], quote)),
                    Some('\n') if marks == 1 => return Some(line_and_column(&text[..begun], quote)),
                    Some('\\') if !raw => at += 2,
                    Some(_) if text[at..].starts_with(&[quote; 3][..marks]) => break,
                    Some(_) => at += 1,
                }
            }
            at += marks;
        } else {
            at += 1;
        }
    }
    None
}

fn line_and_column(before: &[char], quote: char) -> (usize, usize, char) {
    let line = 1 + before.iter().filter(|it| **it == '\n').count();
    let column = 1 + before.iter().rev().take_while(|it| **it != '\n').count();
    (line, column, quote)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_string_that_is_not_closed_is_found() {
        for (text, place) in [
            ("record.path.startsWith(\"/api)", Some((1, 24, '"'))),
            ("record.path == '/api", Some((1, 16, '\''))),
            ("a == \"x\" &&\n b == 'y", Some((2, 7, '\''))),
            ("a == \"x\n\"", Some((1, 6, '"'))),
            ("a == '''x'", Some((1, 6, '\''))),
            ("a == \"x\\\"", Some((1, 6, '"'))),
            ("a == \"it's\" // don't", None),
            ("a == '''it's\n''' && b == r'\\'", None),
            ("a == \"\"", None),
            ("", None),
        ] {
            assert_eq!(string(text), place, "{text}");
        }
    }
}

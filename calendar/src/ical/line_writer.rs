//! Writes content lines (RFC 5545, section 3.1): they end with CRLF, and are folded at 75 octets between
//! characters.

/// Octets of a line without its end.
const WIDTH: usize = 75;

/// Collects content lines in a text.
#[derive(Debug, Default)]
pub(super) struct LineWriter {
    pub(super) text: String,
}

impl LineWriter {
    /// Writes a property whose value is not of type TEXT.
    pub(super) fn raw(&mut self, name: &str, value: &str) {
        let line = format!("{name}:{value}");
        let mut room = WIDTH;
        for character in line.chars() {
            if character.len_utf8() > room {
                self.text.push_str("\r\n ");
                room = WIDTH - 1;
            }
            room -= character.len_utf8();
            self.text.push(character);
        }
        self.text.push_str("\r\n");
    }

    /// Writes a property whose value is TEXT.
    pub(super) fn text(&mut self, name: &str, value: &str) {
        self.raw(name, &escaped(value));
    }
}

/// Escapes a TEXT.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' | ';' | ',' => out.extend(['\\', character]),
            '\n' => out.push_str("\\n"),
            // TEXT does not allow them, and no title needs them.
            control if control.is_control() && control != '\t' => {}
            _ => out.push(character),
        }
    }
    out
}

/// A quoted parameter value, with the carets of RFC 6868.
pub(super) fn quoted(text: &str) -> String {
    let carets = text.replace('^', "^^").replace('"', "^'").replace('\n', "^n");
    format!("\"{}\"", carets.chars().filter(|it| !it.is_control()).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_folded_at_75_octets_between_characters() {
        let mut lines = LineWriter::default();
        lines.text("SUMMARY", &"ä€".repeat(40));
        assert!(lines.text.split("\r\n").all(|line| line.len() <= WIDTH), "{}", lines.text);
        let unfolded = lines.text.replace("\r\n ", "");
        assert_eq!(unfolded, format!("SUMMARY:{}\r\n", "ä€".repeat(40)));
    }

    #[test]
    fn what_has_a_meaning_is_escaped() {
        assert_eq!(escaped("a,b;c\\d\ne\u{7}"), "a\\,b\\;c\\\\d\\ne");
        assert_eq!(quoted("a \"b\" ^: c"), "\"a ^'b^' ^^: c\"");
    }
}

//! Makes texts from other people safe to print on a terminal: characters that a terminal acts on or hides become visible.
//!
//! A title, a group's value or a server's refusal may contain escape sequences that move the cursor, set the window's title or
//! send input, overrides that reorder letters (<https://trojansource.codes>), and line ends that forge a line. C0 characters
//! become their pictures (`␛`, `␊`), the others become `\u{202e}`. JSON and YAML get escapes that their parsers undo.
//!
//! Only what is printed changes, not what is stored or sent.

use std::borrow::Cow;
use std::fmt::{self, Display, Write as _};
use std::io;

/// Whether terminals act on the character or hide it: C0, DEL and C1; marks, overrides and isolates of the text direction; line
/// separators; and characters without width that no word needs. U+200C and U+200D are not among them: Persian and emoji use them.
pub fn hides(char: char) -> bool {
    matches!(char,
        '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{ad}' | '\u{61c}' | '\u{180e}'
        | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Makes `text` one line with nothing hidden.
pub fn plain(text: &str) -> Cow<'_, str> {
    changed(text, hides, shown)
}

/// Escapes hidden characters in JSON; it parses to the same value. Line ends and tabs stay, since in JSON they can only stand
/// between values.
pub fn plain_json(json: &str) -> Cow<'_, str> {
    changed(json, hides_in_document, |char, out| {
        for unit in char.encode_utf16(&mut [0; 2]) {
            let _ = write!(out, "\\u{unit:04x}");
        }
    })
}

/// Like [`plain_json`], for JSON that is read as YAML, which has no surrogates.
pub fn plain_yaml(json: &str) -> Cow<'_, str> {
    changed(json, hides_in_document, |char, out| {
        let _ = match u32::from(char) {
            code @ 0x1_0000.. => write!(out, "\\U{code:08x}"),
            code => write!(out, "\\u{code:04x}"),
        };
    })
}

/// Makes hidden characters of a document of several lines visible.
pub fn plain_document(text: &str) -> Cow<'_, str> {
    changed(text, hides_in_document, shown)
}

/// Like [`hides`], for documents of several lines, in which line ends and tabs are allowed.
pub fn hides_in_document(char: char) -> bool {
    hides(char) && char != '\n' && char != '\t'
}

// Writing to a String cannot fail, here and above.
fn shown(char: char, out: &mut String) {
    match char {
        '\u{0}'..='\u{1f}' => out.extend(char::from_u32(0x2400 + u32::from(char))),
        '\u{7f}' => out.push('␡'),
        _ => {
            let _ = write!(out, "\\u{{{:x}}}", u32::from(char));
        }
    }
}

fn changed(text: &str, which: fn(char) -> bool, how: impl Fn(char, &mut String)) -> Cow<'_, str> {
    let Some(first) = text.find(which) else { return Cow::Borrowed(text) };
    let mut out = String::with_capacity(text.len() + 16);
    out.push_str(&text[..first]);
    for char in text[first..].chars() {
        if which(char) { how(char, &mut out) } else { out.push(char) }
    }
    Cow::Owned(out)
}

/// Displays a value in one line, with nothing hidden.
pub struct Plain<T>(pub T);

impl<T: Display> Display for Plain<T> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(&plain(&self.0.to_string()))
    }
}

/// A log whose lines hide nothing. Each write must consist of whole lines, as a `tracing` subscriber writes them.
pub struct PlainLog<W> {
    /// Where the lines go.
    pub to: W,
    /// Whether each line is a JSON object.
    pub json: bool,
}

impl<W: io::Write> io::Write for PlainLog<W> {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(lines);
        if self.json {
            self.to.write_all(plain_json(&text).as_bytes())?;
        } else {
            let (line, end) = text.strip_suffix('\n').map_or((&*text, ""), |line| (line, "\n"));
            self.to.write_all(plain(line).as_bytes())?;
            self.to.write_all(end.as_bytes())?;
        }
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn what_a_terminal_would_act_on_or_hide_is_shown() {
        for (text, expected) in [
            ("pay-api: 20 errors", "pay-api: 20 errors"),
            ("결제 오류 — שלום 👩‍👧 می‌خواهم", "결제 오류 — שלום 👩‍👧 می‌خواهم"),
            ("\u{1b}[2J\u{7}\r\n\t", "␛[2J␇␍␊␉"),
            ("a\u{7f}b\u{9b}31m", "a␡b\\u{9b}31m"),
            ("\u{202e}gpj.exe\u{2066}\u{61c}\u{200f}", "\\u{202e}gpj.exe\\u{2066}\\u{61c}\\u{200f}"),
            (
                "a\u{2028}b\u{200b}c\u{feff}d\u{ad}e\u{e0041}",
                "a\\u{2028}b\\u{200b}c\\u{feff}d\\u{ad}e\\u{e0041}",
            ),
        ] {
            assert_eq!(plain(text), expected);
            assert_eq!(Plain(text).to_string(), expected);
        }
    }

    #[test]
    fn json_and_yaml_hide_nothing_and_say_the_same() {
        let all: String = (0..=0x10_ffff).filter_map(char::from_u32).filter(|char| hides(*char)).collect();
        let json = serde_json::json!({ "title": all });
        let pretty = serde_json::to_string_pretty(&json).unwrap();
        let text = plain_json(&pretty);
        assert!(!text.contains(hides_in_document) && text.contains('\n'));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), json);
        assert_eq!(plain_yaml("\"\u{202e}\u{e0041}\""), "\"\\u202e\\U000e0041\"");
    }

    #[test]
    fn a_log_is_one_line_for_each_event() {
        let logged = |json: bool, line: &str| {
            let mut log = PlainLog { to: Vec::new(), json };
            log.write_all(line.as_bytes()).unwrap();
            String::from_utf8(log.to).unwrap()
        };
        assert_eq!(logged(false, "WARN a\nERROR \u{1b}[0m\n"), "WARN a␊ERROR ␛[0m\n");
        assert_eq!(logged(true, "{\"a\":\"\u{9b}\u{202e}\"}\n"), "{\"a\":\"\\u009b\\u202e\"}\n");
    }
}

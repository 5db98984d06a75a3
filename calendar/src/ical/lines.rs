//! Parses bytes into content lines (RFC 5545, section 3.1): unfolds and decodes them, and splits them into name,
//! parameters and value. Each keeps its line number.
//!
//! Lines are unfolded before they are decoded, since a fold may split a character. A line that is not UTF-8 is read
//! as Windows-1252, and marked. No line prevents the lines after it from being read.

/// Bytes of a line that are kept. Longer lines, such as attachments, are cut and marked.
pub(super) const MAX_LINE: usize = 64 * 1024;

/// One property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ContentLine {
    /// The line number of its beginning, from 1.
    pub(super) number: u32,
    /// In upper case.
    pub(super) name: String,
    /// Names in upper case; values without quotes, and with the carets of RFC 6868 undone.
    pub(super) parameters: Vec<(String, Vec<String>)>,
    /// As written. Its escapes are undone where its type is known.
    pub(super) value: String,
    /// Whether it was longer than [`MAX_LINE`].
    pub(super) cut: bool,
    /// Whether it was not UTF-8.
    pub(super) not_utf8: bool,
}

impl ContentLine {
    /// The first value of a parameter.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().find(|(known, _)| known == name);
        found.and_then(|(_, values)| values.first()).map(String::as_str)
    }

    /// The value as TEXT (3.3.11).
    pub(super) fn text(&self) -> String {
        unescape(&self.value)
    }
}

/// A line that is not a property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BadLine {
    pub(super) number: u32,
    /// Its first 40 characters.
    pub(super) text: String,
}

/// Reads all lines of a file, in order.
pub(super) fn read_lines(bytes: &[u8]) -> impl Iterator<Item = Result<ContentLine, BadLine>> + '_ {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    unfold(bytes).map(|(number, raw)| {
        let cut = raw.len() > MAX_LINE;
        let (text, not_utf8) = decode(&raw[..raw.len().min(MAX_LINE)], cut);
        let bad = || BadLine { number, text: text.chars().take(40).collect() };
        let (name, parameters, value) = split_line(&text).ok_or_else(bad)?;
        Ok(ContentLine { number, name, parameters, value: value.to_owned(), cut, not_utf8 })
    })
}

/// The unfolded lines, each with the number of its first physical line. Skips blank lines.
fn unfold(bytes: &[u8]) -> impl Iterator<Item = (u32, Vec<u8>)> + '_ {
    let mut rest = bytes;
    let mut number = 0u32;
    std::iter::from_fn(move || {
        loop {
            if rest.is_empty() {
                return None;
            }
            number += 1;
            let first = number;
            let mut line = take_physical_line(&mut rest).to_vec();
            while let [b' ' | b'\t', behind @ ..] = rest {
                rest = behind;
                number += 1;
                let more = take_physical_line(&mut rest);
                // One byte more than the maximum shows that the line was cut.
                let room = (MAX_LINE + 1).saturating_sub(line.len());
                line.extend_from_slice(&more[..more.len().min(room)]);
            }
            line.truncate(MAX_LINE + 1);
            if !line.trim_ascii().is_empty() {
                return Some((first, line));
            }
        }
    })
}

/// Takes a line off the front, without its end: CRLF, LF or CR.
fn take_physical_line<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let end = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')).unwrap_or(rest.len());
    let (line, behind) = rest.split_at(end);
    *rest = match behind {
        [b'\r', b'\n', behind @ ..] | [b'\r' | b'\n', behind @ ..] => behind,
        _ => behind,
    };
    line
}

/// The text, and whether it had to be read as Windows-1252.
fn decode(raw: &[u8], cut: bool) -> (String, bool) {
    match std::str::from_utf8(raw) {
        Ok(text) => (text.to_owned(), false),
        // The cut may have split a character.
        Err(error) if cut && error.valid_up_to() + 4 > raw.len() => {
            (String::from_utf8_lossy(&raw[..error.valid_up_to()]).into_owned(), false)
        }
        Err(_) => (raw.iter().map(|byte| windows_1252(*byte)).collect(), true),
    }
}

/// The character of a byte. Bytes that the code page does not define are read as ISO 8859-1.
fn windows_1252(byte: u8) -> char {
    const HIGH: [char; 32] = [
        '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}',
        '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
    ];
    match byte {
        0x80..=0x9f => HIGH[usize::from(byte - 0x80)],
        _ => char::from(byte),
    }
}

type LineParts<'a> = (String, Vec<(String, Vec<String>)>, &'a str);

/// Splits `NAME;PARAMETER=value,"quoted: value":value`.
fn split_line(text: &str) -> Option<LineParts<'_>> {
    let end = text.find([';', ':'])?;
    let name = text[..end].trim();
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    // Groups such as `item1.SUMMARY` belong to vCard, but some programs write them here.
    let name = name.rsplit('.').next().filter(|name| is_name(name))?.to_ascii_uppercase();
    let mut rest = &text[end..];
    let mut parameters: Vec<(String, Vec<String>)> = Vec::new();
    while let Some(behind) = rest.strip_prefix(';') {
        let equals = behind.find(['=', ';', ':'])?;
        let key = behind[..equals].trim().to_ascii_uppercase();
        rest = &behind[equals..];
        let mut values = Vec::new();
        while let Some(behind) = rest.strip_prefix(['=', ',']) {
            let (value, behind) = parameter_value(behind)?;
            values.push(value);
            rest = behind;
        }
        parameters.push((key, values));
    }
    Some((name, parameters, rest.strip_prefix(':')?))
}

/// Takes a parameter's value off the front.
fn parameter_value(text: &str) -> Option<(String, &str)> {
    if let Some(quoted) = text.strip_prefix('"') {
        let end = quoted.find('"')?;
        return Some((without_carets(&quoted[..end]), &quoted[end + 1..]));
    }
    let end = text.find([',', ';', ':'])?;
    Some((without_carets(&text[..end]), &text[end..]))
}

/// Undoes the carets of RFC 6868: `^n`, `^'` and `^^`.
fn without_carets(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let undone = match (character, characters.peek()) {
            ('^', Some('n')) => '\n',
            ('^', Some('\'')) => '"',
            ('^', Some('^')) => '^',
            _ => {
                out.push(character);
                continue;
            }
        };
        characters.next();
        out.push(undone);
    }
    out
}

/// Undoes the escapes of TEXT. After any other backslash, the character stands for itself.
pub(super) fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some('n' | 'N') => out.push('\n'),
                Some(other) => out.push(other),
                None => out.push('\\'),
            },
            _ => out.push(character),
        }
    }
    out
}

/// The values of a list of TEXT. It is split at commas without a backslash before them.
pub(super) fn texts(value: &str) -> Vec<String> {
    let mut list = vec![String::new()];
    let mut escaped = false;
    for character in value.chars() {
        if character == ',' && !escaped {
            list.push(String::new());
            continue;
        }
        escaped = character == '\\' && !escaped;
        if let Some(last) = list.last_mut() {
            last.push(character);
        }
    }
    list.iter().map(|text| unescape(text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8]) -> Vec<Result<ContentLine, BadLine>> {
        read_lines(bytes).collect()
    }

    fn one(text: &str) -> ContentLine {
        all(text.as_bytes()).remove(0).unwrap()
    }

    #[test]
    fn a_line_is_parted_and_quotes_may_hold_what_parts_it() {
        let line = one("attendee;CN=\"Kim: Minji; \\\";ROLE=A,b:mailto:m@example.com");
        assert_eq!((line.name.as_str(), line.value.as_str()), ("ATTENDEE", "mailto:m@example.com"));
        assert_eq!(
            line.parameter("CN"),
            Some("Kim: Minji; \\"),
            "a backslash escapes nothing in a parameter"
        );
    }

    #[test]
    fn folds_are_undone_before_characters_are_read_and_lines_keep_their_number() {
        let text = "SUMMARY:na\u{ef}ve".as_bytes();
        let (head, tail) = text.split_at(text.len() - 3);
        let mut bytes = b"\xef\xbb\xbfA:1\r\n\r\n".to_vec();
        bytes.extend_from_slice(head);
        bytes.extend_from_slice(b"\r\n ");
        bytes.extend_from_slice(tail);
        bytes.extend_from_slice(b"\nB:2\rC:3");
        let lines: Vec<(u32, String)> =
            all(&bytes).into_iter().flatten().map(|it| (it.number, it.value)).collect();
        let expected =
            [(1, "1"), (3, "na\u{ef}ve"), (5, "2"), (6, "3")].map(|(at, text)| (at, text.to_owned()));
        assert_eq!(lines, expected);
    }

    #[test]
    fn what_is_not_utf_8_is_read_as_windows_1252_and_says_so() {
        let line = all(b"SUMMARY:caf\xe9 \x80 5").remove(0).unwrap();
        assert_eq!((line.value.as_str(), line.not_utf8), ("café € 5", true));
    }

    #[test]
    fn what_is_no_property_is_told_with_its_place_and_stops_nothing() {
        let found = all(b"A:1\n<html>\nB;X=\"open:2\nC:3\n");
        assert_eq!(found[1], Err(BadLine { number: 2, text: "<html>".to_owned() }));
        assert!(found[2].is_err());
        assert_eq!(found[3].as_ref().unwrap().number, 4);
    }

    #[test]
    fn a_long_line_is_cut_and_marked() {
        let line = one(&format!("ATTACH:{}", "é".repeat(MAX_LINE)));
        assert!(line.cut && !line.not_utf8 && line.value.len() <= MAX_LINE);
    }

    #[test]
    fn escapes_and_carets_are_undone() {
        assert_eq!(unescape("a\\, b\\nc\\;\\\\d\\"), "a, b\nc;\\d\\");
        assert_eq!(texts("Beamer\\, 4K,Flip chart"), ["Beamer, 4K", "Flip chart"]);
        assert_eq!(one("A;CN=x^^^'y^'^n^z:1").parameter("CN"), Some("x^\"y\"\n^z"));
    }
}

//! Cuts texts to bounds, and keeps secrets out of reasons.

mod mask;

pub use mask::Mask;

/// Cuts `text` so that its characters weigh at most `limit`, by `weight`. A text that was cut ends in a visible mark, which
/// names `place` and how long the text was.
pub(crate) fn cut(text: &str, limit: usize, place: &str, weight: impl Fn(char) -> usize) -> String {
    let total: usize = text.chars().map(&weight).sum();
    if total <= limit {
        return text.to_owned();
    }
    let mark = format!("… [cut: {total} of at most {limit} for {place}]");
    let room = limit.saturating_sub(mark.chars().map(&weight).sum());
    let mut used = 0;
    let mut kept: String = text
        .chars()
        .take_while(|c| {
            used += weight(*c);
            used <= room
        })
        .collect();
    kept.push_str(&mark);
    kept
}

/// The same, with `limit` in bytes of UTF-8.
pub(crate) fn cut_bytes(text: &str, limit: usize, place: &str) -> String {
    cut(text, limit, place, char::len_utf8)
}

/// The text as one line without control characters; runs of white space become one space.
pub(crate) fn one_line(text: &str) -> String {
    let spaced: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    spaced.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A receiver's words for a reason: one line of at most 200 characters, without what `mask` hides.
pub(crate) fn quote_for_reason(text: &str, mask: &Mask) -> String {
    one_line(&mask.apply(text)).chars().take(200).collect()
}

/// A library's error in words for people. Some errors end in a value as Rust writes it, such as
/// `Other(OtherError(CaUsedAsEndEntity))` or `Context { .. }`: of that only the innermost name is kept.
pub(crate) fn error_in_words(error: &dyn std::error::Error) -> String {
    let text = error.to_string();
    // rustls says this if the other side does not speak TLS, such as an HTTP server.
    if text.contains("corrupt message of type InvalidContentType") {
        return NO_TLS.to_owned();
    }
    let (place, mut last) = text.rsplit_once(": ").unwrap_or(("", text.as_str()));
    let named = |name: &str| {
        name.starts_with(|it: char| it.is_ascii_uppercase())
            && name.bytes().all(|it| it.is_ascii_alphanumeric())
    };
    while let Some((name, inner)) = last.strip_suffix(')').and_then(|it| it.split_once('(')) {
        if !named(name) {
            break;
        }
        last = if inner.is_empty() { name } else { inner.trim_matches('"') };
    }
    // The fields of a struct contain `: ` themselves, so only the text before its brace counts.
    if let Some((before, _)) = text.split_once(" { ") {
        let name = before.rsplit([' ', '(']).next().unwrap_or_default();
        if named(name) {
            let place = before.strip_suffix(name).unwrap_or_default();
            let place = place.rsplit_once(": ").map_or("", |(place, _)| place);
            return if place.is_empty() { name.to_owned() } else { format!("{place}: {name}") };
        }
    }
    if place.is_empty() { last.to_owned() } else { format!("{place}: {last}") }
}

/// The text if the other side does not speak TLS.
const NO_TLS: &str =
    "no TLS is spoken there: is http:// meant (with an email tls: StartTls or None), or another port?";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_without_rusts_debug_values() {
        for (text, told) in [
            ("invalid peer certificate: UnknownIssuer", "invalid peer certificate: UnknownIssuer"),
            ("received corrupt message of type InvalidContentType", NO_TLS),
            (
                "invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))",
                "invalid peer certificate: CaUsedAsEndEntity",
            ),
            ("a: Context { id: [1], more: Some(2) }", "a: Context"),
            ("Context { id: [1] }", "Context"),
            ("Some(\"x\")", "x"),
            ("Connection refused (os error 111)", "Connection refused (os error 111)"),
            ("tcp: error (os error 1)", "tcp: error (os error 1)"),
        ] {
            assert_eq!(error_in_words(&std::io::Error::other(text)), told);
        }
    }

    #[test]
    fn a_text_within_its_bound_is_untouched_and_a_longer_one_ends_in_a_mark() {
        assert_eq!(cut("short", 5, "Slack", |_| 1), "short");
        let long = "x".repeat(200);
        let cut = cut(&long, 100, "a Slack block", |_| 1);
        assert_eq!(cut.chars().count(), 100);
        assert!(cut.ends_with("… [cut: 200 of at most 100 for a Slack block]"), "{cut}");
    }

    #[test]
    fn a_cut_by_bytes_never_splits_a_character() {
        let cut = cut_bytes(&"é".repeat(100), 101, "x");
        assert!(cut.len() <= 101);
        assert!(cut.starts_with("éé"));
    }

    #[test]
    fn what_a_receiver_said_is_one_line_without_secrets() {
        let mut mask = Mask::default();
        for secret in ["/hook/canary", "/"] {
            mask.hide(secret);
        }
        assert_eq!(quote_for_reason("no\r\n such\tpath /hook/canary\u{0}", &mask), "no such path ***");
    }
}

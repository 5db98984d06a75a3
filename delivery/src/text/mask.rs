//! Masks secrets in texts, in whatever form a receiver repeats them.
//!
//! The mask searches the text as it is, and again with the escapes of URLs, JSON and HTML resolved, one layer after the other.
//! It resolves the secrets in the same way, and searches for their base64 too. Case and the amount of white space don't
//! matter. Everything found in any layer is covered in the text in one pass, so that overlapping secrets are covered wholly.
//!
//! Of a secret of 8 bytes or more each run of 8 bytes is covered, so that a receiver that cuts it shows at most 7. A shorter
//! secret is covered only as a whole, and one of a single byte never.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use reqwest::Url;

/// Length of the runs of a secret that are covered, bytes.
const RUN: usize = 8;
/// How many layers of escapes are resolved: enough for a URL in JSON in HTML, and a secret that looks escaped itself.
const LAYERS: usize = 5;
/// The longest escape, bytes: a surrogate pair in JSON.
const LONGEST: usize = 12;
/// The shortest part of a secret URL that is covered by itself, bytes: shorter ones are words.
const MIN_PART: usize = 6;

/// The secrets of one attempt.
#[derive(Clone, Default)]
pub struct Mask {
    secrets: Vec<String>,
    /// Logins that hold a secret and are written in base64: only that form is covered.
    logins: Vec<String>,
    /// Texts that may hold secrets, covered only as a whole.
    whole: Vec<String>,
}

impl std::fmt::Debug for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl Mask {
    /// Hides a secret.
    pub fn hide(&mut self, secret: &str) {
        self.secrets.push(secret.to_owned());
    }

    /// Hides a user name and a password.
    pub(crate) fn hide_login(&mut self, username: &str, password: &str) {
        self.hide(username);
        self.hide_password(username, password);
    }

    /// Hides a password, and both together as HTTP and SMTP write them; the user name alone stays visible.
    pub(crate) fn hide_password(&mut self, username: &str, password: &str) {
        self.hide(password);
        self.logins.extend([format!("{username}:{password}"), format!("\0{username}\0{password}")]);
    }

    /// Hides a URL that is a secret, except its host: path and query, and their longer parts by themselves.
    pub(crate) fn hide_url(&mut self, url: &Url) {
        let parts = url.path_segments().into_iter().flatten().map(str::to_owned);
        let asked = url.query_pairs().map(|(_, value)| value.into_owned());
        self.secrets.extend(parts.chain(asked).filter(|part| part.len() >= MIN_PART));
        self.secrets.extend([url.path(), url.query().unwrap_or_default()].map(str::to_owned));
        self.hide_userinfo(url);
    }

    /// Hides path, query and userinfo of a public URL, since people put tokens there; path and query only as a whole.
    pub(crate) fn hide_rest(&mut self, url: &Url) {
        self.whole.extend([url.path(), url.query().unwrap_or_default()].map(str::to_owned));
        self.hide_userinfo(url);
    }

    fn hide_userinfo(&mut self, url: &Url) {
        if !url.username().is_empty() || url.password().is_some() {
            self.hide_login(url.username(), url.password().unwrap_or_default());
        }
    }

    /// The text with `***` for everything that it shows of the secrets.
    pub fn apply(&self, text: &str) -> String {
        if text.is_empty() || (self.secrets.is_empty() && self.whole.is_empty()) {
            return text.to_owned();
        }
        let mut hidden = vec![false; text.len()];
        let needles = self.needles();
        let mut layer = MappedBytes::new(text);
        for left in (0..=LAYERS).rev() {
            layer.folded().mark_found(&needles, &mut hidden);
            match layer.resolved() {
                Some(next) if left > 0 => layer = next,
                _ => break,
            }
        }
        let mut shown = String::with_capacity(text.len());
        let mut before = false;
        for (at, it) in text.char_indices() {
            let covered = hidden[at..at + it.len_utf8()].contains(&true);
            match (covered, before) {
                (true, false) => shown.push_str("***"),
                (true, true) => {}
                (false, _) => shown.push(it),
            }
            before = covered;
        }
        shown
    }

    fn needles(&self) -> Needles {
        let mut needles = Needles::default();
        for secret in &self.secrets {
            for form in layers(secret.trim()) {
                let place = if form.len() < RUN { &mut needles.whole } else { &mut needles.runs };
                place.insert(form);
            }
            for value in [secret.as_str(), secret.trim()] {
                in_base64(value, &mut needles);
            }
        }
        for login in &self.logins {
            in_base64(login, &mut needles);
        }
        for text in &self.whole {
            needles.whole.extend(layers(text));
        }
        needles.whole.retain(|it| it.len() > 1);
        needles
    }
}

/// What to search for, folded.
#[derive(Default)]
struct Needles {
    /// Texts of which each run of [`RUN`] bytes is searched for.
    runs: BTreeSet<Vec<u8>>,
    /// Texts that are searched for as a whole.
    whole: BTreeSet<Vec<u8>>,
}

/// The text as it is and with each further layer of escapes resolved, all folded.
fn layers(text: &str) -> Vec<Vec<u8>> {
    let mut layer = MappedBytes::new(text);
    let mut forms = vec![layer.folded().bytes];
    while let Some(next) = layer.resolved().filter(|_| forms.len() <= LAYERS) {
        layer = next;
        forms.push(layer.folded().bytes);
    }
    forms
}

/// Adds a value in base64: by itself, and as a part of something longer, where it may begin at any of three offsets.
fn in_base64(value: &str, needles: &mut Needles) {
    for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
        let alone = folded(&engine.encode(value));
        if alone.len() < RUN {
            needles.whole.insert(alone);
            continue;
        }
        needles.runs.insert(alone);
        for (shift, mixed) in [(0, 0), (1, 2), (2, 3)] {
            let bytes = [&b"\0\0"[..shift], value.as_bytes()].concat();
            let text = engine.encode(&bytes);
            // The last character also holds bits of what follows, unless the bytes end with it.
            let end = if bytes.len().is_multiple_of(3) { text.len() } else { text.len() - 1 };
            let inner = folded(&text[mixed..end]);
            if inner.len() >= RUN {
                needles.runs.insert(inner);
            }
        }
    }
}

fn folded(text: &str) -> Vec<u8> {
    MappedBytes::new(text).folded().bytes
}

/// A text's bytes, each with the span of the original text that it stands for.
struct MappedBytes {
    bytes: Vec<u8>,
    spans: Vec<(usize, usize)>,
}

impl MappedBytes {
    fn new(text: &str) -> Self {
        Self { bytes: text.as_bytes().to_vec(), spans: (0..text.len()).map(|at| (at, at + 1)).collect() }
    }

    /// In lower case; each run of white space, control characters and the `+` of forms becomes one space.
    fn folded(&self) -> Self {
        let mut folded = Self { bytes: Vec::with_capacity(self.bytes.len()), spans: Vec::new() };
        for (byte, span) in self.bytes.iter().zip(&self.spans) {
            let space = byte.is_ascii_whitespace() || byte.is_ascii_control() || *byte == b'+';
            match folded.spans.last_mut() {
                Some(last) if space && folded.bytes.last() == Some(&b' ') => last.1 = span.1,
                _ => {
                    folded.bytes.push(if space { b' ' } else { byte.to_ascii_lowercase() });
                    folded.spans.push(*span);
                }
            }
        }
        folded
    }

    /// With one layer of escapes resolved; `None` if there is none.
    fn resolved(&self) -> Option<Self> {
        let mut resolved = Self { bytes: Vec::with_capacity(self.bytes.len()), spans: Vec::new() };
        let mut at = 0;
        while at < self.bytes.len() {
            let (bytes, used) = escape(&self.bytes[at..]).unwrap_or((vec![self.bytes[at]], 1));
            let span = (self.spans[at].0, self.spans[at + used - 1].1);
            resolved.spans.extend(bytes.iter().map(|_| span));
            resolved.bytes.extend(bytes);
            at += used;
        }
        (resolved.bytes.len() < self.bytes.len()).then_some(resolved)
    }

    /// Marks in `hidden` the spans that stand for a needle.
    fn mark_found(&self, needles: &Needles, hidden: &mut [bool]) {
        let mut mark = |at: usize, len: usize| {
            for (start, end) in &self.spans[at..at + len] {
                hidden[*start..*end].fill(true);
            }
        };
        for needle in &needles.whole {
            for (at, there) in self.bytes.windows(needle.len()).enumerate() {
                if there == needle.as_slice() {
                    mark(at, needle.len());
                }
            }
        }
        // Searches among the text's runs, which are few however long a secret is; marks each once.
        let mut runs: Vec<(u64, usize)> = runs(&self.bytes).zip(0..).collect();
        runs.sort_unstable();
        let mut marked = BTreeSet::new();
        for run in needles.runs.iter().flat_map(|needle| self::runs(needle)) {
            let first = runs.partition_point(|(there, _)| *there < run);
            if runs.get(first).is_some_and(|(there, _)| *there == run) && marked.insert(run) {
                for (_, at) in runs[first..].iter().take_while(|(there, _)| *there == run) {
                    mark(*at, RUN);
                }
            }
        }
    }
}

/// Each run of [`RUN`] bytes, as a number.
fn runs(bytes: &[u8]) -> impl Iterator<Item = u64> {
    let number = |run: &[u8]| run.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    bytes.windows(RUN).map(number)
}

/// The bytes that an escape at the beginning stands for, and its length. Case does not matter, since a receiver may have
/// changed it.
fn escape(text: &[u8]) -> Option<(Vec<u8>, usize)> {
    if !matches!(text.first(), Some(b'%' | b'\\' | b'&')) {
        return None;
    }
    let text = text[..text.len().min(LONGEST)].to_ascii_lowercase();
    let hex = |digits: &[u8]| {
        let digits = std::str::from_utf8(digits).ok()?;
        let all = !digits.is_empty() && digits.bytes().all(|it| it.is_ascii_hexdigit());
        all.then(|| u32::from_str_radix(digits, 16).ok()).flatten()
    };
    let byte = |digits: &[u8]| hex(digits).and_then(|it| u8::try_from(it).ok()).map(|it| vec![it]);
    let encoded = |code: u32| char::from_u32(code).map(|it| it.to_string().into_bytes());
    match text.as_slice() {
        [b'%', high, low, ..] => Some((byte(&[*high, *low])?, 3)),
        [b'\\', b'x', high, low, ..] => Some((byte(&[*high, *low])?, 4)),
        [b'\\', b'u', rest @ ..] => {
            let first = hex(rest.get(..4)?)?;
            let second = match rest.get(4..10) {
                Some([b'\\', b'u', digits @ ..]) => hex(digits),
                _ => None,
            };
            match (first, second) {
                (0xd800..0xdc00, Some(second @ 0xdc00..0xe000)) => {
                    Some((encoded(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00))?, 12))
                }
                _ => Some((encoded(first)?, 6)),
            }
        }
        [b'\\', b'n' | b'r' | b't' | b'b' | b'f', ..] => Some((vec![b' '], 2)),
        [b'\\', it, ..] if it.is_ascii_punctuation() => Some((vec![*it], 2)),
        [b'&', rest @ ..] => {
            let end = rest.iter().position(|it| *it == b';')?;
            let bytes = match &rest[..end] {
                b"amp" => vec![b'&'],
                b"lt" => vec![b'<'],
                b"gt" => vec![b'>'],
                b"quot" => vec![b'"'],
                b"apos" => vec![b'\''],
                [b'#', b'x', digits @ ..] => encoded(hex(digits)?)?,
                [b'#', digits @ ..] => encoded(std::str::from_utf8(digits).ok()?.parse().ok()?)?,
                _ => return None,
            };
            Some((bytes, end + 2))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;

//! Names of the objects that an import makes: the same for the same event in every run, unique in a file, DNS-1123.
//!
//! The title makes a name readable, and ten digits of a hash of the UID make it the event's own. Never: a name that depends
//! on what else is in the file, unless two events would have the same.

use std::collections::HashMap;

use uuid::Uuid;

/// Characters of the title; with the hash a name has at most 51.
const READABLE: usize = 40;
/// The longest name that is taken as it is: what the operator makes of it has more characters.
const LONGEST: usize = 63;

/// Names that are taken already.
#[derive(Default)]
pub(crate) struct Names {
    /// With the number that the next of the same name gets.
    taken: HashMap<String, usize>,
}

impl Names {
    /// The name of an event; `own` is the one that it brings, if it does.
    pub(crate) fn name(&mut self, own: Option<&str>, title: &str, uid: &str) -> String {
        let own = own.filter(|name| is_name(name)).map(str::to_owned);
        let base = own.unwrap_or_else(|| made(title, uid));
        let mut name = base.clone();
        while self.taken.contains_key(&name) {
            let number = self.taken.entry(base.clone()).or_insert(2);
            name = format!("{base}-{number}");
            *number += 1;
        }
        self.taken.insert(name.clone(), 2);
        name
    }
}

fn made(title: &str, uid: &str) -> String {
    let hash = Uuid::new_v5(&Uuid::NAMESPACE_URL, uid.as_bytes()).simple().to_string();
    let mut readable = String::new();
    for character in title.to_lowercase().chars() {
        match character {
            'a'..='z' | '0'..='9' => readable.push(character),
            // What has a customary form in ASCII keeps it.
            'ä' | 'à' | 'á' | 'â' | 'å' | 'ã' => readable.push('a'),
            'è' | 'é' | 'ê' | 'ë' => readable.push('e'),
            'ì' | 'í' | 'î' | 'ï' => readable.push('i'),
            'ö' | 'ò' | 'ó' | 'ô' | 'ø' | 'õ' => readable.push('o'),
            'ü' | 'ù' | 'ú' | 'û' => readable.push('u'),
            'ß' => readable.push_str("ss"),
            'ç' => readable.push('c'),
            'ñ' => readable.push('n'),
            _ if !readable.is_empty() && !readable.ends_with('-') => readable.push('-'),
            _ => {}
        }
    }
    readable.truncate(READABLE);
    let readable = readable.trim_matches('-');
    let readable = if readable.is_empty() { "event" } else { readable };
    format!("{readable}-{}", &hash[..10])
}

/// DNS-1123.
fn is_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !name.is_empty()
        && name.len() <= LONGEST
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_name_is_readable_the_same_in_every_run_and_a_name_of_kubernetes() {
        let name = |title: &str| Names::default().name(None, title, "1@example.com");
        assert_eq!(name("Größe & Maß: Überblick!"), name("Größe & Maß: Überblick!"));
        assert!(
            name("Größe & Maß: Überblick!").starts_with("grosse-mass-uberblick-"),
            "{}",
            name("Größe & Maß: Überblick!")
        );
        assert!(name("회의").starts_with("event-"));
        for title in ["", "---", &"long ".repeat(50), "a"] {
            assert!(is_name(&name(title)) && name(title).len() <= 51, "{}", name(title));
        }
    }

    #[test]
    fn two_events_never_have_one_name() {
        let mut names = Names::default();
        let all: HashSet<String> = (0..100).map(|_| names.name(Some("standup"), "t", "u")).collect();
        assert_eq!(all.len(), 100);
        assert!(all.contains("standup") && all.contains("standup-2"));
        assert!(names.name(Some("Not A Name"), "t", "u").starts_with("t-"));
    }
}

//! Makes the names of imported Schedules (DNS-1123): unique in a file, and the same for the same event in every run.
//!
//! The title makes a name readable, and ten digits of a hash of the UID make it unique. A name depends on the other events of the file
//! only if two events would get the same name.

use std::collections::HashMap;

use uuid::Uuid;

/// How many characters of the title a name has; with the hash it has at most 51.
const MAX_READABLE: usize = 40;
/// The longest name that an event may bring. Names of child objects are longer.
const MAX_NAME: usize = 63;

/// The names that are in use already.
#[derive(Default)]
pub(crate) struct ObjectNames {
    /// Each name in use, with the number that the next event of this name gets.
    taken: HashMap<String, usize>,
}

impl ObjectNames {
    /// Makes the name of an event. `own` is the name that the event brings, if any.
    pub(crate) fn name(&mut self, own: Option<&str>, title: &str, uid: &str) -> String {
        let own = own.filter(|name| is_name(name)).map(str::to_owned);
        let base = own.unwrap_or_else(|| name_from_title(title, uid));
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

fn name_from_title(title: &str, uid: &str) -> String {
    let hash = Uuid::new_v5(&Uuid::NAMESPACE_URL, uid.as_bytes()).simple().to_string();
    let mut readable = String::new();
    for character in title.to_lowercase().chars() {
        match character {
            'a'..='z' | '0'..='9' => readable.push(character),
            // Letters with a customary form in ASCII.
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
    readable.truncate(MAX_READABLE);
    let readable = readable.trim_matches('-');
    let readable = if readable.is_empty() { "event" } else { readable };
    format!("{readable}-{}", &hash[..10])
}

/// Whether `name` is a DNS-1123 label.
fn is_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !name.is_empty()
        && name.len() <= MAX_NAME
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
        let name = |title: &str| ObjectNames::default().name(None, title, "1@example.com");
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
        let mut names = ObjectNames::default();
        let all: HashSet<String> = (0..100).map(|_| names.name(Some("standup"), "t", "u")).collect();
        assert_eq!(all.len(), 100);
        assert!(all.contains("standup") && all.contains("standup-2"));
        assert!(names.name(Some("Not A Name"), "t", "u").starts_with("t-"));
    }
}

//! Places for people's requests: bounded in all, by namespace and by person, so that neither one account nor many accounts of
//! one namespace use up those of others.
//!
//! As with memory, no namespace has more places than are left for all: whatever a few take, there is one for a newcomer.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

/// How many places there are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) all: usize,
    pub(crate) namespace: usize,
    pub(crate) person: usize,
}

#[derive(Default)]
struct Taken {
    all: usize,
    namespaces: HashMap<String, usize>,
    persons: HashMap<String, usize>,
}

/// See the module. Remembers only who has a place.
pub(crate) struct Places {
    bounds: Bounds,
    taken: Mutex<Taken>,
    left: Notify,
}

/// A place, until it is dropped.
pub(crate) struct Place {
    places: Arc<Places>,
    person: String,
    namespace: String,
}

/// Which bound is reached, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    All(usize),
    Namespace(usize),
    Person(usize),
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All(most) => write!(f, "at most {most} of all people, shared out among their namespaces"),
            Self::Namespace(most) => write!(f, "at most {most} of one namespace"),
            Self::Person(most) => write!(f, "at most {most} of one person"),
        }
    }
}

impl Places {
    pub(crate) fn new(bounds: Bounds) -> Arc<Self> {
        Arc::new(Self { bounds, taken: Mutex::default(), left: Notify::new() })
    }

    /// A place now.
    pub(crate) fn enter(self: &Arc<Self>, person: &str, namespace: &str) -> Result<Place, Full> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |map: &HashMap<String, usize>, name: &str| map.get(name).copied().unwrap_or(0);
        let (persons, namespaces) = (of(&taken.persons, person), of(&taken.namespaces, namespace));
        if persons >= self.bounds.person {
            return Err(Full::Person(self.bounds.person));
        }
        if namespaces >= self.bounds.namespace {
            return Err(Full::Namespace(self.bounds.namespace));
        }
        if namespaces >= self.bounds.all - taken.all {
            return Err(Full::All(self.bounds.all));
        }
        taken.all += 1;
        taken.persons.insert(person.to_owned(), persons + 1);
        taken.namespaces.insert(namespace.to_owned(), namespaces + 1);
        Ok(Place { places: self.clone(), person: person.to_owned(), namespace: namespace.to_owned() })
    }

    /// A place, as soon as there is one within the patience.
    pub(crate) async fn wait(
        self: &Arc<Self>,
        person: &str,
        namespace: &str,
        patience: Duration,
    ) -> Result<Place, Full> {
        let mut full = Full::All(self.bounds.all);
        let waited = tokio::time::timeout(patience, async {
            loop {
                let left = self.left.notified();
                tokio::pin!(left);
                left.as_mut().enable();
                match self.enter(person, namespace) {
                    Ok(place) => return place,
                    Err(why) => full = why,
                }
                left.await;
            }
        });
        waited.await.map_err(|_| full)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all -= 1;
        let Taken { namespaces, persons, .. } = &mut *taken;
        for (map, name) in [(persons, &self.person), (namespaces, &self.namespace)] {
            if let Some(count) = map.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    map.remove(name);
                }
            }
        }
        drop(taken);
        self.places.left.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_six_namespaces_take_all_they_can_there_is_a_place_for_another() {
        let places = Places::new(Bounds { all: 64, namespace: 16, person: 8 });
        let mut taken = Vec::new();
        for namespace in 0..6 {
            let namespace = format!("ns-{namespace}");
            for person in 0..4 {
                let person = format!("{namespace}-{person}");
                taken.extend(std::iter::from_fn(|| places.enter(&person, &namespace).ok()));
            }
        }
        assert!(taken.len() >= 60);
        assert!(places.enter("newcomer", "other").is_ok(), "{} taken", taken.len());
        taken.clear();
        let left = places.taken.lock().expect("unpoisoned");
        assert_eq!((left.all, left.namespaces.len(), left.persons.len()), (0, 0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_gets_the_place_that_is_left_or_is_told_what_is_full() {
        let places = Places::new(Bounds { all: 4, namespace: 2, person: 1 });
        let place = places.enter("ann", "a").expect("free");
        let full = places.wait("ann", "a", Duration::from_secs(5)).await.err();
        assert_eq!(full, Some(Full::Person(1)));
        let waiting = {
            let places = places.clone();
            tokio::spawn(async move { places.wait("ann", "a", Duration::from_secs(5)).await.is_ok() })
        };
        tokio::time::sleep(Duration::from_secs(4)).await;
        drop(place);
        assert!(waiting.await.expect("ended"));
    }
}

//! Slots for people's requests, bounded in all, by namespace and by person. So neither one account nor many
//! accounts of one namespace use up the slots of others.
//!
//! As with memory (`memory.rs`), no namespace holds more slots than are free for all: whatever a few namespaces
//! take, a newcomer finds one.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

/// How many slots there are: in all, for a namespace, for a person.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SlotBounds {
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

/// The slots of one purpose. Remembers only who holds one.
pub(crate) struct ReaderSlots {
    bounds: SlotBounds,
    taken: Mutex<Taken>,
    left: Notify,
}

/// One slot, held until it is dropped.
pub(crate) struct ReaderSlot {
    slots: Arc<ReaderSlots>,
    person: String,
    namespace: String,
}

/// Which bound is reached; displayed in words.
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

impl ReaderSlots {
    pub(crate) fn new(bounds: SlotBounds) -> Arc<Self> {
        Arc::new(Self { bounds, taken: Mutex::default(), left: Notify::new() })
    }

    /// Takes a slot at once, or says which bound is reached.
    pub(crate) fn enter(self: &Arc<Self>, person: &str, namespace: &str) -> Result<ReaderSlot, Full> {
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
        Ok(ReaderSlot { slots: self.clone(), person: person.to_owned(), namespace: namespace.to_owned() })
    }

    /// Takes a slot as soon as one is free, or says which bound was reached when `patience` ran out.
    pub(crate) async fn wait(
        self: &Arc<Self>,
        person: &str,
        namespace: &str,
        patience: Duration,
    ) -> Result<ReaderSlot, Full> {
        let mut full = Full::All(self.bounds.all);
        let waited = tokio::time::timeout(patience, async {
            loop {
                let left = self.left.notified();
                tokio::pin!(left);
                left.as_mut().enable();
                match self.enter(person, namespace) {
                    Ok(slot) => return slot,
                    Err(why) => full = why,
                }
                left.await;
            }
        });
        waited.await.map_err(|_| full)
    }
}

impl Drop for ReaderSlot {
    fn drop(&mut self) {
        let mut taken = self.slots.taken.lock().unwrap_or_else(PoisonError::into_inner);
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
        self.slots.left.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_six_namespaces_take_all_they_can_a_slot_is_left_for_another() {
        let slots = ReaderSlots::new(SlotBounds { all: 64, namespace: 16, person: 8 });
        let mut taken = Vec::new();
        for namespace in 0..6 {
            let namespace = format!("ns-{namespace}");
            for person in 0..4 {
                let person = format!("{namespace}-{person}");
                taken.extend(std::iter::from_fn(|| slots.enter(&person, &namespace).ok()));
            }
        }
        assert!(taken.len() >= 60);
        assert!(slots.enter("newcomer", "other").is_ok(), "{} taken", taken.len());
        taken.clear();
        let left = slots.taken.lock().expect("unpoisoned");
        assert_eq!((left.all, left.namespaces.len(), left.persons.len()), (0, 0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_reader_gets_a_freed_slot_or_is_told_which_bound_is_reached() {
        let slots = ReaderSlots::new(SlotBounds { all: 4, namespace: 2, person: 1 });
        let slot = slots.enter("ann", "a").expect("free");
        let full = slots.wait("ann", "a", Duration::from_secs(5)).await.err();
        assert_eq!(full, Some(Full::Person(1)));
        let waiting = {
            let slots = slots.clone();
            tokio::spawn(async move { slots.wait("ann", "a", Duration::from_secs(5)).await.is_ok() })
        };
        tokio::time::sleep(Duration::from_secs(4)).await;
        drop(slot);
        assert!(waiting.await.expect("ended"));
    }
}

//! Which namespaces can affect each other: one has a resource that the other lends.
//!
//! The cost of a namespace's question depends on its linked namespaces alone. An owner's `sharedWith` must permit each
//! link.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crds::resource::ResourceRef;

use super::index::Key;

/// Which schedules have resources of other namespaces, or are about to get or lose them.
#[derive(Default)]
pub(super) struct Links {
    /// For each resource: how many schedules of each other namespace have it.
    guests: HashMap<ResourceRef, BTreeMap<String, usize>>,
    /// The resources that each schedule has.
    has: HashMap<Key, BTreeSet<ResourceRef>>,
}

impl Links {
    /// Sets the resources that a schedule has of other namespaces.
    pub(super) fn set(&mut self, key: Key, namespace: &str, has: BTreeSet<ResourceRef>) {
        for reference in has.iter().filter(|reference| reference.namespace != namespace) {
            let guests = self.guests.entry(reference.clone()).or_default();
            *guests.entry(namespace.to_owned()).or_default() += 1;
        }
        let before = if has.is_empty() { self.has.remove(&key) } else { self.has.insert(key, has) };
        for reference in before.into_iter().flatten() {
            let Some(guests) = self.guests.get_mut(&reference) else { continue };
            if let Some(count) = guests.get_mut(namespace) {
                *count -= 1;
                if *count == 0 {
                    guests.remove(namespace);
                }
            }
            if guests.is_empty() {
                self.guests.remove(&reference);
            }
        }
    }

    /// Adds resources that a schedule will have.
    pub(super) fn add(&mut self, key: Key, namespace: &str, more: BTreeSet<ResourceRef>) {
        let mut has = self.has.get(&key).cloned().unwrap_or_default();
        has.extend(more);
        self.set(key, namespace, has);
    }

    /// The namespace and all that it is linked with, also indirectly.
    pub(super) fn linked_to(&self, namespace: &str) -> BTreeSet<String> {
        let mut linked = BTreeSet::from([namespace.to_owned()]);
        loop {
            let before = linked.len();
            for (reference, guests) in &self.guests {
                let touches = linked.contains(&reference.namespace)
                    || guests.keys().any(|guest| linked.contains(guest));
                if touches {
                    linked.insert(reference.namespace.clone());
                    linked.extend(guests.keys().cloned());
                }
            }
            if linked.len() == before {
                return linked;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_linked_over_what_is_lent_and_apart_when_it_is_given_back() {
        let room = |namespace: &str| ResourceRef { namespace: namespace.to_owned(), name: "hall".to_owned() };
        let key = |number: u128| (jiff::Timestamp::UNIX_EPOCH, uuid::Uuid::from_u128(number));
        let mut links = Links::default();
        let of =
            |links: &Links, namespace: &str| links.linked_to(namespace).into_iter().collect::<Vec<String>>();
        links.set(key(1), "a", BTreeSet::from([room("a")]));
        assert_eq!(of(&links, "a"), ["a"]);
        links.set(key(2), "b", BTreeSet::from([room("a")]));
        links.add(key(2), "b", BTreeSet::from([room("c"), room("a")]));
        links.set(key(3), "e", BTreeSet::from([room("d")]));
        assert_eq!(of(&links, "a"), ["a", "b", "c"]);
        assert_eq!(of(&links, "c"), ["a", "b", "c"]);
        links.set(key(2), "b", BTreeSet::from([room("c")]));
        assert_eq!(of(&links, "a"), ["a"]);
        assert_eq!(of(&links, "b"), ["b", "c"]);
        links.set(key(2), "b", BTreeSet::new());
        assert_eq!(of(&links, "b"), ["b"]);
    }
}

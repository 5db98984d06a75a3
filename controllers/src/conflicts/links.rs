//! Which namespaces can touch each other: those of whom one has what another lends.
//!
//! What a question of a namespace costs depends on these alone. Never: a link that its owner did not grant.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crds::resource::ResourceRef;

/// Who has what of another namespace, or is to have or lose it.
#[derive(Default)]
pub(super) struct Links {
    /// How many schedules of each namespace.
    guests: HashMap<ResourceRef, BTreeMap<String, usize>>,
}

impl Links {
    /// One more schedule of `namespace` has it.
    pub(super) fn add(&mut self, reference: &ResourceRef, namespace: &str) {
        if reference.namespace != namespace {
            let guests = self.guests.entry(reference.clone()).or_default();
            *guests.entry(namespace.to_owned()).or_default() += 1;
        }
    }

    /// One fewer.
    pub(super) fn remove(&mut self, reference: &ResourceRef, namespace: &str) {
        let Some(guests) = self.guests.get_mut(reference) else { return };
        if let Some(count) = guests.get_mut(namespace) {
            *count -= 1;
            if *count == 0 {
                guests.remove(namespace);
            }
        }
        if guests.is_empty() {
            self.guests.remove(reference);
        }
    }

    /// A namespace with all that it is linked to, over others too.
    pub(super) fn of(&self, namespace: &str) -> BTreeSet<String> {
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
        let mut links = Links::default();
        let of = |links: &Links, namespace: &str| Vec::from_iter(links.of(namespace));
        links.add(&room("a"), "a");
        assert_eq!(of(&links, "a"), ["a"]);
        links.add(&room("a"), "b");
        links.add(&room("c"), "b");
        links.add(&room("d"), "e");
        assert_eq!(of(&links, "a"), ["a", "b", "c"]);
        assert_eq!(of(&links, "c"), ["a", "b", "c"]);
        links.remove(&room("a"), "b");
        assert_eq!(of(&links, "a"), ["a"]);
        assert_eq!(of(&links, "b"), ["b", "c"]);
    }
}

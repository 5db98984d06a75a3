//! Caches compiled templates by tenant and text, within a bound for the whole and a share for each tenant, in bytes.
//!
//! A tenant whose texts exceed its share evicts its own, the least recently used first. So a tenant with many or large
//! texts compiles them again and again at its own cost, and the others keep theirs, unless there are more tenants than
//! shares.

use std::collections::HashMap;
use std::hash::Hash;

/// What an entry takes besides its key and value, bytes.
const ENTRY: usize = 256;

/// Compiled templates by tenant and text.
#[derive(Debug)]
pub struct TemplateCache<T, V> {
    tenants: HashMap<T, TenantShare<V>>,
    /// The most bytes of all tenants, and of one tenant.
    whole: usize,
    share: usize,
    weight: usize,
    used: u64,
}

#[derive(Debug)]
struct TenantShare<V> {
    entries: HashMap<Box<str>, CachedTemplate<V>>,
    weight: usize,
    last: u64,
}

#[derive(Debug)]
struct CachedTemplate<V> {
    value: V,
    weight: usize,
    last: u64,
}

impl<T: Eq + Hash + Clone, V: Clone> TemplateCache<T, V> {
    /// A cache of at most `whole` bytes, of which a tenant gets at most `share`.
    pub fn new(whole: usize, share: usize) -> Self {
        Self { tenants: HashMap::new(), whole, share: share.min(whole), weight: 0, used: 0 }
    }

    /// The cached value of this tenant and text.
    pub fn get<Q>(&mut self, tenant: &Q, text: &str) -> Option<V>
    where
        T: std::borrow::Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.used += 1;
        let share = self.tenants.get_mut(tenant)?;
        let entry = share.entries.get_mut(text)?;
        (share.last, entry.last) = (self.used, self.used);
        Some(entry.value.clone())
    }

    /// Caches a value if it fits into the tenant's share at all. `weight` is the size of the value, bytes.
    pub fn put(&mut self, tenant: &T, text: &str, value: V, weight: usize) {
        let weight = weight + text.len() + ENTRY;
        if weight > self.share {
            return;
        }
        self.used += 1;
        let used = self.used;
        let share = self.tenants.entry(tenant.clone()).or_insert_with(|| TenantShare {
            entries: HashMap::new(),
            weight: 0,
            last: used,
        });
        share.last = used;
        if let Some(old) = share.entries.remove(text) {
            (share.weight, self.weight) = (share.weight - old.weight, self.weight - old.weight);
        }
        while share.weight + weight > self.share {
            let Some(oldest) =
                share.entries.iter().min_by_key(|(_, it)| it.last).map(|(text, _)| text.clone())
            else {
                break;
            };
            if let Some(old) = share.entries.remove(&oldest) {
                (share.weight, self.weight) = (share.weight - old.weight, self.weight - old.weight);
            }
        }
        share.entries.insert(text.into(), CachedTemplate { value, weight, last: used });
        (share.weight, self.weight) = (share.weight + weight, self.weight + weight);
        // Evicts whole tenants, the least recently active first.
        while self.weight > self.whole {
            let others = self.tenants.iter().filter(|(other, _)| *other != tenant);
            let Some(quiet) = others.min_by_key(|(_, it)| it.last).map(|(other, _)| other.clone()) else {
                break;
            };
            if let Some(gone) = self.tenants.remove(&quiet) {
                self.weight -= gone.weight;
            }
        }
    }

    /// The approximate size of the cache, bytes.
    pub fn weight(&self) -> usize {
        self.weight
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_with_many_large_texts_pushes_out_its_own_and_nobody_elses() {
        let mut cache = TemplateCache::new(100_000, 10_000);
        cache.put(&"quiet", "text", 1, 1_000);
        for n in 0..1_000 {
            cache.put(&"loud", &format!("{n}"), 2, 3_000);
            assert!(cache.weight() <= 20_000);
        }
        assert_eq!(cache.get("quiet", "text"), Some(1));
        assert_eq!(cache.get("loud", "999"), Some(2));
        assert_eq!(cache.get("loud", "0"), None);
    }

    #[test]
    fn the_whole_stays_within_its_bound_however_many_tenants_there_are() {
        let mut cache = TemplateCache::new(100_000, 10_000);
        for tenant in 0..1_000 {
            cache.put(&tenant, "text", tenant, 5_000);
            cache.put(&tenant, "text", tenant, 5_000);
            assert!(cache.weight() <= 100_000);
        }
        assert_eq!(cache.get(&999, "text"), Some(999));
        cache.put(&1_000, "too large", 0, 20_000);
        assert_eq!(cache.get(&1_000, "too large"), None);
    }
}

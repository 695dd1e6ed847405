use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::time::Instant;

/// A table of so many entries at most, each for a time. What is over goes; where there is no room,
/// what would be over first does.
pub(super) struct Expiring<K, V> {
    entries: HashMap<K, (Instant, V)>,
    /// The same, in the order in which they are over.
    order: BTreeSet<(Instant, K)>,
}

impl<K: Copy + Ord + Hash, V> Expiring<K, V> {
    /// What there is of `key` that is not over.
    pub(super) fn get(&self, key: K, now: Instant) -> Option<(Instant, &V)> {
        let (until, value) = self.entries.get(&key)?;
        (*until > now).then_some((*until, value))
    }

    /// Puts an entry in the place of what there is of `key`.
    pub(super) fn put(&mut self, key: K, value: V, until: Instant, now: Instant, room: usize) {
        if let Some((before, _)) = self.entries.insert(key, (until, value)) {
            self.order.remove(&(before, key));
        }
        self.order.insert((until, key));
        while let Some(&(first, key)) = self.order.first() {
            if first > now && self.entries.len() <= room {
                break;
            }
            self.order.pop_first();
            self.entries.remove(&key);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.entries.len(), self.order.len());
        self.entries.len()
    }
}

impl<K, V> Default for Expiring<K, V> {
    fn default() -> Expiring<K, V> {
        Expiring { entries: HashMap::new(), order: BTreeSet::new() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_over_first_goes_first() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut table = Expiring::default();
        for (key, until) in [(1, 30), (2, 10), (3, 20), (4, 40)] {
            table.put(key, key * 100, at(until), start, 3);
        }
        let there = |table: &Expiring<u32, u32>, now| -> Vec<u32> {
            (1..=9).filter(|&key| table.get(key, now).is_some()).collect()
        };
        assert_eq!(there(&table, start), [1, 3, 4]);
        assert_eq!(table.get(3, start), Some((at(20), &300)));
        table.put(3, 301, at(50), start, 3);
        assert_eq!((table.get(3, start), table.len()), (Some((at(50), &301)), 3));
        table.put(5, 500, at(29), start, 3);
        assert_eq!(there(&table, start), [1, 3, 4], "it is over before all the others");
        assert_eq!(there(&table, at(30)), [3, 4], "its time is over");
        table.put(6, 600, at(60), at(40), 3);
        assert_eq!((there(&table, at(40)), table.len()), (vec![3, 6], 2));
    }
}

//! When each entry of a table is due next: at most one deadline per entry, the earliest one found at once.

use std::time::Instant;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::slab::{Key, MAX_CARRIED};

/// A binary heap that knows where each entry stands, so that a deadline moves in place and nothing stale is left behind.
#[derive(Debug)]
pub struct Deadlines<K> {
    heap: Vec<(Instant, K)>,
    /// One more than where an entry stands in the heap, by its number; zero is nowhere.
    positions: Vec<u32>,
}

impl<K> Default for Deadlines<K> {
    fn default() -> Self {
        Self { heap: Vec::new(), positions: Vec::new() }
    }
}

/// An entry's deadline on its way.
#[derive(Serialize, Deserialize)]
struct Due<K> {
    key: K,
    #[serde(with = "crate::carry::checked")]
    at: Instant,
}

impl<K: Key + Serialize> Serialize for Deadlines<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut all: Vec<Due<K>> = self.heap.iter().map(|(at, key)| Due { key: *key, at: *at }).collect();
        all.sort_unstable_by_key(|due| due.key);
        all.serialize(serializer)
    }
}

impl<'de, K: Key + Deserialize<'de>> Deserialize<'de> for Deadlines<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut deadlines = Self::default();
        for Due { key, at } in Vec::<Due<K>>::deserialize(deserializer)? {
            if key.number() >= MAX_CARRIED {
                return Err(D::Error::custom("a deadline of no entry"));
            }
            deadlines.set(key, Some(at));
        }
        Ok(deadlines)
    }
}

impl<K: Key> Deadlines<K> {
    /// Makes room for all numbers below `bound`, so that [`Self::set`] and [`Self::wake`] allocate nothing for those.
    pub fn reserve(&mut self, bound: usize) {
        if self.positions.len() < bound {
            self.positions.resize(bound, 0);
        }
        self.heap.reserve(bound.saturating_sub(self.heap.len()));
    }

    /// When an entry is due.
    #[inline]
    pub fn get(&self, key: K) -> Option<Instant> {
        let position = *self.positions.get(key.number())?;
        self.heap.get((position as usize).checked_sub(1)?).map(|(at, _)| *at)
    }

    /// The earliest deadline.
    #[inline]
    pub fn first(&self) -> Option<Instant> {
        self.heap.first().map(|(at, _)| *at)
    }

    /// Makes sure that an entry is due at `at` or before.
    #[inline]
    pub fn wake(&mut self, key: K, at: Instant) {
        if self.get(key).is_none_or(|due| at < due) {
            self.set(key, Some(at));
        }
    }

    /// Replaces an entry's deadline.
    pub fn set(&mut self, key: K, at: Option<Instant>) {
        self.reserve(key.number() + 1);
        let position = self.positions.get(key.number()).map_or(0, |position| *position as usize);
        match (position.checked_sub(1), at) {
            (None, None) => {}
            (None, Some(at)) => {
                self.heap.push((at, key));
                self.rise(self.heap.len() - 1);
            }
            (Some(position), Some(at)) => {
                if let Some(entry) = self.heap.get_mut(position) {
                    entry.0 = at;
                }
                self.settle(position);
            }
            (Some(position), None) => {
                self.heap.swap_remove(position);
                self.note(key, 0);
                if position < self.heap.len() {
                    self.settle(position);
                }
            }
        }
    }

    /// Takes out an entry that is due.
    pub fn pop(&mut self, now: Instant) -> Option<K> {
        let (_, key) = self.heap.first().copied().filter(|(at, _)| *at <= now)?;
        self.set(key, None);
        Some(key)
    }

    /// How many entries have a deadline.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    fn settle(&mut self, position: usize) {
        let position = self.rise(position);
        self.sink(position);
    }

    fn rise(&mut self, mut position: usize) -> usize {
        while position > 0 && self.is_earlier(position, (position - 1) / 2) {
            position = self.swap(position, (position - 1) / 2);
        }
        self.place(position);
        position
    }

    fn sink(&mut self, mut position: usize) {
        loop {
            let (left, right) = (2 * position + 1, 2 * position + 2);
            let child = if right < self.heap.len() && self.is_earlier(right, left) { right } else { left };
            if child >= self.heap.len() || !self.is_earlier(child, position) {
                break;
            }
            position = self.swap(position, child);
        }
        self.place(position);
    }

    /// Ties go by number, so that the order does not depend on what went before.
    fn is_earlier(&self, a: usize, b: usize) -> bool {
        self.heap.get(a) < self.heap.get(b)
    }

    /// Swaps two entries and records where the first one's former partner stands now; returns the other position.
    fn swap(&mut self, from: usize, to: usize) -> usize {
        self.heap.swap(from, to);
        self.place(from);
        to
    }

    fn place(&mut self, position: usize) {
        if let Some((_, key)) = self.heap.get(position).copied() {
            self.note(key, position as u32 + 1);
        }
    }

    fn note(&mut self, key: K, position: u32) {
        if let Some(place) = self.positions.get_mut(key.number()) {
            *place = position;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use proptest::prelude::*;

    crate::slab::key! {
        /// Of the test.
        Id
    }

    proptest! {
        #[test]
        fn the_same_as_a_list_that_is_looked_through(
            steps in proptest::collection::vec((0usize..12, proptest::option::of(0u64..50), any::<bool>()), 0..300),
        ) {
            let start = Instant::now();
            let mut deadlines = Deadlines::<Id>::default();
            let mut list: Vec<Option<Instant>> = vec![None; 12];
            for (number, at, wake) in steps {
                let at = at.map(|ms| start + Duration::from_millis(ms));
                match at.filter(|_| wake) {
                    Some(at) => {
                        deadlines.wake(Id::new(number), at);
                        list[number] = Some(list[number].map_or(at, |due| due.min(at)));
                    }
                    None => {
                        deadlines.set(Id::new(number), at);
                        list[number] = at;
                    }
                }
                for (number, due) in list.iter().enumerate() {
                    prop_assert_eq!(deadlines.get(Id::new(number)), *due);
                }
                prop_assert_eq!(deadlines.first(), list.iter().flatten().min().copied());
                prop_assert_eq!(deadlines.len(), list.iter().flatten().count());
            }
            for ms in 0..50 {
                let now = start + Duration::from_millis(ms);
                while let Some(key) = deadlines.pop(now) {
                    prop_assert_eq!(list[key.number()].take(), Some(now));
                }
            }
            prop_assert_eq!((deadlines.first(), deadlines.len()), (None, 0));
        }
    }
}

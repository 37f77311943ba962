//! A table whose entries are named by small typed numbers: the number of one that left is given to the next one that comes.

use std::fmt;
use std::marker::PhantomData;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The number of an entry. Each table has a type of its own for it, so that one table's numbers fit no other.
pub trait Key: Copy + Ord + fmt::Debug {
    /// The key of a number.
    fn new(number: usize) -> Self;
    /// Its number.
    fn number(self) -> usize;
}

/// The public [`crate::demux::EndpointIndex`] is a plain number.
impl Key for u32 {
    #[inline]
    fn new(number: usize) -> Self {
        Self::try_from(number).unwrap_or(Self::MAX)
    }

    #[inline]
    fn number(self) -> usize {
        self as usize
    }
}

/// Defines a key type.
macro_rules! key {
    ($(#[$doc:meta])* $vis:vis $name:ident) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
        )]
        $vis struct $name(u32);

        impl $crate::slab::Key for $name {
            #[inline]
            fn new(number: usize) -> Self {
                Self($crate::slab::Key::new(number))
            }

            #[inline]
            fn number(self) -> usize {
                $crate::slab::Key::number(self.0)
            }
        }
    };
}
pub(crate) use key;

/// Places of a table that comes from another process; more than any configuration takes.
pub const MAX_CARRIED: usize = 1 << 17;

/// The table. Entries are boxed: they are large, and do not move when it grows.
pub struct Slab<K, T> {
    entries: Vec<Option<Box<T>>>,
    len: usize,
    key: PhantomData<K>,
}

impl<K, T> Default for Slab<K, T> {
    fn default() -> Self {
        Self { entries: Vec::new(), len: 0, key: PhantomData }
    }
}

impl<K, T: Serialize> Serialize for Slab<K, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.entries.serialize(serializer)
    }
}

impl<'de, K, T: Deserialize<'de>> Deserialize<'de> for Slab<K, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let entries: Vec<Option<Box<T>>> = crate::carry::at_most::<_, _, MAX_CARRIED>(deserializer)?;
        let len = entries.iter().flatten().count();
        Ok(Self { entries, len, key: PhantomData })
    }
}

impl<K: Key, T> Slab<K, T> {
    /// Adds an entry under the lowest free number.
    pub fn insert(&mut self, value: T) -> K {
        self.insert_with(|_| value)
    }

    /// The same for an entry that knows its number.
    pub fn insert_with(&mut self, make: impl FnOnce(K) -> T) -> K {
        let number = self.entries.iter().position(Option::is_none).unwrap_or(self.entries.len());
        let key = K::new(number);
        let value = Some(Box::new(make(key)));
        match self.entries.get_mut(number) {
            Some(entry) => *entry = value,
            None => self.entries.push(value),
        }
        self.len += 1;
        key
    }

    /// Takes an entry out.
    pub fn remove(&mut self, key: K) -> Option<T> {
        let entry = self.entries.get_mut(key.number())?.take()?;
        self.len -= 1;
        Some(*entry)
    }

    /// An entry.
    #[inline]
    pub fn get(&self, key: K) -> Option<&T> {
        self.entries.get(key.number())?.as_deref()
    }

    /// An entry, to change it.
    #[inline]
    pub fn get_mut(&mut self, key: K) -> Option<&mut T> {
        self.entries.get_mut(key.number())?.as_deref_mut()
    }

    /// Two different entries, to change both. `None` when one is missing, or they are the same.
    #[inline]
    pub fn get_disjoint_mut(&mut self, keys: [K; 2]) -> Option<[&mut T; 2]> {
        let [a, b] = self.entries.get_disjoint_mut(keys.map(K::number)).ok()?;
        Some([a.as_deref_mut()?, b.as_deref_mut()?])
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// One more than the highest number that was ever given out.
    pub fn bound(&self) -> usize {
        self.entries.len()
    }

    /// All numbers up to [`Self::bound`], free ones included. Borrows nothing, so that the table may change on the way.
    pub fn keys(&self) -> impl Iterator<Item = K> + use<K, T> {
        (0..self.entries.len()).map(K::new)
    }

    /// All entries in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (K, &T)> {
        self.entries.iter().enumerate().filter_map(|(number, entry)| Some((K::new(number), entry.as_deref()?)))
    }

    /// The same, to change them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (K, &mut T)> {
        self.entries.iter_mut().enumerate().filter_map(|(number, entry)| Some((K::new(number), entry.as_deref_mut()?)))
    }

    /// All entries without their numbers.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().flatten().map(|entry| &**entry)
    }

    /// The same, to change them.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.entries.iter_mut().flatten().map(|entry| &mut **entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    key! {
        /// Of the test.
        Id
    }

    #[test]
    fn the_lowest_free_number_is_given_again() {
        let mut slab = Slab::<Id, &str>::default();
        let [a, b, c] = ["a", "b", "c"].map(|name| slab.insert(name));
        assert_eq!((slab.remove(b), slab.remove(b), slab.get(b)), (Some("b"), None, None));
        assert_eq!((slab.len(), slab.bound()), (2, 3));
        assert_eq!(slab.insert("d"), b);
        assert_eq!(slab.iter().collect::<Vec<_>>(), [(a, &"a"), (b, &"d"), (c, &"c")]);
    }

    #[test]
    fn two_at_once_are_never_the_same_one() {
        let mut slab = Slab::<Id, u8>::default();
        let [a, b] = [1, 2].map(|value| slab.insert(value));
        let [first, second] = slab.get_disjoint_mut([b, a]).unwrap();
        std::mem::swap(first, second);
        assert_eq!((slab.get(a), slab.get(b)), (Some(&2), Some(&1)));
        assert!(slab.get_disjoint_mut([a, a]).is_none() && slab.get_disjoint_mut([a, Id(9)]).is_none());
        slab.remove(a);
        assert!(slab.get_disjoint_mut([a, b]).is_none());
    }
}

//! Arrays of any length (`#[serde(with = "crate::carry::array")]`); serde itself knows them up to 32.

use std::marker::PhantomData;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An array, alone or on the heap.
pub trait Array {
    /// Of what.
    type Element;
    /// Its elements.
    fn elements(&self) -> &[Self::Element];
    /// How many there are.
    const LEN: usize;
    /// From so many elements.
    fn from_elements(elements: Vec<Self::Element>) -> Option<Self>
    where
        Self: Sized;
}

impl<T, const N: usize> Array for [T; N] {
    type Element = T;
    const LEN: usize = N;
    fn elements(&self) -> &[T] {
        self
    }
    fn from_elements(elements: Vec<T>) -> Option<Self> {
        elements.try_into().ok()
    }
}

impl<T, const N: usize> Array for Box<[T; N]> {
    type Element = T;
    const LEN: usize = N;
    fn elements(&self) -> &[T] {
        &**self
    }
    fn from_elements(elements: Vec<T>) -> Option<Self> {
        elements.into_boxed_slice().try_into().ok()
    }
}

/// Writes one.
pub fn serialize<A: Array, S: Serializer>(array: &A, serializer: S) -> Result<S::Ok, S::Error>
where
    A::Element: Serialize,
{
    let mut tuple = serializer.serialize_tuple(A::LEN)?;
    for element in array.elements() {
        tuple.serialize_element(element)?;
    }
    tuple.end()
}

/// Reads one.
pub fn deserialize<'de, A: Array, D: Deserializer<'de>>(deserializer: D) -> Result<A, D::Error>
where
    A::Element: Deserialize<'de>,
{
    struct Elements<A>(PhantomData<A>);
    impl<'de, A: Array> Visitor<'de> for Elements<A>
    where
        A::Element: Deserialize<'de>,
    {
        type Value = A;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "{} elements", A::LEN)
        }
        fn visit_seq<S: SeqAccess<'de>>(self, mut elements: S) -> Result<A, S::Error> {
            let mut all = Vec::with_capacity(A::LEN);
            while let Some(element) = elements.next_element()? {
                all.push(element);
            }
            let found = all.len();
            A::from_elements(all).ok_or_else(|| S::Error::invalid_length(found, &self))
        }
    }
    deserializer.deserialize_tuple(A::LEN, Elements(PhantomData))
}

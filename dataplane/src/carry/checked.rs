//! Moments, and numbers that are finite and not absurd, alone or with others (`#[serde(with = "crate::carry::checked")]`).

use std::marker::PhantomData;
use std::time::{Duration, Instant};

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::ser::{Error as _, SerializeTuple};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::clock;

/// Spans of time beyond this are made up.
const LONGEST: Duration = Duration::from_secs(86_400);

/// What serde does not know, or takes whatever it is.
pub trait Checked: Sized {
    /// See [`serialize`].
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error>;
    /// See [`deserialize`].
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;
}

/// Writes it.
pub fn serialize<T: Checked, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    value.write(serializer)
}

/// Reads it.
pub fn deserialize<'de, T: Checked, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    T::read(deserializer)
}

/// To be written by serde.
struct Borrowed<'a, T>(&'a T);

impl<T: Checked> Serialize for Borrowed<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.write(serializer)
    }
}

/// Likewise to be read.
struct Owned<T>(T);

impl<'de, T: Checked> Deserialize<'de> for Owned<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::read(deserializer).map(Self)
    }
}

impl Checked for Instant {
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let reading = clock::reading(*self).ok_or_else(|| S::Error::custom("a moment out of reach"))?;
        serializer.serialize_i64(reading)
    }

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        clock::moment(i64::deserialize(deserializer)?).ok_or_else(|| D::Error::custom("a moment out of reach"))
    }
}

impl<T: Checked> Checked for Option<T> {
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.as_ref().map(Borrowed).serialize(serializer)
    }

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::<Owned<T>>::deserialize(deserializer)?.map(|owned| owned.0))
    }
}

macro_rules! plain {
    ($($type:ty),*) => {
        $(impl Checked for $type {
            fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.serialize(serializer)
            }

            fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::deserialize(deserializer)
            }
        })*
    };
}

plain!(u8, u16, u32);

/// Counts and numbers beyond this are made up: sums of a few of those below do not overflow.
const LARGEST: u64 = 1 << 60;
/// The least number; some are as far below all others.
const LEAST: i64 = i64::MIN / 2;

impl Checked for u64 {
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.serialize(serializer)
    }

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Self::deserialize(deserializer)?;
        if value <= LARGEST { Ok(value) } else { Err(D::Error::custom("a count out of range")) }
    }
}

impl Checked for usize {
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.serialize(serializer)
    }

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Self::deserialize(deserializer)?;
        if value as u64 <= LARGEST { Ok(value) } else { Err(D::Error::custom("a count out of range")) }
    }
}

impl Checked for i64 {
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.serialize(serializer)
    }

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Self::deserialize(deserializer)?;
        if (LEAST..=LARGEST as i64).contains(&value) {
            Ok(value)
        } else {
            Err(D::Error::custom("a number out of range"))
        }
    }
}

/// Reads a number that may be [`i64::MAX`] for none (`#[serde(deserialize_with = "crate::carry::checked::or_never")]`).
pub fn or_never<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    match i64::deserialize(deserializer)? {
        i64::MAX => Ok(i64::MAX),
        value if (LEAST..=LARGEST as i64).contains(&value) => Ok(value),
        _ => Err(D::Error::custom("a number out of range")),
    }
}

impl Checked for f64 {
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(*self)
    }

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Self::deserialize(deserializer)?;
        if value.is_finite() { Ok(value) } else { Err(D::Error::custom("a number that is none")) }
    }
}

impl Checked for Duration {
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.serialize(serializer)
    }

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let span = Self::deserialize(deserializer)?;
        if span <= LONGEST { Ok(span) } else { Err(D::Error::custom("a time that is too long")) }
    }
}

impl<A: Checked, B: Checked> Checked for (A, B) {
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (Borrowed(&self.0), Borrowed(&self.1)).serialize(serializer)
    }

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (a, b) = <(Owned<A>, Owned<B>)>::deserialize(deserializer)?;
        Ok((a.0, b.0))
    }
}

impl<A: Checked, B: Checked, C: Checked> Checked for (A, B, C) {
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (Borrowed(&self.0), Borrowed(&self.1), Borrowed(&self.2)).serialize(serializer)
    }

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (a, b, c) = <(Owned<A>, Owned<B>, Owned<C>)>::deserialize(deserializer)?;
        Ok((a.0, b.0, c.0))
    }
}

impl<T: Checked, const N: usize> Checked for [T; N] {
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(N)?;
        for value in self {
            tuple.serialize_element(&Borrowed(value))?;
        }
        tuple.end()
    }

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Values<T, const N: usize>(PhantomData<T>);
        impl<'de, T: Checked, const N: usize> Visitor<'de> for Values<T, N> {
            type Value = [T; N];
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{N} values")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<[T; N], A::Error> {
                let mut all = Vec::with_capacity(N);
                while let Some(Owned(value)) = values.next_element()? {
                    all.push(value);
                }
                let found = all.len();
                all.try_into().map_err(|_| A::Error::invalid_length(found, &self))
            }
        }
        deserializer.deserialize_tuple(N, Values(PhantomData))
    }
}

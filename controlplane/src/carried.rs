//! What another process is given when it goes on where this one was (docs/upgrade.md): bytes that nobody but the reader understands,
//! and that the reader does not trust.
//!
//! An [`Instant`] means nothing outside of its process (`#[serde(with = "crate::carried")]`): it is written as nanoseconds after, or
//! below zero before, the moment at which the state is written.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use ringbridge_dataplane::carry;
pub use ringbridge_dataplane::carry::CarryError;
use serde::de::{DeserializeOwned, Error as _};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

/// Farther from the present nothing is: a hundred years.
const FARTHEST: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Writes state as it is at `now`, see [`carry::to_bytes`].
pub fn write(now: Instant, state: &impl Serialize) -> Result<Zeroizing<Vec<u8>>, CarryError> {
    measured_from(now, || carry::to_bytes(state))
}

/// Reads state, which takes all of the bytes, to go on with it from `now`.
pub fn read<T: DeserializeOwned>(now: Instant, bytes: &[u8]) -> Result<T, CarryError> {
    measured_from(now, || carry::from_bytes(bytes))
}

thread_local! {
    static ORIGIN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Writes or reads moments in `step` as distances from `origin`.
fn measured_from<T>(origin: Instant, step: impl FnOnce() -> T) -> T {
    struct Former(Option<Instant>);
    impl Drop for Former {
        fn drop(&mut self) {
            ORIGIN.set(self.0);
        }
    }
    let _former = Former(ORIGIN.replace(Some(origin)));
    step()
}

/// A moment, or one that may be missing, or several, alone or with something else.
pub trait Timed: Sized {
    /// What is written of it.
    type Distance: Serialize + for<'de> Deserialize<'de>;
    /// How far it is from `origin`; `None` when that is out of reach.
    fn distance(&self, origin: Instant) -> Option<Self::Distance>;
    /// The moment that is so far from `origin`, likewise.
    fn at(distance: Self::Distance, origin: Instant) -> Option<Self>;
}

impl Timed for Instant {
    type Distance = i64;

    fn distance(&self, origin: Instant) -> Option<i64> {
        let signed = |span: Duration| i64::try_from(span.as_nanos()).ok();
        match self.checked_duration_since(origin) {
            Some(after) => signed(after),
            None => signed(origin.saturating_duration_since(*self)).map(|before| -before),
        }
    }

    fn at(distance: i64, origin: Instant) -> Option<Self> {
        let span = Duration::from_nanos(distance.unsigned_abs());
        if span > FARTHEST {
            return None;
        }
        if distance < 0 { origin.checked_sub(span) } else { origin.checked_add(span) }
    }
}

impl<T: Timed> Timed for Option<T> {
    type Distance = Option<T::Distance>;

    fn distance(&self, origin: Instant) -> Option<Self::Distance> {
        self.as_ref().map_or(Some(None), |moment| moment.distance(origin).map(Some))
    }

    fn at(distance: Self::Distance, origin: Instant) -> Option<Self> {
        distance.map_or(Some(None), |distance| T::at(distance, origin).map(Some))
    }
}

/// Lists and tables of moments.
macro_rules! several {
    ($($list:ident),*) => {
        $(impl<T: Timed> Timed for $list<T> {
            type Distance = $list<T::Distance>;

            fn distance(&self, origin: Instant) -> Option<Self::Distance> {
                self.iter().map(|moment| moment.distance(origin)).collect()
            }

            fn at(distances: Self::Distance, origin: Instant) -> Option<Self> {
                distances.into_iter().map(|distance| T::at(distance, origin)).collect()
            }
        })*
    };
}

several!(Vec, VecDeque);

/// What may stand beside a moment, or be the key of one.
pub trait Beside: Clone + Serialize + DeserializeOwned {}

impl<T: Clone + Serialize + DeserializeOwned> Beside for T {}

impl<K: Beside + Ord, T: Timed> Timed for BTreeMap<K, T> {
    type Distance = BTreeMap<K, T::Distance>;

    fn distance(&self, origin: Instant) -> Option<Self::Distance> {
        self.iter().map(|(key, moment)| Some((key.clone(), moment.distance(origin)?))).collect()
    }

    fn at(distances: Self::Distance, origin: Instant) -> Option<Self> {
        distances.into_iter().map(|(key, distance)| Some((key, T::at(distance, origin)?))).collect()
    }
}

impl<A: Beside> Timed for (Instant, A) {
    type Distance = (i64, A);

    fn distance(&self, origin: Instant) -> Option<Self::Distance> {
        Some((self.0.distance(origin)?, self.1.clone()))
    }

    fn at((distance, beside): Self::Distance, origin: Instant) -> Option<Self> {
        Some((Instant::at(distance, origin)?, beside))
    }
}

impl Timed for (String, Instant) {
    type Distance = (String, i64);

    fn distance(&self, origin: Instant) -> Option<Self::Distance> {
        Some((self.0.clone(), self.1.distance(origin)?))
    }

    fn at((beside, distance): Self::Distance, origin: Instant) -> Option<Self> {
        Some((beside, Instant::at(distance, origin)?))
    }
}

impl<A: Beside, B: Beside> Timed for (Instant, A, B) {
    type Distance = (i64, A, B);

    fn distance(&self, origin: Instant) -> Option<Self::Distance> {
        Some((self.0.distance(origin)?, self.1.clone(), self.2.clone()))
    }

    fn at((distance, first, second): Self::Distance, origin: Instant) -> Option<Self> {
        Some((Instant::at(distance, origin)?, first, second))
    }
}

/// Writes one, within [`write()`].
pub fn serialize<T: Timed, S: Serializer>(moment: &T, serializer: S) -> Result<S::Ok, S::Error> {
    let origin = ORIGIN.get().ok_or_else(|| S::Error::custom("nothing to measure moments from"))?;
    moment.distance(origin).ok_or_else(|| S::Error::custom("a moment out of reach"))?.serialize(serializer)
}

/// Reads one, within [`read`].
pub fn deserialize<'de, T: Timed, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    let origin = ORIGIN.get().ok_or_else(|| D::Error::custom("nothing to measure moments from"))?;
    T::at(T::Distance::deserialize(deserializer)?, origin).ok_or_else(|| D::Error::custom("a moment out of reach"))
}

/// Bytes that are overwritten when they are dropped (`#[serde(with = "crate::carried::secret")]`).
pub mod secret {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use zeroize::Zeroizing;

    /// Writes them.
    pub fn serialize<S: Serializer>(bytes: &Zeroizing<Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
        bytes.as_slice().serialize(serializer)
    }

    /// Reads them.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Zeroizing<Vec<u8>>, D::Error> {
        Vec::deserialize(deserializer).map(Zeroizing::new)
    }
}

/// A table of what several have in common by an [`std::sync::Arc`] (`#[serde(with = "crate::carried::shared_table")]`).
pub mod shared_table {
    use std::any::Any;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use ringbridge_dataplane::carry::shared::{Borrowed, Owned};
    use serde::de::DeserializeOwned;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Writes it.
    pub fn serialize<K, T, S>(table: &BTreeMap<K, Arc<T>>, serializer: S) -> Result<S::Ok, S::Error>
    where
        K: Serialize,
        T: Serialize,
        S: Serializer,
    {
        serializer.collect_map(table.iter().map(|(key, value)| (key, Borrowed(value))))
    }

    /// Reads it.
    pub fn deserialize<'de, K, T, D>(deserializer: D) -> Result<BTreeMap<K, Arc<T>>, D::Error>
    where
        K: Deserialize<'de> + Ord,
        T: DeserializeOwned + Any + Send + Sync,
        D: Deserializer<'de>,
    {
        let table = BTreeMap::<K, Owned<T>>::deserialize(deserializer)?;
        Ok(table.into_iter().map(|(key, Owned(value))| (key, value)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Both(#[serde(with = "super")] Instant, #[serde(with = "super")] Option<Instant>);

    #[test]
    fn another_process_has_another_clock_and_the_same_distances() {
        let (here, there) = (Instant::now(), Instant::now() + Duration::from_secs(1_000));
        for (before, after) in [(0, 0), (7, 0), (0, 7), (90_000, 3_600)] {
            let (before, after) = (Duration::from_secs(before), Duration::from_secs(after));
            let bytes = write(here, &Both(here - before, Some(here + after))).unwrap();
            assert_eq!(read::<Both>(there, &bytes).unwrap(), Both(there - before, Some(there + after)));
        }
    }

    #[test]
    fn what_is_out_of_reach_is_an_error() {
        let now = Instant::now();
        for distance in [i64::MIN, i64::MAX, -(FARTHEST.as_nanos() as i64) - 1] {
            let bytes = postcard::to_allocvec(&(distance, None::<i64>)).unwrap();
            assert!(read::<Both>(now, &bytes).is_err(), "{distance}");
        }
        let bytes = write(now, &Both(now, None)).unwrap();
        assert!(read::<Both>(now, &bytes).is_ok() && read::<Both>(now, &[&bytes[..], &[0]].concat()).is_err());
        assert!(postcard::to_allocvec(&Both(now, None)).is_err(), "nobody said what to measure from");
    }
}

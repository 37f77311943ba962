//! What several have in common by an [`Arc`] (`#[serde(with = "crate::carry::shared")]`): written once, and in common again when it
//! was read. Only between [`super::State::write`] and [`super::State::read`], which keep the list.

use std::any::Any;
use std::cell::RefCell;
use std::sync::Arc;

use hashbrown::HashMap;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Values that are shared at most: more than any configuration has, and each may take kilobytes.
const MAX_SHARED: usize = 1 << 16;

/// What was written or read so far.
#[derive(Default)]
struct Known {
    numbers: HashMap<usize, u32, foldhash::fast::RandomState>,
    values: Vec<Arc<dyn Any + Send + Sync>>,
}

thread_local! {
    static KNOWN: RefCell<Option<Known>> = const { RefCell::new(None) };
}

/// Keeps a list while a step writes or reads.
pub(super) fn scope<T>(step: impl FnOnce() -> T) -> T {
    struct Former(Option<Known>);
    impl Drop for Former {
        fn drop(&mut self) {
            KNOWN.set(self.0.take());
        }
    }
    let _former = Former(KNOWN.replace(Some(Known::default())));
    step()
}

/// The number of what stands at an address, and whether it is a new one; `None` without a list.
pub(super) fn number(address: usize) -> Option<(u32, bool)> {
    KNOWN.with_borrow_mut(|known| {
        let numbers = &mut known.as_mut()?.numbers;
        let next = u32::try_from(numbers.len()).ok()?;
        let number = *numbers.entry(address).or_insert(next);
        Some((number, number == next))
    })
}

/// Keeps a value under the next number.
pub(super) fn keep<T: Any + Send + Sync>(value: Arc<T>) {
    KNOWN.with_borrow_mut(|known| {
        if let Some(known) = known {
            known.values.push(value);
        }
    });
}

/// The value of a number; `None` where it is the next one, an error where it is beyond, or of another type.
pub(super) fn value<T: Any + Send + Sync>(number: u32) -> Result<Option<Arc<T>>, &'static str> {
    KNOWN.with_borrow(|known| {
        let Some(known) = known else { return Err("no list of what is shared") };
        match known.values.get(number as usize) {
            Some(value) => Arc::clone(value).downcast().map(Some).map_err(|_| "another type is shared"),
            None if number as usize == known.values.len() && known.values.len() < MAX_SHARED => Ok(None),
            None => Err("what is shared was not written"),
        }
    })
}

/// Writes it, or its number where it was written before.
pub fn serialize<T: Serialize, S: Serializer>(value: &Arc<T>, serializer: S) -> Result<S::Ok, S::Error> {
    let Some((number, new)) = number(Arc::as_ptr(value) as usize) else {
        return Err(serde::ser::Error::custom("no list of what is shared"));
    };
    (number, new.then_some(&**value)).serialize(serializer)
}

/// Reads it.
pub fn deserialize<'de, T, D>(deserializer: D) -> Result<Arc<T>, D::Error>
where
    T: DeserializeOwned + Any + Send + Sync,
    D: Deserializer<'de>,
{
    // What is inside shares nothing: it would take the number.
    let (number, new) = <(u32, Option<T>)>::deserialize(deserializer)?;
    match (value(number).map_err(D::Error::custom)?, new) {
        (Some(known), None) => Ok(known),
        (None, Some(new)) => {
            let new = Arc::new(new);
            keep(Arc::clone(&new));
            Ok(new)
        }
        _ => Err(D::Error::custom("what is shared was written twice, or never")),
    }
}

/// To write one that is in a list or table.
pub struct Borrowed<'a, T>(pub &'a Arc<T>);

impl<T: Serialize> Serialize for Borrowed<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize(self.0, serializer)
    }
}

/// To read one, likewise.
pub struct Owned<T>(pub Arc<T>);

impl<'de, T: DeserializeOwned + Any + Send + Sync> Deserialize<'de> for Owned<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize(deserializer).map(Self)
    }
}

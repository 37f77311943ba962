//! State that crosses into another process, when a new binary takes over live calls (docs/upgrade.md): how it is written and read.
//!
//! State structs derive serde's traits, so that a field which somebody adds later is carried, or does not compile. What serde does
//! not know stands here: moments ([`checked`]), what several share ([`shared`], [`shared_list`]), tables in an order of their own
//! ([`map`], [`set`]), and long arrays ([`mod@array`]). The bytes are postcard's, in memory that is overwritten when it is dropped.
//!
//! What is read is not trusted: bounds are checked where it is read, and what contradicts itself is an error, never a panic.

pub mod array;
pub mod checked;
mod clock;
pub mod map;
pub mod set;
pub mod shared;
pub mod shared_list;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

pub use clock::{ClockReading, set_clock};

/// Version of everything that is carried, the control plane's part included. Processes of the same version understand each other,
/// whichever release is the newer one; what differs in it is refused. It is raised whenever the meaning or the form of anything in
/// the state changes.
pub const STATE_VERSION: u16 = 1;

/// Bytes of one part that are read at most.
pub const MAX_STATE: usize = 256 << 20;

/// Why state cannot be written or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CarryError {
    /// What is to be read is too large.
    #[error(
        "the state has {0} bytes, more than the {MAX_STATE} that are read: drop the bridge, or split its calls over several"
    )]
    TooLarge(usize),
    /// Bytes that are no such state, or state that contradicts itself.
    #[error("the state cannot be read: {0}; was it written by a release with the same state version?")]
    Invalid(String),
    /// State that cannot be written.
    #[error("the state cannot be written: {0}")]
    Unwritable(String),
}

/// Reads a number below `END` (`#[serde(deserialize_with = "crate::carry::below::<_, _, 32>")]`).
pub fn below<'de, D, T, const END: usize>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Copy + TryInto<usize>,
{
    let number = T::deserialize(deserializer)?;
    match number.try_into() {
        Ok(value) if value < END => Ok(number),
        _ => Err(<D::Error as serde::de::Error>::custom("a number out of range")),
    }
}

/// Reads a list of at most `MOST` (`#[serde(deserialize_with = "crate::carry::at_most::<_, _, 32>")]`); what is too many is not even
/// read, since an entry may take much more memory than bytes.
pub fn at_most<'de, D, T, const MOST: usize>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Entries<T, const MOST: usize>(std::marker::PhantomData<T>);
    impl<'de, T: Deserialize<'de>, const MOST: usize> serde::de::Visitor<'de> for Entries<T, MOST> {
        type Value = Vec<T>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "at most {MOST} entries")
        }
        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut entries: A) -> Result<Vec<T>, A::Error> {
            let announced = entries.size_hint().unwrap_or(0);
            if announced > MOST {
                return Err(<A::Error as serde::de::Error>::invalid_length(announced, &self));
            }
            // As serde does it: memory for what is announced, but not much before it is there.
            let mut all = Vec::with_capacity(announced.min((1 << 20) / size_of::<T>().max(1)));
            while let Some(entry) = entries.next_element()? {
                all.push(entry);
            }
            Ok(all)
        }
    }
    deserializer.deserialize_seq(Entries::<T, MOST>(std::marker::PhantomData))
}

/// Writes a value, in one piece of memory that is overwritten when it is dropped: it may hold keys.
pub fn to_bytes(value: &impl Serialize) -> Result<Zeroizing<Vec<u8>>, CarryError> {
    let unwritable = |error: postcard::Error| CarryError::Unwritable(error.to_string());
    // What grew in a vector would leave copies of keys behind.
    let size = shared::scope(|| postcard::experimental::serialized_size(value)).map_err(unwritable)?;
    let mut bytes = Zeroizing::new(vec![0; size]);
    let used =
        shared::scope(|| postcard::to_slice(value, &mut bytes[..]).map(|used| used.len())).map_err(unwritable)?;
    if used != size {
        return Err(CarryError::Unwritable("it changed meanwhile".to_owned()));
    }
    Ok(bytes)
}

/// Reads a value, which takes all of the bytes.
pub fn from_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CarryError> {
    if bytes.len() > MAX_STATE {
        return Err(CarryError::TooLarge(bytes.len()));
    }
    let invalid = |error: postcard::Error| CarryError::Invalid(error.to_string());
    let (value, rest) = shared::scope(|| postcard::take_from_bytes(bytes)).map_err(invalid)?;
    if rest.is_empty() { Ok(value) } else { Err(CarryError::Invalid(format!("{} bytes follow it", rest.len()))) }
}

/// State as bytes: nobody but who wrote it knows what is in it. It may hold keys, and is overwritten when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct State(Zeroizing<Vec<u8>>);

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "State({} bytes)", self.0.len())
    }
}

impl State {
    /// Writes a value, see [`to_bytes`].
    pub fn write(value: &impl Serialize) -> Result<Self, CarryError> {
        to_bytes(value).map(Self)
    }

    /// Reads a value, see [`from_bytes`].
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, CarryError> {
        from_bytes(&self.0)
    }

    /// Reads what stands at its beginning, whatever follows.
    pub fn read_head<T: DeserializeOwned>(&self) -> Result<T, CarryError> {
        let (head, _) = postcard::take_from_bytes(&self.0).map_err(|error| CarryError::Invalid(error.to_string()))?;
        Ok(head)
    }

    /// What somebody else wrote.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Serialize for State {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.len() > MAX_STATE {
            return Err(<S::Error as serde::ser::Error>::custom("the state is too large"));
        }
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for State {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl<'de> serde::de::Visitor<'de> for Bytes {
            type Value = State;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes of a state")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<State, E> {
                Ok(State::from_bytes(bytes.to_vec()))
            }
            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<State, E> {
                Ok(State::from_bytes(bytes))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

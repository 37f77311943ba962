//! Fields as JavaScript writes them: numbers for integers, lists and maps of any length.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use ringbridge_dataplane::media::VideoConstraint;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::signalled::to_limit;
use crate::channel::limits::MAX_NAMES;

pub(super) fn unlimited() -> i32 {
    -1
}

pub(super) fn unlimited_rate() -> f64 {
    -1.0
}

/// A JavaScript number where an integer is meant: fractions are cut, and infinity, which JSON writes as null, is -1.
pub(super) fn int<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
    // `as` saturates.
    Ok(Option::<f64>::deserialize(deserializer)?.map_or(-1, |number| number as i32))
}

pub(super) fn optional_int<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i32>, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.map(|number| number as i32))
}

pub(super) fn optional_long<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.map(|number| number as i64))
}

pub(super) fn rate<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(-1.0))
}

/// The largest picture wanted, as JavaScript writes it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Picture {
    #[serde(default = "unlimited", deserialize_with = "int")]
    max_height: i32,
    #[serde(default = "unlimited_rate", deserialize_with = "rate")]
    max_frame_rate: f64,
}

impl From<Picture> for VideoConstraint {
    fn from(Picture { max_height, max_frame_rate }: Picture) -> Self {
        // Saturates; a rate of less than one picture per second is still one.
        Self { max_height: to_limit(max_height), max_frame_rate: to_limit(max_frame_rate.ceil() as i32) }
    }
}

pub(super) fn optional_constraint<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<VideoConstraint>, D::Error> {
    Ok(Option::<Picture>::deserialize(deserializer)?.map(VideoConstraint::from))
}

thread_local! {
    /// Lists and maps cut while one message is read.
    static CUTS: Cell<u64> = const { Cell::new(0) };
}

/// Reads something; also returns how many lists and maps of it were cut.
pub(super) fn counting_cuts<T>(read: impl FnOnce() -> T) -> (T, u64) {
    CUTS.set(0);
    let value = read();
    (value, CUTS.take())
}

/// The first [`MAX_NAMES`] of what a list or a map has; the rest is read over.
struct First<T>(T);

struct FirstVisitor<T>(PhantomData<T>);

impl<'de> Deserialize<'de> for First<Vec<String>> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(FirstVisitor(PhantomData::<Vec<String>>))
    }
}

impl<'de> Visitor<'de> for FirstVisitor<Vec<String>> {
    type Value = First<Vec<String>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of names")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut names = Vec::new();
        while names.len() < MAX_NAMES {
            match list.next_element()? {
                Some(name) => names.push(name),
                None => return Ok(First(names)),
            }
        }
        let mut more = false;
        while list.next_element::<IgnoredAny>()?.is_some() {
            more = true;
        }
        CUTS.set(CUTS.get() + u64::from(more));
        Ok(First(names))
    }
}

type Constraints = BTreeMap<String, VideoConstraint>;

impl<'de> Deserialize<'de> for First<Constraints> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FirstVisitor(PhantomData::<Constraints>))
    }
}

impl<'de> Visitor<'de> for FirstVisitor<Constraints> {
    type Value = First<Constraints>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("constraints by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut constraints = BTreeMap::new();
        while constraints.len() < MAX_NAMES {
            match map.next_entry()? {
                Some((name, picture)) => drop(constraints.insert(name, Picture::into(picture))),
                None => return Ok(First(constraints)),
            }
        }
        let mut more = false;
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            more = true;
        }
        CUTS.set(CUTS.get() + u64::from(more));
        Ok(First(constraints))
    }
}

pub(super) fn names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    First::<Vec<String>>::deserialize(deserializer).map(|names| names.0)
}

pub(super) fn optional_names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    Ok(Option::<First<Vec<String>>>::deserialize(deserializer)?.map(|names| names.0))
}

pub(super) fn optional_constraints<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Constraints>, D::Error> {
    Ok(Option::<First<Constraints>>::deserialize(deserializer)?.map(|constraints| constraints.0))
}

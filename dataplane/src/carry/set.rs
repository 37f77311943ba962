//! Hash sets (`#[serde(with = "crate::carry::set")]`), in order.

use std::hash::{BuildHasher, Hash};

use hashbrown::HashSet;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Writes one.
pub fn serialize<K: Ord + Serialize, H, S: Serializer>(set: &HashSet<K, H>, serializer: S) -> Result<S::Ok, S::Error> {
    let mut keys: Vec<&K> = set.iter().collect();
    keys.sort_unstable();
    keys.serialize(serializer)
}

/// Reads one.
pub fn deserialize<'de, K, H, D>(deserializer: D) -> Result<HashSet<K, H>, D::Error>
where
    K: Hash + Eq + Deserialize<'de>,
    H: BuildHasher + Default,
    D: Deserializer<'de>,
{
    Ok(Vec::<K>::deserialize(deserializer)?.into_iter().collect())
}

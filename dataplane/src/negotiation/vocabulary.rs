//! Formats and header extensions that are not well known: numbered per conference, and forgotten when no endpoint of it
//! negotiates them any more. Whatever members of one conference make up, another conference finds room for its own.

use std::hash::Hash;

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use super::ids::{FormatId, FormatKey, UriId};
use super::well_known;

/// Formats of one endpoint that are not well known; further ones are treated as not negotiated.
pub const MAX_FORMATS_PER_ENDPOINT: usize = 32;
/// The same for header extensions.
pub const MAX_URIS_PER_ENDPOINT: usize = 16;
/// Formats of one conference that are not well known; further ones are treated as not negotiated.
pub const MAX_FORMATS_PER_CONFERENCE: usize = 512;
/// The same for header extensions.
pub const MAX_URIS_PER_CONFERENCE: usize = 256;
/// Bytes of a name; a longer one is treated as not negotiated.
pub const MAX_NAME: usize = 256;

/// A numbered name, and how many negotiations use it.
#[derive(Debug, Serialize, Deserialize)]
struct Entry<K> {
    key: Option<K>,
    users: u32,
    /// How often the number was given anew.
    generation: u8,
}

/// Names of one sort. A number is given anew only when nobody uses it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound(serialize = "K: Ord + Serialize", deserialize = "K: Ord + Hash + Deserialize<'de>"))]
#[serde(try_from = "CarriedNumbers<K>")]
struct Numbers<K> {
    #[serde(with = "crate::carry::map")]
    by_key: HashMap<K, u16, foldhash::fast::RandomState>,
    entries: Vec<Entry<K>>,
    free: Vec<u16>,
    #[serde(with = "crate::carry::checked")]
    limit: usize,
}

/// The same on its way.
#[derive(Deserialize)]
#[serde(bound(deserialize = "K: Ord + Hash + Deserialize<'de>"))]
struct CarriedNumbers<K> {
    #[serde(with = "crate::carry::map")]
    by_key: HashMap<K, u16, foldhash::fast::RandomState>,
    entries: Vec<Entry<K>>,
    free: Vec<u16>,
    #[serde(with = "crate::carry::checked")]
    limit: usize,
}

impl<K> TryFrom<CarriedNumbers<K>> for Numbers<K> {
    type Error = &'static str;

    fn try_from(carried: CarriedNumbers<K>) -> Result<Self, Self::Error> {
        let CarriedNumbers { by_key, entries, free, limit } = carried;
        let known = |number: &u16| usize::from(*number) < entries.len();
        let bounded = entries.len() <= limit && limit <= MAX_FORMATS_PER_CONFERENCE.max(MAX_URIS_PER_CONFERENCE);
        let whole = bounded && by_key.values().all(known) && free.iter().all(known);
        if whole { Ok(Self { by_key, entries, free, limit }) } else { Err("numbers of names that do not exist") }
    }
}

impl<K: Hash + Eq + Clone> Numbers<K> {
    fn new(limit: usize) -> Self {
        Self { by_key: HashMap::default(), entries: Vec::new(), free: Vec::new(), limit }
    }

    /// The number of a name, with one more user, and the number's generation; `None` when there is no room.
    fn acquire(&mut self, key: &K) -> Option<(u16, u8)> {
        let number = match self.by_key.get(key) {
            Some(number) => *number,
            None => {
                let number = match self.free.pop() {
                    Some(number) => number,
                    None if self.entries.len() < self.limit => {
                        self.entries.push(Entry { key: None, users: 0, generation: 0 });
                        (self.entries.len() - 1) as u16
                    }
                    None => return None,
                };
                self.by_key.insert(key.clone(), number);
                let entry = self.entries.get_mut(usize::from(number))?;
                entry.key = Some(key.clone());
                number
            }
        };
        let entry = self.entries.get_mut(usize::from(number))?;
        entry.users += 1;
        Some((number, entry.generation))
    }

    fn release(&mut self, number: u16) {
        let Some(entry) = self.entries.get_mut(usize::from(number)) else { return };
        entry.users = entry.users.saturating_sub(1);
        if entry.users == 0
            && let Some(key) = entry.key.take()
        {
            entry.generation = entry.generation.wrapping_add(1);
            self.by_key.remove(&key);
            self.free.push(number);
        }
    }
}

/// The numbers that one negotiation uses.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    formats: Vec<u16>,
    uris: Vec<u16>,
}

/// What a conference's endpoints negotiated beside the well known.
#[derive(Debug, Serialize, Deserialize)]
pub struct Vocabulary {
    formats: Numbers<FormatKey>,
    uris: Numbers<String>,
}

impl Default for Vocabulary {
    fn default() -> Self {
        Self { formats: Numbers::new(MAX_FORMATS_PER_CONFERENCE), uris: Numbers::new(MAX_URIS_PER_CONFERENCE) }
    }
}

impl Vocabulary {
    /// Gives back the numbers that a negotiation held.
    pub fn release(&mut self, held: &Held) {
        held.formats.iter().for_each(|number| self.formats.release(*number));
        held.uris.iter().for_each(|number| self.uris.release(*number));
    }

    #[cfg(test)]
    pub fn sizes(&self) -> (usize, usize) {
        (self.formats.by_key.len(), self.uris.by_key.len())
    }
}

/// Gives one negotiation its numbers.
#[derive(Debug)]
pub struct Names<'a> {
    vocabulary: &'a mut Vocabulary,
    formats: Vec<(FormatKey, FormatId)>,
    uris: Vec<(String, UriId)>,
    refused: Refused,
}

/// How many names of a negotiation found no room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Refused {
    /// Formats.
    pub formats: u64,
    /// Header extensions.
    pub uris: u64,
}

impl<'a> Names<'a> {
    /// Nothing so far.
    pub fn new(vocabulary: &'a mut Vocabulary) -> Self {
        Self { vocabulary, formats: Vec::new(), uris: Vec::new(), refused: Refused::default() }
    }

    /// The number of a format; `None` when it is refused.
    pub fn format(&mut self, key: FormatKey) -> Option<FormatId> {
        if let Some(number) = well_known::format(&key) {
            return Some(FormatId::new(number, 0));
        }
        if let Some((_, id)) = self.formats.iter().find(|(known, _)| *known == key) {
            return Some(*id);
        }
        let fits = self.formats.len() < MAX_FORMATS_PER_ENDPOINT && key.name.len() + key.variant.len() <= MAX_NAME;
        let acquired = if fits { self.vocabulary.formats.acquire(&key) } else { None };
        let Some((number, generation)) = acquired else {
            self.refused.formats += 1;
            return None;
        };
        let id = FormatId::new(well_known::formats() + number, generation);
        self.formats.push((key, id));
        Some(id)
    }

    /// The number of a header extension; `None` when it is refused.
    pub fn uri(&mut self, uri: &str) -> Option<UriId> {
        if let Some(number) = well_known::uri(uri) {
            return Some(UriId::new(number));
        }
        if let Some((_, id)) = self.uris.iter().find(|(known, _)| known == uri) {
            return Some(*id);
        }
        let fits = self.uris.len() < MAX_URIS_PER_ENDPOINT && uri.len() <= MAX_NAME;
        let acquired = if fits { self.vocabulary.uris.acquire(&uri.to_owned()) } else { None };
        let Some((number, _)) = acquired else {
            self.refused.uris += 1;
            return None;
        };
        let id = UriId::new(well_known::uris() + number);
        self.uris.push((uri.to_owned(), id));
        Some(id)
    }

    /// Counts formats that were not even looked at.
    pub fn refuse_formats(&mut self, count: usize) {
        self.refused.formats += count as u64;
    }

    /// Counts header extensions that were not even looked at.
    pub fn refuse_uris(&mut self, count: usize) {
        self.refused.uris += count as u64;
    }

    /// What was refused so far.
    pub fn refused(&self) -> Refused {
        self.refused
    }

    /// The numbers of the conference's own that were given.
    pub fn held(self) -> Held {
        Held {
            formats: self.formats.iter().map(|(_, id)| id.number() - well_known::formats()).collect(),
            uris: self.uris.iter().map(|(_, id)| id.number() - well_known::uris()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_has_a_number() {
        assert!(usize::from(well_known::formats()) + MAX_FORMATS_PER_CONFERENCE <= usize::from(FormatId::NUMBERS));
        let id = FormatId::new(FormatId::NUMBERS - 1, 255);
        assert_eq!(id.number(), FormatId::NUMBERS - 1);
        assert_ne!(id, FormatId::new(FormatId::NUMBERS - 1, 254));
    }

    #[test]
    fn a_number_comes_back_when_its_last_user_is_gone_and_is_not_taken_for_the_former() {
        let mut numbers = Numbers::new(2);
        let first = numbers.acquire(&"a").unwrap();
        assert_eq!(numbers.acquire(&"a"), Some(first));
        let second = numbers.acquire(&"b").unwrap();
        assert_ne!(first.0, second.0);
        assert_eq!(numbers.acquire(&"c"), None, "full");
        numbers.release(first.0);
        assert_eq!(numbers.acquire(&"c"), None, "one user is left");
        numbers.release(first.0);
        let third = numbers.acquire(&"c").unwrap();
        assert_eq!(third.0, first.0);
        assert_ne!(third.1, first.1);
        assert_eq!(numbers.acquire(&"b"), Some(second));
    }
}

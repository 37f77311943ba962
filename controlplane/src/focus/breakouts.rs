//! How many breakout rooms each main room has.

use std::collections::BTreeMap;

use jid::BareJid;

use super::limits::MAX_BREAKOUT_ROOMS;

/// How many breakout rooms of each main room have a conference.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Breakouts(BTreeMap<BareJid, usize>);

impl Breakouts {
    /// Whether these are all of them: the main room of each.
    pub fn are<'a>(&self, all: impl Iterator<Item = &'a BareJid>) -> bool {
        let mut counts: BTreeMap<&BareJid, usize> = BTreeMap::new();
        all.for_each(|main| *counts.entry(main).or_default() += 1);
        counts.len() == self.0.len() && self.0.iter().all(|(main, count)| counts.get(main) == Some(count))
    }

    /// Counts one more of a main room; false when it has too many.
    pub fn add(&mut self, main: &BareJid) -> bool {
        let count = self.0.entry(main.clone()).or_default();
        let free = *count < MAX_BREAKOUT_ROOMS;
        *count += usize::from(free);
        free
    }

    /// Counts that one ended.
    pub fn remove(&mut self, main: &BareJid) {
        if let Some(count) = self.0.get_mut(main) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.0.remove(main);
            }
        }
    }

    /// Whether a main room has any.
    pub fn of(&self, main: &BareJid) -> bool {
        self.0.contains_key(main)
    }

    /// Forgets all: their rooms are gone.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_main_room_has_a_bounded_number_and_is_forgotten_with_the_last() {
        let mut breakouts = Breakouts::default();
        let main: BareJid = "main@conference.meet.test".parse().expect("a room");
        for _ in 0..MAX_BREAKOUT_ROOMS {
            assert!(breakouts.add(&main));
        }
        assert!(!breakouts.add(&main));
        for _ in 0..MAX_BREAKOUT_ROOMS {
            assert!(breakouts.of(&main));
            breakouts.remove(&main);
        }
        assert!(!breakouts.of(&main) && breakouts.0.is_empty());
        breakouts.remove(&main);
        assert!(!breakouts.of(&main));
    }
}
